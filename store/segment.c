#include "store/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "store/on_disk.h"

enum {
    ZERO_STEP = 1 << 16, /* bytes of one write in segment_zero */
    NAME_DIGITS = 10,
};

static const char name_prefix[] = LOG_FILE_PREFIX;
static const char segment_magic[8] = {'c', 'u', 'b', 'b', 'y', 'l', 'o', 'g'};

/* Offsets in the headers; see the drawing in segment.h. */
enum {
    AT_VERSION = 8,
    AT_SALT = 12,
    AT_ID = 16,
    AT_FIRST = 24,
    AT_SEQ_BEFORE = 32,
    AT_SIZE = 40,
    AT_SYNCED = 48,
    AT_CRC = 60,

    AT_GROUP_MAGIC = 0,
    AT_GROUP_CRC = 4,
    AT_GROUP_LENGTH = 8,
    AT_GROUP_COUNT = 12,
    AT_GROUP_NUMBER = 16,
    AT_GROUP_SYNCED = 24,
    AT_GROUP_PREVIOUS = 32,
    AT_GROUP_SALT = 36,

    AT_RECORD_LENGTH = 0,
    AT_RECORD_SEQ = 4,
    AT_RECORD_TIME = 12,
};

static uint32_t crc_of_group(const uint8_t *bytes, size_t length, uint64_t segment_id)
{
    uint8_t id[8];
    put64(id, segment_id);
    uint32_t crc = crc32c(UINT32_MAX, id, sizeof(id));
    return ~crc32c(crc, bytes + AT_GROUP_LENGTH, GROUP_HEADER_SIZE - AT_GROUP_LENGTH + length);
}

struct segment *segment_new(uint64_t id, uint64_t size)
{
    size_t marks = size / SEGMENT_MARK_STEP + 1;
    struct segment *segment = calloc(1, sizeof(*segment) + marks * sizeof(segment->marks[0]));
    if (segment == NULL)
        return NULL;
    segment->size = size;
    segment->file = -1;
    segment->mark_limit = marks;
    segment_reset(segment, id);
    return segment;
}

struct segment *segment_new_in_memory(uint64_t id, uint64_t size)
{
    struct segment *segment = segment_new(id, size);
    if (segment == NULL)
        return NULL;
    segment->memory = malloc(size);
    if (segment->memory == NULL) {
        free(segment);
        return NULL;
    }
    return segment;
}

void segment_free(struct segment *segment)
{
    if (segment == NULL)
        return;
    segment_close(segment);
    free(segment->memory);
    free(segment);
}

void segment_close(struct segment *segment)
{
    if (segment->file >= 0)
        close(segment->file);
    segment->file = -1;
}

void segment_reset(struct segment *segment, uint64_t id)
{
    segment->id = id;
    segment->end = SEGMENT_HEADER_SIZE;
    segment->mark_count = 0;
}

void segment_add_group(struct segment *segment, uint64_t size, uint64_t seq_before)
{
    size_t count = segment->mark_count;
    bool due = count == 0 || segment->end - segment->marks[count - 1].offset >= SEGMENT_MARK_STEP;
    if (due && count < segment->mark_limit) {
        segment->marks[count] =
            (struct segment_mark){.seq_before = seq_before, .offset = segment->end};
        segment->mark_count++;
    }
    segment->end += size;
}

void segment_name(uint64_t id, char name[SEGMENT_NAME_SIZE])
{
    snprintf(name, SEGMENT_NAME_SIZE, "%s%0*" PRIu64, name_prefix, NAME_DIGITS, id);
}

uint64_t segment_number(const char *name)
{
    size_t prefix = sizeof(name_prefix) - 1;
    if (strncmp(name, name_prefix, prefix) != 0 || strlen(name) != prefix + NAME_DIGITS)
        return 0;
    uint64_t number = 0;
    for (const char *digit = name + prefix; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9')
            return 0;
        number = number * 10 + (uint64_t)(*digit - '0');
    }
    return number;
}

