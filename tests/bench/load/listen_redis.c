/* Keyspace notifications of Redis, which name the key and bring no value. */
#include "listen.h"

static void greet(struct listener *listener)
{
    static const char request[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$16\r\n__keyspace@0__:*\r\n";
    buffer_append(&listener->peer.out, request, sizeof(request) - 1);
    listener->asked = true;
}

/* "$8\r\n": its first character and its number; NULL where it is not all there. */
static const char *read_line(const char *at, const char *end, char *type, long *number)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    if (newline == NULL)
        return NULL;
    *type = *at;
    *number = strtol(at + 1, NULL, 10);
    return newline + 1;
}

/* An array of strings and numbers, of which the first string says what it is. */
static const char *read_push(const char *at, const char *end, bool *message)
{
    char type;
    long words;
    long size;
    at = read_line(at, end, &type, &words);
    for (long i = 0; at != NULL && i < words; i++) {
        at = read_line(at, end, &type, &size);
        if (at == NULL || type != '$')
            continue;
        if (end - at < size + 2)
            return NULL;
        if (i == 0)
            *message = at[1] == 'm'; /* pmessage, and not psubscribe */
        at += size + 2;
    }
    return at;
}

static void take(struct listening *all, struct listener *listener, uint64_t now)
{
    struct buffer *in = &listener->peer.in;
    bool message = false;
    const char *end = (const char *)in->data + in->size;
    const char *at = (const char *)in->data + listener->peer.read;
    while ((at = read_push(at, end, &message)) != NULL) {
        listener->peer.read = (size_t)(at - (const char *)in->data);
        listener->listens = true;
        if (message)
            listen_note(all, listener, NULL, now);
    }
}

const struct tongue tongue_redis = {.name = "redis", .greet = greet, .take = take};
