/* Restarts, clean and not: what is kept, what is forgotten, and that ids never come again. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <ftw.h>
#include <sys/wait.h>
#include <unistd.h>

#include "queue/internal.h"
#include "tests/queue/fixture.h"

enum { MAX_DIRECTORY = 64, ENGINES = 3 };

static char directory[MAX_DIRECTORY];
static const char engines[ENGINES][8] = {"memory", "lmdb", "rocksdb"};

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/cubby-restart-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    fixture_directory = directory;
    now_ms = 1000000;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void teardown(void)
{
    enum { OPEN_FILES = 8 };
    ok(nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS));
}

TestSuite(restart, .init = setup, .fini = teardown);

#define ON_EACH_ENGINE(name)                                                                       \
    ParameterizedTestParameters(restart, name)                                                     \
    {                                                                                              \
        return cr_make_param_array(const char[8], (void *)engines, ENGINES);                       \
    }                                                                                              \
    ParameterizedTest(const char *engine, restart, name)

/* Every state there is, in words. */
static void describe(char *out, size_t size)
{
    static const char *const names[] = {"q", "paused"};
    uint8_t place[QUEUE_PLACE_SIZE];
    size_t at = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct queue_stats stats = stats_of(names[i]);
        struct queue_settings settings = settings_of(names[i]);
        at += (size_t)snprintf(out + at, size - at, "%s %lu %lu %lu %lu %lu %lu\n", names[i],
                               stats.pushed, stats.acked, stats.expired, stats.oldest_ready_ms,
                               stats.paused_until_ms, settings.max_length);
        for (enum job_state state = 0; state < JOB_STATES; state++) {
            struct slice after = {0};
            struct job job;
            while (queue_peek(queues, text(names[i]), state, after, &job) == 0) {
                at += (size_t)snprintf(
                    out + at, size - at, "%d %lu %lu %lu %lu %lu %lu %.*s %.*s %.*s\n", job.state,
                    job.id, job.priority, job.deliveries, job.pushed_at_ms, job.due_at_ms,
                    job.expires_at_ms, (int)job.body.size, (const char *)job.body.data,
                    (int)job.error.size, (const char *)job.error.data, (int)job.dedup.size,
                    (const char *)job.dedup.data);
                queue_place(&job, place);
                after = slice_of(place, sizeof place);
            }
        }
    }
    cr_assert_lt(at, size);
}

/* Jobs in every state, in two queues; the lease is that of the leased one. */
static struct job fill(void)
{
    struct queue_settings settings = defaults;
    settings.max_length = 77;
    configure("q", settings);
    push("paused", "p");
    pause_until("paused", now_ms + 100000);
    push("q", "gone");
    struct job job = take("q");
    ok(ack(job.id, job.lease));
    push("q", "failed");
    job = take("q");
    cr_assert_eq(nack_for(job.id, job.lease, 500, "no luck"), JOB_DELAYED);
    push("q", large("dead"));
    job = take("q");
    ok(bury(job.id, job.lease));
    push("q", large("leased"));
    job = take("q");
    push_with("q", "low", (struct push_options){.priority = 9, .dedup = text("bid")});
    push_with("q", "ready", (struct push_options){.ttl_given = true, .ttl_ms = 900});
    return job;
}

ON_EACH_ENGINE(a_restart_cannot_be_seen)
{
    char before[4096];
    char after[4096];
    fixture_engine = engine;
    open_all();
    struct job leased = fill();
    uint64_t id = leased.id;
    uint64_t lease = leased.lease;
    turn_end();
    describe(before, sizeof before);
    close_all();
    open_all();
    describe(after, sizeof after);
    cr_assert_str_eq(after, before);
    uint64_t again = 0;
    bool duplicate = false;
    struct push_options options = {.dedup = text("bid")};
    begin();
    ok(queue_push(queues, text("q"), text("x"), &options, &again, &duplicate));
    end();
    cr_assert(duplicate);
    ok(ack(id, lease));
    wait_ms(500);
    cr_assert_eq(count_of("q", JOB_DELAYED), 0);
    wait_ms(400);
    cr_assert_eq(stats_of("q").expired, 1);
    close_all();
}

/* Runs it in a process of its own, which then is gone without a word. */
static void in_a_killed_process(void (*run)(int pipe_end), uint64_t *told)
{
    int ends[2];
    int status;
    ok(pipe(ends));
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        run(ends[1]);
        _exit(0);
    }
    cr_assert_eq(read(ends[0], told, sizeof *told), (ssize_t)sizeof *told);
    cr_assert_eq(waitpid(child, &status, 0), child);
    close(ends[0]);
    close(ends[1]);
}

static void tell(int pipe_end, uint64_t number)
{
    if (write(pipe_end, &number, sizeof number) != (ssize_t)sizeof number)
        _exit(1);
}

static void fill_and_die(int pipe_end)
{
    open_all();
    struct job leased = fill();
    turn_end();
    tell(pipe_end, leased.lease);
}

