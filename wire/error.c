#include "wire/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const names[WIRE_CODES] = {
    [WIRE_OK] = "ok",
#define ERROR(name, code, meaning) [WIRE_##name] = (code),
#include "wire/errors.def"
#undef ERROR
};

const char *wire_code_name(enum wire_code code)
{
    return names[code];
}

enum wire_code wire_code_of(struct slice name)
{
    for (int code = WIRE_OK + 1; code < WIRE_CODES; code++) {
        if (slice_equal(name, slice_of_text(names[code])))
            return (enum wire_code)code;
    }
    return WIRE_OK;
}

/*
 * Messages quote what clients sent and go out as str, so they have to be valid UTF-8 wherever
 * they were cut; printable ASCII always is.
 */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

enum wire_code wire_fail(struct wire_error *error, enum wire_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    *error = (struct wire_error){.code = code};
    vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
    make_printable(error->message);
    return code;
}

enum wire_code wire_fail_limit(struct wire_error *error, uint64_t limit, const char *unit,
                               const char *what)
{
    wire_fail(error, WIRE_TOO_LARGE, "%s: over the limit of %" PRIu64 " %s", what, limit, unit);
    error->has = WIRE_DETAIL_LIMIT;
    error->limit = limit;
    return WIRE_TOO_LARGE;
}
