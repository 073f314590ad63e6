/*
 * The RocksDB engine: the state on disk, in a log-structured tree, for more keys than memory holds.
 *
 * What was written since the last commit is in an overlay, and not in RocksDB: that may bring what
 * it has to its files at any time, and the store may still take a turn back. A commit hands the
 * overlay over as one batch, together with the mark. Where the disk is full the overlay is kept,
 * and handed over once there is room; the log has all of it meanwhile.
 */
#include "store/gaps.h"
#include "store/overlay.h"
#include "store/rocks.h"

/* While the disk is full, so much is kept in the overlay: what deletes write, and the undo of a
 * turn. Puts are refused then. */
static const uint64_t MAX_KEPT = UINT64_C(64) << 20;

/* What was looked for last: the store looks for a key, perhaps twice, before it writes it. */
struct known {
    bool valid;
    bool exists;
    bool viewed; /* and `value` may be handed out again */
    struct slice value;
    struct table_key key;
};

struct rocksdb_engine {
    struct engine engine;
    struct rocks *rocks;
    struct rocks_state state; /* the mark of the last commit; counts of the present state */
    struct overlay overlay;
    bool full; /* the overlay has what was committed, since there was no room for it */
    struct known known;
    struct gaps gaps;
    struct rocksdb_cursor *cursors; /* on the present state */
};

/* Where the iterator is, as seen from the cursor's key. */
enum side { SIDE_UNKNOWN, SIDE_AHEAD, SIDE_BEHIND };

struct rocksdb_cursor {
    struct engine_cursor cursor;
    struct rocksdb_engine *engine;
    struct engine_snapshot *snapshot; /* NULL: the present state */
    unsigned table;
    struct rocksdb_cursor *next;
    struct rocksdb_cursor *previous;
    struct rocks_iterator
        *iterator; /* NULL: made when needed; those of the present end at commit */
    enum side side;
    bool placed;
    bool at_end;          /* in search of the last: behind all keys */
    struct table_key key; /* where it is */
    uint8_t other[ENGINE_MAX_KEY];
};

static struct rocksdb_engine *rocksdb_of(struct engine *engine)
{
    return (struct rocksdb_engine *)engine;
}

static struct rocksdb_cursor *cursor_of(struct engine_cursor *cursor)
{
    return (struct rocksdb_cursor *)cursor;
}

/* Opening. */

static int rocksdb_engine_open(struct engine **engine, const struct engine_options *options,
                               struct engine_mark *mark, struct store_error *error)
{
    if (options->directory == NULL)
        return store_fail(error, STORE_INVALID,
                          "the engine rocksdb keeps its state on disk: give it a data directory");
    struct rocksdb_engine *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    opened->engine.methods = &engine_rocksdb;
    int rc = overlay_init(&opened->overlay, options);
    if (rc != STORE_OK)
        rc = store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    else
        rc = rocks_open(&opened->rocks, options, &opened->state, error);
    if (rc != STORE_OK) {
        overlay_end(&opened->overlay);
        free(opened);
        return rc;
    }
    *engine = &opened->engine;
    *mark = opened->state.mark;
    return STORE_OK;
}

static void rocksdb_engine_close(struct engine *engine)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    rocks_close(own->rocks);
    overlay_end(&own->overlay);
    free(own);
}

/* Looking. */

static void drop_views(struct rocksdb_engine *own)
{
    rocks_drop_views(own->rocks);
    own->known.viewed = false;
}

/* Fills `known` with the key. */
static int look(struct rocksdb_engine *own, unsigned table, struct slice key, bool need_view)
{
    struct known *known = &own->known;
    struct overlay_entry entry;
    if (known->valid && table_key_table(&known->key) == table &&
        slice_equal(key, table_key_rest(&known->key)) &&
        (known->viewed || !known->exists || !need_view))
        return STORE_OK;
    known->valid = false;
    table_key_set(&known->key, table, key);
    int rc;
    if (!overlay_get(&own->overlay, table, table_key_rest(&known->key), &entry)) {
        rc = rocks_get(own->rocks, table_key_whole(&known->key), &known->value);
    } else {
        rc = entry.deleted ? STORE_NOT_FOUND : STORE_OK;
        known->value = entry.value;
    }
    if (rc != STORE_OK && rc != STORE_NOT_FOUND)
        return rc;
    known->valid = true;
    known->exists = rc == STORE_OK;
    known->viewed = known->exists;
    return STORE_OK;
}

static int rocksdb_engine_get(struct engine *engine, unsigned table, struct slice key,
                              struct slice *value)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    int rc = look(own, table, key, true);
    if (rc != STORE_OK)
        return rc;
    if (!own->known.exists)
        return STORE_NOT_FOUND;
    *value = own->known.value;
    return STORE_OK;
}