void segment_write_header(uint8_t bytes[SEGMENT_HEADER_SIZE], const struct segment_header *header)
{
    memset(bytes, 0, SEGMENT_HEADER_SIZE);
    memcpy(bytes, segment_magic, sizeof(segment_magic));
    put32(bytes + AT_VERSION, header->version);
    put32(bytes + AT_SALT, header->salt);
    put64(bytes + AT_ID, header->id);
    put64(bytes + AT_FIRST, header->first);
    put64(bytes + AT_SEQ_BEFORE, header->seq_before);
    put64(bytes + AT_SIZE, header->size);
    put64(bytes + AT_SYNCED, header->synced);
    put32(bytes + AT_CRC, ~crc32c(UINT32_MAX, bytes, AT_CRC));
}

bool segment_read_header(const uint8_t bytes[SEGMENT_HEADER_SIZE], struct segment_header *header)
{
    *header = (struct segment_header){
        .version = get32(bytes + AT_VERSION),
        .salt = get32(bytes + AT_SALT),
        .id = get64(bytes + AT_ID),
        .first = get64(bytes + AT_FIRST),
        .seq_before = get64(bytes + AT_SEQ_BEFORE),
        .size = get64(bytes + AT_SIZE),
        .synced = get64(bytes + AT_SYNCED),
    };
    return memcmp(bytes, segment_magic, sizeof(segment_magic)) == 0 &&
           get32(bytes + AT_CRC) == (uint32_t)~crc32c(UINT32_MAX, bytes, AT_CRC);
}

void group_write_header(uint8_t *bytes, struct group *group, uint64_t segment_id)
{
    put32(bytes + AT_GROUP_MAGIC, GROUP_MAGIC);
    put32(bytes + AT_GROUP_LENGTH, group->length);
    put32(bytes + AT_GROUP_COUNT, group->count);
    put64(bytes + AT_GROUP_NUMBER, group->number);
    put64(bytes + AT_GROUP_SYNCED, group->synced);
    put32(bytes + AT_GROUP_PREVIOUS, group->previous);
    put32(bytes + AT_GROUP_SALT, group->salt);
    group->crc = crc_of_group(bytes, group->length, segment_id);
    put32(bytes + AT_GROUP_CRC, group->crc);
}

static int read_file(int file, uint8_t *bytes, size_t size, uint64_t offset, size_t *got)
{
    for (*got = 0; *got < size;) {
        ssize_t part = pread(file, bytes + *got, size - *got, (off_t)(offset + *got));
        if (part == 0)
            break;
        if (part > 0)
            *got += (size_t)part;
        else if (errno != EINTR)
            return STORE_IO;
    }
    return 0;
}

static int read_source(const struct segment_source *source, uint8_t *bytes, size_t size,
                       uint64_t offset, size_t *got)
{
    if (source->memory == NULL)
        return read_file(source->file, bytes, size, offset, got);
    memcpy(bytes, source->memory + offset, size);
    *got = size;
    return 0;
}

static int fill_window(struct segment_window *window, const struct segment_source *source,
                       uint64_t offset, size_t wanted)
{
    window->segment_id = 0;
    buffer_restart(&window->buffer);
    if (!buffer_reserve(&window->buffer, wanted))
        return STORE_NO_MEMORY;
    int code = read_source(source, window->buffer.data, wanted, offset, &window->buffer.size);
    if (code != 0)
        return code;
    window->segment_id = source->id;
    window->offset = offset;
    return 0;
}

int segment_view(struct segment_window *window, const struct segment_source *source,
                 uint64_t offset, size_t size, size_t step, const uint8_t **bytes)
{
    if (offset > source->limit || size > source->limit - offset)
        return STORE_NOT_FOUND;
    bool held = window->segment_id == source->id && offset >= window->offset &&
                offset + size <= window->offset + window->buffer.size;
    if (!held) {
        uint64_t wanted = size > step ? size : step;
        if (wanted > source->limit - offset)
            wanted = source->limit - offset;
        int code = fill_window(window, source, offset, wanted);
        if (code != 0)
            return code;
        if (window->buffer.size < size)
            return STORE_NOT_FOUND;
    }
    *bytes = window->buffer.data + (offset - window->offset);
    return 0;
}

