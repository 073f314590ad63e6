#include "store/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/checkpoint.h"
#include "store/entry_check.h"
#include "store/transaction.h"

enum { FIRST_ITEMS = 8, PROGRESS_STEP = 1 << 20, STATUS_EVERY = 1024 };

void offline_note_damage(struct offline *offline, const char *sentence, bool fatal)
{
    struct store_report *report = offline->report;
    report->starts = report->starts && !fatal;
    if (report->damage_count > 0 && /* the engine may say it again where a walk meets it */
        strcmp(report->damages[report->damage_count - 1].message, sentence) == 0)
        return;
    report->damages_in_all++;
    if (report->damage_count < REPORT_MAX_DAMAGES) {
        struct store_error *damage = &report->damages[report->damage_count++];
        (void)store_fail(damage, STORE_CORRUPT, "%s", sentence);
    }
}

void offline_tell_progress(const struct offline *offline, const char *what, uint64_t done,
                           uint64_t total)
{
    if (offline->progress != NULL)
        offline->progress(offline->context, what, done < total ? done : total, total);
}

/* The engine. */

/* Where the state does not say it, the files do. */
static int choose_engine(struct offline *offline, struct store_error *error)
{
    static const char *const on_disk[] = {"lmdb", "rocksdb"};
    char *name = offline->report->state.engine;
    if (name[0] == '\0')
        snprintf(name, DIRECTORY_MAX_NAME, "%s", engine_memory.name);
    for (size_t i = 0; i < sizeof on_disk / sizeof on_disk[0]; i++)
        if (offline->report->state.epoch[0] == '\0' &&
            directory_has(offline->directory, on_disk[i]))
            snprintf(name, DIRECTORY_MAX_NAME, "%s", on_disk[i]);
    offline->methods = engine_find(name);
    if (offline->methods == NULL)
        return (int)store_fail(error, STORE_INVALID, "there is no engine '%s'; this version has %s",
                               name, engine_names());
    return 0;
}

static bool has_checkpoints(const struct offline *offline)
{
    return offline->methods == &engine_memory;
}

static void engine_progress(void *context, uint64_t done, uint64_t total)
{
    offline_tell_progress(context, "checkpoint", done, total);
}

static int fail_walk(struct offline *offline, int rc, struct store_error *error)
{
    struct engine_status status = {0};
    offline->methods->status(offline->engine, &status);
    if (rc == STORE_NO_MEMORY || status.failure != NULL)
        return (int)store_fail(error, (enum store_code)rc, "%s",
                               status.failure != NULL ? status.failure : "out of memory");
    return (int)store_fail(error, (enum store_code)rc, "%s is damaged: it cannot be read",
                           offline->methods->name);
}

