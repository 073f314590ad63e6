/*
 * Ranges of keys that are known to be empty.
 *
 * Whoever takes entries from the front of a range again and again (a queue does) leaves deleted
 * ones there, and a log-structured tree steps over each of them until a compaction drops it. A seek
 * that begins in a gap begins at its end instead, so that finding the head of a queue costs the
 * same however much was taken from it. A gap is a conclusion from what was found; it holds until a
 * key comes to be in it. They are few, and the one that was not used for longest makes room.
 */
#ifndef STORE_GAPS_H
#define STORE_GAPS_H

#include "store/table_key.h"

enum { GAPS = 32 };

struct gap {
    uint64_t used; /* gaps.uses when it was used last; 0: there is none */
    struct table_key low;
    struct table_key high;
};

struct gaps {
    struct gap gap[GAPS]; /* low <= key < high; they may overlap */
    uint64_t uses;
};

/* Where a search for what is at or behind the key may begin: the end of a gap, or NULL: at the key.
 * A view until the next call. */
const struct table_key *gaps_skip(const struct gaps *gaps, const struct table_key *key);

/* There is nothing from `low` up to `high`. */
void gaps_note(struct gaps *gaps, const struct table_key *low, const struct table_key *high);

/* The key comes to be: what is before it stays empty. */
void gaps_cut(struct gaps *gaps, const struct table_key *key);

#endif
