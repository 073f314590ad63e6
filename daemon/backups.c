#include "daemon/backups.h"

#include <sys/random.h>

#include "daemon/method.h"

enum { ID_BITS = 53 }; /* what a client without 64-bit integers can hold */

struct backup *backups_find(struct backups *backups, uint64_t id)
{
    for (int i = 0; i < WIRE_MAX_BACKUPS; i++)
        if (id != 0 && backups->open[i].id == id)
            return &backups->open[i];
    return NULL;
}

static struct backup *find_free(struct backups *backups)
{
    for (int i = 0; i < WIRE_MAX_BACKUPS; i++)
        if (backups->open[i].id == 0)
            return &backups->open[i];
    return NULL;
}

int backups_begin(struct backups *backups, struct store *store, uint64_t now_ms, uint64_t *id)
{
    struct backup *backup = find_free(backups);
    uint64_t random;
    if (backup == NULL)
        return STORE_COMPACTED;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return STORE_IO;
    int rc = store_snapshot(store, &backup->snapshot);
    if (rc != 0)
        return rc;
    backup->id = random >> (64 - ID_BITS) | 1;
    backup->used_ms = now_ms;
    *id = backup->id;
    return 0;
}

void backups_end(struct backup *backup)
{
    store_snapshot_release(&backup->snapshot);
    backup->id = 0;
}

void backups_expire(struct backups *backups, uint64_t now_ms)
{
    for (int i = 0; i < WIRE_MAX_BACKUPS; i++)
        if (backups->open[i].id != 0 && now_ms > backups->open[i].used_ms + BACKUPS_IDLE_MS)
            backups_end(&backups->open[i]);
}

void backups_free(struct backups *backups)
{
    backups_expire(backups, UINT64_MAX);
}

/* The methods. */

static void pack_number(struct buffer *out, const char *name, uint64_t value)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

enum wire_code method_backup(struct call *call)
{
    struct store *store = call->service->store;
    uint64_t id;
    uint64_t keys;
    int rc = store_count(store, STORE_KEYS, (struct slice){0}, (struct slice){0}, &keys);
    if (rc != 0)
        return method_store_error(call->error, rc);
    rc = backups_begin(&call->service->backups, store, store_now(store), &id);
    if (rc == STORE_COMPACTED) {
        wire_fail(call->error, WIRE_BUSY, "too many backups are open");
        call->error->has = WIRE_DETAIL_LIMIT;
        call->error->limit = WIRE_MAX_BACKUPS;
        return WIRE_BUSY;
    }
    if (rc != 0)
        return method_store_error(call->error, rc);
    wire_pack_map(call->out, 6);
    pack_number(call->out, "backup", id);
    pack_number(call->out, "format", BACKUPS_FORMAT);
    wire_pack_text(call->out, "epoch");
    wire_pack_text(call->out, store_epoch(store));
    pack_number(call->out, "seq", store_seq(store));
    pack_number(call->out, "time", store_now(store));
    pack_number(call->out, "keys", keys);
    return WIRE_OK;
}

/* One page; `rc` is STORE_NOT_FOUND where the snapshot has ended with it. */
static uint32_t pack_entries(struct buffer *out, struct store_snapshot *snapshot, int *rc)
{
    size_t start = out->size;
    uint32_t count = 0;
    unsigned table;
    struct slice key;
    struct slice stored;
    while (out->size - start < WIRE_PAGE_BYTES &&
           (*rc = store_snapshot_next(snapshot, &table, &key, &stored)) == 0) {
        wire_pack_array(out, 3);
        wire_pack_uint(out, table);
        wire_pack_bin(out, key);
        wire_pack_bin(out, stored);
        count++;
    }
    return count;
}

static enum wire_code no_backup(struct call *call)
{
    return wire_fail(call->error, WIRE_NOT_FOUND,
                     "no such backup is open: one ends with its last page, or when it is not read "
                     "for %d s",
                     BACKUPS_IDLE_MS / 1000);
}

enum wire_code method_backup_read(struct call *call)
{
    struct backup *backup = backups_find(&call->service->backups, call->args->backup);
    int rc = 0;
    if (backup == NULL)
        return no_backup(call);
    backup->used_ms = store_now(call->service->store);
    wire_pack_map(call->out, 2);
    wire_pack_text(call->out, "entries");
    size_t place = wire_pack_array_later(call->out);
    wire_set_array_count(call->out, place, pack_entries(call->out, backup->snapshot, &rc));
    if (rc != 0)
        backups_end(backup);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return method_store_error(call->error, rc);
    wire_pack_text(call->out, "more");
    wire_pack_bool(call->out, rc == 0);
    return WIRE_OK;
}

enum wire_code method_backup_end(struct call *call)
{
    struct backup *backup = backups_find(&call->service->backups, call->args->backup);
    wire_pack_bool(call->out, backup != NULL);
    if (backup != NULL)
        backups_end(backup);
    return WIRE_OK;
}
