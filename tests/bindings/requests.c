#include <poll.h>
#include <pthread.h>
#include <zmq.h>

#include "tests/bindings/peer.h"

#include <criterion/criterion.h>

/* What a callback was called with. */
struct outcome {
    unsigned calls;
    enum cubby_status status;
    uint64_t number; /* the result, where it is one */
};

static void note(void *context, const struct cubby_reply *reply)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->status = reply->status;
    outcome->number = 0;
    if (reply->status == CUBBY_OK)
        cubby_as_uint(reply->result, &outcome->number);
    else
        cr_assert_eq(reply->error->status, reply->status);
}

static struct cubby_bytes key(void)
{
    return cubby_text("key");
}

static struct cubby_bytes one(void)
{
    return cubby_data("\x01", 1);
}

static bool slice_is(struct slice bytes, const char *text)
{
    return slice_equal(bytes, slice_of_text(text));
}

Test(requests, a_reply_finds_its_callback)
{
    struct peer peer;
    struct outcome first = {0}, second = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cr_assert_eq(cubby_send_put(cubby, key(), one(), note, &first, NULL), CUBBY_OK);
    cr_assert_eq(cubby_send_get(cubby, key(), note, &second, NULL), CUBBY_OK);
    cr_assert_eq(cubby_outstanding(cubby), 2);
    peer_expect(&peer, cubby, WIRE_METHOD_PUT);
    uint64_t put = peer.request.msgid;
    cr_assert(slice_is(peer.request.args.key, "key"));
    cr_assert(slice_is(peer.request.args.value, "\x01"));
    peer_expect(&peer, cubby, WIRE_METHOD_GET);
    peer_answer(&peer, peer.request.msgid, "\x02", 1); /* out of order */
    peer_answer(&peer, put, "\x01", 1);
    peer_wait_for(cubby, &first.calls, 1);
    peer_wait_for(cubby, &second.calls, 1);
    cr_assert_eq(first.number, 1);
    cr_assert_eq(second.number, 2);
    cr_assert_eq(cubby_outstanding(cubby), 0);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, every_option_is_sent_as_the_protocol_names_it)
{
    struct peer peer;
    struct outcome outcome = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    struct cubby_put_options put = {.has_ttl = true,
                                    .ttl_ms = 1500,
                                    .has_if_version = true,
                                    .if_version = 9,
                                    .condition = CUBBY_IF_ABSENT,
                                    .previous = true};
    cubby_send_put(cubby, key(), one(), note, &outcome, &put);
    peer_expect(&peer, cubby, WIRE_METHOD_PUT);
    struct wire_args args = peer.request.args;
    cr_assert_eq(args.given,
                 WIRE_HAS_TTL | WIRE_HAS_IF_VERSION | WIRE_HAS_IF_EXISTS | WIRE_HAS_PREVIOUS);
    cr_assert_eq(args.ttl_ms, 1500);
    cr_assert_eq(args.if_version, 9);
    cr_assert_not(args.if_exists);
    cr_assert(args.previous);

    struct cubby_increment_options increment = {
        .initial = -4, .has_ttl = true, .ttl_ms = 7, .condition = CUBBY_IF_EXISTS};
    cubby_send_increment(cubby, key(), INT64_MIN, note, &outcome, &increment);
    peer_expect(&peer, cubby, WIRE_METHOD_INCREMENT);
    args = peer.request.args;
    cr_assert_eq(args.given, WIRE_HAS_INITIAL | WIRE_HAS_TTL | WIRE_HAS_IF_EXISTS);
    cr_assert(args.delta == INT64_MIN);
    cr_assert(args.initial == -4);
    cr_assert(args.if_exists);

    struct cubby_delete_options delete = {.has_if_version = true, .if_version = 0};
    cubby_send_delete(cubby, cubby_data("\xff", 1), note, &outcome, &delete);
    peer_expect(&peer, cubby, WIRE_METHOD_DELETE);
    args = peer.request.args;
    cr_assert_eq(args.given, WIRE_HAS_IF_VERSION);
    cr_assert(slice_is(args.key, "\xff"));
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, a_batch_carries_its_operations_and_guards)
{
    struct peer peer;
    struct outcome outcome = {0};
    enum wire_method method;
    struct wire_args args;
    struct wire_guard guard;
    struct cubby_range range = {.prefix = cubby_data("", 0)};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    struct cubby_batch *batch = cubby_batch_new();
    cr_assert_eq(cubby_batch_put(batch, key(), one(), NULL), 0);
    cr_assert_eq(cubby_batch_touch(batch, key(), CUBBY_NO_TTL), 1);
    cr_assert_eq(cubby_batch_scan(batch, &range, &(struct cubby_scan_options){.limit = 5}), 2);
    cr_assert_eq(cubby_batch_delete_range(batch, &range, NULL), 3);
    cr_assert_eq(cubby_batch_call(batch, "count", cubby_data(NULL, 0)), 4);
    cubby_batch_guard(batch, cubby_text("other"), 12);
    cr_assert_eq(cubby_send_batch(cubby, batch, note, &outcome, NULL), CUBBY_OK);
    cubby_batch_free(&batch);
    peer_expect(&peer, cubby, WIRE_METHOD_BATCH);
    struct wire_args *sent = &peer.request.args;
    cr_assert_eq(sent->operation_count, 5);
    const enum wire_method methods[] = {WIRE_METHOD_PUT, WIRE_METHOD_TOUCH, WIRE_METHOD_SCAN,
                                        WIRE_METHOD_DELETE_RANGE, WIRE_METHOD_COUNT};
    for (size_t i = 0; i < 5; i++) {
        enum wire_code code = wire_next_operation(&sent->operations, &method, &args, &peer.error);
        cr_assert_eq(code, WIRE_OK, "%s", peer.error.message);
        cr_assert_eq(method, methods[i]);
    }
    cr_assert_eq(sent->guard_count, 1);
    wire_next_guard(&sent->guards, &guard);
    cr_assert(slice_is(guard.key, "other"));
    cr_assert_eq(guard.version, 12);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, the_results_of_a_batch_are_read_by_index)
{
    struct cubby_batch *batch = cubby_batch_new();
    struct cubby_written written;
    const char *result = "\x82\xa3seq\x07\xa7results\x92\x07\xc3";
    cr_assert_eq(cubby_read_batch(cubby_text(result), batch), CUBBY_OK);
    cr_assert_eq(cubby_batch_seq(batch), 7);
    cr_assert_eq(cubby_read_written(cubby_batch_result(batch, 0), &written), CUBBY_OK);
    cr_assert_eq(written.version, 7);
    cr_assert_eq(cubby_batch_result(batch, 1).size, 1);
    cr_assert_null(cubby_batch_result(batch, 2).data);
    cubby_batch_clear(batch);
    cr_assert_null(cubby_batch_result(batch, 0).data);
    cubby_batch_free(&batch);
}

