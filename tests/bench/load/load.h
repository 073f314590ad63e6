/*
 * The load generator of scripts/bench. One program, one loop over epoll, and the same work for
 * each operation, whatever the server speaks: so a ratio between two servers is not one between
 * two client libraries. It works as redis-benchmark does: a request is a prepared message in which
 * only the key is new; each connection sends `pipeline` requests with one write, waits for all
 * their replies, and sends the next.
 *
 * A protocol is one const struct: it prepares messages, and finds out where a reply ends.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include "wire/bytes.h"

enum action {
    ACTION_NONE,
    ACTION_GET,
    ACTION_PUT,
    ACTION_INSERT, /* a put of a key that is not there yet */
    ACTION_BATCH,  /* puts in one message; a protocol without batches has none */
    ACTION_SCAN,
    ACTION_PUSH,
    ACTION_POP,
    ACTION_RESERVE,
    ACTION_ACK, /* of the job that the reserve before has brought */
    ACTIONS
};

enum {
    KEY_DIGITS = 12, /* key:000000000042 */
    STAMP_SIZE = 16, /* hexadecimal nanoseconds, at the beginning of a value */
    SCAN_ENTRIES = 50,
    MAX_JOB_NAME = 48,
};

/* A message, and where in it the digits of keys and the stamps of values are. */
struct prepared {
    struct buffer bytes;
    struct buffer keys; /* a size_t for each */
    struct buffer stamps;
};

/* What prepared messages are made of. */
struct material {
    const char *queue;
    struct slice value;
    uint64_t batch_size;
};

/* What a reserve has brought, as the ack wants it. */
struct job {
    bool taken;
    uint64_t id;
    uint64_t lease;
    char name[MAX_JOB_NAME];
};

/* One connection. */
struct peer {
    int file;
    bool ready;       /* may send requests */
    unsigned greeted; /* the protocol's own: how far the handshake is */
    struct buffer in;
    size_t read; /* bytes of `in` that are done with */
    struct buffer out;
    size_t written;
};

enum found { FOUND_PART, FOUND_OTHER, FOUND_REPLY, FOUND_ERROR, FOUND_NONSENSE };

struct protocol {
    const char *name;

    /* Appends what opens a connection to peer->out, or sets peer->ready where nothing does. */
    void (*greet)(struct peer *peer);

    /* Prepares the message of an action; ACTION_ACK is none. False where it has no such action. */
    bool (*prepare)(enum action action, const struct material *material, struct prepared *message);

    /* Appends the ack of a job. */
    void (*ack)(const struct material *material, const struct job *job, struct buffer *out);

    /*
     * Looks at what was received. FOUND_PART: not a whole message yet. Otherwise *size is what is
     * done with: FOUND_OTHER is no reply (part of a handshake, say, and answered in peer->out),
     * FOUND_ERROR one that refuses. For ACTION_RESERVE and ACTION_POP `job` is filled.
     */
    enum found (*find)(struct peer *peer, struct slice bytes, enum action action, size_t *size,
                       struct job *job);
};

extern const struct protocol protocol_cubby;
extern const struct protocol protocol_redis;
extern const struct protocol protocol_streams; /* Redis, with a stream as the queue */
extern const struct protocol protocol_beanstalk;
extern const struct protocol protocol_etcd; /* its JSON gateway */

/* For protocols: notes that a key's digits, or a value's stamp, are what is appended next. */
void prepared_note(struct buffer *places, const struct buffer *bytes);

#endif
