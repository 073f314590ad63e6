#include <signal.h>
#include <stdio.h>

#include "tests/bindings/cubbyd.h"

#include <criterion/criterion.h>

/* libcubby against the real daemon. */

static struct cubbyd cubbyd;
static struct cubby *cubby;

static void start_without_data(void)
{
    cubbyd_start(&cubbyd, false);
    cubby = cubbyd_client(&cubbyd);
}

static void start_with_data(void)
{
    cubbyd_start(&cubbyd, true);
    cubby = cubbyd_client(&cubbyd);
}

static void stop(void)
{
    cubby_close(&cubby);
    cubbyd_stop(&cubbyd);
    cubbyd_remove(&cubbyd);
}

TestSuite(end_to_end, .init = start_without_data, .fini = stop);
TestSuite(durable, .init = start_with_data, .fini = stop);

static struct cubby_bytes number(uint8_t *room, uint8_t small)
{
    *room = small;
    return cubby_data(room, 1);
}

static struct cubby_bytes one(void)
{
    return cubby_data("\x01", 1);
}

static bool same(struct cubby_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

Test(end_to_end, a_value_is_stored_returned_and_deleted_byte_for_byte)
{
    const char value[] = "\x82\xa1\xff\xd4\x05\x00\xa1z\xca\x40\x00\x00\x00";
    struct cubby_bytes bytes = cubby_data(value, sizeof(value) - 1);
    struct cubby_value read;
    struct cubby_written written;
    struct cubby_deleted deleted;
    cr_assert_eq(cubby_put(cubby, cubby_text("k"), bytes, &written, NULL), CUBBY_OK);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), &read, NULL), CUBBY_OK);
    cr_assert(read.exists);
    cr_assert_eq(read.version, written.version);
    cr_assert(read.value.size == bytes.size && memcmp(read.value.data, value, bytes.size) == 0);
    const struct cubby_delete_options previous = {.previous = true};
    cr_assert_eq(cubby_delete(cubby, cubby_text("k"), &deleted, &previous), CUBBY_OK);
    cr_assert(deleted.existed && deleted.previous.exists);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), &read, NULL), CUBBY_OK);
    cr_assert_not(read.exists);
}

Test(end_to_end, conditions_that_fail_say_which_version_is_there)
{
    struct cubby_written written;
    const struct cubby_put_options absent = {.condition = CUBBY_IF_ABSENT};
    const struct cubby_put_options version = {.has_if_version = true, .if_version = 77};
    cr_assert_eq(cubby_put(cubby, cubby_text("k"), one(), &written, &absent), CUBBY_OK);
    cr_assert_eq(cubby_put(cubby, cubby_text("k"), one(), NULL, &absent), CUBBY_CONFLICT);
    cr_assert_eq(cubby_put(cubby, cubby_text("k"), one(), NULL, &version), CUBBY_CONFLICT);
    const struct cubby_error *error = cubby_last_error(cubby);
    cr_assert_str_eq(error->code, "conflict");
    cr_assert_eq(error->has & (CUBBY_HAS_KEY | CUBBY_HAS_VERSION),
                 CUBBY_HAS_KEY | CUBBY_HAS_VERSION);
    cr_assert(same(error->key, "k"));
    cr_assert_eq(error->version, written.version);
}

Test(end_to_end, increment_counts_from_initial_and_refuses_other_types)
{
    struct cubby_incremented sum;
    const struct cubby_increment_options from = {.initial = -10};
    cr_assert_eq(cubby_increment(cubby, cubby_text("n"), 3, &sum, &from), CUBBY_OK);
    cr_assert_eq(sum.value, -7);
    cr_assert_eq(cubby_increment(cubby, cubby_text("n"), INT64_MAX, &sum, NULL), CUBBY_OK);
    cr_assert_eq(cubby_increment(cubby, cubby_text("n"), 100, &sum, NULL), CUBBY_OK);
    cr_assert(sum.above_int64);
    cr_assert_eq((uint64_t)sum.value, (uint64_t)INT64_MAX + 93);
    cr_assert_eq(cubby_put(cubby, cubby_text("s"), cubby_data("\xa1x", 2), NULL, NULL), CUBBY_OK);
    cr_assert_eq(cubby_increment(cubby, cubby_text("s"), 1, NULL, NULL), CUBBY_WRONG_TYPE);
}

