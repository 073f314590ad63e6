/*
 * The service: carries out requests against the store. It decodes a payload, runs the method in a
 * transaction of its own, and appends the encoded reply to a buffer. It knows no sockets, no
 * clock and no turns, so that a test can drive it with bytes and a time.
 *
 *     service_read(&service, payload, &replies, &request)        wire_decode_request
 *     service_execute(&service, &request, now_ms, &replies)      store_begin, the method,
 *                                                                store_end, the reply
 *
 * Nothing that it appends may leave before store_commit.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include "daemon/backups.h"
#include "daemon/deliveries.h"
#include "daemon/histogram.h"
#include "daemon/outbox.h"
#include "daemon/watches.h"
#include "store/keys.h"
#include "wire/pack.h"
#include "wire/request.h"

/* Counters and gauges for `stats`; whoever does the thing counts it. */
struct counters {
    uint64_t uptime_ms;
    uint64_t requests;          /* messages taken, notifications and malformed ones included */
    uint64_t errors;            /* of those, answered with an error */
    uint64_t connections;       /* open to the request socket */
    uint64_t drops;             /* as of the protocol */
    uint64_t waiting;           /* bytes of the broadcast that wait for subscribers */
    uint64_t deferred;          /* requests that waited since their peer's had taken long */
    uint64_t undelivered;       /* replies whose peer had left or took no more */
    struct histogram turn_us;   /* of turns with requests; its `max` is of all turns */
    struct histogram group;     /* requests of such a turn */
    struct histogram commit_us; /* of turns that wrote: their write and fsync */
    uint64_t expired;           /* keys */
    uint64_t evicted;           /* likewise */
    uint64_t returned;          /* jobs that went back, since their reply could not be sent */
};

/* A queue that got ready jobs: what the broadcast is to say. The name is behind it. */
struct queue_news {
    uint64_t seq; /* newest as of it */
    uint8_t size; /* of the name */
};

/* Tags of messages with this bit are of watches. */
#define SERVICE_TAG_WATCH (UINT64_C(1) << 63)

struct service {
    struct store *store;
    struct keys keys;
    struct store_history *history; /* for `changes` */
    struct watches *watches;
    struct backups backups;
    struct outbox outbox; /* what leaves behind the turn's replies */
    struct queues *queues;
    struct waiters *waiters;
    struct deliveries deliveries;
    bool announce;            /* somebody wants queue_news; set by whoever sends them */
    struct buffer queue_news; /* of this turn: struct queue_news and name, and so on */
    bool unmatched;           /* there may be waiters at queues with ready jobs */
    struct counters *counters;
    const char *durability; /* for stats */
};

/*
 * `store` and `counters` outlive the service. Opens the queues. Where it fails, `error` says why in
 * a line, and the service is to be freed all the same.
 */
int service_init(struct service *service, struct store *store, struct counters *counters,
                 uint64_t now_ms, struct store_error *error);

/* Lets go of what it has of the store's; before store_close. */
void service_free(struct service *service);

/*
 * Reads one request into `request`. False where there is nothing to carry out: its error reply is
 * in `out`. `request->answer` is set in every case.
 */
bool service_read(struct service *service, struct slice payload, struct buffer *out,
                  struct wire_request *request);

/* How a request is answered. All zeros: now, and whether the reply arrives changes nothing. */
struct service_answer {
    bool later;   /* nothing was appended: the reply comes by the outbox, in this turn or another */
    uint64_t tag; /* for service_undelivered; 0: none */
    size_t first; /* so many messages of the outbox leave before the reply */
};

/*
 * Carries out a request, whose payload is still there, of `peer`, and appends its reply to `out`:
 * one message, or nothing where the request is a notification or is answered later. Where memory is
 * out the reply is `storage_full`; if not even that fits, out->failed is set.
 */
struct service_answer service_execute(struct service *service, const struct wire_request *request,
                                      const struct peer *peer, uint64_t now_ms, struct buffer *out);

/*
 * The message with this tag, a reply or from the outbox, could not be given to its peer, which has
 * left (`gone`) or takes no more for now. After the commit; what is to be done about it is done in
 * the next turn.
 */
void service_undelivered(struct service *service, uint64_t tag, bool gone);

/* A hint that these keys, STORE_MAX_PREFETCH at most, are in the requests that come next. */
void service_prefetch(struct service *service, const struct slice *keys, unsigned count);

/* Appends an error reply to `request`: for turns that could not be committed, and bad frames. */
void service_refuse(struct service *service, const struct wire_request *request,
                    enum wire_code code, const char *message, struct buffer *out);

/*
 * Begins a turn: gives back the jobs of undelivered replies, and does what is due by time, in so
 * many transactions of a thousand keys or jobs each at most. What is left of keys is absent to
 * every request all the same; what is left of jobs is for the next turn.
 */
void service_begin_turn(struct service *service, uint64_t now_ms, unsigned of_keys,
                        unsigned of_jobs);

/* Ends it, right before store_commit: the last transaction. Results as of that. */
int service_end_turn(struct service *service, uint64_t now_ms);

/* The turn is committed: what its requests did beside the store holds. */
void service_commit(struct service *service);

/*
 * It came to nothing, after store_abandon: what it did besides is taken back. Waits that were
 * answered in it get this error instead.
 */
void service_abandon(struct service *service, enum wire_code code, const char *message);

/* Ends all waits and watches: the daemon stops. The last messages are in the outbox. */
void service_stop(struct service *service);

/* A time, ms since 1970, before which service_begin_turn has nothing to do; UINT64_MAX: never. */
uint64_t service_next_due(struct service *service);

#endif
