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
 * Where the engine's state is not good, and the log alone does not make up for it, what can be read
 * of the state is taken, and the log behind it: `partial` in the report, which says what is lost.
 * So one bad page costs what is in it. What is saved then is no state that ever was: entries are
 * missing, and tables may not agree any more.
 *
 * The report is of `from`, but for the entries, which are not counted. STORE_CORRUPT where nothing
 * can be saved: the report says why, and is made in this case too. Further errors are those of
 * store_inspect and of store_fill_begin; `*report` is NULL then.
 */
int store_salvage(const char *from, const struct store_options *options,
                  struct store_report **report, struct store_error *error);

#endif
