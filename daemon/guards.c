/* See guards.h. Each is the call of the C library with one exception, whose manual page holds. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/handshakes.h"

/* Whom the dynamic linker gives to libzmq. */
#define FOR_LIBZMQ __attribute__((visibility("default")))

/*
 * Hangups are told whether they are wanted or not. Of a file of which nothing is wanted they are
 * told once by this, and that epoll_wait takes away; else they would be told for ever.
 */
FOR_LIBZMQ int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (event == NULL || event->events != 0)
        return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
    struct epoll_event once = {.events = EPOLLET, .data = event->data};
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, &once);
}

/*
 * What is hung up is readable as well, and who reads or writes it finds out by that. libzmq would
 * read it twice otherwise, and by the first time it may have as many messages as it holds.
 */
FOR_LIBZMQ int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
    int count = (int)syscall(SYS_epoll_wait, epfd, events, maxevents, timeout);
    for (int i = 0; i < count; i++)
        events[i].events &= EPOLLIN | EPOLLOUT;
    return count;
}

/* As <sys/socket.h> has it, but for a union in the place of `addr` that nobody can define. */
struct sockaddr;
int accept4(int fd, struct sockaddr *addr, unsigned *addr_len, int flags);

FOR_LIBZMQ int accept4(int fd, struct sockaddr *addr, unsigned *addr_len, int flags)
{
    int peer = (int)syscall(SYS_accept4, fd, addr, addr_len, flags);
    if (peer < 0 && errno == EMFILE)
        errno = ENFILE;
    if (peer < 0 || handshakes_begin(peer))
        return peer;
    close(peer);
    errno = ENFILE;
    return -1;
}
