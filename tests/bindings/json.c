#include "bindings/cli/json.h"

#include <math.h>
#include <stdio.h>

#include "bindings/cli/base64.h"

#include <criterion/criterion.h>

#define OBJECT(text) slice_of(text, sizeof(text) - 1)

/* The object is shown as this text, and the text read back gives this object. */
static void expect_both_ways(struct slice object, const char *text)
{
    struct buffer printed = {0};
    struct buffer parsed = {0};
    const char *reason = "";
    cr_assert_eq(json_print(&printed, object), 0);
    cr_assert(slice_equal(buffer_slice(&printed, 0), slice_of_text(text)), "printed %.*s, not %s",
              (int)printed.size, (const char *)printed.data, text);
    cr_assert_eq(json_parse(&parsed, slice_of_text(text), &reason), 0, "%s: %s", text, reason);
    cr_assert(slice_equal(buffer_slice(&parsed, 0), object), "%s is read as another object", text);
    buffer_free(&printed);
    buffer_free(&parsed);
}

static void expect_refused(struct slice text)
{
    struct buffer parsed = {0};
    const char *reason = NULL;
    cr_assert_eq(json_parse(&parsed, text, &reason), -1, "accepted: %.*s", (int)text.size,
                 (const char *)text.data);
    cr_assert_not_null(reason);
    buffer_free(&parsed);
}

