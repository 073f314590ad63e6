/*
 * What the files of queue/ share: the struct behind `struct queues`, its ids, its lists, and the
 * one way in which a job changes its state.
 */
#ifndef QUEUE_INTERNAL_H
#define QUEUE_INTERNAL_H

#include "queue/registry.h"

struct queues {
    struct store *store;
    struct registry registry;

    uint64_t next_id;     /* of jobs, leases, queues and lists */
    uint64_t id_limit;    /* ids below it are reserved for good */
    uint64_t ids_written; /* the next limit, written but perhaps not synced; 0: none */

    uint64_t saved_at; /* the store's position when a turn was saved: it is committed behind it */

    bool leftovers;                /* lists of purges and drops may be there */
    struct place leftover_at;      /* nothing in the first of them is before */
    uint64_t retry_ms;             /* nothing is tried before: there was no space for it */
    struct buffer body;            /* of the job that was popped last, if it is large */
    uint8_t tail[RECORD_MAX_TAIL]; /* error, producer's id, small body of what is being changed */
};

/* ids.c */

/* Goes on behind all ids that may have been given out, and makes that durable. */
int ids_open(struct queues *queues, uint64_t now_ms);

/* A new one; STORE_FULL where too many were taken in one turn. */
int ids_take(struct queues *queues, uint64_t *id);

/*
 * Where they run short more are reserved: in the last transaction of a turn, and given out once
 * that turn has been committed and synced. Also in a turn that has nothing else: what is cancelled
 * uses ids up too.
 */
bool ids_run_short(const struct queues *queues);
int ids_reserve(struct queues *queues);
int ids_settle(struct queues *queues);

/* lists.c: all but list_seek give what the store does, and keep the bounds of the queue's lists. */

/* `value` is empty, but in LIST_WINDOWS. Neither counts a job. */
int list_add(struct queues *queues, struct queue *queue, enum list list, struct place place,
             struct slice value);
int list_remove(struct queues *queues, struct queue *queue, enum list list, struct place place);

/* STORE_NOT_FOUND, and PLACE_NONE, where it is empty. `value` is a view. */
int list_first(struct queues *queues, struct queue *queue, enum list list, struct place *place,
               struct slice *value);

/* The first of a list, by its number, that is not before `place`. */
int list_seek(struct queues *queues, uint64_t list, struct place *place, struct slice *value);

/* The first one behind `after`. */
int list_next(struct queues *queues, struct queue *queue, enum list list, struct place after,
              struct place *place);

/* The queue gets an empty list in the place of this one, which is left to be emptied. */
int list_replace(struct queues *queues, struct queue *queue, enum list list);

/* jobs.c */

/* Time of the transaction. */
static inline uint64_t queues_now(const struct queues *queues)
{
    return store_now(queues->store);
}

/* a + b, or QUEUE_FOREVER where there is no such time. */
static inline uint64_t time_after(uint64_t now_ms, uint64_t ms)
{
    return ms > QUEUE_FOREVER - now_ms ? QUEUE_FOREVER : now_ms + ms;
}

static inline bool is_over(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms != 0 && at_ms <= now_ms;
}

/*
 * The job and its queue. STORE_NOT_FOUND also where a purge or a drop took it away. Slices in
 * `record` are views from the store.
 */
int job_find(struct queues *queues, uint64_t id, struct queue **queue, struct record *record);

/* The same for a job that is about to change: slices are in queues->tail, but for a large body. */
int job_load(struct queues *queues, uint64_t id, struct queue **queue, struct record *record);

/* Copies slices of the record to queues->tail, since writes end views; the body if it is whole. */
void job_keep_tail(struct queues *queues, struct record *record);

/*
 * Makes the job `from` into the job `to`, whose `state` and the rest are as they are to be; `list`
 * is filled in. Moves it from list to list, counts it, and writes it, or removes it where its state
 * is JOB_GONE or JOB_EXPIRED. STORE_CORRUPT where no job may go that way: a defect.
 */
int job_move(struct queues *queues, struct queue *queue, const struct record *from,
             struct record *to);

/* Adds a job in the state that it has. `queue`, `list` and `whole` are filled in. */
int job_add(struct queues *queues, struct queue *queue, struct record *record);

/* Removes the producer's id of a job that has ended, unless its window goes on. */
int job_end_dedup(struct queues *queues, const struct record *record, bool queue_exists);

/* Where a job goes that comes back at `at_ms`, if nothing delays it. */
enum job_state job_returns_to(const struct queue *queue, const struct record *record,
                              uint64_t at_ms);

/* Fills `job`; the lease is not shown. The body is the record's. */
void job_describe(const struct queue *queue, const struct record *record, struct job *job);

#endif
