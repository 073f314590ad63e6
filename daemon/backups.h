/*
 * Backups that are open: a snapshot of the store each, read page by page. A client may leave in the
 * middle of one, so each is let go of when nobody has read from it for a while.
 */
#ifndef DAEMON_BACKUPS_H
#define DAEMON_BACKUPS_H

#include "store/store.h"
#include "wire/limits.h"

enum {
    BACKUPS_FORMAT = 1,      /* of the entries: what the tables hold and how */
    BACKUPS_IDLE_MS = 60000, /* without a read */
};

struct backups {
    struct backup {
        uint64_t id; /* 0: none here */
        struct store_snapshot *snapshot;
        uint64_t used_ms; /* when it was read last */
    } open[WIRE_MAX_BACKUPS];
};

/* The backup of that number; NULL where it is not open. */
struct backup *backups_find(struct backups *backups, uint64_t id);

/*
 * Takes a snapshot; STORE_COMPACTED where too many are open, else errors as of store_snapshot.
 * Numbers are random, so that nobody reads another's by mistake.
 */
int backups_begin(struct backups *backups, struct store *store, uint64_t now_ms, uint64_t *id);

/* Lets go of one. */
void backups_end(struct backup *backup);

/* Lets go of those that nobody reads; of all. */
void backups_expire(struct backups *backups, uint64_t now_ms);
void backups_free(struct backups *backups);

#endif
