#include <stdio.h>

#include "load.h"

enum { MAX_TEXT = 512, MAX_NESTING = 8 };

static void greet(struct peer *peer)
{
    peer->ready = true;
}

static void begin(struct buffer *out, unsigned words)
{
    char text[MAX_TEXT];
    buffer_append(out, text, (size_t)snprintf(text, sizeof(text), "*%u\r\n", words));
}

static void word(struct buffer *out, const char *word)
{
    char text[MAX_TEXT];
    buffer_append(out, text,
                  (size_t)snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", strlen(word), word));
}

static void words(struct buffer *out, const char *const *list)
{
    for (; *list != NULL; list++)
        word(out, *list);
}

static void key(struct prepared *message)
{
    struct buffer *out = &message->bytes;
    word(out, "key:000000000000");
    out->size -= KEY_DIGITS + 2;
    prepared_note(&message->keys, out);
    out->size += KEY_DIGITS + 2;
}

static void value(struct prepared *message, struct slice value)
{
    char head[MAX_TEXT];
    struct buffer *out = &message->bytes;
    buffer_append(out, head, (size_t)snprintf(head, sizeof(head), "$%zu\r\n", value.size));
    prepared_note(&message->stamps, out);
    buffer_append_slice(out, value);
    buffer_append(out, "\r\n", 2);
}

static bool prepare(enum action action, const struct material *material, struct prepared *message)
{
    static const char *const names[ACTIONS] = {
        [ACTION_GET] = "GET",    [ACTION_PUT] = "SET",  [ACTION_INSERT] = "SET",
        [ACTION_PUSH] = "LPUSH", [ACTION_POP] = "RPOP",
    };
    bool on_queue = action == ACTION_PUSH || action == ACTION_POP;
    bool with_value = action != ACTION_GET && action != ACTION_POP;
    if (names[action] == NULL)
        return false;
    begin(&message->bytes, with_value ? 3 : 2);
    word(&message->bytes, names[action]);
    if (on_queue)
        word(&message->bytes, material->queue);
    else
        key(message);
    if (with_value)
        value(message, material->value);
    return true;
}

static void no_ack(const struct material *material, const struct job *job, struct buffer *out)
{
    (void)material;
    (void)job;
    (void)out;
}

/* A reply as it is read: where we are, and the second of its bulk strings, a stream's entry id. */
struct reading {
    const char *at;
    const char *end;
    unsigned strings;
    struct slice second;
};

/* "$100\r\n": its first character, its number. False where it is not all there. */
static bool read_line(struct reading *reading, char *type, long long *number)
{
    const char *line = reading->at;
    const char *end = memchr(line, '\n', (size_t)(reading->end - line));
    if (end == NULL)
        return false;
    *type = *line;
    *number = strtoll(line + 1, NULL, 10);
    reading->at = end + 1;
    return true;
}

static bool read_string(struct reading *reading, long long size)
{
    if (size < 0)
        return true;
    if (reading->end - reading->at < size + 2)
        return false;
    if (++reading->strings == 2)
        reading->second = slice_of(reading->at, (size_t)size);
    reading->at += size + 2;
    return true;
}

/* One reply, arrays and all: how many objects are left to read is all that nesting needs. */
static bool read_reply(struct reading *reading, char *first)
{
    long long left = 1;
    for (bool begun = false; left > 0; left--, begun = true) {
        char type;
        long long number;
        if (!read_line(reading, &type, &number))
            return false;
        if (!begun)
            *first = type;
        if (type == '$' && !read_string(reading, number))
            return false;
        if (type == '*' && number > 0)
            left += number;
    }
    return true;
}

static enum found find(struct peer *peer, struct slice bytes, enum action action, size_t *size,
                       struct job *job)
{
    const char *text = (const char *)bytes.data;
    struct reading reading = {.at = text, .end = text + bytes.size};
    char first = 0;
    (void)peer;
    if (!read_reply(&reading, &first))
        return FOUND_PART;
    *size = (size_t)(reading.at - text);
    if (first == '-')
        return FOUND_ERROR;
    if (action == ACTION_POP)
        job->taken = reading.strings > 0;
    if (action == ACTION_RESERVE) {
        job->taken = reading.strings > 1 && reading.second.size < sizeof(job->name);
        if (job->taken)
            snprintf(job->name, sizeof(job->name), "%.*s", (int)reading.second.size,
                     (const char *)reading.second.data);
    }
    return FOUND_REPLY;
}

const struct protocol protocol_redis = {
    .name = "redis", .greet = greet, .prepare = prepare, .ack = no_ack, .find = find};

/* A stream, read by a group g that scripts/bench has made. */
static bool prepare_stream(enum action action, const struct material *material,
                           struct prepared *message)
{
    struct buffer *out = &message->bytes;
    if (action == ACTION_PUSH) {
        begin(out, 5);
        words(out, (const char *const[]){"XADD", material->queue, "*", "body", NULL});
        value(message, material->value);
        return true;
    }
    if (action != ACTION_RESERVE)
        return false;
    begin(out, 9);
    words(out, (const char *const[]){"XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS",
                                     material->queue, ">", NULL});
    return true;
}

static void ack_stream(const struct material *material, const struct job *job, struct buffer *out)
{
    begin(out, 4);
    words(out, (const char *const[]){"XACK", material->queue, "g", job->name, NULL});
}

const struct protocol protocol_streams = {
    .name = "streams", .greet = greet, .prepare = prepare_stream, .ack = ack_stream, .find = find};
