#include "queue/queue.h"

#include "queue/internal.h"
#include "store/engine.h"

static bool is_paused(const struct queue *queue, uint64_t now_ms)
{
    return queue->now.fields.paused_until_ms > now_ms;
}

static bool is_good_name(struct slice name)
{
    return name.size > 0 && name.size <= QUEUE_MAX_NAME;
}

/* The numbers of a new queue and of its lists. */
static int number_queue(struct queues *queues, struct queue_fields *fields)
{
    int rc = ids_take(queues, &fields->number);
    for (unsigned i = 0; rc == 0 && i < LISTS; i++)
        rc = ids_take(queues, &fields->lists[i]);
    return rc;
}

static int make_queue(struct queues *queues, struct slice name, struct queue **made)
{
    struct queue_fields fields = {
        .settings = {.lease_ms = QUEUE_DEFAULT_LEASE_MS,
                     .max_deliveries = QUEUE_DEFAULT_MAX_DELIVERIES,
                     .retry_delay_ms = QUEUE_DEFAULT_RETRY_DELAY_MS,
                     .ttl_ms = QUEUE_FOREVER,
                     .dedup_window_ms = QUEUE_DEFAULT_DEDUP_WINDOW_MS},
    };
    int rc = number_queue(queues, &fields);
    if (rc != 0)
        return rc;
    struct queue *queue = registry_add(&queues->registry, name, fields.number);
    if (queue == NULL)
        return STORE_NO_MEMORY;
    queue->now.exists = true;
    queue->now.fields = fields;
    for (unsigned i = 0; i < LISTS; i++)
        queue->now.bounds[i] = PLACE_NONE;
    *made = queue;
    return record_put_queue(queues->store, name, &fields);
}

/* The queue of that name, new where there was none, and touched. */
static int need_queue(struct queues *queues, struct slice name, struct queue **queue)
{
    if (!is_good_name(name))
        return STORE_INVALID;
    *queue = registry_find(&queues->registry, name);
    if (*queue == NULL)
        return make_queue(queues, name, queue);
    return registry_touch(&queues->registry, *queue);
}

/* Push. */