Test(end_to_end, touch_sets_and_clears_the_expiry)
{
    bool existed;
    struct cubby_value value;
    cr_assert_eq(cubby_touch(cubby, cubby_text("k"), 5000, &existed, NULL), CUBBY_OK);
    cr_assert_not(existed);
    cubby_put(cubby, cubby_text("k"), one(), NULL, NULL);
    cr_assert_eq(cubby_touch(cubby, cubby_text("k"), 1000000, &existed, NULL), CUBBY_OK);
    cr_assert(existed);
    cubby_get(cubby, cubby_text("k"), &value, NULL);
    cr_assert_gt(value.expires_at_ms, 0);
    cr_assert_eq(cubby_touch(cubby, cubby_text("k"), CUBBY_NO_TTL, &existed, NULL), CUBBY_OK);
    cubby_get(cubby, cubby_text("k"), &value, NULL);
    cr_assert_eq(value.expires_at_ms, 0);
}

Test(end_to_end, hello_and_stats_say_who_the_daemon_is)
{
    struct cubby_server server;
    struct cubby_bytes stats, pid;
    uint64_t number;
    cr_assert_eq(cubby_hello(cubby, cubby_text("test"), &server, NULL), CUBBY_OK);
    cr_assert_eq(server.protocol, 1);
    cr_assert_gt(server.epoch.size, 0);
    cr_assert_eq(server.max_key, 1024);
    cr_assert_eq(cubby_stats(cubby, &stats, NULL), CUBBY_OK);
    cr_assert(cubby_map_find(stats, "pid", &pid) && cubby_as_uint(pid, &number));
    cr_assert_eq((pid_t)number, cubbyd.pid);
}

Test(end_to_end, any_method_can_be_called_and_an_unknown_one_is_refused)
{
    struct cubby_bytes result;
    const struct cubby_bytes nothing = cubby_data(NULL, 0);
    cr_assert_eq(cubby_call(cubby, "count", nothing, &result, NULL), CUBBY_OK);
    cr_assert(result.size == 1 && *(const char *)result.data == 0);
    cr_assert_eq(cubby_call(cubby, "frobnicate", nothing, NULL, NULL), CUBBY_UNKNOWN_METHOD);
    cr_assert_eq(cubby_get(cubby, cubby_data("", 0), NULL, NULL), CUBBY_BAD_REQUEST);
    char key[1025] = {0};
    cr_assert_eq(cubby_get(cubby, cubby_data(key, sizeof(key)), NULL, NULL), CUBBY_TOO_LARGE);
    cr_assert_eq(cubby_last_error(cubby)->limit, 1024);
}

static void put_keys(const char *prefix, unsigned count)
{
    struct cubby_batch *batch = cubby_batch_new();
    char key[32];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "%s%05u", prefix, i);
        cubby_batch_put(batch, cubby_text(key), one(), NULL);
    }
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_OK);
    cubby_batch_free(&batch);
}

Test(end_to_end, a_range_is_read_page_by_page_counted_and_deleted)
{
    struct cubby_page *page, *last = NULL;
    struct cubby_range range = {.prefix = cubby_text("a:")};
    struct cubby_scan_options options = {.limit = 1000};
    unsigned pages = 0, entries = 0;
    put_keys("a:", 2500);
    put_keys("b:", 10);
    do {
        cr_assert_eq(cubby_scan(cubby, &range, &page, &options), CUBBY_OK);
        pages++;
        entries += (unsigned)page->count;
        options.after = page->next;
        cubby_page_free(&last);
        last = page;
    } while (last->more);
    cubby_page_free(&last);
    cr_assert_eq(pages, 3);
    cr_assert_eq(entries, 2500);
    uint64_t count;
    cr_assert_eq(cubby_count(cubby, &range, &count, NULL), CUBBY_OK);
    cr_assert_eq(count, 2500);
    struct cubby_range_deleted deleted;
    cr_assert_eq(cubby_delete_range(cubby, &range, &deleted, NULL), CUBBY_OK);
    cr_assert_eq(deleted.deleted, 1000);
    cr_assert(deleted.more);
    cr_assert_eq(cubby_delete_range(cubby, NULL, &deleted, NULL), CUBBY_BAD_REQUEST);
}

