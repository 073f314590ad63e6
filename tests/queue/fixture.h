/*
 * A store with queues for one test, and its requests in one line each. Time is `now_ms`. Every
 * request is a transaction of its own; `turn_end` commits, as a daemon does at the end of a turn.
 */
#ifndef TESTS_QUEUE_FIXTURE_H
#define TESTS_QUEUE_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "queue/queue.h"

static struct store *store;
static struct queues *queues;
static uint64_t now_ms;
static const char *fixture_directory; /* NULL: nothing on disk */
static const char *fixture_engine;

#define ok(call) cr_assert_eq((call), 0)

static void open_all(void)
{
    struct store_error error = {.message = ""};
    struct store_options options = {.durability = STORE_NONE,
                                    .directory = fixture_directory,
                                    .engine = fixture_engine,
                                    .wall_ms = now_ms,
                                    .segment_size = 1 << 20,
                                    .log_retain = 1 << 20};
    cr_assert_eq(store_open(&store, &options, &error), 0, "%s", error.message);
    cr_assert_eq(queues_open(&queues, store, now_ms, &error), 0, "%s", error.message);
}

static void close_all(void)
{
    queues_close(&queues);
    ok(store_close(&store));
}

static void begin(void)
{
    store_begin(store, now_ms);
}

static void end(void)
{
    ok(store_end(store, NULL));
    queues_end(queues);
}

static void cancel(void)
{
    store_cancel(store);
    queues_cancel(queues);
}

static void turn_end(void)
{
    ok(queues_save(queues, now_ms));
    ok(store_commit(store));
}

static void turn_abandon(void)
{
    store_abandon(store);
    queues_abandon(queues);
}

/* All that is due, in as many steps as it takes. */
static void expire(void)
{
    bool more = true;
    while (more)
        ok(queues_expire(queues, now_ms, &more));
}

static void wait_ms(uint64_t ms)
{
    turn_end();
    now_ms += ms;
    expire();
}

static struct slice text(const char *string)
{
    return slice_of_text(string);
}

static uint64_t push_with(const char *queue, const char *body, struct push_options options)
{
    uint64_t id = 0;
    bool duplicate = true;
    begin();
    cr_assert_eq(queue_push(queues, text(queue), text(body), &options, &id, &duplicate), 0);
    end();
    cr_assert(!duplicate);
    return id;
}

static uint64_t push(const char *queue, const char *body)
{
    return push_with(queue, body, (struct push_options){0});
}

static int push_code(const char *queue, const char *body)
{
    struct push_options options = {0};
    uint64_t id;
    bool duplicate;
    begin();
    int rc = queue_push(queues, text(queue), text(body), &options, &id, &duplicate);
    if (rc == 0)
        end();
    else
        cancel();
    return rc;
}

/* A job as it was taken; its id is 0 where there was none. */
static struct job take_for(const char *queue, uint64_t lease_ms)
{
    struct job job = {0};
    begin();
    int rc = queue_take(queues, text(queue), false, lease_ms, &job);
    end();
    cr_assert(rc == 0 || rc == STORE_NOT_FOUND, "take: %d", rc);
    return rc == 0 ? job : (struct job){0};
}

static struct job take(const char *queue)
{
    return take_for(queue, 0);
}

static struct job pop(const char *queue)
{
    struct job job = {0};
    begin();
    int rc = queue_take(queues, text(queue), true, 0, &job);
    end();
    cr_assert(rc == 0 || rc == STORE_NOT_FOUND, "pop: %d", rc);
    return rc == 0 ? job : (struct job){0};
}

static int ack(uint64_t id, uint64_t lease)
{
    begin();
    int rc = queue_ack(queues, id, lease);
    end();
    return rc;
}

static int bury(uint64_t id, uint64_t lease)
{
    begin();
    int rc = queue_bury(queues, id, lease, NULL);
    end();
    return rc;
}

static int extend(uint64_t id, uint64_t lease, uint64_t ms)
{
    uint64_t due_at_ms = 0;
    begin();
    int rc = queue_extend(queues, id, lease, ms, &due_at_ms);
    end();
    cr_assert(rc != 0 || due_at_ms == now_ms + ms);
    return rc;
}

