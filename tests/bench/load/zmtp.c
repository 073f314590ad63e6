#include "zmtp.h"

enum {
    GREETING_SIZE = 64,
    VERSION_AT = 10,
    MECHANISM_AT = 12,
    FLAG_MORE = 1,
    FLAG_LONG = 2,
    FLAG_COMMAND = 4,
    SHORT_HEAD = 2,
    LONG_HEAD = 9,
    MAX_SHORT = 255,
    PING_TTL = 2,
};

static void append_command(struct buffer *out, const void *body, size_t size)
{
    const uint8_t head[SHORT_HEAD] = {FLAG_COMMAND, (uint8_t)size};
    buffer_append(out, head, sizeof(head));
    buffer_append(out, body, size);
}

void zmtp_greet(struct peer *peer, const char *type)
{
    static const uint8_t mechanism[] = {'N', 'U', 'L', 'L'};
    uint8_t greeting[GREETING_SIZE] = {[0] = 0xff, [9] = 0x7f, [VERSION_AT] = 3};
    struct buffer ready = {0};
    const uint8_t size[4] = {0, 0, 0, (uint8_t)strlen(type)};
    memcpy(greeting + MECHANISM_AT, mechanism, sizeof(mechanism));
    buffer_append(&peer->out, greeting, sizeof(greeting));
    buffer_append(&ready, "\5READY\13Socket-Type", strlen("\5READY\13Socket-Type"));
    buffer_append(&ready, size, sizeof(size));
    buffer_append(&ready, type, strlen(type));
    append_command(&peer->out, ready.data, ready.size);
    buffer_free(&ready);
}

void zmtp_head(struct buffer *out, size_t size)
{
    uint8_t head[LONG_HEAD] = {size > MAX_SHORT ? FLAG_LONG : 0, (uint8_t)size};
    if (size <= MAX_SHORT) {
        buffer_append(out, head, SHORT_HEAD);
        return;
    }
    for (unsigned i = 0; i < sizeof(uint64_t); i++)
        head[1 + i] = (uint8_t)((uint64_t)size >> (8 * (sizeof(uint64_t) - 1 - i)));
    buffer_append(out, head, sizeof(head));
}

/* False where the frame is not all there. */
static bool read_frame(struct slice bytes, struct zmtp_frame *frame)
{
    if (bytes.size < SHORT_HEAD)
        return false;
    uint8_t flags = bytes.data[0];
    size_t head = (flags & FLAG_LONG) != 0 ? LONG_HEAD : SHORT_HEAD;
    uint64_t size = 0;
    if (bytes.size < head)
        return false;
    for (size_t i = 1; i < head; i++)
        size = size << 8 | bytes.data[i];
    if (bytes.size - head < size)
        return false;
    *frame = (struct zmtp_frame){.more = (flags & FLAG_MORE) != 0,
                                 .command = (flags & FLAG_COMMAND) != 0,
                                 .body = slice_of(bytes.data + head, size),
                                 .size = head + size};
    return true;
}

/* READY ends the handshake; a PING is answered with its context. */
static void take_command(struct peer *peer, struct slice body)
{
    if (slice_has_prefix(body, slice_of_text("\5READY")))
        peer->ready = true;
    struct slice ping = slice_of_text("\4PING");
    if (!slice_has_prefix(body, ping) || body.size < ping.size + PING_TTL)
        return;
    struct buffer pong = {0};
    buffer_append(&pong, "\4PONG", ping.size);
    buffer_append(&pong, body.data + ping.size + PING_TTL, body.size - ping.size - PING_TTL);
    append_command(&peer->out, pong.data, pong.size);
    buffer_free(&pong);
}

enum found zmtp_find(struct peer *peer, struct slice bytes, struct zmtp_frame *frame, size_t *size)
{
    if (peer->greeted == 0) {
        if (bytes.size < GREETING_SIZE)
            return FOUND_PART;
        peer->greeted = 1;
        *size = GREETING_SIZE;
        return FOUND_OTHER;
    }
    if (!read_frame(bytes, frame))
        return FOUND_PART;
    *size = frame->size;
    if (!frame->command)
        return FOUND_REPLY;
    take_command(peer, frame->body);
    return FOUND_OTHER;
}
