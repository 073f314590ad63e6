/*
 * What is special about the RocksDB engine: the overlay of a turn above what is committed, in all
 * directions; counts; fronts that many deletes have left; what is found in a damaged directory.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/store/engine_model.h"

enum { TABLE = 3, STEPS = 100000, MODEL_KEYS = 400 };

static const struct engine_methods *const methods = &engine_rocksdb;

struct place {
    char path[64];
};

static struct place place_make(void)
{
    struct place place = {.path = "/tmp/cubby_rocksdb.XXXXXX"};
    cr_assert_not_null(mkdtemp(place.path));
    return place;
}

static void place_remove(const struct place *place)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", place->path);
    cr_assert_eq(system(command), 0); // NOLINT(cert-env33-c): a name of our own
}

static int try_open(const struct place *place, struct engine **engine, struct engine_mark *mark,
                    struct store_error *error)
{
    struct engine_options options = {.directory = place->path, .memory_limit = 16 << 20};
    return methods->open(engine, &options, mark, error);
}

static struct engine *open_at(const struct place *place, struct engine_mark *mark)
{
    struct engine *engine = NULL;
    struct store_error error = {0};
    cr_assert_eq(try_open(place, &engine, mark, &error), STORE_OK, "%s", error.message);
    return engine;
}

static void commit_at(struct engine *engine, uint64_t position)
{
    struct engine_mark mark = {.position = position, .seq = position * 2, .time_ms = 7};
    cr_assert_eq(methods->commit(engine, &mark), STORE_OK);
}

static struct engine_cursor *cursor_on(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct engine_cursor *cursor = NULL;
    cr_assert_eq(methods->cursor_open(engine, snapshot, TABLE, &cursor), STORE_OK);
    return cursor;
}

static bool holds(struct engine *engine, struct engine_snapshot *snapshot,
                  const struct model *model)
{
    struct engine_cursor *cursor = cursor_on(engine, snapshot);
    bool same = walks_as(cursor, model, true) && walks_as(cursor, model, false);
    methods->cursor_close(cursor);
    return same;
}

static uint64_t count_all(struct engine *engine)
{
    uint64_t count = 0;
    struct slice none = {0};
    cr_assert_eq(methods->count(engine, TABLE, none, none, &count), STORE_OK);
    return count;
}

/* An engine and the model of its present state, of its committed one, and of the one on disk. */
struct run {
    struct place place;
    struct engine *engine;
    struct engine_cursor *cursor;
    struct random random;
    struct model now;
    struct model committed;
    struct slice at; /* where the cursor is; data NULL: nowhere */
    uint64_t position;
};

