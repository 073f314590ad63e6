/*
 * Saving what is whole of a damaged data directory into a new one. The old one is not changed.
 */
#ifndef STORE_SALVAGE_H
#define STORE_SALVAGE_H

#include "store/inspect.h"

struct store_fill;

/*
 * Mending tables that the store does not know: whoever knows them makes what is there one that
 * works, with store_fill_engine, _put and _delete of fill.h, before the new directory is one. What
 * is lost, and what was made again, is told in sentences. A result other than 0, with `error`, ends
 * the salvage.
 */
struct store_mending {
    struct store_fill *fill;
    uint64_t time_ms; /* the newest as of what was filled in */
    void (*tell)(void *context, bool lost, const char *sentence);
    void (*progress)(void *context, uint64_t done, uint64_t total); /* in entries; may be NULL */
    void *context;
};

typedef int store_mend_fn(const struct store_mending *mending, struct store_error *error);

/*
 * Makes the directory of `options` (its `directory`, `engine` and progress are used; without an
 * engine it gets the old one's) of the longest prefix of history that is whole in `from`: the
 * newest good state of the engine, and the log behind it up to where that is damaged. The new
 * directory has an epoch of its own, and its history begins there.
 *
 * Where the engine's state is not good, and the log alone does not make up for it, what can be read
 * of the state is taken, and the log behind it: `partial` in the report, which says what is lost.
 * So one bad page costs what is in it, and a value that `is_value` (NULL: nobody) takes for none
 * its key. What is saved then is no state that ever was: entries are
 * missing. The index of expiries is made of the keys that are there, and `mend` (NULL: nobody)
 * makes the tables of others agree, whether the state is good or not; `repairs` in the report says
 * what there was to do.
 *
 * The report is of `from`, but for the entries, which are not counted. STORE_CORRUPT where nothing
 * can be saved: the report says why, and is made in this case too. Further errors are those of
 * store_inspect and of store_fill_begin; `*report` is NULL then.
 */
int store_salvage(const char *from, const struct store_options *options, store_mend_fn *mend,
                  store_value_fn *is_value, struct store_report **report,
                  struct store_error *error);

#endif