Test(json, a_name_that_stands_twice_in_an_object_is_refused)
{
    static const char *const refused[] = {"{\"a\":1,\"a\":2}", "[1,{\"b\":{\"a\":1,\"a\":1}}]",
                                          "{\"$map\":[[{\"a\":1,\"a\":2},1]]}",
                                          "{\"\\u0061\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        expect_refused(slice_of_text(refused[i]));
    expect_both_ways(OBJECT("\x81\xa1\x61\x81\xa1\x61\xa3\x3a\x22\x3a"),
                     "{\"a\":{\"a\":\":\\\":\"}}");
    expect_both_ways(OBJECT("\x82\xa1\x61\x01\xa1\x61\x02"), "{\"$map\":[[\"a\",1],[\"a\",2]]}");
}

Test(json, scalars_keep_their_type)
{
    expect_both_ways(OBJECT("\xc0"), "null");
    expect_both_ways(OBJECT("\xc3"), "true");
    expect_both_ways(OBJECT("\xc2"), "false");
    expect_both_ways(OBJECT("\x05"), "5");
    expect_both_ways(OBJECT("\xcb\x40\x14\0\0\0\0\0\0"), "5.0");
    expect_both_ways(OBJECT("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1");
    expect_both_ways(OBJECT("\xcb\x80\0\0\0\0\0\0\0"), "-0.0");
    expect_both_ways(OBJECT("\xa0"), "\"\"");
}

Test(json, integers_keep_all_64_bits)
{
    expect_both_ways(OBJECT("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    expect_both_ways(OBJECT("\xcf\x80\0\0\0\0\0\0\0"), "9223372036854775808");
    expect_both_ways(OBJECT("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"), "9223372036854775807");
    expect_both_ways(OBJECT("\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    expect_both_ways(OBJECT("\xff"), "-1");
}

Test(json, floats_keep_all_their_bits)
{
    const double numbers[] = {1e300, 5e-324, 1.7976931348623157e308, 1.0 / 3, 1e21, 123456789.125};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct buffer packed = {0}, printed = {0}, parsed = {0};
        const char *reason;
        wire_pack_float(&packed, numbers[i]);
        cr_assert_eq(json_print(&printed, buffer_slice(&packed, 0)), 0);
        cr_assert_eq(json_parse(&parsed, buffer_slice(&printed, 0), &reason), 0);
        cr_assert(slice_equal(buffer_slice(&parsed, 0), buffer_slice(&packed, 0)), "%g",
                  numbers[i]);
        buffer_free(&packed);
        buffer_free(&printed);
        buffer_free(&parsed);
    }
}

Test(json, floats_that_are_no_numbers_are_named)
{
    expect_both_ways(OBJECT("\xcb\x7f\xf0\0\0\0\0\0\0"), "{\"$float\":\"inf\"}");
    expect_both_ways(OBJECT("\xcb\xff\xf0\0\0\0\0\0\0"), "{\"$float\":\"-inf\"}");
    expect_both_ways(OBJECT("\xcb\x7f\xf8\0\0\0\0\0\0"), "{\"$float\":\"nan\"}");
}

Test(json, strings_are_escaped_as_json_wants)
{
    expect_both_ways(OBJECT("\xa8\"\\\n\t\x01\0\x7f/"), "\"\\\"\\\\\\n\\t\\u0001\\u0000\x7f/\"");
    expect_both_ways(OBJECT("\xa6\xc3\xa4\xf0\x9f\x98\x80"), "\"\xc3\xa4\xf0\x9f\x98\x80\"");
}

Test(json, bytes_that_are_no_text_are_base64)
{
    expect_both_ways(OBJECT("\xc4\x03\x00\x01\x02"), "{\"$bin\":\"AAEC\"}");
    expect_both_ways(OBJECT("\xc4\x00"), "{\"$bin\":\"\"}");
    expect_both_ways(OBJECT("\xc4\x02hi"), "{\"$bin\":\"aGk=\"}");
    expect_both_ways(OBJECT("\xa1\xff"), "{\"$str\":\"/w==\"}");
    expect_both_ways(OBJECT("\xa3\xed\xa0\x80"), "{\"$str\":\"7aCA\"}"); /* a surrogate */
}

Test(json, exts_carry_their_type)
{
    expect_both_ways(OBJECT("\xd4\x05\x00"), "{\"$ext\":[5,\"AA==\"]}");
    expect_both_ways(OBJECT("\xd6\xff\x00\x00\x00\x01"), "{\"$ext\":[-1,\"AAAAAQ==\"]}");
    expect_both_ways(OBJECT("\xc7\x03\x80"
                            "abc"),
                     "{\"$ext\":[-128,\"YWJj\"]}");
    expect_both_ways(OBJECT("\xc7\x00\x01"), "{\"$ext\":[1,\"\"]}");
}

Test(json, maps_are_objects_where_they_can_be)
{
    expect_both_ways(OBJECT("\x80"), "{}");
    expect_both_ways(OBJECT("\x82\xa1"
                            "b\x01\xa1"
                            "a\x92\x02\x03"),
                     "{\"b\":1,\"a\":[2,3]}");
    expect_both_ways(OBJECT("\x82\xa4$bin\x01\xa1x\x02"), "{\"$bin\":1,\"x\":2}");
    expect_both_ways(OBJECT("\x81\xa4$set\x01"), "{\"$set\":1}");
}

Test(json, maps_that_cannot_be_objects_are_pairs)
{
    expect_both_ways(OBJECT("\x81\x01\xa3one"), "{\"$map\":[[1,\"one\"]]}");
    expect_both_ways(OBJECT("\x82\xa1k\x01\xa1k\x02"), "{\"$map\":[[\"k\",1],[\"k\",2]]}");
    expect_both_ways(OBJECT("\x81\xa4$bin\x01"), "{\"$map\":[[\"$bin\",1]]}");
    expect_both_ways(OBJECT("\x81\xa4$map\x90"), "{\"$map\":[[\"$map\",[]]]}");
    expect_both_ways(OBJECT("\x81\xa3"
                            "a\0b\x01"),
                     "{\"$map\":[[\"a\\u0000b\",1]]}");
    expect_both_ways(OBJECT("\x81\xa1\xff\x01"), "{\"$map\":[[{\"$str\":\"/w==\"},1]]}");
}

Test(json, what_would_be_changed_in_silence_is_refused)
{
    expect_refused(OBJECT("18446744073709551616"));
    expect_refused(OBJECT("-9223372036854775809"));
    expect_refused(OBJECT("1e400"));
    expect_refused(OBJECT("\"\\ud800\""));
    expect_refused(OBJECT("\"\\ud800x\""));
    expect_refused(OBJECT("\"\\udc00\""));
    expect_refused(OBJECT("{\"a\\u0000b\":1}"));
    expect_refused(OBJECT("NaN"));
    expect_refused(OBJECT("-Infinity"));
}

Test(json, a_surrogate_pair_is_one_character)
{
    struct buffer parsed = {0};
    const char *reason;
    cr_assert_eq(json_parse(&parsed, OBJECT(" \"\\ud83d\\ude00\" \n"), &reason), 0);
    cr_assert(slice_equal(buffer_slice(&parsed, 0), OBJECT("\xa4\xf0\x9f\x98\x80")));
    buffer_free(&parsed);
}

Test(json, what_is_not_json_is_refused)
{
    const char *const texts[] = {"",         " ",     "nul",     "[1,]",  "[1",   "{\"a\"}",
                                 "1 2",      "'a'",   "// c\n1", "01",    "\"a",  "\"\\",
                                 "\"a\tb\"", "{a:1}", "-",       "hello", "[1]]", "\"\\x\""};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect_refused(slice_of_text(texts[i]));
    expect_refused(OBJECT("\"\xff\""));
    expect_refused(OBJECT("1\0"));
    expect_refused(OBJECT("1\0002"));
}

Test(json, special_forms_that_are_none_are_refused)
{
    const char *const texts[] = {
        "{\"$bin\":5}",        "{\"$bin\":\"A\"}",    "{\"$bin\":\"AB==\"}",
        "{\"$bin\":\"A===\"}", "{\"$bin\":\"AA=A\"}", "{\"$ext\":[128,\"\"]}",
        "{\"$ext\":[1]}",      "{\"$ext\":\"AA==\"}", "{\"$float\":\"Inf\"}",
        "{\"$float\":null}",   "{\"$map\":{}}",       "{\"$map\":[[1]]}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect_refused(slice_of_text(texts[i]));
}

Test(json, nesting_ends_before_the_stack_does)
{
    char deep[4096];
    memset(deep, '[', sizeof(deep));
    expect_refused(slice_of(deep, sizeof(deep)));
    memset(deep, '\x91', sizeof(deep));
    struct buffer printed = {0};
    cr_assert_eq(json_print(&printed, slice_of(deep, sizeof(deep))), -1);
    buffer_free(&printed);
}

Test(json, what_is_not_messagepack_is_not_printed)
{
    struct buffer printed = {0};
    cr_assert_eq(json_print(&printed, OBJECT("\xc1")), -1);
    cr_assert_eq(json_print(&printed, OBJECT("\x92\x01")), -1);
    cr_assert_eq(json_print(&printed, OBJECT("\x01\x01")), -1);
    cr_assert_eq(json_print(&printed, OBJECT("")), -1);
    buffer_free(&printed);
}

/* The vectors of RFC 4648, section 10. */
Test(base64, agrees_with_the_rfc)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct buffer coded = {0}, decoded = {0};
        base64_encode(&coded, slice_of_text(vectors[i][0]));
        cr_assert(slice_equal(slice_of(coded.data, coded.size), slice_of_text(vectors[i][1])));
        cr_assert_eq(base64_decode(&decoded, slice_of_text(vectors[i][1])), 0);
        cr_assert(slice_equal(slice_of(decoded.data, decoded.size), slice_of_text(vectors[i][0])));
        buffer_free(&coded);
        buffer_free(&decoded);
    }
}
