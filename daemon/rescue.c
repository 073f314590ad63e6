#include "daemon/rescue.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/progress.h"
#include "queue/check.h"
#include "queue/mend.h"
#include "store/checkpoint.h"
#include "store/entry_check.h"
#include "store/salvage.h"
#include "store/segment.h"
#include "wire/cursor.h"
#include "wire/limits.h"

enum { MAX_TIME = 32 };

/* What a child is to do. */
struct work {
    const char *directory;
    const char *new_directory;
    const char *engine;
    const struct journal *journal;
    int (*run)(const struct work *work);
};

/* Replies have bodies as they are, so they are whole objects. */
static bool is_object(struct slice body)
{
    struct wire_cursor cursor = wire_cursor_of(body);
    struct slice object;
    return wire_read_object(&cursor, WIRE_MAX_DEPTH, &object, NULL) == 0 && wire_at_end(&cursor);
}

static int check_queues(const struct store_examination *examination, struct store_error *error)
{
    return queues_check_bodies(examination, is_object, error);
}

static int mend_queues(const struct store_mending *mending, struct store_error *error)
{
    return queues_mend_bodies(mending, is_object, error);
}

/* The report. Each line has what it is about in its first column. */

__attribute__((format(printf, 2, 3))) static void line(const char *about, const char *format, ...)
{
    va_list arguments;
    printf("%-12s ", about);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static void write_time(char text[MAX_TIME], uint64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    if (time_ms == 0 || gmtime_r(&seconds, &utc) == NULL ||
        strftime(text, MAX_TIME, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0)
        strcpy(text, "no time");
}

static void print_state(const struct store_report *report)
{
    const struct directory_state *state = &report->state;
    line("engine", "%s", state->engine);
    if (state->epoch[0] == '\0')
        return;
    line("epoch", "%s", state->epoch);
    line("last run", "durability %s, %s", config_durability_name(state->durability),
         state->clean ? "stopped cleanly" : "did not stop cleanly");
}

static void print_base(const struct store_report *report)
{
    for (size_t i = 0; i < report->checkpoint_count; i++) {
        const struct report_checkpoint *checkpoint = &report->checkpoints[i];
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(checkpoint->position, name);
        line("checkpoint", "%s: seq %" PRIu64 ", %" PRIu64 " bytes, %s", name, checkpoint->seq,
             checkpoint->size, checkpoint->good ? "good" : "damaged");
    }
    if (report->checkpoint_count == 0 && report->has_base)
        line("state", "as of seq %" PRIu64 ", %" PRIu64 " bytes", report->base.seq,
             report->base_bytes);
    if (report->has_base && strcmp(report->state.engine, "lmdb") == 0)
        line("", "LMDB keeps no checksums: a changed byte within a value is seen where it breaks "
                 "its form only");
}

static void print_segment(const struct report_segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->id, name);
    if (segment->first == 0)
        line("log", "%s: nothing of the log, %" PRIu64 " bytes", name, segment->size);
    else if (segment->first_seq == 0)
        line("log", "%s: groups %" PRIu64 " to %" PRIu64 ", no seqs, %" PRIu64 " bytes", name,
             segment->first, segment->last, segment->size);
    else
        line("log",
             "%s: groups %" PRIu64 " to %" PRIu64 ", seqs %" PRIu64 " to %" PRIu64 ", %" PRIu64
             " bytes",
             name, segment->first, segment->last, segment->first_seq, segment->last_seq,
             segment->size);
}

static void print_log(const struct store_report *report)
{
    char name[SEGMENT_NAME_SIZE];
    for (size_t i = 0; i < report->segment_count; i++)
        print_segment(&report->segments[i]);
    segment_name(report->loose_segment, name);
    if (report->loose_bytes > 0)
        line(report->torn ? "torn end" : "end",
             "%s: %" PRIu64 " bytes from offset %" PRIu64 " on, which a start cuts off: %s", name,
             report->loose_bytes, report->loose_offset,
             report->torn ? "a write that was not finished"
                          : "a write that was not finished, or what an earlier use left");
}

static void print_sum(const struct store_report *report)
{
    char time[MAX_TIME];
    write_time(time, report->end.time_ms);
    line("newest", "seq %" PRIu64 ", %s", report->end.seq, time);
    line("oldest", "seq %" PRIu64, report->oldest);
    if (report->new_epoch)
        line("", "the next start begins a new epoch: the newest writes may have been lost");
    for (unsigned table = 0; store_table_name(table) != NULL; table++)
        line("table", "%s: %" PRIu64, store_table_name(table), report->entries[table]);
}

static void print_damages(const struct store_report *report)
{
    for (size_t i = 0; i < report->damage_count; i++)
        line("damaged", "%s", report->damages[i].message);
    if (report->damages_in_all > report->damage_count)
        line("damaged", "and %zu more", report->damages_in_all - report->damage_count);
}

static void print_advice(const struct work *work, const struct store_report *report)
{
    if (report->starts)
        line("to do", "start cubbyd: it makes do with what is good, and replaces the rest");
    else
        line("to do",
             "restore a backup, or save everything up to seq %" PRIu64 " with 'cubbyd --salvage %s "
             "--data NEWDIR'",
             report->end.seq, work->directory);
    if (!report->starts && report->untaken_groups > 0)
        line("",
             "that leaves out %" PRIu64 " groups of the log (%" PRIu64 " bytes) that look whole "
             "behind the damage",
             report->untaken_groups, report->untaken_bytes);
}

/* Checking. */

static int check(const struct work *work)
{
    struct store_error error = {.message = "unknown"};
    struct store_report *report;
    struct progress progress;
    progress_begin(&progress, work->journal);
    if (store_inspect(work->directory, check_queues, is_object, progress_show, &progress, &report,
                      &error) != 0) {
        journal_say(work->journal, JOURNAL_ERROR, "%s", error.message);
        return RESCUE_FAILED;
    }
    line("directory", "%s", work->directory);
    print_state(report);
    print_base(report);
    print_log(report);
    print_sum(report);
    print_damages(report);
    if (report->damages_in_all > 0)
        print_advice(work, report);
    else
        line("verdict", "good");
    int status = report->damages_in_all > 0 ? RESCUE_FAILED : RESCUE_GOOD;
    store_report_free(&report);
    return status;
}

/* Salvaging. */

static void print_lost(const struct store_report *report)
{
    print_damages(report);
    for (unsigned table = 0; store_table_name(table) != NULL; table++)
        if (report->lost[table] > 0)
            line("lost", "%s: %" PRIu64 " entries that cannot be read", store_table_name(table),
                 report->lost[table]);
    for (size_t i = 0; i < report->repair_count; i++)
        line(report->repairs[i].lost ? "lost" : "rebuilt", "%s", report->repairs[i].sentence);
    if (report->repairs_in_all > report->repair_count)
        line("rebuilt", "and %zu more", report->repairs_in_all - report->repair_count);
    if (report->untaken_groups > 0)
        line("left out",
             "%" PRIu64 " groups of the log (%" PRIu64 " bytes) that look whole, behind the damage",
             report->untaken_groups, report->untaken_bytes);
    if (report->loose_bytes > 0)
        line("left out", "%" PRIu64 " bytes behind the last whole group", report->loose_bytes);
}

/* What has come of it. */
static int check_new(const struct work *work, const struct store_report *old,
                     struct progress *progress)
{
    struct store_error error = {.message = "unknown"};
    struct store_report *report;
    if (store_inspect(work->new_directory, check_queues, is_object, progress_show, progress,
                      &report, &error) != 0) {
        journal_say(work->journal, JOURNAL_ERROR, "%s", error.message);
        return RESCUE_FAILED;
    }
    bool good = report->damages_in_all == 0 && report->end.seq == old->end.seq;
    print_damages(report);
    line("saved", "%s: %s up to seq %" PRIu64 ", %" PRIu64 " keys, engine %s, under a new epoch",
         work->new_directory,
         old->partial || old->repairs_in_all > 0 ? "what can be read of everything" : "everything",
         report->end.seq, report->entries[STORE_KEYS], report->state.engine);
    store_report_free(&report);
    if (!good)
        journal_say(work->journal, JOURNAL_ERROR, "%s is not good: check the disk",
                    work->new_directory);
    else if (old->partial || old->repairs_in_all > 0)
        journal_say(
            work->journal, JOURNAL_ERROR,
            "%s works, but is not all that %s had: see what is lost and what is rebuilt, or "
            "restore a backup",
            work->new_directory, work->directory);
    return good && !old->partial && old->repairs_in_all == 0 ? RESCUE_GOOD : RESCUE_FAILED;
}

static int salvage(const struct work *work)
{
    struct store_error error = {.message = "unknown"};
    struct store_report *report;
    struct progress progress;
    progress_begin(&progress, work->journal);
    struct store_options options = {
        .directory = work->new_directory,
        .engine = work->engine,
        .progress = progress_show,
        .context = &progress,
    };
    int rc = store_salvage(work->directory, &options, mend_queues, is_object, &report, &error);
    if (report != NULL)
        print_lost(report);
    int status = RESCUE_FAILED;
    if (rc != 0)
        journal_say(work->journal, JOURNAL_ERROR, "%s", error.message);
    else if (report != NULL)
        status = check_new(work, report, &progress);
    store_report_free(&report);
    return status;
}

/* The child. */

static void work_as_child(const struct work *work)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int status = work->run(work);
    if (fflush(stdout) != 0) {
        journal_say(work->journal, JOURNAL_ERROR, "cannot write the report: %s", strerror(errno));
        status = RESCUE_FAILED;
    }
    _exit(status);
}

static int in_child(const struct work *work)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        work_as_child(work);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (child < 0) {
        journal_say(work->journal, JOURNAL_ERROR, "cannot fork: %s", strerror(errno));
        return RESCUE_FAILED;
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    journal_say(work->journal, JOURNAL_ERROR,
                "%s is damaged so that its engine cannot read it (it ended with signal %d): "
                "restore a backup",
                work->directory, WTERMSIG(status));
    return RESCUE_FAILED;
}

int rescue_check(const char *directory, const struct journal *journal)
{
    const struct work work = {.directory = directory, .journal = journal, .run = check};
    return in_child(&work);
}

int rescue_salvage(const char *directory, const char *new_directory, const char *engine,
                   const struct journal *journal)
{
    const struct work work = {
        .directory = directory,
        .new_directory = new_directory,
        .engine = engine,
        .journal = journal,
        .run = salvage,
    };
    return in_child(&work);
}
