#include "daemon/service.h"

#include <unistd.h>

#include "daemon/eviction.h"
#include "daemon/waits.h"

static method_fn *const methods[WIRE_METHODS] = {
    [WIRE_METHOD_PING] = method_ping,
    [WIRE_METHOD_HELLO] = method_hello,
    [WIRE_METHOD_GET] = method_get,
    [WIRE_METHOD_PUT] = method_put,
    [WIRE_METHOD_DELETE] = method_delete,
    [WIRE_METHOD_INCREMENT] = method_increment,
    [WIRE_METHOD_TOUCH] = method_touch,
    [WIRE_METHOD_SCAN] = method_scan,
    [WIRE_METHOD_COUNT] = method_count,
    [WIRE_METHOD_DELETE_RANGE] = method_delete_range,
    [WIRE_METHOD_BATCH] = method_batch,
    [WIRE_METHOD_STATS] = method_stats,
    [WIRE_METHOD_BACKUP] = method_backup,
    [WIRE_METHOD_BACKUP_READ] = method_backup_read,
    [WIRE_METHOD_BACKUP_END] = method_backup_end,
    [WIRE_METHOD_CHANGES] = method_changes,
    [WIRE_METHOD_CHECKPOINT] = method_checkpoint,
    [WIRE_METHOD_WATCH] = method_watch,
    [WIRE_METHOD_WATCH_CREDIT] = method_watch_credit,
    [WIRE_METHOD_WATCH_CANCEL] = method_watch_cancel,
    [WIRE_METHOD_QUEUE_PUSH] = method_queue_push,
    [WIRE_METHOD_QUEUE_RESERVE] = method_queue_reserve,
    [WIRE_METHOD_QUEUE_POP] = method_queue_pop,
    [WIRE_METHOD_QUEUE_CANCEL] = method_queue_cancel,
    [WIRE_METHOD_QUEUE_ACK] = method_queue_ack,
    [WIRE_METHOD_QUEUE_NACK] = method_queue_nack,
    [WIRE_METHOD_QUEUE_EXTEND] = method_queue_extend,
    [WIRE_METHOD_QUEUE_BURY] = method_queue_bury,
    [WIRE_METHOD_QUEUE_KICK] = method_queue_kick,
    [WIRE_METHOD_QUEUE_DELETE] = method_queue_delete,
    [WIRE_METHOD_QUEUE_JOB] = method_queue_job,
    [WIRE_METHOD_QUEUE_PEEK] = method_queue_peek,
    [WIRE_METHOD_QUEUE_STATS] = method_queue_stats,
    [WIRE_METHOD_QUEUE_LIST] = method_queue_list,
    [WIRE_METHOD_QUEUE_CONFIGURE] = method_queue_configure,
    [WIRE_METHOD_QUEUE_PAUSE] = method_queue_pause,
    [WIRE_METHOD_QUEUE_RESUME] = method_queue_resume,
    [WIRE_METHOD_QUEUE_PURGE] = method_queue_purge,
    [WIRE_METHOD_QUEUE_DROP] = method_queue_drop,
};

int service_init(struct service *service, struct store *store, struct counters *counters,
                 uint64_t now_ms, struct store_error *error)
{
    *service = (struct service){.store = store, .counters = counters, .durability = "none"};
    keys_init(&service->keys, store);
    service->waiters = waiters_new(WIRE_MAX_WAITERS);
    service->watches = watches_new(store);
    if (service->waiters == NULL || service->watches == NULL ||
        store_history_open(store, &service->history) != 0)
        return store_fail(error, STORE_NO_MEMORY, "out of memory");
    return queues_open(&service->queues, store, now_ms, error);
}

void service_free(struct service *service)
{
    watches_free(&service->watches);
    store_history_close(&service->history);
    backups_free(&service->backups);
    outbox_free(&service->outbox);
    waiters_free(&service->waiters);
    queues_close(&service->queues);
    deliveries_free(&service->deliveries);
    buffer_free(&service->queue_news);
}

enum wire_code method_run(struct call *call, enum wire_method method)
{
    call->method = method;
    return methods[method](call);
}

int method_end_transaction(struct service *service, int rc)
{
    if (rc == 0)
        rc = store_end(service->store, NULL);
    else
        store_cancel(service->store);
    if (rc == 0)
        queues_end(service->queues);
    else
        queues_cancel(service->queues);
    return rc;
}

