/*
 * Queues and waits in the service, without sockets and clock; and the turn rule for them: many
 * requests in one turn are the same as many turns.
 */
#include <criterion/criterion.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/waits.h"
#include "requests.h"

enum { MAX_TEXT = 1 << 16, MAX_TRANSCRIPT = 1 << 22, MAX_PARAMS = 1024, MAX_NUMBERS = 1 << 14 };

/* Job ids and leases are larger than any other number of these tests. */
#define SMALLEST_ID UINT64_C(10000000000)

/* A daemon, what it has said, and the jobs that it has handed out. */
struct side {
    struct fixture fixture;
    char *said;                    /* replies and other messages in the order in which they leave */
    uint64_t numbers[MAX_NUMBERS]; /* ids and leases in the order in which they were seen */
    size_t number_count;
    struct {
        uint64_t id;
        uint64_t lease;
    } jobs[MAX_NUMBERS];
    size_t job_count;
};

static void say(struct side *of, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct side *of, const char *format, ...)
{
    size_t size = strlen(of->said);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(of->said + size, MAX_TRANSCRIPT - size, format, arguments);
    va_end(arguments);
}

static void open_side(struct side *of, const char *directory)
{
    of->said = calloc(1, MAX_TRANSCRIPT);
    cr_assert_not_null(of->said);
    fixture_open(&of->fixture, directory);
}

static struct side *new_side(const char *directory)
{
    struct side *of = calloc(1, sizeof *of);
    cr_assert_not_null(of);
    open_side(of, directory);
    return of;
}

static void free_side(struct side *of)
{
    fixture_close(&of->fixture);
    free(of->said);
    free(of);
}

/* Which number it is of those that were seen. */
static size_t rank(struct side *of, uint64_t number)
{
    size_t i = 0;
    while (i < of->number_count && of->numbers[i] != number)
        i++;
    if (i == of->number_count)
        of->numbers[of->number_count++] = number;
    cr_assert_lt(of->number_count, (size_t)MAX_NUMBERS);
    return i;
}

/* [id, queue, body, lease, … is a job that was handed out. */
static void note_job(struct side *of, struct wire_cursor at)
{
    uint32_t count;
    uint64_t id;
    uint64_t lease;
    struct slice ignored;
    if (wire_read_array(&at, &count) != 0 || count != 7 || wire_read_uint(&at, &id) != 0 ||
        wire_read_bytes(&at, &ignored) != 0 || wire_read_object(&at, 64, &ignored, NULL) != 0 ||
        wire_read_uint(&at, &lease) != 0)
        return;
    of->jobs[of->job_count].id = id;
    of->jobs[of->job_count++].lease = lease;
}

/* Says an object, with ids and leases as ranks and without places, so that two sides can agree. */
static void say_object(struct side *of, struct wire_cursor *at)
{
    uint32_t count;
    wire_integer number;
    struct slice bytes;
    bool map = wire_peek(at) == WIRE_MAP;
    note_job(of, *at);
    switch (wire_peek(at)) {
    case WIRE_ARRAY:
    case WIRE_MAP:
        cr_assert_eq(map ? wire_read_map(at, &count) : wire_read_array(at, &count), 0);
        say(of, "%c", map ? '{' : '[');
        for (uint32_t i = 0; i < (map ? 2 * count : count); i++)
            say_object(of, at);
        say(of, "%c,", map ? '}' : ']');
        break;
    case WIRE_INTEGER:
        cr_assert_eq(wire_read_integer(at, &number), 0);
        if (number >= (wire_integer)SMALLEST_ID)
            say(of, "#%zu,", rank(of, (uint64_t)number));
        else
            say(of, "%" PRId64 ",", (int64_t)number);
        break;
    case WIRE_BIN:
        cr_assert_eq(wire_read_bin(at, &bytes), 0);
        break;
    case WIRE_STR:
        cr_assert_eq(wire_read_str(at, &bytes), 0);
        say(of, "%.*s,", (int)bytes.size, (const char *)bytes.data);
        break;
    default:
        cr_assert_eq(wire_read_object(at, 1, &bytes, NULL), 0);
        say(of, "%02x,", bytes.data[0]);
        break;
    }
}

