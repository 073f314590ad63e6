/*
 * The store: ordered tables of bytes with transactions, kept by an engine and made durable by the
 * log. It knows nothing of sockets, MessagePack or clocks; times are arguments. One thread owns it.
 *
 *     store_begin(store, now_ms);                    a transaction: all or nothing
 *     store_put(store, STORE_KEYS, key, head, value, STORE_CHANGE_PUT);
 *     store_end(store, &seq);                        complete, visible to what comes after
 *     …                                              more transactions of the same turn
 *     store_commit(store);                           all of them durable, by one write
 *
 * Writes go into the engine at once and into the log's pending group, and what each one replaced
 * into the undo list: store_rollback takes back a transaction or a part of it, store_abandon all
 * that was not yet committed.
 *
 * A *seq* numbers the transactions that made a change: 1, 2, 3… without holes. A *change* is a
 * write with a kind other than STORE_QUIET; the history of changes can be read back from the log.
 * Of a transaction that wrote a key more than once the history shows the key once, at the
 * place of its first write with its final state.
 *
 * Views (struct slice) that the store hands out live until the next write or the end of the
 * turn, whichever comes first.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "store/error.h"
#include "wire/bytes.h"

struct store;

enum store_table {
    STORE_KEYS,   /* the key-value side, see keys.h */
    STORE_EXPIRY, /* its index by time */
    STORE_META,   /* counters of the store's own */
    STORE_QUEUES, /* queue/: names, settings, counts, see queue/record.h for this and the next */
    STORE_JOBS,   /* what became of larger jobs, by id */
    STORE_BODIES, /* jobs, with their bodies */
    STORE_LISTS,  /* jobs in order, a list for each state of each queue */
    STORE_DEDUP,  /* jobs by their producers' ids */
    STORE_TABLES, /* new ones before this line; the numbers are in the log */
};

enum store_change {
    STORE_QUIET, /* not a change: indexes, expiries, everything of queues */
    STORE_CHANGE_PUT,
    STORE_CHANGE_DELETE,
    STORE_CHANGE_EXPIRE,
    STORE_CHANGE_EVICT,
    STORE_CHANGES,
    STORE_RESERVED = STORE_CHANGES, /* quiet, and store_put may use the reserve: what is counted */
};

enum { STORE_MAX_PREFETCH = 16 };

enum store_durability { STORE_ALWAYS, STORE_INTERVAL, STORE_NONE };

/* Called during a start, now and then: bytes of "checkpoint" or "log" read, and in all. */
typedef void store_progress_fn(void *context, const char *what, uint64_t done, uint64_t total);

/* Called with a line for the operator. */
typedef void store_warn_fn(void *context, const char *line);

struct store_options {
    const char *directory; /* made if absent; NULL: nothing on disk, all gone at the end */
    const char *engine;    /* NULL: the one that the directory has, memory in a new one */
    enum store_durability durability;
    uint64_t log_retain;         /* bytes of history to keep at least */
    uint64_t checkpoint_size;    /* bytes of log after which a checkpoint is begun; 0: never */
    uint64_t memory_limit;       /* bytes, 0: none */
    bool evicts;                 /* SIEVE: store_victim names keys; engine memory only */
    size_t segment_size;         /* of the log, 0: the usual */
    uint64_t wall_ms;            /* the wall clock, ms since 1970 */
    store_progress_fn *progress; /* may be NULL, as may the next */
    store_warn_fn *warn;
    void *context; /* of both */
};

/* Whether there is an engine of that name, and the names of all, for a sentence. */
bool store_has_engine(const char *name);
const char *store_engines(void);

/*
 * Opens or makes the data directory, locks it, loads what the engine has, replays the log. On
 * failure fills `error` with a line that names what is wrong and what can be done, and leaves
 * everything as it was.
 */
int store_open(struct store **store, const struct store_options *options,
               struct store_error *error);

/*
 * Commits nothing that store_commit did not: pending transactions are abandoned. Syncs the log,
 * waits for a checkpoint of everything, and marks the directory as cleanly stopped, unless a commit
 * failed before. Returns how that went; a checkpoint that fails loses nothing and is no error here.
 */
int store_close(struct store **store);

