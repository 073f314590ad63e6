/* Watches without sockets and clock: peers are bytes, times are numbers. */
#include "daemon/watches.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "requests.h"
#include "wire/reply.h"

enum { MAX_TEXT = 1 << 16, SEGMENT = 64 << 10, BIG = 20000 };

static struct fixture fixture;
static struct watches *watches;
static char heard[MAX_TEXT]; /* the messages since the last call, "peer:[…] peer:[…] " */

static void setup(void)
{
    fixture_open(&fixture, NULL);
    watches = fixture.service.watches;
}

static void setup_small_log(void)
{
    fixture_open_log(&fixture, NULL, SEGMENT, UINT64_C(4) * SEGMENT);
    watches = fixture.service.watches;
}

static void teardown(void)
{
    fixture_close(&fixture);
}

TestSuite(watches, .init = setup, .fini = teardown);
TestSuite(watches_of_a_small_log, .init = setup_small_log, .fini = teardown);

/* Requests that follow are of this client. */
static void as(const char *peer)
{
    fixture.peer.id = slice_of_text(peer);
}

/* The parameters of a notification, with the watches' ids as distances from the start. */
static void hear_message(const struct outbox_message *message)
{
    static char text[MAX_TEXT];
    size_t size = strlen(heard);
    char *rest;
    unpack_text(message->payload, text, sizeof text);
    uint64_t id = strtoull(strchr(text + 3, '[') + 1, &rest, 10);
    cr_assert_eq(*rest++, ',', "%s", text);
    snprintf(heard + size, sizeof heard - size, "%.*s:%s%" PRIu64 ",%.*s ",
             (int)message->peer.id.size, (const char *)message->peer.id.data,
             strncmp(text, "[2,\"watch.end\"", 14) == 0 ? "end" : "", id - TEST_START_MS,
             (int)strlen(rest) - 2, rest);
}

static void hear_outbox(void)
{
    struct outbox *outbox = &fixture.service.outbox;
    for (size_t i = 0; i < outbox->count; i++) {
        struct outbox_message message = outbox_message(outbox, i);
        hear_message(&message);
    }
    outbox_truncate(outbox, 0);
}

static void tell_news(void)
{
    bool more = true;
    while (more) {
        more = watches_notify(watches, fixture.now_ms, &fixture.service.outbox);
        hear_outbox();
    }
}

/* All that is said now. */
static const char *hear(void)
{
    heard[0] = '\0';
    tell_news();
    while (watches_behind(watches)) {
        watches_step(watches, fixture.now_ms, &fixture.service.outbox);
        hear_outbox();
    }
    return heard;
}

#define HEARS(text) cr_assert_str_eq(hear(), text)

static void call(const char *method, const char *params)
{
    const char *reply = fixture_call(&fixture, method, params);
    cr_assert(strncmp(reply, "[1,1,nil,", 9) == 0, "%s", reply);
}

static void refused(const char *code, const char *method, const char *params)
{
    const char *reply = fixture_call(&fixture, method, params);
    cr_assert(strstr(reply, code) != NULL, "%s", reply);
}

static void put(const char *key)
{
    char params[64];
    snprintf(params, sizeof params, "[\"%s\",1]", key);
    call("put", params);
}

/* A request with the id of the watch that was made so many after the first, and what follows. */
static const char *with_id(uint64_t number, const char *rest)
{
    static char params[64];
    snprintf(params, sizeof params, "[%" PRIu64 "%s]", TEST_START_MS + number, rest);
    return params;
}

Test(watches, the_reply_names_watch_epoch_and_newest_seq)
{
    char expected[128];
    put("a");
    snprintf(expected, sizeof expected, "[1,1,nil,{\"watch\":%d,\"epoch\":\"%s\",\"seq\":1}]",
             TEST_START_MS, store_epoch(fixture.store));
    cr_assert_str_eq(fixture_call(&fixture, "watch", "[{\"prefix\":\"a\"}]"), expected);
    cr_assert_eq(watches_count(watches), 1);
    HEARS("");
}

