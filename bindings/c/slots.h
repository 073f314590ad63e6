/*
 * Outstanding requests by msgid: a table whose size is a power of two and in which a request
 * with msgid m has the place m modulo the size. Msgids grow, and one whose place is still taken
 * is left out, so that a lookup looks at one place and nothing is allocated for a request. The
 * table is kept at most half full.
 */
#ifndef BINDINGS_C_SLOTS_H
#define BINDINGS_C_SLOTS_H

#include "bindings/c/cubby.h"

struct slot {
    uint64_t msgid; /* 0: free */
    cubby_callback *callback;
    void *context;
    int64_t sent_ms;
    int64_t due_ms;
};

/* Starts as all zeros and is ended with slots_free. */
struct slots {
    struct slot *table;
    size_t size; /* 0 or a power of two */
    size_t used;
    uint64_t last_msgid;
};

/* The next msgid that has a free place, made so where necessary; 0 where memory is out. */
uint64_t slots_next(struct slots *slots);

/* Takes the place of a msgid that slots_next has given. */
struct slot *slots_take(struct slots *slots, uint64_t msgid);

/* The request with that msgid; NULL where there is none. Lives until the next slots_next. */
struct slot *slots_find(const struct slots *slots, uint64_t msgid);

void slots_release(struct slots *slots, struct slot *slot);
void slots_free(struct slots *slots);

#endif
