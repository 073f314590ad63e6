/*
 * The start of a log: what the directory holds, whether it is whole, and where it ends.
 *
 * Groups are read one after the other, from the first segment on, as long as each has the number,
 * the checksum and the predecessor that it must have. Where that ends, either a write was torn by
 * a crash, or what was once whole is damaged. A torn write was never durable, nor was anything
 * behind it. So everything behind is searched, place by place: a group or a segment's header that
 * says that the missing group was durable when it was itself written is proof of damage, and the
 * start is refused. Without such proof the end is torn. It is filled with zeros, so that none of it
 * is ever found again, and later files become spares or go.
 *
 * With durability `always` every group is such a proof for the one before. Without it several
 * groups may have been on their way to the disk at once, and of those that a power failure left
 * behind a hole none is proof, so that the log is cut at the hole.
 *
 * Nothing is changed before all of that is decided.
 */
#include "store/log_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_STEP = 1 << 20,
    FIRST_FILES = 16,
};

/* A file of the directory that has a segment's name. */
struct found {
    uint64_t id;
    uint64_t size;
    struct segment_header header;
    bool own;  /* the header is valid and its own: the file was begun as a segment of this log */
    bool used; /* something in it was written for this segment */
};

struct recovery {
    struct log *log;
    uint64_t applied;
    bool lossy;
    int (*begin_again)(void *context, struct store_error *error);
    log_replay_fn *replay;
    log_progress_fn *progress;
    void *context;
    struct store_error *error;

    struct found *files; /* by id, ascending */
    size_t file_count;
    size_t file_capacity;
    uint64_t total; /* bytes of files that are read */
    uint64_t done;

    struct segment_source source; /* the file that is open; file -1: none */
    struct segment_window window;
    struct segment_window search_window;

    /* The end of what is whole: the next group is expected there. */
    size_t at; /* of the files; file_count where no segment is whole */
    uint64_t offset;
    uint64_t expected;
    uint64_t synced; /* as of the newest group */

    bool dirty; /* there are other bytes than zeros behind the end, in its segment */
    bool proof; /* that what was expected had been durable */
    size_t proof_at;
    size_t
        expected_at; /* a file that holds the expected group behind a bad header, or file_count */
};

static int fail_file(struct recovery *r, enum store_code code, uint64_t id, const char *what)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    return (int)store_fail(r->error, code, "%s: %s", name, what);
}

static int fail_system(struct recovery *r, uint64_t id, const char *call, int cause)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    enum store_code code = segment_is_full(cause) ? STORE_FULL : STORE_IO;
    return (int)store_fail(r->error, code, "cannot %s %s: %s", call, name, strerror(cause));
}

/* For the codes of segment_view and what is built on it. */
static int fail_read(struct recovery *r, int code)
{
    if (code == STORE_NO_MEMORY)
        return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory to read the log");
    return fail_system(r, r->source.id, "read", errno);
}

static int fail_damaged(struct recovery *r, size_t file, uint64_t offset)
{
    char name[SEGMENT_NAME_SIZE];
    char proof[SEGMENT_NAME_SIZE];
    segment_name(r->files[file].id, name);
    segment_name(r->files[r->proof_at].id, proof);
    return (int)store_fail(
        r->error, STORE_CORRUPT,
        "%s is damaged at offset %" PRIu64 ": group %" PRIu64
        " of the log is not whole, but %s has what was written after it; restore "
        "the data directory from a copy",
        name, offset, r->expected, proof);
}

static int add_file(struct recovery *r, uint64_t id)
{
    if (r->file_count == r->file_capacity) {
        size_t capacity = r->file_capacity > 0 ? r->file_capacity * 2 : FIRST_FILES;
        struct found *files = realloc(r->files, capacity * sizeof(*files));
        if (files == NULL)
            return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory to list the log");
        r->files = files;
        r->file_capacity = capacity;
    }
    r->files[r->file_count] = (struct found){.id = id};
    r->file_count++;
    return 0;
}

static int compare_files(const void *a, const void *b)
{
    uint64_t left = ((const struct found *)a)->id;
    uint64_t right = ((const struct found *)b)->id;
    return (left > right) - (left < right);
}