Test(end_to_end, a_batch_is_all_or_nothing)
{
    struct cubby_batch *batch = cubby_batch_new();
    struct cubby_incremented sum;
    struct cubby_value value;
    size_t at = cubby_batch_increment(batch, cubby_text("n"), 5, NULL);
    size_t get = cubby_batch_get(batch, cubby_text("n"));
    size_t absent = cubby_batch_get(batch, cubby_text("absent"));
    cubby_batch_guard(batch, cubby_text("n"), 0);
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_OK);
    cr_assert_eq(cubby_read_incremented(cubby_batch_result(batch, at), &sum), CUBBY_OK);
    cr_assert_eq(sum.value, 5);
    cr_assert_eq(cubby_read_value(cubby_batch_result(batch, get), &value), CUBBY_OK);
    cr_assert_eq(value.version, cubby_batch_seq(batch));
    cr_assert_eq(cubby_read_value(cubby_batch_result(batch, absent), &value), CUBBY_OK);
    cr_assert_not(value.exists);

    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_CONFLICT); /* the guard */
    cr_assert_eq(cubby_last_error(cubby)->has & CUBBY_HAS_GUARD, CUBBY_HAS_GUARD);
    cr_assert_null(cubby_batch_result(batch, at).data);

    cubby_batch_clear(batch);
    cubby_batch_put(batch, cubby_text("x"), one(), NULL);
    cubby_batch_put(batch, cubby_text("n"), one(),
                    &(struct cubby_put_options){.condition = CUBBY_IF_ABSENT});
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_CONFLICT);
    cr_assert_eq(cubby_last_error(cubby)->index, 1);
    cubby_get(cubby, cubby_text("x"), &value, NULL);
    cr_assert_not(value.exists);
    cubby_batch_free(&batch);
}

/* Versions come back in the order of the requests, each larger than the one before. */
struct pipeline {
    unsigned replies;
    uint64_t last_version;
};

static void on_put(void *context, const struct cubby_reply *reply)
{
    struct pipeline *pipeline = context;
    struct cubby_written written;
    cr_assert_eq(reply->status, CUBBY_OK);
    cr_assert_eq(cubby_read_written(reply->result, &written), CUBBY_OK);
    cr_assert_gt(written.version, pipeline->last_version);
    pipeline->last_version = written.version;
    pipeline->replies++;
}

Test(end_to_end, ten_thousand_pipelined_puts_are_answered_in_order)
{
    struct pipeline pipeline = {0};
    uint8_t room;
    char key[16];
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(key, sizeof(key), "%u", i % 100);
        cr_assert_eq(cubby_send_put(cubby, cubby_text(key), number(&room, (uint8_t)(i % 100)),
                                    on_put, &pipeline, NULL),
                     CUBBY_OK);
    }
    while (cubby_outstanding(cubby) > 0)
        cr_assert_geq(cubby_poll(cubby, CUBBY_FOREVER), 0);
    cr_assert_eq(pipeline.replies, 10000);
}

Test(end_to_end, a_daemon_that_stands_still_costs_a_timeout_and_no_more)
{
    const struct cubby_call_options soon = {.timeout_ms = 50};
    cr_assert_eq(cubby_ping(cubby, NULL), CUBBY_OK);
    kill(cubbyd.pid, SIGSTOP);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), NULL, &soon), CUBBY_TIMEOUT);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), NULL, &soon), CUBBY_TIMEOUT);
    kill(cubbyd.pid, SIGCONT);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), NULL, NULL), CUBBY_OK);
}

Test(durable, a_handle_outlives_its_daemon)
{
    struct cubby_value value;
    cr_assert_eq(cubby_put(cubby, cubby_text("k"), one(), NULL, NULL), CUBBY_OK);
    cubbyd_stop(&cubbyd);
    const struct cubby_call_options soon = {.timeout_ms = 50};
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), &value, &soon), CUBBY_TIMEOUT);
    cubbyd_restart(&cubbyd);
    cr_assert_eq(cubby_get(cubby, cubby_text("k"), &value, NULL), CUBBY_OK);
    cr_assert(value.exists);
}

/* ---- Changes -------------------------------------------------------------------------------- */

struct follower {
    uint64_t last_seq;
    uint32_t next_index;
    unsigned changes;
    unsigned resets;
};

/* Every transaction, every index, in order: all changes are ours to see. */
static void follow(void *context, const struct cubby_change *change)
{
    struct follower *follower = context;
    if (change->index == 0)
        cr_assert_eq(change->seq, follower->last_seq + 1);
    else
        cr_assert(change->seq == follower->last_seq && change->index == follower->next_index);
    follower->last_seq = change->seq;
    follower->next_index = change->index + 1;
    follower->changes++;
}

static void follow_reset(void *context, const struct cubby_reset *reset)
{
    struct follower *follower = context;
    follower->last_seq = reset->seq;
    follower->resets++;
}

static const struct cubby_subscriber following = {.on_change = follow, .on_reset = follow_reset};

static void wait_for(struct cubby *waiting, const struct follower *follower, uint64_t seq)
{
    for (int rounds = 0; follower->last_seq < seq; rounds++) {
        cr_assert_lt(rounds, 100000, "only up to %llu", (unsigned long long)follower->last_seq);
        cr_assert_geq(cubby_poll(waiting, 1000), 0);
    }
}

