/* Many jobs at once: no step is long, and nothing is walked that need not be. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <ftw.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "store/engine.h"
#include "tests/queue/fixture.h"

enum { MANY = 100000, LONG_MANY = 1000000 };

static void setup(void)
{
    now_ms = 1000000;
    open_all();
}

TestSuite(scale, .init = setup, .fini = close_all);

static void push_many(struct push_options options)
{
    uint64_t id;
    bool duplicate;
    for (int i = 0; i < MANY; i++) {
        if (i % 1000 == 0)
            begin();
        ok(queue_push(queues, text("q"), text("body"), &options, &id, &duplicate));
        if (i % 1000 == 999) {
            end();
            turn_end();
        }
    }
}

/* Carries out what is due, and says how many steps it took. */
static unsigned count_steps(enum job_state from)
{
    unsigned steps = 0;
    bool more = true;
    while (more) {
        uint64_t before = count_of("q", from);
        ok(queues_expire(queues, now_ms, &more));
        cr_assert_leq(before - count_of("q", from), QUEUE_MAX_EXPIRED);
        turn_end();
        steps++;
    }
    return steps;
}

Test(scale, delays_that_end_at_once_are_taken_in_steps)
{
    push_many((struct push_options){.delay_ms = 10});
    now_ms += 10;
    cr_assert_geq(count_steps(JOB_DELAYED), MANY / QUEUE_MAX_EXPIRED);
    cr_assert_eq(count_of("q", JOB_READY), MANY);
}

Test(scale, leases_that_run_out_at_once_are_taken_in_steps_and_keep_their_order)
{
    push_many((struct push_options){0});
    uint64_t first = 0;
    for (int i = 0; i < MANY; i++) {
        uint64_t id = take_for("q", 100).id;
        if (i == 0)
            first = id;
    }
    turn_end();
    cr_assert_eq(count_of("q", JOB_LEASED), MANY);
    now_ms += 100;
    cr_assert_geq(count_steps(JOB_LEASED), MANY / QUEUE_MAX_EXPIRED);
    cr_assert_eq(take("q").id, first);
}

Test(scale, a_purge_costs_the_same_however_many_jobs_there_are)
{
    push_many((struct push_options){0});
    cr_assert_eq(purge("q", JOB_READY), MANY);
    cr_assert_lt(store_pending(store), 2000);
    cr_assert_eq(take("q").id, 0);
    cr_assert_eq(queues_next_due(queues), 0);
    unsigned steps = 0;
    for (bool more = true; more; steps++) {
        uint64_t before = entries_of(STORE_BODIES);
        ok(queues_expire(queues, now_ms, &more));
        cr_assert_leq(before - entries_of(STORE_BODIES), QUEUE_MAX_EXPIRED);
        turn_end();
    }
    cr_assert_geq(steps, MANY / QUEUE_MAX_EXPIRED);
    cr_assert_eq(entries_of(STORE_BODIES), 0);
    cr_assert_gt(queues_next_due(queues), now_ms);
}

Test(scale, a_take_does_not_walk_all_jobs_that_a_lowered_limit_stops)
{
    struct queue_settings settings = defaults;
    struct job job;
    settings.max_deliveries = 0;
    settings.retry_delay_ms = 0;
    settings.lease_ms = 1;
    configure("q", settings);
    push_many((struct push_options){0});
    for (int i = 0; i < MANY; i++)
        take("q");
    wait_ms(1);
    settings.max_deliveries = 1;
    configure("q", settings);
    begin();
    cr_assert_eq(queue_take(queues, text("q"), false, 0, &job), STORE_NOT_FOUND);
    end();
    cr_assert_eq(count_of("q", JOB_DEAD), QUEUE_MAX_PASSED);
}

Test(scale, many_queues_are_found_by_name_and_told_apart)
{
    enum { QUEUES = 5000 };
    char name[32];
    for (int i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof name, "queue %d", i);
        push(name, name);
    }
    turn_end();
    expire();
    for (int i = QUEUES; i-- > 0;) {
        snprintf(name, sizeof name, "queue %d", i);
        struct job job = pop(name);
        cr_assert(body_is(&job, name));
        if (i % 2 == 0)
            cr_assert(drop(name));
    }
    turn_end();
    expire();
    cr_assert_eq(stats_of("queue 1").acked, 1);
}

/* A queue from whose head all is taken, on each engine: an LSM tree keeps what was deleted. */

enum { TURN = 1000, PARTS = 20 };

static char directory[64];

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void setup_on_disk(void)
{
    snprintf(directory, sizeof directory, "/tmp/cubby-scale-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    fixture_directory = directory;
    now_ms = 1000000;
}

static void remove_directory(void)
{
    enum { OPEN_FILES = 8 };
    ok(nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS));
}

/* Of the thread alone: neither of others on the machine nor of those of engine and log. */
static double cpu_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

/* Pops so many, a turn for each thousand; the time for each, in microseconds. */
static double pop_many(int count)
{
    double begun = cpu_us();
    for (int i = 1; i <= count; i++) {
        struct job job;
        store_begin(store, now_ms);
        int rc = queue_take(queues, text("q"), true, 0, &job);
        if (rc != 0)
            cr_assert_eq(rc, 0, "pop %d: %d", i, rc);
        end();
        if (i % TURN == 0) {
            turn_end();
            store_poll(store);
        }
    }
    turn_end();
    return (cpu_us() - begun) / count;
}

/* The time that a start needs to find the head, behind everything that was deleted before it. */
static double first_pop_after_restart(void)
{
    close_all();
    open_all();
    double begun = cpu_us();
    cr_assert_neq(pop("q").id, 0);
    turn_end();
    return cpu_us() - begun;
}

ParameterizedTestParameters(scale_on_disk, the_head_is_as_near_after_all_pops_as_before)
{
    static const char engines[][8] = {"memory", "lmdb", "rocksdb"};
    return cr_make_param_array(const char[8], (void *)engines, sizeof engines / sizeof engines[0]);
}

ParameterizedTest(const char *engine, scale_on_disk, the_head_is_as_near_after_all_pops_as_before,
                  .init = setup_on_disk, .fini = remove_directory)
{
    int many = getenv("CUBBY_LONG") != NULL ? LONG_MANY : MANY;
    int part = many / PARTS;
    double each[PARTS];
    fixture_engine = engine;
    open_all();
    for (int pushed = 0; pushed < many; pushed += MANY)
        push_many((struct push_options){0});
    for (int i = 0; i < PARTS; i++)
        each[i] = pop_many(part - (i == PARTS - 1));
    double restarted_us = first_pop_after_restart();
    double least = each[0];
    double most = each[0];
    for (int i = 1; i < PARTS; i++) {
        least = each[i] < least ? each[i] : least;
        most = each[i] > most ? each[i] : most;
    }
    cr_log_info("%s, %d jobs: %.2f us for a pop at the beginning, %.2f at the end, %.2f to %.2f in "
                "between; %.0f us for the first after a restart",
                engine, many, each[0], each[PARTS - 1], least, most, restarted_us);
    cr_assert_lt(each[PARTS - 1], 4 * each[0] + 20, "%s: %.2f us, and %.2f at the beginning",
                 engine, each[PARTS - 1], each[0]);
    cr_assert_eq(count_of("q", JOB_READY), 0);
    close_all();
}
