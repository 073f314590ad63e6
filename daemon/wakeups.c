#include "daemon/wakeups.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

enum { WAKEUPS = 4 };

/* The file that says when something comes for a socket; -1 with errno. */
static int file_of(void *socket)
{
    int file = -1;
    size_t size = sizeof file;
    return zmq_getsockopt(socket, ZMQ_FD, &file, &size) == 0 ? file : -1;
}

int wakeups_init(struct wakeups *wakeups, void *requests, void *subscribers, void *connections,
                 int signal_fd)
{
    const int files[WAKEUPS] = {file_of(requests), file_of(subscribers), file_of(connections),
                                signal_fd};
    wakeups->requests = requests;
    wakeups->waited = false;
    wakeups->file = epoll_create1(EPOLL_CLOEXEC);
    if (wakeups->file < 0)
        return -1;
    for (int i = 0; i < WAKEUPS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = 1U << i};
        if (epoll_ctl(wakeups->file, EPOLL_CTL_ADD, files[i], &event) != 0)
            return -1;
    }
    return 0;
}

void wakeups_end(struct wakeups *wakeups)
{
    if (wakeups->file >= 0)
        close(wakeups->file);
    wakeups->file = -1;
}

static bool is_readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

int wakeups_wait(struct wakeups *wakeups, long ms)
{
    int come = is_readable(wakeups->requests) ? WAKEUP_REQUESTS : 0;
    int timeout = come != 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
    struct epoll_event events[WAKEUPS];
    wakeups->waited = come == 0;
    int count = epoll_wait(wakeups->file, events, WAKEUPS, timeout);
    if (count < 0)
        return errno == EINTR ? come : -1;
    for (int i = 0; i < count; i++)
        come |= (int)events[i].data.u32;
    return come;
}
