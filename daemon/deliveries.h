/*
 * Deliveries: the jobs that the replies of a turn hand out, until it is known that these could be
 * sent. The jobs of a reply whose peer has left go back to their queues. Each delivery has a tag,
 * other than 0, which goes with its reply.
 *
 * Starts as all zeros. What is kept of a job is copied, and only as much as giving it back needs.
 */
#ifndef DAEMON_DELIVERIES_H
#define DAEMON_DELIVERIES_H

#include "queue/queue.h"

struct delivered;

struct deliveries {
    struct delivered *jobs;
    size_t count;
    size_t capacity;
    struct buffer bytes; /* of popped jobs */
    uint64_t *returned;  /* tags */
    size_t returned_count;
    size_t returned_capacity;
};

void deliveries_free(struct deliveries *deliveries);

/* The tag for the jobs that are added next. */
uint64_t deliveries_begin(const struct deliveries *deliveries);

/* Adds a job to the delivery. False where memory was out: it will not come back. */
bool deliveries_add(struct deliveries *deliveries, uint64_t tag, const struct job *job);

/* Forgets this delivery, the last one. */
void deliveries_take_back(struct deliveries *deliveries, uint64_t tag);

/* The reply with this tag could not be sent. */
void deliveries_return(struct deliveries *deliveries, uint64_t tag);

/* Gives back all jobs of the returned deliveries, each delivery in a transaction: how many. */
size_t deliveries_give_back(struct deliveries *deliveries, struct queues *queues,
                            struct store *store, uint64_t now_ms);

/* Forgets all: a new turn begins, or this one came to nothing. */
void deliveries_clear(struct deliveries *deliveries);

#endif
