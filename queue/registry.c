#include "queue/registry.h"

enum { FIRST_BUCKETS = 64, FIRST_SAVED = 16, FIRST_HEAP = 64 };

/* Finding. */

__extension__ typedef unsigned __int128 product_type;

static uint64_t mix(uint64_t a, uint64_t b)
{
    product_type product = (product_type)a * (b | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash_name(const struct registry *registry, struct slice name)
{
    uint64_t state = registry->seed ^ name.size;
    for (size_t at = 0; at < name.size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = name.size - at;
        memcpy(&word, name.data + at, left < sizeof word ? left : sizeof word);
        state = mix(state ^ word, registry->seed ^ UINT64_C(0x9e3779b97f4a7c15));
    }
    return (uint32_t)(state ^ state >> 32);
}

static struct queue **bucket_of_name(const struct registry *registry, uint32_t hash)
{
    return &registry->by_name[hash & (registry->buckets - 1)];
}

static struct queue **bucket_of_number(const struct registry *registry, uint64_t number)
{
    uint64_t hash = mix(number, UINT64_C(0xd6e8feb86659fd93));
    return &registry->by_number[hash & (registry->buckets - 1)];
}

struct queue *registry_find(const struct registry *registry, struct slice name)
{
    uint32_t hash = hash_name(registry, name);
    struct queue *queue = *bucket_of_name(registry, hash);
    while (queue != NULL &&
           !(queue->hash == hash && queue->now.exists && slice_equal(queue_name(queue), name)))
        queue = queue->next_of_name;
    return queue;
}

struct queue *registry_find_number(const struct registry *registry, uint64_t number)
{
    struct queue *queue = *bucket_of_number(registry, number);
    while (queue != NULL && queue->now.fields.number != number)
        queue = queue->next_of_number;
    return queue != NULL && queue->now.exists ? queue : NULL;
}

static void link_queue(struct registry *registry, struct queue *queue)
{
    struct queue **of_name = bucket_of_name(registry, queue->hash);
    struct queue **of_number = bucket_of_number(registry, queue->now.fields.number);
    queue->next_of_name = *of_name;
    *of_name = queue;
    queue->next_of_number = *of_number;
    *of_number = queue;
}

/* Where memory is out the buckets stay as they are: found all the same, only less quickly. */
static void grow_buckets(struct registry *registry)
{
    size_t buckets = 2 * registry->buckets;
    struct queue **by_name = calloc(buckets, sizeof(struct queue *));
    struct queue **by_number = calloc(buckets, sizeof(struct queue *));
    if (by_name == NULL || by_number == NULL) {
        free(by_name);
        free(by_number);
        return;
    }
    free(registry->by_name);
    free(registry->by_number);
    registry->by_name = by_name;
    registry->by_number = by_number;
    registry->buckets = buckets;
    for (size_t i = 0; i < registry->count; i++)
        link_queue(registry, registry->heap[i]);
}

/* When queues are due: a binary heap, the first is due first. */

static void place_in_heap(struct registry *registry, struct queue *queue, size_t at)
{
    registry->heap[at] = queue;
    queue->heap_at = at;
}

/*
 * Queues that are due at the same time come in the order of their names, so that what happens does
 * not depend on how the heap came about.
 */
static bool is_before(const struct queue *a, const struct queue *b)
{
    if (a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms;
    return a->due_ms != UINT64_MAX && slice_compare(queue_name(a), queue_name(b)) < 0;
}

static void sift_up(struct registry *registry, struct queue *queue)
{
    size_t at = queue->heap_at;
    while (at > 0 && is_before(queue, registry->heap[(at - 1) / 2])) {
        place_in_heap(registry, registry->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    place_in_heap(registry, queue, at);
}

static void sift_down(struct registry *registry, struct queue *queue)
{
    size_t at = queue->heap_at;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < registry->count &&
            is_before(registry->heap[child + 1], registry->heap[child]))
            child++;
        if (child >= registry->count || !is_before(registry->heap[child], queue))
            break;
        place_in_heap(registry, registry->heap[child], at);
        at = child;
    }
    place_in_heap(registry, queue, at);
}

void registry_due_at(struct registry *registry, struct queue *queue, uint64_t due_ms)
{
    if (due_ms >= queue->due_ms)
        return;
    queue->due_ms = due_ms;
    sift_up(registry, queue);
}

void registry_settle_due(struct registry *registry, struct queue *queue)
{
    static const enum list timed[] = {LIST_DELAYED, LIST_LEASED, LIST_EXPIRING, LIST_WINDOWS};
    const struct queue_state *now = &queue->now;
    uint64_t due_ms = now->fields.paused_until_ms;
    if (due_ms == 0)
        due_ms = UINT64_MAX;
    for (size_t i = 0; i < sizeof timed / sizeof timed[0]; i++)
        if (now->bounds[timed[i]].order < due_ms)
            due_ms = now->bounds[timed[i]].order;
    queue->due_ms = now->exists ? due_ms : UINT64_MAX;
    sift_up(registry, queue);
    sift_down(registry, queue);
}

static int grow_heap(struct registry *registry)
{
    if (registry->count < registry->capacity)
        return 0;
    size_t capacity = registry->capacity > 0 ? 2 * registry->capacity : FIRST_HEAP;
    struct queue **heap = realloc(registry->heap, capacity * sizeof(struct queue *));
    if (heap == NULL)
        return STORE_NO_MEMORY;
    registry->heap = heap;
    registry->capacity = capacity;
    return 0;
}

/* Adding and removing. */

int registry_init(struct registry *registry, uint64_t seed)
{
    *registry = (struct registry){.seed = seed, .buckets = FIRST_BUCKETS};
    registry->by_name = calloc(FIRST_BUCKETS, sizeof(struct queue *));
    registry->by_number = calloc(FIRST_BUCKETS, sizeof(struct queue *));
    if (registry->by_name != NULL && registry->by_number != NULL)
        return 0;
    registry_free(registry);
    return STORE_NO_MEMORY;
}

void registry_free(struct registry *registry)
{
    for (size_t i = 0; i < registry->count; i++)
        free(registry->heap[i]);
    free(registry->heap);
    free(registry->by_name);
    free(registry->by_number);
    free(registry->transaction.items);
    free(registry->turn.items);
    *registry = (struct registry){0};
}

static void unlink_awoken(struct registry *registry, struct queue *queue)
{
    struct queue **link = &registry->awoken;
    while (*link != NULL && *link != queue)
        link = &(*link)->next_awoken;
    if (*link != NULL)
        *link = queue->next_awoken;
}

static void remove_queue(struct registry *registry, struct queue *queue)
{
    struct queue **of_name = bucket_of_name(registry, queue->hash);
    struct queue **of_number = bucket_of_number(registry, queue->now.fields.number);
    while (*of_name != queue)
        of_name = &(*of_name)->next_of_name;
    *of_name = queue->next_of_name;
    while (*of_number != queue)
        of_number = &(*of_number)->next_of_number;
    *of_number = queue->next_of_number;
    if (queue->awoken)
        unlink_awoken(registry, queue);
    struct queue *last = registry->heap[--registry->count];
    if (last != queue) {
        place_in_heap(registry, last, queue->heap_at);
        sift_up(registry, last);
        sift_down(registry, last);
    }
    free(queue);
}

void registry_wake(struct registry *registry, struct queue *queue)
{
    if (queue->awoken)
        return;
    queue->awoken = true;
    queue->next_awoken = registry->awoken;
    registry->awoken = queue;
}

/* Saving and taking back. */

static int save(struct saved_states *saved, struct queue *queue)
{
    if (saved->count == saved->capacity) {
        uint32_t capacity = saved->capacity > 0 ? 2 * saved->capacity : FIRST_SAVED;
        struct saved_state *items = realloc(saved->items, capacity * sizeof *items);
        if (items == NULL)
            return STORE_NO_MEMORY;
        saved->items = items;
        saved->capacity = capacity;
    }
    saved->items[saved->count].queue = queue;
    saved->items[saved->count].state = queue->now;
    saved->count++;
    return 0;
}

/* Forgets what the turn has saved from `count` on, and the queues that came to nothing. */
static void truncate_turn(struct registry *registry, uint32_t count)
{
    while (registry->turn.count > count) {
        struct queue *queue = registry->turn.items[--registry->turn.count].queue;
        queue->saved_turn_at = 0;
        if (!queue->now.exists)
            remove_queue(registry, queue);
    }
}

void registry_begin_turn(struct registry *registry)
{
    truncate_turn(registry, 0);
    registry->turn_over = false;
}

int registry_touch(struct registry *registry, struct queue *queue)
{
    if (queue->saved_at != 0)
        return 0;
    if (registry->turn_over)
        registry_begin_turn(registry);
    if (registry->transaction.count == 0)
        registry->turn_mark = registry->turn.count;
    if (queue->saved_turn_at == 0) {
        if (save(&registry->turn, queue) != 0)
            return STORE_NO_MEMORY;
        queue->saved_turn_at = registry->turn.count;
    }
    if (save(&registry->transaction, queue) != 0)
        return STORE_NO_MEMORY;
    queue->saved_at = registry->transaction.count;
    return 0;
}

static struct queue *add_queue(struct registry *registry, struct slice name, uint64_t number)
{
    struct queue *queue = NULL;
    if (grow_heap(registry) == 0)
        queue = calloc(1, sizeof *queue + name.size);
    if (queue == NULL)
        return NULL;
    if (registry->count >= registry->buckets)
        grow_buckets(registry);
    queue->hash = hash_name(registry, name);
    queue->now.fields.number = number;
    queue->due_ms = UINT64_MAX;
    queue->heap_at = registry->count;
    queue->name_size = (uint8_t)name.size;
    memcpy(queue->name, name.data, name.size);
    registry->heap[registry->count++] = queue;
    link_queue(registry, queue);
    return queue;
}

struct queue *registry_load(struct registry *registry, struct slice name,
                            const struct queue_fields *fields)
{
    struct queue *queue = add_queue(registry, name, fields->number);
    if (queue == NULL)
        return NULL;
    queue->now.exists = true;
    queue->now.fields = *fields;
    registry_due_at(registry, queue, 0); /* nobody knows yet */
    return queue;
}

struct queue *registry_add(struct registry *registry, struct slice name, uint64_t number)
{
    struct queue *queue = add_queue(registry, name, number);
    if (queue == NULL || registry_touch(registry, queue) == 0)
        return queue;
    if (queue->saved_turn_at == 0) /* else it goes with the turn */
        remove_queue(registry, queue);
    return NULL;
}

/* Whether there are ready jobs and were none, or a pause kept them back. */
static bool has_woken(const struct queue_state *before, const struct queue_state *now)
{
    bool resumed = before->fields.paused_until_ms != 0 && now->fields.paused_until_ms == 0;
    return now->exists && now->counts.jobs[JOB_READY] > 0 &&
           (before->counts.jobs[JOB_READY] == 0 || resumed);
}

void registry_end(struct registry *registry)
{
    struct saved_states *saved = &registry->transaction;
    for (uint32_t i = 0; i < saved->count; i++) {
        const struct queue_state *before = &saved->items[i].state;
        struct queue *queue = saved->items[i].queue;
        queue->saved_at = 0;
        if (has_woken(before, &queue->now))
            registry_wake(registry, queue);
    }
    saved->count = 0;
}

static void restore(struct registry *registry, struct saved_state *saved)
{
    saved->queue->now = saved->state;
    registry_settle_due(registry, saved->queue);
}

void registry_cancel(struct registry *registry)
{
    struct saved_states *saved = &registry->transaction;
    if (saved->count == 0)
        return;
    for (uint32_t i = 0; i < saved->count; i++) {
        saved->items[i].queue->saved_at = 0;
        restore(registry, &saved->items[i]);
    }
    saved->count = 0;
    truncate_turn(registry, registry->turn_mark);
}

void registry_abandon(struct registry *registry)
{
    for (uint32_t i = 0; i < registry->transaction.count; i++)
        registry->transaction.items[i].queue->saved_at = 0;
    registry->transaction.count = 0;
    for (uint32_t i = 0; i < registry->turn.count; i++)
        restore(registry, &registry->turn.items[i]);
    registry_begin_turn(registry);
    for (; registry->awoken != NULL; registry->awoken = registry->awoken->next_awoken)
        registry->awoken->awoken = false;
}
