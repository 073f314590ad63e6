#include "queue/internal.h"

/*
 * Ids never repeat. Three things see to that:
 *
 *  - Blocks of ids are reserved before any of them is given out, and the reservation is synced, in
 *    every durability. A crash can forget jobs, but not which ids they may have had.
 *  - Where the epoch is another one the reservation itself may be old: of a backup. Then many
 *    blocks are left out.
 *  - A start goes on behind the wall clock's milliseconds times 1024, if that is more. So a daemon
 *    that keeps nothing on disk does not begin with the same ids each time, as long as it does not
 *    take a million a second in the mean.
 *
 * They stay below 2^53 for some two hundred years, for clients that know no integers beyond, and
 * for salvage, which takes no others for ids. So a clock that is further ahead is not believed.
 */
enum { IDS_PER_MS = 1024 };

#define IDS_BLOCK   (UINT64_C(1) << 24)
#define IDS_LAST_MS ((UINT64_C(1) << 43) - (UINT64_C(1) << 35)) /* a year before 2^53 ids */
#define IDS_FIRST   UINT64_C(1)

static int reserve(struct queues *queues, uint64_t limit)
{
    return record_put_ids(queues->store, limit, slice_of_text(store_epoch(queues->store)));
}

static int find_next(struct queues *queues, uint64_t now_ms)
{
    uint64_t limit = IDS_FIRST;
    struct slice epoch;
    int rc = record_get_ids(queues->store, &limit, &epoch);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    if (rc == 0 && !slice_equal(epoch, slice_of_text(store_epoch(queues->store))))
        limit += QUEUE_FOREIGN_BLOCKS * IDS_BLOCK;
    if (now_ms < IDS_LAST_MS && limit < now_ms * IDS_PER_MS)
        limit = now_ms * IDS_PER_MS;
    queues->next_id = limit;
    return 0;
}

int ids_open(struct queues *queues, uint64_t now_ms)
{
    struct store *store = queues->store;
    int rc = find_next(queues, now_ms);
    if (rc != 0)
        return rc;
    uint64_t limit = queues->next_id + IDS_BLOCK;
    store_begin(store, now_ms);
    rc = reserve(queues, limit);
    if (rc == 0)
        rc = store_end(store, NULL);
    else
        store_cancel(store);
    if (rc == 0)
        rc = store_commit(store);
    if (rc == 0)
        rc = store_sync(store);
    if (rc == 0)
        queues->id_limit = limit;
    else
        store_abandon(store);
    return rc;
}

int ids_take(struct queues *queues, uint64_t *id)
{
    if (queues->next_id == queues->id_limit)
        return STORE_FULL;
    *id = queues->next_id++;
    return 0;
}

/* Whether half a block or less is left. */
static bool is_low(const struct queues *queues)
{
    return queues->id_limit - queues->next_id <= IDS_BLOCK / 2;
}

bool ids_run_short(const struct queues *queues)
{
    return queues->ids_written != 0 || is_low(queues);
}

int ids_settle(struct queues *queues)
{
    if (queues->ids_written == 0)
        return 0;
    int rc = store_sync(queues->store);
    if (rc != 0)
        return rc;
    queues->id_limit = queues->ids_written;
    queues->ids_written = 0;
    return 0;
}

int ids_reserve(struct queues *queues)
{
    if (!is_low(queues))
        return 0;
    uint64_t limit = queues->id_limit + IDS_BLOCK;
    int rc = reserve(queues, limit);
    if (rc == 0)
        queues->ids_written = limit;
    return rc;
}
