#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "notation.h"
#include "wire/cursor.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* What one read function makes of the bytes; -2 is "read, but the cursor stands wrongly". */
static int read_as(enum wire_type type, struct slice bytes)
{
    struct wire_cursor cursor = wire_cursor_of(bytes);
    struct wire_cursor before = cursor;
    struct slice body;
    wire_integer integer;
    double number;
    bool flag;
    uint32_t count;
    int ext;
    int result = -1;
    if (type == WIRE_NIL)
        result = wire_read_nil(&cursor);
    else if (type == WIRE_BOOL)
        result = wire_read_bool(&cursor, &flag);
    else if (type == WIRE_INTEGER)
        result = wire_read_integer(&cursor, &integer);
    else if (type == WIRE_FLOAT)
        result = wire_read_float(&cursor, &number);
    else if (type == WIRE_STR)
        result = wire_read_str(&cursor, &body);
    else if (type == WIRE_BIN)
        result = wire_read_bin(&cursor, &body);
    else if (type == WIRE_ARRAY)
        result = wire_read_array(&cursor, &count);
    else if (type == WIRE_MAP)
        result = wire_read_map(&cursor, &count);
    else if (type == WIRE_EXT)
        result = wire_read_ext(&cursor, &ext, &body);
    bool moved = cursor.at != before.at;
    return (result == 0) == moved && cursor.end == before.end ? result : -2;
}

static int read_integer(const char *notation, wire_integer *value)
{
    struct buffer message = message_of(notation);
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
    int result = wire_read_integer(&cursor, value);
    if (result == 0)
        cr_expect(wire_at_end(&cursor), "%s", notation);
    buffer_free(&message);
    return result;
}

static int read_uint(const char *notation, uint64_t *value)
{
    struct buffer message = message_of(notation);
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
    int result = wire_read_uint(&cursor, value);
    buffer_free(&message);
    return result;
}

Test(cursor, integers_are_read_in_every_encoding)
{
    static const struct {
        const char *bytes;
        int64_t value;
    } rows[] = {
        {"<00>", 0},
        {"<7f>", 127},
        {"<ff>", -1},
        {"<e0>", -32},
        {"<cc 00>", 0},
        {"<cc ff>", 255},
        {"<cd 00 05>", 5},
        {"<cd ff fe>", 65534},
        {"<ce 00 00 00 05>", 5},
        {"<ce ff ff ff fe>", 4294967294},
        {"<cf 00 00 00 00 00 00 00 05>", 5},
        {"<cf 7f ff ff ff ff ff ff ff>", INT64_MAX},
        {"<d0 05>", 5},
        {"<d0 80>", -128},
        {"<d1 00 05>", 5},
        {"<d1 80 00>", -32768},
        {"<d2 00 00 00 05>", 5},
        {"<d2 80 00 00 00>", -2147483648LL},
        {"<d3 00 00 00 00 00 00 00 05>", 5},
        {"<d3 80 00 00 00 00 00 00 00>", INT64_MIN},
        {"<d3 ff ff ff ff ff ff ff fe>", -2},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        wire_integer integer = 77;
        uint64_t number = 77;
        cr_expect(read_integer(rows[i].bytes, &integer) == 0, "%s", rows[i].bytes);
        cr_expect(integer == rows[i].value, "%s", rows[i].bytes);
        cr_expect(read_uint(rows[i].bytes, &number) == (rows[i].value < 0 ? -1 : 0), "%s",
                  rows[i].bytes);
        cr_expect(number == (rows[i].value < 0 ? 77 : (uint64_t)rows[i].value), "%s",
                  rows[i].bytes);
    }
}

Test(cursor, the_largest_integer_is_two_to_the_64_minus_1)
{
    wire_integer integer;
    uint64_t number;
    cr_expect(read_integer("<cf ff ff ff ff ff ff ff ff>", &integer) == 0);
    cr_expect(integer == WIRE_INTEGER_MAX);
    cr_expect(read_uint("<cf ff ff ff ff ff ff ff ff>", &number) == 0);
    cr_expect(number == UINT64_MAX);
}