Test(durable, a_subscriber_misses_nothing_over_a_restart_of_the_daemon)
{
    struct follower follower = {0};
    const struct cubby_subscribe_options start = {.has_since = true};
    struct cubby *subscriber = cubbyd_client(&cubbyd);
    cr_assert_eq(cubby_subscribe(subscriber, cubby_text(""), &following, &follower, NULL, &start),
                 CUBBY_OK);
    for (unsigned i = 0; i < 5; i++) {
        put_keys("x", 100);
        cubby_increment(cubby, cubby_text("n"), 1, NULL, NULL);
        cubby_poll(subscriber, 0);
    }
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    put_keys("y", 100);
    cubby_increment(cubby, cubby_text("n"), 1, NULL, NULL);
    wait_for(subscriber, &follower, 12);
    cr_assert_eq(follower.changes, 606);
    cr_assert_eq(follower.resets, 0);
    cubby_close(&subscriber);
}

Test(end_to_end, a_subscriber_that_looks_away_during_a_flood_misses_nothing)
{
    struct follower follower = {0};
    struct pipeline pipeline = {0};
    struct cubby *subscriber = cubbyd_client(&cubbyd);
    const struct cubby_subscribe_options start = {.has_since = true};
    cubby_subscribe(subscriber, cubby_text(""), &following, &follower, NULL, &start);
    for (unsigned i = 0; i < 50000; i++)
        cubby_send_put(cubby, cubby_text("k"), one(), on_put, &pipeline, NULL);
    while (cubby_outstanding(cubby) > 0)
        cubby_poll(cubby, CUBBY_FOREVER);
    wait_for(subscriber, &follower, 50000);
    cr_assert_eq(follower.changes, 50000);
    cr_assert_eq(follower.resets, 0);
    cubby_close(&subscriber);
}

Test(end_to_end, a_daemon_that_forgot_everything_resets_its_subscribers)
{
    struct follower follower = {0};
    struct cubby_subscription *subscription;
    struct cubby *subscriber = cubbyd_client(&cubbyd);
    cubby_subscribe(subscriber, cubby_text(""), &following, &follower, &subscription, NULL);
    while (!cubby_subscription_position(subscription).live)
        cubby_poll(subscriber, 100);
    put_keys("x", 3);
    wait_for(subscriber, &follower, 1);
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    while (follower.resets == 0)
        cr_assert_geq(cubby_poll(subscriber, 1000), 0);
    follower.last_seq = cubby_subscription_position(subscription).seq;
    uint64_t next = follower.last_seq + 1;
    cubby_put(cubby, cubby_text("k"), one(), NULL, NULL);
    wait_for(subscriber, &follower, next);
    cr_assert_eq(follower.changes, 4);
    cubby_close(&subscriber);
}

Test(end_to_end, a_subscription_goes_on_from_the_position_of_another)
{
    struct follower first = {0}, second = {0};
    struct cubby_subscription *subscription;
    const struct cubby_subscribe_options start = {.has_since = true};
    put_keys("x", 1);
    put_keys("y", 2);
    cubby_subscribe(cubby, cubby_text(""), &following, &first, &subscription, &start);
    wait_for(cubby, &first, 2);
    struct cubby_position position = cubby_subscription_position(subscription);
    struct cubby *other = cubbyd_client(&cubbyd);
    const struct cubby_subscribe_options on = {
        .has_since = true, .since = position.seq, .epoch = position.epoch};
    second.last_seq = position.seq;
    cubby_subscribe(other, cubby_text(""), &following, &second, NULL, &on);
    put_keys("z", 4);
    wait_for(other, &second, 3);
    wait_for(cubby, &first, 3);
    cr_assert_eq(first.changes, 7);
    cr_assert_eq(second.changes, 4);
    cubby_close(&other);
}

Test(end_to_end, history_is_read_page_by_page)
{
    struct cubby_change_page *page;
    put_keys("x", 3);
    put_keys("y", 2);
    struct cubby_changes_options options = {.limit = 1};
    cr_assert_eq(cubby_changes(cubby, &page, &options), CUBBY_OK);
    cr_assert_eq(page->count, 3); /* a transaction is whole */
    cr_assert_eq(page->seq, 1);
    cr_assert_eq(page->changes[2].index, 2);
    cubby_changes_free(&page);
    options = (struct cubby_changes_options){.since = 99};
    cr_assert_eq(cubby_changes(cubby, &page, &options), CUBBY_COMPACTED);
    cr_assert_eq(cubby_last_error(cubby)->seq, 2);
}
