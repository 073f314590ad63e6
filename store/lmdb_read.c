/*
 * Reading where pages may be damaged, and what LMDB's results mean.
 */
#include "store/lmdb_internal.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum store_code lmdb_code(int result)
{
    switch (result) {
    case 0:
        return STORE_OK;
    case MDB_NOTFOUND:
        return STORE_NOT_FOUND;
    case ENOMEM:
        return STORE_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case MDB_MAP_FULL:
        return STORE_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
        return STORE_CORRUPT;
    default:
        return STORE_IO;
    }
}

int lmdb_fail(struct lmdb_engine *lmdb, const char *what, int result, struct store_error *error)
{
    return (int)store_fail(error, lmdb_code(result), "%s/data.mdb: cannot %s: %s", lmdb->directory,
                           what, mdb_strerror(result));
}

void lmdb_meet_damage(MDB_env *env, const char *assertion)
{
    struct lmdb_engine *lmdb = mdb_env_get_userctx(env);
    char line[STORE_MAX_ERROR_MESSAGE];
    int parent = (int)(strlen(lmdb->directory) - strlen("/lmdb"));
    (void)store_fail(&lmdb->failure, STORE_CORRUPT,
                     "%.300s/data.mdb is damaged: a page of it cannot be read (%.120s)",
                     lmdb->directory, assertion);
    if (lmdb->guard != NULL)
        longjmp(*lmdb->guard, 1);
    int size =
        snprintf(line, sizeof line,
                 "cubbyd: %.200s/data.mdb is damaged, and LMDB cannot go on: look at it with "
                 "'cubbyd --check %.*s', then --salvage it or restore a backup\n",
                 lmdb->directory, parent < 200 ? parent : 200, lmdb->directory);
    (void)!write(STDERR_FILENO, line, size < (int)sizeof line ? (size_t)size : sizeof line - 1);
    _exit(EXIT_FAILURE); /* LMDB would abort */
}

int lmdb_read(struct lmdb_engine *lmdb, MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    jmp_buf *const before = lmdb->guard;
    volatile int result = MDB_CORRUPTED;
    jmp_buf guard;
    if (!lmdb->read_only)
        return mdb_get(txn, dbi, key, value);
    lmdb->guard = &guard;
    if (setjmp(guard) == 0)
        result = mdb_get(txn, dbi, key, value);
    lmdb->guard = before;
    return result;
}

int lmdb_move(struct lmdb_engine *lmdb, MDB_cursor *at, MDB_val *key, MDB_val *value,
              MDB_cursor_op op)
{
    jmp_buf *const before = lmdb->guard;
    volatile int result = MDB_CORRUPTED;
    jmp_buf guard;
    if (!lmdb->read_only)
        return mdb_cursor_get(at, key, value, op);
    lmdb->guard = &guard;
    if (setjmp(guard) == 0)
        result = mdb_cursor_get(at, key, value, op);
    lmdb->guard = before;
    return result;
}

int lmdb_begin(struct lmdb_engine *lmdb, MDB_txn *txn, MDB_dbi dbi, MDB_cursor **at)
{
    jmp_buf *const before = lmdb->guard;
    volatile int result = MDB_CORRUPTED;
    jmp_buf guard;
    if (!lmdb->read_only)
        return mdb_cursor_open(txn, dbi, at);
    lmdb->guard = &guard;
    if (setjmp(guard) == 0)
        result = mdb_cursor_open(txn, dbi, at);
    lmdb->guard = before;
    return result;
}