Test(cursor, floats_booleans_and_nil_are_no_integers)
{
    static const char *const rows[] = {
        "5.0",   "<ca 40 a0 00 00>", "true", "false", "nil", "'5'", "b'5'", "[5]",
        "{5 5}", "<d4 00 05>",       "<c1>", ""};
    for (size_t i = 0; i < COUNT(rows); i++) {
        wire_integer integer;
        cr_expect(read_integer(rows[i], &integer) == -1, "%s", rows[i]);
    }
}

Test(cursor, floats_of_both_sizes_are_read)
{
    struct buffer message = message_of("<ca 3f c0 00 00> 0.1 <ca 7f 80 00 00>");
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
    double value;
    cr_expect(wire_read_float(&cursor, &value) == 0 && value == 1.5);
    cr_expect(wire_read_float(&cursor, &value) == 0 && value == 0.1);
    cr_expect(wire_read_float(&cursor, &value) == 0 && isinf(value));
    cr_expect(wire_at_end(&cursor));
    buffer_free(&message);
}

Test(cursor, the_first_byte_tells_the_type_and_only_its_reader_takes_it)
{
    for (unsigned first = 0; first < 256; first++) {
        uint8_t bytes[600] = {(uint8_t)first};
        struct slice message = slice_of(bytes, sizeof(bytes));
        struct wire_cursor cursor = wire_cursor_of(message);
        enum wire_type type = wire_peek(&cursor);
        cr_expect((type == WIRE_NOTHING) == (first == 0xc1), "%02x", first);
        for (int other = WIRE_NIL; other <= WIRE_EXT; other++) {
            int expected = other == (int)type ? 0 : -1;
            cr_expect(read_as((enum wire_type)other, message) == expected, "%02x as %d", first,
                      other);
        }
    }
}

Test(cursor, the_end_is_of_no_type)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of(NULL, 0));
    cr_expect(wire_peek(&cursor) == WIRE_NOTHING);
    for (int type = WIRE_NIL; type <= WIRE_EXT; type++)
        cr_expect(read_as((enum wire_type)type, slice_of(NULL, 0)) == -1);
}

Test(cursor, str_and_bin_of_every_length_encoding_are_views_of_the_message)
{
    static const struct {
        const char *notation;
        enum wire_type type;
        size_t size;
    } rows[] = {
        {"''", WIRE_STR, 0},
        {"s(31)", WIRE_STR, 31},
        {"s(32)", WIRE_STR, 32},
        {"s(255)", WIRE_STR, 255},
        {"s(256)", WIRE_STR, 256},
        {"s(65535)", WIRE_STR, 65535},
        {"s(65536)", WIRE_STR, 65536},
        {"b(0)", WIRE_BIN, 0},
        {"b(255)", WIRE_BIN, 255},
        {"b(256)", WIRE_BIN, 256},
        {"b(65536)", WIRE_BIN, 65536},
        {"<d9 01 78>", WIRE_STR, 1},
        {"<da 00 01 78>", WIRE_STR, 1},
        {"<db 00 00 00 01 78>", WIRE_STR, 1},
        {"<c5 00 01 78>", WIRE_BIN, 1},
        {"<c6 00 00 00 01 78>", WIRE_BIN, 1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i].notation);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        struct wire_cursor again = cursor;
        struct slice bytes, either;
        int result = rows[i].type == WIRE_STR ? wire_read_str(&cursor, &bytes)
                                              : wire_read_bin(&cursor, &bytes);
        cr_assert(result == 0, "%s", rows[i].notation);
        cr_expect(wire_at_end(&cursor), "%s", rows[i].notation);
        cr_expect(bytes.size == rows[i].size, "%s", rows[i].notation);
        cr_expect(bytes.data + bytes.size == message.data + message.size, "%s", rows[i].notation);
        cr_expect(wire_read_bytes(&again, &either) == 0 && slice_equal(bytes, either));
        buffer_free(&message);
    }
}

