/*
 * The pool of spares: segments that are ready to be written, so that a commit neither waits for
 * space nor meets a disk that is full. On disk a thread of the pool's own keeps one spare ahead: a
 * file full of zeros, synced, with the name of the segment that it will be. The disk is the log's
 * first, so it prepares at the pace at which the log needs it; and where groups are so large that
 * zeros cost the disk more than they save it, the file only gets its space. Files that the log no
 * longer needs become spares by being renamed, without being zeroed again; they too are the
 * thread's work, in the order in which they were retired, so that what is on disk is at each moment
 * a log without holes.
 *
 * Where a spare cannot be made the pool is *full*; the thread tries again every second.
 *
 * In memory (directory < 0) there is no thread and spares are made when they are asked for.
 *
 * One thread calls these functions. Spares have the numbers behind the newest segment, without
 * holes.
 */
#ifndef STORE_SEGMENT_POOL_H
#define STORE_SEGMENT_POOL_H

#include "store/segment.h"

enum {
    POOL_MAX_SPARES = 16,         /* as many as a checkpoint lets go of at once, by default */
    POOL_LARGE_GROUP = 256 << 10, /* from this size on zeros do not pay */
};

struct pool;

/* `directory` stays the caller's. The first spare made will be the segment `next_id`. */
int pool_open(struct pool **pool, int directory, size_t segment_size, const struct log_io *io,
              uint64_t next_id);

/* Starts the thread. STORE_NO_MEMORY where the system has none left. */
int pool_start(struct pool *pool);

/* Ends the thread, closes all files. NULL is allowed. */
void pool_close(struct pool **pool);

/* Before pool_start: the segment `next_id`, with a file of that name, is a spare. Takes it over. */
void pool_adopt(struct pool *pool, struct segment *spare);

/*
 * The first spare, which stays the pool's; waits for the thread where it is being made. NULL
 * where the pool is full.
 */
struct segment *pool_spare(struct pool *pool);

/*
 * Tries to put a new spare of `size` bytes at least in the place of the first. Whoever knows the
 * first spare asks for it again: it may have gone.
 */
void pool_enlarge(struct pool *pool, uint64_t size);

/*
 * So many bytes of the newest segment are used, by so many groups, one at least: what is being
 * prepared keeps ahead of that.
 */
void pool_note_used(struct pool *pool, uint64_t used, uint64_t groups);

/* Hands over the first spare, of which there must be one. */
struct segment *pool_take(struct pool *pool);

/* Takes over a segment that the log no longer needs, oldest first. */
void pool_retire(struct pool *pool, struct segment *segment);

/* Bytes that spares and retired segments take. */
uint64_t pool_size(struct pool *pool);

#endif
