/* The methods on queues: protocol section 6. */
#include "daemon/stored.h"
#include "daemon/waits.h"

_Static_assert((int)WIRE_JOB_READY == (int)JOB_READY && (int)WIRE_JOB_DELAYED == (int)JOB_DELAYED &&
                   (int)WIRE_JOB_LEASED == (int)JOB_LEASED && (int)WIRE_JOB_DEAD == (int)JOB_DEAD &&
                   (int)WIRE_JOB_STATES == (int)JOB_STATES &&
                   (int)WIRE_JOB_EXPIRED == (int)JOB_EXPIRED,
               "states of jobs are the same in the protocol and in the queues");
_Static_assert((int)WIRE_PLACE_SIZE == (int)QUEUE_PLACE_SIZE, "so are their places");

static uint64_t now(const struct call *call)
{
    return store_now(call->service->store);
}

/* For a method about one job: its results other than 0. */
static enum wire_code job_error(struct call *call, int rc)
{
    const char *name = wire_method_name(call->method);
    if (rc == STORE_NOT_FOUND)
        return wire_fail(call->error, WIRE_NOT_FOUND, "%s: there is no such job (any more)", name);
    if (rc == QUEUE_STALE_LEASE)
        return wire_fail(call->error, WIRE_STALE_LEASE,
                         "%s: the job is not, or no longer, leased with this token", name);
    return stored_fail(call->error, rc);
}

static enum wire_code no_queue(struct call *call)
{
    return wire_fail(call->error, WIRE_NOT_FOUND, "%s: there is no such queue",
                     wire_method_name(call->method));
}

/* Push. */

enum { PRODUCER_NUMBER_SIZE = 10 }; /* kind, sign, 8 bytes */

/* The producer's id as the queues keep it: its kind, then its bytes. */
static struct slice producer_id(const struct wire_args *args, uint8_t buffer[QUEUE_MAX_DEDUP_ID])
{
    if ((args->given & WIRE_HAS_ID) == 0)
        return (struct slice){0};
    if (!args->id_is_number) {
        buffer[0] = 'b';
        memcpy(buffer + 1, args->id.data, args->id.size);
        return slice_of(buffer, args->id.size + 1);
    }
    uint64_t bits = (uint64_t)args->id_number;
    buffer[0] = 'i';
    buffer[1] = args->id_number < 0;
    for (int i = PRODUCER_NUMBER_SIZE - 1; i >= 2; i--, bits >>= 8)
        buffer[i] = (uint8_t)bits;
    return slice_of(buffer, PRODUCER_NUMBER_SIZE);
}

static enum wire_code queue_full(struct call *call)
{
    struct queue_settings settings = {0};
    (void)queue_settings(call->service->queues, call->args->queue, &settings);
    wire_fail(call->error, WIRE_QUEUE_FULL, "queue.push: the queue has its max_length");
    call->error->has = WIRE_DETAIL_LIMIT;
    call->error->limit = settings.max_length;
    return WIRE_QUEUE_FULL;
}

enum wire_code method_queue_push(struct call *call)
{
    const struct wire_args *args = call->args;
    uint8_t id_buffer[QUEUE_MAX_DEDUP_ID];
    const struct push_options options = {
        .delay_ms = args->delay_ms,
        .priority = args->priority,
        .dedup = producer_id(args, id_buffer),
        .ttl_given = args->has_ttl,
        .ttl_ms = args->ttl_ms,
    };
    uint64_t id = 0;
    bool duplicate = false;
    int rc = queue_push(call->service->queues, args->queue, args->value, &options, &id, &duplicate);
    if (rc == QUEUE_LIMIT)
        return queue_full(call);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_array(call->out, 2);
    wire_pack_uint(call->out, id);
    wire_pack_bool(call->out, duplicate);
    return WIRE_OK;
}

/* Reserve, pop. */

/*
 * Where somebody waits there is no job, but in the moment after a pause whose end has not been
 * carried out yet; nobody is overtaken then either.
 */
static bool is_waited_for(const struct call *call, struct slice queue)
{
    bool in_batch = call->answer == NULL;
    return !in_batch && waiters_first(call->service->waiters, queue) != NULL;
}

static enum wire_code hand_out(struct call *call, const struct hand_out *what, uint32_t *taken)
{
    struct wire_cursor names = call->args->queues;
    *taken = 0;
    for (uint32_t i = 0; *taken == 0 && i < call->args->queue_count; i++) {
        struct slice queue;
        wire_next_queue(&names, &queue);
        if (is_waited_for(call, queue))
            continue;
        int rc = waits_hand_out(call->service, queue, what, call->out, taken);
        if (rc != 0)
            return stored_fail(call->error, rc);
    }
    return WIRE_OK;
}

