#include "tests/bindings/peer.h"

#include <time.h>
#include <zmq.h>

#include <criterion/criterion.h>

enum { STEP_MS = 5 };

int64_t peer_now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void *bind_socket(void *context, int type, char *endpoint)
{
    const int none = 0;
    size_t size = PEER_ENDPOINT_SIZE;
    void *socket = zmq_socket(context, type);
    cr_assert_not_null(socket);
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof(none));
    zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof(none));
    zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof(none));
    if (type == ZMQ_PUB)
        zmq_setsockopt(socket, ZMQ_XPUB_WELCOME_MSG, "w", 1);
    cr_assert_eq(zmq_bind(socket, "tcp://127.0.0.1:*"), 0);
    cr_assert_eq(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
    return socket;
}

void peer_open(struct peer *peer)
{
    *peer = (struct peer){.context = zmq_ctx_new()};
    peer->router = bind_socket(peer->context, ZMQ_ROUTER, peer->endpoint);
    peer->pub = bind_socket(peer->context, ZMQ_PUB, peer->broadcast);
}

void peer_close(struct peer *peer)
{
    zmq_close(peer->router);
    zmq_close(peer->pub);
    zmq_ctx_term(peer->context);
    buffer_free(&peer->id);
    buffer_free(&peer->payload);
}

struct cubby *peer_client(struct peer *peer)
{
    struct cubby *cubby;
    struct cubby_options options = {
        .endpoint = peer->endpoint, .broadcast = peer->broadcast, .timeout_ms = PEER_WAIT_MS};
    cr_assert_eq(cubby_open(&cubby, &options), CUBBY_OK);
    return cubby;
}

static bool receive_into(void *socket, struct buffer *buffer)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    bool received = zmq_msg_recv(&message, socket, ZMQ_DONTWAIT) >= 0;
    buffer_clear(buffer);
    if (received)
        buffer_append(buffer, zmq_msg_data(&message), zmq_msg_size(&message));
    zmq_msg_close(&message);
    return received;
}

/* libzmq welcomes new subscribers when the socket is next used. */
static void let_in_subscribers(struct peer *peer)
{
    int events;
    size_t size = sizeof(events);
    zmq_getsockopt(peer->pub, ZMQ_EVENTS, &events, &size);
}

static bool take(struct peer *peer)
{
    let_in_subscribers(peer);
    if (!receive_into(peer->router, &peer->id))
        return false;
    cr_assert(receive_into(peer->router, &peer->payload));
    struct slice payload = buffer_slice(&peer->payload, 0);
    peer->code = wire_decode_request(payload, &peer->request, &peer->error);
    return true;
}

bool peer_takes_within(struct peer *peer, struct cubby *cubby, int64_t ms)
{
    int64_t until = peer_now_ms() + ms;
    while (!take(peer)) {
        if (peer_now_ms() > until)
            return false;
        cubby_poll(cubby, STEP_MS);
    }
    return true;
}

void peer_take(struct peer *peer, struct cubby *cubby)
{
    cr_assert(peer_takes_within(peer, cubby, PEER_WAIT_MS), "no request came");
}

void peer_expect(struct peer *peer, struct cubby *cubby, enum wire_method method)
{
    peer_take(peer, cubby);
    cr_assert_eq(peer->code, WIRE_OK, "%s", peer->error.message);
    cr_assert_eq(peer->request.answer, WIRE_ANSWER_MSGID);
    cr_assert_str_eq(wire_method_name(peer->request.method), wire_method_name(method));
}

void peer_send(struct peer *peer, const void *payload, size_t size)
{
    zmq_send(peer->router, peer->id.data, peer->id.size, ZMQ_SNDMORE);
    cr_assert_geq(zmq_send(peer->router, payload, size, 0), 0);
}

static void send_buffer(struct peer *peer, struct buffer *out)
{
    cr_assert_not(out->failed);
    peer_send(peer, out->data, out->size);
    buffer_free(out);
}

void peer_answer(struct peer *peer, uint64_t msgid, const void *result, size_t size)
{
    struct buffer out = {0};
    wire_pack_reply(&out, msgid);
    wire_pack_object(&out, slice_of(result, size));
    send_buffer(peer, &out);
}