/* Writing: of the key that was looked for last. */

/* Views of the engine may be what is written, so they end only when it is. */
static int write_known(struct rocksdb_engine *own, const struct slice *value)
{
    const struct table_key *key = &own->known.key;
    int rc = overlay_put(&own->overlay, table_key_table(key), table_key_rest(key), value);
    if (rc != STORE_OK)
        return rc;
    own->known.exists = value != NULL;
    drop_views(own);
    return STORE_OK;
}

static int rocksdb_engine_put(struct engine *engine, unsigned table, struct slice key,
                              struct slice value)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    if (key.size > ENGINE_MAX_KEY || value.size > ENGINE_MAX_VALUE)
        return STORE_INVALID;
    int rc = look(own, table, key, false);
    bool existed = own->known.exists;
    if (rc == STORE_OK)
        rc = write_known(own, &value);
    if (rc != STORE_OK || existed)
        return rc;
    own->state.counts[table]++;
    gaps_cut(&own->gaps, &own->known.key);
    return STORE_OK;
}

static int rocksdb_engine_delete(struct engine *engine, unsigned table, struct slice key)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    int rc = look(own, table, key, false);
    if (rc == STORE_OK && !own->known.exists)
        return STORE_NOT_FOUND;
    if (rc == STORE_OK)
        rc = write_known(own, NULL);
    if (rc == STORE_OK)
        own->state.counts[table]--;
    return rc;
}

/* Committing. */

static void add_to_batch(void *context, unsigned table, const struct overlay_entry *entry)
{
    struct rocksdb_engine *own = context;
    struct table_key key;
    table_key_set(&key, table, entry->key);
    if (entry->deleted)
        rocks_batch_delete(own->rocks, table_key_whole(&key));
    else
        rocks_batch_put(own->rocks, table_key_whole(&key), entry->value);
}

static void drop_iterator(struct rocksdb_cursor *cursor)
{
    if (cursor->iterator != NULL)
        rocks_iterator_close(cursor->iterator);
    cursor->iterator = NULL;
    cursor->side = SIDE_UNKNOWN;
}

/* Iterators show what was before, and keep its memory and files from being given back. */
static int hand_over(struct rocksdb_engine *own)
{
    overlay_visit(&own->overlay, add_to_batch, own);
    int rc = rocks_batch_write(own->rocks, &own->state);
    own->full = rc == STORE_FULL;
    if (rc != STORE_OK)
        return rc;
    for (struct rocksdb_cursor *cursor = own->cursors; cursor != NULL; cursor = cursor->next)
        drop_iterator(cursor);
    drop_views(own);
    overlay_clear(&own->overlay);
    return STORE_OK;
}

/* While the disk is full it costs little to ask again. */
static int rocksdb_engine_commit(struct engine *engine, const struct engine_mark *mark)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    int rc = STORE_FULL;
    own->state.mark = *mark;
    if (!own->full || !rocks_is_stopped(own->rocks))
        rc = hand_over(own);
    if (rc == STORE_FULL && overlay_memory(&own->overlay) <= MAX_KEPT)
        return STORE_OK;
    return rc;
}

static int rocksdb_engine_checkpoint(struct engine *engine, bool wait)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    if (own->full && (rocks_is_stopped(own->rocks) || hand_over(own) != STORE_OK))
        return STORE_FULL;
    return rocks_flush(own->rocks, wait);
}

/* Views of gets end here too, so that a loop that only reads does not pin block after block. */
static void rocksdb_engine_status(struct engine *engine, struct engine_status *status)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    drop_views(own);
    rocks_status(own->rocks, status);
    status->full = own->full;
}

static uint64_t rocksdb_engine_memory(struct engine *engine)
{
    (void)engine;
    return 0;
}

/* Snapshots and cursors. */

static int rocksdb_engine_snapshot(struct engine *engine, struct engine_snapshot **snapshot)
{
    struct rocksdb_engine *own = rocksdb_of(engine);
    return own->full ? STORE_FULL : rocks_snapshot(own->rocks, snapshot);
}

static void rocksdb_engine_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    rocks_release(rocksdb_of(engine)->rocks, snapshot);
}

static void link_cursor(struct rocksdb_engine *own, struct rocksdb_cursor *cursor)
{
    cursor->next = own->cursors;
    if (cursor->next != NULL)
        cursor->next->previous = cursor;
    own->cursors = cursor;
}

static void unlink_cursor(struct rocksdb_cursor *cursor)
{
    if (cursor->previous != NULL)
        cursor->previous->next = cursor->next;
    else
        cursor->engine->cursors = cursor->next;
    if (cursor->next != NULL)
        cursor->next->previous = cursor->previous;
}

