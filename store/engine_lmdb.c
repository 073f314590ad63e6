/*
 * The LMDB engine: the state in a memory-mapped B+tree on disk, in the directory `lmdb` of the data
 * directory. LMDB's own transactions are not the store's: writes collect in one open LMDB
 * transaction, which takes many turns, and is committed and synced at a turn's end once it has
 * grown enough. What a crash takes with it the log replays.
 *
 * LMDB's named databases: one for each table ("0", "1", …), "long", and "mark".
 *
 * A key of LMDB has 1 to 511 bytes, one of ours 0 to ENGINE_MAX_KEY. So a key is stored in pieces:
 *
 *     database  key                               value
 *     table     00, the key                       the value     keys of up to FIRST_PIECE bytes
 *     table     00, its first FIRST_PIECE, ff     bucket, u64   longer ones: goes on in "long"
 *     "long"    bucket, the rest                  the value     rests of up to NEXT_PIECE bytes
 *     "long"    bucket, its first NEXT_PIECE, ff  bucket, u64   longer ones
 *     "mark"    "mark"                            struct record
 *
 * Bucket numbers are big endian here and never used twice. A bucket sorts where its keys do: behind
 * the key that is as long as what they have in common. Ordinary keys are in one piece.
 */
#include "store/lmdb_internal.h"

#include <errno.h>
#include <fcntl.h>

enum {
    PIECE_LIMIT = 511, /* LMDB's limit as Debian builds it */
    TABLE_PREFIX = 1,
    BUCKET_PREFIX = 8,
    FIRST_PIECE = PIECE_LIMIT - TABLE_PREFIX - 1,
    NEXT_PIECE = PIECE_LIMIT - BUCKET_PREFIX - 1,
    GOES_ON = 0xff,

    /* When the LMDB transaction is committed: a longer one is more efficient, and stops the loop
       longer. */
    COMMIT_WRITES = 2000,
    COMMIT_BYTES = 8 << 20,

    /* Room that is made in the file before a commit: what a write may add to it beside its bytes,
       twice; what LMDB needs for itself; and how much is made at once. */
    PAGES_PER_WRITE = 4,
    SPARE_PAGES = 256,
    RESERVE = 16 << 20,

    /* While there is no room so much is kept in the transaction, which deletes go on to fill. */
    MAX_KEPT_WRITES = 16000,
    MAX_KEPT_BYTES = 32 << 20,
};

struct engine_snapshot {
    MDB_txn *txn;
};

struct lmdb_cursor {
    struct engine_cursor cursor;
    struct lmdb_engine *engine;
    struct engine_snapshot *snapshot; /* NULL: the present state */
    struct lmdb_cursor *next;         /* of lmdb_engine.cursors */
    unsigned table;
    MDB_cursor *at;   /* in the table's database, or NULL */
    uint64_t changes; /* as of when `at` was placed */
    bool whole;       /* `at` is on the entry itself: its key is in one piece */
    bool placed;
    size_t key_size;
    uint8_t key[ENGINE_MAX_KEY];
};

/* One piece of a key, as LMDB sees it. */
struct piece {
    size_t size;
    uint8_t bytes[PIECE_LIMIT];
};

/* Where a key goes on: which database, behind which prefix. */
struct level {
    MDB_dbi dbi;
    bool first;
    uint64_t bucket;
};

static struct lmdb_engine *lmdb_of(struct engine *engine)
{
    return (struct lmdb_engine *)engine;
}

static struct lmdb_cursor *cursor_of(struct engine_cursor *cursor)
{
    return (struct lmdb_cursor *)cursor;
}

static int fail_write(struct lmdb_engine *lmdb, const char *what, int result)
{
    if (result == 0 || result == MDB_NOTFOUND)
        return (int)lmdb_code(result);
    lmdb->broken = true;
    return lmdb_fail(lmdb, what, result, &lmdb->failure);
}

/* Pieces. */

static struct level first_level(const struct lmdb_engine *lmdb, unsigned table)
{
    return (struct level){.dbi = lmdb->tables[table], .first = true};
}

static struct level next_level(const struct lmdb_engine *lmdb, const MDB_val *value)
{
    struct level level = {.dbi = lmdb->longer};
    if (value->mv_size == sizeof level.bucket)
        memcpy(&level.bucket, value->mv_data, sizeof level.bucket);
    return level;
}

