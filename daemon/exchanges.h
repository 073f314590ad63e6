/*
 * The exchanges of a turn: its requests, from where they are read to where their replies leave.
 *
 *     router_receive ─ [inbox] ─ [deferred] ─ service_read ─ [held] ─ service_execute
 *                                                                              exchanges_drain
 *     (whoever has the store commits)
 *     [outbox] ─ router_reply ─ broadcast_send                                 exchanges_flush
 *
 * A request passes from left to right, once. The inbox (inbox.h) puts those of one peer together.
 * Two kinds stop on the way: what may take long, of a peer whose requests did, is deferred
 * (deferred.h); and one that begins a turn (WIRE_FIRST) is held until the next turn, whose first it
 * is.
 *
 *     exchanges_begin(exchanges, now_us, time_ms, waited)  the one that was held
 *     exchanges_drain(exchanges)                       what was deferred and what is waiting
 *     exchanges_fail(exchanges, code, message)         where the commit fails
 *     exchanges_flush(exchanges, broadcast)
 *
 * Times in us are monotonic. It says nothing before exchanges_flush.
 */
#ifndef DAEMON_EXCHANGES_H
#define DAEMON_EXCHANGES_H

#include "daemon/broadcast.h"
#include "daemon/router.h"
#include "daemon/service.h"

enum {
    TURN_MAX_REQUESTS = 1024,  /* deferred ones and all */
    TURN_ENOUGH = 256,         /* at a change of peers: who was served gets its replies, */
    TURN_ENOUGH_TO_SYNC = 512, /* or so many, and more on a slow disk, where they wait for it */
    TURN_MAX_DRAIN_US = 4000,  /* before a turn takes no more; the last request may pass it */
    TURN_MAX_BYTES = 8 << 20,  /* of replies, and of the log, before a turn takes no more */
    EXCHANGES_WINDOW = STORE_MAX_PREFETCH, /* requests read before the first is carried out, */
    EXCHANGES_WINDOW_BYTES = 64 << 10,     /* or so many bytes of them */
};

struct exchanges;

/*
 * Over `router` and by `service`, which both outlive it; `syncs`: a commit waits for the disk. NULL
 * where memory is out.
 */
struct exchanges *exchanges_new(struct router *router, struct service *service, bool syncs);

/* Before the router is closed. What was not answered is not. */
void exchanges_free(struct exchanges **exchanges);

/*
 * A turn begins; `time_ms` is the time of all that it carries out. `waited`: there was nothing to
 * do before it.
 */
void exchanges_begin(struct exchanges *exchanges, uint64_t now_us, uint64_t time_ms, bool waited);

/* Takes requests up to the TURN_MAX_ limits, and carries them out. */
void exchanges_drain(struct exchanges *exchanges);

/* The turn's requests so far. */
size_t exchanges_count(const struct exchanges *exchanges);

/* The commit took so long and wrote so many bytes: part of it was the work of who wrote much. */
void exchanges_charge_commit(struct exchanges *exchanges, uint64_t took_us, size_t wrote);

/* The turn has come to nothing: every reply becomes this error. After service_abandon. */
void exchanges_fail(struct exchanges *exchanges, enum wire_code code, const char *message);

/*
 * Sends the turn's replies and the outbox, in their order, and behind each what it has changed, and
 * the rest of what was gathered for the broadcast. After that the turn has no requests.
 */
void exchanges_flush(struct exchanges *exchanges, struct broadcast *broadcast);

/* Sends what is in the service's outbox, and empties it. */
void exchanges_send_outbox(struct exchanges *exchanges);

/* Takes what libzmq says of connections: watches and waits of those that have ended go. */
void exchanges_read_connections(struct exchanges *exchanges);

/* When a turn has something to do even if nothing more comes. 0: at once; UINT64_MAX: nothing. */
uint64_t exchanges_due_us(const struct exchanges *exchanges);

/*
 * The daemon stops: nothing more is read. What was is carried out, until exchanges_are_done or
 * exchanges_turn_away.
 */
void exchanges_stop(struct exchanges *exchanges);
bool exchanges_are_done(const struct exchanges *exchanges);

/*
 * It stops now, between turns: what was read and not carried out gets this error, so that
 * nobody waits for an answer, and exchanges_are_done.
 */
void exchanges_turn_away(struct exchanges *exchanges, enum wire_code code, const char *message);

#endif
