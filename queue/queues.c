#include <stdio.h>
#include <sys/random.h>

#include "queue/internal.h"
#include "store/engine.h"

static int load_queue(struct queues *queues, struct slice name, struct slice value)
{
    struct queue_fields fields;
    int rc = record_read_queue(value, &fields);
    if (rc != 0)
        return rc;
    struct queue *queue = registry_load(&queues->registry, name, &fields);
    if (queue == NULL)
        return STORE_NO_MEMORY;
    rc = record_get_counts(queues->store, fields.number, &queue->now.counts);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int load_queues(struct queues *queues)
{
    struct engine_cursor *cursor = store_cursor(queues->store, STORE_QUEUES);
    struct slice key;
    struct slice value;
    struct slice name;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = cursor->methods->cursor_seek(cursor, slice_of("n", 1), &key, &value);
    while (rc == 0 && record_read_name_key(key, &name)) {
        rc = load_queue(queues, name, value);
        if (rc == 0)
            rc = cursor->methods->cursor_next(cursor, &key, &value);
    }
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int queues_open(struct queues **result, struct store *store, uint64_t now_ms,
                struct store_error *error)
{
    uint64_t seed;
    struct queues *queues = calloc(1, sizeof *queues);
    if (queues == NULL)
        return store_fail(error, STORE_NO_MEMORY, "out of memory");
    queues->store = store;
    queues->leftovers = true; /* nobody has looked yet */
    int rc = getrandom(&seed, sizeof seed, 0) == sizeof seed ? 0 : STORE_IO;
    if (rc == 0)
        rc = registry_init(&queues->registry, seed);
    if (rc == 0)
        rc = load_queues(queues);
    if (rc == 0)
        rc = ids_open(queues, now_ms);
    if (rc == 0) {
        *result = queues;
        return 0;
    }
    queues_close(&queues);
    const char *failure = store_failure(store);
    return store_fail(error, (enum store_code)rc, "cannot open the queues: %s",
                      rc == STORE_CORRUPT     ? "what is stored makes no sense: it was written by "
                                                "another version or is damaged"
                      : rc == STORE_FULL      ? "the disk of the data directory is full"
                      : rc == STORE_NO_MEMORY ? "out of memory"
                      : failure != NULL       ? failure
                                              : "the system refuses");
}

void queues_close(struct queues **pointer)
{
    struct queues *queues = *pointer;
    if (queues == NULL)
        return;
    *pointer = NULL;
    registry_free(&queues->registry);
    buffer_free(&queues->body);
    free(queues);
}

void queues_end(struct queues *queues)
{
    registry_end(&queues->registry);
}

void queues_cancel(struct queues *queues)
{
    registry_cancel(&queues->registry);
}

void queues_abandon(struct queues *queues)
{
    struct registry *registry = &queues->registry;
    if (registry->turn_over && store_position(queues->store) != queues->saved_at)
        registry_begin_turn(registry); /* that one was committed: this turn has touched nothing */
    registry_abandon(registry);
    queues->ids_written = 0;
    queues->leftovers = true;
    queues->leftover_at = (struct place){0, 0};
}

/* Counts that are not what they were when the turn began. */
static int save_counts(struct queues *queues)
{
    const struct saved_states *turn = &queues->registry.turn;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < turn->count; i++) {
        const struct queue_state *now = &turn->items[i].queue->now;
        const struct queue_state *before = &turn->items[i].state;
        if (now->exists && memcmp(&now->counts, &before->counts, sizeof now->counts) != 0)
            rc = record_put_counts(queues->store, now->fields.number, &now->counts);
    }
    return rc;
}

static int save_turn(struct queues *queues, uint64_t now_ms)
{
    int rc = ids_settle(queues);
    if (rc != 0)
        return rc;
    store_begin(queues->store, now_ms);
    rc = save_counts(queues);
    if (rc == 0)
        rc = ids_reserve(queues);
    if (rc == 0)
        rc = store_end(queues->store, NULL);
    else
        store_cancel(queues->store);
    if (rc != 0)
        return rc;
    queues->registry.turn_over = true;
    queues->saved_at = store_position(queues->store);
    return 0;
}

int queues_save(struct queues *queues, uint64_t now_ms)
{
    struct registry *registry = &queues->registry;
    bool touched = registry->turn.count > 0;
    if (registry->turn_over || (!touched && !ids_run_short(queues)))
        return 0;
    int rc = save_turn(queues, now_ms);
    if (touched || (rc != STORE_FULL && rc != STORE_NO_MEMORY))
        return rc;
    queues->ids_written = 0; /* the next turn tries again: nobody in this one has to do with it */
    return 0;
}

void queues_awoken(struct queues *queues, void (*each)(void *context, struct slice queue),
                   void *context)
{
    struct registry *registry = &queues->registry;
    while (registry->awoken != NULL) {
        struct queue *queue = registry->awoken;
        registry->awoken = queue->next_awoken;
        queue->awoken = false;
        if (queue->now.exists)
            each(context, queue_name(queue));
    }
}