/*
 * A transaction. Its time is `now_ms`, or the newest time that the store has seen where that is
 * later: time never runs backwards. Exactly one of store_end and store_cancel follows.
 */
void store_begin(struct store *store, uint64_t now_ms);

/*
 * Completes it. `seq`: its own, or the newest one where it made no change. STORE_NO_MEMORY: it
 * was cancelled.
 */
int store_end(struct store *store, uint64_t *seq);

/* Takes back all of it. */
void store_cancel(struct store *store);

/* A point in the transaction to which store_rollback goes back. */
struct store_savepoint {
    size_t undo;
    uint32_t operations;
    uint32_t changes;
};

struct store_savepoint store_savepoint(const struct store *store);
void store_rollback(struct store *store, struct store_savepoint savepoint);

/* Time of the transaction, or of the last one, in ms since 1970. */
uint64_t store_now(const struct store *store);

/* The seq that the transaction has if it makes a change: one more than the newest. */
uint64_t store_next_seq(const struct store *store);

/* How many changes the transaction has made so far; a key written twice may count twice. */
uint32_t store_change_count(const struct store *store);

/* STORE_NOT_FOUND where absent. Outside a transaction too. */
int store_get(struct store *store, enum store_table table, struct slice key, struct slice *value);

/* A hint that these keys, STORE_MAX_PREFETCH at most, will be looked for next. None is empty. */
void store_prefetch(struct store *store, enum store_table table, const struct slice *keys,
                    unsigned count);

/*
 * Whether there is room for so many bytes under the limit of memory. What snapshots hold takes room
 * too, except in a store that evicts: that would evict for it and win nothing, since a key that a
 * snapshot sees goes on taking memory. store_was_short: whether this has been answered with no
 * since store_begin, also where a put asked it; that tells memory from disk behind STORE_FULL.
 */
bool store_has_room(struct store *store, size_t more);
bool store_was_short(const struct store *store);

/*
 * Eviction, in a store that `evicts`; else there is never a victim. The keys of STORE_KEYS stand in
 * the queues of sieve.h as they come and go, whoever writes them, and however writes are taken back
 * (a key that comes back is a new one then). After a start they stand there in the order of keys.
 * store_visit: the key was looked up by name, and is there. store_victim writes the key to evict
 * (SIEVE_MAX_KEY bytes at most) and returns its size, 0: there is none.
 */
void store_visit(struct store *store, struct slice key);
size_t store_victim(struct store *store, uint8_t *key);

/*
 * Inside a transaction. STORE_FULL: the limit of disk or memory is reached; store_delete may use
 * what is kept in reserve for it, and so may store_put with STORE_RESERVED, for the few bytes that
 * go with a deletion. STORE_NO_MEMORY. store_delete of an absent key: STORE_NOT_FOUND.
 * The value is given in two parts that are stored one behind the other. All of them are copied
 * before anything changes, so they may be views from the store.
 */
int store_put(struct store *store, enum store_table table, struct slice key, struct slice head,
              struct slice value, enum store_change change);
int store_delete(struct store *store, enum store_table table, struct slice key,
                 enum store_change change);

/*
 * store_put where the caller has looked already: `old` is what store_get has found, NULL where that
 * was nothing, and nothing was written since.
 */
int store_put_over(struct store *store, enum store_table table, struct slice key,
                   const struct slice *old, struct slice head, struct slice value,
                   enum store_change change);

/*
 * How many keys the table has in start <= key < end; `end.data == NULL`: no upper bound.
 * STORE_NO_MEMORY, STORE_IO, STORE_CORRUPT: `*count` is 0.
 */
int store_count(struct store *store, enum store_table table, struct slice start, struct slice end,
                uint64_t *count);

/*
 * Walking a table; see engine.h for the rules of each call. The store owns one cursor for each
 * table and hands it out, so there is nothing to close, and one walk at a time for each table.
 * NULL where memory is out.
 */
struct engine_cursor *store_cursor(struct store *store, enum store_table table);

/*
 * Makes every ended transaction as durable as the durability says. STORE_FULL: nothing was
 * written; the caller abandons the turn. STORE_IO: final, the store takes no further commits;
 * store_failure says what happened.
 */
int store_commit(struct store *store);

