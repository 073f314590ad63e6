/*
 * The log as it is written: the pending group, space for it, commits and syncs, and letting go of
 * old segments. segment.h draws the formats, log_open.c is the start, log_reader.c history.
 */
#include "store/log_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    /* Beyond its body and what is pending, a group may take that much for headers and zeros. */
    GROUP_OVERHEAD = PENDING_HEADERS + RECORD_HEADER_SIZE + GROUP_ALIGNMENT,
    FIRST_SEGMENTS = 16,
};

static int fail(struct log *log, const char *call, const struct segment *segment, int cause)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->id, name);
    log->failed = true;
    return (int)store_fail(&log->failure, STORE_IO,
                           "%s of %s failed: %s; what is on disk is unknown until a restart", call,
                           name, strerror(cause));
}

int log_grow_segments(struct log *log)
{
    if (log->segment_count < log->segment_capacity)
        return 0;
    size_t capacity = log->segment_capacity > 0 ? log->segment_capacity * 2 : FIRST_SEGMENTS;
    struct segment **segments = realloc(log->segments, capacity * sizeof(struct segment *));
    if (segments == NULL)
        return STORE_NO_MEMORY;
    log->segments = segments;
    log->segment_capacity = capacity;
    return 0;
}

int log_segment_file(const struct log *log, struct segment *segment)
{
    if (segment->file >= 0)
        return segment->file;
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->id, name);
    segment->file = openat(log->directory, name, O_RDWR | O_CLOEXEC);
    return segment->file;
}

/* What deletes may use when the disk is full, in a segment. */
static size_t kept_in_reserve(const struct log *log)
{
    size_t quarter = log->segment_size / 4;
    return quarter < LOG_RESERVE ? quarter : LOG_RESERVE;
}

/*
 * Without a spare at hand the rest of the segment may be all there is, so only what frees space
 * may use its last bytes. With one, the reserve is the spare's.
 */
static void update_room(struct log *log)
{
    const struct segment *newest = log_newest_segment(log);
    size_t rest = newest != NULL ? newest->size - newest->end : 0;
    size_t kept = kept_in_reserve(log);
    log->room[true] = rest;
    log->room[false] = rest > kept ? rest - kept : 0;
    if (log->spare == NULL)
        return;
    size_t next = log->spare->size - SEGMENT_HEADER_SIZE;
    log->room[true] = rest > next ? rest : next;
    log->room[false] = rest > next - kept ? rest : next - kept;
}

/* The room for one more segment is made here, so that a commit that uses it cannot fail. */
static void look_for_spare(struct log *log)
{
    log->spare = log_grow_segments(log) == 0 ? pool_spare(log->pool) : NULL;
    update_room(log);
}

static int find_room(struct log *log, size_t size, bool reserved)
{
    if (size > LOG_MAX_GROUP)
        return STORE_FULL;
    if (log->spare == NULL)
        look_for_spare(log);
    if (size <= log->room[reserved])
        return 0;
    if (log->spare == NULL)
        return STORE_FULL;
    pool_enlarge(log->pool, SEGMENT_HEADER_SIZE + size + kept_in_reserve(log));
    look_for_spare(log);
    return size <= log->room[reserved] ? 0 : STORE_FULL;
}

int log_reserve(struct log *log, size_t more, bool reserved)
{
    size_t size = log->pending.size + GROUP_OVERHEAD + more;
    if (more <= LOG_MAX_GROUP && size <= log->room[reserved])
        return 0;
    return more <= LOG_MAX_GROUP ? find_room(log, size, reserved) : STORE_FULL;
}

struct buffer *log_begin_record(struct log *log)
{
    static const uint8_t headers[PENDING_HEADERS];
    static const uint8_t header[RECORD_HEADER_SIZE];
    struct buffer *pending = &log->pending;
    if (log->count == 0) {
        buffer_clear(pending);
        buffer_append(pending, headers, sizeof(headers));
        log->ended = pending->size;
    }
    log->begun = pending->size;
    buffer_append(pending, header, sizeof(header));
    return pending;
}

