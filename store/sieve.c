#include "store/sieve.h"

#include <malloc.h>

#include "store/hash.h"

/*
 * A queue, from the oldest to the newest:
 *
 *     header │ prefix that all keys have in common │ records │ free
 *
 *     record: 1 byte    mark (1 bit) │ tag (7 bits of the hash)
 *             1 or 2    size of what is behind the prefix: below 128 as it is, else 128 + its upper
 *                       bits, and its lower 8
 *             rest      the key behind the prefix
 *
 * The prefix is found by its first keys, and gets shorter when a key comes that does not have it.
 */
struct sieve_shard {
    uint32_t count;
    uint32_t capacity; /* of bytes[] */
    uint32_t used;     /* of bytes[], prefix and records */
    uint32_t hand;     /* records that the hand has passed since it began with the oldest */
    uint16_t prefix_size;
    uint8_t bytes[];
};

enum {
    MARK = 0x80,
    LONG = 0x80,
    TAG_SHIFT = 64 - 7,
    FIRST_SHARDS = 8,
    GROWTH = 8,      /* a full shard grows by so much of itself, */
    GROWTH_MIN = 16, /* or by so many bytes */
    SPARE_MIN =
        64, /* a shard with more spare bytes than that and than it uses gets a smaller block */
    JOIN_KEYS = SIEVE_SHARD_KEYS / 4, /* fewer on average: two shards become one */
};

#define NOWHERE UINT32_MAX

struct record {
    uint8_t *at;
    bool marked;
    uint8_t tag;
    struct slice rest; /* of the key, behind the prefix */
    uint32_t size;     /* of the record */
};

void sieve_init(struct sieve *sieve, uint64_t seed)
{
    *sieve = (struct sieve){.seed = seed};
}

/* Memory. */

/* glibc keeps one word of its own with each block. */
static size_t footprint(void *memory)
{
    return memory != NULL ? malloc_usable_size(memory) + sizeof(size_t) : 0;
}

/* As realloc; what is there is unchanged where it fails. */
static void *reallocate(struct sieve *sieve, void *memory, size_t size)
{
    if (sieve->admit != NULL && !sieve->admit(sieve->admit_context, size))
        return NULL;
    size_t before = footprint(memory);
    void *moved = realloc(memory, size);
    if (moved != NULL)
        sieve->memory += footprint(moved) - before;
    return moved;
}

/* NULL is nothing. */
static void release(struct sieve *sieve, void *memory)
{
    sieve->memory -= footprint(memory);
    free(memory);
}

void sieve_free(struct sieve *sieve)
{
    for (uint32_t i = 0; i < sieve->shard_count; i++)
        release(sieve, sieve->shards[i]);
    release(sieve, sieve->shards);
    sieve->shards = NULL;
    sieve->shard_count = 0;
}

/* Records. */

static struct record read_record(struct sieve_shard *shard, uint32_t offset)
{
    uint8_t *at = shard->bytes + offset;
    struct record record = {.at = at, .marked = (at[0] & MARK) != 0, .tag = at[0] & (MARK - 1)};
    size_t size = at[1];
    size_t head = 2;
    if (size >= LONG) {
        size = (size - LONG) << 8 | at[2];
        head = 3;
    }
    record.rest = slice_of(at + head, size);
    record.size = (uint32_t)(head + size);
    return record;
}

static void append_record(struct sieve_shard *shard, uint8_t tag, bool marked, struct slice rest)
{
    uint8_t *at = shard->bytes + shard->used;
    *at++ = tag | (marked ? MARK : 0);
    if (rest.size >= LONG)
        *at++ = (uint8_t)(LONG | rest.size >> 8);
    *at++ = (uint8_t)rest.size;
    if (rest.size > 0)
        memcpy(at, rest.data, rest.size);
    shard->used = (uint32_t)(at + rest.size - shard->bytes);
    shard->count++;
}

static uint32_t record_size(size_t rest)
{
    return (uint32_t)((rest < LONG ? 2 : 3) + rest);
}

static size_t read_key(const struct sieve_shard *shard, const struct record *record, uint8_t *key)
{
    memcpy(key, shard->bytes, shard->prefix_size);
    if (record->rest.size > 0)
        memcpy(key + shard->prefix_size, record->rest.data, record->rest.size);
    return shard->prefix_size + record->rest.size;
}

