/*
 * Waiters: the reserves and pops that wait for a job, in memory only. They stand in line at each
 * queue that they name, first come first served, and have a deadline. Nothing here knows sockets or
 * jobs: a client is some bytes, times are arguments, and whoever gives a waiter its jobs removes
 * it.
 *
 *     waiters_add                  a request found no job and is ready to wait
 *     waiters_first                whose turn it is, when a queue has got jobs
 *     waiters_due                  whose time is over
 *     waiters_find                 whom its client calls back
 *     waiters_connect              by which connection its client is there
 *     waiters_remove_connection    that has ended, and nobody is there to be answered
 *     waiters_remove               it is answered
 */
#ifndef QUEUE_WAITERS_H
#define QUEUE_WAITERS_H

#include "queue/queue.h"

/* The result of waiters_add where too many wait already; beside enum queue_code. */
enum { WAITERS_BUSY = QUEUE_LIMIT + 1 };

/* Names in all waits, for each wait that is allowed. */
enum { WAITERS_NAMES = 10 };

/* What was asked for, and by whom. */
struct wait {
    struct slice peer; /* opaque bytes that name the client */
    uint64_t msgid;
    bool empty_frame; /* of no meaning here: handed back as it was given */
    bool pop;
    uint32_t count;       /* jobs at most */
    uint64_t lease_ms;    /* 0: as the queue says */
    uint64_t deadline_ms; /* ms since 1970; QUEUE_FOREVER: none */
};

/* One who waits; a view, which lives until it is removed. */
struct waiter;

struct waiters;

/* `most`: how many may wait at once. NULL where memory is out. */
struct waiters *waiters_new(uint32_t most);
void waiters_free(struct waiters **waiters);

/*
 * Puts a waiter at the end of the line of each of these queues (at least one; a name that comes
 * twice counts once). Everything is copied. WAITERS_BUSY, STORE_NO_MEMORY: nobody waits.
 */
int waiters_add(struct waiters *waiters, const struct wait *wait, const struct slice *queues,
                size_t count);

/*
 * The first in line at the queue; one whose deadline is not later than `now_ms`, the earliest
 * first; one of this client with that msgid; who waits longest of all. NULL: there is none.
 */
struct waiter *waiters_first(const struct waiters *waiters, struct slice queue);
struct waiter *waiters_due(const struct waiters *waiters, uint64_t now_ms);
struct waiter *waiters_find(const struct waiters *waiters, struct slice peer, uint64_t msgid);
struct waiter *waiters_oldest(const struct waiters *waiters);

/* Who came next; NULL: nobody. */
struct waiter *waiters_newer(const struct waiter *waiter);

/*
 * The waiter's client is there by this connection, a number of no other meaning here, above 0. None
 * has one at first. The other removes all that have that one, at a cost that grows with them and
 * not with those who wait: how many.
 */
void waiters_connect(struct waiters *waiters, struct waiter *waiter, int connection);
uint32_t waiters_remove_connection(struct waiters *waiters, int connection);

const struct wait *waiter_wait(const struct waiter *waiter);

/* The queue number `index` of those that it named, in their order; `data` NULL behind the last. */
struct slice waiter_queue(const struct waiter *waiter, uint32_t index);

void waiters_remove(struct waiters *waiters, struct waiter *waiter);

/* How many wait, in all and at one queue; the earliest deadline, QUEUE_FOREVER: none. */
uint32_t waiters_count(const struct waiters *waiters);
uint32_t waiters_count_at(const struct waiters *waiters, struct slice queue);
uint64_t waiters_next_due(const struct waiters *waiters);

#endif
