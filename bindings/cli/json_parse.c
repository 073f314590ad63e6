#include <errno.h>
#include <json-c/json.h>
#include <math.h>

#include "bindings/cli/base64.h"
#include "bindings/cli/json.h"

enum { PARSE_DEPTH = WIRE_MAX_DEPTH + 8, PAIR_SIZE = 12 /* of a surrogate pair, escaped */ };

static int pack(struct buffer *out, struct json_object *value, const char **reason);

static int fail(const char **reason, const char *text)
{
    *reason = text;
    return -1;
}

/* ---- What json-c would change without a word is refused before it sees the text ------------- */

static bool is_surrogate(const char *escape, char half_first, char half_last)
{
    return escape[0] == '\\' && escape[1] == 'u' && (escape[2] | 0x20) == 'd' &&
           (escape[3] | 0x20) >= half_first && (escape[3] | 0x20) <= half_last;
}

/* At a backslash: moves behind the escape. `text` ends with a zero, so looking ahead is safe. */
static int check_escape(const char **at, bool *zero, const char **reason)
{
    const char *escape = *at;
    *at += 2;
    if (escape[1] == 0)
        return fail(reason, "the text ends in a string");
    if (strncmp(escape, "\\u0000", 6) == 0)
        *zero = true;
    bool high = is_surrogate(escape, '8', '9') || is_surrogate(escape, 'a', 'b');
    if (high && strnlen(escape, PAIR_SIZE) == PAIR_SIZE && is_surrogate(escape + 6, 'c', 'f')) {
        *at = escape + 8;
        return 0;
    }
    if (high || is_surrogate(escape, 'c', 'f'))
        return fail(reason, "half of a surrogate pair");
    return 0;
}

/* At the opening quote: moves behind the closing one. */
static int check_string(const char **at, const char **reason)
{
    bool zero = false;
    for (++*at; **at != '"';) {
        if (**at == 0)
            return fail(reason, "the text ends in a string");
        if ((unsigned char)**at < ' ')
            return fail(reason, "a control character in a string");
        if (**at != '\\')
            ++*at;
        else if (check_escape(at, &zero, reason) != 0)
            return -1;
    }
    ++*at;
    const char *next = *at + strspn(*at, " \t\r\n");
    if (zero && *next == ':')
        return fail(reason, "a name with a zero character: write the map as {\"$map\": …}");
    return 0;
}

/* At a digit or minus: moves behind the number. */
static int check_number(const char **at, const char **reason)
{
    size_t size = strspn(*at, "0123456789+-.eE");
    bool real = strcspn(*at, ".eE") < size;
    const char *text = *at;
    *at += size;
    errno = 0;
    if (real)
        return isinf(strtod(text, NULL)) ? fail(reason, "a number out of range") : 0;
    if (*text == '-')
        strtoll(text, NULL, 10);
    else
        strtoull(text, NULL, 10);
    return errno == ERANGE ? fail(reason, "an integer out of the range of 64 bits") : 0;
}

/* `names`: how many names of members there are, each with a colon behind it. */
static int check(const char *text, size_t *names, const char **reason)
{
    *names = 0;
    while (*text != 0) {
        int checked = 0;
        *names += *text == ':';
        if (*text == '"')
            checked = check_string(&text, reason);
        else if (*text == '-' || (*text >= '0' && *text <= '9'))
            checked = check_number(&text, reason);
        else if (*text == 'N' || *text == 'I')
            checked = fail(reason, "not JSON: write {\"$float\": \"nan\"}, \"inf\" or \"-inf\"");
        else
            text++;
        if (checked != 0)
            return -1;
    }
    return 0;
}

/* ---- From json-c's tree to MessagePack ------------------------------------------------------ */

static struct slice text_of(struct json_object *string)
{
    return slice_of(json_object_get_string(string), (size_t)json_object_get_string_len(string));
}

/* The decoded bytes of a base64 string; the caller frees the buffer in every case. */
static int decode(struct json_object *string, struct buffer *bytes, const char **reason)
{
    if (!json_object_is_type(string, json_type_string))
        return fail(reason, "base64 is expected in a string");
    if (base64_decode(bytes, text_of(string)) != 0)
        return fail(reason, "not base64");
    return 0;
}

