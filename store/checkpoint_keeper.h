/*
 * The checkpoints of a data directory, for an engine that has its state in memory: finds the one to
 * load, writes the next ones in a thread of its own, and removes those that are no longer needed.
 *
 * The newest two that are good are kept, so that damage to one of them does not end everything; the
 * log is kept from the older one on. While there is only one, the log is kept whole.
 *
 * Used by the loop's thread; the thread in here touches nothing of the engine but a snapshot.
 */
#ifndef STORE_CHECKPOINT_KEEPER_H
#define STORE_CHECKPOINT_KEEPER_H

#include "store/checkpoint.h"

struct checkpoint_keeper;

/*
 * Finds the files of the directory. `io` is NULL for the system's, else lives as long as the
 * keeper. Changes nothing on disk. STORE_IO, STORE_NO_MEMORY.
 */
int checkpoint_keeper_open(struct checkpoint_keeper **keeper, const char *directory,
                           const struct checkpoint_io *io, struct store_error *error);

/*
 * Takes in all entries of a reader. Where it fails it has thrown away what it took, and may be
 * called again for another file.
 */
typedef int checkpoint_load_fn(void *context, struct checkpoint_reader *reader, uint64_t size,
                               struct store_error *error);

/*
 * Loads the newest checkpoint that is good, and says its mark: all zeros where there is no file at
 * all. Where a newer one is damaged, `options->warn` gets a line; STORE_CORRUPT where all are. Then
 * removes what an interrupted writer left, unless the options say read_only.
 */
int checkpoint_keeper_load(struct checkpoint_keeper *keeper, const struct engine_options *options,
                           checkpoint_load_fn *load, void *context, struct engine_mark *mark,
                           struct store_error *error);

/*
 * Writes the engine's present state, which is that of the mark, as engine_methods.checkpoint says.
 * Where one is being written and `wait` asks for a newer state, that one is given up.
 */
int checkpoint_keeper_write(struct checkpoint_keeper *keeper, struct engine *engine,
                            const struct engine_mark *mark, bool wait);

/* Finishes what the thread left: releases the snapshot, removes older files. Fills all of status.
 */
void checkpoint_keeper_status(struct checkpoint_keeper *keeper, struct engine *engine,
                              struct engine_status *status);

/* Gives up what is being written, and frees everything. */
void checkpoint_keeper_close(struct checkpoint_keeper **keeper, struct engine *engine);

#endif
