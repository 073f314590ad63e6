/*
 * An engine around another one, of which the n-th call fails, or is the last that the process
 * makes. It stands where the store looks for engines: this file's engine_find takes the place of
 * the one in store/engine.c, so that store_open gets a faulty one for each name.
 *
 *     faults = (struct faults){.inner = &engine_lmdb, .left = 17, .kind = FAULT_IO};
 *     store_open(&store, &options, &error);
 *
 * Calls that have no result can only be the last. What fails does nothing in the engine inside,
 * as engine.h has it.
 */
#ifndef TESTS_STORE_FAULTY_ENGINE_H
#define TESTS_STORE_FAULTY_ENGINE_H

#include <unistd.h>

#include "store/engine.h"

enum fault {
    FAULT_NO_MEMORY,
    FAULT_IO,
    FAULT_FULL,
    FAULT_DEATH_BEFORE, /* the process ends instead of the call, */
    FAULT_DEATH_AFTER,  /* or when the call is done */
    FAULT_KINDS
};

enum { FAULT_EXIT = 42 }; /* exit code of such a death */

struct faults {
    const struct engine_methods *inner;
    long left; /* calls up to the faulty one; 0: none is */
    enum fault kind;
    bool paused; /* calls are not counted */
    bool fired;
};

static struct faults faults;

struct faulty_engine {
    struct engine engine;
    struct engine *inner;
};

struct faulty_cursor {
    struct engine_cursor cursor;
    struct engine_cursor *inner;
};

/* Whether this call is the one. */
static inline bool fault_is_due(void)
{
    if (faults.paused || faults.left == 0 || --faults.left > 0)
        return false;
    faults.fired = true;
    if (faults.kind == FAULT_DEATH_BEFORE)
        _exit(FAULT_EXIT);
    return true;
}

static inline int fault_code(void)
{
    static const int codes[] = {STORE_NO_MEMORY, STORE_IO, STORE_FULL};
    return codes[faults.kind];
}

/* Does the call, unless it is the one that fails. */
#define FAULT_CALL(call)                                                                           \
    do {                                                                                           \
        bool due = fault_is_due();                                                                 \
        if (due && faults.kind < FAULT_DEATH_BEFORE)                                               \
            return fault_code();                                                                   \
        int rc = (call);                                                                           \
        if (due)                                                                                   \
            _exit(FAULT_EXIT);                                                                     \
        return rc;                                                                                 \
    } while (0)

static inline struct engine *fault_inner(struct engine *engine)
{
    return ((struct faulty_engine *)engine)->inner;
}

static inline struct engine_cursor *fault_cursor(struct engine_cursor *cursor)
{
    return ((struct faulty_cursor *)cursor)->inner;
}

extern const struct engine_methods engine_faulty;

static int faulty_open_inner(struct faulty_engine *opened, const struct engine_options *options,
                             struct engine_mark *mark, struct store_error *error)
{
    bool due = fault_is_due();
    if (due && faults.kind < FAULT_DEATH_BEFORE)
        return (int)store_fail(error, (enum store_code)fault_code(), "a fault in open");
    int rc = faults.inner->open(&opened->inner, options, mark, error);
    if (due)
        _exit(FAULT_EXIT);
    return rc;
}

static int faulty_open(struct engine **engine, const struct engine_options *options,
                       struct engine_mark *mark, struct store_error *error)
{
    struct faulty_engine *opened = calloc(1, sizeof *opened);
    opened->engine.methods = &engine_faulty;
    int rc = faulty_open_inner(opened, options, mark, error);
    if (rc != STORE_OK)
        free(opened);
    else
        *engine = &opened->engine;
    return rc;
}

static void faulty_close(struct engine *engine)
{
    faults.inner->close(fault_inner(engine));
    free(engine);
}

static int faulty_get(struct engine *engine, unsigned table, struct slice key, struct slice *value)
{
    FAULT_CALL(faults.inner->get(fault_inner(engine), table, key, value));
}

static void faulty_prefetch(struct engine *engine, unsigned table, const struct slice *keys,
                            unsigned count)
{
    if (faults.inner->prefetch != NULL)
        faults.inner->prefetch(fault_inner(engine), table, keys, count);
}

