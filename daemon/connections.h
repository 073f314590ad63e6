/*
 * How many connections a socket has: libzmq tells it through a monitor only, and a monitor that
 * nobody reads stops the socket's I/O thread; so a thread of its own does nothing but read it.
 */
#ifndef DAEMON_CONNECTIONS_H
#define DAEMON_CONNECTIONS_H

#include <stdint.h>

struct connections;

/* Begins to count; before the socket is bound. NULL with errno where it cannot be done. */
struct connections *connections_watch(void *zmq_context, void *socket);

/* How many are open now. */
uint64_t connections_count(struct connections *connections);

/* Stops counting and the thread; before the socket is closed. */
void connections_free(struct connections **connections);

#endif
