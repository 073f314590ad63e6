/*
 * RocksDB set up for this use.
 *
 * The state's mark has a key of its own, MARK_KEY, behind all others, and this value, little
 * endian:
 *
 *      0  1 byte    format: 1
 *      1  8         position
 *      9  8         seq
 *     17  8         time in ms
 *     25  12 * 8    entries of each table
 *    121  4         CRC-32C of all before it
 *
 * To change it, give the format another number and read both.
 */
#include "store/rocks.h"
#include "store/rocks_manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/on_disk.h"

enum {
    MARK_FORMAT = 1,
    MARK_AT_COUNTS = 25,
    MARK_AT_CRC = MARK_AT_COUNTS + ENGINE_TABLES * 8,
    MARK_SIZE = MARK_AT_CRC + 4,

    SIZE_EVERY = 256, /* calls of status between looking up sizes, which takes RocksDB's lock */
    MAX_PATH = 4096,
};

static const char MARK_KEY[] = {(char)0xff, 'm', 'a', 'r', 'k'};

/* What caches and buffers take together where the operator does not say. */
static const uint64_t DEFAULT_MEMORY = UINT64_C(256) << 20;
static const uint64_t MIN_MEMORY = UINT64_C(8) << 20;

struct rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;
    rocksdb_writebatch_t *batch;
    rocksdb_writebatch_t *nothing; /* an empty one */
    size_t batch_size;             /* bytes in it */

    rocksdb_pinnableslice_t **pins; /* behind views that were handed out */
    size_t pin_count;
    size_t pin_capacity;

    struct engine_mark mark; /* of the last batch */
    uint64_t buffer_size;
    uint64_t unflushed; /* bytes written since the last flush was begun */
    bool running;
    pthread_t thread;
    atomic_bool done;          /* by the thread: flush_error is set, it ends */
    char *flush_error;         /* of the thread */
    struct engine_mark target; /* what the flush brings to the disk */
    struct engine_status status;
    unsigned until_size; /* calls of status */
    struct store_error failure;
};

struct engine_snapshot {
    const rocksdb_snapshot_t *snapshot;
};

struct rocks_iterator {
    struct rocks *rocks; /* NULL: of a snapshot, and perhaps of another thread */
    rocksdb_iterator_t *iterator;
    rocksdb_readoptions_t *read;
    char lower[1];
    char upper[1];
};

/* Errors. */

static enum store_code code_of(const char *text)
{
    if (strstr(text, "No space left") != NULL || strstr(text, "Space limit") != NULL)
        return STORE_FULL;
    if (strncmp(text, "Corruption", strlen("Corruption")) == 0)
        return STORE_CORRUPT;
    return STORE_IO;
}

static const char *advice_for(enum store_code code)
{
    switch (code) {
    case STORE_FULL:
        return "make space on the disk; the log has all that was acknowledged";
    case STORE_CORRUPT:
        return "restore the directory from a backup";
    default:
        return "look at the disk and start again";
    }
}

/* Takes the text, which RocksDB allocated, and makes one line of it. */
static int fail(struct store_error *error, const char *what, char *text)
{
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    enum store_code code = code_of(text);
    store_fail(error, code, "%s: RocksDB says '%.300s'; %s", what, text, advice_for(code));
    rocksdb_free(text);
    return (int)code;
}

static int note_failure(struct rocks *rocks, const char *what, char *text)
{
    int rc = fail(&rocks->failure, what, text);
    rocks->status.failure = rocks->failure.message;
    return rc;
}

/* The mark. */

static void put_number(uint8_t *at, uint64_t number, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(number >> (8 * i));
}

static uint64_t get_number(const uint8_t *at, unsigned size)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < size; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

static uint32_t mark_crc(const uint8_t *bytes)
{
    return ~crc32c(UINT32_MAX, bytes, MARK_AT_CRC);
}

static void encode_mark(const struct rocks_state *state, uint8_t *bytes)
{
    bytes[0] = MARK_FORMAT;
    put_number(bytes + 1, state->mark.position, 8);
    put_number(bytes + 9, state->mark.seq, 8);
    put_number(bytes + 17, state->mark.time_ms, 8);
    for (size_t i = 0; i < ENGINE_TABLES; i++)
        put_number(bytes + MARK_AT_COUNTS + i * 8, state->counts[i], 8);
    put_number(bytes + MARK_AT_CRC, mark_crc(bytes), 4);
}