Test(watches, a_change_goes_once_to_every_watch_whose_prefix_it_has)
{
    const char *prefixes[] = {"", "a", "a", "ab", "abc", "b"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        char params[64];
        char peer[] = {(char)('0' + i), '\0'};
        as(peer);
        snprintf(params, sizeof params, "[{\"prefix\":\"%s\"}]", prefixes[i]);
        call("watch", params);
    }
    HEARS("");
    put("ab");
    HEARS("0:0,0,1,[[1,0,1,\"put\",\"ab\",1,nil]] 1:1,0,1,[[1,0,1,\"put\",\"ab\",1,nil]] "
          "2:2,0,1,[[1,0,1,\"put\",\"ab\",1,nil]] 3:3,0,1,[[1,0,1,\"put\",\"ab\",1,nil]] ");
    put("b");
    HEARS("0:0,1,2,[[2,0,1,\"put\",\"b\",1,nil]] 5:5,0,2,[[2,0,1,\"put\",\"b\",1,nil]] ");
    put("c");
    HEARS("0:0,2,3,[[3,0,1,\"put\",\"c\",1,nil]] ");
}

Test(watches, transactions_are_whole_as_far_as_the_prefix_lets_them)
{
    as("x");
    call("watch", "[{\"prefix\":\"a\"}]");
    call("batch", "[[[\"put\",[\"b\",1]],[\"put\",[\"a\",1]],[\"delete\",[\"b\"]],[\"put\",[\"aa\","
                  "2]]]]");
    HEARS("x:0,0,1,[[1,1,3,\"put\",\"a\",1,nil],[1,2,3,\"put\",\"aa\",2,nil]] ");
}

Test(watches, one_that_begins_in_the_past_reads_on_to_the_tail_without_gap_or_repetition)
{
    as("x");
    put("a");
    put("b");
    put("a");
    call("watch", "[{\"prefix\":\"a\",\"since\":0}]");
    put("a"); /* before it has read anything */
    HEARS("x:0,0,4,[[1,0,1,\"put\",\"a\",1,nil],[3,0,1,\"put\",\"a\",1,nil],[4,0,1,\"put\",\"a\",1,"
          "nil]] ");
    put("a");
    HEARS("x:0,4,5,[[5,0,1,\"put\",\"a\",1,nil]] ");
}

Test(watches, one_that_begins_in_a_turn_hears_what_the_turn_does_after_it)
{
    as("x");
    fixture_send(&fixture, 1, "put", "[\"a\",1]");
    fixture_send(&fixture, 2, "watch", "[]");
    fixture_send(&fixture, 3, "put", "[\"a\",2]");
    fixture_commit(&fixture);
    HEARS("x:0,1,2,[[2,0,1,\"put\",\"a\",2,nil]] ");
}

Test(watches, history_is_checked_before_a_watch_begins)
{
    put("a");
    refused("compacted", "watch", "[{\"since\":2}]");
    refused("compacted", "watch", "[{\"epoch\":\"other\"}]");
    refused("bad_request", "watch", "[{\"credit\":4294967296}]");
    refused("bad_request", "watch", "[{\"limit\":5}]");
    cr_assert_eq(watches_count(watches), 0);
}

Test(watches, without_credit_a_watch_is_silent_and_keeps_its_place)
{
    as("x");
    call("watch", "[{\"credit\":1}]");
    put("a");
    put("b");
    HEARS("x:0,0,2,[[1,0,1,\"put\",\"a\",1,nil],[2,0,1,\"put\",\"b\",1,nil]] ");
    put("c");
    HEARS("");
    fixture.now_ms += UINT64_C(10) * WATCH_IDLE_MS;
    HEARS("");
    put("d");
    HEARS("");
    call("watch.credit", with_id(0, ",1"));
    HEARS("x:0,2,4,[[3,0,1,\"put\",\"c\",1,nil],[4,0,1,\"put\",\"d\",1,nil]] ");
    call("watch.credit", with_id(0, ",5"));
    HEARS("");
    fixture.now_ms += WATCH_IDLE_MS;
    HEARS("x:0,4,4,[] ");
}

