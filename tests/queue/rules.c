/*
 * The rules for failing, leases, producers' ids, ttls, limits and pauses, a sentence each; among
 * them what the tests of other queues ask (beanstalkd's of its server, late acknowledgements and
 * work in progress of NATS).
 */
#include "queue/record.h"
#include "tests/queue/fixture.h"

static void setup(void)
{
    now_ms = 1000000;
    open_all();
}

TestSuite(rules, .init = setup, .fini = close_all);

static struct queue_settings with_limit(uint64_t max_deliveries)
{
    struct queue_settings settings = defaults;
    settings.max_deliveries = max_deliveries;
    settings.retry_delay_ms = 0;
    return settings;
}

static bool is_duplicate(const char *queue, struct push_options options, uint64_t of)
{
    uint64_t id = 0;
    bool duplicate = false;
    begin();
    ok(queue_push(queues, text(queue), text("again"), &options, &id, &duplicate));
    if (duplicate)
        end();
    else
        cancel();
    cr_assert(!duplicate || id == of);
    return duplicate;
}

/* Failing. */

Test(rules, a_job_that_is_given_back_returns_to_its_own_place)
{
    uint64_t a = push("q", "a");
    uint64_t b = push("q", "b");
    struct job job = take("q");
    cr_assert_eq(nack_for(a, job.lease, 0, NULL), JOB_READY);
    cr_assert_eq(take("q").id, a);
    cr_assert_eq(take("q").id, b);
}

Test(rules, a_nack_waits_twice_as_long_each_time_but_not_more_than_five_minutes)
{
    uint64_t expected_ms = QUEUE_DEFAULT_RETRY_DELAY_MS;
    uint64_t id = push("q", "a");
    for (int delivery = 1; delivery < QUEUE_DEFAULT_MAX_DELIVERIES; delivery++) {
        struct job job = take("q");
        cr_assert_eq(job.id, id);
        cr_assert_eq(nack(id, job.lease), JOB_DELAYED);
        cr_assert_eq(look(id).due_at_ms, now_ms + expected_ms, "delivery %d", delivery);
        wait_ms(expected_ms);
        expected_ms = expected_ms * 2 < 300000 ? expected_ms * 2 : 300000;
    }
    cr_assert_eq(nack(id, take("q").lease), JOB_DEAD);
}

Test(rules, a_retry_delay_over_five_minutes_is_not_doubled)
{
    struct queue_settings settings = defaults;
    settings.retry_delay_ms = 400000;
    configure("q", settings);
    uint64_t id = push("q", "a");
    for (int delivery = 0; delivery < 3; delivery++) {
        cr_assert_eq(nack(id, take("q").lease), JOB_DELAYED);
        cr_assert_eq(look(id).due_at_ms, now_ms + 400000);
        wait_ms(400000);
    }
}

Test(rules, a_delay_that_a_nack_names_is_the_delay)
{
    uint64_t id = push("q", "a");
    cr_assert_eq(nack_for(id, take("q").lease, 77, NULL), JOB_DELAYED);
    cr_assert_eq(look(id).due_at_ms, now_ms + 77);
    wait_ms(76);
    cr_assert_eq(take("q").id, 0);
    wait_ms(1);
    cr_assert_eq(take("q").id, id);
}

Test(rules, without_a_limit_nothing_ever_goes_to_dead_by_itself)
{
    configure("q", with_limit(0));
    uint64_t id = push("q", "a");
    for (int i = 0; i < 100; i++)
        cr_assert_eq(nack(id, take("q").lease), JOB_READY);
    cr_assert_eq(look(id).deliveries, 100);
}

Test(rules, a_lease_that_runs_out_on_the_last_delivery_leads_to_dead)
{
    configure("q", with_limit(1));
    uint64_t id = push_with("q", "a", (struct push_options){.priority = 5});
    struct job job = take_for("q", 10);
    wait_ms(10);
    struct job dead = look(id);
    cr_assert_eq(dead.state, JOB_DEAD);
    cr_assert_eq(dead.deliveries, 1);
    cr_assert_eq(dead.priority, 5);
    cr_assert(body_is(&dead, "a"));
    cr_assert_eq(ack(id, job.lease), 0, "a late acknowledgement is good there too");
    cr_assert_eq(count_of("q", JOB_DEAD), 0);
}