static enum wire_code take_jobs(struct call *call, bool pop)
{
    const struct wire_args *args = call->args;
    bool in_batch = call->answer == NULL;
    uint64_t tag = in_batch ? 0 : deliveries_begin(&call->service->deliveries);
    const struct hand_out what = {pop, args->count, args->lease_ms, tag};
    uint32_t taken;
    enum wire_code code = hand_out(call, &what, &taken);
    if (code != WIRE_OK)
        return code;
    if (taken == 0 && !in_batch && args->wait_ms > 0)
        call->answer->later = true;
    else if (taken == 0)
        wire_pack_array(call->out, 0);
    else if (!in_batch)
        call->answer->tag = tag;
    return WIRE_OK;
}

enum wire_code method_queue_reserve(struct call *call)
{
    return take_jobs(call, false);
}

enum wire_code method_queue_pop(struct call *call)
{
    return take_jobs(call, true);
}

enum wire_code method_queue_cancel(struct call *call)
{
    if (!waits_cancel(call->service, call->peer, call->args->msgid))
        return wire_fail(call->error, WIRE_NOT_FOUND,
                         "queue.cancel: this client has no wait with that msgid (any more)");
    wire_pack_bool(call->out, true);
    return WIRE_OK;
}

/* One job. */

static enum wire_code done(struct call *call, int rc)
{
    if (rc != 0)
        return job_error(call, rc);
    wire_pack_bool(call->out, true);
    return WIRE_OK;
}

/* The error that the worker gave, or NULL. */
static const struct slice *worker_error(const struct wire_args *args)
{
    return (args->given & WIRE_HAS_ERROR) != 0 ? &args->job_error : NULL;
}

enum wire_code method_queue_ack(struct call *call)
{
    return done(call, queue_ack(call->service->queues, call->args->job, call->args->lease));
}

enum wire_code method_queue_bury(struct call *call)
{
    const struct wire_args *args = call->args;
    return done(call,
                queue_bury(call->service->queues, args->job, args->lease, worker_error(args)));
}

enum wire_code method_queue_nack(struct call *call)
{
    const struct wire_args *args = call->args;
    const uint64_t *delay_ms = (args->given & WIRE_HAS_DELAY) != 0 ? &args->delay_ms : NULL;
    enum job_state state = JOB_GONE;
    int rc = queue_nack(call->service->queues, args->job, args->lease, delay_ms, worker_error(args),
                        &state);
    if (rc != 0)
        return job_error(call, rc);
    wire_pack_text(call->out, wire_job_state_name((enum wire_job_state)state));
    return WIRE_OK;
}

enum wire_code method_queue_extend(struct call *call)
{
    const struct wire_args *args = call->args;
    uint64_t due_at_ms = 0;
    int rc =
        queue_extend(call->service->queues, args->job, args->lease, args->duration_ms, &due_at_ms);
    if (rc != 0)
        return job_error(call, rc);
    wire_pack_uint(call->out, due_at_ms);
    return WIRE_OK;
}

enum wire_code method_queue_kick(struct call *call)
{
    const struct wire_args *args = call->args;
    bool one = (args->given & WIRE_HAS_ID) != 0;
    uint64_t kicked = 0;
    int rc = 0;
    if (!one || args->job != 0) /* no job has the id 0 */
        rc = queue_kick(call->service->queues, args->queue, args->job, args->count, &kicked);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_pack_uint(call->out, kicked);
    return WIRE_OK;
}

enum wire_code method_queue_delete(struct call *call)
{
    bool existed = false;
    int rc = queue_delete(call->service->queues, call->args->job, &existed);
    if (rc == QUEUE_STALE_LEASE)
        return wire_fail(call->error, WIRE_STALE_LEASE,
                         "queue.delete: the job is leased; whoever has it may ack it");
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_bool(call->out, existed);
    return WIRE_OK;
}

/* Looking. */

static void pack_number(struct buffer *out, const char *name, uint64_t value)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

static void pack_time(struct buffer *out, const char *name, uint64_t at_ms)
{
    wire_pack_text(out, name);
    wire_pack_expires_at(out, at_ms);
}