static int pack_base64(struct buffer *out, struct json_object *string, bool str,
                       const char **reason)
{
    struct buffer bytes = {0};
    int result = decode(string, &bytes, reason);
    if (result == 0 && str)
        wire_pack_str(out, slice_of(bytes.data, bytes.size));
    else if (result == 0)
        wire_pack_bin(out, slice_of(bytes.data, bytes.size));
    buffer_free(&bytes);
    return result;
}

static int pack_bin(struct buffer *out, struct json_object *value, const char **reason)
{
    return pack_base64(out, value, false, reason);
}

static int pack_str(struct buffer *out, struct json_object *value, const char **reason)
{
    return pack_base64(out, value, true, reason);
}

/* c7 size type …, c8 with 16, c9 with 32 bits of size; shorter heads for 1, 2, 4, 8, 16 bytes. */
static void pack_ext_head(struct buffer *out, size_t size, int type)
{
    enum { EXT_8 = 0xc7, EXT_16 = 0xc8, EXT_32 = 0xc9, FIXEXT_1 = 0xd4, FIXEXT_16 = 0xd8 };
    uint8_t head[6];
    size_t used = 0;
    for (unsigned power = 0; power <= FIXEXT_16 - FIXEXT_1 && used == 0; power++) {
        if (size == (size_t)1 << power)
            head[used++] = (uint8_t)(FIXEXT_1 + power);
    }
    unsigned bytes = used > 0 ? 0 : size <= UINT8_MAX ? 1 : size <= UINT16_MAX ? 2 : 4;
    if (used == 0)
        head[used++] = bytes == 1 ? EXT_8 : bytes == 2 ? EXT_16 : EXT_32;
    for (; bytes > 0; bytes--)
        head[used++] = (uint8_t)(size >> (8 * (bytes - 1)));
    head[used++] = (uint8_t)type;
    buffer_append(out, head, used);
}

static int pack_ext(struct buffer *out, struct json_object *value, const char **reason)
{
    struct buffer bytes = {0};
    if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) != 2 ||
        !json_object_is_type(json_object_array_get_idx(value, 0), json_type_int))
        return fail(reason, "$ext is expected as [type, base64]");
    int64_t type = json_object_get_int64(json_object_array_get_idx(value, 0));
    if (type < INT8_MIN || type > INT8_MAX)
        return fail(reason, "the type of an ext is -128 to 127");
    int result = decode(json_object_array_get_idx(value, 1), &bytes, reason);
    if (result == 0) {
        pack_ext_head(out, bytes.size, (int)type);
        buffer_append(out, bytes.data, bytes.size);
    }
    buffer_free(&bytes);
    return result;
}

static int pack_float(struct buffer *out, struct json_object *value, const char **reason)
{
    const char *text = json_object_get_string(value);
    if (text != NULL && strcmp(text, "nan") == 0)
        wire_pack_float(out, (double)NAN);
    else if (text != NULL && strcmp(text, "inf") == 0)
        wire_pack_float(out, (double)INFINITY);
    else if (text != NULL && strcmp(text, "-inf") == 0)
        wire_pack_float(out, -(double)INFINITY);
    else
        return fail(reason, "$float is \"nan\", \"inf\" or \"-inf\"");
    return 0;
}

static int pack_map(struct buffer *out, struct json_object *value, const char **reason)
{
    if (!json_object_is_type(value, json_type_array))
        return fail(reason, "$map is expected as [[key, value], …]");
    size_t count = json_object_array_length(value);
    wire_pack_map(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        struct json_object *pair = json_object_array_get_idx(value, i);
        if (!json_object_is_type(pair, json_type_array) || json_object_array_length(pair) != 2)
            return fail(reason, "$map is expected as [[key, value], …]");
        if (pack(out, json_object_array_get_idx(pair, 0), reason) != 0 ||
            pack(out, json_object_array_get_idx(pair, 1), reason) != 0)
            return -1;
    }
    return 0;
}

typedef int pack_form(struct buffer *out, struct json_object *value, const char **reason);

static pack_form *form_of(const char *name)
{
    static const struct {
        const char *name;
        pack_form *form;
    } forms[] = {
        {"$bin", pack_bin},     {"$str", pack_str}, {"$ext", pack_ext},
        {"$float", pack_float}, {"$map", pack_map},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(name, forms[i].name) == 0)
            return forms[i].form;
    }
    return NULL;
}