Test(rules, a_late_extend_takes_a_job_back_from_dead_and_its_next_return_is_dead_again)
{
    configure("q", with_limit(1));
    uint64_t id = push("q", "a");
    struct job job = take_for("q", 10);
    wait_ms(10);
    cr_assert_eq(extend(id, job.lease, 20), 0);
    cr_assert_eq(look(id).state, JOB_LEASED);
    wait_ms(20);
    cr_assert_eq(look(id).state, JOB_DEAD);
    cr_assert_eq(extend(id, job.lease, 20), 0);
    cr_assert_eq(nack(id, job.lease), JOB_DEAD);
    cr_assert_eq(extend(id, job.lease, 20), QUEUE_STALE_LEASE);
}

Test(rules, a_reserve_that_meets_a_job_over_a_lowered_limit_takes_the_next_one)
{
    configure("q", with_limit(0));
    uint64_t a = push("q", "a");
    uint64_t b = push("q", "b");
    cr_assert_eq(nack(a, take("q").lease), JOB_READY);
    configure("q", with_limit(1));
    cr_assert_eq(look(a).state, JOB_READY, "nothing happens before");
    cr_assert_eq(take("q").id, b);
    cr_assert_eq(look(a).state, JOB_DEAD);
}

Test(rules, after_nack_bury_and_kick_a_lease_is_void)
{
    uint64_t id = push("q", "a");
    struct job job = take("q");
    cr_assert_eq(nack_for(id, job.lease, 0, NULL), JOB_READY);
    cr_assert_eq(ack(id, job.lease), QUEUE_STALE_LEASE);
    job = take("q");
    ok(bury(id, job.lease));
    cr_assert_eq(extend(id, job.lease, 10), QUEUE_STALE_LEASE);
    cr_assert_eq(kick("q", id, 0), 1);
    configure("q", with_limit(1));
    job = take_for("q", 10);
    wait_ms(10);
    cr_assert_eq(look(id).state, JOB_DEAD);
    cr_assert_eq(kick("q", id, 0), 1);
    cr_assert_eq(ack(id, job.lease), QUEUE_STALE_LEASE);
}

Test(rules, an_error_is_kept_until_it_is_replaced)
{
    char longest[QUEUE_MAX_ERROR + 2];
    memset(longest, 'e', sizeof longest);
    longest[QUEUE_MAX_ERROR] = '\0';
    uint64_t id = push("q", "a");
    cr_assert_null(look(id).error.data);
    cr_assert_eq(nack_for(id, take("q").lease, 0, longest), JOB_READY);
    cr_assert(slice_equal(look(id).error, text(longest)));
    cr_assert_eq(nack_for(id, take("q").lease, 0, NULL), JOB_READY);
    cr_assert(slice_equal(look(id).error, text(longest)));
    cr_assert_eq(nack_for(id, take("q").lease, 0, ""), JOB_READY);
    cr_assert_eq(look(id).error.size, 0);
    cr_assert_not_null(look(id).error.data);
    longest[QUEUE_MAX_ERROR] = 'e';
    struct slice over = slice_of(longest, QUEUE_MAX_ERROR + 1);
    struct job job = take("q");
    begin();
    cr_assert_eq(queue_bury(queues, id, job.lease, &over), STORE_INVALID);
    cancel();
}

/* Kicking. */

Test(rules, a_kick_clears_deliveries_and_ttl_and_keeps_the_error)
{
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 50});
    struct slice why = text("why");
    struct job job = take("q");
    begin();
    ok(queue_bury(queues, id, job.lease, &why));
    end();
    wait_ms(100);
    cr_assert_eq(look(id).state, JOB_DEAD, "the dead do not expire");
    cr_assert_eq(kick("q", 0, 1), 1);
    wait_ms(1000);
    job = look(id);
    cr_assert_eq(job.state, JOB_READY);
    cr_assert_eq(job.deliveries, 0);
    cr_assert_eq(job.expires_at_ms, 0);
    cr_assert(slice_equal(job.error, text("why")));
}

