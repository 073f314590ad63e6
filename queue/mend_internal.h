/*
 * What the files of the mender share: mend.c goes through the tables and has the queues,
 * mend_jobs.c visits jobs, places and windows, and both read and write by mend_state.c. Nobody else
 * includes this.
 */
#ifndef QUEUE_MEND_INTERNAL_H
#define QUEUE_MEND_INTERNAL_H

#include "queue/known.h"
#include "queue/mend.h"
#include "store/engine.h"

/* Ids, and numbers of queues and lists, are below; what is not makes no sense. See ids.c. */
#define MEND_IDS_END (UINT64_C(1) << 53)

/* What is counted of each queue, and told at the end. */
enum tally {
    LOST,      /* jobs of which a place or a record is there, and no body */
    RESTATED,  /* jobs whose record was lost: as their lists say */
    KEPT,      /* jobs whose list is not known */
    CORRECTED, /* jobs whose records contradict each other, or themselves */
    PLACED,    /* places that were missing */
    REMOVED,   /* places where no job is */
    DEDUPED,   /* ids of producers that were made again */
    NAMELESS,  /* 1: it had no name any more */
    TALLIES
};

struct mend {
    const struct store_mending *mending;
    queue_body_fn *is_body; /* NULL: any is */
    struct store_error *error;
    struct engine *state;
    struct known known;
    uint64_t next_id;           /* none that was seen is from here on */
    uint64_t id_limit;          /* as stored; 0: it is not */
    uint64_t lost_jobs;         /* of no queue that is known */
    uint64_t odd[STORE_TABLES]; /* entries that make no sense */
    uint64_t done;
    uint64_t total;
    uint8_t key[ENGINE_MAX_KEY];   /* of the entry that is visited */
    uint8_t tail[RECORD_MAX_TAIL]; /* of the job that is visited, since writes end views */
    struct buffer value;           /* a job with its body */
};

static inline bool is_id(uint64_t number)
{
    return number != 0 && number < MEND_IDS_END;
}

/* Notes that it is given out. */
void mend_note_id(struct mend *mend, uint64_t number);

/* Counts one, of that queue where it is known. */
void mend_tally(struct mend *mend, uint64_t queue, enum tally what);

/* Reading and writing. `there` false: it is absent. Views end with the next write. */
int mend_find(struct mend *mend, enum store_table table, struct slice key, struct slice *value,
              bool *there);
int mend_put(struct mend *mend, enum store_table table, struct slice key, struct slice value);
int mend_take_out(struct mend *mend, enum store_table table, struct slice key);

/* Takes out what makes no sense, and counts that. */
int mend_drop_odd(struct mend *mend, enum store_table table, struct slice key);

/* Fills in what the queue counts, where that is stored. */
int mend_load_counts(struct mend *mend, struct known_queue *queue);

/* The queue's list, a new one where it has none: that of the job which asks, or of a new number. */
uint64_t mend_list_of(struct mend *mend, struct known_queue *queue, enum list kind, uint64_t hint);

/* A queue of which there are jobs, and no name: it gets one that no other has. */
int mend_make_queue(struct mend *mend, uint64_t number);

/*
 * Visitors of all entries of a table: each may write; its value is a view until then, its key a
 * copy. In this order: places, for jobs of which it is lost what became of them; bodies; what
 * became of jobs; places again; ids of producers.
 */
int mend_visit_place_of_lost(struct mend *mend, struct slice key, struct slice none);
int mend_visit_job(struct mend *mend, struct slice key, struct slice value);
int mend_visit_moved(struct mend *mend, struct slice key, struct slice value);
int mend_visit_place(struct mend *mend, struct slice key, struct slice value);
int mend_visit_window(struct mend *mend, struct slice key, struct slice value);

#endif
