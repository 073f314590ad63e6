#include "wire/pack.h"
#include "wire/reply.h"
#include "zmtp.h"

enum {
    MSGID = 1, /* of all: replies come in the order of requests */
    REPLY_HEAD = 4,
    NIL = 0xc0,
};

static void greet(struct peer *peer)
{
    zmtp_greet(peer, "DEALER");
}

static void pack_key(struct prepared *message)
{
    struct buffer *out = &message->bytes;
    wire_pack_str(out, slice_of_text("key:000000000000"));
    out->size -= KEY_DIGITS;
    prepared_note(&message->keys, out);
    out->size += KEY_DIGITS;
}

/* The value's str, whose text begins with the stamp. */
static void pack_value(struct prepared *message, struct slice value)
{
    struct buffer *out = &message->bytes;
    wire_pack_str(out, value);
    out->size -= value.size;
    prepared_note(&message->stamps, out);
    out->size += value.size;
}

static void pack_put(struct prepared *message, struct slice value)
{
    wire_pack_array(&message->bytes, 2);
    pack_key(message);
    pack_value(message, value);
}

static void pack_batch(struct prepared *message, const struct material *material)
{
    struct buffer *out = &message->bytes;
    wire_pack_array(out, 1);
    wire_pack_array(out, (uint32_t)material->batch_size);
    for (uint64_t i = 0; i < material->batch_size; i++) {
        wire_pack_array(out, 2);
        wire_pack_text(out, "put");
        pack_put(message, material->value);
    }
}

static void pack_scan(struct prepared *message)
{
    struct buffer *out = &message->bytes;
    wire_pack_array(out, 1);
    wire_pack_map(out, 2);
    wire_pack_text(out, "start");
    pack_key(message);
    wire_pack_text(out, "limit");
    wire_pack_uint(out, SCAN_ENTRIES);
}

static void pack_params(enum action action, const struct material *material,
                        struct prepared *message)
{
    struct buffer *out = &message->bytes;
    if (action == ACTION_GET) {
        wire_pack_array(out, 1);
        pack_key(message);
    } else if (action == ACTION_PUT || action == ACTION_INSERT) {
        pack_put(message, material->value);
    } else if (action == ACTION_BATCH) {
        pack_batch(message, material);
    } else if (action == ACTION_SCAN) {
        pack_scan(message);
    } else {
        wire_pack_array(out, action == ACTION_PUSH ? 2 : 1);
        wire_pack_text(out, material->queue);
        if (action == ACTION_PUSH)
            pack_value(message, material->value);
    }
}

/* The head in front of what was packed: places move with it. */
static void frame(struct prepared *message)
{
    struct buffer framed = {0};
    zmtp_head(&framed, message->bytes.size);
    size_t head = framed.size;
    buffer_append(&framed, message->bytes.data, message->bytes.size);
    buffer_free(&message->bytes);
    message->bytes = framed;
    for (size_t i = 0; i < message->keys.size / sizeof(size_t); i++)
        ((size_t *)(void *)message->keys.data)[i] += head;
    for (size_t i = 0; i < message->stamps.size / sizeof(size_t); i++)
        ((size_t *)(void *)message->stamps.data)[i] += head;
}

static bool prepare(enum action action, const struct material *material, struct prepared *message)
{
    static const char *const methods[ACTIONS] = {
        [ACTION_GET] = "get",       [ACTION_PUT] = "put",
        [ACTION_INSERT] = "put",    [ACTION_BATCH] = "batch",
        [ACTION_SCAN] = "scan",     [ACTION_PUSH] = "queue.push",
        [ACTION_POP] = "queue.pop", [ACTION_RESERVE] = "queue.reserve",
    };
    wire_pack_request(&message->bytes, MSGID, methods[action]);
    pack_params(action, material, message);
    frame(message);
    return true;
}

static void ack(const struct material *material, const struct job *job, struct buffer *out)
{
    struct buffer *request = &(struct buffer){0};
    (void)material;
    wire_pack_request(request, MSGID, "queue.ack");
    wire_pack_array(request, 2);
    wire_pack_uint(request, job->id);
    wire_pack_uint(request, job->lease);
    zmtp_head(out, request->size);
    buffer_append(out, request->data, request->size);
    buffer_free(request);
}

/* [[id, queue, body, lease, …]] of a reserve, [[id, queue, body]] of a pop; [] where there is none.
 */
static int read_job(struct slice result, enum action action, struct job *job)
{
    struct wire_cursor cursor = wire_cursor_of(result);
    struct slice skipped;
    uint32_t count;
    job->taken = false;
    if (wire_read_array(&cursor, &count) != 0)
        return -1;
    if (count == 0)
        return 0;
    job->taken = true;
    if (wire_read_array(&cursor, &count) != 0 || wire_read_uint(&cursor, &job->id) != 0 ||
        wire_read_bytes(&cursor, &skipped) != 0 ||
        wire_read_object(&cursor, WIRE_MAX_DEPTH, &skipped, NULL) != 0)
        return -1;
    return action == ACTION_POP ? 0 : wire_read_uint(&cursor, &job->lease);
}

/* [1, msgid, nil, …: a fixed head, since we chose the msgid. */
static bool is_good(struct slice reply)
{
    static const uint8_t head[REPLY_HEAD] = {0x94, 1, MSGID, NIL};
    return reply.size > REPLY_HEAD && memcmp(reply.data, head, sizeof(head)) == 0;
}

static enum found find(struct peer *peer, struct slice bytes, enum action action, size_t *size,
                       struct job *job)
{
    struct zmtp_frame message;
    enum found found = zmtp_find(peer, bytes, &message, size);
    if (found != FOUND_REPLY)
        return found;
    if (!is_good(message.body))
        return FOUND_ERROR;
    if (action != ACTION_RESERVE && action != ACTION_POP)
        return FOUND_REPLY;
    struct slice result = {message.body.data + REPLY_HEAD, message.body.size - REPLY_HEAD};
    return read_job(result, action, job) == 0 ? FOUND_REPLY : FOUND_NONSENSE;
}

const struct protocol protocol_cubby = {
    .name = "cubby", .greet = greet, .prepare = prepare, .ack = ack, .find = find};
