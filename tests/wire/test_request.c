#include <criterion/criterion.h>
#include <stdio.h>

#include "expect.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static bool is_text(struct slice bytes, const char *text)
{
    return slice_equal(bytes, slice_of_text(text));
}

/* Decodes a prefix of the message out of an allocation that ends with it. */
static enum wire_code decode_part(const struct buffer *message, size_t size,
                                  struct wire_request *request)
{
    struct wire_error error;
    uint8_t *part = malloc(size > 0 ? size : 1);
    cr_assert(part != NULL);
    if (size > 0)
        memcpy(part, message->data, size);
    enum wire_code code = wire_decode_request(slice_of(part, size), request, &error);
    free(part);
    return code;
}

Test(request, good_requests_are_decoded)
{
    for (size_t i = 0; i < good_request_count; i++)
        expect_request(good_requests[i]);
}

Test(request, every_method_and_every_option_has_a_good_request)
{
    bool seen[WIRE_METHODS] = {false};
    unsigned given = 0;
    for (size_t i = 0; i < good_request_count; i++) {
        struct decoded decoded = decode(good_requests[i]);
        seen[decoded.request.method] = true;
        given |= decoded.request.args.given;
        decoded_free(&decoded);
    }
    for (int method = 0; method < WIRE_METHODS; method++)
        cr_expect(seen[method], "%s", wire_method_name((enum wire_method)method));
    cr_expect(given == (1U << WIRE_OPTIONS) - 1);
}

Test(request, a_request_cut_off_anywhere_is_bad_and_answered_as_far_as_it_can_be)
{
    for (size_t i = 0; i < good_request_count; i++) {
        struct buffer message = message_of(good_requests[i]);
        size_t msgid_end = message.data[2] == 0xcd ? 5 : 3;
        for (size_t size = 0; size < message.size; size++) {
            struct wire_request request;
            enum wire_answer answer = size < msgid_end ? WIRE_ANSWER_NIL : WIRE_ANSWER_MSGID;
            cr_expect(decode_part(&message, size, &request) == WIRE_BAD_REQUEST, "%zu bytes of %s",
                      size, good_requests[i]);
            cr_expect(request.answer == answer, "%zu bytes of %s", size, good_requests[i]);
            if (answer == WIRE_ANSWER_MSGID)
                cr_expect(request.msgid == (msgid_end == 5 ? 300 : 1));
        }
        buffer_free(&message);
    }
}

Test(request, a_notification_is_decoded_like_the_request_and_never_answered)
{
    for (size_t i = 0; i < good_request_count; i++) {
        struct buffer message = message_of(good_requests[i]);
        size_t msgid_end = message.data[2] == 0xcd ? 5 : 3;
        /* [0, msgid, … becomes [2, … */
        message.data[msgid_end - 2] = 0x93;
        message.data[msgid_end - 1] = 0x02;
        struct buffer notification = {.data = message.data + msgid_end - 2,
                                      .size = message.size - msgid_end + 2};
        for (size_t size = 0; size <= notification.size; size++) {
            struct wire_request request;
            enum wire_code code = size < notification.size ? WIRE_BAD_REQUEST : WIRE_OK;
            cr_expect(decode_part(&notification, size, &request) == code, "%zu bytes of %s", size,
                      good_requests[i]);
            cr_expect(request.answer == (size < 2 ? WIRE_ANSWER_NIL : WIRE_ANSWER_NONE));
        }
        buffer_free(&message);
    }
}

