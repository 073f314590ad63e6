#include <stdio.h>

#include "tests/bindings/cubbyd.h"
#include "tests/bindings/peer.h"

#include <criterion/criterion.h>

/* The queues' functions against the real daemon. */

static struct cubbyd cubbyd;
static struct cubby *cubby;
static struct cubby_bytes queue;

static void start(bool keeps)
{
    cubbyd_start(&cubbyd, keeps);
    cubby = cubbyd_client(&cubbyd);
    queue = cubby_text("q");
}

static void start_without_data(void)
{
    start(false);
}

static void start_with_data(void)
{
    start(true);
}

static void stop(void)
{
    cubby_close(&cubby);
    cubbyd_stop(&cubbyd);
    cubbyd_remove(&cubbyd);
}

TestSuite(volatile_queues, .init = start_without_data, .fini = stop);
TestSuite(durable_queues, .init = start_with_data, .fini = stop);

static uint64_t push(const char *body, const struct cubby_push_options *options)
{
    struct cubby_pushed pushed;
    struct cubby_bytes bytes = cubby_data(body, 1);
    cr_assert_eq(cubby_queue_push(cubby, queue, bytes, &pushed, options), CUBBY_OK, "%s",
                 cubby_last_error(cubby)->message);
    return pushed.id;
}

/* The one job that is there. */
static struct cubby_job reserve(uint64_t lease_ms, int64_t wait_ms)
{
    const struct cubby_reserve_options options = {.lease_ms = lease_ms, .wait_ms = wait_ms};
    struct cubby_jobs *jobs;
    cr_assert_eq(cubby_queue_reserve(cubby, &queue, 1, &jobs, &options), CUBBY_OK);
    cr_assert_eq(jobs->count, 1);
    struct cubby_job job = jobs->jobs[0];
    job.queue = job.body = cubby_data(NULL, 0);
    cubby_jobs_free(&jobs);
    return job;
}

Test(volatile_queues, jobs_come_by_priority_and_then_in_order)
{
    const struct cubby_push_options later = {.priority = 9};
    const struct cubby_reserve_options all = {.count = 10};
    struct cubby_jobs *jobs;
    push("\x01", &later);
    push("\x02", NULL);
    push("\x03", NULL);
    cr_assert_eq(cubby_queue_reserve(cubby, &queue, 1, &jobs, &all), CUBBY_OK);
    cr_assert_eq(jobs->count, 3);
    const char order[] = {2, 3, 1};
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(*(const char *)jobs->jobs[i].body.data, order[i]);
    cubby_jobs_free(&jobs);
}

Test(volatile_queues, a_push_with_a_name_is_done_once)
{
    const struct cubby_push_options named = {.id = cubby_text("me")};
    struct cubby_pushed pushed;
    uint64_t id = push("\x01", &named);
    cr_assert_eq(cubby_queue_push(cubby, queue, cubby_data("\x02", 1), &pushed, &named), CUBBY_OK);
    cr_assert(pushed.duplicate);
    cr_assert_eq(pushed.id, id);
}

