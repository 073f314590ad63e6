#include "queue/internal.h"

/* Which ways there are. From JOB_GONE: a job that is new, or was popped and comes back. */
static const bool ways[JOB_GONE + 1][JOB_GONE + 1] = {
    /* push */
    [JOB_GONE] = {[JOB_READY] = true, [JOB_DELAYED] = true},

    /* take; pop, a late ack, delete; late nack; late bury, delivered too often; ttl */
    [JOB_READY] = {[JOB_LEASED] = true,
                   [JOB_GONE] = true,
                   [JOB_READY] = true,
                   [JOB_DELAYED] = true,
                   [JOB_DEAD] = true,
                   [JOB_EXPIRED] = true},

    /* due, kick; delete; ttl */
    [JOB_DELAYED] = {[JOB_READY] = true, [JOB_GONE] = true, [JOB_EXPIRED] = true},

    /* extend; ack; lapse, nack, given back; nack; bury, last delivery; nack or lapse behind the ttl
     */
    [JOB_LEASED] = {[JOB_LEASED] = true,
                    [JOB_GONE] = true,
                    [JOB_READY] = true,
                    [JOB_DELAYED] = true,
                    [JOB_DEAD] = true,
                    [JOB_EXPIRED] = true},

    /* kick; late extend; late ack, delete; late bury; late nack: with a limit that was raised, or
       behind the ttl */
    [JOB_DEAD] = {[JOB_READY] = true,
                  [JOB_LEASED] = true,
                  [JOB_GONE] = true,
                  [JOB_DEAD] = true,
                  [JOB_DELAYED] = true,
                  [JOB_EXPIRED] = true},
};

/* Its place in the list of its state. */
static struct place place_of(const struct record *record)
{
    struct place place;
    (void)record_is_in(record, (enum list)record->state, &place);
    return place;
}

static bool has_record(enum job_state state)
{
    return state < JOB_STATES;
}

static int add_to(struct queues *queues, struct queue *queue, enum list list, struct place place)
{
    return list_add(queues, queue, list, place, (struct slice){0});
}

/* A list besides that of the state: only where the job enters or leaves it. */
static int move_in(struct queues *queues, struct queue *queue, enum list list,
                   const struct record *from, const struct record *to)
{
    struct place old;
    struct place new;
    bool was = record_is_in(from, list, &old);
    bool is = record_is_in(to, list, &new);
    bool stays = was && is && old.order == new.order;
    int rc = 0;
    if (was && !stays)
        rc = list_remove(queues, queue, list, old);
    if (rc == 0 && is && !stays)
        rc = add_to(queues, queue, list, new);
    if (rc == 0 && is && !stays && list == LIST_EXPIRING)
        registry_due_at(&queues->registry, queue, new.order);
    return rc;
}

/* An ordinary job, of priority 0 and without a ttl, is in none of them. */
static int move_in_others(struct queues *queues, struct queue *queue, const struct record *from,
                          const struct record *to)
{
    if ((from->expires_at_ms | to->expires_at_ms | from->priority | to->priority) == 0)
        return 0;
    int rc = move_in(queues, queue, LIST_EXPIRING, from, to);
    return rc == 0 ? move_in(queues, queue, LIST_RANKED, from, to) : rc;
}

static int leave(struct queues *queues, struct queue *queue, const struct record *from)
{
    struct queue_state *now = &queue->now;
    uint64_t *count = &now->counts.jobs[from->state];
    int rc = list_remove(queues, queue, (enum list)from->state, place_of(from));
    if (rc == STORE_NOT_FOUND || *count == 0)
        return STORE_CORRUPT;
    if (rc == 0 && --*count == 0)
        now->bounds[from->state] = PLACE_NONE;
    return rc;
}

static int enter(struct queues *queues, struct queue *queue, struct record *to)
{
    to->list = queue->now.fields.lists[to->state];
    int rc = add_to(queues, queue, (enum list)to->state, place_of(to));
    if (rc != 0)
        return rc;
    queue->now.counts.jobs[to->state]++;
    if (to->due_at_ms != 0)
        registry_due_at(&queues->registry, queue, to->due_at_ms);
    return 0;
}