Test(watches, credit_stops_at_its_maximum)
{
    as("x");
    call("watch", "[{\"credit\":4294967290}]");
    call("watch.credit", with_id(0, ",4294967295"));
    put("a");
    HEARS("x:0,0,1,[[1,0,1,\"put\",\"a\",1,nil]] ");
    refused("bad_request", "watch.credit", with_id(0, ",0"));
    refused("bad_request", "watch.credit", with_id(0, ",4294967296"));
    refused("bad_request", "watch.credit", with_id(0, ""));
}

Test(watches, an_idle_one_with_credit_hears_something_from_time_to_time)
{
    as("x");
    call("watch", "[{\"prefix\":\"a\",\"credit\":2}]");
    put("b");
    HEARS("");
    cr_assert_eq(watches_due(watches), fixture.now_ms + WATCH_IDLE_MS);
    fixture.now_ms += WATCH_IDLE_MS - 1;
    HEARS("");
    fixture.now_ms += 1;
    HEARS("x:0,0,1,[] ");
    put("b");
    fixture.now_ms += WATCH_IDLE_MS;
    HEARS("x:0,1,2,[] ");
    cr_assert_eq(watches_due(watches), UINT64_MAX);
    fixture.now_ms += WATCH_IDLE_MS;
    HEARS("");
}

Test(watches, nobody_but_its_client_can_give_it_credit_or_cancel_it)
{
    as("x");
    call("watch", "[{\"credit\":0}]");
    put("a");
    as("y");
    refused("not_found", "watch.credit", with_id(0, ",5"));
    refused("not_found", "watch.cancel", with_id(0, ""));
    HEARS("");
    as("x");
    refused("not_found", "watch.credit", with_id(1, ",5"));
    fixture_send(&fixture, 1, "watch.cancel", with_id(0, ""));
    refused("not_found", "watch.credit", with_id(0, ",5"));
    cr_assert_eq(watches_count(watches), 0);
    put("a");
    HEARS("");
}

Test(watches, ids_grow_with_time_so_that_one_of_an_earlier_run_is_nobodys)
{
    call("watch", "[]");
    call("watch", "[]");
    fixture.now_ms += 1000;
    const char *reply = fixture_call(&fixture, "watch", "[]");
    cr_assert(strstr(reply, "\"watch\":1700001000,") != NULL, "%s", reply);
}

Test(watches, a_request_that_is_a_notification_makes_none)
{
    struct wire_request request = {.answer = WIRE_ANSWER_NONE, .method = WIRE_METHOD_WATCH};
    struct buffer out = {0};
    service_execute(&fixture.service, &request, &fixture.peer, fixture.now_ms, &out);
    cr_assert_eq(out.size, 0);
    cr_assert_eq(watches_count(watches), 0);
    buffer_free(&out);
}

Test(watches, a_turn_that_comes_to_nothing_takes_back_what_it_did_to_them)
{
    as("x");
    call("watch", "[{\"credit\":0}]");
    put("a");
    fixture_send(&fixture, 1, "put", "[\"b\",1]");
    fixture_send(&fixture, 2, "watch", "[]");
    fixture_send(&fixture, 3, "watch.credit", with_id(0, ",5"));
    fixture_send(&fixture, 4, "watch.cancel", with_id(0, ""));
    store_abandon(fixture.store);
    service_abandon(&fixture.service, WIRE_STORAGE_FULL, "a test");
    cr_assert_eq(watches_count(watches), 1);
    HEARS("");
    call("watch.credit", with_id(0, ",1"));
    put("c");
    HEARS("x:0,0,2,[[1,0,1,\"put\",\"a\",1,nil],[2,0,1,\"put\",\"c\",1,nil]] ");
    put("d");
    HEARS("");
}

