/*
 * Opening and closing a log. log_scan.c says what the directory holds, whether it is whole, and
 * where it ends, while its records are replayed. Then a torn end is filled with zeros, so that none
 * of it is ever found again, and later files become spares or go.
 *
 * Nothing is changed before all of that is decided.
 */
#include "store/log_internal.h"
#include "store/log_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

static ssize_t system_pwrite(void *context, int file, const void *bytes, size_t size, off_t offset)
{
    (void)context;
    return pwrite(file, bytes, size, offset);
}

static int system_fdatasync(void *context, int file)
{
    (void)context;
    return fdatasync(file);
}

static const struct log_io system_io = {.pwrite = system_pwrite, .fdatasync = system_fdatasync};

struct recovery {
    struct log *log;
    uint64_t applied;
    bool lossy;
    int (*begin_again)(void *context, struct store_error *error);
    log_replay_fn *replay;
    log_progress_fn *progress;
    void *context;
    struct store_error *error;
    struct log_scan scan;
    uint64_t synced; /* the newest group that is known to be durable */
};

static void report_progress(void *context, uint64_t done, uint64_t total)
{
    struct recovery *r = context;
    r->progress(r->context, done, total);
}

static int replay_record(struct recovery *r, uint64_t number, const struct log_record *record)
{
    if (record->seq != 0)
        r->log->seq = record->seq;
    if (number <= r->applied || r->replay == NULL)
        return 0;
    return r->replay(r->context, number, record, r->error);
}

static int take_group(void *context, uint64_t offset, const struct group *group)
{
    struct recovery *r = context;
    struct slice rest = slice_of(group->records, group->length);
    uint64_t seq_before = r->log->seq;
    (void)offset;
    for (uint32_t i = 0; i < group->count; i++) {
        struct log_record record;
        if (!record_read(&rest, &record))
            return log_scan_fail(&r->scan, STORE_CORRUPT, r->scan.files[r->scan.at].id,
                                 "a group is not made of records");
        int code = replay_record(r, group->number, &record);
        if (code != 0)
            return code;
    }
    segment_add_group(log_newest_segment(r->log), GROUP_HEADER_SIZE + (uint64_t)group->length,
                      seq_before);
    return 0;
}

static int add_segment(void *context, size_t file)
{
    struct recovery *r = context;
    const struct scan_file *found = &r->scan.files[file];
    struct log *log = r->log;
    struct segment *segment = segment_new(found->id, found->header.size);
    if (segment == NULL || log_grow_segments(log) != 0) {
        segment_free(segment);
        return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory for the log's segments");
    }
    segment->first = found->header.first;
    segment->seq_before = found->header.seq_before;
    log->segments[log->segment_count] = segment;
    log->segment_count++;
    if (log->seq < found->header.seq_before)
        log->seq = found->header.seq_before;
    return 0;
}

/* From here on the directory is changed. A file that was cut short gets its full size again. */
static int clear_end(struct recovery *r)
{
    struct segment *newest = log_newest_segment(r->log);
    if (newest == NULL || r->scan.at >= r->scan.file_count)
        return 0;
    const struct scan_file *found = &r->scan.files[r->scan.at];
    int file = log_segment_file(r->log, newest);
    if (file < 0)
        return log_scan_fail_system(&r->scan, newest->id, "open", errno);
    if (!r->scan.dirty && found->size >= newest->size)
        return 0;
    const struct log_io *io = r->log->io;
    int cause = segment_zero(io, file, newest->end, newest->size);
    if (cause == 0 && io->fdatasync(io->context, file) != 0)
        cause = errno;
    return cause == 0 ? 0 : log_scan_fail_system(&r->scan, newest->id, "write", cause);
}

static bool is_spare(const struct recovery *r, size_t file, size_t spares, uint64_t next_id)
{
    const struct scan_file *found = &r->scan.files[file];
    return !found->used && found->id == next_id + spares && spares < POOL_MAX_SPARES &&
           found->size == r->log->segment_size;
}

