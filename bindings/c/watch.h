/*
 * Watches from the inside: how a mirror follows one. The public part is in cubby_changes.h.
 */
#ifndef BINDINGS_C_WATCH_H
#define BINDINGS_C_WATCH_H

#include "bindings/c/handle.h"

/* Who gets what a watch brings, instead of cubby_watch_next. */
struct watch_receiver {
    /*
     * All changes with a seq up to `to`, `count` encoded ones behind the cursor, maybe none. -1:
     * they could not be taken; they come again a second later.
     */
    int (*take)(void *context, struct wire_cursor rows, uint32_t count, uint64_t to);
    /* It is open, or `take` has taken: watch_is_live may say something else than before. */
    void (*moved)(void *context);
    /* The daemon refuses; with CUBBY_COMPACTED for ever, else it is asked again. */
    void (*refused)(void *context, const struct cubby_error *error);
};

/* A watch that hands all to a receiver; NULL: no memory. Ended with cubby_watch_cancel. */
struct cubby_watch *watch_open(struct cubby *cubby, struct cubby_bytes prefix,
                               const struct cubby_watch_options *options,
                               const struct watch_receiver *receiver, void *context);

/* Whether everything is here that the daemon had when the watch was opened, last time. */
bool watch_is_live(const struct cubby_watch *watch);

/* Whether it was refused for good. */
bool watch_has_ended(const struct cubby_watch *watch);

/* Empty until it was open for the first time. */
struct cubby_bytes watch_epoch(const struct cubby_watch *watch);

#endif