static uint64_t tag_of_only_message(void)
{
    struct outbox *outbox = &fixture.service.outbox;
    cr_assert_eq(outbox->count, 1);
    uint64_t tag = outbox_message(outbox, 0).tag;
    outbox_truncate(outbox, 0);
    return tag;
}

Test(watches, what_a_peer_did_not_take_is_sent_again_later)
{
    as("x");
    call("watch", "[{\"credit\":2}]");
    HEARS("");
    put("a");
    cr_assert(watches_notify(watches, fixture.now_ms, &fixture.service.outbox));
    service_undelivered(&fixture.service, tag_of_only_message(), false);
    put("b");
    HEARS("");
    fixture.now_ms += WATCH_IDLE_MS;
    HEARS("x:0,0,2,[[1,0,1,\"put\",\"a\",1,nil],[2,0,1,\"put\",\"b\",1,nil]] ");
    put("c");
    HEARS("x:0,2,3,[[3,0,1,\"put\",\"c\",1,nil]] ");
    put("d");
    HEARS(""); /* the message that was not taken cost nothing */
}

Test(watches, a_step_whose_message_was_not_taken_is_made_again)
{
    as("x");
    put("a");
    call("watch", "[{\"since\":0,\"credit\":1}]");
    cr_assert_not(watches_notify(watches, fixture.now_ms, &fixture.service.outbox));
    watches_step(watches, fixture.now_ms, &fixture.service.outbox);
    service_undelivered(&fixture.service, tag_of_only_message(), false);
    HEARS("");
    fixture.now_ms += WATCH_IDLE_MS;
    HEARS("x:0,0,1,[[1,0,1,\"put\",\"a\",1,nil]] ");
}

Test(watches, all_watches_of_a_peer_go_with_it)
{
    as("x");
    call("watch", "[{\"prefix\":\"a\"}]");
    call("watch", "[{\"prefix\":\"b\",\"credit\":0}]");
    as("y");
    call("watch", "[{\"prefix\":\"b\"}]");
    HEARS("");
    put("a");
    cr_assert(watches_notify(watches, fixture.now_ms, &fixture.service.outbox));
    service_undelivered(&fixture.service, tag_of_only_message(), true);
    cr_assert_eq(watches_count(watches), 1);
    put("b");
    HEARS("y:2,0,2,[[2,0,1,\"put\",\"b\",1,nil]] ");
}

Test(watches, one_without_credit_goes_with_the_connection_of_its_latest_request)
{
    as("a");
    fixture.peer.connection = 5;
    call("watch", "[{\"prefix\":\"x\",\"credit\":0}]");
    call("watch", "[{\"prefix\":\"with\",\"credit\":1}]");
    call("watch", "[{\"prefix\":\"moved\",\"credit\":0}]");
    fixture.peer.connection = 6;
    call("watch.credit", with_id(2, ",1"));
    put("moved");
    HEARS("a:2,0,1,[[1,0,1,\"put\",\"moved\",1,nil]] ");
    watches_connection_ended(watches, 5);
    cr_assert_eq(watches_count(watches), 3, "not while a turn is carried out");
    HEARS("");
    cr_assert_eq(watches_count(watches), 2);
    watches_connection_ended(watches, 6);
    HEARS("");
    cr_assert_eq(watches_count(watches), 1);
    put("with");
    HEARS("a:1,0,2,[[2,0,1,\"put\",\"with\",1,nil]] ");
}

Test(watches, there_is_a_maximum_of_them)
{
    for (unsigned i = 0; i < WIRE_MAX_WATCHES; i++)
        call("watch", "[{\"prefix\":\"a\",\"credit\":1}]");
    refused("busy", "watch", "[]");
    refused("{\"limit\":10000}", "watch", "[]");
    call("watch.cancel", with_id(77, ""));
    call("watch", "[{\"prefix\":\"b\"}]");
    cr_assert_eq(watches_count(watches), WIRE_MAX_WATCHES);
}

