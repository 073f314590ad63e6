#include "store/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/on_disk.h"

static const char checkpoint_magic[8] = {'c', 'u', 'b', 'b', 'y', 'c', 'k', 'p'};

/* Offsets; see the drawing in checkpoint.h. */
enum {
    AT_VERSION = 8,
    AT_POSITION = 16,
    AT_SEQ = 24,
    AT_TIME = 32,
    AT_ID = 40,
    AT_CRC = 60,

    AT_BLOCK_CRC = 0,
    AT_BLOCK_LENGTH = 4,
    AT_BLOCK_NUMBER = 8,
    AT_BLOCK_TABLE = 12,
    AT_BLOCK_COUNT = 16,

    AT_ENTRY_VALUE = 0,
    AT_ENTRY_KEY = 4,

    FOOTER_LENGTH = ENGINE_TABLES * sizeof(uint64_t),
    FLUSH_STEP = 1 << 17, /* bytes between two calls that wait for the disk */
};

_Static_assert(CHECKPOINT_MAX_BLOCK >= CHECKPOINT_BLOCK_SIZE, "one buffer holds any block");

/* Of the file's id and of everything in the block behind the crc. */
static uint32_t crc_of_block(const uint8_t *block, size_t size, uint64_t id)
{
    uint8_t bytes[sizeof(id)];
    put64(bytes, id);
    uint32_t crc = crc32c(UINT32_MAX, bytes, sizeof(bytes));
    return ~crc32c(crc, block + AT_BLOCK_LENGTH, size - AT_BLOCK_LENGTH);
}

static ssize_t system_write(void *context, int file, const void *bytes, size_t size)
{
    (void)context;
    return write(file, bytes, size);
}

static int system_flush(void *context, int file, uint64_t offset, uint64_t size)
{
    (void)context;
    return sync_file_range(file, (off_t)offset, (off_t)size,
                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                               SYNC_FILE_RANGE_WAIT_AFTER);
}

static int system_fsync(void *context, int file)
{
    (void)context;
    return fsync(file);
}

static int system_rename(void *context, int directory, const char *from, const char *to)
{
    (void)context;
    return renameat(directory, from, directory, to);
}

const struct checkpoint_io checkpoint_system_io = {
    .write = system_write, .flush = system_flush, .fsync = system_fsync, .rename = system_rename};

void checkpoint_name(uint64_t position, char name[CHECKPOINT_NAME_SIZE])
{
    snprintf(name, CHECKPOINT_NAME_SIZE, CHECKPOINT_FILE_PREFIX "%0*" PRIu64, CHECKPOINT_DIGITS,
             position);
}

bool checkpoint_position(const char *name, uint64_t *position)
{
    const size_t prefix = sizeof(CHECKPOINT_FILE_PREFIX) - 1;
    char own[CHECKPOINT_NAME_SIZE];
    if (strncmp(name, CHECKPOINT_FILE_PREFIX, prefix) != 0)
        return false;
    *position = strtoull(name + prefix, NULL, 10);
    checkpoint_name(*position, own);
    return strcmp(own, name) == 0;
}

bool checkpoint_is_unfinished(const char *name)
{
    const size_t prefix = sizeof(CHECKPOINT_FILE_PREFIX) - 1;
    size_t size = strlen(name);
    size_t suffix = sizeof(CHECKPOINT_UNFINISHED) - 1;
    return strncmp(name, CHECKPOINT_FILE_PREFIX, prefix) == 0 && size > prefix + suffix &&
           strcmp(name + size - suffix, CHECKPOINT_UNFINISHED) == 0;
}

/* Writing. */

struct checkpoint_writer {
    const struct checkpoint_io *io;
    int directory;
    int file;
    uint64_t position;
    uint64_t id;
    uint64_t written; /* bytes, */
    uint64_t flushed; /* and how many of them are on the disk */
    uint64_t counts[ENGINE_TABLES];
    uint32_t number; /* of the block that is being filled, */
    uint32_t table;  /* its table, */
    uint32_t count;  /* its entries */
    size_t size;     /* and its bytes, header included */
    uint8_t block[CHECKPOINT_MAX_BLOCK];
};

