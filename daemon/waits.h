/*
 * Handing out jobs: to a reserve or pop at once, or to one that waits. Inside the service: waits
 * are matched directly after each transaction that made jobs ready, in transactions of their own,
 * so that a queue with ready jobs has no waiters, unless it is paused. Their replies go into the
 * outbox.
 */
#ifndef DAEMON_WAITS_H
#define DAEMON_WAITS_H

#include "daemon/method.h"
#include "queue/waiters.h"

enum { WAITS_MAX_ENDED = 4096 }; /* waits over their time that one call ends */

/* What to hand out. */
struct hand_out {
    bool pop;
    uint32_t count;
    uint64_t lease_ms; /* 0: as the queue says */
    uint64_t tag;      /* of the delivery; 0: nothing comes back */
};

/*
 * Takes jobs of this queue, in the present transaction, and appends an array of them to `out`;
 * nothing where none is ready. `*taken`: how many. Other results than 0 as of queue_take: the
 * transaction is to be cancelled.
 */
int waits_hand_out(struct service *service, struct slice queue, const struct hand_out *what,
                   struct buffer *out, uint32_t *taken);

/* The request of this call, which found no job, waits; after its transaction has ended. */
enum wire_code waits_begin(struct call *call);

/*
 * The newest wait of this client with that msgid, whose request is carried out, came by this
 * connection, a file descriptor, and ends with it; 0: unknown. To be said before the connection's
 * end is, and after the end of an earlier one with the same number.
 */
void waits_came_by(struct service *service, struct slice peer, uint64_t msgid, int connection);

/* The connection with this number has ended: so have its waits, without a word. */
void waits_connection_ended(struct service *service, int connection);

/* Ends all waits of this client with that msgid with an empty array. False: there are none. */
bool waits_cancel(struct service *service, const struct peer *peer, uint64_t msgid);

/*
 * Announces the queues that have got ready jobs, and gives jobs to who waits there. After every
 * transaction that a queue took part in.
 */
void waits_wake(struct service *service);

/* Gives jobs to whoever can have some, at every queue. */
void waits_wake_all(struct service *service);

/* Ends waits whose time is over, with an empty array. */
void waits_expire(struct service *service, uint64_t now_ms);

/* Ends all waits: the daemon stops. */
void waits_stop(struct service *service);

/* The turn came to nothing: who was given jobs in it gets this error instead. */
void waits_abandon(struct service *service, enum wire_code code, const char *message);

#endif
