/*
 * A set of prefixes, made to be asked which of them some bytes begin with: what subscribers and
 * watches want. The answer takes one look for each length that any of the prefixes has and the
 * bytes reach; how many prefixes there are makes no difference.
 *
 *     struct prefix_walk walk = prefixes_walk(&set, key);
 *     for (struct prefix *prefix; (prefix = prefixes_next(&walk)) != NULL;)
 *         …                                                     shorter ones first
 */
#ifndef DAEMON_PREFIXES_H
#define DAEMON_PREFIXES_H

#include "wire/bytes.h"

struct prefix {
    struct prefix *next; /* in its slot */
    uint64_t hash;
    uint64_t count; /* how many times it was added and not taken back */
    void *user;     /* for whoever has the set; NULL at first */
    size_t size;
    uint8_t bytes[];
};

struct prefix_length {
    size_t size;
    size_t count; /* prefixes of this length */
};

struct prefixes {
    uint64_t seed; /* of the hash: others choose the prefixes */
    struct prefix **slots;
    size_t slot_count;             /* a power of two, or 0 */
    size_t count;                  /* different prefixes */
    struct prefix_length *lengths; /* shortest first */
    size_t length_count;
    size_t length_capacity;
};

/* Empty. `seed` is random. */
void prefixes_init(struct prefixes *set, uint64_t seed);
void prefixes_free(struct prefixes *set);

/* Adds one, or one more of those that are there. NULL where memory is out. */
struct prefix *prefixes_add(struct prefixes *set, struct slice bytes);

/* The one with these bytes; NULL where there is none. */
struct prefix *prefixes_find(const struct prefixes *set, struct slice bytes);

/* Takes one back; the last of its kind is freed. */
void prefixes_remove(struct prefixes *set, struct prefix *prefix);

/* A walk over those that the bytes begin with; the set stays as it is meanwhile. */
struct prefix_walk {
    const struct prefixes *set;
    struct slice bytes;
    uint64_t state; /* of the hash over the first `hashed` bytes */
    size_t hashed;
    size_t next; /* index in set->lengths */
};

struct prefix_walk prefixes_walk(const struct prefixes *set, struct slice bytes);

/* NULL behind the last. */
struct prefix *prefixes_next(struct prefix_walk *walk);

#endif
