#include "store/inspect.h"

#include "store/offline.h"

static const char *const table_names[STORE_TABLES] = {
    [STORE_KEYS] = "keys",
    [STORE_EXPIRY] = "expiry",
    [STORE_META] = "meta",
    [STORE_QUEUES] = "queues",
    [STORE_JOBS] = "jobs that moved",
    [STORE_BODIES] = "jobs",
    [STORE_LISTS] = "places in lists",
    [STORE_DEDUP] = "ids of producers",
};

const char *store_table_name(unsigned table)
{
    if (table >= STORE_TABLES)
        return NULL;
    return table_names[table] != NULL ? table_names[table] : "without a name";
}

/* How many entries each table has once the log is replayed, though nothing is written. */
struct tally {
    struct offline *offline;
    struct engine *touched; /* in memory: keys that the log has written, and whether they exist */
    uint64_t *entries;
};

static bool existed(const struct tally *tally, unsigned table, struct slice key)
{
    const struct offline *offline = tally->offline;
    struct engine *base = offline->report->has_base ? offline->engine : NULL;
    struct slice found;
    if (tally->touched->methods->get(tally->touched, table, key, &found) == 0)
        return found.data[0] != 0;
    return base != NULL && base->methods->get(base, table, key, &found) == 0;
}

static int count_operation(void *context, unsigned table, struct slice key,
                           const struct slice *value, struct store_error *error)
{
    struct tally *tally = context;
    const uint8_t exists = value != NULL;
    tally->entries[table] += exists;
    tally->entries[table] -= existed(tally, table, key);
    int rc = tally->touched->methods->put(tally->touched, table, key, slice_of(&exists, 1));
    return rc == 0 ? 0 : (int)store_fail(error, (enum store_code)rc, "out of memory");
}

static int follow(struct offline *offline, struct store_error *error)
{
    const struct engine_options nowhere = {0};
    struct engine_mark mark;
    struct tally tally = {.offline = offline, .entries = offline->report->entries};
    int rc = engine_memory.open(&tally.touched, &nowhere, &mark, error);
    if (rc != 0)
        return rc;
    rc = offline_follow(offline, count_operation, &tally, error);
    engine_memory.close(tally.touched);
    return rc;
}

int store_inspect(const char *directory, store_progress_fn *progress, void *context,
                  struct store_report **result, struct store_error *error)
{
    struct offline offline;
    struct store_report *report = store_report_new();
    if (report == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    int rc = offline_open(&offline, directory, progress, context, report, error);
    if (rc == 0)
        rc = offline_open_engine(&offline, error);
    if (rc == 0)
        rc = follow(&offline, error);
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
    if (report->damages == NULL)
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
    free(report);
    *pointer = NULL;
}
