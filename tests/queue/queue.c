/* What each operation of queues does: a sentence for each rule. */
#include "tests/queue/fixture.h"

static void setup(void)
{
    now_ms = 1000000;
    open_all();
}

TestSuite(queue, .init = setup, .fini = close_all);

Test(queue, jobs_come_in_the_order_in_which_they_were_pushed)
{
    push("q", "a");
    push("q", "b");
    push("q", "c");
    struct job a = take("q");
    cr_assert(body_is(&a, "a"));
    struct job b = take("q");
    cr_assert(body_is(&b, "b"));
    struct job c = take("q");
    cr_assert(body_is(&c, "c"));
    cr_assert_eq(take("q").id, 0);
    cr_assert_lt(a.id, b.id);
    cr_assert_neq(a.lease, b.lease);
    cr_assert_eq(a.deliveries, 1);
    cr_assert_eq(a.pushed_at_ms, now_ms);
}

Test(queue, a_lower_priority_number_comes_first)
{
    push_with("q", "late", (struct push_options){.priority = UINT32_MAX});
    push_with("q", "mid", (struct push_options){.priority = 7});
    push("q", "first");
    struct job job = take("q");
    cr_assert(body_is(&job, "first"));
    job = take("q");
    cr_assert(body_is(&job, "mid"));
    job = take("q");
    cr_assert(body_is(&job, "late"));
}

Test(queue, an_acknowledged_job_is_gone)
{
    uint64_t id = push("q", "a");
    struct job job = take("q");
    cr_assert_eq(job.id, id);
    cr_assert_eq(ack(id, job.lease + 1), QUEUE_STALE_LEASE);
    cr_assert_eq(ack(id, 0), QUEUE_STALE_LEASE);
    cr_assert_eq(ack(id, job.lease), 0);
    cr_assert_eq(ack(id, job.lease), STORE_NOT_FOUND);
    cr_assert_eq(look(id).state, JOB_GONE);
    struct queue_stats stats = stats_of("q");
    cr_assert_eq(stats.pushed, 1);
    cr_assert_eq(stats.acked, 1);
    cr_assert_eq(stats.jobs[JOB_LEASED], 0);
}

Test(queue, a_lease_that_runs_out_makes_the_job_ready_in_its_own_place)
{
    push("q", "a");
    push("q", "b");
    take_for("q", 10);
    wait_ms(9);
    cr_assert_eq(count_of("q", JOB_LEASED), 1);
    wait_ms(1);
    struct job job = take("q");
    cr_assert(body_is(&job, "a"));
    cr_assert_eq(job.deliveries, 2);
}

Test(queue, what_comes_late_is_good_until_somebody_else_has_the_job)
{
    uint64_t id = push("q", "a");
    struct job first = take_for("q", 10);
    wait_ms(10);
    cr_assert_eq(look(id).state, JOB_READY);
    struct job second = take_for("q", 10);
    cr_assert_eq(second.id, id);
    cr_assert_eq(ack(id, first.lease), QUEUE_STALE_LEASE);
    cr_assert_eq(nack(id, first.lease), -QUEUE_STALE_LEASE);
    cr_assert_eq(bury(id, first.lease), QUEUE_STALE_LEASE);
    cr_assert_eq(extend(id, first.lease, 10), QUEUE_STALE_LEASE);
    wait_ms(10);
    cr_assert_eq(ack(id, second.lease), 0);
}

Test(queue, a_delayed_job_is_ready_when_it_is_due)
{
    push_with("q", "later", (struct push_options){.delay_ms = 50});
    push("q", "now");
    cr_assert_eq(queues_next_due(queues), 0); /* nobody has looked for leftovers */
    expire();
    cr_assert_eq(queues_next_due(queues), now_ms + 50);
    struct job job = take("q");
    cr_assert(body_is(&job, "now"));
    cr_assert_eq(take("q").id, 0);
    wait_ms(50);
    job = take("q");
    cr_assert(body_is(&job, "later"));
}

Test(queue, a_popped_job_is_gone_at_once_and_its_body_is_there)
{
    uint64_t id = push("q", "a");
    struct job job = pop("q");
    cr_assert(body_is(&job, "a"));
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(stats_of("q").acked, 1);
}

Test(queue, the_last_delivery_allowed_leads_to_dead_and_a_kick_back_to_ready)
{
    struct queue_settings settings = defaults;
    settings.max_deliveries = 2;
    settings.retry_delay_ms = 0;
    configure("q", settings);
    uint64_t id = push("q", "a");
    struct job job = take("q");
    cr_assert_eq(nack_for(id, job.lease, 0, "broken"), JOB_READY);
    job = take("q");
    cr_assert_eq(nack(id, job.lease), JOB_DEAD);
    cr_assert_eq(ack(id, job.lease), QUEUE_STALE_LEASE);
    struct job dead = look(id);
    cr_assert(slice_equal(dead.error, text("broken")));
    cr_assert_eq(kick("q", 0, 10), 1);
    job = take("q");
    cr_assert_eq(job.deliveries, 1);
    cr_assert(slice_equal(job.error, text("broken")));
}

Test(queue, a_second_push_with_the_same_id_gives_the_first_job)
{
    struct push_options options = {.dedup = text("bname")};
    uint64_t id = push_with("q", "a", options);
    uint64_t again = 0;
    bool duplicate = false;
    begin();
    ok(queue_push(queues, text("q"), text("b"), &options, &again, &duplicate));
    end();
    cr_assert(duplicate);
    cr_assert_eq(again, id);
    cr_assert_eq(count_of("q", JOB_READY), 1);
    cr_assert_eq(stats_of("q").pushed, 1);
    struct job job = take("q");
    ok(ack(id, job.lease));
    wait_ms(QUEUE_DEFAULT_DEDUP_WINDOW_MS - 1);
    begin();
    ok(queue_push(queues, text("q"), text("b"), &options, &again, &duplicate));
    end();
    cr_assert(duplicate);
    wait_ms(1);
    cr_assert_neq(push_with("q", "c", options), id);
}