Test(request, the_byte_c1_in_the_place_of_any_element_is_refused)
{
    static const char *const rows[] = {
        "<c1>",
        "[<c1> 1 'get' ['k']]",
        "[0 <c1> 'get' ['k']]",
        "[0 1 <c1> ['k']]",
        "[0 1 'get' <c1>]",
        "[0 1 'get' [<c1>]]",
        "[0 1 'get' ['k' <c1>]]",
        "[0 1 'put' ['k' <c1>]]",
        "[0 1 'put' ['k' [1 <c1>]]]",
        "[0 1 'put' ['k' 1 {<c1> 1}]]",
        "[0 1 'put' ['k' 1 {'ttl' <c1>}]]",
        "[0 1 'touch' ['k' <c1>]]",
        "[0 1 'increment' ['k' <c1>]]",
        "[0 1 'batch' [<c1>]]",
        "[0 1 'batch' [[] {'if' <c1>}]]",
        "[0 1 'batch' [[] <c1>]]",
        "[0 1 'ping' []] <c1>",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_refusal(rows[i], WIRE_BAD_REQUEST, "");
}

Test(request, the_answer_goes_as_far_as_the_envelope_was_read)
{
    static const struct {
        const char *notation;
        enum wire_answer answer;
        enum wire_code code;
        uint64_t msgid;
    } rows[] = {
        {"", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"nil", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"{0 7}", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"'ping'", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[] 0 7", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0] 7", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[1 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[3 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[-1 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0.0 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[false 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[2.0 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[nil 7 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0 -1 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0 7.0 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0 true 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0 '7' 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"[0 nil 'ping' []]", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"<94 00 cf 01 02>", WIRE_ANSWER_NIL, WIRE_BAD_REQUEST, 0},
        {"<94 00 07>", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"<dd ff ff ff ff 00 01> 'ping' []", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 1},
        {"<dc 00 04 00 07> 'ping' []", WIRE_ANSWER_MSGID, WIRE_OK, 7},
        {"<dd 00 00 00 04 00 07> 'ping' []", WIRE_ANSWER_MSGID, WIRE_OK, 7},
        {"<94 d0 00 d3 00 00 00 00 00 00 00 07> 'ping' []", WIRE_ANSWER_MSGID, WIRE_OK, 7},
        {"[0 18446744073709551615 'ping' []]", WIRE_ANSWER_MSGID, WIRE_OK, UINT64_MAX},
        {"[0 0 'ping' []]", WIRE_ANSWER_MSGID, WIRE_OK, 0},
        {"[0 7]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'ping']", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'ping' [] nil]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'ping' nil]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'ping' {}]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 b'ping' []]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 nil []]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'ping' []] nil", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 '' []]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[0 7 'pong' []]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[0 7 'PING' []]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[0 7 s(100000) []]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[0 7 'pong' 5 6]", WIRE_ANSWER_MSGID, WIRE_BAD_REQUEST, 7},
        {"[0 7 'watches' []]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[0 7 'queue.shove' ['q' 1]]", WIRE_ANSWER_MSGID, WIRE_UNKNOWN_METHOD, 7},
        {"[2 'ping' []]", WIRE_ANSWER_NONE, WIRE_OK, 0},
        {"[2 'queue.pull' ['q']]", WIRE_ANSWER_NONE, WIRE_UNKNOWN_METHOD, 0},
        {"[2]", WIRE_ANSWER_NONE, WIRE_BAD_REQUEST, 0},
        {"[2 7 'ping' []]", WIRE_ANSWER_NONE, WIRE_BAD_REQUEST, 0},
        {"[2 'put' ['k']]", WIRE_ANSWER_NONE, WIRE_BAD_REQUEST, 0},
        {"[2 'ping' []] 1", WIRE_ANSWER_NONE, WIRE_BAD_REQUEST, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct decoded decoded = decode(rows[i].notation);
        cr_expect(decoded.code == rows[i].code, "%.60s is %s", rows[i].notation,
                  wire_code_name(decoded.code));
        cr_expect(decoded.request.answer == rows[i].answer, "%.60s", rows[i].notation);
        cr_expect(decoded.request.msgid == rows[i].msgid, "%.60s", rows[i].notation);
        decoded_free(&decoded);
    }
}

Test(request, arguments_that_are_left_out_have_their_defaults)
{
    struct decoded decoded = decode("[0 1 'increment' ['n']]");
    const struct wire_args *args = &decoded.request.args;
    cr_expect(decoded.request.method == WIRE_METHOD_INCREMENT);
    cr_expect(args->given == 0 && args->delta == 1 && args->initial == 0 && !args->has_ttl);
    cr_expect(args->limit == WIRE_DEFAULT_PAGE && args->since == 0);
    decoded_free(&decoded);
    decoded = decode("[0 1 'watch' []]");
    cr_expect(args->given == 0 && args->credit == WIRE_DEFAULT_CREDIT);
    decoded_free(&decoded);
}

Test(request, arguments_and_options_arrive_in_their_fields)
{
    struct decoded decoded = decode("[0 1 'put' ['key' [1 'x'] {'ttl' 5000 'if_version' 7 "
                                    "'if_exists' false 'previous' true}]]");
    const struct wire_args *args = &decoded.request.args;
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(is_text(args->key, "key") && is_text(args->value, "\x92\x01\xa1x"));
    cr_expect(args->has_ttl && args->ttl_ms == 5000 && args->if_version == 7);
    cr_expect(!args->if_exists && args->previous && !args->keep_ttl);
    cr_expect(args->given ==
              (WIRE_HAS_TTL | WIRE_HAS_IF_VERSION | WIRE_HAS_IF_EXISTS | WIRE_HAS_PREVIOUS));
    decoded_free(&decoded);
    decoded = decode("[0 1 'scan' [{'prefix' 'p' 'after' b'pa' 'limit' 9 'reverse' true "
                     "'keys_only' true}]]");
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(is_text(args->prefix, "p") && is_text(args->after, "pa") && args->limit == 9);
    cr_expect(args->reverse && args->keys_only);
    decoded_free(&decoded);
    decoded = decode("[0 1 'changes' [{'since' 18446744073709551615 'epoch' 'e'}]]");
    cr_expect(args->since == UINT64_MAX && is_text(args->epoch, "e"));
    decoded_free(&decoded);
    decoded = decode("[0 1 'watch' [{'credit' 4294967295}]]");
    cr_expect(args->credit == WIRE_MAX_CREDIT);
    decoded_free(&decoded);
    decoded = decode("[0 1 'watch.credit' [1700000000000 1]]");
    cr_expect(args->watch == 1700000000000 && args->credit == 1);
    decoded_free(&decoded);
    decoded = decode("[0 1 'count' [{'start' 'a' 'end' 'b'}]]");
    cr_expect(is_text(args->start, "a") && is_text(args->end, "b"));
    decoded_free(&decoded);
    decoded = decode("[0 1 'hello' [{'client' 'me'}]]");
    cr_expect(is_text(args->client, "me"));
    decoded_free(&decoded);
}

Test(request, values_are_the_bytes_that_were_sent)
{
    struct decoded decoded = decode("[0 1 'put' ['k' <dd 00 00 00 01 d9 01 ff>]]");
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(slice_equal(decoded.request.args.value, slice_of("\xdd\0\0\0\1\xd9\1\xff", 8)));
    decoded_free(&decoded);
}

Test(request, the_second_argument_of_put_is_the_value_even_if_it_is_a_map)
{
    struct decoded decoded = decode("[0 1 'put' ['k' {'ttl' 5}]]");
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(decoded.request.args.given == 0 && !decoded.request.args.has_ttl);
    cr_expect(is_text(decoded.request.args.value, "\x81\xa3ttl\x05"));
    decoded_free(&decoded);
    expect_request("[0 1 'put' ['k' {'ttl' 5} {'ttl' 5}]]");
    expect_request("[0 1 'put' ['k' nil]]");
}

Test(request, an_argument_with_a_default_may_be_left_out_before_the_options)
{
    struct decoded decoded = decode("[0 1 'increment' ['k' {'ttl' 9}]]");
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(decoded.request.args.delta == 1 && decoded.request.args.ttl_ms == 9);
    decoded_free(&decoded);
    expect_refusal("[0 1 'increment' ['k' {'ttl' 9} 5]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'increment' ['k' {} {}]]", WIRE_BAD_REQUEST, "");
}

Test(request, empty_options_are_allowed_for_every_method)
{
    static const char *const rows[] = {
        "[0 1 'ping' [{}]]",
        "[0 1 'hello' [{}]]",
        "[0 1 'get' ['k' {}]]",
        "[0 1 'put' ['k' 1 {}]]",
        "[0 1 'delete' ['k' {}]]",
        "[0 1 'increment' ['k' {}]]",
        "[0 1 'increment' ['k' 1 {}]]",
        "[0 1 'touch' ['k' 1 {}]]",
        "[0 1 'scan' [{}]]",
        "[0 1 'count' [{}]]",
        "[0 1 'batch' [[] {}]]",
        "[0 1 'stats' [{}]]",
        "[0 1 'changes' [{}]]",
        "[0 1 'ping' [<de 00 00>]]",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_request(rows[i]);
}

Test(request, a_wrong_number_of_arguments_is_refused)
{
    static const char *const rows[] = {
        "[0 1 'ping' [nil]]",
        "[0 1 'ping' [{} {}]]",
        "[0 1 'ping' [1]]",
        "[0 1 'hello' ['me']]",
        "[0 1 'get' []]",
        "[0 1 'get' ['k' 'k']]",
        "[0 1 'get' ['k' nil]]",
        "[0 1 'get' ['k' {} {}]]",
        "[0 1 'get' [{}]]",
        "[0 1 'put' ['k']]",
        "[0 1 'put' []]",
        "[0 1 'put' ['k' 1 2]]",
        "[0 1 'put' ['k' 1 nil]]",
        "[0 1 'put' ['k' 1 {} {}]]",
        "[0 1 'delete' []]",
        "[0 1 'delete' ['k' 1]]",
        "[0 1 'increment' []]",
        "[0 1 'increment' ['k' 1 2]]",
        "[0 1 'increment' ['k' 1 {} {}]]",
        "[0 1 'touch' ['k']]",
        "[0 1 'touch' ['k' {}]]",
        "[0 1 'touch' ['k' 1 2]]",
        "[0 1 'scan' ['p']]",
        "[0 1 'scan' [[]]]",
        "[0 1 'count' ['p']]",
        "[0 1 'delete_range' ['p']]",
        "[0 1 'batch' []]",
        "[0 1 'batch' [{}]]",
        "[0 1 'batch' [[] []]]",
        "[0 1 'batch' [[] {} {}]]",
        "[0 1 'stats' [1]]",
        "[0 1 'changes' [5]]",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_refusal(rows[i], WIRE_BAD_REQUEST, "");
}

Test(request, an_argument_of_a_wrong_type_is_refused)
{
    static const char *const rows[] = {
        "[0 1 'get' [5]]",
        "[0 1 'get' [nil]]",
        "[0 1 'get' [['k']]]",
        "[0 1 'get' [1.5]]",
        "[0 1 'get' [true]]",
        "[0 1 'get' [<d4 05 6b>]]",
        "[0 1 'put' [5 1]]",
        "[0 1 'increment' ['k' 1.0]]",
        "[0 1 'increment' ['k' '1']]",
        "[0 1 'increment' ['k' nil]]",
        "[0 1 'increment' ['k' true]]",
        "[0 1 'touch' ['k' 1.0]]",
        "[0 1 'touch' ['k' -1]]",
        "[0 1 'touch' ['k' false]]",
        "[0 1 'touch' ['k' '5']]",
        "[0 1 'batch' ['get']]",
        "[0 1 'batch' [5]]",
        "[0 1 'batch' [nil]]",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_refusal(rows[i], WIRE_BAD_REQUEST, "");
}

/* Methods to try an option on: what comes before the option's name and behind its value. */
static const struct {
    const char *name;
    const char *before;
    const char *good;
} options[] = {
    {"ttl", "'put' ['k' 1 {", "5"},
    {"ttl", "'increment' ['k' {", "5"},
    {"keep_ttl", "'put' ['k' 1 {", "true"},
    {"if_version", "'put' ['k' 1 {", "5"},
    {"if_exists", "'delete' ['k' {", "true"},
    {"previous", "'delete' ['k' {", "true"},
    {"initial", "'increment' ['k' 1 {", "5"},
    {"prefix", "'scan' [{", "'p'"},
    {"start", "'count' [{", "'p'"},
    {"end", "'delete_range' [{", "'p'"},
    {"after", "'scan' [{", "'p'"},
    {"limit", "'changes' [{", "5"},
    {"reverse", "'scan' [{", "true"},
    {"keys_only", "'scan' [{", "true"},
    {"if", "'batch' [[] {", "[]"},
    {"client", "'hello' [{", "'x'"},
    {"since", "'changes' [{", "5"},
    {"epoch", "'changes' [{", "'e'"},
    {"delay", "'queue.push' ['q' 1 {", "5"},
    {"priority", "'queue.push' ['q' 1 {", "5"},
    {"id", "'queue.push' ['q' 1 {", "-5"},
    {"id", "'queue.kick' ['q' {", "5"},
    {"ttl", "'queue.push' ['q' 1 {", "6"},
    {"ttl", "'queue.configure' ['q' {", "6"},
    {"wait", "'queue.pop' ['q' {", "6"},
    {"count", "'queue.reserve' ['q' {", "5"},
    {"count", "'queue.kick' ['q' {", "5"},
    {"lease", "'queue.reserve' ['q' {", "5"},
    {"lease", "'queue.configure' ['q' {", "5"},
    {"error", "'queue.bury' [1 2 {", "'x'"},
    {"state", "'queue.peek' ['q' {", "'dead'"},
    {"limit", "'queue.peek' ['q' {", "5"},
    {"after", "'queue.peek' ['q' {", "b'0123456789abcdef'"},
    {"after", "'queue.list' [{", "'p'"},
    {"prefix", "'queue.list' [{", "'p'"},
    {"max_deliveries", "'queue.configure' ['q' {", "5"},
    {"max_length", "'queue.configure' ['q' {", "5"},
    {"retry_delay", "'queue.configure' ['q' {", "5"},
    {"dedup_window", "'queue.configure' ['q' {", "5"},
    {"credit", "'watch' [{", "5"},
};

static const char *with_option(char *notation, size_t size, size_t i, const char *pairs)
{
    snprintf(notation, size, "[0 1 %s%s}]]", options[i].before, pairs);
    return notation;
}

Test(request, an_option_is_given_once_and_nil_only_where_that_is_a_duration_without_end)
{
    for (size_t i = 0; i < COUNT(options); i++) {
        char notation[200], pairs[100];
        const char *name = options[i].name;
        bool endless = strcmp(options[i].good, "6") == 0;
        snprintf(pairs, sizeof(pairs), "'%s' %s", name, options[i].good);
        expect_request(with_option(notation, sizeof(notation), i, pairs));
        snprintf(pairs, sizeof(pairs), "'%s' %s '%s' %s", name, options[i].good, name,
                 options[i].good);
        expect_refusal(with_option(notation, sizeof(notation), i, pairs), WIRE_BAD_REQUEST, "");
        snprintf(pairs, sizeof(pairs), "'%s' nil", name);
        expect_refusal(with_option(notation, sizeof(notation), i, pairs),
                       endless ? WIRE_OK : WIRE_BAD_REQUEST, "");
        snprintf(pairs, sizeof(pairs), "b'%s' %s", name, options[i].good);
        expect_refusal(with_option(notation, sizeof(notation), i, pairs), WIRE_BAD_REQUEST, "");
        snprintf(pairs, sizeof(pairs), "'%sx' %s", name, options[i].good);
        expect_refusal(with_option(notation, sizeof(notation), i, pairs), WIRE_BAD_REQUEST, "");
    }
}

Test(request, an_option_of_a_wrong_type_is_refused)
{
    static const char *const values[] = {"5",   "-5", "5.0", "true", "'p'",  "b'p'",
                                         "[1]", "{}", "''",  "[]",   "<c1>", "<d4 05 00>"};
    /* One letter per value above: which of them an option takes. */
    static const struct {
        const char *good;
        const char *takes;
    } kinds[] = {
        {"5", "y..........."},      {"true", "...y........"},
        {"'p'", "....yy..y..."},    {"'x'", "....y...y..."},
        {"'e'", "....y...y..."},    {"[]", ".........y.."},
        {"6", "y..........."},      {"-5", "yy..yy......"},
        {"'dead'", "............"}, {"b'0123456789abcdef'", "............"},
    };
    for (size_t i = 0; i < COUNT(options); i++) {
        for (size_t kind = 0; kind < COUNT(kinds); kind++) {
            for (size_t j = 0; j < COUNT(values); j++) {
                if (strcmp(options[i].good, kinds[kind].good) != 0)
                    continue;
                char notation[200], pairs[100];
                snprintf(pairs, sizeof(pairs), "'%s' %s", options[i].name, values[j]);
                with_option(notation, sizeof(notation), i, pairs);
                bool initial = strcmp(options[i].name, "initial") == 0 && j == 1;
                bool guards = strcmp(options[i].name, "if") == 0 && j == 6;
                if (kinds[kind].takes[j] == 'y' || initial)
                    expect_request(notation);
                else
                    expect_refusal(notation, WIRE_BAD_REQUEST, guards ? "if=0" : "");
            }
        }
    }
}

Test(request, names_of_options_are_str)
{
    static const char *const rows[] = {"[0 1 'put' ['k' 1 {5 5}]]", "[0 1 'put' ['k' 1 {nil 5}]]",
                                       "[0 1 'put' ['k' 1 {['ttl'] 5}]]",
                                       "[0 1 'put' ['k' 1 {'' 5}]]", "[0 1 'ping' [{'x' 1}]]"};
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_refusal(rows[i], WIRE_BAD_REQUEST, "");
}

Test(request, an_option_of_another_method_is_unknown)
{
    static const char *const rows[] = {
        "[0 1 'get' ['k' {'ttl' 5}]]",
        "[0 1 'delete' ['k' {'ttl' 5}]]",
        "[0 1 'touch' ['k' 5 {'ttl' 5}]]",
        "[0 1 'increment' ['k' {'keep_ttl' true}]]",
        "[0 1 'increment' ['k' {'previous' true}]]",
        "[0 1 'count' [{'limit' 5}]]",
        "[0 1 'delete_range' [{'prefix' '' 'after' 'x'}]]",
        "[0 1 'changes' [{'start' 'x'}]]",
        "[0 1 'put' ['k' 1 {'initial' 5}]]",
        "[0 1 'batch' [[] {'if_version' 5}]]",
        "[0 1 'scan' [{'since' 5}]]",
        "[0 1 'stats' [{'client' 'x'}]]",
        "[0 1 'queue.pop' ['q' {'lease' 5}]]",
        "[0 1 'queue.bury' [1 2 {'delay' 5}]]",
        "[0 1 'queue.configure' ['q' {'delay' 5}]]",
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_refusal(rows[i], WIRE_BAD_REQUEST, "");
}

Test(request, options_that_contradict_each_other_are_refused)
{
    expect_refusal("[0 1 'put' ['k' 1 {'ttl' 5 'keep_ttl' true}]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'put' ['k' 1 {'keep_ttl' true 'ttl' 5}]]", WIRE_BAD_REQUEST, "");
    expect_request("[0 1 'put' ['k' 1 {'ttl' 5 'keep_ttl' false}]]");
    static const char *const methods[] = {"scan", "count", "delete_range"};
    static const struct {
        const char *bounds;
        enum wire_code code;
    } rows[] = {
        {"'prefix' 'p' 'start' 'p'", WIRE_BAD_REQUEST},
        {"'end' 'p' 'prefix' 'p'", WIRE_BAD_REQUEST},
        {"'prefix' '' 'start' ''", WIRE_BAD_REQUEST},
        {"'prefix' '' 'start' '' 'end' ''", WIRE_BAD_REQUEST},
        {"'start' 'b' 'end' 'a'", WIRE_OK},
        {"'start' ''", WIRE_OK},
        {"'end' ''", WIRE_OK},
        {"'prefix' ''", WIRE_OK},
    };
    for (size_t i = 0; i < COUNT(methods); i++) {
        for (size_t j = 0; j < COUNT(rows); j++) {
            char notation[200];
            snprintf(notation, sizeof(notation), "[0 1 '%s' [{%s}]]", methods[i], rows[j].bounds);
            expect_refusal(notation, rows[j].code, "");
        }
    }
}

Test(request, delete_range_needs_a_range)
{
    expect_refusal("[0 1 'delete_range' []]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'delete_range' [{}]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'delete_range' [{'limit' 5}]]", WIRE_BAD_REQUEST, "");
}

Test(request, keys_have_1_to_1024_bytes)
{
    static const char *const rows[] = {"'get' [%s]", "'put' [%s 1]", "'delete' [%s]",
                                       "'increment' [%s]", "'touch' [%s nil]"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const struct {
            const char *key;
            enum wire_code code;
            const char *details;
        } keys[] = {
            {"''", WIRE_BAD_REQUEST, ""},
            {"b(0)", WIRE_BAD_REQUEST, ""},
            {"s(1)", WIRE_OK, ""},
            {"s(1024)", WIRE_OK, ""},
            {"b(1024)", WIRE_OK, ""},
            {"s(1025)", WIRE_TOO_LARGE, "limit=1024"},
            {"b(1025)", WIRE_TOO_LARGE, "limit=1024"},
        };
        for (size_t j = 0; j < COUNT(keys); j++) {
            char params[100], notation[200];
            snprintf(params, sizeof(params), rows[i], keys[j].key);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, keys[j].code, keys[j].details);
        }
    }
}

Test(request, bounds_have_0_to_1024_bytes)
{
    static const char *const rows[] = {
        "'scan' [{'prefix' %s}]", "'scan' [{'start' %s}]",     "'scan' [{'end' %s}]",
        "'scan' [{'after' %s}]",  "'changes' [{'prefix' %s}]", "'delete_range' [{'prefix' %s}]"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const struct {
            const char *bound;
            enum wire_code code;
            const char *details;
        } bounds[] = {{"''", WIRE_OK, ""},
                      {"b(1024)", WIRE_OK, ""},
                      {"s(1025)", WIRE_TOO_LARGE, "limit=1024"}};
        for (size_t j = 0; j < COUNT(bounds); j++) {
            char params[100], notation[200];
            snprintf(params, sizeof(params), rows[i], bounds[j].bound);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, bounds[j].code, bounds[j].details);
        }
    }
}

Test(request, values_have_at_most_1_mib_encoded)
{
    /* bin 32 has a head of 5 bytes. */
    expect_request("[0 1 'put' ['k' b(1048571)]]");
    expect_refusal("[0 1 'put' ['k' b(1048572)]]", WIRE_TOO_LARGE, "limit=1048576");
    expect_request("[0 1 'put' ['k' [1*1048571]]]");
    expect_refusal("[0 1 'put' ['k' [1*1048572]]]", WIRE_TOO_LARGE, "limit=1048576");
}

Test(request, values_are_nested_at_most_64_deep)
{
    expect_request("[0 1 'put' ['k' nest(64)]]");
    expect_refusal("[0 1 'put' ['k' nest(65)]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'put' ['k' nest(100000)]]", WIRE_BAD_REQUEST, "");
    expect_request("[0 1 'put' ['k' {1 nest(63)}]]");
    expect_refusal("[0 1 'put' ['k' {1 nest(64)}]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'put' ['k' {nest(64) 1}]]", WIRE_BAD_REQUEST, "");
}

Test(request, durations_are_0_to_2_to_the_48)
{
    static const char *const rows[] = {"'put' ['k' 1 {'ttl' %s}]", "'increment' ['k' {'ttl' %s}]",
                                       "'touch' ['k' %s]"};
    static const struct {
        const char *value;
        enum wire_code code;
    } values[] = {
        {"0", WIRE_OK},
        {"281474976710656", WIRE_OK},
        {"281474976710657", WIRE_BAD_REQUEST},
        {"18446744073709551615", WIRE_BAD_REQUEST},
        {"-1", WIRE_BAD_REQUEST},
        {"5.0", WIRE_BAD_REQUEST},
        {"true", WIRE_BAD_REQUEST},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(values); j++) {
            char params[100], notation[200];
            snprintf(params, sizeof(params), rows[i], values[j].value);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, values[j].code, "");
        }
    }
}

Test(request, touch_takes_a_ttl_or_nil)
{
    struct decoded decoded = decode("[0 1 'touch' ['k' nil]]");
    cr_expect(decoded.code == WIRE_OK && !decoded.request.args.has_ttl);
    decoded_free(&decoded);
    decoded = decode("[0 1 'touch' ['k' 0]]");
    cr_expect(decoded.code == WIRE_OK && decoded.request.args.has_ttl);
    cr_expect(decoded.request.args.ttl_ms == 0);
    decoded_free(&decoded);
}

Test(request, limits_are_1_to_10000)
{
    static const char *const rows[] = {"'scan' [{'limit' %s}]", "'changes' [{'limit' %s}]",
                                       "'delete_range' [{'prefix' '' 'limit' %s}]"};
    static const struct {
        const char *value;
        enum wire_code code;
    } values[] = {{"0", WIRE_BAD_REQUEST},   {"1", WIRE_OK},
                  {"10000", WIRE_OK},        {"10001", WIRE_BAD_REQUEST},
                  {"-1", WIRE_BAD_REQUEST},  {"4294967297", WIRE_BAD_REQUEST},
                  {"10.0", WIRE_BAD_REQUEST}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(values); j++) {
            char params[100], notation[200];
            snprintf(params, sizeof(params), rows[i], values[j].value);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, values[j].code, "");
        }
    }
}