static void unfinished_name(uint64_t position, char name[CHECKPOINT_NAME_SIZE])
{
    checkpoint_name(position, name);
    strcat(name, CHECKPOINT_UNFINISHED);
}

static int fail_write(const struct checkpoint_writer *writer, const char *action, int cause,
                      struct store_error *error)
{
    char name[CHECKPOINT_NAME_SIZE];
    bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
    unfinished_name(writer->position, name);
    return store_fail(error, full ? STORE_FULL : STORE_IO, "cannot %s %s: %s", action, name,
                      strerror(cause));
}

/* What is in the page cache must not grow: the log's fdatasync would wait behind all of it. */
static int flush(struct checkpoint_writer *writer, struct store_error *error)
{
    uint64_t size = writer->written - writer->flushed;
    if (size < FLUSH_STEP)
        return 0;
    int rc = writer->io->flush(writer->io->context, writer->file, writer->flushed, size);
    /* Some file systems cannot; the fsync at the end tells of everything else too. */
    if (rc != 0 && errno != ESPIPE && errno != EINVAL && errno != ENOSYS)
        return fail_write(writer, "write", errno, error);
    writer->flushed = writer->written;
    return 0;
}

static int write_bytes(struct checkpoint_writer *writer, const uint8_t *bytes, size_t size,
                       struct store_error *error)
{
    while (size > 0) {
        ssize_t part = writer->io->write(writer->io->context, writer->file, bytes, size);
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return fail_write(writer, "write", part < 0 ? errno : EIO, error);
        bytes += part;
        size -= (size_t)part;
        writer->written += (uint64_t)part;
    }
    return flush(writer, error);
}

static int write_header(struct checkpoint_writer *writer, const struct engine_mark *mark,
                        struct store_error *error)
{
    uint8_t header[CHECKPOINT_HEADER_SIZE] = {0};
    memcpy(header, checkpoint_magic, sizeof(checkpoint_magic));
    put32(header + AT_VERSION, CHECKPOINT_VERSION);
    put64(header + AT_POSITION, mark->position);
    put64(header + AT_SEQ, mark->seq);
    put64(header + AT_TIME, mark->time_ms);
    put64(header + AT_ID, writer->id);
    put32(header + AT_CRC, ~crc32c(UINT32_MAX, header, AT_CRC));
    return write_bytes(writer, header, sizeof(header), error);
}

static void begin_block(struct checkpoint_writer *writer, uint32_t table)
{
    writer->table = table;
    writer->count = 0;
    writer->size = CHECKPOINT_BLOCK_HEADER_SIZE;
}

static int write_block(struct checkpoint_writer *writer, struct store_error *error)
{
    uint8_t *block = writer->block;
    memset(block, 0, CHECKPOINT_BLOCK_HEADER_SIZE);
    put32(block + AT_BLOCK_LENGTH, (uint32_t)(writer->size - CHECKPOINT_BLOCK_HEADER_SIZE));
    put32(block + AT_BLOCK_NUMBER, writer->number++);
    put32(block + AT_BLOCK_TABLE, writer->table);
    put32(block + AT_BLOCK_COUNT, writer->count);
    put32(block + AT_BLOCK_CRC, crc_of_block(block, writer->size, writer->id));
    return write_bytes(writer, block, writer->size, error);
}

int checkpoint_create(struct checkpoint_writer **result, int directory,
                      const struct checkpoint_io *io, const struct engine_mark *mark,
                      struct store_error *error)
{
    char name[CHECKPOINT_NAME_SIZE];
    struct checkpoint_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for a checkpoint");
    *writer = (struct checkpoint_writer){
        .io = io, .directory = directory, .file = -1, .position = mark->position};
    unfinished_name(mark->position, name);
    int rc = STORE_IO;
    if (getrandom(&writer->id, sizeof(writer->id), 0) != sizeof(writer->id)) {
        store_fail(error, rc, "the system gives no random bytes");
        goto err_after_alloc;
    }
    writer->file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (writer->file < 0) {
        rc = fail_write(writer, "make", errno, error);
        goto err_after_alloc;
    }
    begin_block(writer, 0);
    rc = write_header(writer, mark, error);
    if (rc != 0)
        goto err_after_alloc;
    *result = writer;
    return 0;

err_after_alloc:
    checkpoint_discard(&writer);
    return rc;
}

