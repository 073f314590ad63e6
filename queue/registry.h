/*
 * The queues in memory: found by name or number, with what they count, and when each is due. What
 * changes in them is kept twice more, as of the begin of the transaction and of the turn, so that
 * both can be taken back. Used inside of queue/ alone.
 */
#ifndef QUEUE_REGISTRY_H
#define QUEUE_REGISTRY_H

#include "queue/record.h"

#define PLACE_NONE ((struct place){UINT64_MAX, UINT64_MAX}) /* behind the last of a list */

struct queue_state {
    bool exists;
    struct queue_fields fields;
    struct queue_counts counts;

    /*
     * Nothing in the list is before this place. So its head is found without a walk over what was
     * deleted before it, which takes time in engines that keep track of deletions, and that nothing
     * is due is known without a look at the list.
     */
    struct place bounds[LISTS];
};

struct queue {
    struct queue *next_of_name; /* in their buckets */
    struct queue *next_of_number;
    struct queue *next_awoken;
    bool awoken;
    uint32_t hash;          /* of the name */
    uint32_t saved_at;      /* in the transaction: 1 + its place there, 0: not touched yet */
    uint32_t saved_turn_at; /* likewise in the turn */
    uint64_t due_ms;        /* nothing of it is due before: where it is in the heap */
    size_t heap_at;
    struct queue_state now;
    uint8_t name_size;
    uint8_t name[];
};

/* What queues were like when something first touched them. */
struct saved_states {
    struct saved_state {
        struct queue *queue;
        struct queue_state state;
    } * items;
    uint32_t count;
    uint32_t capacity;
};

struct registry {
    uint64_t seed; /* of the hash: clients choose the names */
    struct queue **by_name;
    struct queue **by_number;
    size_t buckets; /* of each, a power of two */
    struct queue **heap;
    size_t count; /* queues in it: those that exist, or did when the turn began */
    size_t capacity;
    struct queue *awoken; /* since they were last asked for */

    struct saved_states transaction;
    struct saved_states turn;
    uint32_t turn_mark; /* how many of `turn` there were when the transaction first touched one */
    bool turn_over;     /* all of it is in its last transaction: what comes is another turn */
};

int registry_init(struct registry *registry, uint64_t seed);
void registry_free(struct registry *registry);

/* NULL where there is none that exists. */
struct queue *registry_find(const struct registry *registry, struct slice name);
struct queue *registry_find_number(const struct registry *registry, uint64_t number);

/* To be called before anything in queue->now is changed. STORE_NO_MEMORY. */
int registry_touch(struct registry *registry, struct queue *queue);

/* Adds one, touched, that does not exist until whoever calls says so. NULL: no memory. */
struct queue *registry_add(struct registry *registry, struct slice name, uint64_t number);

/* Adds one that a start has found, as registry_add but part of no transaction. */
struct queue *registry_load(struct registry *registry, struct slice name,
                            const struct queue_fields *fields);

/* What the turn before has saved is not needed any more. */
void registry_begin_turn(struct registry *registry);

/* The transaction ended; or is taken back, as is the turn. */
void registry_end(struct registry *registry);
void registry_cancel(struct registry *registry);
void registry_abandon(struct registry *registry);

/* Notes that the queue is to be announced. */
void registry_wake(struct registry *registry, struct queue *queue);

/* Something of the queue may be due at this time. */
void registry_due_at(struct registry *registry, struct queue *queue, uint64_t due_ms);

/* The queue is due when its bounds and its pause say so. */
void registry_settle_due(struct registry *registry, struct queue *queue);

/* The queue that is due first; NULL: there is none at all. */
static inline struct queue *registry_first_due(const struct registry *registry)
{
    return registry->count > 0 ? registry->heap[0] : NULL;
}

static inline struct slice queue_name(const struct queue *queue)
{
    return slice_of(queue->name, queue->name_size);
}

static inline bool place_is_before(struct place a, struct place b)
{
    return a.order < b.order || (a.order == b.order && a.id < b.id);
}

#endif