static bool decode_mark(struct rocks_state *state, struct slice mark)
{
    if (mark.size != MARK_SIZE || mark.data[0] != MARK_FORMAT ||
        get_number(mark.data + MARK_AT_CRC, 4) != mark_crc(mark.data))
        return false;
    state->mark.position = get_number(mark.data + 1, 8);
    state->mark.seq = get_number(mark.data + 9, 8);
    state->mark.time_ms = get_number(mark.data + 17, 8);
    for (size_t i = 0; i < ENGINE_TABLES; i++)
        state->counts[i] = get_number(mark.data + MARK_AT_COUNTS + i * 8, 8);
    return true;
}

/* Opening. */

/*
 * Half of the budget is the block cache, which indexes and filters go through as well; the write
 * buffers, three at most (one filling, the others being flushed), get three eighths; the rest is
 * for tables that are open and for what a compaction reads ahead.
 *
 * lz4: entries of the protocol repeat themselves, and it is the fastest that Debian's build has.
 * Filters of 10 bits a key: of the gets for what is absent one in a hundred reads a block; every
 * put of a new key is such a get.
 * Two background jobs for two cores. Writes are slowed and stopped late: a stall holds the loop,
 * and what came behind is in our log anyway.
 * Statistics are neither read at open, nor dumped, nor kept: nobody reads them. RocksDB's own
 * messages are warnings and worse, in two files of 1 MiB.
 */
static void choose_tables(struct rocks *rocks, uint64_t memory)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocks->cache = rocksdb_cache_create_lru(memory / 2);
    rocksdb_block_based_options_set_block_cache(table, rocks->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_block_size(table, 4096);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_whole_key_filtering(table, 1);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(rocks->options, table);
    rocksdb_block_based_options_destroy(table);
}

static void choose_buffers(struct rocks *rocks, uint64_t memory)
{
    rocksdb_options_t *options = rocks->options;
    rocks->buffer_size = memory / 8;
    rocksdb_options_set_write_buffer_size(options, rocks->buffer_size);
    rocksdb_options_set_max_write_buffer_number(options, 3);
    rocksdb_options_set_target_file_size_base(options, rocks->buffer_size);
    rocksdb_options_set_max_bytes_for_level_base(options, 4 * rocks->buffer_size);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_level0_file_num_compaction_trigger(options, 4);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, 24);
    rocksdb_options_set_level0_stop_writes_trigger(options, 48);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_bytes_per_sync(options, 1 << 20); /* no burst at the end of a file */
    /* A file in which half of some 16384 entries in a row are deletions is compacted soon. */
    rocksdb_options_add_compact_on_deletion_collector_factory(options, 16384, 8192);
}

static void choose_options(struct rocks *rocks, uint64_t memory)
{
    rocksdb_options_t *options = rocks->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_max_open_files(options, 512);
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0); /* one thread writes */
    rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_info_log_level(options, 2); /* warnings */
    rocksdb_options_set_max_log_file_size(options, 1 << 20);
    rocksdb_options_set_keep_log_file_num(options, 2);
    rocksdb_options_set_max_manifest_file_size(options, 16 << 20);
    choose_buffers(rocks, memory);
    choose_tables(rocks, memory);
    rocks->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(rocks->read, 1);
    rocks->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(rocks->write, 1);
    rocks->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(rocks->flush, 1);
}

static void destroy(struct rocks *rocks)
{
    rocks_drop_views(rocks);
    if (rocks->db != NULL)
        rocksdb_close(rocks->db);
    rocksdb_writebatch_destroy(rocks->batch);
    rocksdb_writebatch_destroy(rocks->nothing);
    rocksdb_flushoptions_destroy(rocks->flush);
    rocksdb_writeoptions_destroy(rocks->write);
    rocksdb_readoptions_destroy(rocks->read);
    rocksdb_options_destroy(rocks->options);
    rocksdb_cache_destroy(rocks->cache);
    free(rocks->pins);
    free(rocks);
}

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);
    return size >= strlen(end) && strcmp(name + size - strlen(end), end) == 0;
}

