#include "store/inspect.h"

#include "store/entry_check.h"
#include "store/offline.h"

/* The state once the log is replayed, though nothing is written, and how many entries it has. */
struct tally {
    struct offline *offline;
    struct latest latest;
    uint64_t *entries;
};

static int count_operation(void *context, unsigned table, struct slice key,
                           const struct slice *value, struct store_error *error)
{
    struct tally *tally = context;
    bool existed;
    int rc = latest_has(&tally->latest, table, key, &existed);
    if (rc == 0)
        rc = latest_put(&tally->latest, table, key, value);
    if (rc != 0)
        return (int)store_fail(error, (enum store_code)rc, "%s",
                               rc == STORE_NO_MEMORY ? "out of memory"
                                                     : "the state cannot be read");
    tally->entries[table] += value != NULL;
    tally->entries[table] -= existed;
    return 0;
}

static void note(void *context, const char *sentence)
{
    offline_note_damage(((struct tally *)context)->offline, sentence, true);
}

/* That keys and expiries agree was seen of the base: what is left are those that the log wrote. */
static void check_written(void *context, unsigned table, const struct overlay_entry *entry)
{
    struct tally *tally = context;
    /* Only the beginnings of values are kept of the log, whose groups have checksums. */
    const struct entry_rules rules = {.seq = tally->offline->report->end.seq};
    char sentence[STORE_MAX_ERROR_MESSAGE];
    if (!entry_check_written(&tally->latest, &rules, table, entry, sentence))
        note(tally, sentence);
}

static void examination_progress(void *context, uint64_t done, uint64_t total)
{
    offline_tell_progress(((struct tally *)context)->offline, "queues", done, total);
}

static int examine(struct tally *tally, store_examine_fn *examine_state, struct store_error *error)
{
    const struct store_examination examination = {
        .state = &tally->latest.engine,
        .time_ms = tally->offline->report->end.time_ms,
        .entries = tally->entries,
        .tell = note,
        .progress = examination_progress,
        .context = tally,
    };
    overlay_visit(&tally->latest.log, check_written, tally);
    return examine_state != NULL ? examine_state(&examination, error) : 0;
}

static int follow(struct offline *offline, store_examine_fn *examine_state,
                  struct store_error *error)
{
    struct engine *base = offline->report->has_base ? offline->engine : NULL;
    struct tally tally = {.offline = offline, .entries = offline->report->entries};
    int rc = latest_init(&tally.latest, base);
    if (rc != 0)
        (void)store_fail(error, (enum store_code)rc, "out of memory");
    if (rc == 0)
        rc = offline_follow(offline, count_operation, &tally, error);
    if (rc == 0)
        rc = examine(&tally, examine_state, error);
    latest_end(&tally.latest);
    return rc;
}

int store_inspect(const char *directory, store_examine_fn *examine_state, store_value_fn *is_value,
                  store_progress_fn *progress, void *context, struct store_report **result,
                  struct store_error *error)
{
    struct offline offline;
    struct store_report *report = store_report_new();
    if (report == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    offline = (struct offline){.path = directory,
                               .is_value = is_value,
                               .progress = progress,
                               .context = context,
                               .report = report};
    int rc = offline_open(&offline, error);
    if (rc == 0)
        rc = offline_open_engine(&offline, error);
    if (rc == 0)
        rc = follow(&offline, examine_state, error);
    offline_close(&offline);
    if (rc != 0)
        store_report_free(&report);
    *result = report;
    return rc;
}

struct store_report *store_report_new(void)
{
    struct store_report *report = calloc(1, sizeof *report);
    if (report == NULL)
        return NULL;
    report->damages = calloc(REPORT_MAX_DAMAGES, sizeof *report->damages);
    report->repairs = calloc(REPORT_MAX_DAMAGES, sizeof *report->repairs);
    if (report->damages == NULL || report->repairs == NULL)
        store_report_free(&report);
    return report;
}

void store_report_free(struct store_report **pointer)
{
    struct store_report *report = *pointer;
    if (report == NULL)
        return;
    free(report->checkpoints);
    free(report->segments);
    free(report->damages);
    free(report->repairs);
    free(report);
    *pointer = NULL;
}
