/*
 * What a base and the log behind it add up to, for reading: what the log wrote is in an overlay,
 * and the base is seen through it. So the state of a directory that nobody serves can be checked,
 * and nothing is written to it.
 *
 *     latest_init(&latest, base);
 *     latest_put(&latest, table, key, &value);                 each write of the log
 *     latest.engine.methods->get(&latest.engine, …)            … cursor_seek, cursor_next
 *     latest_end(&latest);
 *
 * Of the methods of an engine it has get, cursor_open, cursor_close, cursor_seek, cursor_next and
 * status, with the same contracts, and no others. Values that the log wrote are cut after
 * LATEST_MAX_VALUE bytes: it is about what stands before keys' values and jobs' bodies.
 */
#ifndef STORE_LATEST_H
#define STORE_LATEST_H

#include "store/overlay.h"

enum { LATEST_MAX_VALUE = 4096 };

struct latest {
    struct engine engine;
    struct engine *base; /* NULL: there is none, and all is in the log */
    struct overlay log;
    uint64_t statuses; /* each of which may end views of the base */
};

/* STORE_NO_MEMORY; latest_end is to follow in each case. The base outlives it. */
int latest_init(struct latest *latest, struct engine *base);
void latest_end(struct latest *latest);

/* `value` NULL: the key was deleted. STORE_NO_MEMORY. */
int latest_put(struct latest *latest, unsigned table, struct slice key, const struct slice *value);

/* Whether the key is there. Other failures than STORE_NOT_FOUND are results. */
int latest_has(struct latest *latest, unsigned table, struct slice key, bool *has);

#endif