/* What a directory of RocksDB has. */
struct files {
    bool tables;
    bool current;      /* the file that names the manifest */
    bool named;        /* and the manifest is there */
    bool others;       /* and further ones */
    uint64_t manifest; /* number of the newest that is there; 0: none */
};

static uint64_t manifest_number(const char *name)
{
    static const char prefix[] = "MANIFEST-";
    size_t size = sizeof prefix - 1;
    return strncmp(name, prefix, size) == 0 ? strtoull(name + size, NULL, 10) : 0;
}

static int join_path(char *path, const char *directory, const char *name)
{
    int size = snprintf(path, MAX_PATH, "%s/%s", directory, name);
    return size > 0 && size < MAX_PATH ? 0 : -1;
}

/* The number of the manifest that CURRENT names; 0 where it names none. */
static uint64_t read_current(const char *directory)
{
    char path[MAX_PATH];
    char name[64] = "";
    FILE *file = join_path(path, directory, "CURRENT") == 0 ? fopen(path, "re") : NULL;
    if (file == NULL)
        return 0;
    if (fgets(name, sizeof name, file) == NULL)
        name[0] = '\0';
    fclose(file);
    return manifest_number(name);
}

/* STORE_NOT_FOUND where there is no directory. */
static int list_files(const char *path, struct files *files, struct store_error *error)
{
    uint64_t named = read_current(path);
    DIR *directory = opendir(path);
    *files = (struct files){0};
    if (directory == NULL && errno == ENOENT)
        return STORE_NOT_FOUND;
    if (directory == NULL)
        return store_fail(error, STORE_IO, "cannot read %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        uint64_t number = manifest_number(entry->d_name);
        files->current |= strcmp(entry->d_name, "CURRENT") == 0;
        files->tables |= ends_with(entry->d_name, ".sst");
        files->named |= number != 0 && number == named;
        files->others |= number != 0 && number != named;
        files->manifest = number > files->manifest ? number : files->manifest;
    }
    closedir(directory);
    return STORE_OK;
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int write_synced(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int rc = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? fsync(fd) : -1;
    close(fd);
    return rc;
}

/* Makes CURRENT name that manifest. */
static int set_current(const char *directory, uint64_t manifest)
{
    char path[MAX_PATH];
    char made[MAX_PATH];
    char text[64];
    if (join_path(path, directory, "CURRENT") != 0 || join_path(made, directory, "mended") != 0)
        return -1;
    snprintf(text, sizeof text, "MANIFEST-%06llu\n", (unsigned long long)manifest);
    if (write_synced(made, text) != 0 || rename(made, path) != 0)
        return -1;
    return sync_directory(directory);
}

/* Removes all files, or all manifests that CURRENT does not name: interrupted starts left them. */
static int remove_files(const char *path, bool all)
{
    char name[MAX_PATH];
    uint64_t named = read_current(path);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(directory)) != NULL;) {
        uint64_t number = manifest_number(entry->d_name);
        bool goes = all ? entry->d_name[0] != '.' : number != 0 && number != named;
        if (goes && join_path(name, path, entry->d_name) == 0)
            rc = unlink(name);
    }
    closedir(directory);
    return rc == 0 ? sync_directory(path) : rc;
}

/*
 * RocksDB makes a new manifest at each start, and lets CURRENT name it, with one sync of the
 * directory for both. So a power failure may leave the second and not the first. Then the sync was
 * not yet done: the manifest of before is still there, with all that it names, and is taken again;
 * or there is none, and nothing was ever written. It is the only one, since others are removed
 * before RocksDB makes another.
 */
static int mend_current(const char *path, const struct files *files, struct store_error *error)
{
    bool lost = files->current && !files->named;
    int rc = 0;
    if (lost && files->manifest == 0 && files->tables)
        return store_fail(error, STORE_CORRUPT,
                          "%s/MANIFEST is missing: restore the directory from a backup", path);
    if (lost)
        rc = files->manifest != 0 ? set_current(path, files->manifest) : remove_files(path, true);
    else if (files->named && files->others)
        rc = remove_files(path, false);
    if (rc == 0)
        return STORE_OK;
    return store_fail(error, STORE_IO, "cannot mend %s: %s", path, strerror(errno));
}

