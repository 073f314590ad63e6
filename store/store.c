/*
 * Transactions with undo over the tables of an engine, and the turns that make them durable.
 * store_open.c is the start, store_eviction.c the room under the limit, store_history.c the
 * changes.
 */
#include "store/store_internal.h"

enum { RETRY_AFTER_MS = 500 }; /* while the disk is full */

/*
 * What one write replaced, for taking it back. The undo list is a stack of bytes: key, old value,
 * and this behind them, so that it is read from its end.
 */
struct undo {
    uint32_t key_size;
    uint32_t value_size;
    uint32_t table;
    uint32_t existed; /* else there was no such key */
};

/* Transactions. */

void store_begin(struct store *store, uint64_t now_ms)
{
    if (now_ms > store->now_ms)
        store->now_ms = now_ms;
    transaction_clear(&store->transaction);
    store->body = NULL;
    store->short_of_room = false;
    store->undo_start = store->undo.size;
}

static void undo_one(struct store *store)
{
    struct buffer *list = &store->undo;
    struct undo undo;
    memcpy(&undo, list->data + list->size - sizeof undo, sizeof undo);
    list->size -= sizeof undo + undo.value_size + undo.key_size;
    struct slice key = slice_of(list->data + list->size, undo.key_size);
    struct slice value = slice_of(key.data + key.size, undo.value_size);
    struct engine *engine = store->engine;
    int rc = undo.existed ? engine->methods->put(engine, undo.table, key, value)
                          : engine->methods->delete (engine, undo.table, key);
    if (rc != 0)
        store->broken = true;
    else
        store_track(store, undo.table, key, undo.existed);
}

static void undo_to(struct store *store, size_t size)
{
    while (store->undo.size > size)
        undo_one(store);
    store->undo.failed = false;
}

static int note_undo(struct store *store, unsigned table, struct slice key, const struct slice *old)
{
    struct undo undo = {.key_size = (uint32_t)key.size,
                        .value_size = old != NULL ? (uint32_t)old->size : 0,
                        .table = table,
                        .existed = old != NULL};
    struct buffer *list = &store->undo;
    if (!buffer_reserve(list, key.size + undo.value_size + sizeof undo)) {
        list->failed = false; /* nothing was appended, so nothing is missing */
        return STORE_NO_MEMORY;
    }
    uint8_t *at = list->data + list->size;
    if (key.size > 0)
        memcpy(at, key.data, key.size);
    at += key.size;
    if (undo.value_size > 0)
        memcpy(at, old->data, undo.value_size);
    memcpy(at + undo.value_size, &undo, sizeof undo);
    list->size += key.size + undo.value_size + sizeof undo;
    return 0;
}

/* The transaction's record in the log begins with its first write. */
static void begin_record(struct store *store)
{
    if (store->body != NULL)
        return;
    store->body = log_begin_record(store->log);
    store->body_start = store->body->size;
    store->open_turn = true;
}

int store_end(struct store *store, uint64_t *seq)
{
    struct transaction *transaction = &store->transaction;
    int rc = 0;
    if (store->body != NULL && transaction->count == 0)
        store_cancel(store);
    if (store->body != NULL) {
        rc = transaction_finish(transaction, store->body, store->body_start);
        uint64_t own_seq = transaction->changes > 0 ? store->seq + 1 : 0;
        if (rc == 0)
            rc = log_end_record(store->log, own_seq, store->now_ms);
        else
            log_drop_record(store->log);
        store->body = NULL;
        if (rc != 0)
            undo_to(store, store->undo_start);
        else if (own_seq != 0)
            store->seq = own_seq;
    }
    transaction_clear(transaction);
    if (seq != NULL)
        *seq = store->seq;
    return rc;
}

void store_cancel(struct store *store)
{
    undo_to(store, store->undo_start);
    if (store->body != NULL)
        log_drop_record(store->log);
    store->body = NULL;
    transaction_clear(&store->transaction);
}

struct store_savepoint store_savepoint(const struct store *store)
{
    return (struct store_savepoint){.undo = store->undo.size,
                                    .operations = store->transaction.count,
                                    .changes = store->transaction.changes};
}

void store_rollback(struct store *store, struct store_savepoint savepoint)
{
    undo_to(store, savepoint.undo);
    if (store->body != NULL)
        transaction_truncate(&store->transaction, store->body, store->body_start,
                             savepoint.operations, savepoint.changes);
}

uint64_t store_now(const struct store *store)
{
    return store->now_ms;
}

uint64_t store_next_seq(const struct store *store)
{
    return store->seq + 1;
}

uint32_t store_change_count(const struct store *store)
{
    return store->transaction.changes;
}

/* Reading and writing. */

int store_get(struct store *store, enum store_table table, struct slice key, struct slice *value)
{
    return store->engine->methods->get(store->engine, table, key, value);
}

