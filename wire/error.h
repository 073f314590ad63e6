/*
 * Errors of the protocol: a code from errors.def, an English message for a person, and the
 * details that the code carries. A struct wire_error is filled where a request fails and encoded
 * by wire_pack_error_reply; it owns nothing but its text.
 */
#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include "wire/bytes.h"
#include "wire/limits.h"

enum wire_code {
    WIRE_OK,
#define ERROR(name, code, meaning) WIRE_##name,
#include "wire/errors.def"
#undef ERROR
    WIRE_CODES
};

/* Which details an error carries: bits of wire_error.has. */
enum wire_detail {
    WIRE_DETAIL_LIMIT = 1 << 0,
    WIRE_DETAIL_KEY = 1 << 1,
    WIRE_DETAIL_VERSION = 1 << 2,
    WIRE_DETAIL_OLDEST = 1 << 3,
    WIRE_DETAIL_SEQ = 1 << 4,
    WIRE_DETAIL_INDEX = 1 << 5,
    WIRE_DETAIL_IF = 1 << 6,
};

struct wire_error {
    enum wire_code code;
    unsigned has; /* of enum wire_detail */
    uint64_t limit;
    struct slice key; /* a view of the request or of what the caller keeps until the reply */
    uint64_t version;
    uint64_t oldest;
    uint64_t seq;
    uint64_t index; /* of the failing operation of a batch */
    uint64_t guard; /* of the failing guard of a batch: `if` in the detail */
    char message[WIRE_MAX_ERROR_MESSAGE];
};

/* The code's name in the protocol, such as "bad_request"; a static string. */
const char *wire_code_name(enum wire_code code);

/*
 * The code of that name; WIRE_OK where there is none. For clients.
 */
enum wire_code wire_code_of(struct slice name);

/*
 * Sets code and message (printf style, cut at WIRE_MAX_ERROR_MESSAGE, each byte that is not
 * printable ASCII made a '?'), clears all details and returns the code, so that a function can
 * `return wire_fail(error, WIRE_BAD_REQUEST, "…")`.
 */
enum wire_code wire_fail(struct wire_error *error, enum wire_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * The same for WIRE_TOO_LARGE with its detail `limit`, of which `unit` says what it counts:
 * "{what}: over the limit of {limit} {unit}".
 */
enum wire_code wire_fail_limit(struct wire_error *error, uint64_t limit, const char *unit,
                               const char *what);

#endif
