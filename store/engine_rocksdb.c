/*
 * The RocksDB engine: the state on disk, in a log-structured tree, for more keys than memory holds.
 *
 * What was written since the last commit is in the overlay, a B+tree of the memory engine for each
 * table, and not in RocksDB: that may bring what it has to its files at any time, and the store may
 * still take a turn back. A commit hands the overlay over as one batch, together with the mark.
 * RocksDB's own log is off, since ours replays: what it has not flushed when the process ends is
 * gone, but as each batch is flushed whole and in order, what is left is always some commit.
 *
 * A key in RocksDB is the number of the table (1 byte) and the key. The mark has a key of its own,
 * RECORD_KEY, behind all tables, and this value, little endian:
 *
 *      0  1 byte    format: 1
 *      1  8         position
 *      9  8         seq
 *     17  8         time in ms
 *     25  12 * 8    entries of each table
 *    121  4         CRC-32C of all before it
 *
 * To change it, give the format another number and read both.
 *
 * An allocation that fails within RocksDB ends the process (it throws, and its C interface does not
 * catch); nothing is lost by that, as after a crash. Our own allocations end as STORE_NO_MEMORY.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/engine.h"
#include "store/memory_tree.h"

enum {
    RECORD_FORMAT = 1,
    RECORD_AT_COUNTS = 25,
    RECORD_AT_CRC = RECORD_AT_COUNTS + ENGINE_TABLES * 8,
    RECORD_SIZE = RECORD_AT_CRC + 4,

    /*
     * A key with its table before it, and one byte more: a longer key that is sought compares with
     * all that can be there as its first ENGINE_MAX_KEY + 1 bytes do.
     */
    FULL_KEY = 1 + ENGINE_MAX_KEY + 1,

    MAX_GAPS = 32,
    SIZE_EVERY = 256, /* calls of status between looking up sizes, which takes RocksDB's lock */
    MAX_PATH = 4096,
};

static const char RECORD_KEY[] = {(char)0xff, 'm', 'a', 'r', 'k'};

/* The first byte of a value in the overlay. */
enum { TAG_DELETED, TAG_PUT };

/* What caches and buffers take together where the operator does not say. */
static const uint64_t DEFAULT_MEMORY = UINT64_C(256) << 20;
static const uint64_t MIN_MEMORY = UINT64_C(8) << 20;

struct full_key {
    size_t size;
    uint8_t bytes[FULL_KEY];
};

/*
 * A range, low <= key < high, that is known to be empty. Whoever takes entries from the front of a
 * range again and again leaves deleted ones there, which RocksDB has to step over one by one until
 * a compaction drops them; a seek that begins in a gap begins at its end instead. They are
 * conclusions from what was found, valid until a key is put there.
 */
struct gap {
    uint64_t used; /* the store's `uses` when it was used last; 0: no gap */
    struct full_key low;
    struct full_key high;
};

/* What was looked for last: the store looks for a key, perhaps twice, before it writes it. */
struct known {
    bool valid;
    bool exists;
    bool viewed; /* and `value` may be handed out again */
    struct slice value;
    struct full_key key;
};

struct rocks_cursor;

struct rocks_engine {
    struct engine engine;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;

    struct engine_mark mark; /* of the last commit */
    uint64_t counts[ENGINE_TABLES];
    struct space space;
    struct tree overlay[ENGINE_TABLES];
    uint8_t *scratch; /* a tag and a value */

    struct known known;
    rocksdb_pinnableslice_t **pins; /* behind views that were handed out */
    size_t pin_count;
    size_t pin_capacity;
    struct gap gaps[MAX_GAPS];
    uint64_t uses;
    struct rocks_cursor *cursors; /* on the present state */