_Static_assert((int)STORE_MAX_PREFETCH == (int)ENGINE_MAX_PREFETCH, "handed on as they are");

void store_prefetch(struct store *store, enum store_table table, const struct slice *keys,
                    unsigned count)
{
    if (store->engine->methods->prefetch != NULL && count > 1)
        store->engine->methods->prefetch(store->engine, table, keys, count);
}

/*
 * What a put and a delete have in common before the engine is touched: space, the undo entry, the
 * operation in the record. `stored` is the value there. On failure nothing has happened.
 */
static int note_write(struct store *store, const struct write *write, bool frees,
                      const struct slice *old, struct slice *stored)
{
    size_t undo_size = store->undo.size;
    size_t size = operation_size(write->key, write->head.size + write->value.size);
    int rc = log_reserve(store->log, size, frees);
    if (rc == 0)
        rc = note_undo(store, write->table, write->key, old);
    if (rc != 0)
        return rc;
    begin_record(store);
    rc = transaction_add(&store->transaction, store->body, store->body_start, write, stored);
    if (rc != 0) {
        store->undo.size = undo_size;
        store->body->failed = false; /* nothing was appended, so nothing is missing */
    }
    return rc;
}

/* Takes back what note_write did, where the engine then failed. */
static void unnote_write(struct store *store, size_t undo_size, uint32_t count, uint32_t changes)
{
    store->undo.size = undo_size;
    transaction_truncate(&store->transaction, store->body, store->body_start, count, changes);
}

/* What a put adds to what is there; nothing where the new value is no longer than the old. */
static size_t growth(struct slice key, size_t value_size, const struct slice *old)
{
    if (old == NULL)
        return key.size + value_size;
    return value_size > old->size ? value_size - old->size : 0;
}

int store_put_over(struct store *store, enum store_table table, struct slice key,
                   const struct slice *old, struct slice head, struct slice value,
                   enum store_change change)
{
    struct engine *engine = store->engine;
    struct slice stored;
    size_t undo_size = store->undo.size;
    uint32_t count = store->transaction.count;
    uint32_t changes = store->transaction.changes;
    bool quiet = change == STORE_QUIET || change == STORE_RESERVED;
    if (store->status.full && change != STORE_RESERVED)
        return STORE_FULL;
    if (!quiet && !store_has_room_for_put(store, growth(key, head.size + value.size, old)))
        return STORE_FULL;
    const struct write write = {table, quiet ? OPERATION_PUT : OPERATION_CHANGE_PUT, key, head,
                                value};
    int rc = note_write(store, &write, change == STORE_RESERVED, old, &stored);
    if (rc != 0)
        return rc;
    if (old == NULL) /* here, since the key may be a view of what the put changes */
        store_track(store, table, key, true);
    rc = engine->methods->put(engine, table, key, stored);
    if (rc == 0)
        return 0;
    unnote_write(store, undo_size, count, changes);
    if (old == NULL)
        store_track(store, table, key, false);
    return rc;
}

int store_put(struct store *store, enum store_table table, struct slice key, struct slice head,
              struct slice value, enum store_change change)
{
    struct slice old;
    int rc = store->engine->methods->get(store->engine, table, key, &old);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    return store_put_over(store, table, key, rc == 0 ? &old : NULL, head, value, change);
}

int store_delete(struct store *store, enum store_table table, struct slice key,
                 enum store_change change)
{
    static const enum operation_action actions[STORE_CHANGES] = {
        [STORE_QUIET] = OPERATION_DELETE,
        [STORE_CHANGE_DELETE] = OPERATION_CHANGE_DELETE,
        [STORE_CHANGE_EXPIRE] = OPERATION_CHANGE_EXPIRE,
        [STORE_CHANGE_EVICT] = OPERATION_CHANGE_EVICT,
    };
    struct engine *engine = store->engine;
    struct slice old;
    struct slice none;
    const struct write write = {.table = table, .action = actions[change], .key = key};
    size_t undo_size = store->undo.size;
    uint32_t count = store->transaction.count;
    uint32_t changes = store->transaction.changes;
    int rc = engine->methods->get(engine, table, key, &old);
    if (rc == 0)
        rc = note_write(store, &write, true, &old, &none);
    if (rc != 0)
        return rc;
    store_track(store, table, key, false);
    rc = engine->methods->delete (engine, table, key);
    if (rc == 0)
        return 0;
    unnote_write(store, undo_size, count, changes);
    store_track(store, table, key, true);
    return rc;
}

int store_count(struct store *store, enum store_table table, struct slice start, struct slice end,
                uint64_t *count)
{
    int rc = store->engine->methods->count(store->engine, table, start, end, count);
    if (rc != 0)
        *count = 0;
    return rc;
}

struct engine_cursor *store_cursor(struct store *store, enum store_table table)
{
    struct engine *engine = store->engine;
    if (store->cursors[table] == NULL)
        (void)engine->methods->cursor_open(engine, NULL, table, &store->cursors[table]);
    return store->cursors[table];
}

