/*
 * Puts to etcd through its JSON gateway, where keys and values are in Base64: digits of keys and
 * stamps are digits of Base64 too, so that they stand in the text as they are.
 */
#include <stdio.h>

#include "load.h"

enum { MAX_TEXT = 256 };

static void greet(struct peer *peer)
{
    peer->ready = true;
}

static void append(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

/* So many characters of Base64 as a value of that size has, in whole groups of four. */
static size_t encoded_size(size_t size)
{
    return size / 3 * 4;
}

static bool prepare(enum action action, const struct material *material, struct prepared *message)
{
    static const char begin[] = "{\"key\":\"a2V5";
    static const char middle[] = "\",\"value\":\"";
    char head[MAX_TEXT];
    struct buffer *out = &message->bytes;
    size_t size = encoded_size(material->value.size);
    if (action != ACTION_PUT)
        return false;
    size_t length = sizeof(begin) - 1 + KEY_DIGITS + sizeof(middle) - 1 + size + 2;
    snprintf(head, sizeof(head),
             "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: %zu\r\n\r\n", length);
    append(out, head);
    append(out, begin);
    prepared_note(&message->keys, out);
    append(out, "000000000000");
    append(out, middle);
    prepared_note(&message->stamps, out);
    for (size_t i = 0; i < size; i++)
        append(out, "x");
    append(out, "\"}");
    return true;
}

static void no_ack(const struct material *material, const struct job *job, struct buffer *out)
{
    (void)material;
    (void)job;
    (void)out;
}

static enum found find(struct peer *peer, struct slice bytes, enum action action, size_t *size,
                       struct job *job)
{
    static const char length[] = "Content-Length: ";
    const uint8_t *end = bytes.size > 0 ? memmem(bytes.data, bytes.size, "\r\n\r\n", 4) : NULL;
    (void)peer;
    (void)action;
    (void)job;
    if (end == NULL)
        return FOUND_PART;
    const uint8_t *at = memmem(bytes.data, (size_t)(end - bytes.data), length, sizeof(length) - 1);
    if (at == NULL)
        return FOUND_NONSENSE;
    size_t body = strtoul((const char *)at + sizeof(length) - 1, NULL, 10);
    *size = (size_t)(end + 4 - bytes.data) + body;
    if (bytes.size < *size)
        return FOUND_PART;
    return memcmp(bytes.data, "HTTP/1.1 200 ", 13) == 0 ? FOUND_REPLY : FOUND_ERROR;
}

const struct protocol protocol_etcd = {
    .name = "etcd", .greet = greet, .prepare = prepare, .ack = no_ack, .find = find};
