/*
 * Queues: named lists of jobs in the store's ordered tables, so that a queue's transaction is the
 * store's, together with keys, and a million waiting jobs need no memory but the engine's. Nothing
 * here knows sockets, MessagePack or clocks: bodies are bytes, times are arguments.
 *
 *     push -------> ready --take--> leased --ack--> gone
 *       |             ^               |
 *       +-> delayed --+ when due      +-> ready, in its own place: the lease ran out; nack
 *                     |               +-> delayed: nack, for a while
 *                     |               +-> dead: bury, or the delivery was the last one allowed
 *                     +---- kick -------- dead
 *
 * Order is (priority, id). A job that returns goes to its own place.
 *
 * How a daemon uses it, in each turn:
 *
 *     queues_expire(queues, now_ms, &more)   transactions of its own: leases, delays, ttls, pauses
 *     store_begin(store, now_ms)
 *     queue_push, queue_take, queue_ack ...  what a request asks for
 *     store_end, queues_end(queues)          or: store_cancel, queues_cancel(queues)
 *     queues_awoken(queues, each, context)   who waits gets jobs, in transactions of their own
 *     queues_save(queues, now_ms)            counts, in the last transaction of the turn
 *     store_commit                           or: store_abandon, queues_abandon(queues)
 *
 * What a queue counts is kept in memory during a turn and written once, by queues_save. That is as
 * exact as writing it with each job, since a turn reaches the disk whole or not at all.
 *
 * Views (names, bodies, errors that are handed out) live until the next write to the store or to a
 * queue, or the end of the turn. Every function that changes something is called inside a
 * transaction, and may return, besides what it names: STORE_FULL, STORE_NO_MEMORY, STORE_IO,
 * STORE_CORRUPT, as store_put does, and STORE_INVALID where an argument is over its limit. Where
 * one of these is returned the transaction is to be cancelled; after the others, which have changed
 * nothing, it may go on.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "store/store.h"

/* Results besides those of the store (enum store_code). */
enum queue_code {
    QUEUE_STALE_LEASE = 100, /* the job exists, but the lease is not, or no longer, its own */
    QUEUE_LIMIT,             /* max_length is reached */
};

enum {
    QUEUE_MAX_NAME = 255,
    QUEUE_MAX_DEDUP_ID = 256, /* a kind byte and up to 255 bytes */
    QUEUE_MAX_ERROR = 1024,
    QUEUE_MAX_EXPIRED = 250,           /* jobs that one transaction of queues_expire moves */
    QUEUE_MAX_PASSED = 1000,           /* jobs that are not to be delivered that a take passes */
    QUEUE_MAX_RETRY_DELAY_MS = 300000, /* of doubled retry delays, unless the first is longer */
    QUEUE_FOREIGN_BLOCKS = 1000,       /* of ids, that are left out in another epoch: see ids.c */
    QUEUE_DEFAULT_LEASE_MS = 30000,
    QUEUE_DEFAULT_MAX_DELIVERIES = 20,
    QUEUE_DEFAULT_RETRY_DELAY_MS = 1000,
    QUEUE_DEFAULT_DEDUP_WINDOW_MS = 300000,
};

#define QUEUE_FOREVER UINT64_MAX /* a time that never comes, a duration without end */

/*
 * States, and `expired` and `gone` for a job that left. Their numbers are in the store. READY and
 * DEAD are in order of (priority, id), DELAYED and LEASED of (due, id).
 */
enum job_state { JOB_READY, JOB_DELAYED, JOB_LEASED, JOB_DEAD, JOB_STATES, JOB_EXPIRED, JOB_GONE };

/* What `queue.configure` sets. */
struct queue_settings {
    uint64_t lease_ms;       /* at least 1 */
    uint64_t max_deliveries; /* 0: no limit */
    uint64_t max_length;     /* ready, delayed and leased jobs; 0: no limit */
    uint64_t retry_delay_ms; /* doubled with each delivery; 0: ready at once */
    uint64_t ttl_ms;         /* of jobs pushed without one; QUEUE_FOREVER: none */
    uint64_t dedup_window_ms;
};

