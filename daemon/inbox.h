/*
 * The inbox: requests that were read and are still to be carried out, those of one peer together.
 *
 * libzmq gives one request of each peer in turn. Carried out like that, the replies of all peers
 * leave at the end, and until then neither libzmq's I/O thread nor any client has work. Here a peer
 * that has sent sixteen is served sixteen times in a row, and its replies can leave with one system
 * call while the next peer is served.
 *
 *     inbox_begin_turn(inbox)
 *     inbox_fill(inbox, router)          now and then: what is waiting
 *     message = inbox_take(inbox)        the next request, while the turn takes more
 *     inbox_changes_peer(inbox)          a good moment to end the turn
 *     inbox_end_turn(inbox, n, false)
 *
 * Requests of a peer keep their order. Peers have their shares in the order in which the first
 * request of each was read, and who had none in this turn comes before those who had. A share is
 * INBOX_OF_ONE requests or, where many have some, their part of INBOX_OF_ALL; and it ends with the
 * turn: where requests take long, nobody has many of them in a row. It has no sockets of its own
 * and no clock, and all memory is taken at the start, so that nothing can fail later. Messages stay
 * where the router has them.
 */
#ifndef DAEMON_INBOX_H
#define DAEMON_INBOX_H

#include "daemon/router.h"

enum {
    INBOX_MAX_REQUESTS = 4096,
    INBOX_MAX_BYTES = 1 << 20, /* of their payloads, which the last one may pass */
    INBOX_MIN_REQUESTS = 16,   /* a turn reads so many, whatever is left of those before */
    INBOX_OF_ONE = 128,        /* of one peer in a row, where others wait, */
    INBOX_OF_ALL = 1024,       /* and of all in a row, before it is the first one's share again; */
    INBOX_OF_MANY = 16,        /* but of each so many at least */
};

struct inbox;

/* NULL where memory is out. */
struct inbox *inbox_new(void);

/* What it holds is not answered. */
void inbox_free(struct inbox **inbox);

/* From now on nobody has been served. */
void inbox_begin_turn(struct inbox *inbox);

/* Reads what is waiting, as far as there is room. */
void inbox_fill(struct inbox *inbox, struct router *router);

/*
 * Reads one request; whether one was waiting and had room. To find that there is no other costs a
 * system call, which is much for who does one thing at a time.
 */
bool inbox_read(struct inbox *inbox, struct router *router);

/* Takes the next message, which is the router's; NULL: none is left. */
struct router_message *inbox_take(struct inbox *inbox);

/* Whether the next message begins a share, or there is none. */
bool inbox_changes_peer(const struct inbox *inbox);

/* Whether no message is left of a peer that has had no share since inbox_begin_turn. */
bool inbox_went_round(const struct inbox *inbox);

/*
 * A turn has carried out so many requests. Where that took so long that it left some behind, no
 * more than these are read ahead: who comes now shall not wait for many turns. Else twice as many
 * as before.
 */
void inbox_end_turn(struct inbox *inbox, size_t carried_out, bool took_long);

/* How many it holds. */
size_t inbox_count(const struct inbox *inbox);

#endif
