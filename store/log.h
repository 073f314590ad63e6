/*
 * The log: every transaction since some point, in order, in the files of a data directory. It is
 * what makes a reply durable (group commit: one write and one fdatasync for all transactions of a
 * turn), what a start replays, and what `changes` reads.
 *
 * A *record* is one transaction; its body is opaque here. Records are collected in memory, in the
 * *pending group*; log_commit writes the group with one checksum over all of it. So a group is
 * on disk whole or not at all, and with it each of its transactions. Groups are numbered 1, 2, 3…
 * without holes; that number is a *position* of the log.
 *
 * Groups fill *segments*: files of a fixed size that are written with zeros beforehand, by a
 * thread of the log's own, and used again when their content is no longer needed, so that an
 * fdatasync touches no metadata. The formats are drawn in segment.h.
 *
 * What a start finds behind the last whole group is a torn end, and cut off, unless something
 * later says that it had already been durable: each group carries the number of the newest group
 * that was known to be durable when it was written. Damage in what was durable is refused with
 * STORE_CORRUPT, file and offset.
 *
 * Without a directory the segments are in memory and the log keeps only what `changes` needs.
 *
 * The log is the seam for replication: records are self-contained, replay does not ask who
 * wrote them, and log_commit may be refused, after which the caller undoes the turn.
 */
#ifndef STORE_LOG_H
#define STORE_LOG_H

#include "store/error.h"
#include "wire/bytes.h"

#include <sys/types.h>

struct log;

/* What the names of its files begin with. */
#define LOG_FILE_PREFIX "log-"

enum log_durability {
    LOG_ALWAYS,   /* log_commit returns after an fdatasync */
    LOG_INTERVAL, /* the caller calls log_sync from time to time */
    LOG_NONE,     /* the operating system writes when it likes */
};

enum {
    LOG_SEGMENT_SIZE = 16 << 20,       /* the usual size of a segment */
    LOG_MEMORY_SEGMENT_SIZE = 1 << 20, /* and of one in memory */
    LOG_MIN_SEGMENT_SIZE = 64 << 10,
    LOG_RESERVE = 1 << 20,   /* kept for deletes when the disk is full; at most a quarter segment */
    LOG_MAX_GROUP = 1 << 30, /* bytes of a group: more is STORE_FULL */
};

/*
 * The system calls that write, so that a test can count them and let them fail: results and errno
 * as of pwrite(2) and fdatasync(2). Called by the log's thread as well as by the caller's.
 */
struct log_io {
    ssize_t (*pwrite)(void *context, int file, const void *bytes, size_t size, off_t offset);
    int (*fdatasync)(void *context, int file);
    void *context;
};

struct log_options {
    const char *directory; /* existing and locked by the caller; NULL: in memory */
    enum log_durability durability;
    size_t segment_size; /* 0: the usual; else at least LOG_MIN_SEGMENT_SIZE */
    uint64_t applied;    /* replay what is behind this position; 0: from the first group on */
    bool lossy;          /* the last run may have lost its newest groups, see log_open */

    /*
     * Called, with the context of log_open, before all files of a log are removed because nothing
     * in them is whole; a failure ends the start. NULL: nobody asks.
     */
    int (*begin_again)(void *context, struct store_error *error);
    const struct log_io *io; /* NULL: the system's; lives as long as the log */
};

struct log_record {
    uint64_t seq;     /* of its transaction; 0 where that has none */
    uint64_t time_ms; /* of its transaction */
    struct slice body;
};

/*
 * Called for each record of a start's replay, in order. `position` is the number of its group.
 * A result other than 0 ends the start with that code.
 */
typedef int log_replay_fn(void *context, uint64_t position, const struct log_record *record,
                          struct store_error *error);

/* Called now and then during a replay: bytes of log read so far, and in all. May be NULL. */
typedef void log_progress_fn(void *context, uint64_t done, uint64_t total);

/*
 * Opens the log, verifies all of it and replays what is behind `options->applied`. A torn end is
 * cut off. STORE_CORRUPT for damage, and where the log does not reach back to `applied`, or ends
 * before it; nothing was changed then. Where `lossy` says that groups may have been lost which
 * had never been synced, a log that ends before `applied` is let go of, and begins again behind
 * that; so does one that has no file yet.
 * STORE_INVALID for options or a format that cannot be; STORE_IO, STORE_FULL,
 * STORE_NO_MEMORY. All of them leave nothing open, and fill `error`.
 */