/* Turns. */

/* From its first group on the log is missed if its files are not there. */
static int note_begun(struct store *store)
{
    if (store->directory == NULL || store->state.begun)
        return 0;
    store->state.begun = true;
    return directory_save(store->directory, &store->state, &store->failure);
}

int store_commit_engine(struct store *store, uint64_t position)
{
    store->mark.position = position;
    store->mark.seq = store->seq;
    store->mark.time_ms = store->now_ms;
    return store->engine->methods->commit(store->engine, &store->mark);
}

int store_commit(struct store *store)
{
    if (store->broken)
        return STORE_IO;
    size_t pending = log_pending(store->log);
    int rc = log_commit(store->log);
    if (rc != 0 || !store->open_turn)
        return rc;
    store->written += pending;
    if (note_begun(store) != 0 || store_commit_engine(store, log_position(store->log)) != 0) {
        store->broken = true;
        return STORE_IO;
    }
    buffer_restart(&store->undo);
    store->open_turn = false;
    store->committed_seq = store->seq;
    return 0;
}

int store_checkpoint(struct store *store, struct store_error *error)
{
    if (store->directory == NULL)
        return store_fail(error, STORE_INVALID, "nothing is kept on disk (--data none)");
    store->again = store->status.running;
    if (store->again)
        return 0;
    store->written = 0;
    int rc = store->engine->methods->checkpoint(store->engine, false);
    store->engine->methods->status(store->engine, &store->status);
    if (rc == 0)
        return 0;
    return store_fail(error, (enum store_code)rc, "%s",
                      store->status.failure != NULL ? store->status.failure : "out of memory");
}

/* A checkpoint costs as much as the state is large, so it waits for as much log. */
static bool checkpoint_is_due(const struct store *store)
{
    uint64_t size = store->checkpoint_size;
    if (size == 0 || store->status.running)
        return store->again && !store->status.running;
    return store->again || (store->written >= size && store->written >= store->status.cost);
}

/* The engine has no room on the disk for what it keeps: it is asked now and then to try again. */
static void try_again(struct store *store)
{
    if (!store->status.full || store->now_ms < store->retry_ms)
        return;
    store->retry_ms = store->now_ms + RETRY_AFTER_MS;
    if (store->engine->methods->commit(store->engine, &store->mark) != 0)
        store->broken = true;
}

void store_poll(struct store *store)
{
    if (store->open_turn || store->broken)
        return;
    try_again(store);
    store->engine->methods->status(store->engine, &store->status);
    if (store->directory == NULL) /* with nothing on disk the log serves its readers alone */
        log_trim(store->log, UINT64_MAX, store->log_retain);
    else if (store->status.kept > 0)
        log_trim(store->log, store->status.kept, store->log_retain);
    if (store->directory != NULL && checkpoint_is_due(store))
        (void)store_checkpoint(store, NULL);
}

void store_checkpoints(const struct store *store, struct store_checkpoints *checkpoints)
{
    *checkpoints = (struct store_checkpoints){
        .running = store->status.running || store->again,
        .seq = store->status.at.seq,
        .count = store->status.count,
        .failed = store->status.failed,
        .failure = store->status.failure,
    };
}

uint64_t store_position(const struct store *store)
{
    return store->mark.position;
}

size_t store_pending(const struct store *store)
{
    return log_pending(store->log);
}

void store_abandon(struct store *store)
{
    undo_to(store, 0);
    buffer_restart(&store->undo);
    log_discard(store->log);
    transaction_clear(&store->transaction);
    store->body = NULL;
    store->open_turn = false;
    store->seq = store->committed_seq;
}

int store_sync(struct store *store)
{
    return log_sync(store->log);
}

const char *store_failure(const struct store *store)
{
    struct engine_status status;
    if (!store->broken)
        return log_failure(store->log);
    if (store->failure.message[0] != '\0')
        return store->failure.message;
    store->engine->methods->status(store->engine, &status);
    return status.failure != NULL ? status.failure : "out of memory while taking back a write";
}

uint64_t store_seq(const struct store *store)
{
    return store->seq;
}

uint64_t store_oldest(const struct store *store)
{
    return log_oldest_seq(store->log);
}

const char *store_epoch(const struct store *store)
{
    return store->state.epoch;
}

const char *store_engine(const struct store *store)
{
    return store->engine->methods->name;
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    struct engine *engine = store->engine;
    *stats = (struct store_stats){
        .memory = engine->methods->memory(engine) + store->status.cache + store->sieve.memory,
        .memory_limit = store->memory_limit,
        .disk = store->directory != NULL ? log_size(store->log) + store->status.size : 0,
        .syncs = log_sync_count(store->log),
        .replayed = store->replayed,
    };
}
