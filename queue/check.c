#include "queue/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "queue/known.h"
#include "store/entry_check.h"

enum { STATUS_EVERY = 1024, MAX_SUBJECT = ENTRY_SHOWN_SIZE + 64 };

struct check {
    const struct store_examination *examination;
    queue_body_fn *is_body; /* NULL: any is */
    struct engine *state;
    struct known known;
    bool has_ids;
    uint64_t id_limit;                /* no id has been given out from here on */
    struct known_list const *windows; /* of the dropped queue that was met last; NULL: none */
    uint64_t windows_of;
    uint64_t done;
    uint64_t total;
};

/* A job as its records say, and the list that it says it is in; NULL: there is none. */
struct found_job {
    struct record record;
    const struct known_list *list;
};

/* Finding. */

static int has_place(struct check *check, uint64_t list, struct place place, bool *has)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    struct slice value;
    int rc = check->state->methods->get(check->state, STORE_LISTS,
                                        record_list_key(key, list, place), &value);
    *has = rc == 0;
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* STORE_NOT_FOUND where it is not there; *good: whether what is stored is a job. */
static int read_job(struct check *check, enum store_table table, struct record *record, bool *good)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    struct slice value;
    int rc =
        check->state->methods->get(check->state, table, record_id_key(key, record->id), &value);
    *good = rc == 0 && record_read_job(value, record) == 0;
    return rc;
}

/* STORE_NOT_FOUND where no such job was pushed, or what is stored is none, which is told elsewhere.
 */
static int find_job(struct check *check, uint64_t id, struct found_job *job)
{
    bool good;
    job->record.id = id;
    int rc = read_job(check, STORE_BODIES, &job->record, &good);
    if (rc == 0 && good && !job->record.whole) {
        rc = read_job(check, STORE_JOBS, &job->record, &good);
        good = good || rc == STORE_NOT_FOUND; /* it has not moved */
        rc = rc == STORE_NOT_FOUND ? 0 : rc;
    }
    if (rc != 0 || !good)
        return rc == 0 ? STORE_NOT_FOUND : rc;
    job->list = known_list(&check->known, job->record.list);
    return 0;
}

/* Whether it is one for those who ask, and not one that a purge or drop took away. */
static bool is_live(const struct found_job *job)
{
    return job->list != NULL && !job->list->left;
}

/* Telling. */

