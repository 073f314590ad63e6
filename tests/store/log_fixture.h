/*
 * What the tests of the log share: a directory that goes away, a list of records to compare with,
 * and steps in one line each.
 */
#ifndef TESTS_STORE_LOG_FIXTURE_H
#define TESTS_STORE_LOG_FIXTURE_H

#include "store/log.h"
#include "store/segment.h"
#include "tests/store/files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ENTRIES = 4096, MAX_FILES = 64, PATH_SIZE = 512 };

struct entry {
    uint64_t position;
    uint64_t seq;
    uint64_t time_ms;
    uint8_t *body;
    size_t size;
};

struct entries {
    struct entry list[MAX_ENTRIES];
    size_t count;
};

struct fixture {
    char directory[64];
    struct log_options options;
    struct log *log;
    struct store_error error;
    struct entries expected; /* what was written */
    struct entries seen;     /* what the last start replayed */
    uint64_t seq;
};

static inline void entries_clear(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        free(entries->list[i].body);
    entries->count = 0;
}

static inline void entries_truncate(struct entries *entries, size_t count)
{
    while (entries->count > count)
        free(entries->list[--entries->count].body);
}

static inline void entries_add(struct entries *entries, uint64_t position,
                               const struct log_record *record)
{
    cr_assert(entries->count < MAX_ENTRIES);
    uint8_t *body = malloc(record->body.size + 1);
    memcpy(body, record->body.data, record->body.size);
    entries->list[entries->count++] = (struct entry){.position = position,
                                                     .seq = record->seq,
                                                     .time_ms = record->time_ms,
                                                     .body = body,
                                                     .size = record->body.size};
}

static inline bool entry_is(const struct entry *entry, const struct log_record *record)
{
    return entry->seq == record->seq && entry->time_ms == record->time_ms &&
           slice_equal(slice_of(entry->body, entry->size), record->body);
}

/* Whether the last start replayed what was written in [from, to). */
static inline bool saw(const struct fixture *f, size_t from, size_t to)
{
    if (f->seen.count != to - from)
        return false;
    for (size_t i = 0; i < f->seen.count; i++) {
        const struct entry *seen = &f->seen.list[i];
        struct log_record record = {
            .seq = seen->seq, .time_ms = seen->time_ms, .body = slice_of(seen->body, seen->size)};
        const struct entry *expected = &f->expected.list[from + i];
        if (!entry_is(expected, &record) || expected->position != seen->position)
            return false;
    }
    return true;
}

static inline bool saw_all(const struct fixture *f)
{
    return saw(f, 0, f->expected.count);
}

/* Files in memory where the system has such, so that a sync costs nothing. */
static inline struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    strcpy(f->directory, "/dev/shm/cubby-log-XXXXXX");
    if (mkdtemp(f->directory) == NULL) {
        strcpy(f->directory, "/tmp/cubby-log-XXXXXX");
        cr_assert_not_null(mkdtemp(f->directory));
    }
    f->options =
        (struct log_options){.directory = f->directory, .segment_size = LOG_MIN_SEGMENT_SIZE};
    return f;
}

static inline void path_of(const struct fixture *f, const char *name, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s", f->directory, name);
}

static inline void segment_path(const struct fixture *f, uint64_t id, char path[PATH_SIZE])
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    path_of(f, name, path);
}

static inline void remove_files(const struct fixture *f)
{
    DIR *directory = opendir(f->directory);
    cr_assert_not_null(directory);
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}

static inline void fixture_free(struct fixture *f)
{
    log_close(&f->log);
    entries_clear(&f->expected);
    entries_clear(&f->seen);
    remove_files(f);
    rmdir(f->directory);
    free(f);
}

static inline int collect(void *context, uint64_t position, const struct log_record *record,
                          struct store_error *error)
{
    struct fixture *f = context;
    (void)error;
    entries_add(&f->seen, position, record);
    return 0;
}

static inline int start(struct fixture *f)
{
    entries_clear(&f->seen);
    f->error.message[0] = '\0';
    return log_open(&f->log, &f->options, collect, NULL, f, &f->error);
}

static inline void start_well(struct fixture *f)
{
    int code = start(f);
    cr_assert_eq(code, 0, "code %d: %s", code, f->error.message);
}

static inline void restart(struct fixture *f)
{
    cr_assert_eq(log_close(&f->log), 0);
    start_well(f);
}

/* Bytes that differ from record to record and from place to place. */
static inline void fill_body(uint8_t *body, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        body[i] = (uint8_t)(seed >> 56);
    }
}

static inline int append(struct fixture *f, uint64_t seq, size_t size)
{
    uint8_t *body = malloc(size + 1);
    fill_body(body, size, f->expected.count * 1000003 + seq);
    struct log_record record = {
        .seq = seq, .time_ms = 1000 + f->expected.count, .body = slice_of(body, size)};
    buffer_append(log_begin_record(f->log), body, size);
    int code = log_end_record(f->log, seq, record.time_ms);
    if (code == 0)
        entries_add(&f->expected, log_position(f->log) + 1, &record);
    free(body);
    return code;
}

/* A group of one record with the next seq. */
static inline void commit(struct fixture *f, size_t size)
{
    cr_assert_eq(append(f, f->seq + 1, size), 0);
    f->seq++;
    int code = log_commit(f->log);
    cr_assert_eq(code, 0, "code %d: %s", code, log_failure(f->log));
}

static inline void commit_many(struct fixture *f, size_t groups, size_t size)
{
    for (size_t i = 0; i < groups; i++)
        commit(f, size);
}

/* All segment files as they are, to come back to. */
struct image {
    uint64_t ids[MAX_FILES];
    struct content files[MAX_FILES];
    size_t count;
};

static inline struct image *take_image(const struct fixture *f)
{
    struct image *image = calloc(1, sizeof(*image));
    char path[PATH_SIZE];
    for (uint64_t id = 1; image->count < MAX_FILES && id < 1000; id++) {
        segment_path(f, id, path);
        if (access(path, F_OK) != 0)
            continue;
        image->ids[image->count] = id;
        image->files[image->count++] = read_path(path);
    }
    return image;
}

static inline void put_image(const struct fixture *f, const struct image *image)
{
    char path[PATH_SIZE];
    remove_files(f);
    for (size_t i = 0; i < image->count; i++) {
        segment_path(f, image->ids[i], path);
        write_path(path, image->files[i].bytes, image->files[i].size);
    }
}

static inline void free_image(struct image *image)
{
    for (size_t i = 0; i < image->count; i++)
        free(image->files[i].bytes);
    free(image);
}

/* The seed of a random test: of CUBBY_SEED, or of the clock. */
static inline uint64_t test_seed(void)
{
    const char *given = getenv("CUBBY_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)now.tv_nsec;
}

static inline uint64_t draw(uint64_t *state, uint64_t below)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

#endif
