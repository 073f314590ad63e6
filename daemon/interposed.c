#include "daemon/interposed.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/handshakes.h"

/* Whom the dynamic linker gives to libzmq. */
#define FOR_LIBZMQ __attribute__((visibility("default")))

enum {
    MAX_FILE = 1 << 16,  /* files with a number from here on have no promises, */
    MAX_PROMISES = 256,  /* nor have more than that at once */
    REGISTERED = 1 << 8, /* beside the events of a file */
};

/* That a file can be written, which the kernel was not asked. */
struct promise {
    int epoll;
    int file;
    bool kept; /* it was told so */
    epoll_data_t data;
};

/* What the kernel reports of a file, with REGISTERED; 0: unknown. */
static _Atomic uint16_t reported[MAX_FILE];

static _Thread_local struct promise promises[MAX_PROMISES];
static _Thread_local int promise_count;

void interposed_begin(void)
{
}

/*
 * Hangups are reported whether they are wanted or not. Of a file of which nothing is wanted that
 * happens once by EPOLLET, and epoll_wait takes it away; else it would be for ever.
 */
static int control(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct epoll_event asked = {0};
    if (event != NULL)
        asked = *event;
    if (asked.events == 0)
        asked.events = EPOLLET;
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, &asked);
}

static void take_promise_back(int epoll, int file)
{
    int i = 0;
    while (i < promise_count && (promises[i].file != file || promises[i].epoll != epoll))
        i++;
    if (i < promise_count)
        promises[i] = promises[--promise_count];
}

static bool promise(int epoll, int file, epoll_data_t data)
{
    if (promise_count == MAX_PROMISES)
        return false;
    promises[promise_count++] = (struct promise){.epoll = epoll, .file = file, .data = data};
    return true;
}

/* Whether the kernel need not hear of it: it reports that, or all of it but what is promised. */
static bool is_settled(int epoll, int file, const struct epoll_event *event)
{
    uint32_t now = atomic_load_explicit(&reported[file], memory_order_relaxed);
    uint32_t wanted = event->events | REGISTERED;
    return now == wanted || ((now | EPOLLOUT) == wanted && promise(epoll, file, event->data));
}

static void note_reported(int file, uint32_t events)
{
    atomic_store_explicit(&reported[file], (uint16_t)events, memory_order_relaxed);
}

FOR_LIBZMQ int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (fd < 0 || fd >= MAX_FILE || (event != NULL && event->events >= REGISTERED))
        return control(epfd, op, fd, event);
    bool leaves = op == EPOLL_CTL_DEL || event == NULL;
    take_promise_back(epfd, fd);
    if (op == EPOLL_CTL_MOD && !leaves && is_settled(epfd, fd, event))
        return 0;
    int rc = control(epfd, op, fd, event);
    note_reported(fd, rc == 0 && !leaves ? event->events | REGISTERED : 0);
    return rc;
}

/* Who still wants to write although it was told that it can is told by the kernel. */
static void ask(const struct promise *promise)
{
    int file = promise->file;
    uint32_t now = atomic_load_explicit(&reported[file], memory_order_relaxed) | EPOLLOUT;
    struct epoll_event event = {.events = now & ~(uint32_t)REGISTERED, .data = promise->data};
    if (control(promise->epoll, EPOLL_CTL_MOD, file, &event) == 0)
        note_reported(file, now);
}

/* Keeps promises that are new, and asks about those that were kept before. */
static int keep_promises(int epoll, struct epoll_event *events, int max)
{
    int told = 0;
    for (int i = promise_count - 1; i >= 0; i--) {
        if (promises[i].epoll != epoll)
            continue;
        if (promises[i].kept) {
            ask(&promises[i]);
            promises[i] = promises[--promise_count];
        } else if (told < max) {
            promises[i].kept = true;
            events[told++] = (struct epoll_event){.events = EPOLLOUT, .data = promises[i].data};
        }
    }
    return told;
}

/*
 * What is hung up is readable as well, and who reads or writes it finds out by that. libzmq would
 * read it twice otherwise, and by the first time it may have as many messages as it holds.
 */
FOR_LIBZMQ int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
    int told = keep_promises(epfd, events, maxevents);
    if (told > 0)
        return told;
    int count = (int)syscall(SYS_epoll_wait, epfd, events, maxevents, timeout);
    for (int i = 0; i < count; i++)
        events[i].events &= EPOLLIN | EPOLLOUT;
    return count;
}

/* As <sys/socket.h> has them, but for a union in the place of `addr` that nobody can define. */
struct sockaddr;
int accept4(int fd, struct sockaddr *addr, unsigned *addr_len, int flags);
ssize_t recv(int fd, void *buf, size_t n, int flags);

static bool is_shortage(int cause)
{
    return cause == EMFILE || cause == ENOMEM || cause == ENOBUFS;
}

FOR_LIBZMQ int accept4(int fd, struct sockaddr *addr, unsigned *addr_len, int flags)
{
    int peer = (int)syscall(SYS_accept4, fd, addr, addr_len, flags);
    if (peer >= 0 && handshakes_begin(peer))
        return peer;
    if (peer >= 0)
        close(peer);
    if (peer >= 0 || is_shortage(errno))
        errno = ENFILE;
    return -1;
}

/* The end of the connection, 0, where the peer's handshake is none that is served. */
FOR_LIBZMQ ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    ssize_t count = syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
    return count <= 0 || handshakes_hear(fd, buf, (size_t)count) ? count : 0;
}