static void put_big(const char *key)
{
    static char params[BIG + 64];
    snprintf(params, sizeof params, "[\"%s\",\"%0*d\"]", key, BIG, 7);
    call("put", params);
}

Test(watches_of_a_small_log, one_whose_place_is_no_longer_kept_ends_at_zero_credit_too)
{
    char expected[256];
    as("x");
    call("watch", "[{\"credit\":0}]");
    as("y");
    call("watch", "[{\"credit\":0,\"prefix\":\"quiet\"}]");
    for (unsigned i = 0; i < 40; i++)
        put_big("a");
    HEARS("");
    store_poll(fixture.store);
    uint64_t oldest = store_oldest(fixture.store);
    cr_assert_gt(oldest, 1);
    snprintf(expected, sizeof expected,
             "\"history from seq 0 on is not kept: start afresh\",{\"oldest\":%" PRIu64
             ",\"seq\":40}] ",
             oldest);
    const char *said = hear();
    cr_assert(strstr(said, "x:end0,[\"compacted\",") != NULL, "%s", said);
    cr_assert(strstr(said, "y:end1,[\"compacted\",") != NULL, "%s", said);
    cr_assert(strstr(said, expected) != NULL, "%s", said);
    cr_assert_eq(watches_count(watches), 0);
}

Test(watches_of_a_small_log, one_that_has_missed_nothing_is_told_before_its_place_goes)
{
    as("x");
    call("watch", "[{\"prefix\":\"quiet\"}]");
    for (unsigned i = 0; i < 40; i++)
        put_big("a");
    HEARS("");
    store_poll(fixture.store);
    HEARS("x:0,0,40,[] ");
    put("quiet");
    HEARS("x:0,40,41,[[41,0,1,\"put\",\"quiet\",1,nil]] ");
}

Test(watches_of_a_small_log, one_that_reads_history_which_goes_ends)
{
    as("x");
    call("watch", "[{\"since\":0,\"prefix\":\"quiet\"}]");
    for (unsigned i = 0; i < 40; i++)
        put_big("a");
    tell_news();
    watches_step(watches, fixture.now_ms, &fixture.service.outbox);
    cr_assert(watches_behind(watches));
    store_poll(fixture.store);
    const char *said = hear();
    cr_assert(strstr(said, "x:end0,[\"compacted\",") != NULL, "%s", said);
}

Test(watches, a_stop_ends_all_of_them)
{
    as("x");
    call("watch", "[]");
    as("y");
    call("watch", "[{\"credit\":0}]");
    heard[0] = '\0';
    watches_stop(watches, &fixture.service.outbox);
    hear_outbox();
    cr_assert(strstr(heard, "x:end0,[\"unavailable\",") != NULL, "%s", heard);
    cr_assert(strstr(heard, "y:end1,[\"unavailable\",") != NULL, "%s", heard);
    cr_assert_eq(watches_count(watches), 0);
}

Test(watches, those_that_are_behind_take_turns)
{
    enum { PUTS = 600 };
    int steps[3] = {0};
    for (unsigned i = 0; i < PUTS; i++)
        put_big("a");
    for (int i = 0; i < 3; i++) {
        as(i == 0 ? "0" : i == 1 ? "1" : "2");
        call("watch", "[{\"since\":0,\"credit\":1000}]");
    }
    cr_assert_not(watches_notify(watches, fixture.now_ms, &fixture.service.outbox));
    while (watches_behind(watches)) {
        watches_step(watches, fixture.now_ms, &fixture.service.outbox);
        cr_assert_eq(fixture.service.outbox.count, 1);
        steps[*outbox_message(&fixture.service.outbox, 0).peer.id.data - '0']++;
        outbox_truncate(&fixture.service.outbox, 0);
        for (int i = 0; i < 3; i++)
            cr_assert_leq(abs(steps[i] - steps[(i + 1) % 3]), WATCH_STEPS);
    }
    for (int i = 0; i < 3; i++)
        cr_assert(steps[i] > PUTS * BIG / WATCH_STEP / 2 && steps[i] < PUTS, "%d", steps[i]);
}

