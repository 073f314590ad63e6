/*
 * Segments: the files of the log, or blocks of memory, what is in them, and reading them. Formats
 * only; what they mean together is the business of log.c (writing), log_scan.c and log_open.c (a
 * start) and log_reader.c (history).
 *
 * A segment file is called log-0000000001, log-0000000002… All numbers are little endian.
 *
 *     segment                                  group                          record
 *     0  "cubbylog"                            0  u32 magic "CBYG"            0  u32 body length
 *     8  u32 version, 1                        4  u32 crc                     4  u64 seq, or 0
 *    12  u32 salt                              8  u32 length of the records  12  u64 time, ms
 *    16  u64 id: the number in its name       12  u32 how many they are      20  body
 *    24  u64 first: number of its first group 16  u64 number
 *    32  u64 newest seq before that           24  u64 synced
 *    40  u64 size of the file                 32  u32 crc of the group before
 *    48  u64 synced, as in a group            36  u32 salt
 *    56  u32 zero                             40  records, then zeros up to
 *    60  u32 CRC-32C of bytes 0 to 59             a multiple of 8
 *    64  groups, one behind the other
 *
 * - The group's crc is a CRC-32C of the segment's id (as a u64) and then of everything behind the
 *   crc, zeros included. So what an earlier use left in a recycled file is no group of its new one.
 * - `synced` is the number of the newest group known to be durable when this was written. It tells
 *   damage from a torn end: see log_scan.c.
 * - `salt` is random, one for the whole log, so that no client can store a value that looks like
 *   groups of the log to somebody who searches the bytes.
 * - The header is written together with the first group. A file whose header is not its own (zeros,
 *   or another id) is a *spare*: prepared or recycled, and not yet part of the log.
 *
 * To change any of it: raise SEGMENT_VERSION, keep magic, version, id and crc of the header where
 * they are (that is how another version is recognized and refused), read the old version in
 * log_scan.c or say in CHANGELOG.md that the data is to be written anew, and keep a directory
 * of the old version as a test.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include "store/log.h"

#include <stdint.h>

enum {
    SEGMENT_VERSION = 1,
    SEGMENT_HEADER_SIZE = 64,
    SEGMENT_NAME_SIZE = 32,
    SEGMENT_MARK_STEP = 64 << 10, /* bytes of groups between two marks */
    GROUP_HEADER_SIZE = 40,
    GROUP_ALIGNMENT = 8,
    RECORD_HEADER_SIZE = 20,
};

#define GROUP_MAGIC 0x47594243u /* "CBYG" */

/* Where in a segment to begin looking for a seq. */
struct segment_mark {
    uint64_t seq_before; /* newest seq before the group */
    uint64_t offset;     /* of the group */
};

struct segment {
    uint64_t id;
    uint64_t size;        /* of the file */
    uint64_t first;       /* number of its first group */
    uint64_t seq_before;  /* newest seq before its first group */
    uint64_t end;         /* offset behind its last group */
    int file;             /* -1: closed, or in memory */
    uint8_t *memory;      /* its bytes, where it has no file; else NULL */
    struct segment *next; /* in a list of the pool's */
    size_t mark_count;
    size_t mark_limit;
    struct segment_mark marks[];
};

/*
 * One without a file as yet, and one in memory. NULL where memory is out. segment_free closes the
 * file too; NULL is allowed.
 */
struct segment *segment_new(uint64_t id, uint64_t size);
struct segment *segment_new_in_memory(uint64_t id, uint64_t size);
void segment_free(struct segment *segment);
void segment_close(struct segment *segment);

/* Makes it a spare again: of that number, without groups. */
void segment_reset(struct segment *segment, uint64_t id);

/* Counts a group that begins at segment->end and takes `size` bytes. */
void segment_add_group(struct segment *segment, uint64_t size, uint64_t seq_before);

void segment_name(uint64_t id, char name[SEGMENT_NAME_SIZE]);

/* The number in a file's name; 0 where the file is no segment. */
uint64_t segment_number(const char *name);

struct segment_header {
    uint32_t version;
    uint32_t salt;
    uint64_t id;
    uint64_t first;
    uint64_t seq_before;
    uint64_t size;
    uint64_t synced;
};

void segment_write_header(uint8_t bytes[SEGMENT_HEADER_SIZE], const struct segment_header *header);

/* False where magic or crc are wrong. */
bool segment_read_header(const uint8_t bytes[SEGMENT_HEADER_SIZE], struct segment_header *header);

struct group {
    uint32_t crc;
    uint32_t length; /* of the records, a multiple of GROUP_ALIGNMENT */
    uint32_t count;
    uint64_t number;
    uint64_t synced;
    uint32_t previous;
    uint32_t salt;
    const uint8_t *records; /* a view; not before group_read_records */
};

/* Fills in the header of a group whose records are behind it already, and group->crc. */
void group_write_header(uint8_t *bytes, struct group *group, uint64_t segment_id);

/* A part of a file that is held in memory, for reading on from. Starts as all zeros. */
struct segment_window {
    struct buffer buffer;
    uint64_t segment_id; /* 0: nothing */
    uint64_t offset;
};

/* Which part of which file, or memory, can be read. */
struct segment_source {
    int file;
    const uint8_t *memory; /* in place of the file; NULL: there is one */
    uint64_t id;
    uint64_t limit; /* nothing at or behind this offset */
};

/*
 * A view of `size` bytes at `offset`, which lives until the window's next view; where they are to
 * be read from the file, at least `step` bytes are, if there are so many. STORE_NOT_FOUND where the
 * file or the source ends before; STORE_IO, STORE_NO_MEMORY.
 */
int segment_view(struct segment_window *window, const struct segment_source *source,
                 uint64_t offset, size_t size, size_t step, const uint8_t **bytes);

/*
 * The group at `offset`. group_read_header checks magic and length only; group_read_records the
 * crc, and sets group->records. STORE_NOT_FOUND where there is no (valid) group.
 */
int group_read_header(struct segment_window *window, const struct segment_source *source,
                      uint64_t offset, size_t step, struct group *group);
int group_read_records(struct segment_window *window, const struct segment_source *source,
                       uint64_t offset, size_t step, struct group *group);

/*
 * Records lie one behind the other. Reads the one at the front of `rest` and moves that behind it;
 * false where there is none.
 */
bool record_read(struct slice *rest, struct log_record *record);
void record_write_header(uint8_t bytes[RECORD_HEADER_SIZE], size_t length, uint64_t seq,
                         uint64_t time_ms);

/* Writes all of it, however often the system writes less. Returns 0 or an errno. */
int segment_write(const struct log_io *io, const struct segment *segment, const void *bytes,
                  size_t size, uint64_t offset);

/* Writes zeros from offset to end. Returns 0 or an errno. */
int segment_zero(const struct log_io *io, int file, uint64_t offset, uint64_t end);

/* Whether the errno says that there is no room, rather than that something is broken. */
bool segment_is_full(int cause);

#endif
