/*
 * The sockets of a handle: made with what libzmq is to do about limits, lost connections and
 * endpoints, and all watched by one descriptor, where a program has asked for it.
 */
#ifndef BINDINGS_C_SOCKETS_H
#define BINDINGS_C_SOCKETS_H

#include <stdbool.h>
#include <sys/types.h>

struct sockets {
    void *context;
    bool owns_context;
    pid_t pid; /* who began it */
    int fd;    /* an epoll of all sockets' descriptors; -1 until it is made */
};

/* `context` stays the caller's; NULL: one is made. -1 with errno; ended with sockets_end then too.
 */
int sockets_begin(struct sockets *sockets, void *context);

/*
 * Whether this is a child by fork(), where libzmq has no threads: it neither sends nor receives,
 * and says EINTR for ever.
 */
bool sockets_are_inherited(const struct sockets *sockets);

/* A socket with its options set, not connected; NULL with errno. */
void *sockets_make(struct sockets *sockets, int type);

/* Connects it; on failure, -1 with errno, it is closed. */
int sockets_connect(struct sockets *sockets, void *socket, const char *endpoint);

/* Closes a connected one, dropping what was not sent. */
void sockets_close(struct sockets *sockets, void *socket);

/* Makes the descriptor; each socket that there is has to be given to sockets_watch. -1 with errno.
 */
int sockets_make_fd(struct sockets *sockets);
void sockets_drop_fd(struct sockets *sockets);

/* Has the descriptor tell of the socket's news, where there is one; -1 with errno. */
int sockets_watch(const struct sockets *sockets, void *socket);

/* All sockets are closed. */
void sockets_end(struct sockets *sockets);

#endif
