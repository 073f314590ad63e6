/*
 * The connections of a socket: how many there are, and which have ended. libzmq tells it through a
 * monitor. What it says waits without limit, since a monitor whose queue is full stops the socket's
 * I/O thread.
 */
#ifndef DAEMON_CONNECTIONS_H
#define DAEMON_CONNECTIONS_H

#include <stdint.h>

struct connections;

/* Begins to count; before the socket is bound. NULL with errno where it cannot be done. */
struct connections *connections_watch(void *zmq_context, void *socket);

/* A ZeroMQ socket that is readable when there is something for connections_read. */
void *connections_socket(const struct connections *connections);

/*
 * Takes what has happened: calls `ended` for each connection that has, with its file descriptor
 * (what ZMQ_SRCFD says of its messages). A later connection may have the same number; its messages
 * come after the end of the former one could be read here.
 */
void connections_read(struct connections *connections, void (*ended)(void *context, int file),
                      void *context);

/* How many were open as of the last connections_read. */
uint64_t connections_count(const struct connections *connections);

/* Stops counting; before the socket is closed. */
void connections_free(struct connections **connections);

#endif