static size_t prefix_of(const struct level *level)
{
    return level->first ? TABLE_PREFIX : BUCKET_PREFIX;
}

static size_t room_of(const struct level *level)
{
    return level->first ? FIRST_PIECE : NEXT_PIECE;
}

/* What comes first of `rest`, up to the level's limit; where there is more, it says that it goes
 * on. */
static bool make_piece(const struct level *level, struct slice rest, struct piece *piece)
{
    size_t prefix = prefix_of(level);
    size_t room = room_of(level);
    size_t size = rest.size < room ? rest.size : room;
    piece->bytes[0] = 0;
    for (size_t i = 0; !level->first && i < BUCKET_PREFIX; i++)
        piece->bytes[i] = (uint8_t)(level->bucket >> (56 - 8 * i));
    if (size > 0)
        memcpy(piece->bytes + prefix, rest.data, size);
    piece->size = prefix + size;
    if (rest.size <= room)
        return false;
    piece->bytes[piece->size++] = GOES_ON;
    return true;
}

static bool goes_on(const MDB_val *key)
{
    return key->mv_size == PIECE_LIMIT;
}

static bool is_in(const struct level *level, const MDB_val *key)
{
    struct piece prefix;
    make_piece(level, (struct slice){0}, &prefix);
    return key->mv_size >= prefix.size && memcmp(key->mv_data, prefix.bytes, prefix.size) == 0;
}

static MDB_val val_of(const struct piece *piece)
{
    return (MDB_val){.mv_size = piece->size, .mv_data = (void *)piece->bytes};
}

static struct slice behind(struct slice rest, const struct level *level)
{
    return slice_of(rest.data + room_of(level), rest.size - room_of(level));
}

/* One key: get, put, delete. */

/* The last piece of the key, and the level that it is on. MDB_NOTFOUND where a bucket is missing.
 */
static int descend(struct lmdb_engine *lmdb, MDB_txn *txn, struct level *level, struct slice *rest,
                   struct piece *piece)
{
    while (make_piece(level, *rest, piece)) {
        MDB_val key = val_of(piece);
        MDB_val value;
        int result = lmdb_read(lmdb, txn, level->dbi, &key, &value);
        if (result != 0)
            return result;
        *rest = behind(*rest, level);
        *level = next_level(lmdb, &value);
    }
    return 0;
}

static int find(struct lmdb_engine *lmdb, MDB_txn *txn, unsigned table, struct slice rest,
                MDB_val *value)
{
    struct level level = first_level(lmdb, table);
    struct piece piece;
    int result = descend(lmdb, txn, &level, &rest, &piece);
    if (result != 0)
        return result;
    MDB_val key = val_of(&piece);
    return lmdb_read(lmdb, txn, level.dbi, &key, value);
}

static int lmdb_get(struct engine *engine, unsigned table, struct slice key, struct slice *value)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    MDB_val found;
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    if (lmdb->txn == NULL)
        return STORE_IO;
    int result = find(lmdb, lmdb->txn, table, key, &found);
    if (result == 0)
        *value = slice_of(found.mv_data, found.mv_size);
    return fail_write(lmdb, "read", result);
}

/* Like descend, but makes the buckets that are missing. */
static int descend_making(struct lmdb_engine *lmdb, struct level *level, struct slice *rest,
                          struct piece *piece)
{
    int result;
    while ((result = descend(lmdb, lmdb->txn, level, rest, piece)) == MDB_NOTFOUND) {
        MDB_val key = val_of(piece);
        MDB_val value = {.mv_size = sizeof lmdb->next_bucket, .mv_data = &lmdb->next_bucket};
        result = mdb_put(lmdb->txn, level->dbi, &key, &value, 0);
        if (result != 0)
            return result;
        lmdb->next_bucket++;
    }
    return result;
}

static int put(struct lmdb_engine *lmdb, unsigned table, struct slice rest, struct slice value)
{
    struct level level = first_level(lmdb, table);
    struct piece piece;
    MDB_val old;
    int result = descend_making(lmdb, &level, &rest, &piece);
    if (result != 0)
        return result;
    MDB_val key = val_of(&piece);
    MDB_val data = {.mv_size = value.size, .mv_data = (void *)value.data};
    result = mdb_get(lmdb->txn, level.dbi, &key, &old);
    if (result != 0 && result != MDB_NOTFOUND)
        return result;
    lmdb->count[table] += result == MDB_NOTFOUND;
    return mdb_put(lmdb->txn, level.dbi, &key, &data, 0);
}

