#include "daemon/backups.h"

#include <sys/random.h>

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