__attribute__((format(printf, 4, 5))) static void tell(const struct check *check,
                                                       enum store_table table, const char *subject,
                                                       const char *format, ...)
{
    char what[STORE_MAX_ERROR_MESSAGE];
    char sentence[STORE_MAX_ERROR_MESSAGE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(sentence, sizeof sentence, "the queues are damaged: in table %s, %s: %.250s",
             store_table_name(table), subject, what);
    check->examination->tell(check->examination->context, sentence);
}

static void tell_key(const struct check *check, enum store_table table, struct slice key,
                     const char *what)
{
    char shown[ENTRY_SHOWN_SIZE];
    entry_show_key(key, shown);
    tell(check, table, shown, "%s", what);
}

/* The queue as a person knows it. */
static const char *show_queue(const struct check *check, uint64_t number, char subject[MAX_SUBJECT])
{
    char shown[ENTRY_SHOWN_SIZE];
    const struct known_queue *queue = known_queue(&check->known, number);
    if (queue == NULL) {
        snprintf(subject, MAX_SUBJECT, "a queue that was dropped");
        return subject;
    }
    entry_show_key(known_name(&check->known, queue), shown);
    snprintf(subject, MAX_SUBJECT, "queue %s", shown);
    return subject;
}

static const char *show_job(const struct check *check, const struct known_list *list, uint64_t id,
                            char subject[MAX_SUBJECT])
{
    size_t size = strlen(show_queue(check, list->queue, subject));
    snprintf(subject + size, MAX_SUBJECT - size, ", %s, job %" PRIu64, known_list_name(list->kind),
             id);
    return subject;
}

/* Walking. */

typedef int visit_fn(struct check *check, struct slice key, struct slice value);

/* Lets the engine give back what views hold, between two entries. */
static void let_go(struct check *check)
{
    const struct store_examination *examination = check->examination;
    struct engine_status ignored;
    if (++check->done % STATUS_EVERY != 0)
        return;
    check->state->methods->status(check->state, &ignored);
    if (examination->progress != NULL)
        examination->progress(examination->context, check->done, check->total);
}

static int each(struct check *check, enum store_table table, visit_fn *visit)
{
    const struct engine_methods *methods = check->state->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = methods->cursor_open(check->state, NULL, table, &cursor);
    if (rc != 0)
        return rc;
    rc = methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    while (rc == 0) {
        rc = visit(check, key, value);
        if (rc != 0)
            break;
        let_go(check);
        rc = methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* Queues, and what they count. */

static bool add_queue(struct check *check, struct slice name, struct slice value)
{
    struct queue_fields fields;
    if (record_read_queue(value, &fields) != 0)
        return false;
    known_add_queue(&check->known, name, &fields);
    return true;
}

static bool add_leftover(struct check *check, uint64_t number, struct slice value)
{
    enum list kind;
    uint64_t queue;
    if (record_read_leftover(value, &kind, &queue) != 0)
        return false;
    known_add_left(&check->known, number, kind, queue);
    return true;
}

static int visit_queue(struct check *check, struct slice key, struct slice value)
{
    struct queue_counts counts;
    struct slice name;
    struct slice epoch;
    uint64_t number;
    bool good = false;
    if (record_read_name_key(key, &name))
        good = add_queue(check, name, value);
    else if (record_read_number_key(key, 'x', &number))
        good = add_leftover(check, number, value);
    else if (record_read_number_key(key, 'c', &number))
        good = record_read_counts(value, &counts) == 0;
    else if (slice_equal(key, slice_of_text("i")))
        good = check->has_ids = record_read_ids(value, &check->id_limit, &epoch) == 0;
    if (!good)
        tell_key(check, STORE_QUEUES, key, "what is stored is no entry");
    return known_failed(&check->known) ? STORE_NO_MEMORY : 0;
}

/* Whose the counts are, once all queues are known. */
static int visit_counts(struct check *check, struct slice key, struct slice value)
{
    struct queue_counts counts;
    uint64_t number;
    if (!record_read_number_key(key, 'c', &number) || record_read_counts(value, &counts) != 0)
        return 0;
    struct known_queue *queue = known_queue(&check->known, number);
    if (queue != NULL)
        queue->counts = counts;
    else
        tell_key(check, STORE_QUEUES, key, "there is no queue of that number");
    return 0;
}

static void check_numbers(struct check *check)
{
    char subject[MAX_SUBJECT];
    size_t list_count;
    size_t queue_count;
    const struct known_list *lists = known_lists(&check->known, &list_count);
    const struct known_queue *queues = known_queues(&check->known, &queue_count);
    for (size_t i = 1; i < queue_count; i++)
        if (queues[i].number == queues[i - 1].number)
            tell(check, STORE_QUEUES, show_queue(check, queues[i].number, subject),
                 "another queue has its number");
    for (size_t i = 1; i < list_count; i++)
        if (lists[i].number == lists[i - 1].number)
            tell(check, STORE_QUEUES, show_queue(check, lists[i].queue, subject),
                 "its list of what is %s is another one too", known_list_name(lists[i].kind));
    if (!check->has_ids && list_count > 0)
        tell(check, STORE_QUEUES, "i", "the ids that were given out are missing");
}

/* Reads the queues and sorts them. */
static int find_queues(struct check *check)
{
    int rc = each(check, STORE_QUEUES, visit_queue);
    if (rc != 0)
        return rc;
    known_sort(&check->known);
    check_numbers(check);
    return each(check, STORE_QUEUES, visit_counts);
}

static void check_counts(const struct check *check)
{
    char subject[MAX_SUBJECT];
    size_t count;
    const struct known_queue *queues = known_queues(&check->known, &count);
    for (size_t i = 0; i < count; i++)
        for (enum job_state state = 0; state < JOB_STATES; state++)
            if (queues[i].counts.jobs[state] != queues[i].found[state])
                tell(check, STORE_QUEUES, show_queue(check, queues[i].number, subject),
                     "it counts %" PRIu64 " jobs as %s, and there are %" PRIu64,
                     queues[i].counts.jobs[state], known_list_name((enum list)state),
                     queues[i].found[state]);
}

/* Places in lists. */

/* Why a place in the list of a state, or in one that is left of such, is none; NULL: it is one. */
static const char *fault_in_state_list(const struct known_list *list, struct place place,
                                       const struct found_job *job)
{
    struct place own;
    if (job->record.list != list->number || !record_is_in(&job->record, list->kind, &own))
        return "the job says that it is elsewhere";
    if (own.order != place.order)
        return "the job says that it is at another place in the list";
    return job->record.queue != list->queue ? "the job says that it is of another queue" : NULL;
}

/* The same for the lists beside those. A job that a purge took away may stay in that of ttls. */
static const char *fault_in_other_list(const struct known_list *list, struct place place,
                                       const struct found_job *job)
{
    struct place own;
    if (!is_live(job) && list->kind == LIST_EXPIRING && job->list != NULL)
        return NULL;
    if (!is_live(job) || job->record.queue != list->queue ||
        !record_is_in(&job->record, list->kind, &own))
        return "the job says that it is not there";
    return own.order != place.order ? "the job says that it is at another place in the list" : NULL;
}

/* A window that is over may be left after its producer's id. */
static int check_window_place(struct check *check, const struct known_list *list,
                              struct place place, struct slice dedup)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    char subject[MAX_SUBJECT];
    struct slice value;
    uint64_t id = 0;
    uint64_t end_ms = 0;
    if (dedup.size == 0 || dedup.size > QUEUE_MAX_DEDUP_ID) {
        tell(check, STORE_LISTS, show_job(check, list, place.id, subject), "no producer's id");
        return 0;
    }
    if (place.order <= check->examination->time_ms)
        return 0;
    int rc = check->state->methods->get(check->state, STORE_DEDUP,
                                        record_dedup_key(key, list->queue, dedup), &value);
    if (rc == 0)
        (void)record_read_window(value, &id, &end_ms);
    if ((rc == 0 || rc == STORE_NOT_FOUND) && (id != place.id || end_ms != place.order))
        tell(check, STORE_LISTS, show_job(check, list, place.id, subject),
             "its producer's id is missing, or says something else");
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int check_job_place(struct check *check, const struct known_list *list, struct place place,
                           struct slice value)
{
    char subject[MAX_SUBJECT];
    struct found_job job;
    bool of_state = list->kind < (enum list)JOB_STATES;
    int rc = find_job(check, place.id, &job);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    const char *fault = rc != 0    ? "there is no such job"
                        : of_state ? fault_in_state_list(list, place, &job)
                                   : fault_in_other_list(list, place, &job);
    if (fault == NULL && value.size != 0)
        fault = "what is stored is no entry";
    if (fault != NULL)
        tell(check, STORE_LISTS, show_job(check, list, place.id, subject), "%s", fault);
    return 0;
}

static int visit_place(struct check *check, struct slice key, struct slice value)
{
    struct place place;
    uint64_t number;
    if (!record_read_place(key, &number, &place)) {
        tell_key(check, STORE_LISTS, key, "no place in a list");
        return 0;
    }
    const struct known_list *list = known_list(&check->known, number);
    if (list == NULL) {
        tell_key(check, STORE_LISTS, key, "no queue has this list");
        return 0;
    }
    bool of_state = list->kind < (enum list)JOB_STATES;
    struct known_queue *queue = known_queue(&check->known, list->queue);
    if (of_state && !list->left && queue != NULL)
        queue->found[list->kind]++;
    if (list->left && !of_state)
        return 0; /* emptied without a look at jobs */
    return list->kind == LIST_WINDOWS ? check_window_place(check, list, place, value)
                                      : check_job_place(check, list, place, value);
}

/* Jobs. */

/* Whether the job is in the list of that kind, where it is to be. */
static int check_in_list(struct check *check, const struct found_job *job, uint64_t number,
                         enum list kind)
{
    char subject[MAX_SUBJECT];
    struct known_list list = *job->list;
    struct place place;
    bool has;
    if (!record_is_in(&job->record, kind, &place))
        return 0;
    int rc = has_place(check, number, place, &has);
    list.kind = kind;
    if (rc == 0 && !has)
        tell(check, STORE_BODIES, show_job(check, &list, job->record.id, subject),
             "it is not in its list");
    return rc;
}

/* A producer's id is in the way as long as its job is there. */
static int check_dedup(struct check *check, const struct found_job *job)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    char subject[MAX_SUBJECT];
    struct slice value;
    uint64_t id = 0;
    uint64_t end_ms;
    if (job->record.dedup.size == 0)
        return 0;
    int rc = check->state->methods->get(check->state, STORE_DEDUP,
                                        record_dedup_key(key, job->record.queue, job->record.dedup),
                                        &value);
    if (rc == 0)
        (void)record_read_window(value, &id, &end_ms);
    if ((rc == 0 || rc == STORE_NOT_FOUND) && id != job->record.id)
        tell(check, STORE_BODIES, show_job(check, job->list, job->record.id, subject),
             "its producer's id is missing, or is another job's");
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* What is wrong with the record alone; NULL: nothing. */
static const char *fault_in_record(const struct check *check, const struct found_job *job)
{
    const struct record *record = &job->record;
    bool timed = record->state == JOB_DELAYED || record->state == JOB_LEASED;
    if (job->list->kind != (enum list)record->state || job->list->queue != record->queue)
        return "it is in a list of another queue or state";
    if (timed != (record->due_at_ms != 0))
        return "when it is due makes no sense in its state";
    if (record->state == JOB_LEASED && record->lease == 0)
        return "it is leased without a lease";
    if (record->id >= check->id_limit || record->lease >= check->id_limit)
        return "its id or lease has not been given out yet";
    return NULL;
}

static int check_job(struct check *check, const struct found_job *job)
{
    char subject[MAX_SUBJECT];
    const struct record *record = &job->record;
    uint64_t number = record->list;
    const char *fault = fault_in_record(check, job);
    if (fault != NULL) {
        tell(check, STORE_BODIES, show_job(check, job->list, record->id, subject), "%s", fault);
        return 0;
    }
    int rc = check_in_list(check, job, number, job->list->kind);
    const struct known_queue *queue = known_queue(&check->known, record->queue);
    if (rc != 0 || queue == NULL || !is_live(job))
        return rc;
    rc = check_in_list(check, job, queue->fields.lists[LIST_EXPIRING], LIST_EXPIRING);
    if (rc == 0)
        rc = check_in_list(check, job, queue->fields.lists[LIST_RANKED], LIST_RANKED);
    return rc == 0 ? check_dedup(check, job) : rc;
}

/* What never changes of a job is the same in both of its records. */
static bool is_same_job(const struct record *pushed, const struct record *now)
{
    return pushed->queue == now->queue && pushed->priority == now->priority &&
           pushed->pushed_at_ms == now->pushed_at_ms && slice_equal(pushed->dedup, now->dedup);
}

static bool has_body(const struct check *check, const struct record *pushed)
{
    return check->is_body == NULL || check->is_body(pushed->body);
}

static int visit_pushed(struct check *check, struct slice key, struct slice value)
{
    struct record pushed = {0};
    struct found_job job;
    if (!record_read_id_key(key, &pushed.id) || record_read_job(value, &pushed) != 0) {
        tell_key(check, STORE_BODIES, key, "what is stored is no job");
        return 0;
    }
    if (!has_body(check, &pushed))
        tell_key(check, STORE_BODIES, key, "the job's body is not one");
    int rc = find_job(check, pushed.id, &job);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    if (job.list == NULL)
        tell_key(check, STORE_BODIES, key, "the job is in a list that no queue has");
    else if (!is_same_job(&pushed, &job.record))
        tell_key(check, STORE_JOBS, key, "the job is not the one that was pushed");
    else
        return check_job(check, &job);
    return 0;
}

static int visit_moved(struct check *check, struct slice key, struct slice value)
{
    struct record moved = {0};
    struct record pushed = {0};
    bool good;
    if (!record_read_id_key(key, &moved.id) || record_read_job(value, &moved) != 0 || moved.whole ||
        moved.body.size != 0) {
        tell_key(check, STORE_JOBS, key, "what is stored is no job");
        return 0;
    }
    pushed.id = moved.id;
    int rc = read_job(check, STORE_BODIES, &pushed, &good);
    if (rc == STORE_NOT_FOUND)
        tell_key(check, STORE_JOBS, key, "the job has no body");
    else if (rc == 0 && good && pushed.whole)
        tell_key(check, STORE_JOBS, key, "the job is a small one, which has no entry here");
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* Producers' ids. */

/* The list of windows of a queue, which may have been dropped: 0 where there is none. */
static uint64_t windows_of(struct check *check, uint64_t number)
{
    const struct known_queue *queue = known_queue(&check->known, number);
    if (queue != NULL)
        return queue->fields.lists[LIST_WINDOWS];
    if (check->windows_of != number)
        check->windows = NULL;
    check->windows_of = number;
    size_t count;
    const struct known_list *lists = known_lists(&check->known, &count);
    for (size_t i = 0; check->windows == NULL && i < count; i++)
        if (lists[i].queue == number && lists[i].kind == LIST_WINDOWS)
            check->windows = &lists[i];
    return check->windows != NULL ? check->windows->number : 0;
}

/* Something has to remove it one day: its window, or its job. */
static int visit_window(struct check *check, struct slice key, struct slice value)
{
    struct place place;
    struct found_job job;
    struct slice dedup;
    uint64_t number;
    bool has = false;
    if (!record_read_dedup_key(key, &number, &dedup) ||
        record_read_window(value, &place.id, &place.order) != 0) {
        tell_key(check, STORE_DEDUP, key, "what is stored is no producer's id");
        return 0;
    }
    int rc = find_job(check, place.id, &job);
    if (rc == STORE_NOT_FOUND)
        rc = has_place(check, windows_of(check, number), place, &has);
    else
        has = true;
    if (rc == 0 && !has)
        tell_key(check, STORE_DEDUP, key, "neither its job nor its window is there");
    return rc;
}

int queues_check(const struct store_examination *examination, struct store_error *error)
{
    return queues_check_bodies(examination, NULL, error);
}

int queues_check_bodies(const struct store_examination *examination, queue_body_fn *is_body,
                        struct store_error *error)
{
    struct check check = {
        .examination = examination, .is_body = is_body, .state = examination->state};
    for (enum store_table table = STORE_QUEUES; table < STORE_TABLES; table++)
        check.total += examination->entries[table];
    check.total += examination->entries[STORE_QUEUES];
    int rc = find_queues(&check);
    if (rc == 0)
        rc = each(&check, STORE_LISTS, visit_place);
    if (rc == 0)
        check_counts(&check);
    if (rc == 0)
        rc = each(&check, STORE_BODIES, visit_pushed);
    if (rc == 0)
        rc = each(&check, STORE_JOBS, visit_moved);
    if (rc == 0)
        rc = each(&check, STORE_DEDUP, visit_window);
    known_free(&check.known);
    if (rc != 0)
        (void)store_fail(error, (enum store_code)rc, "the queues cannot be checked: %s",
                         rc == STORE_NO_MEMORY ? "out of memory" : "they cannot be read");
    return rc;
}
