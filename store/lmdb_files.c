/*
 * The files of the LMDB engine: how they are opened, and the mark in them.
 */
#include "store/lmdb_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/on_disk.h"

enum { MAX_SNAPSHOTS = 126 }; /* LMDB's usual number of readers */

#define FIRST_MAP                                                                                  \
    (UINT64_C(1) << 40) /* address space, not memory; LMDB's file grows as it is used */
#define SMALLEST_MAP (UINT64_C(1) << 26)

/* The mark as it is stored, little endian as all our machines; version 1. */
struct record {
    uint64_t position;
    uint64_t seq;
    uint64_t time_ms;
    uint64_t next_bucket;
    uint64_t count[ENGINE_TABLES];
    uint32_t version;
    uint32_t crc; /* CRC-32C of what is before */
};

enum { RECORD_VERSION = 1 };

/* The mark. */

static uint32_t check_of(const struct record *record)
{
    return crc32c(0, record, offsetof(struct record, crc));
}

int lmdb_write_mark(struct lmdb_engine *lmdb)
{
    struct record record = {
        .position = lmdb->committed.position,
        .seq = lmdb->committed.seq,
        .time_ms = lmdb->committed.time_ms,
        .next_bucket = lmdb->next_bucket,
        .version = RECORD_VERSION,
    };
    MDB_val key = {.mv_size = 4, .mv_data = (void *)"mark"};
    MDB_val value = {.mv_size = sizeof record, .mv_data = &record};
    memcpy(record.count, lmdb->count, sizeof record.count);
    record.crc = check_of(&record);
    return mdb_put(lmdb->txn, lmdb->marks, &key, &value, 0);
}

/* Without a mark nothing was ever committed. */
static int check_unmarked(struct lmdb_engine *lmdb, struct store_error *error)
{
    MDB_stat stat = {0};
    for (unsigned i = 0; i < ENGINE_TABLES; i++) {
        int result = mdb_stat(lmdb->txn, lmdb->tables[i], &stat);
        if (result != 0)
            return lmdb_fail(lmdb, "read", result, error);
        if (stat.ms_entries > 0)
            return (int)store_fail(error, STORE_CORRUPT, "%s/data.mdb: its mark is missing",
                                   lmdb->directory);
    }
    return STORE_OK;
}

static int read_mark(struct lmdb_engine *lmdb, struct store_error *error)
{
    struct record record;
    MDB_val key = {.mv_size = 4, .mv_data = (void *)"mark"};
    MDB_val value;
    int result = mdb_get(lmdb->txn, lmdb->marks, &key, &value);
    if (result == MDB_NOTFOUND)
        return check_unmarked(lmdb, error);
    if (result != 0)
        return lmdb_fail(lmdb, "read the mark of", result, error);
    memset(&record, 0, sizeof record);
    memcpy(&record, value.mv_data, value.mv_size < sizeof record ? value.mv_size : sizeof record);
    if (value.mv_size != sizeof record || record.crc != check_of(&record) ||
        record.version != RECORD_VERSION)
        return (int)store_fail(error, STORE_CORRUPT,
                               "%s/data.mdb: its mark is damaged, or of another version",
                               lmdb->directory);
    lmdb->committed = (struct engine_mark){
        .position = record.position, .seq = record.seq, .time_ms = record.time_ms};
    lmdb->synced = lmdb->committed;
    lmdb->next_bucket = record.next_bucket;
    memcpy(lmdb->count, record.count, sizeof lmdb->count);
    return STORE_OK;
}

/* Opening. */

/* All databases are made in one transaction: where there is one, none may be missing. */
static int open_databases(struct lmdb_engine *lmdb)
{
    char name[8];
    MDB_dbi all;
    MDB_stat stat = {0};
    int result = mdb_dbi_open(lmdb->txn, NULL, 0, &all);
    if (result == 0)
        result = mdb_stat(lmdb->txn, all, &stat);
    unsigned flags = lmdb->read_only || stat.ms_entries > 0 ? 0 : MDB_CREATE;
    if (result == 0)
        result = mdb_dbi_open(lmdb->txn, "mark", flags, &lmdb->marks);
    if (result == 0)
        result = mdb_dbi_open(lmdb->txn, "long", flags, &lmdb->longer);
    for (unsigned i = 0; result == 0 && i < ENGINE_TABLES; i++) {
        snprintf(name, sizeof name, "%u", i);
        result = mdb_dbi_open(lmdb->txn, name, flags, &lmdb->tables[i]);
    }
    return result == MDB_NOTFOUND && stat.ms_entries > 0 ? MDB_CORRUPTED : result;
}

