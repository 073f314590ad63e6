/*
 * Reading all of a log without changing anything: which groups are whole, where that ends, and
 * whether what follows is a torn end or damage. A start (log_open.c) does it before it changes
 * anything; a check and a salvage (offline.c) do it and stay with that. Nobody else reads the log's
 * files to judge them.
 *
 *     log_scan_open(&scan, directory, &visitor, &error);
 *     code = log_scan_read(&scan);                        0: whole, or with a torn end
 *     while (code == STORE_CORRUPT && scan.damaged)       what is wrong is in `error`
 *         code = log_scan_resume(&scan);                  a check goes on behind it
 *     log_scan_close(&scan);
 */
#ifndef STORE_LOG_SCAN_H
#define STORE_LOG_SCAN_H

#include "store/segment.h"

/* A file of the directory that has a segment's name. */
struct scan_file {
    uint64_t id;
    uint64_t size;
    struct segment_header header;
    bool own;  /* the header is valid and its own: the file was begun as a segment of this log */
    bool used; /* something in it was written for this segment */
};

/*
 * Called in the order of the log; a result other than 0 ends the reading with that code. Views live
 * until the call returns.
 */
struct scan_visitor {
    /* The log goes on in this file, which is `file` of the scan's. */
    int (*segment)(void *context, size_t file);

    /* A whole group, at this place of the segment. */
    int (*group)(void *context, uint64_t offset, const struct group *group);

    /* Now and then: bytes read so far, and in all. May be NULL. */
    log_progress_fn *progress;
    void *context;
};

struct log_scan {
    struct scan_visitor visitor;
    struct store_error *error;

    struct scan_file *files; /* by id, ascending */
    size_t file_count;
    int directory; /* -1: there are no files */
    uint32_t salt; /* of the log; 0 where no file says it */

    /* The end of what is whole: the next group is expected there. */
    size_t at; /* of the files; file_count where no segment is whole */
    uint64_t offset;
    uint64_t expected;
    uint64_t position; /* of the newest whole group; 0: none */
    uint64_t synced;   /* what that says */
    uint32_t crc;      /* of that */

    /*
     * Behind the end. Without damage: bytes up to the last that is not zero, which are a torn end,
     * or what is left of an earlier use of the file. With damage, that is what the last result was
     * for, and the place that `error` names is here.
     */
    bool dirty;   /* there are such bytes in the segment of the end */
    bool torn;    /* a part of what was written there is recognized */
    bool damaged; /* what was expected had been durable */
    bool chained; /* of log_scan.c: the next group has to name the crc of the one before */
    uint64_t loose;
    size_t damaged_file;
    uint64_t damaged_offset;

    /* Of log_scan.c alone. */
    bool found; /* a whole group behind the end, at */
    bool proof; /* that what was expected had been durable, in proof_file */
    size_t found_file;
    uint64_t found_offset;
    struct group found_group;
    size_t proof_file;
    size_t expected_file; /* holds the expected group behind a bad header, or file_count */
    size_t file_capacity;
    uint64_t total; /* bytes of files that are read */
    uint64_t done;
    struct segment_source source; /* the file that is open; file -1: none */
    struct segment_window window;
    struct segment_window search_window;
};

/*
 * Lists the files and reads their headers. `error` and what the visitor needs outlive the scan.
 * STORE_INVALID: another version; STORE_IO, STORE_NO_MEMORY. log_scan_close follows in each case.
 */
int log_scan_open(struct log_scan *scan, int directory, const struct scan_visitor *visitor,
                  struct store_error *error);

/*
 * Reads group by group, up to the end of what is whole. STORE_CORRUPT with `damaged` where that end
 * is damage; the visitor's code; STORE_IO, STORE_NO_MEMORY.
 */
int log_scan_read(struct log_scan *scan);

/*
 * Goes on with the first whole group behind the damage, like log_scan_read. STORE_NOT_FOUND where
 * none is.
 */
int log_scan_resume(struct log_scan *scan);

/*
 * Whether the log meets a state that has everything up to group `applied`: begins no later than
 * behind that, and does not end before. STORE_CORRUPT. For the end, after log_scan_read.
 */
int log_scan_meets_at_beginning(const struct log_scan *scan, uint64_t applied);
int log_scan_meets_at_end(const struct log_scan *scan, uint64_t applied);

/* Fills the scan's error with a sentence about a file, or a system call on it. Return the code. */
int log_scan_fail(const struct log_scan *scan, enum store_code code, uint64_t id, const char *what);
int log_scan_fail_system(const struct log_scan *scan, uint64_t id, const char *call, int cause);

void log_scan_close(struct log_scan *scan);

#endif
