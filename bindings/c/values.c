#include "bindings/c/params.h"

/* The public buffer is the inner one under another name; it is lent for one append. */
static struct buffer borrow(const struct cubby_buffer *buffer)
{
    return (struct buffer){.data = buffer->data,
                           .size = buffer->size,
                           .capacity = buffer->capacity,
                           .failed = buffer->failed};
}

static void give_back(struct cubby_buffer *buffer, const struct buffer *inner)
{
    buffer->data = inner->data;
    buffer->size = inner->size;
    buffer->capacity = inner->capacity;
    buffer->failed = inner->failed;
}

void cubby_pack_nil(struct cubby_buffer *buffer)
{
    struct buffer inner = borrow(buffer);
    wire_pack_nil(&inner);
    give_back(buffer, &inner);
}

void cubby_pack_bool(struct cubby_buffer *buffer, bool value)
{
    struct buffer inner = borrow(buffer);
    wire_pack_bool(&inner, value);
    give_back(buffer, &inner);
}

void cubby_pack_int(struct cubby_buffer *buffer, int64_t value)
{
    struct buffer inner = borrow(buffer);
    wire_pack_integer(&inner, value);
    give_back(buffer, &inner);
}

void cubby_pack_uint(struct cubby_buffer *buffer, uint64_t value)
{
    struct buffer inner = borrow(buffer);
    wire_pack_uint(&inner, value);
    give_back(buffer, &inner);
}

void cubby_pack_float(struct cubby_buffer *buffer, double value)
{
    struct buffer inner = borrow(buffer);
    wire_pack_float(&inner, value);
    give_back(buffer, &inner);
}

void cubby_pack_str(struct cubby_buffer *buffer, struct cubby_bytes bytes)
{
    struct buffer inner = borrow(buffer);
    wire_pack_str(&inner, slice_of_bytes(bytes));
    give_back(buffer, &inner);
}

void cubby_pack_bin(struct cubby_buffer *buffer, struct cubby_bytes bytes)
{
    struct buffer inner = borrow(buffer);
    wire_pack_bin(&inner, slice_of_bytes(bytes));
    give_back(buffer, &inner);
}

void cubby_pack_array(struct cubby_buffer *buffer, uint32_t count)
{
    struct buffer inner = borrow(buffer);
    wire_pack_array(&inner, count);
    give_back(buffer, &inner);
}

void cubby_pack_map(struct cubby_buffer *buffer, uint32_t count)
{
    struct buffer inner = borrow(buffer);
    wire_pack_map(&inner, count);
    give_back(buffer, &inner);
}

void cubby_pack_encoded(struct cubby_buffer *buffer, struct cubby_bytes object)
{
    struct buffer inner = borrow(buffer);
    wire_pack_object(&inner, slice_of_bytes(object));
    give_back(buffer, &inner);
}

struct cubby_bytes cubby_buffer_bytes(const struct cubby_buffer *buffer)
{
    return buffer->failed ? cubby_data(NULL, 0) : cubby_data(buffer->data, buffer->size);
}

void cubby_buffer_clear(struct cubby_buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

void cubby_buffer_free(struct cubby_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct cubby_buffer){0};
}

bool cubby_as_nil(struct cubby_bytes value)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    return wire_read_nil(&cursor) == 0 && wire_at_end(&cursor);
}

bool cubby_as_bool(struct cubby_bytes value, bool *out)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    return wire_read_bool(&cursor, out) == 0 && wire_at_end(&cursor);
}

bool cubby_as_int(struct cubby_bytes value, int64_t *out)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    wire_integer number;
    if (wire_read_integer(&cursor, &number) != 0 || !wire_at_end(&cursor) || number > INT64_MAX)
        return false;
    *out = (int64_t)number;
    return true;
}

bool cubby_as_uint(struct cubby_bytes value, uint64_t *out)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    return wire_read_uint(&cursor, out) == 0 && wire_at_end(&cursor);
}

bool cubby_as_float(struct cubby_bytes value, double *out)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    return wire_read_float(&cursor, out) == 0 && wire_at_end(&cursor);
}

bool cubby_as_bytes(struct cubby_bytes value, struct cubby_bytes *out)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(value));
    struct slice bytes;
    if (wire_read_bytes(&cursor, &bytes) != 0 || !wire_at_end(&cursor))
        return false;
    *out = bytes_of_slice(bytes);
    return true;
}

bool cubby_map_find(struct cubby_bytes map, const char *name, struct cubby_bytes *value)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(map));
    uint32_t count;
    if (wire_read_map(&cursor, &count) != 0)
        return false;
    for (; count > 0; count--) {
        struct slice key, object, text;
        if (wire_read_object(&cursor, PARAMS_DEPTH, &key, NULL) != 0 ||
            wire_read_object(&cursor, PARAMS_DEPTH, &object, NULL) != 0)
            return false;
        struct wire_cursor inner = wire_cursor_of(key);
        if (wire_read_str(&inner, &text) == 0 && slice_equal(text, slice_of_text(name))) {
            *value = bytes_of_slice(object);
            return true;
        }
    }
    return false;
}