void log_drop_record(struct log *log)
{
    log->pending.size = log->begun;
    log->pending.failed = false;
}

/* Memory for the zeros behind the group is taken here, so that a commit needs none. */
int log_end_record(struct log *log, uint64_t seq, uint64_t time_ms)
{
    struct buffer *pending = &log->pending;
    if (!buffer_reserve(pending, GROUP_ALIGNMENT) || pending->size > LOG_MAX_GROUP) {
        log_drop_record(log);
        return STORE_NO_MEMORY;
    }
    size_t length = pending->size - log->begun - RECORD_HEADER_SIZE;
    record_write_header(pending->data + log->begun, length, seq, time_ms);
    log->ended = pending->size;
    log->count++;
    if (seq != 0)
        log->pending_seq = seq;
    return 0;
}

static void start_group(struct log *log)
{
    log->count = 0;
    log->ended = 0;
    log->begun = 0;
    log->pending_seq = log->seq;
    buffer_restart(&log->pending);
}

void log_begin(struct log *log)
{
    log->bytes = 0;
    for (size_t i = 0; i < log->segment_count; i++)
        log->bytes += log->segments[i]->end;
    update_room(log);
    start_group(log);
}

void log_discard(struct log *log)
{
    start_group(log);
}

size_t log_pending(const struct log *log)
{
    return log->count > 0 ? log->ended - SEGMENT_HEADER_SIZE : 0;
}

/* Bytes of the group with the zeros behind it. */
static size_t pad_group(struct log *log)
{
    struct buffer *pending = &log->pending;
    pending->size = log->ended;
    size_t size = pending->size - SEGMENT_HEADER_SIZE;
    size_t zeros = (GROUP_ALIGNMENT - size % GROUP_ALIGNMENT) % GROUP_ALIGNMENT;
    memset(pending->data + pending->size, 0, zeros);
    return size + zeros;
}

/* The segment that the group goes to: the newest one, or the spare. NULL where there is neither. */
static struct segment *place_group(struct log *log, size_t size)
{
    struct segment *newest = log_newest_segment(log);
    if (newest != NULL && size <= newest->size - newest->end)
        return newest;
    return find_room(log, size, true) == 0 ? log->spare : NULL;
}

/* Returns the group's crc. */
static uint32_t write_headers(struct log *log, const struct segment *segment, size_t size)
{
    struct segment_header header = {
        .version = SEGMENT_VERSION,
        .salt = log->salt,
        .id = segment->id,
        .first = log->position + 1,
        .seq_before = log->seq,
        .size = segment->size,
        .synced = log->synced,
    };
    struct group group = {
        .length = (uint32_t)(size - GROUP_HEADER_SIZE),
        .count = log->count,
        .number = log->position + 1,
        .synced = log->synced,
        .previous = log->crc,
        .salt = log->salt,
    };
    segment_write_header(log->pending.data, &header);
    group_write_header(log->pending.data + SEGMENT_HEADER_SIZE, &group, segment->id);
    return group.crc;
}

static int write_group(struct log *log, struct segment *segment, size_t size)
{
    bool opens = segment == log->spare;
    size_t from = opens ? 0 : SEGMENT_HEADER_SIZE;
    int cause = segment_write(log->io, segment, log->pending.data + from,
                              SEGMENT_HEADER_SIZE + size - from, opens ? 0 : segment->end);
    if (cause == 0)
        return 0;
    /* A file system that copies on write needs space for prepared blocks too. */
    return segment_is_full(cause) ? STORE_FULL : fail(log, "write", segment, cause);
}

/* The spare becomes the newest segment. */
static void open_segment(struct log *log)
{
    struct segment *segment = pool_take(log->pool);
    struct segment *before = log_newest_segment(log);
    if (before != NULL && log->directory >= 0 && log->synced == log->position)
        segment_close(before);
    segment->first = log->position + 1;
    segment->seq_before = log->seq;
    log->segments[log->segment_count] = segment;
    log->segment_count++;
    log->bytes += segment->end;
    log->spare = NULL;
}

