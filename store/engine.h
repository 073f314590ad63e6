/*
 * The engine interface: an ordered map of bytes to bytes, in a few numbered tables, with cheap
 * consistent snapshots. Everything that makes the store a store (transactions, versions, expiry,
 * the log) is built above it, once, for all engines.
 *
 * An engine is used by one thread, the server loop; only a snapshot and the cursors on it may be
 * used by one other thread, while the loop goes on. An engine keeps no log: in a crash it may lose
 * its newest writes, and the store replays them.
 *
 *     struct engine *engine;
 *     engine_memory.open(&engine, &options, &mark, &error);   what is on disk, up to mark.position
 *     engine->methods->put(engine, table, key, value);        a turn's writes
 *     engine->methods->get(engine, table, key, &value);
 *     engine->methods->commit(engine, &mark);                 the log has them, as mark.position
 *     engine->methods->checkpoint(engine, false);             to the disk, in the background
 *     engine->methods->close(engine);
 *
 * What an engine has on disk is always the state as of some commit, whole, with its mark. So it
 * never brings what was written since the last commit to the disk: the store may take that back.
 *
 * Order is slice_compare. Keys are 0 to ENGINE_MAX_KEY bytes, values 0 to ENGINE_MAX_VALUE.
 *
 * A view (a struct slice that an engine hands out) lives until the next put, delete, commit or
 * status on the same engine, views from a cursor also only until the cursor moves or is closed;
 * views from a cursor on a snapshot are not affected by writes.
 */
#ifndef STORE_ENGINE_H
#define STORE_ENGINE_H

#include "store/error.h"
#include "wire/bytes.h"

enum {
    ENGINE_TABLES = 12,
    ENGINE_MAX_PREFETCH = 16,
    ENGINE_MAX_KEY = 2048, /* an index entry: a key of the protocol and what is before it */
    ENGINE_MAX_VALUE = (1 << 20) + 1024, /* a value of the protocol and what is kept with it */
};

struct engine {
    const struct engine_methods *methods;
};

struct engine_snapshot; /* an engine's state at one moment; opaque */

struct engine_cursor {
    const struct engine_methods *methods;
};

/* How far a state reaches. An engine keeps the mark on disk together with the state. */
struct engine_mark {
    uint64_t position; /* number of the log's group that was applied last; 0: none */
    uint64_t seq;      /* the newest as of that */
    uint64_t time_ms;  /* likewise */
};

struct engine_options {
    const char *directory; /* existing, writable and locked; NULL: keep nothing on disk */
    uint64_t memory_limit; /* bytes that caches and buffers may take together; 0: as usual. Where
                              the state is in memory: what it is meant to take at most */

    /*
     * Change nothing on disk, and need no permission to: no put, delete, snapshot, commit or
     * checkpoint follows. STORE_NOT_FOUND by an engine that has no files yet and needs them;
     * STORE_INVALID where an ordinary open would first put right what a power failure left.
     */
    bool read_only;

    /* Called now and then while `open` reads: bytes so far, and in all. May be NULL. */
    void (*progress)(void *context, uint64_t done, uint64_t total);

    /* Called by `open` with a line for the operator, where it made do with less than all. Or NULL.
     */
    void (*warn)(void *context, const char *line);
    void *context;

    /*
     * Asked before each allocation of `size` bytes, by the thread that needs it; false: the
     * allocation fails as if memory were out. For tests, and for limits. NULL: always admitted.
     */
    bool (*admit)(void *context, size_t size);
    void *admit_context;
};

/* How an engine and its checkpoints stand. */
struct engine_status {
    bool running;          /* a checkpoint is being written */
    struct engine_mark at; /* of the newest state that is on disk for good */
    uint64_t kept;   /* a start may have to go back to this position: the log keeps what follows */
    uint64_t count;  /* checkpoints since open that came to a good end */
    uint64_t failed; /* that did not */
    uint64_t size;   /* bytes on disk */
    uint64_t cost;   /* bytes that a checkpoint writes, where it writes all of the state; else 0 */
    uint64_t cache;  /* bytes of memory that hold no more than copies of what is on disk */
    bool full;       /* the disk has no room for what was committed, see commit */
    const char *failure; /* of the last that failed, or of a commit; NULL: none. A view */
};

struct engine_methods {
    const char *name; /* as of --engine */

    /*
     * Opens the engine with what is on disk and says which state that is: all zeros for an empty
     * one. Without a directory it is always empty; STORE_INVALID by engines that need one.
     * STORE_CORRUPT names file and offset. On failure fills `error`, leaves nothing open and
     * changes nothing on disk.
     */
    int (*open)(struct engine **engine, const struct engine_options *options,
                struct engine_mark *mark, struct store_error *error);

    /* Frees everything, syncing nothing. All snapshots and cursors have been released before. */
    void (*close)(struct engine *engine);

    /* STORE_NOT_FOUND where the key is absent. */
    int (*get)(struct engine *engine, unsigned table, struct slice key, struct slice *value);

