#include "queue/mend_internal.h"

/* A job as both of its tables have it. */
struct job_entries {
    struct record pushed;
    struct record now; /* what it is: as it was pushed where it has not moved */
    bool has_moved;    /* it has an entry that says what became of it, */
    bool spoiled;      /* or one that cannot be read, or is not to be there */
};

/* What became of a large job, where that can be read. */
static int find_moved(struct mend *mend, uint64_t id, struct record *record, bool *there,
                      bool *readable)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    struct slice value;
    int rc = mend_find(mend, STORE_JOBS, record_id_key(key, id), &value, there);
    record->id = id;
    *readable = rc == 0 && *there && record_read_job(value, record) == 0 && !record->whole &&
                record->body.size == 0;
    return rc;
}

static bool read_pushed(const struct mend *mend, struct slice value, struct record *record)
{
    return record_read_job(value, record) == 0 &&
           (mend->is_body == NULL || mend->is_body(record->body));
}

/* The entry with the body; `there` false: there is none, or what is stored is none. */
static int find_pushed(struct mend *mend, uint64_t id, struct record *record, bool *there)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    struct slice value;
    int rc = mend_find(mend, STORE_BODIES, record_id_key(key, id), &value, there);
    record->id = id;
    *there = rc == 0 && *there && read_pushed(mend, value, record);
    return rc;
}

/* The job as it is. */
static int find_job(struct mend *mend, uint64_t id, struct record *record, bool *there)
{
    struct record moved;
    bool has_moved;
    bool readable;
    int rc = find_pushed(mend, id, record, there);
    if (rc != 0 || !*there || record->whole)
        return rc;
    rc = find_moved(mend, id, &moved, &has_moved, &readable);
    if (readable)
        *record = moved;
    return rc;
}

static int has_place(struct mend *mend, uint64_t list, struct place place, bool *has)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    struct slice value;
    return mend_find(mend, STORE_LISTS, record_list_key(key, list, place), &value, has);
}

static int put_moved(struct mend *mend, const struct record *record)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    uint8_t value[RECORD_MAX_JOB];
    return mend_put(mend, STORE_JOBS, record_id_key(key, record->id),
                    record_write_job(value, record, record->error));
}

/*
 * What became of a job, where that is lost: `kind` is the list that it is in. A lease is over,
 * since nobody knows whose it was; how often the job was delivered is not known either.
 */
static int restate(struct mend *mend, struct record *record, const struct known_list *list,
                   struct place place)
{
    bool in_ttls = false;
    struct known_queue *queue = known_queue(&mend->known, record->queue);
    bool leased = list->kind == LIST_LEASED;
    record->state = leased ? JOB_READY : (enum job_state)list->kind;
    record->list = leased ? mend_list_of(mend, queue, LIST_READY, 0) : list->number;
    record->due_at_ms = record->state == JOB_DELAYED ? place.order : 0;
    record->deliveries = record->deliveries > 0 ? record->deliveries : 1;
    record->lease = 0;
    record->error = (struct slice){0};
    queue->tallies[RESTATED]++;
    struct place ttl = {record->expires_at_ms, record->id};
    bool is_listed = list->kind == LIST_READY || list->kind == LIST_DELAYED;
    int rc = 0;
    if (is_listed && record->expires_at_ms != 0) /* a kick ends it */
        rc = has_place(mend, mend_list_of(mend, queue, LIST_EXPIRING, 0), ttl, &in_ttls);
    if (is_listed && !in_ttls)
        record->expires_at_ms = 0;
    return rc == 0 ? put_moved(mend, record) : rc;
}

/* Copies what writes would end. */
static void keep_tail(struct mend *mend, struct record *record)
{
    size_t size = record->error.size;
    if (size > 0)
        memcpy(mend->tail, record->error.data, size);
    if (record->error.data != NULL)
        record->error.data = mend->tail;
    if (record->dedup.size > 0) {
        memcpy(mend->tail + size, record->dedup.data, record->dedup.size);
        record->dedup.data = mend->tail + size;
    }
}

