/*
 * Queues as the specification has them, in a few arrays that are searched from their beginning:
 * slow, short, and meant to be obviously right. It makes no ids: it is told which ones there were.
 * Copying the struct is a savepoint.
 */
#ifndef TESTS_QUEUE_MODEL_H
#define TESTS_QUEUE_MODEL_H

#include <stdio.h>

#include "queue/queue.h"

enum { MODEL_QUEUES = 3, MODEL_JOBS = 400, MODEL_WINDOWS = 64, MODEL_TEXT = 24 };

struct model_job {
    uint64_t id;
    int queue;
    enum job_state state;
    uint64_t priority;
    uint64_t deliveries;
    uint64_t pushed_ms;
    uint64_t due_ms;
    uint64_t expires_ms; /* 0: never */
    uint64_t lease;      /* the last one that is not void */
    char body[MODEL_TEXT];
    char error[MODEL_TEXT]; /* "": none */
    char dedup[MODEL_TEXT]; /* likewise */
};

struct model_window {
    int queue;
    char dedup[MODEL_TEXT];
    uint64_t id;
    uint64_t end_ms;
};

struct model_queue {
    bool exists;
    struct queue_settings settings;
    uint64_t paused_until_ms;
    uint64_t pushed;
    uint64_t acked;
    uint64_t expired;
};

struct model {
    uint64_t now_ms;
    struct model_queue queues[MODEL_QUEUES];
    struct model_job jobs[MODEL_JOBS];
    int job_count;
    struct model_window windows[MODEL_WINDOWS];
    int window_count;
};

static inline struct model_job *model_job(struct model *model, uint64_t id)
{
    for (int i = 0; i < model->job_count; i++)
        if (model->jobs[i].id == id)
            return &model->jobs[i];
    return NULL;
}

static inline void model_remove(struct model *model, struct model_job *job)
{
    *job = model->jobs[--model->job_count];
}

static inline uint64_t model_count(const struct model *model, int queue, enum job_state state)
{
    uint64_t count = 0;
    for (int i = 0; i < model->job_count; i++)
        count += model->jobs[i].queue == queue && model->jobs[i].state == state;
    return count;
}

static inline uint64_t model_order(const struct model_job *job)
{
    bool timed = job->state == JOB_DELAYED || job->state == JOB_LEASED;
    return timed ? job->due_ms : job->priority;
}

/* The first in that state behind (order, id); NULL: there is none. */
static inline struct model_job *model_next(struct model *model, int queue, enum job_state state,
                                           uint64_t order, uint64_t id)
{
    struct model_job *best = NULL;
    for (int i = 0; i < model->job_count; i++) {
        struct model_job *job = &model->jobs[i];
        uint64_t own = model_order(job);
        if (job->queue != queue || job->state != state)
            continue;
        if (own < order || (own == order && job->id <= id))
            continue;
        if (best == NULL || own < model_order(best) ||
            (own == model_order(best) && job->id < best->id))
            best = job;
    }
    return best;
}

static inline struct model_job *model_first(struct model *model, int queue, enum job_state state)
{
    return model_next(model, queue, state, 0, 0);
}

static inline struct model_queue *model_make(struct model *model, int queue)
{
    struct model_queue *made = &model->queues[queue];
    if (!made->exists)
        *made = (struct model_queue){.exists = true,
                                     .settings = {.lease_ms = 30000,
                                                  .max_deliveries = 20,
                                                  .retry_delay_ms = 1000,
                                                  .ttl_ms = QUEUE_FOREVER,
                                                  .dedup_window_ms = 300000}};
    return made;
}

static inline bool model_ttl_over(const struct model_job *job, uint64_t at_ms)
{
    return job->expires_ms != 0 && job->expires_ms <= at_ms;
}

static inline bool model_worn_out(const struct model *model, const struct model_job *job)
{
    uint64_t limit = model->queues[job->queue].settings.max_deliveries;
    return limit != 0 && job->deliveries >= limit;
}

