#include "wire/pack.h"

#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdint.h>

#include "notation.h"
#include "wire/reply.h"
#include "wire/request.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* What msgpack-c makes of the one object in the buffer. */
static msgpack_object oracle(const struct buffer *buffer, msgpack_unpacked *unpacked)
{
    size_t offset = 0;
    msgpack_unpacked_init(unpacked);
    cr_assert(msgpack_unpack_next(unpacked, (const char *)buffer->data, buffer->size, &offset) ==
              MSGPACK_UNPACK_SUCCESS);
    cr_assert(offset == buffer->size);
    return unpacked->data;
}

static void expect_bytes(const struct buffer *out, const char *notation)
{
    struct buffer expected = message_of(notation);
    cr_expect(slice_equal(buffer_slice(out, 0), buffer_slice(&expected, 0)), "not %s", notation);
    buffer_free(&expected);
}

Test(pack, integers_come_back_equal_and_in_their_shortest_form)
{
    static const struct {
        wire_integer value;
        size_t size;
    } rows[] = {
        {0, 1},
        {127, 1},
        {128, 2},
        {255, 2},
        {256, 3},
        {65535, 3},
        {65536, 5},
        {UINT32_MAX, 5},
        {(wire_integer)UINT32_MAX + 1, 9},
        {WIRE_INTEGER_MAX, 9},
        {-1, 1},
        {-32, 1},
        {-33, 2},
        {-128, 2},
        {-129, 3},
        {-32768, 3},
        {-32769, 5},
        {INT32_MIN, 5},
        {(wire_integer)INT32_MIN - 1, 9},
        {WIRE_INTEGER_MIN, 9},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer out = {0};
        msgpack_unpacked unpacked;
        wire_pack_integer(&out, rows[i].value);
        cr_expect(out.size == rows[i].size, "row %zu: %zu bytes", i, out.size);
        msgpack_object object = oracle(&out, &unpacked);
        if (rows[i].value < 0)
            cr_expect(object.via.i64 == (int64_t)rows[i].value, "row %zu", i);
        else
            cr_expect(object.via.u64 == (uint64_t)rows[i].value, "row %zu", i);
        struct wire_cursor cursor = wire_cursor_of(buffer_slice(&out, 0));
        wire_integer value;
        cr_expect(wire_read_integer(&cursor, &value) == 0 && value == rows[i].value);
        msgpack_unpacked_destroy(&unpacked);
        buffer_free(&out);
    }
}

Test(pack, every_type_is_what_msgpack_c_writes)
{
    struct buffer out = {0};
    wire_pack_array(&out, 11);
    wire_pack_nil(&out);
    wire_pack_bool(&out, true);
    wire_pack_bool(&out, false);
    wire_pack_uint(&out, UINT64_MAX);
    wire_pack_float(&out, 0.25);
    wire_pack_text(&out, "text");
    wire_pack_str(&out, slice_of("", 0));
    wire_pack_bin(&out, slice_of_text("bytes"));
    wire_pack_map(&out, 1);
    wire_pack_expires_at(&out, 0);
    wire_pack_expires_at(&out, 1700000000000);
    wire_pack_object(&out, slice_of("\xc0", 1));
    wire_pack_key(&out, slice_of_text("k"));
    expect_bytes(&out, "[nil true false 18446744073709551615 0.25 'text' '' b'bytes' "
                       "{nil 1700000000000} nil 'k']");
    cr_expect(!out.failed);
    buffer_free(&out);
}

Test(pack, lengths_and_counts_take_their_shortest_form)
{
    static const size_t sizes[] = {0, 15, 16, 31, 32, 255, 256, 65535, 65536};
    static uint8_t bytes[65536];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct buffer out = {0};
        char notation[64];
        memset(bytes, 'x', sizeof(bytes));
        wire_pack_str(&out, slice_of(bytes, sizes[i]));
        wire_pack_bin(&out, slice_of(bytes, sizes[i]));
        snprintf(notation, sizeof(notation), "s(%zu) b(%zu)", sizes[i], sizes[i]);
        expect_bytes(&out, notation);
        buffer_clear(&out);
        wire_pack_array(&out, (uint32_t)sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            wire_pack_nil(&out);
        snprintf(notation, sizeof(notation), "[nil*%zu]", sizes[i]);
        expect_bytes(&out, notation);
        buffer_free(&out);
    }
}

Test(pack, keys_are_str_where_they_are_utf8_and_bin_elsewhere)
{
    static const struct {
        const char *key;
        uint8_t first;
    } rows[] = {
        {"plain", 0xa5}, {"caf\xc3\xa9", 0xa5},  {"caf\xc3", 0xc4},
        {"\xff", 0xc4},  {"\xed\xa0\x80", 0xc4},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer out = {0};
        wire_pack_key(&out, slice_of_text(rows[i].key));
        cr_expect(out.data[0] == rows[i].first, "row %zu", i);
        buffer_free(&out);
    }
}