/* The manifest that CURRENT names, and whether its end is torn; where it cannot be told it is not.
 */
static bool is_manifest_torn(const char *directory, char *path, uint64_t *end)
{
    char name[64];
    bool torn = false;
    snprintf(name, sizeof name, "MANIFEST-%06llu", (unsigned long long)read_current(directory));
    if (join_path(path, directory, name) != 0 || manifest_find_torn_end(path, &torn, end) != 0)
        return false;
    return torn;
}

static int mend_manifest(const char *directory, struct store_error *error)
{
    char path[MAX_PATH];
    uint64_t end;
    if (!is_manifest_torn(directory, path, &end))
        return STORE_OK;
    int cause = manifest_cut(path, end);
    if (cause == 0)
        return STORE_OK;
    return store_fail(error, STORE_IO, "cannot mend %s: %s", path, strerror(cause));
}

/*
 * RocksDB begins anew where CURRENT is missing, and removes what is there. STORE_NOT_FOUND where
 * nothing is lost by that.
 */
static int check_directory(const char *path, bool read_only, struct store_error *error)
{
    struct files files;
    int rc = list_files(path, &files, error);
    if (rc != STORE_OK)
        return rc;
    if (files.tables && !files.current)
        return store_fail(error, STORE_CORRUPT,
                          "%s/CURRENT is missing: restore the directory from a backup", path);
    if (!read_only)
        rc = mend_current(path, &files, error);
    if (!read_only)
        return rc == STORE_OK ? mend_manifest(path, error) : rc;
    return files.current && (files.named || files.tables) ? STORE_OK : STORE_NOT_FOUND;
}

/* The new name is in the directory for good before anything relies on it. */
static int make_directory(const char *parent, const char *path, struct store_error *error)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return store_fail(error, errno == ENOSPC ? STORE_FULL : STORE_IO, "cannot make %s: %s",
                          path, strerror(errno));
    int rc = sync_directory(parent);
    if (rc == 0)
        return STORE_OK;
    return store_fail(error, STORE_IO, "cannot sync %s: %s", parent, strerror(errno));
}

/* Checks the directory; makes it where it may be made. */
static int find_directory(const struct engine_options *options, char *path,
                          struct store_error *error)
{
    if (snprintf(path, MAX_PATH, "%s/rocksdb", options->directory) >= MAX_PATH)
        return store_fail(error, STORE_INVALID, "the path of the data directory is too long");
    int rc = check_directory(path, options->read_only, error);
    if (rc != STORE_NOT_FOUND)
        return rc;
    if (options->read_only)
        return store_fail(error, STORE_NOT_FOUND, "%s has nothing of RocksDB yet", path);
    return make_directory(options->directory, path, error);
}

/* Without a mark there must be nothing at all. */
static int check_empty(struct rocks *rocks, const char *path, struct store_error *error)
{
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(rocks->db, rocks->read);
    rocksdb_iter_seek_to_first(iterator);
    bool empty = !rocksdb_iter_valid(iterator);
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    if (text != NULL)
        return fail(error, path, text);
    if (empty)
        return STORE_OK;
    return store_fail(error, STORE_CORRUPT,
                      "%s has entries but no mark: restore the directory from a backup", path);
}

static int read_mark(struct rocks *rocks, const char *path, struct rocks_state *state,
                     struct store_error *error)
{
    char *text = NULL;
    size_t size = 0;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned(rocks->db, rocks->read, MARK_KEY, sizeof MARK_KEY, &text);
    if (text != NULL)
        return fail(error, path, text);
    if (pin == NULL)
        return check_empty(rocks, path, error);
    const char *data = rocksdb_pinnableslice_value(pin, &size);
    bool good = decode_mark(state, slice_of(data, size));
    rocksdb_pinnableslice_destroy(pin);
    if (good)
        return STORE_OK;
    return store_fail(error, STORE_CORRUPT,
                      "the mark in %s fails its check: restore the directory from a backup, or use "
                      "the version that wrote it",
                      path);
}

