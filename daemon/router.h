/*
 * The router: messages from and to peers, over a ROUTER socket. It knows their frames, where the
 * memory of what leaves comes from, and why one could not leave; what is in them is for others.
 *
 *     router_open(&router, zmq_context)                then sockets_bind(router.socket, …)
 *     message = router_receive(&router)                NULL: none is waiting
 *     router_drop_payload(message)                     it was carried out
 *     router_reply(&router, message, payload)          or router_give_back(&router, message)
 *     router_close(&router)                            before the ZeroMQ context ends,
 *     router_end(&router)                              and after that
 *
 * A message stays where it was read until it is given back, and goes from hand to hand as a
 * pointer. The router never waits. The structure, all zeros before router_open, stays where it is.
 */
#ifndef DAEMON_ROUTER_H
#define DAEMON_ROUTER_H

#include "daemon/connections.h"
#include "daemon/outbox.h"
#include "daemon/payloads.h"

enum { ROUTER_MAX_MESSAGES = 6144 }; /* that were received and not yet given back */

struct router {
    void *socket;                    /* to be bound, and to wait at */
    struct connections *connections; /* that its messages come by */
    struct payloads payloads;
    struct router_message *messages; /* ROUTER_MAX_MESSAGES of them, */
    struct router_message *spare;    /* and those that nobody has */
};

/* A message as it was read. Whoever has it may use `next`. */
struct router_message {
    zmq_msg_t peer;
    zmq_msg_t payload;
    struct slice id;    /* the peer's routing id, until the message is given back */
    struct slice bytes; /* of the payload, until that is dropped */
    bool empty_frame;   /* before the payload, as REQ sends it and wants it back */
    bool well_framed;   /* the payload is all there was beside that */
    struct router_message *next;
};

/*
 * Makes the socket, and room for messages. -1 with errno where it cannot be done; router_close and
 * router_end are due. router_close ends messages that were not given back.
 */
int router_open(struct router *router, void *zmq_context);
void router_close(struct router *router);

/* Frees what messages were made of; none is left that is not closed. */
void router_end(struct router *router);

/*
 * Reads one message to its end. It is to be given back. NULL: none is waiting, or
 * ROUTER_MAX_MESSAGES are out.
 */
struct router_message *router_receive(struct router *router);

/* The file descriptor of the connection that the message came by; 0: unknown. */
int router_connection(struct router_message *message);

/* The payload's bytes are no longer needed: its memory is freed. */
void router_drop_payload(struct router_message *message);

/* The message, whose payload was dropped, is over, and is not answered. */
void router_give_back(struct router *router, struct router_message *message);

/*
 * The same with an answer: sends a copy of this payload to the message's peer, framed as the
 * message was, which is given back in any case. Else, EHOSTUNREACH: the peer has left; EAGAIN: it
 * does not read; ENOMEM, also where the payload is empty.
 */
int router_reply(struct router *router, struct router_message *message, struct slice payload);

/* The same to a peer by its name. */
int router_send_to(struct router *router, const struct peer *peer, struct slice payload);

#endif
