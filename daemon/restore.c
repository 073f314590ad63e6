#include "daemon/restore.h"

#include <czmq.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/backups.h"
#include "store/fill.h"
#include "wire/cursor.h"

enum { FILE_VERSION = 1, MAX_NESTED = 4, MAX_HASH = 64 };

struct backup_file {
    const char *path;
    struct slice bytes;
    struct store_error *error;
    uint64_t seq;
    uint64_t time_ms;
    uint64_t entries; /* so far */
    uint64_t keys;
    struct store_fill *fill; /* NULL while the file is verified */
};

struct entry {
    uint64_t table;
    struct slice key;
    struct slice stored;
};

static int damaged(struct backup_file *file, const uint8_t *at, const char *what)
{
    return (int)store_fail(file->error, STORE_CORRUPT,
                           "%s is damaged at offset %zu: %s; nothing was restored", file->path,
                           (size_t)(at - file->bytes.data), what);
}

static int map_file(struct backup_file *file)
{
    struct stat status = {0};
    void *bytes = MAP_FAILED;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    int cause = errno;
    bool empty = fd >= 0 && status.st_size == 0;
    if (S_ISDIR(status.st_mode))
        cause = EISDIR;
    if (fd >= 0)
        close(fd);
    if (bytes == MAP_FAILED)
        return (int)store_fail(file->error, STORE_IO, "cannot read %s: %s", file->path,
                               empty ? "it is empty" : strerror(cause));
    file->bytes = slice_of(bytes, (size_t)status.st_size);
    return 0;
}

/* The number that a map has under a name; UINT64_MAX where there is none. */
static uint64_t number_in(struct slice map, const char *name)
{
    struct wire_cursor cursor = wire_cursor_of(map);
    struct slice key;
    struct slice value;
    uint32_t count = 0;
    uint64_t number = UINT64_MAX;
    (void)wire_read_map(&cursor, &count);
    for (; count > 0 && wire_read_str(&cursor, &key) == 0; count--) {
        struct wire_cursor number_cursor = cursor;
        if (slice_equal(key, slice_of_text(name)))
            (void)wire_read_uint(&number_cursor, &number);
        if (wire_read_object(&cursor, MAX_NESTED, &value, NULL) != 0)
            break;
    }
    return number;
}

static bool has_text(struct slice map, const char *name, const char *text)
{
    struct wire_cursor cursor = wire_cursor_of(map);
    struct slice key;
    struct slice value;
    uint32_t count = 0;
    (void)wire_read_map(&cursor, &count);
    for (; count > 0 && wire_read_str(&cursor, &key) == 0; count--) {
        struct wire_cursor text_cursor = cursor;
        if (slice_equal(key, slice_of_text(name)))
            return wire_read_str(&text_cursor, &value) == 0 &&
                   slice_equal(value, slice_of_text(text));
        if (wire_read_object(&cursor, MAX_NESTED, &value, NULL) != 0)
            break;
    }
    return false;
}

static int read_header(struct backup_file *file, struct wire_cursor *cursor)
{
    struct slice map;
    if (wire_peek(cursor) != WIRE_MAP || wire_read_object(cursor, MAX_NESTED, &map, NULL) != 0 ||
        number_in(map, "cubby-backup") == UINT64_MAX)
        return (int)store_fail(file->error, STORE_INVALID,
                               "%s is not a backup: give a file that 'cubby backup' wrote",
                               file->path);
    if (number_in(map, "cubby-backup") != FILE_VERSION ||
        number_in(map, "format") != BACKUPS_FORMAT)
        return (int)store_fail(file->error, STORE_INVALID,
                               "%s was written by another version: restore it with that one",
                               file->path);
    file->seq = number_in(map, "seq");
    file->time_ms = number_in(map, "time");
    if (file->seq == UINT64_MAX || file->time_ms == UINT64_MAX)
        return damaged(file, file->bytes.data, "the header lacks seq or time");
    return 0;
}