int group_read_header(struct segment_window *window, const struct segment_source *source,
                      uint64_t offset, size_t step, struct group *group)
{
    const uint8_t *bytes;
    int code = segment_view(window, source, offset, GROUP_HEADER_SIZE, step, &bytes);
    if (code != 0)
        return code;
    *group = (struct group){
        .crc = get32(bytes + AT_GROUP_CRC),
        .length = get32(bytes + AT_GROUP_LENGTH),
        .count = get32(bytes + AT_GROUP_COUNT),
        .number = get64(bytes + AT_GROUP_NUMBER),
        .synced = get64(bytes + AT_GROUP_SYNCED),
        .previous = get32(bytes + AT_GROUP_PREVIOUS),
        .salt = get32(bytes + AT_GROUP_SALT),
    };
    bool plausible = get32(bytes) == GROUP_MAGIC && group->length % GROUP_ALIGNMENT == 0 &&
                     group->length <= source->limit - offset - GROUP_HEADER_SIZE;
    return plausible ? 0 : STORE_NOT_FOUND;
}

int group_read_records(struct segment_window *window, const struct segment_source *source,
                       uint64_t offset, size_t step, struct group *group)
{
    const uint8_t *bytes;
    size_t size = GROUP_HEADER_SIZE + (size_t)group->length;
    int code = segment_view(window, source, offset, size, step, &bytes);
    if (code != 0)
        return code;
    group->records = bytes + GROUP_HEADER_SIZE;
    return group->crc == crc_of_group(bytes, group->length, source->id) ? 0 : STORE_NOT_FOUND;
}

bool record_read(struct slice *rest, struct log_record *record)
{
    if (rest->size < RECORD_HEADER_SIZE)
        return false;
    size_t length = get32(rest->data + AT_RECORD_LENGTH);
    if (length > rest->size - RECORD_HEADER_SIZE)
        return false;
    *record = (struct log_record){
        .seq = get64(rest->data + AT_RECORD_SEQ),
        .time_ms = get64(rest->data + AT_RECORD_TIME),
        .body = slice_of(rest->data + RECORD_HEADER_SIZE, length),
    };
    size_t whole = RECORD_HEADER_SIZE + length;
    *rest = slice_of(rest->data + whole, rest->size - whole);
    return true;
}

void record_write_header(uint8_t bytes[RECORD_HEADER_SIZE], size_t length, uint64_t seq,
                         uint64_t time_ms)
{
    put32(bytes + AT_RECORD_LENGTH, (uint32_t)length);
    put64(bytes + AT_RECORD_SEQ, seq);
    put64(bytes + AT_RECORD_TIME, time_ms);
}

static int write_file(const struct log_io *io, int file, const void *bytes, size_t size,
                      uint64_t offset)
{
    const uint8_t *from = bytes;
    while (size > 0) {
        ssize_t part = io->pwrite(io->context, file, from, size, (off_t)offset);
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return errno;
        if (part == 0)
            return EIO;
        from += part;
        offset += (uint64_t)part;
        size -= (size_t)part;
    }
    return 0;
}

int segment_write(const struct log_io *io, const struct segment *segment, const void *bytes,
                  size_t size, uint64_t offset)
{
    if (segment->memory == NULL)
        return write_file(io, segment->file, bytes, size, offset);
    memcpy(segment->memory + offset, bytes, size);
    return 0;
}

int segment_zero(const struct log_io *io, int file, uint64_t offset, uint64_t end)
{
    static const uint8_t zeros[ZERO_STEP];
    while (offset < end) {
        size_t part = end - offset < ZERO_STEP ? (size_t)(end - offset) : ZERO_STEP;
        int cause = write_file(io, file, zeros, part, offset);
        if (cause != 0)
            return cause;
        offset += part;
    }
    return 0;
}

bool segment_is_full(int cause)
{
    return cause == ENOSPC || cause == EDQUOT;
}
