#include "wire/request.h"

#include <inttypes.h>

#include "wire/arguments.h"
#include "wire/envelope.h"

/* The elements before the method; the answer is known as soon as the envelope allows it. */
static enum wire_code read_envelope(struct wire_cursor *cursor, struct wire_request *request,
                                    struct wire_error *error)
{
    uint32_t count;
    uint64_t type;
    if (wire_read_envelope(cursor, &count) != 0)
        return wire_fail(error, WIRE_BAD_REQUEST, "a request is [0, msgid, method, params]");
    if (count < 1 || wire_read_uint(cursor, &type) != 0 ||
        (type != WIRE_REQUEST && type != WIRE_NOTIFICATION))
        return wire_fail(error, WIRE_BAD_REQUEST, "a request begins with 0, a notification with 2");
    bool notification = type == WIRE_NOTIFICATION;
    if (!notification && (count < 2 || wire_read_uint(cursor, &request->msgid) != 0))
        return wire_fail(error, WIRE_BAD_REQUEST, "msgid must be an integer from 0 to 2^64-1");
    request->answer = notification ? WIRE_ANSWER_NONE : WIRE_ANSWER_MSGID;
    uint32_t expected = notification ? WIRE_NOTIFICATION_COUNT : WIRE_REQUEST_COUNT;
    if (count == expected)
        return WIRE_OK;
    return wire_fail(error, WIRE_BAD_REQUEST, "a request has %" PRIu32 " elements, not %" PRIu32,
                     expected, count);
}

enum wire_code wire_decode_request(struct slice payload, struct wire_request *request,
                                   struct wire_error *error)
{
    struct wire_cursor cursor = wire_cursor_of(payload);
    struct slice name;
    request->answer = WIRE_ANSWER_NIL;
    request->msgid = 0;
    request->size = payload.size;
    request->method = WIRE_METHODS;
    enum wire_code code = read_envelope(&cursor, request, error);
    if (code != WIRE_OK)
        return code;
    if (wire_read_str(&cursor, &name) != 0)
        return wire_fail(error, WIRE_BAD_REQUEST, "method must be a str");
    code = wire_find_method(name, &request->method, error);
    if (code == WIRE_OK)
        code = wire_read_args(&cursor, request->method, &request->args, error);
    if (code == WIRE_OK && !wire_at_end(&cursor))
        return wire_fail(error, WIRE_BAD_REQUEST, "nothing may follow the request in its frame");
    return code;
}

static enum wire_code find_operation(struct slice name, enum wire_method *method,
                                     struct wire_error *error)
{
    enum wire_code code = wire_find_method(name, method, error);
    if (code == WIRE_OK && (wire_method_flags(*method) & WIRE_BATCHABLE) == 0)
        return wire_fail(error, WIRE_BAD_REQUEST, "%s: cannot be an operation of a batch",
                         wire_method_name(*method));
    return code;
}

enum wire_code wire_next_operation(struct wire_cursor *operations, enum wire_method *method,
                                   struct wire_args *args, struct wire_error *error)
{
    struct wire_cursor cursor = *operations;
    struct slice name;
    if (!wire_starts_pair(&cursor) || wire_read_str(&cursor, &name) != 0)
        return wire_fail(error, WIRE_INTERNAL, "the shape of the batch has not been checked");
    enum wire_code code = find_operation(name, method, error);
    if (code == WIRE_OK)
        code = wire_read_args(&cursor, *method, args, error);
    if (code == WIRE_OK && args->wait_ms != 0)
        code = wire_fail(error, WIRE_BAD_REQUEST, "%s: nothing waits in a batch; wait must be 0",
                         wire_method_name(*method));
    if (code == WIRE_OK)
        *operations = cursor;
    else
        wire_read_object(operations, WIRE_OPERATION_DEPTH, &name, NULL);
    return code;
}

void wire_next_queue(struct wire_cursor *queues, struct slice *name)
{
    *name = (struct slice){0};
    (void)wire_read_bytes(queues, name);
}

void wire_next_guard(struct wire_cursor *guards, struct wire_guard *guard)
{
    *guard = (struct wire_guard){0};
    if (wire_starts_pair(guards) && wire_read_bytes(guards, &guard->key) == 0)
        wire_read_uint(guards, &guard->version);
}