static void note_write(struct lmdb_engine *lmdb, size_t bytes)
{
    lmdb->writes++;
    lmdb->bytes += bytes;
    lmdb->changes++;
}

/* LMDB moves pages while it writes, so that what lies in them is copied before. */
static int lmdb_put(struct engine *engine, unsigned table, struct slice key, struct slice value)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    struct buffer *copy = &lmdb->copy;
    if (key.size > ENGINE_MAX_KEY || value.size > ENGINE_MAX_VALUE)
        return STORE_INVALID;
    if (lmdb->txn == NULL)
        return STORE_IO;
    buffer_restart(copy);
    if (!buffer_reserve(copy, key.size + value.size + 1))
        return STORE_NO_MEMORY;
    buffer_append_slice(copy, key);
    buffer_append_slice(copy, value);
    int result = put(lmdb, table, slice_of(copy->data, key.size),
                     slice_of(copy->data + key.size, value.size));
    note_write(lmdb, key.size + value.size);
    return fail_write(lmdb, "write", result);
}

/* Whether the bucket has nothing any more. */
static int is_empty(struct lmdb_engine *lmdb, const struct level *level, bool *empty)
{
    struct piece prefix;
    MDB_cursor *cursor;
    MDB_val value;
    int result = mdb_cursor_open(lmdb->txn, level->dbi, &cursor);
    if (result != 0)
        return result;
    make_piece(level, (struct slice){0}, &prefix);
    MDB_val key = val_of(&prefix);
    result = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    *empty = result == MDB_NOTFOUND || (result == 0 && !is_in(level, &key));
    mdb_cursor_close(cursor);
    return result == MDB_NOTFOUND ? 0 : result;
}

/* Deletes the key, and the buckets that are empty then, from the last one back. */
static int delete_from(struct lmdb_engine *lmdb, struct level level, struct slice rest, bool *empty)
{
    struct piece piece;
    MDB_val value;
    bool more = make_piece(&level, rest, &piece);
    bool remove = true;
    MDB_val key = val_of(&piece);
    int result = 0;
    if (more) {
        result = mdb_get(lmdb->txn, level.dbi, &key, &value);
        if (result == 0)
            result = delete_from(lmdb, next_level(lmdb, &value), behind(rest, &level), &remove);
    }
    if (result == 0 && remove)
        result = mdb_del(lmdb->txn, level.dbi, &key, NULL);
    *empty = false;
    if (result == 0 && remove && !level.first)
        result = is_empty(lmdb, &level, empty);
    return result;
}

static int lmdb_delete(struct engine *engine, unsigned table, struct slice key)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    uint8_t copy[ENGINE_MAX_KEY];
    bool empty;
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    if (lmdb->txn == NULL)
        return STORE_IO;
    if (key.size > 0)
        memcpy(copy, key.data, key.size);
    int result = delete_from(lmdb, first_level(lmdb, table), slice_of(copy, key.size), &empty);
    lmdb->count[table] -= result == 0;
    note_write(lmdb, key.size);
    return fail_write(lmdb, "delete", result);
}

/* Cursors. */

static MDB_txn *txn_of(const struct lmdb_cursor *cursor)
{
    return cursor->snapshot != NULL ? cursor->snapshot->txn : cursor->engine->txn;
}

/* Whether LMDB's cursor is still where it was. In a snapshot nothing changes. */
static bool is_placed(const struct lmdb_cursor *cursor)
{
    return cursor->at != NULL && cursor->whole &&
           (cursor->snapshot != NULL || cursor->changes == cursor->engine->changes);
}

static void drop_place(struct lmdb_cursor *cursor)
{
    if (cursor->at != NULL)
        mdb_cursor_close(cursor->at);
    cursor->at = NULL;
}

/* Takes the piece as the next part of the cursor's key. */
static void add_piece(struct lmdb_cursor *cursor, const struct level *level, const MDB_val *key)
{
    size_t prefix = prefix_of(level);
    size_t size = key->mv_size - prefix - goes_on(key);
    memcpy(cursor->key + cursor->key_size, (const uint8_t *)key->mv_data + prefix, size);
    cursor->key_size += size;
}