/* Counts the commits that wrote something; a turn that was abandoned is none. */
uint64_t store_position(const struct store *store);

/* Bytes of log that the next commit will write. */
size_t store_pending(const struct store *store);

/*
 * Checkpoints: what the engine has on disk, so that a start need not replay the log from its
 * beginning, and the log can be let go of. store_checkpoint begins one of all that is committed;
 * where one is running already, another follows it. Only with nothing pending. STORE_INVALID where
 * nothing is kept on disk; STORE_FULL, STORE_IO, STORE_NO_MEMORY: nothing is lost by that. Once so
 * much log was written as checkpoint_size, or as the last checkpoint's own size if that is
 * more, store_poll begins one by itself.
 *
 * store_poll is called in every turn after the commit: it sees to checkpoints that ended, and trims
 * the log behind them and behind log_retain.
 */
int store_checkpoint(struct store *store, struct store_error *error);
void store_poll(struct store *store);

struct store_checkpoints {
    bool running;
    uint64_t seq;        /* newest seq as of what is on disk */
    uint64_t count;      /* since the start: that came to a good end, */
    uint64_t failed;     /* that did not, */
    const char *failure; /* and why the last of those did not; NULL: none. A view */
};

void store_checkpoints(const struct store *store, struct store_checkpoints *checkpoints);

/* Undoes every transaction since the last commit. */
void store_abandon(struct store *store);

/* For durability `interval`: one fdatasync for all commits since the last. STORE_IO: final. */
int store_sync(struct store *store);

/* What happened, where a commit or sync was STORE_IO; a sentence that lives as long as the store.
 */
const char *store_failure(const struct store *store);

/* Newest seq (of ended transactions); oldest seq kept in history; the epoch, a zero-terminated str.
 */
uint64_t store_seq(const struct store *store);
uint64_t store_oldest(const struct store *store);
const char *store_epoch(const struct store *store);

/* The engine's name. */
const char *store_engine(const struct store *store);

struct store_stats {
    uint64_t memory; /* bytes that the engine takes, its caches included, and what evicts */
    uint64_t memory_limit;
    uint64_t disk;     /* bytes that log and engine take on disk */
    uint64_t syncs;    /* fdatasyncs that a commit waited for */
    uint64_t replayed; /* records that the start replayed */
};

void store_stats(const struct store *store, struct store_stats *stats);

/*
 * The present state, kept still: every table, entry by entry, in the order of table and key. Only
 * with nothing pending. store_snapshot_next: STORE_NOT_FOUND behind the last; views live until the
 * snapshot's next call. To be released before the store is closed. STORE_NO_MEMORY, STORE_FULL,
 * STORE_IO, STORE_CORRUPT.
 */
struct store_snapshot;

int store_snapshot(struct store *store, struct store_snapshot **snapshot);
int store_snapshot_next(struct store_snapshot *snapshot, unsigned *table, struct slice *key,
                        struct slice *value);
void store_snapshot_release(struct store_snapshot **snapshot);

/*
 * History: the changes, read back from the log. Each reader goes its own way through it, and is
 * closed before the store. store_history_seek: the next change is the first with seq > since;
 * STORE_COMPACTED where that is not kept or since is past the newest seq. store_history_next hands
 * out change by change, STORE_NOT_FOUND at the end, behind which more may come; STORE_COMPACTED
 * where what would be next has been let go of. Ended transactions that are not yet committed are
 * part of it; after a store_abandon it is to be sought again. Views live until the reader's next
 * call.
 */
struct store_history;

struct store_history_change {
    uint64_t seq;
    uint32_t index; /* within the transaction, */
    uint32_t count; /* which has so many */
    enum store_change change;
    struct slice key;
    struct slice value; /* as put: head and value; empty unless STORE_CHANGE_PUT */
};

int store_history_open(struct store *store, struct store_history **history);
void store_history_close(struct store_history **history);
int store_history_seek(struct store_history *history, uint64_t since);
int store_history_next(struct store_history *history, struct store_history_change *change);

/*
 * How much work all calls so far have been: about the bytes that they went through, where records
 * and operations that were passed over count too. What makes no change is passed over quickly,
 * however much of it there is.
 */
uint64_t store_history_work(const struct store_history *history);

#endif