int job_end_dedup(struct queues *queues, const struct record *record, bool queue_exists)
{
    struct slice dedup = record->dedup;
    uint64_t id;
    uint64_t end_ms;
    if (dedup.size == 0)
        return 0;
    int rc = record_get_window(queues->store, record->queue, dedup, &id, &end_ms);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    if (id != record->id || (queue_exists && end_ms > queues_now(queues)))
        return 0;
    return record_delete_window(queues->store, record->queue, dedup);
}

static int end(struct queues *queues, struct queue *queue, const struct record *from,
               enum job_state state)
{
    queue->now.counts.expired += state == JOB_EXPIRED;
    int rc = record_delete_job(queues->store, from);
    return rc == 0 ? job_end_dedup(queues, from, true) : rc;
}

int job_move(struct queues *queues, struct queue *queue, const struct record *from,
             struct record *to)
{
    if (!ways[from->state][to->state])
        return STORE_CORRUPT;
    if (to->state != JOB_DELAYED && to->state != JOB_LEASED)
        to->due_at_ms = 0;
    int rc = registry_touch(&queues->registry, queue);
    if (rc == 0)
        rc = leave(queues, queue, from);
    if (rc == 0)
        rc = move_in_others(queues, queue, from, to);
    if (rc != 0 || !has_record(to->state))
        return rc == 0 ? end(queues, queue, from, to->state) : rc;
    rc = enter(queues, queue, to);
    return rc == 0 ? record_put_job(queues->store, to) : rc;
}

int job_add(struct queues *queues, struct queue *queue, struct record *record)
{
    static const struct record none = {.state = JOB_GONE};
    if (!ways[JOB_GONE][record->state])
        return STORE_CORRUPT;
    record->queue = queue->now.fields.number;
    int rc = registry_touch(&queues->registry, queue);
    if (rc == 0)
        rc = move_in_others(queues, queue, &none, record);
    if (rc == 0)
        rc = enter(queues, queue, record);
    if (rc == 0)
        rc = record_put_pushed(queues->store, record);
    if (rc == 0 && !record->whole && record->error.data != NULL)
        rc = record_put_job(queues->store, record);
    return rc;
}

int job_find(struct queues *queues, uint64_t id, struct queue **queue, struct record *record)
{
    int rc = record_get_job(queues->store, id, record);
    if (rc != 0)
        return rc;
    *queue = registry_find_number(&queues->registry, record->queue);
    if (*queue == NULL || (*queue)->now.fields.lists[record->state] != record->list)
        return STORE_NOT_FOUND;
    return 0;
}

static uint8_t *keep(uint8_t *at, struct slice *slice)
{
    if (slice->size > 0)
        memcpy(at, slice->data, slice->size);
    if (slice->data != NULL)
        slice->data = at;
    return at + slice->size;
}

void job_keep_tail(struct queues *queues, struct record *record)
{
    uint8_t *at = keep(keep(queues->tail, &record->error), &record->dedup);
    if (record->whole)
        keep(at, &record->body);
}

int job_load(struct queues *queues, uint64_t id, struct queue **queue, struct record *record)
{
    int rc = job_find(queues, id, queue, record);
    if (rc == 0)
        job_keep_tail(queues, record);
    return rc;
}

enum job_state job_returns_to(const struct queue *queue, const struct record *record,
                              uint64_t at_ms)
{
    uint64_t limit = queue->now.fields.settings.max_deliveries;
    if (is_over(record->expires_at_ms, at_ms))
        return JOB_EXPIRED;
    return limit != 0 && record->deliveries >= limit ? JOB_DEAD : JOB_READY;
}

void job_describe(const struct queue *queue, const struct record *record, struct job *job)
{
    *job = (struct job){
        .id = record->id,
        .queue = queue_name(queue),
        .state = record->state,
        .priority = record->priority,
        .deliveries = record->deliveries,
        .pushed_at_ms = record->pushed_at_ms,
        .due_at_ms = record->due_at_ms,
        .expires_at_ms = record->expires_at_ms,
        .body = record->body,
        .error = record->error,
        .dedup = record->dedup,
    };
}
