/*
 * Looking at a data directory that nobody serves: what it holds, and what of it is damaged. Nothing
 * on disk is changed. The files are read by the same code as at a start, so that both come to the
 * same verdict.
 *
 *     store_inspect("/var/lib/cubby", queues_check, NULL, NULL, NULL, &report, &error);
 *     … report->damages …
 *     store_report_free(&report);
 */
#ifndef STORE_INSPECT_H
#define STORE_INSPECT_H

#include "store/directory.h"
#include "store/engine.h"

enum { REPORT_MAX_DAMAGES = 64 }; /* sentences that are kept; further ones are counted */

/* A checkpoint's file, newest first. */
struct report_checkpoint {
    uint64_t position; /* in its name */
    uint64_t seq;      /* 0 where its header is not good */
    uint64_t size;
    bool good;
};

/* A file of the log, oldest first. */
struct report_segment {
    uint64_t id;
    uint64_t size;
    uint64_t first; /* of its whole groups, by number; 0: it has none */
    uint64_t last;
    uint64_t first_seq; /* 0: none has one */
    uint64_t last_seq;
};

/* Something that a salvage found missing or contradictory: lost for good, or made again. */
struct report_repair {
    bool lost;
    char sentence[STORE_MAX_ERROR_MESSAGE];
};

struct store_report {
    struct directory_state state; /* all zeros where damaged; the engine's name is right even so */
    struct report_checkpoint *checkpoints;
    size_t checkpoint_count;
    struct report_segment *segments;
    size_t segment_count;

    /* What the engine has on disk, and how many bytes that is. All zeros where nothing is good. */
    struct engine_mark base;
    uint64_t base_bytes;
    bool has_base;

    /*
     * Of a salvage: the base is not good, and what can be read of it was taken all the same.
     * `lost`: how many entries of each table were not, as far as the base says how many it has.
     */
    bool partial;
    uint64_t lost[ENGINE_TABLES];
    struct report_repair *repairs; /* REPORT_MAX_DAMAGES at most, */
    size_t repair_count;
    size_t repairs_in_all; /* and with those that were not kept */

    /*
     * What that and the log add up to: the longest prefix of history that is whole. `oldest`: the
     * first seq of which the log has the changes.
     */
    struct engine_mark end;
    uint64_t oldest;
    uint64_t entries[ENGINE_TABLES];

    /*
     * Behind the last whole group: bytes that are not zeros, which a start clears, in the segment
     * of this id from this offset on. `torn`: some of them are of a group that was being written,
     * else they may be left of an earlier use of the file.
     */
    uint64_t loose_bytes;
    uint64_t loose_segment;
    uint64_t loose_offset;
    bool torn;

    /* Groups of the log that look whole, but what is before them is missing. */
    uint64_t untaken_groups;
    uint64_t untaken_bytes;

    bool new_epoch; /* the next start will have one: the last run may have lost its newest writes */
    bool starts;    /* a start would make do with what is whole, without losing anything */
    struct store_error *damages; /* STORE_CORRUPT each, one sentence with file and offset */
    size_t damage_count;         /* of sentences, */
    size_t damages_in_all;       /* and with those that were not kept */
};

/*
 * Looking at tables that the store does not know: the state that base and log add up to is handed
 * to whoever knows them. `state` has the methods that latest.h names; what is wrong with it is told
 * in sentences. A result other than 0, with `error`, is what keeps it from being read.
 */
struct store_examination {
    struct engine *state;
    uint64_t time_ms;        /* the newest as of the state */
    const uint64_t *entries; /* of each table: how many it has */
    void (*tell)(void *context, const char *sentence);
    void (*progress)(void *context, uint64_t done, uint64_t total); /* in entries; may be NULL */
    void *context;
};

/* Whether the value of a key is one that is answered as it is; what else there is is damage. */
typedef bool store_value_fn(struct slice value);

typedef int store_examine_fn(const struct store_examination *examination,
                             struct store_error *error);

/*
 * Reads all of the directory, and lets `examine` (NULL: nobody) look at the state, and `is_value`
 * (NULL: nobody) at the values of keys. `progress` is as of store_options; it may be NULL. Damage
 * is no error but in the report; an error is what keeps the directory from being read:
 * STORE_LOCKED, STORE_INVALID (no data directory, another version, or what a start is to put right
 * first), STORE_IO, STORE_NO_MEMORY.
 */
int store_inspect(const char *directory, store_examine_fn *examine, store_value_fn *is_value,
                  store_progress_fn *progress, void *context, struct store_report **report,
                  struct store_error *error);

/* An empty one, NULL where memory is out; for salvage.c. */
struct store_report *store_report_new(void);

void store_report_free(struct store_report **report);

#endif