    uint64_t buffer_size;
    uint64_t unflushed; /* bytes committed since the last flush was begun */
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

/* Where RocksDB's iterator is, as seen from the cursor's key. */
enum side { SIDE_UNKNOWN, SIDE_AHEAD, SIDE_BEHIND };

struct rocks_cursor {
    struct engine_cursor cursor;
    struct rocks_engine *engine;
    struct engine_snapshot *snapshot; /* NULL: the present state */
    unsigned table;
    struct rocks_cursor *next;
    struct rocks_cursor *previous;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t
        *iterator; /* NULL: is made when needed; those of the present end at commit */
    enum side side;
    bool placed;
    bool at_end;         /* in search of the last: behind all keys */
    struct full_key key; /* where it is */
    char lower[1];
    char upper[1];
    uint8_t other[ENGINE_MAX_KEY];
};

static struct rocks_engine *rocks_of(struct engine *engine)
{
    return (struct rocks_engine *)engine;
}

static struct rocks_cursor *cursor_of(struct engine_cursor *cursor)
{
    return (struct rocks_cursor *)cursor;
}

static void set_key(struct full_key *full, unsigned table, struct slice key)
{
    size_t size = key.size < FULL_KEY - 1 ? key.size : FULL_KEY - 1;
    if (size > 0)
        memmove(full->bytes + 1, key.data, size);
    full->bytes[0] = (uint8_t)table;
    full->size = 1 + size;
}

static struct slice whole(const struct full_key *full)
{
    return slice_of(full->bytes, full->size);
}

static struct slice without_table(const struct full_key *full)
{
    return slice_of(full->bytes + 1, full->size - 1);
}

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
        return "make space on the disk and start again; the log has all that was acknowledged";
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

static int fail_engine(struct rocks_engine *rocks, const char *what, char *text)
{
    int rc = fail(&rocks->failure, what, text);
    rocks->status.failure = rocks->failure.message;
    return rc;
}

/* The record: mark and counts. */

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

static uint32_t record_crc(const uint8_t *record)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)record, RECORD_AT_CRC, UINT32_MAX);
}

static void encode_record(const struct rocks_engine *rocks, const struct engine_mark *mark,
                          uint8_t *record)
{
    record[0] = RECORD_FORMAT;
    put_number(record + 1, mark->position, 8);
    put_number(record + 9, mark->seq, 8);
    put_number(record + 17, mark->time_ms, 8);
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        put_number(record + RECORD_AT_COUNTS + (size_t)i * 8, rocks->counts[i], 8);
    put_number(record + RECORD_AT_CRC, record_crc(record), 4);
}

static bool decode_record(struct rocks_engine *rocks, struct slice record)
{
    if (record.size != RECORD_SIZE || record.data[0] != RECORD_FORMAT ||
        get_number(record.data + RECORD_AT_CRC, 4) != record_crc(record.data))
        return false;
    rocks->mark.position = get_number(record.data + 1, 8);
    rocks->mark.seq = get_number(record.data + 9, 8);
    rocks->mark.time_ms = get_number(record.data + 17, 8);
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        rocks->counts[i] = get_number(record.data + RECORD_AT_COUNTS + (size_t)i * 8, 8);
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
static void choose_tables(struct rocks_engine *rocks, uint64_t memory)
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

static void choose_buffers(struct rocks_engine *rocks, uint64_t memory)
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

static void choose_options(struct rocks_engine *rocks, uint64_t memory)
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

static void drop_pins(struct rocks_engine *rocks)
{
    for (size_t i = 0; i < rocks->pin_count; i++)
        rocksdb_pinnableslice_destroy(rocks->pins[i]);
    rocks->pin_count = 0;
    rocks->known.viewed = false;
}

static void drop_overlay(struct rocks_engine *rocks)
{
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        if (rocks->overlay[i].root != NULL)
            tree_free(&rocks->overlay[i], &rocks->space);
}

static void destroy(struct rocks_engine *rocks)
{
    drop_pins(rocks);
    drop_overlay(rocks);
    space_end(&rocks->space);
    if (rocks->db != NULL)
        rocksdb_close(rocks->db);
    rocksdb_flushoptions_destroy(rocks->flush);
    rocksdb_writeoptions_destroy(rocks->write);
    rocksdb_readoptions_destroy(rocks->read);
    rocksdb_options_destroy(rocks->options);
    rocksdb_cache_destroy(rocks->cache);
    free(rocks->pins);
    free(rocks->scratch);
    free(rocks);
}

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);
    return size >= strlen(end) && strcmp(name + size - strlen(end), end) == 0;
}

/* RocksDB begins anew where CURRENT is missing, and removes what is there. */
static int check_directory(const char *path, struct store_error *error)
{
    bool current = false;
    bool tables = false;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return store_fail(error, STORE_IO, "cannot read %s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        current |= strcmp(entry->d_name, "CURRENT") == 0;
        tables |= ends_with(entry->d_name, ".sst");
    }
    closedir(directory);
    if (tables && !current)
        return store_fail(error, STORE_CORRUPT,
                          "%s/CURRENT is missing: restore the directory from a backup", path);
    return STORE_OK;
}

