/*
 * A checkpoint: one file with all entries of all tables as they were at one moment, which an engine
 * in memory writes so that a start need not replay the whole log. Writing and reading one file;
 * which of them there are, and when one is written, is the business of checkpoint_keeper.h.
 *
 * A file is called checkpoint-00000000000000000042, after the log's position as of which it is.
 * All numbers are little endian.
 *
 *     file                             header                          block
 *     header                            0  "cubbyckp"                   0  u32 crc
 *     blocks of table 0, by key         8  u32 version, 1              4  u32 length of what
 * follows …                                12  u32 zero                         the header of the
 * block blocks of the last table         16  u64 position   the mark      8  u32 number: 0, 1, 2…
 *     footer                           24  u64 seq                     12  u32 table
 *                                      32  u64 time, ms                16  u32 how many entries
 *     entry                            40  u64 id                      20  u32 zero
 *      0  u32 size of the value        48  zeros                       24  entries
 *      4  u16 size of the key          60  u32 CRC-32C of 0 to 59
 *      6  key, value
 *
 * - A block's crc is a CRC-32C of the file's id and then of everything behind the crc. The id is
 *   random, and blocks are numbered: none can be missing, moved, or come from another checkpoint.
 * - The footer is a block of table CHECKPOINT_FOOTER with one u64 for each table, the number of its
 *   entries, in place of entries. The file ends with it: what has none is not whole.
 * - It is written as checkpoint-….tmp, synced, renamed, and then the directory is synced: under its
 *   own name a file is whole, unless something damaged it.
 *
 * To change any of it: raise CHECKPOINT_VERSION, keep magic, version and crc of the header where
 * they are (that is how another version is recognized and refused), read the old version too or
 * say in CHANGELOG.md how data is taken over, and keep a file of the old version as a test.
 */
#ifndef STORE_CHECKPOINT_H
#define STORE_CHECKPOINT_H

#include <sys/types.h>

#include "store/engine.h"

#define CHECKPOINT_FILE_PREFIX "checkpoint-"
#define CHECKPOINT_UNFINISHED  ".tmp"
#define CHECKPOINT_FOOTER      UINT32_MAX

enum {
    CHECKPOINT_VERSION = 1,
    CHECKPOINT_HEADER_SIZE = 64,
    CHECKPOINT_BLOCK_HEADER_SIZE = 24,
    CHECKPOINT_ENTRY_HEADER_SIZE = 6,
    CHECKPOINT_BLOCK_SIZE = 1 << 18, /* a block has no more, unless one entry does */
    CHECKPOINT_MAX_BLOCK = CHECKPOINT_BLOCK_HEADER_SIZE + CHECKPOINT_ENTRY_HEADER_SIZE +
                           ENGINE_MAX_KEY + ENGINE_MAX_VALUE,
    CHECKPOINT_DIGITS = 20,
    CHECKPOINT_NAME_SIZE = 48,
};

/*
 * The system calls that write, so that a test can count them and let them fail: results and errno
 * as of write(2), sync_file_range(2) that waits, fsync(2), renameat(2) within the directory.
 */
struct checkpoint_io {
    ssize_t (*write)(void *context, int file, const void *bytes, size_t size);
    int (*flush)(void *context, int file, uint64_t offset, uint64_t size);
    int (*fsync)(void *context, int file);
    int (*rename)(void *context, int directory, const char *from, const char *to);
    void *context;
};

extern const struct checkpoint_io checkpoint_system_io;

/* The name of the checkpoint at a position; and the position in a name, false where it is none. */
void checkpoint_name(uint64_t position, char name[CHECKPOINT_NAME_SIZE]);
bool checkpoint_position(const char *name, uint64_t *position);

/* Whether it is the name of a file that a writer left unfinished. */
bool checkpoint_is_unfinished(const char *name);

/*
 * Writing. checkpoint_create begins the file of the mark in the directory; checkpoint_add takes the
 * entries, by table and then by key; checkpoint_finish makes the whole durable under its name, in
 * place of one of the same position, and says how large it is. After an error of any of them
 * (STORE_FULL, STORE_IO, STORE_NO_MEMORY; `error` has the sentence) and instead of finish,
 * checkpoint_discard removes what was written. Both free the writer; `directory` and `io` outlive
 * it.
 *
 * What was written is brought to the disk bit by bit, so that never much of it stands between
 * another file's fdatasync and the disk.
 */
struct checkpoint_writer;

int checkpoint_create(struct checkpoint_writer **writer, int directory,
                      const struct checkpoint_io *io, const struct engine_mark *mark,
                      struct store_error *error);
int checkpoint_add(struct checkpoint_writer *writer, unsigned table, struct slice key,
                   struct slice value, struct store_error *error);
int checkpoint_finish(struct checkpoint_writer **writer, uint64_t *size, struct store_error *error);
void checkpoint_discard(struct checkpoint_writer **writer);

/* Bytes written so far. */
uint64_t checkpoint_written(const struct checkpoint_writer *writer);

/*
 * Reading. checkpoint_open checks the header and says which mark it has and how large the file is;
 * checkpoint_next hands out entry by entry, as views that live until the next call, and
 * STORE_NOT_FOUND once the footer was reached and is right. STORE_CORRUPT names file and offset;
 * STORE_INVALID: another version; STORE_IO, STORE_NO_MEMORY. `directory` outlives the reader.
 */
struct checkpoint_reader;

int checkpoint_open(struct checkpoint_reader **reader, int directory, uint64_t position,
                    struct engine_mark *mark, uint64_t *size, struct store_error *error);
int checkpoint_next(struct checkpoint_reader *reader, unsigned *table, struct slice *key,
                    struct slice *value, struct store_error *error);
void checkpoint_close(struct checkpoint_reader **reader);

/* Bytes read so far: the offset behind the block that is being handed out. */
uint64_t checkpoint_read(const struct checkpoint_reader *reader);

/* Damage that its reader found: entries that cannot follow one another. Fills `error`. */
int checkpoint_fail(const struct checkpoint_reader *reader, struct store_error *error);

#endif
