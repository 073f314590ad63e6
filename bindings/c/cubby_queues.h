/*
 * Queues of jobs: a part of cubby.h, which includes it.
 *
 * A queue is a named list of jobs, made by its first push. A worker reserves a job, which leases
 * it for a time, and then acknowledges it, or gives it back (nack) or away (bury). A job whose
 * lease runs out is delivered again: whoever was late is told CUBBY_STALE_LEASE, and so is its
 * whole batch. Order is by priority (lower first), then by id; a job that returns goes to its own
 * place.
 *
 *     struct cubby_bytes queue = cubby_text("mail");
 *     struct cubby_reserve_options wait = {.wait_ms = CUBBY_FOREVER};
 *     struct cubby_jobs *jobs;
 *     while (cubby_queue_reserve(cubby, &queue, 1, &jobs, &wait) == CUBBY_OK) {
 *         …jobs->jobs[0].body…
 *         cubby_queue_ack(cubby, jobs->jobs[0].id, jobs->jobs[0].lease, NULL);
 *         cubby_jobs_free(&jobs);
 *     }
 *
 * To store a result and acknowledge in one transaction, all or nothing: cubby_batch_put and
 * cubby_batch_queue_ack in one batch.
 *
 * Names are 1 to 255 bytes. Bodies are values: one encoded MessagePack object each. The failures
 * that a function names are those with a meaning of their own; CUBBY_BAD_REQUEST, CUBBY_TIMEOUT
 * and the like may come from each.
 */
#ifndef CUBBY_QUEUES_H
#define CUBBY_QUEUES_H

#include "cubby.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Pushing -------------------------------------------------------------------------------- */

struct cubby_push_options {
    int64_t timeout_ms; /* 0: the handle's */
    uint64_t delay_ms;  /* ready this long after now; 0: at once */
    uint32_t priority;  /* lower first */
    bool has_ttl;       /* else the queue's */
    uint64_t ttl_ms;    /* never delivered later than this after now; CUBBY_NO_TTL: no limit */
    /*
     * 1 to 255 bytes that name this job among its queue's; NULL data: none. While such a job
     * exists, and within the queue's dedup window, another push adds nothing. So a push that
     * ended with CUBBY_TIMEOUT may be repeated.
     */
    struct cubby_bytes id;
};

struct cubby_pushed {
    uint64_t id;    /* the job's, unique in the daemon for ever */
    bool duplicate; /* it was there already: `id` is that one's, and nothing was added */
};

/* CUBBY_QUEUE_FULL where the queue's max_length is reached. */
CUBBY_API enum cubby_status cubby_queue_push(struct cubby *cubby, struct cubby_bytes queue,
                                             struct cubby_bytes body, struct cubby_pushed *pushed,
                                             const struct cubby_push_options *options);

/* ---- Reserving and popping ------------------------------------------------------------------ */

struct cubby_job {
    uint64_t id;
    struct cubby_bytes queue;
    struct cubby_bytes body; /* one encoded MessagePack object */
    uint64_t lease;          /* what the functions below ask for; 0 for a popped job, and so on */
    uint64_t deliveries;     /* this one included */
    uint64_t priority;
    uint64_t pushed_at_ms;
};

/* Jobs of one queue, maybe none. Owns its bytes; ended with cubby_jobs_free. */
struct cubby_jobs {
    const struct cubby_job *jobs;
    size_t count;
};

/* Sets *jobs to NULL; NULL is fine. */
CUBBY_API void cubby_jobs_free(struct cubby_jobs **jobs);

struct cubby_reserve_options {
    int64_t timeout_ms; /* for the answer, in addition to the wait; 0: the handle's */
    int64_t wait_ms;    /* for a job; 0: answers at once; CUBBY_FOREVER */
    uint32_t count;     /* at most so many, 1 to 1,000; 0: 1. Does not wait for all of them */
    uint64_t lease_ms;  /* 0: as the queue says. Not for cubby_queue_pop */
};