Test(cursor, ext_types_are_signed_and_their_data_is_whole)
{
    static const struct {
        const char *bytes;
        int type;
        size_t size;
    } rows[] = {
        {"<d4 05 01>", 5, 1},
        {"<d5 ff 01 02>", -1, 2},
        {"<d6 80 01 02 03 04>", -128, 4},
        {"<d7 7f 01 02 03 04 05 06 07 08>", 127, 8},
        {"<d8 01 01 02 03 04 05 06 07 08 01 02 03 04 05 06 07 08>", 1, 16},
        {"<c7 00 09>", 9, 0},
        {"<c7 03 fe 01 02 03>", -2, 3},
        {"<c8 00 03 fe 01 02 03>", -2, 3},
        {"<c9 00 00 00 03 fe 01 02 03>", -2, 3},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i].bytes);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        struct slice bytes;
        int type;
        cr_assert(wire_read_ext(&cursor, &type, &bytes) == 0, "%s", rows[i].bytes);
        cr_expect(type == rows[i].type, "%s: %d", rows[i].bytes, type);
        cr_expect(bytes.size == rows[i].size && wire_at_end(&cursor), "%s", rows[i].bytes);
        buffer_free(&message);
    }
}

Test(cursor, what_is_cut_off_anywhere_is_refused_and_nothing_moves)
{
    static const char *const rows[] = {
        "<cc 05>",
        "<cd 00 05>",
        "<ce 00 00 00 05>",
        "<cf 00 00 00 00 00 00 00 05>",
        "<d0 05>",
        "<d1 00 05>",
        "<d2 00 00 00 05>",
        "<d3 00 00 00 00 00 00 00 05>",
        "<ca 00 00 00 00>",
        "0.5",
        "'text'",
        "<d9 01 78>",
        "<da 00 01 78>",
        "<db 00 00 00 01 78>",
        "b'text'",
        "<c5 00 01 78>",
        "<c6 00 00 00 01 78>",
        "<d4 05 01>",
        "<d5 05 01 02>",
        "<d6 05 01 02 03 04>",
        "<d7 05 01 02 03 04 05 06 07 08>",
        "<d8 05 01 02 03 04 05 06 07 08 01 02 03 04 05 06 07 08>",
        "<c7 03 fe 01 02 03>",
        "<c8 00 03 fe 01 02 03>",
        "<c9 00 00 00 03 fe 01 02 03>",
        "[1]",
        "[1 [2 [3 'x']] {'k' 'v'}]",
        "<dc 00 02 01 02>",
        "<dd 00 00 00 02 01 02>",
        "{1 2}",
        "<de 00 01 01 02>",
        "<df 00 00 00 01 01 02>",
        "{'k' {'k' [nil 1.5 true]}}",
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i]);
        for (size_t size = 0; size <= message.size; size++) {
            uint8_t *part = malloc(size > 0 ? size : 1);
            cr_assert(part != NULL);
            memcpy(part, message.data, size);
            struct wire_cursor cursor = wire_cursor_of(slice_of(part, size));
            struct slice object;
            int expected = size == message.size ? 0 : -1;
            cr_expect(wire_read_object(&cursor, 10, &object, NULL) == expected, "%zu bytes of %s",
                      size, rows[i]);
            cr_expect(cursor.at == part + (expected == 0 ? size : 0), "%zu of %s", size, rows[i]);
            for (int type = WIRE_NIL; size < message.size && type < WIRE_ARRAY; type++)
                cr_expect(read_as((enum wire_type)type, slice_of(part, size)) == -1,
                          "%zu bytes of %s as %d", size, rows[i], type);
            free(part);
        }
        buffer_free(&message);
    }
}