static int pack_object(struct buffer *out, struct json_object *object, const char **reason)
{
    int count = json_object_object_length(object);
    struct json_object_iterator at = json_object_iter_begin(object);
    struct json_object_iterator end = json_object_iter_end(object);
    if (count == 1) {
        pack_form *form = form_of(json_object_iter_peek_name(&at));
        if (form != NULL)
            return form(out, json_object_iter_peek_value(&at), reason);
    }
    wire_pack_map(out, (uint32_t)count);
    for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
        wire_pack_text(out, json_object_iter_peek_name(&at));
        if (pack(out, json_object_iter_peek_value(&at), reason) != 0)
            return -1;
    }
    return 0;
}

static int pack_array(struct buffer *out, struct json_object *array, const char **reason)
{
    size_t count = json_object_array_length(array);
    wire_pack_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        if (pack(out, json_object_array_get_idx(array, i), reason) != 0)
            return -1;
    }
    return 0;
}

static void pack_int(struct buffer *out, struct json_object *number)
{
    int64_t value = json_object_get_int64(number);
    if (value < 0)
        wire_pack_integer(out, value);
    else
        wire_pack_uint(out, json_object_get_uint64(number));
}

static int pack(struct buffer *out, struct json_object *value, const char **reason)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        wire_pack_nil(out);
        return 0;
    case json_type_boolean:
        wire_pack_bool(out, json_object_get_boolean(value) != 0);
        return 0;
    case json_type_int:
        pack_int(out, value);
        return 0;
    case json_type_double:
        wire_pack_float(out, json_object_get_double(value));
        return 0;
    case json_type_string:
        wire_pack_str(out, text_of(value));
        return 0;
    case json_type_array:
        return pack_array(out, value, reason);
    case json_type_object:
        return pack_object(out, value, reason);
    }
    return fail(reason, "not JSON");
}

/* Of the whole tree: json-c keeps the last of two members of one name. */
static size_t count_names(struct json_object *value)
{
    size_t count = 0;
    size_t length =
        json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    for (size_t i = 0; i < length; i++)
        count += count_names(json_object_array_get_idx(value, i));
    if (!json_object_is_type(value, json_type_object))
        return count;
    struct json_object_iterator at = json_object_iter_begin(value);
    struct json_object_iterator end = json_object_iter_end(value);
    for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
        count += 1 + count_names(json_object_iter_peek_value(&at));
    return count;
}

static int pack_whole(struct buffer *out, struct json_object *value, size_t names,
                      const char **reason)
{
    if (count_names(value) != names)
        return fail(reason, "a name stands twice in one object: write it as {\"$map\": …}");
    return pack(out, value, reason);
}

/* json-c is given the closing zero as well: only then does it know that a number has ended. */
static int parse_text(struct buffer *out, const char *text, size_t size, const char **reason)
{
    size_t names;
    if (check(text, &names, reason) != 0)
        return -1;
    struct json_tokener *tokener = json_tokener_new_ex(PARSE_DEPTH);
    if (tokener == NULL)
        return fail(reason, "out of memory");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *value = json_tokener_parse_ex(tokener, text, (int)size + 1);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    int result = -1;
    if (error == json_tokener_success && json_tokener_get_parse_end(tokener) == size)
        result = pack_whole(out, value, names, reason);
    else if (error == json_tokener_success)
        fail(reason, "something follows the JSON value");
    else
        fail(reason, json_tokener_error_desc(error));
    json_object_put(value);
    json_tokener_free(tokener);
    return result;
}

static bool is_space(uint8_t character)
{
    return character == ' ' || character == '\t' || character == '\r' || character == '\n';
}

int json_parse(struct buffer *out, struct slice text, const char **reason)
{
    struct buffer copy = {0};
    int result = -1;
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    buffer_append_slice(&copy, text);
    buffer_append(&copy, "", 1);
    if (copy.failed)
        fail(reason, "out of memory");
    else if (text.size >= INT32_MAX || memchr(text.data, 0, text.size) != NULL)
        fail(reason, "not JSON: a zero character, or too long");
    else
        result = parse_text(out, (const char *)copy.data, text.size, reason);
    buffer_free(&copy);
    if (result == 0 && out->failed)
        return fail(reason, "out of memory");
    return result;
}