#define CHECK(condition, run)                                                                      \
    cr_assert((condition), "CUBBY_SEED=%llu: " #condition, (unsigned long long)(run)->random.seed)

static struct slice pick_key(struct run *run, char *buffer, size_t size)
{
    unsigned number = (unsigned)random_below(&run->random, MODEL_KEYS);
    return number == 0 ? slice_of_text("") : numbered(buffer, size, "k", number);
}

static void found(struct run *run, int result, struct slice key, struct slice value,
                  size_t expected)
{
    slice_drop(run->at);
    run->at = slice_of(NULL, 0);
    CHECK(result == (expected < run->now.count ? STORE_OK : STORE_NOT_FOUND), run);
    if (result != STORE_OK)
        return;
    CHECK(slice_equal(key, run->now.pairs[expected].key), run);
    CHECK(slice_equal(value, run->now.pairs[expected].value), run);
    run->at = slice_copy(key);
}

static void seek(struct run *run, bool before)
{
    char buffer[64];
    struct slice key = pick_key(run, buffer, sizeof buffer);
    struct slice got = {0};
    struct slice value = {0};
    if (before && random_below(&run->random, 8) == 0)
        key = slice_of(NULL, 0);
    size_t at = key.data != NULL ? model_find(&run->now, key) : run->now.count;
    int rc = before ? methods->cursor_seek_before(run->cursor, key, &got, &value)
                    : methods->cursor_seek(run->cursor, key, &got, &value);
    found(run, rc, got, value, before ? at - 1 : at);
}

static void step(struct run *run, bool forward)
{
    struct slice got = {0};
    struct slice value = {0};
    size_t expected = SIZE_MAX;
    if (run->at.data != NULL) {
        size_t at = model_find(&run->now, run->at);
        expected = forward ? at + model_has(&run->now, at, run->at) : at - 1;
    }
    int rc = forward ? methods->cursor_next(run->cursor, &got, &value)
                     : methods->cursor_prev(run->cursor, &got, &value);
    found(run, rc, got, value, expected);
}

static void write_some(struct run *run)
{
    char key_text[64];
    char value_text[64];
    struct slice key = pick_key(run, key_text, sizeof key_text);
    struct slice value =
        numbered(value_text, sizeof value_text, "v", (unsigned)random_below(&run->random, 1 << 20));
    if (random_below(&run->random, 2) == 0) {
        CHECK(methods->put(run->engine, TABLE, key, value) == STORE_OK, run);
        model_put(&run->now, key, value);
    } else {
        int expected = model_delete(&run->now, key) ? STORE_OK : STORE_NOT_FOUND;
        CHECK(methods->delete (run->engine, TABLE, key) == expected, run);
    }
}

static void get(struct run *run)
{
    char buffer[64];
    struct slice key = pick_key(run, buffer, sizeof buffer);
    struct slice value;
    size_t at = model_find(&run->now, key);
    bool there = model_has(&run->now, at, key);
    int rc = methods->get(run->engine, TABLE, key, &value);
    CHECK(rc == (there ? STORE_OK : STORE_NOT_FOUND), run);
    CHECK(!there || slice_equal(value, run->now.pairs[at].value), run);
}

static void commit(struct run *run)
{
    commit_at(run->engine, ++run->position);
    model_free(&run->committed);
    run->committed = model_copy(&run->now);
    CHECK(count_all(run->engine) == run->now.count, run);
}

/* What was not committed must be gone, what was must be there. */
static void reopen(struct run *run)
{
    struct engine_mark mark;
    methods->cursor_close(run->cursor);
    cr_assert_eq(methods->checkpoint(run->engine, true), STORE_OK);
    methods->close(run->engine);
    run->engine = open_at(&run->place, &mark);
    CHECK(mark.position == run->position && mark.seq == 2 * run->position, run);
    run->cursor = cursor_on(run->engine, NULL);
    model_free(&run->now);
    run->now = model_copy(&run->committed);
    slice_drop(run->at);
    run->at = slice_of(NULL, 0);
    CHECK(holds(run->engine, NULL, &run->now), run);
    CHECK(count_all(run->engine) == run->now.count, run);
}

static void one_step(struct run *run)
{
    uint64_t kind = random_below(&run->random, 1000);
    if (kind < 1)
        reopen(run);
    else if (kind < 30)
        commit(run);
    else if (kind < 400)
        write_some(run);
    else if (kind < 500)
        get(run);
    else if (kind < 700)
        seek(run, kind < 600);
    else
        step(run, kind < 850);
}

Test(engine_rocksdb, the_overlay_and_what_is_committed_are_one_in_both_directions, .timeout = 240)
{
    struct run run = {.place = place_make(), .random = random_start()};
    struct engine_mark mark;
    run.engine = open_at(&run.place, &mark);
    run.cursor = cursor_on(run.engine, NULL);
    for (unsigned i = 0; i < STEPS; i++)
        one_step(&run);
    CHECK(holds(run.engine, NULL, &run.now), &run);
    methods->cursor_close(run.cursor);
    methods->close(run.engine);
    slice_drop(run.at);
    model_free(&run.now);
    model_free(&run.committed);
    place_remove(&run.place);
}

static void put_number(struct engine *engine, unsigned number)
{
    char text[64];
    struct slice key = numbered(text, sizeof text, "k", number);
    cr_assert_eq(methods->put(engine, TABLE, key, key), STORE_OK);
}

Test(engine_rocksdb, a_snapshot_stays_still_while_commits_go_on)
{
    struct place place = place_make();
    struct engine_mark mark;
    struct engine *engine = open_at(&place, &mark);
    struct model before = {0};
    for (unsigned i = 0; i < 1000; i++) {
        char text[64];
        put_number(engine, i);
        struct slice key = numbered(text, sizeof text, "k", i);
        model_put(&before, key, key);
    }
    commit_at(engine, 1);
    struct engine_snapshot *snapshot;
    cr_assert_eq(methods->snapshot(engine, &snapshot), STORE_OK);
    for (unsigned i = 0; i < 2000; i += 2)
        cr_assert_neq(methods->delete (engine, TABLE, before.pairs[i / 2].key), STORE_INVALID);
    cr_assert(holds(engine, snapshot, &before));
    commit_at(engine, 2);
    cr_assert_eq(methods->checkpoint(engine, true), STORE_OK);
    cr_assert(holds(engine, snapshot, &before));
    methods->release(engine, snapshot);
    cr_assert_eq(count_all(engine), 0);
    methods->close(engine);
    model_free(&before);
    place_remove(&place);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Pops so many from the front, a hundred to a commit; microseconds for the head. */
static double pop(struct engine *engine, struct engine_cursor *cursor, unsigned from, unsigned to)
{
    double seeking = 0;
    for (unsigned i = from; i < to; i++) {
        char text[64];
        struct slice expected = numbered(text, sizeof text, "k", i);
        struct slice key;
        struct slice value;
        double start = now_us();
        cr_assert_eq(methods->cursor_seek(cursor, slice_of_text("k"), &key, &value), STORE_OK);
        seeking += now_us() - start;
        cr_assert(slice_equal(key, expected));
        cr_assert_eq(methods->delete (engine, TABLE, expected), STORE_OK);
        if (i % 100 == 99)
            commit_at(engine, 1000000 + i);
    }
    return seeking / (to - from);
}

Test(engine_rocksdb, the_head_of_a_queue_is_found_however_many_were_popped, .timeout = 240)
{
    enum { ENTRIES = 200000, PART = ENTRIES / 10 };
    struct place place = place_make();
    struct engine_mark mark;
    struct engine *engine = open_at(&place, &mark);
    for (unsigned i = 0; i < ENTRIES; i++) {
        put_number(engine, i);
        if (i % 1000 == 999)
            commit_at(engine, i);
    }
    struct engine_cursor *cursor = cursor_on(engine, NULL);
    double first = pop(engine, cursor, 0, PART);
    (void)pop(engine, cursor, PART, ENTRIES - PART);
    double last = pop(engine, cursor, ENTRIES - PART, ENTRIES);
    cr_log_info("head of the queue: %.1f us at first, %.1f us at last", first, last);
    cr_assert_leq(last, first * 10 + 100);
    methods->cursor_close(cursor);
    cr_assert_eq(count_all(engine), 0);
    methods->close(engine);
    place_remove(&place);
}

Test(engine_rocksdb, without_a_directory_it_refuses)
{
    struct engine_options options = {0};
    struct engine *engine = NULL;
    struct engine_mark mark;
    struct store_error error = {0};
    cr_assert_eq(methods->open(&engine, &options, &mark, &error), STORE_INVALID);
    cr_assert_not_null(strstr(error.message, "data directory"));
}

/* A directory with one checkpoint, closed. */
static struct place written_place(void)
{
    struct place place = place_make();
    struct engine_mark mark;
    struct engine *engine = open_at(&place, &mark);
    for (unsigned i = 0; i < 5000; i++)
        put_number(engine, i);
    commit_at(engine, 9);
    cr_assert_eq(methods->checkpoint(engine, true), STORE_OK);
    struct engine_status status;
    methods->status(engine, &status);
    cr_assert_eq(status.at.position, 9);
    cr_assert_eq(status.kept, 9);
    methods->close(engine);
    return place;
}

/* The path of the first file whose name has that in it. */
static void find_file(const struct place *place, const char *part, char *path, size_t size)
{
    char directory[96];
    snprintf(directory, sizeof directory, "%s/rocksdb", place->path);
    DIR *opened = opendir(directory);
    cr_assert_not_null(opened);
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(opened)) != NULL;)
        if (strstr(entry->d_name, part) != NULL)
            snprintf(path, size, "%s/%s", directory, entry->d_name);
    closedir(opened);
    cr_assert(path[0] != '\0', "no file %s", part);
}

