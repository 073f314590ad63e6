/*
 * What queues keep in the store's tables, and how it is encoded. Nothing outside of queue/ reads
 * it. Numbers in keys are big endian, so that their order is that of the bytes; numbers in values
 * are little endian. Every value begins with a byte for its format. To change one, give it the next
 * number and read both.
 *
 *     table         key                             value
 *     STORE_QUEUES  'c' + number of a queue         what it counts            (record_put_counts)
 *                   'i'                             ids that are reserved     (record_put_ids)
 *                   'n' + name of a queue           its number, lists and settings (…_queue)
 *                   'x' + list                      a list that is to be emptied   (…_leftover)
 *     STORE_BODIES  job id                          a small job, as it is now, with its body
 *                                                   a larger one, as it was pushed, with its body
 *     STORE_JOBS    job id                          a larger one, as it is now, once it has moved
 *     STORE_LISTS   list, order, job id             empty; in LIST_WINDOWS the producer's id
 *     STORE_DEDUP   number of a queue, producer's id   job id, end of window       (…_window)
 *
 * Lists and queues have numbers from the same source as jobs, so that none ever returns.
 */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include "queue/queue.h"

/*
 * The lists of a queue. The first ones are those of the states, whose order is (priority, id) or
 * (due, id). The others are there for what has a time or another order besides.
 */
enum list {
    LIST_READY = JOB_READY,
    LIST_DELAYED = JOB_DELAYED,
    LIST_LEASED = JOB_LEASED,
    LIST_DEAD = JOB_DEAD,
    LIST_EXPIRING = JOB_STATES, /* ready and delayed jobs that have a ttl, by its end */
    LIST_WINDOWS,               /* dedup windows by their end, also of jobs that are gone */
    LIST_RANKED,                /* ready jobs of another priority than 0, by id: by age */
    LISTS
};

/* Where something is in a list. */
struct place {
    uint64_t order;
    uint64_t id;
};

/* A job, as it is stored. */
struct record {
    uint64_t id;
    bool whole;     /* small: one entry, which is written over when it moves */
    bool moved;     /* not whole, and moved since it was pushed: it has an entry in STORE_JOBS */
    uint64_t queue; /* its number */
    uint64_t list;  /* it is gone where this is not the queue's list for its state */
    uint64_t pushed_at_ms;
    uint64_t lease;         /* 0: none; it may still be good where the job is ready or dead */
    uint64_t due_at_ms;     /* delayed and leased; else 0 */
    uint64_t expires_at_ms; /* 0: never */
    uint32_t priority;
    uint32_t deliveries;
    enum job_state state;
    struct slice error;
    struct slice dedup;
    struct slice body;
};

/*
 * Whether a job that is as the record says has an entry in the list of that kind, and where. Not
 * for LIST_WINDOWS, whose entries are not of jobs.
 */
bool record_is_in(const struct record *record, enum list list, struct place *place);

/* What a queue is, in 'n'. */
struct queue_fields {
    uint64_t number;
    uint64_t lists[LISTS];
    uint64_t paused_until_ms; /* 0: not paused */
    struct queue_settings settings;
};

/* What it counts, in 'c'. */
struct queue_counts {
    uint64_t jobs[JOB_STATES];
    uint64_t pushed;
    uint64_t acked;
    uint64_t expired;
};

enum {
    RECORD_NUMBER_SIZE = 8,
    RECORD_LIST_KEY_SIZE = 3 * RECORD_NUMBER_SIZE,
    RECORD_MAX_KEY = 1 + QUEUE_MAX_NAME,
    RECORD_MAX_DEDUP_KEY = RECORD_NUMBER_SIZE + QUEUE_MAX_DEDUP_ID,
    RECORD_MAX_WHOLE = 256, /* bytes of a small job's value as it is pushed */
    RECORD_MAX_TAIL = QUEUE_MAX_ERROR + QUEUE_MAX_DEDUP_ID + RECORD_MAX_WHOLE,
    RECORD_MAX_JOB = 64 + RECORD_MAX_TAIL, /* all but a large body */
    RECORD_MAX_VALUE = 128,                /* of a queue, counts, a window, ids without the epoch */
};

