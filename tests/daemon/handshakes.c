/* Without daemon/handshakes.c these fail, and some end by an assertion of libzmq 4.3.4. */
#include "daemon/interposed.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

enum {
    DEADLINE_MS = 20000,
    GREETING = 64,
};

static void *zmq, *router;

/* ZMTP 3.1: who speaks, by which mechanism, as what kind of socket. */
static const char greeting[] =
    "\xff\0\0\0\0\0\0\0\0\x7f\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
    "DEALER";
static const char message_and_ping[] = "\0\x01m\x04\x07\x04PING\0\0";

static void open_router(const char *endpoint)
{
    int none = 0;
    interposed_begin();
    zmq = zmq_ctx_new();
    router = zmq_socket(zmq, ZMQ_ROUTER);
    cr_assert_eq(zmq_setsockopt(router, ZMQ_LINGER, &none, sizeof none), 0);
    cr_assert_eq(zmq_bind(router, endpoint), 0);
}

static void close_router(void)
{
    zmq_close(router);
    zmq_ctx_term(zmq);
}

static void send_all(int file, const char *bytes, size_t size)
{
    cr_assert_eq(send(file, bytes, size, 0), (ssize_t)size);
}

/* Until the router has said who it is, in a greeting and a command. */
static void receive_greeting(int file)
{
    unsigned char bytes[GREETING + 2], command[UCHAR_MAX];
    cr_assert_eq(recv(file, bytes, sizeof bytes, MSG_WAITALL), (ssize_t)sizeof bytes);
    cr_assert_eq(recv(file, command, bytes[GREETING + 1], MSG_WAITALL), bytes[GREETING + 1]);
}

/* A connection to the router. */
static int new_connection(void)
{
    const struct timeval deadline = {.tv_sec = DEADLINE_MS / 1000};
    int file = socket(AF_INET, SOCK_STREAM, 0);
    char endpoint[64];
    size_t size = sizeof endpoint;
    cr_assert_eq(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port =
                                      htons((uint16_t)strtol(strrchr(endpoint, ':') + 1, NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    cr_assert_eq(connect(file, (struct sockaddr *)&address, sizeof address), 0);
    return file;
}

/* A peer that has said who it is, and heard it from the router. */
static int new_peer(void)
{
    int file = new_connection();
    send_all(file, greeting, sizeof greeting - 1);
    receive_greeting(file);
    return file;
}

static int wait_for(short what)
{
    zmq_pollitem_t item = {.socket = router, .events = what};
    return zmq_poll(&item, 1, DEADLINE_MS);
}

static int receive_messages(int count)
{
    char frame[16];
    int received = 0;
    for (; received < count && wait_for(ZMQ_POLLIN) == 1; received++) {
        cr_assert_eq(zmq_recv(router, frame, sizeof frame, 0), 5); /* the routing id */
        cr_assert_eq(zmq_recv(router, frame, sizeof frame, 0), 1);
    }
    return received;
}

/* The router's I/O thread has done what it had to when a new peer came. */
static void expect_served(void)
{
    int peer = new_peer();
    send_all(peer, message_and_ping, sizeof message_and_ping - 1);
    cr_expect_eq(receive_messages(1), 1);
    close(peer);
}

enum { GREETING_OF_2 = 12, ID = 5, AT_ONCE = 4096, MUCH = 8192 };

/* The bytes are sent one by one, or all together. */
static void send_in(int file, const char *bytes, size_t size, size_t step)
{
    for (size_t at = 0; at < size; at += step)
        send_all(file, bytes + at, size - at < step ? size - at : step);
}

/* A peer that asks for a routing id, of ID bytes, as one frame with a size in 1 byte or 8. */
static int new_peer_with_id(const char *id, bool large, size_t step)
{
    static const char property[] = "\x08Identity\0\0\0\x05";
    char command[64], head[9] = {large ? 6 : 4};
    size_t size = sizeof greeting - 1 - GREETING - 2;
    memcpy(command, greeting + GREETING + 2, size);
    memcpy(command + size, property, sizeof property - 1);
    size += sizeof property - 1;
    memcpy(command + size, id, ID);
    size += ID;
    head[large ? 8 : 1] = (char)size;
    int file = new_connection();
    send_in(file, greeting, GREETING, step);
    send_in(file, head, large ? 9 : 2, step);
    send_in(file, command, size, step);
    receive_greeting(file);
    return file;
}

/* The routing id of the next message. */
static void receive_id(unsigned char id[ID])
{
    char frame[16];
    cr_assert_eq(wait_for(ZMQ_POLLIN), 1);
    cr_assert_eq(zmq_recv(router, id, ID, 0), ID);
    cr_assert_eq(zmq_recv(router, frame, sizeof frame, 0), 1);
}

Test(handshakes, a_peer_gets_a_routing_id_that_it_has_not_chosen, .fini = close_router)
{
    unsigned char id[ID];
    open_router("tcp://127.0.0.1:*");
    for (int i = 0; i < 4; i++) {
        int peer = new_peer_with_id("\x08same", (i & 1) != 0, (i & 2) != 0 ? 1 : AT_ONCE);
        send_all(peer, message_and_ping, sizeof message_and_ping - 1);
        receive_id(id);
        cr_expect_eq(id[0], 0);
        send_all(peer, "\0\x09\x08Identity", 11); /* what follows is no property */
        char frame[16];
        cr_assert_eq(zmq_recv(router, frame, sizeof frame, 0), ID);
        cr_expect_eq(zmq_recv(router, frame, sizeof frame, 0), 9);
        cr_expect_arr_eq(frame, "\x08Identity", 9);
        close(peer);
    }
}

Test(handshakes, a_peer_may_choose_the_routing_id_that_another_one_is_about_to_get,
     .fini = close_router)
{
    unsigned char id[ID];
    open_router("tcp://127.0.0.1:*");
    int first = new_peer();
    send_all(first, message_and_ping, sizeof message_and_ping - 1);
    receive_id(id);
    id[ID - 1]++;
    id[ID - 2] += id[ID - 1] == 0;
    int second = new_peer_with_id((char *)id, false, AT_ONCE);
    send_all(second, message_and_ping, sizeof message_and_ping - 1);
    receive_id(id);
    expect_served();
    close(first);
    close(second);
}

static void expect_closed(const char *bytes, size_t size)
{
    char received[UCHAR_MAX];
    int file = new_connection();
    send_all(file, bytes, size);
    ssize_t count = 1;
    while (count > 0)
        count = recv(file, received, sizeof received, 0);
    cr_expect(count == 0 || errno == ECONNRESET);
    close(file);
    expect_served();
}

Test(handshakes, a_peer_of_a_former_protocol_or_with_much_to_say_of_itself_is_disconnected,
     .fini = close_router)
{
    char much[GREETING + MUCH + 9] = {0};
    open_router("tcp://127.0.0.1:*");
    expect_closed("\x01\0", 2);
    expect_closed("\xff\0\0\0\0\0\0\0\1\0", 10);
    expect_closed("\xff\0\0\0\0\0\0\0\1\x7f\0\5", GREETING_OF_2);
    expect_closed("\xff\0\0\0\0\0\0\0\1\x7f\1\5", GREETING_OF_2);
    memcpy(much, greeting, GREETING);
    much[GREETING] = 6; /* a command whose size has 8 bytes, */
    much[GREETING + 7] = (char)(MUCH >> 8);
    much[GREETING + 8] = (char)(MUCH & UCHAR_MAX) + 1; /* one more than MUCH */
    expect_closed(much, sizeof much);
}