int checkpoint_add(struct checkpoint_writer *writer, unsigned table, struct slice key,
                   struct slice value, struct store_error *error)
{
    size_t size = CHECKPOINT_ENTRY_HEADER_SIZE + key.size + value.size;
    bool another = table != writer->table || writer->size + size > CHECKPOINT_BLOCK_SIZE;
    if (another && writer->count > 0) {
        int rc = write_block(writer, error);
        if (rc != 0)
            return rc;
        begin_block(writer, table);
    }
    writer->table = table;
    uint8_t *at = writer->block + writer->size;
    put32(at + AT_ENTRY_VALUE, (uint32_t)value.size);
    put16(at + AT_ENTRY_KEY, (uint16_t)key.size);
    at += CHECKPOINT_ENTRY_HEADER_SIZE;
    if (key.size > 0)
        memcpy(at, key.data, key.size);
    if (value.size > 0)
        memcpy(at + key.size, value.data, value.size);
    writer->size += size;
    writer->count++;
    writer->counts[table]++;
    return 0;
}

static int write_footer(struct checkpoint_writer *writer, struct store_error *error)
{
    begin_block(writer, CHECKPOINT_FOOTER);
    for (unsigned table = 0; table < ENGINE_TABLES; table++)
        put64(writer->block + CHECKPOINT_BLOCK_HEADER_SIZE + table * sizeof(uint64_t),
              writer->counts[table]);
    writer->size += FOOTER_LENGTH;
    return write_block(writer, error);
}

static int settle(struct checkpoint_writer *writer, struct store_error *error)
{
    const struct checkpoint_io *io = writer->io;
    char unfinished[CHECKPOINT_NAME_SIZE];
    char name[CHECKPOINT_NAME_SIZE];
    unfinished_name(writer->position, unfinished);
    checkpoint_name(writer->position, name);
    if (io->fsync(io->context, writer->file) != 0)
        return fail_write(writer, "sync", errno, error);
    if (io->rename(io->context, writer->directory, unfinished, name) != 0)
        return fail_write(writer, "rename", errno, error);
    if (io->fsync(io->context, writer->directory) != 0)
        return fail_write(writer, "sync the directory of", errno, error);
    return 0;
}

static void free_writer(struct checkpoint_writer **pointer)
{
    if ((*pointer)->file >= 0)
        close((*pointer)->file);
    free(*pointer);
    *pointer = NULL;
}

int checkpoint_finish(struct checkpoint_writer **pointer, uint64_t *size, struct store_error *error)
{
    struct checkpoint_writer *writer = *pointer;
    int rc = writer->count > 0 ? write_block(writer, error) : 0;
    if (rc == 0)
        rc = write_footer(writer, error);
    if (rc == 0)
        rc = settle(writer, error);
    if (rc != 0) {
        checkpoint_discard(pointer);
        return rc;
    }
    *size = writer->written;
    free_writer(pointer);
    return 0;
}

/* Where the directory could not be synced the file has its name already: it is whole, and stays. */
void checkpoint_discard(struct checkpoint_writer **pointer)
{
    char name[CHECKPOINT_NAME_SIZE];
    if (*pointer == NULL)
        return;
    unfinished_name((*pointer)->position, name);
    if ((*pointer)->file >= 0)
        (void)unlinkat((*pointer)->directory, name, 0);
    free_writer(pointer);
}

uint64_t checkpoint_written(const struct checkpoint_writer *writer)
{
    return writer->written;
}

/* Reading. */

struct checkpoint_reader {
    int file;
    uint64_t position;
    uint64_t id;
    uint64_t size;   /* of the file */
    uint64_t offset; /* of the block, */
    uint64_t end;    /* and behind it */
    uint64_t counts[ENGINE_TABLES];
    uint32_t number; /* of the next block */
    uint32_t table;  /* of this one */
    uint32_t left;   /* entries of it that were not handed out */
    const uint8_t *at;
    uint8_t block[CHECKPOINT_MAX_BLOCK];
};

