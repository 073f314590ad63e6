/*
 * The router: messages from and to peers, over a ROUTER socket. It knows their frames, where the
 * memory of what leaves comes from, and why one could not leave; what is in them is for others.
 *
 *     router_open(&router, zmq_context)                then sockets_bind(router.socket, …)
 *     router_receive(&router, &message)                -1: none is waiting
 *     router_send(&router, &peer, false, payload)
 *     router_close(&router)                            before the ZeroMQ context ends,
 *     router_end(&router)                              and after that
 *
 * It never waits. The structure, all zeros before router_open, stays where it is.
 */
#ifndef DAEMON_ROUTER_H
#define DAEMON_ROUTER_H

#include "daemon/connections.h"
#include "daemon/outbox.h"
#include "daemon/payloads.h"

struct router {
    void *socket;                    /* to be bound, and to wait at */
    struct connections *connections; /* that its messages come by */
    struct payloads payloads;
};

/* A message as it was read. The parts are where their owner has them. */
struct router_message {
    zmq_msg_t *peer; /* routing id */
    zmq_msg_t *payload;
    bool empty_frame; /* before the payload, as REQ sends it and wants it back */
    bool well_framed; /* the payload is all there was beside that */
};

/* The bytes of a part, as long as it is neither moved nor closed. */
static inline struct slice router_bytes(zmq_msg_t *part)
{
    return slice_of(zmq_msg_data(part), zmq_msg_size(part));
}

/* Makes the socket. -1 with errno where it cannot be done; router_close and router_end are due. */
int router_open(struct router *router, void *zmq_context);
void router_close(struct router *router);

/* Frees what messages were made of; none is left that is not closed. */
void router_end(struct router *router);

/*
 * Reads one message to its end into the parts, which are initialized and empty. -1: none is
 * waiting, and they are as before.
 */
int router_receive(struct router *router, struct router_message *message);

/* The file descriptor of the connection that the payload came by; 0: unknown. */
int router_connection(zmq_msg_t *payload);

/*
 * Sends a copy of the payload, behind an empty frame or not, to the peer with this routing id,
 * which is closed in any case. Else, EHOSTUNREACH: the peer has left; EAGAIN: it does not read;
 * ENOMEM, also where the payload is empty.
 */
int router_send(struct router *router, zmq_msg_t *peer, bool empty_frame, struct slice payload);

/* The same to a peer by its name. */
int router_send_to(struct router *router, const struct peer *peer, struct slice payload);

#endif
