/*
 * Each operation over an engine of which one call after the other has no room (faulty_engine.h):
 * the operation says STORE_FULL, hands nothing out, and once it was cancelled everything is as
 * before; without the fault it goes well. The same for memory that is out.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <ftw.h>

#include "queue/internal.h"
#include "tests/queue/fixture.h"
#include "tests/store/faulty_engine.h"

enum { ENGINES = 3, MAX_DIRECTORY = 64, DESCRIPTION = 16384, LEASE_MS = 5000, RETRY_MS = 1000 };

static const struct engine_methods *const engines[ENGINES] = {&engine_memory, &engine_lmdb,
                                                              &engine_rocksdb};
static char directory[MAX_DIRECTORY];
static struct job held;   /* leased */
static struct job handed; /* by the operation; its id is 0: none */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/cubby-queue-full-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    fixture_directory = directory;
    now_ms = 1000000;
}

static void teardown(void)
{
    enum { OPEN_FILES = 8 };
    ok(nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS));
}

/* All that can be seen, in words. */
static void describe(char *out)
{
    uint8_t place[QUEUE_PLACE_SIZE];
    struct queue_stats stats = stats_of("q");
    int at = snprintf(out, DESCRIPTION, "%lu %lu %lu\n", stats.pushed, stats.acked, stats.expired);
    for (enum job_state state = 0; state < JOB_STATES; state++) {
        struct slice after = {0};
        struct job job;
        at += snprintf(out + at, (size_t)(DESCRIPTION - at), "%lu:", stats.jobs[state]);
        while (queue_peek(queues, text("q"), state, after, &job) == 0) {
            at += snprintf(out + at, (size_t)(DESCRIPTION - at), " %lu %lu %lu %.*s", job.id,
                           job.deliveries, job.due_at_ms, (int)job.body.size,
                           (const char *)job.body.data);
            queue_place(&job, place);
            after = slice_of(place, sizeof place);
        }
    }
    cr_assert_lt(at, DESCRIPTION);
}

/* Operations. */

static int push_one(void)
{
    struct push_options options = {
        .dedup = text("bid"), .priority = 3, .ttl_given = true, .ttl_ms = 100000};
    bool duplicate;
    return queue_push(queues, text("q"), text("more"), &options, &handed.id, &duplicate);
}

static int push_to_a_new_queue(void)
{
    struct push_options options = {0};
    bool duplicate;
    return queue_push(queues, text("new"), text("more"), &options, &handed.id, &duplicate);
}

static int take_one(void)
{
    return queue_take(queues, text("q"), false, LEASE_MS, &handed);
}

static int pop_one(void)
{
    return queue_take(queues, text("q"), true, 0, &handed);
}

static int nack_held(void)
{
    enum job_state state;
    const uint64_t delay_ms = LEASE_MS;
    const struct slice error = text("no luck");
    return queue_nack(queues, held.id, held.lease, &delay_ms, &error, &state);
}

static int extend_held(void)
{
    uint64_t due_at_ms;
    return queue_extend(queues, held.id, held.lease, LEASE_MS + 1, &due_at_ms);
}

static int bury_held(void)
{
    return queue_bury(queues, held.id, held.lease, NULL);
}

static int ack_held(void)
{
    return queue_ack(queues, held.id, held.lease);
}

static int kick_all(void)
{
    uint64_t kicked;
    return queue_kick(queues, text("q"), 0, 10, &kicked);
}

static int purge_ready(void)
{
    uint64_t removed;
    return queue_purge(queues, text("q"), JOB_READY, &removed);
}

/* In a transaction of its own, as a request. */
static int in_transaction(int (*run)(void), long at, enum fault kind)
{
    handed = (struct job){0};
    begin();
    faults.left = at;
    faults.kind = kind;
    faults.fired = false;
    int rc = run();
    faults.left = 0;
    if (rc == 0)
        end();
    else
        cancel();
    return rc;
}

