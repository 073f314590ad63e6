/*
 * Groups are read one after the other, from the first segment on, as long as each has the number,
 * the checksum and the predecessor that it must have. Where that ends, either a write was torn by
 * a crash, or what was once whole is damaged. A torn write was never durable, nor was anything
 * behind it. So everything behind is searched, place by place: a group or a segment's header that
 * says that the missing group was durable when it was itself written is proof of damage. Without
 * such proof the end is torn.
 *
 * With durability `always` every group is such a proof for the one before. Without it several
 * groups may have been on their way to the disk at once, and of those that a power failure left
 * behind a hole none is proof, so that the log ends at the hole.
 */
#include "store/log_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_STEP = 1 << 20,
    FIRST_FILES = 16,
};

int log_scan_fail(const struct log_scan *scan, enum store_code code, uint64_t id, const char *what)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    return (int)store_fail(scan->error, code, "%s: %s", name, what);
}

int log_scan_fail_system(const struct log_scan *scan, uint64_t id, const char *call, int cause)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    enum store_code code = segment_is_full(cause) ? STORE_FULL : STORE_IO;
    return (int)store_fail(scan->error, code, "cannot %s %s: %s", call, name, strerror(cause));
}

/* For the codes of segment_view and what is built on it. */
static int fail_read(const struct log_scan *scan, int code)
{
    if (code == STORE_NO_MEMORY)
        return (int)store_fail(scan->error, STORE_NO_MEMORY, "no memory to read the log");
    return log_scan_fail_system(scan, scan->source.id, "read", errno);
}

/* The files. */

static int add_file(struct log_scan *scan, uint64_t id)
{
    if (scan->file_count == scan->file_capacity) {
        size_t capacity = scan->file_capacity > 0 ? scan->file_capacity * 2 : FIRST_FILES;
        struct scan_file *files = realloc(scan->files, capacity * sizeof(*files));
        if (files == NULL)
            return (int)store_fail(scan->error, STORE_NO_MEMORY, "no memory to list the log");
        scan->files = files;
        scan->file_capacity = capacity;
    }
    scan->files[scan->file_count] = (struct scan_file){.id = id};
    scan->file_count++;
    return 0;
}

static int compare_files(const void *a, const void *b)
{
    uint64_t left = ((const struct scan_file *)a)->id;
    uint64_t right = ((const struct scan_file *)b)->id;
    return (left > right) - (left < right);
}

static int read_names(struct log_scan *scan, DIR *directory)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL)
            break;
        uint64_t id = segment_number(entry->d_name);
        int code = id > 0 ? add_file(scan, id) : 0;
        if (code != 0)
            return code;
    }
    if (errno != 0)
        return (int)store_fail(scan->error, STORE_IO, "cannot list the log: %s", strerror(errno));
    if (scan->file_count > 0)
        qsort(scan->files, scan->file_count, sizeof(*scan->files), compare_files);
    return 0;
}

