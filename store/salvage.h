/*
 * Saving what is whole of a damaged data directory into a new one. The old one is not changed.
 */
#ifndef STORE_SALVAGE_H
#define STORE_SALVAGE_H

#include "store/inspect.h"

/*
 * Makes the directory of `options` (its `directory`, `engine` and progress are used; without an
 * engine it gets the old one's) of the longest prefix of history that is whole in `from`: the
 * newest good state of the engine, and the log behind it up to where that is damaged. The new
 * directory has an epoch of its own, and its history begins there.
 *
 * The report is of `from`, but for the entries, which are not counted. STORE_CORRUPT where nothing
 * can be saved: the report says why, and is made in this case too. Further errors are those of
 * store_inspect and of store_fill_begin; `*report` is NULL then.
 */
int store_salvage(const char *from, const struct store_options *options,
                  struct store_report **report, struct store_error *error);

#endif
