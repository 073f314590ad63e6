/*
 * What the loop waits for: requests, subscribers, connections that begin or end, and signals.
 *
 * zmq_poll does this for any sockets, and asks each of them before and after it waits, with a
 * system call each time. These three are known: what comes on them is read once they are readable.
 * So one wait for their files is enough, and a look at what was used otherwise.
 */
#ifndef DAEMON_WAKEUPS_H
#define DAEMON_WAKEUPS_H

#include <stdbool.h>

enum wakeup {
    WAKEUP_REQUESTS = 1 << 0,
    WAKEUP_SUBSCRIBERS = 1 << 1,
    WAKEUP_CONNECTIONS = 1 << 2,
    WAKEUP_SIGNAL = 1 << 3,
};

struct wakeups {
    void *requests;
    int file;    /* that is readable where one of the others is: epoll's; -1: none */
    bool waited; /* the last wakeups_wait found no request that was there before */
};

/*
 * The sockets are ZeroMQ's and, like signal_fd, stay the caller's; they outlive `wakeups`. 0, or -1
 * with errno; wakeups_end is to be called in any case.
 */
int wakeups_init(struct wakeups *wakeups, void *requests, void *subscribers, void *connections,
                 int signal_fd);
void wakeups_end(struct wakeups *wakeups);

/*
 * Waits for `ms` milliseconds at most, and returns what has come: WAKEUP_ flags, 0 for nothing or
 * an interruption, -1 with errno. A file says once that something came, and only where everything
 * before was read: so each socket is read to its end (EAGAIN) before the first call, and whenever
 * it is told. To send on a socket may take away what its file would have said; therefore `requests`
 * is asked itself, and need not be read to its end, and who sends to subscribers reads from them
 * afterwards.
 */
int wakeups_wait(struct wakeups *wakeups, long ms);

#endif