Test(rules, kicks_take_the_dead_in_order_and_the_named_job_where_it_is_dead_or_delayed)
{
    uint64_t low = push_with("q", "low", (struct push_options){.priority = 9});
    uint64_t high = push("q", "high");
    uint64_t delayed = push_with("q", "delayed", (struct push_options){.delay_ms = 1000});
    uint64_t other = push_with("other", "o", (struct push_options){.delay_ms = 1000});
    for (int i = 0; i < 2; i++) {
        struct job job = take("q");
        ok(bury(job.id, job.lease));
    }
    cr_assert_eq(kick("q", 0, 1), 1);
    cr_assert_eq(look(high).state, JOB_READY);
    cr_assert_eq(look(low).state, JOB_DEAD);
    cr_assert_eq(kick("q", delayed, 0), 1);
    cr_assert_eq(kick("q", delayed, 0), 0, "it is ready");
    cr_assert_eq(kick("q", other, 0), 0, "it is in another queue");
    cr_assert_eq(kick("q", other + 1000, 0), 0);
    cr_assert_eq(kick("q", 0, 10000), 1);
    struct job leased = take("q");
    cr_assert_eq(kick("q", leased.id, 0), 0);
    cr_assert_eq(kick("none", 0, 10), 0);
}

/* Leases. */

Test(rules, an_extension_counts_from_now)
{
    uint64_t id = push("q", "a");
    struct job job = take_for("q", 1000);
    wait_ms(500);
    ok(extend(id, job.lease, 100));
    cr_assert_eq(look(id).due_at_ms, now_ms + 100);
    wait_ms(100);
    cr_assert_eq(look(id).state, JOB_READY, "it may shorten the lease too");
}

Test(rules, work_in_progress_keeps_its_job_however_long_it_takes)
{
    uint64_t id = push("q", "a");
    struct job job = take_for("q", 10);
    for (int i = 0; i < 50; i++) {
        wait_ms(9);
        ok(extend(id, job.lease, 10));
        cr_assert_eq(take("q").id, 0);
    }
    cr_assert_eq(look(id).deliveries, 1);
    ok(ack(id, job.lease));
}

Test(rules, a_late_extend_takes_a_ready_job_back)
{
    uint64_t id = push("q", "a");
    struct job job = take_for("q", 10);
    wait_ms(15);
    ok(extend(id, job.lease, 10));
    cr_assert_eq(take("q").id, 0);
    cr_assert_eq(look(id).deliveries, 1);
    ok(ack(id, job.lease));
}

Test(rules, a_late_nack_and_a_late_bury_are_good)
{
    uint64_t id = push("q", "a");
    struct job job = take_for("q", 10);
    wait_ms(10);
    cr_assert_eq(nack_for(id, job.lease, 50, "late"), JOB_DELAYED);
    wait_ms(50);
    job = take_for("q", 10);
    wait_ms(10);
    ok(bury(id, job.lease));
    cr_assert_eq(look(id).state, JOB_DEAD);
}

Test(rules, a_token_of_one_job_is_no_token_of_another)
{
    uint64_t a = push("q", "a");
    uint64_t b = push("q", "b");
    struct job first = take("q");
    struct job second = take("q");
    cr_assert_eq(ack(b, first.lease), QUEUE_STALE_LEASE);
    cr_assert_eq(ack(a, second.lease), QUEUE_STALE_LEASE);
    cr_assert_eq(ack(a + 100000, first.lease), STORE_NOT_FOUND);
}

Test(rules, the_queues_own_lease_holds_for_new_leases_alone)
{
    struct queue_settings settings = defaults;
    settings.lease_ms = 50;
    uint64_t id = push("q", "a");
    take("q");
    configure("q", settings);
    cr_assert_eq(look(id).due_at_ms, now_ms + QUEUE_DEFAULT_LEASE_MS);
    push("q", "b");
    cr_assert_eq(take("q").due_at_ms, now_ms + 50);
}

/* Deleting. */

Test(rules, a_leased_job_is_not_deleted_and_any_other_is)
{
    uint64_t ready = push("q", "a");
    struct job job = take_for("q", 10);
    cr_assert_eq(delete (ready), -QUEUE_STALE_LEASE);
    wait_ms(10);
    cr_assert_eq(delete (ready), true);
    cr_assert_eq(delete (ready), false);
    cr_assert_eq(ack(ready, job.lease), STORE_NOT_FOUND);
    uint64_t delayed = push_with("q", "b", (struct push_options){.delay_ms = 10});
    cr_assert_eq(delete (delayed), true);
    uint64_t dead = push("q", "c");
    ok(bury(dead, take("q").lease));
    cr_assert_eq(delete (dead), true);
    cr_assert_eq(stats_of("q").acked, 0);
}