Test(volatile_queues, a_job_that_fails_comes_again_until_it_is_dead_and_is_kicked)
{
    const struct cubby_configure_options twice = {
        .set = CUBBY_SET_MAX_DELIVERIES | CUBBY_SET_RETRY_DELAY | CUBBY_SET_TTL,
        .to = {.max_deliveries = 2, .retry_delay_ms = 0, .ttl_ms = CUBBY_NO_TTL}};
    const struct cubby_nack_options why = {.error = cubby_text("why")};
    const struct cubby_peek_options dead = {.state = CUBBY_JOB_DEAD};
    struct cubby_queue_settings settings;
    struct cubby_job_page *page;
    enum cubby_job_state state;
    uint64_t kicked;
    cr_assert_eq(cubby_queue_configure(cubby, queue, &settings, &twice), CUBBY_OK);
    cr_assert(settings.max_deliveries == 2 && settings.lease_ms == 30000);
    uint64_t id = push("\x01", NULL);
    struct cubby_job job = reserve(0, 0);
    cr_assert_eq(cubby_queue_nack(cubby, id, job.lease, &state, &why), CUBBY_OK);
    cr_assert_eq(state, CUBBY_JOB_READY);
    cr_assert_eq(cubby_queue_nack(cubby, id, job.lease, &state, &why), CUBBY_STALE_LEASE);
    job = reserve(0, 0);
    cr_assert_eq(job.deliveries, 2);
    cr_assert_eq(cubby_queue_nack(cubby, id, job.lease, &state, NULL), CUBBY_OK);
    cr_assert_eq(state, CUBBY_JOB_DEAD);
    cr_assert_eq(cubby_queue_peek(cubby, queue, &page, &dead), CUBBY_OK);
    cr_assert_eq(page->count, 1);
    cr_assert_eq(page->rows[0].error.size, 3);
    const struct cubby_peek_options behind = {.state = CUBBY_JOB_DEAD, .after = page->rows[0].at};
    struct cubby_job_page *next;
    cr_assert_eq(cubby_queue_peek(cubby, queue, &next, &behind), CUBBY_OK);
    cr_assert_eq(next->count, 0);
    cubby_job_page_free(&next);
    cubby_job_page_free(&page);
    cr_assert_eq(cubby_queue_kick(cubby, queue, &kicked, NULL), CUBBY_OK);
    cr_assert_eq(kicked, 1);
    job = reserve(0, 0);
    cr_assert_eq(cubby_queue_bury(cubby, id, job.lease, cubby_text("bad"), NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_job(cubby, id, &page, NULL), CUBBY_OK);
    cr_assert_eq(page->rows[0].state, CUBBY_JOB_DEAD);
    cubby_job_page_free(&page);
}

Test(volatile_queues, a_lease_is_extended_and_one_that_ran_out_is_somebody_elses)
{
    uint64_t due_at_ms;
    uint64_t id = push("\x01", NULL);
    struct cubby_job first = reserve(100, 0);
    cr_assert_eq(cubby_queue_extend(cubby, id, first.lease, 50, &due_at_ms, NULL), CUBBY_OK);
    cr_assert_gt(due_at_ms, first.pushed_at_ms);
    struct cubby_job second = reserve(60000, CUBBYD_TIMEOUT_MS);
    cr_assert_eq(second.id, id);
    cr_assert_eq(second.deliveries, 2);
    cr_assert_eq(cubby_queue_ack(cubby, id, first.lease, NULL), CUBBY_STALE_LEASE);
    cr_assert_eq(cubby_queue_ack(cubby, id, second.lease, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_ack(cubby, id, second.lease, NULL), CUBBY_NOT_FOUND);
}

Test(volatile_queues, a_batch_acknowledges_and_writes_all_or_nothing)
{
    struct cubby_batch *batch = cubby_batch_new();
    struct cubby_value value;
    uint64_t id = push("\x01", NULL);
    struct cubby_job job = reserve(0, 0);
    cubby_batch_put(batch, cubby_text("result"), cubby_data("\x07", 1), NULL);
    cubby_batch_queue_ack(batch, id, job.lease + 1);
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_STALE_LEASE);
    cr_assert_eq(cubby_last_error(cubby)->index, 1);
    cubby_batch_clear(batch);
    cubby_batch_put(batch, cubby_text("result"), cubby_data("\x07", 1), NULL);
    cubby_batch_queue_ack(batch, id, job.lease);
    size_t pushed = cubby_batch_queue_push(batch, queue, cubby_data("\x02", 1), NULL);
    size_t taken = cubby_batch_queue_reserve(batch, &queue, 1, NULL);
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_OK, "%s",
                 cubby_last_error(cubby)->message);
    struct cubby_pushed next;
    struct cubby_jobs *jobs;
    cr_assert_eq(cubby_read_pushed(cubby_batch_result(batch, pushed), &next), CUBBY_OK);
    cr_assert_eq(cubby_read_jobs(cubby_batch_result(batch, taken), &jobs), CUBBY_OK);
    cr_assert_eq(jobs->jobs[0].id, next.id);
    cubby_jobs_free(&jobs);
    cr_assert_eq(cubby_get(cubby, cubby_text("result"), &value, NULL), CUBBY_OK);
    cr_assert(value.exists);
    cubby_batch_free(&batch);
}

