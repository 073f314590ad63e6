/* What the files of the store share: the store as it is in memory. Nobody else includes this. */
#ifndef STORE_STORE_INTERNAL_H
#define STORE_STORE_INTERNAL_H

#include "store/directory.h"
#include "store/engine.h"
#include "store/log.h"
#include "store/sieve.h"
#include "store/store.h"
#include "store/transaction.h"

struct store {
    struct directory *directory; /* NULL: nothing on disk */
    struct directory_state state;
    struct log *log;
    struct engine *engine;
    struct engine_cursor *cursors[STORE_TABLES];
    struct engine_mark mark; /* of the last commit */
    struct engine_status status;
    uint64_t memory_limit;
    bool evicts;
    bool short_of_room; /* the transaction has been denied room */
    struct sieve sieve; /* of the keys, where it evicts */
    uint64_t log_retain;
    uint64_t checkpoint_size;
    uint64_t written;  /* bytes of log since the last checkpoint was begun */
    bool again;        /* a checkpoint was asked for while one was running */
    uint64_t retry_ms; /* when the engine is asked again whether there is room */

    uint64_t now_ms;
    uint64_t seq;           /* of the last ended transaction that made a change */
    uint64_t committed_seq; /* the same, as of the last commit */
    uint64_t replayed;

    struct buffer undo; /* of all transactions since the last commit */
    bool open_turn;     /* something was written since */
    bool broken; /* engine and log no longer agree: an undo failed, or a commit of the engine */
    struct store_error failure; /* which; empty: see the engine's status */

    struct transaction transaction;
    struct buffer *body; /* the log's buffer, once the transaction has written; else NULL */
    size_t body_start;   /* where the operations of the transaction begin in it */
    size_t undo_start;   /* where its undo begins */
};

/* Tells the engine that it has everything up to this position of the log. The engine's code. */
int store_commit_engine(struct store *store, uint64_t position);

/* Begins to evict with what is there. STORE_INVALID with another engine than memory. */
int store_open_eviction(struct store *store, struct store_error *error);

/* The key is there from now on, or no longer. */
void store_track(struct store *store, unsigned table, struct slice key, bool present);

/*
 * store_has_room for a put that grows the contents by so many bytes. By none is right also where
 * the put before it has passed the limit: pages are made for it, and they take more than its bytes.
 */
bool store_has_room_for_put(struct store *store, size_t growth);

#endif
