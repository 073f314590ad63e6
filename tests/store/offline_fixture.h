/*
 * What the tests of inspection and salvage share: a store with a known history, copies of its
 * directory as a kill would leave it, damage, and what a store has to hold as of each seq.
 *
 * Transaction n puts one of KEYS keys, with the value n; every fifth deletes one instead, and every
 * third put expires far away. So the state as of each seq is known.
 */
#ifndef TESTS_STORE_OFFLINE_FIXTURE_H
#define TESTS_STORE_OFFLINE_FIXTURE_H

#include "store/keys.h"
#include "store/salvage.h"
#include "tests/store/files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 7, PATH_SIZE = 512, NAME_SIZE = 128, START_MS = 1000, SEGMENT = 64 << 10 };

#define FAR_MS UINT64_C(100000000000000)

struct fixture {
    char root[64]; /* holds all directories of the test */
    char live[128];
    char copy[128];  /* what is damaged */
    char saved[128]; /* what is made of that */
    const char *engine;
    struct store *store;
    struct keys keys;
    uint64_t seq;
    struct store_report *report;
    struct store_error error;
};

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int open_store(struct fixture *f, const char *path)
{
    struct store_options options = {.directory = path,
                                    .engine = f->engine,
                                    .durability = STORE_ALWAYS,
                                    .log_retain = 1 << 20,
                                    .segment_size = SEGMENT,
                                    .wall_ms = START_MS};
    f->error.message[0] = '\0';
    int rc = store_open(&f->store, &options, &f->error);
    if (rc == 0)
        keys_init(&f->keys, f->store);
    return rc;
}

static inline void open_well(struct fixture *f, const char *path)
{
    int rc = open_store(f, path);
    cr_assert_eq(rc, 0, "code %d: %s", rc, f->error.message);
}

static inline void close_store(struct fixture *f)
{
    cr_assert_eq(store_close(&f->store), 0);
}

static inline struct fixture *fixture_new(const char *engine)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->root, "/dev/shm/cubby-offline-XXXXXX");
    if (mkdtemp(f->root) == NULL) {
        strcpy(f->root, "/tmp/cubby-offline-XXXXXX");
        cr_assert_not_null(mkdtemp(f->root));
    }
    snprintf(f->live, sizeof f->live, "%s/live", f->root);
    snprintf(f->copy, sizeof f->copy, "%s/copy", f->root);
    snprintf(f->saved, sizeof f->saved, "%s/saved", f->root);
    f->engine = engine;
    open_well(f, f->live);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    (void)store_close(&f->store);
    store_report_free(&f->report);
    remove_tree(f->root);
    free(f);
}

static inline struct slice key_of(uint64_t seq, char text[NAME_SIZE])
{
    int size = snprintf(text, NAME_SIZE, "key %" PRIu64, seq * 3 % KEYS);
    return slice_of(text, (size_t)size);
}

/* Whether transaction `seq` deletes a key that is there. */
static inline bool deletes(uint64_t seq)
{
    return seq % 5 == 0 && seq > KEYS;
}

static inline uint64_t expiry_of(uint64_t seq)
{
    return seq % 3 == 0 ? FAR_MS + seq : 0;
}

static inline void write_one(struct fixture *f)
{
    char key[NAME_SIZE];
    char value[NAME_SIZE];
    uint64_t seq = ++f->seq;
    snprintf(value, sizeof value, "%" PRIu64, seq);
    store_begin(f->store, START_MS + seq);
    /* What was deleted and is to be deleted again is put instead: each transaction has a seq. */
    if (!deletes(seq) || keys_delete(&f->keys, key_of(seq, key)) != 0)
        cr_assert_eq(keys_put(&f->keys, key_of(seq, key), slice_of_text(value), expiry_of(seq)), 0);
    cr_assert_eq(store_end(f->store, NULL), 0);
    cr_assert_eq(store_commit(f->store), 0);
    cr_assert_eq(store_seq(f->store), seq);
}

static inline void write_many(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        write_one(f);
}

/* The seq that wrote each key last, as of `seq`; 0: it is absent. */
static inline void state_as_of(uint64_t seq, uint64_t state[KEYS])
{
    memset(state, 0, KEYS * sizeof state[0]);
    for (uint64_t i = 1; i <= seq; i++) {
        uint64_t *version = &state[i * 3 % KEYS];
        *version = deletes(i) && *version != 0 ? 0 : i;
    }
}

static inline unsigned keys_as_of(uint64_t seq)
{
    uint64_t state[KEYS];
    unsigned count = 0;
    state_as_of(seq, state);
    for (unsigned i = 0; i < KEYS; i++)
        count += state[i] != 0;
    return count;
}