static int read_names(struct recovery *r, DIR *directory)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL)
            break;
        uint64_t id = segment_number(entry->d_name);
        int code = id > 0 ? add_file(r, id) : 0;
        if (code != 0)
            return code;
    }
    if (errno != 0)
        return (int)store_fail(r->error, STORE_IO, "cannot list the log: %s", strerror(errno));
    if (r->file_count > 0)
        qsort(r->files, r->file_count, sizeof(*r->files), compare_files);
    return 0;
}

static int list_files(struct recovery *r)
{
    int file = openat(r->log->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = file >= 0 ? fdopendir(file) : NULL;
    if (directory == NULL) {
        int cause = errno;
        if (file >= 0)
            close(file);
        return (int)store_fail(r->error, STORE_IO, "cannot list the log: %s", strerror(cause));
    }
    int code = read_names(r, directory);
    closedir(directory);
    return code;
}

static void close_source(struct recovery *r)
{
    if (r->source.file >= 0)
        close(r->source.file);
    r->source.file = -1;
    r->source.id = 0;
}

/* Makes the file the one that is read. */
static int open_source(struct recovery *r, const struct found *found)
{
    if (r->source.id == found->id)
        return 0;
    close_source(r);
    char name[SEGMENT_NAME_SIZE];
    segment_name(found->id, name);
    r->source.file = openat(r->log->directory, name, O_RDWR | O_CLOEXEC);
    if (r->source.file < 0)
        return fail_system(r, found->id, "open", errno);
    r->source.id = found->id;
    r->source.limit = found->own ? found->header.size : found->size;
    return 0;
}

static int read_header(struct recovery *r, struct found *found)
{
    struct stat status;
    int code = open_source(r, found);
    if (code != 0)
        return code;
    if (fstat(r->source.file, &status) != 0)
        return fail_system(r, found->id, "read", errno);
    found->size = (uint64_t)status.st_size;
    r->source.limit = found->size;
    const uint8_t *bytes;
    code =
        segment_view(&r->window, &r->source, 0, SEGMENT_HEADER_SIZE, SEGMENT_HEADER_SIZE, &bytes);
    if (code != 0)
        return code == STORE_NOT_FOUND ? 0 : fail_read(r, code);
    found->own = segment_read_header(bytes, &found->header) && found->header.id == found->id;
    return 0;
}

/* The first own header says what the log's salt is; one with another is not of this log. */
static int take_header(struct recovery *r, struct found *found)
{
    if (!found->own)
        return 0;
    if (found->header.version != SEGMENT_VERSION)
        return fail_file(r, STORE_INVALID, found->id, "the log is of another version of cubbyd");
    if (r->log->salt == 0)
        r->log->salt = found->header.salt;
    found->own = found->header.salt == r->log->salt && found->header.first > 0 &&
                 found->header.size >= SEGMENT_HEADER_SIZE;
    r->total += found->own ? found->size : 0;
    return 0;
}

static int read_headers(struct recovery *r)
{
    for (size_t i = 0; i < r->file_count; i++) {
        int code = read_header(r, &r->files[i]);
        if (code == 0)
            code = take_header(r, &r->files[i]);
        if (code != 0)
            return code;
    }
    r->window.segment_id = 0;
    close_source(r);
    return 0;
}

static void report_progress(struct recovery *r, uint64_t bytes)
{
    uint64_t before = r->done / READ_STEP;
    r->done += bytes;
    if (r->progress != NULL && r->done / READ_STEP != before)
        r->progress(r->context, r->done, r->total);
}

/* The group that comes next, if it is at the place. STORE_NOT_FOUND if not. */
static int read_expected(struct recovery *r, uint64_t offset, struct group *group)
{
    int code = group_read_header(&r->window, &r->source, offset, READ_STEP, group);
    if (code != 0)
        return code;
    bool follows = r->log->position == 0 || group->previous == r->log->crc;
    if (group->number != r->expected || group->salt != r->log->salt || !follows)
        return STORE_NOT_FOUND;
    return group_read_records(&r->window, &r->source, offset, READ_STEP, group);
}

static int replay_record(struct recovery *r, uint64_t number, const struct log_record *record)
{
    if (record->seq != 0)
        r->log->seq = record->seq;
    if (number <= r->applied || r->replay == NULL)
        return 0;
    return r->replay(r->context, number, record, r->error);
}

static int replay_group(struct recovery *r, const struct group *group)
{
    struct slice rest = slice_of(group->records, group->length);
    for (uint32_t i = 0; i < group->count; i++) {
        struct log_record record;
        if (!record_read(&rest, &record))
            return fail_file(r, STORE_CORRUPT, r->source.id, "a group is not made of records");
        int code = replay_record(r, group->number, &record);
        if (code != 0)
            return code;
    }
    return 0;
}

static int take_group(struct recovery *r, struct segment *segment, const struct group *group)
{
    uint64_t seq_before = r->log->seq;
    uint64_t size = GROUP_HEADER_SIZE + (uint64_t)group->length;
    int code = replay_group(r, group);
    if (code != 0)
        return code;
    segment_add_group(segment, size, seq_before);
    r->log->position = group->number;
    r->log->crc = group->crc;
    r->synced = group->synced;
    r->expected = group->number + 1;
    r->offset = segment->end;
    report_progress(r, size);
    return 0;
}

static int add_segment(struct recovery *r, size_t file)
{
    struct found *found = &r->files[file];
    struct log *log = r->log;
    struct segment *segment = segment_new(found->id, found->header.size, -1);
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
    r->at = file;
    r->offset = segment->end;
    return 0;
}

/* Whether the log goes on in the file: with a header, and a group, that say so. */
static int goes_on_in(struct recovery *r, size_t file, bool *goes_on)
{
    *goes_on = false;
    if (file >= r->file_count)
        return 0;
    const struct found *found = &r->files[file];
    bool next = r->log->segment_count == 0 || found->id == r->files[r->at].id + 1;
    if (!next || !found->own || found->header.first != r->expected)
        return 0;
    struct group group;
    int code = open_source(r, found);
    if (code != 0)
        return code;
    code = read_expected(r, SEGMENT_HEADER_SIZE, &group);
    *goes_on = code == 0;
    return code == 0 || code == STORE_NOT_FOUND ? 0 : fail_read(r, code);
}

static int read_segment(struct recovery *r)
{
    struct group group;
    int code = open_source(r, &r->files[r->at]);
    if (code != 0)
        return code;
    while ((code = read_expected(r, r->offset, &group)) == 0) {
        code = take_group(r, log_newest_segment(r->log), &group);
        if (code != 0)
            return code;
    }
    return code == STORE_NOT_FOUND ? 0 : fail_read(r, code);
}

/* Reads everything that is whole. */
static int read_groups(struct recovery *r)
{
    r->at = r->file_count;
    r->expected = r->file_count > 0 && r->files[0].own ? r->files[0].header.first : 1;
    for (size_t next = 0;; next++) {
        bool goes_on;
        int code = goes_on_in(r, next, &goes_on);
        if (code == 0 && goes_on)
            code = add_segment(r, next);
        if (code == 0 && goes_on)
            code = read_segment(r);
        if (code != 0 || !goes_on)
            return code;
    }
}

/*
 * Bytes behind the end that may be a group. Numbers that came before are from an earlier use of
 * the file; so is what fails its checksum, as far as it is not torn.
 */
static int weigh_group(struct recovery *r, size_t file, uint64_t offset)
{
    struct group group;
    uint32_t salt = r->log->salt;
    int code = group_read_header(&r->window, &r->source, offset, READ_STEP, &group);
    if (code == 0 && (group.number < r->expected || (salt != 0 && group.salt != salt)))
        code = STORE_NOT_FOUND;
    if (code == 0)
        code = group_read_records(&r->window, &r->source, offset, READ_STEP, &group);
    if (code != 0)
        return code == STORE_NOT_FOUND ? 0 : fail_read(r, code);
    r->files[file].used = true;
    if (group.number == r->expected && offset == SEGMENT_HEADER_SIZE && !r->files[file].own)
        r->expected_at = file;
    if (group.synced >= r->expected && !r->proof) {
        r->proof = true;
        r->proof_at = file;
    }
    return 0;
}

static int search_piece(struct recovery *r, size_t file, uint64_t offset, struct slice piece)
{
    for (size_t i = 0; i + sizeof(uint64_t) <= piece.size; i += GROUP_ALIGNMENT) {
        uint64_t word;
        memcpy(&word, piece.data + i, sizeof(word));
        if (word == 0)
            continue;
        r->dirty = r->dirty || file == r->at;
        int code = weigh_group(r, file, offset + i);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Groups begin at multiples of GROUP_ALIGNMENT, so a few last bytes of a file can be none. */
static int search_file(struct recovery *r, size_t file, uint64_t offset)
{
    struct found *found = &r->files[file];
    int code = open_source(r, found);
    r->source.limit = found->size;
    while (code == 0 && offset + GROUP_ALIGNMENT <= found->size) {
        uint64_t left = (found->size - offset) / GROUP_ALIGNMENT * GROUP_ALIGNMENT;
        size_t size = left < READ_STEP ? (size_t)left : READ_STEP;
        const uint8_t *bytes;
        code = segment_view(&r->search_window, &r->source, offset, size, size, &bytes);
        if (code == 0)
            code = search_piece(r, file, offset, slice_of(bytes, size));
        else
            code = fail_read(r, code);
        offset += size;
    }
    return code;
}

/*
 * A log that begins later than with its first group was trimmed, and log_trim let go of nothing
 * before what follows was durable: its first file is not torn.
 */
static void weigh_header(struct recovery *r, size_t file)
{
    struct found *found = &r->files[file];
    if (!found->own)
        return;
    found->used = true;
    bool trimmed = file == 0 && found->header.first > 1;
    if ((trimmed || found->header.synced >= r->expected) && !r->proof) {
        r->proof = true;
        r->proof_at = file;
    }
}

/* The first thing that is wrong at the end of what is whole. */
static int fail_proved(struct recovery *r)
{
    bool none = r->at == r->file_count;
    size_t next = none ? 0 : r->at + 1;
    if (r->expected_at < r->file_count)
        return fail_damaged(r, r->expected_at, 0);
    if (none && !r->files[0].own)
        return fail_damaged(r, 0, 0);
    if (next < r->file_count && r->files[next].own && r->files[next].header.first == r->expected)
        return fail_damaged(r, next, SEGMENT_HEADER_SIZE);
    if (next < r->file_count && r->files[next].id != r->files[r->at].id + 1)
        return fail_file(r, STORE_CORRUPT, r->files[r->at].id + 1,
                         "the file is missing in the middle of the log; restore the data directory "
                         "from a copy");
    return fail_damaged(r, r->at, r->offset);
}

/* Looks for proof in everything behind the end. */
static int search(struct recovery *r)
{
    size_t from = r->at < r->file_count ? r->at : 0;
    r->expected_at = r->file_count;
    for (size_t file = from; file < r->file_count; file++) {
        uint64_t offset = file == r->at ? r->offset : SEGMENT_HEADER_SIZE;
        if (file != r->at)
            weigh_header(r, file);
        int code = search_file(r, file, offset);
        if (code != 0)
            return code;
    }
    return r->proof ? fail_proved(r) : 0;
}

/* From here on the directory is changed. A file that was cut short gets its full size again. */
static int clear_end(struct recovery *r)
{
    struct segment *newest = log_newest_segment(r->log);
    if (newest == NULL || r->at >= r->file_count)
        return 0;
    const struct found *found = &r->files[r->at];
    int file = log_segment_file(r->log, newest);
    if (file < 0)
        return fail_system(r, newest->id, "open", errno);
    if (!r->dirty && found->size >= newest->size)
        return 0;
    const struct log_io *io = r->log->io;
    int cause = segment_zero(io, file, newest->end, newest->size);
    if (cause == 0 && io->fdatasync(io->context, file) != 0)
        cause = errno;
    return cause == 0 ? 0 : fail_system(r, newest->id, "write", cause);
}

static bool is_spare(const struct recovery *r, size_t file, size_t spares, uint64_t next_id)
{
    const struct found *found = &r->files[file];
    return !found->used && found->id == next_id + spares && spares < POOL_MAX_SPARES &&
           found->size == r->log->segment_size;
}

static int adopt_spare(struct recovery *r, const struct found *found)
{
    struct segment *spare = segment_new(found->id, found->size, -1);
    if (spare == NULL)
        return (int)store_fail(r->error, STORE_NO_MEMORY, "no memory for the log's segments");
    if (log_segment_file(r->log, spare) < 0) {
        segment_free(spare);
        return fail_system(r, found->id, "open", errno);
    }
    pool_adopt(r->log->pool, spare);
    return 0;
}

static int remove_file(struct recovery *r, const struct found *found)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(found->id, name);
    if (unlinkat(r->log->directory, name, 0) != 0)
        return fail_system(r, found->id, "remove", errno);
    return 0;
}

/*
 * Files behind the end become the pool's, as far as they are as good as new; others go, the
 * newest first, so that what an interruption leaves is a log that only ends earlier.
 */
static int sort_out_spares(struct recovery *r, uint64_t next_id)
{
    size_t from = r->at == r->file_count ? 0 : r->at + 1;
    size_t spares = 0;
    int code = 0;
    if (from == 0 && r->file_count > 0 && r->begin_again != NULL)
        code = r->begin_again(r->context, r->error);
    while (code == 0 && from + spares < r->file_count &&
           is_spare(r, from + spares, spares, next_id)) {
        code = adopt_spare(r, &r->files[from + spares]);
        spares++;
    }
    for (size_t i = r->file_count; code == 0 && i > from + spares; i--)
        code = remove_file(r, &r->files[i - 1]);
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
    else if (r->file_count > 0 && log->position > 0)
        next_id = r->files[r->file_count - 1].id + 1;
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

/* The log and the state that it is replayed onto must meet: it must begin early enough, … */
static int check_beginning(struct recovery *r)
{
    if (r->file_count == 0 || !r->files[0].own || r->files[0].header.first - 1 <= r->applied)
        return 0;
    return (int)store_fail(r->error, STORE_CORRUPT,
                           "the log begins with group %" PRIu64
                           ", but the state ends with group %" PRIu64
                           ": restore the data directory from a copy",
                           r->files[0].header.first, r->applied);
}

/*
 * … and not end before, unless the last run did not sync what it wrote. What it lost is in the
 * state, and older than all that follows.
 */
static void begin_again(struct recovery *r)
{
    struct log *log = r->log;
    while (log->segment_count > 0) {
        log->segment_count--;
        segment_free(log->segments[log->segment_count]);
    }
    for (size_t i = 0; i < r->file_count; i++)
        r->files[i].used = true;
    r->at = r->file_count;
    r->synced = r->applied;
    log->position = r->applied;
    log->crc = 0;
}

static int check_end(struct recovery *r)
{
    if (r->log->position >= r->applied)
        return 0;
    if (r->lossy || r->log->directory < 0) {
        begin_again(r);
        return 0;
    }
    char name[SEGMENT_NAME_SIZE] = "the log";
    if (r->at < r->file_count)
        segment_name(r->files[r->at].id, name);
    return (int)store_fail(r->error, STORE_CORRUPT,
                           "%s is damaged at offset %" PRIu64 ": group %" PRIu64
                           " of the log is not whole, but the state has group %" PRIu64
                           "; restore the data directory from a copy",
                           name, r->offset, r->expected, r->applied);
}

static int read_directory(struct recovery *r)
{
    int code = list_files(r);
    if (code == 0)
        code = read_headers(r);
    if (code == 0)
        code = check_beginning(r);
    if (code == 0)
        code = read_groups(r);
    if (code == 0)
        code = search(r);
    return code;
}

static int recover(struct recovery *r)
{
    int code = r->log->directory >= 0 ? read_directory(r) : 0;
    if (code == 0)
        code = check_end(r);
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

int log_recover(struct log *log, const struct log_options *options, log_replay_fn *replay,
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
        .source = {.file = -1},
    };
    int code = recover(&r);
    close_source(&r);
    buffer_free(&r.window.buffer);
    buffer_free(&r.search_window.buffer);
    free(r.files);
    return code;
}