ON_EACH_ENGINE(what_was_committed_is_there_after_a_kill)
{
    uint64_t lease;
    struct job job;
    fixture_engine = engine;
    in_a_killed_process(fill_and_die, &lease);
    open_all();
    for (enum job_state state = 0; state < JOB_STATES; state++)
        cr_assert_eq(count_of("q", state), state == JOB_READY ? 2 : 1);
    ok(queue_peek(queues, text("q"), JOB_LEASED, (struct slice){0}, &job));
    ok(ack(job.id, lease));
    close_all();
}

static void take_and_forget(int pipe_end)
{
    open_all();
    push("q", "never committed");
    tell(pipe_end, take("q").lease);
}

ON_EACH_ENGINE(ids_that_a_crash_forgot_do_not_come_again)
{
    uint64_t highest = 0;
    fixture_engine = engine;
    for (int i = 0; i < 5; i++) {
        uint64_t told;
        in_a_killed_process(take_and_forget, &told);
        cr_assert_gt(told, highest);
        highest = told;
    }
    now_ms = 10; /* a clock that went back is no excuse */
    open_all();
    cr_assert_gt(push("q", "a"), highest);
    close_all();
}

Test(restart, ids_go_on_far_behind_in_another_epoch)
{
    uint64_t told;
    in_a_killed_process(take_and_forget, &told); /* durability none, and not stopped: a new epoch */
    open_all();
    cr_assert_gt(push("q", "a"), told + QUEUE_FOREIGN_BLOCKS * (UINT64_C(1) << 24) - (1 << 24));
    close_all();
}

Test(restart, ids_of_an_abandoned_turn_do_not_come_again)
{
    open_all();
    uint64_t id = push("q", "a");
    turn_abandon();
    cr_assert_gt(push("q", "a"), id);
    close_all();
}

Test(restart, ids_without_a_disk_go_on_behind_the_clock)
{
    fixture_directory = NULL;
    open_all();
    uint64_t id = push("q", "a");
    close_all();
    now_ms += 10;
    open_all();
    cr_assert_gt(push("q", "a"), id);
    close_all();
}

Test(restart, ids_stay_below_2_to_the_53rd_where_the_clock_is_far_ahead)
{
    static const uint64_t years[] = {UINT64_C(1) << 43, UINT64_C(1) << 45, UINT64_C(1) << 49};
    fixture_directory = NULL;
    for (size_t i = 0; i < sizeof years / sizeof years[0]; i++) {
        now_ms = years[i];
        open_all();
        cr_assert_lt(push("q", "a"), UINT64_C(1) << 53);
        close_all();
    }
}

/* Those of the next run. */
static void expect_ids_behind(uint64_t last)
{
    close_all();
    now_ms = 1000;
    open_all();
    cr_assert_gt(push("q", "a"), last);
    close_all();
}

Test(restart, ids_never_run_out_between_turns)
{
    enum { BLOCK = 1 << 24, TURN = 1 << 20 };
    uint64_t last = 0;
    uint64_t id;
    open_all();
    for (unsigned i = 0; i < 3 * BLOCK / TURN; i++) {
        push("q", "a");
        for (unsigned j = 0; j < TURN; j++) {
            ok(ids_take(queues, &id));
            cr_assert_gt(id, last);
            last = id;
        }
        turn_end();
    }
    expect_ids_behind(last);
}

/* What is cancelled leaves nothing in the turn, but the ids that it took are used up. */
Test(restart, ids_do_not_run_out_by_transactions_that_are_cancelled)
{
    enum { BLOCK = 1 << 24, TURN = 1 << 20 };
    uint64_t last = 0;
    uint64_t id;
    bool duplicate;
    open_all();
    for (unsigned i = 0; i < 3 * BLOCK / TURN; i++) {
        begin();
        ok(queue_push(queues, text("q"), text("a"), &(struct push_options){0}, &id, &duplicate));
        for (unsigned j = 0; j < TURN; j++)
            ok(ids_take(queues, &last));
        cancel();
        turn_end();
    }
    expect_ids_behind(last);
}

Test(restart, ids_that_are_not_reserved_are_not_given_out)
{
    enum { BLOCK = 1 << 24 };
    uint64_t id;
    int rc = 0;
    open_all();
    for (unsigned i = 0; rc == 0 && i < 2 * BLOCK; i++)
        rc = ids_take(queues, &id);
    cr_assert_eq(rc, STORE_FULL);
    close_all();
}

Test(restart, what_a_purge_left_is_emptied_after_a_restart_too)
{
    open_all();
    for (int i = 0; i < 100; i++)
        push("q", "a");
    purge("q", JOB_READY);
    turn_end();
    close_all();
    open_all();
    cr_assert_gt(entries_of(STORE_BODIES), 0);
    expire();
    cr_assert_eq(entries_of(STORE_BODIES), 0);
    close_all();
}
