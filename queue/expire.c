#include "queue/internal.h"
#include "store/engine.h"

/*
 * What time does to queues, and what purges and drops have left behind. Each step takes one from
 * the budget, so that no transaction is long.
 */

enum { RETRY_MS = 1000 }; /* after the disk was found full */

/* The job whose turn it is in a list of its state. */
static int load_due(struct queues *queues, enum job_state state, struct place place,
                    struct record *record)
{
    struct queue *owner;
    int rc = job_load(queues, place.id, &owner, record);
    if (rc == STORE_NOT_FOUND || (rc == 0 && record->state != state))
        return STORE_CORRUPT;
    return rc;
}

/* What happens is as of when the lease ran out, however late that is noticed. */
static int lapse(struct queues *queues, struct queue *queue, struct place place)
{
    struct record record;
    int rc = load_due(queues, JOB_LEASED, place, &record);
    if (rc != 0)
        return rc;
    struct record back = record;
    back.state = job_returns_to(queue, &record, record.due_at_ms);
    if (back.state == JOB_READY && is_over(record.expires_at_ms, queues_now(queues)))
        back.state = JOB_EXPIRED;
    return job_move(queues, queue, &record, &back);
}

static int end_delay(struct queues *queues, struct queue *queue, struct place place)
{
    struct record record;
    int rc = load_due(queues, JOB_DELAYED, place, &record);
    if (rc != 0)
        return rc;
    struct record ready = record;
    ready.state = is_over(record.expires_at_ms, queues_now(queues)) ? JOB_EXPIRED : JOB_READY;
    return job_move(queues, queue, &record, &ready);
}

/* The job may have gone with a purge, which leaves this list alone. */
static int end_ttl(struct queues *queues, struct queue *queue, struct place place)
{
    struct queue *owner;
    struct record record;
    int rc = job_load(queues, place.id, &owner, &record);
    if (rc == STORE_NOT_FOUND) {
        rc = registry_touch(&queues->registry, queue);
        return rc == 0 ? list_remove(queues, queue, LIST_EXPIRING, place) : rc;
    }
    if (rc != 0)
        return rc;
    struct record expired = record;
    expired.state = JOB_EXPIRED;
    return job_move(queues, queue, &record, &expired);
}

/* A window's end matters where its job is gone; else the producer's id stays until it is. */
static int end_window(struct queues *queues, struct queue *queue, struct place place,
                      struct slice view)
{
    uint8_t buffer[QUEUE_MAX_DEDUP_ID];
    struct queue *owner;
    struct record record;
    uint64_t id;
    uint64_t end_ms;
    if (view.size > sizeof buffer)
        return STORE_CORRUPT;
    memcpy(buffer, view.data, view.size);
    struct slice dedup = slice_of(buffer, view.size);
    int rc = registry_touch(&queues->registry, queue);
    if (rc == 0)
        rc = list_remove(queues, queue, LIST_WINDOWS, place);
    if (rc != 0)
        return rc;
    rc = record_get_window(queues->store, queue->now.fields.number, dedup, &id, &end_ms);
    if (rc != 0 || id != place.id)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    rc = job_find(queues, id, &owner, &record);
    return rc == STORE_NOT_FOUND
               ? record_delete_window(queues->store, queue->now.fields.number, dedup)
               : rc;
}

static int end_first(struct queues *queues, struct queue *queue, enum list list, struct place place,
                     struct slice value)
{
    switch (list) {
    case LIST_LEASED:
        return lapse(queues, queue, place);
    case LIST_DELAYED:
        return end_delay(queues, queue, place);
    case LIST_EXPIRING:
        return end_ttl(queues, queue, place);
    default:
        return end_window(queues, queue, place, value);
    }
}

/* What of the list is due. */
static int expire_list(struct queues *queues, struct queue *queue, enum list list, unsigned *budget)
{
    uint64_t now_ms = queues_now(queues);
    while (*budget > 0 && queue->now.bounds[list].order <= now_ms) {
        struct place place;
        struct slice value;
        int rc = list_first(queues, queue, list, &place, &value);
        if (rc == STORE_NOT_FOUND || (rc == 0 && place.order > now_ms))
            return 0;
        if (rc == 0)
            rc = end_first(queues, queue, list, place, value);
        if (rc != 0)
            return rc;
        --*budget;
    }
    return 0;
}

static int expire_queue(struct queues *queues, struct queue *queue, unsigned *budget)
{
    static const enum list lists[] = {LIST_LEASED, LIST_DELAYED, LIST_EXPIRING, LIST_WINDOWS};
    int rc = 0;
    --*budget;
    if (is_over(queue->now.fields.paused_until_ms, queues_now(queues))) {
        rc = registry_touch(&queues->registry, queue);
        if (rc == 0) /* not written: a time that is over says the same */
            queue->now.fields.paused_until_ms = 0;
    }
    for (size_t i = 0; rc == 0 && i < sizeof lists / sizeof lists[0]; i++)
        rc = expire_list(queues, queue, lists[i], budget);
    registry_settle_due(&queues->registry, queue);
    return rc;
}

/* Leftovers. */