/* Producers' ids. */

Test(rules, a_producers_id_is_taken_while_its_job_exists_dead_included)
{
    struct push_options options = {.dedup = text("bx")};
    uint64_t id = push_with("q", "a", options);
    struct job job = take("q");
    cr_assert(is_duplicate("q", options, id));
    ok(bury(id, job.lease));
    wait_ms(QUEUE_DEFAULT_DEDUP_WINDOW_MS + 1);
    cr_assert(is_duplicate("q", options, id), "its window is over, but it is there");
    cr_assert_eq(delete (id), true);
    cr_assert(!is_duplicate("q", options, 0));
}

Test(rules, ack_delete_and_purge_do_not_end_a_window_and_a_drop_does)
{
    uint64_t id = push_with("q", "a", (struct push_options){.dedup = text("bx")});
    uint64_t second = push_with("q", "a", (struct push_options){.dedup = text("by")});
    uint64_t third = push_with("q", "a", (struct push_options){.dedup = text("bz")});
    ok(ack(id, take("q").lease));
    cr_assert_eq(delete (second), true);
    cr_assert_eq(purge("q", JOB_READY), 1);
    expire();
    cr_assert(is_duplicate("q", (struct push_options){.dedup = text("bx")}, id));
    cr_assert(is_duplicate("q", (struct push_options){.dedup = text("by")}, second));
    cr_assert(is_duplicate("q", (struct push_options){.dedup = text("bz")}, third));
    drop("q");
    cr_assert(!is_duplicate("q", (struct push_options){.dedup = text("bx")}, 0));
}

Test(rules, a_window_of_zero_lasts_as_long_as_the_job)
{
    struct queue_settings settings = defaults;
    struct push_options options = {.dedup = text("bx")};
    settings.dedup_window_ms = 0;
    configure("q", settings);
    uint64_t id = push_with("q", "a", options);
    cr_assert(is_duplicate("q", options, id));
    ok(ack(id, take("q").lease));
    cr_assert(!is_duplicate("q", options, 0));
}

Test(rules, a_producers_id_is_in_the_scope_of_its_queue_and_of_its_kind)
{
    uint64_t id = push_with("q", "a", (struct push_options){.dedup = text("b1")});
    cr_assert(!is_duplicate("q", (struct push_options){.dedup = text("i1")}, 0));
    cr_assert(!is_duplicate("q", (struct push_options){.dedup = text("b12")}, 0));
    cr_assert(!is_duplicate("p", (struct push_options){.dedup = text("b1")}, 0));
    cr_assert(is_duplicate("q", (struct push_options){.dedup = text("b1")}, id));
}

Test(rules, a_duplicate_is_found_before_a_queue_is_full)
{
    struct queue_settings settings = defaults;
    settings.max_length = 1;
    configure("q", settings);
    uint64_t id = push_with("q", "a", (struct push_options){.dedup = text("bx")});
    cr_assert(is_duplicate("q", (struct push_options){.dedup = text("bx")}, id));
    cr_assert_eq(push_code("q", "b"), QUEUE_LIMIT);
}

Test(rules, an_existing_window_keeps_its_length)
{
    struct queue_settings settings = defaults;
    struct push_options options = {.dedup = text("bx")};
    uint64_t id = push_with("q", "a", options);
    settings.dedup_window_ms = 10;
    configure("q", settings);
    ok(ack(id, take("q").lease));
    wait_ms(11);
    cr_assert(is_duplicate("q", options, id));
    wait_ms(QUEUE_DEFAULT_DEDUP_WINDOW_MS);
    cr_assert(!is_duplicate("q", options, 0));
}

/* Limits. */

Test(rules, in_a_batch_earlier_acknowledgements_make_room)
{
    struct queue_settings settings = defaults;
    struct push_options options = {0};
    uint64_t id;
    bool duplicate;
    settings.max_length = 1;
    configure("q", settings);
    push("q", "a");
    struct job job = take("q");
    begin();
    ok(queue_ack(queues, job.id, job.lease));
    ok(queue_push(queues, text("q"), text("b"), &options, &id, &duplicate));
    cr_assert_eq(queue_push(queues, text("q"), text("c"), &options, &id, &duplicate), QUEUE_LIMIT);
    end();
    cr_assert_eq(count_of("q", JOB_READY), 1);
}

