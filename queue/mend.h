/*
 * Queues whose tables have lost entries, made ones that work: for a directory that is being
 * salvaged (store/salvage.h), before it is one. Much of what queues keep follows from the rest of
 * it. So each thing has one place that is believed, and all else is made to agree with that:
 *
 *     what                       is believed        where that is lost
 *     a job, its body            STORE_BODIES       the job is lost, and said to be
 *     what became of a large one STORE_JOBS         the list that it is in says it, but a lease is
 *                                                   over; else it is as it was pushed
 *     its places, how many jobs  the job
 *     a queue's name, settings   STORE_QUEUES, 'n'  its jobs are in a queue "salvaged-NUMBER"
 *     that jobs were purged      STORE_QUEUES, 'x'  they are there again
 *     pushed, acked, expired     STORE_QUEUES, 'c'  they begin with the jobs that are there
 *     a producer's id            STORE_DEDUP        its place among the windows, or its job has it
 *     which ids are given out    STORE_QUEUES, 'i'  new ones are greater than all that are there
 *
 * Where two of these contradict each other the job is kept, and each job is there once. So a job
 * may be delivered once more than it would have been; none is lost whose body can be read, unless
 * all that is left of it says that it was purged. What purges and drops had left to be emptied is
 * emptied.
 *
 * It reads each table once, those of queues and of lists twice, with a few lookups for each entry,
 * and keeps nothing in memory but a line for each queue and for each list.
 */
#ifndef QUEUE_MEND_H
#define QUEUE_MEND_H

#include "queue/check.h"
#include "store/salvage.h"

/*
 * A mender for store_salvage. Tells what is lost and what was made again in a sentence for each
 * queue and kind of thing; nothing of a directory that is good. An error is what keeps it from
 * reading or writing: STORE_NO_MEMORY, STORE_IO, STORE_FULL, STORE_CORRUPT.
 */
int queues_mend(const struct store_mending *mending, struct store_error *error);

/* The same, and a job whose body `is_body` does not take is one that cannot be read. */
int queues_mend_bodies(const struct store_mending *mending, queue_body_fn *is_body,
                       struct store_error *error);

#endif