static void count_group(struct log *log, struct segment *segment, size_t size, uint32_t crc)
{
    if (segment == log->spare)
        open_segment(log);
    segment_add_group(segment, size, log->seq);
    log->bytes += size;
    log->position++;
    pool_note_used(log->pool, segment->end, log->position - segment->first + 1);
    log->seq = log->pending_seq;
    log->crc = crc;
    if (log->directory < 0)
        log->synced = log->position;
    update_room(log);
    start_group(log);
}

int log_commit(struct log *log)
{
    if (log->failed)
        return STORE_IO;
    if (log->count == 0)
        return 0;
    size_t size = pad_group(log);
    struct segment *segment = place_group(log, size);
    if (segment == NULL)
        return STORE_FULL;
    uint32_t crc = write_headers(log, segment, size);
    int code = write_group(log, segment, size);
    if (code != 0)
        return code;
    count_group(log, segment, size, crc);
    return log->durability == LOG_ALWAYS ? log_sync(log) : 0;
}

static int sync_segment(struct log *log, struct segment *segment)
{
    int file = log_segment_file(log, segment);
    if (file < 0)
        return fail(log, "open", segment, errno);
    if (log->io->fdatasync(log->io->context, file) != 0)
        return fail(log, "fdatasync", segment, errno);
    log->sync_count++;
    if (segment != log_newest_segment(log))
        segment_close(segment);
    return 0;
}

int log_sync(struct log *log)
{
    if (log->failed)
        return STORE_IO;
    if (log->synced == log->position)
        return 0;
    size_t from = log->segment_count - 1;
    while (from > 0 && log->segments[from]->first > log->synced + 1)
        from--;
    for (size_t i = from; i < log->segment_count; i++) {
        int code = sync_segment(log, log->segments[i]);
        if (code != 0)
            return code;
    }
    log->synced = log->position;
    return 0;
}

const char *log_failure(const struct log *log)
{
    return log->failure.message;
}

bool log_begun(const struct log *log)
{
    return log->segment_count > 0;
}

uint64_t log_position(const struct log *log)
{
    return log->position;
}

uint64_t log_synced(const struct log *log)
{
    return log->synced;
}

/* How many of the oldest segments are not needed; `*bytes`: what is in the others. */
static size_t count_old(const struct log *log, uint64_t position, uint64_t retain, uint64_t *bytes)
{
    size_t old = 0;
    *bytes = log->bytes;
    while (old + 1 < log->segment_count && *bytes - log->segments[old]->end >= retain &&
           log->segments[old + 1]->first - 1 <= position) {
        *bytes -= log->segments[old]->end;
        old++;
    }
    return old;
}

void log_trim(struct log *log, uint64_t position, uint64_t retain)
{
    if (position > log->synced && log_sync(log) != 0)
        return;
    uint64_t bytes;
    size_t old = count_old(log, position, retain, &bytes);
    if (old == 0 || (log->segments[old]->first > log->synced && log_sync(log) != 0))
        return;
    for (size_t i = 0; i < old; i++)
        pool_retire(log->pool, log->segments[i]);
    log->bytes = bytes;
    log->segment_count -= old;
    memmove(log->segments, log->segments + old, log->segment_count * sizeof(struct segment *));
}

uint64_t log_oldest_seq(const struct log *log)
{
    uint64_t before = log->segment_count > 0 ? log->segments[0]->seq_before : log->seq;
    return (before > log->floor ? before : log->floor) + 1;
}

void log_forget(struct log *log, uint64_t newest)
{
    if (log->floor < newest)
        log->floor = newest;
    if (log->seq < newest)
        log->seq = newest;
    if (log->pending_seq < newest)
        log->pending_seq = newest;
}

uint64_t log_size(const struct log *log)
{
    uint64_t size = pool_size(log->pool);
    for (size_t i = 0; i < log->segment_count; i++)
        size += log->segments[i]->size;
    return size;
}

uint64_t log_sync_count(const struct log *log)
{
    return log->sync_count;
}
