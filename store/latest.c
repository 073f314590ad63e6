#include "store/latest.h"

struct latest_cursor {
    struct engine_cursor cursor;
    struct latest *latest;
    unsigned table;
    struct engine_cursor *base; /* NULL where the base is */
    struct slice base_key;      /* the first of the base that is not behind the cursor, */
    struct slice base_value;
    bool base_there; /* if there is one */
    bool base_taken; /* and the cursor is on it */
    bool placed;
    uint64_t statuses; /* of `latest` when the base was sought last */
    size_t size;
    uint8_t key[ENGINE_MAX_KEY]; /* where it is */
    uint8_t other[ENGINE_MAX_KEY];
};

static const struct engine_methods methods;

static struct latest *latest_of(struct engine *engine)
{
    return (struct latest *)engine;
}

static struct latest_cursor *cursor_of(struct engine_cursor *cursor)
{
    return (struct latest_cursor *)cursor;
}

int latest_init(struct latest *latest, struct engine *base)
{
    const struct engine_options options = {0};
    *latest = (struct latest){.engine = {.methods = &methods}, .base = base};
    return overlay_init(&latest->log, &options);
}

void latest_end(struct latest *latest)
{
    overlay_end(&latest->log);
}

int latest_put(struct latest *latest, unsigned table, struct slice key, const struct slice *value)
{
    struct slice kept = {0};
    if (key.size > ENGINE_MAX_KEY)
        return STORE_INVALID;
    if (value == NULL)
        return overlay_put(&latest->log, table, key, NULL);
    kept = slice_of(value->data, value->size < LATEST_MAX_VALUE ? value->size : LATEST_MAX_VALUE);
    return overlay_put(&latest->log, table, key, &kept);
}

static int latest_get(struct engine *engine, unsigned table, struct slice key, struct slice *value)
{
    struct latest *latest = latest_of(engine);
    struct overlay_entry entry;
    if (key.size <= ENGINE_MAX_KEY && overlay_get(&latest->log, table, key, &entry)) {
        *value = entry.value;
        return entry.deleted ? STORE_NOT_FOUND : STORE_OK;
    }
    if (latest->base == NULL)
        return STORE_NOT_FOUND;
    return latest->base->methods->get(latest->base, table, key, value);
}

int latest_has(struct latest *latest, unsigned table, struct slice key, bool *has)
{
    struct slice value;
    int rc = latest_get(&latest->engine, table, key, &value);
    *has = rc == STORE_OK;
    return rc == STORE_NOT_FOUND ? STORE_OK : rc;
}

static void latest_status(struct engine *engine, struct engine_status *status)
{
    struct latest *latest = latest_of(engine);
    *status = (struct engine_status){0};
    latest->statuses++;
    if (latest->base != NULL)
        latest->base->methods->status(latest->base, status);
}

static int latest_cursor_open(struct engine *engine, struct engine_snapshot *snapshot,
                              unsigned table, struct engine_cursor **cursor)
{
    struct latest *latest = latest_of(engine);
    struct engine *base = latest->base;
    struct latest_cursor *opened = calloc(1, sizeof *opened);
    int rc = STORE_OK;
    if (opened == NULL)
        return STORE_NO_MEMORY;
    opened->cursor.methods = &methods;
    opened->latest = latest;
    opened->table = table;
    if (base != NULL)
        rc = base->methods->cursor_open(base, snapshot, table, &opened->base);
    if (rc != STORE_OK)
        free(opened);
    else
        *cursor = &opened->cursor;
    return rc;
}

static void latest_cursor_close(struct engine_cursor *cursor)
{
    struct latest_cursor *own = cursor_of(cursor);
    if (own->base != NULL)
        own->base->methods->cursor_close(own->base);
    free(own);
}

/* What a call on the base's cursor came to. */
static int note_base(struct latest_cursor *own, int rc)
{
    own->base_there = rc == STORE_OK;
    own->base_taken = false;
    return rc == STORE_NOT_FOUND ? STORE_OK : rc;
}

static int step_base(struct latest_cursor *own)
{
    return note_base(own,
                     own->base->methods->cursor_next(own->base, &own->base_key, &own->base_value));
}

/* Puts the base's cursor to its first entry at or behind the key, or (`beyond`) behind it. */
static int seek_base(struct latest_cursor *own, struct slice key, bool beyond)
{
    if (own->base == NULL)
        return STORE_OK;
    own->statuses = own->latest->statuses;
    int rc = note_base(
        own, own->base->methods->cursor_seek(own->base, key, &own->base_key, &own->base_value));
    if (rc == STORE_OK && beyond && own->base_there && slice_equal(own->base_key, key))
        rc = step_base(own);
    return rc;
}

static int hand_out(struct latest_cursor *own, struct slice found_key, struct slice found_value,
                    struct slice *key, struct slice *value)
{
    if (found_key.size > sizeof own->key)
        return STORE_CORRUPT;
    if (found_key.size > 0)
        memmove(own->key, found_key.data, found_key.size);
    own->size = found_key.size;
    own->placed = true;
    *key = slice_of(own->key, own->size);
    *value = found_value;
    return STORE_OK;
}

/* From the key on, over what the log deleted. The base's cursor is where the key is. */
static int search(struct latest_cursor *own, struct slice from, bool or_at, struct slice *key,
                  struct slice *value)
{
    const struct overlay *log = &own->latest->log;
    struct overlay_entry entry;
    own->placed = false;
    for (;;) {
        bool there = overlay_after(log, own->table, from, or_at, own->other, &entry);
        if (!there && !own->base_there)
            return STORE_NOT_FOUND;
        int order = !own->base_there ? -1 : there ? slice_compare(entry.key, own->base_key) : 1;
        if (order > 0) {
            own->base_taken = true;
            return hand_out(own, own->base_key, own->base_value, key, value);
        }
        int rc = order == 0 ? step_base(own) : STORE_OK;
        if (rc != STORE_OK)
            return rc;
        rc = hand_out(own, entry.key, entry.value, key, value);
        if (rc != STORE_OK || !entry.deleted)
            return rc;
        own->placed = false;
        from = *key;
        or_at = false;
    }
}

static int latest_cursor_seek(struct engine_cursor *cursor, struct slice key,
                              struct slice *found_key, struct slice *value)
{
    struct latest_cursor *own = cursor_of(cursor);
    own->placed = false;
    int rc = seek_base(own, key, false);
    return rc == STORE_OK ? search(own, key, true, found_key, value) : rc;
}

static int latest_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct latest_cursor *own = cursor_of(cursor);
    struct slice here = slice_of(own->key, own->size);
    int rc = STORE_OK;
    if (!own->placed)
        return STORE_NOT_FOUND;
    if (own->statuses != own->latest->statuses)
        rc = seek_base(own, here, true);
    else if (own->base_taken)
        rc = step_base(own);
    return rc == STORE_OK ? search(own, here, false, key, value) : rc;
}

static const struct engine_methods methods = {
    .name = "the state",
    .get = latest_get,
    .cursor_open = latest_cursor_open,
    .cursor_close = latest_cursor_close,
    .cursor_seek = latest_cursor_seek,
    .cursor_next = latest_cursor_next,
    .status = latest_status,
};
