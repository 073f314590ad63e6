#include <criterion/criterion.h>
#include <stdio.h>

#include "expect.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

Test(batch, the_shape_of_every_operation_is_checked_first)
{
    static const struct {
        const char *operations;
        const char *details;
    } rows[] = {
        {"[5]", "index=0"},
        {"[nil]", "index=0"},
        {"['get' ['k']]", "index=0"},
        {"[{'get' ['k']}]", "index=0"},
        {"[[]]", "index=0"},
        {"[['get']]", "index=0"},
        {"[['get' ['k'] {}]]", "index=0"},
        {"[[5 ['k']]]", "index=0"},
        {"[[b'get' ['k']]]", "index=0"},
        {"[['get' 'k']]", "index=0"},
        {"[['get' {}]]", "index=0"},
        {"[['get' ['k']] ['get' nil]]", "index=1"},
        {"[['get' ['k']] ['get' ['k']] [['get'] ['k']]]", "index=2"},
        {"[['get' [<c1>]]]", "index=0"},
        {"[['get' ['k']] ['put' ['k' [1 <c1>]]]]", "index=1"},
        {"[['get' ['k']] ['put' ['k' <db ff ff ff ff>]]]", "index=1"},
        {"[['get' ['k']] <91>]", "index=1"},
        {"[['put' ['k' nest(66)]]]", "index=0"},
        {"[['get' nest(100000)]]", "index=0"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[200];
        snprintf(notation, sizeof(notation), "[0 1 'batch' [%s]]", rows[i].operations);
        expect_refusal(notation, WIRE_BAD_REQUEST, rows[i].details);
    }
}

Test(batch, methods_and_arguments_are_checked_in_their_turn)
{
    expect_request(
        "[0 1 'batch' [[['no' []] ['get' []] ['ping' [5]] ['put' [s(1025) nest(64)]]]]]");
    expect_request("[0 1 'batch' [[['put' ['k' {1 nest(63)} {'ttl' [nest(63)]}]]]]]");
}

Test(batch, the_shape_of_every_guard_is_checked)
{
    static const struct {
        const char *guards;
        enum wire_code code;
        const char *details;
    } rows[] = {
        {"[]", WIRE_OK, ""},
        {"[['k' 0]]", WIRE_OK, ""},
        {"[[b'k' 18446744073709551615]]", WIRE_OK, ""},
        {"[5]", WIRE_BAD_REQUEST, "if=0"},
        {"[[]]", WIRE_BAD_REQUEST, "if=0"},
        {"[['k']]", WIRE_BAD_REQUEST, "if=0"},
        {"[['k' 0 0]]", WIRE_BAD_REQUEST, "if=0"},
        {"[['k' 0] ['k' -1]]", WIRE_BAD_REQUEST, "if=1"},
        {"[['k' 0] ['k' nil]]", WIRE_BAD_REQUEST, "if=1"},
        {"[['k' 0] ['k' 1.0]]", WIRE_BAD_REQUEST, "if=1"},
        {"[['k' 0] [5 0]]", WIRE_BAD_REQUEST, "if=1"},
        {"[['k' 0] ['' 0]]", WIRE_BAD_REQUEST, "if=1"},
        {"[[s(1024) 0] [s(1025) 0]]", WIRE_TOO_LARGE, "limit=1024 if=1"},
        {"[['k' 0] ['k' <c1>]]", WIRE_BAD_REQUEST, "if=1"},
        {"{'k' 0}", WIRE_BAD_REQUEST, ""},
        {"'k'", WIRE_BAD_REQUEST, ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[200];
        snprintf(notation, sizeof(notation), "[0 1 'batch' [[] {'if' %s}]]", rows[i].guards);
        expect_refusal(notation, rows[i].code, rows[i].details);
    }
}

Test(batch, operations_are_looked_at_before_guards)
{
    expect_refusal("[0 1 'batch' [[5] {'if' [5]}]]", WIRE_BAD_REQUEST, "index=0");
}

Test(batch, at_most_10000_operations_and_guards_are_taken)
{
    expect_request("[0 1 'batch' [[['get' ['k']]*10000] {'if' [['k' 0]*10000]}]]");
    expect_refusal("[0 1 'batch' [[['get' ['k']]*10001]]]", WIRE_TOO_LARGE, "limit=10000");
    expect_refusal("[0 1 'batch' [[nil*10001]]]", WIRE_TOO_LARGE, "limit=10000");
    expect_refusal("[0 1 'batch' [[] {'if' [['k' 0]*10001]}]]", WIRE_TOO_LARGE, "limit=10000");
    expect_refusal("[0 1 'batch' [<dd ff ff ff ff>]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'batch' [<dc 27 11 c0>]]", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'batch' [[] {'if' <dd ff ff ff ff>}]]", WIRE_BAD_REQUEST, "");
}

Test(batch, a_batch_is_not_executed_before_its_last_byte_is_read)
{
    expect_refusal("[0 1 'batch' [[['put' ['k' 1]]]]] nil", WIRE_BAD_REQUEST, "");
    expect_refusal("[0 1 'batch' [[['put' ['k' 1]]] {'iff' []}]]", WIRE_BAD_REQUEST, "");
}

Test(batch, operations_are_decoded_one_after_the_other)
{
    struct decoded decoded = decode("[0 1 'batch' [[['put' ['a' {} {'ttl' 5}]] ['get' [b'b']] "
                                    "['scan' []] ['increment' ['n' {'initial' 7}]]]]]");
    struct wire_cursor operations = decoded.request.args.operations;
    struct wire_args args;
    struct wire_error error;
    enum wire_method method;
    cr_assert(decoded.code == WIRE_OK && decoded.request.args.operation_count == 4);
    cr_assert(wire_next_operation(&operations, &method, &args, &error) == WIRE_OK);
    cr_expect(method == WIRE_METHOD_PUT && args.ttl_ms == 5 && args.value.size == 1);
    cr_assert(wire_next_operation(&operations, &method, &args, &error) == WIRE_OK);
    cr_expect(method == WIRE_METHOD_GET && slice_equal(args.key, slice_of_text("b")));
    cr_expect(args.given == 0);
    cr_assert(wire_next_operation(&operations, &method, &args, &error) == WIRE_OK);
    cr_expect(method == WIRE_METHOD_SCAN && args.limit == WIRE_DEFAULT_PAGE);
    cr_assert(wire_next_operation(&operations, &method, &args, &error) == WIRE_OK);
    cr_expect(method == WIRE_METHOD_INCREMENT && args.initial == 7 && args.delta == 1);
    cr_expect(wire_at_end(&operations));
    decoded_free(&decoded);
}

Test(batch, guards_are_read_one_after_the_other)
{
    struct decoded decoded = decode("[0 1 'batch' [[] {'if' [['a' 5] [b'b' 300]]}]]");
    struct wire_cursor guards = decoded.request.args.guards;
    struct wire_guard guard;
    cr_assert(decoded.code == WIRE_OK && decoded.request.args.guard_count == 2);
    cr_expect((decoded.request.args.given & WIRE_HAS_GUARDS) != 0);
    wire_next_guard(&guards, &guard);
    cr_expect(slice_equal(guard.key, slice_of_text("a")) && guard.version == 5);
    wire_next_guard(&guards, &guard);
    cr_expect(slice_equal(guard.key, slice_of_text("b")) && guard.version == 300);
    cr_expect(wire_at_end(&guards));
    decoded_free(&decoded);
}

Test(batch, after_a_bad_operation_comes_the_next_one)
{
    static const struct {
        const char *operation;
        enum wire_code code;
    } rows[] = {
        {"['pong' [1 2 3]]", WIRE_UNKNOWN_METHOD},
        {"['queue.shove' ['q' 1]]", WIRE_UNKNOWN_METHOD},
        {"['queue.push' ['q' 1]]", WIRE_OK},
        {"['queue.push' ['' 1]]", WIRE_BAD_REQUEST},
        {"['queue.reserve' ['q']]", WIRE_OK},
        {"['queue.reserve' ['q' {'wait' 0}]]", WIRE_OK},
        {"['queue.reserve' ['q' {'wait' 1}]]", WIRE_BAD_REQUEST},
        {"['queue.pop' [['q'] {'wait' nil}]]", WIRE_BAD_REQUEST},
        {"['queue.cancel' [1]]", WIRE_BAD_REQUEST},
        {"['queue.stats' ['q']]", WIRE_BAD_REQUEST},
        {"['queue.list' []]", WIRE_BAD_REQUEST},
        {"['' []]", WIRE_UNKNOWN_METHOD},
        {"['ping' []]", WIRE_BAD_REQUEST},
        {"['hello' []]", WIRE_BAD_REQUEST},
        {"['batch' [[]]]", WIRE_BAD_REQUEST},
        {"['stats' []]", WIRE_BAD_REQUEST},
        {"['changes' []]", WIRE_BAD_REQUEST},
        {"['get' []]", WIRE_BAD_REQUEST},
        {"['get' ['']]", WIRE_BAD_REQUEST},
        {"['get' ['k' 'k' 'k']]", WIRE_BAD_REQUEST},
        {"['get' [s(1025)]]", WIRE_TOO_LARGE},
        {"['put' ['k' nest(65)]]", WIRE_BAD_REQUEST},
        {"['put' ['k' b(1048572)]]", WIRE_TOO_LARGE},
        {"['put' ['k' 1 {'tll' nest(64)}]]", WIRE_BAD_REQUEST},
        {"['put' ['k' nest(64) {'ttl' 5}]]", WIRE_OK},
        {"['delete_range' [{'prefix' ''}]]", WIRE_OK},
        {"['delete_range' []]", WIRE_BAD_REQUEST},
        {"['count' [{'prefix' '' 'end' ''}]]", WIRE_BAD_REQUEST},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[200];
        snprintf(notation, sizeof(notation), "[0 1 'batch' [[%s ['get' ['next']]]]]",
                 rows[i].operation);
        struct decoded decoded = decode(notation);
        struct wire_cursor operations = decoded.request.args.operations;
        struct wire_error error;
        struct wire_args args;
        enum wire_method method;
        cr_assert(decoded.code == WIRE_OK, "%s", notation);
        enum wire_code code = wire_next_operation(&operations, &method, &args, &error);
        cr_expect(code == rows[i].code, "%s is %s", rows[i].operation, wire_code_name(code));
        if (code != WIRE_OK)
            cr_expect((error.has & (WIRE_DETAIL_INDEX | WIRE_DETAIL_IF)) == 0);
        cr_assert(wire_next_operation(&operations, &method, &args, &error) == WIRE_OK, "%s",
                  rows[i].operation);
        cr_expect(slice_equal(args.key, slice_of_text("next")));
        cr_expect(wire_at_end(&operations));
        decoded_free(&decoded);
    }
}

Test(batch, a_batch_holds_exactly_the_methods_marked_for_it)
{
    for (int method = 0; method < WIRE_METHODS; method++) {
        const char *name = wire_method_name((enum wire_method)method);
        char notation[100];
        snprintf(notation, sizeof(notation), "[0 1 'batch' [[['%s' [nil nil nil nil]]]]]", name);
        struct decoded decoded = decode(notation);
        struct wire_cursor operations = decoded.request.args.operations;
        struct wire_args args;
        struct wire_error error;
        enum wire_method found;
        cr_assert(decoded.code == WIRE_OK);
        cr_expect(wire_next_operation(&operations, &found, &args, &error) == WIRE_BAD_REQUEST);
        bool refused = strstr(error.message, "cannot be an operation of a batch") != NULL;
        bool batchable = (wire_method_flags((enum wire_method)method) & WIRE_BATCHABLE) != 0;
        cr_expect(refused == !batchable, "%s: %s", name, error.message);
        decoded_free(&decoded);
    }
}
