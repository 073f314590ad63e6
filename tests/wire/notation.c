#include "notation.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>

const char *const good_requests[] = {
    "[0 1 'ping' []]",
    "[0 1 'ping' [{}]]",
    "[0 1 'hello' []]",
    "[0 1 'hello' [{'client' 'test'}]]",
    "[0 1 'get' ['k']]",
    "[0 1 'get' [b'k']]",
    "[0 1 'put' ['key' 'value']]",
    "[0 1 'put' ['key' {'a' [1 2.5 nil]}]]",
    "[0 300 'put' [b'key' s(40) {'ttl' 1000 'if_version' 70000 'if_exists' true 'previous' true}]]",
    "[0 1 'put' ['key' <d6 05 01 02 03 04> {'keep_ttl' true}]]",
    "[0 1 'delete' ['key']]",
    "[0 1 'delete' ['key' {'if_version' 5 'if_exists' true 'previous' false}]]",
    "[0 1 'increment' ['key']]",
    "[0 1 'increment' ['key' -5]]",
    "[0 1 'increment' ['key' {'initial' 10}]]",
    "[0 1 'increment' ['key' 5 {'initial' -10 'ttl' 0 'if_version' 0 'if_exists' false}]]",
    "[0 1 'touch' ['key' 60000]]",
    "[0 1 'touch' ['key' nil {}]]",
    "[0 1 'scan' []]",
    "[0 1 'scan' [{'prefix' 'p:' 'after' 'p:5' 'limit' 10 'reverse' true 'keys_only' true}]]",
    "[0 1 'scan' [{'start' 'a' 'end' b'b'}]]",
    "[0 1 'count' [{'prefix' ''}]]",
    "[0 1 'count' [{'start' 'a' 'end' 'b'}]]",
    "[0 1 'delete_range' [{'prefix' 'p:' 'limit' 10000}]]",
    "[0 1 'delete_range' [{'start' 'a'}]]",
    "[0 1 'batch' [[['put' ['a' 1]] ['get' ['a']] ['increment' ['n' {'ttl' 5}]]]]]",
    "[0 1 'batch' [[['delete' ['a']]] {'if' [['a' 5] [b'b' 0]]}]]",
    "[0 1 'batch' [[]]]",
    "[0 1 'stats' []]",
    "[0 1 'changes' []]",
    "[0 1 'changes' [{'since' 5 'prefix' 'p:' 'limit' 10 'epoch' 'e1'}]]",
};
const size_t good_request_count = sizeof(good_requests) / sizeof(good_requests[0]);

static void put_value(const char **text, msgpack_sbuffer *out);

static void skip_space(const char **text)
{
    while (**text == ' ' || **text == '\n')
        (*text)++;
}

static bool take(const char **text, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(*text, word, size) != 0)
        return false;
    *text += size;
    return true;
}

static size_t take_number(const char **text)
{
    char *end;
    size_t number = strtoul(*text, &end, 10);
    *text = end;
    return number;
}

/* Elements up to `close`, each perhaps repeated; returns how many. */
static size_t put_elements(const char **text, char close, msgpack_sbuffer *out)
{
    size_t count = 0;
    for (skip_space(text); **text != close; skip_space(text)) {
        cr_assert(**text != '\0', "notation: no closing %c", close);
        size_t from = out->size;
        put_value(text, out);
        size_t size = out->size - from;
        size_t times = take(text, "*") ? take_number(text) : 1;
        char *one = malloc(size + 1);
        cr_assert(one != NULL);
        memcpy(one, out->data + from, size);
        out->size = from;
        for (size_t i = 0; i < times; i++)
            msgpack_sbuffer_write(out, one, size);
        free(one);
        count += times;
    }
    (*text)++;
    return count;
}

