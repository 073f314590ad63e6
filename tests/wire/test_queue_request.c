/* The arguments of the queue methods. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "expect.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

Test(queue_request, arguments_and_options_arrive_in_their_fields)
{
    struct decoded decoded = decode("[0 1 'queue.push' ['q' [1] {'delay' 5 'priority' 6 'id' 'x' "
                                    "'ttl' 7}]]");
    const struct wire_args *args = &decoded.request.args;
    cr_assert(decoded.code == WIRE_OK);
    cr_expect(slice_equal(args->queue, slice_of_text("q")));
    cr_expect(slice_equal(args->value, slice_of_text("\x91\x01")));
    cr_expect(args->delay_ms == 5 && args->priority == 6 && args->has_ttl && args->ttl_ms == 7);
    cr_expect(slice_equal(args->id, slice_of_text("x")) && !args->id_is_number);
    cr_expect(args->key.size == 0);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.push' ['q' 1 {'id' -5 'ttl' nil}]]");
    cr_expect(args->id_is_number && args->id_number == -5 && args->ttl_ms == WIRE_FOREVER);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.nack' [8 9 {'delay' 3 'error' 'e'}]]");
    cr_expect(args->job == 8 && args->lease == 9 && args->delay_ms == 3);
    cr_expect(slice_equal(args->job_error, slice_of_text("e")));
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.extend' [8 9 10]]");
    cr_expect(args->job == 8 && args->lease == 9 && args->duration_ms == 10);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.kick' ['q' {'id' 11}]]");
    cr_expect(args->job == 11);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.configure' ['q' {'lease' 1 'max_deliveries' 2 'max_length' 3 "
                     "'retry_delay' 4 'ttl' 5 'dedup_window' 6}]]");
    cr_expect(args->lease_ms == 1 && args->max_deliveries == 2 && args->max_length == 3);
    cr_expect(args->retry_delay_ms == 4 && args->ttl_ms == 5 && args->dedup_window_ms == 6);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.cancel' [12]]");
    cr_expect(args->msgid == 12);
    decoded_free(&decoded);
}

Test(queue_request, what_is_left_out_has_its_default)
{
    struct decoded decoded = decode("[0 1 'queue.reserve' ['q']]");
    const struct wire_args *args = &decoded.request.args;
    cr_expect(args->wait_ms == 0 && args->count == 1 && args->lease_ms == 0);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.peek' ['q']]");
    cr_expect(args->limit == WIRE_DEFAULT_PEEK && args->state == WIRE_JOB_STATES);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.list' []]");
    cr_expect(args->limit == WIRE_DEFAULT_PAGE);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.pause' ['q' nil]]");
    cr_expect(args->duration_ms == WIRE_FOREVER);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.pop' ['q' {'wait' nil}]]");
    cr_expect(args->wait_ms == WIRE_FOREVER);
    decoded_free(&decoded);
}

Test(queue_request, several_queues_are_read_one_by_one)
{
    struct decoded decoded = decode("[0 1 'queue.reserve' [['a' b'bc' 'a'] {'count' 2}]]");
    const struct wire_args *args = &decoded.request.args;
    static const char *const names[] = {"a", "bc", "a"};
    cr_assert(decoded.code == WIRE_OK && args->queue_count == COUNT(names));
    struct wire_cursor queues = args->queues;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct slice name;
        wire_next_queue(&queues, &name);
        cr_expect(slice_equal(name, slice_of_text(names[i])));
    }
    cr_expect(wire_at_end(&queues) && args->count == 2);
    decoded_free(&decoded);
    decoded = decode("[0 1 'queue.reserve' ['only']]");
    struct slice name;
    queues = args->queues;
    cr_assert(args->queue_count == 1);
    wire_next_queue(&queues, &name);
    cr_expect(slice_equal(name, slice_of_text("only")) && slice_equal(name, args->queue));
    decoded_free(&decoded);
}

Test(queue_request, names_of_queues_have_1_to_255_bytes)
{
    static const char *const rows[] = {
        "'queue.push' [%s 1]", "'queue.reserve' [%s]",   "'queue.pop' [['a' %s]]",
        "'queue.kick' [%s]",   "'queue.peek' [%s]",      "'queue.stats' [%s]",
        "'queue.purge' [%s]",  "'queue.configure' [%s]", "'queue.pause' [%s nil]",
        "'queue.drop' [%s]",   "'queue.resume' [%s]",    "'queue.reserve' [[%s]]"};
    static const struct {
        const char *name;
        enum wire_code code;
        const char *details;
    } names[] = {
        {"''", WIRE_BAD_REQUEST, ""},
        {"b(0)", WIRE_BAD_REQUEST, ""},
        {"s(255)", WIRE_OK, ""},
        {"b(255)", WIRE_OK, ""},
        {"s(256)", WIRE_TOO_LARGE, "limit=255"},
        {"5", WIRE_BAD_REQUEST, ""},
        {"nil", WIRE_BAD_REQUEST, ""},
        {"[['q']]", WIRE_BAD_REQUEST, ""},
        {"{}", WIRE_BAD_REQUEST, ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(names); j++) {
            char params[100], notation[200];
            snprintf(params, sizeof(params), rows[i], names[j].name);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, names[j].code, names[j].details);
        }
    }
    expect_refusal("[0 1 'queue.list' [{'prefix' s(256)}]]", WIRE_TOO_LARGE, "limit=255");
    expect_refusal("[0 1 'queue.list' [{'after' s(256)}]]", WIRE_TOO_LARGE, "limit=255");
    expect_request("[0 1 'queue.list' [{'prefix' '' 'after' ''}]]");
}

Test(queue_request, a_list_of_queues_has_one_to_1000_names)
{
    expect_refusal("[0 1 'queue.pop' [[]]]", WIRE_BAD_REQUEST, "");
    expect_request("[0 1 'queue.pop' [['q'*1000]]]");
    expect_refusal("[0 1 'queue.pop' [['q'*1001]]]", WIRE_TOO_LARGE, "limit=1000");
    expect_refusal("[0 1 'queue.push' [['q'] 1]]", WIRE_BAD_REQUEST, "");
}

Test(queue_request, bodies_are_like_values)
{
    expect_request("[0 1 'queue.push' ['q' b(1048571)]]");
    expect_refusal("[0 1 'queue.push' ['q' b(1048572)]]", WIRE_TOO_LARGE, "limit=1048576");
    expect_request("[0 1 'queue.push' ['q' nest(64)]]");
    expect_refusal("[0 1 'queue.push' ['q' nest(65)]]", WIRE_BAD_REQUEST, "");
    expect_request("[0 1 'queue.push' ['q' {'ttl' 5}]]");
    expect_request("[0 1 'queue.push' ['q' nil]]");
}

/* Each value in the place of %s, and whether it is taken. */
struct range {
    const char *request;
    const char *good[4];
    const char *bad[4];
};

