#include <math.h>

#include "bindings/c/cubby.h"

#include <criterion/criterion.h>

#define OBJECT(text) cubby_data(text, sizeof(text) - 1)

static bool same(struct cubby_bytes bytes, const char *text, size_t size)
{
    return bytes.size == size && memcmp(bytes.data, text, size) == 0;
}

Test(values, simple_values_come_back_as_they_were_packed)
{
    struct cubby_buffer buffer = {0};
    int64_t number;
    cubby_pack_int(&buffer, INT64_MIN);
    cr_assert(cubby_as_int(cubby_buffer_bytes(&buffer), &number));
    cr_assert_eq(number, INT64_MIN);

    uint64_t large;
    cubby_buffer_clear(&buffer);
    cubby_pack_uint(&buffer, UINT64_MAX);
    cr_assert(cubby_as_uint(cubby_buffer_bytes(&buffer), &large));
    cr_assert_eq(large, UINT64_MAX);
    cr_assert_not(cubby_as_int(cubby_buffer_bytes(&buffer), &number));

    double real;
    cubby_buffer_clear(&buffer);
    cubby_pack_float(&buffer, 0.1);
    cr_assert(cubby_as_float(cubby_buffer_bytes(&buffer), &real));
    cr_assert_eq(real, 0.1);

    bool truth;
    cubby_buffer_clear(&buffer);
    cubby_pack_bool(&buffer, true);
    cr_assert(cubby_as_bool(cubby_buffer_bytes(&buffer), &truth));
    cr_assert(truth);

    struct cubby_bytes bytes;
    cubby_buffer_clear(&buffer);
    cubby_pack_bin(&buffer, OBJECT("a\0b"));
    cr_assert(cubby_as_bytes(cubby_buffer_bytes(&buffer), &bytes));
    cr_assert(same(bytes, "a\0b", 3));

    cubby_buffer_clear(&buffer);
    cubby_pack_nil(&buffer);
    cr_assert(cubby_as_nil(cubby_buffer_bytes(&buffer)));
    cubby_buffer_free(&buffer);
}

Test(values, a_value_of_another_type_is_refused)
{
    bool truth;
    int64_t number;
    uint64_t large;
    double real;
    struct cubby_bytes bytes;
    cr_assert_not(cubby_as_nil(OBJECT("\xc2")));
    cr_assert_not(cubby_as_bool(OBJECT("\x01"), &truth));
    cr_assert_not(cubby_as_int(OBJECT("\xc3"), &number));
    cr_assert_not(cubby_as_uint(OBJECT("\xff"), &large));
    cr_assert_not(cubby_as_float(OBJECT("\x01"), &real));
    cr_assert_not(cubby_as_bytes(OBJECT("\x90"), &bytes));
}

Test(values, bytes_behind_the_object_are_refused)
{
    int64_t number;
    struct cubby_bytes bytes;
    cr_assert_not(cubby_as_int(OBJECT("\x01\x02"), &number));
    cr_assert_not(cubby_as_bytes(OBJECT("\xa1z\xc0"), &bytes));
    cr_assert_not(cubby_as_nil(cubby_data(NULL, 0)));
}

Test(values, a_map_is_searched_by_name)
{
    struct cubby_buffer buffer = {0};
    struct cubby_bytes found;
    uint64_t number;
    cubby_pack_map(&buffer, 3);
    cubby_pack_int(&buffer, 7); /* a key of another type is passed over */
    cubby_pack_int(&buffer, 8);
    cubby_pack_str(&buffer, cubby_text("nested"));
    cubby_pack_array(&buffer, 2);
    cubby_pack_nil(&buffer);
    cubby_pack_encoded(&buffer, OBJECT("\x81\xa1x\x01"));
    cubby_pack_str(&buffer, cubby_text("x"));
    cubby_pack_uint(&buffer, 3);
    struct cubby_bytes map = cubby_buffer_bytes(&buffer);
    cr_assert(cubby_map_find(map, "x", &found));
    cr_assert(cubby_as_uint(found, &number));
    cr_assert_eq(number, 3);
    cr_assert(cubby_map_find(map, "nested", &found));
    cr_assert_eq(found.size, 6);
    cr_assert_not(cubby_map_find(map, "y", &found));
    cr_assert_not(cubby_map_find(OBJECT("\x90"), "x", &found));
    cr_assert_not(cubby_map_find(OBJECT("\x81\xa1x"), "x", &found));
    cubby_buffer_free(&buffer);
}