struct leftover {
    uint64_t list;
    enum list kind;
    uint64_t queue;
};

/* STORE_NOT_FOUND where there is none. */
static int first_leftover(struct queues *queues, struct leftover *leftover)
{
    struct engine_cursor *cursor = store_cursor(queues->store, STORE_QUEUES);
    struct slice key;
    struct slice value;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = cursor->methods->cursor_seek(cursor, slice_of("x", 1), &key, &value);
    if (rc == 0 && !record_read_number_key(key, 'x', &leftover->list))
        return STORE_NOT_FOUND;
    return rc == 0 ? record_read_leftover(value, &leftover->kind, &leftover->queue) : rc;
}

/* A job that went with its list. */
static int remove_job(struct queues *queues, const struct leftover *leftover, uint64_t id)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    struct record record;
    int rc = record_get_job(queues->store, id, &record);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
    job_keep_tail(queues, &record);
    struct queue *queue = registry_find_number(&queues->registry, leftover->queue);
    rc = record_delete_job(queues->store, &record);
    if (rc == 0)
        rc = job_end_dedup(queues, &record, queue != NULL);
    if (rc != 0 || queue == NULL || record.expires_at_ms == 0)
        return rc;
    struct place place = {record.expires_at_ms, id};
    rc = store_delete(queues->store, STORE_LISTS,
                      record_list_key(key, queue->now.fields.lists[LIST_EXPIRING], place),
                      STORE_QUIET);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int remove_window(struct queues *queues, const struct leftover *leftover, uint64_t id,
                         struct slice view)
{
    uint8_t buffer[QUEUE_MAX_DEDUP_ID];
    struct record record = {.id = id, .queue = leftover->queue};
    if (view.size > sizeof buffer)
        return STORE_CORRUPT;
    memcpy(buffer, view.data, view.size);
    record.dedup = slice_of(buffer, view.size);
    return job_end_dedup(queues, &record, false);
}

/* The next entry of a list that was left; STORE_NOT_FOUND where it is empty. */
static int remove_entry(struct queues *queues, const struct leftover *leftover)
{
    uint8_t buffer[RECORD_LIST_KEY_SIZE];
    struct place *place = &queues->leftover_at;
    struct slice value;
    int rc = list_seek(queues, leftover->list, place, &value);
    if (rc != 0)
        return rc;
    if (leftover->kind == LIST_WINDOWS)
        rc = remove_window(queues, leftover, place->id, value);
    else if (leftover->kind < (enum list)JOB_STATES)
        rc = remove_job(queues, leftover, place->id);
    if (rc != 0)
        return rc;
    return store_delete(queues->store, STORE_LISTS, record_list_key(buffer, leftover->list, *place),
                        STORE_QUIET);
}

static int remove_leftovers(struct queues *queues, unsigned *budget)
{
    while (*budget > 0) {
        uint8_t key[RECORD_MAX_KEY];
        struct leftover leftover;
        int rc = first_leftover(queues, &leftover);
        if (rc != 0)
            return rc;
        while (*budget > 0 && (rc = remove_entry(queues, &leftover)) == 0)
            --*budget;
        if (rc == 0)
            return 0;
        if (rc != STORE_NOT_FOUND)
            return rc;
        --*budget;
        queues->leftover_at = (struct place){0, 0};
        rc = store_delete(queues->store, STORE_QUEUES, record_number_key(key, 'x', leftover.list),
                          STORE_QUIET);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The loop's part. */

uint64_t queues_next_due(struct queues *queues)
{
    const struct queue *first = registry_first_due(&queues->registry);
    uint64_t due_ms = first != NULL ? first->due_ms : UINT64_MAX;
    if (queues->leftovers)
        due_ms = 0;
    return due_ms < queues->retry_ms ? queues->retry_ms : due_ms;
}

static int expire_all(struct queues *queues)
{
    unsigned budget = QUEUE_MAX_EXPIRED;
    struct queue *queue;
    int rc = 0;
    while (rc == 0 && budget > 0 && (queue = registry_first_due(&queues->registry)) != NULL &&
           queue->due_ms <= queues_now(queues))
        rc = expire_queue(queues, queue, &budget);
    if (rc != 0 || budget == 0 || !queues->leftovers)
        return rc;
    rc = remove_leftovers(queues, &budget);
    if (rc == STORE_NOT_FOUND)
        queues->leftovers = false;
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int queues_expire(struct queues *queues, uint64_t now_ms, bool *more)
{
    *more = false;
    if (queues_next_due(queues) > now_ms)
        return 0;
    store_begin(queues->store, now_ms);
    int rc = expire_all(queues);
    if (rc == 0)
        rc = store_end(queues->store, NULL);
    else
        store_cancel(queues->store);
    if (rc == 0) {
        queues_end(queues);
        queues->retry_ms = 0;
    } else {
        queues_cancel(queues);
        queues->leftovers = true;
        queues->leftover_at = (struct place){0, 0};
        queues->retry_ms = time_after(now_ms, RETRY_MS);
    }
    *more = queues_next_due(queues) <= now_ms;
    return rc;
}