/* Shards. */

static size_t common_size(struct slice a, struct slice b)
{
    size_t size = 0;
    while (size < a.size && size < b.size && a.data[size] == b.data[size])
        size++;
    return size;
}

static struct sieve_shard *resize(struct sieve *sieve, struct sieve_shard *shard, size_t capacity)
{
    struct sieve_shard *resized = reallocate(sieve, shard, sizeof *shard + capacity);
    if (resized != NULL)
        resized->capacity = (uint32_t)capacity;
    return resized;
}

/* An empty one with that prefix, and room for so many bytes of records; NULL: memory is out. */
static struct sieve_shard *new_shard(struct sieve *sieve, struct slice prefix, size_t room)
{
    struct sieve_shard *shard = resize(sieve, NULL, prefix.size + room);
    if (shard == NULL)
        return NULL;
    shard->count = 0;
    shard->hand = 0;
    shard->prefix_size = (uint16_t)prefix.size;
    shard->used = (uint32_t)prefix.size;
    if (prefix.size > 0)
        memcpy(shard->bytes, prefix.data, prefix.size);
    return shard;
}

/* The same shard with a shorter prefix, and room for `more` bytes; NULL: memory is out. */
static struct sieve_shard *shorten_prefix(struct sieve *sieve, struct sieve_shard *shard,
                                          size_t prefix_size, size_t more)
{
    uint8_t key[SIEVE_MAX_KEY];
    size_t longer = shard->prefix_size - prefix_size + 1; /* and perhaps a longer size */
    struct sieve_shard *wider = new_shard(sieve, slice_of(shard->bytes, prefix_size),
                                          shard->used + shard->count * longer + more);
    if (wider == NULL)
        return NULL;
    for (uint32_t at = shard->prefix_size; at < shard->used;) {
        struct record record = read_record(shard, at);
        size_t size = read_key(shard, &record, key);
        append_record(wider, record.tag, record.marked,
                      slice_of(key + prefix_size, size - prefix_size));
        at += record.size;
    }
    wider->hand = shard->hand;
    release(sieve, shard);
    return wider;
}

/* Sees to it that the key has the shard's prefix, and that its record fits. */
static int make_room(struct sieve *sieve, struct sieve_shard **place, struct slice key)
{
    struct sieve_shard *shard = *place;
    size_t common = key.size;
    if (shard != NULL)
        common = common_size(slice_of(shard->bytes, shard->prefix_size), key);
    size_t more = record_size(key.size - common);
    if (shard == NULL) {
        shard = new_shard(sieve, key, more);
    } else if (common < shard->prefix_size) {
        shard = shorten_prefix(sieve, shard, common, more);
    } else if (shard->used + more > shard->capacity) {
        size_t room = shard->used / GROWTH > GROWTH_MIN ? shard->used / GROWTH : GROWTH_MIN;
        shard = resize(sieve, shard, shard->used + (more > room ? more : room));
    }
    if (shard == NULL)
        return -1;
    *place = shard;
    return 0;
}

/* At the end, which is the place of the newest. */
static int append(struct sieve *sieve, struct sieve_shard **place, struct slice key, uint64_t hash,
                  bool marked)
{
    if (make_room(sieve, place, key) != 0)
        return -1;
    struct sieve_shard *shard = *place;
    append_record(shard, (uint8_t)(hash >> TAG_SHIFT), marked,
                  slice_of(key.data + shard->prefix_size, key.size - shard->prefix_size));
    return 0;
}

/* Where the key's record is, and how many are before it; NOWHERE. */
static uint32_t find(struct sieve_shard *shard, struct slice key, uint64_t hash, uint32_t *index)
{
    if (shard == NULL || key.size < shard->prefix_size ||
        memcmp(key.data, shard->bytes, shard->prefix_size) != 0)
        return NOWHERE;
    struct slice rest = slice_of(key.data + shard->prefix_size, key.size - shard->prefix_size);
    *index = 0;
    for (uint32_t at = shard->prefix_size; at < shard->used; ++*index) {
        struct record record = read_record(shard, at);
        if (record.tag == hash >> TAG_SHIFT && slice_equal(record.rest, rest))
            return at;
        at += record.size;
    }
    return NOWHERE;
}

/*
 * Which shard: linear hashing. With 2^n shards and some more, so many of the first were split: a
 * part of their keys is 2^n further on, by one more bit of the hash.
 */