/* A place says what became of a job whose own record of that is lost. Before jobs are looked at. */
int mend_visit_place_of_lost(struct mend *mend, struct slice key, struct slice none)
{
    struct place place;
    struct place own;
    struct record record;
    struct record moved;
    uint64_t number;
    bool there;
    bool readable;
    (void)none;
    if (!record_read_place(key, &number, &place))
        return 0;
    const struct known_list *known = known_list(&mend->known, number);
    mend_note_id(mend, place.id);
    if (known == NULL || known->left || known->kind >= (enum list)JOB_STATES)
        return 0;
    struct known_list list = *known;
    int rc = find_pushed(mend, place.id, &record, &there);
    if (rc != 0 || !there || record.whole || record.queue != list.queue)
        return rc;
    rc = find_moved(mend, place.id, &moved, &there, &readable);
    if (rc != 0 || readable)
        return rc;
    keep_tail(mend, &record);
    bool timed = list.kind == LIST_DELAYED || list.kind == LIST_LEASED;
    (void)record_is_in(&record, (enum list)record.state, &own);
    rc = has_place(mend, record.list, own, &there);
    if (rc != 0 || there || (!timed && place.order != record.priority))
        return rc;
    return restate(mend, &record, &list, place);
}

/* Slices of it are in mend->tail or are views of `value`, which is a copy. */
static int read_job(struct mend *mend, uint64_t id, struct slice value, struct job_entries *job,
                    bool *good)
{
    bool there;
    job->pushed.id = id;
    buffer_restart(&mend->value);
    buffer_append_slice(&mend->value, value);
    if (mend->value.failed)
        return STORE_NO_MEMORY;
    *good = is_id(id) && read_pushed(mend, buffer_slice(&mend->value, 0), &job->pushed);
    if (!*good)
        return 0;
    int rc = find_moved(mend, id, &job->now, &there, &job->has_moved);
    job->has_moved = job->has_moved && !job->pushed.whole;
    job->spoiled = there && !job->has_moved;
    if (job->has_moved)
        keep_tail(mend, &job->now);
    else
        job->now = job->pushed;
    return rc;
}

/* Which job has a producer's id, and until when: zeros where none has, or that cannot be read. */
struct window {
    uint64_t id;
    uint64_t end_ms;
};

static int find_window(struct mend *mend, struct slice dedup_key, struct window *window)
{
    struct slice value;
    bool there;
    int rc = mend_find(mend, STORE_DEDUP, dedup_key, &value, &there);
    if (rc != 0 || !there || record_read_window(value, &window->id, &window->end_ms) != 0)
        *window = (struct window){0};
    return rc;
}

/* Its producer's id goes with it, unless the window lasts. */
static int remove_dedup(struct mend *mend, const struct record *record)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    struct window window;
    if (record->dedup.size == 0)
        return 0;
    struct slice dedup_key = record_dedup_key(key, record->queue, record->dedup);
    int rc = find_window(mend, dedup_key, &window);
    if (rc != 0 || window.id != record->id || window.end_ms > mend->mending->time_ms)
        return rc;
    return mend_take_out(mend, STORE_DEDUP, dedup_key);
}

/* One that makes no sense, or that a purge took away, which leaves its place among the ttls. */
static int remove_job(struct mend *mend, const struct record *record)
{
    uint8_t list_key[RECORD_LIST_KEY_SIZE];
    uint8_t key[RECORD_NUMBER_SIZE];
    const struct known_queue *queue = known_queue(&mend->known, record->queue);
    struct place ttl = {record->expires_at_ms, record->id};
    int rc = remove_dedup(mend, record);
    if (rc == 0)
        rc = mend_take_out(mend, STORE_JOBS, record_id_key(key, record->id));
    if (rc == 0)
        rc = mend_take_out(mend, STORE_BODIES, record_id_key(key, record->id));
    if (rc != 0 || queue == NULL)
        return rc;
    return mend_take_out(mend, STORE_LISTS,
                         record_list_key(list_key, queue->fields.lists[LIST_EXPIRING], ttl));
}

/* A state that none can be in becomes one that is nearest to it, and gives the job to somebody. */
static void settle_state(struct record *record)
{
    bool due = record->due_at_ms != 0;
    if (!is_id(record->lease))
        record->lease = 0;
    if ((record->state == JOB_LEASED && (record->lease == 0 || !due)) ||
        (record->state == JOB_DELAYED && !due))
        record->state = JOB_READY;
    if (record->state != JOB_DELAYED && record->state != JOB_LEASED)
        record->due_at_ms = 0;
}