/*
 * Leases jobs of the first of these queues that has some, waiting where none has. No job in time
 * is CUBBY_OK with an empty `jobs`, which is made in any case and is the caller's to free; it must
 * not be NULL.
 *
 * A long wait is made of several requests of a few seconds each, so that a daemon that was killed
 * or a connection that was lost is noticed: CUBBY_TIMEOUT, and the program may call again at once,
 * with its request reaching the daemon when that is back. Where a reply was lost with its
 * connection, the job that was in it is delivered again when its lease runs out.
 * CUBBY_BUSY where too many wait already.
 */
CUBBY_API enum cubby_status cubby_queue_reserve(struct cubby *cubby,
                                                const struct cubby_bytes *queues,
                                                size_t queue_count, struct cubby_jobs **jobs,
                                                const struct cubby_reserve_options *options);

/* The same for jobs that are gone at once: what is lost on its way, with its connection or this
 * program, is lost. */
CUBBY_API enum cubby_status cubby_queue_pop(struct cubby *cubby, const struct cubby_bytes *queues,
                                            size_t queue_count, struct cubby_jobs **jobs,
                                            const struct cubby_reserve_options *options);

/* ---- With a job in hand --------------------------------------------------------------------- */

enum cubby_job_state {
    CUBBY_JOB_ANY, /* where a state is asked for: what is said there */
    CUBBY_JOB_READY,
    CUBBY_JOB_DELAYED,
    CUBBY_JOB_LEASED,
    CUBBY_JOB_DEAD,    /* failed too often, or buried; kept until kicked or removed */
    CUBBY_JOB_EXPIRED, /* of nack only: its ttl is over, it is gone */
};

/* "ready", "delayed" …, as the protocol has them; a static string. */
CUBBY_API const char *cubby_job_state_text(enum cubby_job_state state);

/*
 * Each of these is for the job that is leased with this token: CUBBY_STALE_LEASE where the job is
 * leased otherwise or not at all, CUBBY_NOT_FOUND where there is none. A lease that ran out is
 * good as long as nobody else got the job.
 */

/* Done: the job is gone. */
CUBBY_API enum cubby_status cubby_queue_ack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                            const struct cubby_call_options *options);

struct cubby_nack_options {
    int64_t timeout_ms;
    bool has_delay;           /* else the queue's retry_delay, doubled with each delivery */
    uint64_t delay_ms;        /* until it is ready again */
    struct cubby_bytes error; /* why: UTF-8, at most 1,024 bytes; NULL data: not said */
};

/* Failed: to be delivered again, or dead after the last delivery allowed. `state`: which. */
CUBBY_API enum cubby_status cubby_queue_nack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                             enum cubby_job_state *state,
                                             const struct cubby_nack_options *options);

/* The lease ends `ms` from now; `due_at_ms` says when that is, by the daemon's clock. */
CUBBY_API enum cubby_status cubby_queue_extend(struct cubby *cubby, uint64_t id, uint64_t lease,
                                               uint64_t ms, uint64_t *due_at_ms,
                                               const struct cubby_call_options *options);

/* Hopeless: dead at once. `error` as in cubby_nack_options. */
CUBBY_API enum cubby_status cubby_queue_bury(struct cubby *cubby, uint64_t id, uint64_t lease,
                                             struct cubby_bytes error,
                                             const struct cubby_call_options *options);

/* ---- Looking after queues ------------------------------------------------------------------- */

struct cubby_kick_options {
    int64_t timeout_ms;
    uint64_t id;    /* this dead or delayed job; 0: … */
    uint32_t count; /* … so many of the dead, in their order, 1 to 10,000; 0: 1 */
};

/* Makes jobs ready that are not, with their deliveries counted anew. `kicked`: how many. */
CUBBY_API enum cubby_status cubby_queue_kick(struct cubby *cubby, struct cubby_bytes queue,
                                             uint64_t *kicked,
                                             const struct cubby_kick_options *options);

/* Removes a job that nobody has; CUBBY_STALE_LEASE where it is leased. */
CUBBY_API enum cubby_status cubby_queue_delete(struct cubby *cubby, uint64_t id, bool *existed,
                                               const struct cubby_call_options *options);

struct cubby_job_row {
    uint64_t id;
    struct cubby_bytes queue;
    struct cubby_bytes body;
    enum cubby_job_state state;
    uint64_t priority;
    uint64_t deliveries;
    uint64_t pushed_at_ms;
    uint64_t due_at_ms;       /* when it is ready, or its lease ends; 0: neither */
    uint64_t expires_at_ms;   /* 0: never */
    struct cubby_bytes error; /* of the last nack or bury; NULL data: none */
    struct cubby_bytes at;    /* its place: the `after` of the next page */
};

