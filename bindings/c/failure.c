#include "bindings/c/failure.h"

#include <stdarg.h>
#include <stdio.h>

/* A code that has no status here fails to compile: the header has to have one for each. */
static enum cubby_status status_of(enum wire_code code)
{
    switch (code) {
#define ERROR(name, text, meaning)                                                                 \
    case WIRE_##name:                                                                              \
        return CUBBY_##name;
#include "wire/errors.def"
#undef ERROR
    default:
        return CUBBY_UNKNOWN_CODE;
    }
}

const char *cubby_status_text(enum cubby_status status)
{
    switch (status) {
    case CUBBY_OK:
        return "ok";
    case CUBBY_TIMEOUT:
        return "timeout";
    case CUBBY_NO_MEMORY:
        return "no_memory";
    case CUBBY_MISUSE:
        return "misuse";
    case CUBBY_PROTOCOL:
        return "protocol";
    case CUBBY_SYSTEM:
        return "system";
    case CUBBY_CLOSED:
        return "closed";
#define ERROR(name, text, meaning)                                                                 \
    case CUBBY_##name:                                                                             \
        return text;
#include "wire/errors.def"
#undef ERROR
    default:
        return "unknown_code";
    }
}

static void begin(struct failure *failure, enum cubby_status status)
{
    failure->error = (struct cubby_error){.status = status};
    failure->error.code = failure->code;
    failure->error.message = failure->message;
}

enum cubby_status failure_set(struct failure *failure, enum cubby_status status, const char *format,
                              ...)
{
    begin(failure, status);
    snprintf(failure->code, sizeof(failure->code), "%s", cubby_status_text(status));
    va_list values;
    va_start(values, format);
    vsnprintf(failure->message, sizeof(failure->message), format, values);
    va_end(values);
    return status;
}

static void copy_text(char *to, size_t room, struct slice text)
{
    size_t size = text.size < room ? text.size : room - 1;
    if (size > 0)
        memcpy(to, text.data, size);
    to[size] = 0;
}

/* Reads the value of one detail if it is of the right type. */
static void read_number(struct cubby_error *error, struct slice object, unsigned bit,
                        uint64_t *number)
{
    struct wire_cursor cursor = wire_cursor_of(object);
    if (wire_read_uint(&cursor, number) == 0)
        error->has |= bit;
}

static void read_key(struct failure *failure, struct slice object)
{
    struct wire_cursor cursor = wire_cursor_of(object);
    struct slice key;
    if (wire_read_bytes(&cursor, &key) != 0 || key.size > sizeof(failure->key))
        return;
    if (key.size > 0)
        memcpy(failure->key, key.data, key.size);
    failure->error.key = cubby_data(failure->key, key.size);
    failure->error.has |= CUBBY_HAS_KEY;
}

static void read_detail(struct failure *failure, struct slice name, struct slice object)
{
    struct cubby_error *error = &failure->error;
    const struct {
        const char *name;
        unsigned bit;
        uint64_t *number;
    } numbers[] = {
        {"limit", CUBBY_HAS_LIMIT, &error->limit},
        {"version", CUBBY_HAS_VERSION, &error->version},
        {"index", CUBBY_HAS_INDEX, &error->index},
        {"if", CUBBY_HAS_GUARD, &error->guard},
        {"oldest", CUBBY_HAS_OLDEST, &error->oldest},
        {"seq", CUBBY_HAS_SEQ, &error->seq},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (slice_equal(name, slice_of_text(numbers[i].name)))
            read_number(error, object, numbers[i].bit, numbers[i].number);
    }
    if (slice_equal(name, slice_of_text("key")))
        read_key(failure, object);
}

enum cubby_status failure_from_reply(struct failure *failure, const struct wire_reply *reply)
{
    begin(failure, status_of(wire_code_of(reply->code)));
    copy_text(failure->code, sizeof(failure->code), reply->code);
    copy_text(failure->message, sizeof(failure->message), reply->message);
    struct wire_cursor detail = wire_cursor_of(reply->detail);
    uint32_t count = 0;
    if (wire_read_map(&detail, &count) != 0)
        return failure->error.status;
    for (; count > 0; count--) {
        struct slice name, object;
        if (wire_read_str(&detail, &name) != 0 ||
            wire_read_object(&detail, WIRE_MAX_DEPTH, &object, NULL) != 0)
            break;
        read_detail(failure, name, object);
    }
    return failure->error.status;
}

void failure_keep(struct failure *failure, const struct cubby_error *error)
{
    failure->error = *error;
    failure->error.code = failure->code;
    failure->error.message = failure->message;
    copy_text(failure->code, sizeof(failure->code), slice_of_text(error->code));
    copy_text(failure->message, sizeof(failure->message), slice_of_text(error->message));
    if (error->key.size > 0)
        memcpy(failure->key, error->key.data, error->key.size);
    if (error->key.data != NULL)
        failure->error.key.data = failure->key;
}
