/*
 * --check and --salvage: what is done with a data directory that nobody serves. The report goes to
 * standard output, progress and failures to the journal.
 *
 * Both work in a child process. An engine without checksums trusts what it reads, so that damage
 * may end the process that reads it; that is then the verdict.
 */
#ifndef DAEMON_RESCUE_H
#define DAEMON_RESCUE_H

#include "daemon/journal.h"

enum { RESCUE_GOOD = 0, RESCUE_FAILED = 1 }; /* exit statuses; 1 for damage too */

/* Says what the directory holds, and what of it is damaged. */
int rescue_check(const char *directory, const struct journal *journal);

/*
 * Saves what is whole of the directory into a new one, with the engine of that name (NULL: the
 * same), and checks that.
 */
int rescue_salvage(const char *directory, const char *new_directory, const char *engine,
                   const struct journal *journal);

#endif
