/*
 * The sockets of the server: made with every option that a server facing strangers needs, and
 * bound. Which option is for what is told in daemon/README.md.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include <stddef.h>

#include "daemon/config.h"

enum {
    SOCKETS_BACKLOG = 4096,     /* peers that connect at once */
    SOCKETS_RECEIVE_HWM = 1000, /* requests of a peer that wait in libzmq */
    SOCKETS_SEND_HWM = 131072,  /* replies to a peer that does not read */
    /*
     * Changes for a subscriber that does not read. libzmq sees in steps of half as many what one
     * has read, so that one that reads may have as much as the other half: the largest transaction.
     */
    SOCKETS_PUBLISH_HWM = 1 << 18,
    SOCKETS_LINGER_MS = 1000, /* that a stop waits for the last replies to leave */
    SOCKETS_HANDSHAKE_MS = 3000,
    SOCKETS_KEEPALIVE_IDLE_S = 15,    /* a TCP peer from which nothing came for so long is asked, */
    SOCKETS_KEEPALIVE_INTERVAL_S = 5, /* again after so long, */
    SOCKETS_KEEPALIVE_COUNT = 3,      /* so often, and then disconnected */
    SOCKETS_HEARTBEAT_MS = 5000,      /* likewise of subscribers, by ZMTP */
    SOCKETS_HEARTBEAT_TIMEOUT_MS = 15000,
    SOCKETS_HEARTBEAT_TTL_MS = 30000,
    SOCKETS_STALL_MS = 30000, /* a TCP peer that takes nothing for so long is disconnected */
    SOCKETS_MAX_ENDPOINTS_TEXT = 4096,
};

/*
 * A ZeroMQ context whose I/O threads are for the two sockets, one for each: what subscribers are
 * sent then does not wait behind requests. NULL with errno. The caller ends it.
 */
void *sockets_new_context(void);

/* A ROUTER for requests; an XPUB for broadcasts. NULL with errno. The caller closes it. */
void *sockets_new_requests(void *zmq_context);
void *sockets_new_broadcast(void *zmq_context);

/*
 * Binds the socket to all endpoints and appends what they have become ("tcp://127.0.0.1:*" now has
 * a port) to `bound`, of SOCKETS_MAX_ENDPOINTS_TEXT bytes, separated by ", ". On failure -1 and one
 * line in `error`, of `error_size` bytes, which names the `option` that they were given with.
 */
int sockets_bind(void *socket, const struct endpoints *endpoints, const char *option, char *bound,
                 char *error, size_t error_size);

/* Whether the endpoint can be reached from other machines. */
bool sockets_is_public(const char *endpoint);

#endif
