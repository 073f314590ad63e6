/*
 * Reading a data directory that nobody serves, as far as it is whole. What inspect.c and salvage.c
 * have in common; nobody else includes this.
 *
 * The longest prefix of history that is whole is the newest good state of the engine, the *base*,
 * and the groups of the log that follow it without a hole. Damage that is wholly before the base is
 * not in the way of that: the log is read on behind it.
 *
 *     offline_open(&offline, &error);                         with its first fields filled in
 *     offline_load(&offline, take, context, &error);          the base, entry by entry
 *     offline_follow(&offline, take, context, &error);        what the log adds
 *     offline_close(&offline);
 */
#ifndef STORE_OFFLINE_H
#define STORE_OFFLINE_H

#include "store/inspect.h"
#include "store/log_scan.h"

struct offline {
    const char *path; /* up to `report`: the caller's */
    store_value_fn *is_value;
    store_progress_fn *progress;
    void *context;
    struct store_report *report;
    struct directory *directory;
    const struct engine_methods *methods;
    struct engine *engine;    /* of a base that is not a checkpoint; or after offline_open_engine */
    struct engine_mark found; /* of such a base, whether it is good or not */

    /* Of the report, as of before the log was read, which may be done more than once. */
    size_t damage_count;
    size_t damages_in_all;
    bool starts;
};

/*
 * Takes an entry; `value` is NULL where it is deleted. A result other than 0 ends the reading with
 * that code; STORE_CORRUPT is not for it.
 */
typedef int offline_take_fn(void *context, unsigned table, struct slice key,
                            const struct slice *value, struct store_error *error);

/*
 * Locks the directory, reads its state, finds the base and verifies it entry by entry. Fills what
 * the report says of these. Errors as of store_inspect. offline_close follows in each case.
 */
int offline_open(struct offline *offline, struct store_error *error);

/* Opens the base as an engine that can be asked, where it is not, and verifies it once more. */
int offline_open_engine(struct offline *offline, struct store_error *error);

/* Hands out the base, by table and key. */
int offline_load(struct offline *offline, offline_take_fn *take, void *context,
                 struct store_error *error);

/*
 * Hands out what can be read of a base that is not good: all tables but the index of expiries,
 * which follows from the keys. Notes each place that cannot be read, each entry that makes no
 * sense, and in the report how many are lost. Only where offline->engine is there.
 */
int offline_load_partly(struct offline *offline, offline_take_fn *take, void *context,
                        struct store_error *error);

/* Reads all of the log, hands out what it adds to the base, and fills the rest of the report. */
int offline_follow(struct offline *offline, offline_take_fn *take, void *context,
                   struct store_error *error);

/* Notes something that is damaged; `fatal`: a start is refused for it, or loses something. */
void offline_note_damage(struct offline *offline, const char *sentence, bool fatal);

/* Opens the engine anew, after a failure behind which it may take no more; NULL where it cannot. */
int offline_reopen(struct offline *offline);

/* The report as it was before the log was read; what is noted from here on is not of the log. */
void offline_begin_verdict(struct offline *offline);
void offline_keep_verdict(struct offline *offline);

/* Tells whoever wants to know how far it is; `what` is being read. */
void offline_tell_progress(const struct offline *offline, const char *what, uint64_t done,
                           uint64_t total);

void offline_close(struct offline *offline);

#endif
