#include "daemon/wakeups.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

enum { DEADLINE_MS = 20000 };

static void *zmq;
static void *requests, *client;
static void *publish, *subscriber;
static void *events, *monitor;
static int signal_fd;
static struct wakeups wakeups;

static void *bound(int type, const char *endpoint)
{
    void *socket = zmq_socket(zmq, type);
    cr_assert_not_null(socket);
    cr_assert_eq(zmq_bind(socket, endpoint), 0);
    return socket;
}

static void *connected(int type, const char *endpoint)
{
    void *socket = zmq_socket(zmq, type);
    cr_assert_not_null(socket);
    cr_assert_eq(zmq_connect(socket, endpoint), 0);
    return socket;
}

/* Reads to the end, as the loop does; returns how many frames came. */
static int read_all(void *socket)
{
    char frame[8];
    int frames = 0;
    while (zmq_recv(socket, frame, sizeof frame, ZMQ_DONTWAIT) >= 0)
        frames++;
    return frames;
}

static void open_all(void)
{
    zmq = zmq_ctx_new();
    requests = bound(ZMQ_ROUTER, "inproc://requests");
    client = connected(ZMQ_DEALER, "inproc://requests");
    publish = bound(ZMQ_XPUB, "inproc://publish");
    subscriber = connected(ZMQ_SUB, "inproc://publish");
    events = bound(ZMQ_PAIR, "inproc://events");
    monitor = connected(ZMQ_PAIR, "inproc://events");
    signal_fd = eventfd(0, EFD_NONBLOCK);
    cr_assert_eq(wakeups_init(&wakeups, requests, publish, monitor, signal_fd), 0);
    read_all(requests); /* what connecting has left */
    read_all(publish);
    read_all(monitor);
}

static void close_all(void)
{
    void *sockets[] = {requests, client, publish, subscriber, events, monitor};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++)
        zmq_close(sockets[i]);
    wakeups_end(&wakeups);
    close(signal_fd);
    zmq_ctx_term(zmq);
}

TestSuite(wakeups, .init = open_all, .fini = close_all);

Test(wakeups, nothing_is_told_where_nothing_comes)
{
    cr_expect_eq(wakeups_wait(&wakeups, 0), 0);
    cr_expect_eq(wakeups_wait(&wakeups, 1), 0);
    cr_expect(wakeups.waited);
}

Test(wakeups, each_that_has_something_is_told_and_none_that_was_read)
{
    const uint64_t one = 1;
    zmq_send(client, "a", 1, 0);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_REQUESTS);
    cr_expect_eq(read_all(requests), 2);

    zmq_setsockopt(subscriber, ZMQ_SUBSCRIBE, "c", 1);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_SUBSCRIBERS);
    cr_expect_eq(read_all(publish), 1);

    zmq_send(events, "e", 1, 0);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_CONNECTIONS);
    cr_expect_eq(read_all(monitor), 1);

    cr_assert_eq(write(signal_fd, &one, sizeof one), sizeof one);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_SIGNAL);
}

Test(wakeups, several_are_told_together)
{
    const uint64_t one = 1;
    zmq_send(client, "a", 1, 0);
    zmq_send(events, "e", 1, 0);
    cr_assert_eq(write(signal_fd, &one, sizeof one), sizeof one);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS),
                 WAKEUP_REQUESTS | WAKEUP_CONNECTIONS | WAKEUP_SIGNAL);
}

/* As a drain does at its limit. */
Test(wakeups, requests_that_were_left_unread_are_told_again)
{
    char frame[8];
    zmq_send(client, "a", 1, 0);
    zmq_send(client, "b", 1, 0);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_REQUESTS);
    zmq_recv(requests, frame, sizeof frame, ZMQ_DONTWAIT);
    zmq_recv(requests, frame, sizeof frame, ZMQ_DONTWAIT);
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_REQUESTS);
    cr_expect_eq(read_all(requests), 2);
    cr_expect_eq(wakeups_wait(&wakeups, 0), 0);
}

/* Sending does the same, but only now and then. */
Test(wakeups, a_request_that_the_socket_has_taken_note_of_is_told)
{
    int taken = 0;
    size_t size = sizeof taken;
    zmq_send(client, "a", 1, 0);
    cr_assert_eq(zmq_getsockopt(requests, ZMQ_EVENTS, &taken, &size), 0);
    cr_assert_eq(taken & ZMQ_POLLIN, ZMQ_POLLIN);
    struct pollfd file = {.fd = wakeups.file, .events = POLLIN};
    cr_assert_eq(poll(&file, 1, 0), 0, "the file says nothing any more");
    cr_expect_eq(wakeups_wait(&wakeups, DEADLINE_MS), WAKEUP_REQUESTS);
    cr_expect_not(wakeups.waited);
}
