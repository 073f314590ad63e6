/*
 * RocksDB, as the engine uses it: one ordered map of bytes to bytes in the directory `rocksdb` of
 * the data directory, written in batches that are there whole or not at all. Nothing else here
 * includes RocksDB's header; how it is set up, and why, is in rocks.c.
 *
 * RocksDB's own log is off, since ours replays: what was not flushed when the process ends is gone.
 * But each batch is flushed whole and in order, and has the state's mark in it, so what is left is
 * always the state of some batch.
 *
 * One thread uses it, except that a snapshot's iterators may be another's.
 *
 * A failure is STORE_FULL, STORE_IO, STORE_CORRUPT or STORE_NO_MEMORY; its sentence is in
 * `failure` of the status. An allocation that fails within RocksDB ends the process (it throws, and
 * its C interface does not catch); nothing is lost by that, as after a crash.
 */
#ifndef STORE_ROCKS_H
#define STORE_ROCKS_H

#include "store/engine.h"

struct rocks;          /* an open directory */
struct rocks_iterator; /* a place in it; what it shows does not change until it is closed */

/* What goes with each batch. */
struct rocks_state {
    struct engine_mark mark;
    uint64_t counts[ENGINE_TABLES]; /* entries of each table */
};

/*
 * Opens or makes the directory below that of the options, which is synced; fills `state`, with
 * zeros where there is nothing yet. Where the options say so, only to read what is there:
 * STORE_NOT_FOUND where there is nothing.
 */
int rocks_open(struct rocks **rocks, const struct engine_options *options,
               struct rocks_state *state, struct store_error *error);

/* Waits for a flush that is running. All iterators and snapshots have been closed before. */
void rocks_close(struct rocks *rocks);

/* The value is a view until rocks_drop_views. STORE_NOT_FOUND. */
int rocks_get(struct rocks *rocks, struct slice key, struct slice *value);
void rocks_drop_views(struct rocks *rocks);

/*
 * A batch is gathered, and then written with the state that it leads to, or dropped. After
 * STORE_FULL nothing of it is there, and RocksDB takes no more until it has found that the disk has
 * room again, which it looks for by itself; rocks_is_stopped tells, cheaply. Any other failure is
 * final.
 */
void rocks_batch_put(struct rocks *rocks, struct slice key, struct slice value);
void rocks_batch_delete(struct rocks *rocks, struct slice key);
int rocks_batch_write(struct rocks *rocks, const struct rocks_state *state);
bool rocks_is_stopped(struct rocks *rocks);

/*
 * Brings what was written to the disk; as engine_methods.checkpoint. One is begun by itself where
 * much was written since the last.
 */
int rocks_flush(struct rocks *rocks, bool wait);

void rocks_status(struct rocks *rocks, struct engine_status *status);

/* What is written now, kept still. STORE_NO_MEMORY. */
int rocks_snapshot(struct rocks *rocks, struct engine_snapshot **snapshot);
void rocks_release(struct rocks *rocks, struct engine_snapshot *snapshot);

/*
 * An iterator over the keys that begin with the byte `first`, of the snapshot or (NULL) of what is
 * written now. STORE_NO_MEMORY.
 */
int rocks_iterator_open(struct rocks *rocks, struct engine_snapshot *snapshot, uint8_t first,
                        struct rocks_iterator **iterator);
void rocks_iterator_close(struct rocks_iterator *iterator);

/* To the first key >= `key`; to the last < `key`; to the last of all. Then rocks_here. */
void rocks_seek(struct rocks_iterator *iterator, struct slice key);
void rocks_seek_before(struct rocks_iterator *iterator, struct slice key);
void rocks_seek_last(struct rocks_iterator *iterator);
void rocks_next(struct rocks_iterator *iterator);
void rocks_prev(struct rocks_iterator *iterator);

/* Where it is: views until it moves. STORE_NOT_FOUND: at neither end is there more. */
int rocks_here(struct rocks_iterator *iterator, struct slice *key, struct slice *value);

#endif