/* A snapshot's is opened and used by another thread: it touches nothing that the loop changes. */
static int rocksdb_cursor_open(struct engine *engine, struct engine_snapshot *snapshot,
                               unsigned table, struct engine_cursor **cursor)
{
    struct rocksdb_cursor *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return STORE_NO_MEMORY;
    opened->cursor.methods = &engine_rocksdb;
    opened->engine = rocksdb_of(engine);
    opened->snapshot = snapshot;
    opened->table = table;
    if (snapshot == NULL)
        link_cursor(opened->engine, opened);
    *cursor = &opened->cursor;
    return STORE_OK;
}

static void rocksdb_cursor_close(struct engine_cursor *cursor)
{
    struct rocksdb_cursor *own = cursor_of(cursor);
    if (own->snapshot == NULL)
        unlink_cursor(own);
    drop_iterator(own);
    free(own);
}

/* An entry that a search met, in RocksDB or in the overlay. */
struct met {
    bool there;
    struct overlay_entry entry; /* its key is without the table */
};

static int hand_out(struct rocksdb_cursor *cursor, const struct met *met, struct slice *key,
                    struct slice *value)
{
    cursor->placed = met->there;
    if (!met->there)
        return STORE_NOT_FOUND;
    table_key_set(&cursor->key, cursor->table, met->entry.key);
    cursor->at_end = false;
    *key = table_key_rest(&cursor->key);
    *value = met->entry.value;
    return STORE_OK;
}

static int need_iterator(struct rocksdb_cursor *cursor)
{
    if (cursor->iterator != NULL)
        return STORE_OK;
    return rocks_iterator_open(cursor->engine->rocks, cursor->snapshot, (uint8_t)cursor->table,
                               &cursor->iterator);
}

/* What a search in RocksDB came to. */
static int meet(struct rocksdb_cursor *cursor, int rc, struct slice key, struct slice value,
                struct met *met)
{
    *met = (struct met){.there = rc == STORE_OK};
    if (rc == STORE_OK) {
        met->entry.key = slice_of(key.data + 1, key.size - 1);
        met->entry.value = value;
    }
    if (rc == STORE_OK || rc == STORE_NOT_FOUND)
        return STORE_OK;
    cursor->side = SIDE_UNKNOWN;
    cursor->placed = false;
    return rc;
}

/* RocksDB's first entry behind the cursor's key, or (`or_at`) at it. */
static int base_after(struct rocksdb_cursor *cursor, bool or_at, struct met *met)
{
    struct slice sought = table_key_whole(&cursor->key);
    struct slice key = {0};
    struct slice value = {0};
    int rc = need_iterator(cursor);
    if (rc != STORE_OK)
        return rc;
    if (cursor->side != SIDE_AHEAD)
        rocks_seek(cursor->iterator, sought);
    cursor->side = SIDE_AHEAD;
    while ((rc = rocks_here(cursor->iterator, &key, &value)) == STORE_OK &&
           slice_compare(key, sought) < (or_at ? 0 : 1))
        rocks_next(cursor->iterator);
    return meet(cursor, rc, key, value, met);
}

/* RocksDB's last entry before the cursor's key. */
static int base_before(struct rocksdb_cursor *cursor, struct met *met)
{
    struct slice sought = table_key_whole(&cursor->key);
    struct slice key = {0};
    struct slice value = {0};
    int rc = need_iterator(cursor);
    if (rc != STORE_OK)
        return rc;
    if (cursor->side != SIDE_BEHIND && cursor->at_end)
        rocks_seek_last(cursor->iterator);
    else if (cursor->side != SIDE_BEHIND)
        rocks_seek_before(cursor->iterator, sought);
    cursor->side = SIDE_BEHIND;
    while ((rc = rocks_here(cursor->iterator, &key, &value)) == STORE_OK && !cursor->at_end &&
           slice_compare(key, sought) >= 0)
        rocks_prev(cursor->iterator);
    return meet(cursor, rc, key, value, met);
}

static void overlay_meet(struct rocksdb_cursor *cursor, bool forward, bool or_at, struct met *met)
{
    const struct overlay *overlay = &cursor->engine->overlay;
    struct slice key = table_key_rest(&cursor->key);
    *met = (struct met){0};
    if (cursor->snapshot != NULL)
        return;
    if (cursor->at_end)
        key.data = NULL;
    met->there = forward
                     ? overlay_after(overlay, cursor->table, key, or_at, cursor->other, &met->entry)
                     : overlay_before(overlay, cursor->table, key, cursor->other, &met->entry);
}

/* The overlay's entry comes first, or takes the place of the same key in RocksDB. */
static bool overlay_wins(const struct met *overlay, const struct met *base, bool forward)
{
    if (!overlay->there || !base->there)
        return overlay->there;
    int order = slice_compare(overlay->entry.key, base->entry.key);
    return forward ? order <= 0 : order >= 0;
}