/* Owns its bytes; ended with cubby_job_page_free. */
struct cubby_job_page {
    const struct cubby_job_row *rows;
    size_t count;
};

/* Sets *page to NULL; NULL is fine. */
CUBBY_API void cubby_job_page_free(struct cubby_job_page **page);

/* A page with one job, or with none where there is none. */
CUBBY_API enum cubby_status cubby_queue_job(struct cubby *cubby, uint64_t id,
                                            struct cubby_job_page **page,
                                            const struct cubby_call_options *options);

struct cubby_peek_options {
    int64_t timeout_ms;
    enum cubby_job_state state; /* CUBBY_JOB_ANY: ready */
    struct cubby_bytes after;   /* `at` of the last row seen; NULL data: from the first */
    uint32_t limit;             /* 1 to 1,000; 0: 100. A page also ends at about 1 MiB */
};

/* Jobs of one state, in order: ready and dead by (priority, id), the others by when they are due.
 * The end is where a page is empty. */
CUBBY_API enum cubby_status cubby_queue_peek(struct cubby *cubby, struct cubby_bytes queue,
                                             struct cubby_job_page **page,
                                             const struct cubby_peek_options *options);

struct cubby_queue_counts {
    uint64_t ready, leased, delayed, dead;
    uint64_t waiters;
    uint64_t pushed, acked, expired; /* in all, also over restarts */
    bool has_oldest;                 /* a job is ready */
    uint64_t oldest_age_ms;          /* since the oldest ready one was pushed */
    bool paused;
    struct cubby_bytes map; /* all that the daemon says, for cubby_map_find */
};

/* CUBBY_NOT_FOUND where there is no such queue. */
CUBBY_API enum cubby_status cubby_queue_stats(struct cubby *cubby, struct cubby_bytes queue,
                                              struct cubby_queue_counts *stats,
                                              const struct cubby_call_options *options);

/* Names of queues, in order. Owns its bytes; ended with cubby_names_free. */
struct cubby_names {
    const struct cubby_bytes *names;
    size_t count;
};

CUBBY_API void cubby_names_free(struct cubby_names **names);

struct cubby_list_options {
    int64_t timeout_ms;
    struct cubby_bytes prefix;
    struct cubby_bytes after; /* names behind this one */
    uint32_t limit;           /* 1 to 10,000; 0: 1,000 */
};

/* The end is where the list is empty. */
CUBBY_API enum cubby_status cubby_queue_list(struct cubby *cubby, struct cubby_names **names,
                                             const struct cubby_list_options *options);

struct cubby_queue_settings {
    uint64_t lease_ms;
    uint64_t max_deliveries; /* 0: no limit */
    uint64_t max_length;     /* ready, delayed and leased jobs; 0: no limit */
    uint64_t retry_delay_ms;
    uint64_t ttl_ms; /* of jobs pushed without one; CUBBY_NO_TTL: none */
    uint64_t dedup_window_ms;
};

/* Which settings are to be set: bits of cubby_configure_options.set. */
enum cubby_setting {
    CUBBY_SET_LEASE = 1 << 0,
    CUBBY_SET_MAX_DELIVERIES = 1 << 1,
    CUBBY_SET_MAX_LENGTH = 1 << 2,
    CUBBY_SET_RETRY_DELAY = 1 << 3,
    CUBBY_SET_TTL = 1 << 4,
    CUBBY_SET_DEDUP_WINDOW = 1 << 5,
};

struct cubby_configure_options {
    int64_t timeout_ms;
    unsigned set; /* 0: none, only reads */
    struct cubby_queue_settings to;
};

/* `now`: all settings as they are then. They hold for what comes after. Makes the queue where
 * there is none, unless it only reads: CUBBY_NOT_FOUND. */
CUBBY_API enum cubby_status cubby_queue_configure(struct cubby *cubby, struct cubby_bytes queue,
                                                  struct cubby_queue_settings *now,
                                                  const struct cubby_configure_options *options);

