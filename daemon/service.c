#include "daemon/service.h"

#include "daemon/eviction.h"
#include "daemon/stored.h"
#include "daemon/waits.h"

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

/*
 * Keys that expired but still wait for service_expire: before something writes one of them, its
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
        return stored_fail(error, rc);
    store_begin(service->store, now_ms);
    enum wire_code code = method_run(call, call->request->method);
    if (code == WIRE_OK && call->out->failed)
        code = stored_fail(error, STORE_NO_MEMORY);
    if (code != WIRE_OK) {
        (void)method_end_transaction(service, STORE_INVALID);
        keys_forget_times(&service->keys); /* what it deleted may expire after all */
        return code;
    }
    rc = method_end_transaction(service, 0);
    return rc != 0 ? stored_fail(error, rc) : WIRE_OK;
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
    if ((tag & WATCHES_TAG) != 0)
        watches_undelivered(service->watches, tag & ~WATCHES_TAG, gone);
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

/* Whether more are due. Those for whose record there is no space stay absent, and wait. */
static bool expire_keys(struct service *service, uint64_t now_ms)
{
    uint32_t expired = 0;
    if (keys_next_expiry(&service->keys) > now_ms || !keys_due(&service->keys, now_ms))
        return false;
    int rc = keys_expire(&service->keys, now_ms, &expired);
    service->counters->expired += expired;
    return rc == 0 && expired > 0 && keys_due(&service->keys, now_ms);
}

/* Leases, delays, ttls, pauses. Whether more are due. */
static bool expire_jobs(struct service *service, uint64_t now_ms)
{
    bool more;
    if (queues_next_due(service->queues) > now_ms ||
        queues_expire(service->queues, now_ms, &more) != 0)
        return false;
    waits_wake(service);
    return more;
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

void service_begin_turn(struct service *service, uint64_t now_ms)
{
    backups_expire(&service->backups, now_ms);
    take_back_deliveries(service, now_ms);
    if (service->unmatched) {
        service->unmatched = false;
        waits_wake_all(service);
    }
}

bool service_expire(struct service *service, uint64_t now_ms)
{
    bool more_keys = expire_keys(service, now_ms);
    bool more_jobs = expire_jobs(service, now_ms);
    waits_expire(service, now_ms);
    return more_keys || more_jobs;
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
