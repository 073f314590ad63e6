/* Without daemon/interposed.c those with a router end by an assertion of libzmq 4.3.4. */
#include "raw_peers.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

enum {
    MESSAGES = 20,
    FEW = 2, /* messages that may wait, less than half of them */
    NOTHING = 1 << 30,
    LINKS = 300,
    SPARE = 64, /* descriptors above those in use */
};

/* Which ends the connection for the other side at once. */
static void reset(int file)
{
    const struct linger at_once = {.l_onoff = 1};
    setsockopt(file, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(file);
}

Test(interposed, a_peer_with_pings_may_leave_while_it_is_not_read_from, .fini = close_router)
{
    char bytes[MESSAGES * MESSAGE_SIZE];
    size_t size = 0;
    open_router("tcp://127.0.0.1:*", FEW);
    for (int i = 0; i < MESSAGES; i++, size += MESSAGE_SIZE)
        memcpy(bytes + size, message_and_ping, MESSAGE_SIZE);
    int peer = new_peer();
    send_all(peer, bytes, size);
    cr_assert_eq(wait_for(ZMQ_POLLIN), 1);
    close(new_peer()); /* all has been read, and what may wait waits */
    reset(peer);
    close(new_peer()); /* the router has been told */
    cr_expect_eq(receive_messages(MESSAGES), MESSAGES);
    expect_served();
}

/* A file that is waited for, and its other end. */
struct link {
    int epoll, file, other;
};

static int want(const struct link *link, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = link->file};
    return epoll_ctl(link->epoll, operation, link->file, &event);
}

static struct link new_link(uint32_t wanted)
{
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    struct link link = {.epoll = epoll_create1(0), .file = ends[0], .other = ends[1]};
    cr_assert_eq(want(&link, EPOLL_CTL_ADD, wanted), 0);
    return link;
}

static void close_link(struct link *link)
{
    close(link->epoll);
    close(link->file);
    close(link->other);
}

/* What is told of it now. */
static uint32_t told(const struct link *link)
{
    struct epoll_event event;
    if (epoll_wait(link->epoll, &event, 1, 0) != 1)
        return NOTHING;
    cr_assert_eq(event.data.fd, link->file);
    return event.events;
}

static void fill(const struct link *link)
{
    static const char bytes[4096];
    while (send(link->file, bytes, sizeof bytes, 0) > 0)
        ;
}

static void drain(const struct link *link)
{
    char bytes[4096];
    while (recv(link->other, bytes, sizeof bytes, 0) > 0)
        ;
}

/* Of one that has something to read, and whose other end is closed. */
static uint32_t told_of_hangup(uint32_t wanted, int times)
{
    uint32_t events = NOTHING;
    struct link link = new_link(wanted);
    send_all(link.other, "x", 1);
    shutdown(link.other, SHUT_RDWR);
    for (int i = 0; i < times; i++)
        events = told(&link);
    close_link(&link);
    return events;
}

Test(interposed, a_hangup_is_told_as_something_to_read_only)
{
    cr_expect_eq(told_of_hangup(EPOLLIN, 2), EPOLLIN);
    cr_expect_eq(told_of_hangup(EPOLLIN | EPOLLOUT, 2), EPOLLIN | EPOLLOUT);
    cr_expect_eq(told_of_hangup(EPOLLOUT, 2), EPOLLOUT);
    cr_expect_eq(told_of_hangup(0, 1), 0);
    cr_expect_eq(told_of_hangup(0, 2), NOTHING, "nobody is woken for it again and again");
}

Test(interposed, who_begins_to_want_to_write_is_told_once_that_it_can_and_then_whether_it_can)
{
    struct link link = new_link(EPOLLIN);
    fill(&link);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    cr_expect_eq(told(&link), EPOLLOUT, "a promise");
    cr_expect_eq(told(&link), NOTHING, "which was not true");
    send_all(link.other, "x", 1);
    cr_expect_eq(told(&link), EPOLLIN);
    drain(&link);
    cr_expect_eq(told(&link), EPOLLIN | EPOLLOUT);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN), 0);
    cr_expect_eq(told(&link), EPOLLIN);
    close_link(&link);
}

