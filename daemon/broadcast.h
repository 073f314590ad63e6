/*
 * The broadcast: a PUB socket on which every change leaves, and a heartbeat each second. It
 * never waits for a subscriber, and counts the occasions on which one had to go without.
 *
 * libzmq's XPUB socket is used, which is PUB to its peers and tells us what they subscribe to: no
 * change is encoded while nobody wants any.
 */
#ifndef DAEMON_BROADCAST_H
#define DAEMON_BROADCAST_H

#include "daemon/counters.h"
#include "store/store.h"

enum { BROADCAST_HEARTBEAT_MS = 1000 };

struct broadcast;

/*
 * Broadcasts on `socket`, an XPUB that is configured, bound and owned by the caller. `counters`
 * gets the drops. While max_backlog bytes wait for subscribers, nobody is sent anything but
 * heartbeats. NULL where memory is out.
 */
struct broadcast *broadcast_new(void *socket, struct store *store, struct counters *counters,
                                size_t max_backlog);

/* When the socket's context has ended: what waits for subscribers counts till then. */
void broadcast_free(struct broadcast **broadcast);

/* Takes what subscribers have sent: call it when the socket is readable. */
void broadcast_receive(struct broadcast *broadcast);

/* Whether somebody subscribes to queues. */
bool broadcast_wants_queues(const struct broadcast *broadcast);

/*
 * Encodes the changes of all ended transactions since the last call, and takes over the news of
 * queues, whose buffer is emptied; before they are committed. Does nothing where nobody subscribes.
 */
void broadcast_gather(struct broadcast *broadcast, struct buffer *queue_news);

/* Whether anything was gathered that is still to be sent. */
bool broadcast_has_news(const struct broadcast *broadcast);

/* Sends what was gathered, up to and including this seq. */
void broadcast_send(struct broadcast *broadcast, uint64_t seq);

/* Forgets what was gathered and not sent: its turn was not committed. */
void broadcast_drop(struct broadcast *broadcast);

/* How many bytes wait for subscribers, see backlog_bytes. */
size_t broadcast_waiting(const struct broadcast *broadcast);

/* Says that all changes up to store_seq have left. */
void broadcast_heartbeat(struct broadcast *broadcast);

/*
 * Behind what a turn sends. Sending may take note of what subscribers have sent, and then the
 * socket does not become readable for it: so it is taken here.
 */
void broadcast_end_turn(struct broadcast *broadcast);

#endif
