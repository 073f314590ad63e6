/*
 * What tests of engines have in common: random numbers with a seed, the model (a sorted array) that
 * an engine is compared with, and allocations that fail on demand.
 */
#ifndef TESTS_STORE_ENGINE_MODEL_H
#define TESTS_STORE_ENGINE_MODEL_H

#include <stdio.h>
#include <time.h>

#include "store/engine.h"

/* Random numbers: xorshift64*. */
struct random {
    uint64_t seed;
    uint64_t state;
};

static inline struct random random_start(void)
{
    const char *given = getenv("CUBBY_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    return (struct random){.seed = seed, .state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15)};
}

static inline uint64_t random_next(struct random *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * UINT64_C(0x2545F4914F6CDD1D);
}

static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return (random_next(random) >> 11) % limit;
}

/* Allocations fail as this says: the one after `left` others, or none at all (left < 0). */
struct failure {
    long left;
    bool for_ever; /* and all after it */
};

static inline bool admit(void *context, size_t size)
{
    struct failure *failure = context;
    (void)size;
    if (failure->left < 0)
        return true;
    if (failure->left > 0) {
        failure->left--;
        return true;
    }
    if (!failure->for_ever)
        failure->left = -1;
    return false;
}

/* The model: a sorted array. */
struct pair {
    struct slice key;
    struct slice value;
};

struct model {
    struct pair *pairs;
    size_t count;
    size_t capacity;
};

static inline struct slice slice_copy(struct slice bytes)
{
    uint8_t *copy = malloc(bytes.size + 1);
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    return slice_of(copy, bytes.size);
}

static inline void slice_drop(struct slice bytes)
{
    free((void *)bytes.data);
}

/* The first pair whose key is not less. */
static inline size_t model_find(const struct model *model, struct slice key)
{
    size_t from = 0;
    size_t to = model->count;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (slice_compare(model->pairs[middle].key, key) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static inline bool model_has(const struct model *model, size_t at, struct slice key)
{
    return at < model->count && slice_equal(model->pairs[at].key, key);
}

static inline void model_put(struct model *model, struct slice key, struct slice value)
{
    size_t at = model_find(model, key);
    struct slice kept = slice_copy(value);
    if (model_has(model, at, key)) {
        slice_drop(model->pairs[at].value);
        model->pairs[at].value = kept;
        return;
    }
    if (model->count == model->capacity) {
        model->capacity = model->capacity * 2 + 64;
        model->pairs = realloc(model->pairs, model->capacity * sizeof(model->pairs[0]));
    }
    memmove(model->pairs + at + 1, model->pairs + at, (model->count - at) * sizeof(struct pair));
    model->pairs[at] = (struct pair){slice_copy(key), kept};
    model->count++;
}

static inline bool model_delete(struct model *model, struct slice key)
{
    size_t at = model_find(model, key);
    if (!model_has(model, at, key))
        return false;
    slice_drop(model->pairs[at].key);
    slice_drop(model->pairs[at].value);
    model->count--;
    memmove(model->pairs + at, model->pairs + at + 1, (model->count - at) * sizeof(struct pair));
    return true;
}

static inline struct model model_copy(const struct model *model)
{
    struct model copy = {.count = model->count, .capacity = model->count};
    copy.pairs = malloc((model->count + 1) * sizeof(struct pair));
    for (size_t i = 0; i < model->count; i++) {
        copy.pairs[i].key = slice_copy(model->pairs[i].key);
        copy.pairs[i].value = slice_copy(model->pairs[i].value);
    }
    return copy;
}

static inline void model_free(struct model *model)
{
    for (size_t i = 0; i < model->count; i++) {
        slice_drop(model->pairs[i].key);
        slice_drop(model->pairs[i].value);
    }
    free(model->pairs);
    *model = (struct model){0};
}

/* Whether the cursor, walking from one end to the other, meets the model and nothing else. */
static inline bool walks_as(struct engine_cursor *cursor, const struct model *model, bool forward)
{
    const struct engine_methods *methods = cursor->methods;
    struct slice key;
    struct slice value;
    int result = forward ? methods->cursor_seek(cursor, slice_of_text(""), &key, &value)
                         : methods->cursor_seek_before(cursor, slice_of(NULL, 0), &key, &value);
    for (size_t i = 0; i < model->count; i++) {
        const struct pair *pair = &model->pairs[forward ? i : model->count - 1 - i];
        if (result != STORE_OK || !slice_equal(key, pair->key) || !slice_equal(value, pair->value))
            return false;
        result = forward ? methods->cursor_next(cursor, &key, &value)
                         : methods->cursor_prev(cursor, &key, &value);
    }
    return result == STORE_NOT_FOUND;
}

/* Numbered entries, whose value tells the round in which they were written. */
static inline struct slice numbered(char *buffer, size_t size, const char *what, unsigned number)
{
    return slice_of(buffer, (size_t)snprintf(buffer, size, "%s:%012u", what, number));
}

#endif