    /*
     * A hint that these keys (ENGINE_MAX_PREFETCH at most, none empty) will be looked for next:
     * may bring what they are nearer, changes nothing. NULL where an engine has no use for it.
     */
    void (*prefetch)(struct engine *engine, unsigned table, const struct slice *keys,
                     unsigned count);

    /*
     * Adds or replaces. Key and value are copied, and may be views from this engine.
     * STORE_INVALID where one is over its limit; get and delete do not find such a key.
     */
    int (*put)(struct engine *engine, unsigned table, struct slice key, struct slice value);

    /* STORE_NOT_FOUND where the key is absent. */
    int (*delete)(struct engine *engine, unsigned table, struct slice key);

    /*
     * How many keys are in start <= key < end; `end.data == NULL` means no upper bound. Engines
     * that cannot do better walk.
     */
    int (*count)(struct engine *engine, unsigned table, struct slice start, struct slice end,
                 uint64_t *count);

    /*
     * A cursor on the present state (snapshot NULL) or on a snapshot. It starts nowhere: seek
     * first. A cursor on the present state survives writes: after one, `next` goes to the first
     * key behind the one it was on, `prev` to the last before it, whether that still exists or
     * not. STORE_NO_MEMORY where it cannot be made.
     */
    int (*cursor_open)(struct engine *engine, struct engine_snapshot *snapshot, unsigned table,
                       struct engine_cursor **cursor);
    void (*cursor_close)(struct engine_cursor *cursor);

    /*
     * Go to the first key >= `key`; to the last key < `key` (`key.data == NULL`: to the last of
     * all); to the one after; to the one before. Key and value of where it is are views. Where
     * there is none: STORE_NOT_FOUND, and the cursor must be sought again.
     */
    int (*cursor_seek)(struct engine_cursor *cursor, struct slice key, struct slice *found_key,
                       struct slice *value);
    int (*cursor_seek_before)(struct engine_cursor *cursor, struct slice key,
                              struct slice *found_key, struct slice *value);
    int (*cursor_next)(struct engine_cursor *cursor, struct slice *key, struct slice *value);
    int (*cursor_prev)(struct engine_cursor *cursor, struct slice *key, struct slice *value);

    /*
     * The present state, kept as it is until released, at a cost that does not depend on its
     * size. Several may exist. Both are called by the loop's thread; snapshot only where nothing
     * was written since the last commit (or since open). STORE_NO_MEMORY; STORE_FULL while the disk
     * has no room for what was committed.
     */
    int (*snapshot)(struct engine *engine, struct engine_snapshot **snapshot);
    void (*release)(struct engine *engine, struct engine_snapshot *snapshot);

    /*
     * Everything written so far is in the log, up to `mark`, and as durable there as its durability
     * says. The engine may write it to its own files whenever it likes, and does so in time by
     * itself where its memory would grow. Where the disk has no room for that the engine may keep
     * it in memory for a while, and says so by `full` in status: the store puts nothing more then,
     * though it goes on to delete, and commits again with the same mark now and then, whereupon
     * the engine tries again. A failure (STORE_IO, STORE_FULL, STORE_NO_MEMORY) is final: status
     * has the sentence, the engine takes nothing more, and is closed.
     */
    int (*commit)(struct engine *engine, const struct engine_mark *mark);

    /*
     * Brings the state as of the last commit to the disk, so that a later open has at least it.
     * Without `wait` it is begun, goes on in the background as far as the engine can, and its end
     * is to be seen in status; while one is running nothing happens. With `wait` the state is on
     * disk afterwards, or the result says why not. A failure (STORE_FULL, STORE_IO) loses nothing:
     * what was on disk before is still there, the engine goes on, and may be asked again. Nothing
     * to do where that state is on disk already, and without a directory.
     */
    int (*checkpoint)(struct engine *engine, bool wait);

    /* Cheap: called in every turn, and where the loop's thread finishes what another one left. */
    void (*status)(struct engine *engine, struct engine_status *status);

    /*
     * Bytes of memory that hold the state, including what is allocated around it, and what is there
     * for snapshots alone. 0 where the state is on disk.
     */
    uint64_t (*memory)(struct engine *engine);

    /*
     * So many of these bytes the present state no longer needs: snapshots hold them, or they are
     * being freed, as writes and turns go on. Deletes do not give them back, time does. NULL: none.
     */
    uint64_t (*held)(struct engine *engine);
};

/* The state in memory: a B+tree with prefix truncation and copy-on-write snapshots. */
extern const struct engine_methods engine_memory;

/* The state on disk, in LMDB's memory-mapped B+tree: quick to read, and not bound by memory. */
extern const struct engine_methods engine_lmdb;

/* The state on disk, in RocksDB's log-structured tree: quick to write, and not bound by memory. */
extern const struct engine_methods engine_rocksdb;

/* The engine of that name, NULL where there is none; and the names of all, for a sentence. */
const struct engine_methods *engine_find(const char *name);
const char *engine_names(void);

#endif
