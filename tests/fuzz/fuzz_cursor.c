/*
 * What the cursor accepts, msgpack-c accepts with the same length and the same meaning; and
 * whatever a message is, decoding it ends and hands out nothing but parts of it. libFuzzer calls
 * with an allocation of exactly `size` bytes, so that the address sanitizer sees a byte too far.
 */
#include <msgpack.h>
#include <stdio.h>

#include "wire/reply.h"
#include "wire/request.h"

/* msgpack-c stops at a depth of 32 of its own. */
enum { ORACLE_DEPTH = 30 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static bool same(struct wire_cursor *cursor, const msgpack_object *object);

static bool same_bytes(struct slice bytes, const char *data, uint32_t size)
{
    return slice_equal(bytes, slice_of(data, size));
}

static bool same_integer(struct wire_cursor *cursor, const msgpack_object *object)
{
    wire_integer integer;
    if (wire_read_integer(cursor, &integer) != 0)
        return false;
    if (object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return integer == object->via.i64;
    return integer == object->via.u64;
}

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static bool same_float(struct wire_cursor *cursor, const msgpack_object *object)
{
    double number;
    /* By their bits, since NaN is not equal to itself. */
    return wire_read_float(cursor, &number) == 0 && bits_of(number) == bits_of(object->via.f64);
}

static bool same_ext(struct wire_cursor *cursor, const msgpack_object *object)
{
    struct slice bytes;
    int type;
    return wire_read_ext(cursor, &type, &bytes) == 0 && type == object->via.ext.type &&
           same_bytes(bytes, object->via.ext.ptr, object->via.ext.size);
}

static bool same_array(struct wire_cursor *cursor, const msgpack_object *object)
{
    uint32_t count;
    if (wire_read_array(cursor, &count) != 0 || count != object->via.array.size)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!same(cursor, &object->via.array.ptr[i]))
            return false;
    }
    return true;
}

static bool same_map(struct wire_cursor *cursor, const msgpack_object *object)
{
    uint32_t count;
    if (wire_read_map(cursor, &count) != 0 || count != object->via.map.size)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const msgpack_object_kv *pair = &object->via.map.ptr[i];
        if (!same(cursor, &pair->key) || !same(cursor, &pair->val))
            return false;
    }
    return true;
}

static bool same(struct wire_cursor *cursor, const msgpack_object *object)
{
    struct slice bytes;
    bool flag;
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        return wire_read_nil(cursor) == 0;
    case MSGPACK_OBJECT_BOOLEAN:
        return wire_read_bool(cursor, &flag) == 0 && flag == object->via.boolean;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return same_integer(cursor, object);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return same_float(cursor, object);
    case MSGPACK_OBJECT_STR:
        return wire_read_str(cursor, &bytes) == 0 &&
               same_bytes(bytes, object->via.str.ptr, object->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return wire_read_bin(cursor, &bytes) == 0 &&
               same_bytes(bytes, object->via.bin.ptr, object->via.bin.size);
    case MSGPACK_OBJECT_EXT:
        return same_ext(cursor, object);
    case MSGPACK_OBJECT_ARRAY:
        return same_array(cursor, object);
    case MSGPACK_OBJECT_MAP:
        return same_map(cursor, object);
    default:
        return false;
    }
}

static void compare_with_oracle(struct slice message)
{
    struct wire_cursor cursor = wire_cursor_of(message);
    struct wire_cursor again = cursor;
    struct slice object;
    if (wire_read_object(&cursor, ORACLE_DEPTH, &object, NULL) != 0)
        return;
    msgpack_unpacked unpacked;
    size_t size = 0;
    msgpack_unpacked_init(&unpacked);
    msgpack_unpack_return result =
        msgpack_unpack_next(&unpacked, (const char *)message.data, message.size, &size);
    require(result == MSGPACK_UNPACK_SUCCESS || result == MSGPACK_UNPACK_EXTRA_BYTES,
            "msgpack-c accepts it");
    require(size == object.size, "msgpack-c finds the same length");
    require(same(&again, &unpacked.data), "msgpack-c finds the same meaning");
    require(again.at == cursor.at, "reading and skipping end at the same place");
    msgpack_unpacked_destroy(&unpacked);
}

static void require_inside(struct slice bytes, struct slice message)
{
    require(bytes.size == 0 || (bytes.data >= message.data &&
                                bytes.data + bytes.size <= message.data + message.size),
            "a slice is a part of the message");
}

static void check_args(const struct wire_args *args, struct slice message)
{
    const struct slice slices[] = {args->key, args->value, args->prefix, args->start,
                                   args->end, args->after, args->epoch,  args->client};
    for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++)
        require_inside(slices[i], message);
    require(args->key.size <= WIRE_MAX_KEY, "keys are within their limit");
    require(args->value.size <= WIRE_MAX_VALUE, "values are within their limit");
    require(args->limit >= 1 && args->limit <= WIRE_MAX_PAGE, "limits are within theirs");
}

static void check_error(enum wire_code code, const struct wire_error *error)
{
    require(code == error->code, "the code is the error's");
    require(code == WIRE_BAD_REQUEST || code == WIRE_UNKNOWN_METHOD || code == WIRE_TOO_LARGE,
            "decoding fails with its own codes");
    require(wire_is_utf8(slice_of_text(error->message)), "messages are UTF-8");
}

static void check_batch(const struct wire_args *batch, struct slice message)
{
    struct wire_cursor operations = batch->operations;
    struct wire_cursor guards = batch->guards;
    for (uint32_t i = 0; i < batch->operation_count; i++) {
        struct wire_error error;
        struct wire_args args;
        enum wire_method method;
        enum wire_code code = wire_next_operation(&operations, &method, &args, &error);
        if (code == WIRE_OK)
            check_args(&args, message);
        else
            check_error(code, &error);
    }
    require(wire_at_end(&operations), "operations end with the last one");
    for (uint32_t i = 0; i < batch->guard_count; i++) {
        struct wire_guard guard;
        wire_next_guard(&guards, &guard);
        require_inside(guard.key, message);
        require(guard.key.size >= 1 && guard.key.size <= WIRE_MAX_KEY, "guards have keys");
    }
    require(wire_at_end(&guards), "guards end with the last one");
}

static void check_request(struct slice message)
{
    struct wire_request request;
    struct wire_error error;
    enum wire_code code = wire_decode_request(message, &request, &error);
    if (code != WIRE_OK) {
        check_error(code, &error);
        return;
    }
    require(request.answer != WIRE_ANSWER_NIL, "what is executed has a sender");
    check_args(&request.args, message);
    if (request.method == WIRE_METHOD_BATCH)
        check_batch(&request.args, message);
}

static void check_reply(struct slice message)
{
    struct wire_notification notification;
    struct wire_reply reply;
    if (wire_decode_reply(message, &reply) == 0) {
        require_inside(reply.code, message);
        require_inside(reply.message, message);
        require_inside(reply.detail, message);
        require_inside(reply.result, message);
    }
    if (wire_decode_notification(message, &notification) == 0) {
        require_inside(notification.method, message);
        require_inside(notification.params, message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice message = slice_of(data, size);
    compare_with_oracle(message);
    check_request(message);
    check_reply(message);
    return 0;
}
