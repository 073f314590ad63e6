/*
 * Checkpoints: the file format under every kind of damage, writes that fail, what a start falls
 * back to, what is kept and removed; and the loader that builds trees from entries in order.
 */
#include "store/checkpoint_keeper.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/memory_loader.h"
#include "tests/store/engine_model.h"

static char path[64];
static int directory = -1;
static struct store_error error;

static void make_directory(void)
{
    strcpy(path, "/tmp/cubby-checkpoint-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    directory = open(path, O_RDONLY | O_DIRECTORY);
    cr_assert(directory >= 0);
}

static int remove_entry(const char *name, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(name);
}

static void remove_directory(void)
{
    close(directory);
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(checkpoint, .init = make_directory, .fini = remove_directory);

/* How many files have a name that begins and ends so. */
static unsigned count_files(const char *suffix)
{
    unsigned count = 0;
    DIR *list = opendir(path);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        size_t size = strlen(entry->d_name);
        count += strncmp(entry->d_name, "checkpoint-", strlen("checkpoint-")) == 0 &&
                 size >= strlen(suffix) &&
                 strcmp(entry->d_name + size - strlen(suffix), suffix) == 0;
    }
    closedir(list);
    return count;
}

/* A disk that fails at the n-th call, counted over all kinds; or is full; or waits. */
struct disk {
    atomic_int left; /* < 0: never */
    int cause;
    atomic_bool stopped; /* the thread has come to a write and waits there */
    atomic_bool hold;
};

static bool fails(struct disk *disk)
{
    if (atomic_load(&disk->left) < 0 || atomic_fetch_sub(&disk->left, 1) > 0)
        return false;
    atomic_store(&disk->left, 0); /* and so does all that follows */
    errno = disk->cause;
    return true;
}

static ssize_t disk_write(void *context, int file, const void *bytes, size_t size)
{
    struct disk *disk = context;
    while (atomic_load(&disk->hold)) {
        atomic_store(&disk->stopped, true);
        sched_yield();
    }
    return fails(disk) ? -1 : checkpoint_system_io.write(NULL, file, bytes, size);
}

static int disk_flush(void *context, int file, uint64_t offset, uint64_t size)
{
    return fails(context) ? -1 : checkpoint_system_io.flush(NULL, file, offset, size);
}

static int disk_fsync(void *context, int file)
{
    return fails(context) ? -1 : checkpoint_system_io.fsync(NULL, file);
}

static int disk_rename(void *context, int where, const char *from, const char *to)
{
    return fails(context) ? -1 : checkpoint_system_io.rename(NULL, where, from, to);
}

static struct checkpoint_io io_of(struct disk *disk)
{
    return (struct checkpoint_io){disk_write, disk_flush, disk_fsync, disk_rename, disk};
}

/* The format. */

enum { SMALL_KEYS = 5 };

static int write_small(uint64_t position, const struct checkpoint_io *io)
{
    struct checkpoint_writer *writer;
    struct engine_mark mark = {.position = position, .seq = 7, .time_ms = 1234};
    uint64_t size;
    int rc = checkpoint_create(&writer, directory, io, &mark, &error);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; i < 2 * SMALL_KEYS && rc == 0; i++) {
        char key[16];
        rc = checkpoint_add(writer, i < SMALL_KEYS ? 0 : ENGINE_TABLES - 1,
                            numbered(key, sizeof key, "k", i), slice_of_text("value"), &error);
    }
    if (rc == 0)
        return checkpoint_finish(&writer, &size, &error);
    checkpoint_discard(&writer);
    return rc;
}

/* Reads all of it; how many entries came is in `entries`. */
static int read_all(uint64_t position, unsigned *entries)
{
    struct checkpoint_reader *reader;
    struct engine_mark mark;
    struct slice key;
    struct slice value;
    unsigned table;
    uint64_t size;
    *entries = 0;
    int rc = checkpoint_open(&reader, directory, position, &mark, &size, &error);
    if (rc != 0)
        return rc;
    while ((rc = checkpoint_next(reader, &table, &key, &value, &error)) == 0)
        ++*entries;
    checkpoint_close(&reader);
    if (rc == STORE_NOT_FOUND)
        cr_assert(mark.position == position && mark.seq == 7 && mark.time_ms == 1234);
    return rc;
}

