/*
 * Where LMDB's file ends before the pages that it should have: a copy that broke off, or a file
 * that was cut. LMDB does not look at the size of its file, and the system ends a process that
 * reads a map behind the end of its file.
 *
 * A file may be shorter by pages that are free: LMDB counts a page that it took and gave back in
 * one transaction, and need not write it. So what is missing is looked for in its list of free
 * pages: what is not there is lost.
 */
#include "store/lmdb_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* LMDB's list of free pages: a transaction's id, and how many pages it freed, and which. */
enum { FREE_PAGES = 0 };

struct end {
    uint64_t inode; /* of the file, */
    uint64_t size;
    uint64_t whole; /* pages that are wholly in it, */
    uint64_t pages; /* and that should be */
};

static int find_end(const struct lmdb_engine *lmdb, struct end *end)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat status;
    mdb_filehandle_t file;
    int result = mdb_env_info(lmdb->env, &info);
    if (result == 0)
        result = mdb_env_stat(lmdb->env, &stat);
    if (result == 0)
        result = mdb_env_get_fd(lmdb->env, &file);
    if (result == 0 && fstat(file, &status) != 0)
        result = errno;
    if (result != 0)
        return result;
    *end = (struct end){.inode = (uint64_t)status.st_ino,
                        .size = (uint64_t)status.st_size,
                        .whole = (uint64_t)status.st_size / stat.ms_psize,
                        .pages = (uint64_t)info.me_last_pgno + 1};
    return 0;
}

bool lmdb_is_short(const struct lmdb_engine *lmdb)
{
    struct end end;
    return find_end(lmdb, &end) == 0 && end.whole < end.pages;
}

/* LMDB does not say where its map is; the system does. NULL where it is not found. */
static char *find_map(const struct end *end, uint64_t size)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char *line = NULL;
    size_t capacity = 0;
    char *found = NULL;
    while (maps != NULL && found == NULL && getline(&line, &capacity, maps) > 0) {
        uint64_t from;
        uint64_t to;
        uint64_t offset;
        uint64_t inode;
        // NOLINTNEXTLINE(cert-err34-c): what the system writes is read back
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &from, &to,
                   &offset, &inode) == 4 &&
            inode == end->inode && offset == 0 && to - from >= size)
            found = (char *)(uintptr_t)from; // NOLINT(performance-no-int-to-ptr)
    }
    free(line);
    if (maps != NULL)
        fclose(maps);
    return found;
}

int lmdb_cover_end(const struct lmdb_engine *lmdb)
{
    MDB_envinfo info;
    struct end end;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int result = find_end(lmdb, &end);
    if (result != 0 || end.whole >= end.pages || mdb_env_info(lmdb->env, &info) != 0)
        return result;
    uint64_t from = (end.size + page - 1) / page * page;
    char *map = find_map(&end, info.me_mapsize);
    if (map == NULL || from >= info.me_mapsize)
        return 0;
    void *zeros = mmap(map + from, info.me_mapsize - from, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return zeros != MAP_FAILED ? 0 : errno;
}

/* How many of the pages that are missing a row of the list has. */
static uint64_t count_free(const MDB_val *row, const struct end *end)
{
    uint64_t count = 0;
    size_t pages = row->mv_size / sizeof(size_t);
    for (size_t i = 1; i < pages; i++) {
        size_t page;
        memcpy(&page, (const char *)row->mv_data + i * sizeof page, sizeof page);
        count += page >= end->whole && page < end->pages;
    }
    return count;
}

static int find_free(struct lmdb_engine *lmdb, const struct end *end, uint64_t *count)
{
    MDB_cursor *at;
    MDB_val key;
    MDB_val row;
    int result = lmdb_begin(lmdb, lmdb->txn, FREE_PAGES, &at);
    if (result != 0)
        return result;
    result = lmdb_move(lmdb, at, &key, &row, MDB_FIRST);
    for (; result == 0; result = lmdb_move(lmdb, at, &key, &row, MDB_NEXT))
        *count += count_free(&row, end);
    mdb_cursor_close(at);
    return result == MDB_NOTFOUND ? 0 : result;
}

int lmdb_check_end(struct lmdb_engine *lmdb, struct store_error *error)
{
    struct end end;
    uint64_t count = 0;
    if (find_end(lmdb, &end) != 0 || end.whole >= end.pages)
        return STORE_OK;
    if (lmdb->txn != NULL && find_free(lmdb, &end, &count) == 0 && count == end.pages - end.whole)
        return STORE_OK;
    return (int)store_fail(error, STORE_CORRUPT,
                           "%s/data.mdb is damaged at offset %" PRIu64
                           ": it ends there, and %" PRIu64 " of %" PRIu64 " pages are missing",
                           lmdb->directory, end.size, end.pages - end.whole, end.pages);
}
