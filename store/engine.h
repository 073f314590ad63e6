/*
 * The engine interface: an ordered map of bytes to bytes, in a few numbered tables, with cheap
 * consistent snapshots. Everything that makes the store a store (transactions, versions, expiry,
 * the log) is built above it, once, for all engines.
 *
 * An engine is used by one thread, the server loop; only a snapshot and the cursors on it may be
 * used by one other thread, while the loop goes on. An engine keeps no log: writes that were not
 * made durable by `checkpoint` may be lost in a crash, and the store replays them.
 *
 *     struct engine *engine;
 *     engine_memory.open(&engine, &options, &applied, &error);
 *     engine->methods->put(engine, table, key, value);
 *     engine->methods->get(engine, table, key, &value);
 *     engine->methods->close(engine);
 *
 * Order is slice_compare. Keys are 0 to ENGINE_MAX_KEY bytes, values 0 to ENGINE_MAX_VALUE.
 *
 * A view (a struct slice that an engine hands out) lives until the next put or delete on the
 * same engine, views from a cursor also only until the cursor moves or is closed; views from a
 * cursor on a snapshot are not affected by writes.
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

struct engine_options {
    const char *directory; /* existing and writable; NULL: keep nothing on disk */

    /*
     * Asked before each allocation of `size` bytes, by the thread that needs it; false: the
     * allocation fails as if memory were out. For tests, and for limits. NULL: always admitted.
     */
    bool (*admit)(void *context, size_t size);
    void *admit_context;
};

struct engine_methods {
    const char *name; /* as of --engine */

    /*
     * Opens the engine and says up to which position of the log its state is on disk: 0 for an
     * empty one. On failure fills `error` and leaves nothing behind.
     */
    int (*open)(struct engine **engine, const struct engine_options *options, uint64_t *applied,
                struct store_error *error);

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
     * size. Several may exist. Both are called by the loop's thread.
     */
    int (*snapshot)(struct engine *engine, struct engine_snapshot **snapshot);
    void (*release)(struct engine *engine, struct engine_snapshot *snapshot);

    /*
     * Makes the present state durable, `position` with it, so that the next open returns it as
     * `applied`. An engine without files of its own (memory) does nothing: the store writes its
     * checkpoints from a snapshot.
     */
    int (*checkpoint)(struct engine *engine, uint64_t position);

    /* Bytes of memory that hold keys and values, including what is allocated around them. */
    uint64_t (*memory)(struct engine *engine);
};

/* The state in memory: a B+tree with prefix truncation and copy-on-write snapshots. */
extern const struct engine_methods engine_memory;

#endif
