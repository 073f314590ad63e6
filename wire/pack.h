/*
 * Encoding: MessagePack by msgpack-c into a struct buffer, and the messages of the protocol on
 * top of it. Nothing returns an error: an allocation that fails is remembered in the buffer, and
 * the caller looks at `failed` once, when the message is complete. Integers and lengths take
 * their shortest form.
 */
#ifndef WIRE_PACK_H
#define WIRE_PACK_H

#include "wire/cursor.h"
#include "wire/error.h"

void wire_pack_nil(struct buffer *out);
void wire_pack_bool(struct buffer *out, bool value);
void wire_pack_uint(struct buffer *out, uint64_t value);
void wire_pack_integer(struct buffer *out, wire_integer value); /* in the range of MessagePack */
void wire_pack_float(struct buffer *out, double value);
void wire_pack_text(struct buffer *out, const char *text); /* a str */
void wire_pack_str(struct buffer *out, struct slice bytes);
void wire_pack_bin(struct buffer *out, struct slice bytes);
void wire_pack_key(struct buffer *out, struct slice key); /* str where valid UTF-8, else bin */
void wire_pack_array(struct buffer *out, uint32_t count); /* header only; the elements follow */
void wire_pack_map(struct buffer *out, uint32_t count);
void wire_pack_object(struct buffer *out, struct slice object); /* as it is, one whole object */
void wire_pack_expires_at(struct buffer *out, uint64_t expires_at_ms); /* nil for 0, never */

/*
 * A header of an array whose count is known only later: wire_pack_array_later reserves five
 * bytes and returns their place in the buffer, wire_set_array_count fills them.
 */
size_t wire_pack_array_later(struct buffer *out);
void wire_set_array_count(struct buffer *out, size_t place, uint32_t count);

/* [1, msgid, nil, …: exactly one object, the result, has to follow. */
void wire_pack_reply(struct buffer *out, uint64_t msgid);

/* [1, msgid or nil, [code, message, detail], nil], by `answer`; nothing for WIRE_ANSWER_NONE. */
struct wire_request;
void wire_pack_error_reply(struct buffer *out, const struct wire_request *request,
                           const struct wire_error *error);

/* [code, message, detail]: an error by itself. */
void wire_pack_error(struct buffer *out, const struct wire_error *error);

/* [0, msgid, method, …: exactly one array, the params, has to follow. For clients. */
void wire_pack_request(struct buffer *out, uint64_t msgid, const char *method);

/* [2, method, …: exactly one array, the params, has to follow. */
void wire_pack_notification(struct buffer *out, const char *method);

/* One change as of the protocol: [seq, index, count, kind, key, value, expires_at]. */
struct wire_change {
    uint64_t seq;
    uint32_t index;
    uint32_t count;
    const char *kind; /* "put", "delete", "expire", "evict" */
    struct slice key;
    struct slice value; /* one whole object; size 0 packs nil */
    uint64_t expires_at_ms;
};
void wire_pack_change(struct buffer *out, const struct wire_change *change);

#endif
