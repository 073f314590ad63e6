#include "bindings/c/results.h"

#include "bindings/c/failure.h"

#include <criterion/criterion.h>

#define RESULT(text) cubby_data(text, sizeof(text) - 1)

static bool same(struct cubby_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

Test(results, an_absent_key_is_a_value_that_does_not_exist)
{
    struct cubby_value value;
    cr_assert_eq(cubby_read_value(RESULT("\xc0"), &value), CUBBY_OK);
    cr_assert_not(value.exists);
    cr_assert_eq(value.version, 0);
}

Test(results, a_value_is_handed_out_encoded_with_version_and_expiry)
{
    struct cubby_value value;
    cr_assert_eq(cubby_read_value(RESULT("\x93\x81\xa1x\x01\x07\xcd\x10\x00"), &value), CUBBY_OK);
    cr_assert(value.exists);
    cr_assert(same(value.value, "\x81\xa1x\x01"));
    cr_assert_eq(value.version, 7);
    cr_assert_eq(value.expires_at_ms, 4096);
}

Test(results, a_value_that_is_nil_exists)
{
    struct cubby_value value;
    cr_assert_eq(cubby_read_value(RESULT("\x93\xc0\x01\xc0"), &value), CUBBY_OK);
    cr_assert(value.exists);
    cr_assert(same(value.value, "\xc0"));
    cr_assert_eq(value.expires_at_ms, 0);
}

Test(results, what_another_method_returns_is_a_protocol_error)
{
    struct cubby_value value;
    struct cubby_written written;
    struct cubby_deleted deleted;
    struct cubby_incremented incremented;
    struct cubby_range_deleted range_deleted;
    struct cubby_server server;
    struct cubby_page *page;
    struct cubby_change_page *changes;
    bool existed;
    uint64_t count;
    struct cubby_bytes text = RESULT("\xa1x");
    cr_assert_eq(cubby_read_value(text, &value), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_written(text, &written), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_deleted(text, &deleted), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_incremented(text, &incremented), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_touched(text, &existed), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_count(text, &count), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_range_deleted(text, &range_deleted), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_hello(text, &server), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_page(text, &page), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_changes(text, &changes), CUBBY_PROTOCOL);
}

Test(results, bytes_behind_a_result_are_a_protocol_error)
{
    struct cubby_value value;
    struct cubby_written written;
    cr_assert_eq(cubby_read_value(RESULT("\xc0\xc0"), &value), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_written(RESULT("\x01\x01"), &written), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_read_value(cubby_data(NULL, 0), &value), CUBBY_PROTOCOL);
}

Test(results, put_returns_a_version_or_a_version_and_what_was_before)
{
    struct cubby_written written;
    cr_assert_eq(cubby_read_written(RESULT("\x05"), &written), CUBBY_OK);
    cr_assert_eq(written.version, 5);
    cr_assert_eq(cubby_read_written(RESULT("\x92\x05\x93\xa1z\x04\xc0"), &written), CUBBY_OK);
    cr_assert_eq(written.version, 5);
    cr_assert(written.previous.exists);
    cr_assert_eq(written.previous.version, 4);
    cr_assert_eq(cubby_read_written(RESULT("\x92\x05\xc0"), &written), CUBBY_OK);
    cr_assert_not(written.previous.exists);
}

Test(results, delete_returns_whether_it_existed_alone_or_with_what_it_was)
{
    struct cubby_deleted deleted;
    cr_assert_eq(cubby_read_deleted(RESULT("\xc3"), &deleted), CUBBY_OK);
    cr_assert(deleted.existed);
    cr_assert_eq(cubby_read_deleted(RESULT("\x92\xc2\xc0"), &deleted), CUBBY_OK);
    cr_assert_not(deleted.existed);
}

Test(results, a_sum_over_int64_is_marked_as_such)
{
    struct cubby_incremented sum;
    cr_assert_eq(cubby_read_incremented(RESULT("\x92\xff\x02"), &sum), CUBBY_OK);
    cr_assert_eq(sum.value, -1);
    cr_assert_not(sum.above_int64);
    cr_assert_eq(sum.version, 2);
    cr_assert_eq(
        cubby_read_incremented(RESULT("\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02"), &sum),
        CUBBY_OK);
    cr_assert(sum.above_int64);
    cr_assert_eq((uint64_t)sum.value, UINT64_MAX);
}

static struct cubby_bytes pack_page(struct cubby_buffer *buffer, bool more)
{
    cubby_pack_map(buffer, 4);
    cubby_pack_str(buffer, cubby_text("added_later"));
    cubby_pack_nil(buffer);
    cubby_pack_str(buffer, cubby_text("entries"));
    cubby_pack_array(buffer, 2);
    cubby_pack_encoded(buffer, RESULT("\x94\xa1"
                                      "a\x01\x05\xc0"));
    cubby_pack_encoded(buffer, RESULT("\x94\xc4\x01\xff\x90\x06\x07"));
    cubby_pack_str(buffer, cubby_text("next"));
    cubby_pack_encoded(buffer, more ? RESULT("\xc4\x01\xff") : RESULT("\xc0"));
    cubby_pack_str(buffer, cubby_text("seq"));
    cubby_pack_uint(buffer, 9);
    return cubby_buffer_bytes(buffer);
}

Test(results, a_page_outlives_the_result_it_was_read_from)
{
    struct cubby_buffer buffer = {0};
    struct cubby_page *page;
    cr_assert_eq(cubby_read_page(pack_page(&buffer, true), &page), CUBBY_OK);
    memset(buffer.data, 0, buffer.size);
    cubby_buffer_free(&buffer);
    cr_assert_eq(page->count, 2);
    cr_assert_eq(page->seq, 9);
    cr_assert(same(page->entries[0].key, "a"));
    cr_assert(same(page->entries[0].value, "\x01"));
    cr_assert_eq(page->entries[0].version, 5);
    cr_assert_eq(page->entries[0].expires_at_ms, 0);
    cr_assert(same(page->entries[1].key, "\xff"));
    cr_assert_eq(page->entries[1].expires_at_ms, 7);
    cr_assert(page->more);
    cr_assert(same(page->next, "\xff"));
    cubby_page_free(&page);
    cr_assert_null(page);
}

Test(results, the_last_page_has_nothing_behind_it)
{
    struct cubby_buffer buffer = {0};
    struct cubby_page *page;
    cr_assert_eq(cubby_read_page(pack_page(&buffer, false), &page), CUBBY_OK);
    cr_assert_not(page->more);
    cubby_page_free(&page);
    cubby_buffer_free(&buffer);
}

Test(results, every_cut_of_a_page_is_refused)
{
    struct cubby_buffer buffer = {0};
    struct cubby_page *page;
    struct cubby_bytes whole = pack_page(&buffer, true);
    for (size_t size = 0; size < whole.size; size++) {
        void *part = malloc(size + 1); /* of this size, so that reading past it is seen */
        memcpy(part, whole.data, size);
        cr_assert_eq(cubby_read_page(cubby_data(part, size), &page), CUBBY_PROTOCOL);
        free(part);
    }
    cubby_buffer_free(&buffer);
}

Test(results, a_page_of_keys_has_entries_without_values)
{
    struct cubby_page *page;
    cr_assert_eq(cubby_read_page(RESULT("\x83\xa7"
                                        "entries\x91\xa1k\xa4next\xc0\xa3seq\x01"),
                                 &page),
                 CUBBY_OK);
    cr_assert_eq(page->count, 1);
    cr_assert(same(page->entries[0].key, "k"));
    cr_assert_null(page->entries[0].value.data);
    cubby_page_free(&page);
}

Test(results, changes_come_with_kind_and_place_in_their_transaction)
{
    struct cubby_change_page *page;
    struct cubby_buffer buffer = {0};
    cubby_pack_map(&buffer, 4);
    cubby_pack_str(&buffer, cubby_text("epoch"));
    cubby_pack_str(&buffer, cubby_text("abc"));
    cubby_pack_str(&buffer, cubby_text("changes"));
    cubby_pack_array(&buffer, 2);
    cubby_pack_encoded(&buffer, RESULT("\x97\x04\x00\x02\xa3put\xa1k\x01\x08"));
    cubby_pack_encoded(&buffer, RESULT("\x97\x04\x01\x02\xa6"
                                       "expire\xa1l\xc0\xc0"));
    cubby_pack_str(&buffer, cubby_text("seq"));
    cubby_pack_uint(&buffer, 4);
    cubby_pack_str(&buffer, cubby_text("oldest"));
    cubby_pack_uint(&buffer, 1);
    cr_assert_eq(cubby_read_changes(cubby_buffer_bytes(&buffer), &page), CUBBY_OK);
    cubby_buffer_free(&buffer);
    cr_assert(same(page->epoch, "abc"));
    cr_assert_eq(page->count, 2);
    cr_assert_eq(page->seq, 4);
    cr_assert_eq(page->oldest, 1);
    cr_assert_eq(page->changes[0].kind, CUBBY_PUT);
    cr_assert_eq(page->changes[0].count, 2);
    cr_assert_eq(page->changes[0].expires_at_ms, 8);
    cr_assert_eq(page->changes[1].kind, CUBBY_EXPIRE);
    cr_assert_eq(page->changes[1].index, 1);
    cr_assert_null(page->changes[1].value.data);
    cubby_changes_free(&page);
}

Test(failure, every_code_of_the_protocol_has_a_status_of_the_same_name)
{
    struct failure failure;
#define ERROR(NAME, text, meaning)                                                                 \
    struct wire_reply reply_##NAME = {.failed = true,                                              \
                                      .code = slice_of_text(text),                                 \
                                      .message = slice_of_text(""),                                \
                                      .detail = slice_of_text("\x80")};                            \
    cr_assert_eq(failure_from_reply(&failure, &reply_##NAME), CUBBY_##NAME);                       \
    cr_assert_str_eq(cubby_status_text(CUBBY_##NAME), text);
#include "wire/errors.def"
#undef ERROR
}

Test(failure, a_code_of_a_later_version_is_kept_as_text)
{
    struct failure failure;
    struct wire_reply reply = {.failed = true,
                               .code = slice_of_text("too_fancy"),
                               .message = slice_of_text("no"),
                               .detail = slice_of_text("\x80")};
    cr_assert_eq(failure_from_reply(&failure, &reply), CUBBY_UNKNOWN_CODE);
    cr_assert_str_eq(failure.error.code, "too_fancy");
    cr_assert_str_eq(failure.error.message, "no");
}

Test(failure, details_are_taken_over_and_survive_copying)
{
    struct failure failure, copy;
    struct wire_reply reply = {.failed = true,
                               .code = slice_of_text("conflict"),
                               .message = slice_of_text("changed meanwhile"),
                               .detail = slice_of_text("\x85\xa3key\xa2it\xa7version\x09\xa5"
                                                       "index\x03\xa2if\x02\xa5later\x91\x01")};
    cr_assert_eq(failure_from_reply(&failure, &reply), CUBBY_CONFLICT);
    failure_keep(&copy, &failure.error);
    memset(&failure, 0, sizeof(failure));
    cr_assert_eq(copy.error.has,
                 CUBBY_HAS_KEY | CUBBY_HAS_VERSION | CUBBY_HAS_INDEX | CUBBY_HAS_GUARD);
    cr_assert(same(copy.error.key, "it"));
    cr_assert_eq(copy.error.version, 9);
    cr_assert_eq(copy.error.index, 3);
    cr_assert_eq(copy.error.guard, 2);
    cr_assert_str_eq(copy.error.message, "changed meanwhile");
}