static void damage(const char *path, off_t at)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t bytes[64];
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, bytes, sizeof bytes, at), (ssize_t)sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] ^= 0xff;
    cr_assert_eq(pwrite(fd, bytes, sizeof bytes, at), (ssize_t)sizeof bytes);
    close(fd);
}

Test(engine_rocksdb, a_damaged_block_is_an_error_and_never_an_absent_key)
{
    struct place place = written_place();
    struct engine_mark mark;
    char path[400];
    char text[64];
    struct slice value;
    struct slice key;
    find_file(&place, ".sst", path, sizeof path);
    damage(path, 100);
    struct engine *engine = open_at(&place, &mark);
    cr_assert_eq(methods->get(engine, TABLE, numbered(text, sizeof text, "k", 3), &value),
                 STORE_CORRUPT);
    struct engine_cursor *cursor = cursor_on(engine, NULL);
    cr_assert_eq(methods->cursor_seek(cursor, slice_of_text(""), &key, &value), STORE_CORRUPT);
    methods->cursor_close(cursor);
    struct engine_status status;
    methods->status(engine, &status);
    cr_assert_not_null(strstr(status.failure, "restore the directory from a backup"));
    methods->close(engine);
    place_remove(&place);
}

static void refuses(const struct place *place)
{
    struct engine *engine = NULL;
    struct engine_mark mark;
    struct store_error error = {0};
    cr_assert_eq(try_open(place, &engine, &mark, &error), STORE_CORRUPT, "%s", error.message);
    cr_assert_not_null(strstr(error.message, "restore the directory from a backup"));
    cr_assert_null(strchr(error.message, '\n'));
}

