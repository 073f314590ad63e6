/*
 * Eviction and the turn rule: which keys go, and when, does not depend on how requests fall into
 * turns; and what a turn that came to nothing has evicted is there again.
 *
 * Values are multiples of UNIT and the limit is some and a half, so that it does not matter by how
 * many bytes the allocator rounds up; there are few keys, so that the seed of the hash does not
 * either.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "requests.h"

enum {
    UNIT = 16384,
    FIT = 16,
    LIMIT = FIT * UNIT + UNIT / 2,
    KEYS = 40,
    REQUESTS = 2000,
    TURN = 50
};
enum { MAX_PARAMS = 12 * UNIT };

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

static void add_text(char *text, const char *more)
{
    snprintf(text + strlen(text), MAX_PARAMS - strlen(text), "%s", more);
}

/* Of one unit, or of two or three: nearly, so that key and all else that goes with it is in it. */
static void add_value(char *text, unsigned units)
{
    size_t size = strlen(text);
    size_t more = (size_t)units * UNIT - 200;
    text[size] = '"';
    memset(text + size + 1, 'v', more);
    strcpy(text + size + 1 + more, "\"");
}

static void add_put(unsigned *state, char *text, const char *options)
{
    char key[16];
    snprintf(key, sizeof key, "[\"k%u\",", draw(state, KEYS));
    add_text(text, key);
    add_value(text, 1 + draw(state, 8) / 6 + draw(state, 8) / 7);
    add_text(text, options);
}

/* Puts of some units, alone or in batches that also read, and reads that keep keys. */
static const char *random_request(unsigned *state, char *text)
{
    static const char *const small[] = {"get", "delete", "touch", "increment"};
    unsigned what = draw(state, 12);
    text[0] = '\0';
    if (what < 4) {
        add_put(state, text, what == 0 ? ",{\"ttl\":9}]" : "]");
        return "put";
    }
    if (what < 6) {
        add_text(text, "[[");
        for (unsigned i = 1 + draw(state, 3); i > 0; i--) {
            add_text(text, "[\"put\",");
            add_put(state, text, "]],");
            add_text(text, "[\"count\",[]],");
        }
        add_text(text, what == 4 ? "[\"scan\",[{\"keys_only\":true}]]]]"
                                 : "[\"put\",[\"k\",1,{\"if_version\":7}]]]]");
        return "batch";
    }
    snprintf(text, MAX_PARAMS, what % 4 == 2 ? "[\"k%u\",nil]" : "[\"k%u\"]", draw(state, KEYS));
    return small[what % 4];
}

/* Commits after each `turn` of them; time moves on between turns of TURN. */
static void run(struct fixture *fixture, unsigned *seed, unsigned requests, unsigned turn)
{
    static char text[MAX_PARAMS];
    for (unsigned i = 0; i < requests; i++) {
        if (i % TURN == 0 && turn <= TURN)
            fixture->now_ms += 3;
        const char *method = random_request(seed, text);
        fixture_send(fixture, i, method, text);
        if ((i + 1) % turn == 0)
            fixture_commit(fixture);
    }
}

/* The changes since then, and what is there. */
static void see(struct fixture *fixture, uint64_t since, struct buffer *state)
{
    buffer_append(state, fixture->replies.data, fixture->replies.size);
    buffer_clear(&fixture->replies);
    fixture_send(fixture, 0, "scan", "[{\"limit\":10000}]");
    buffer_append(state, fixture->replies.data, fixture->replies.size);
    buffer_clear(&fixture->replies);
    fixture_see_changes(fixture, since, state);
}

Test(eviction, many_requests_in_one_turn_evict_the_same_as_many_turns)
{
    unsigned seed = seed_of_run();
    struct buffer states[2] = {{0}, {0}};
    for (unsigned i = 0; i < 2; i++) {
        struct fixture fixture;
        unsigned state = seed;
        fixture_open_evicting(&fixture, LIMIT);
        run(&fixture, &state, REQUESTS, i == 0 ? 1 : TURN);
        cr_assert_gt(fixture.counters.evicted, REQUESTS / 10, "CUBBY_SEED=%u", seed);
        see(&fixture, 0, &states[i]);
        fixture_close(&fixture);
    }
    cr_assert(slice_equal(buffer_slice(&states[0], 0), buffer_slice(&states[1], 0)),
              "they differ, CUBBY_SEED=%u", seed);
    buffer_free(&states[0]);
    buffer_free(&states[1]);
}

static uint64_t memory_of(const struct fixture *fixture)
{
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    return stats.memory;
}

Test(eviction, what_an_abandoned_turn_has_evicted_is_there_again_and_can_be_evicted)
{
    struct fixture fixture;
    struct buffer states[2] = {{0}, {0}};
    unsigned seed = seed_of_run();
    unsigned state = seed;
    fixture_open_evicting(&fixture, LIMIT);
    run(&fixture, &state, 200, TURN);
    buffer_clear(&fixture.replies);
    uint64_t seq = store_seq(fixture.store);
    see(&fixture, seq, &states[0]);
    uint64_t evicted = fixture.counters.evicted;
    run(&fixture, &state, 200, 1000);
    cr_assert_gt(fixture.counters.evicted, evicted);
    store_abandon(fixture.store);
    service_abandon(&fixture.service, WIRE_STORAGE_FULL, "for the test");
    buffer_clear(&fixture.replies);
    see(&fixture, seq, &states[1]);
    cr_assert(slice_equal(buffer_slice(&states[0], 0), buffer_slice(&states[1], 0)),
              "CUBBY_SEED=%u", seed);
    uint8_t key[KEYS_MAX_KEY];
    uint64_t keys;
    cr_assert_eq(keys_count(&fixture.service.keys, (struct keys_range){.start = {0}}, &keys), 0);
    uint32_t gone = 0;
    cr_assert_eq(keys_evict(&fixture.service.keys, fixture.now_ms, LIMIT, &gone), 0);
    cr_assert_eq(gone, keys, "CUBBY_SEED=%u", seed);
    cr_assert_eq(store_victim(fixture.store, key), 0);
    cr_assert_lt(memory_of(&fixture), UNIT);
    fixture_close(&fixture);
    buffer_free(&states[0]);
    buffer_free(&states[1]);
}

Test(eviction, a_failed_write_evicts_nothing_unless_room_was_what_it_lacked)
{
    struct fixture fixture;
    static char text[MAX_PARAMS];
    fixture_open_evicting(&fixture, LIMIT);
    for (unsigned i = 0; i < FIT; i++) {
        snprintf(text, sizeof text, "[\"k%u\",", i);
        add_value(text, 1);
        add_text(text, "]");
        cr_assert_null(strstr(fixture_call(&fixture, "put", text), "storage_full"));
    }
    strcpy(text, "[\"new\",");
    add_value(text, 1);
    add_text(text, ",{\"if_version\":3}]");
    cr_assert_not_null(strstr(fixture_call(&fixture, "put", text), "conflict"));
    strcpy(text, "[\"k3\",");
    add_value(text, 1);
    add_text(text, "]");
    cr_assert_null(strstr(fixture_call(&fixture, "put", text), "storage_full"));
    cr_assert_eq(fixture.counters.evicted, 0);
    text[3] = '9';
    text[4] = '9'; /* [\"k99\", without the quote that was there */
    strcpy(text, "[\"k99\",");
    add_value(text, 1);
    add_text(text, "]");
    cr_assert_null(strstr(fixture_call(&fixture, "put", text), "storage_full"));
    cr_assert_gt(fixture.counters.evicted, 0);
    fixture_close(&fixture);
}