static void say_message(struct side *of, struct slice peer, struct slice payload)
{
    struct wire_cursor at = wire_cursor_of(payload);
    say(of, "%.*s:", (int)peer.size, (const char *)peer.data);
    say_object(of, &at);
    say(of, "\n");
}

/* Requests of a turn. */

enum { TURN = 50 };

struct sent {
    struct slice peer;
    size_t offset;
    size_t size;
    size_t first;
};

static struct sent turn[TURN];
static size_t turn_count;

/* Each has one, by the first letter of its name; who is called by another letter, none. */
static int connection_of(const char *peer)
{
    return peer[0] <= 'c' ? peer[0] - 'a' + 1 : 0;
}

static void send(struct side *of, const char *peer, uint64_t msgid, const char *method,
                 const char *params)
{
    struct fixture *fixture = &of->fixture;
    struct sent *sent = &turn[turn_count++];
    fixture->peer.id = slice_of_text(peer);
    sent->peer = fixture->peer.id;
    sent->offset = fixture->replies.size;
    fixture_send(fixture, msgid, method, params);
    if (fixture->answer.later)
        waits_came_by(&fixture->service, sent->peer, msgid, connection_of(peer));
    sent->size = fixture->replies.size - sent->offset;
    sent->first = fixture->answer.first;
}

static size_t say_outbox(struct side *of, size_t from, size_t to)
{
    const struct outbox *outbox = &of->fixture.service.outbox;
    for (; from < to && from < outbox->count; from++) {
        struct outbox_message message = outbox_message(outbox, from);
        say_message(of, message.peer.id, message.payload);
    }
    return from;
}

/* Says what a server sends, in its order. */
static void flush(struct side *of)
{
    struct fixture *fixture = &of->fixture;
    size_t at = 0;
    for (size_t i = 0; i < turn_count; i++) {
        at = say_outbox(of, at, turn[i].first);
        if (turn[i].size > 0)
            say_message(of, turn[i].peer,
                        slice_of(fixture->replies.data + turn[i].offset, turn[i].size));
    }
    say_outbox(of, at, SIZE_MAX);
    outbox_truncate(&fixture->service.outbox, 0);
    buffer_clear(&fixture->replies);
    turn_count = 0;
}

static void end_turn(struct side *of)
{
    fixture_commit(&of->fixture);
    flush(of);
}

static void begin_turn(struct side *of)
{
    service_begin_turn(&of->fixture.service, of->fixture.now_ms);
    service_expire(&of->fixture.service, of->fixture.now_ms);
}

/* A turn of one request; what was said in it, until the next call. */
static const char *call(struct side *of, const char *peer, const char *method, const char *params)
{
    of->said[0] = '\0';
    begin_turn(of);
    send(of, peer, 1, method, params);
    end_turn(of);
    return of->said;
}

/* The turn rule. */

enum { REQUESTS = 3000, PEERS = 3 };

static unsigned seed_of_run(void)
{
    const char *given = getenv("CUBBY_SEED");
    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
}

static unsigned draw(unsigned *state, unsigned below)
{
    *state = *state * 1664525 + 1013904223;
    return (*state >> 8) % below;
}

/* A job that was handed out lately, as "id,lease". */
static const char *some_job(struct side *of, unsigned *state, bool with_lease)
{
    static char text[64];
    unsigned back = draw(state, 6);
    uint64_t id = 5;
    uint64_t lease = 6;
    if (back < of->job_count) {
        id = of->jobs[of->job_count - 1 - back].id;
        lease = of->jobs[of->job_count - 1 - back].lease;
    }
    if (with_lease)
        snprintf(text, sizeof text, "%" PRIu64 ",%" PRIu64, id, lease);
    else
        snprintf(text, sizeof text, "%" PRIu64, id);
    return text;
}

/* Methods for one queue whose only argument is its name. */
static const char *const plain[] = {"resume", "purge", "drop", "kick", "peek"};