/* The state that a nack led to, or minus its code. */
static int nack(uint64_t id, uint64_t lease)
{
    enum job_state state = JOB_STATES;
    begin();
    int rc = queue_nack(queues, id, lease, NULL, NULL, &state);
    end();
    return rc == 0 ? (int)state : -rc;
}

static int nack_for(uint64_t id, uint64_t lease, uint64_t delay_ms, const char *error)
{
    enum job_state state = JOB_STATES;
    struct slice why = error != NULL ? text(error) : (struct slice){0};
    begin();
    int rc = queue_nack(queues, id, lease, &delay_ms, error != NULL ? &why : NULL, &state);
    end();
    return rc == 0 ? (int)state : -rc;
}

static uint64_t kick(const char *queue, uint64_t id, uint64_t count)
{
    uint64_t kicked = UINT64_MAX;
    begin();
    ok(queue_kick(queues, text(queue), id, count, &kicked));
    end();
    return kicked;
}

/* Whether it existed, or minus the code. */
static int delete (uint64_t id)
{
    bool existed = false;
    begin();
    int rc = queue_delete(queues, id, &existed);
    end();
    return rc == 0 ? existed : -rc;
}

static uint64_t purge(const char *queue, enum job_state state)
{
    uint64_t removed = UINT64_MAX;
    begin();
    ok(queue_purge(queues, text(queue), state, &removed));
    end();
    return removed;
}

static bool drop(const char *queue)
{
    bool existed;
    begin();
    ok(queue_drop(queues, text(queue), &existed));
    end();
    return existed;
}

static struct queue_settings settings_of(const char *queue)
{
    struct queue_settings settings;
    ok(queue_settings(queues, text(queue), &settings));
    return settings;
}

static const struct queue_settings defaults = {
    .lease_ms = QUEUE_DEFAULT_LEASE_MS,
    .max_deliveries = QUEUE_DEFAULT_MAX_DELIVERIES,
    .retry_delay_ms = QUEUE_DEFAULT_RETRY_DELAY_MS,
    .ttl_ms = QUEUE_FOREVER,
    .dedup_window_ms = QUEUE_DEFAULT_DEDUP_WINDOW_MS,
};

static void configure(const char *queue, struct queue_settings settings)
{
    begin();
    ok(queue_configure(queues, text(queue), &settings));
    end();
}

static void pause_until(const char *queue, uint64_t until_ms)
{
    begin();
    ok(queue_pause(queues, text(queue), until_ms));
    end();
}

static struct queue_stats stats_of(const char *queue)
{
    struct queue_stats stats;
    begin();
    ok(queue_stats(queues, text(queue), &stats));
    end();
    return stats;
}

static uint64_t count_of(const char *queue, enum job_state state)
{
    return stats_of(queue).jobs[state];
}

/* Entries of a table. */
static uint64_t entries_of(enum store_table table)
{
    uint64_t count;
    ok(store_count(store, table, (struct slice){0}, (struct slice){0}, &count));
    return count;
}

/* The job as it is, its id 0 where there is none. */
static struct job look(uint64_t id)
{
    struct job job;
    int rc = queue_job(queues, id, &job);
    cr_assert(rc == 0 || rc == STORE_NOT_FOUND);
    return rc == 0 ? job : (struct job){.state = JOB_GONE};
}

/* The text, made longer than what a small job's record has room for. Lives until the next call. */
static const char *large(const char *body)
{
    enum { LARGE = 300 };
    static char padded[LARGE + 1];
    snprintf(padded, sizeof padded, "%-*s", LARGE, body);
    return padded;
}

static bool body_is(const struct job *job, const char *body)
{
    return job->id != 0 && slice_equal(job->body, text(body));
}

/* Uses every helper, so that a test need not. */
static inline void use_helpers(void)
{
    (void)turn_abandon, (void)push_code, (void)take_for, (void)pop, (void)ack, (void)bury;
    (void)extend, (void)nack, (void)nack_for, (void)kick, (void)delete, (void)purge, (void)drop;
    (void)settings_of, (void)defaults, (void)configure, (void)pause_until, (void)count_of;
    (void)look, (void)body_is, (void)large, (void)wait_ms, (void)take, (void)push, (void)open_all;
    (void)close_all, (void)entries_of;
}

#endif