Test(rules, the_length_is_checked_for_pushes_alone)
{
    struct queue_settings settings = defaults;
    uint64_t id = push("q", "a");
    ok(bury(id, take("q").lease));
    push("q", "b");
    settings.max_length = 1;
    configure("q", settings);
    cr_assert_eq(kick("q", 0, 1), 1);
    cr_assert_eq(count_of("q", JOB_READY), 2);
    cr_assert_eq(push_code("q", "c"), QUEUE_LIMIT);
}

Test(rules, names_ids_and_bodies_may_be_as_long_as_their_limits_and_no_longer)
{
    enum { MAX_BODY = 1 << 20 };
    static char body[MAX_BODY + 1];
    char name[QUEUE_MAX_NAME + 2];
    char dedup[QUEUE_MAX_DEDUP_ID + 2];
    memset(name, 'n', sizeof name);
    memset(dedup, 'b', sizeof dedup);
    memset(body, 'x', MAX_BODY);
    name[QUEUE_MAX_NAME] = dedup[QUEUE_MAX_DEDUP_ID] = '\0';
    struct push_options options = {.dedup = text(dedup), .priority = UINT32_MAX};
    uint64_t id = push_with(name, body, options);
    struct job job = take(name);
    cr_assert(body_is(&job, body));
    cr_assert_eq(job.priority, UINT32_MAX);
    cr_assert(is_duplicate(name, options, id));
    name[QUEUE_MAX_NAME] = 'n';
    bool duplicate;
    begin();
    cr_assert_eq(queue_push(queues, slice_of(name, QUEUE_MAX_NAME + 1), text("b"), &options, &id,
                            &duplicate),
                 STORE_INVALID);
    cr_assert_eq(queue_push(queues, slice_of(name, 0), text("b"), &options, &id, &duplicate),
                 STORE_INVALID);
    options.dedup.size++;
    cr_assert_eq(queue_push(queues, text("q"), text("b"), &options, &id, &duplicate),
                 STORE_INVALID);
    options = (struct push_options){.priority = UINT64_C(1) << 32};
    cr_assert_eq(queue_push(queues, text("q"), text("b"), &options, &id, &duplicate),
                 STORE_INVALID);
    cancel();
}

Test(rules, an_empty_body_is_a_body)
{
    push("q", "");
    struct job job = pop("q");
    cr_assert(body_is(&job, ""));
}

/* Takes it, fails it with the longest error, takes it again, and acknowledges it. */
static void walk_of(const char *body)
{
    char error[QUEUE_MAX_ERROR + 1];
    memset(error, 'e', QUEUE_MAX_ERROR);
    error[QUEUE_MAX_ERROR] = '\0';
    struct job job = take("q");
    cr_assert(body_is(&job, body));
    cr_assert_eq(nack_for(job.id, job.lease, 0, error), JOB_READY);
    job = look(job.id);
    cr_assert(body_is(&job, body));
    cr_assert(slice_equal(job.error, text(error)));
    job = take("q");
    cr_assert(body_is(&job, body));
    cr_assert_eq(job.deliveries, 2);
    ok(ack(job.id, job.lease));
    cr_assert_eq(entries_of(STORE_JOBS), 0);
    cr_assert_eq(entries_of(STORE_BODIES), 0);
}

Test(rules, a_small_job_is_one_entry_and_a_larger_one_has_its_body_apart)
{
    enum { HEAD = 64, SMALL = RECORD_MAX_WHOLE - HEAD };
    char body[SMALL + 2];
    memset(body, 'x', sizeof body);
    for (size_t size = SMALL; size <= SMALL + 1; size++) {
        body[SMALL] = 'x';
        body[size] = '\0';
        push("q", body);
        struct job job = take("q");
        cr_assert_eq(entries_of(STORE_JOBS), size > SMALL);
        ok(queue_give_back(queues, &job));
        walk_of(body);
    }
}

Test(rules, a_small_job_that_was_stored_in_two_entries_goes_on_as_such)
{
    uint8_t buffer[RECORD_NUMBER_SIZE];
    uint8_t copied[RECORD_MAX_WHOLE];
    struct slice value;
    struct slice key = record_id_key(buffer, push("q", "a"));
    ok(store_get(store, STORE_BODIES, key, &value));
    memcpy(copied, value.data, value.size);
    copied[0] = 1; /* the format of what is not whole */
    begin();
    ok(store_put(store, STORE_BODIES, key, slice_of(copied, value.size), text(""), STORE_QUIET));
    end();
    struct job job = take("q");
    cr_assert_eq(entries_of(STORE_JOBS), 1);
    ok(queue_give_back(queues, &job));
    walk_of("a");
}