static void random_push(unsigned *state, unsigned q, char *params)
{
    unsigned number = draw(state, 30);
    switch (draw(state, 6)) {
    case 0:
        sprintf(params, "[\"q%u\",%u,{\"delay\":%u}]", q, number, draw(state, 20));
        break;
    case 1:
        sprintf(params, "[\"q%u\",%u,{\"priority\":%u,\"id\":%u}]", q, number, draw(state, 3),
                number);
        break;
    case 2:
        sprintf(params, "[\"q%u\",%u,{\"ttl\":%u}]", q, number, 1 + number);
        break;
    default:
        sprintf(params, "[\"q%u\",%u]", q, number);
        break;
    }
}

/* What is done to a job that was handed out. */
static void random_end(struct side *of, unsigned *state, char *method, char *params)
{
    unsigned number = draw(state, 30);
    switch (draw(state, 6)) {
    case 0:
        sprintf(method, "queue.nack");
        sprintf(params, "[%s,{\"delay\":%u}]", some_job(of, state, true), draw(state, 4) * 3);
        break;
    case 1:
        sprintf(method, "queue.extend");
        sprintf(params, "[%s,%u]", some_job(of, state, true), 1 + number);
        break;
    case 2:
        sprintf(method, "queue.bury");
        sprintf(params, "[%s,{\"error\":\"e%u\"}]", some_job(of, state, true), number);
        break;
    case 3:
        sprintf(method, number % 2 == 0 ? "queue.job" : "queue.delete");
        sprintf(params, "[%s]", some_job(of, state, false));
        break;
    default:
        sprintf(method, "queue.ack");
        sprintf(params, "[%s]", some_job(of, state, true));
        break;
    }
}

static void random_operation(struct side *of, unsigned *state, char *method, char *params)
{
    unsigned q = draw(state, 3);
    unsigned number = draw(state, 30);
    switch (draw(state, 18)) {
    case 0:
        sprintf(method, "queue.configure");
        sprintf(params, "[\"q%u\",{\"lease\":%u,\"max_deliveries\":%u,\"max_length\":%u}]", q,
                1 + number, draw(state, 4), number % 3 == 0 ? 4 : 0);
        break;
    case 1:
        sprintf(method, "queue.pause");
        sprintf(params, "[\"q%u\",%u]", q, 1 + number);
        break;
    case 2:
        sprintf(method, "queue.%s", plain[draw(state, sizeof plain / sizeof plain[0])]);
        sprintf(params, "[\"q%u\"]", q);
        break;
    case 3:
        sprintf(method, "increment");
        sprintf(params, "[\"k%u\"]", q);
        break;
    case 4:
        sprintf(method, draw(state, 3) == 0 ? "queue.pop" : "queue.reserve");
        sprintf(params, "[[\"q%u\",\"q%u\"],{\"count\":%u}]", q, draw(state, 3),
                1 + draw(state, 3));
        break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        random_end(of, state, method, params);
        break;
    default:
        sprintf(method, "queue.push");
        random_push(state, q, params);
        break;
    }
}

static void random_batch(struct side *of, unsigned *state, char *params)
{
    unsigned count = 1 + draw(state, 5);
    strcpy(params, "[[");
    for (unsigned i = 0; i < count; i++) {
        char method[32];
        char operation[256];
        random_operation(of, state, method, operation);
        size_t size = strlen(params);
        snprintf(params + size, MAX_PARAMS - size, "%s[\"%s\",%s]", i > 0 ? "," : "", method,
                 operation);
    }
    strcat(params, "]]");
}

static void random_request(struct side *of, unsigned *state, char *method, char *params)
{
    unsigned q = draw(state, 3);
    switch (draw(state, 6)) {
    case 0:
        strcpy(method, "batch");
        random_batch(of, state, params);
        break;
    case 1:
        sprintf(method, draw(state, 3) == 0 ? "queue.pop" : "queue.reserve");
        sprintf(params, "[[\"q%u\",\"q%u\"],{\"wait\":%u,\"count\":%u}]", q, draw(state, 3),
                draw(state, 40), 1 + draw(state, 2));
        break;
    case 2:
        if (draw(state, 4) == 0) {
            strcpy(method, "queue.cancel");
            sprintf(params, "[%u]", draw(state, 8));
        } else {
            strcpy(method, "queue.stats");
            sprintf(params, "[\"q%u\"]", q);
        }
        break;
    default:
        random_operation(of, state, method, params);
        break;
    }
}

