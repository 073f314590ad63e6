/*
 * A watch of etcd through its JSON gateway: one request, whose reply never ends and comes in
 * chunks. Values are in Base64, and stamps are made of digits of it: see etcd.c.
 */
#include "listen.h"

#define VALUE "\"value\":\""

static void greet(struct listener *listener)
{
    static const char request[] =
        "POST /v3/watch HTTP/1.1\r\nHost: etcd\r\nContent-Length: 53\r\n\r\n"
        "{\"create_request\":{\"key\":\"AA==\",\"range_end\":\"AA==\"}} ";
    buffer_append(&listener->peer.out, request, sizeof(request) - 1);
    listener->asked = true;
}

/* Every change is the one value in an event; a part of an event waits for the rest. */
static void take_text(struct listening *all, struct listener *listener, uint64_t now)
{
    struct buffer *text = &listener->text;
    const uint8_t *at = text->data;
    const uint8_t *end = text->data + text->size;
    const uint8_t *done = at;
    while ((at = memmem(done, (size_t)(end - done), VALUE, strlen(VALUE))) != NULL) {
        at += strlen(VALUE);
        if (end - at < STAMP_SIZE)
            break;
        listen_note(all, listener, at, now);
        done = at + STAMP_SIZE;
    }
    size_t rest = (size_t)(end - done);
    size_t most = at == NULL ? strlen(VALUE) : rest;
    if (rest > most)
        rest = most;
    memmove(text->data, end - rest, rest);
    text->size = rest;
}

/* "1a4\r\n" and so many bytes and a line's end. */
static bool take_chunk(struct listener *listener)
{
    struct buffer *in = &listener->peer.in;
    const char *at = (const char *)in->data + listener->peer.read;
    const char *end = (const char *)in->data + in->size;
    const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    if (newline == NULL)
        return false;
    size_t size = strtoul(at, NULL, 16);
    if (size == 0)
        listen_give_up("the watch has ended");
    if ((size_t)(end - newline) < 1 + size + 2)
        return false;
    buffer_append(&listener->text, newline + 1, size);
    listener->peer.read = (size_t)(newline + 1 + size + 2 - (const char *)in->data);
    return true;
}

static bool take_head(struct listener *listener)
{
    struct buffer *in = &listener->peer.in;
    const uint8_t *end = memmem(in->data, in->size, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    if (memmem(in->data, in->size, " 200 ", 5) == NULL)
        listen_give_up("etcd refuses the watch");
    listener->topic = true; /* the head is past */
    listener->peer.read = (size_t)(end + 4 - in->data);
    return true;
}

static void take(struct listening *all, struct listener *listener, uint64_t now)
{
    if (!listener->topic && !take_head(listener))
        return;
    while (take_chunk(listener))
        listener->listens = true; /* the first one says that it was created */
    if (listener->text.size > 0)
        take_text(all, listener, now);
}

const struct tongue tongue_etcd = {.name = "etcd", .greet = greet, .take = take};