/* Keys, written to `buffer`: slices of it. */
struct slice record_id_key(uint8_t buffer[RECORD_NUMBER_SIZE], uint64_t id);
struct slice record_list_key(uint8_t buffer[RECORD_LIST_KEY_SIZE], uint64_t list,
                             struct place place);
struct slice record_name_key(uint8_t buffer[RECORD_MAX_KEY], struct slice name);
struct slice record_number_key(uint8_t buffer[RECORD_MAX_KEY], char kind, uint64_t number);
struct slice record_dedup_key(uint8_t buffer[RECORD_MAX_DEDUP_KEY], uint64_t queue,
                              struct slice dedup);

/* False where the key is not of that list. */
bool record_read_list_key(struct slice key, uint64_t list, struct place *place);

/* The same for a key of any list; of a job; of a producer's id. False where it is none. */
bool record_read_place(struct slice key, uint64_t *list, struct place *place);
bool record_read_id_key(struct slice key, uint64_t *id);
bool record_read_dedup_key(struct slice key, uint64_t *queue, struct slice *dedup);

/* The name in the key, a view of it, or false. */
bool record_read_name_key(struct slice key, struct slice *name);

/* The number in a key of that kind, or false. */
bool record_read_number_key(struct slice key, char kind, uint64_t *number);

/*
 * Values, written to `buffer`: slices of it. Of a job with its body the body is to follow, and
 * where that is large `error` is none; of ids the epoch is to follow.
 */
struct slice record_write_job(uint8_t buffer[RECORD_MAX_JOB], const struct record *record,
                              struct slice error);
struct slice record_write_queue(uint8_t buffer[RECORD_MAX_VALUE],
                                const struct queue_fields *fields);
struct slice record_write_counts(uint8_t buffer[RECORD_MAX_VALUE],
                                 const struct queue_counts *counts);
struct slice record_write_window(uint8_t buffer[RECORD_MAX_VALUE], uint64_t id, uint64_t end_ms);
struct slice record_write_ids(uint8_t buffer[RECORD_MAX_VALUE], uint64_t limit);

/*
 * Each of these writes or reads one value of a store. Reading gives what store_get does,
 * STORE_CORRUPT where the value makes no sense. Slices in a record are views from the store.
 *
 * A job as it is now. What is put of one that is not whole is all but its body.
 */
int record_put_job(struct store *store, const struct record *record);
int record_get_job(struct store *store, uint64_t id, struct record *record);

/* A value of either table of jobs; `moved` is left alone. `body`: what is behind all else. */
int record_read_job(struct slice value, struct record *record);

/* A job as it is pushed, whose `whole` is filled in. If it is not whole its error is left out. */
int record_put_pushed(struct store *store, struct record *record);
int record_get_body(struct store *store, uint64_t id, struct slice *body);

/* Deletes all of the job that is not in lists or windows. */
int record_delete_job(struct store *store, const struct record *record);

int record_put_queue(struct store *store, struct slice name, const struct queue_fields *fields);
int record_read_queue(struct slice value, struct queue_fields *fields);

int record_put_counts(struct store *store, uint64_t number, const struct queue_counts *counts);
int record_get_counts(struct store *store, uint64_t number, struct queue_counts *counts);
int record_read_counts(struct slice value, struct queue_counts *counts);

int record_put_window(struct store *store, uint64_t queue, struct slice dedup, uint64_t id,
                      uint64_t end_ms);
int record_get_window(struct store *store, uint64_t queue, struct slice dedup, uint64_t *id,
                      uint64_t *end_ms);
int record_read_window(struct slice value, uint64_t *id, uint64_t *end_ms);
int record_delete_window(struct store *store, uint64_t queue, struct slice dedup);

/* A list that a purge or a drop left behind: what kind it is, and whose it was. */
int record_put_leftover(struct store *store, uint64_t list, enum list kind, uint64_t queue);
int record_read_leftover(struct slice value, enum list *kind, uint64_t *queue);

/* Ids below `limit` may have been given out, by a store of this epoch. */
int record_put_ids(struct store *store, uint64_t limit, struct slice epoch);
int record_get_ids(struct store *store, uint64_t *limit, struct slice *epoch);
int record_read_ids(struct slice value, uint64_t *limit, struct slice *epoch);

#endif
