#include "daemon/outbox.h"

enum { FIRST_PLACES = 64 };

void outbox_free(struct outbox *outbox)
{
    buffer_free(&outbox->bytes);
    free(outbox->places);
    *outbox = (struct outbox){0};
}

struct buffer *outbox_begin(struct outbox *outbox, const struct peer *peer)
{
    outbox->next = (struct outbox_place){
        .start = outbox->bytes.size, .peer_size = peer->id.size, .empty_frame = peer->empty_frame};
    buffer_append_slice(&outbox->bytes, peer->id);
    return &outbox->bytes;
}

static bool grow(struct outbox *outbox)
{
    if (outbox->count < outbox->capacity)
        return true;
    size_t capacity = outbox->capacity > 0 ? 2 * outbox->capacity : FIRST_PLACES;
    struct outbox_place *places = realloc(outbox->places, capacity * sizeof *places);
    if (places == NULL)
        return false;
    outbox->places = places;
    outbox->capacity = capacity;
    return true;
}

void outbox_take_back(struct outbox *outbox)
{
    outbox->bytes.size = outbox->next.start;
    outbox->bytes.failed = false;
}

bool outbox_end(struct outbox *outbox, uint64_t tag)
{
    struct outbox_place *next = &outbox->next;
    if (outbox->bytes.failed || !grow(outbox)) {
        outbox_take_back(outbox);
        return false;
    }
    next->payload_size = outbox->bytes.size - next->start - next->peer_size;
    next->tag = tag;
    outbox->places[outbox->count++] = *next;
    return true;
}

size_t outbox_size(const struct outbox *outbox)
{
    return outbox->bytes.size;
}

struct outbox_message outbox_message(const struct outbox *outbox, size_t index)
{
    const struct outbox_place *place = &outbox->places[index];
    const uint8_t *bytes = outbox->bytes.data + place->start;
    return (struct outbox_message){
        .peer = {.id = slice_of(bytes, place->peer_size), .empty_frame = place->empty_frame},
        .payload = slice_of(bytes + place->peer_size, place->payload_size),
        .tag = place->tag,
    };
}

void outbox_truncate(struct outbox *outbox, size_t count)
{
    if (count < outbox->count) {
        outbox->bytes.size = outbox->places[count].start;
        outbox->count = count;
    }
    if (count == 0)
        buffer_restart(&outbox->bytes);
}