Test(rules, the_longest_durations_do_not_overflow)
{
    static const uint64_t longest_ms = UINT64_C(1) << 48;
    uint64_t id = push_with(
        "q", "a",
        (struct push_options){.delay_ms = longest_ms, .ttl_given = true, .ttl_ms = longest_ms});
    cr_assert_eq(look(id).due_at_ms, now_ms + longest_ms);
    push("q", "b");
    cr_assert_eq(take_for("q", longest_ms).due_at_ms, now_ms + longest_ms);
    pause_until("q", QUEUE_FOREVER);
    expire();
    cr_assert_eq(queues_next_due(queues), now_ms + longest_ms);
}

/* Time to live. */

Test(rules, a_nack_behind_the_ttl_gives_expired_also_on_the_last_delivery)
{
    configure("q", with_limit(1));
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 10});
    struct job job = take("q");
    wait_ms(10);
    cr_assert_eq(look(id).state, JOB_LEASED, "a leased job is not removed");
    cr_assert_eq(nack(id, job.lease), JOB_EXPIRED);
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(stats_of("q").expired, 1);
}

Test(rules, a_job_acknowledged_behind_its_ttl_is_acknowledged)
{
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 10});
    struct job job = take("q");
    wait_ms(20);
    ok(ack(id, job.lease));
    cr_assert_eq(stats_of("q").expired, 0);
}

Test(rules, a_lease_that_runs_out_behind_the_ttl_removes_the_job)
{
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 10});
    struct job job = take_for("q", 20);
    wait_ms(20);
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(ack(id, job.lease), STORE_NOT_FOUND);
}

Test(rules, what_a_lapse_leads_to_is_as_of_when_it_happened)
{
    configure("q", with_limit(1));
    uint64_t id = push_with("q", "a", (struct push_options){.ttl_given = true, .ttl_ms = 30});
    take_for("q", 20);
    wait_ms(1000); /* in between the lease ran out, and then the ttl: it was dead by then */
    cr_assert_eq(look(id).state, JOB_DEAD);
}

Test(rules, a_delay_past_the_ttl_removes_the_job_undelivered)
{
    uint64_t id = push_with(
        "q", "a", (struct push_options){.delay_ms = 100, .ttl_given = true, .ttl_ms = 50});
    wait_ms(49);
    cr_assert_eq(look(id).state, JOB_DELAYED);
    wait_ms(1);
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(stats_of("q").expired, 1);
}

Test(rules, the_ttl_of_the_queue_is_for_jobs_without_one_of_their_own)
{
    struct queue_settings settings = defaults;
    uint64_t before = push("q", "before");
    settings.ttl_ms = 10;
    configure("q", settings);
    uint64_t id = push("q", "a");
    uint64_t forever =
        push_with("q", "b", (struct push_options){.ttl_given = true, .ttl_ms = QUEUE_FOREVER});
    wait_ms(10);
    cr_assert_eq(look(id).state, JOB_GONE);
    cr_assert_eq(look(forever).state, JOB_READY);
    cr_assert_eq(look(before).state, JOB_READY, "existing ttls stay");
}

/* Pauses. */

Test(rules, a_pause_without_an_end_lasts_until_it_is_resumed)
{
    uint64_t id = push("q", "a");
    pause_until("q", QUEUE_FOREVER);
    wait_ms(100000000);
    cr_assert_eq(take("q").id, 0);
    cr_assert_eq(stats_of("q").paused_until_ms, QUEUE_FOREVER);
    pause_until("q", now_ms);
    cr_assert_eq(take("q").id, id);
}

Test(rules, all_but_delivery_works_while_a_queue_is_paused)
{
    push("q", "a");
    struct job job = take("q");
    pause_until("q", QUEUE_FOREVER);
    ok(extend(job.id, job.lease, 100));
    cr_assert_eq(nack_for(job.id, job.lease, 0, NULL), JOB_READY);
    push("q", "b");
    cr_assert_eq(count_of("q", JOB_READY), 2);
    cr_assert_eq(pop("q").id, 0);
    cr_assert_eq(purge("q", JOB_READY), 2);
}