/*
 * Sends the requests in turns of so many; times move only between turns of TURN. Requests refer to
 * jobs that were handed out before the last of those, which both sides have seen by then.
 */
static void run(struct side *of, unsigned seed, unsigned turn_size)
{
    static const char *const peers[PEERS] = {"ann", "ben", "cleo"};
    struct side *before = malloc(sizeof *before);
    cr_assert_not_null(before);
    for (unsigned i = 0; i < REQUESTS; i++) {
        char method[32];
        char params[MAX_PARAMS];
        if (i % TURN == 0) {
            *before = *of;
            of->fixture.now_ms += 7;
            begin_turn(of);
        }
        const char *peer = peers[draw(&seed, PEERS)];
        random_request(before, &seed, method, params);
        if (draw(&seed, 50) == 0)
            waits_connection_ended(&of->fixture.service, 1 + (int)draw(&seed, PEERS));
        send(of, peer, i % 8, method, params);
        if ((i + 1) % turn_size == 0)
            end_turn(of);
    }
    free(before);
}

/* All that can be seen from outside. */
static void see(struct side *of)
{
    static const char *const states[] = {"ready", "delayed", "leased", "dead"};
    char params[64];
    for (unsigned q = 0; q < 3; q++) {
        snprintf(params, sizeof params, "[\"q%u\"]", q);
        send(of, "eve", 0, "queue.stats", params);
        send(of, "eve", 0, "queue.configure", params);
        for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
            snprintf(params, sizeof params, "[\"q%u\",{\"state\":\"%s\",\"limit\":1000}]", q,
                     states[i]);
            send(of, "eve", 0, "queue.peek", params);
        }
    }
    send(of, "eve", 0, "queue.list", "[]");
    send(of, "eve", 0, "scan", "[]");
    flush(of);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Where two transcripts part, for a person. */
static const char *difference(const char *a, const char *b)
{
    static char text[600];
    size_t same = 0;
    while (a[same] != '\0' && a[same] == b[same])
        same++;
    size_t from = same > 200 ? same - 200 : 0;
    snprintf(text, sizeof text, "…%.280s\n--- or ---\n…%.280s", a + from, b + from);
    return text;
}

/* A start finds the same. Waits are not kept. */
static void check_log(struct side *of, const char *path)
{
    uint64_t now_ms = of->fixture.now_ms;
    service_stop(&of->fixture.service);
    end_turn(of);
    of->said[0] = '\0';
    see(of);
    char *before = strdup(of->said);
    fixture_close(&of->fixture);
    fixture_open(&of->fixture, path);
    of->fixture.now_ms = now_ms;
    of->said[0] = '\0';
    see(of);
    cr_assert(strcmp(before, of->said) == 0, "the log gives another state: %s",
              difference(before, of->said));
    free(before);
}