static void file_path(uint64_t position, char name[128])
{
    char own[CHECKPOINT_NAME_SIZE];
    checkpoint_name(position, own);
    snprintf(name, 128, "%s/%s", path, own);
}

static size_t read_file(uint64_t position, uint8_t *bytes, size_t size)
{
    char name[128];
    file_path(position, name);
    int file = open(name, O_RDONLY);
    ssize_t got = read(file, bytes, size);
    cr_assert(got > 0 && (size_t)got < size);
    close(file);
    return (size_t)got;
}

static void write_file(uint64_t position, const uint8_t *bytes, size_t size)
{
    char name[128];
    file_path(position, name);
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_eq(write(file, bytes, size), (ssize_t)size);
    close(file);
}

Test(checkpoint, a_name_says_the_position_and_nothing_else_is_one)
{
    char name[CHECKPOINT_NAME_SIZE];
    uint64_t position = 0;
    checkpoint_name(UINT64_MAX, name);
    cr_assert(checkpoint_position(name, &position) && position == UINT64_MAX);
    checkpoint_name(0, name);
    cr_assert(checkpoint_position(name, &position) && position == 0);
    cr_assert(checkpoint_is_unfinished("checkpoint-00000000000000000001.tmp"));
    cr_assert_not(checkpoint_is_unfinished("checkpoint-00000000000000000001"));
    static const char *const others[] = {"checkpoint-",
                                         "checkpoint-1",
                                         "log-0000000001",
                                         "state",
                                         "checkpoint-00000000000000000001.tmp",
                                         "checkpoint-0000000000000000000a",
                                         "checkpoint-99999999999999999999"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cr_assert_not(checkpoint_position(others[i], &position), "%s", others[i]);
}

Test(checkpoint, what_was_written_is_read)
{
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    cr_assert_eq(read_all(42, &entries), STORE_NOT_FOUND, "%s", error.message);
    cr_assert_eq(entries, 2 * SMALL_KEYS);
    cr_assert_eq(count_files(".tmp"), 0);
}

Test(checkpoint, any_flipped_bit_is_found)
{
    uint8_t bytes[4096];
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    size_t size = read_file(42, bytes, sizeof bytes);
    for (size_t at = 0; at < size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            write_file(42, bytes, size);
            cr_assert_eq(read_all(42, &entries), STORE_CORRUPT, "byte %zu bit %u", at, bit);
            cr_assert(strstr(error.message, "is damaged at offset") != NULL);
            bytes[at] ^= (uint8_t)(1u << bit);
        }
}

Test(checkpoint, any_length_but_its_own_is_found)
{
    uint8_t bytes[4096] = {0};
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    size_t size = read_file(42, bytes, sizeof bytes);
    for (size_t length = 0; length < size + 64; length++) {
        write_file(42, bytes, length);
        cr_assert_eq(read_all(42, &entries), length == size ? STORE_NOT_FOUND : STORE_CORRUPT,
                     "%zu of %zu bytes", length, size);
    }
}

Test(checkpoint, a_block_of_another_checkpoint_is_found)
{
    enum { FIRST_BLOCK = CHECKPOINT_HEADER_SIZE };
    uint8_t one[4096];
    uint8_t other[4096];
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    cr_assert_eq(write_small(43, &checkpoint_system_io), 0);
    size_t size = read_file(42, one, sizeof one);
    cr_assert_eq(read_file(43, other, sizeof other), size);
    memcpy(one + FIRST_BLOCK, other + FIRST_BLOCK, size - FIRST_BLOCK);
    write_file(42, one, size);
    cr_assert_eq(read_all(42, &entries), STORE_CORRUPT);
    write_file(42, other, size);
    cr_assert_eq(read_all(42, &entries), STORE_CORRUPT, "a file under another's name");
}

Test(checkpoint, a_missing_or_repeated_block_is_found)
{
    uint8_t bytes[4096];
    uint8_t changed[4096];
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    size_t size = read_file(42, bytes, sizeof bytes);
    size_t first = CHECKPOINT_HEADER_SIZE;
    size_t length = CHECKPOINT_BLOCK_HEADER_SIZE + bytes[first + 4];
    memcpy(changed, bytes, first);
    memcpy(changed + first, bytes + first + length, size - first - length);
    write_file(42, changed, size - length);
    cr_assert_eq(read_all(42, &entries), STORE_CORRUPT);
    memcpy(changed, bytes, first + length);
    memcpy(changed + first + length, bytes + first, size - first);
    write_file(42, changed, size + length);
    cr_assert_eq(read_all(42, &entries), STORE_CORRUPT);
}

Test(checkpoint, a_call_that_fails_leaves_what_was_there)
{
    static const int causes[] = {ENOSPC, EIO};
    unsigned entries;
    cr_assert_eq(write_small(42, &checkpoint_system_io), 0);
    for (unsigned i = 0; i < 2; i++) {
        int rc = STORE_IO;
        for (int calls = 0; rc != 0; calls++) {
            struct disk disk = {.left = calls, .cause = causes[i]};
            struct checkpoint_io io = io_of(&disk);
            cr_assert(calls < 20);
            rc = write_small(43, &io);
            cr_assert(rc == 0 || rc == (causes[i] == ENOSPC ? STORE_FULL : STORE_IO));
            cr_assert_eq(count_files(".tmp"), 0);
            cr_assert_eq(read_all(42, &entries), STORE_NOT_FOUND);
        }
    }
}

/* Entries at the limits, in blocks of their own. */
Test(checkpoint, entries_at_their_limits_go_through)
{
    static uint8_t large[ENGINE_MAX_VALUE];
    static uint8_t key[ENGINE_MAX_KEY];
    struct checkpoint_writer *writer;
    struct engine_mark mark = {.position = 1, .seq = 7, .time_ms = 1234};
    uint64_t size;
    unsigned entries;
    cr_assert_eq(checkpoint_create(&writer, directory, &checkpoint_system_io, &mark, &error), 0);
    cr_assert_eq(checkpoint_add(writer, 0, slice_of("", 0), slice_of("", 0), &error), 0);
    for (unsigned i = 0; i < 4; i++) {
        memset(key, (int)i + 1, sizeof key);
        cr_assert_eq(checkpoint_add(writer, 0, slice_of(key, sizeof key),
                                    slice_of(large, sizeof large), &error),
                     0);
    }
    cr_assert_eq(checkpoint_finish(&writer, &size, &error), 0);
    cr_assert_eq(read_all(1, &entries), STORE_NOT_FOUND, "%s", error.message);
    cr_assert_eq(entries, 5);
}

/* The engine with a directory. */

struct warnings {
    unsigned count;
    char last[1024];
};

static void keep_warning(void *context, const char *line)
{
    struct warnings *warnings = context;
    warnings->count++;
    snprintf(warnings->last, sizeof warnings->last, "%s", line);
}

static struct warnings warnings;

static int try_open(struct engine **engine, struct engine_mark *mark)
{
    struct engine_options options = {.directory = path, .warn = keep_warning, .context = &warnings};
    warnings = (struct warnings){0};
    return engine_memory.open(engine, &options, mark, &error);
}

static struct engine *open_engine(struct engine_mark *mark)
{
    struct engine *engine = NULL;
    cr_assert_eq(try_open(&engine, mark), 0, "%s", error.message);
    return engine;
}

static void put_number(struct engine *engine, uint64_t number)
{
    char key[32];
    struct slice name = numbered(key, sizeof key, "key", (unsigned)number);
    cr_assert_eq(engine_memory.put(engine, 0, name, name), 0);
}

/* One more key, committed as that position, and a checkpoint of it. */
static void step(struct engine *engine, uint64_t position)
{
    struct engine_mark mark = {.position = position, .seq = position, .time_ms = position};
    put_number(engine, position);
    cr_assert_eq(engine_memory.commit(engine, &mark), 0);
    cr_assert_eq(engine_memory.checkpoint(engine, true), 0);
}

static struct engine_status status_of(struct engine *engine)
{
    struct engine_status status;
    engine_memory.status(engine, &status);
    return status;
}

static uint64_t count_keys(struct engine *engine)
{
    uint64_t count;
    cr_assert_eq(engine_memory.count(engine, 0, slice_of("", 0), (struct slice){0}, &count), 0);
    return count;
}

static void flip(uint64_t position, off_t offset)
{
    char name[128];
    uint8_t byte;
    file_path(position, name);
    int file = open(name, O_RDWR);
    cr_assert_eq(pread(file, &byte, 1, offset), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(file, &byte, 1, offset), 1);
    close(file);
}

Test(checkpoint, the_newest_two_are_kept_and_the_log_from_the_older_on)
{
    struct engine_mark mark;
    struct engine *engine = open_engine(&mark);
    cr_assert_eq(mark.position, 0);
    cr_assert_eq(engine_memory.checkpoint(engine, true), 0);
    cr_assert_eq(count_files(""), 0, "an empty state needs none");
    for (uint64_t position = 1; position < 6; position++) {
        step(engine, position);
        struct engine_status status = status_of(engine);
        cr_assert_eq(status.at.position, position);
        cr_assert_eq(status.kept, position - 1);
        cr_assert_eq(status.count, position);
        cr_assert_eq(count_files(""), position > 1 ? 2 : 1);
        cr_assert_eq(engine_memory.checkpoint(engine, true), 0);
        cr_assert_eq(status_of(engine).count, position, "it is on disk already");
    }
    engine_memory.close(engine);
    engine = open_engine(&mark);
    cr_assert(mark.position == 5 && mark.seq == 5 && mark.time_ms == 5);
    cr_assert_eq(count_keys(engine), 5);
    cr_assert_eq(status_of(engine).kept, 4);
    engine_memory.close(engine);
}

Test(checkpoint, a_damaged_one_is_not_loaded_and_goes_with_the_next_good_one)
{
    struct engine_mark mark;
    struct engine *engine = open_engine(&mark);
    step(engine, 1);
    step(engine, 2);
    engine_memory.close(engine);
    flip(2, 70);
    engine = open_engine(&mark);
    cr_assert_eq(mark.position, 1);
    cr_assert_eq(count_keys(engine), 1);
    cr_assert_eq(warnings.count, 1);
    cr_assert(strstr(warnings.last, "checkpoint-00000000000000000002 is damaged at offset 64") !=
                  NULL,
              "%s", warnings.last);
    cr_assert_eq(status_of(engine).kept, 0);
    cr_assert_eq(count_files(""), 2, "nothing is removed yet");
    step(engine, 3);
    cr_assert_eq(count_files(""), 2);
    cr_assert_eq(status_of(engine).kept, 1);
    char name[128];
    file_path(2, name);
    cr_assert_eq(access(name, F_OK), -1);
    engine_memory.close(engine);
}

Test(checkpoint, where_all_are_damaged_nothing_is_opened_and_nothing_changed)
{
    struct engine_mark mark;
    struct engine *engine = open_engine(&mark);
    step(engine, 1);
    step(engine, 2);
    engine_memory.close(engine);
    flip(1, 3);
    flip(2, 70);
    cr_assert_eq(try_open(&engine, &mark), STORE_CORRUPT);
    cr_assert(strstr(error.message, "checkpoint-00000000000000000002 is damaged at offset 64") !=
                  NULL,
              "%s", error.message);
    cr_assert_eq(count_files(""), 2);
}

/* CRC-32C, bit by bit: on its own, so that the format is checked and not the library. */
static uint32_t crc32c(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

Test(checkpoint, another_version_is_refused_and_not_passed_over)
{
    struct engine_mark mark;
    uint8_t bytes[4096];
    struct engine *engine = open_engine(&mark);
    step(engine, 1);
    step(engine, 2);
    engine_memory.close(engine);
    /* As a later version would have it: only magic, version and crc stay where they are. */
    size_t size = read_file(2, bytes, sizeof bytes);
    static const uint8_t version[] = {2, 0, 0, 0};
    memset(bytes + 8, 0, 52);
    memcpy(bytes + 8, version, sizeof version);
    uint32_t crc = crc32c(bytes, 60);
    memcpy(bytes + 60, &crc, sizeof crc);
    write_file(2, bytes, size);
    cr_assert_eq(try_open(&engine, &mark), STORE_INVALID, "%s", error.message);
    cr_assert(strstr(error.message, "format 2") != NULL, "%s", error.message);
}

Test(checkpoint, unfinished_files_are_removed_by_a_start)
{
    struct engine_mark mark;
    char name[160];
    snprintf(name, sizeof name, "%s/checkpoint-00000000000000000009.tmp", path);
    close(open(name, O_CREAT | O_WRONLY, 0600));
    struct engine *engine = open_engine(&mark);
    cr_assert_eq(count_files(""), 0);
    engine_memory.close(engine);
}

/* The keeper with a disk of ours, and an engine without a directory. */

static int load_nothing(void *context, struct checkpoint_reader *reader, uint64_t size,
                        struct store_error *failure)
{
    (void)context;
    (void)reader;
    (void)size;
    (void)failure;
    return 0;
}

struct kept_engine {
    struct disk disk;
    struct checkpoint_io io;
    struct engine *engine;
    struct checkpoint_keeper *keeper;
    struct engine_mark mark;
};

static void open_kept(struct kept_engine *kept)
{
    struct engine_options options = {0};
    kept->disk.left = -1;
    kept->io = io_of(&kept->disk);
    cr_assert_eq(engine_memory.open(&kept->engine, &options, &kept->mark, &error), 0);
    cr_assert_eq(checkpoint_keeper_open(&kept->keeper, path, &kept->io, &error), 0);
    cr_assert_eq(
        checkpoint_keeper_load(kept->keeper, &options, load_nothing, NULL, &kept->mark, &error), 0);
    kept->mark = (struct engine_mark){.position = 1, .seq = 7, .time_ms = 1234};
    put_number(kept->engine, 1);
}

static void close_kept(struct kept_engine *kept)
{
    checkpoint_keeper_close(&kept->keeper, kept->engine);
    engine_memory.close(kept->engine);
}

static struct engine_status kept_status(struct kept_engine *kept)
{
    struct engine_status status;
    checkpoint_keeper_status(kept->keeper, kept->engine, &status);
    return status;
}

Test(checkpoint, a_failure_is_told_and_the_next_one_may_succeed)
{
    struct kept_engine kept = {.disk = {.cause = ENOSPC}};
    open_kept(&kept);
    atomic_store(&kept.disk.left, 2);
    cr_assert_eq(checkpoint_keeper_write(kept.keeper, kept.engine, &kept.mark, true), STORE_FULL);
    struct engine_status status = kept_status(&kept);
    cr_assert(status.failed == 1 && status.count == 0 && !status.running);
    cr_assert(strstr(status.failure, "No space left") != NULL, "%s", status.failure);
    cr_assert_eq(count_files(""), 0);
    atomic_store(&kept.disk.left, -1);
    cr_assert_eq(checkpoint_keeper_write(kept.keeper, kept.engine, &kept.mark, true), 0);
    status = kept_status(&kept);
    cr_assert(status.failed == 1 && status.count == 1 && status.at.position == 1);
    close_kept(&kept);
}

static void hold_one(struct kept_engine *kept)
{
    open_kept(kept);
    atomic_store(&kept->disk.hold, true);
    cr_assert_eq(checkpoint_keeper_write(kept->keeper, kept->engine, &kept->mark, false), 0);
    while (!atomic_load(&kept->disk.stopped))
        sched_yield();
    cr_assert(kept_status(kept).running);
}

Test(checkpoint, one_in_the_background_is_of_its_moment_and_ends_by_itself)
{
    struct kept_engine kept = {0};
    unsigned entries;
    hold_one(&kept);
    cr_assert_eq(checkpoint_keeper_write(kept.keeper, kept.engine, &kept.mark, false), 0);
    for (unsigned i = 2; i < 100; i++)
        put_number(kept.engine, i);
    atomic_store(&kept.disk.hold, false);
    while (kept_status(&kept).running)
        sched_yield();
    cr_assert_eq(kept_status(&kept).count, 1);
    cr_assert_eq(read_all(1, &entries), STORE_NOT_FOUND);
    cr_assert_eq(entries, 1);
    close_kept(&kept);
}

Test(checkpoint, who_waits_for_a_newer_state_gets_it)
{
    struct kept_engine kept = {0};
    unsigned entries;
    hold_one(&kept);
    put_number(kept.engine, 2);
    kept.mark.position = 2;
    atomic_store(&kept.disk.hold, false);
    cr_assert_eq(checkpoint_keeper_write(kept.keeper, kept.engine, &kept.mark, true), 0);
    cr_assert_eq(kept_status(&kept).at.position, 2);
    cr_assert_eq(read_all(2, &entries), STORE_NOT_FOUND);
    cr_assert_eq(entries, 2);
    close_kept(&kept);
}

static void *let_go(void *context)
{
    struct disk *disk = context;
    atomic_store(&disk->hold, false);
    return NULL;
}

Test(checkpoint, a_close_gives_up_what_is_being_written)
{
    struct kept_engine kept = {0};
    pthread_t thread;
    hold_one(&kept);
    cr_assert_eq(pthread_create(&thread, NULL, let_go, &kept.disk), 0);
    close_kept(&kept);
    pthread_join(thread, NULL);
    cr_assert_eq(count_files(".tmp"), 0);
}

/* The loader. */

/* The tree has the numbered keys below count, in order, and takes further writes. */
struct bulk {
    unsigned count;
    size_t key_size;   /* of the shortest */
    size_t value_size; /* of the largest */
    bool random;
};

static struct slice bulk_key(const struct bulk *bulk, unsigned i, uint8_t *bytes)
{
    memset(bytes, 'k', ENGINE_MAX_KEY);
    size_t size = bulk->key_size < 8 ? 8 : bulk->key_size;
    snprintf((char *)bytes + size - 8, 9, "%08u", i % 100000000);
    return slice_of(bytes, size + (bulk->random ? i % 5 : 0));
}

static size_t bulk_value(const struct bulk *bulk, unsigned i)
{
    return bulk->random ? (size_t)i * 7919u % (bulk->value_size + 1) : bulk->value_size;
}

static int load_bulk(const struct bulk *bulk, struct tree *tree, struct space *space)
{
    static const uint8_t value[ENGINE_MAX_VALUE];
    uint8_t key[ENGINE_MAX_KEY + 16];
    struct tree_loader *loader;
    int rc = tree_loader_open(&loader, tree, space);
    for (unsigned i = 0; rc == 0 && i < bulk->count; i++)
        rc = tree_loader_add(loader, bulk_key(bulk, i, key), slice_of(value, bulk_value(bulk, i)));
    int closed = tree_loader_close(&loader, rc == 0);
    return rc == 0 ? closed : rc;
}

static void check_bulk(const struct bulk *bulk, const struct tree *tree)
{
    uint8_t key[ENGINE_MAX_KEY + 16];
    uint8_t got[ENGINE_MAX_KEY];
    struct tree_path path_to;
    cr_assert_eq(tree->count, bulk->count);
    for (unsigned i = 0; i < bulk->count; i++) {
        struct slice wanted = bulk_key(bulk, i, key);
        cr_assert(tree_find(tree, wanted, &path_to), "%u of %u", i, bulk->count);
        struct tree_step *leaf = tree_leaf(&path_to);
        cr_assert_eq(page_value(leaf->page, leaf->index).size, bulk_value(bulk, i));
        size_t size = page_key(leaf->page, leaf->index, got);
        cr_assert(slice_equal(slice_of(got, size), wanted));
        cr_assert_eq(tree_rank(tree, wanted), i);
        cr_assert_eq(tree_next(&path_to), i + 1 < bulk->count, "%u of %u", i, bulk->count);
    }
}

/* No page is small but the root and what has no neighbour of its own; counts are right. */
static uint64_t check_pages(const struct page *page, bool root, unsigned *small)
{
    uint64_t count = 0;
    *small += !root && page_used(page) < PAGE_SMALL_SIZE;
    if (!page->inner)
        return page->count;
    for (unsigned i = 0; i < page->count; i++) {
        struct page_child child = page_child(page, i);
        cr_assert_eq(check_pages(child.page, false, small), child.count);
        count += child.count;
    }
    return count;
}

static void check_loaded(const struct bulk *bulk)
{
    struct engine_options options = {0};
    struct space space;
    struct tree tree = {0};
    struct tree_path path_to;
    uint8_t key[ENGINE_MAX_KEY + 16];
    unsigned small = 0;
    space_init(&space, &options);
    cr_assert_eq(load_bulk(bulk, &tree, &space), 0);
    check_bulk(bulk, &tree);
    if (tree.root != NULL)
        cr_assert_eq(check_pages(tree.root, true, &small), bulk->count);
    cr_assert_leq(small, 1, "%u keys, %u small pages", bulk->count, small);
    for (unsigned i = 0; i < bulk->count; i++) {
        cr_assert(tree_find(&tree, bulk_key(bulk, i, key), &path_to));
        cr_assert_eq(tree_delete(&tree, &space, &path_to), 0);
    }
    cr_assert_eq(tree.count, 0);
    tree_free(&tree, &space);
    space_end(&space);
    cr_assert_eq(space.memory, 0);
}

Test(checkpoint, the_loader_builds_what_puts_would_at_every_size_around_a_page)
{
    for (unsigned count = 0; count < 120; count++)
        check_loaded(&(struct bulk){.count = count, .key_size = 12, .value_size = 100});
    for (unsigned count = 0; count < 1200; count += 7)
        check_loaded(&(struct bulk){.count = count, .key_size = 8, .value_size = 0});
}

Test(checkpoint, the_loader_takes_keys_and_values_of_all_sizes)
{
    static const size_t sizes[] = {8, 40, 300, 1000, ENGINE_MAX_KEY - 8};
    static const size_t values[] = {0, 100, PAGE_MAX_INLINE, PAGE_MAX_INLINE + 1, 5000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (unsigned j = 0; j < sizeof values / sizeof values[0]; j++)
            for (unsigned random = 0; random < 2; random++)
                check_loaded(&(struct bulk){.count = 400 + 13 * i + j,
                                            .key_size = sizes[i],
                                            .value_size = values[j],
                                            .random = random == 1});
}

Test(checkpoint, the_loader_builds_trees_of_several_levels)
{
    check_loaded(&(struct bulk){.count = 60000, .key_size = 16, .value_size = 105});
    check_loaded(&(struct bulk){.count = 3000, .key_size = 1500, .value_size = 900});
}

Test(checkpoint, the_loader_gives_everything_back_when_memory_is_out)
{
    struct bulk bulk = {.count = 900, .key_size = 200, .value_size = 1500, .random = true};
    int rc = STORE_NO_MEMORY;
    for (long left = 0; rc != 0; left++) {
        struct failure failure = {.left = left, .for_ever = true};
        struct engine_options options = {.admit = admit, .admit_context = &failure};
        struct space space;
        struct tree tree = {0};
        space_init(&space, &options);
        rc = load_bulk(&bulk, &tree, &space);
        cr_assert(rc == 0 || (rc == STORE_NO_MEMORY && space.memory == 0 && tree.root == NULL),
                  "after %ld allocations", left);
        tree_free(&tree, &space);
        space_end(&space);
        cr_assert_eq(space.memory, 0);
    }
}

Test(checkpoint, the_loader_refuses_keys_out_of_order)
{
    struct engine_options options = {0};
    struct space space;
    struct tree tree = {0};
    struct tree_loader *loader;
    space_init(&space, &options);
    cr_assert_eq(tree_loader_open(&loader, &tree, &space), 0);
    cr_assert_eq(tree_loader_add(loader, slice_of_text("b"), slice_of_text("1")), 0);
    cr_assert_eq(tree_loader_add(loader, slice_of_text("b"), slice_of_text("1")), STORE_INVALID);
    cr_assert_eq(tree_loader_add(loader, slice_of_text("a"), slice_of_text("1")), STORE_INVALID);
    cr_assert_eq(tree_loader_close(&loader, false), 0);
    cr_assert_eq(space.memory, 0);
}
