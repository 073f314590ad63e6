#include "store/salvage.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/fill.h"
#include "store/offline.h"

/* The new directory as it comes about. */
struct rescue {
    struct offline offline;
    struct store_fill *fill;
};

static int put_over(void *context, unsigned table, struct slice key, const struct slice *value,
                    struct store_error *error)
{
    struct store_fill *fill = ((struct rescue *)context)->fill;
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
        return store_fill_end(&rescue->fill, report->end.seq, report->end.time_ms, error);
    store_fill_cancel(&rescue->fill);
    return rc;
}

int store_salvage(const char *from, const struct store_options *options,
                  struct store_report **result, struct store_error *error)
{
    struct rescue rescue;
    struct store_report *report = store_report_new();
    *result = NULL;
    if (report == NULL)
        return (int)store_fail(error, STORE_NO_MEMORY, "out of memory");
    int rc =
        offline_open(&rescue.offline, from, options->progress, options->context, report, error);
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