Test(queues, many_requests_in_one_turn_are_the_same_as_many_turns)
{
    unsigned seed = seed_of_run();
    fprintf(stderr, "CUBBY_SEED=%u\n", seed);
    struct side *sides[2];
    char paths[2][32] = {"/tmp/cubby-turn-XXXXXX", "/tmp/cubby-turn-XXXXXX"};
    for (int i = 0; i < 2; i++) {
        cr_assert_not_null(mkdtemp(paths[i]));
        sides[i] = new_side(paths[i]);
        run(sides[i], seed, i == 0 ? 1 : TURN);
        see(sides[i]);
    }
    cr_assert_gt(sides[0]->job_count, 100U);
    cr_assert(strcmp(sides[0]->said, sides[1]->said) == 0, "they differ, CUBBY_SEED=%u: %s", seed,
              difference(sides[0]->said, sides[1]->said));
    for (int i = 0; i < 2; i++) {
        check_log(sides[i], paths[i]);
        free_side(sides[i]);
        nftw(paths[i], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
}

/* Turns that come to nothing. */

static struct side *side;

static void setup(void)
{
    side = new_side(NULL);
}

static void teardown(void)
{
    free_side(side);
}

static void abandon(void)
{
    store_abandon(side->fixture.store);
    service_abandon(&side->fixture.service, WIRE_STORAGE_FULL, "a test");
    buffer_clear(&side->fixture.replies);
    turn_count = 0; /* a server refuses them */
    side->said[0] = '\0';
    flush(side);
}

static uint32_t waiters(void)
{
    return waiters_count(side->fixture.service.waiters);
}

static bool said(const char *part)
{
    return strstr(side->said, part) != NULL;
}

TestSuite(abandoned, .init = setup, .fini = teardown);

Test(abandoned, who_was_given_a_job_gets_the_error_instead)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    begin_turn(side);
    send(side, "ben", 2, "queue.push", "[\"q\",7]");
    abandon();
    cr_assert(said("ann:[1,1,[storage_full,"), "%s", side->said);
    cr_assert_eq(waiters(), 0);
    cr_assert_not_null(strstr(call(side, "eve", "queue.list", "[]"), "[1,1,c0,[],]"));
}

Test(abandoned, a_wait_that_began_goes_on)
{
    begin_turn(side);
    send(side, "ann", 1, "queue.reserve", "[\"q\",{\"wait\":nil}]");
    abandon();
    cr_assert_str_eq(side->said, "");
    cr_assert_eq(waiters(), 1);
    call(side, "ben", "queue.push", "[\"q\",7]");
    cr_assert(said("ann:[1,1,c0,[[#"), "%s", side->said);
}

Test(abandoned, a_wait_whose_time_was_over_has_ended_all_the_same)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":5}]");
    side->fixture.now_ms += 5;
    begin_turn(side);
    abandon();
    cr_assert_str_eq(side->said, "ann:[1,1,c0,[],],\n");
}

Test(abandoned, a_job_that_comes_back_by_it_goes_to_who_waits)
{
    call(side, "eve", "queue.push", "[\"q\",7]");
    begin_turn(side);
    send(side, "ann", 1, "queue.pop", "[\"q\"]");
    send(side, "ben", 2, "queue.pop", "[\"q\",{\"wait\":nil}]");
    abandon();
    cr_assert_eq(waiters(), 1);
    cr_assert_leq(service_next_due(&side->fixture.service), side->fixture.now_ms);
    begin_turn(side);
    end_turn(side);
    cr_assert(said("ben:[1,2,c0,[[#"), "%s", side->said);
    cr_assert_eq(service_next_due(&side->fixture.service), UINT64_MAX);
}

/* Connections that have ended. */

TestSuite(gone, .init = setup, .fini = teardown);

static void end_connection(const char *peer)
{
    waits_connection_ended(&side->fixture.service, connection_of(peer));
}

Test(gone, a_job_goes_past_those_whose_connection_has_ended_in_the_same_turn_uncounted)
{
    for (unsigned i = 0; i < 20; i++)
        call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    call(side, "ben", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    cr_assert_eq(waiters(), 21);
    side->said[0] = '\0';
    end_connection("ann");
    cr_assert_eq(waiters(), 1);
    call(side, "eve", "queue.push", "[\"q\",7]");
    cr_assert(said("ben:[1,1,c0,[[#"), "%s", side->said);
    cr_assert_null(strstr(side->said, "ann:"), "%s", side->said);
    cr_assert_eq(side->fixture.counters.returned, 0);
    cr_assert_eq(waiters(), 0);
}

Test(gone, waits_whose_connection_is_unknown_stay)
{
    call(side, "dan", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    waits_came_by(&side->fixture.service, slice_of_text("dan"), 1, 0);
    waits_connection_ended(&side->fixture.service, 0);
    end_connection("ann");
    call(side, "eve", "queue.push", "[\"q\",7]");
    cr_assert(said("dan:[1,1,c0,[[#"), "%s", side->said);
}

Test(gone, the_end_of_an_earlier_connection_with_that_number_ends_no_later_wait)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    end_connection("ann");
    call(side, "anna", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    cr_assert_eq(waiters(), 1);
    call(side, "eve", "queue.push", "[\"q\",7]");
    cr_assert(said("anna:[1,1,c0,[[#"), "%s", side->said);
}

Test(gone, a_reply_that_was_made_before_is_not_taken_back)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    begin_turn(side);
    send(side, "eve", 2, "queue.push", "[\"q\",7]");
    end_connection("ann");
    uint64_t tag = outbox_message(&side->fixture.service.outbox, 0).tag;
    end_turn(side);
    cr_assert(said("ann:[1,1,c0,[[#"), "%s", side->said);
    service_undelivered(&side->fixture.service, tag, true);
    begin_turn(side);
    end_turn(side);
    cr_assert_eq(side->fixture.counters.returned, 1);
}

Test(gone, waits_stay_ended_where_the_turn_came_to_nothing)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    begin_turn(side);
    send(side, "ann", 2, "queue.reserve", "[\"q\",{\"wait\":nil}]");
    end_connection("ann");
    abandon();
    cr_assert_str_eq(side->said, "");
    cr_assert_eq(waiters(), 0);
}

