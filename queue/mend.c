/* The passes over the tables; what queues there are, and what is written and told of them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "queue/mend_internal.h"
#include "store/entry_check.h"
#include "store/fill.h"

enum { STATUS_EVERY = 1024 };

typedef int visit_fn(struct mend *mend, struct slice key, struct slice value);

static void let_go(struct mend *mend)
{
    const struct store_mending *mending = mend->mending;
    struct engine_status ignored;
    if (++mend->done % STATUS_EVERY != 0)
        return;
    mend->state->methods->status(mend->state, &ignored);
    if (mending->progress != NULL)
        mending->progress(mending->context, mend->done, mend->total);
}

/* The visitor may write; its value is a view until then, its key is a copy. */
static int each(struct mend *mend, enum store_table table, visit_fn *visit)
{
    const struct engine_methods *methods = mend->state->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = methods->cursor_open(mend->state, NULL, table, &cursor);
    if (rc != 0)
        return rc;
    rc = methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    while (rc == 0) {
        memcpy(mend->key, key.data, key.size);
        rc = visit(mend, slice_of(mend->key, key.size), value);
        if (rc != 0)
            break;
        let_go(mend);
        rc = methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* Telling. */

__attribute__((format(printf, 3, 4))) static void tell(const struct mend *mend, bool lost,
                                                       const char *format, ...)
{
    char sentence[STORE_MAX_ERROR_MESSAGE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    mend->mending->tell(mend->mending->context, lost, sentence);
}

/* What queues there are. */

static int add_queue(struct mend *mend, struct slice key, struct slice name, struct slice value)
{
    char shown[ENTRY_SHOWN_SIZE];
    struct queue_fields fields;
    if (record_read_queue(value, &fields) == 0 && is_id(fields.number)) {
        known_add_queue(&mend->known, name, &fields);
        return 0;
    }
    entry_show_key(name, shown);
    tell(mend, true, "of queue %s all but the name is lost, which nothing belongs to any more",
         shown);
    return mend_take_out(mend, STORE_QUEUES, key);
}

static int visit_queue(struct mend *mend, struct slice key, struct slice value)
{
    struct queue_counts counts;
    struct slice name;
    struct slice epoch;
    enum list kind;
    uint64_t number;
    uint64_t queue;
    if (record_read_name_key(key, &name))
        return add_queue(mend, key, name, value);
    if (record_read_number_key(key, 'x', &number) &&
        record_read_leftover(value, &kind, &queue) == 0) {
        known_add_left(&mend->known, number, kind, queue);
        return 0;
    }
    if (record_read_number_key(key, 'c', &number) && record_read_counts(value, &counts) == 0)
        return 0;
    if (slice_equal(key, slice_of_text("i")) && record_read_ids(value, &number, &epoch) == 0 &&
        is_id(number)) {
        mend->next_id = mend->id_limit = number;
        return 0;
    }
    return mend_drop_odd(mend, STORE_QUEUES, key);
}

/* Of two queues of one number one can have its jobs only. */
static int settle_numbers(struct mend *mend)
{
    uint8_t key[RECORD_MAX_KEY];
    size_t count;
    size_t kept = 0;
    struct known_queue *queues = known_queues(&mend->known, &count);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || queues[i].number != queues[kept - 1].number) {
            queues[kept++] = queues[i];
            continue;
        }
        char shown[ENTRY_SHOWN_SIZE];
        struct slice name = known_name(&mend->known, &queues[i]);
        entry_show_key(name, shown);
        tell(mend, true, "queue %s has the number of another one, which has its jobs", shown);
        int rc = mend_take_out(mend, STORE_QUEUES, record_name_key(key, name));
        if (rc != 0)
            return rc;
    }
    mend->known.queues.size = kept * sizeof *queues;
    return 0;
}

/* A list is one queue's, in one state. Who loses it gets another when it needs one. */
static void settle_lists(struct mend *mend)
{
    size_t count;
    size_t kept = 0;
    struct known_list *lists = known_lists(&mend->known, &count);
    for (size_t i = 0; i < count; i++) {
        struct known_list list = lists[i];
        struct known_queue *queue = list.left ? NULL : known_queue(&mend->known, list.queue);
        bool own = list.left || (queue != NULL && queue->fields.lists[list.kind] == list.number);
        const struct known_list *before = kept > 0 ? &lists[kept - 1] : NULL;
        bool taken = before != NULL && before->number == list.number;
        if (is_id(list.number) && own && !taken) {
            lists[kept++] = list;
            mend_note_id(mend, list.number);
        } else if (own && !list.left &&
                   !(taken && before->queue == list.queue && before->kind == list.kind)) {
            queue->fields.lists[list.kind] = 0;
            queue->changed = true;
        }
    }
    mend->known.lists.size = kept * sizeof *lists;
}

static int find_queues(struct mend *mend)
{
    int rc = each(mend, STORE_QUEUES, visit_queue);
    if (rc == 0 && known_failed(&mend->known))
        rc = STORE_NO_MEMORY;
    if (rc != 0)
        return rc;
    known_sort(&mend->known);
    rc = settle_numbers(mend);
    if (rc != 0)
        return rc;
    settle_lists(mend);
    size_t count;
    struct known_queue *queues = known_queues(&mend->known, &count);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = mend_load_counts(mend, &queues[i]);
    return rc;
}

/* The queues as they are written, and told. */

static const struct telling {
    enum tally tally;
    bool lost;
    const char *text;
} tellings[] = {
    {LOST, true,
     "jobs are lost: they are known to have been there, but no body of them can be read"},
    {RESTATED, false,
     "jobs of which it cannot be read what became of them are where their lists have them, without "
     "leases and errors"},
    {KEPT, false, "jobs in a list that is not known are kept in the state that they had"},
    {CORRECTED, false, "jobs that contradicted themselves are as they were pushed, or ready"},
    {PLACED, false, "places of jobs in lists are put back"},
    {REMOVED, false, "places in lists, at which the job is not, are removed"},
    {DEDUPED, false, "ids of producers, or their windows, are put back"},
};

static void tell_queue(const struct mend *mend, const struct known_queue *queue)
{
    char shown[ENTRY_SHOWN_SIZE];
    entry_show_key(known_name(&mend->known, queue), shown);
    if (queue->tallies[NAMELESS] > 0)
        tell(mend, true, "name and settings of a queue are lost: its jobs are in queue %s", shown);
    for (size_t i = 0; i < sizeof tellings / sizeof tellings[0]; i++)
        if (queue->tallies[tellings[i].tally] > 0)
            tell(mend, tellings[i].lost, "queue %s: %" PRIu64 " %s", shown,
                 queue->tallies[tellings[i].tally], tellings[i].text);
}

static bool has_jobs(const struct known_queue *queue)
{
    uint64_t jobs = 0;
    for (enum job_state state = 0; state < JOB_STATES; state++)
        jobs += queue->found[state];
    return jobs > 0;
}

static int write_counts(struct mend *mend, struct known_queue *queue)
{
    uint8_t key[RECORD_MAX_KEY];
    uint8_t value[RECORD_MAX_VALUE];
    char shown[ENTRY_SHOWN_SIZE];
    if (memcmp(queue->counts.jobs, queue->found, sizeof queue->found) == 0)
        return 0;
    entry_show_key(known_name(&mend->known, queue), shown);
    for (enum job_state state = 0; state < JOB_STATES; state++) {
        queue->counts.jobs[state] = queue->found[state];
        if (!queue->counted)
            queue->counts.pushed += queue->found[state];
    }
    if (!queue->counted && has_jobs(queue))
        tell(mend, false,
             "queue %s: what it counts is lost, and begins with the jobs that are there", shown);
    else
        tell(mend, false, "queue %s: its jobs are counted anew", shown);
    return mend_put(mend, STORE_QUEUES, record_number_key(key, 'c', queue->number),
                    record_write_counts(value, &queue->counts));
}

static int write_queue(struct mend *mend, struct known_queue *queue)
{
    uint8_t key[RECORD_MAX_KEY];
    uint8_t value[RECORD_MAX_VALUE];
    if (queue->fields.settings.lease_ms == 0) {
        queue->fields.settings.lease_ms = QUEUE_DEFAULT_LEASE_MS;
        queue->changed = true;
    }
    for (enum list kind = 0; queue->changed && kind < LISTS; kind++)
        (void)mend_list_of(mend, queue, kind, 0);
    int rc = 0;
    if (queue->changed)
        rc = mend_put(mend, STORE_QUEUES, record_name_key(key, known_name(&mend->known, queue)),
                      record_write_queue(value, &queue->fields));
    tell_queue(mend, queue);
    return rc == 0 ? write_counts(mend, queue) : rc;
}

static int write_queues(struct mend *mend)
{
    size_t count;
    int rc = 0;
    struct known_queue *queues = known_queues(&mend->known, &count);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = write_queue(mend, &queues[i]);
    return rc == 0 && known_failed(&mend->known) ? STORE_NO_MEMORY : rc;
}

/* What purges and drops left is gone by now, and so are queues whose counts alone are there. */
static int visit_rest(struct mend *mend, struct slice key, struct slice value)
{
    uint64_t number;
    (void)value;
    if (record_read_number_key(key, 'x', &number))
        return mend_take_out(mend, STORE_QUEUES, key);
    if (!record_read_number_key(key, 'c', &number) || known_queue(&mend->known, number) != NULL)
        return 0;
    tell(mend, true, "a queue is lost of which no job is there, with name and settings");
    return mend_take_out(mend, STORE_QUEUES, key);
}

/* Where there are queues. The epoch is left out: a start keeps a distance from another's ids. */
static int write_ids(struct mend *mend)
{
    uint8_t value[RECORD_MAX_VALUE];
    size_t count;
    (void)known_queues(&mend->known, &count);
    if (mend->id_limit >= mend->next_id || (count == 0 && mend->id_limit == 0))
        return 0;
    if (mend->id_limit == 0)
        tell(mend, false,
             "which ids were given out is lost: new ones are behind those of all jobs");
    return mend_put(mend, STORE_QUEUES, slice_of_text("i"), record_write_ids(value, mend->next_id));
}

static void tell_rest(const struct mend *mend)
{
    if (mend->lost_jobs > 0)
        tell(mend, true, "%" PRIu64 " jobs of queues that are not known are lost", mend->lost_jobs);
    for (enum store_table table = STORE_QUEUES; table < STORE_TABLES; table++)
        if (mend->odd[table] > 0)
            tell(mend, table != STORE_LISTS,
                 "table %s: %" PRIu64 " entries that belong to nothing are left out",
                 store_table_name(table), mend->odd[table]);
}

static int count_entries(struct mend *mend)
{
    int rc = 0;
    for (enum store_table table = STORE_QUEUES; rc == 0 && table < STORE_TABLES; table++) {
        const struct slice all = {0};
        uint64_t count = 0;
        rc = mend->state->methods->count(mend->state, table, all, all, &count);
        mend->total += table == STORE_QUEUES ? 2 * count : table == STORE_LISTS ? 2 * count : count;
    }
    return rc;
}

static int mend_all(struct mend *mend)
{
    static const struct step {
        enum store_table table;
        visit_fn *visit;
    } steps[] = {
        {STORE_LISTS, mend_visit_place_of_lost}, {STORE_BODIES, mend_visit_job},
        {STORE_JOBS, mend_visit_moved},          {STORE_LISTS, mend_visit_place},
        {STORE_DEDUP, mend_visit_window},
    };
    int rc = count_entries(mend);
    if (rc == 0)
        rc = find_queues(mend);
    for (size_t i = 0; rc == 0 && i < sizeof steps / sizeof steps[0]; i++)
        rc = each(mend, steps[i].table, steps[i].visit);
    if (rc == 0)
        rc = write_queues(mend);
    if (rc == 0)
        rc = each(mend, STORE_QUEUES, visit_rest);
    if (rc == 0)
        rc = write_ids(mend);
    if (rc == 0)
        tell_rest(mend);
    return rc;
}

int queues_mend(const struct store_mending *mending, struct store_error *error)
{
    return queues_mend_bodies(mending, NULL, error);
}

int queues_mend_bodies(const struct store_mending *mending, queue_body_fn *is_body,
                       struct store_error *error)
{
    struct store_error found = {0};
    struct mend *mend = calloc(1, sizeof *mend);
    if (mend == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    mend->mending = mending;
    mend->is_body = is_body;
    mend->error = &found;
    mend->state = store_fill_engine(mending->fill);
    mend->next_id = 1;
    int rc = mend_all(mend);
    known_free(&mend->known);
    buffer_free(&mend->value);
    free(mend);
    if (rc != 0)
        (void)store_fail(error, (enum store_code)rc, "the queues cannot be mended: %s",
                         found.code != STORE_OK  ? found.message
                         : rc == STORE_NO_MEMORY ? "out of memory"
                                                 : "they cannot be read");
    return rc;
}