static int faulty_put(struct engine *engine, unsigned table, struct slice key, struct slice value)
{
    FAULT_CALL(faults.inner->put(fault_inner(engine), table, key, value));
}

static int faulty_delete(struct engine *engine, unsigned table, struct slice key)
{
    FAULT_CALL(faults.inner->delete (fault_inner(engine), table, key));
}

static int faulty_count(struct engine *engine, unsigned table, struct slice start, struct slice end,
                        uint64_t *count)
{
    FAULT_CALL(faults.inner->count(fault_inner(engine), table, start, end, count));
}

static int faulty_open_inner_cursor(struct engine *engine, struct engine_snapshot *snapshot,
                                    unsigned table, struct engine_cursor **cursor)
{
    FAULT_CALL(faults.inner->cursor_open(fault_inner(engine), snapshot, table, cursor));
}

static int faulty_cursor_open(struct engine *engine, struct engine_snapshot *snapshot,
                              unsigned table, struct engine_cursor **cursor)
{
    struct faulty_cursor *opened = calloc(1, sizeof *opened);
    opened->cursor.methods = &engine_faulty;
    int rc = faulty_open_inner_cursor(engine, snapshot, table, &opened->inner);
    if (rc != STORE_OK)
        free(opened);
    else
        *cursor = &opened->cursor;
    return rc;
}

static void faulty_cursor_close(struct engine_cursor *cursor)
{
    faults.inner->cursor_close(fault_cursor(cursor));
    free(cursor);
}

static int faulty_cursor_seek(struct engine_cursor *cursor, struct slice key,
                              struct slice *found_key, struct slice *value)
{
    FAULT_CALL(faults.inner->cursor_seek(fault_cursor(cursor), key, found_key, value));
}

static int faulty_cursor_seek_before(struct engine_cursor *cursor, struct slice key,
                                     struct slice *found_key, struct slice *value)
{
    FAULT_CALL(faults.inner->cursor_seek_before(fault_cursor(cursor), key, found_key, value));
}

static int faulty_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    FAULT_CALL(faults.inner->cursor_next(fault_cursor(cursor), key, value));
}

static int faulty_cursor_prev(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    FAULT_CALL(faults.inner->cursor_prev(fault_cursor(cursor), key, value));
}

static int faulty_snapshot(struct engine *engine, struct engine_snapshot **snapshot)
{
    FAULT_CALL(faults.inner->snapshot(fault_inner(engine), snapshot));
}

static void faulty_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    faults.inner->release(fault_inner(engine), snapshot);
}

static int faulty_commit(struct engine *engine, const struct engine_mark *mark)
{
    FAULT_CALL(faults.inner->commit(fault_inner(engine), mark));
}

static int faulty_checkpoint(struct engine *engine, bool wait)
{
    FAULT_CALL(faults.inner->checkpoint(fault_inner(engine), wait));
}

static void faulty_status(struct engine *engine, struct engine_status *status)
{
    bool due = fault_is_due();
    faults.inner->status(fault_inner(engine), status);
    if (due && faults.kind == FAULT_DEATH_AFTER)
        _exit(FAULT_EXIT);
    if (faults.fired && status->failure == NULL)
        status->failure = "a fault";
}

static uint64_t faulty_memory(struct engine *engine)
{
    return faults.inner->memory(fault_inner(engine));
}

const struct engine_methods engine_faulty = {
    .name = "faulty",
    .open = faulty_open,
    .close = faulty_close,
    .get = faulty_get,
    .prefetch = faulty_prefetch,
    .put = faulty_put,
    .delete = faulty_delete,
    .count = faulty_count,
    .cursor_open = faulty_cursor_open,
    .cursor_close = faulty_cursor_close,
    .cursor_seek = faulty_cursor_seek,
    .cursor_seek_before = faulty_cursor_seek_before,
    .cursor_next = faulty_cursor_next,
    .cursor_prev = faulty_cursor_prev,
    .snapshot = faulty_snapshot,
    .release = faulty_release,
    .commit = faulty_commit,
    .checkpoint = faulty_checkpoint,
    .status = faulty_status,
    .memory = faulty_memory,
};

const struct engine_methods *engine_find(const char *name)
{
    (void)name;
    return &engine_faulty;
}

const char *engine_names(void)
{
    return "a faulty one";
}

#endif
