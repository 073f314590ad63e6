/*
 * Which key to evict: SIEVE (Zhang and others, NSDI 2024). Keys stand in a queue in the order in
 * which they came. A key that is used gets a mark and keeps its place. A hand goes from the oldest
 * to the newest and begins again: what has a mark loses it and stays, the first without one is the
 * victim. So what is used twice outlives what was only passed by, and a use moves nothing.
 *
 *     sieve_add(&sieve, key)        a new key, the newest; unmarked
 *     sieve_visit(&sieve, key)      it was used
 *     sieve_victim(&sieve, …)       which one to evict; it stays until
 *     sieve_remove(&sieve, key)     it is gone, evicted or not
 *
 * It knows no store: keys are bytes, and it holds a copy of each. To keep that small there is not
 * one queue but, once there are more than SIEVE_SHARD_KEYS, many short ones, with a hand each. A
 * keyed hash says which one a key belongs to, and its records lie one behind the other in one
 * block, so that it is searched in a moment and needs neither links nor an index. Victims are taken
 * from one after the other, from those that have at least their share of all keys.
 *
 * A structure starts with sieve_init and ends with sieve_free; one thread uses it.
 */
#ifndef STORE_SIEVE_H
#define STORE_SIEVE_H

#include "wire/bytes.h"

enum {
    SIEVE_MAX_KEY = 1024,
    SIEVE_SHARD_KEYS = 64, /* of a queue, on average, once there are several */
};

struct sieve_shard;

struct sieve {
    struct sieve_shard **shards;
    uint32_t shard_count;
    uint32_t shard_capacity;
    uint32_t sweep; /* the shard that gives the next victim, if it has its share */
    uint64_t seed;
    uint64_t count;  /* keys */
    uint64_t memory; /* bytes that it takes, those that the allocator adds included */
    bool lost;       /* a key could not be added since sieve_init, or since the owner reset this */

    /* Asked before each allocation, as in engine.h; for tests. May be NULL. */
    bool (*admit)(void *context, size_t size);
    void *admit_context;
};

/* Takes no memory yet. `seed` is random, and unknown to whoever chooses the keys. */
void sieve_init(struct sieve *sieve, uint64_t seed);
void sieve_free(struct sieve *sieve);

/*
 * A key of 1 to SIEVE_MAX_KEY bytes. One that is there already keeps its place and its mark. Where
 * memory is out the key is not added, and `lost` is set: it will not be a victim.
 */
void sieve_add(struct sieve *sieve, struct slice key);

/* Both do nothing where the key is not there. */
void sieve_visit(struct sieve *sieve, struct slice key);
void sieve_remove(struct sieve *sieve, struct slice key);

/*
 * Moves a hand to the next victim, and writes that key (SIEVE_MAX_KEY bytes at most). Returns its
 * size, 0 where there is no key at all. Until the key is removed it goes on being the one that its
 * queue gives, unless it is visited.
 */
size_t sieve_victim(struct sieve *sieve, uint8_t *key);

#endif