static void pack_row(struct buffer *out, const struct job *job)
{
    uint8_t place[QUEUE_PLACE_SIZE];
    queue_place(job, place);
    wire_pack_map(out, 11);
    pack_number(out, "id", job->id);
    wire_pack_text(out, "queue");
    wire_pack_key(out, job->queue);
    wire_pack_text(out, "body");
    wire_pack_object(out, job->body);
    wire_pack_text(out, "state");
    wire_pack_text(out, wire_job_state_name((enum wire_job_state)job->state));
    pack_number(out, "priority", job->priority);
    pack_number(out, "deliveries", job->deliveries);
    pack_number(out, "pushed_at", job->pushed_at_ms);
    pack_time(out, "due_at", job->due_at_ms);
    pack_time(out, "expires_at", job->expires_at_ms);
    wire_pack_text(out, "error");
    if (job->error.data != NULL)
        wire_pack_str(out, job->error);
    else
        wire_pack_nil(out);
    wire_pack_text(out, "at");
    wire_pack_bin(out, slice_of(place, sizeof place));
}

enum wire_code method_queue_job(struct call *call)
{
    struct job job;
    int rc = queue_job(call->service->queues, call->args->job, &job);
    if (rc == STORE_NOT_FOUND)
        wire_pack_nil(call->out);
    else if (rc == 0)
        pack_row(call->out, &job);
    else
        return stored_fail(call->error, rc);
    return WIRE_OK;
}

enum wire_code method_queue_peek(struct call *call)
{
    const struct wire_args *args = call->args;
    enum job_state state = args->state != WIRE_JOB_STATES ? (enum job_state)args->state : JOB_READY;
    uint8_t place[QUEUE_PLACE_SIZE];
    struct slice after = args->after;
    struct job job;
    uint32_t count = 0;
    int rc = 0;
    size_t count_at = wire_pack_array_later(call->out);
    size_t start = call->out->size;
    while (count < args->limit && call->out->size - start < WIRE_PAGE_BYTES) {
        rc = queue_peek(call->service->queues, args->queue, state, after, &job);
        if (rc != 0)
            break;
        pack_row(call->out, &job);
        queue_place(&job, place);
        after = slice_of(place, sizeof place);
        count++;
    }
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_set_array_count(call->out, count_at, count);
    return WIRE_OK;
}

static void pack_pause(struct buffer *out, uint64_t until_ms, uint64_t now_ms)
{
    bool paused = until_ms > now_ms;
    wire_pack_text(out, "paused");
    wire_pack_bool(out, paused);
    pack_time(out, "paused_until", paused && until_ms != QUEUE_FOREVER ? until_ms : 0);
}

enum wire_code method_queue_stats(struct call *call)
{
    struct buffer *out = call->out;
    struct slice queue = call->args->queue;
    struct queue_stats stats;
    int rc = queue_stats(call->service->queues, queue, &stats);
    if (rc == STORE_NOT_FOUND)
        return no_queue(call);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_map(out, 11);
    pack_number(out, "ready", stats.jobs[JOB_READY]);
    pack_number(out, "leased", stats.jobs[JOB_LEASED]);
    pack_number(out, "delayed", stats.jobs[JOB_DELAYED]);
    pack_number(out, "dead", stats.jobs[JOB_DEAD]);
    pack_number(out, "waiters", waiters_count_at(call->service->waiters, queue));
    pack_number(out, "pushed", stats.pushed);
    pack_number(out, "acked", stats.acked);
    pack_number(out, "expired", stats.expired);
    wire_pack_text(out, "oldest_age");
    if (stats.oldest_ready_ms == QUEUE_FOREVER)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, now(call) - stats.oldest_ready_ms);
    pack_pause(out, stats.paused_until_ms, now(call));
    return WIRE_OK;
}

/* The first name that is to be listed: behind `after`, and not before the prefix. */
static int first_name(struct call *call, struct slice *name)
{
    const struct wire_args *args = call->args;
    struct queue_settings ignored;
    *name = args->prefix;
    if (slice_compare(args->after, args->prefix) >= 0)
        return queue_next_name(call->service->queues, args->after, name);
    if (queue_settings(call->service->queues, args->prefix, &ignored) == 0)
        return 0;
    return queue_next_name(call->service->queues, args->prefix, name);
}

enum wire_code method_queue_list(struct call *call)
{
    struct slice name;
    uint32_t count = 0;
    size_t count_at = wire_pack_array_later(call->out);
    int rc = first_name(call, &name);
    while (rc == 0 && count < call->args->limit && slice_has_prefix(name, call->args->prefix)) {
        wire_pack_key(call->out, name);
        count++;
        rc = queue_next_name(call->service->queues, name, &name);
    }
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_set_array_count(call->out, count_at, count);
    return WIRE_OK;
}

