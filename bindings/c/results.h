/*
 * Results of methods, read from their encoded form; the public part is in cubby.h.
 */
#ifndef BINDINGS_C_RESULTS_H
#define BINDINGS_C_RESULTS_H

#include "bindings/c/params.h"

/* A value of a map that results_find looks for, and where it is put. */
struct results_field {
    const char *name;
    struct cubby_bytes value; /* one encoded object, a view into the map */
};

/* Fills all fields in one pass over the map; -1 where one is missing. Others are passed over: a
 * later version of the protocol may add to its maps. */
int results_find(struct cubby_bytes map, struct results_field *fields, size_t count);

/* Reads [seq, index, count, kind, key, value, expires_at]; -1 where it is not that. */
int results_read_change(struct wire_cursor *cursor, struct cubby_change *change);

#endif
