#include "raw_peers.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "daemon/interposed.h"

void *context;
void *router;

/* ZMTP 3.1: who speaks, by which mechanism, as what kind of socket. */
const char greeting[GREETING_SIZE] =
    "\xff\0\0\0\0\0\0\0\0\x7f\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
    "DEALER";
const char message_and_ping[MESSAGE_SIZE] = "\0\x01m\x04\x07\x04PING\0\0";

void open_router(const char *endpoint, int most)
{
    int none = 0;
    interposed_begin();
    context = zmq_ctx_new();
    router = zmq_socket(context, ZMQ_ROUTER);
    cr_assert_eq(zmq_setsockopt(router, ZMQ_RCVHWM, &most, sizeof most), 0);
    cr_assert_eq(zmq_setsockopt(router, ZMQ_LINGER, &none, sizeof none), 0);
    cr_assert_eq(zmq_bind(router, endpoint), 0);
}

void close_router(void)
{
    zmq_close(router);
    zmq_ctx_term(context);
}

void send_all(int file, const char *bytes, size_t size)
{
    cr_assert_eq(send(file, bytes, size, 0), (ssize_t)size);
}

/* Until the router has said who it is, in a greeting and a command. */
void receive_greeting(int file)
{
    unsigned char bytes[GREETING + 2], command[UCHAR_MAX];
    cr_assert_eq(recv(file, bytes, sizeof bytes, MSG_WAITALL), (ssize_t)sizeof bytes);
    cr_assert_eq(recv(file, command, bytes[GREETING + 1], MSG_WAITALL), bytes[GREETING + 1]);
}

/* A connection to the router. */
int new_connection(void)
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
int new_peer(void)
{
    int file = new_connection();
    send_all(file, greeting, GREETING_SIZE);
    receive_greeting(file);
    return file;
}

int wait_for(short what)
{
    zmq_pollitem_t item = {.socket = router, .events = what};
    return zmq_poll(&item, 1, DEADLINE_MS);
}

int receive_messages(int count)
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
void expect_served(void)
{
    int peer = new_peer();
    send_all(peer, message_and_ping, MESSAGE_SIZE);
    cr_expect_eq(receive_messages(1), 1);
    close(peer);
}