Test(volatile_queues, queues_are_counted_paused_purged_and_dropped)
{
    const struct cubby_push_options later = {.delay_ms = 60000};
    struct cubby_queue_counts counts;
    struct cubby_names *names;
    uint64_t removed;
    bool existed;
    push("\x01", NULL);
    uint64_t delayed = push("\x01", &later);
    cr_assert_eq(cubby_queue_pause(cubby, queue, CUBBY_FOREVER, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_stats(cubby, queue, &counts, NULL), CUBBY_OK, "%s",
                 cubby_last_error(cubby)->message);
    cr_assert(counts.ready == 1 && counts.delayed == 1 && counts.pushed == 2 && counts.paused);
    cr_assert(counts.has_oldest);
    cr_assert_eq(cubby_queue_resume(cubby, queue, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_delete(cubby, delayed, &existed, NULL), CUBBY_OK);
    cr_assert(existed);
    cr_assert_eq(cubby_queue_purge(cubby, queue, CUBBY_JOB_ANY, &removed, NULL), CUBBY_OK);
    cr_assert_eq(removed, 1);
    cr_assert_eq(cubby_queue_list(cubby, &names, NULL), CUBBY_OK);
    cr_assert_eq(names->count, 1);
    cubby_names_free(&names);
    cr_assert_eq(cubby_queue_drop(cubby, queue, &existed, NULL), CUBBY_OK);
    cr_assert(existed);
    cr_assert_eq(cubby_queue_stats(cubby, queue, &counts, NULL), CUBBY_NOT_FOUND);
}

struct outcome {
    unsigned calls;
    enum cubby_status status;
    size_t size;
};

static void note(void *context, const struct cubby_reply *reply)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->status = reply->status;
    outcome->size = reply->result.size;
}

Test(volatile_queues, a_wait_is_cancelled_and_answered_first)
{
    const struct cubby_reserve_options for_ever = {.wait_ms = CUBBY_FOREVER};
    struct outcome outcome = {0};
    uint64_t request;
    cr_assert_eq(cubby_send_queue_reserve(cubby, &queue, 1, note, &outcome, &request, &for_ever),
                 CUBBY_OK);
    cr_assert_eq(cubby_queue_cancel(cubby, request, NULL), CUBBY_OK);
    cr_assert_eq(outcome.calls, 1);
    cr_assert_eq(outcome.size, 1);
    cr_assert_eq(cubby_queue_cancel(cubby, request, NULL), CUBBY_NOT_FOUND);
}

Test(durable_queues, a_wait_after_a_restart_is_longer_than_its_parts)
{
    struct cubby *other = cubbyd_client(&cubbyd);
    const struct cubby_reserve_options wait = {.wait_ms = 2L * CUBBYD_TIMEOUT_MS};
    struct cubby_jobs *jobs;
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    const struct cubby_push_options soon = {.delay_ms = 6000}; /* longer than one part of a wait */
    cr_assert_eq(cubby_queue_push(other, queue, cubby_data("\x01", 1), NULL, &soon), CUBBY_OK);
    cr_assert_eq(cubby_queue_reserve(cubby, &queue, 1, &jobs, &wait), CUBBY_OK, "%s",
                 cubby_last_error(cubby)->message);
    cr_assert_eq(jobs->count, 1);
    cubby_jobs_free(&jobs);
    cubby_close(&other);
}

Test(durable_queues, leases_outlive_a_restart)
{
    uint64_t id = push("\x01", NULL);
    struct cubby_job job = reserve(60000, 0);
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    cr_assert_eq(cubby_queue_ack(cubby, id, job.lease, NULL), CUBBY_OK);
}
