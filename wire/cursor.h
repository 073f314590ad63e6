/*
 * A validating MessagePack reader. A cursor moves through a message in one pass, allocates
 * nothing and hands out views into it. Whatever a header announces is checked against the bytes
 * that are left, and nesting against a limit, so that no input costs more than its own length.
 *
 * Every read function returns 0 and moves behind what it read, or returns -1 and leaves the
 * cursor where it was: wrong type, truncated, or malformed. Integers are accepted in every
 * MessagePack integer encoding and never from floats or booleans.
 */
#ifndef WIRE_CURSOR_H
#define WIRE_CURSOR_H

#include "wire/bytes.h"

/* Wide enough for all MessagePack integers, -2^63 to 2^64-1, and sums of two of them. */
__extension__ typedef __int128 wire_integer;

#define WIRE_INTEGER_MIN ((wire_integer)INT64_MIN)
#define WIRE_INTEGER_MAX ((wire_integer)UINT64_MAX)

enum wire_type {
    WIRE_NOTHING, /* the end, or the byte 0xc1 that MessagePack never uses */
    WIRE_NIL,
    WIRE_BOOL,
    WIRE_INTEGER,
    WIRE_FLOAT,
    WIRE_STR,
    WIRE_BIN,
    WIRE_ARRAY,
    WIRE_MAP,
    WIRE_EXT,
};

struct wire_cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline struct wire_cursor wire_cursor_of(struct slice bytes)
{
    const uint8_t *end = bytes.size > 0 ? bytes.data + bytes.size : bytes.data;
    return (struct wire_cursor){.at = bytes.data, .end = end};
}

static inline bool wire_at_end(const struct wire_cursor *cursor)
{
    return cursor->at == cursor->end;
}

/* The type of the next object by its first byte; the rest of it may still prove malformed. */
enum wire_type wire_peek(const struct wire_cursor *cursor);

int wire_read_nil(struct wire_cursor *cursor);
int wire_read_bool(struct wire_cursor *cursor, bool *value);
int wire_read_integer(struct wire_cursor *cursor, wire_integer *value);
int wire_read_uint(struct wire_cursor *cursor, uint64_t *value); /* -1 for negative numbers too */
int wire_read_float(struct wire_cursor *cursor, double *value);  /* float 32 and float 64 */
int wire_read_str(struct wire_cursor *cursor, struct slice *bytes);
int wire_read_bin(struct wire_cursor *cursor, struct slice *bytes);
int wire_read_bytes(struct wire_cursor *cursor, struct slice *bytes); /* str or bin */
int wire_read_ext(struct wire_cursor *cursor, int *type, struct slice *bytes);

/*
 * Reads a header only; the elements follow. `count` elements, or pairs for a map, are announced
 * and at least that many bytes (twice as many for pairs) are left.
 */
int wire_read_array(struct wire_cursor *cursor, uint32_t *count);
int wire_read_map(struct wire_cursor *cursor, uint32_t *count);

/*
 * Reads an array header without checking the count against what is left: for the envelope, of
 * which as much as possible is read even where its end is missing.
 */
int wire_read_envelope(struct wire_cursor *cursor, uint32_t *count);

/*
 * Reads one whole well-formed object of any type and hands out its bytes. Arrays and maps may
 * be nested `max_depth` deep: with 1, [] is read and [[]] is not. `deep`, where not NULL, is set
 * to whether the depth was what failed.
 */
int wire_read_object(struct wire_cursor *cursor, unsigned max_depth, struct slice *object,
                     bool *deep);

/* Whether the bytes are well-formed UTF-8 by RFC 3629: no overlong forms, no surrogates. */
bool wire_is_utf8(struct slice bytes);

#endif