Test(cursor, counts_that_the_bytes_left_cannot_hold_are_refused)
{
    static const char *const rows[] = {
        "<dd ff ff ff ff 00>",
        "<df ff ff ff ff 00 00>",
        "<df 80 00 00 00 00 00>",
        "<dc 00 02 00>",
        "<de 00 01 00>",
        "<92 00>",
        "<81 00>",
        "<db ff ff ff ff 00>",
        "<c6 ff ff ff ff 00>",
        "<c9 ff ff ff ff 00 00>",
        "<dd 00 00 00>",
        "<df>",
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i]);
        struct slice bytes = buffer_slice(&message, 0);
        struct wire_cursor cursor = wire_cursor_of(bytes);
        struct slice object;
        for (int type = WIRE_NIL; type <= WIRE_EXT; type++)
            cr_expect(read_as((enum wire_type)type, bytes) == -1, "%s as %d", rows[i], type);
        cr_expect(wire_read_object(&cursor, 64, &object, NULL) == -1, "%s", rows[i]);
        buffer_free(&message);
    }
}

Test(cursor, counts_that_the_bytes_left_can_just_hold_are_read)
{
    static const struct {
        const char *notation;
        enum wire_type type;
        uint32_t count;
    } rows[] = {
        {"[]", WIRE_ARRAY, 0},
        {"[1*15]", WIRE_ARRAY, 15},
        {"[1*16]", WIRE_ARRAY, 16},
        {"[1*65536]", WIRE_ARRAY, 65536},
        {"{}", WIRE_MAP, 0},
        {"{1*30}", WIRE_MAP, 15},
        {"{1*32}", WIRE_MAP, 16},
        {"{1*131072}", WIRE_MAP, 65536},
        {"<dc 00 01 05>", WIRE_ARRAY, 1},
        {"<df 00 00 00 01 05 05>", WIRE_MAP, 1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i].notation);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        uint32_t count;
        int result = rows[i].type == WIRE_ARRAY ? wire_read_array(&cursor, &count)
                                                : wire_read_map(&cursor, &count);
        cr_expect(result == 0 && count == rows[i].count, "%s", rows[i].notation);
        buffer_free(&message);
    }
}

Test(cursor, the_envelope_is_read_even_where_its_elements_are_missing)
{
    struct buffer message = message_of("<dd ff ff ff ff>");
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
    uint32_t count;
    cr_expect(wire_read_envelope(&cursor, &count) == 0);
    cr_expect(count == UINT32_MAX && wire_at_end(&cursor));
    cr_expect(wire_read_envelope(&cursor, &count) == -1);
    buffer_free(&message);
}

Test(cursor, objects_are_read_to_the_allowed_depth_and_not_beyond)
{
    static const struct {
        const char *notation;
        unsigned depth;
    } rows[] = {
        {"5", 0},         {"'x'", 0},           {"[]", 1},           {"{}", 1},
        {"[[]]", 2},      {"{1 {}}", 2},        {"{{} 1}", 2},       {"[1 [2] []]", 2},
        {"nest(64)", 64}, {"nest(1000)", 1000}, {"[[] [[]] []]", 3},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i].notation);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        struct slice object;
        bool deep = false;
        if (rows[i].depth > 0) {
            cr_expect(wire_read_object(&cursor, rows[i].depth - 1, &object, &deep) == -1);
            cr_expect(deep && cursor.at == message.data, "%s", rows[i].notation);
        }
        cr_expect(wire_read_object(&cursor, rows[i].depth, &object, &deep) == 0);
        cr_expect(!deep && wire_at_end(&cursor), "%s", rows[i].notation);
        cr_expect(object.data == message.data && object.size == message.size);
        buffer_free(&message);
    }
}