Test(request, deltas_and_initials_are_any_integer)
{
    static const struct {
        const char *text;
        wire_integer value;
    } rows[] = {{"-9223372036854775808", WIRE_INTEGER_MIN},
                {"18446744073709551615", WIRE_INTEGER_MAX},
                {"0", 0}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[200];
        snprintf(notation, sizeof(notation), "[0 1 'increment' ['k' %s {'initial' %s}]]",
                 rows[i].text, rows[i].text);
        struct decoded decoded = decode(notation);
        cr_assert(decoded.code == WIRE_OK, "%s", notation);
        cr_expect(decoded.request.args.delta == rows[i].value);
        cr_expect(decoded.request.args.initial == rows[i].value);
        decoded_free(&decoded);
    }
}

Test(request, the_name_of_a_client_has_at_most_255_bytes)
{
    expect_request("[0 1 'hello' [{'client' s(255)}]]");
    expect_request("[0 1 'hello' [{'client' ''}]]");
    expect_refusal("[0 1 'hello' [{'client' s(256)}]]", WIRE_BAD_REQUEST, "");
}

Test(request, the_first_error_from_the_front_is_the_answer)
{
    expect_refusal("[0 1 'get' [s(1025)]] nil", WIRE_TOO_LARGE, "limit=1024");
    expect_refusal("[0 1 'put' [s(1025) <c1>]]", WIRE_TOO_LARGE, "limit=1024");
    expect_refusal("[0 1 'put' [s(1025) 1 {'tll' 5}]]", WIRE_TOO_LARGE, "limit=1024");
    expect_refusal("[0 1 'put' ['' b(1048572)]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'put' ['k' b(1048572) {'tll' 5}]]", WIRE_TOO_LARGE, "limit=1048576");
    expect_refusal("[0 1 'put' [s(1025)]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'scan' [{'tll' 5 'prefix' s(1025)}]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'pong' <c1>]", WIRE_UNKNOWN_METHOD, "");
}