Test(pack, an_array_counted_later_is_read_with_that_count)
{
    struct buffer out = {0};
    msgpack_unpacked unpacked;
    wire_pack_array(&out, 1);
    size_t place = wire_pack_array_later(&out);
    for (int i = 0; i < 70000; i++)
        wire_pack_uint(&out, 1);
    wire_set_array_count(&out, place, 70000);
    msgpack_object object = oracle(&out, &unpacked);
    cr_expect(object.via.array.ptr[0].via.array.size == 70000);
    msgpack_unpacked_destroy(&unpacked);
    buffer_free(&out);
}

Test(pack, a_failed_buffer_swallows_what_follows)
{
    struct buffer out = {.failed = true};
    size_t place = wire_pack_array_later(&out);
    wire_pack_reply(&out, 7);
    wire_set_array_count(&out, place, 5);
    cr_expect(out.failed && out.size == 0);
    buffer_free(&out);
}

Test(pack, messages_have_their_envelopes)
{
    struct buffer out = {0};
    wire_pack_reply(&out, UINT64_MAX);
    wire_pack_bool(&out, true);
    wire_pack_request(&out, 300, "get");
    wire_pack_array(&out, 0);
    wire_pack_notification(&out, "change");
    wire_pack_array(&out, 0);
    expect_bytes(&out, "[1 18446744073709551615 nil true] [0 300 'get' []] [2 'change' []]");
    buffer_free(&out);
}

Test(pack, changes_have_seven_elements)
{
    struct buffer out = {0};
    const struct wire_change put = {5, 0, 2, "put", slice_of_text("k"), slice_of("\x93\1\2\3", 4),
                                    99};
    const struct wire_change gone = {5, 1, 2, "delete", slice_of_text("\xff"), slice_of(NULL, 0),
                                     0};
    wire_pack_change(&out, &put);
    wire_pack_change(&out, &gone);
    expect_bytes(&out, "[5 0 2 'put' 'k' [1 2 3] 99] [5 1 2 'delete' <c4 01 ff> nil nil]");
    buffer_free(&out);
}

static struct wire_error every_detail(void)
{
    struct wire_error error;
    wire_fail(&error, WIRE_CONFLICT, "no %s", "luck");
    error.has = WIRE_DETAIL_LIMIT | WIRE_DETAIL_KEY | WIRE_DETAIL_VERSION | WIRE_DETAIL_OLDEST |
                WIRE_DETAIL_SEQ | WIRE_DETAIL_INDEX | WIRE_DETAIL_IF;
    error.limit = 1;
    error.key = slice_of_text("k");
    error.version = 2;
    error.oldest = 3;
    error.seq = 4;
    error.index = 5;
    error.guard = 6;
    return error;
}

Test(pack, errors_carry_the_details_that_are_set)
{
    const struct wire_request request = {.answer = WIRE_ANSWER_MSGID, .msgid = 7};
    struct wire_error error = every_detail();
    struct buffer out = {0};
    wire_pack_error_reply(&out, &request, &error);
    expect_bytes(&out, "[1 7 ['conflict' 'no luck' {'limit' 1 'key' 'k' 'version' 2 'oldest' 3 "
                       "'seq' 4 'index' 5 'if' 6}] nil]");
    buffer_clear(&out);
    error.has = WIRE_DETAIL_SEQ;
    wire_pack_error_reply(&out, &request, &error);
    expect_bytes(&out, "[1 7 ['conflict' 'no luck' {'seq' 4}] nil]");
    buffer_free(&out);
}

Test(pack, an_error_goes_to_whom_the_request_says)
{
    struct wire_request request = {.answer = WIRE_ANSWER_NIL, .msgid = 7};
    struct wire_error error;
    struct buffer out = {0};
    wire_fail(&error, WIRE_BAD_REQUEST, "what");
    wire_pack_error_reply(&out, &request, &error);
    expect_bytes(&out, "[1 nil ['bad_request' 'what' {}] nil]");
    buffer_clear(&out);
    request.answer = WIRE_ANSWER_NONE;
    wire_pack_error_reply(&out, &request, &error);
    cr_expect(out.size == 0);
    buffer_free(&out);
}

Test(error, codes_and_names_lead_to_each_other)
{
    for (int code = WIRE_OK + 1; code < WIRE_CODES; code++) {
        const char *name = wire_code_name((enum wire_code)code);
        cr_expect((int)wire_code_of(slice_of_text(name)) == code, "%s", name);
    }
    cr_expect(wire_code_of(slice_of_text("ok")) == WIRE_OK);
    cr_expect(wire_code_of(slice_of_text("bad_requests")) == WIRE_OK);
    cr_expect(wire_code_of(slice_of(NULL, 0)) == WIRE_OK);
}