/* A producer's id is its job's as long as that is there. Where two have it, one loses it. */
static int settle_dedup(struct mend *mend, struct record *record)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    uint8_t written[RECORD_MAX_VALUE];
    struct record holder;
    struct window window;
    bool there;
    if (record->dedup.size == 0)
        return 0;
    struct slice dedup_key = record_dedup_key(key, record->queue, record->dedup);
    int rc = find_window(mend, dedup_key, &window);
    if (rc != 0 || window.id == record->id)
        return rc;
    rc = find_job(mend, window.id, &holder, &there);
    if (rc != 0)
        return rc;
    if (there && holder.queue == record->queue && slice_equal(holder.dedup, record->dedup)) {
        record->dedup = (struct slice){0};
        return 0;
    }
    mend_tally(mend, record->queue, DEDUPED);
    return mend_put(mend, STORE_DEDUP, dedup_key, record_write_window(written, record->id, 0));
}

static bool is_same(const struct record *a, const struct record *b)
{
    return a->queue == b->queue && a->list == b->list && a->pushed_at_ms == b->pushed_at_ms &&
           a->lease == b->lease && a->due_at_ms == b->due_at_ms &&
           a->expires_at_ms == b->expires_at_ms && a->priority == b->priority &&
           a->deliveries == b->deliveries && a->state == b->state &&
           slice_equal(a->dedup, b->dedup);
}

/* The entry with the body: of a large job what never changes. */
static int write_pushed(struct mend *mend, const struct job_entries *job, const struct record *now)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    uint8_t head[RECORD_MAX_JOB];
    struct buffer value = {0};
    struct record pushed = job->pushed;
    struct slice error = {0};
    pushed.queue = now->queue;
    pushed.dedup = now->dedup;
    if (pushed.whole) {
        pushed = *now;
        error = now->error;
    }
    if (is_same(&pushed, &job->pushed))
        return 0;
    buffer_append_slice(&value, record_write_job(head, &pushed, error));
    buffer_append_slice(&value, job->pushed.body);
    int rc = value.failed ? STORE_NO_MEMORY
                          : mend_put(mend, STORE_BODIES, record_id_key(key, now->id),
                                     buffer_slice(&value, 0));
    buffer_free(&value);
    return rc;
}

static int write_job(struct mend *mend, const struct job_entries *job, const struct record *now)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    int rc = write_pushed(mend, job, now);
    if (rc != 0)
        return rc;
    if (now->whole)
        return job->spoiled ? mend_take_out(mend, STORE_JOBS, record_id_key(key, now->id)) : 0;
    return job->spoiled || !is_same(&job->now, now) ? put_moved(mend, now) : 0;
}

/* The job is in the list of that kind, if it is to be. */
static int write_place(struct mend *mend, const struct record *record, enum list kind)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    struct known_queue *queue = known_queue(&mend->known, record->queue);
    struct place place;
    struct slice value;
    bool there;
    if (!record_is_in(record, kind, &place))
        return 0;
    struct slice list_key = record_list_key(key, mend_list_of(mend, queue, kind, 0), place);
    int rc = mend_find(mend, STORE_LISTS, list_key, &value, &there);
    if (rc != 0 || (there && value.size == 0))
        return rc;
    queue->tallies[PLACED]++;
    return mend_put(mend, STORE_LISTS, list_key, slice_of("", 0));
}

static int write_places(struct mend *mend, const struct record *record)
{
    int rc = write_place(mend, record, (enum list)record->state);
    if (rc == 0)
        rc = write_place(mend, record, LIST_EXPIRING);
    return rc == 0 ? write_place(mend, record, LIST_RANKED) : rc;
}

/* The queue that the job is in; a new one where there is none. STORE_CORRUPT: in none. */
static int settle_queue(struct mend *mend, const struct job_entries *job, uint64_t *number)
{
    *number = job->pushed.queue;
    if (known_queue(&mend->known, *number) != NULL)
        return 0;
    if (job->has_moved && known_queue(&mend->known, job->now.queue) != NULL) {
        *number = job->now.queue;
        return 0;
    }
    return is_id(*number) ? mend_make_queue(mend, *number) : STORE_CORRUPT;
}

/* The list follows from queue and state. */
static void settle_list(struct mend *mend, const struct job_entries *job, struct record *now)
{
    struct known_queue *queue = known_queue(&mend->known, now->queue);
    bool stays = now->state == job->now.state;
    bool unknown = known_list(&mend->known, now->list) == NULL;
    bool first = queue->fields.lists[now->state] == 0;
    now->list = mend_list_of(mend, queue, (enum list)now->state, stays ? now->list : 0);
    struct record elsewhere = job->now;
    if (unknown)
        elsewhere.list = now->list;
    if (job->spoiled || !is_same(&elsewhere, now))
        queue->tallies[CORRECTED]++;
    else if (unknown && !first)
        queue->tallies[KEPT]++;
}