/* Replies that could not be sent. */

TestSuite(undelivered, .init = setup, .fini = teardown);

/* The tag of the last reply, or of the last message in the outbox. */
static uint64_t end_turn_with_tag(void)
{
    const struct outbox *outbox = &side->fixture.service.outbox;
    uint64_t tag = side->fixture.answer.tag;
    if (outbox->count > 0)
        tag = outbox_message(outbox, outbox->count - 1).tag;
    side->said[0] = '\0';
    end_turn(side);
    return tag;
}

static void next_turn(void)
{
    side->said[0] = '\0';
    begin_turn(side);
    end_turn(side);
}

Test(undelivered, the_jobs_of_a_reply_go_back_uncounted)
{
    call(side, "eve", "batch",
         "[[[\"queue.push\",[\"q\",1]],[\"queue.push\",[\"q\",2]],[\"queue.push\",[\"q\",3]]]]");
    send(side, "ann", 1, "queue.reserve", "[\"q\",{\"count\":2}]");
    uint64_t tag = end_turn_with_tag();
    cr_assert_neq(tag, 0);
    service_undelivered(&side->fixture.service, tag, true);
    cr_assert_leq(service_next_due(&side->fixture.service), side->fixture.now_ms);
    next_turn();
    call(side, "ben", "queue.reserve", "[\"q\",{\"count\":5}]");
    cr_assert(said(",q,1,#3,1,0,") || said(",q,1,#"), "%s", side->said);
    cr_assert_null(strstr(side->said, ",2,0,1700000000"), "a delivery was counted: %s", side->said);
    cr_assert_eq(side->fixture.counters.returned, 2);
}

Test(undelivered, popped_jobs_come_back_with_all_they_had)
{
    call(side, "eve", "queue.push", "[\"q\",[1,2],{\"priority\":9,\"id\":\"x\"}]");
    send(side, "ann", 1, "queue.pop", "[\"q\"]");
    service_undelivered(&side->fixture.service, end_turn_with_tag(), false);
    next_turn();
    call(side, "eve", "queue.peek", "[\"q\"]");
    cr_assert(said("body,[1,2,],state,ready,priority,9,deliveries,0,"), "%s", side->said);
    call(side, "eve", "queue.push", "[\"q\",0,{\"id\":\"x\"}]");
    cr_assert(said(",c3,]"), "no duplicate: %s", side->said);
}

Test(undelivered, what_goes_back_goes_to_the_next_who_waits)
{
    call(side, "ann", "queue.reserve", "[\"q\",{\"wait\":nil}]");
    call(side, "ben", "queue.pop", "[\"q\",{\"wait\":nil}]");
    begin_turn(side);
    send(side, "eve", 2, "queue.push", "[\"q\",7]");
    service_undelivered(&side->fixture.service, end_turn_with_tag(), true);
    next_turn();
    cr_assert(said("ben:[1,1,c0,[[#"), "%s", side->said);
}

Test(undelivered, a_job_that_was_acknowledged_meanwhile_stays_gone)
{
    call(side, "eve", "queue.push", "[\"q\",7]");
    send(side, "ann", 1, "queue.reserve", "[\"q\"]");
    uint64_t tag = end_turn_with_tag();
    service_undelivered(&side->fixture.service, tag, true);
    next_turn();
    call(side, "ann", "queue.pop", "[\"q\"]");
    next_turn();
    call(side, "eve", "queue.stats", "[\"q\"]");
    cr_assert(said("{ready,0,leased,0,delayed,0,dead,0,"), "%s", side->said);
}