/* Whether the open store holds the history up to `seq` and nothing else. */
static inline bool holds_history(struct fixture *f, uint64_t seq)
{
    uint64_t state[KEYS];
    uint64_t count;
    state_as_of(seq, state);
    if (store_seq(f->store) != seq ||
        keys_count(&f->keys, (struct keys_range){.start = {0}}, &count) != 0 ||
        count != keys_as_of(seq))
        return false;
    for (uint64_t i = 0; i < KEYS; i++) {
        char name[NAME_SIZE];
        char value[NAME_SIZE];
        struct keys_entry entry;
        snprintf(name, sizeof name, "key %" PRIu64, i);
        snprintf(value, sizeof value, "%" PRIu64, state[i]);
        int rc = keys_get(&f->keys, slice_of_text(name), &entry);
        bool right = state[i] == 0 ? rc == STORE_NOT_FOUND
                                   : rc == 0 && entry.version == state[i] &&
                                         entry.expires_at_ms == expiry_of(state[i]) &&
                                         slice_equal(entry.value, slice_of_text(value));
        if (!right)
            return false;
    }
    return true;
}

/* A checkpoint of everything so far. */
static inline void write_checkpoint(struct fixture *f)
{
    struct store_checkpoints checkpoints;
    store_checkpoints(f->store, &checkpoints);
    uint64_t count = checkpoints.count;
    cr_assert_eq(store_checkpoint(f->store, NULL), 0);
    for (unsigned i = 0; i < 10000 && checkpoints.count == count; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        store_poll(f->store);
        store_checkpoints(f->store, &checkpoints);
        if (checkpoints.count == count)
            nanosleep(&pause, NULL);
    }
    cr_assert_eq(checkpoints.count, count + 1);
}

/* Files. */

static inline void copy_tree(const char *from, const char *to)
{
    DIR *list = opendir(from);
    cr_assert(list != NULL && mkdir(to, 0700) == 0, "%s to %s", from, to);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char source[PATH_SIZE];
        char target[PATH_SIZE];
        struct stat status;
        snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        if (strcmp(entry->d_name, "log-spare") == 0)
            continue; /* the log's thread may rename it at any time */
        cr_assert_eq(stat(source, &status), 0, "%s", source);
        if (S_ISDIR(status.st_mode)) {
            if (entry->d_name[0] != '.')
                copy_tree(source, target);
            continue;
        }
        struct content content = read_path(source);
        write_path(target, content.bytes, content.size);
        free(content.bytes);
    }
    closedir(list);
}

/* The live directory as a kill at this moment would leave it. */
static inline void take_copy(struct fixture *f)
{
    remove_tree(f->copy);
    copy_tree(f->live, f->copy);
}

static inline void path_in_copy(const struct fixture *f, const char *name, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s", f->copy, name);
}

static inline void flip(const struct fixture *f, const char *name, size_t offset, uint8_t mask)
{
    char path[PATH_SIZE];
    uint8_t byte;
    path_in_copy(f, name, path);
    int file = open(path, O_RDWR);
    cr_assert(file >= 0 && pread(file, &byte, 1, (off_t)offset) == 1, "%s at %zu", path, offset);
    byte ^= mask;
    cr_assert_eq(pwrite(file, &byte, 1, (off_t)offset), 1);
    close(file);
}

/* The offset behind the last byte of a file of the copy that is not zero. */
static inline size_t end_of(const struct fixture *f, const char *name)
{
    char path[PATH_SIZE];
    path_in_copy(f, name, path);
    struct content content = read_path(path);
    while (content.size > 0 && content.bytes[content.size - 1] == 0)
        content.size--;
    free(content.bytes);
    return content.size;
}

/* Steps. */

static inline int inspect(struct fixture *f, const char *path)
{
    store_report_free(&f->report);
    f->error.message[0] = '\0';
    return store_inspect(path, NULL, NULL, NULL, NULL, &f->report, &f->error);
}

static inline void inspect_copy(struct fixture *f)
{
    int rc = inspect(f, f->copy);
    cr_assert_eq(rc, 0, "code %d: %s", rc, f->error.message);
}

static inline bool says(const struct fixture *f, const char *text)
{
    for (size_t i = 0; i < f->report->damage_count; i++)
        if (strstr(f->report->damages[i].message, text) != NULL)
            return true;
    return false;
}

static inline int salvage(struct fixture *f)
{
    struct store_options options = {.directory = f->saved};
    store_report_free(&f->report);
    remove_tree(f->saved);
    f->error.message[0] = '\0';
    return store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error);
}

/* Saves what is whole of the copy; the seq up to which it starts as a store again. */
static inline uint64_t salvaged_seq(struct fixture *f)
{
    struct store *live = f->store;
    struct keys keys = f->keys;
    int rc = salvage(f);
    cr_assert_eq(rc, 0, "code %d: %s", rc, f->error.message);
    open_well(f, f->saved);
    uint64_t seq = store_seq(f->store);
    cr_assert(holds_history(f, seq), "not the history as of %" PRIu64, seq);
    cr_assert_eq(f->report->end.seq, seq);
    close_store(f);
    f->store = live;
    f->keys = keys;
    return seq;
}

/* What a start on the copy does: its code, and the seq it has. */
static inline int start_on_copy(struct fixture *f, uint64_t *seq)
{
    struct store *live = f->store;
    struct keys keys = f->keys;
    int rc = open_store(f, f->copy);
    if (rc == 0) {
        *seq = store_seq(f->store);
        cr_assert(holds_history(f, *seq), "not the history as of %" PRIu64, *seq);
        close_store(f);
    }
    f->store = live;
    f->keys = keys;
    return rc;
}

#endif
