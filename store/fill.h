/*
 * Filling a new data directory with entries that come from somewhere else: a backup, another
 * engine, what could be saved of a damaged directory. They do not go through the log; the directory
 * begins with an empty one, and with an epoch of its own.
 *
 *     store_fill_begin(&fill, &options, &error);
 *     store_fill_put(fill, table, key, value);        in the order of tables and keys: fastest
 *     store_fill_end(&fill, seq, time_ms, &error);
 *
 * The directory becomes a data directory with store_fill_end, at once and as a whole: what is left
 * behind by anything that goes wrong before is refused by store_open.
 */
#ifndef STORE_FILL_H
#define STORE_FILL_H

#include "store/store.h"

struct store_fill;
struct engine;

/*
 * Uses `directory` and `engine` of the options. STORE_INVALID where the directory exists and is not
 * empty; STORE_IO, STORE_FULL, STORE_NO_MEMORY. On failure nothing is left open.
 */
int store_fill_begin(struct store_fill **fill, const struct store_options *options,
                     struct store_error *error);

/* Adds or replaces an entry of a table, as store_put would have stored it. Both are copied. */
int store_fill_put(struct store_fill *fill, unsigned table, struct slice key, struct slice value,
                   struct store_error *error);

/* Takes an entry out again; nothing to do where it is absent. */
int store_fill_delete(struct store_fill *fill, unsigned table, struct slice key,
                      struct store_error *error);

/*
 * What is there so far, to be read with the methods `get`, `count`, `status` and those of cursors
 * on the present state (engine.h). Each call above is a write to it, and a commit.
 */
struct engine *store_fill_engine(struct store_fill *fill);

/*
 * Makes everything durable. `seq` and `time_ms` are the newest of what was filled in: the store
 * goes on behind them, and its history begins there. Closes in every case.
 */
int store_fill_end(struct store_fill **fill, uint64_t seq, uint64_t time_ms,
                   struct store_error *error);

/* Closes it unfinished. */
void store_fill_cancel(struct store_fill **fill);

#endif