static int fail_damaged(const struct checkpoint_reader *reader, uint64_t offset,
                        struct store_error *error)
{
    char name[CHECKPOINT_NAME_SIZE];
    checkpoint_name(reader->position, name);
    return store_fail(error, STORE_CORRUPT, "%s is damaged at offset %" PRIu64, name, offset);
}

int checkpoint_fail(const struct checkpoint_reader *reader, struct store_error *error)
{
    return fail_damaged(reader, reader->offset, error);
}

static int fail_read(const struct checkpoint_reader *reader, const char *action, int cause,
                     struct store_error *error)
{
    char name[CHECKPOINT_NAME_SIZE];
    checkpoint_name(reader->position, name);
    return store_fail(error, STORE_IO, "cannot %s %s: %s", action, name, strerror(cause));
}

/* A sector that the disk cannot read is as lost as one that it reads wrongly. */
static int read_bytes(const struct checkpoint_reader *reader, uint8_t *bytes, size_t size,
                      uint64_t offset, struct store_error *error)
{
    while (size > 0) {
        ssize_t part = pread(reader->file, bytes, size, (off_t)offset);
        if (part < 0 && errno == EINTR)
            continue;
        if (part == 0 || (part < 0 && errno == EIO))
            return fail_damaged(reader, offset, error);
        if (part < 0)
            return fail_read(reader, "read", errno, error);
        bytes += part;
        offset += (uint64_t)part;
        size -= (size_t)part;
    }
    return 0;
}

static int read_header(struct checkpoint_reader *reader, struct engine_mark *mark,
                       struct store_error *error)
{
    uint8_t header[CHECKPOINT_HEADER_SIZE];
    int rc = read_bytes(reader, header, sizeof(header), 0, error);
    if (rc != 0)
        return rc;
    if (memcmp(header, checkpoint_magic, sizeof(checkpoint_magic)) != 0 ||
        get32(header + AT_CRC) != (uint32_t)~crc32c(UINT32_MAX, header, AT_CRC))
        return fail_damaged(reader, 0, error);
    char name[CHECKPOINT_NAME_SIZE];
    checkpoint_name(reader->position, name);
    if (get32(header + AT_VERSION) != CHECKPOINT_VERSION)
        return store_fail(error, STORE_INVALID,
                          "%s has format %u, this cubbyd reads format %d: run the version that "
                          "wrote it",
                          name, get32(header + AT_VERSION), CHECKPOINT_VERSION);
    *mark = (struct engine_mark){.position = get64(header + AT_POSITION),
                                 .seq = get64(header + AT_SEQ),
                                 .time_ms = get64(header + AT_TIME)};
    reader->id = get64(header + AT_ID);
    return mark->position == reader->position ? 0 : fail_damaged(reader, AT_POSITION, error);
}