Test(undelivered, the_jobs_of_a_batch_have_no_tag)
{
    call(side, "eve", "queue.push", "[\"q\",7]");
    send(side, "ann", 1, "batch", "[[[\"queue.reserve\",[\"q\"]]]]");
    cr_assert_eq(end_turn_with_tag(), 0);
}

/* News for the broadcast. */

static size_t news(char *text, size_t size)
{
    struct buffer *buffer = &side->fixture.service.queue_news;
    size_t count = 0;
    text[0] = '\0';
    for (size_t at = 0; at < buffer->size; count++) {
        struct queue_news item;
        size_t used = strlen(text);
        memcpy(&item, buffer->data + at, sizeof item);
        at += sizeof item;
        snprintf(text + used, size - used, "%.*s@%" PRIu64 " ", (int)item.size,
                 (const char *)buffer->data + at, item.seq);
        at += item.size;
    }
    buffer_clear(buffer);
    return count;
}

TestSuite(news, .init = setup, .fini = teardown);

Test(news, there_is_none_while_nobody_wants_it)
{
    char text[256];
    call(side, "eve", "queue.push", "[\"q\",7]");
    cr_assert_eq(news(text, sizeof text), 0);
}

Test(news, a_queue_that_gets_jobs_where_it_had_none_is_in_it_once)
{
    char text[256];
    side->fixture.service.announce = true;
    call(side, "eve", "put", "[\"k\",7]");
    call(side, "eve", "queue.push", "[\"a\",7]");
    call(side, "eve", "queue.push", "[\"a\",7]");
    call(side, "eve", "batch", "[[[\"put\",[\"k\",8]],[\"queue.push\",[\"b\",1]]]]");
    call(side, "eve", "batch", "[[[\"queue.push\",[\"c\",1]],[\"queue.pop\",[\"c\"]]]]");
    cr_assert_eq(news(text, sizeof text), 2);
    cr_assert_str_eq(text, "a@1 b@2 ");
}

Test(news, a_job_that_a_waiter_takes_at_once_is_in_it)
{
    char text[256];
    side->fixture.service.announce = true;
    call(side, "ann", "queue.pop", "[\"q\",{\"wait\":nil}]");
    call(side, "eve", "queue.push", "[\"q\",7]");
    call(side, "eve", "queue.push", "[\"q\",7]");
    cr_assert_eq(news(text, sizeof text), 2);
    cr_assert_str_eq(text, "q@0 q@0 ");
}

/* Order. */

TestSuite(line, .init = setup, .fini = teardown);

Test(line, nobody_is_overtaken_while_the_end_of_a_pause_is_still_to_be_carried_out)
{
    call(side, "eve", "queue.pause", "[\"q\",10]");
    call(side, "eve", "queue.push", "[\"q\",7]");
    call(side, "ann", "queue.pop", "[\"q\",{\"wait\":nil}]");
    side->fixture.now_ms += 10;
    side->said[0] = '\0';
    send(side, "ben", 1, "queue.pop", "[\"q\"]");
    end_turn(side);
    cr_assert_str_eq(side->said, "ben:[1,1,c0,[],],\n");
    next_turn();
    cr_assert(said("ann:[1,1,c0,[[#"), "%s", side->said);
}

/* Time. */

TestSuite(time, .init = setup, .fini = teardown);

Test(time, what_is_due_at_once_is_done_in_steps_that_say_whether_there_is_more)
{
    struct service *service = &side->fixture.service;
    for (int i = 0; i < 2 * QUEUE_MAX_EXPIRED + 10; i++)
        call(side, "eve", "queue.push", "[\"q\",7,{\"delay\":10}]");
    side->fixture.now_ms += 10;
    service_begin_turn(service, side->fixture.now_ms);
    int steps = 1;
    while (service_expire(service, side->fixture.now_ms))
        steps++;
    cr_assert_geq(steps, 3);
    call(side, "ann", "queue.purge", "[\"q\",{\"state\":\"ready\"}]");
    char all[64];
    snprintf(all, sizeof all, "ann:[1,1,c0,%d,],\n", 2 * QUEUE_MAX_EXPIRED + 10);
    cr_assert_str_eq(side->said, all);
}