/* The new name is in the directory for good before anything relies on it. */
static int make_directory(const char *parent, char *path, struct store_error *error)
{
    if (snprintf(path, MAX_PATH, "%s/rocksdb", parent) >= MAX_PATH)
        return store_fail(error, STORE_INVALID, "the path of the data directory is too long");
    if (mkdir(path, 0700) != 0) {
        if (errno == EEXIST)
            return check_directory(path, error);
        return store_fail(error, errno == ENOSPC ? STORE_FULL : STORE_IO, "cannot make %s: %s",
                          path, strerror(errno));
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1;
    if (fd >= 0)
        close(fd);
    return rc == 0 ? STORE_OK
                   : store_fail(error, STORE_IO, "cannot sync %s: %s", parent, strerror(errno));
}

/* Without a record there must be nothing at all. */
static int check_empty(struct rocks_engine *rocks, const char *path, struct store_error *error)
{
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(rocks->db, rocks->read);
    rocksdb_iter_seek_to_first(iterator);
    bool empty = !rocksdb_iter_valid(iterator);
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    if (text != NULL)
        return fail(error, path, text);
    return empty ? STORE_OK
                 : store_fail(error, STORE_CORRUPT,
                              "%s has entries but no mark: restore the directory from a backup",
                              path);
}

static int read_record(struct rocks_engine *rocks, const char *path, struct store_error *error)
{
    char *text = NULL;
    size_t size = 0;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned(rocks->db, rocks->read, RECORD_KEY, sizeof RECORD_KEY, &text);
    if (text != NULL)
        return fail(error, path, text);
    if (pin == NULL)
        return check_empty(rocks, path, error);
    const char *data = rocksdb_pinnableslice_value(pin, &size);
    bool good = decode_record(rocks, slice_of(data, size));
    rocksdb_pinnableslice_destroy(pin);
    return good ? STORE_OK
                : store_fail(error, STORE_CORRUPT,
                             "the mark in %s fails its check: restore the directory from a backup, "
                             "or use the version that wrote it",
                             path);
}

static int rocks_open(struct engine **engine, const struct engine_options *options,
                      struct engine_mark *mark, struct store_error *error)
{
    char path[MAX_PATH];
    char *text = NULL;
    if (options->directory == NULL)
        return store_fail(error, STORE_INVALID,
                          "the engine rocksdb keeps its state on disk: give it a data directory");
    int rc = make_directory(options->directory, path, error);
    if (rc != STORE_OK)
        return rc;
    struct rocks_engine *rocks = calloc(1, sizeof *rocks);
    if (rocks == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    uint64_t memory = options->memory_limit != 0 ? options->memory_limit : DEFAULT_MEMORY;
    rocks->engine.methods = &engine_rocksdb;
    space_init(&rocks->space, options);
    choose_options(rocks, memory > MIN_MEMORY ? memory : MIN_MEMORY);
    rocks->scratch = malloc(1 + ENGINE_MAX_VALUE);
    if (rocks->scratch == NULL) {
        rc = store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
        goto err_after_alloc;
    }
    rocks->db = rocksdb_open(rocks->options, path, &text);
    rc = text != NULL ? fail(error, path, text) : read_record(rocks, path, error);
    if (rc != STORE_OK)
        goto err_after_alloc;
    rocks->status.at = rocks->mark;
    rocks->status.kept = rocks->mark.position;
    *engine = &rocks->engine;
    *mark = rocks->mark;
    return STORE_OK;

err_after_alloc:
    destroy(rocks);
    return rc;
}

/* Checkpoints. */

static void *run_flush(void *context)
{
    struct rocks_engine *rocks = context;
    rocksdb_flush(rocks->db, rocks->flush, &rocks->flush_error);
    atomic_store(&rocks->done, true);
    return NULL;
}

static int end_flush(struct rocks_engine *rocks)
{
    rocks->running = false;
    rocks->until_size = 0;
    if (rocks->flush_error != NULL) {
        char *text = rocks->flush_error;
        rocks->flush_error = NULL;
        rocks->status.failed++;
        return fail_engine(rocks, "the checkpoint failed", text);
    }
    rocks->status.at = rocks->target;
    rocks->status.kept = rocks->target.position;
    rocks->status.count++;
    rocks->status.failure = NULL;
    return STORE_OK;
}

/* What the thread left; with `wait` also what it has yet to do. */
static int join_flush(struct rocks_engine *rocks, bool wait)
{
    if (!rocks->running || (!wait && !atomic_load(&rocks->done)))
        return STORE_OK;
    pthread_join(rocks->thread, NULL);
    return end_flush(rocks);
}

static bool is_flushed(const struct rocks_engine *rocks)
{
    return rocks->status.at.position == rocks->mark.position &&
           rocks->status.at.seq == rocks->mark.seq &&
           rocks->status.at.time_ms == rocks->mark.time_ms;
}

static int begin_flush(struct rocks_engine *rocks)
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

static int rocks_checkpoint(struct engine *engine, bool wait)
{
    struct rocks_engine *rocks = rocks_of(engine);
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

static void rocks_close(struct engine *engine)
{
    struct rocks_engine *rocks = rocks_of(engine);
    (void)join_flush(rocks, true);
    destroy(rocks);
}

static uint64_t property(struct rocks_engine *rocks, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(rocks->db, name, &value) == 0 ? value : 0;
}

/* Views of gets end here too, so that a loop that only reads does not pin block after block. */
static void rocks_status(struct engine *engine, struct engine_status *status)
{
    struct rocks_engine *rocks = rocks_of(engine);
    (void)join_flush(rocks, false);
    drop_pins(rocks);
    if (rocks->until_size-- == 0) {
        rocks->until_size = SIZE_EVERY;
        rocks->status.size = property(rocks, "rocksdb.total-sst-files-size");
        rocks->status.cache =
            rocksdb_cache_get_usage(rocks->cache) + property(rocks, "rocksdb.size-all-mem-tables");
    }
    rocks->status.running = rocks->running;
    *status = rocks->status;
}

static uint64_t rocks_memory(struct engine *engine)
{
    (void)engine;
    return 0;
}

/* Looking. */

/* STORE_NOT_FOUND: the overlay does not know; else `deleted` or a value. */
static int look_in_overlay(struct rocks_engine *rocks, const struct full_key *key, bool *deleted,
                           struct slice *value)
{
    const struct tree *tree = &rocks->overlay[key->bytes[0]];
    struct tree_path path;
    if (tree->root == NULL || !tree_find(tree, without_table(key), &path))
        return STORE_NOT_FOUND;
    const struct tree_step *leaf = tree_leaf(&path);
    struct slice tagged = page_value(leaf->page, leaf->index);
    *deleted = tagged.data[0] == TAG_DELETED;
    *value = slice_of(tagged.data + 1, tagged.size - 1);
    return STORE_OK;
}

static bool reserve_pin(struct rocks_engine *rocks)
{
    if (rocks->pin_count < rocks->pin_capacity)
        return true;
    size_t capacity = rocks->pin_capacity * 2 + 64;
    rocksdb_pinnableslice_t **pins = realloc(rocks->pins, capacity * sizeof(pins[0]));
    if (pins == NULL)
        return false;
    rocks->pins = pins;
    rocks->pin_capacity = capacity;
    return true;
}

static int look_in_base(struct rocks_engine *rocks, const struct full_key *key, struct slice *value)
{
    char *text = NULL;
    if (!reserve_pin(rocks))
        return STORE_NO_MEMORY;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned(rocks->db, rocks->read, (const char *)key->bytes, key->size, &text);
    if (text != NULL)
        return fail_engine(rocks, "a read failed", text);
    if (pin == NULL)
        return STORE_NOT_FOUND;
    rocks->pins[rocks->pin_count++] = pin;
    value->data = (const uint8_t *)rocksdb_pinnableslice_value(pin, &value->size);
    return STORE_OK;
}

/* Fills `known` with the key. */
static int look(struct rocks_engine *rocks, unsigned table, struct slice key, bool need_view)
{
    struct known *known = &rocks->known;
    bool deleted = false;
    if (known->valid && known->key.bytes[0] == table &&
        slice_equal(key, without_table(&known->key)) &&
        (known->viewed || !known->exists || !need_view))
        return STORE_OK;
    known->valid = false;
    set_key(&known->key, table, key);
    int rc = look_in_overlay(rocks, &known->key, &deleted, &known->value);
    if (rc == STORE_NOT_FOUND)
        rc = look_in_base(rocks, &known->key, &known->value);
    else if (deleted)
        rc = STORE_NOT_FOUND;
    if (rc != STORE_OK && rc != STORE_NOT_FOUND)
        return rc;
    known->valid = true;
    known->exists = rc == STORE_OK;
    known->viewed = known->exists;
    return STORE_OK;
}

static int rocks_get(struct engine *engine, unsigned table, struct slice key, struct slice *value)
{
    struct rocks_engine *rocks = rocks_of(engine);
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    int rc = look(rocks, table, key, true);
    if (rc != STORE_OK)
        return rc;
    if (!rocks->known.exists)
        return STORE_NOT_FOUND;
    *value = rocks->known.value;
    return STORE_OK;
}

/* Gaps. */

static struct gap *gap_around(struct rocks_engine *rocks, struct slice key)
{
    for (unsigned i = 0; i < MAX_GAPS; i++) {
        struct gap *gap = &rocks->gaps[i];
        if (gap->used != 0 && slice_compare(whole(&gap->low), key) <= 0 &&
            slice_compare(key, whole(&gap->high)) < 0)
            return gap;
    }
    return NULL;
}

/* A key comes to be: what is before it stays empty. Gaps may overlap. */
static void cut_gaps(struct rocks_engine *rocks, const struct full_key *key)
{
    for (struct gap *gap; (gap = gap_around(rocks, whole(key))) != NULL;) {
        gap->high = *key;
        if (slice_equal(whole(&gap->low), whole(key)))
            gap->used = 0;
    }
}

/* The one that was not used for longest makes room. */
static struct gap *new_gap(struct rocks_engine *rocks, const struct full_key *low)
{
    struct gap *oldest = &rocks->gaps[0];
    for (unsigned i = 1; i < MAX_GAPS; i++)
        if (rocks->gaps[i].used < oldest->used)
            oldest = &rocks->gaps[i];
    oldest->low = *low;
    return oldest;
}

/* Writing. */

/* Views of the engine may be what is written, so they end only when it is. */
static int write_overlay(struct rocks_engine *rocks, uint8_t tag, struct slice value)
{
    struct full_key *key = &rocks->known.key;
    struct tree *tree = &rocks->overlay[key->bytes[0]];
    struct tree_path path;
    bool found = tree_find(tree, without_table(key), &path);
    rocks->scratch[0] = tag;
    if (value.size > 0)
        memcpy(rocks->scratch + 1, value.data, value.size);
    int rc = tree_put(tree, &rocks->space, &path, found, without_table(key),
                      slice_of(rocks->scratch, 1 + value.size));
    if (rc != STORE_OK)
        return rc;
    rocks->known.exists = tag == TAG_PUT;
    drop_pins(rocks);
    return STORE_OK;
}

static int rocks_put(struct engine *engine, unsigned table, struct slice key, struct slice value)
{
    struct rocks_engine *rocks = rocks_of(engine);
    if (key.size > ENGINE_MAX_KEY || value.size > ENGINE_MAX_VALUE)
        return STORE_INVALID;
    int rc = look(rocks, table, key, false);
    bool existed = rocks->known.exists;
    if (rc == STORE_OK)
        rc = write_overlay(rocks, TAG_PUT, value);
    if (rc != STORE_OK || existed)
        return rc;
    rocks->counts[table]++;
    cut_gaps(rocks, &rocks->known.key);
    return STORE_OK;
}

static int rocks_delete(struct engine *engine, unsigned table, struct slice key)
{
    struct rocks_engine *rocks = rocks_of(engine);
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    int rc = look(rocks, table, key, false);
    if (rc == STORE_OK && !rocks->known.exists)
        return STORE_NOT_FOUND;
    if (rc == STORE_OK)
        rc = write_overlay(rocks, TAG_DELETED, (struct slice){0});
    if (rc == STORE_OK)
        rocks->counts[table]--;
    return rc;
}

/* Committing. */

static size_t batch_table(struct rocks_engine *rocks, unsigned table, rocksdb_writebatch_t *batch)
{
    const struct tree *tree = &rocks->overlay[table];
    struct full_key full = {.bytes = {(uint8_t)table}};
    struct tree_path path;
    size_t bytes = 0;
    if (tree->root == NULL)
        return 0;
    tree_find(tree, slice_of_text(""), &path);
    for (bool more = tree_settle(&path); more; more = tree_next(&path)) {
        const struct tree_step *leaf = tree_leaf(&path);
        struct slice tagged = page_value(leaf->page, leaf->index);
        size_t size = 1 + page_key(leaf->page, leaf->index, full.bytes + 1);
        if (tagged.data[0] == TAG_PUT)
            rocksdb_writebatch_put(batch, (const char *)full.bytes, size,
                                   (const char *)tagged.data + 1, tagged.size - 1);
        else
            rocksdb_writebatch_delete(batch, (const char *)full.bytes, size);
        bytes += size + tagged.size;
    }
    return bytes;
}

/* They show what was before, and keep its memory and files from being given back. */
static void drop_iterators(struct rocks_engine *rocks)
{
    for (struct rocks_cursor *cursor = rocks->cursors; cursor != NULL; cursor = cursor->next) {
        if (cursor->iterator != NULL)
            rocksdb_iter_destroy(cursor->iterator);
        cursor->iterator = NULL;
        cursor->side = SIDE_UNKNOWN;
    }
}

/*
 * A flush is begun before RocksDB does so by itself, in order to know what it brings to the disk:
 * so the log need never be kept for much more than a write buffer.
 */
static int rocks_commit(struct engine *engine, const struct engine_mark *mark)
{
    struct rocks_engine *rocks = rocks_of(engine);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint8_t record[RECORD_SIZE];
    char *text = NULL;
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        rocks->unflushed += batch_table(rocks, i, batch);
    encode_record(rocks, mark, record);
    rocksdb_writebatch_put(batch, RECORD_KEY, sizeof RECORD_KEY, (const char *)record, RECORD_SIZE);
    rocksdb_write(rocks->db, rocks->write, batch, &text);
    rocksdb_writebatch_destroy(batch);
    if (text != NULL)
        return fail_engine(rocks, "a commit failed", text);
    rocks->mark = *mark;
    drop_iterators(rocks);
    drop_pins(rocks);
    drop_overlay(rocks);
    if (rocks->unflushed >= rocks->buffer_size / 2)
        (void)rocks_checkpoint(engine, false);
    return STORE_OK;
}

/* Snapshots and cursors. */

static int rocks_snapshot(struct engine *engine, struct engine_snapshot **snapshot)
{
    struct rocks_engine *rocks = rocks_of(engine);
    struct engine_snapshot *taken = NULL;
    if (space_admits(&rocks->space, sizeof *taken))
        taken = malloc(sizeof *taken);
    if (taken == NULL)
        return STORE_NO_MEMORY;
    taken->snapshot = rocksdb_create_snapshot(rocks->db);
    *snapshot = taken;
    return STORE_OK;
}

static void rocks_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    rocksdb_release_snapshot(rocks_of(engine)->db, snapshot->snapshot);
    free(snapshot);
}

static void link_cursor(struct rocks_engine *rocks, struct rocks_cursor *cursor)
{
    cursor->next = rocks->cursors;
    if (cursor->next != NULL)
        cursor->next->previous = cursor;
    rocks->cursors = cursor;
}

static void unlink_cursor(struct rocks_cursor *cursor)
{
    if (cursor->previous != NULL)
        cursor->previous->next = cursor->next;
    else
        cursor->engine->cursors = cursor->next;
    if (cursor->next != NULL)
        cursor->next->previous = cursor->previous;
}

/* A snapshot's is opened and used by another thread: it touches nothing of the engine but db. */
static int rocks_cursor_open(struct engine *engine, struct engine_snapshot *snapshot,
                             unsigned table, struct engine_cursor **cursor)
{
    struct rocks_cursor *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return STORE_NO_MEMORY;
    opened->cursor.methods = &engine_rocksdb;
    opened->engine = rocks_of(engine);
    opened->snapshot = snapshot;
    opened->table = table;
    opened->lower[0] = (char)table;
    opened->upper[0] = (char)(table + 1);
    opened->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(opened->read, 1);
    rocksdb_readoptions_set_iterate_lower_bound(opened->read, opened->lower, 1);
    rocksdb_readoptions_set_iterate_upper_bound(opened->read, opened->upper, 1);
    if (snapshot != NULL) {
        rocksdb_readoptions_set_snapshot(opened->read, snapshot->snapshot);
        rocksdb_readoptions_set_fill_cache(opened->read, 0); /* a walk over all, once */
    } else {
        link_cursor(opened->engine, opened);
    }
    *cursor = &opened->cursor;
    return STORE_OK;
}

static void rocks_cursor_close(struct engine_cursor *cursor)
{
    struct rocks_cursor *own = cursor_of(cursor);
    if (own->snapshot == NULL)
        unlink_cursor(own);
    if (own->iterator != NULL)
        rocksdb_iter_destroy(own->iterator);
    rocksdb_readoptions_destroy(own->read);
    free(own);
}

/* An entry that a search met, in RocksDB or in the overlay. */
struct met {
    bool there;
    bool deleted;
    struct slice key; /* without table */
    struct slice value;
};

static int hand_out(struct rocks_cursor *cursor, const struct met *met, struct slice *key,
                    struct slice *value)
{
    cursor->placed = met->there;
    if (!met->there)
        return STORE_NOT_FOUND;
    set_key(&cursor->key, cursor->table, met->key);
    cursor->at_end = false;
    *key = without_table(&cursor->key);
    *value = met->value;
    return STORE_OK;
}

static int check_iterator(struct rocks_cursor *cursor, struct met *met)
{
    char *text = NULL;
    size_t size;
    *met = (struct met){.there = rocksdb_iter_valid(cursor->iterator)};
    if (met->there) {
        const char *key = rocksdb_iter_key(cursor->iterator, &size);
        met->key = slice_of(key + 1, size - 1);
        const char *value = rocksdb_iter_value(cursor->iterator, &size);
        met->value = slice_of(value, size);
        return STORE_OK;
    }
    rocksdb_iter_get_error(cursor->iterator, &text);
    if (text == NULL)
        return STORE_OK;
    cursor->side = SIDE_UNKNOWN;
    cursor->placed = false;
    return cursor->snapshot == NULL ? fail_engine(cursor->engine, "a read failed", text)
                                    : fail(NULL, "a read failed", text);
}

static void need_iterator(struct rocks_cursor *cursor)
{
    if (cursor->iterator == NULL)
        cursor->iterator = rocksdb_create_iterator(cursor->engine->db, cursor->read);
}

/* How the iterator's key compares with the cursor's. */
static int compare_base(const struct rocks_cursor *cursor)
{
    size_t size;
    const char *key = rocksdb_iter_key(cursor->iterator, &size);
    return slice_compare(slice_of(key, size), whole(&cursor->key));
}

/* RocksDB's first entry behind the cursor's key, or (`or_at`) at it. */
static int base_after(struct rocks_cursor *cursor, bool or_at, struct met *met)
{
    need_iterator(cursor);
    if (cursor->side != SIDE_AHEAD)
        rocksdb_iter_seek(cursor->iterator, (const char *)cursor->key.bytes, cursor->key.size);
    cursor->side = SIDE_AHEAD;
    while (rocksdb_iter_valid(cursor->iterator) && compare_base(cursor) < (or_at ? 0 : 1))
        rocksdb_iter_next(cursor->iterator);
    return check_iterator(cursor, met);
}

static int base_before(struct rocks_cursor *cursor, struct met *met)
{
    need_iterator(cursor);
    if (cursor->side != SIDE_BEHIND && cursor->at_end)
        rocksdb_iter_seek_to_last(cursor->iterator);
    else if (cursor->side != SIDE_BEHIND)
        rocksdb_iter_seek_for_prev(cursor->iterator, (const char *)cursor->key.bytes,
                                   cursor->key.size);
    cursor->side = SIDE_BEHIND;
    while (!cursor->at_end && rocksdb_iter_valid(cursor->iterator) && compare_base(cursor) >= 0)
        rocksdb_iter_prev(cursor->iterator);
    return check_iterator(cursor, met);
}

static const struct tree *overlay_of(const struct rocks_cursor *cursor)
{
    const struct tree *tree = &cursor->engine->overlay[cursor->table];
    return cursor->snapshot == NULL && tree->root != NULL ? tree : NULL;
}

static void meet_overlay(struct rocks_cursor *cursor, struct tree_path *path, struct met *met)
{
    const struct tree_step *leaf = tree_leaf(path);
    struct slice tagged = page_value(leaf->page, leaf->index);
    size_t size = page_key(leaf->page, leaf->index, cursor->other);
    *met = (struct met){.there = true,
                        .deleted = tagged.data[0] == TAG_DELETED,
                        .key = slice_of(cursor->other, size),
                        .value = slice_of(tagged.data + 1, tagged.size - 1)};
}

static void overlay_after(struct rocks_cursor *cursor, bool or_at, struct met *met)
{
    const struct tree *tree = overlay_of(cursor);
    struct tree_path path;
    *met = (struct met){0};
    if (tree == NULL)
        return;
    bool found = tree_find(tree, without_table(&cursor->key), &path);
    if (found && !or_at ? tree_next(&path) : tree_settle(&path))
        meet_overlay(cursor, &path, met);
}

static void overlay_before(struct rocks_cursor *cursor, struct met *met)
{
    const struct tree *tree = overlay_of(cursor);
    struct tree_path path;
    *met = (struct met){0};
    if (tree == NULL)
        return;
    if (cursor->at_end)
        tree_find_end(tree, &path);
    else
        tree_find(tree, without_table(&cursor->key), &path);
    if (tree_prev(&path))
        meet_overlay(cursor, &path, met);
}

/* The overlay's entry comes first, or takes the place of the same key in RocksDB. */
static bool overlay_wins(const struct met *overlay, const struct met *base, bool forward)
{
    if (!overlay->there || !base->there)
        return overlay->there;
    int order = slice_compare(overlay->key, base->key);
    return forward ? order <= 0 : order >= 0;
}

static int search(struct rocks_cursor *cursor, bool forward, bool or_at, struct slice *key,
                  struct slice *value)
{
    for (;;) {
        struct met base;
        struct met overlay;
        int rc = forward ? base_after(cursor, or_at, &base) : base_before(cursor, &base);
        if (rc != STORE_OK)
            return rc;
        if (forward)
            overlay_after(cursor, or_at, &overlay);
        else
            overlay_before(cursor, &overlay);
        if (!overlay_wins(&overlay, &base, forward))
            return hand_out(cursor, &base, key, value);
        if (!overlay.deleted)
            return hand_out(cursor, &overlay, key, value);
        set_key(&cursor->key, cursor->table, overlay.key);
        cursor->at_end = false;
        or_at = false;
    }
}

/* Nothing of the present state is from `low` up to where the cursor now is. */
static void note_gap(struct rocks_cursor *cursor, struct gap *gap, const struct full_key *low,
                     int rc)
{
    struct full_key end = {.size = 1, .bytes = {(uint8_t)(cursor->table + 1)}};
    const struct full_key *high = rc == STORE_OK ? &cursor->key : &end;
    if ((rc != STORE_OK && rc != STORE_NOT_FOUND) || slice_equal(whole(low), whole(high)))
        return;
    if (gap == NULL)
        gap = new_gap(cursor->engine, low);
    gap->high = *high;
    gap->used = ++cursor->engine->uses;
}

static int rocks_cursor_seek(struct engine_cursor *cursor, struct slice key,
                             struct slice *found_key, struct slice *value)
{
    struct rocks_cursor *own = cursor_of(cursor);
    struct gap *gap = NULL;
    set_key(&own->key, own->table, key);
    own->side = SIDE_UNKNOWN;
    own->at_end = false;
    if (own->snapshot != NULL)
        return search(own, true, true, found_key, value);
    struct full_key low = own->key;
    gap = gap_around(own->engine, whole(&low));
    if (gap != NULL)
        own->key = gap->high;
    int rc = STORE_NOT_FOUND;
    own->placed = false;
    if (own->key.bytes[0] == own->table)
        rc = search(own, true, true, found_key, value);
    note_gap(own, gap, &low, rc);
    return rc;
}

static int rocks_cursor_seek_before(struct engine_cursor *cursor, struct slice key,
                                    struct slice *found_key, struct slice *value)
{
    struct rocks_cursor *own = cursor_of(cursor);
    set_key(&own->key, own->table, key.data != NULL ? key : slice_of_text(""));
    own->at_end = key.data == NULL;
    own->side = SIDE_UNKNOWN;
    return search(own, false, false, found_key, value);
}

static int rocks_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct rocks_cursor *own = cursor_of(cursor);
    return own->placed ? search(own, true, false, key, value) : STORE_NOT_FOUND;
}

static int rocks_cursor_prev(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct rocks_cursor *own = cursor_of(cursor);
    return own->placed ? search(own, false, false, key, value) : STORE_NOT_FOUND;
}

/* All of a table is known; a part of it is walked. */
static int rocks_count(struct engine *engine, unsigned table, struct slice start, struct slice end,
                       uint64_t *count)
{
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    *count = rocks_of(engine)->counts[table];
    if (start.size == 0 && end.data == NULL)
        return STORE_OK;
    int rc = rocks_cursor_open(engine, NULL, table, &cursor);
    if (rc != STORE_OK)
        return rc;
    *count = 0;
    rc = rocks_cursor_seek(cursor, start, &key, &value);
    while (rc == STORE_OK && (end.data == NULL || slice_compare(key, end) < 0)) {
        ++*count;
        rc = rocks_cursor_next(cursor, &key, &value);
    }
    rocks_cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? STORE_OK : rc;
}

const struct engine_methods engine_rocksdb = {
    .name = "rocksdb",
    .open = rocks_open,
    .close = rocks_close,
    .get = rocks_get,
    .prefetch = NULL,
    .put = rocks_put,
    .delete = rocks_delete,
    .count = rocks_count,
    .cursor_open = rocks_cursor_open,
    .cursor_close = rocks_cursor_close,
    .cursor_seek = rocks_cursor_seek,
    .cursor_seek_before = rocks_cursor_seek_before,
    .cursor_next = rocks_cursor_next,
    .cursor_prev = rocks_cursor_prev,
    .snapshot = rocks_snapshot,
    .release = rocks_release,
    .commit = rocks_commit,
    .checkpoint = rocks_checkpoint,
    .status = rocks_status,
    .memory = rocks_memory,
};
