/* Results of the queues' methods. */
#include <stdlib.h>

#include "bindings/c/results.h"

enum { PUSHED_COUNT = 2, RESERVED_COUNT = 7, POPPED_COUNT = 3 };

static const struct {
    const char *text;
    enum cubby_job_state state;
} states[] = {
    {"ready", CUBBY_JOB_READY}, {"delayed", CUBBY_JOB_DELAYED}, {"leased", CUBBY_JOB_LEASED},
    {"dead", CUBBY_JOB_DEAD},   {"expired", CUBBY_JOB_EXPIRED},
};

enum { STATES = sizeof(states) / sizeof(states[0]) };

const char *cubby_job_state_text(enum cubby_job_state state)
{
    for (size_t i = 0; i < STATES; i++) {
        if (states[i].state == state)
            return states[i].text;
    }
    return "any";
}

static int read_state(struct wire_cursor *cursor, enum cubby_job_state *state)
{
    struct slice text;
    if (wire_read_str(cursor, &text) != 0)
        return -1;
    for (size_t i = 0; i < STATES; i++) {
        if (!slice_equal(text, slice_of_text(states[i].text)))
            continue;
        *state = states[i].state;
        return 0;
    }
    return -1;
}

enum cubby_status cubby_read_pushed(struct cubby_bytes result, struct cubby_pushed *pushed)
{
    struct wire_cursor cursor = results_cursor_of(result);
    *pushed = (struct cubby_pushed){0};
    if (results_read_counted(&cursor, PUSHED_COUNT) != 0 ||
        wire_read_uint(&cursor, &pushed->id) != 0)
        return CUBBY_PROTOCOL;
    return results_finish(&cursor, wire_read_bool(&cursor, &pushed->duplicate));
}

enum cubby_status cubby_read_nacked(struct cubby_bytes result, enum cubby_job_state *state)
{
    struct wire_cursor cursor = results_cursor_of(result);
    *state = CUBBY_JOB_ANY;
    return results_finish(&cursor, read_state(&cursor, state));
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

/* [id, queue, body, lease, deliveries, priority, pushed_at], or the first three of them. */
static int read_job(struct wire_cursor *cursor, struct cubby_job *job)
{
    uint32_t count;
    if (wire_read_array(cursor, &count) != 0 ||
        (count != RESERVED_COUNT && count != POPPED_COUNT) ||
        wire_read_uint(cursor, &job->id) != 0 || results_read_bytes(cursor, &job->queue) != 0 ||
        results_read_object(cursor, &job->body) != 0)
        return -1;
    if (count == POPPED_COUNT)
        return 0;
    if (wire_read_uint(cursor, &job->lease) != 0 || wire_read_uint(cursor, &job->deliveries) != 0 ||
        wire_read_uint(cursor, &job->priority) != 0)
        return -1;
    return wire_read_uint(cursor, &job->pushed_at_ms);
}

static int read_all_jobs(struct wire_cursor *rows, struct cubby_job *jobs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (read_job(rows, &jobs[i]) != 0)
            return -1;
    }
    return 0;
}

enum cubby_status cubby_read_jobs(struct cubby_bytes result, struct cubby_jobs **jobs)
{
    struct wire_cursor rows = results_cursor_of(result);
    uint32_t count;
    if (wire_read_array(&rows, &count) != 0)
        return CUBBY_PROTOCOL;
    struct cubby_jobs *read = results_page_new(sizeof(*read), sizeof(*read->jobs), count, &rows);
    if (read == NULL)
        return CUBBY_NO_MEMORY;
    struct cubby_job *list = (struct cubby_job *)(read + 1);
    *read = (struct cubby_jobs){.jobs = list, .count = count};
    if (results_finish(&rows, read_all_jobs(&rows, list, count)) != CUBBY_OK) {
        free(read);
        return CUBBY_PROTOCOL;
    }
    *jobs = read;
    return CUBBY_OK;
}

void cubby_jobs_free(struct cubby_jobs **jobs)
{
    free(*jobs);
    *jobs = NULL;
}

