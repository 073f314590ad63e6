#include "wire/pack.h"

#include <msgpack.h>

#include "wire/envelope.h"
#include "wire/request.h"

/* Headers of arrays: of up to 15 elements, 90 | count; with a count of four bytes: dd, count. */
enum { FIX_ARRAY = 0x90, ARRAY_32 = 0xdd, ARRAY_32_SIZE = 5 };

static int append(void *buffer, const char *data, size_t size)
{
    buffer_append(buffer, data, size);
    return 0;
}

static struct msgpack_packer packer_of(struct buffer *out)
{
    struct msgpack_packer packer;
    msgpack_packer_init(&packer, out, append);
    return packer;
}

void wire_pack_nil(struct buffer *out)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_nil(&packer);
}

void wire_pack_bool(struct buffer *out, bool value)
{
    struct msgpack_packer packer = packer_of(out);
    if (value)
        msgpack_pack_true(&packer);
    else
        msgpack_pack_false(&packer);
}

void wire_pack_uint(struct buffer *out, uint64_t value)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_uint64(&packer, value);
}

void wire_pack_integer(struct buffer *out, wire_integer value)
{
    struct msgpack_packer packer = packer_of(out);
    if (value < 0)
        msgpack_pack_int64(&packer, (int64_t)value);
    else
        msgpack_pack_uint64(&packer, (uint64_t)value);
}

void wire_pack_float(struct buffer *out, double value)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_double(&packer, value);
}

void wire_pack_text(struct buffer *out, const char *text)
{
    wire_pack_str(out, slice_of_text(text));
}

void wire_pack_str(struct buffer *out, struct slice bytes)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_str_with_body(&packer, bytes.data, bytes.size);
}

void wire_pack_bin(struct buffer *out, struct slice bytes)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_bin_with_body(&packer, bytes.data, bytes.size);
}

void wire_pack_key(struct buffer *out, struct slice key)
{
    if (wire_is_utf8(key))
        wire_pack_str(out, key);
    else
        wire_pack_bin(out, key);
}

void wire_pack_array(struct buffer *out, uint32_t count)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_array(&packer, count);
}

void wire_pack_map(struct buffer *out, uint32_t count)
{
    struct msgpack_packer packer = packer_of(out);
    msgpack_pack_map(&packer, count);
}

void wire_pack_object(struct buffer *out, struct slice object)
{
    buffer_append_slice(out, object);
}

void wire_pack_expires_at(struct buffer *out, uint64_t expires_at_ms)
{
    if (expires_at_ms == 0)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, expires_at_ms);
}

size_t wire_pack_array_later(struct buffer *out)
{
    size_t place = out->size;
    buffer_append(out, (const uint8_t[ARRAY_32_SIZE]){ARRAY_32}, ARRAY_32_SIZE);
    return place;
}

void wire_set_array_count(struct buffer *out, size_t place, uint32_t count)
{
    if (out->failed)
        return;
    for (size_t i = ARRAY_32_SIZE - 1; i > 0; i--, count >>= 8)
        out->data[place + i] = (uint8_t)count;
}

/* What all messages of one kind begin with, up to the msgid: two numbers of one byte each. */
static void pack_envelope(struct buffer *out, unsigned count, unsigned type)
{
    const uint8_t head[] = {(uint8_t)(FIX_ARRAY | count), (uint8_t)type};
    buffer_append(out, head, sizeof head);
}

void wire_pack_reply(struct buffer *out, uint64_t msgid)
{
    pack_envelope(out, WIRE_REPLY_COUNT, WIRE_REPLY);
    wire_pack_uint(out, msgid);
    wire_pack_nil(out);
}

static void pack_number(struct buffer *out, const char *name, uint64_t value)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

static void pack_detail(struct buffer *out, const struct wire_error *error)
{
    wire_pack_map(out, (uint32_t)__builtin_popcount(error->has));
    if ((error->has & WIRE_DETAIL_LIMIT) != 0)
        pack_number(out, "limit", error->limit);
    if ((error->has & WIRE_DETAIL_KEY) != 0) {
        wire_pack_text(out, "key");
        wire_pack_key(out, error->key);
    }
    if ((error->has & WIRE_DETAIL_VERSION) != 0)
        pack_number(out, "version", error->version);
    if ((error->has & WIRE_DETAIL_OLDEST) != 0)
        pack_number(out, "oldest", error->oldest);
    if ((error->has & WIRE_DETAIL_SEQ) != 0)
        pack_number(out, "seq", error->seq);
    if ((error->has & WIRE_DETAIL_INDEX) != 0)
        pack_number(out, "index", error->index);
    if ((error->has & WIRE_DETAIL_IF) != 0)
        pack_number(out, "if", error->guard);
}

void wire_pack_error(struct buffer *out, const struct wire_error *error)
{
    wire_pack_array(out, WIRE_ERROR_COUNT);
    wire_pack_text(out, wire_code_name(error->code));
    wire_pack_text(out, error->message);
    pack_detail(out, error);
}

void wire_pack_error_reply(struct buffer *out, const struct wire_request *request,
                           const struct wire_error *error)
{
    if (request->answer == WIRE_ANSWER_NONE)
        return;
    pack_envelope(out, WIRE_REPLY_COUNT, WIRE_REPLY);
    if (request->answer == WIRE_ANSWER_MSGID)
        wire_pack_uint(out, request->msgid);
    else
        wire_pack_nil(out);
    wire_pack_error(out, error);
    wire_pack_nil(out);
}

void wire_pack_request(struct buffer *out, uint64_t msgid, const char *method)
{
    pack_envelope(out, WIRE_REQUEST_COUNT, WIRE_REQUEST);
    wire_pack_uint(out, msgid);
    wire_pack_text(out, method);
}

void wire_pack_notification(struct buffer *out, const char *method)
{
    pack_envelope(out, WIRE_NOTIFICATION_COUNT, WIRE_NOTIFICATION);
    wire_pack_text(out, method);
}

void wire_pack_change(struct buffer *out, const struct wire_change *change)
{
    wire_pack_array(out, WIRE_CHANGE_COUNT);
    wire_pack_uint(out, change->seq);
    wire_pack_uint(out, change->index);
    wire_pack_uint(out, change->count);
    wire_pack_text(out, change->kind);
    wire_pack_key(out, change->key);
    if (change->value.size == 0)
        wire_pack_nil(out);
    else
        wire_pack_object(out, change->value);
    wire_pack_expires_at(out, change->expires_at_ms);
}
