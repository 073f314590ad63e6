/*
 * The physical limit that daemons are measured against: a ROUTER that answers every request with
 * a reply of the same size and does nothing else. `cubby bench` runs against it as against cubbyd:
 *
 *     echo ENDPOINT SECONDS
 *
 * The request is made a reply in place. It begins 94 00 msgid, and so does the reply, with 01 for
 * the type; then come nil for the error, and a bin as long as what is left.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

enum { TYPE_AT = 1, MSGID_AT = 2, REPLY = 1, NIL = 0xc0, BIN_8 = 0xc4, BIN_16, BIN_32 };

/* How many bytes the msgid takes: cc, cd, ce, cf announce 1, 2, 4, 8 bytes more. */
static size_t msgid_size(uint8_t first)
{
    return first >= 0xcc && first <= 0xcf ? 1 + ((size_t)1 << (first - 0xcc)) : 1;
}

/* A bin that fills exactly `size` bytes, head included; the longest head that fits the size. */
static void put_bin(uint8_t *at, size_t size)
{
    size_t width = size > UINT16_MAX ? 4 : size > UINT8_MAX ? 2 : 1;
    at[0] = (uint8_t)(width == 4 ? BIN_32 : width == 2 ? BIN_16 : BIN_8);
    for (size_t i = 0; i < width; i++)
        at[1 + i] = (uint8_t)((size - 1 - width) >> (8 * (width - 1 - i)));
}

static void make_reply(uint8_t *payload, size_t size)
{
    size_t head = size > MSGID_AT ? MSGID_AT + msgid_size(payload[MSGID_AT]) + 1 : size;
    if (head + 2 > size)
        return;
    payload[TYPE_AT] = REPLY;
    payload[head - 1] = NIL;
    put_bin(payload + head, size - head);
}

/* Frames go back as they came: the routing id, then the payload. */
static int serve(void *router)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (zmq_msg_recv(&message, router, 0) >= 0) {
        int more = zmq_msg_more(&message);
        if (more == 0)
            make_reply(zmq_msg_data(&message), zmq_msg_size(&message));
        if (zmq_msg_send(&message, router, more != 0 ? ZMQ_SNDMORE : 0) < 0)
            break;
    }
    int error = errno;
    zmq_msg_close(&message);
    return error;
}

/* The alarm ends the program: whoever forgets it leaves nothing behind. */
int main(int count, char **texts)
{
    const int none = 0;
    if (count != 3 || strtoul(texts[2], NULL, 10) == 0) {
        fprintf(stderr, "usage: %s ENDPOINT SECONDS\n", texts[0]);
        return 2;
    }
    alarm((unsigned)strtoul(texts[2], NULL, 10));
    void *context = zmq_ctx_new();
    void *router = zmq_socket(context, ZMQ_ROUTER);
    zmq_setsockopt(router, ZMQ_SNDHWM, &none, sizeof(none));
    zmq_setsockopt(router, ZMQ_RCVHWM, &none, sizeof(none));
    zmq_setsockopt(router, ZMQ_LINGER, &none, sizeof(none));
    if (zmq_bind(router, texts[1]) != 0) {
        fprintf(stderr, "%s: %s\n", texts[1], zmq_strerror(errno));
        return 1;
    }
    fprintf(stderr, "echo: ready on %s\n", texts[1]);
    fprintf(stderr, "echo: %s\n", zmq_strerror(serve(router)));
    zmq_close(router);
    zmq_ctx_term(context);
    return 1;
}