enum wire_code method_store_error(struct wire_error *error, int store_code)
{
    switch (store_code) {
    case STORE_FULL:
        return wire_fail(error, WIRE_STORAGE_FULL,
                         "the limit of memory or disk is reached; delete something, or raise it");
    case STORE_NO_MEMORY:
        return wire_fail(error, WIRE_STORAGE_FULL, "the daemon is out of memory; nothing was done");
    case STORE_IO:
        return wire_fail(error, WIRE_UNAVAILABLE, "the disk fails; see the daemon's log");
    default:
        return wire_fail(error, WIRE_INTERNAL, "defect in the daemon (store code %d)", store_code);
    }
}

uint64_t method_seq(const struct call *call)
{
    const struct store *store = call->service->store;
    return store_change_count(store) > 0 ? store_next_seq(store) : store_seq(store);
}

/*
 * Keys that expired but still wait for service_begin_turn: before something writes one of them, its
 * `expire` change has to be made, in a transaction before.
 */
static int expire_written(struct service *service, uint64_t now_ms, enum wire_method method,
                          const struct wire_args *args)
{
    bool writes = (wire_method_flags(method) & WIRE_WRITES) != 0;
    if (!writes || args->key.size == 0)
        return 0;
    return keys_expire_key(&service->keys, now_ms, args->key);
}

static int expire_before(struct service *service, uint64_t now_ms,
                         const struct wire_request *request)
{
    if (!keys_due(&service->keys, now_ms))
        return 0;
    if (request->method != WIRE_METHOD_BATCH)
        return expire_written(service, now_ms, request->method, &request->args);
    struct wire_cursor operations = request->args.operations;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < request->args.operation_count; i++) {
        enum wire_method method;
        struct wire_args args;
        struct wire_error ignored; /* the batch itself will find it */
        if (wire_next_operation(&operations, &method, &args, &ignored) == WIRE_OK)
            rc = expire_written(service, now_ms, method, &args);
    }
    return rc;
}

/* Runs the method in a transaction of its own; its result is appended to `out`. */
static enum wire_code attempt(struct call *call, uint64_t now_ms)
{
    struct service *service = call->service;
    struct wire_error *error = call->error;
    int rc = expire_before(service, now_ms, call->request);
    if (rc != 0)
        return method_store_error(error, rc);
    store_begin(service->store, now_ms);
    enum wire_code code = method_run(call, call->request->method);
    if (code == WIRE_OK && call->out->failed)
        code = method_store_error(error, STORE_NO_MEMORY);
    if (code != WIRE_OK) {
        (void)method_end_transaction(service, STORE_INVALID);
        keys_forget_times(&service->keys); /* what it deleted may expire after all */
        return code;
    }
    rc = method_end_transaction(service, 0);
    return rc != 0 ? method_store_error(error, rc) : WIRE_OK;
}

/* What was appended is as if it had not been; room for an error reply is there already. */
static void take_back(struct buffer *out, size_t start)
{
    out->size = start;
    out->failed = false;
}

/*
 * A write for which there is no room runs again once keys were evicted for it. So nothing is
 * evicted for one that fails for another reason, or that needs less than its size would say.
 */
static enum wire_code execute(struct call *call, uint64_t now_ms)
{
    size_t start = call->out->size;
    enum wire_code code = attempt(call, now_ms);
    for (unsigned i = 0;
         code == WIRE_STORAGE_FULL && eviction_make_room(call->service, call->request, i, now_ms);
         i++) {
        take_back(call->out, start);
        code = attempt(call, now_ms);
    }
    return code;
}

bool service_read(struct service *service, struct slice payload, struct buffer *out,
                  struct wire_request *request)
{
    struct wire_error error;
    if (wire_decode_request(payload, request, &error) == WIRE_OK)
        return true;
    service->counters->errors++;
    wire_pack_error_reply(out, request, &error);
    return false;
}

struct service_answer service_execute(struct service *service, const struct wire_request *request,
                                      const struct peer *peer, uint64_t now_ms, struct buffer *out)
{
    struct wire_error error;
    struct service_answer answer = {0};
    struct call call = {.service = service,
                        .request = request,
                        .args = &request->args,
                        .peer = peer,
                        .out = out,
                        .error = &error,
                        .answer = &answer};
    size_t start = out->size;
    if (request->answer == WIRE_ANSWER_NONE &&
        (wire_method_flags(request->method) & WIRE_ANSWERED) != 0)
        return answer;
    wire_pack_reply(out, request->msgid);
    enum wire_code code = execute(&call, now_ms);
    if (code == WIRE_OK && answer.later)
        code = waits_begin(&call);
    if (code != WIRE_OK) {
        service->counters->errors++;
        take_back(out, start);
        wire_pack_error_reply(out, request, &error);
        answer = (struct service_answer){0};
    } else if (answer.later || request->answer == WIRE_ANSWER_NONE) {
        take_back(out, start);
    }
    answer.first = service->outbox.count;
    waits_wake(service);
    return answer;
}

