/* Room under the limit of memory, and which key goes where there is none. */
#include <sys/random.h>

#include "store/store_internal.h"

static bool has_room_under(struct store *store, size_t more, uint64_t limit)
{
    struct engine *engine = store->engine;
    if (store->memory_limit == 0)
        return true;
    uint64_t memory = engine->methods->memory(engine);
    if (store->evicts)
        memory += store->sieve.memory - engine->methods->held(engine);
    if (memory + more <= limit)
        return true;
    store->short_of_room = true;
    return false;
}

bool store_has_room(struct store *store, size_t more)
{
    return has_room_under(store, more, store->memory_limit);
}

bool store_has_room_for_put(struct store *store, size_t growth)
{
    enum { PASSED = 8 << 10 };
    return has_room_under(store, growth, store->memory_limit + (growth == 0 ? PASSED : 0));
}

bool store_was_short(const struct store *store)
{
    return store->short_of_room;
}

void store_track(struct store *store, unsigned table, struct slice key, bool present)
{
    if (!store->evicts || table != STORE_KEYS)
        return;
    if (present)
        sieve_add(&store->sieve, key);
    else
        sieve_remove(&store->sieve, key);
}

/* Adds what is not there yet, from the first key to the last. */
static int fill(struct store *store)
{
    struct engine *engine = store->engine;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = engine->methods->cursor_open(engine, NULL, STORE_KEYS, &cursor);
    if (rc != 0)
        return rc;
    store->sieve.lost = false;
    rc = cursor->methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    while (rc == 0) {
        sieve_add(&store->sieve, key);
        rc = cursor->methods->cursor_next(cursor, &key, &value);
    }
    cursor->methods->cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int store_open_eviction(struct store *store, struct store_error *error)
{
    uint64_t seed;
    if (store->engine->methods != &engine_memory)
        return store_fail(error, STORE_INVALID,
                          "--eviction sieve goes with --engine memory only, and the directory has "
                          "engine %s: give --eviction none",
                          store->engine->methods->name);
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return store_fail(error, STORE_IO, "the system gives no random bytes");
    sieve_init(&store->sieve, seed);
    store->evicts = true;
    int rc = fill(store);
    if (rc != 0)
        return store_fail(error, (enum store_code)rc, "no memory to evict keys with");
    return 0;
}

void store_visit(struct store *store, struct slice key)
{
    if (store->evicts)
        sieve_visit(&store->sieve, key);
}

/* Keys for which memory was out when they came are looked for when there are no others. */
size_t store_victim(struct store *store, uint8_t *key)
{
    if (!store->evicts)
        return 0;
    size_t size = sieve_victim(&store->sieve, key);
    if (size == 0 && store->sieve.lost && fill(store) == 0)
        size = sieve_victim(&store->sieve, key);
    return size;
}
