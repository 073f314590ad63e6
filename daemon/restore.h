/*
 * Restoring: a data directory made of a backup file, as `cubby backup` writes it (the format is in
 * bindings/cli/README.md). The file is verified from beginning to end before anything is made.
 */
#ifndef DAEMON_RESTORE_H
#define DAEMON_RESTORE_H

#include "store/store.h"

/* What the new directory holds. */
struct restored {
    uint64_t entries;
    uint64_t keys;
    uint64_t seq;
};

/*
 * Makes the directory of the options, which is not there yet or empty. On failure one line in
 * `error` says what is wrong, with the offset in the file, and there is no data directory.
 */
int restore(const char *path, const struct store_options *options, struct restored *restored,
            struct store_error *error);

#endif