void service_commit(struct service *service)
{
    watches_commit(service->watches);
}

void service_undelivered(struct service *service, uint64_t tag, bool gone)
{
    if ((tag & SERVICE_TAG_WATCH) != 0)
        watches_undelivered(service->watches, tag & ~SERVICE_TAG_WATCH, gone);
    else
        deliveries_return(&service->deliveries, tag);
}

void service_prefetch(struct service *service, const struct slice *keys, unsigned count)
{
    store_prefetch(service->store, STORE_KEYS, keys, count);
}

void service_refuse(struct service *service, const struct wire_request *request,
                    enum wire_code code, const char *message, struct buffer *out)
{
    struct wire_error error;
    service->counters->errors++;
    wire_fail(&error, code, "%s", message);
    wire_pack_error_reply(out, request, &error);
}

static void expire_keys(struct service *service, uint64_t now_ms, unsigned limit)
{
    uint32_t expired = 1;
    for (unsigned i = 0; i < limit && expired > 0 && keys_due(&service->keys, now_ms); i++) {
        if (keys_expire(&service->keys, now_ms, &expired) != 0)
            return; /* no space for the record: they stay absent, and are tried again */
        service->counters->expired += expired;
    }
}

/* Leases, delays, ttls, pauses: what is left after `limit` transactions is for the next turn. */
static void expire_jobs(struct service *service, uint64_t now_ms, unsigned limit)
{
    bool more = queues_next_due(service->queues) <= now_ms;
    for (unsigned i = 0; i < limit && more; i++) {
        if (queues_expire(service->queues, now_ms, &more) != 0)
            return;
        waits_wake(service);
    }
}

static void take_back_deliveries(struct service *service, uint64_t now_ms)
{
    struct deliveries *deliveries = &service->deliveries;
    if (deliveries->returned_count > 0) {
        service->counters->returned +=
            deliveries_give_back(deliveries, service->queues, service->store, now_ms);
        deliveries_clear(deliveries);
        waits_wake(service);
        return;
    }
    deliveries_clear(deliveries);
}

void service_begin_turn(struct service *service, uint64_t now_ms, unsigned of_keys,
                        unsigned of_jobs)
{
    backups_expire(&service->backups, now_ms);
    take_back_deliveries(service, now_ms);
    expire_keys(service, now_ms, of_keys);
    expire_jobs(service, now_ms, of_jobs);
    if (service->unmatched) {
        service->unmatched = false;
        waits_wake_all(service);
    }
    waits_expire(service, now_ms);
}

int service_end_turn(struct service *service, uint64_t now_ms)
{
    return queues_save(service->queues, now_ms);
}

void service_abandon(struct service *service, enum wire_code code, const char *message)
{
    queues_abandon(service->queues);
    watches_abandon(service->watches);
    keys_forget_times(&service->keys); /* what the turn deleted may expire after all */
    waits_abandon(service, code, message);
    service->unmatched =
        waiters_count(service->waiters) > 0; /* jobs of others may be ready again */
}

void service_stop(struct service *service)
{
    waits_stop(service);
    watches_stop(service->watches, &service->outbox);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t service_next_due(struct service *service)
{
    if (service->deliveries.returned_count > 0 || service->unmatched)
        return 0;
    uint64_t due_ms = keys_next_expiry(&service->keys);
    due_ms = earlier(due_ms, queues_next_due(service->queues));
    return earlier(due_ms, waiters_next_due(service->waiters));
}

/* Methods about the daemon itself. */

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

static void pack_number(struct buffer *out, const char *name, uint64_t value)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

static void pack_text(struct buffer *out, const char *name, const char *value)
{
    wire_pack_text(out, name);
    wire_pack_text(out, value);
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
        pack_number(out, limits[i].name, limits[i].value);
}

enum wire_code method_hello(struct call *call)
{
    const struct store *store = call->service->store;
    wire_pack_map(call->out, 8);
    pack_text(call->out, "server", "cubby");
    pack_text(call->out, "version", CUBBY_VERSION);
    pack_number(call->out, "protocol", 1);
    pack_text(call->out, "epoch", store_epoch(store));
    pack_number(call->out, "seq", store_seq(store));
    pack_number(call->out, "oldest", store_oldest(store));
    pack_number(call->out, "time", store_now(store));
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
        return method_store_error(call->error, rc);
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
        pack_number(call->out, numbers[i].name, numbers[i].value);
    pack_text(call->out, "version", CUBBY_VERSION);
    pack_text(call->out, "epoch", store_epoch(store));
    pack_text(call->out, "engine", store_engine(store));
    pack_text(call->out, "durability", service->durability);
    return WIRE_OK;
}
