/* Without daemon/handshakes.c these fail, and some end by an assertion of libzmq 4.3.4. */
#include "raw_peers.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

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
    size_t size = GREETING_SIZE - GREETING - 2;
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
    open_router("tcp://127.0.0.1:*", 0);
    for (int i = 0; i < 4; i++) {
        int peer = new_peer_with_id("\x08same", (i & 1) != 0, (i & 2) != 0 ? 1 : AT_ONCE);
        send_all(peer, message_and_ping, MESSAGE_SIZE);
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
    open_router("tcp://127.0.0.1:*", 0);
    int first = new_peer();
    send_all(first, message_and_ping, MESSAGE_SIZE);
    receive_id(id);
    id[ID - 1]++;
    id[ID - 2] += id[ID - 1] == 0;
    int second = new_peer_with_id((char *)id, false, AT_ONCE);
    send_all(second, message_and_ping, MESSAGE_SIZE);
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
    open_router("tcp://127.0.0.1:*", 0);
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
