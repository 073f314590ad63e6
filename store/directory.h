/*
 * The data directory: made if absent, locked while it is open, and described by a small text file,
 * `state`, that is replaced atomically. The log and the engines keep their own files in it.
 */
#ifndef STORE_DIRECTORY_H
#define STORE_DIRECTORY_H

#include "store/store.h"

enum {
    DIRECTORY_FORMAT = 1,
    DIRECTORY_MAX_NAME = 16,   /* an engine's name, with its zero */
    DIRECTORY_EPOCH_BYTES = 8, /* random ones */
    DIRECTORY_MAX_EPOCH = 2 * DIRECTORY_EPOCH_BYTES + 1,
};

struct directory_state {
    char engine[DIRECTORY_MAX_NAME];
    char epoch[DIRECTORY_MAX_EPOCH];
    enum store_durability durability; /* of the run that has it open, or had it last */
    bool clean;                       /* that run stopped cleanly: nothing was lost */
    uint64_t forgotten;               /* history up to this seq is gone */
    bool begun;                       /* the log had something in it by then */
};

struct directory;

/*
 * Opens, makes and locks it. `state` is as the last run left it; its epoch is empty where the
 * directory is new. STORE_LOCKED names the process that holds it; STORE_INVALID: it holds
 * something else, or another format, or is new and within another data directory: nothing was made
 * or changed then; STORE_CORRUPT; STORE_IO.
 */
int directory_open(struct directory **directory, const char *path, struct directory_state *state,
                   struct store_error *error);

/*
 * Opens it to read it only: nothing is made and nothing changed. Any number of readers may share
 * the lock, but not with who has the directory open. Where there is data but no good `state`,
 * `damage` says so (STORE_CORRUPT; else its code is STORE_OK), and the state is that of a new one.
 * Errors as above; STORE_INVALID also where there is no data.
 */
int directory_open_to_read(struct directory **directory, const char *path,
                           struct directory_state *state, struct store_error *damage,
                           struct store_error *error);

/* Its descriptor, for openat; lives as long as it. */
int directory_file(const struct directory *directory);

/* Whether the last run may have lost its newest writes: it was not to sync them, and was ended. */
bool directory_may_have_lost(const struct directory_state *state);

/* STORE_CORRUPT where the log's files are gone. */
int directory_check_log(const struct directory *directory, const struct directory_state *state,
                        struct store_error *error);

/* Replaces the state, durably. */
int directory_save(struct directory *directory, const struct directory_state *state,
                   struct store_error *error);

/* Whether it has a file whose name begins so. */
bool directory_has(const struct directory *directory, const char *prefix);

/* Calls for the name of each file; a result other than 0 ends that with it. Else STORE_IO. */
int directory_each(const struct directory *directory,
                   int (*each)(void *context, const char *name, struct store_error *error),
                   void *context, struct store_error *error);

/* Unlocks. */
void directory_close(struct directory **directory);

/* A new random epoch, as text. STORE_IO where the system has no random bytes. */
int directory_new_epoch(char epoch[DIRECTORY_MAX_EPOCH], struct store_error *error);

#endif