Test(queue, a_job_whose_ttl_is_over_is_never_delivered)
{
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 10});
    turn_end();
    now_ms += 10;
    cr_assert_eq(take("q").id, 0); /* though nobody has taken it away yet */
    expire();
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(stats_of("q").expired, 1);
}

Test(queue, max_length_counts_ready_delayed_and_leased_jobs)
{
    struct queue_settings settings = defaults;
    settings.max_length = 3;
    configure("q", settings);
    push("q", "a");
    push("q", "b");
    push_with("q", "c", (struct push_options){.delay_ms = 10});
    struct job job = take("q");
    cr_assert_eq(push_code("q", "d"), QUEUE_LIMIT);
    ok(bury(job.id, job.lease));
    cr_assert_eq(push_code("q", "d"), 0);
    cr_assert_eq(push_code("q", "e"), QUEUE_LIMIT);
}

Test(queue, nothing_is_delivered_while_a_queue_is_paused)
{
    push("q", "a");
    pause_until("q", now_ms + 10);
    cr_assert_eq(take("q").id, 0);
    cr_assert_eq(stats_of("q").paused_until_ms, now_ms + 10);
    wait_ms(10);
    cr_assert_eq(stats_of("q").paused_until_ms, 0);
    cr_assert_neq(take("q").id, 0);
}

Test(queue, a_purge_takes_all_jobs_of_a_state_and_a_drop_everything)
{
    push("q", "a");
    push("q", "b");
    push_with("q", "c", (struct push_options){.delay_ms = 10});
    struct job job = take("q");
    cr_assert_eq(purge("q", JOB_READY), 1);
    cr_assert_eq(purge("q", JOB_READY), 0);
    cr_assert_eq(take("q").id, 0);
    cr_assert_eq(count_of("q", JOB_DELAYED), 1);
    cr_assert(drop("q"));
    cr_assert(!drop("q"));
    cr_assert_eq(ack(job.id, job.lease), STORE_NOT_FOUND);
    expire();
    for (int table = STORE_JOBS; table <= STORE_DEDUP; table++)
        cr_assert_eq(entries_of(table), 0, "table %d", table);
}

Test(queue, peek_shows_jobs_in_order_page_by_page)
{
    struct job job;
    uint8_t place[QUEUE_PLACE_SIZE];
    uint64_t third = push_with("q", "c", (struct push_options){.priority = 1});
    uint64_t first = push("q", "a");
    uint64_t second = push("q", "b");
    ok(queue_peek(queues, text("q"), JOB_READY, (struct slice){0}, &job));
    cr_assert_eq(job.id, first);
    queue_place(&job, place);
    ok(queue_peek(queues, text("q"), JOB_READY, slice_of(place, sizeof place), &job));
    cr_assert_eq(job.id, second);
    queue_place(&job, place);
    ok(queue_peek(queues, text("q"), JOB_READY, slice_of(place, sizeof place), &job));
    cr_assert_eq(job.id, third);
    cr_assert_eq(job.lease, 0);
    queue_place(&job, place);
    cr_assert_eq(queue_peek(queues, text("q"), JOB_READY, slice_of(place, sizeof place), &job),
                 STORE_NOT_FOUND);
}

static void count_call(void *context, struct slice queue)
{
    cr_assert(slice_equal(queue, text("q")));
    ++*(unsigned *)context;
}

Test(queue, a_queue_is_announced_when_it_gets_ready_jobs_where_it_had_none)
{
    unsigned calls = 0;
    push("q", "a");
    push("q", "b");
    queues_awoken(queues, count_call, &calls);
    cr_assert_eq(calls, 1);
    push("q", "c");
    queues_awoken(queues, count_call, &calls);
    cr_assert_eq(calls, 1);
}

Test(queue, a_cancelled_transaction_leaves_no_trace)
{
    struct push_options options = {0};
    uint64_t id;
    bool duplicate;
    begin();
    ok(queue_push(queues, text("new"), text("a"), &options, &id, &duplicate));
    cancel();
    struct queue_stats stats;
    struct slice name;
    cr_assert_eq(queue_stats(queues, text("new"), &stats), STORE_NOT_FOUND);
    cr_assert_eq(queue_next_name(queues, text(""), &name), STORE_NOT_FOUND);
    push("q", "a");
    begin();
    struct job job;
    ok(queue_take(queues, text("q"), true, 0, &job));
    cancel();
    cr_assert_eq(count_of("q", JOB_READY), 1);
    cr_assert_eq(stats_of("q").acked, 0);
    job = take("q");
    cr_assert(body_is(&job, "a"));
}

Test(queue, a_job_that_could_not_be_delivered_is_as_if_it_had_not_been_taken)
{
    uint64_t id = push("q", "a");
    push("q", "b");
    struct job job = take("q");
    begin();
    ok(queue_give_back(queues, &job));
    end();
    job = take("q");
    cr_assert_eq(job.id, id);
    cr_assert_eq(job.deliveries, 1);
    ok(ack(id, job.lease));
    job = pop("q");
    begin();
    ok(queue_give_back(queues, &job));
    end();
    job = take("q");
    cr_assert(body_is(&job, "b"));
    cr_assert_eq(job.deliveries, 1);
    cr_assert_eq(stats_of("q").acked, 1);
}