struct queue_stats {
    uint64_t jobs[JOB_STATES]; /* how many are in each state, now */
    uint64_t pushed;           /* in all, also over restarts */
    uint64_t acked;            /* and popped */
    uint64_t expired;          /* by ttl */
    uint64_t oldest_ready_ms;  /* when the oldest ready job was pushed; QUEUE_FOREVER: none is */
    uint64_t paused_until_ms;  /* 0: not paused; QUEUE_FOREVER: until resumed */
};

/* A job, as `queue.peek` shows it. */
struct job {
    uint64_t id;
    struct slice queue; /* its name */
    struct slice body;
    enum job_state state;
    uint64_t lease; /* the token, where leased */
    uint64_t priority;
    uint64_t deliveries;
    uint64_t pushed_at_ms;
    uint64_t due_at_ms;     /* when due or when the lease ends; 0: neither */
    uint64_t expires_at_ms; /* 0: never */
    struct slice error;     /* data NULL: none */
    struct slice dedup;     /* likewise: the kind of the producer's id and its bytes */
};

struct queues;

/*
 * The queues of a store, which outlives them. Reserves ids and tokens and makes that durable, so
 * that none is ever given out twice. Reads the settings and counts of each queue, and no job. Where
 * no transaction is open and nothing is pending. `error` says in a line what went wrong.
 */
int queues_open(struct queues **queues, struct store *store, uint64_t now_ms,
                struct store_error *error);
void queues_close(struct queues **queues);

/* The transaction ended; was cancelled; all that was not committed was abandoned. */
void queues_end(struct queues *queues);
void queues_cancel(struct queues *queues);
void queues_abandon(struct queues *queues);

/*
 * Writes what the queues of this turn count, in a transaction. Right before store_commit: what
 * comes after it belongs to the next turn. Costs nothing where nothing was counted, unless ids run
 * short, of which it reserves more.
 */
int queues_save(struct queues *queues, uint64_t now_ms);

/*
 * When something is due next, ms since 1970: a lease, a delay, a ttl, the end of a pause or of a
 * dedup window; 0 while there is something left of purged or dropped queues; UINT64_MAX: never. It
 * may be too early, of a job that has been acknowledged since: then queues_expire finds out. It is
 * never too late, but where the disk was full: then it is tried again after a second.
 */
uint64_t queues_next_due(struct queues *queues);

/*
 * Carries out what is due at `now_ms`: at most QUEUE_MAX_EXPIRED jobs, in one transaction of its
 * own. `more`: whether something is still due.
 */
int queues_expire(struct queues *queues, uint64_t now_ms, bool *more);

/*
 * The queues that got ready jobs where they had none, or whose pause ended with ready jobs, since
 * the last call: calls `each` for every one, once. Where no transaction is open. For announcements
 * and for waiters.
 */
void queues_awoken(struct queues *queues, void (*each)(void *context, struct slice queue),
                   void *context);

struct push_options {
    uint64_t delay_ms;
    uint64_t priority;  /* 0 to 2^32-1 */
    struct slice dedup; /* data NULL: none; else a byte for its kind ('b', 'i'), and the id */
    bool ttl_given;     /* else the queue's */
    uint64_t ttl_ms;    /* QUEUE_FOREVER: none */
};

/*
 * Adds a job, and makes the queue where there is none. Where a job with the same dedup id exists,
 * or its window lasts, adds nothing and gives that job's id, `duplicate` true. QUEUE_LIMIT.
 */
int queue_push(struct queues *queues, struct slice queue, struct slice body,
               const struct push_options *options, uint64_t *id, bool *duplicate);