Test(engine_rocksdb, a_missing_current_is_found_and_nothing_is_removed)
{
    struct place place = written_place();
    char path[400];
    find_file(&place, "CURRENT", path, sizeof path);
    cr_assert_eq(unlink(path), 0);
    refuses(&place);
    find_file(&place, ".sst", path, sizeof path);
    place_remove(&place);
}

/* A power failure may leave the new name in CURRENT and not the file; see mend_current in rocks.c.
 */
Test(engine_rocksdb, a_start_that_lost_its_manifest_goes_on_with_the_one_before)
{
    struct place place = written_place();
    char path[400];
    struct engine_mark mark;
    find_file(&place, "CURRENT", path, sizeof path);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs("MANIFEST-000999\n", file);
    fclose(file);
    struct engine *engine = NULL;
    struct store_error error = {0};
    struct engine_options options = {.directory = place.path, .read_only = true};
    cr_assert_eq(methods->open(&engine, &options, &mark, &error), STORE_INVALID);
    cr_assert_not_null(strstr(error.message, "start cubbyd, which"), "%s", error.message);
    engine = open_at(&place, &mark);
    cr_assert_eq(mark.position, 9);
    cr_assert_eq(count_all(engine), 5000);
    methods->close(engine);
    find_file(&place, "MANIFEST", path, sizeof path);
    cr_assert_eq(unlink(path), 0);
    refuses(&place);
    place_remove(&place);
}

Test(engine_rocksdb, a_first_start_that_lost_its_manifest_begins_anew)
{
    struct place place = place_make();
    char path[400];
    struct engine_mark mark;
    methods->close(open_at(&place, &mark));
    find_file(&place, "MANIFEST", path, sizeof path);
    cr_assert_eq(unlink(path), 0);
    struct engine *engine = open_at(&place, &mark);
    cr_assert_eq(mark.position, 0);
    methods->close(engine);
    place_remove(&place);
}

Test(engine_rocksdb, a_damaged_manifest_is_found)
{
    struct place place = written_place();
    char path[400];
    find_file(&place, "MANIFEST", path, sizeof path);
    damage(path, 8);
    refuses(&place);
    place_remove(&place);
}

/* The length is there, and of what follows nothing: what a power failure may leave of a record. */
Test(engine_rocksdb, a_manifest_whose_last_record_is_torn_is_cut_by_a_start_alone)
{
    static const uint8_t torn[7 + 95] = {0x7d, 0xf1, 0xaa, 0xdc, 95};
    struct place place = written_place();
    struct store_error error = {0};
    struct engine *engine = NULL;
    struct engine_mark mark;
    char path[400];
    find_file(&place, "MANIFEST", path, sizeof path);
    FILE *file = fopen(path, "a");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(torn, 1, sizeof torn, file), sizeof torn);
    fclose(file);
    struct engine_options options = {.directory = place.path, .read_only = true};
    cr_assert_eq(methods->open(&engine, &options, &mark, &error), STORE_INVALID);
    cr_assert_not_null(strstr(error.message, "start cubbyd, which cuts it off"), "%s",
                       error.message);
    engine = open_at(&place, &mark);
    cr_assert_eq(mark.position, 9);
    cr_assert_eq(count_all(engine), 5000);
    methods->close(engine);
    place_remove(&place);
}

Test(engine_rocksdb, cache_and_buffers_stay_near_the_limit)
{
    struct place place = place_make();
    struct engine_mark mark;
    struct engine *engine = open_at(&place, &mark);
    struct engine_status status;
    static uint8_t value[1000];
    uint64_t most = 0;
    for (unsigned i = 0; i < 60000; i++) {
        char text[64];
        struct slice key = numbered(text, sizeof text, "k", i);
        for (unsigned at = 0; at < sizeof value; at++)
            value[at] = (uint8_t)(i * 2654435761u >> (at % 25));
        cr_assert_eq(methods->put(engine, TABLE, key, slice_of(value, sizeof value)), STORE_OK);
        if (i % 100 == 99) {
            commit_at(engine, i);
            methods->status(engine, &status);
            most = status.cache > most ? status.cache : most;
        }
    }
    cr_assert_leq(most, 16 << 20);
    methods->close(engine);
    place_remove(&place);
}