Test(cursor, an_object_ends_where_the_next_one_begins)
{
    struct buffer message = message_of("[1 {'k' [2]}] 'next'");
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
    struct slice object;
    cr_assert(wire_read_object(&cursor, 64, &object, NULL) == 0);
    cr_expect(object.size == message.size - sizeof("next"));
    cr_expect(wire_peek(&cursor) == WIRE_STR);
    buffer_free(&message);
}

Test(cursor, the_byte_c1_is_refused_in_every_place)
{
    static const char *const rows[] = {"<c1>",         "[<c1>]",         "[1 <c1>]",
                                       "{<c1> 1}",     "{1 <c1>}",       "[[1 [<c1>]]]",
                                       "{1 {2 <c1>}}", "[<c1> 1 2 3 4]", "['x' 'y' <c1>]"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i]);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        struct slice object;
        bool deep = true;
        cr_expect(wire_read_object(&cursor, 64, &object, &deep) == -1, "%s", rows[i]);
        cr_expect(!deep, "%s", rows[i]);
        buffer_free(&message);
    }
}

Test(cursor, nesting_bombs_are_refused_at_the_depth_limit)
{
    static const char *const rows[] = {"<91>*100000", "<81>*100000", "<dc 00 01>*100000",
                                       "<81 a0>*100000", "<dd 00 00 00 05>*100000"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[64];
        snprintf(notation, sizeof(notation), "[%s]", rows[i]);
        struct buffer message = message_of(notation);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&message, 0));
        struct slice object;
        bool deep = false;
        cr_expect(wire_read_object(&cursor, 64, &object, &deep) == -1, "%s", rows[i]);
        cr_expect(deep, "%s", rows[i]);
        buffer_free(&message);
    }
}

Test(cursor, utf8_is_well_formed_by_rfc_3629)
{
    static const struct {
        const char *bytes;
        bool valid;
    } rows[] = {
        {"", true},
        {"plain", true},
        {"plain and longer than a word", true},
        {"caf\xc3\xa9", true},
        {"\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87", true},
        {"longer than a word: \xe2\x82\xac, \xf0\x9f\x98\x80", true},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xed\x9f\xbf", true},
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x7f", true},
        {"\x80", false}, /* a continuation alone */
        {"\xbf", false},
        {"12345678\x80", false},
        {"\xc0\x80", false}, /* overlong */
        {"\xc1\xbf", false},
        {"\xe0\x80\x80", false},
        {"\xe0\x9f\xbf", false},
        {"\xf0\x80\x80\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xed\xa0\x80", false}, /* surrogates */
        {"\xed\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xf8\x88\x80\x80\x80", false}, /* five and six bytes */
        {"\xfc\x84\x80\x80\x80\x80", false},
        {"\xfe", false},
        {"\xff", false},
        {"\xc3", false}, /* cut off */
        {"\xe2\x82", false},
        {"\xf0\x9f\x98", false},
        {"\xc3(", false}, /* broken off */
        {"\xe2(\xa1", false},
        {"\xe2\x82(", false},
        {"\xf0\x9f(\x80", false},
        {"\xf0\x9f\x98(", false},
        {"\xe2\x82\xe2\x82\xac", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        cr_expect(wire_is_utf8(slice_of_text(rows[i].bytes)) == rows[i].valid, "row %zu", i);
    cr_expect(wire_is_utf8(slice_of("a\0b", 3)));
    cr_expect(wire_is_utf8(slice_of(NULL, 0)));
}

Test(cursor, every_code_point_is_utf8_unless_it_is_a_surrogate)
{
    for (uint32_t point = 0x800; point < 0x10000; point++) {
        const uint8_t bytes[] = {(uint8_t)(0xe0 | point >> 12),
                                 (uint8_t)(0x80 | (point >> 6 & 0x3f)),
                                 (uint8_t)(0x80 | (point & 0x3f))};
        bool surrogate = point >= 0xd800 && point < 0xe000;
        cr_assert(wire_is_utf8(slice_of(bytes, sizeof(bytes))) == !surrogate, "U+%04X", point);
    }
}