Test(queue_request, numbers_have_their_ranges)
{
    static const struct range ranges[] = {
        {"'queue.push' ['q' 1 {'delay' %s}]", {"0", "281474976710656"}, {"-1", "281474976710657"}},
        {"'queue.push' ['q' 1 {'priority' %s}]", {"0", "4294967295"}, {"-1", "4294967296"}},
        {"'queue.push' ['q' 1 {'id' %s}]",
         {"-9223372036854775808", "18446744073709551615", "s(255)", "b'x'"},
         {"''", "s(256)", "1.5", "true"}},
        {"'queue.reserve' ['q' {'wait' %s}]",
         {"0", "281474976710656", "nil"},
         {"-1", "281474976710657", "1.0", "false"}},
        {"'queue.reserve' ['q' {'count' %s}]", {"1", "1000"}, {"0", "1001", "-1", "1.0"}},
        {"'queue.pop' ['q' {'count' %s}]", {"1", "1000"}, {"0", "1001"}},
        {"'queue.kick' ['q' {'count' %s}]", {"1", "10000"}, {"0", "10001"}},
        {"'queue.kick' ['q' {'id' %s}]", {"0", "18446744073709551615"}, {"-1", "'x'"}},
        {"'queue.reserve' ['q' {'lease' %s}]", {"1", "281474976710656"}, {"0", "281474976710657"}},
        {"'queue.configure' ['q' {'lease' %s}]", {"1"}, {"0", "nil", "-1"}},
        {"'queue.configure' ['q' {'ttl' %s}]", {"0", "nil"}, {"-1", "281474976710657"}},
        {"'queue.configure' ['q' {'max_deliveries' %s}]", {"0", "1"}, {"-1", "nil", "1.0"}},
        {"'queue.configure' ['q' {'max_length' %s}]", {"0", "1"}, {"-1", "nil", "'5'"}},
        {"'queue.configure' ['q' {'retry_delay' %s}]", {"0"}, {"-1", "281474976710657"}},
        {"'queue.configure' ['q' {'dedup_window' %s}]", {"0"}, {"-1", "281474976710657"}},
        {"'queue.extend' [1 2 %s]", {"1", "281474976710656"}, {"0", "281474976710657", "nil"}},
        {"'queue.pause' ['q' %s]", {"0", "nil", "281474976710656"}, {"-1", "true", "1.0"}},
        {"'queue.ack' [%s 5]", {"0", "18446744073709551615"}, {"-1", "nil", "'5'", "1.0"}},
        {"'queue.ack' [5 %s]", {"0", "18446744073709551615"}, {"-1", "nil", "'5'", "1.0"}},
        {"'queue.cancel' [%s]", {"0", "18446744073709551615"}, {"-1", "nil", "'5'"}},
        {"'queue.bury' [1 2 {'error' %s}]", {"''", "s(1024)"}, {"s(1025)", "b'x'", "nil", "5"}},
        {"'queue.nack' [1 2 {'delay' %s}]", {"0", "5"}, {"-1", "nil", "281474976710657"}},
        {"'queue.peek' ['q' {'limit' %s}]", {"1", "1000"}, {"0", "1001"}},
        {"'queue.peek' ['q' {'after' %s}]", {"b(16)", "s(16)"}, {"b(15)", "b(17)", "''", "5"}},
        {"'queue.peek' ['q' {'state' %s}]", {"'ready'", "'leased'"}, {"''", "'gone'", "b'ready'"}},
        {"'queue.purge' ['q' {'state' %s}]", {"'ready'", "'dead'"}, {"'leased'", "'expired'"}},
        {"'queue.list' [{'limit' %s}]", {"1", "10000"}, {"0", "10001"}},
    };
    for (size_t i = 0; i < COUNT(ranges); i++) {
        for (size_t j = 0; j < 2 * COUNT(ranges[i].good); j++) {
            bool good = j < COUNT(ranges[i].good);
            const char *value = good ? ranges[i].good[j] : ranges[i].bad[j - COUNT(ranges[i].good)];
            char params[100], notation[200];
            if (value == NULL)
                continue;
            snprintf(params, sizeof(params), ranges[i].request, value);
            snprintf(notation, sizeof(notation), "[0 1 %s]", params);
            expect_refusal(notation, good ? WIRE_OK : WIRE_BAD_REQUEST, "");
        }
    }
}

Test(queue_request, a_kick_names_one_job_or_a_number)
{
    expect_refusal("[0 1 'queue.kick' ['q' {'id' 5 'count' 1}]]", WIRE_BAD_REQUEST, "");
}

Test(queue_request, numbers_of_arguments_are_checked)
{
    static const char *const rows[] = {
        "'queue.push' ['q']",     "'queue.push' ['q' 1 2]",   "'queue.reserve' []",
        "'queue.ack' [1]",        "'queue.ack' [1 2 3]",      "'queue.extend' [1 2]",
        "'queue.pause' ['q']",    "'queue.list' ['q']",       "'queue.cancel' []",
        "'queue.pause' ['q' {}]", "'queue.extend' [1 2 {}]",  "'queue.drop' ['q' 1]",
        "'queue.nack' [1]",       "'queue.reserve' ['q' 'r']"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        char notation[200];
        snprintf(notation, sizeof(notation), "[0 1 %s]", rows[i]);
        expect_refusal(notation, WIRE_BAD_REQUEST, "");
    }
}