/* Queues. */

enum {
    SETTINGS = WIRE_HAS_LEASE | WIRE_HAS_MAX_DELIVERIES | WIRE_HAS_MAX_LENGTH |
               WIRE_HAS_RETRY_DELAY | WIRE_HAS_TTL | WIRE_HAS_DEDUP_WINDOW
};

static void change_settings(const struct wire_args *args, struct queue_settings *settings)
{
    if ((args->given & WIRE_HAS_LEASE) != 0)
        settings->lease_ms = args->lease_ms;
    if ((args->given & WIRE_HAS_MAX_DELIVERIES) != 0)
        settings->max_deliveries = args->max_deliveries;
    if ((args->given & WIRE_HAS_MAX_LENGTH) != 0)
        settings->max_length = args->max_length;
    if ((args->given & WIRE_HAS_RETRY_DELAY) != 0)
        settings->retry_delay_ms = args->retry_delay_ms;
    if ((args->given & WIRE_HAS_TTL) != 0)
        settings->ttl_ms = args->ttl_ms == WIRE_FOREVER ? QUEUE_FOREVER : args->ttl_ms;
    if ((args->given & WIRE_HAS_DEDUP_WINDOW) != 0)
        settings->dedup_window_ms = args->dedup_window_ms;
}

static void pack_settings(struct buffer *out, const struct queue_settings *settings)
{
    wire_pack_map(out, 6);
    pack_number(out, "lease", settings->lease_ms);
    pack_number(out, "max_deliveries", settings->max_deliveries);
    pack_number(out, "max_length", settings->max_length);
    pack_number(out, "retry_delay", settings->retry_delay_ms);
    wire_pack_text(out, "ttl");
    if (settings->ttl_ms == QUEUE_FOREVER)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, settings->ttl_ms);
    pack_number(out, "dedup_window", settings->dedup_window_ms);
}

enum wire_code method_queue_configure(struct call *call)
{
    struct queues *queues = call->service->queues;
    struct slice queue = call->args->queue;
    bool reads = (call->args->given & (unsigned)SETTINGS) == 0;
    struct queue_settings settings = {
        .lease_ms = QUEUE_DEFAULT_LEASE_MS,
        .max_deliveries = QUEUE_DEFAULT_MAX_DELIVERIES,
        .retry_delay_ms = QUEUE_DEFAULT_RETRY_DELAY_MS,
        .ttl_ms = QUEUE_FOREVER,
        .dedup_window_ms = QUEUE_DEFAULT_DEDUP_WINDOW_MS,
    };
    int rc = queue_settings(queues, queue, &settings);
    if (rc == STORE_NOT_FOUND && reads)
        return no_queue(call);
    if (rc == STORE_NOT_FOUND)
        rc = 0;
    change_settings(call->args, &settings);
    if (rc == 0 && !reads)
        rc = queue_configure(queues, queue, &settings);
    if (rc != 0)
        return stored_fail(call->error, rc);
    pack_settings(call->out, &settings);
    return WIRE_OK;
}

static enum wire_code pause_until(struct call *call, uint64_t until_ms)
{
    int rc = queue_pause(call->service->queues, call->args->queue, until_ms);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_bool(call->out, true);
    return WIRE_OK;
}

enum wire_code method_queue_pause(struct call *call)
{
    uint64_t ms = call->args->duration_ms;
    return pause_until(call, ms == WIRE_FOREVER ? QUEUE_FOREVER : now(call) + ms);
}

enum wire_code method_queue_resume(struct call *call)
{
    struct queue_settings ignored;
    int rc = queue_settings(call->service->queues, call->args->queue, &ignored);
    return rc == STORE_NOT_FOUND ? no_queue(call) : pause_until(call, now(call));
}

enum wire_code method_queue_purge(struct call *call)
{
    static const enum job_state all[] = {JOB_READY, JOB_DELAYED, JOB_DEAD};
    enum wire_job_state only = call->args->state;
    uint64_t removed = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint64_t of_state = 0;
        if (only != WIRE_JOB_STATES && (int)only != (int)all[i])
            continue;
        int rc = queue_purge(call->service->queues, call->args->queue, all[i], &of_state);
        if (rc != 0)
            return stored_fail(call->error, rc);
        removed += of_state;
    }
    wire_pack_uint(call->out, removed);
    return WIRE_OK;
}

enum wire_code method_queue_drop(struct call *call)
{
    bool existed = false;
    int rc = queue_drop(call->service->queues, call->args->queue, &existed);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_bool(call->out, existed);
    return WIRE_OK;
}
