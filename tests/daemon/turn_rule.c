/*
 * The turn rule: N requests in one turn give the same replies, the same changes and the same state
 * as N turns of one, and so does what a start reads back from the log.
 */
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "requests.h"

enum { REQUESTS = 600, TURN = 50, KEYS = 12, MAX_PARAMS = 1024, MAX_STATE = 1 << 20 };

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

static void random_operation(unsigned *state, char *text, size_t size)
{
    unsigned key = draw(state, KEYS);
    switch (draw(state, 8)) {
    case 0:
    case 1:
        snprintf(text, size, "[\"put\",[\"k%u\",%u]]", key, draw(state, 100));
        break;
    case 2:
        snprintf(text, size, "[\"put\",[\"k%u\",%u,{\"ttl\":%u}]]", key, draw(state, 9),
                 draw(state, 40));
        break;
    case 3:
        snprintf(text, size, "[\"delete\",[\"k%u\",{\"previous\":true}]]", key);
        break;
    case 4:
        snprintf(text, size, "[\"increment\",[\"k%u\",3,{\"if_exists\":%s}]]", key,
                 draw(state, 2) == 0 ? "true" : "false");
        break;
    case 5:
        snprintf(text, size, "[\"touch\",[\"k%u\",%u]]", key, draw(state, 30));
        break;
    case 6:
        snprintf(text, size, "[\"delete_range\",[{\"prefix\":\"k%u\",\"limit\":2}]]", key % 2);
        break;
    default:
        snprintf(text, size, "[\"scan\",[{\"limit\":%u}]]", 1 + draw(state, 5));
        break;
    }
}

/* A request: an operation, or a batch of some; `method` and `params` as fixture_send takes them. */
static void random_request(unsigned *state, char *method, char *params)
{
    char operation[128];
    if (draw(state, 10) == 0) {
        strcpy(method, draw(state, 2) == 0 ? "changes" : "count");
        strcpy(params, "[]");
        return;
    }
    unsigned count = draw(state, 3) == 0 ? 1 + draw(state, 12) : 1;
    strcpy(method, "batch");
    strcpy(params, "[[");
    for (unsigned i = 0; i < count; i++) {
        random_operation(state, operation, sizeof operation);
        snprintf(params + strlen(params), MAX_PARAMS - strlen(params), "%s%s", i > 0 ? "," : "",
                 operation);
    }
    strcat(params, "]]");
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Runs the requests, committing after each `turn` of them; times move only between turns of TURN.
 */
static void run(struct fixture *fixture, unsigned seed, unsigned turn, struct buffer *replies)
{
    char method[16];
    char params[MAX_PARAMS];
    for (unsigned i = 0; i < REQUESTS; i++) {
        if (i % TURN == 0) {
            fixture->now_ms += 7;
            service_begin_turn(&fixture->service, fixture->now_ms);
            service_expire(&fixture->service, fixture->now_ms);
        }
        random_request(&seed, method, params);
        fixture_send(fixture, i, method, params);
        if ((i + 1) % turn == 0)
            fixture_commit(fixture);
    }
    buffer_append(replies, fixture->replies.data, fixture->replies.size);
    buffer_clear(&fixture->replies);
}

/* All that can be seen from outside, as bytes. The epoch is each store's own. */
static void see(struct fixture *fixture, struct buffer *state)
{
    buffer_clear(&fixture->replies);
    fixture_send(fixture, 0, "scan", "[{\"limit\":10000}]");
    fixture_send(fixture, 0, "count", "[]");
    buffer_append(state, fixture->replies.data, fixture->replies.size);
    fixture_see_changes(fixture, 0, state);
}

static void mask_epochs(const char *epoch, struct buffer *bytes)
{
    size_t size = strlen(epoch);
    for (size_t at = 0; at + size <= bytes->size; at++)
        if (memcmp(bytes->data + at, epoch, size) == 0)
            memset(bytes->data + at, '-', size);
}

Test(turn_rule, many_requests_in_one_turn_are_the_same_as_many_turns)
{
    unsigned seed = seed_of_run();
    struct buffer replies[2] = {{0}};
    struct buffer states[3] = {{0}};
    char paths[2][32] = {"/tmp/cubby-turn-XXXXXX", "/tmp/cubby-turn-XXXXXX"};
    struct fixture fixture;
    for (int i = 0; i < 2; i++) {
        cr_assert_not_null(mkdtemp(paths[i]));
        fixture_open(&fixture, paths[i]);
        run(&fixture, seed, i == 0 ? 1 : TURN, &replies[i]);
        mask_epochs(store_epoch(fixture.store), &replies[i]);
        see(&fixture, &states[i]);
        fixture_close(&fixture);
    }
    cr_assert(slice_equal(buffer_slice(&replies[0], 0), buffer_slice(&replies[1], 0)),
              "replies differ, CUBBY_SEED=%u", seed);
    cr_assert(slice_equal(buffer_slice(&states[0], 0), buffer_slice(&states[1], 0)),
              "states differ, CUBBY_SEED=%u", seed);
    fixture_open(&fixture, paths[1]);
    fixture.now_ms = store_now(fixture.store);
    see(&fixture, &states[2]);
    fixture_close(&fixture);
    cr_assert(slice_equal(buffer_slice(&states[1], 0), buffer_slice(&states[2], 0)),
              "the log gives another state, CUBBY_SEED=%u", seed);
    for (int i = 0; i < 2; i++) {
        nftw(paths[i], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        buffer_free(&replies[i]);
    }
    for (int i = 0; i < 3; i++)
        buffer_free(&states[i]);
}

Test(turn_rule, an_abandoned_turn_leaves_nothing_behind)
{
    struct buffer states[2] = {{0}};
    struct buffer ignored = {0};
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    run(&fixture, 1, TURN, &ignored);
    see(&fixture, &states[0]);
    uint64_t seq = store_seq(fixture.store);
    for (unsigned i = 0, seed = 2; i < TURN; i++) {
        char method[16];
        char params[MAX_PARAMS];
        random_request(&seed, method, params);
        fixture_send(&fixture, i, method, params);
    }
    cr_assert_gt(store_seq(fixture.store), seq);
    store_abandon(fixture.store);
    service_abandon(&fixture.service, WIRE_STORAGE_FULL, "a test");
    cr_assert_eq(store_seq(fixture.store), seq);
    see(&fixture, &states[1]);
    cr_assert(slice_equal(buffer_slice(&states[0], 0), buffer_slice(&states[1], 0)));
    fixture_close(&fixture);
    buffer_free(&ignored);
    buffer_free(&states[0]);
    buffer_free(&states[1]);
}