Test(error, messages_are_cut_and_made_printable)
{
    struct wire_error error = {.has = WIRE_DETAIL_KEY};
    char long_text[500];
    memset(long_text, '\xc3', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    cr_expect(wire_fail(&error, WIRE_INTERNAL, "%s", long_text) == WIRE_INTERNAL);
    cr_expect(strlen(error.message) == WIRE_MAX_ERROR_MESSAGE - 1);
    cr_expect(strspn(error.message, "?") == WIRE_MAX_ERROR_MESSAGE - 1);
    cr_expect(error.has == 0);
    wire_fail(&error, WIRE_INTERNAL, "a\nb\x7f~ ");
    cr_expect_str_eq(error.message, "a?b?~ ");
    cr_expect(wire_fail_limit(&error, 10, "bytes", "thing") == WIRE_TOO_LARGE);
    cr_expect_str_eq(error.message, "thing: over the limit of 10 bytes");
    cr_expect(error.has == WIRE_DETAIL_LIMIT && error.limit == 10);
}

static int decode_reply(const char *notation, struct wire_reply *reply)
{
    struct buffer message = message_of(notation);
    int result = wire_decode_reply(buffer_slice(&message, 0), reply);
    buffer_free(&message);
    return result;
}

Test(reply, results_and_errors_are_told_apart)
{
    struct buffer message = message_of("[1 7 nil [1 2]]");
    struct wire_reply reply;
    cr_assert(wire_decode_reply(buffer_slice(&message, 0), &reply) == 0);
    cr_expect(reply.has_msgid && reply.msgid == 7 && !reply.failed);
    cr_expect(slice_equal(reply.result, slice_of("\x92\1\2", 3)));
    buffer_free(&message);
    message = message_of("[1 nil ['busy' 'later' {'limit' 1}] nil]");
    cr_assert(wire_decode_reply(buffer_slice(&message, 0), &reply) == 0);
    cr_expect(!reply.has_msgid && reply.failed);
    cr_expect(slice_equal(reply.code, slice_of_text("busy")));
    cr_expect(slice_equal(reply.message, slice_of_text("later")));
    cr_expect(slice_equal(reply.detail, slice_of("\x81\xa5limit\1", 8)));
    buffer_free(&message);
}

Test(reply, a_nil_result_is_a_result)
{
    struct wire_reply reply;
    cr_expect(decode_reply("[1 7 nil nil]", &reply) == 0);
    cr_expect(!reply.failed && reply.result.size == 1);
}

Test(reply, a_batch_of_scans_of_the_deepest_values_can_be_read)
{
    struct wire_reply reply;
    cr_expect(decode_reply("[1 7 nil {'seq' 1 'results' [{'entries' [['k' nest(64) 1 nil]]}]}]",
                           &reply) == 0);
}

Test(reply, what_is_no_reply_is_refused)
{
    static const char *const rows[] = {
        "",
        "nil",
        "[]",
        "[1 7 nil]",
        "[1 7 nil nil nil]",
        "[0 7 nil nil]",
        "[2 7 nil nil]",
        "[1 -1 nil nil]",
        "[1 'x' nil nil]",
        "[1.0 7 nil nil]",
        "[1 7 nil nil] nil",
        "[1 7 'busy' nil]",
        "[1 7 ['busy' 'x'] nil]",
        "[1 7 ['busy' 'x' {} nil] nil]",
        "[1 7 [5 'x' {}] nil]",
        "[1 7 ['busy' 5 {}] nil]",
        "[1 7 ['busy' 'x' []] nil]",
        "[1 7 ['busy' 'x' {}] 5]",
        "[1 7 nil <c1>]",
        "<dd ff ff ff ff 01 07 c0 c0>",
        "<94 01 07 c0>",
        "[1 7 nil nest(100)]",
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire_reply reply;
        cr_expect(decode_reply(rows[i], &reply) == -1, "%s", rows[i]);
    }
}

Test(reply, notifications_have_a_method_and_params)
{
    struct buffer message = message_of("[2 'heartbeat' ['e' 0 5 1]]");
    struct wire_notification notification;
    cr_assert(wire_decode_notification(buffer_slice(&message, 0), &notification) == 0);
    cr_expect(slice_equal(notification.method, slice_of_text("heartbeat")));
    cr_expect(notification.params.size == 6);
    buffer_free(&message);
}

Test(reply, what_is_no_notification_is_refused)
{
    static const char *const rows[] = {
        "",           "[2 'x']",      "[2 'x' {}]",      "[2 5 []]", "[2 'x' [] nil]",
        "[1 'x' []]", "[2 'x' []] 1", "<93 02 a1 78 91>"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer message = message_of(rows[i]);
        struct wire_notification notification;
        cr_expect(wire_decode_notification(buffer_slice(&message, 0), &notification) == -1, "%s",
                  rows[i]);
        buffer_free(&message);
    }
}
