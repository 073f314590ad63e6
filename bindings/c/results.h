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

struct wire_cursor results_cursor_of(struct cubby_bytes result);

/* Each reads one object and moves behind it; -1 where it is not that. */
int results_read_counted(struct wire_cursor *cursor, uint32_t expected); /* an array's header */
int results_read_bytes(struct wire_cursor *cursor, struct cubby_bytes *bytes);
int results_read_object(struct wire_cursor *cursor, struct cubby_bytes *object);
int results_read_time(struct wire_cursor *cursor, uint64_t *time_ms); /* 0 for nil */

/* What is left behind a result makes it another method's. */
enum cubby_status results_finish(const struct wire_cursor *cursor, int read);

/*
 * One allocation for a page: its head, room for `count` rows, all zeros, and a copy of the encoded
 * rows, to which the cursor is moved. NULL: no memory.
 */
void *results_page_new(size_t page_size, size_t row_size, uint32_t count, struct wire_cursor *rows);

/* Reads [seq, index, count, kind, key, value, expires_at]; -1 where it is not that. */
int results_read_change(struct wire_cursor *cursor, struct cubby_change *change);

#endif
