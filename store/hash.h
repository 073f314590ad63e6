/*
 * A keyed hash of a few bytes, for tables in memory: clients choose the keys, so who does not know
 * the seed cannot make many of them fall on one slot.
 */
#ifndef STORE_HASH_H
#define STORE_HASH_H

#include "wire/bytes.h"

__extension__ typedef unsigned __int128 hash_product;

static inline uint64_t hash_mix(uint64_t seed, uint64_t word)
{
    hash_product product = (hash_product)word * (seed | UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(uint64_t seed, struct slice bytes)
{
    uint64_t state = seed ^ (bytes.size * UINT64_C(0x9e3779b97f4a7c15));
    uint64_t word = 0;
    size_t at = 0;
    for (; bytes.size - at >= sizeof word; at += sizeof word) {
        memcpy(&word, bytes.data + at, sizeof word);
        state = hash_mix(seed, state ^ word);
    }
    if (at < bytes.size) {
        word = 0;
        memcpy(&word, bytes.data + at, bytes.size - at);
        state = hash_mix(seed, state ^ word);
    }
    /* The last bytes of a key are what often makes the difference: they reach every bit here. */
    state = (state ^ state >> 32) * UINT64_C(0x9fb21c651e98df25);
    return state ^ state >> 29;
}

#endif