/* From the cursor's key on, over what was deleted. */
static int search(struct rocksdb_cursor *cursor, bool forward, bool or_at, struct slice *key,
                  struct slice *value)
{
    for (;;) {
        struct met base;
        struct met overlay;
        int rc = forward ? base_after(cursor, or_at, &base) : base_before(cursor, &base);
        if (rc != STORE_OK)
            return rc;
        overlay_meet(cursor, forward, or_at, &overlay);
        if (!overlay_wins(&overlay, &base, forward))
            return hand_out(cursor, &base, key, value);
        if (!overlay.entry.deleted)
            return hand_out(cursor, &overlay, key, value);
        table_key_set(&cursor->key, cursor->table, overlay.entry.key);
        cursor->at_end = false;
        or_at = false;
    }
}

/* Nothing of the present state is from `low` up to where the search came to. */
static void note_gap(struct rocksdb_cursor *cursor, const struct table_key *low, int rc)
{
    struct table_key end = {.size = 1, .bytes = {(uint8_t)(cursor->table + 1)}};
    if (rc == STORE_OK || rc == STORE_NOT_FOUND)
        gaps_note(&cursor->engine->gaps, low, rc == STORE_OK ? &cursor->key : &end);
}

static int rocksdb_cursor_seek(struct engine_cursor *cursor, struct slice key,
                               struct slice *found_key, struct slice *value)
{
    struct rocksdb_cursor *own = cursor_of(cursor);
    table_key_set(&own->key, own->table, key);
    own->side = SIDE_UNKNOWN;
    own->at_end = false;
    if (own->snapshot != NULL)
        return search(own, true, true, found_key, value);
    struct table_key low = own->key;
    const struct table_key *skip = gaps_skip(&own->engine->gaps, &low);
    if (skip != NULL)
        own->key = *skip;
    int rc = STORE_NOT_FOUND;
    own->placed = false;
    if (table_key_table(&own->key) == own->table)
        rc = search(own, true, true, found_key, value);
    note_gap(own, &low, rc);
    return rc;
}

static int rocksdb_cursor_seek_before(struct engine_cursor *cursor, struct slice key,
                                      struct slice *found_key, struct slice *value)
{
    struct rocksdb_cursor *own = cursor_of(cursor);
    table_key_set(&own->key, own->table, key.data != NULL ? key : slice_of_text(""));
    own->at_end = key.data == NULL;
    own->side = SIDE_UNKNOWN;
    return search(own, false, false, found_key, value);
}

static int rocksdb_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct rocksdb_cursor *own = cursor_of(cursor);
    return own->placed ? search(own, true, false, key, value) : STORE_NOT_FOUND;
}

static int rocksdb_cursor_prev(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct rocksdb_cursor *own = cursor_of(cursor);
    return own->placed ? search(own, false, false, key, value) : STORE_NOT_FOUND;
}

/* All of a table is known; a part of it is walked. */
static int rocksdb_engine_count(struct engine *engine, unsigned table, struct slice start,
                                struct slice end, uint64_t *count)
{
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    *count = rocksdb_of(engine)->state.counts[table];
    if (start.size == 0 && end.data == NULL)
        return STORE_OK;
    int rc = rocksdb_cursor_open(engine, NULL, table, &cursor);
    if (rc != STORE_OK)
        return rc;
    *count = 0;
    rc = rocksdb_cursor_seek(cursor, start, &key, &value);
    while (rc == STORE_OK && (end.data == NULL || slice_compare(key, end) < 0)) {
        ++*count;
        rc = rocksdb_cursor_next(cursor, &key, &value);
    }
    rocksdb_cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? STORE_OK : rc;
}

const struct engine_methods engine_rocksdb = {
    .name = "rocksdb",
    .open = rocksdb_engine_open,
    .close = rocksdb_engine_close,
    .get = rocksdb_engine_get,
    .prefetch = NULL,
    .put = rocksdb_engine_put,
    .delete = rocksdb_engine_delete,
    .count = rocksdb_engine_count,
    .cursor_open = rocksdb_cursor_open,
    .cursor_close = rocksdb_cursor_close,
    .cursor_seek = rocksdb_cursor_seek,
    .cursor_seek_before = rocksdb_cursor_seek_before,
    .cursor_next = rocksdb_cursor_next,
    .cursor_prev = rocksdb_cursor_prev,
    .snapshot = rocksdb_engine_snapshot,
    .release = rocksdb_engine_release,
    .commit = rocksdb_engine_commit,
    .checkpoint = rocksdb_engine_checkpoint,
    .status = rocksdb_engine_status,
    .memory = rocksdb_engine_memory,
};
