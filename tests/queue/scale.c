/* Many jobs at once: no step is long, and nothing is walked that need not be. */
#include "store/engine.h"
#include "tests/queue/fixture.h"

enum { MANY = 100000 };

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
        uint64_t before = store_count(store, STORE_BODIES, text(""), (struct slice){0});
        ok(queues_expire(queues, now_ms, &more));
        cr_assert_leq(before - store_count(store, STORE_BODIES, text(""), (struct slice){0}),
                      QUEUE_MAX_EXPIRED);
        turn_end();
    }
    cr_assert_geq(steps, MANY / QUEUE_MAX_EXPIRED);
    cr_assert_eq(store_count(store, STORE_BODIES, text(""), (struct slice){0}), 0);
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
    cr_assert_eq(count_of("q", JOB_DEAD), QUEUE_MAX_EXPIRED);
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
