#include "bindings/c/sockets.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "bindings/c/endpoint.h"
#include "wire/limits.h"

enum {
    RECONNECT_MS = 50,       /* first wait before connecting again, doubled up to … */
    RECONNECT_MAX_MS = 2000, /* … this */
    HEARTBEAT_MS = 5000,     /* a connection that answers no ping for HEARTBEAT_TIMEOUT_MS … */
    HEARTBEAT_TIMEOUT_MS = 15000, /* … is made anew */
    SOCKET_DESCRIPTORS = 6,       /* of libzmq: a socket, the context, its reaper, one connection */
    THREAD_DESCRIPTORS = 2,       /* of each of its I/O threads */
    MAX_DESCRIPTORS = 64,
    CHANGE_BYTES = 64, /* of a change besides its key and value, rounded up */
    /*
     * The largest thing that a daemon sends is a page of changes that ends with the largest
     * transaction: a page's worth before it, the values of one request, and all of its keys. Who
     * sends more is no daemon, or wants our memory: libzmq makes room for what a frame's head says,
     * before any of it has come. It closes the connection instead.
     */
    MAX_FRAME =
        WIRE_PAGE_BYTES + WIRE_MAX_MESSAGE + WIRE_MAX_CHANGES * (WIRE_MAX_KEY + CHANGE_BYTES),
};

int sockets_begin(struct sockets *sockets, void *context)
{
    sockets->owns_context = context == NULL;
    sockets->context = context == NULL ? zmq_ctx_new() : context;
    sockets->pid = getpid();
    sockets->fd = -1;
    return sockets->context != NULL ? 0 : -1;
}

bool sockets_are_inherited(const struct sockets *sockets)
{
    return sockets->pid != getpid();
}

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof(value));
}

/*
 * No high-water marks: sending would block at one, and at the other the daemon would have to
 * drop replies. What is outstanding bounds the memory instead. LINGER 0, so that closing drops
 * what nobody waits for any more.
 */
static int set_common(void *socket)
{
    const int64_t max_frame = MAX_FRAME;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame)) |
           set_int(socket, ZMQ_LINGER, 0) | set_int(socket, ZMQ_SNDHWM, 0) |
           set_int(socket, ZMQ_RCVHWM, 0) | set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS) |
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) |
           set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) |
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
}

static int descriptor_of(void *socket)
{
    int fd = -1;
    size_t size = sizeof(fd);
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

int sockets_watch(const struct sockets *sockets, void *socket)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (sockets->fd < 0)
        return 0;
    return epoll_ctl(sockets->fd, EPOLL_CTL_ADD, descriptor_of(socket), &event);
}

static int close_after_failure(void *socket)
{
    int error = errno;
    zmq_close(socket);
    errno = error;
    return -1;
}

/*
 * libzmq ends the program where it finds no descriptor for one of its threads, which the first
 * socket of a context starts. -1 with errno where there are not as many as that may take.
 */
static int find_descriptors(void *context)
{
    int held[MAX_DESCRIPTORS];
    int wanted = SOCKET_DESCRIPTORS + THREAD_DESCRIPTORS * zmq_ctx_get(context, ZMQ_IO_THREADS);
    int found = 0;
    while (found < wanted && found < MAX_DESCRIPTORS &&
           (held[found] = eventfd(0, EFD_CLOEXEC)) >= 0)
        found++;
    int error = errno;
    bool enough = found == wanted || found == MAX_DESCRIPTORS;
    while (found > 0)
        close(held[--found]);
    errno = error;
    return enough ? 0 : -1;
}

void *sockets_make(struct sockets *sockets, int type)
{
    void *socket =
        find_descriptors(sockets->context) == 0 ? zmq_socket(sockets->context, type) : NULL;
    if (socket == NULL)
        return NULL;
    if (set_common(socket) != 0) {
        close_after_failure(socket);
        return NULL;
    }
    return socket;
}

/* 0, or why nobody can be reached by it: inproc needs a context that somebody else has, too. */
static int error_of(const struct sockets *sockets, const char *endpoint)
{
    if (sockets->owns_context && strncmp(endpoint, "inproc://", strlen("inproc://")) == 0)
        return EINVAL;
    return endpoint_error(endpoint);
}

/* A signal handler that runs breaks it off before it has begun. */
static int connect_to(const struct sockets *sockets, void *socket, const char *endpoint)
{
    int rc;
    do
        rc = zmq_connect(socket, endpoint);
    while (rc != 0 && errno == EINTR && !sockets_are_inherited(sockets));
    return rc;
}

int sockets_connect(struct sockets *sockets, void *socket, const char *endpoint)
{
    errno = error_of(sockets, endpoint);
    if (errno != 0)
        return close_after_failure(socket);
    /* Names stay those of IPv4: "localhost" may be [::1] otherwise, where no cubbyd listens. */
    if (set_int(socket, ZMQ_IPV6, strncmp(endpoint, "tcp://[", strlen("tcp://[")) == 0) != 0 ||
        connect_to(sockets, socket, endpoint) != 0 || sockets_watch(sockets, socket) != 0)
        return close_after_failure(socket);
    return 0;
}

void sockets_close(struct sockets *sockets, void *socket)
{
    if (sockets_are_inherited(sockets)) /* the parent's, and so is the list of the epoll */
        return;
    if (sockets->fd >= 0)
        epoll_ctl(sockets->fd, EPOLL_CTL_DEL, descriptor_of(socket), NULL);
    zmq_close(socket);
}

int sockets_make_fd(struct sockets *sockets)
{
    sockets->fd = epoll_create1(EPOLL_CLOEXEC);
    return sockets->fd;
}

void sockets_drop_fd(struct sockets *sockets)
{
    if (sockets->fd >= 0)
        close(sockets->fd);
    sockets->fd = -1;
}

/* A signal handler that runs breaks the end off, with the context half ended. */
void sockets_end(struct sockets *sockets)
{
    if (sockets->owns_context && sockets->context != NULL && !sockets_are_inherited(sockets)) {
        while (zmq_ctx_term(sockets->context) != 0 && errno == EINTR)
            ;
    }
    sockets_drop_fd(sockets);
}