Test(requests, an_error_reply_comes_with_its_details)
{
    struct peer peer;
    struct outcome outcome = {0};
    struct wire_error error;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    peer_take(&peer, cubby);
    wire_fail_limit(&error, 1024, "bytes", "key");
    peer_fail(&peer, peer.request.msgid, &error);
    peer_wait_for(cubby, &outcome.calls, 1);
    cr_assert_eq(outcome.status, CUBBY_TOO_LARGE);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, what_is_no_reply_to_a_request_is_passed_over)
{
    struct peer peer;
    struct outcome outcome = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    peer_take(&peer, cubby);
    peer_send(&peer, "garbage", 7);
    peer_send(&peer, "", 0);
    peer_send(&peer, "\x94\x01\xc0\x93\xa1x\xa1y\x80\xc0", 10); /* an error with msgid nil */
    peer_send(&peer, "\x93\x02\xa5watch\x90", 9);
    peer_answer(&peer, peer.request.msgid + 64, "\x05", 1);
    peer_answer(&peer, peer.request.msgid, "\x06", 1);
    peer_answer(&peer, peer.request.msgid, "\x07", 1); /* a second time */
    peer_wait_for(cubby, &outcome.calls, 1);
    while (cubby_poll(cubby, 50) > 0)
        ;
    cr_assert_eq(outcome.calls, 1);
    cr_assert_eq(outcome.number, 6);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, what_no_daemon_sends_is_not_made_room_for)
{
    const struct cubby_call_options soon = {.timeout_ms = 300};
    const size_t size = 128u << 20; /* more than the largest transaction */
    struct peer peer;
    struct outcome outcome = {0};
    struct buffer result = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cubby_send_get(cubby, key(), note, &outcome, &soon);
    peer_expect(&peer, cubby, WIRE_METHOD_GET);
    cr_assert(buffer_reserve(&result, size + 8));
    uint8_t *bytes = calloc(1, size);
    wire_pack_bin(&result, slice_of(bytes, size));
    free(bytes);
    peer_answer(&peer, peer.request.msgid, result.data, result.size);
    peer_wait_for(cubby, &outcome.calls, 1);
    cr_assert_eq(outcome.status, CUBBY_TIMEOUT);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    peer_expect(&peer, cubby, WIRE_METHOD_GET);
    peer_answer(&peer, peer.request.msgid, "\x01", 1);
    peer_wait_for(cubby, &outcome.calls, 2);
    cr_assert_eq(outcome.number, 1);
    buffer_free(&result);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, a_request_without_an_answer_times_out_and_its_late_reply_is_dropped)
{
    struct peer peer;
    struct outcome late = {0}, next = {0};
    const struct cubby_call_options soon = {.timeout_ms = 30};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cubby_send_get(cubby, key(), note, &next, NULL); /* outstanding, so the connection stays */
    peer_take(&peer, cubby);
    uint64_t waiting = peer.request.msgid;
    cubby_send_get(cubby, key(), note, &late, &soon);
    peer_take(&peer, cubby);
    peer_wait_for(cubby, &late.calls, 1);
    cr_assert_eq(late.status, CUBBY_TIMEOUT);
    peer_answer(&peer, peer.request.msgid, "\x01", 1);
    peer_answer(&peer, waiting, "\x02", 1);
    peer_wait_for(cubby, &next.calls, 1);
    cr_assert_eq(next.number, 2);
    cr_assert_eq(late.calls, 1);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, what_timed_out_unsent_is_not_sent_when_the_daemon_comes)
{
    struct cubby *cubby;
    struct peer peer;
    struct outcome lost = {0}, kept = {0};
    peer_open(&peer);
    cr_assert_eq(zmq_unbind(peer.router, peer.endpoint), 0);
    const struct cubby_options options = {.endpoint = peer.endpoint, .timeout_ms = 30};
    cr_assert_eq(cubby_open(&cubby, &options), CUBBY_OK);
    cubby_send_get(cubby, cubby_text("lost"), note, &lost, NULL);
    peer_wait_for(cubby, &lost.calls, 1);
    cr_assert_eq(lost.status, CUBBY_TIMEOUT);
    cr_assert_eq(zmq_bind(peer.router, peer.endpoint), 0);
    cubby_send_get(cubby, cubby_text("kept"), note, &kept,
                   &(struct cubby_call_options){.timeout_ms = PEER_WAIT_MS});
    peer_expect(&peer, cubby, WIRE_METHOD_GET);
    cr_assert(slice_is(peer.request.args.key, "kept"));
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, a_call_that_nobody_answers_returns_timeout)
{
    struct peer peer;
    struct cubby_value value;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    const struct cubby_call_options soon = {.timeout_ms = 20};
    cr_assert_eq(cubby_get(cubby, key(), &value, &soon), CUBBY_TIMEOUT);
    cr_assert_eq(cubby_last_error(cubby)->status, CUBBY_TIMEOUT);
    cr_assert_str_eq(cubby_last_error(cubby)->code, "timeout");
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, closing_answers_what_is_outstanding)
{
    struct peer peer;
    struct outcome outcome = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    cubby_close(&cubby);
    cr_assert_null(cubby);
    cr_assert_eq(outcome.calls, 1);
    cr_assert_eq(outcome.status, CUBBY_CLOSED);
    cubby_close(&cubby);
    peer_close(&peer);
}