/* As large a map as the system has addresses for. Who only reads needs no table of readers. */
static int open_env(struct lmdb_engine *lmdb)
{
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (lmdb->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
    int result = ENOMEM;
    lmdb->map_size = FIRST_MAP * 2;
    while (result == ENOMEM && lmdb->map_size > SMALLEST_MAP) {
        lmdb->map_size /= 2;
        result = mdb_env_create(&lmdb->env);
        if (result == 0)
            result = mdb_env_set_userctx(lmdb->env, lmdb);
        if (result == 0)
            result = mdb_env_set_assert(lmdb->env, lmdb_meet_damage);
        if (result == 0)
            result = mdb_env_set_mapsize(lmdb->env, lmdb->map_size);
        if (result == 0)
            result = mdb_env_set_maxdbs(lmdb->env, ENGINE_TABLES + 2);
        if (result == 0)
            result = mdb_env_set_maxreaders(lmdb->env, MAX_SNAPSHOTS);
        if (result == 0)
            result = mdb_env_open(lmdb->env, lmdb->directory, flags, 0600);
        if (result != 0 && lmdb->env != NULL) {
            mdb_env_close(lmdb->env);
            lmdb->env = NULL;
        }
    }
    return result;
}

static int open_directory(struct lmdb_engine *lmdb, const char *directory,
                          struct store_error *error)
{
    int size = snprintf(lmdb->directory, sizeof lmdb->directory, "%s/lmdb", directory);
    if (size < 0 || size >= (int)sizeof lmdb->directory)
        return (int)store_fail(error, STORE_INVALID, "the path of the data directory is too long");
    if (lmdb->read_only || mkdir(lmdb->directory, 0700) == 0 || errno == EEXIST)
        return STORE_OK;
    return (int)store_fail(error, errno == ENOSPC ? STORE_FULL : STORE_IO, "cannot make %s: %s",
                           lmdb->directory, strerror(errno));
}

static int sync_path(const char *path, int flags)
{
    int file = open(path, flags | O_CLOEXEC);
    if (file < 0)
        return errno;
    int result = fsync(file) == 0 ? 0 : errno;
    close(file);
    return result;
}

/* A file that has no more than the two pages that it begins with was never committed to. */
static bool is_begun(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_size > 2 * sysconf(_SC_PAGESIZE);
}

/*
 * LMDB writes the two pages that a file begins with, and makes its name, without a sync; it takes
 * a file whose first pages a power failure tore for damaged. So they are made durable alone, and
 * a file that is no longer than they are is made anew.
 */
static int make_file(struct lmdb_engine *lmdb)
{
    char path[sizeof lmdb->directory + sizeof "/data.mdb"];
    snprintf(path, sizeof path, "%s/data.mdb", lmdb->directory);
    if (is_begun(path))
        return 0;
    if (lmdb->read_only)
        return MDB_NOTFOUND;
    if (unlink(path) != 0 && errno != ENOENT)
        return errno;
    int result = open_env(lmdb);
    if (result == 0) {
        mdb_env_close(lmdb->env);
        lmdb->env = NULL;
        result = sync_path(path, O_RDONLY);
    }
    return result == 0 ? sync_path(lmdb->directory, O_RDONLY | O_DIRECTORY) : result;
}

/*
 * A file that ends too soon is looked at by a reader, which can: a start is refused where something
 * is lost by it.
 */
static int check_end(struct lmdb_engine *lmdb, const char *directory, struct store_error *error)
{
    struct lmdb_engine reader = {.read_only = true};
    if (!lmdb_is_short(lmdb))
        return STORE_OK;
    mdb_env_close(lmdb->env);
    lmdb->env = NULL;
    int code = lmdb_open_files(&reader, directory, error);
    if (code == STORE_OK && reader.failure.code != STORE_OK)
        code = (int)store_fail(error, reader.failure.code, "%s", reader.failure.message);
    lmdb_close_files(&reader);
    if (code != STORE_OK)
        return code;
    int result = open_env(lmdb);
    return result == 0 ? STORE_OK : lmdb_fail(lmdb, "open", result, error);
}

/* The databases themselves are made durable before anything is written into them. */
static int start(struct lmdb_engine *lmdb, const char *directory, struct store_error *error)
{
    unsigned flags = lmdb->read_only ? MDB_RDONLY : 0;
    int result = make_file(lmdb);
    if (result == 0)
        result = open_env(lmdb);
    if (result == 0 && lmdb->read_only)
        result = lmdb_cover_end(lmdb);
    int code = result == 0 && !lmdb->read_only ? check_end(lmdb, directory, error) : STORE_OK;
    if (code != STORE_OK)
        return code;
    if (result == 0)
        result = mdb_txn_begin(lmdb->env, NULL, flags, &lmdb->txn);
    if (result == 0)
        result = open_databases(lmdb);
    if (result == 0) {
        result = mdb_txn_commit(lmdb->txn);
        lmdb->txn = NULL;
    }
    if (result == 0)
        result = mdb_txn_begin(lmdb->env, NULL, flags, &lmdb->txn);
    code = result == 0 ? read_mark(lmdb, error) : lmdb_fail(lmdb, "open", result, error);
    if (lmdb->read_only && lmdb->env != NULL) /* rather than what came of it */
        (void)lmdb_check_end(lmdb, code == STORE_OK ? &lmdb->failure : error);
    return code;
}

int lmdb_open_files(struct lmdb_engine *lmdb, const char *directory, struct store_error *error)
{
    volatile int code = open_directory(lmdb, directory, error);
    jmp_buf guard;
    if (code != 0 || !lmdb->read_only)
        return code == 0 ? start(lmdb, directory, error) : code;
    lmdb->guard = &guard;
    if (setjmp(guard) == 0)
        code = start(lmdb, directory, error);
    else
        code = (int)store_fail(error, STORE_CORRUPT, "%s", lmdb->failure.message);
    lmdb->guard = NULL;
    return code;
}

void lmdb_close_files(struct lmdb_engine *lmdb)
{
    if (lmdb->txn != NULL)
        mdb_txn_abort(lmdb->txn);
    if (lmdb->env != NULL)
        mdb_env_close(lmdb->env);
}