/* Walks a table. Behind the last entry the result is 0. */
static int each_of_table(struct offline *offline, unsigned table, offline_take_fn *take,
                         void *context, struct store_error *error)
{
    const struct engine_methods *methods = offline->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    struct engine_status ignored;
    int taken = 0;
    int rc = methods->cursor_open(offline->engine, NULL, table, &cursor);
    if (rc != 0)
        return fail_walk(offline, rc, error);
    rc = methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    for (unsigned entries = 1; rc == 0 && taken == 0; entries++) {
        taken = take(context, table, key, &value, error);
        if (entries % STATUS_EVERY == 0) /* gives back what views of further lookups hold */
            methods->status(offline->engine, &ignored);
        if (taken == 0)
            rc = methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc == 0 || rc == STORE_NOT_FOUND ? taken : fail_walk(offline, rc, error);
}

static int each_of_engine(struct offline *offline, offline_take_fn *take, void *context,
                          struct store_error *error)
{
    int rc = 0;
    for (unsigned table = 0; rc == 0 && offline->engine != NULL && table < ENGINE_TABLES; table++)
        rc = each_of_table(offline, table, take, context, error);
    return rc;
}

/* An entry that cannot follow the one before ends the reading with STORE_INVALID. */
static int each_of_checkpoint(struct offline *offline, uint64_t position, offline_take_fn *take,
                              void *context, struct engine_mark *mark, struct store_error *error)
{
    struct checkpoint_reader *reader;
    struct slice key;
    struct slice value;
    unsigned table;
    uint64_t size;
    uint64_t told = 0;
    int rc =
        checkpoint_open(&reader, directory_file(offline->directory), position, mark, &size, error);
    if (rc != 0)
        return rc;
    while ((rc = checkpoint_next(reader, &table, &key, &value, error)) == 0) {
        rc = take(context, table, key, &value, error);
        if (rc != 0)
            break;
        if (checkpoint_read(reader) != told)
            offline_tell_progress(offline, "checkpoint", told = checkpoint_read(reader), size);
    }
    if (rc == STORE_INVALID)
        rc = checkpoint_fail(reader, error);
    checkpoint_close(&reader);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* Verifying entries. */

struct verification {
    struct offline *offline;
    struct entry_check check;
    struct entry_rules rules;
    uint64_t counts[ENGINE_TABLES];
    uint64_t bytes;
    uint64_t told;
    uint64_t total;
    bool damaged;
};

/* For a checkpoint: whatever its checksums let pass is an entry, if it comes in order. */
static int verify_order(void *context, unsigned table, struct slice key, const struct slice *value,
                        struct store_error *error)
{
    struct verification *verification = context;
    (void)value;
    (void)error;
    return entry_check_order(&verification->check, table, key) ? 0 : STORE_INVALID;
}

/* For an engine, which may have no checksums: order, form, and that the tables agree. */
static int verify_entry(void *context, unsigned table, struct slice key, const struct slice *value,
                        struct store_error *error)
{
    struct verification *verification = context;
    struct offline *offline = verification->offline;
    char sentence[STORE_MAX_ERROR_MESSAGE];
    verification->counts[table]++;
    verification->bytes += key.size + value->size;
    if (verification->bytes - verification->told >= PROGRESS_STEP) {
        verification->told = verification->bytes;
        offline_tell_progress(offline, "state", verification->bytes, verification->total);
    }
    if (!entry_check_order(&verification->check, table, key))
        return (int)store_fail(error, STORE_CORRUPT, "%s is damaged: table %u is not in order",
                               offline->methods->name, table);
    if (entry_check_form(offline->engine, &verification->rules, table, key, *value, sentence))
        return 0;
    offline_note_damage(offline, sentence, true);
    verification->damaged = true;
    return 0;
}

static void verify_counts(struct verification *verification)
{
    struct offline *offline = verification->offline;
    char sentence[STORE_MAX_ERROR_MESSAGE];
    for (unsigned table = 0; table < ENGINE_TABLES; table++) {
        uint64_t count = 0;
        (void)offline->methods->count(offline->engine, table, (struct slice){0}, (struct slice){0},
                                      &count);
        if (count == verification->counts[table])
            continue;
        snprintf(sentence, sizeof sentence,
                 "%s is damaged: table %u has %" PRIu64 " entries, not %" PRIu64
                 " as it was written",
                 offline->methods->name, table, verification->counts[table], count);
        offline_note_damage(offline, sentence, true);
        verification->damaged = true;
    }
}

/* Walks the engine; `good` says whether all of it is. */
static int verify_engine(struct offline *offline, uint64_t seq, bool *good,
                         struct store_error *error)
{
    struct store_error found = {0};
    struct engine_status status = {0};
    struct verification *verification = calloc(1, sizeof *verification);
    if (verification == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    offline->methods->status(offline->engine, &status);
    verification->offline = offline;
    verification->rules = (struct entry_rules){seq, offline->is_value};
    verification->total = status.size;
    int rc = each_of_engine(offline, verify_entry, verification, &found);
    if (rc == 0)
        verify_counts(verification);
    else if (rc != STORE_NO_MEMORY)
        offline_note_damage(offline, found.message, true);
    *good = rc == 0 && !verification->damaged;
    if (*good)
        memcpy(offline->report->entries, verification->counts, sizeof verification->counts);
    free(verification);
    return rc == STORE_NO_MEMORY ? (int)store_fail(error, STORE_NO_MEMORY, "%s", found.message) : 0;
}

/* The base. */

static int open_engine(struct offline *offline, struct engine_mark *mark, struct store_error *error)
{
    struct engine_options options = {
        .directory = offline->path,
        .read_only = true,
        .progress = engine_progress,
        .context = offline,
    };
    if (has_checkpoints(offline) && !offline->report->has_base)
        options.directory = NULL;
    return offline->methods->open(&offline->engine, &options, mark, error);
}

/* An engine that keeps its state on disk by itself. */
static int find_engine(struct offline *offline, struct store_error *error)
{
    struct store_report *report = offline->report;
    struct store_error found = {0};
    struct engine_status status;
    int rc = open_engine(offline, &report->base, &found);
    if (rc == STORE_NOT_FOUND)
        return 0;
    if (rc == STORE_NO_MEMORY || rc == STORE_INVALID)
        return (int)store_fail(error, (enum store_code)rc, "%s", found.message);
    if (rc != 0) {
        offline_note_damage(offline, found.message, true);
        return 0;
    }
    offline->methods->status(offline->engine, &status);
    report->base_bytes = status.size;
    bool whole = status.failure == NULL;
    if (!whole)
        offline_note_damage(offline, status.failure, true);
    rc = verify_engine(offline, report->base.seq, &report->has_base, error);
    report->has_base &= whole;
    return rc;
}

static int compare_checkpoints(const void *a, const void *b)
{
    uint64_t left = ((const struct report_checkpoint *)a)->position;
    uint64_t right = ((const struct report_checkpoint *)b)->position;
    return (left < right) - (left > right);
}

static int note_checkpoint(void *context, const char *name, struct store_error *error)
{
    struct offline *offline = context;
    struct store_report *report = offline->report;
    struct report_checkpoint *checkpoint;
    struct stat status = {0};
    uint64_t position;
    if (!checkpoint_position(name, &position))
        return 0;
    if (report->checkpoint_count % FIRST_ITEMS == 0) {
        size_t capacity = report->checkpoint_count + FIRST_ITEMS;
        checkpoint = realloc(report->checkpoints, capacity * sizeof *checkpoint);
        if (checkpoint == NULL)
            return (int)store_fail(error, STORE_NO_MEMORY, "no memory for the list of checkpoints");
        report->checkpoints = checkpoint;
    }
    (void)fstatat(directory_file(offline->directory), name, &status, 0);
    checkpoint = &report->checkpoints[report->checkpoint_count++];
    *checkpoint =
        (struct report_checkpoint){.position = position, .size = (uint64_t)status.st_size};
    return 0;
}

static int verify_checkpoint(struct offline *offline, struct report_checkpoint *checkpoint,
                             struct store_error *error)
{
    struct store_report *report = offline->report;
    struct store_error found = {0};
    struct engine_mark mark = {0};
    struct verification *verification = calloc(1, sizeof *verification);
    if (verification == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    int rc = each_of_checkpoint(offline, checkpoint->position, verify_order, verification, &mark,
                                &found);
    free(verification);
    if (rc != 0 && rc != STORE_CORRUPT)
        return (int)store_fail(error, (enum store_code)rc, "%s", found.message);
    checkpoint->good = rc == 0;
    checkpoint->seq = mark.seq;
    if (rc != 0)
        offline_note_damage(offline, found.message, false);
    if (rc != 0 || report->has_base)
        return 0;
    report->has_base = true;
    report->base = mark;
    report->base_bytes = checkpoint->size;
    return 0;
}

/* Of the memory engine: the newest of its checkpoints that is good. */
static int find_checkpoint(struct offline *offline, struct store_error *error)
{
    struct store_report *report = offline->report;
    int rc = directory_each(offline->directory, note_checkpoint, offline, error);
    if (report->checkpoint_count > 0)
        qsort(report->checkpoints, report->checkpoint_count, sizeof *report->checkpoints,
              compare_checkpoints);
    for (size_t i = 0; rc == 0 && i < report->checkpoint_count; i++)
        rc = verify_checkpoint(offline, &report->checkpoints[i], error);
    if (report->checkpoint_count > 0 && !report->has_base)
        report->starts = false;
    return rc;
}

int offline_reopen(struct offline *offline)
{
    struct engine_mark mark;
    struct store_error error;
    if (offline->engine != NULL)
        offline->methods->close(offline->engine);
    offline->engine = NULL;
    return open_engine(offline, &mark, &error);
}

void offline_begin_verdict(struct offline *offline)
{
    offline->report->damage_count = offline->damage_count;
    offline->report->damages_in_all = offline->damages_in_all;
    offline->report->starts = offline->starts;
}

void offline_keep_verdict(struct offline *offline)
{
    offline->damage_count = offline->report->damage_count;
    offline->damages_in_all = offline->report->damages_in_all;
    offline->starts = offline->report->starts;
}

int offline_open(struct offline *offline, struct store_error *error)
{
    struct store_report *report = offline->report;
    struct store_error damage;
    report->starts = true;
    int rc =
        directory_open_to_read(&offline->directory, offline->path, &report->state, &damage, error);
    if (rc != 0)
        return rc;
    if (damage.code != STORE_OK)
        offline_note_damage(offline, damage.message, true);
    rc = choose_engine(offline, error);
    if (rc == 0)
        rc = has_checkpoints(offline) ? find_checkpoint(offline, error)
                                      : find_engine(offline, error);
    offline->found = report->base;
    if (!report->has_base)
        report->base = (struct engine_mark){0};
    offline_keep_verdict(offline);
    return rc;
}

int offline_open_engine(struct offline *offline, struct store_error *error)
{
    struct engine_mark mark = {0};
    bool good;
    if (!has_checkpoints(offline))
        return 0;
    int rc = open_engine(offline, &mark, error);
    if (rc == 0)
        rc = verify_engine(offline, mark.seq, &good, error);
    offline_keep_verdict(offline);
    return rc;
}

int offline_load(struct offline *offline, offline_take_fn *take, void *context,
                 struct store_error *error)
{
    struct engine_mark mark;
    if (!offline->report->has_base)
        return 0;
    if (!has_checkpoints(offline))
        return each_of_engine(offline, take, context, error);
    return each_of_checkpoint(offline, offline->report->base.position, take, context, &mark, error);
}

void offline_close(struct offline *offline)
{
    if (offline->engine != NULL)
        offline->methods->close(offline->engine);
    offline->engine = NULL;
    directory_close(&offline->directory);
}

/* The log. */

struct following {
    struct offline *offline;
    offline_take_fn *take;
    void *context;
    struct store_error *error;
    struct log_scan scan;
    size_t file; /* of the scan, and of the report's segments */
};

static void follow_progress(void *context, uint64_t done, uint64_t total)
{
    offline_tell_progress(((struct following *)context)->offline, "log", done, total);
}

static int enter_segment(void *context, size_t file)
{
    ((struct following *)context)->file = file;
    return 0;
}

static int fail_record(const struct following *following, uint64_t number)
{
    return (int)store_fail(following->error, STORE_CORRUPT,
                           "the log has a record that makes no sense in group %" PRIu64, number);
}

/* Reads all operations of a record, and hands them out to `take`, unless that is NULL. */
static int follow_record(struct following *following, const struct group *group,
                         const struct log_record *record, offline_take_fn *take)
{
    struct operation operation;
    size_t at = 0;
    int rc;
    while ((rc = operation_read(record->body, &at, &operation)) == 0) {
        const struct slice *value = operation_is_put(operation.action) ? &operation.value : NULL;
        if (take != NULL)
            rc = take(following->context, operation.table, operation.key, value, following->error);
        if (rc != 0)
            return rc;
    }
    return rc == STORE_NOT_FOUND ? 0 : fail_record(following, group->number);
}

static int follow_records(struct following *following, const struct group *group,
                          offline_take_fn *take)
{
    struct slice rest = slice_of(group->records, group->length);
    struct log_record record;
    for (uint32_t i = 0; i < group->count; i++) {
        if (!record_read(&rest, &record))
            return fail_record(following, group->number);
        int rc = follow_record(following, group, &record, take);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Its records are good. */
static void note_group(struct report_segment *segment, struct engine_mark *end, bool taken,
                       const struct group *group)
{
    struct slice rest = slice_of(group->records, group->length);
    struct log_record record;
    segment->first = segment->first == 0 ? group->number : segment->first;
    segment->last = group->number;
    for (uint32_t i = 0; i < group->count && record_read(&rest, &record); i++) {
        if (record.seq != 0 && segment->first_seq == 0)
            segment->first_seq = record.seq;
        if (record.seq != 0)
            segment->last_seq = record.seq;
        if (taken && record.seq != 0)
            end->seq = record.seq;
        if (taken && record.time_ms > end->time_ms)
            end->time_ms = record.time_ms;
    }
    if (taken)
        end->position = group->number;
}

/* The seq of the first record that has one; 0 where none has. */
static uint64_t first_seq(const struct group *group)
{
    struct slice rest = slice_of(group->records, group->length);
    struct log_record record = {0};
    for (uint32_t i = 0; i < group->count && record.seq == 0; i++)
        if (!record_read(&rest, &record))
            return 0;
    return record.seq;
}

/*
 * Without a base the log has everything only from its very first group on, and in a directory that
 * was not made of entries from somewhere else. Where the header does not say that, the first seq
 * does.
 */
static bool begins_with_nothing(const struct following *following, const struct group *group)
{
    const struct scan_file *file = &following->scan.files[following->file];
    const struct store_report *report = following->offline->report;
    size_t count = report->checkpoint_count;
    bool filled = count > 0 && report->checkpoints[count - 1].position == 0;
    if (group->number != 1 || filled)
        return false;
    return file->own ? file->header.seq_before == 0 : first_seq(group) == 1;
}

/* Whether the group is what follows the state and the groups before. */
static bool is_next(const struct following *following, const struct group *group)
{
    const struct store_report *report = following->offline->report;
    if (report->has_base || report->end.position > 0)
        return group->number == report->end.position + 1;
    return begins_with_nothing(following, group);
}

/* All of the group is read before any of it is handed out. */
static int follow_group(void *context, uint64_t offset, const struct group *group)
{
    struct following *following = context;
    struct store_report *report = following->offline->report;
    bool taken = is_next(following, group);
    (void)offset;
    int rc = follow_records(following, group, NULL);
    if (rc == 0 && taken && following->take != NULL)
        rc = follow_records(following, group, following->take);
    if (rc != 0)
        return rc;
    note_group(&report->segments[following->file], &report->end, taken, group);
    if (group->number > report->end.position) {
        report->untaken_groups++;
        report->untaken_bytes += GROUP_HEADER_SIZE + (uint64_t)group->length;
    }
    return 0;
}

/* The part of the report that is of the log, as if nothing had been read of it. */
static int begin_report(struct following *following)
{
    struct offline *offline = following->offline;
    struct store_report *report = offline->report;
    const struct log_scan *scan = &following->scan;
    offline_begin_verdict(offline);
    report->end = report->base;
    report->untaken_groups = 0;
    report->untaken_bytes = 0;
    free(report->segments);
    report->segments = calloc(scan->file_count + 1, sizeof *report->segments);
    if (report->segments == NULL)
        return (int)store_fail(following->error, STORE_NO_MEMORY, "no memory to list the log");
    report->segment_count = scan->file_count;
    for (size_t i = 0; i < scan->file_count; i++)
        report->segments[i] =
            (struct report_segment){.id = scan->files[i].id, .size = scan->files[i].size};
    return 0;
}

static void note_found(struct following *following)
{
    offline_note_damage(following->offline, following->error->message, true);
}

static void note_end(struct following *following)
{
    const struct log_scan *scan = &following->scan;
    struct store_report *report = following->offline->report;
    size_t at = scan->at < scan->file_count ? scan->at : 0;
    if (scan->file_count == 0)
        return;
    report->loose_bytes = scan->loose;
    report->loose_segment = scan->files[at].id;
    report->loose_offset = scan->at < scan->file_count ? scan->offset : 0;
    report->torn = scan->torn;
    if (!scan->torn || !report->state.clean)
        return;
    (void)log_scan_fail(scan, STORE_CORRUPT, report->loose_segment,
                        "the end of the log is torn, though the last run stopped cleanly");
    note_found(following);
}

/* Reads everything, and notes what is wrong. */
static int read_log(struct following *following)
{
    struct log_scan *scan = &following->scan;
    struct store_report *report = following->offline->report;
    bool lossy = report->new_epoch || !report->state.begun;
    if (log_scan_meets_at_beginning(scan, report->base.position) != 0)
        note_found(following);
    int rc = log_scan_read(scan);
    while (rc == STORE_CORRUPT && scan->damaged) {
        note_found(following);
        rc = log_scan_resume(scan);
    }
    if (rc == 0)
        note_end(following);
    if (rc == STORE_CORRUPT)
        note_found(following);
    if (rc != 0 && rc != STORE_CORRUPT && rc != STORE_NOT_FOUND)
        return rc;
    if (!lossy && log_scan_meets_at_end(scan, report->base.position) != 0)
        note_found(following);
    return 0;
}

/* History is served from the first record on that is kept, unless it was forgotten. */
static void find_oldest(struct store_report *report, uint64_t position)
{
    report->oldest = report->end.seq + 1;
    for (size_t i = report->segment_count; i > 0 && position >= report->base.position; i--)
        if (report->segments[i - 1].first_seq != 0)
            report->oldest = report->segments[i - 1].first_seq;
    if (report->oldest <= report->state.forgotten)
        report->oldest = report->state.forgotten + 1;
    if (report->new_epoch)
        report->oldest = report->end.seq + 1;
}

int offline_follow(struct offline *offline, offline_take_fn *take, void *context,
                   struct store_error *error)
{
    struct following following = {
        .offline = offline, .take = take, .context = context, .error = error};
    const struct scan_visitor visitor = {.segment = enter_segment,
                                         .group = follow_group,
                                         .progress = follow_progress,
                                         .context = &following};
    offline->report->new_epoch = directory_may_have_lost(&offline->report->state);
    int rc = log_scan_open(&following.scan, directory_file(offline->directory), &visitor, error);
    if (rc == 0)
        rc = begin_report(&following);
    if (rc == 0 && directory_check_log(offline->directory, &offline->report->state, error) != 0)
        note_found(&following);
    if (rc == 0)
        rc = read_log(&following);
    find_oldest(offline->report, following.scan.position);
    log_scan_close(&following.scan);
    return rc;
}
