/*
 * Deferred requests: heavy work gives way. A request that took longer than DEFERRED_HEAVY_US puts
 * its peer on record. What a peer on record sends next and may take long as well waits here until
 * DEFERRED_SHARE - 1 times as long has passed, and so does everything that the peer sends behind
 * it, since requests of a peer keep their order. So heavy work, of however many peers, gets one in
 * DEFERRED_SHARE of all moments, and the peers take turns at it.
 *
 * Who disturbs nobody is not held up: where no peer but those on record has sent anything for
 * DEFERRED_QUIET_US, nothing waits. Nothing waits at the head of its peer's line for longer than
 * DEFERRED_MAX_WAIT_US either, nor once deferred_is_full, nor when the daemon stops.
 *
 *     deferred_offer(deferred, message, now_us)          each that was read; true: it waits
 *     message = deferred_take(deferred, true, now_us)    each turn: one that is due
 *     deferred_charge(deferred, peer, took_us, now_us)   one that took long
 *     deferred_end_turn(deferred, now_us)
 *
 * What waits is messages as they were read. It has no sockets and no clock: times are monotonic, in
 * us, and arguments. All memory is taken at the start, so that nothing can fail later.
 */
#ifndef DAEMON_DEFERRED_H
#define DAEMON_DEFERRED_H

#include "daemon/router.h"
#include "wire/request.h"

enum {
    DEFERRED_HEAVY_US = 1000,
    DEFERRED_SHARE = 10,
    DEFERRED_QUIET_US = 10000,
    DEFERRED_MAX_WAIT_US = 2000000,
    DEFERRED_MAX_CHARGE_US = 100000, /* of one request: more is the disk's fault */
    DEFERRED_LARGE = 64 << 10, /* a request, or what it writes, that may take long by its bytes */
    DEFERRED_MAX_PEERS = 256,  /* on record; further ones are not held up */
    DEFERRED_MAX_REQUESTS = 1024,  /* that wait, of all peers, */
    DEFERRED_MAX_BYTES = 64 << 20, /* and their bytes, which the last one may pass */
    DEFERRED_MAX_PEER_ID = 255,    /* bytes of a routing id, as libzmq has it */
};

struct deferred;

/* Whether a request may take long, by its method and size. */
bool deferred_may_take_long(const struct wire_request *request);

/* NULL where memory is out. What still waits at the end is not answered. */
struct deferred *deferred_new(void);
void deferred_free(struct deferred **deferred);

/*
 * Offers a message that was read. True: it is to wait, and is here until it is taken. Only where it
 * is not deferred_is_full. A peer that is not on record counts as active.
 */
bool deferred_offer(struct deferred *deferred, struct router_message *message, uint64_t now_us);

/* Whether nothing more is to be read before one was taken; then one is due at once. */
bool deferred_is_full(const struct deferred *deferred);

/*
 * Takes the message that is due; NULL: there is none. One whose request may take long only where
 * `may_be_long`.
 */
struct router_message *deferred_take(struct deferred *deferred, bool may_be_long, uint64_t now_us);

/* The turn is over, and the replies have left: others that were active in it are so until now. */
void deferred_end_turn(struct deferred *deferred, uint64_t now_us);

/* When deferred_take will have one, if nothing else comes. 0: at once, UINT64_MAX: none waits. */
uint64_t deferred_due_us(const struct deferred *deferred);

/* A request of the peer took so long; less than DEFERRED_HEAVY_US changes nothing. */
void deferred_charge(struct deferred *deferred, struct slice peer, uint64_t took_us,
                     uint64_t now_us);

/* The daemon stops: from now on all is due. */
void deferred_stop(struct deferred *deferred);

/* How many wait. */
size_t deferred_count(const struct deferred *deferred);

#endif
