#include "queue/internal.h"
#include "store/engine.h"

int list_add(struct queues *queues, struct queue *queue, enum list list, struct place place,
             struct slice value)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    struct queue_state *now = &queue->now;
    int rc =
        store_put(queues->store, STORE_LISTS, record_list_key(key, now->fields.lists[list], place),
                  value, (struct slice){0}, STORE_QUIET);
    if (rc == 0 && place_is_before(place, now->bounds[list]))
        now->bounds[list] = place;
    return rc;
}

int list_remove(struct queues *queues, struct queue *queue, enum list list, struct place place)
{
    uint8_t key[RECORD_LIST_KEY_SIZE];
    return store_delete(queues->store, STORE_LISTS,
                        record_list_key(key, queue->now.fields.lists[list], place), STORE_QUIET);
}

int list_seek(struct queues *queues, uint64_t list, struct place *place, struct slice *value)
{
    uint8_t buffer[RECORD_LIST_KEY_SIZE];
    struct engine_cursor *cursor = store_cursor(queues->store, STORE_LISTS);
    struct slice key;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc =
        cursor->methods->cursor_seek(cursor, record_list_key(buffer, list, *place), &key, value);
    if (rc == 0 && !record_read_list_key(key, list, place))
        rc = STORE_NOT_FOUND;
    return rc;
}

int list_first(struct queues *queues, struct queue *queue, enum list list, struct place *place,
               struct slice *value)
{
    struct place *bound = &queue->now.bounds[list];
    *place = *bound;
    if (bound->order == UINT64_MAX && bound->id == UINT64_MAX)
        return STORE_NOT_FOUND;
    int rc = list_seek(queues, queue->now.fields.lists[list], place, value);
    if (rc == STORE_NOT_FOUND)
        *place = PLACE_NONE;
    if (rc == 0 || rc == STORE_NOT_FOUND)
        *bound = *place;
    return rc;
}

int list_next(struct queues *queues, struct queue *queue, enum list list, struct place after,
              struct place *place)
{
    struct slice value;
    struct place bound = queue->now.bounds[list];
    *place = after;
    if (++place->id == 0 && ++place->order == 0)
        return STORE_NOT_FOUND;
    if (place_is_before(*place, bound))
        *place = bound;
    return list_seek(queues, queue->now.fields.lists[list], place, &value);
}

int list_replace(struct queues *queues, struct queue *queue, enum list list)
{
    struct queue_state *now = &queue->now;
    uint64_t old = now->fields.lists[list];
    uint64_t fresh;
    int rc = ids_take(queues, &fresh);
    if (rc == 0)
        rc = record_put_leftover(queues->store, old, list, now->fields.number);
    if (rc != 0)
        return rc;
    now->fields.lists[list] = fresh;
    now->bounds[list] = PLACE_NONE;
    queues->leftovers = true;
    return 0;
}