/* Whether the producer's id is taken: its window lasts, or its job is there. */
static int find_duplicate(struct queues *queues, const struct queue *queue, struct slice dedup,
                          uint64_t *id, bool *duplicate)
{
    struct queue *holder;
    struct record record;
    uint64_t end_ms;
    *duplicate = false;
    if (dedup.data == NULL)
        return 0;
    int rc = record_get_window(queues->store, queue->now.fields.number, dedup, id, &end_ms);
    if (rc == STORE_NOT_FOUND)
        return 0;
    *duplicate = rc == 0 && end_ms > queues_now(queues);
    if (rc != 0 || *duplicate)
        return rc;
    rc = job_find(queues, *id, &holder, &record);
    *duplicate = rc == 0;
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int open_window(struct queues *queues, struct queue *queue, const struct record *record)
{
    uint64_t window_ms = queue->now.fields.settings.dedup_window_ms;
    uint64_t end_ms = window_ms > 0 ? time_after(queues_now(queues), window_ms) : 0;
    if (record->dedup.size == 0)
        return 0;
    int rc = record_put_window(queues->store, record->queue, record->dedup, record->id, end_ms);
    if (rc != 0 || end_ms == 0)
        return rc;
    registry_due_at(&queues->registry, queue, end_ms);
    return list_add(queues, queue, LIST_WINDOWS, (struct place){end_ms, record->id}, record->dedup);
}

static bool is_full(const struct queue *queue)
{
    const uint64_t *jobs = queue->now.counts.jobs;
    uint64_t limit = queue->now.fields.settings.max_length;
    return limit != 0 && jobs[JOB_READY] + jobs[JOB_LEASED] + jobs[JOB_DELAYED] >= limit;
}

static struct record new_record(const struct queue *queue, const struct push_options *options,
                                struct slice body, uint64_t now_ms)
{
    uint64_t ttl_ms = options->ttl_given ? options->ttl_ms : queue->now.fields.settings.ttl_ms;
    bool delayed = options->delay_ms > 0;
    return (struct record){
        .state = delayed ? JOB_DELAYED : JOB_READY,
        .priority = (uint32_t)options->priority,
        .pushed_at_ms = now_ms,
        .due_at_ms = delayed ? time_after(now_ms, options->delay_ms) : 0,
        .expires_at_ms = ttl_ms != QUEUE_FOREVER ? time_after(now_ms, ttl_ms) : 0,
        .dedup = options->dedup,
        .body = body,
    };
}

int queue_push(struct queues *queues, struct slice name, struct slice body,
               const struct push_options *options, uint64_t *id, bool *duplicate)
{
    struct queue *queue;
    if (options->priority > UINT32_MAX || options->dedup.size > QUEUE_MAX_DEDUP_ID)
        return STORE_INVALID;
    int rc = need_queue(queues, name, &queue);
    if (rc == 0)
        rc = find_duplicate(queues, queue, options->dedup, id, duplicate);
    if (rc != 0 || *duplicate)
        return rc;
    if (is_full(queue))
        return QUEUE_LIMIT;
    if (!store_has_room(queues->store, body.size))
        return STORE_FULL;
    struct record record = new_record(queue, options, body, queues_now(queues));
    rc = ids_take(queues, &record.id);
    if (rc == 0)
        rc = job_add(queues, queue, &record);
    if (rc == 0)
        rc = open_window(queues, queue, &record);
    if (rc != 0)
        return rc;
    queue->now.counts.pushed++;
    *id = record.id;
    return 0;
}

/* Take. */

/* Where a ready job goes that a consumer meets. */
static enum job_state meets(const struct queue *queue, const struct record *record, bool pop,
                            uint64_t now_ms)
{
    enum job_state state = job_returns_to(queue, record, now_ms);
    if (state != JOB_READY)
        return state;
    return pop ? JOB_GONE : JOB_LEASED;
}

static int lease_job(struct queues *queues, struct queue *queue, const struct record *record,
                     uint64_t lease_ms, struct job *job)
{
    struct record leased = *record;
    if (lease_ms == 0)
        lease_ms = queue->now.fields.settings.lease_ms;
    leased.state = JOB_LEASED;
    leased.deliveries += leased.deliveries < UINT32_MAX;
    leased.due_at_ms = time_after(queues_now(queues), lease_ms);
    int rc = ids_take(queues, &leased.lease);
    if (rc == 0)
        rc = job_move(queues, queue, record, &leased);
    if (rc != 0)
        return rc;
    job_describe(queue, &leased, job);
    job->lease = leased.lease;
    return leased.whole ? 0 : record_get_body(queues->store, record->id, &job->body);
}

/* A large body, which the record has as a view: it is gone before anybody has read it. */
static int keep_body(struct queues *queues, struct record *record)
{
    buffer_restart(&queues->body);
    buffer_append_slice(&queues->body, record->body);
    if (queues->body.failed)
        return STORE_NO_MEMORY;
    record->body = slice_of(queues->body.data, queues->body.size);
    return 0;
}

static int pop_job(struct queues *queues, struct queue *queue, const struct record *record,
                   struct job *job)
{
    struct record gone = *record;
    gone.state = JOB_GONE;
    gone.deliveries += gone.deliveries < UINT32_MAX;
    int rc = gone.whole ? 0 : keep_body(queues, &gone);
    if (rc == 0)
        rc = job_move(queues, queue, record, &gone);
    if (rc != 0)
        return rc;
    queue->now.counts.acked++;
    job_describe(queue, &gone, job);
    return 0;
}

/* The head of the queue as a record. */
static int first_ready(struct queues *queues, struct queue *queue, struct record *record)
{
    struct place place;
    struct slice none;
    struct queue *owner;
    int rc = list_first(queues, queue, LIST_READY, &place, &none);
    if (rc != 0)
        return rc;
    rc = job_load(queues, place.id, &owner, record);
    return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
}

int queue_take(struct queues *queues, struct slice name, bool pop, uint64_t lease_ms,
               struct job *job)
{
    struct record record;
    uint64_t now_ms = queues_now(queues);
    struct queue *queue = registry_find(&queues->registry, name);
    if (queue == NULL || queue->now.counts.jobs[JOB_READY] == 0 || is_paused(queue, now_ms))
        return STORE_NOT_FOUND;
    for (unsigned tries = 0; tries < QUEUE_MAX_PASSED; tries++) {
        int rc = first_ready(queues, queue, &record);
        if (rc != 0)
            return rc;
        struct record moved = record;
        moved.state = meets(queue, &record, pop, now_ms);
        if (moved.state == JOB_LEASED)
            return lease_job(queues, queue, &record, lease_ms, job);
        if (moved.state == JOB_GONE)
            return pop_job(queues, queue, &record, job);
        moved.lease = 0;
        rc = job_move(queues, queue, &record, &moved);
        if (rc != 0)
            return rc;
    }
    registry_wake(&queues->registry, queue); /* enough for now: whoever waits is to ask again */
    return STORE_NOT_FOUND;
}

static int give_back_popped(struct queues *queues, const struct job *job)
{
    struct queue *queue = registry_find(&queues->registry, job->queue);
    struct record record = {
        .id = job->id,
        .state = JOB_READY,
        .priority = (uint32_t)job->priority,
        .deliveries = (uint32_t)job->deliveries - 1,
        .pushed_at_ms = job->pushed_at_ms,
        .expires_at_ms = job->expires_at_ms,
        .error = job->error,
        .dedup = job->dedup,
        .body = job->body,
    };
    struct record there;
    bool taken = false;
    uint64_t holder = 0;
    if (queue == NULL || record_get_job(queues->store, job->id, &there) != STORE_NOT_FOUND)
        return 0;
    int rc = registry_touch(&queues->registry, queue);
    if (rc == 0)
        rc = find_duplicate(queues, queue, record.dedup, &holder, &taken);
    if (taken && holder != job->id) /* its id belongs to another job by now */
        record.dedup = (struct slice){0};
    if (rc == 0)
        rc = job_add(queues, queue, &record);
    if (rc == 0 && record.dedup.size > 0 && !taken)
        rc = record_put_window(queues->store, record.queue, record.dedup, record.id, 0);
    if (rc == 0 && queue->now.counts.acked > 0) /* a queue made anew meanwhile counts from zero */
        queue->now.counts.acked--;
    return rc;
}

int queue_give_back(struct queues *queues, const struct job *job)
{
    struct queue *queue;
    struct record record;
    if (job->lease == 0)
        return give_back_popped(queues, job);
    int rc = job_load(queues, job->id, &queue, &record);
    if (rc != 0 || record.lease != job->lease)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    struct record back = record;
    back.state = is_over(record.expires_at_ms, queues_now(queues)) ? JOB_EXPIRED : JOB_READY;
    back.deliveries--;
    back.lease = 0;
    return job_move(queues, queue, &record, &back);
}

/* What the holder of a lease does. */

static int load_leased(struct queues *queues, uint64_t id, uint64_t lease, struct queue **queue,
                       struct record *record)
{
    int rc = job_load(queues, id, queue, record);
    if (rc != 0)
        return rc;
    bool waits = record->state == JOB_READY || record->state == JOB_DELAYED;
    if (waits && is_over(record->expires_at_ms, queues_now(queues)))
        return STORE_NOT_FOUND;
    return lease == 0 || record->lease != lease ? QUEUE_STALE_LEASE : 0;
}

int queue_ack(struct queues *queues, uint64_t id, uint64_t lease)
{
    struct queue *queue;
    struct record record;
    int rc = load_leased(queues, id, lease, &queue, &record);
    if (rc != 0)
        return rc;
    struct record gone = record;
    gone.state = JOB_GONE;
    rc = job_move(queues, queue, &record, &gone);
    if (rc == 0)
        queue->now.counts.acked++;
    return rc;
}

static int set_error(struct record *record, const struct slice *error)
{
    if (error == NULL)
        return 0;
    if (error->size > QUEUE_MAX_ERROR)
        return STORE_INVALID;
    record->error = error->data != NULL ? *error : slice_of("", 0);
    return 0;
}

int queue_bury(struct queues *queues, uint64_t id, uint64_t lease, const struct slice *error)
{
    struct queue *queue;
    struct record record;
    int rc = load_leased(queues, id, lease, &queue, &record);
    if (rc != 0)
        return rc;
    struct record dead = record;
    dead.state = JOB_DEAD;
    dead.lease = 0;
    rc = set_error(&dead, error);
    return rc == 0 ? job_move(queues, queue, &record, &dead) : rc;
}

int queue_extend(struct queues *queues, uint64_t id, uint64_t lease, uint64_t lease_ms,
                 uint64_t *due_at_ms)
{
    struct queue *queue;
    struct record record;
    int rc = load_leased(queues, id, lease, &queue, &record);
    if (rc != 0)
        return rc;
    struct record extended = record;
    if (lease_ms == 0)
        lease_ms = queue->now.fields.settings.lease_ms;
    extended.state = JOB_LEASED;
    extended.due_at_ms = time_after(queues_now(queues), lease_ms);
    *due_at_ms = extended.due_at_ms;
    return job_move(queues, queue, &record, &extended);
}

/* base * 2^(deliveries - 1), up to a limit that is never below the base. */
static uint64_t retry_delay(const struct queue *queue, uint64_t deliveries)
{
    uint64_t delay_ms = queue->now.fields.settings.retry_delay_ms;
    uint64_t limit_ms = delay_ms > QUEUE_MAX_RETRY_DELAY_MS ? delay_ms : QUEUE_MAX_RETRY_DELAY_MS;
    if (delay_ms == 0)
        return 0;
    for (uint64_t i = 1; i < deliveries && delay_ms < limit_ms; i++)
        delay_ms *= 2;
    return delay_ms < limit_ms ? delay_ms : limit_ms;
}

int queue_nack(struct queues *queues, uint64_t id, uint64_t lease, const uint64_t *delay_ms,
               const struct slice *error, enum job_state *state)
{
    struct queue *queue;
    struct record record;
    int rc = load_leased(queues, id, lease, &queue, &record);
    if (rc != 0)
        return rc;
    struct record back = record;
    uint64_t now_ms = queues_now(queues);
    uint64_t wait_ms = delay_ms != NULL ? *delay_ms : retry_delay(queue, record.deliveries);
    back.state = job_returns_to(queue, &record, now_ms);
    back.lease = 0;
    if (back.state == JOB_READY && wait_ms > 0) {
        back.state = JOB_DELAYED;
        back.due_at_ms = time_after(now_ms, wait_ms);
    }
    *state = back.state;
    rc = set_error(&back, error);
    return rc == 0 ? job_move(queues, queue, &record, &back) : rc;
}

/* What anybody may do to a job. */

static int kick_job(struct queues *queues, struct queue *queue, const struct record *record)
{
    struct record ready = *record;
    ready.state = JOB_READY;
    ready.deliveries = 0;
    ready.expires_at_ms = 0;
    ready.lease = 0;
    return job_move(queues, queue, record, &ready);
}

static int kick_one(struct queues *queues, struct queue *queue, uint64_t id, uint64_t *kicked)
{
    struct queue *owner;
    struct record record;
    int rc = job_load(queues, id, &owner, &record);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    if (owner != queue || (record.state != JOB_DEAD && record.state != JOB_DELAYED))
        return 0;
    if (record.state == JOB_DELAYED && is_over(record.expires_at_ms, queues_now(queues)))
        return 0;
    *kicked = 1;
    return kick_job(queues, queue, &record);
}

int queue_kick(struct queues *queues, struct slice name, uint64_t id, uint64_t count,
               uint64_t *kicked)
{
    struct queue *queue = registry_find(&queues->registry, name);
    struct queue *owner;
    struct record record;
    struct place place;
    struct slice none;
    *kicked = 0;
    if (queue == NULL)
        return 0;
    if (id != 0)
        return kick_one(queues, queue, id, kicked);
    while (*kicked < count) {
        int rc = list_first(queues, queue, LIST_DEAD, &place, &none);
        if (rc == STORE_NOT_FOUND)
            return 0;
        if (rc == 0)
            rc = job_load(queues, place.id, &owner, &record);
        if (rc == 0)
            rc = kick_job(queues, queue, &record);
        if (rc != 0)
            return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
        ++*kicked;
    }
    return 0;
}

int queue_delete(struct queues *queues, uint64_t id, bool *existed)
{
    struct queue *queue;
    struct record record;
    *existed = false;
    int rc = job_load(queues, id, &queue, &record);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    if (record.state == JOB_LEASED && !is_over(record.due_at_ms, queues_now(queues)))
        return QUEUE_STALE_LEASE;
    struct record gone = record;
    gone.state = JOB_GONE;
    *existed = true;
    return job_move(queues, queue, &record, &gone);
}

/* Looking. */

int queue_job(struct queues *queues, uint64_t id, struct job *job)
{
    struct queue *queue;
    struct record record;
    int rc = job_find(queues, id, &queue, &record);
    if (rc == 0)
        job_describe(queue, &record, job);
    return rc;
}

static uint64_t read_number(const uint8_t *at)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < RECORD_NUMBER_SIZE; i++)
        number = number << 8 | at[i];
    return number;
}