/* What a callback must not do, and what it may. */
struct nested {
    struct cubby *cubby;
    struct outcome inner;
    unsigned calls;
};

static void call_from_callback(void *context, const struct cubby_reply *reply)
{
    struct nested *nested = context;
    struct cubby *closed = nested->cubby;
    (void)reply;
    nested->calls++;
    cr_assert_eq(cubby_get(nested->cubby, key(), NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_poll(nested->cubby, 0), -1);
    cr_assert_eq(cubby_last_error(nested->cubby)->status, CUBBY_MISUSE);
    cubby_close(&closed);
    cr_assert_not_null(closed);
    cr_assert_eq(cubby_send_get(nested->cubby, key(), note, &nested->inner, NULL), CUBBY_OK);
}

Test(requests, a_callback_may_send_but_not_wait_or_close)
{
    struct peer peer;
    peer_open(&peer);
    struct nested nested = {.cubby = peer_client(&peer)};
    cubby_send_get(nested.cubby, key(), call_from_callback, &nested, NULL);
    peer_take(&peer, nested.cubby);
    peer_answer(&peer, peer.request.msgid, "\xc0", 1);
    peer_wait_for(nested.cubby, &nested.calls, 1);
    peer_take(&peer, nested.cubby);
    peer_answer(&peer, peer.request.msgid, "\xc0", 1);
    peer_wait_for(nested.cubby, &nested.inner.calls, 1);
    cr_assert_eq(nested.inner.status, CUBBY_OK);
    cubby_close(&nested.cubby);
    peer_close(&peer);
}

Test(requests, values_and_params_that_are_not_one_object_are_misuse)
{
    struct peer peer;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    const struct cubby_bytes bad[] = {cubby_data(NULL, 0), cubby_data("", 0),
                                      cubby_data("\x01\x01", 2), cubby_data("\x92\x01", 2),
                                      cubby_data("\xc1", 1)};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(cubby_put(cubby, key(), bad[i], NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_call(cubby, "get", one(), NULL, NULL), CUBBY_MISUSE);
    struct cubby_batch *batch = cubby_batch_new();
    cubby_batch_put(batch, key(), bad[2], NULL);
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_MISUSE);
    cubby_batch_clear(batch);
    cubby_batch_free(&batch);
    cr_assert_eq(cubby_outstanding(cubby), 0);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, a_malformed_endpoint_is_a_system_error)
{
    struct cubby *cubby;
    cr_assert_eq(cubby_open(&cubby, &(struct cubby_options){.endpoint = "nonsense"}), CUBBY_SYSTEM);
    cr_assert_null(cubby);
}

/* A daemon in a thread: answers each request with its own msgid as the result, until told. */
static void *serve(void *argument)
{
    struct peer *peer = argument;
    char id[PEER_ID_SIZE], payload[PEER_ID_SIZE];
    for (;;) {
        int id_size = zmq_recv(peer->router, id, sizeof(id), 0);
        int size = zmq_recv(peer->router, payload, sizeof(payload), 0);
        struct wire_request request;
        struct wire_error error;
        struct buffer out = {0};
        wire_decode_request(slice_of(payload, (size_t)size), &request, &error);
        wire_pack_reply(&out, request.msgid);
        wire_pack_uint(&out, request.msgid);
        zmq_send(peer->router, id, (size_t)id_size, ZMQ_SNDMORE);
        zmq_send(peer->router, out.data, out.size, 0);
        buffer_free(&out);
        if (request.method == WIRE_METHOD_PING)
            return NULL;
    }
}

Test(requests, a_call_that_waits_dispatches_the_callbacks_of_others)
{
    struct peer peer;
    pthread_t thread;
    struct outcome outcome = {0};
    uint64_t count;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    pthread_create(&thread, NULL, serve, &peer);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    cr_assert_eq(cubby_count(cubby, NULL, &count, NULL), CUBBY_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(outcome.calls, 1);
    cr_assert_eq(outcome.number, 1);
    cr_assert_eq(cubby_get(cubby, key(), NULL, NULL), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_ping(cubby, NULL), CUBBY_OK);
    pthread_join(thread, NULL);
    cubby_close(&cubby);
    peer_close(&peer);
}

static void count_replies(void *context, const struct cubby_reply *reply)
{
    cr_assert_eq(reply->status, CUBBY_OK);
    (*(unsigned *)context)++;
}

Test(requests, a_hundred_thousand_requests_are_outstanding_and_all_answered)
{
    enum { REQUESTS = 100000 };
    struct peer peer;
    pthread_t thread;
    unsigned replies = 0;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    for (unsigned i = 0; i < REQUESTS; i++)
        cr_assert_eq(cubby_send_get(cubby, key(), count_replies, &replies, NULL), CUBBY_OK);
    cr_assert_eq(cubby_outstanding(cubby), REQUESTS);
    pthread_create(&thread, NULL, serve, &peer);
    peer_wait_for(cubby, &replies, REQUESTS);
    cr_assert_eq(cubby_ping(cubby, NULL), CUBBY_OK);
    pthread_join(thread, NULL);
    cubby_close(&cubby);
    peer_close(&peer);
}

Test(requests, the_descriptor_tells_when_there_is_something_to_do)
{
    struct peer peer;
    struct outcome outcome = {0};
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    struct pollfd wait = {.fd = cubby_fd(cubby), .events = POLLIN};
    cr_assert_geq(wait.fd, 0);
    cr_assert_eq(cubby_wait_ms(cubby), -1);
    cubby_send_get(cubby, key(), note, &outcome, NULL);
    cr_assert_gt(cubby_wait_ms(cubby), 0);
    peer_take(&peer, cubby);
    while (cubby_poll(cubby, 0) > 0)
        ;
    peer_answer(&peer, peer.request.msgid, "\x01", 1);
    while (outcome.calls == 0) {
        cr_assert_eq(poll(&wait, 1, PEER_WAIT_MS), 1);
        while (cubby_poll(cubby, 0) > 0)
            ;
    }
    cr_assert_eq(outcome.number, 1);
    cubby_close(&cubby);
    peer_close(&peer);
}