static uint32_t largest_power(uint32_t number)
{
    return UINT32_C(1) << (31 - __builtin_clz(number));
}

static struct sieve_shard **shard_of(const struct sieve *sieve, uint64_t hash)
{
    uint32_t power = largest_power(sieve->shard_count);
    uint32_t index = (uint32_t)hash & (2 * power - 1);
    return &sieve->shards[index < sieve->shard_count ? index : index - power];
}

static int grow_shards(struct sieve *sieve)
{
    if (sieve->shard_count < sieve->shard_capacity)
        return 0;
    uint32_t capacity = sieve->shard_capacity > 0 ? 2 * sieve->shard_capacity : FIRST_SHARDS;
    struct sieve_shard **shards =
        reallocate(sieve, sieve->shards, capacity * sizeof(struct sieve_shard *));
    if (shards == NULL)
        return -1;
    sieve->shards = shards;
    sieve->shard_capacity = capacity;
    return 0;
}

/* Its keys by that bit of their hash, in their order. */
static int part(struct sieve *sieve, struct sieve_shard *shard, uint32_t bit,
                struct sieve_shard *halves[2])
{
    uint8_t key[SIEVE_MAX_KEY];
    uint32_t hands[2] = {0, 0};
    uint32_t index = 0;
    for (uint32_t at = shard->prefix_size; at < shard->used; index++) {
        struct record record = read_record(shard, at);
        struct slice whole = slice_of(key, read_key(shard, &record, key));
        uint64_t hash = hash_bytes(sieve->seed, whole);
        unsigned half = (hash & bit) != 0;
        if (append(sieve, &halves[half], whole, hash, record.marked) != 0)
            return -1;
        hands[half] += index < shard->hand;
        at += record.size;
    }
    for (unsigned half = 0; half < 2; half++)
        if (halves[half] != NULL)
            halves[half]->hand = hands[half];
    return 0;
}

/* One more shard. Where memory is out there is none, and the next key tries again. */
static void split(struct sieve *sieve)
{
    struct sieve_shard *halves[2] = {NULL, NULL};
    uint32_t power = largest_power(sieve->shard_count);
    if (grow_shards(sieve) != 0)
        return;
    struct sieve_shard **old = &sieve->shards[sieve->shard_count - power];
    if (*old != NULL && part(sieve, *old, power, halves) != 0) {
        release(sieve, halves[0]);
        release(sieve, halves[1]);
        return;
    }
    release(sieve, *old);
    *old = halves[0];
    sieve->shards[sieve->shard_count++] = halves[1];
}

/* Takes the next record of a shard that is joined. */
static int move(struct sieve *sieve, struct sieve_shard *from, uint32_t *at,
                struct sieve_shard **joined)
{
    uint8_t key[SIEVE_MAX_KEY];
    struct record record = read_record(from, *at);
    struct slice whole = slice_of(key, read_key(from, &record, key));
    *at += record.size;
    return append(sieve, joined, whole, (uint64_t)record.tag << TAG_SHIFT, record.marked);
}

/* The keys of both, each in its order, as evenly mixed as they are many. */
static int mix(struct sieve *sieve, struct sieve_shard *a, struct sieve_shard *b,
               struct sieve_shard **joined)
{
    uint32_t at_a = a->prefix_size;
    uint32_t at_b = b->prefix_size;
    int rc = 0;
    while (rc == 0 && (at_a < a->used || at_b < b->used)) {
        bool from_a = (uint64_t)at_a * b->used <= (uint64_t)at_b * a->used;
        if (at_b >= b->used || (from_a && at_a < a->used))
            rc = move(sieve, a, &at_a, joined);
        else
            rc = move(sieve, b, &at_b, joined);
    }
    if (rc == 0 && *joined != NULL)
        (*joined)->hand = a->hand + b->hand;
    return rc;
}

/* One shard fewer: the last goes back to the one that it came from. Unless memory is out. */
static void join(struct sieve *sieve)
{
    uint32_t last = sieve->shard_count - 1;
    struct sieve_shard **place = &sieve->shards[last - largest_power(last)];
    struct sieve_shard *joined = NULL;
    if (*place == NULL || sieve->shards[last] == NULL) {
        *place = *place == NULL ? sieve->shards[last] : *place;
    } else if (mix(sieve, *place, sieve->shards[last], &joined) == 0) {
        release(sieve, *place);
        release(sieve, sieve->shards[last]);
        *place = joined;
    } else {
        release(sieve, joined);
        return;
    }
    sieve->shard_count--;
}

