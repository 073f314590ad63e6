/*
 * The queues of a directory that nobody serves, and their lists, by number: what check.c and mend.c
 * read first, and keep in memory. Used inside of queue/ alone.
 *
 *     known_add_queue(&known, name, &fields);      each one that is stored
 *     known_add_left(&known, number, kind, queue);
 *     known_sort(&known);
 *     known_queue(&known, 100);                    from here on
 *
 * Begins as all zeros. Where memory is out `known_failed` says so, once, at the end. A pointer
 * lives until something is added.
 */
#ifndef QUEUE_KNOWN_H
#define QUEUE_KNOWN_H

#include "queue/record.h"

enum { KNOWN_TALLIES = 8 };

struct known_queue {
    uint64_t number;
    size_t name_at; /* in known.names */
    size_t name_size;
    struct queue_fields fields;
    struct queue_counts counts; /* as stored; zeros where they are not: */
    bool counted;
    uint64_t found[JOB_STATES];      /* jobs in each state, for whoever counts them */
    uint64_t tallies[KNOWN_TALLIES]; /* of mend.c */
    bool changed;                    /* likewise: fields are to be written */
};

/* A list, of a queue or left behind by a purge or drop. */
struct known_list {
    uint64_t number;
    uint64_t queue;
    enum list kind;
    bool left;
};

struct known {
    struct buffer queues; /* of struct known_queue */
    struct buffer lists;  /* of struct known_list */
    struct buffer names;
};

void known_free(struct known *known);
bool known_failed(const struct known *known);

void known_add_queue(struct known *known, struct slice name, const struct queue_fields *fields);
void known_add_left(struct known *known, uint64_t number, enum list kind, uint64_t queue);

/*
 * By number. Of those with the same number the one that was added first comes first, and lists of
 * queues before lists that were left.
 */
void known_sort(struct known *known);

/* All of them, in order. */
struct known_queue *known_queues(const struct known *known, size_t *count);
struct known_list *known_lists(const struct known *known, size_t *count);

/* One of that number, or NULL. */
struct known_queue *known_queue(const struct known *known, uint64_t number);
const struct known_list *known_list(const struct known *known, uint64_t number);

/* The name, a view that lives until a queue is added. */
struct slice known_name(const struct known *known, const struct known_queue *queue);

/* A list in its place among those that are sorted. */
void known_insert_list(struct known *known, struct known_list list);

/* How a list is called in a sentence. */
const char *known_list_name(enum list kind);

#endif