static void write_number(uint8_t *at, uint64_t number)
{
    for (unsigned i = RECORD_NUMBER_SIZE; i-- > 0; number >>= 8)
        at[i] = (uint8_t)number;
}

int queue_peek(struct queues *queues, struct slice name, enum job_state state, struct slice after,
               struct job *job)
{
    struct queue *queue = registry_find(&queues->registry, name);
    struct queue *owner;
    struct record record;
    struct place place;
    struct slice none;
    if (state >= JOB_STATES || (after.size != 0 && after.size != QUEUE_PLACE_SIZE))
        return STORE_INVALID;
    if (queue == NULL || queue->now.counts.jobs[state] == 0)
        return STORE_NOT_FOUND;
    int rc = 0;
    if (after.size == 0)
        rc = list_first(queues, queue, (enum list)state, &place, &none);
    else
        rc = list_next(
            queues, queue, (enum list)state,
            (struct place){read_number(after.data), read_number(after.data + RECORD_NUMBER_SIZE)},
            &place);
    if (rc != 0)
        return rc;
    rc = job_find(queues, place.id, &owner, &record);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
    job_describe(queue, &record, job);
    return 0;
}

void queue_place(const struct job *job, uint8_t place[QUEUE_PLACE_SIZE])
{
    bool timed = job->state == JOB_DELAYED || job->state == JOB_LEASED;
    write_number(place, timed ? job->due_at_ms : job->priority);
    write_number(place + RECORD_NUMBER_SIZE, job->id);
}