void peer_fail(struct peer *peer, uint64_t msgid, const struct wire_error *error)
{
    struct buffer out = {0};
    struct wire_request request = {.answer = WIRE_ANSWER_MSGID, .msgid = msgid};
    wire_pack_error_reply(&out, &request, error);
    send_buffer(peer, &out);
}

static void pack_limits(struct buffer *out)
{
    static const char *const names[] = {"max_key", "max_value", "max_message", "max_batch"};
    wire_pack_text(out, "limits");
    wire_pack_map(out, 4);
    for (uint64_t i = 0; i < 4; i++) {
        wire_pack_text(out, names[i]);
        wire_pack_uint(out, 1000 + i);
    }
}

static void pack_number(struct buffer *out, const char *name, uint64_t number)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, number);
}

static void pack_texts(struct buffer *out, const char *name, const char *text)
{
    wire_pack_text(out, name);
    wire_pack_text(out, text);
}

void peer_answer_hello(struct peer *peer, const char *epoch, uint64_t seq, uint64_t oldest)
{
    struct buffer out = {0};
    wire_pack_reply(&out, peer->request.msgid);
    wire_pack_map(&out, 8);
    pack_texts(&out, "server", "cubbyd");
    pack_texts(&out, "version", "9.9.9");
    pack_texts(&out, "epoch", epoch);
    pack_number(&out, "protocol", 1);
    pack_number(&out, "seq", seq);
    pack_number(&out, "oldest", oldest);
    pack_number(&out, "time", 1700000000000);
    pack_limits(&out);
    send_buffer(peer, &out);
}

void peer_answer_changes(struct peer *peer, const char *epoch, uint64_t seq,
                         const struct wire_change *changes, uint32_t count)
{
    struct buffer out = {0};
    wire_pack_reply(&out, peer->request.msgid);
    wire_pack_map(&out, 4);
    pack_texts(&out, "epoch", epoch);
    pack_number(&out, "seq", seq);
    pack_number(&out, "oldest", 1);
    wire_pack_text(&out, "changes");
    wire_pack_array(&out, count);
    for (uint32_t i = 0; i < count; i++)
        wire_pack_change(&out, &changes[i]);
    send_buffer(peer, &out);
}

static void publish(struct peer *peer, struct buffer *topic, struct buffer *payload)
{
    cr_assert_geq(zmq_send(peer->pub, topic->data, topic->size, ZMQ_SNDMORE), 0);
    cr_assert_geq(zmq_send(peer->pub, payload->data, payload->size, 0), 0);
    buffer_free(topic);
    buffer_free(payload);
}

void peer_publish_change(struct peer *peer, const char *epoch, uint64_t drops,
                         const struct wire_change *change)
{
    struct buffer topic = {0};
    struct buffer payload = {0};
    buffer_append(&topic, "k", 1);
    buffer_append_slice(&topic, change->key);
    wire_pack_notification(&payload, "change");
    wire_pack_array(&payload, 3);
    wire_pack_text(&payload, epoch);
    wire_pack_uint(&payload, drops);
    wire_pack_change(&payload, change);
    publish(peer, &topic, &payload);
}

void peer_publish_heartbeat(struct peer *peer, const char *epoch, uint64_t drops, uint64_t seq)
{
    struct buffer topic = {0};
    struct buffer payload = {0};
    buffer_append(&topic, "h", 1);
    wire_pack_notification(&payload, "heartbeat");
    wire_pack_array(&payload, 4);
    wire_pack_text(&payload, epoch);
    wire_pack_uint(&payload, drops);
    wire_pack_uint(&payload, seq);
    wire_pack_uint(&payload, 1);
    publish(peer, &topic, &payload);
}

void peer_wait_until_live(struct cubby *cubby, const struct cubby_subscription *subscription)
{
    int64_t until = peer_now_ms() + PEER_WAIT_MS;
    while (!cubby_subscription_position(subscription).live) {
        cr_assert_lt(peer_now_ms(), until, "the subscription does not listen");
        cubby_poll(cubby, STEP_MS);
    }
}

void peer_wait_for(struct cubby *cubby, const unsigned *count, unsigned wanted)
{
    int64_t until = peer_now_ms() + PEER_WAIT_MS;
    while (*count < wanted) {
        cr_assert_lt(peer_now_ms(), until, "%u of %u came", *count, wanted);
        cubby_poll(cubby, STEP_MS);
    }
}
