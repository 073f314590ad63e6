/*
 * How far something long has come, for whoever waits for it: a line of the journal once a second,
 * and systemd is told too. What takes less than a second says nothing.
 */
#ifndef DAEMON_PROGRESS_H
#define DAEMON_PROGRESS_H

#include <stdint.h>

#include "daemon/journal.h"

enum { PROGRESS_MS = 1000 };

struct progress {
    const struct journal *journal;
    uint64_t begin_ms; /* on the monotonic clock */
    uint64_t next_ms;
};

/* `journal` outlives it. */
void progress_begin(struct progress *progress, const struct journal *journal);

/* Since then. */
uint64_t progress_took_ms(const struct progress *progress);

/* For store_options: `context` is the progress. */
void progress_show(void *context, const char *what, uint64_t done, uint64_t total);
void progress_warn(void *context, const char *line);

#endif
