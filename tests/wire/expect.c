#include "expect.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

struct decoded decode(const char *notation)
{
    struct decoded decoded = {.payload = message_of(notation)};
    decoded.code =
        wire_decode_request(buffer_slice(&decoded.payload, 0), &decoded.request, &decoded.error);
    return decoded;
}

void decoded_free(struct decoded *decoded)
{
    buffer_free(&decoded->payload);
}

static void describe(const struct wire_error *error, char *text, size_t size)
{
    const struct {
        unsigned bit;
        const char *name;
        uint64_t value;
    } details[] = {
        {WIRE_DETAIL_LIMIT, "limit", error->limit},
        {WIRE_DETAIL_KEY, "key", error->key.size},
        {WIRE_DETAIL_VERSION, "version", error->version},
        {WIRE_DETAIL_OLDEST, "oldest", error->oldest},
        {WIRE_DETAIL_SEQ, "seq", error->seq},
        {WIRE_DETAIL_INDEX, "index", error->index},
        {WIRE_DETAIL_IF, "if", error->guard},
    };
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
        if ((error->has & details[i].bit) != 0)
            used += (size_t)snprintf(text + used, size - used, "%s%s=%" PRIu64, used > 0 ? " " : "",
                                     details[i].name, details[i].value);
    }
}

void check_refusal(const char *notation, enum wire_code code, const char *details, const char *file,
                   int line)
{
    struct decoded decoded = decode(notation);
    char found[200] = "";
    if (decoded.code != WIRE_OK)
        describe(&decoded.error, found, sizeof(found));
    cr_expect(decoded.code == code, "%s:%d: %.80s is %s", file, line, notation,
              wire_code_name(decoded.code));
    cr_expect(strcmp(found, details) == 0, "%s:%d: %.80s has details '%s'", file, line, notation,
              found);
    if (decoded.code != WIRE_OK) {
        cr_expect(decoded.error.code == decoded.code);
        cr_expect(decoded.error.message[0] != '\0');
        cr_expect(wire_is_utf8(slice_of_text(decoded.error.message)));
    }
    decoded_free(&decoded);
}

void check_request(const char *notation, const char *file, int line)
{
    struct decoded decoded = decode(notation);
    cr_expect(decoded.code == WIRE_OK, "%s:%d: %.80s is %s: %s", file, line, notation,
              wire_code_name(decoded.code), decoded.code == WIRE_OK ? "" : decoded.error.message);
    decoded_free(&decoded);
}
