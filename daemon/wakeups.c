#include "daemon/wakeups.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>

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
    for (int i = 0; i < WAKEUPS; i++) {
        if (files[i] < 0)
            return -1;
        wakeups->files[i] = (struct pollfd){.fd = files[i], .events = POLLIN};
    }
    return 0;
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
    if (poll(wakeups->files, WAKEUPS, timeout) < 0)
        return errno == EINTR ? come : -1;
    for (int i = 0; i < WAKEUPS; i++)
        if ((wakeups->files[i].revents & POLLIN) != 0)
            come |= 1 << i;
    return come;
}