Test(interposed, who_wants_to_write_no_more_is_told_nothing_of_it)
{
    struct link link = new_link(EPOLLIN);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN), 0);
    cr_expect_eq(told(&link), NOTHING);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    cr_expect_eq(told(&link), EPOLLOUT);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN), 0);
    cr_expect_eq(told(&link), NOTHING);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    cr_assert_eq(want(&link, EPOLL_CTL_DEL, 0), 0);
    cr_expect_eq(told(&link), NOTHING);
    close_link(&link);
}

Test(interposed, what_else_is_wanted_changes_while_writing_is_promised)
{
    struct link link = new_link(EPOLLIN);
    send_all(link.other, "x", 1);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLOUT), 0);
    cr_expect_eq(told(&link), EPOLLOUT);
    cr_expect_eq(told(&link), EPOLLOUT);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, 0), 0);
    cr_expect_eq(told(&link), NOTHING);
    cr_assert_eq(want(&link, EPOLL_CTL_MOD, EPOLLIN), 0);
    cr_expect_eq(told(&link), EPOLLIN);
    close_link(&link);
}

Test(interposed, each_of_more_than_there_may_be_promises_is_told)
{
    struct link links[LINKS];
    int epoll = epoll_create1(0), count = 0;
    struct epoll_event events[LINKS];
    bool seen[UCHAR_MAX * 8] = {false};
    for (int i = 0; i < LINKS; i++) {
        links[i] = new_link(EPOLLIN);
        close(links[i].epoll);
        links[i].epoll = epoll;
        cr_assert_eq(want(&links[i], EPOLL_CTL_ADD, EPOLLIN), 0);
    }
    for (int i = 0; i < LINKS; i++)
        cr_assert_eq(want(&links[i], EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT), 0);
    for (int turn = 0; turn < 2; turn++) {
        int told_now = epoll_wait(epoll, events, LINKS, 0);
        for (int i = 0; i < told_now; i++) {
            count += seen[events[i].data.fd] ? 0 : 1;
            seen[events[i].data.fd] = true;
        }
    }
    cr_expect_eq(count, LINKS);
    for (int i = 0; i < LINKS; i++)
        close_link(&links[i]);
}

/* Connections that the router could not take, from now on, any number of them. */
static void *new_monitor(void)
{
    const int any = 0, deadline = DEADLINE_MS;
    cr_assert_eq(zmq_socket_monitor(router, "inproc://events", ZMQ_EVENT_ACCEPT_FAILED), 0);
    void *monitor = zmq_socket(context, ZMQ_PAIR);
    zmq_setsockopt(monitor, ZMQ_RCVHWM, &any, sizeof any);
    zmq_setsockopt(monitor, ZMQ_RCVTIMEO, &deadline, sizeof deadline);
    cr_assert_eq(zmq_connect(monitor, "inproc://events"), 0);
    return monitor;
}

Test(interposed, an_ipc_endpoint_outlives_the_last_descriptor, .fini = close_router)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char endpoint[sizeof address.sun_path + 8], event[64];
    int taken[SPARE], count = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/cubby-interposed-%d", (int)getpid());
    snprintf(endpoint, sizeof endpoint, "ipc://%s", address.sun_path);
    open_router(endpoint, FEW);
    void *monitor = new_monitor();
    int peer = socket(AF_UNIX, SOCK_STREAM, 0);

    const struct rlimit few = {.rlim_cur = (rlim_t)peer + SPARE, .rlim_max = (rlim_t)peer + SPARE};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (count < SPARE && (taken[count] = dup(peer)) >= 0)
        count++;
    cr_assert_eq(connect(peer, (struct sockaddr *)&address, sizeof address), 0);
    cr_expect_gt(zmq_recv(monitor, event, sizeof event, 0), 0);

    while (count > 0)
        close(taken[--count]);
    send_all(peer, greeting, GREETING_SIZE);
    receive_greeting(peer);
    close(peer);
    zmq_close(monitor);
}
