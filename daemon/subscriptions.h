/*
 * What subscribers want, as XPUB hands it to us: each topic that somebody subscribes to, once, and
 * once more when the last one does no longer, or has left. So a message that nobody wants need not
 * be made. Of topics that no message can have nothing is kept.
 */
#ifndef DAEMON_SUBSCRIPTIONS_H
#define DAEMON_SUBSCRIPTIONS_H

#include "daemon/prefixes.h"

enum {
    TOPIC_CHANGE = 'k',
    TOPIC_QUEUE = 'q',
    TOPIC_HEARTBEAT = 'h',
    SUBSCRIPTIONS_MAX_BYTES = 16 << 20, /* that are kept; beyond that every message is made */
};

struct subscriptions {
    struct prefixes topics;
    size_t bytes;
    uint64_t unknown; /* for which there was no room: they may want anything */
    uint64_t changes; /* that may want a change, */
    uint64_t queues;  /* or news of a queue */
};

/* None. `seed` is random. */
void subscriptions_init(struct subscriptions *subscriptions, uint64_t seed);
void subscriptions_free(struct subscriptions *subscriptions);

/*
 * Takes note of 1 or 0, and the topic that somebody wants, or nobody does any longer. The latter is
 * `certain` when libzmq says it because a connection has ended. Otherwise a peer has: XPUB hands
 * that on also where the peer never wanted the topic, and others do. So it stays, until it is
 * certain; that no one wants it meanwhile costs messages that are made in vain, and no more.
 */
void subscriptions_note(struct subscriptions *subscriptions, struct slice message, bool certain);

/* Whether anybody may want a message with this topic. */
bool subscriptions_want(const struct subscriptions *subscriptions, struct slice topic);

#endif
