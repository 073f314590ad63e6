/*
 * The service: carries out requests against the store. It decodes a payload, runs the method in a
 * transaction of its own, and appends the encoded reply to a buffer. It knows no sockets, no
 * clock and no turns, so that a test can drive it with bytes and a time.
 *
 *     service_read(&service, payload, &replies, &request)            wire_decode_request
 *     service_execute(&service, &request, &peer, now_ms, &replies)   store_begin, the method,
 *                                                                    store_end, the reply
 *
 * Nothing that it appends may leave before store_commit.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include "daemon/method.h"

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

/* Begins a turn: gives back the jobs of undelivered replies. */
void service_begin_turn(struct service *service, uint64_t now_ms);

/*
 * A step of what is due by time: a transaction of at most 1,000 keys, one of at most
 * QUEUE_MAX_EXPIRED jobs, and waits. Whether more is due. What is left of keys is absent to every
 * request all the same; what is left of jobs is for the next turn.
 */
bool service_expire(struct service *service, uint64_t now_ms);

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

/*
 * A time, ms since 1970, before which service_begin_turn and service_expire have nothing to do;
 * UINT64_MAX: never.
 */
uint64_t service_next_due(struct service *service);

#endif