/* Who only reads leaves no messages: a place for them that cannot be made keeps RocksDB from it. */
static rocksdb_t *open_files(struct rocks *rocks, const char *path, bool read_only, char **text)
{
    if (!read_only)
        return rocksdb_open(rocks->options, path, text);
    rocksdb_options_set_db_log_dir(rocks->options, "/dev/null");
    return rocksdb_open_for_read_only(rocks->options, path, 0, text);
}

/* Who only reads cannot mend what a start mends, and says so: it is no damage. */
static int fail_open(const char *path, bool read_only, char *text, struct store_error *error)
{
    char manifest[MAX_PATH];
    struct files files;
    uint64_t end;
    bool torn = read_only && is_manifest_torn(path, manifest, &end);
    bool lost = read_only && !torn && list_files(path, &files, error) == STORE_OK &&
                files.current && !files.named && files.manifest != 0;
    if (!torn && !lost)
        return fail(error, path, text);
    rocksdb_free(text);
    if (torn)
        return store_fail(error, STORE_INVALID,
                          "%.300s ends with a write that was not finished, as a power failure "
                          "leaves it: start cubbyd, which cuts it off",
                          manifest);
    return store_fail(
        error, STORE_INVALID,
        "%.300s/CURRENT names a manifest that is not there, as a power failure leaves "
        "it: start cubbyd, which goes on with the one before",
        path);
}

