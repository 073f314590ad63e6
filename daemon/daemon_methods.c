/* The methods about the daemon itself and all that it has: protocol sections 4 and 5. */
#include <unistd.h>

#include "daemon/method.h"
#include "daemon/stored.h"
#include "queue/waiters.h"

enum wire_code method_ping(struct call *call)
{
    wire_pack_bool(call->out, true);
    return WIRE_OK;
}

enum wire_code method_checkpoint(struct call *call)
{
    struct store *store = call->service->store;
    struct store_error error = {.message = "out of memory"};
    if (store_checkpoint(store, &error) != 0)
        return wire_fail(call->error, WIRE_UNAVAILABLE, "%s", error.message);
    wire_pack_uint(call->out, store_seq(store));
    return WIRE_OK;
}

struct number {
    const char *name;
    uint64_t value;
};

static void pack_limits(struct buffer *out)
{
    static const struct number limits[] = {
        {"max_key", WIRE_MAX_KEY},         {"max_value", WIRE_MAX_VALUE},
        {"max_message", WIRE_MAX_MESSAGE}, {"max_batch", WIRE_MAX_BATCH},
        {"max_waiters", WIRE_MAX_WAITERS}, {"max_watches", WIRE_MAX_WATCHES},
    };
    size_t count = sizeof limits / sizeof limits[0];
    wire_pack_text(out, "limits");
    wire_pack_map(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        method_pack_number(out, limits[i].name, limits[i].value);
}

enum wire_code method_hello(struct call *call)
{
    const struct store *store = call->service->store;
    wire_pack_map(call->out, 8);
    method_pack_text(call->out, "server", "cubby");
    method_pack_text(call->out, "version", CUBBY_VERSION);
    method_pack_number(call->out, "protocol", 1);
    method_pack_text(call->out, "epoch", store_epoch(store));
    method_pack_number(call->out, "seq", store_seq(store));
    method_pack_number(call->out, "oldest", store_oldest(store));
    method_pack_number(call->out, "time", store_now(store));
    pack_limits(call->out);
    return WIRE_OK;
}

enum wire_code method_stats(struct call *call)
{
    const struct service *service = call->service;
    const struct counters *counters = service->counters;
    const struct store *store = service->store;
    uint64_t keys;
    struct store_stats stats;
    struct store_checkpoints checkpoints;
    int rc = keys_count(&call->service->keys, (struct keys_range){.start = {0}}, &keys);
    if (rc != 0)
        return stored_fail(call->error, rc);
    store_stats(store, &stats);
    store_checkpoints(store, &checkpoints);
    const struct number numbers[] = {
        {"keys", keys},
        {"seq", store_seq(store)},
        {"oldest", store_oldest(store)},
        {"connections", counters->connections},
        {"requests", counters->requests},
        {"errors", counters->errors},
        {"deferred", counters->deferred},
        {"watches", watches_count(service->watches)},
        {"waiters", waiters_count(service->waiters)},
        {"memory", stats.memory},
        {"memory_limit", stats.memory_limit},
        {"disk", stats.disk},
        {"drops", counters->drops},
        {"publish_queue", counters->waiting},
        {"undelivered", counters->undelivered},
        {"returned", counters->returned},
        {"expired", counters->expired},
        {"evicted", counters->evicted},
        {"turns", counters->turn_us.count},
        {"turn_p50_us", histogram_percentile(&counters->turn_us, 50)},
        {"turn_p99_us", histogram_percentile(&counters->turn_us, 99)},
        {"turn_max_us", counters->turn_us.max},
        {"group_p50", histogram_percentile(&counters->group, 50)},
        {"group_p99", histogram_percentile(&counters->group, 99)},
        {"group_max", counters->group.max},
        {"syncs", stats.syncs},
        {"commit_p50_us", histogram_percentile(&counters->commit_us, 50)},
        {"commit_p99_us", histogram_percentile(&counters->commit_us, 99)},
        {"commit_max_us", counters->commit_us.max},
        {"replayed", stats.replayed},
        {"checkpoints", checkpoints.count},
        {"checkpoints_failed", checkpoints.failed},
        {"checkpoint_running", checkpoints.running},
        {"checkpoint_seq", checkpoints.seq},
        {"uptime", counters->uptime_ms},
        {"pid", (uint64_t)getpid()},
    };
    size_t count = sizeof numbers / sizeof numbers[0];
    wire_pack_map(call->out, (uint32_t)count + 4);
    for (size_t i = 0; i < count; i++)
        method_pack_number(call->out, numbers[i].name, numbers[i].value);
    method_pack_text(call->out, "version", CUBBY_VERSION);
    method_pack_text(call->out, "epoch", store_epoch(store));
    method_pack_text(call->out, "engine", store_engine(store));
    method_pack_text(call->out, "durability", service->durability);
    return WIRE_OK;
}

/* Backups. */

enum wire_code method_backup(struct call *call)
{
    struct store *store = call->service->store;
    uint64_t id;
    uint64_t keys;
    int rc = store_count(store, STORE_KEYS, (struct slice){0}, (struct slice){0}, &keys);
    if (rc != 0)
        return stored_fail(call->error, rc);
    rc = backups_begin(&call->service->backups, store, store_now(store), &id);
    if (rc == STORE_COMPACTED) {
        wire_fail(call->error, WIRE_BUSY, "too many backups are open");
        call->error->has = WIRE_DETAIL_LIMIT;
        call->error->limit = WIRE_MAX_BACKUPS;
        return WIRE_BUSY;
    }
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_map(call->out, 6);
    method_pack_number(call->out, "backup", id);
    method_pack_number(call->out, "format", BACKUPS_FORMAT);
    wire_pack_text(call->out, "epoch");
    wire_pack_text(call->out, store_epoch(store));
    method_pack_number(call->out, "seq", store_seq(store));
    method_pack_number(call->out, "time", store_now(store));
    method_pack_number(call->out, "keys", keys);
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
        return stored_fail(call->error, rc);
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