/* Delivers nothing for `ms`, or until resumed (CUBBY_FOREVER). */
CUBBY_API enum cubby_status cubby_queue_pause(struct cubby *cubby, struct cubby_bytes queue,
                                              int64_t ms, const struct cubby_call_options *options);

/* CUBBY_NOT_FOUND where there is no such queue. */
CUBBY_API enum cubby_status cubby_queue_resume(struct cubby *cubby, struct cubby_bytes queue,
                                               const struct cubby_call_options *options);

/* Removes all jobs that are ready, delayed or dead (CUBBY_JOB_ANY: all of those three). */
CUBBY_API enum cubby_status cubby_queue_purge(struct cubby *cubby, struct cubby_bytes queue,
                                              enum cubby_job_state state, uint64_t *removed,
                                              const struct cubby_call_options *options);

/* Removes a queue with its jobs, leased ones too, and its settings. */
CUBBY_API enum cubby_status cubby_queue_drop(struct cubby *cubby, struct cubby_bytes queue,
                                             bool *existed,
                                             const struct cubby_call_options *options);

/* ---- In batches ----------------------------------------------------------------------------- */

/* As the functions above, and as the others of cubby.h that add to a batch. A reserve or pop in a
 * batch does not wait: wait_ms is not read. It sees the batch's own pushes. */
CUBBY_API size_t cubby_batch_queue_push(struct cubby_batch *batch, struct cubby_bytes queue,
                                        struct cubby_bytes body,
                                        const struct cubby_push_options *options);
CUBBY_API size_t cubby_batch_queue_reserve(struct cubby_batch *batch,
                                           const struct cubby_bytes *queues, size_t queue_count,
                                           const struct cubby_reserve_options *options);
CUBBY_API size_t cubby_batch_queue_pop(struct cubby_batch *batch, const struct cubby_bytes *queues,
                                       size_t queue_count,
                                       const struct cubby_reserve_options *options);
CUBBY_API size_t cubby_batch_queue_ack(struct cubby_batch *batch, uint64_t id, uint64_t lease);
CUBBY_API size_t cubby_batch_queue_nack(struct cubby_batch *batch, uint64_t id, uint64_t lease,
                                        const struct cubby_nack_options *options);
CUBBY_API size_t cubby_batch_queue_extend(struct cubby_batch *batch, uint64_t id, uint64_t lease,
                                          uint64_t ms);
CUBBY_API size_t cubby_batch_queue_bury(struct cubby_batch *batch, uint64_t id, uint64_t lease,
                                        struct cubby_bytes error);
CUBBY_API size_t cubby_batch_queue_kick(struct cubby_batch *batch, struct cubby_bytes queue,
                                        const struct cubby_kick_options *options);
CUBBY_API size_t cubby_batch_queue_delete(struct cubby_batch *batch, uint64_t id);
CUBBY_API size_t cubby_batch_queue_job(struct cubby_batch *batch, uint64_t id);
CUBBY_API size_t cubby_batch_queue_peek(struct cubby_batch *batch, struct cubby_bytes queue,
                                        const struct cubby_peek_options *options);
CUBBY_API size_t cubby_batch_queue_configure(struct cubby_batch *batch, struct cubby_bytes queue,
                                             const struct cubby_configure_options *options);
CUBBY_API size_t cubby_batch_queue_pause(struct cubby_batch *batch, struct cubby_bytes queue,
                                         int64_t ms);
CUBBY_API size_t cubby_batch_queue_resume(struct cubby_batch *batch, struct cubby_bytes queue);
CUBBY_API size_t cubby_batch_queue_purge(struct cubby_batch *batch, struct cubby_bytes queue,
                                         enum cubby_job_state state);
CUBBY_API size_t cubby_batch_queue_drop(struct cubby_batch *batch, struct cubby_bytes queue);

/* ---- Results -------------------------------------------------------------------------------- */

/*
 * As the others of cubby.h. What ack, bury, pause and resume return says nothing; delete and drop
 * are read by cubby_read_touched, extend, kick and purge by cubby_read_count.
 */
CUBBY_API enum cubby_status cubby_read_pushed(struct cubby_bytes result,
                                              struct cubby_pushed *pushed);
