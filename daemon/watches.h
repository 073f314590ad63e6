/*
 * Watches: feeds of changes that clients have asked for, filtered by prefix and paced by credit.
 * A watch keeps nothing but its place in history. It knows no sockets and no clock: a client is the
 * bytes of its peer, times are arguments, and what is to be sent goes into an outbox.
 *
 * A watch that has all history is *at the tail*: what a turn adds is read once, and goes to all of
 * those whose prefix it has. One that is *behind*, because it began in the past, had no credit when
 * something came for it, or its peer took no more, reads history of its own, in steps; where there
 * are several, they take turns.
 *
 *     watches_add, watches_give, watches_cancel     the methods, while the turn is carried out
 *     watches_commit or watches_abandon             the turn's requests hold, or are as if never
 *                                                   made
 *     watches_notify                                what is new, to those at the tail
 *     watches_step                                  a step of one that is behind
 */
#ifndef DAEMON_WATCHES_H
#define DAEMON_WATCHES_H

#include "daemon/outbox.h"
#include "store/store.h"
#include "wire/error.h"

enum {
    WATCH_IDLE_MS = 4000,    /* with credit and without a notification, until an empty one */
    WATCH_STEP = 128 << 10,  /* work of one step through history, see store_history_work */
    WATCH_STEPS = 16,        /* that one watch takes before it is another's turn */
    WATCHES_CHUNK = 4 << 20, /* bytes that one call puts into the outbox, about */
    WATCHES_TURN = 64 << 20, /* bytes for those at the tail in one turn; others fall behind */
    WATCH_MAX_PEER = 255,    /* bytes of a routing id, as ZeroMQ has it */
};

/* The tags of their messages have this bit; the rest is the watch's id. */
#define WATCHES_TAG (UINT64_C(1) << 63)

struct watches;

/* The store outlives it. NULL where memory is out. */
struct watches *watches_new(struct store *store);
void watches_free(struct watches **watches);

size_t watches_count(const struct watches *watches);

/*
 * A new watch of `peer`, which is copied, for the changes with seq > since, which is kept and not
 * past the newest seq. It sends nothing before watches_commit. Ids grow with time, over restarts
 * too, so that one of an earlier run is nobody's. WIRE_BUSY, WIRE_STORAGE_FULL (no memory),
 * WIRE_BAD_REQUEST (a routing id over WATCH_MAX_PEER).
 */
enum wire_code watches_add(struct watches *watches, const struct peer *peer, struct slice prefix,
                           uint64_t since, uint64_t credit, uint64_t now_ms, uint64_t *id);

/* WIRE_NOT_FOUND where the peer has no such watch. WIRE_STORAGE_FULL: no memory. */
enum wire_code watches_give(struct watches *watches, const struct peer *peer, uint64_t id,
                            uint64_t credit);
enum wire_code watches_cancel(struct watches *watches, const struct peer *peer, uint64_t id);

/*
 * The connection with this number has ended. Watches without credit whose latest request came by it
 * go with the next watches_notify: nothing is sent to them that would find out. To be told before a
 * request of another connection with that number.
 */
void watches_connection_ended(struct watches *watches, int connection);

void watches_commit(struct watches *watches);
void watches_abandon(struct watches *watches);

/*
 * With nothing pending in the store: puts notifications into the outbox for what is new to watches
 * at the tail, empty ones for those that were idle for long, and the end of those whose place is
 * no longer kept. True: there is more; to be called again when the outbox has been sent.
 */
bool watches_notify(struct watches *watches, uint64_t now_ms, struct outbox *outbox);

/*
 * Whether a watch with credit is behind; a step through history for one of them, which puts one
 * message at most into the outbox. To be called when watches_notify had no more.
 */
bool watches_behind(const struct watches *watches);
void watches_step(struct watches *watches, uint64_t now_ms, struct outbox *outbox);

/* When watches_notify has to be called at the latest, ms since 1970; UINT64_MAX: never. */
uint64_t watches_due(const struct watches *watches);

/*
 * The message with this watch's id as its tag could not be given to its peer. `gone`: the peer has
 * left, and so all its watches go. Else it takes no more for now: the watch is as it was before the
 * message, and tries again after WATCH_IDLE_MS.
 */
void watches_undelivered(struct watches *watches, uint64_t id, bool gone);

/* Ends all of them with WIRE_UNAVAILABLE: the daemon stops. */
void watches_stop(struct watches *watches, struct outbox *outbox);

#endif