int checkpoint_open(struct checkpoint_reader **result, int directory, uint64_t position,
                    struct engine_mark *mark, uint64_t *size, struct store_error *error)
{
    char name[CHECKPOINT_NAME_SIZE];
    struct stat status = {0};
    struct checkpoint_reader *reader = malloc(sizeof(*reader));
    if (reader == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for reading a checkpoint");
    *reader = (struct checkpoint_reader){.position = position, .end = CHECKPOINT_HEADER_SIZE};
    checkpoint_name(position, name);
    int rc = 0;
    reader->file = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (reader->file < 0 || fstat(reader->file, &status) != 0)
        rc = fail_read(reader, "open", errno, error);
    if (rc == 0)
        rc = read_header(reader, mark, error);
    if (rc != 0) {
        checkpoint_close(&reader);
        return rc;
    }
    (void)posix_fadvise(reader->file, 0, 0, POSIX_FADV_SEQUENTIAL);
    reader->size = (uint64_t)status.st_size;
    *size = reader->size;
    *result = reader;
    return 0;
}

/* The block behind this one, checked. */
static int read_block(struct checkpoint_reader *reader, struct store_error *error)
{
    uint8_t *block = reader->block;
    reader->offset = reader->end;
    int rc = read_bytes(reader, block, CHECKPOINT_BLOCK_HEADER_SIZE, reader->offset, error);
    if (rc != 0)
        return rc;
    size_t length = get32(block + AT_BLOCK_LENGTH);
    if (length > CHECKPOINT_MAX_BLOCK - CHECKPOINT_BLOCK_HEADER_SIZE ||
        length > reader->size - reader->offset - CHECKPOINT_BLOCK_HEADER_SIZE)
        return fail_damaged(reader, reader->offset, error);
    size_t size = CHECKPOINT_BLOCK_HEADER_SIZE + length;
    rc = read_bytes(reader, block + CHECKPOINT_BLOCK_HEADER_SIZE, length,
                    reader->offset + CHECKPOINT_BLOCK_HEADER_SIZE, error);
    if (rc != 0)
        return rc;
    if (get32(block + AT_BLOCK_CRC) != crc_of_block(block, size, reader->id) ||
        get32(block + AT_BLOCK_NUMBER) != reader->number)
        return fail_damaged(reader, reader->offset, error);
    reader->number++;
    reader->table = get32(block + AT_BLOCK_TABLE);
    reader->left = get32(block + AT_BLOCK_COUNT);
    reader->at = block + CHECKPOINT_BLOCK_HEADER_SIZE;
    reader->end = reader->offset + size;
    return 0;
}

static int check_footer(const struct checkpoint_reader *reader, struct store_error *error)
{
    const uint8_t *footer = reader->block + CHECKPOINT_BLOCK_HEADER_SIZE;
    if (reader->end - reader->offset != CHECKPOINT_BLOCK_HEADER_SIZE + FOOTER_LENGTH)
        return fail_damaged(reader, reader->offset, error);
    for (unsigned table = 0; table < ENGINE_TABLES; table++)
        if (get64(footer + table * sizeof(uint64_t)) != reader->counts[table])
            return fail_damaged(reader, reader->offset, error);
    return reader->end == reader->size ? STORE_NOT_FOUND : fail_damaged(reader, reader->end, error);
}

/* The checksum holds, so this can only be wrong where it was written wrong; but it is from disk. */
static int take_entry(struct checkpoint_reader *reader, struct slice *key, struct slice *value,
                      struct store_error *error)
{
    size_t rest = (size_t)(reader->block + (reader->end - reader->offset) - reader->at);
    if (rest < CHECKPOINT_ENTRY_HEADER_SIZE)
        return fail_damaged(reader, reader->offset, error);
    *value = slice_of(NULL, get32(reader->at + AT_ENTRY_VALUE));
    *key = slice_of(reader->at + CHECKPOINT_ENTRY_HEADER_SIZE, get16(reader->at + AT_ENTRY_KEY));
    rest -= CHECKPOINT_ENTRY_HEADER_SIZE;
    if (key->size > rest || value->size > rest - key->size)
        return fail_damaged(reader, reader->offset, error);
    value->data = key->data + key->size;
    reader->at = value->data + value->size;
    reader->left--;
    reader->counts[reader->table]++;
    return 0;
}

int checkpoint_next(struct checkpoint_reader *reader, unsigned *table, struct slice *key,
                    struct slice *value, struct store_error *error)
{
    uint32_t before = reader->table;
    while (reader->left == 0) {
        int rc = read_block(reader, error);
        if (rc != 0)
            return rc;
        if (reader->table == CHECKPOINT_FOOTER)
            return check_footer(reader, error);
        if (reader->table >= ENGINE_TABLES || reader->table < before)
            return fail_damaged(reader, reader->offset, error);
    }
    *table = reader->table;
    return take_entry(reader, key, value, error);
}

void checkpoint_close(struct checkpoint_reader **reader)
{
    if (*reader == NULL)
        return;
    if ((*reader)->file >= 0)
        close((*reader)->file);
    free(*reader);
    *reader = NULL;
}

uint64_t checkpoint_read(const struct checkpoint_reader *reader)
{
    return reader->end;
}
