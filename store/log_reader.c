/* History: the records with a seq, from the files and then from the pending group. */
#include "store/log_internal.h"

#include <fcntl.h>
#include <unistd.h>

enum {
    READ_STEP = 64 << 10,
    RECORD_WORK = 32, /* what going through a record costs, in bytes of reading */
};

struct log_reader {
    struct log *log;
    uint64_t since; /* records up to this seq have been handed out, or are not wanted */
    uint64_t work;

    uint64_t segment_id; /* where the next group is read */
    uint64_t offset;
    struct slice rest; /* of the group that is being handed out, a view of the window */
    struct segment_window window;

    uint64_t pending_after; /* which pending group: the one behind this position, */
    size_t pending_at;      /* and where in it the next record is; 0: at its beginning */

    int file; /* of a segment that the log itself keeps closed; -1: none */
    uint64_t file_id;
};

int log_reader_open(struct log *log, struct log_reader **reader)
{
    struct log_reader *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STORE_NO_MEMORY;
    made->log = log;
    made->file = -1;
    *reader = made;
    return 0;
}

static void close_file(struct log_reader *reader)
{
    if (reader->file >= 0)
        close(reader->file);
    reader->file = -1;
}

void log_reader_close(struct log_reader **reader)
{
    struct log_reader *ended = *reader;
    if (ended == NULL)
        return;
    *reader = NULL;
    close_file(ended);
    buffer_free(&ended->window.buffer);
    free(ended);
}

/* The last segment that begins before the seq: it holds the record that follows, if any does. */
static const struct segment *find_segment(const struct log *log, uint64_t since)
{
    size_t from = 0;
    size_t to = log->segment_count;
    while (to - from > 1) {
        size_t middle = from + (to - from) / 2;
        if (log->segments[middle]->seq_before <= since)
            from = middle;
        else
            to = middle;
    }
    return to > 0 ? log->segments[from] : NULL;
}

static uint64_t find_offset(const struct segment *segment, uint64_t since)
{
    size_t from = 0;
    size_t to = segment->mark_count;
    while (from < to) { /* marks before `from` may be begun at, those from `to` on are too late */
        size_t middle = from + (to - from) / 2;
        if (segment->marks[middle].seq_before <= since)
            from = middle + 1;
        else
            to = middle;
    }
    return from > 0 ? segment->marks[from - 1].offset : SEGMENT_HEADER_SIZE;
}

int log_seek(struct log_reader *reader, uint64_t since)
{
    if (since < log_oldest_seq(reader->log) - 1)
        return STORE_COMPACTED;
    const struct segment *segment = find_segment(reader->log, since);
    reader->since = since;
    reader->rest = slice_of(NULL, 0);
    reader->pending_at = 0;
    reader->segment_id = segment != NULL ? segment->id : 0;
    reader->offset = segment != NULL ? find_offset(segment, since) : 0;
    return 0;
}

/* Segments have numbers without holes, so its number says where in the array one is. */
static struct segment *segment_by_id(const struct log *log, uint64_t id)
{
    if (log->segment_count == 0 || id < log->segments[0]->id)
        return NULL;
    uint64_t index = id - log->segments[0]->id;
    return index < log->segment_count ? log->segments[index] : NULL;
}

static int open_file(struct log_reader *reader, const struct segment *segment)
{
    if (segment->file >= 0)
        return segment->file;
    if (reader->file >= 0 && reader->file_id == segment->id)
        return reader->file;
    close_file(reader);
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->id, name);
    reader->file = openat(reader->log->directory, name, O_RDONLY | O_CLOEXEC);
    reader->file_id = segment->id;
    return reader->file;
}

static int load_group(struct log_reader *reader, const struct segment *segment)
{
    struct segment_source source = {
        .file = -1, .memory = segment->memory, .id = segment->id, .limit = segment->end};
    if (source.memory == NULL && (source.file = open_file(reader, segment)) < 0)
        return STORE_IO;
    struct group group;
    int code = group_read_header(&reader->window, &source, reader->offset, READ_STEP, &group);
    if (code == 0)
        code = group_read_records(&reader->window, &source, reader->offset, READ_STEP, &group);
    if (code != 0)
        return code == STORE_NOT_FOUND ? STORE_CORRUPT : code;
    reader->rest = slice_of(group.records, group.length);
    reader->offset += GROUP_HEADER_SIZE + (uint64_t)group.length;
    reader->work += GROUP_HEADER_SIZE + (uint64_t)group.length;
    return 0;
}

/* Moves on over what makes no change: of queues there may be any amount of that. */
static void pass_over(struct log_reader *reader)
{
    const struct segment *segment = find_segment(reader->log, reader->since);
    if (segment->id < reader->segment_id || segment->seq_before > reader->since)
        return;
    uint64_t offset = find_offset(segment, reader->since);
    if (segment->id == reader->segment_id && offset <= reader->offset)
        return;
    reader->segment_id = segment->id;
    reader->offset = offset;
}

/* Makes `rest` the next group's records. STORE_NOT_FOUND behind the newest one. */
static int next_group(struct log_reader *reader)
{
    const struct log *log = reader->log;
    if (log->segment_count == 0)
        return STORE_NOT_FOUND;
    if (reader->segment_id == 0 && log->segments[0]->seq_before > reader->since)
        return STORE_COMPACTED;
    if (reader->segment_id == 0) {
        reader->segment_id = log->segments[0]->id;
        reader->offset = SEGMENT_HEADER_SIZE;
    }
    pass_over(reader);
    const struct segment *segment = segment_by_id(log, reader->segment_id);
    if (segment == NULL)
        return STORE_COMPACTED;
    if (reader->offset == segment->end) {
        if (segment == log_newest_segment(log))
            return STORE_NOT_FOUND;
        reader->segment_id++;
        reader->offset = SEGMENT_HEADER_SIZE;
        segment = segment_by_id(log, reader->segment_id);
    }
    return load_group(reader, segment);
}

/* The next record of those bytes that is wanted. */
static bool next_record(struct log_reader *reader, struct slice *rest, struct log_record *record)
{
    while (record_read(rest, record)) {
        reader->work += RECORD_WORK;
        if (record->seq <= reader->since)
            continue;
        reader->since = record->seq;
        return true;
    }
    return false;
}

/* The pending group grows and moves, so its records are found by where they are in it. */
static int next_pending(struct log_reader *reader, struct log_record *record)
{
    const struct log *log = reader->log;
    if (log->count == 0 || log->pending_seq <= reader->since)
        return STORE_NOT_FOUND;
    if (reader->pending_at == 0 || reader->pending_after != log->position)
        reader->pending_at = PENDING_HEADERS;
    reader->pending_after = log->position;
    struct slice rest =
        slice_of(log->pending.data + reader->pending_at, log->ended - reader->pending_at);
    bool found = next_record(reader, &rest, record);
    reader->pending_at = log->ended - rest.size;
    return found ? 0 : STORE_NOT_FOUND;
}

int log_next(struct log_reader *reader, struct log_record *record)
{
    while (!next_record(reader, &reader->rest, record)) {
        int code = next_group(reader);
        if (code == STORE_NOT_FOUND)
            return next_pending(reader, record);
        if (code != 0)
            return code;
    }
    return 0;
}

uint64_t log_reader_work(const struct log_reader *reader)
{
    return reader->work;
}
