#include "daemon/deliveries.h"

enum { FIRST_JOBS = 64, FIRST_RETURNED = 16 };

/* A job; the bytes of a popped one, which are in no store any more, are at `at`. */
struct delivered {
    uint64_t tag;
    size_t at;
    struct job job;
};

void deliveries_free(struct deliveries *deliveries)
{
    free(deliveries->jobs);
    free(deliveries->returned);
    buffer_free(&deliveries->bytes);
    *deliveries = (struct deliveries){0};
}

uint64_t deliveries_begin(const struct deliveries *deliveries)
{
    return deliveries->count + 1;
}

static bool grow(struct deliveries *deliveries)
{
    if (deliveries->count < deliveries->capacity)
        return true;
    size_t capacity = deliveries->capacity > 0 ? 2 * deliveries->capacity : FIRST_JOBS;
    struct delivered *jobs = realloc(deliveries->jobs, capacity * sizeof *jobs);
    if (jobs == NULL)
        return false;
    deliveries->jobs = jobs;
    deliveries->capacity = capacity;
    return true;
}

static bool is_popped(const struct job *job)
{
    return job->lease == 0;
}

bool deliveries_add(struct deliveries *deliveries, uint64_t tag, const struct job *job)
{
    struct buffer *bytes = &deliveries->bytes;
    if (!grow(deliveries))
        return false;
    struct delivered *delivered = &deliveries->jobs[deliveries->count];
    *delivered = (struct delivered){.tag = tag, .at = bytes->size, .job = *job};
    if (is_popped(job)) {
        buffer_append_slice(bytes, job->queue);
        buffer_append_slice(bytes, job->body);
        buffer_append_slice(bytes, job->error);
        buffer_append_slice(bytes, job->dedup);
    }
    if (bytes->failed) {
        bytes->size = delivered->at;
        bytes->failed = false;
        return false;
    }
    deliveries->count++;
    return true;
}

void deliveries_take_back(struct deliveries *deliveries, uint64_t tag)
{
    size_t first = (size_t)tag - 1;
    if (first >= deliveries->count)
        return;
    deliveries->bytes.size = deliveries->jobs[first].at;
    deliveries->count = first;
}

void deliveries_return(struct deliveries *deliveries, uint64_t tag)
{
    if (deliveries->returned_count == deliveries->returned_capacity) {
        size_t capacity = deliveries->returned_capacity;
        capacity = capacity > 0 ? 2 * capacity : FIRST_RETURNED;
        uint64_t *returned = realloc(deliveries->returned, capacity * sizeof *returned);
        if (returned == NULL)
            return; /* their leases will run out */
        deliveries->returned = returned;
        deliveries->returned_capacity = capacity;
    }
    deliveries->returned[deliveries->returned_count++] = tag;
}

/* Takes the next bytes for what was a slice of this size, or none. */
static struct slice take(const uint8_t **at, struct slice was)
{
    struct slice bytes = was.data != NULL ? slice_of(*at, was.size) : was;
    *at += was.size;
    return bytes;
}

static struct job job_of(const struct deliveries *deliveries, const struct delivered *delivered)
{
    struct job job = delivered->job;
    if (!is_popped(&job))
        return job; /* id and lease are all that matters */
    const uint8_t *at = deliveries->bytes.data + delivered->at;
    job.queue = take(&at, job.queue);
    job.body = take(&at, job.body);
    job.error = take(&at, job.error);
    job.dedup = take(&at, job.dedup);
    return job;
}

static size_t give_back(const struct deliveries *deliveries, uint64_t tag, struct queues *queues,
                        struct store *store, uint64_t now_ms)
{
    size_t i = (size_t)tag - 1;
    size_t given = 0;
    int rc = 0;
    store_begin(store, now_ms);
    for (; rc == 0 && i < deliveries->count && deliveries->jobs[i].tag == tag; i++, given++) {
        struct job job = job_of(deliveries, &deliveries->jobs[i]);
        rc = queue_give_back(queues, &job);
    }
    if (rc == 0)
        rc = store_end(store, NULL);
    else
        store_cancel(store);
    if (rc == 0)
        queues_end(queues);
    else
        queues_cancel(queues); /* their leases will run out */
    return rc == 0 ? given : 0;
}

size_t deliveries_give_back(struct deliveries *deliveries, struct queues *queues,
                            struct store *store, uint64_t now_ms)
{
    size_t given = 0;
    for (size_t i = 0; i < deliveries->returned_count; i++)
        given += give_back(deliveries, deliveries->returned[i], queues, store, now_ms);
    deliveries->returned_count = 0;
    return given;
}

void deliveries_clear(struct deliveries *deliveries)
{
    deliveries->count = 0;
    deliveries->returned_count = 0;
    buffer_restart(&deliveries->bytes);
}