/* What the owner calls. */

static int begin(struct sieve *sieve)
{
    if (sieve->shard_count > 0)
        return 0;
    if (grow_shards(sieve) != 0)
        return -1;
    sieve->shards[sieve->shard_count++] = NULL;
    return 0;
}

void sieve_add(struct sieve *sieve, struct slice key)
{
    uint32_t index;
    uint64_t hash = hash_bytes(sieve->seed, key);
    if (begin(sieve) != 0) {
        sieve->lost = true;
        return;
    }
    struct sieve_shard **shard = shard_of(sieve, hash);
    if (find(*shard, key, hash, &index) != NOWHERE)
        return;
    if (append(sieve, shard, key, hash, false) != 0) {
        sieve->lost = true;
        return;
    }
    sieve->count++;
    if (sieve->count > (uint64_t)SIEVE_SHARD_KEYS * sieve->shard_count)
        split(sieve);
}

void sieve_visit(struct sieve *sieve, struct slice key)
{
    uint32_t index;
    uint64_t hash = hash_bytes(sieve->seed, key);
    if (sieve->shard_count == 0)
        return;
    struct sieve_shard *shard = *shard_of(sieve, hash);
    uint32_t at = find(shard, key, hash, &index);
    if (at != NOWHERE)
        shard->bytes[at] |= MARK;
}

/* Gives back the memory of what was removed; goes on with what there is if it cannot. */
static void shrink(struct sieve *sieve, struct sieve_shard **place)
{
    struct sieve_shard *shard = *place;
    uint32_t spare = shard->capacity - shard->used;
    if (shard->count == 0) {
        release(sieve, shard);
        *place = NULL;
    } else if (spare > SPARE_MIN && spare > shard->used) {
        shard = resize(sieve, shard, shard->used);
        if (shard != NULL)
            *place = shard;
    }
}

void sieve_remove(struct sieve *sieve, struct slice key)
{
    uint32_t index;
    uint64_t hash = hash_bytes(sieve->seed, key);
    if (sieve->shard_count == 0)
        return;
    struct sieve_shard **place = shard_of(sieve, hash);
    struct sieve_shard *shard = *place;
    uint32_t at = find(shard, key, hash, &index);
    if (at == NOWHERE)
        return;
    struct record record = read_record(shard, at);
    memmove(record.at, record.at + record.size, shard->used - at - record.size);
    shard->used -= record.size;
    shard->count--;
    shard->hand -= index < shard->hand;
    sieve->count--;
    shrink(sieve, place);
    if (sieve->shard_count > 1 && sieve->count < (uint64_t)JOIN_KEYS * sieve->shard_count)
        join(sieve);
}

/* Whether the shard has as many keys as it should, of as many hashes as it has. */
static bool has_its_share(const struct sieve *sieve, uint32_t index)
{
    uint32_t power = largest_power(sieve->shard_count);
    bool half = index >= power || index + power < sieve->shard_count;
    const struct sieve_shard *shard = sieve->shards[index];
    return shard != NULL && shard->count * (half ? 2 : UINT64_C(1)) * power >= sieve->count;
}

static size_t shard_victim(struct sieve_shard *shard, uint8_t *key)
{
    uint32_t at = shard->prefix_size;
    for (uint32_t i = 0; i < shard->hand; i++)
        at += read_record(shard, at).size;
    for (;; shard->hand++) {
        if (shard->hand >= shard->count) {
            shard->hand = 0;
            at = shard->prefix_size;
        }
        struct record record = read_record(shard, at);
        if (!record.marked)
            return read_key(shard, &record, key);
        *record.at &= (uint8_t)~MARK;
        at += record.size;
    }
}

size_t sieve_victim(struct sieve *sieve, uint8_t *key)
{
    if (sieve->count == 0)
        return 0;
    do
        sieve->sweep = sieve->sweep + 1 < sieve->shard_count ? sieve->sweep + 1 : 0;
    while (!has_its_share(sieve, sieve->sweep));
    return shard_victim(sieve->shards[sieve->sweep], key);
}
