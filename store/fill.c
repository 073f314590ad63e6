#include "store/fill.h"

#include <stdio.h>

#include "store/directory.h"
#include "store/engine.h"

enum { COMMIT_BYTES = 4 << 20 }; /* entries that an engine holds back at once */

struct store_fill {
    struct directory *directory;
    struct engine *engine;
    struct engine_mark mark;
    size_t uncommitted; /* bytes */
};

static int fail_engine(struct store_fill *fill, int rc, struct store_error *error)
{
    struct engine_status status;
    fill->engine->methods->status(fill->engine, &status);
    return (int)store_fail(error, (enum store_code)rc, "%s",
                           status.failure != NULL ? status.failure : "out of memory");
}

void store_fill_cancel(struct store_fill **pointer)
{
    struct store_fill *fill = *pointer;
    if (fill == NULL)
        return;
    *pointer = NULL;
    if (fill->engine != NULL)
        fill->engine->methods->close(fill->engine);
    directory_close(&fill->directory);
    free(fill);
}

/* A directory is new where it has no state yet; one with other files is refused by its opening. */
static int open_new(struct store_fill *fill, const char *path, struct store_error *error)
{
    struct directory_state state;
    int rc = directory_open(&fill->directory, path, &state, error);
    if (rc == 0 && state.epoch[0] != '\0')
        rc = (int)store_fail(error, STORE_INVALID,
                             "%s is a data directory already: give one that is empty or not there",
                             path);
    return rc;
}

int store_fill_begin(struct store_fill **result, const struct store_options *options,
                     struct store_error *error)
{
    const char *name = options->engine != NULL ? options->engine : engine_memory.name;
    const struct engine_methods *methods = engine_find(name);
    struct engine_options engine_options = {.directory = options->directory};
    if (methods == NULL)
        return (int)store_fail(error, STORE_INVALID, "there is no engine '%s'; this version has %s",
                               name, engine_names());
    struct store_fill *fill = calloc(1, sizeof *fill);
    if (fill == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    int rc = open_new(fill, options->directory, error);
    if (rc == 0)
        rc = methods->open(&fill->engine, &engine_options, &fill->mark, error);
    if (rc != 0) {
        store_fill_cancel(&fill);
        return rc;
    }
    *result = fill;
    return 0;
}

static int commit(struct store_fill *fill, struct store_error *error)
{
    int rc = fill->engine->methods->commit(fill->engine, &fill->mark);
    fill->uncommitted = 0;
    return rc == 0 ? 0 : fail_engine(fill, rc, error);
}

int store_fill_put(struct store_fill *fill, unsigned table, struct slice key, struct slice value,
                   struct store_error *error)
{
    if (table >= ENGINE_TABLES)
        return (int)store_fail(error, STORE_INVALID, "there is no table %u", table);
    int rc = fill->engine->methods->put(fill->engine, table, key, value);
    if (rc == STORE_INVALID)
        return (int)store_fail(error, STORE_INVALID, "an entry is too large: %zu and %zu bytes",
                               key.size, value.size);
    if (rc != 0)
        return fail_engine(fill, rc, error);
    fill->uncommitted += key.size + value.size;
    return fill->uncommitted >= COMMIT_BYTES ? commit(fill, error) : 0;
}

int store_fill_delete(struct store_fill *fill, unsigned table, struct slice key,
                      struct store_error *error)
{
    if (table >= ENGINE_TABLES)
        return (int)store_fail(error, STORE_INVALID, "there is no table %u", table);
    int rc = fill->engine->methods->delete (fill->engine, table, key);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return fail_engine(fill, rc, error);
    fill->uncommitted += key.size;
    return fill->uncommitted >= COMMIT_BYTES ? commit(fill, error) : 0;
}

struct engine *store_fill_engine(struct store_fill *fill)
{
    return fill->engine;
}

/* The state of a run that ended cleanly, with all history before it forgotten. */
static int save_state(struct store_fill *fill, uint64_t seq, struct store_error *error)
{
    struct directory_state state = {
        .durability = STORE_ALWAYS, .clean = true, .forgotten = seq, .begun = false};
    snprintf(state.engine, sizeof state.engine, "%s", fill->engine->methods->name);
    int rc = directory_new_epoch(state.epoch, error);
    return rc == 0 ? directory_save(fill->directory, &state, error) : rc;
}

int store_fill_end(struct store_fill **pointer, uint64_t seq, uint64_t time_ms,
                   struct store_error *error)
{
    struct store_fill *fill = *pointer;
    fill->mark.seq = seq;
    fill->mark.time_ms = time_ms;
    int rc = commit(fill, error);
    if (rc == 0) {
        rc = fill->engine->methods->checkpoint(fill->engine, true);
        rc = rc == 0 ? save_state(fill, seq, error) : fail_engine(fill, rc, error);
    }
    store_fill_cancel(pointer);
    return rc;
}