/* A search within one level: what is sought, and in which direction. */
struct search {
    struct lmdb_cursor *cursor;
    bool backward;  /* the last entry before `rest`; else the first at or behind it */
    bool unbounded; /* from the level's end, or beginning; `rest` has no meaning */
    bool beyond;    /* forward: behind `rest`, not at it */
};

static int search_level(const struct search *search, struct level level, struct slice rest,
                        MDB_val *value);

/* The entry that LMDB's cursor is on, or what is first or last in the bucket that it stands for. */
static int take_entry(const struct search *search, const struct level *level, const MDB_val *key,
                      MDB_val *value)
{
    struct lmdb_cursor *cursor = search->cursor;
    struct search all = *search;
    add_piece(cursor, level, key);
    cursor->whole = level->first && !goes_on(key);
    if (!goes_on(key))
        return 0;
    all.unbounded = true;
    all.beyond = false;
    return search_level(&all, next_level(cursor->engine, value), (struct slice){0}, value);
}

/* Puts LMDB's cursor to the first entry at or behind the piece; or, backward, to the one before it.
 */
static int place(const struct search *search, const struct level *level, MDB_cursor *at,
                 MDB_val *key, MDB_val *value)
{
    struct lmdb_engine *lmdb = search->cursor->engine;
    uint64_t end = level->bucket + 1;
    struct piece piece;
    if (search->unbounded && search->backward) {
        struct level next = {.dbi = level->dbi, .bucket = end};
        if (level->first)
            return lmdb_move(lmdb, at, key, value, MDB_LAST);
        make_piece(&next, (struct slice){0}, &piece);
        *key = val_of(&piece);
    }
    int result = lmdb_move(lmdb, at, key, value, MDB_SET_RANGE);
    if (!search->backward)
        return result;
    return lmdb_move(lmdb, at, key, value, result == 0 ? MDB_PREV : MDB_LAST);
}

/* The piece is a bucket that is there: what is sought may be in it. */
static int search_bucket(const struct search *search, const struct level *level, struct slice rest,
                         MDB_cursor *at, const struct piece *piece, MDB_val *value)
{
    struct lmdb_cursor *cursor = search->cursor;
    MDB_val key = val_of(piece);
    int result = lmdb_move(cursor->engine, at, &key, value, MDB_SET_KEY);
    if (result != 0)
        return result;
    add_piece(cursor, level, &key);
    cursor->whole = false;
    return search_level(search, next_level(cursor->engine, value), behind(rest, level), value);
}

static int step(const struct search *search, MDB_cursor *at, MDB_val *key, MDB_val *value)
{
    return lmdb_move(search->cursor->engine, at, key, value,
                     search->backward ? MDB_PREV : MDB_NEXT);
}

static int search_here(const struct search *search, struct level level, struct slice rest,
                       MDB_cursor *at, MDB_val *value)
{
    size_t key_size = search->cursor->key_size;
    struct piece piece;
    bool more = make_piece(&level, rest, &piece);
    int result = MDB_NOTFOUND;
    if (more && !search->unbounded)
        result = search_bucket(search, &level, rest, at, &piece, value);
    if (result != MDB_NOTFOUND)
        return result;
    search->cursor->key_size = key_size;
    MDB_val sought = val_of(&piece);
    MDB_val key = sought;
    result = place(search, &level, at, &key, value);
    bool at_it = result == 0 && !search->backward && !search->unbounded &&
                 key.mv_size == piece.size && memcmp(key.mv_data, piece.bytes, piece.size) == 0;
    if (at_it &&
        (more || search->beyond)) /* the bucket was looked through; the key is not wanted */
        result = step(search, at, &key, value);
    if (result == 0 && !is_in(&level, &key))
        result = MDB_NOTFOUND;
    return result == 0 ? take_entry(search, &level, &key, value) : result;
}

/* On the first level LMDB's cursor is kept, for the next step. */
static int search_level(const struct search *search, struct level level, struct slice rest,
                        MDB_val *value)
{
    struct lmdb_cursor *cursor = search->cursor;
    MDB_cursor *at;
    int result = lmdb_begin(cursor->engine, txn_of(cursor), level.dbi, &at);
    if (result != 0)
        return result;
    result = search_here(search, level, rest, at, value);
    if (!level.first)
        mdb_cursor_close(at);
    else
        cursor->at = at;
    return result;
}