/* Of those of priority 0 the head is the oldest, and they come first; the others have a list. */
static int oldest_ready(struct queues *queues, struct queue *queue, uint64_t *pushed_at_ms)
{
    struct place head = PLACE_NONE;
    struct place ranked = PLACE_NONE;
    struct slice none;
    struct record record;
    *pushed_at_ms = QUEUE_FOREVER;
    if (queue->now.counts.jobs[JOB_READY] == 0)
        return 0;
    int rc = list_first(queues, queue, LIST_READY, &head, &none);
    if (rc == 0)
        rc = list_first(queues, queue, LIST_RANKED, &ranked, &none);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    uint64_t oldest = ranked.id;
    if (head.order == 0 && head.id < oldest)
        oldest = head.id;
    rc = record_get_job(queues->store, oldest, &record);
    if (rc == 0)
        *pushed_at_ms = record.pushed_at_ms;
    return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
}

int queue_stats(struct queues *queues, struct slice name, struct queue_stats *stats)
{
    struct queue *queue = registry_find(&queues->registry, name);
    if (queue == NULL)
        return STORE_NOT_FOUND;
    const struct queue_counts *counts = &queue->now.counts;
    *stats = (struct queue_stats){
        .pushed = counts->pushed, .acked = counts->acked, .expired = counts->expired};
    memcpy(stats->jobs, counts->jobs, sizeof stats->jobs);
    if (is_paused(queue, queues_now(queues)))
        stats->paused_until_ms = queue->now.fields.paused_until_ms;
    return oldest_ready(queues, queue, &stats->oldest_ready_ms);
}