enum { FEEDS = 40, FEED_PUTS = 150 };

/* Up to where each of some watches, by the order of their ids, has heard everything. */
struct feeds {
    uint64_t to[FEEDS];
};

/* A message for one of them has to go on where the last one ended, and to have every change. */
static void follow(struct feeds *feeds, const struct outbox_message *message)
{
    struct wire_notification notification;
    uint32_t count;
    uint64_t id;
    uint64_t from;
    uint64_t to;
    cr_assert_eq(wire_decode_notification(message->payload, &notification), 0);
    struct wire_cursor params = wire_cursor_of(notification.params);
    cr_assert(wire_read_array(&params, &count) == 0 && count == 4);
    cr_assert(wire_read_uint(&params, &id) == 0 && wire_read_uint(&params, &from) == 0 &&
              wire_read_uint(&params, &to) == 0 && wire_read_array(&params, &count) == 0);
    cr_assert_eq(message->tag, WATCHES_TAG | id);
    cr_assert_eq(from, feeds->to[id - TEST_START_MS]);
    cr_assert_eq(count, to - from);
    feeds->to[id - TEST_START_MS] = to;
}

/* Those of each fifth one do not arrive: it has left. */
static void follow_outbox(struct feeds *feeds)
{
    struct outbox *outbox = &fixture.service.outbox;
    for (size_t i = 0; i < outbox->count; i++) {
        struct outbox_message message = outbox_message(outbox, i);
        uint64_t id = message.tag & ~WATCHES_TAG;
        follow(feeds, &message);
        if (id % 5 == 3)
            service_undelivered(&fixture.service, message.tag, true);
    }
    outbox_truncate(outbox, 0);
}

static void put_big_in_one_turn(unsigned count)
{
    static char params[BIG + 64];
    snprintf(params, sizeof params, "[\"a\",\"%0*d\"]", BIG, 7);
    for (unsigned i = 0; i < count; i++) {
        fixture_send(&fixture, i, "put", params);
        buffer_clear(&fixture.replies);
    }
    fixture_commit(&fixture);
}

/*
 * What is new takes several outboxes and several rounds here, in between peers turn out to have
 * left, also one that would be next; and in the end it is more than a turn sends, so that some fall
 * behind.
 */
Test(watches, more_than_a_turn_sends_arrives_whole)
{
    struct feeds feeds = {{0}};
    char peers[FEEDS][4];
    unsigned calls = 0;
    for (unsigned i = 0; i < FEEDS; i++) {
        snprintf(peers[i], sizeof peers[i], "%u", i);
        as(peers[i]);
        call("watch", i % 2 == 0 ? "[]" : "[{\"prefix\":\"a\"}]");
    }
    HEARS("");
    put_big_in_one_turn(FEED_PUTS);
    for (bool more = true; more; calls++) {
        more = watches_notify(watches, fixture.now_ms, &fixture.service.outbox);
        cr_assert_lt(outbox_size(&fixture.service.outbox), WATCHES_CHUNK + 2 * WIRE_PAGE_BYTES);
        follow_outbox(&feeds);
    }
    cr_assert_gt(calls, 10);
    cr_assert_eq(watches_count(watches), FEEDS - FEEDS / 5);
    cr_assert(watches_behind(watches));
    while (watches_behind(watches)) {
        watches_step(watches, fixture.now_ms, &fixture.service.outbox);
        follow_outbox(&feeds);
    }
    for (unsigned i = 0; i < FEEDS; i++)
        cr_assert_eq(feeds.to[i] == FEED_PUTS, (TEST_START_MS + i) % 5 != 3, "watch %u", i);
}