/* Every call of the engine fails once, until one is behind the last. */
static void try_each(int (*run)(void), enum fault kind)
{
    char before[DESCRIPTION];
    char after[DESCRIPTION];
    int expected = kind == FAULT_FULL ? STORE_FULL : STORE_NO_MEMORY;
    turn_end();
    describe(before);
    for (long at = 1;; at++) {
        int rc = in_transaction(run, at, kind);
        if (!faults.fired) {
            ok(rc);
            break;
        }
        cr_assert_eq(rc, expected, "call %ld: %d", at, rc);
        describe(after);
        cr_assert_str_eq(after, before, "call %ld", at);
        turn_end();
    }
    turn_end();
}

static void try_operations(enum fault kind, const char *body)
{
    for (int i = 0; i < 6; i++)
        push("q", body);
    try_each(push_one, kind);
    try_each(push_to_a_new_queue, kind);
    try_each(take_one, kind);
    held = handed;
    cr_assert_neq(held.lease, 0);
    try_each(extend_held, kind);
    try_each(nack_held, kind);
    try_each(take_one, kind);
    held = handed;
    try_each(bury_held, kind);
    try_each(kick_all, kind);
    try_each(take_one, kind);
    held = handed;
    try_each(ack_held, kind);
    try_each(pop_one, kind);
    try_each(purge_ready, kind);
}

/* Leases, delays and ttls that end, and what the purge left: tried again after a while. */
static void try_expiry(enum fault kind, const char *body)
{
    char before[DESCRIPTION];
    char after[DESCRIPTION];
    bool more;
    push("q", body);
    take_for("q", LEASE_MS);
    push_with("q", body, (struct push_options){.delay_ms = LEASE_MS});
    push_with("q", body, (struct push_options){.ttl_given = true, .ttl_ms = LEASE_MS});
    turn_end();
    uint64_t expired = stats_of("q").expired;
    now_ms += LEASE_MS;
    describe(before);
    for (long at = 1;; at++) {
        faults = (struct faults){.inner = faults.inner, .left = at, .kind = kind};
        int rc = queues_expire(queues, now_ms, &more);
        faults.left = 0;
        if (!faults.fired) {
            ok(rc);
            break;
        }
        cr_assert_neq(rc, 0, "call %ld", at);
        describe(after);
        cr_assert_str_eq(after, before, "call %ld", at);
        cr_assert_leq(queues_next_due(queues), now_ms + RETRY_MS);
        now_ms += RETRY_MS;
        turn_end();
    }
    turn_end();
    cr_assert_eq(count_of("q", JOB_LEASED), 0);
    cr_assert_eq(stats_of("q").expired, expired + 1);
}

ParameterizedTestParameters(full, leaves_everything_as_it_was_on_each_engine)
{
    static int numbers[ENGINES] = {0, 1, 2};
    return cr_make_param_array(int, numbers, ENGINES);
}

ParameterizedTest(const int *number, full, leaves_everything_as_it_was_on_each_engine,
                  .init = setup, .fini = teardown)
{
    faults.inner = engines[*number];
    open_all();
    static const enum fault kinds[] = {FAULT_FULL, FAULT_NO_MEMORY};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        try_operations(kinds[i], "job");
        try_expiry(kinds[i], "job");
        try_operations(kinds[i], large("job"));
        try_expiry(kinds[i], large("job"));
    }
    close_all();
}

/* What else is in that turn is requests for keys, which are not to fail for it. */
Test(full, a_turn_without_queues_goes_well_where_no_more_ids_can_be_reserved, .init = setup,
     .fini = teardown)
{
    uint64_t id;
    faults.inner = &engine_memory;
    open_all();
    while (!ids_run_short(queues))
        ok(ids_take(queues, &id));
    faults = (struct faults){.inner = faults.inner, .left = 1, .kind = FAULT_FULL};
    turn_end();
    cr_assert(faults.fired);
    cr_assert_eq(queues->ids_written, 0);
    turn_end();
    cr_assert_neq(queues->ids_written, 0);
    push("q", "a");
    turn_end();
    cr_assert(!ids_run_short(queues));
    close_all();
}
