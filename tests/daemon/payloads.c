/* Payloads whose blocks come back from other threads: through real sockets, in any size. */
#include <criterion/criterion.h>
#include <pthread.h>

#include "daemon/payloads.h"

enum { MESSAGES = 20000, LARGEST = 2 * PAYLOADS_MAX_SIZE };

static struct payloads payloads;
static void *context;

static void begin(void)
{
    payloads_init(&payloads);
    context = zmq_ctx_new();
}

static void end(void)
{
    zmq_ctx_term(context);
    payloads_end(&payloads);
}

TestSuite(payloads, .init = begin, .fini = end);

static size_t size_of(unsigned number)
{
    return number % LARGEST + 1;
}

static struct slice content(uint8_t bytes[LARGEST], unsigned number)
{
    memset(bytes, (int)(number & 0xff), size_of(number));
    return slice_of(bytes, size_of(number));
}

static void *open_socket(int type, const char *endpoint)
{
    void *socket = zmq_socket(context, type);
    int no_limit = 0;
    int no_linger = 0;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    cr_assert_eq(type == ZMQ_PULL ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint), 0);
    return socket;
}

/* Receives all messages and looks at each byte; NULL where all were right. */
static void *receive_all(void *socket)
{
    uint8_t bytes[LARGEST];
    for (unsigned i = 0; i < MESSAGES; i++) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        int size = zmq_msg_recv(&message, socket, 0);
        struct slice got = slice_of(zmq_msg_data(&message), zmq_msg_size(&message));
        bool right = size >= 0 && slice_equal(got, content(bytes, i));
        zmq_msg_close(&message);
        if (!right)
            return socket;
    }
    return NULL;
}

Test(payloads, arrive_as_they_were_while_their_blocks_are_used_again)
{
    uint8_t bytes[LARGEST];
    const char *endpoint = "inproc://payloads";
    void *in = open_socket(ZMQ_PULL, endpoint);
    void *out = open_socket(ZMQ_PUSH, endpoint);
    pthread_t reader;
    cr_assert_eq(pthread_create(&reader, NULL, receive_all, in), 0);
    for (unsigned i = 0; i < MESSAGES; i++) {
        zmq_msg_t message;
        cr_assert_eq(payloads_fill(&payloads, &message, content(bytes, i)), 0);
        cr_assert_geq(zmq_msg_send(&message, out, 0), 0);
    }
    void *wrong;
    pthread_join(reader, &wrong);
    cr_assert_null(wrong);
    zmq_close(out);
    zmq_close(in);
}

Test(payloads, only_so_many_spare_blocks_are_kept)
{
    static zmq_msg_t messages[2 * PAYLOADS_MAX_SPARE];
    uint8_t bytes[LARGEST];
    for (unsigned i = 0; i < 2 * PAYLOADS_MAX_SPARE; i++)
        cr_assert_eq(payloads_fill(&payloads, &messages[i], content(bytes, PAYLOADS_MIN_SIZE)), 0);
    for (unsigned i = 0; i < 2 * PAYLOADS_MAX_SPARE; i++)
        zmq_msg_close(&messages[i]);
    cr_assert_eq(payloads_fill(&payloads, &messages[0], content(bytes, PAYLOADS_MIN_SIZE)), 0);
    cr_assert_eq(payloads.spare_count, PAYLOADS_MAX_SPARE - 1);
    zmq_msg_close(&messages[0]);
}