static int hand_out(struct lmdb_cursor *cursor, int result, const MDB_val *found, struct slice *key,
                    struct slice *value)
{
    cursor->placed = result == 0;
    if (cursor->snapshot == NULL)
        cursor->changes = cursor->engine->changes;
    if (result != 0)
        return (int)lmdb_code(result);
    *key = slice_of(cursor->key, cursor->key_size);
    *value = slice_of(found->mv_data, found->mv_size);
    return STORE_OK;
}

static int seek(struct lmdb_cursor *cursor, struct search search, struct slice rest,
                struct slice *key, struct slice *value)
{
    MDB_val found;
    uint8_t copy[ENGINE_MAX_KEY + 1];
    if (txn_of(cursor) == NULL)
        return STORE_IO;
    if (search.unbounded)
        rest.size = 0;
    if (rest.size > ENGINE_MAX_KEY) /* no key is longer: its beginning, and what is behind */
        rest.size = ENGINE_MAX_KEY + 1;
    if (rest.size > 0)
        memcpy(copy, rest.data, rest.size);
    drop_place(cursor);
    cursor->key_size = 0;
    search.cursor = cursor;
    int result = search_level(&search, first_level(cursor->engine, cursor->table),
                              slice_of(copy, rest.size), &found);
    return hand_out(cursor, result, &found, key, value);
}

static int lmdb_cursor_open(struct engine *engine, struct engine_snapshot *snapshot, unsigned table,
                            struct engine_cursor **result)
{
    struct lmdb_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    cursor->cursor.methods = &engine_lmdb;
    cursor->engine = lmdb_of(engine);
    cursor->snapshot = snapshot;
    cursor->table = table;
    if (snapshot == NULL) {
        cursor->next = cursor->engine->cursors;
        cursor->engine->cursors = cursor;
    }
    *result = &cursor->cursor;
    return STORE_OK;
}

static void lmdb_cursor_close(struct engine_cursor *cursor)
{
    struct lmdb_cursor *closed = cursor_of(cursor);
    struct lmdb_cursor **link = &closed->engine->cursors;
    while (closed->snapshot == NULL && *link != closed)
        link = &(*link)->next;
    if (closed->snapshot == NULL)
        *link = closed->next;
    drop_place(closed);
    free(closed);
}

static int lmdb_cursor_seek(struct engine_cursor *cursor, struct slice key, struct slice *found_key,
                            struct slice *value)
{
    struct search forward = {.cursor = NULL};
    return seek(cursor_of(cursor), forward, key, found_key, value);
}

static int lmdb_cursor_seek_before(struct engine_cursor *cursor, struct slice key,
                                   struct slice *found_key, struct slice *value)
{
    struct search backward = {.backward = true, .unbounded = key.data == NULL};
    return seek(cursor_of(cursor), backward, key, found_key, value);
}

/* One step of LMDB's cursor, where that is on the entry itself and gets to another such. */
static bool step_directly(struct lmdb_cursor *cursor, MDB_cursor_op op, MDB_val *value, int *result)
{
    struct level level = first_level(cursor->engine, cursor->table);
    MDB_val key;
    if (!is_placed(cursor))
        return false;
    *result = lmdb_move(cursor->engine, cursor->at, &key, value, op);
    if (*result == 0 && goes_on(&key))
        return false;
    cursor->key_size = 0;
    if (*result == 0)
        add_piece(cursor, &level, &key);
    return true;
}

static int move(struct lmdb_cursor *cursor, MDB_cursor_op op, struct search search,
                struct slice *key, struct slice *value)
{
    MDB_val found;
    int result;
    if (!cursor->placed)
        return STORE_NOT_FOUND;
    if (txn_of(cursor) == NULL)
        return STORE_IO;
    if (step_directly(cursor, op, &found, &result))
        return hand_out(cursor, result, &found, key, value);
    return seek(cursor, search, slice_of(cursor->key, cursor->key_size), key, value);
}

static int lmdb_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct search behind_it = {.beyond = true};
    return move(cursor_of(cursor), MDB_NEXT, behind_it, key, value);
}

static int lmdb_cursor_prev(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct search before_it = {.backward = true};
    return move(cursor_of(cursor), MDB_PREV, before_it, key, value);
}