static int keep_job(struct mend *mend, const struct job_entries *job, struct record *now)
{
    settle_state(now);
    int rc = settle_dedup(mend, now);
    if (rc != 0)
        return rc;
    settle_list(mend, job, now);
    known_queue(&mend->known, now->queue)->found[now->state]++;
    mend_note_id(mend, now->id);
    mend_note_id(mend, now->lease);
    rc = write_job(mend, job, now);
    return rc == 0 ? write_places(mend, now) : rc;
}

/* What was pushed is believed, but for what became of it. */
int mend_visit_job(struct mend *mend, struct slice key, struct slice value)
{
    struct job_entries job = {0};
    uint64_t id;
    bool good;
    if (!record_read_id_key(key, &id))
        return mend_drop_odd(mend, STORE_BODIES, key);
    int rc = read_job(mend, id, value, &job, &good);
    if (rc != 0)
        return rc;
    if (!good) /* where it is a job's, what is left of that tells that it is lost */
        return is_id(id) ? mend_take_out(mend, STORE_BODIES, key)
                         : mend_drop_odd(mend, STORE_BODIES, key);
    const struct known_list *list = known_list(&mend->known, job.now.list);
    if (list != NULL && list->left)
        return remove_job(mend, &job.now);
    struct record now = job.now;
    rc = settle_queue(mend, &job, &now.queue);
    if (rc == STORE_CORRUPT) {
        mend->lost_jobs++;
        return remove_job(mend, &job.now);
    }
    now.priority = job.pushed.priority;
    now.pushed_at_ms = job.pushed.pushed_at_ms;
    now.dedup = job.pushed.dedup;
    return rc == 0 ? keep_job(mend, &job, &now) : rc;
}

/* What became of a job whose body is lost. It goes together with its place. */
int mend_visit_moved(struct mend *mend, struct slice key, struct slice value)
{
    uint8_t list_key[RECORD_LIST_KEY_SIZE];
    struct record record = {0};
    struct place place;
    bool there;
    if (!record_read_id_key(key, &record.id))
        return mend_drop_odd(mend, STORE_JOBS, key);
    bool good = record_read_job(value, &record) == 0;
    int rc = mend_find(mend, STORE_BODIES, key, &value, &there);
    if (rc != 0 || there)
        return rc;
    const struct known_list *list = good ? known_list(&mend->known, record.list) : NULL;
    if (list != NULL && !list->left)
        mend_tally(mend, list->queue, LOST);
    else if (list == NULL && good)
        mend_tally(mend, record.queue, LOST);
    (void)record_is_in(&record, (enum list)record.state, &place);
    if (good)
        rc = mend_take_out(mend, STORE_LISTS, record_list_key(list_key, record.list, place));
    return rc == 0 ? mend_take_out(mend, STORE_JOBS, key) : rc;
}

/* Places and windows. */

/* Whether the job, if it is there, has this producer's id. */
static int is_of_job(struct mend *mend, uint64_t id, uint64_t queue, struct slice dedup, bool *good,
                     bool *there)
{
    struct record record;
    int rc = find_job(mend, id, &record, there);
    *good = rc == 0 && *there && record.queue == queue && slice_equal(record.dedup, dedup);
    return rc;
}

/* What the window of a producer's id is as of the queue's list; it makes known what is not. */
static int settle_window(struct mend *mend, const struct known_list *list, struct place place,
                         struct slice view, bool *good)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    uint8_t written[RECORD_MAX_VALUE];
    struct window window;
    bool of_job;
    bool there;
    *good = view.size > 0 && view.size <= QUEUE_MAX_DEDUP_ID && is_id(place.id);
    if (!*good)
        return 0;
    struct slice dedup_key = record_dedup_key(key, list->queue, view);
    int rc = is_of_job(mend, place.id, list->queue, view, &of_job, &there);
    *good = of_job || !there;
    if (rc == 0)
        rc = find_window(mend, dedup_key, &window);
    if (rc != 0 || !*good)
        return rc;
    bool known = window.id != 0;
    *good =
        !known || (window.id == place.id && (window.end_ms == 0 || window.end_ms == place.order));
    if (!*good || window.end_ms == place.order)
        return 0;
    if (!known)
        mend_tally(mend, list->queue, DEDUPED);
    return mend_put(mend, STORE_DEDUP, dedup_key,
                    record_write_window(written, place.id, place.order));
}