static void put_container(const char **text, char close, msgpack_sbuffer *out)
{
    msgpack_sbuffer elements;
    msgpack_packer packer;
    msgpack_sbuffer_init(&elements);
    msgpack_packer_init(&packer, out, msgpack_sbuffer_write);
    size_t count = put_elements(text, close, &elements);
    if (close == ']')
        msgpack_pack_array(&packer, count);
    else
        msgpack_pack_map(&packer, count / 2);
    if (elements.size > 0)
        msgpack_sbuffer_write(out, elements.data, elements.size);
    msgpack_sbuffer_destroy(&elements);
}

static void put_hex(const char **text, msgpack_sbuffer *out)
{
    for (skip_space(text); **text != '>'; skip_space(text)) {
        const char digits[3] = {(*text)[0], (*text)[1], '\0'};
        char *end;
        char byte = (char)strtoul(digits, &end, 16);
        cr_assert(end == digits + 2, "notation: not hex: %s", *text);
        msgpack_sbuffer_write(out, &byte, 1);
        *text += 2;
    }
    (*text)++;
}

static void put_quoted(const char **text, bool bin, msgpack_packer *packer)
{
    const char *end = strchr(*text, '\'');
    cr_assert(end != NULL, "notation: no closing quote");
    size_t size = (size_t)(end - *text);
    if (bin)
        msgpack_pack_bin_with_body(packer, *text, size);
    else
        msgpack_pack_str_with_body(packer, *text, size);
    *text = end + 1;
}

static void put_letters(const char **text, bool bin, msgpack_packer *packer)
{
    size_t size = take_number(text);
    char *letters = malloc(size + 1);
    cr_assert(letters != NULL && take(text, ")"));
    memset(letters, 'x', size);
    if (bin)
        msgpack_pack_bin_with_body(packer, letters, size);
    else
        msgpack_pack_str_with_body(packer, letters, size);
    free(letters);
}

static void put_nest(const char **text, msgpack_packer *packer)
{
    size_t depth = take_number(text);
    cr_assert(depth > 0 && take(text, ")"));
    for (size_t i = 1; i < depth; i++)
        msgpack_pack_array(packer, 1);
    msgpack_pack_array(packer, 0);
}

static void put_number(const char **text, msgpack_packer *packer)
{
    size_t size = strspn(*text, "-.0123456789");
    cr_assert(size > 0, "notation: what is %s", *text);
    if (memchr(*text, '.', size) != NULL)
        msgpack_pack_double(packer, strtod(*text, NULL));
    else if (**text == '-')
        msgpack_pack_int64(packer, strtoll(*text, NULL, 10));
    else
        msgpack_pack_uint64(packer, strtoull(*text, NULL, 10));
    *text += size;
}

static void put_value(const char **text, msgpack_sbuffer *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, msgpack_sbuffer_write);
    if (take(text, "["))
        put_container(text, ']', out);
    else if (take(text, "{"))
        put_container(text, '}', out);
    else if (take(text, "<"))
        put_hex(text, out);
    else if (take(text, "'"))
        put_quoted(text, false, &packer);
    else if (take(text, "b'"))
        put_quoted(text, true, &packer);
    else if (take(text, "s("))
        put_letters(text, false, &packer);
    else if (take(text, "b("))
        put_letters(text, true, &packer);
    else if (take(text, "nest("))
        put_nest(text, &packer);
    else if (take(text, "nil"))
        msgpack_pack_nil(&packer);
    else if (take(text, "true"))
        msgpack_pack_true(&packer);
    else if (take(text, "false"))
        msgpack_pack_false(&packer);
    else
        put_number(text, &packer);
}

struct buffer message_of(const char *notation)
{
    msgpack_sbuffer bytes;
    msgpack_sbuffer_init(&bytes);
    for (skip_space(&notation); *notation != '\0'; skip_space(&notation))
        put_value(&notation, &bytes);
    /* Exactly as large as its content, so that the address sanitizer sees one byte too far. */
    struct buffer message = {.data = malloc(bytes.size > 0 ? bytes.size : 1), .size = bytes.size};
    cr_assert(message.data != NULL);
    if (bytes.size > 0)
        memcpy(message.data, bytes.data, bytes.size);
    message.capacity = bytes.size;
    msgpack_sbuffer_destroy(&bytes);
    return message;
}

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
