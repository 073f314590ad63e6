/* Snapshots of a store: all tables of the engine's, one behind the other. */
#include "store/store_internal.h"

struct store_snapshot {
    struct engine *engine;
    struct engine_snapshot *taken;
    struct engine_cursor *cursor; /* on the table, or NULL: it is to be begun */
    unsigned table;
};

int store_snapshot(struct store *store, struct store_snapshot **result)
{
    struct store_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL)
        return STORE_NO_MEMORY;
    snapshot->engine = store->engine;
    int rc = store->engine->methods->snapshot(store->engine, &snapshot->taken);
    if (rc != 0) {
        free(snapshot);
        return rc;
    }
    *result = snapshot;
    return 0;
}

static void leave_table(struct store_snapshot *snapshot)
{
    if (snapshot->cursor != NULL)
        snapshot->engine->methods->cursor_close(snapshot->cursor);
    snapshot->cursor = NULL;
}

/* The first entry of a table. */
static int enter_table(struct store_snapshot *snapshot, struct slice *key, struct slice *value)
{
    const struct engine_methods *methods = snapshot->engine->methods;
    int rc =
        methods->cursor_open(snapshot->engine, snapshot->taken, snapshot->table, &snapshot->cursor);
    return rc != 0 ? rc : methods->cursor_seek(snapshot->cursor, (struct slice){0}, key, value);
}

int store_snapshot_next(struct store_snapshot *snapshot, unsigned *table, struct slice *key,
                        struct slice *value)
{
    int rc = STORE_NOT_FOUND;
    if (snapshot->cursor != NULL)
        rc = snapshot->engine->methods->cursor_next(snapshot->cursor, key, value);
    else if (snapshot->table < STORE_TABLES)
        rc = enter_table(snapshot, key, value);
    while (rc == STORE_NOT_FOUND && snapshot->table < STORE_TABLES) {
        leave_table(snapshot);
        snapshot->table++;
        if (snapshot->table < STORE_TABLES)
            rc = enter_table(snapshot, key, value);
    }
    *table = snapshot->table;
    return rc;
}

void store_snapshot_release(struct store_snapshot **pointer)
{
    struct store_snapshot *snapshot = *pointer;
    if (snapshot == NULL)
        return;
    *pointer = NULL;
    leave_table(snapshot);
    snapshot->engine->methods->release(snapshot->engine, snapshot->taken);
    free(snapshot);
}