int rocks_open(struct rocks **result, const struct engine_options *options,
               struct rocks_state *state, struct store_error *error)
{
    char path[MAX_PATH];
    char *text = NULL;
    int rc = find_directory(options, path, error);
    if (rc != STORE_OK)
        return rc;
    struct rocks *rocks = calloc(1, sizeof *rocks);
    if (rocks == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    uint64_t memory = options->memory_limit != 0 ? options->memory_limit : DEFAULT_MEMORY;
    choose_options(rocks, memory > MIN_MEMORY ? memory : MIN_MEMORY);
    rocks->batch = rocksdb_writebatch_create();
    rocks->nothing = rocksdb_writebatch_create();
    memset(state, 0, sizeof *state);
    rocks->db = open_files(rocks, path, options->read_only, &text);
    rc = text != NULL ? fail_open(path, options->read_only, text, error)
                      : read_mark(rocks, path, state, error);
    if (rc != STORE_OK) {
        destroy(rocks);
        return rc;
    }
    rocks->mark = state->mark;
    rocks->status.at = state->mark;
    rocks->status.kept = state->mark.position;
    *result = rocks;
    return STORE_OK;
}

/* Flushing. */

static void *run_flush(void *context)
{
    struct rocks *rocks = context;
    rocksdb_flush(rocks->db, rocks->flush, &rocks->flush_error);
    atomic_store(&rocks->done, true);
    return NULL;
}

static int end_flush(struct rocks *rocks)
{
    rocks->running = false;
    rocks->until_size = 0;
    if (rocks->flush_error != NULL) {
        char *text = rocks->flush_error;
        rocks->flush_error = NULL;
        rocks->status.failed++;
        return note_failure(rocks, "the checkpoint failed", text);
    }
    rocks->status.at = rocks->target;
    rocks->status.kept = rocks->target.position;
    rocks->status.count++;
    rocks->status.failure = NULL;
    return STORE_OK;
}

/* What the thread left; with `wait` also what it has yet to do. */
static int join_flush(struct rocks *rocks, bool wait)
{
    if (!rocks->running || (!wait && !atomic_load(&rocks->done)))
        return STORE_OK;
    pthread_join(rocks->thread, NULL);
    return end_flush(rocks);
}

static bool is_flushed(const struct rocks *rocks)
{
    return rocks->status.at.position == rocks->mark.position &&
           rocks->status.at.seq == rocks->mark.seq &&
           rocks->status.at.time_ms == rocks->mark.time_ms;
}

static int begin_flush(struct rocks *rocks)
{
    atomic_store(&rocks->done, false);
    if (pthread_create(&rocks->thread, NULL, run_flush, rocks) != 0) {
        rocks->status.failed++;
        store_fail(&rocks->failure, STORE_NO_MEMORY, "no thread for a checkpoint");
        rocks->status.failure = rocks->failure.message;
        return STORE_NO_MEMORY;
    }
    rocks->running = true;
    return STORE_OK;
}

int rocks_flush(struct rocks *rocks, bool wait)
{
    (void)join_flush(rocks, wait);
    if (rocks->running || is_flushed(rocks))
        return STORE_OK;
    rocks->target = rocks->mark;
    rocks->unflushed = 0;
    if (!wait)
        return begin_flush(rocks);
    (void)run_flush(rocks);
    return end_flush(rocks);
}

static uint64_t property(struct rocks *rocks, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(rocks->db, name, &value) == 0 ? value : 0;
}

void rocks_status(struct rocks *rocks, struct engine_status *status)
{
    (void)join_flush(rocks, false);
    if (rocks->until_size-- == 0) {
        rocks->until_size = SIZE_EVERY;
        rocks->status.size = property(rocks, "rocksdb.total-sst-files-size");
        rocks->status.cache =
            rocksdb_cache_get_usage(rocks->cache) + property(rocks, "rocksdb.size-all-mem-tables");
    }
    rocks->status.running = rocks->running;
    *status = rocks->status;
}

void rocks_close(struct rocks *rocks)
{
    (void)join_flush(rocks, true);
    destroy(rocks);
}

/* Reading and writing. */

static bool reserve_pin(struct rocks *rocks)
{
    if (rocks->pin_count < rocks->pin_capacity)
        return true;
    size_t capacity = rocks->pin_capacity * 2 + 64;
    size_t size =
        capacity * sizeof(rocksdb_pinnableslice_t *); // NOLINT(bugprone-sizeof-expression)
    rocksdb_pinnableslice_t **pins = realloc(rocks->pins, size);
    if (pins == NULL)
        return false;
    rocks->pins = pins;
    rocks->pin_capacity = capacity;
    return true;
}

int rocks_get(struct rocks *rocks, struct slice key, struct slice *value)
{
    char *text = NULL;
    if (!reserve_pin(rocks))
        return STORE_NO_MEMORY;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned(rocks->db, rocks->read, (const char *)key.data, key.size, &text);
    if (text != NULL)
        return note_failure(rocks, "a read failed", text);
    if (pin == NULL)
        return STORE_NOT_FOUND;
    rocks->pins[rocks->pin_count++] = pin;
    value->data = (const uint8_t *)rocksdb_pinnableslice_value(pin, &value->size);
    return STORE_OK;
}

void rocks_drop_views(struct rocks *rocks)
{
    for (size_t i = 0; i < rocks->pin_count; i++)
        rocksdb_pinnableslice_destroy(rocks->pins[i]);
    rocks->pin_count = 0;
}

void rocks_batch_put(struct rocks *rocks, struct slice key, struct slice value)
{
    rocksdb_writebatch_put(rocks->batch, (const char *)key.data, key.size, (const char *)value.data,
                           value.size);
    rocks->batch_size += key.size + value.size;
}

void rocks_batch_delete(struct rocks *rocks, struct slice key)
{
    rocksdb_writebatch_delete(rocks->batch, (const char *)key.data, key.size);
    rocks->batch_size += key.size;
}

/*
 * A flush is begun before RocksDB does so by itself, in order to know what it brings to the disk:
 * so the log need never be kept for much more than a write buffer.
 */
int rocks_batch_write(struct rocks *rocks, const struct rocks_state *state)
{
    uint8_t mark[MARK_SIZE];
    char *text = NULL;
    encode_mark(state, mark);
    rocksdb_writebatch_put(rocks->batch, MARK_KEY, sizeof MARK_KEY, (const char *)mark, MARK_SIZE);
    rocksdb_write(rocks->db, rocks->write, rocks->batch, &text);
    rocksdb_writebatch_clear(rocks->batch);
    rocks->unflushed += text == NULL ? rocks->batch_size : 0;
    rocks->batch_size = 0;
    if (text != NULL)
        return note_failure(rocks, "a commit failed", text);
    rocks->mark = state->mark;
    if (rocks->unflushed >= rocks->buffer_size / 2)
        (void)rocks_flush(rocks, false);
    return STORE_OK;
}

/* A write of nothing is refused as any other would be. */
bool rocks_is_stopped(struct rocks *rocks)
{
    char *text = NULL;
    rocksdb_write(rocks->db, rocks->write, rocks->nothing, &text);
    rocksdb_free(text);
    return text != NULL;
}

/* Snapshots and iterators. */

int rocks_snapshot(struct rocks *rocks, struct engine_snapshot **snapshot)
{
    struct engine_snapshot *taken = malloc(sizeof *taken);
    if (taken == NULL)
        return STORE_NO_MEMORY;
    taken->snapshot = rocksdb_create_snapshot(rocks->db);
    *snapshot = taken;
    return STORE_OK;
}

void rocks_release(struct rocks *rocks, struct engine_snapshot *snapshot)
{
    rocksdb_release_snapshot(rocks->db, snapshot->snapshot);
    free(snapshot);
}

/* A walk over all of a snapshot happens once: it does not drive out of the cache what is in use. */
int rocks_iterator_open(struct rocks *rocks, struct engine_snapshot *snapshot, uint8_t first,
                        struct rocks_iterator **iterator)
{
    struct rocks_iterator *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return STORE_NO_MEMORY;
    opened->rocks = snapshot == NULL ? rocks : NULL;
    opened->lower[0] = (char)first;
    opened->upper[0] = (char)(first + 1);
    opened->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(opened->read, 1);
    rocksdb_readoptions_set_iterate_lower_bound(opened->read, opened->lower, 1);
    rocksdb_readoptions_set_iterate_upper_bound(opened->read, opened->upper, 1);
    if (snapshot != NULL) {
        rocksdb_readoptions_set_snapshot(opened->read, snapshot->snapshot);
        rocksdb_readoptions_set_fill_cache(opened->read, 0);
    }
    opened->iterator = rocksdb_create_iterator(rocks->db, opened->read);
    *iterator = opened;
    return STORE_OK;
}

void rocks_iterator_close(struct rocks_iterator *iterator)
{
    rocksdb_iter_destroy(iterator->iterator);
    rocksdb_readoptions_destroy(iterator->read);
    free(iterator);
}

void rocks_seek(struct rocks_iterator *iterator, struct slice key)
{
    rocksdb_iter_seek(iterator->iterator, (const char *)key.data, key.size);
}

void rocks_seek_before(struct rocks_iterator *iterator, struct slice key)
{
    rocksdb_iter_seek_for_prev(iterator->iterator, (const char *)key.data, key.size);
    if (!rocksdb_iter_valid(iterator->iterator))
        return;
    struct slice found;
    found.data = (const uint8_t *)rocksdb_iter_key(iterator->iterator, &found.size);
    if (slice_equal(found, key))
        rocksdb_iter_prev(iterator->iterator);
}

void rocks_seek_last(struct rocks_iterator *iterator)
{
    rocksdb_iter_seek_to_last(iterator->iterator);
}

void rocks_next(struct rocks_iterator *iterator)
{
    rocksdb_iter_next(iterator->iterator);
}

void rocks_prev(struct rocks_iterator *iterator)
{
    rocksdb_iter_prev(iterator->iterator);
}

int rocks_here(struct rocks_iterator *iterator, struct slice *key, struct slice *value)
{
    char *text = NULL;
    if (rocksdb_iter_valid(iterator->iterator)) {
        key->data = (const uint8_t *)rocksdb_iter_key(iterator->iterator, &key->size);
        value->data = (const uint8_t *)rocksdb_iter_value(iterator->iterator, &value->size);
        return STORE_OK;
    }
    rocksdb_iter_get_error(iterator->iterator, &text);
    if (text == NULL)
        return STORE_NOT_FOUND;
    return iterator->rocks != NULL ? note_failure(iterator->rocks, "a read failed", text)
                                   : fail(NULL, "a read failed", text);
}
