/*
 * Bytes: a view of somebody's bytes (struct slice) and a growing buffer of one's own (struct
 * buffer). Header only, no dependencies; every folder may include it.
 *
 * A buffer never aborts on an allocation that fails: it remembers the failure in `failed`, drops
 * what is appended from then on, and the caller looks once, at the end.
 */
#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A view: who owns the bytes and how long they live is said where the slice is handed out. */
struct slice {
    const uint8_t *data;
    size_t size;
};

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

/* A view of the string without its terminating zero. */
static inline struct slice slice_of_text(const char *text)
{
    return slice_of(text, strlen(text));
}

/* memcmp order, shorter first: the order of keys everywhere. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_has_prefix(struct slice bytes, struct slice prefix)
{
    return bytes.size >= prefix.size &&
           (prefix.size == 0 || memcmp(bytes.data, prefix.data, prefix.size) == 0);
}

/* A buffer starts as all zeros and is ended with buffer_free. Appending may move `data`. */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed; /* an allocation failed; what was appended since is lost */
};

enum { BUFFER_FIRST_CAPACITY = 4096 };

/* Makes room for `more` bytes behind `size`. False, and `failed` set, where memory is out. */
static inline bool buffer_reserve(struct buffer *buffer, size_t more)
{
    if (buffer->failed)
        return false;
    if (buffer->capacity - buffer->size >= more)
        return true;
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : BUFFER_FIRST_CAPACITY;
    while (capacity - buffer->size < more)
        capacity *= 2;
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

static inline void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0 || !buffer_reserve(buffer, size))
        return;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static inline void buffer_append_slice(struct buffer *buffer, struct slice bytes)
{
    buffer_append(buffer, bytes.data, bytes.size);
}

/* Empties the buffer, keeping its memory, and forgets a failure. */
static inline void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

static inline struct slice buffer_slice(const struct buffer *buffer, size_t from)
{
    return slice_of(buffer->data + from, buffer->size - from);
}

static inline void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

/* A buffer that is used again and again keeps so much after a large use, and no more. */
enum { BUFFER_KEPT_CAPACITY = 16 << 20 };

/* Empties the buffer for its next use, as buffer_clear, and gives back what it seldom needs. */
static inline void buffer_restart(struct buffer *buffer)
{
    if (buffer->capacity > BUFFER_KEPT_CAPACITY)
        buffer_free(buffer);
    buffer_clear(buffer);
}

#endif