int queue_settings(struct queues *queues, struct slice name, struct queue_settings *settings)
{
    const struct queue *queue = registry_find(&queues->registry, name);
    if (queue == NULL)
        return STORE_NOT_FOUND;
    *settings = queue->now.fields.settings;
    return 0;
}

/* Queues as a whole. */

static int put_queue(struct queues *queues, const struct queue *queue)
{
    return record_put_queue(queues->store, queue_name(queue), &queue->now.fields);
}

int queue_configure(struct queues *queues, struct slice name, const struct queue_settings *settings)
{
    struct queue *queue;
    if (settings->lease_ms == 0)
        return STORE_INVALID;
    int rc = need_queue(queues, name, &queue);
    if (rc != 0)
        return rc;
    queue->now.fields.settings = *settings;
    return put_queue(queues, queue);
}

int queue_pause(struct queues *queues, struct slice name, uint64_t until_ms)
{
    struct queue *queue;
    int rc = need_queue(queues, name, &queue);
    if (rc != 0)
        return rc;
    queue->now.fields.paused_until_ms = until_ms > queues_now(queues) ? until_ms : 0;
    if (until_ms > queues_now(queues))
        registry_due_at(&queues->registry, queue, until_ms);
    return put_queue(queues, queue);
}

int queue_purge(struct queues *queues, struct slice name, enum job_state state, uint64_t *removed)
{
    struct queue *queue = registry_find(&queues->registry, name);
    *removed = 0;
    if (state != JOB_READY && state != JOB_DELAYED && state != JOB_DEAD)
        return STORE_INVALID;
    if (queue == NULL || queue->now.counts.jobs[state] == 0)
        return 0;
    int rc = registry_touch(&queues->registry, queue);
    if (rc == 0)
        rc = list_replace(queues, queue, (enum list)state);
    if (rc == 0 && state == JOB_READY)
        rc = list_replace(queues, queue, LIST_RANKED);
    if (rc != 0)
        return rc;
    *removed = queue->now.counts.jobs[state];
    queue->now.counts.jobs[state] = 0;
    return put_queue(queues, queue);
}