/* Whether a job is at the place; `there` false: there is no such job. */
static int is_at(struct mend *mend, const struct known_list *list, struct place place, bool *good,
                 bool *there)
{
    struct record record;
    struct place own;
    int rc = find_job(mend, place.id, &record, there);
    *good = rc == 0 && *there && record.queue == list->queue &&
            record_is_in(&record, list->kind, &own) && own.order == place.order;
    if (list->kind < (enum list)JOB_STATES)
        *good = *good && record.list == list->number;
    return rc;
}

/* A window that is over goes as it would in time, so that it cannot take one with it that is not.
 */
static int end_window(struct mend *mend, const struct known_list *list, struct slice key,
                      struct place place, struct slice view)
{
    uint8_t dedup_key[RECORD_MAX_DEDUP_KEY];
    struct record record = {.id = place.id, .queue = list->queue};
    struct record holder;
    bool there;
    int rc = 0;
    if (view.size > 0 && view.size <= QUEUE_MAX_DEDUP_ID) {
        record.dedup = record_dedup_key(dedup_key, list->queue, view);
        record.dedup.data += RECORD_NUMBER_SIZE;
        record.dedup.size -= RECORD_NUMBER_SIZE;
        rc = find_job(mend, place.id, &holder, &there);
        if (rc == 0 && !there)
            rc = remove_dedup(mend, &record);
    }
    return rc == 0 ? mend_take_out(mend, STORE_LISTS, key) : rc;
}

/* Once all jobs have their places: what is left over goes. */
int mend_visit_place(struct mend *mend, struct slice key, struct slice value)
{
    struct place place;
    uint64_t number;
    bool good = false;
    bool there = false;
    int rc;
    if (!record_read_place(key, &number, &place))
        return mend_drop_odd(mend, STORE_LISTS, key);
    const struct known_list *list = known_list(&mend->known, number);
    if (list == NULL || list->left)
        return list == NULL ? mend_drop_odd(mend, STORE_LISTS, key)
                            : mend_take_out(mend, STORE_LISTS, key);
    if (list->kind == LIST_WINDOWS && place.order <= mend->mending->time_ms)
        return end_window(mend, list, key, place, value);
    if (list->kind == LIST_WINDOWS)
        rc = settle_window(mend, list, place, value, &good);
    else
        rc = is_at(mend, list, place, &good, &there);
    if (rc != 0 || good)
        return rc;
    mend_tally(mend, list->queue, there || list->kind >= (enum list)JOB_STATES ? REMOVED : LOST);
    return mend_take_out(mend, STORE_LISTS, key);
}

/* A window that lasts has its place, and what is in nobody's way goes. */
int mend_visit_window(struct mend *mend, struct slice key, struct slice value)
{
    uint8_t list_key[RECORD_LIST_KEY_SIZE];
    uint8_t written[RECORD_MAX_VALUE];
    struct place place;
    struct slice dedup;
    struct slice other;
    uint64_t number;
    bool has;
    bool there;
    bool of_job;
    if (!record_read_dedup_key(key, &number, &dedup) ||
        record_read_window(value, &place.id, &place.order) != 0)
        return mend_drop_odd(mend, STORE_DEDUP, key);
    struct known_queue *queue = known_queue(&mend->known, number);
    if (queue == NULL)
        return mend_take_out(mend, STORE_DEDUP, key);
    struct slice place_key =
        record_list_key(list_key, mend_list_of(mend, queue, LIST_WINDOWS, 0), place);
    int rc = mend_find(mend, STORE_LISTS, place_key, &other, &has);
    if (rc != 0 || (has && slice_equal(other, dedup)))
        return rc;
    rc = is_of_job(mend, place.id, number, dedup, &of_job, &there);
    if (rc != 0)
        return rc;
    if (!has && place.order > mend->mending->time_ms && (of_job || !there)) {
        queue->tallies[DEDUPED]++;
        return mend_put(mend, STORE_LISTS, place_key, dedup);
    }
    if (!of_job)
        return mend_drop_odd(mend, STORE_DEDUP, key);
    return has ? mend_put(mend, STORE_DEDUP, key, record_write_window(written, place.id, 0)) : 0;
}
