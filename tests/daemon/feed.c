/*
 * Watches against history: requests that are drawn at random write, begin watches with any prefix,
 * place and credit, give credit and cancel; some messages are not taken by their peer. Whatever the
 * turns are, each watch hears exactly what history has under its prefix behind its `since`.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/stored.h"
#include "requests.h"
#include "wire/reply.h"

enum { STEPS = 4000, TURN = 50, KEYS = 25, STREAMS = 120, MAX_PARAMS = 1024, ENOUGH = 100000 };

/* What one watch was told so far. */
struct stream {
    uint64_t id;
    const char *prefix;
    uint64_t since;
    uint64_t to;
    uint64_t credit;
    uint32_t count;
    struct buffer changes; /* encoded, one behind the other */
    bool over;
};

struct feed {
    struct fixture fixture;
    struct stream streams[STREAMS];
    unsigned count;
    unsigned requests; /* the state of what draws them, */
    unsigned luck;     /* and of what draws whether messages arrive */
    uint64_t empty;    /* notifications */
    uint64_t lost;
};

static unsigned draw(unsigned *state, unsigned below)
{
    *state = *state * 1664525 + 1013904223;
    return (*state >> 8) % below;
}

static void send(struct feed *feed, const char *method, const char *params)
{
    buffer_clear(&feed->fixture.replies);
    fixture_send(&feed->fixture, 1, method, params);
}

static void write_something(struct feed *feed)
{
    char params[MAX_PARAMS] = "[[";
    unsigned *state = &feed->requests;
    unsigned count = draw(state, 3) == 0 ? 1 + draw(state, 10) : 1;
    for (unsigned i = 0; i < count; i++) {
        char operation[64];
        unsigned key = draw(state, KEYS);
        if (draw(state, 3) > 0)
            snprintf(operation, sizeof operation, "[\"put\",[\"k%u\",%u]]", key, draw(state, 1000));
        else
            snprintf(operation, sizeof operation, "[\"delete\",[\"k%u\"]]", key);
        snprintf(params + strlen(params), sizeof params - strlen(params), "%s%s", i > 0 ? "," : "",
                 operation);
    }
    strcat(params, "]]");
    send(feed, "batch", params);
}

/* The id in {"watch":id,…}. */
static uint64_t id_of_reply(const struct buffer *replies)
{
    static const char before[] = "[1,1,nil,{\"watch\":";
    char text[256];
    unpack_text(buffer_slice(replies, 0), text, sizeof text);
    cr_assert_eq(strncmp(text, before, strlen(before)), 0, "%s", text);
    return strtoull(text + strlen(before), NULL, 10);
}

static void begin_watch(struct feed *feed)
{
    static const char *const prefixes[] = {"", "k", "k1", "k2", "k10", "k24", "none"};
    char params[MAX_PARAMS];
    unsigned *state = &feed->requests;
    uint64_t newest = store_seq(feed->fixture.store);
    struct stream *stream = &feed->streams[feed->count];
    stream->prefix = prefixes[draw(state, sizeof prefixes / sizeof prefixes[0])];
    stream->since = draw(state, 2) > 0 ? newest : draw(state, (unsigned)newest + 1);
    stream->to = stream->since;
    stream->credit = draw(state, 4) > 0 ? draw(state, 5) : ENOUGH;
    snprintf(params, sizeof params,
             "[{\"prefix\":\"%s\",\"since\":%" PRIu64 ",\"credit\":%" PRIu64 "}]", stream->prefix,
             stream->since, stream->credit);
    send(feed, "watch", params);
    stream->id = id_of_reply(&feed->fixture.replies);
    feed->count++;
}

static void give(struct feed *feed, struct stream *stream, uint64_t credit)
{
    char params[MAX_PARAMS];
    snprintf(params, sizeof params, "[%" PRIu64 ",%" PRIu64 "]", stream->id, credit);
    send(feed, "watch.credit", params);
    stream->credit += credit;
}

static void cancel(struct feed *feed, struct stream *stream)
{
    char params[MAX_PARAMS];
    snprintf(params, sizeof params, "[%" PRIu64 "]", stream->id);
    send(feed, "watch.cancel", params);
    stream->over = true;
}

static void step(struct feed *feed)
{
    unsigned what = draw(&feed->requests, 100);
    struct stream *stream =
        feed->count > 0 ? &feed->streams[draw(&feed->requests, feed->count)] : NULL;
    if (what < 3 && feed->count < STREAMS)
        begin_watch(feed);
    else if (what < 20 && stream != NULL && !stream->over)
        give(feed, stream, 1 + draw(&feed->requests, 4));
    else if (what < 21 && stream != NULL && !stream->over)
        cancel(feed, stream);
    else
        write_something(feed);
}

static struct stream *stream_of(struct feed *feed, uint64_t id)
{
    for (unsigned i = 0; i < feed->count; i++)
        if (feed->streams[i].id == id)
            return &feed->streams[i];
    cr_assert(false, "no such watch: %" PRIu64, id);
    return NULL;
}