/* ---- Rows of peek --------------------------------------------------------------------------- */

static int read_optional_bytes(struct cubby_bytes object, struct cubby_bytes *bytes)
{
    *bytes = cubby_data(NULL, 0);
    return cubby_as_nil(object) || cubby_as_bytes(object, bytes) ? 0 : -1;
}

static int read_optional_time(struct cubby_bytes object, uint64_t *time_ms)
{
    struct wire_cursor cursor = results_cursor_of(object);
    return results_read_time(&cursor, time_ms);
}

static int read_row(struct cubby_bytes object, struct cubby_job_row *row)
{
    enum {
        ID,
        QUEUE,
        BODY,
        STATE,
        PRIORITY,
        DELIVERIES,
        PUSHED_AT,
        DUE_AT,
        EXPIRES_AT,
        ERROR_TEXT,
        AT,
        FIELDS
    };
    struct results_field fields[FIELDS] = {
        [ID] = {.name = "id"},
        [QUEUE] = {.name = "queue"},
        [BODY] = {.name = "body"},
        [STATE] = {.name = "state"},
        [PRIORITY] = {.name = "priority"},
        [DELIVERIES] = {.name = "deliveries"},
        [PUSHED_AT] = {.name = "pushed_at"},
        [DUE_AT] = {.name = "due_at"},
        [EXPIRES_AT] = {.name = "expires_at"},
        [ERROR_TEXT] = {.name = "error"},
        [AT] = {.name = "at"},
    };
    if (results_find(object, fields, FIELDS) != 0 || !cubby_as_uint(fields[ID].value, &row->id) ||
        !cubby_as_bytes(fields[QUEUE].value, &row->queue) ||
        !cubby_as_uint(fields[PRIORITY].value, &row->priority) ||
        !cubby_as_uint(fields[DELIVERIES].value, &row->deliveries) ||
        !cubby_as_uint(fields[PUSHED_AT].value, &row->pushed_at_ms) ||
        read_optional_time(fields[DUE_AT].value, &row->due_at_ms) != 0 ||
        read_optional_time(fields[EXPIRES_AT].value, &row->expires_at_ms) != 0 ||
        read_optional_bytes(fields[ERROR_TEXT].value, &row->error) != 0)
        return -1;
    row->body = fields[BODY].value;
    row->at = fields[AT].value;
    struct wire_cursor state = results_cursor_of(fields[STATE].value);
    return read_state(&state, &row->state);
}

static int read_rows(struct wire_cursor *cursor, struct cubby_job_row *rows, uint32_t count)
{
    struct cubby_bytes object;
    for (uint32_t i = 0; i < count; i++) {
        if (results_read_object(cursor, &object) != 0 || read_row(object, &rows[i]) != 0)
            return -1;
    }
    return 0;
}

/* How many rows there are: queue.job returns nil or one, queue.peek an array of them. */
static int read_row_count(struct wire_cursor *cursor, uint32_t *count)
{
    *count = wire_peek(cursor) == WIRE_MAP;
    if (*count == 1 || wire_read_nil(cursor) == 0)
        return 0;
    return wire_read_array(cursor, count);
}

enum cubby_status cubby_read_job_page(struct cubby_bytes result, struct cubby_job_page **page)
{
    struct wire_cursor cursor = results_cursor_of(result);
    uint32_t count;
    if (read_row_count(&cursor, &count) != 0)
        return CUBBY_PROTOCOL;
    struct cubby_job_page *read =
        results_page_new(sizeof(*read), sizeof(*read->rows), count, &cursor);
    if (read == NULL)
        return CUBBY_NO_MEMORY;
    struct cubby_job_row *rows = (struct cubby_job_row *)(read + 1);
    *read = (struct cubby_job_page){.rows = rows, .count = count};
    if (results_finish(&cursor, read_rows(&cursor, rows, count)) != CUBBY_OK) {
        free(read);
        return CUBBY_PROTOCOL;
    }
    *page = read;
    return CUBBY_OK;
}

