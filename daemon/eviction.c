#include "daemon/eviction.h"

enum {
    SLACK_PART = 256,     /* of the limit: so much is evicted beyond what is needed, */
    MAX_SLACK = 64 << 10, /* but not more than this */
    ENTRY_OVERHEAD = 128, /* what an operation needs besides its bytes, at most */
    KEY_COPIES = 2,       /* of a key, besides that of its entry: index by time, queue */
    COMMIT_EVERY = 16,    /* transactions, at a start */
    MAX_DOUBLINGS = 16,
};

/*
 * At most what the request adds, as far as its size says: its values and keys may all be new. Pages
 * of the engine split, so it may be more after all: it is doubled with each attempt.
 */
static uint64_t room_for(const struct wire_request *request, unsigned attempt)
{
    uint64_t operations = 1;
    if (request->method == WIRE_METHOD_BATCH)
        operations = request->args.operation_count;
    uint64_t keys = operations * WIRE_MAX_KEY;
    if (keys > request->size)
        keys = request->size;
    return (request->size + KEY_COPIES * keys + ENTRY_OVERHEAD * operations) << attempt;
}

/* With a little more room the next writes need not evict, nor be tried twice. */
static uint64_t slack(uint64_t limit)
{
    return limit / SLACK_PART < MAX_SLACK ? limit / SLACK_PART : MAX_SLACK;
}

bool eviction_make_room(struct service *service, const struct wire_request *request,
                        unsigned attempt, uint64_t now_ms)
{
    struct store *store = service->store;
    struct store_stats stats;
    uint32_t evicted = KEYS_MAX_EXPIRED;
    bool any = false;
    store_stats(store, &stats);
    if (!store_was_short(store) || attempt > MAX_DOUBLINGS)
        return false;
    uint64_t room = room_for(request, attempt);
    if (room > stats.memory_limit)
        return false;
    room += slack(stats.memory_limit);
    while (evicted == KEYS_MAX_EXPIRED) {
        int rc = keys_evict(&service->keys, now_ms, room, &evicted);
        service->counters->evicted += evicted;
        if (rc != 0)
            return false;
        any = any || evicted > 0;
    }
    return any || store_has_room(store, room);
}

void eviction_begin(struct service *service, uint64_t now_ms)
{
    struct store *store = service->store;
    uint32_t evicted = KEYS_MAX_EXPIRED;
    for (unsigned i = 1; evicted > 0 && !store_has_room(store, 0); i++) {
        int rc = keys_evict(&service->keys, now_ms, 0, &evicted);
        service->counters->evicted += evicted;
        if (rc != 0)
            break;
        if (i % COMMIT_EVERY == 0 && store_commit(store) != 0)
            break;
        store_poll(store);
    }
    if (store_commit(store) != 0) {
        store_abandon(store); /* a disk that is full; one that fails is noticed by the first turn */
        keys_forget_times(&service->keys);
    }
}