static void expect_message(const char *notation, const char *message)
{
    struct decoded decoded = decode(notation);
    cr_expect(decoded.code != WIRE_OK);
    cr_expect_str_eq(decoded.error.message, message);
    decoded_free(&decoded);
}

Test(request, messages_name_the_argument_and_what_to_do)
{
    expect_message("[0 1 'put' ['k' 1 {'tll' 5}]]",
                   "put: option 'tll' is unknown; it takes ttl, keep_ttl, if_version, if_exists, "
                   "previous");
    expect_message("[0 1 'ping' [{'x' 5}]]", "ping: option 'x' is unknown; it takes no options");
    expect_message("[0 1 'put' ['k' 1 {'ttl' -5}]]",
                   "put: option ttl must be an integer from 0 to 2^48 (milliseconds)");
    expect_message("[0 1 'put' ['k' 1 {'ttl' nil}]]",
                   "put: option ttl is nil; leave it out instead");
    expect_message("[0 1 'put' ['k' 1 {'ttl' 5 'ttl' 5}]]", "put: option ttl is given twice");
    expect_message("[0 1 'get' [s(1025)]]", "get: key: over the limit of 1024 bytes");
    expect_message("[0 1 'get' [5]]", "get: key must be a str or bin");
    expect_message("<94 00 01 a3 67 65>", "method must be a str");
    expect_message("[0 1 'get' [<d9>]]", "get: key is cut off or is not well-formed MessagePack");
    expect_message("[0 1 'ge\n' []]", "method 'ge?' is unknown to this version");
    expect_message("[0 1 s(40) []]",
                   "method 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is unknown to this version");
    expect_message("[0 1 <a3 61 00 ff> []]", "method 'a?"
                                             "?' is unknown to this version");
}

Test(method, names_and_methods_lead_to_each_other)
{
    for (int method = 0; method < WIRE_METHODS; method++) {
        const char *name = wire_method_name((enum wire_method)method);
        cr_expect((int)wire_method_of(slice_of_text(name)) == method, "%s", name);
    }
    cr_expect(wire_method_of(slice_of(NULL, 0)) == WIRE_METHODS);
    cr_expect(wire_method_of(slice_of_text("ge")) == WIRE_METHODS);
    cr_expect(wire_method_of(slice_of_text("gets")) == WIRE_METHODS);
    cr_expect(wire_method_flags(WIRE_METHOD_PUT) == (WIRE_WRITES | WIRE_BATCHABLE));
    cr_expect(wire_method_flags(WIRE_METHOD_GET) == WIRE_BATCHABLE);
    cr_expect(wire_method_flags(WIRE_METHOD_PING) == 0);
}
