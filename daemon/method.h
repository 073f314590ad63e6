/*
 * What one method acts on, gets and gives: for service.c and the files that hold methods. A method
 * runs inside a transaction. It appends exactly one MessagePack object, its result, to call->out
 * and returns WIRE_OK; or it fills call->error and returns the code, and the transaction and what
 * it appended are taken back by whoever called it.
 */
#ifndef DAEMON_METHOD_H
#define DAEMON_METHOD_H

#include "daemon/backups.h"
#include "daemon/counters.h"
#include "daemon/deliveries.h"
#include "daemon/outbox.h"
#include "daemon/watches.h"
#include "store/keys.h"
#include "wire/pack.h"
#include "wire/request.h"

/* A queue that got ready jobs: what the broadcast is to say. The name is behind it. */
struct queue_news {
    uint64_t seq; /* newest as of it */
    uint8_t size; /* of the name */
};

/* What methods act on: the store, and what is open beside it. Owned by service.c. */
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

/* How a request is answered. All zeros: now, and whether the reply arrives changes nothing. */
struct service_answer {
    bool later;   /* nothing was appended: the reply comes by the outbox, in this turn or another */
    uint64_t tag; /* for service_undelivered; 0: none */
    size_t first; /* so many messages of the outbox leave before the reply */
};

struct call {
    struct service *service;
    const struct wire_request *request; /* the message; a batch's, for its operations */
    const struct wire_args *args;       /* of the request, or of this operation of the batch */
    enum wire_method method;            /* likewise */
    const struct peer *peer;
    struct buffer *out;
    struct wire_error *error;
    struct service_answer *answer; /* NULL for operations of a batch */
};

typedef enum wire_code method_fn(struct call *call);

/* method_get, method_put and so on: one for each row of methods.def. */
#define METHOD(NAME, function, ...) method_fn method_##function;
#include "wire/methods.def"
#undef METHOD

extern method_fn *const method_table[WIRE_METHODS];

/* Runs the method with these arguments as part of the present transaction. */
static inline enum wire_code method_run(struct call *call, enum wire_method method)
{
    call->method = method;
    return method_table[method](call);
}

/*
 * Ends the present transaction where `rc` is 0, and cancels it otherwise. Returns `rc`, or why it
 * could not be ended: then it was cancelled.
 */
static inline int method_end_transaction(struct service *service, int rc)
{
    if (rc == 0)
        rc = store_end(service->store, NULL);
    else
        store_cancel(service->store);
    if (rc == 0)
        queues_end(service->queues);
    else
        queues_cancel(service->queues);
    return rc;
}

/* The seq as of this call: the transaction's own where it has made a change so far. */
uint64_t method_seq(const struct call *call);

/* A pair of a map. */
void method_pack_number(struct buffer *out, const char *name, uint64_t value);
void method_pack_text(struct buffer *out, const char *name, const char *value);

#endif