static void hear(struct feed *feed, const struct outbox_message *message)
{
    struct wire_notification notification;
    uint64_t from;
    uint64_t to;
    uint32_t count;
    cr_assert_eq(wire_decode_notification(message->payload, &notification), 0);
    cr_assert(slice_equal(notification.method, slice_of_text("watch")));
    struct stream *stream = stream_of(feed, message->tag & ~WATCHES_TAG);
    struct wire_cursor params = wire_cursor_of(notification.params);
    cr_assert(wire_read_array(&params, &count) == 0 && count == 4);
    cr_assert(wire_read_uint(&params, &from) == 0 && from == stream->id);
    cr_assert(wire_read_uint(&params, &from) == 0 && wire_read_uint(&params, &to) == 0 &&
              wire_read_array(&params, &count) == 0);
    cr_assert(from == stream->to && to >= from, "%" PRIu64 " to %" PRIu64 " behind %" PRIu64, from,
              to, stream->to);
    cr_assert(!stream->over && stream->credit > 0);
    stream->credit--;
    stream->to = to;
    stream->count += count;
    buffer_append(&stream->changes, params.at, (size_t)(params.end - params.at));
    feed->empty += count == 0;
}

/* Some of the messages arrive. */
static void deliver(struct feed *feed)
{
    struct outbox *outbox = &feed->fixture.service.outbox;
    for (size_t i = 0; i < outbox->count; i++) {
        struct outbox_message message = outbox_message(outbox, i);
        if (draw(&feed->luck, 8) > 0) {
            hear(feed, &message);
            continue;
        }
        feed->lost++;
        service_undelivered(&feed->fixture.service, message.tag, false);
    }
    outbox_truncate(outbox, 0);
}

static void end_turn(struct feed *feed, unsigned steps)
{
    struct watches *watches = feed->fixture.service.watches;
    bool more = true;
    fixture_commit(&feed->fixture);
    while (more) {
        more = watches_notify(watches, feed->fixture.now_ms, &feed->fixture.service.outbox);
        deliver(feed);
    }
    for (; steps > 0 && watches_behind(watches); steps--) {
        watches_step(watches, feed->fixture.now_ms, &feed->fixture.service.outbox);
        deliver(feed);
    }
}

static bool all_have_everything(const struct feed *feed)
{
    for (unsigned i = 0; i < feed->count; i++)
        if (!feed->streams[i].over && feed->streams[i].to < store_seq(feed->fixture.store))
            return false;
    return true;
}

static void finish(struct feed *feed)
{
    for (unsigned i = 0; i < feed->count; i++)
        if (!feed->streams[i].over)
            give(feed, &feed->streams[i], ENOUGH);
    for (unsigned i = 0; i < 200 && !all_have_everything(feed); i++) {
        feed->fixture.now_ms += WATCH_IDLE_MS;
        end_turn(feed, ENOUGH);
    }
    cr_assert(all_have_everything(feed));
}

static void compare(struct feed *feed, struct stream *stream)
{
    struct store_history *history;
    struct store_history_change change;
    struct buffer expected = {0};
    uint32_t count = 0;
    cr_assert_eq(store_history_open(feed->fixture.store, &history), 0);
    cr_assert_eq(store_history_seek(history, stream->since), 0);
    while (store_history_next(history, &change) == 0 && change.seq <= stream->to) {
        if (!slice_has_prefix(change.key, slice_of_text(stream->prefix)))
            continue;
        cr_assert_eq(stored_pack_change(&expected, &change), 0);
        count++;
    }
    cr_assert_eq(stream->count, count, "watch of '%s' behind %" PRIu64, stream->prefix,
                 stream->since);
    cr_assert_eq(stream->changes.size, expected.size);
    cr_assert(expected.size == 0 ||
              memcmp(stream->changes.data, expected.data, expected.size) == 0);
    store_history_close(&history);
    buffer_free(&expected);
}

static void run(unsigned seed, unsigned turn)
{
    static struct feed feed;
    feed = (struct feed){.requests = seed, .luck = seed + turn};
    fixture_open(&feed.fixture, NULL);
    for (unsigned i = 0; i < STEPS; i++) {
        if (i % TURN == 0)
            feed.fixture.now_ms += 700;
        step(&feed);
        if ((i + 1) % turn == 0)
            end_turn(&feed, draw(&feed.luck, 3));
    }
    finish(&feed);
    for (unsigned i = 0; i < feed.count; i++) {
        compare(&feed, &feed.streams[i]);
        buffer_free(&feed.streams[i].changes);
    }
    cr_assert(feed.lost > 0 && feed.empty > 0 && feed.count > STREAMS / 2);
    fixture_close(&feed.fixture);
}

Test(feed, every_watch_hears_what_history_has_for_it_whatever_the_turns_are)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    fprintf(stderr, "CUBBY_SEED=%u\n", seed);
    run(seed, 1);
    run(seed, 7);
    run(seed, TURN);
}