static inline void model_expire_job(struct model *model, struct model_job *job)
{
    model->queues[job->queue].expired++;
    model_remove(model, job);
}

/* Time has come to `now_ms`, and everything that was due has happened. */
static inline void model_expire(struct model *model)
{
    for (int i = model->job_count; i-- > 0;) {
        struct model_job *job = &model->jobs[i];
        if (job->state == JOB_LEASED && job->due_ms <= model->now_ms) {
            bool over = model_ttl_over(job, job->due_ms);
            job->state = !over && model_worn_out(model, job) ? JOB_DEAD : JOB_READY;
        }
        if (job->state == JOB_DELAYED && job->due_ms <= model->now_ms)
            job->state = JOB_READY;
        if ((job->state == JOB_READY || job->state == JOB_DELAYED) &&
            model_ttl_over(job, model->now_ms))
            model_expire_job(model, job);
    }
}

/* The window that holds the producer's id now; NULL: it is free. */
static inline struct model_window *model_window(struct model *model, int queue, const char *dedup)
{
    for (int i = 0; i < model->window_count; i++) {
        struct model_window *window = &model->windows[i];
        if (window->queue != queue || strcmp(window->dedup, dedup) != 0)
            continue;
        bool holds = window->end_ms > model->now_ms || model_job(model, window->id) != NULL;
        return holds ? window : NULL;
    }
    return NULL;
}

static inline void model_set_window(struct model *model, int queue, const char *dedup, uint64_t id)
{
    int at = 0;
    while (at < model->window_count &&
           (model->windows[at].queue != queue || strcmp(model->windows[at].dedup, dedup) != 0))
        at++;
    if (at == model->window_count)
        model->window_count++;
    struct model_window *window = &model->windows[at];
    uint64_t ms = model->queues[queue].settings.dedup_window_ms;
    *window =
        (struct model_window){.queue = queue, .id = id, .end_ms = ms > 0 ? model->now_ms + ms : 0};
    snprintf(window->dedup, sizeof window->dedup, "%s", dedup);
}

/* 0, or QUEUE_LIMIT. `*duplicate`: the id of the job that was there first, or 0. */
static inline int model_push(struct model *model, int queue, struct model_job job, bool ttl_given,
                             uint64_t ttl_ms, uint64_t delay_ms, uint64_t *duplicate)
{
    struct model_queue *owner = model_make(model, queue);
    struct model_window *window =
        job.dedup[0] != '\0' ? model_window(model, queue, job.dedup) : NULL;
    uint64_t length = model_count(model, queue, JOB_READY) +
                      model_count(model, queue, JOB_DELAYED) +
                      model_count(model, queue, JOB_LEASED);
    *duplicate = window != NULL ? window->id : 0;
    if (window != NULL)
        return 0;
    if (owner->settings.max_length != 0 && length >= owner->settings.max_length)
        return QUEUE_LIMIT;
    if (!ttl_given)
        ttl_ms = owner->settings.ttl_ms;
    job.queue = queue;
    job.state = delay_ms > 0 ? JOB_DELAYED : JOB_READY;
    job.due_ms = model->now_ms + delay_ms;
    job.pushed_ms = model->now_ms;
    job.expires_ms = ttl_ms != QUEUE_FOREVER ? model->now_ms + ttl_ms : 0;
    model->jobs[model->job_count++] = job;
    owner->pushed++;
    if (job.dedup[0] != '\0')
        model_set_window(model, queue, job.dedup, job.id);
    return 0;
}

/* The job that a consumer gets, still ready; NULL: none. What it must not get moves away. */
static inline struct model_job *model_meet(struct model *model, int queue)
{
    struct model_job *job;
    const struct model_queue *owner = &model->queues[queue];
    if (!owner->exists || owner->paused_until_ms > model->now_ms)
        return NULL;
    while ((job = model_first(model, queue, JOB_READY)) != NULL) {
        if (model_ttl_over(job, model->now_ms)) {
            model_expire_job(model, job);
        } else if (model_worn_out(model, job)) {
            job->state = JOB_DEAD;
            job->lease = 0;
        } else {
            return job;
        }
    }
    return NULL;
}