/*
 * Takes the queue's head: leases it for `lease_ms` (0: as the queue says), or with `pop` removes
 * it. STORE_NOT_FOUND where no job is ready, the queue is paused, or there is none. A ready job
 * that was delivered too often goes to dead here, one whose ttl is over goes away, and the next is
 * tried; that has happened also where STORE_NOT_FOUND comes of it.
 */
int queue_take(struct queues *queues, struct slice queue, bool pop, uint64_t lease_ms,
               struct job *job);

/*
 * Gives back a job that queue_take handed out and that could not be delivered, as if it had not
 * been taken: uncounted, to its own place; a popped one is written again. Nothing happens where the
 * lease is no longer its own. `job` is as queue_take filled it, with views that still live.
 */
int queue_give_back(struct queues *queues, const struct job *job);

/*
 * For the job that the token leases. STORE_NOT_FOUND: there is no such job; QUEUE_STALE_LEASE. A
 * lease that ran out is good until somebody else has the job, or it was nacked, buried or kicked.
 */
int queue_ack(struct queues *queues, uint64_t id, uint64_t lease);
int queue_bury(struct queues *queues, uint64_t id, uint64_t lease, const struct slice *error);
int queue_extend(struct queues *queues, uint64_t id, uint64_t lease, uint64_t lease_ms,
                 uint64_t *due_at_ms);

/* `delay_ms` NULL: the queue's retry delay. `error` NULL: what it was. `state`: where it went. */
int queue_nack(struct queues *queues, uint64_t id, uint64_t lease, const uint64_t *delay_ms,
               const struct slice *error, enum job_state *state);

/*
 * Makes dead jobs ready, `count` at most, in their order; or the one dead or delayed job (`id`
 * other than 0). `kicked`: how many.
 */
int queue_kick(struct queues *queues, struct slice queue, uint64_t id, uint64_t count,
               uint64_t *kicked);

/* `existed` false: there was none. QUEUE_STALE_LEASE where it is leased. */
int queue_delete(struct queues *queues, uint64_t id, bool *existed);

/* STORE_NOT_FOUND. Outside of transactions too. */
int queue_job(struct queues *queues, uint64_t id, struct job *job);

/*
 * The jobs in one state, in order. `after`: the place of the job to go on behind, from queue_place;
 * empty: from the first. STORE_NOT_FOUND behind the last. `job->body` is a view.
 */
enum { QUEUE_PLACE_SIZE = 16 };
int queue_peek(struct queues *queues, struct slice queue, enum job_state state, struct slice after,
               struct job *job);
void queue_place(const struct job *job, uint8_t place[QUEUE_PLACE_SIZE]);

/* STORE_NOT_FOUND where there is no such queue. */
int queue_stats(struct queues *queues, struct slice queue, struct queue_stats *stats);
int queue_settings(struct queues *queues, struct slice queue, struct queue_settings *settings);

/* Makes the queue where there is none. Holds for what comes after. */
int queue_configure(struct queues *queues, struct slice queue,
                    const struct queue_settings *settings);

/* `until_ms`: QUEUE_FOREVER: until resumed; not later than now: resumes. Makes the queue. */
int queue_pause(struct queues *queues, struct slice queue, uint64_t until_ms);

/*
 * Removes all jobs of a state (JOB_READY, JOB_DELAYED or JOB_DEAD), at once for everybody, at a
 * cost that does not depend on how many they are: queues_expire takes them off the disk bit by bit.
 * Their dedup windows last. `removed`: 0 where there is no such queue.
 */
int queue_purge(struct queues *queues, struct slice queue, enum job_state state, uint64_t *removed);

/* Removes the queue with all that it has, leased jobs and windows too, likewise. */
int queue_drop(struct queues *queues, struct slice queue, bool *existed);

/* The first name > `after` (empty: the first of all). STORE_NOT_FOUND behind the last. */
int queue_next_name(struct queues *queues, struct slice after, struct slice *name);

#endif
