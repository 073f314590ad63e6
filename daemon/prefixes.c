#include "daemon/prefixes.h"

enum { FIRST_SLOTS = 64, FIRST_LENGTHS = 8 };

void prefixes_init(struct prefixes *set, uint64_t seed)
{
    *set = (struct prefixes){.seed = seed};
}

void prefixes_free(struct prefixes *set)
{
    for (size_t i = 0; i < set->slot_count; i++) {
        while (set->slots[i] != NULL) {
            struct prefix *prefix = set->slots[i];
            set->slots[i] = prefix->next;
            free(prefix);
        }
    }
    free(set->slots);
    free(set->lengths);
    *set = (struct prefixes){0};
}

/* The hash of some bytes goes on from that of the bytes before them. */
static uint64_t hash_more(uint64_t state, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        state = (state ^ bytes[i]) * UINT64_C(0x9e3779b97f4a7c15);
        state ^= state >> 29;
    }
    return state;
}

static struct prefix **slot_of(const struct prefixes *set, uint64_t hash)
{
    return &set->slots[(hash ^ hash >> 32) & (set->slot_count - 1)];
}

static struct prefix *find(const struct prefixes *set, uint64_t hash, struct slice bytes)
{
    if (set->slot_count == 0)
        return NULL;
    for (struct prefix *prefix = *slot_of(set, hash); prefix != NULL; prefix = prefix->next)
        if (prefix->hash == hash && slice_equal(slice_of(prefix->bytes, prefix->size), bytes))
            return prefix;
    return NULL;
}

/* Twice as many slots, from the first ones on. Without memory the old ones still do. */
static bool grow_slots(struct prefixes *set)
{
    if (set->count < set->slot_count)
        return true;
    struct prefixes old = *set;
    size_t slot_count = set->slot_count > 0 ? 2 * set->slot_count : FIRST_SLOTS;
    struct prefix **slots = calloc(slot_count, sizeof(struct prefix *));
    if (slots == NULL)
        return set->slot_count > 0;
    set->slots = slots;
    set->slot_count = slot_count;
    for (size_t i = 0; i < old.slot_count; i++) {
        while (old.slots[i] != NULL) {
            struct prefix *prefix = old.slots[i];
            old.slots[i] = prefix->next;
            struct prefix **slot = slot_of(set, prefix->hash);
            prefix->next = *slot;
            *slot = prefix;
        }
    }
    free(old.slots);
    return true;
}

/* Index of the length, or of where it would be. */
static size_t find_length(const struct prefixes *set, size_t size)
{
    size_t at = 0;
    while (at < set->length_count && set->lengths[at].size < size)
        at++;
    return at;
}

static bool add_length(struct prefixes *set, size_t size)
{
    size_t at = find_length(set, size);
    if (at < set->length_count && set->lengths[at].size == size) {
        set->lengths[at].count++;
        return true;
    }
    if (set->length_count == set->length_capacity) {
        size_t capacity = set->length_capacity > 0 ? 2 * set->length_capacity : FIRST_LENGTHS;
        struct prefix_length *lengths = realloc(set->lengths, capacity * sizeof *lengths);
        if (lengths == NULL)
            return false;
        set->lengths = lengths;
        set->length_capacity = capacity;
    }
    memmove(&set->lengths[at + 1], &set->lengths[at],
            (set->length_count - at) * sizeof *set->lengths);
    set->lengths[at] = (struct prefix_length){.size = size, .count = 1};
    set->length_count++;
    return true;
}

static void remove_length(struct prefixes *set, size_t size)
{
    size_t at = find_length(set, size);
    if (--set->lengths[at].count > 0)
        return;
    set->length_count--;
    memmove(&set->lengths[at], &set->lengths[at + 1],
            (set->length_count - at) * sizeof *set->lengths);
}

struct prefix *prefixes_add(struct prefixes *set, struct slice bytes)
{
    uint64_t hash = hash_more(set->seed, bytes.data, bytes.size);
    struct prefix *prefix = find(set, hash, bytes);
    if (prefix != NULL) {
        prefix->count++;
        return prefix;
    }
    if (!grow_slots(set))
        return NULL;
    prefix = calloc(1, sizeof *prefix + bytes.size);
    if (prefix == NULL)
        return NULL;
    if (!add_length(set, bytes.size)) {
        free(prefix);
        return NULL;
    }
    prefix->hash = hash;
    prefix->count = 1;
    prefix->size = bytes.size;
    if (bytes.size > 0)
        memcpy(prefix->bytes, bytes.data, bytes.size);
    struct prefix **slot = slot_of(set, hash);
    prefix->next = *slot;
    *slot = prefix;
    set->count++;
    return prefix;
}

struct prefix *prefixes_find(const struct prefixes *set, struct slice bytes)
{
    return find(set, hash_more(set->seed, bytes.data, bytes.size), bytes);
}

void prefixes_remove(struct prefixes *set, struct prefix *prefix)
{
    if (--prefix->count > 0)
        return;
    struct prefix **at = slot_of(set, prefix->hash);
    while (*at != prefix)
        at = &(*at)->next;
    *at = prefix->next;
    remove_length(set, prefix->size);
    set->count--;
    free(prefix);
}

struct prefix_walk prefixes_walk(const struct prefixes *set, struct slice bytes)
{
    return (struct prefix_walk){.set = set, .bytes = bytes, .state = set->seed};
}

struct prefix *prefixes_next(struct prefix_walk *walk)
{
    const struct prefixes *set = walk->set;
    while (walk->next < set->length_count && set->lengths[walk->next].size <= walk->bytes.size) {
        size_t size = set->lengths[walk->next++].size;
        walk->state = hash_more(walk->state, walk->bytes.data + walk->hashed, size - walk->hashed);
        walk->hashed = size;
        struct prefix *prefix = find(set, walk->state, slice_of(walk->bytes.data, size));
        if (prefix != NULL)
            return prefix;
    }
    return NULL;
}