void cubby_job_page_free(struct cubby_job_page **page)
{
    free(*page);
    *page = NULL;
}

/* ---- Stats, settings, names ----------------------------------------------------------------- */

/* Fills numbers from the fields of the same index. */
static int read_numbers(const struct results_field *fields, uint64_t *const *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!cubby_as_uint(fields[i].value, numbers[i]))
            return -1;
    }
    return 0;
}

enum cubby_status cubby_read_queue_stats(struct cubby_bytes result,
                                         struct cubby_queue_counts *stats)
{
    enum { NUMBERS = 8, OLDEST_AGE = NUMBERS, PAUSED, FIELDS };
    struct results_field fields[FIELDS] = {
        {.name = "ready"},      {.name = "leased"}, {.name = "delayed"}, {.name = "dead"},
        {.name = "waiters"},    {.name = "pushed"}, {.name = "acked"},   {.name = "expired"},
        {.name = "oldest_age"}, {.name = "paused"},
    };
    uint64_t *const numbers[NUMBERS] = {&stats->ready, &stats->leased,  &stats->delayed,
                                        &stats->dead,  &stats->waiters, &stats->pushed,
                                        &stats->acked, &stats->expired};
    *stats = (struct cubby_queue_counts){.map = result};
    if (results_find(result, fields, FIELDS) != 0 || read_numbers(fields, numbers, NUMBERS) != 0)
        return CUBBY_PROTOCOL;
    stats->has_oldest = cubby_as_uint(fields[OLDEST_AGE].value, &stats->oldest_age_ms);
    if (!stats->has_oldest && !cubby_as_nil(fields[OLDEST_AGE].value))
        return CUBBY_PROTOCOL;
    return cubby_as_bool(fields[PAUSED].value, &stats->paused) ? CUBBY_OK : CUBBY_PROTOCOL;
}

enum cubby_status cubby_read_queue_settings(struct cubby_bytes result,
                                            struct cubby_queue_settings *settings)
{
    enum { NUMBERS = 5, TTL = NUMBERS, FIELDS };
    struct results_field fields[FIELDS] = {
        {.name = "lease"},       {.name = "max_deliveries"}, {.name = "max_length"},
        {.name = "retry_delay"}, {.name = "dedup_window"},   {.name = "ttl"},
    };
    uint64_t *const numbers[NUMBERS] = {&settings->lease_ms, &settings->max_deliveries,
                                        &settings->max_length, &settings->retry_delay_ms,
                                        &settings->dedup_window_ms};
    *settings = (struct cubby_queue_settings){.ttl_ms = CUBBY_NO_TTL};
    if (results_find(result, fields, FIELDS) != 0 || read_numbers(fields, numbers, NUMBERS) != 0)
        return CUBBY_PROTOCOL;
    if (!cubby_as_nil(fields[TTL].value) && !cubby_as_uint(fields[TTL].value, &settings->ttl_ms))
        return CUBBY_PROTOCOL;
    return CUBBY_OK;
}

static int read_all_names(struct wire_cursor *rows, struct cubby_bytes *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (results_read_bytes(rows, &names[i]) != 0)
            return -1;
    }
    return 0;
}

enum cubby_status cubby_read_names(struct cubby_bytes result, struct cubby_names **names)
{
    struct wire_cursor rows = results_cursor_of(result);
    uint32_t count;
    if (wire_read_array(&rows, &count) != 0)
        return CUBBY_PROTOCOL;
    struct cubby_names *read = results_page_new(sizeof(*read), sizeof(*read->names), count, &rows);
    if (read == NULL)
        return CUBBY_NO_MEMORY;
    struct cubby_bytes *list = (struct cubby_bytes *)(read + 1);
    *read = (struct cubby_names){.names = list, .count = count};
    if (results_finish(&rows, read_all_names(&rows, list, count)) != CUBBY_OK) {
        free(read);
        return CUBBY_PROTOCOL;
    }
    *names = read;
    return CUBBY_OK;
}

void cubby_names_free(struct cubby_names **names)
{
    free(*names);
    *names = NULL;
}
