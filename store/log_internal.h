/*
 * What log_open.c, log.c and log_reader.c share: the log as it is in memory. Nobody else
 * includes this.
 */
#ifndef STORE_LOG_INTERNAL_H
#define STORE_LOG_INTERNAL_H

#include "store/log.h"
#include "store/segment.h"
#include "store/segment_pool.h"

struct log {
    int directory; /* -1: in memory */
    enum log_durability durability;
    size_t segment_size;
    const struct log_io *io;
    uint32_t salt;

    struct segment **segments; /* oldest first; the last one is being written */
    size_t segment_count;
    size_t segment_capacity;
    uint64_t bytes; /* that are written in all of them */
    struct pool *pool;
    struct segment *spare; /* the pool's first one, once known to be there */
    size_t room[2];        /* how big a group may get, by whether it may use the reserve */

    /*
     * The pending group, as it will be written: the segment's header, in case it opens one, its
     * own header, and its records. Empty, or with both.
     */
    struct buffer pending;
    size_t ended;         /* where the last complete record ends */
    size_t begun;         /* where the one that is being written begins */
    uint32_t count;       /* of complete records */
    uint64_t pending_seq; /* newest, the pending group included */

    uint64_t position;
    uint64_t synced;
    uint64_t seq;   /* newest of what is committed */
    uint64_t floor; /* history at or before this seq is forgotten */
    uint32_t crc;   /* of the newest group */
    uint64_t sync_count;
    bool failed;
    struct store_error failure;
};

enum { PENDING_HEADERS = SEGMENT_HEADER_SIZE + GROUP_HEADER_SIZE };

/* The one that is being written, or NULL. */
static inline struct segment *log_newest_segment(const struct log *log)
{
    return log->segment_count > 0 ? log->segments[log->segment_count - 1] : NULL;
}

/* Makes room for one more segment in the array. STORE_NO_MEMORY. */
int log_grow_segments(struct log *log);

/* The file of a segment, opened where it is not. -1 with errno set. */
int log_segment_file(const struct log *log, struct segment *segment);

/* Makes it ready to be written, where the segments and the pool are there: no group is pending. */
void log_begin(struct log *log);

#endif