static int adopt_spare(struct recovery *r, const struct scan_file *found)
{
    struct segment *spare = segment_new(found->id, found->size);
    if (spare == NULL)
        return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory for the log's segments");
    if (log_segment_file(r->log, spare) < 0) {
        segment_free(spare);
        return log_scan_fail_system(&r->scan, found->id, "open", errno);
    }
    pool_adopt(r->log->pool, spare);
    return 0;
}

static int remove_file(struct recovery *r, const struct scan_file *found)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(found->id, name);
    if (unlinkat(r->log->directory, name, 0) != 0)
        return log_scan_fail_system(&r->scan, found->id, "remove", errno);
    return 0;
}

/*
 * Files behind the end become the pool's, as far as they are as good as new; others go, the
 * newest first, so that what an interruption leaves is a log that only ends earlier.
 */
static int sort_out_spares(struct recovery *r, uint64_t next_id)
{
    size_t from = r->scan.at == r->scan.file_count ? 0 : r->scan.at + 1;
    size_t spares = 0;
    int code = 0;
    if (from == 0 && r->scan.file_count > 0 && r->begin_again != NULL)
        code = r->begin_again(r->context, r->error);
    while (code == 0 && from + spares < r->scan.file_count &&
           is_spare(r, from + spares, spares, next_id)) {
        code = adopt_spare(r, &r->scan.files[from + spares]);
        spares++;
    }
    for (size_t i = r->scan.file_count; code == 0 && i > from + spares; i--)
        code = remove_file(r, &r->scan.files[i - 1]);
    if (code != 0)
        return code;
    if (fsync(r->log->directory) != 0)
        return (int)store_fail(r->error, STORE_IO, "cannot sync the data directory: %s",
                               strerror(errno));
    return 0;
}

static int make_pool(struct recovery *r)
{
    struct log *log = r->log;
    const struct segment *newest = log_newest_segment(log);
    uint64_t next_id = 1;
    if (newest != NULL)
        next_id = newest->id + 1;
    else if (r->scan.file_count > 0 && log->position > 0)
        next_id = r->scan.files[r->scan.file_count - 1].id + 1;
    if (pool_open(&log->pool, log->directory, log->segment_size, log->io, next_id) != 0)
        return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory for the log");
    return log->directory >= 0 ? sort_out_spares(r, next_id) : 0;
}

/* What was read may still be on its way to the disk, since a process died and not the system. */
static int sync_groups(struct recovery *r)
{
    struct log *log = r->log;
    if (log->directory < 0)
        return 0;
    log->synced = r->synced;
    int code = log_sync(log);
    log->sync_count = 0;
    if (code != 0)
        return (int)store_fail(r->error, STORE_IO, "%s", log->failure.message);
    return 0;
}

static int draw_salt(struct recovery *r)
{
    uint32_t *salt = &r->log->salt;
    while (*salt == 0) {
        if (getrandom(salt, sizeof(*salt), 0) < 0 && errno != EINTR)
            return (int)store_fail(r->error, STORE_IO, "no random numbers: %s", strerror(errno));
    }
    return 0;
}

/*
 * A log that the last run did not sync may end before the state. What it lost is in the state, and
 * older than all that follows.
 */
static void begin_again(struct recovery *r)
{
    struct log *log = r->log;
    while (log->segment_count > 0) {
        log->segment_count--;
        segment_free(log->segments[log->segment_count]);
    }
    for (size_t i = 0; i < r->scan.file_count; i++)
        r->scan.files[i].used = true;
    r->scan.at = r->scan.file_count;
    r->synced = r->applied;
    log->position = r->applied;
    log->crc = 0;
}

/*
 * The log must meet the state. Where it ends before, though all of that had been durable, it is
 * not cut, even if the state has what is missing: whatever followed the state is missing too.
 */
