/* What the files of the LMDB engine share. Nobody else includes this. */
#ifndef STORE_LMDB_INTERNAL_H
#define STORE_LMDB_INTERNAL_H

#include <lmdb.h>
#include <setjmp.h>

#include "store/engine.h"

enum { LMDB_MAX_PATH = 4096 };

struct lmdb_engine {
    struct engine engine;
    char directory[LMDB_MAX_PATH];
    bool read_only;
    MDB_env *env;
    MDB_dbi tables[ENGINE_TABLES];
    MDB_dbi longer;
    MDB_dbi marks;
    MDB_txn *txn; /* the one that writes; NULL only while it is replaced, and after a failure */
    struct lmdb_cursor *cursors; /* on the present state: LMDB's end with its transaction */
    uint64_t map_size;
    unsigned snapshots;
    uint64_t changes; /* counts what cursors have to notice: writes, and a new txn */

    uint64_t next_bucket;
    uint64_t count[ENGINE_TABLES];
    size_t writes; /* in the transaction */
    size_t bytes;
    struct buffer copy;           /* of what is being put */
    bool broken;                  /* a write failed: the transaction can only be given up */
    bool full;                    /* the disk has no room for the transaction */
    uint64_t reserved;            /* the file has room up to this offset */
    struct engine_mark committed; /* by the store */
    struct engine_mark synced;
    bool unsynced; /* something is committed that is not synced */
    uint64_t checkpoints;
    uint64_t failed;
    struct store_error failure;
    jmp_buf *guard; /* where a page that LMDB cannot go on with leads; NULL: the process ends */
};

/* lmdb_read.c. */

enum store_code lmdb_code(int result);

/* Fills the error with what LMDB says, or the system. */
int lmdb_fail(struct lmdb_engine *lmdb, const char *what, int result, struct store_error *error);

/*
 * For mdb_env_set_assert. LMDB asserts what it finds in a page's head, and ends the process where
 * that does not hold. Who only reads holds none of its locks, and goes back to where it called
 * LMDB; all that may follow is to close it. Who writes cannot go on, since LMDB may be anywhere in
 * a change: it says why, and ends. The log has everything, as after any crash.
 */
void lmdb_meet_damage(MDB_env *env, const char *assertion);

/*
 * Reading: mdb_get, mdb_cursor_get and mdb_cursor_open, except that damage which LMDB itself would
 * end the process for is MDB_CORRUPTED where nothing is written to the files; `failure` has the
 * sentence. Where they are written to the process does end, behind a line on standard error.
 */
int lmdb_read(struct lmdb_engine *lmdb, MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);
int lmdb_move(struct lmdb_engine *lmdb, MDB_cursor *at, MDB_val *key, MDB_val *value,
              MDB_cursor_op op);
int lmdb_begin(struct lmdb_engine *lmdb, MDB_txn *txn, MDB_dbi dbi, MDB_cursor **at);

/* lmdb_end.c. Whether the file ends before its last page. */
bool lmdb_is_short(const struct lmdb_engine *lmdb);

/*
 * Of who only reads: what is missing at the end of the file is read as zeros, which are no page;
 * without that the process would end. 0 or a result of LMDB. Whoever writes must not: the file
 * grows under its map.
 */
int lmdb_cover_end(const struct lmdb_engine *lmdb);

/* Of who only reads: STORE_CORRUPT where the file ends too soon, and something is lost by it. */
int lmdb_check_end(struct lmdb_engine *lmdb, struct store_error *error);

/* lmdb_files.c. */

/*
 * Opens the files below the directory, or makes them, durably; begins the transaction and reads the
 * mark into the engine. STORE_NOT_FOUND where there are none and only reading is allowed. On
 * failure lmdb_close_files follows as well.
 */
int lmdb_open_files(struct lmdb_engine *lmdb, const char *directory, struct store_error *error);
void lmdb_close_files(struct lmdb_engine *lmdb);

/* The mark goes into the transaction. */
int lmdb_write_mark(struct lmdb_engine *lmdb);

#endif