static int count_range(struct engine *engine, unsigned table, struct slice start, struct slice end,
                       uint64_t *count)
{
    struct engine_cursor *cursor;
    struct slice key = {0};
    struct slice value = {0};
    int code = lmdb_cursor_open(engine, NULL, table, &cursor);
    if (code != 0)
        return code;
    code = lmdb_cursor_seek(cursor, start, &key, &value);
    while (code == 0 && (end.data == NULL || slice_compare(key, end) < 0)) {
        (*count)++;
        code = lmdb_cursor_next(cursor, &key, &value);
    }
    lmdb_cursor_close(cursor);
    return code == STORE_NOT_FOUND ? 0 : code;
}

static int lmdb_count(struct engine *engine, unsigned table, struct slice start, struct slice end,
                      uint64_t *count)
{
    *count = 0;
    if (start.size > 0 || end.data != NULL)
        return count_range(engine, table, start, end, count);
    *count = lmdb_of(engine)->count[table];
    return STORE_OK;
}

/* LMDB's transaction. */

/* What is in the file is all of the data there is so far: the map grows long before it is full. */
static int grow_map(struct lmdb_engine *lmdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (lmdb->snapshots > 0 || mdb_env_info(lmdb->env, &info) != 0 ||
        mdb_env_stat(lmdb->env, &stat) != 0)
        return 0;
    if ((info.me_last_pgno + 1) * (uint64_t)stat.ms_psize < lmdb->map_size / 2)
        return 0;
    int result = mdb_env_set_mapsize(lmdb->env, lmdb->map_size * 2);
    lmdb->map_size *= result == 0 ? 2 : 1;
    return result == ENOMEM ? 0 : result; /* there may be room enough all the same */
}

/* Ends the transaction, which is on disk then, and begins another. */
static int sync_txn(struct lmdb_engine *lmdb)
{
    MDB_txn *txn = lmdb->txn;
    int result = lmdb->broken ? MDB_BAD_TXN : lmdb_write_mark(lmdb);
    for (struct lmdb_cursor *cursor = lmdb->cursors; cursor != NULL; cursor = cursor->next)
        drop_place(cursor);
    lmdb->txn = NULL;
    lmdb->changes++;
    if (result == 0)
        result = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (result == 0)
        result = grow_map(lmdb);
    if (result == 0)
        result = mdb_txn_begin(lmdb->env, NULL, 0, &lmdb->txn);
    if (result != 0) {
        lmdb->failed++;
        if (lmdb->broken) /* the sentence is there already */
            return (int)lmdb->failure.code;
        return lmdb_fail(lmdb, "commit", result, &lmdb->failure);
    }
    lmdb->synced = lmdb->committed;
    lmdb->unsynced = false;
    lmdb->writes = 0;
    lmdb->bytes = 0;
    return STORE_OK;
}

/*
 * LMDB gives a transaction up that it cannot write, and with it what the store has committed. So
 * the file gets room before, for as much as the transaction may need; a failure is harmless then.
 */
static int reserve(struct lmdb_engine *lmdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t file;
    if (mdb_env_info(lmdb->env, &info) != 0 || mdb_env_stat(lmdb->env, &stat) != 0 ||
        mdb_env_get_fd(lmdb->env, &file) != 0)
        return 0;
    uint64_t end = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
    uint64_t pages = (uint64_t)lmdb->writes * PAGES_PER_WRITE + SPARE_PAGES;
    uint64_t need = pages * stat.ms_psize + 2 * (uint64_t)lmdb->bytes;
    if (lmdb->reserved >= end + need)
        return 0;
    int result = fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)(need + RESERVE));
    if (result == 0)
        lmdb->reserved = end + need + RESERVE;
    else if (errno == ENOSPC)
        result = fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)need);
    return result != 0 && (errno == ENOSPC || errno == EDQUOT) ? errno : 0;
}

/* Ends the transaction, unless there is no room for that: then it stays as it is. */
static int sync_if_room(struct lmdb_engine *lmdb)
{
    int result = lmdb->broken ? 0 : reserve(lmdb);
    if (lmdb->full && result == 0)
        lmdb->failure = (struct store_error){0};
    lmdb->full = result != 0;
    if (!lmdb->full)
        return sync_txn(lmdb);
    return (int)store_fail(&lmdb->failure, STORE_FULL,
                           "%s/data.mdb: no room on the disk: make space; the log has all that was "
                           "acknowledged",
                           lmdb->directory);
}