static int read_log(struct recovery *r)
{
    int code = log_scan_meets_at_beginning(&r->scan, r->applied);
    if (code == 0)
        code = log_scan_read(&r->scan);
    if (code != 0)
        return code;
    r->log->position = r->scan.position;
    r->log->crc = r->scan.crc;
    r->log->salt = r->scan.salt;
    r->synced = r->scan.synced;
    code = log_scan_meets_at_end(&r->scan, r->applied);
    if (code == 0 || !(r->lossy || r->log->directory < 0))
        return code;
    begin_again(r);
    return 0;
}

static int take_over(struct recovery *r)
{
    const struct scan_visitor visitor = {
        .segment = add_segment,
        .group = take_group,
        .progress = r->progress != NULL ? report_progress : NULL,
        .context = r,
    };
    int code = log_scan_open(&r->scan, r->log->directory, &visitor, r->error);
    if (code == 0)
        code = read_log(r);
    if (code == 0)
        code = draw_salt(r);
    if (code == 0)
        code = clear_end(r);
    if (code == 0)
        code = make_pool(r);
    if (code == 0)
        code = sync_groups(r);
    return code;
}

static int recover(struct log *log, const struct log_options *options, log_replay_fn *replay,
                   log_progress_fn *progress, void *context, struct store_error *error)
{
    struct recovery r = {
        .log = log,
        .applied = options->applied,
        .lossy = options->lossy,
        .begin_again = options->begin_again,
        .replay = replay,
        .progress = progress,
        .context = context,
        .error = error,
    };
    int code = take_over(&r);
    log_scan_close(&r.scan);
    return code;
}

static void free_log(struct log *log)
{
    pool_close(&log->pool);
    for (size_t i = 0; i < log->segment_count; i++)
        segment_free(log->segments[i]);
    free(log->segments);
    buffer_free(&log->pending);
    if (log->directory >= 0)
        close(log->directory);
    free(log);
}

static int check_options(const struct log_options *options, struct store_error *error)
{
    size_t size = options->segment_size;
    if (size == 0 || (size >= LOG_MIN_SEGMENT_SIZE && size <= LOG_MAX_GROUP))
        return 0;
    return (int)store_fail(error, STORE_INVALID, "a log segment has %d to %d bytes, not %zu",
                           LOG_MIN_SEGMENT_SIZE, LOG_MAX_GROUP, size);
}

static int open_directory(struct log *log, const char *directory, struct store_error *error)
{
    if (directory == NULL)
        return 0;
    log->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->directory >= 0)
        return 0;
    return (int)store_fail(error, STORE_IO, "cannot open %s: %s", directory, strerror(errno));
}

static size_t usual_segment_size(const struct log_options *options)
{
    return options->directory != NULL ? LOG_SEGMENT_SIZE : LOG_MEMORY_SEGMENT_SIZE;
}

static int start(struct log *log, const struct log_options *options, log_replay_fn *replay,
                 log_progress_fn *progress, void *context, struct store_error *error)
{
    int code = open_directory(log, options->directory, error);
    if (code != 0)
        return code;
    code = recover(log, options, replay, progress, context, error);
    if (code != 0)
        return code;
    if (pool_start(log->pool) != 0)
        return (int)store_fail(error, STORE_NO_MEMORY, "cannot start the log's thread");
    log_begin(log);
    return 0;
}

int log_open(struct log **log, const struct log_options *options, log_replay_fn *replay,
             log_progress_fn *progress, void *context, struct store_error *error)
{
    int code = check_options(options, error);
    if (code != 0)
        return code;
    struct log *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "no memory for the log");
    made->directory = -1;
    made->durability = options->durability;
    made->segment_size =
        options->segment_size > 0 ? options->segment_size : usual_segment_size(options);
    made->io = options->io != NULL ? options->io : &system_io;
    code = start(made, options, replay, progress, context, error);
    if (code != 0) {
        free_log(made);
        return code;
    }
    *log = made;
    return 0;
}

int log_close(struct log **log)
{
    struct log *ended = *log;
    if (ended == NULL)
        return 0;
    *log = NULL;
    int code = log_sync(ended);
    free_log(ended);
    return code;
}
