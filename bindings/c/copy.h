/*
 * A copy of entries in key order: a skip list, so that finding, adding and removing take the
 * logarithm of their number, and walking is a list's. Knows nothing of the daemon.
 */
#ifndef BINDINGS_C_COPY_H
#define BINDINGS_C_COPY_H

#include "bindings/c/cubby.h"

struct copy_node;

/* Starts as all zeros and is ended with copy_free. */
struct copy {
    struct copy_node **heads; /* of each level's list; NULL while it is empty */
    size_t count;
    uint64_t random;
};

/* Adds an entry or replaces that of its key; its bytes are copied. -1: no memory, as it was. */
int copy_put(struct copy *copy, const struct cubby_entry *entry);

/* False where there was none. */
bool copy_remove(struct copy *copy, struct cubby_bytes key);

/* Views of entries live until that entry is replaced or removed. NULL: none. */
const struct cubby_entry *copy_find(const struct copy *copy, struct cubby_bytes key);

/* The first entry with a key over `after`, or with NULL data the first of all. */
const struct cubby_entry *copy_next(const struct copy *copy, struct cubby_bytes after);

void copy_free(struct copy *copy);

#endif
