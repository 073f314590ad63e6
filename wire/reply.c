#include "wire/reply.h"

#include "wire/envelope.h"

/*
 * Results put values of full depth inside arrays and maps of their own, at most a batch of scans:
 * the result, results, a page, its entries, an entry.
 */
enum { RESULT_DEPTH = WIRE_MAX_DEPTH + 8 };

/* [type, … of exactly `count` elements. */
static int read_start(struct wire_cursor *cursor, uint32_t count, uint64_t type)
{
    uint32_t counted;
    uint64_t found;
    if (wire_read_array(cursor, &counted) != 0 || counted != count)
        return -1;
    return wire_read_uint(cursor, &found) == 0 && found == type ? 0 : -1;
}

static int read_object_of(struct wire_cursor *cursor, enum wire_type type, struct slice *object)
{
    if (wire_peek(cursor) != type)
        return -1;
    return wire_read_object(cursor, RESULT_DEPTH, object, NULL);
}

static int read_msgid(struct wire_cursor *cursor, struct wire_reply *reply)
{
    if (wire_read_nil(cursor) == 0)
        return 0;
    reply->has_msgid = true;
    return wire_read_uint(cursor, &reply->msgid);
}

/* An error, and the nil that stands for the result. */
static int read_failure(struct wire_cursor *cursor, struct wire_reply *reply)
{
    uint32_t count;
    reply->failed = true;
    if (wire_read_array(cursor, &count) != 0 || count != WIRE_ERROR_COUNT)
        return -1;
    if (wire_read_str(cursor, &reply->code) != 0 || wire_read_str(cursor, &reply->message) != 0)
        return -1;
    if (read_object_of(cursor, WIRE_MAP, &reply->detail) != 0)
        return -1;
    return wire_read_nil(cursor);
}

static int read_outcome(struct wire_cursor *cursor, struct wire_reply *reply)
{
    if (wire_read_nil(cursor) != 0)
        return read_failure(cursor, reply);
    return wire_read_object(cursor, RESULT_DEPTH, &reply->result, NULL);
}

int wire_decode_reply(struct slice payload, struct wire_reply *reply)
{
    struct wire_cursor cursor = wire_cursor_of(payload);
    *reply = (struct wire_reply){0};
    if (read_start(&cursor, WIRE_REPLY_COUNT, WIRE_REPLY) != 0)
        return -1;
    if (read_msgid(&cursor, reply) != 0 || read_outcome(&cursor, reply) != 0)
        return -1;
    return wire_at_end(&cursor) ? 0 : -1;
}

int wire_decode_notification(struct slice payload, struct wire_notification *notification)
{
    struct wire_cursor cursor = wire_cursor_of(payload);
    if (read_start(&cursor, WIRE_NOTIFICATION_COUNT, WIRE_NOTIFICATION) != 0)
        return -1;
    if (wire_read_str(&cursor, &notification->method) != 0)
        return -1;
    if (read_object_of(&cursor, WIRE_ARRAY, &notification->params) != 0)
        return -1;
    return wire_at_end(&cursor) ? 0 : -1;
}