static void count_call(void *context, struct slice queue)
{
    (void)queue;
    ++*(unsigned *)context;
}

Test(rules, the_end_of_a_pause_is_announced_where_jobs_are_ready)
{
    unsigned calls = 0;
    push("q", "a");
    pause_until("q", now_ms + 10);
    pause_until("empty", now_ms + 10);
    expire();
    queues_awoken(queues, count_call, &calls);
    calls = 0;
    wait_ms(9);
    queues_awoken(queues, count_call, &calls);
    cr_assert_eq(calls, 0);
    cr_assert_eq(queues_next_due(queues), now_ms + 1);
    wait_ms(1);
    queues_awoken(queues, count_call, &calls);
    cr_assert_eq(calls, 1);
}

/* Looking. */

Test(rules, a_page_goes_on_behind_a_row_that_is_gone)
{
    uint8_t place[QUEUE_PLACE_SIZE];
    struct job job;
    uint64_t late = push_with("q", "late", (struct push_options){.delay_ms = 20});
    uint64_t soon = push_with("q", "soon", (struct push_options){.delay_ms = 10});
    ok(queue_peek(queues, text("q"), JOB_DELAYED, (struct slice){0}, &job));
    cr_assert_eq(job.id, soon);
    queue_place(&job, place);
    cr_assert_eq(delete (soon), true);
    ok(queue_peek(queues, text("q"), JOB_DELAYED, slice_of(place, sizeof place), &job));
    cr_assert_eq(job.id, late);
    cr_assert_eq(queue_peek(queues, text("q"), JOB_DELAYED, text("odd"), &job), STORE_INVALID);
    memset(place, 0xff, sizeof place);
    cr_assert_eq(queue_peek(queues, text("q"), JOB_DELAYED, slice_of(place, sizeof place), &job),
                 STORE_NOT_FOUND);
}

Test(rules, the_oldest_ready_job_is_found_whatever_its_priority)
{
    cr_assert_eq(push_code("q", "x"), 0);
    pop("q");
    cr_assert_eq(stats_of("q").oldest_ready_ms, QUEUE_FOREVER);
    uint64_t first_ms = now_ms;
    push_with("q", "low", (struct push_options){.priority = 9});
    wait_ms(10);
    push("q", "normal");
    wait_ms(10);
    push_with("q", "mid", (struct push_options){.priority = 3});
    cr_assert_eq(stats_of("q").oldest_ready_ms, first_ms);
    pop("q");
    pop("q");
    cr_assert_eq(stats_of("q").oldest_ready_ms, first_ms);
    pop("q");
    cr_assert_eq(stats_of("q").oldest_ready_ms, QUEUE_FOREVER);
}

Test(rules, a_queue_that_is_not_there_has_nothing)
{
    struct queue_stats stats;
    struct queue_settings settings;
    struct job job;
    cr_assert_eq(take("none").id, 0);
    cr_assert_eq(kick("none", 0, 1), 0);
    cr_assert_eq(purge("none", JOB_DEAD), 0);
    cr_assert(!drop("none"));
    cr_assert_eq(queue_peek(queues, text("none"), JOB_READY, (struct slice){0}, &job),
                 STORE_NOT_FOUND);
    cr_assert_eq(queue_stats(queues, text("none"), &stats), STORE_NOT_FOUND);
    cr_assert_eq(queue_settings(queues, text("none"), &settings), STORE_NOT_FOUND);
}

Test(rules, a_dropped_queue_begins_anew_under_its_name)
{
    struct queue_settings settings = defaults;
    settings.max_length = 1;
    configure("q", settings);
    push("q", "old");
    begin();
    bool existed;
    ok(queue_drop(queues, text("q"), &existed));
    struct push_options options = {0};
    uint64_t id;
    bool duplicate;
    ok(queue_push(queues, text("q"), text("new"), &options, &id, &duplicate));
    end();
    cr_assert_eq(settings_of("q").max_length, 0);
    cr_assert_eq(stats_of("q").pushed, 1);
    cr_assert_eq(take("q").id, id);
}

Test(rules, a_dropped_queue_is_back_where_its_turn_is_abandoned)
{
    uint64_t id = push("q", "a");
    turn_end();
    drop("q");
    push("q", "another");
    turn_abandon();
    cr_assert_eq(stats_of("q").pushed, 1);
    cr_assert_eq(take("q").id, id);
}
