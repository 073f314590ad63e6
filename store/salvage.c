#include "store/salvage.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/fill.h"
#include "store/keys.h"
#include "store/offline.h"

enum { STATUS_EVERY = 1024 };

/* The new directory as it comes about. */
struct rescue {
    struct offline offline;
    struct store_fill *fill;
    store_mend_fn *mend;
};

/* Where the base is not whole the index of expiries is made once all keys are there. */
static int put_over(void *context, unsigned table, struct slice key, const struct slice *value,
                    struct store_error *error)
{
    struct rescue *rescue = context;
    struct store_fill *fill = rescue->fill;
    if (table == STORE_EXPIRY && rescue->offline.report->partial)
        return 0;
    return value != NULL ? store_fill_put(fill, table, key, *value, error)
                         : store_fill_delete(fill, table, key, error);
}

static bool is_same(const struct stat *a, const char *path)
{
    struct stat b;
    return stat(path, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* A new directory within the old one would change that. */
static int check_place(const char *from, const char *to, struct store_error *error)
{
    char path[PATH_MAX];
    struct stat old;
    int size = snprintf(path, sizeof path, "%s%s", to[0] == '/' ? "" : "./", to);
    if (size < 0 || size >= (int)sizeof path)
        return (int)store_fail(error, STORE_INVALID, "the path of the new directory is too long");
    if (stat(from, &old) != 0)
        return (int)store_fail(error, STORE_IO, "cannot open %s: %s", from, strerror(errno));
    for (char *slash = path + size; slash != NULL; slash = strrchr(path, '/')) {
        *slash = '\0';
        if (is_same(&old, path))
            return (int)store_fail(error, STORE_INVALID,
                                   "%s is in %s, which is not to be changed: give another one", to,
                                   from);
    }
    return 0;
}

/* Whether there is anything to save, as far as the report says. */
static int check_worth(const char *from, const struct store_report *report,
                       struct store_error *error)
{
    if (report->has_base || report->end.position > 0 || report->damages_in_all == 0)
        return 0;
    return (int)store_fail(
        error, STORE_CORRUPT,
        "nothing in %s can be saved: no state of the engine is good, and the log "
        "does not go back to the first write; restore a backup",
        from);
}

/* Without a good base the log alone may have everything; else what can be read of the base. */
static int choose_base(struct offline *offline, struct store_error *error)
{
    struct store_report *report = offline->report;
    int rc = offline_follow(offline, NULL, NULL, error);
    if (rc != 0 || report->has_base || offline->engine == NULL ||
        report->end.position >= offline->found.position)
        return rc;
    report->partial = report->has_base = true;
    report->base = offline->found;
    return offline_follow(offline, NULL, NULL, error);
}

static int index_key(struct rescue *rescue, struct slice key, struct slice value,
                     struct store_error *error)
{
    uint8_t buffer[KEYS_MAX_EXPIRY_KEY];
    struct keys_entry entry;
    if (keys_decode(value, &entry) != 0 || entry.expires_at_ms == 0)
        return 0;
    return store_fill_put(rescue->fill, STORE_EXPIRY,
                          keys_expiry_key(buffer, entry.expires_at_ms, key), slice_of("", 0),
                          error);
}

static int index_keys(struct rescue *rescue, struct store_error *error)
{
    struct engine *engine = store_fill_engine(rescue->fill);
    const struct engine_methods *methods = engine->methods;
    struct engine_status ignored;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = methods->cursor_open(engine, NULL, STORE_KEYS, &cursor);
    if (rc != 0)
        return (int)store_fail(error, (enum store_code)rc, "the new directory cannot be read");
    int read = methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    for (unsigned i = 1; read == 0 && rc == 0; i++) {
        rc = index_key(rescue, key, value, error);
        if (i % STATUS_EVERY == 0) /* gives back what views of further lookups hold */
            methods->status(engine, &ignored);
        if (rc == 0)
            read = methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    if (rc == 0 && read != STORE_NOT_FOUND)
        rc = (int)store_fail(error, (enum store_code)read, "the new directory cannot be read");
    return rc;
}

static void note_repair(void *context, bool lost, const char *sentence)
{
    struct store_report *report = ((struct rescue *)context)->offline.report;
    report->repairs_in_all++;
    if (report->repair_count == REPORT_MAX_DAMAGES)
        return;
    struct report_repair *repair = &report->repairs[report->repair_count++];
    repair->lost = lost;
    snprintf(repair->sentence, sizeof repair->sentence, "%s", sentence);
}

static void mend_progress(void *context, uint64_t done, uint64_t total)
{
    offline_tell_progress(&((struct rescue *)context)->offline, "queues", done, total);
}

/* What of all tables follows from the rest. */
static int mend(struct rescue *rescue, struct store_error *error)
{
    const struct store_report *report = rescue->offline.report;
    const struct store_mending mending = {
        .fill = rescue->fill,
        .time_ms = report->end.time_ms,
        .tell = note_repair,
        .progress = mend_progress,
        .context = rescue,
    };
    int rc = report->partial ? index_keys(rescue, error) : 0;
    return rc == 0 && rescue->mend != NULL ? rescue->mend(&mending, error) : rc;
}

static int fill(struct rescue *rescue, const struct store_options *options,
                struct store_error *error)
{
    struct offline *offline = &rescue->offline;
    struct store_report *report = offline->report;
    struct store_options own = *options;
    if (own.engine == NULL)
        own.engine = report->state.engine;
    int rc = store_fill_begin(&rescue->fill, &own, error);
    if (rc != 0)
        return rc;
    rc = report->partial ? offline_load_partly(offline, put_over, rescue, error)
                         : offline_load(offline, put_over, rescue, error);
    if (rc == 0)
        rc = offline_follow(offline, put_over, rescue, error);
    if (rc == 0)
        rc = mend(rescue, error);
    if (rc == 0)
        return store_fill_end(&rescue->fill, report->end.seq, report->end.time_ms, error);
    store_fill_cancel(&rescue->fill);
    return rc;
}

int store_salvage(const char *from, const struct store_options *options, store_mend_fn *mend_rest,
                  store_value_fn *is_value, struct store_report **result, struct store_error *error)
{
    struct rescue rescue = {.mend = mend_rest};
    struct store_report *report = store_report_new();
    *result = NULL;
    if (report == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    rescue.offline = (struct offline){.path = from,
                                      .is_value = is_value,
                                      .progress = options->progress,
                                      .context = options->context,
                                      .report = report};
    int rc = offline_open(&rescue.offline, error);
    if (rc == 0)
        rc = check_place(from, options->directory, error);
    if (rc == 0)
        rc = choose_base(&rescue.offline, error);
    if (rc == 0)
        rc = check_worth(from, report, error);
    if (rc == 0)
        rc = fill(&rescue, options, error);
    offline_close(&rescue.offline);
    if (rc == 0 || rc == STORE_CORRUPT)
        *result = report;
    else
        store_report_free(&report);
    return rc;
}