int log_open(struct log **log, const struct log_options *options, log_replay_fn *replay,
             log_progress_fn *progress, void *context, struct store_error *error);

/*
 * Syncs what is not yet synced, unless a write failed before (STORE_IO), and frees everything,
 * the pending group too.
 */
int log_close(struct log **log);

/*
 * The pending group. log_begin_record starts a record at the group's end and returns the buffer
 * to which its body is to be appended (only that: what is in it before stays as it is);
 * log_end_record completes it. log_drop_record takes back the record begun last, before its end.
 * Where memory is out the buffer's `failed` is set, and log_end_record returns STORE_NO_MEMORY
 * with the record dropped.
 */
struct buffer *log_begin_record(struct log *log);
int log_end_record(struct log *log, uint64_t seq, uint64_t time_ms);
void log_drop_record(struct log *log);

/*
 * Whether the pending group may grow by `more` bytes (of bodies; headers are seen to) and still be
 * written without waiting for space: STORE_FULL where the disk is full. `reserved` is true for what
 * frees space (deletes), which may use the last LOG_RESERVE bytes. Cheap: called for each write.
 */
int log_reserve(struct log *log, size_t more, bool reserved);

/*
 * Writes the pending group, in `always` with its fdatasync, and starts an empty one; does nothing
 * where no record is pending. STORE_FULL: nothing was written and the group is still pending.
 * STORE_IO is final: every later commit and sync fails with it too. log_discard empties the
 * pending group.
 */
int log_commit(struct log *log);
void log_discard(struct log *log);

/* One fdatasync for all that was committed since the last; does nothing where that is nothing. */
int log_sync(struct log *log);

/* Of a STORE_IO: which call failed on which file, and why. Lives as long as the log. */
const char *log_failure(const struct log *log);

/* Bytes that the pending group has so far; 0: no record is pending. */
size_t log_pending(const struct log *log);

/* Whether it has any group on disk. False for a new one, and for one that begins again. */
bool log_begun(const struct log *log);

/* Number of the newest committed group; of the newest known to be durable. 0: none yet. */
uint64_t log_position(const struct log *log);
uint64_t log_synced(const struct log *log);

/*
 * Lets go of segments whose groups are all at or before `position` (what a checkpoint covers) and
 * which are not among the newest `retain` bytes. Their files are used again. Syncs the log first
 * where `position`, or the first group of what is kept, is not yet durable: a log that begins with
 * a torn group is taken for damaged.
 */
void log_trim(struct log *log, uint64_t position, uint64_t retain);

/*
 * The seq of the first record that is kept and has one; `newest + 1` where none is, where newest
 * is the last seq that went into the log (or that log_forget was told).
 */
uint64_t log_oldest_seq(const struct log *log);

/*
 * Forgets all history for log_oldest_seq and log_seek, though not for a replay: seqs go on from
 * `newest`, and the first that can be read is newest + 1. For a new epoch. Not kept on disk: the
 * caller tells it again after each log_open, in the same words.
 */
void log_forget(struct log *log, uint64_t newest);

/* Bytes on disk (or in memory) that the segments take, the prepared one included. */
uint64_t log_size(const struct log *log);

/* How many fdatasyncs the loop waited for. For stats. */
uint64_t log_sync_count(const struct log *log);

/*
 * Reading history. A reader goes through the records with a seq, the pending ones included, in
 * order. It owns a buffer and may be used for any number of seeks, and is closed before the log.
 * Views live until the reader's next call, or the log's next commit, discard or begin_record.
 * After a log_discard it is to be sought again: what it handed out last may be gone.
 */
struct log_reader;

int log_reader_open(struct log *log, struct log_reader **reader);
void log_reader_close(struct log_reader **reader);

/* The next record will be the first with seq > since. STORE_COMPACTED where history has gone. */
int log_seek(struct log_reader *reader, uint64_t since);

/*
 * STORE_NOT_FOUND at the end; more may have come by the next call. STORE_COMPACTED where
 * log_trim let go of what would be next. STORE_IO, STORE_CORRUPT, STORE_NO_MEMORY.
 */
int log_next(struct log_reader *reader, struct log_record *record);

/*
 * How much work the reader has done: bytes of groups that it read, and something for each record
 * that it went through, wanted or not. Records without a seq are not read as far as the marks of a
 * segment tell that there is nothing else.
 */
uint64_t log_reader_work(const struct log_reader *reader);

#endif
