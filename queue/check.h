/*
 * Whether what queues keep adds up: for directories that nobody serves. Every entry of the queues'
 * tables has to be one that the code here writes, and those that say the same thing twice have to
 * agree: each place in a list with the job that is there, each job with its places, its producer's
 * id with the window, what a queue counts with what is in its lists.
 *
 * An examiner for store_inspect (store/inspect.h). It reads each table once, that of queues twice,
 * with two lookups or three for each entry, and keeps nothing in memory but a line for each queue
 * and for each list.
 */
#ifndef QUEUE_CHECK_H
#define QUEUE_CHECK_H

#include "store/inspect.h"

/*
 * Tells each thing that is wrong in a sentence that names table, queue and job. An error is only
 * what keeps it from reading: STORE_NO_MEMORY, STORE_IO, STORE_CORRUPT.
 */
int queues_check(const struct store_examination *examination, struct store_error *error);

/* What a body has to be is for others to say; a reply that hands out another one is malformed. */
typedef bool queue_body_fn(struct slice body);

/* The same, and each body has to be one that `is_body` takes. */
int queues_check_bodies(const struct store_examination *examination, queue_body_fn *is_body,
                        struct store_error *error);

#endif
