#include <math.h>
#include <stdio.h>

#include "bindings/cli/base64.h"
#include "bindings/cli/json.h"

enum { PRINT_DEPTH = WIRE_MAX_DEPTH + 8, NUMBER_SIZE = 48, MAX_DIGITS = 17, MIN_DIGITS = 15 };

static int print_value(struct buffer *out, struct wire_cursor *cursor, unsigned depth);

static void append_text(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

static void print_character(struct buffer *out, uint8_t character)
{
    static const char *const names[] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n",  ['\f'] = "\\f",
        ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\",
    };
    char escape[8];
    if (character < sizeof(names) / sizeof(names[0]) && names[character] != NULL) {
        append_text(out, names[character]);
    } else if (character < ' ') {
        snprintf(escape, sizeof(escape), "\\u%04x", character);
        append_text(out, escape);
    } else {
        buffer_append(out, &character, 1);
    }
}

static void print_string(struct buffer *out, struct slice text)
{
    append_text(out, "\"");
    for (size_t i = 0; i < text.size; i++)
        print_character(out, text.data[i]);
    append_text(out, "\"");
}

static void print_base64(struct buffer *out, const char *name, struct slice bytes)
{
    append_text(out, "{\"");
    append_text(out, name);
    append_text(out, "\":\"");
    base64_encode(out, bytes);
    append_text(out, "\"}");
}

static void print_bytes(struct buffer *out, const char *name, struct slice bytes)
{
    if (strcmp(name, "$str") == 0 && wire_is_utf8(bytes))
        print_string(out, bytes);
    else
        print_base64(out, name, bytes);
}

void json_print_key(struct buffer *out, struct slice key)
{
    if (wire_is_utf8(key))
        print_string(out, key);
    else
        print_base64(out, "$bin", key);
}

static void print_integer(struct buffer *out, wire_integer number)
{
    char text[NUMBER_SIZE];
    if (number < 0)
        snprintf(text, sizeof(text), "%lld", (long long)number);
    else
        snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    append_text(out, text);
}

/* The fewest digits that read back as the same number. */
static void print_finite(struct buffer *out, double number)
{
    char text[NUMBER_SIZE];
    for (int digits = MIN_DIGITS; digits <= MAX_DIGITS; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    append_text(out, text);
    if (strpbrk(text, ".e") == NULL)
        append_text(out, ".0");
}

static void print_float(struct buffer *out, double number)
{
    if (isnan(number))
        append_text(out, "{\"$float\":\"nan\"}");
    else if (isinf(number))
        append_text(out, number > 0 ? "{\"$float\":\"inf\"}" : "{\"$float\":\"-inf\"}");
    else
        print_finite(out, number);
}

static void print_ext(struct buffer *out, int type, struct slice bytes)
{
    char text[NUMBER_SIZE];
    snprintf(text, sizeof(text), "{\"$ext\":[%d,\"", type);
    append_text(out, text);
    base64_encode(out, bytes);
    append_text(out, "\"]}");
}

static int print_array(struct buffer *out, struct wire_cursor *cursor, unsigned depth)
{
    uint32_t count;
    if (wire_read_array(cursor, &count) != 0)
        return -1;
    append_text(out, "[");
    for (uint32_t i = 0; i < count; i++) {
        append_text(out, i > 0 ? "," : "");
        if (print_value(out, cursor, depth) != 0)
            return -1;
    }
    append_text(out, "]");
    return 0;
}

static bool is_reserved(struct slice name)
{
    static const char *const names[] = {"$bin", "$str", "$ext", "$float", "$map"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal(name, slice_of_text(names[i])))
            return true;
    }
    return false;
}

/*
 * Whether `name` is among the first `count` keys of the map: quadratic, but only for maps of
 * names alone, and those are small.
 */
static bool is_repeated(struct wire_cursor cursor, uint32_t count, struct slice name)
{
    struct slice earlier, value;
    for (; count > 0; count--) {
        if (wire_read_str(&cursor, &earlier) != 0 || slice_equal(earlier, name))
            return true;
        if (wire_read_object(&cursor, PRINT_DEPTH, &value, NULL) != 0)
            return true;
    }
    return false;
}

/* Whether the map can be a JSON object that is read back as the same map. */
static bool is_object(struct wire_cursor cursor, uint32_t count)
{
    struct wire_cursor start = cursor;
    struct slice name, value;
    for (uint32_t i = 0; i < count; i++) {
        if (wire_read_str(&cursor, &name) != 0 || !wire_is_utf8(name) ||
            (name.size > 0 && memchr(name.data, 0, name.size) != NULL) ||
            is_repeated(start, i, name) || (count == 1 && is_reserved(name)) ||
            wire_read_object(&cursor, PRINT_DEPTH, &value, NULL) != 0)
            return false;
    }
    return true;
}

static int print_pairs(struct buffer *out, struct wire_cursor *cursor, uint32_t count,
                       unsigned depth, const char *const marks[4])
{
    append_text(out, marks[0]);
    for (uint32_t i = 0; i < count; i++) {
        append_text(out, i > 0 ? "," : "");
        append_text(out, marks[1]);
        if (print_value(out, cursor, depth) != 0)
            return -1;
        append_text(out, marks[2]);
        if (print_value(out, cursor, depth) != 0)
            return -1;
        append_text(out, marks[3]);
    }
    return 0;
}

static int print_map(struct buffer *out, struct wire_cursor *cursor, unsigned depth)
{
    static const char *const object_marks[] = {"{", "", ":", ""};
    static const char *const pair_marks[] = {"{\"$map\":[", "[", ",", "]"};
    uint32_t count;
    if (wire_read_map(cursor, &count) != 0)
        return -1;
    bool plain = is_object(*cursor, count);
    if (print_pairs(out, cursor, count, depth, plain ? object_marks : pair_marks) != 0)
        return -1;
    append_text(out, plain ? "}" : "]}");
    return 0;
}

static int print_scalar(struct buffer *out, struct wire_cursor *cursor)
{
    struct slice bytes;
    wire_integer integer;
    double real;
    bool truth;
    int type;
    if (wire_read_integer(cursor, &integer) == 0)
        print_integer(out, integer);
    else if (wire_read_str(cursor, &bytes) == 0)
        print_bytes(out, "$str", bytes);
    else if (wire_read_bin(cursor, &bytes) == 0)
        print_bytes(out, "$bin", bytes);
    else if (wire_read_nil(cursor) == 0)
        append_text(out, "null");
    else if (wire_read_bool(cursor, &truth) == 0)
        append_text(out, truth ? "true" : "false");
    else if (wire_read_float(cursor, &real) == 0)
        print_float(out, real);
    else if (wire_read_ext(cursor, &type, &bytes) == 0)
        print_ext(out, type, bytes);
    else
        return -1;
    return 0;
}

static int print_value(struct buffer *out, struct wire_cursor *cursor, unsigned depth)
{
    enum wire_type type = wire_peek(cursor);
    if (type != WIRE_ARRAY && type != WIRE_MAP)
        return print_scalar(out, cursor);
    if (depth == 0)
        return -1;
    return type == WIRE_ARRAY ? print_array(out, cursor, depth - 1)
                              : print_map(out, cursor, depth - 1);
}

int json_print(struct buffer *out, struct slice object)
{
    struct wire_cursor cursor = wire_cursor_of(object);
    return print_value(out, &cursor, PRINT_DEPTH) == 0 && wire_at_end(&cursor) ? 0 : -1;
}