static int delete_key(struct queues *queues, struct slice key)
{
    int rc = store_delete(queues->store, STORE_QUEUES, key, STORE_QUIET);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int queue_drop(struct queues *queues, struct slice name, bool *existed)
{
    uint8_t key[RECORD_MAX_KEY];
    struct queue *queue = registry_find(&queues->registry, name);
    *existed = queue != NULL;
    if (queue == NULL)
        return 0;
    int rc = registry_touch(&queues->registry, queue);
    for (enum list list = 0; rc == 0 && list < LISTS; list++)
        rc = list_replace(queues, queue, list);
    if (rc == 0)
        rc = delete_key(queues, record_name_key(key, name));
    if (rc == 0)
        rc = delete_key(queues, record_number_key(key, 'c', queue->now.fields.number));
    if (rc != 0)
        return rc;
    queue->now.exists = false;
    registry_settle_due(&queues->registry, queue);
    return 0;
}

int queue_next_name(struct queues *queues, struct slice after, struct slice *name)
{
    uint8_t buffer[RECORD_MAX_KEY + 1];
    struct engine_cursor *cursor = store_cursor(queues->store, STORE_QUEUES);
    struct slice key;
    struct slice value;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    if (after.size > QUEUE_MAX_NAME)
        return STORE_INVALID;
    struct slice from = record_name_key(buffer, after);
    buffer[from.size++] = 0; /* the least that is greater */
    int rc = cursor->methods->cursor_seek(cursor, from, &key, &value);
    return rc == 0 && !record_read_name_key(key, name) ? STORE_NOT_FOUND : rc;
}