CUBBY_API enum cubby_status cubby_read_jobs(struct cubby_bytes result, struct cubby_jobs **jobs);
CUBBY_API enum cubby_status cubby_read_nacked(struct cubby_bytes result,
                                              enum cubby_job_state *state);
CUBBY_API enum cubby_status cubby_read_job_page(struct cubby_bytes result, /* of job and peek */
                                                struct cubby_job_page **page);
CUBBY_API enum cubby_status cubby_read_queue_stats(struct cubby_bytes result,
                                                   struct cubby_queue_counts *stats);
CUBBY_API enum cubby_status cubby_read_queue_settings(struct cubby_bytes result,
                                                      struct cubby_queue_settings *settings);
CUBBY_API enum cubby_status cubby_read_names(struct cubby_bytes result, struct cubby_names **names);

/* ---- Many requests at once ------------------------------------------------------------------ */

/*
 * As the others of cubby.h. A wait is one request here: renew it when it is answered with an empty
 * array, and prefer several of a few seconds to CUBBY_FOREVER, which does not notice that the
 * daemon has forgotten it. `request`, where not NULL, is what cubby_queue_cancel takes.
 */
CUBBY_API enum cubby_status cubby_send_queue_push(struct cubby *cubby, struct cubby_bytes queue,
                                                  struct cubby_bytes body, cubby_callback *callback,
                                                  void *context,
                                                  const struct cubby_push_options *options);
CUBBY_API enum cubby_status cubby_send_queue_reserve(struct cubby *cubby,
                                                     const struct cubby_bytes *queues,
                                                     size_t queue_count, cubby_callback *callback,
                                                     void *context, uint64_t *request,
                                                     const struct cubby_reserve_options *options);
CUBBY_API enum cubby_status cubby_send_queue_pop(struct cubby *cubby,
                                                 const struct cubby_bytes *queues,
                                                 size_t queue_count, cubby_callback *callback,
                                                 void *context, uint64_t *request,
                                                 const struct cubby_reserve_options *options);
CUBBY_API enum cubby_status cubby_send_queue_ack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                                 cubby_callback *callback, void *context,
                                                 const struct cubby_call_options *options);
CUBBY_API enum cubby_status cubby_send_queue_nack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                                  cubby_callback *callback, void *context,
                                                  const struct cubby_nack_options *options);
CUBBY_API enum cubby_status cubby_send_queue_extend(struct cubby *cubby, uint64_t id,
                                                    uint64_t lease, uint64_t ms,
                                                    cubby_callback *callback, void *context,
                                                    const struct cubby_call_options *options);

/*
 * Ends a wait that was sent with the functions above: its callback runs first, mostly with an
 * empty array, and with jobs where they were on their way. CUBBY_NOT_FOUND where it is over.
 */
CUBBY_API enum cubby_status cubby_queue_cancel(struct cubby *cubby, uint64_t request,
                                               const struct cubby_call_options *options);

/* ---- Announcements -------------------------------------------------------------------------- */

/* Each lives during the callback, which may do what a cubby_callback may. */
struct cubby_queue_subscriber {
    /*
     * A transaction brought ready jobs to a queue that had none, even if a worker that waited took
     * them; or a pause ended while there were some. `seq` is the newest as of it.
     */
    void (*on_ready)(void *context, struct cubby_bytes queue, uint64_t seq);
    /*
     * Announcements may have been missed: look at the queues that matter. So it is once connected,
     * or connected again, when the daemon says that it dropped messages or says nothing for three
     * seconds. What was missed is told by nobody. NULL: not told.
     */
    void (*on_missed)(void *context);
};

/*
 * Hears of all queues whose name begins with `prefix`, on the broadcast, in cubby_poll and in the
 * functions that wait. It takes no jobs: to wait for one, reserve with wait_ms. *subscription may
 * be NULL; it is ended by cubby_unsubscribe or with the handle. Never blocks. CUBBY_NO_MEMORY;
 * CUBBY_MISUSE without on_ready; CUBBY_TOO_LARGE where no name can have the prefix.
 */
CUBBY_API enum cubby_status cubby_subscribe_queues(struct cubby *cubby, struct cubby_bytes prefix,
                                                   const struct cubby_queue_subscriber *subscriber,
                                                   void *context,
                                                   struct cubby_subscription **subscription);

#ifdef __cplusplus
}
#endif

#endif