static bool read_entry(struct wire_cursor *cursor, struct entry *entry)
{
    uint32_t count;
    return wire_read_array(cursor, &count) == 0 && count == 3 &&
           wire_read_uint(cursor, &entry->table) == 0 && wire_read_bin(cursor, &entry->key) == 0 &&
           wire_read_bin(cursor, &entry->stored) == 0;
}

static bool follows(const struct entry *entry, const struct entry *before)
{
    if (before->key.data == NULL || entry->table != before->table)
        return before->key.data == NULL || entry->table > before->table;
    return slice_compare(entry->key, before->key) > 0;
}

static int read_entries(struct backup_file *file, struct wire_cursor *cursor)
{
    struct entry before = {0};
    struct entry entry;
    while (wire_peek(cursor) == WIRE_ARRAY) {
        const uint8_t *at = cursor->at;
        if (!read_entry(cursor, &entry))
            return damaged(file, at, "an entry is not whole");
        if (entry.table >= STORE_TABLES || !follows(&entry, &before))
            return damaged(file, at, "an entry is not in its place");
        file->entries++;
        file->keys += entry.table == STORE_KEYS;
        before = entry;
        int rc = file->fill != NULL ? store_fill_put(file->fill, (unsigned)entry.table, entry.key,
                                                     entry.stored, file->error)
                                    : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The hash of everything before the footer, as text. */
static int hash_of(struct backup_file *file, size_t size, char *text)
{
    enum { STEP = 1 << 20 };
    zdigest_t *digest = zdigest_new();
    if (digest == NULL)
        return (int)store_fail(file->error, STORE_NO_MEMORY, "out of memory");
    for (size_t at = 0; at < size; at += STEP)
        zdigest_update(digest, file->bytes.data + at, size - at < STEP ? size - at : STEP);
    snprintf(text, MAX_HASH, "%s", zdigest_string(digest));
    zdigest_destroy(&digest);
    return 0;
}

static int read_footer(struct backup_file *file, struct wire_cursor *cursor)
{
    const uint8_t *at = cursor->at;
    struct slice map;
    char hash[MAX_HASH];
    if (wire_at_end(cursor))
        return damaged(file, at, "its end is missing");
    if (wire_peek(cursor) != WIRE_MAP || wire_read_object(cursor, MAX_NESTED, &map, NULL) != 0)
        return damaged(file, at, "there is neither an entry nor the end");
    if (!wire_at_end(cursor))
        return damaged(file, cursor->at, "something follows the end");
    if (number_in(map, "entries") != file->entries)
        return damaged(file, at, "entries are missing");
    int rc = hash_of(file, (size_t)(at - file->bytes.data), hash);
    if (rc == 0 && !has_text(map, "sha1", hash))
        rc = damaged(file, at, "the bytes before do not have the SHA-1 that is written here");
    return rc;
}

static int read_all(struct backup_file *file)
{
    struct wire_cursor cursor = wire_cursor_of(file->bytes);
    file->entries = 0;
    file->keys = 0;
    int rc = read_header(file, &cursor);
    if (rc == 0)
        rc = read_entries(file, &cursor);
    if (rc == 0 && file->fill == NULL)
        rc = read_footer(file, &cursor);
    return rc;
}

static int fill(struct backup_file *file, const struct store_options *options)
{
    int rc = store_fill_begin(&file->fill, options, file->error);
    if (rc != 0)
        return rc;
    rc = read_all(file);
    if (rc == 0)
        return store_fill_end(&file->fill, file->seq, file->time_ms, file->error);
    store_fill_cancel(&file->fill);
    return rc;
}

int restore(const char *path, const struct store_options *options, struct restored *restored,
            struct store_error *error)
{
    struct backup_file file = {.path = path, .error = error};
    int rc = map_file(&file);
    if (rc != 0)
        return rc;
    rc = read_all(&file);
    if (rc == 0)
        rc = fill(&file, options);
    munmap((void *)file.bytes.data, file.bytes.size);
    *restored = (struct restored){.entries = file.entries, .keys = file.keys, .seq = file.seq};
    return rc;
}