static bool is_due(const struct lmdb_engine *lmdb)
{
    if (lmdb->full)
        return lmdb->writes > MAX_KEPT_WRITES || lmdb->bytes > MAX_KEPT_BYTES;
    return lmdb->writes >= COMMIT_WRITES || lmdb->bytes >= COMMIT_BYTES;
}

/* While the disk is full, the same mark once more asks for another try. */
static int lmdb_commit(struct engine *engine, const struct engine_mark *mark)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    if (lmdb->txn == NULL)
        return STORE_IO;
    bool again = lmdb->full && mark->position == lmdb->committed.position;
    lmdb->committed = *mark;
    lmdb->unsynced = true;
    if (!lmdb->broken && !again && !is_due(lmdb))
        return STORE_OK;
    int code = sync_if_room(lmdb);
    return code == STORE_FULL && lmdb->full && !is_due(lmdb) ? STORE_OK : code;
}

/* There is no background here: LMDB has one writer, and that is the loop. */
static int lmdb_checkpoint(struct engine *engine, bool wait)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    (void)wait;
    if (lmdb->txn == NULL)
        return STORE_IO;
    int code = lmdb->unsynced ? sync_if_room(lmdb) : STORE_OK;
    lmdb->checkpoints += code == 0;
    return code;
}

static void lmdb_status(struct engine *engine, struct engine_status *status)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    MDB_envinfo info = {0};
    MDB_stat stat = {0};
    (void)mdb_env_info(lmdb->env, &info);
    (void)mdb_env_stat(lmdb->env, &stat);
    *status = (struct engine_status){
        .at = lmdb->synced,
        .kept = lmdb->synced.position,
        .count = lmdb->checkpoints,
        .failed = lmdb->failed,
        .full = lmdb->full,
        .size = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize,
        .failure = lmdb->failure.message[0] != '\0' ? lmdb->failure.message : NULL,
    };
}

static int lmdb_snapshot(struct engine *engine, struct engine_snapshot **result)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    int code = lmdb->writes > 0 ? sync_if_room(lmdb) : STORE_OK;
    if (code != 0)
        return code;
    struct engine_snapshot *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL)
        return STORE_NO_MEMORY;
    int begun = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &snapshot->txn);
    if (begun != 0) {
        free(snapshot);
        return begun == MDB_READERS_FULL ? STORE_NO_MEMORY : (int)lmdb_code(begun);
    }
    lmdb->snapshots++;
    *result = snapshot;
    return STORE_OK;
}

static void lmdb_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    mdb_txn_abort(snapshot->txn);
    lmdb_of(engine)->snapshots--;
    free(snapshot);
}

static uint64_t lmdb_memory(struct engine *engine)
{
    (void)engine;
    return 0;
}

/* Opening and closing. */

static void lmdb_close(struct engine *engine)
{
    struct lmdb_engine *lmdb = lmdb_of(engine);
    lmdb_close_files(lmdb);
    buffer_free(&lmdb->copy);
    free(lmdb);
}

static int lmdb_open(struct engine **engine, const struct engine_options *options,
                     struct engine_mark *mark, struct store_error *error)
{
    if (options->directory == NULL)
        return (int)store_fail(error, STORE_INVALID, "the engine lmdb needs a data directory");
    struct lmdb_engine *lmdb = calloc(1, sizeof *lmdb);
    if (lmdb == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    lmdb->engine.methods = &engine_lmdb;
    lmdb->read_only = options->read_only;
    int code = lmdb_open_files(lmdb, options->directory, error);
    if (code != 0) {
        lmdb_close(&lmdb->engine);
        return code;
    }
    *mark = lmdb->committed;
    *engine = &lmdb->engine;
    return STORE_OK;
}

const struct engine_methods engine_lmdb = {
    .name = "lmdb",
    .open = lmdb_open,
    .close = lmdb_close,
    .get = lmdb_get,
    .put = lmdb_put,
    .delete = lmdb_delete,
    .count = lmdb_count,
    .cursor_open = lmdb_cursor_open,
    .cursor_close = lmdb_cursor_close,
    .cursor_seek = lmdb_cursor_seek,
    .cursor_seek_before = lmdb_cursor_seek_before,
    .cursor_next = lmdb_cursor_next,
    .cursor_prev = lmdb_cursor_prev,
    .snapshot = lmdb_snapshot,
    .release = lmdb_release,
    .commit = lmdb_commit,
    .checkpoint = lmdb_checkpoint,
    .status = lmdb_status,
    .memory = lmdb_memory,
};
