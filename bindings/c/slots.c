#include "bindings/c/slots.h"

#include <stdlib.h>

enum { FIRST_SIZE = 64 };

static struct slot *place_of(const struct slots *slots, uint64_t msgid)
{
    return &slots->table[msgid & (slots->size - 1)];
}

/* No two msgids share a place in the larger table: they did not in the smaller one. */
static int grow(struct slots *slots)
{
    struct slots grown = *slots;
    grown.size = slots->size > 0 ? slots->size * 2 : FIRST_SIZE;
    grown.table = calloc(grown.size, sizeof(*grown.table));
    if (grown.table == NULL)
        return -1;
    for (size_t i = 0; i < slots->size; i++) {
        if (slots->table[i].msgid != 0)
            *place_of(&grown, slots->table[i].msgid) = slots->table[i];
    }
    free(slots->table);
    *slots = grown;
    return 0;
}

uint64_t slots_next(struct slots *slots)
{
    if (slots->used * 2 >= slots->size && grow(slots) != 0)
        return 0;
    do
        slots->last_msgid++;
    while (slots->last_msgid == 0 || place_of(slots, slots->last_msgid)->msgid != 0);
    return slots->last_msgid;
}

struct slot *slots_take(struct slots *slots, uint64_t msgid)
{
    struct slot *slot = place_of(slots, msgid);
    slot->msgid = msgid;
    slots->used++;
    return slot;
}

struct slot *slots_find(const struct slots *slots, uint64_t msgid)
{
    if (slots->size == 0 || msgid == 0)
        return NULL;
    struct slot *slot = place_of(slots, msgid);
    return slot->msgid == msgid ? slot : NULL;
}

void slots_release(struct slots *slots, struct slot *slot)
{
    *slot = (struct slot){0};
    slots->used--;
}

void slots_free(struct slots *slots)
{
    free(slots->table);
    *slots = (struct slots){0};
}