static int list_files(struct log_scan *scan)
{
    int file = openat(scan->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = file >= 0 ? fdopendir(file) : NULL;
    if (directory == NULL) {
        int cause = errno;
        if (file >= 0)
            close(file);
        return (int)store_fail(scan->error, STORE_IO, "cannot list the log: %s", strerror(cause));
    }
    int code = read_names(scan, directory);
    closedir(directory);
    return code;
}

static void close_source(struct log_scan *scan)
{
    if (scan->source.file >= 0)
        close(scan->source.file);
    scan->source.file = -1;
    scan->source.id = 0;
}

/* Makes the file the one that is read. */
static int open_source(struct log_scan *scan, const struct scan_file *file)
{
    uint64_t limit = file->own ? file->header.size : file->size;
    if (scan->source.id == file->id) {
        scan->source.limit = limit;
        return 0;
    }
    close_source(scan);
    char name[SEGMENT_NAME_SIZE];
    segment_name(file->id, name);
    scan->source.file = openat(scan->directory, name, O_RDONLY | O_CLOEXEC);
    if (scan->source.file < 0)
        return log_scan_fail_system(scan, file->id, "open", errno);
    scan->source.id = file->id;
    scan->source.limit = limit;
    return 0;
}

static int read_header(struct log_scan *scan, struct scan_file *file)
{
    struct stat status;
    int code = open_source(scan, file);
    if (code != 0)
        return code;
    if (fstat(scan->source.file, &status) != 0)
        return log_scan_fail_system(scan, file->id, "read", errno);
    file->size = (uint64_t)status.st_size;
    scan->source.limit = file->size;
    const uint8_t *bytes;
    code = segment_view(&scan->window, &scan->source, 0, SEGMENT_HEADER_SIZE, SEGMENT_HEADER_SIZE,
                        &bytes);
    if (code != 0)
        return code == STORE_NOT_FOUND ? 0 : fail_read(scan, code);
    file->own = segment_read_header(bytes, &file->header) && file->header.id == file->id;
    return 0;
}

/* The first own header says what the log's salt is; one with another is not of this log. */
static int take_header(struct log_scan *scan, struct scan_file *file)
{
    if (!file->own)
        return 0;
    if (file->header.version != SEGMENT_VERSION)
        return log_scan_fail(scan, STORE_INVALID, file->id,
                             "the log is of another version of cubbyd");
    if (scan->salt == 0)
        scan->salt = file->header.salt;
    file->own = file->header.salt == scan->salt && file->header.first > 0 &&
                file->header.size >= SEGMENT_HEADER_SIZE;
    scan->total += file->own ? file->size : 0;
    return 0;
}

static int read_headers(struct log_scan *scan)
{
    for (size_t i = 0; i < scan->file_count; i++) {
        int code = read_header(scan, &scan->files[i]);
        if (code == 0)
            code = take_header(scan, &scan->files[i]);
        if (code != 0)
            return code;
    }
    scan->window.segment_id = 0;
    close_source(scan);
    return 0;
}

int log_scan_open(struct log_scan *scan, int directory, const struct scan_visitor *visitor,
                  struct store_error *error)
{
    *scan = (struct log_scan){
        .directory = directory,
        .visitor = *visitor,
        .error = error,
        .source = {.file = -1},
    };
    int code = directory >= 0 ? list_files(scan) : 0;
    if (code == 0)
        code = read_headers(scan);
    scan->at = scan->file_count;
    return code;
}

void log_scan_close(struct log_scan *scan)
{
    close_source(scan);
    buffer_free(&scan->window.buffer);
    buffer_free(&scan->search_window.buffer);
    free(scan->files);
    scan->files = NULL;
}

/* What is whole. */

static void report_progress(struct log_scan *scan, uint64_t bytes)
{
    uint64_t before = scan->done / READ_STEP;
    scan->done += bytes;
    if (scan->visitor.progress != NULL && scan->done / READ_STEP != before)
        scan->visitor.progress(scan->visitor.context, scan->done, scan->total);
}

/* The group that comes next, if it is at the place. STORE_NOT_FOUND if not. */
static int read_expected(struct log_scan *scan, uint64_t offset, struct group *group)
{
    int code = group_read_header(&scan->window, &scan->source, offset, READ_STEP, group);
    if (code != 0)
        return code;
    bool follows = !scan->chained || group->previous == scan->crc;
    if (group->number != scan->expected || group->salt != scan->salt || !follows)
        return STORE_NOT_FOUND;
    return group_read_records(&scan->window, &scan->source, offset, READ_STEP, group);
}

static int take_group(struct log_scan *scan, const struct group *group)
{
    uint64_t size = GROUP_HEADER_SIZE + (uint64_t)group->length;
    int code = scan->visitor.group(scan->visitor.context, scan->offset, group);
    if (code != 0)
        return code;
    scan->position = group->number;
    scan->crc = group->crc;
    scan->chained = true;
    scan->synced = group->synced;
    scan->expected = group->number + 1;
    scan->offset += size;
    report_progress(scan, size);
    return 0;
}

static int take_segment(struct log_scan *scan, size_t file)
{
    int code = scan->visitor.segment(scan->visitor.context, file);
    if (code != 0)
        return code;
    scan->at = file;
    scan->offset = SEGMENT_HEADER_SIZE;
    return 0;
}

/* Whether the log goes on in the file: with a header, and a group, that say so. */
static int goes_on_in(struct log_scan *scan, size_t next, bool *goes_on)
{
    *goes_on = false;
    if (next >= scan->file_count)
        return 0;
    const struct scan_file *file = &scan->files[next];
    bool follows = scan->at == scan->file_count || file->id == scan->files[scan->at].id + 1;
    if (!follows || !file->own || file->header.first != scan->expected)
        return 0;
    struct group group;
    int code = open_source(scan, file);
    if (code != 0)
        return code;
    code = read_expected(scan, SEGMENT_HEADER_SIZE, &group);
    *goes_on = code == 0;
    return code == 0 || code == STORE_NOT_FOUND ? 0 : fail_read(scan, code);
}

static int read_segment(struct log_scan *scan)
{
    struct group group;
    int code = open_source(scan, &scan->files[scan->at]);
    if (code != 0)
        return code;
    while ((code = read_expected(scan, scan->offset, &group)) == 0) {
        code = take_group(scan, &group);
        if (code != 0)
            return code;
    }
    return code == STORE_NOT_FOUND ? 0 : fail_read(scan, code);
}

/* Reads on through the files, from this one. */
static int read_segments(struct log_scan *scan, size_t next)
{
    for (;; next++) {
        bool goes_on;
        int code = goes_on_in(scan, next, &goes_on);
        if (code == 0 && goes_on)
            code = take_segment(scan, next);
        if (code == 0 && goes_on)
            code = read_segment(scan);
        if (code != 0 || !goes_on)
            return code;
    }
}

/* What is behind the end. */

static void note_proof(struct log_scan *scan, size_t file)
{
    if (!scan->proof)
        scan->proof_file = file;
    scan->proof = true;
}

static void note_found(struct log_scan *scan, size_t file, uint64_t offset,
                       const struct group *group)
{
    if (group->number == scan->expected && offset == SEGMENT_HEADER_SIZE && !scan->files[file].own)
        scan->expected_file = file;
    if (scan->found)
        return;
    scan->found = true;
    scan->found_file = file;
    scan->found_offset = offset;
    scan->found_group = *group;
}

/*
 * Bytes behind the end that may be a group. Numbers that came before are from an earlier use of
 * the file; so is what fails its checksum, as far as it is not torn.
 */
static int weigh_group(struct log_scan *scan, size_t file, uint64_t offset)
{
    struct group group;
    uint32_t salt = scan->salt;
    int code = group_read_header(&scan->window, &scan->source, offset, READ_STEP, &group);
    if (code == 0 && (group.number < scan->expected || (salt != 0 && group.salt != salt)))
        code = STORE_NOT_FOUND;
    if (code == 0 && group.number == scan->expected)
        scan->torn = true;
    if (code == 0)
        code = group_read_records(&scan->window, &scan->source, offset, READ_STEP, &group);
    if (code != 0)
        return code == STORE_NOT_FOUND ? 0 : fail_read(scan, code);
    scan->files[file].used = true;
    scan->torn = true;
    note_found(scan, file, offset, &group);
    if (group.synced >= scan->expected)
        note_proof(scan, file);
    return 0;
}

/* `end` becomes the offset behind the last byte that is not zero. */
static int search_piece(struct log_scan *scan, size_t file, uint64_t offset, struct slice piece,
                        uint64_t *end)
{
    for (size_t i = 0; i + sizeof(uint64_t) <= piece.size; i += GROUP_ALIGNMENT) {
        uint64_t word;
        memcpy(&word, piece.data + i, sizeof(word));
        if (word == 0)
            continue;
        *end = offset + i + sizeof(word);
        int code = weigh_group(scan, file, offset + i);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Groups begin at multiples of GROUP_ALIGNMENT, so a few last bytes of a file can be none. */
static int search_file(struct log_scan *scan, size_t at, uint64_t offset)
{
    struct scan_file *file = &scan->files[at];
    uint64_t begin = offset;
    uint64_t end = offset;
    int code = open_source(scan, file);
    scan->source.limit = file->size;
    while (code == 0 && offset + GROUP_ALIGNMENT <= file->size && !(scan->proof && scan->found)) {
        uint64_t left = (file->size - offset) / GROUP_ALIGNMENT * GROUP_ALIGNMENT;
        size_t size = left < READ_STEP ? (size_t)left : READ_STEP;
        const uint8_t *bytes;
        code = segment_view(&scan->search_window, &scan->source, offset, size, size, &bytes);
        if (code == 0)
            code = search_piece(scan, at, offset, slice_of(bytes, size), &end);
        else
            code = fail_read(scan, code);
        offset += size;
    }
    if (at == scan->at)
        scan->dirty = end > begin;
    if (at == scan->at || file->used)
        scan->loose += end - begin;
    return code;
}

/*
 * A log that begins later than with its first group was trimmed, and log_trim let go of nothing
 * before what follows was durable: its first file is not torn.
 */
static void weigh_header(struct log_scan *scan, size_t at)
{
    struct scan_file *file = &scan->files[at];
    if (!file->own)
        return;
    file->used = true;
    scan->torn = true;
    bool trimmed = at == 0 && file->header.first > 1;
    if (trimmed || file->header.synced >= scan->expected)
        note_proof(scan, at);
}

static int fail_damaged(struct log_scan *scan, size_t file, uint64_t offset)
{
    char name[SEGMENT_NAME_SIZE];
    char proof[SEGMENT_NAME_SIZE];
    segment_name(scan->files[file].id, name);
    segment_name(scan->files[scan->proof_file].id, proof);
    scan->damaged_file = file;
    scan->damaged_offset = offset;
    return (int)store_fail(scan->error, STORE_CORRUPT,
                           "%s is damaged at offset %" PRIu64 ": group %" PRIu64
                           " of the log is not whole, but %s has what was written after it",
                           name, offset, scan->expected, proof);
}

/* The first thing that is wrong at the end of what is whole. */
static int fail_proved(struct log_scan *scan)
{
    bool none = scan->at == scan->file_count;
    size_t next = none ? 0 : scan->at + 1;
    const struct scan_file *files = scan->files;
    scan->damaged = true;
    if (scan->expected_file < scan->file_count)
        return fail_damaged(scan, scan->expected_file, 0);
    if (none && !files[0].own)
        return fail_damaged(scan, 0, 0);
    if (next < scan->file_count && files[next].own && files[next].header.first == scan->expected)
        return fail_damaged(scan, next, SEGMENT_HEADER_SIZE);
    (void)fail_damaged(scan, scan->at, scan->offset);
    if (next < scan->file_count && files[next].id != files[scan->at].id + 1)
        return log_scan_fail(scan, STORE_CORRUPT, files[scan->at].id + 1,
                             "the file is missing in the middle of the log");
    return STORE_CORRUPT;
}

/* Looks for proof in everything behind the end. */
static int search(struct log_scan *scan)
{
    size_t from = scan->at < scan->file_count ? scan->at : 0;
    scan->dirty = false;
    scan->loose = 0;
    scan->torn = false;
    scan->found = false;
    scan->proof = false;
    scan->expected_file = scan->file_count;
    for (size_t file = from; file < scan->file_count && !(scan->proof && scan->found); file++) {
        uint64_t offset = file == scan->at ? scan->offset : SEGMENT_HEADER_SIZE;
        if (file != scan->at)
            weigh_header(scan, file);
        int code = search_file(scan, file, offset);
        if (code != 0)
            return code;
    }
    return scan->proof ? fail_proved(scan) : 0;
}

int log_scan_read(struct log_scan *scan)
{
    bool own = scan->file_count > 0 && scan->files[0].own;
    scan->expected = own ? scan->files[0].header.first : 1;
    int code = read_segments(scan, 0);
    return code == 0 ? search(scan) : code;
}

int log_scan_resume(struct log_scan *scan)
{
    scan->damaged = false;
    if (!scan->found)
        return STORE_NOT_FOUND;
    bool another = scan->at != scan->found_file;
    scan->salt = scan->found_group.salt;
    scan->expected = scan->found_group.number;
    scan->chained = false;
    int code = another ? take_segment(scan, scan->found_file) : 0;
    scan->offset = scan->found_offset;
    if (code == 0)
        code = read_segment(scan);
    if (code == 0)
        code = read_segments(scan, scan->at + 1);
    return code == 0 ? search(scan) : code;
}

/* The log and the state that it is replayed onto must meet: it must begin early enough, … */
int log_scan_meets_at_beginning(const struct log_scan *scan, uint64_t applied)
{
    const struct scan_file *first = scan->files;
    if (scan->file_count == 0 || !first->own || first->header.first - 1 <= applied)
        return 0;
    return (int)store_fail(scan->error, STORE_CORRUPT,
                           "the log begins with group %" PRIu64
                           ", but the state ends with group %" PRIu64,
                           first->header.first, applied);
}

/* … and not end before. */
int log_scan_meets_at_end(const struct log_scan *scan, uint64_t applied)
{
    if (scan->position >= applied)
        return 0;
    char name[SEGMENT_NAME_SIZE] = "the log";
    if (scan->file_count > 0)
        segment_name(scan->files[scan->at < scan->file_count ? scan->at : 0].id, name);
    return (int)store_fail(scan->error, STORE_CORRUPT,
                           "%s is damaged at offset %" PRIu64 ": group %" PRIu64
                           " of the log is not whole, but the state has group %" PRIu64,
                           name, scan->offset, scan->expected, applied);
}