/* The job that the token leases, or NULL and why. */
static inline struct model_job *model_held(struct model *model, uint64_t id, uint64_t lease,
                                           int *code)
{
    struct model_job *job = model_job(model, id);
    bool waits = job != NULL && (job->state == JOB_READY || job->state == JOB_DELAYED);
    *code = STORE_NOT_FOUND;
    if (job == NULL || (waits && model_ttl_over(job, model->now_ms)))
        return NULL;
    *code = QUEUE_STALE_LEASE;
    if (lease == 0 || job->lease != lease)
        return NULL;
    *code = 0;
    return job;
}

static inline uint64_t model_retry_ms(const struct model *model, const struct model_job *job)
{
    uint64_t base = model->queues[job->queue].settings.retry_delay_ms;
    uint64_t limit = base > 300000 ? base : 300000;
    uint64_t delay = base;
    for (uint64_t i = 1; i < job->deliveries; i++)
        delay = 2 * delay > limit ? limit : 2 * delay;
    return delay;
}

static inline enum job_state model_nack(struct model *model, struct model_job *job,
                                        const uint64_t *delay_ms)
{
    uint64_t wait_ms = delay_ms != NULL ? *delay_ms : model_retry_ms(model, job);
    job->lease = 0;
    if (model_ttl_over(job, model->now_ms)) {
        model_expire_job(model, job);
        return JOB_EXPIRED;
    }
    job->state = wait_ms > 0 ? JOB_DELAYED : JOB_READY;
    if (model_worn_out(model, job))
        job->state = JOB_DEAD;
    job->due_ms = model->now_ms + wait_ms;
    return job->state;
}

static inline void model_kick_job(struct model_job *job)
{
    job->state = JOB_READY;
    job->deliveries = 0;
    job->expires_ms = 0;
    job->lease = 0;
}

static inline uint64_t model_kick(struct model *model, int queue, uint64_t id, uint64_t count)
{
    uint64_t kicked = 0;
    struct model_job *job = id != 0 ? model_job(model, id) : NULL;
    if (id != 0) {
        if (job == NULL || job->queue != queue)
            return 0;
        bool delayed = job->state == JOB_DELAYED && !model_ttl_over(job, model->now_ms);
        if (job->state != JOB_DEAD && !delayed)
            return 0;
        model_kick_job(job);
        return 1;
    }
    while (kicked < count && (job = model_first(model, queue, JOB_DEAD)) != NULL) {
        model_kick_job(job);
        kicked++;
    }
    return kicked;
}

static inline uint64_t model_purge(struct model *model, int queue, enum job_state state)
{
    uint64_t removed = 0;
    for (int i = model->job_count; i-- > 0;)
        if (model->jobs[i].queue == queue && model->jobs[i].state == state) {
            model_remove(model, &model->jobs[i]);
            removed++;
        }
    return removed;
}

static inline bool model_drop(struct model *model, int queue)
{
    if (!model->queues[queue].exists)
        return false;
    model->queues[queue] = (struct model_queue){.exists = false};
    for (enum job_state state = 0; state < JOB_STATES; state++)
        model_purge(model, queue, state);
    for (int i = model->window_count; i-- > 0;)
        if (model->windows[i].queue == queue)
            model->windows[i] = model->windows[--model->window_count];
    return true;
}

static inline uint64_t model_oldest(const struct model *model, int queue)
{
    uint64_t oldest = QUEUE_FOREVER;
    for (int i = 0; i < model->job_count; i++)
        if (model->jobs[i].queue == queue && model->jobs[i].state == JOB_READY &&
            model->jobs[i].pushed_ms < oldest)
            oldest = model->jobs[i].pushed_ms;
    return oldest;
}

#endif
