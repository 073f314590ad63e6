#include "requests.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "store/error.h"

enum { MAX_TEXT = 1 << 16 };

void fixture_open(struct fixture *fixture, const char *directory)
{
    fixture_open_log(fixture, directory, 0, 64 << 20);
}

static void open_with(struct fixture *fixture, const struct store_options *options)
{
    struct store_error error = {.message = ""};
    *fixture = (struct fixture){.now_ms = TEST_START_MS};
    cr_assert_eq(store_open(&fixture->store, options, &error), 0, "%s", error.message);
    cr_assert_eq(
        service_init(&fixture->service, fixture->store, &fixture->counters, TEST_START_MS, &error),
        0, "%s", error.message);
}

void fixture_open_log(struct fixture *fixture, const char *directory, size_t segment_size,
                      uint64_t log_retain)
{
    struct store_options options = {.directory = directory,
                                    .durability = STORE_NONE,
                                    .segment_size = segment_size,
                                    .log_retain = log_retain,
                                    .wall_ms = TEST_START_MS};
    open_with(fixture, &options);
}

void fixture_open_evicting(struct fixture *fixture, uint64_t memory_limit)
{
    struct store_options options = {.durability = STORE_NONE,
                                    .log_retain = 64 << 20,
                                    .memory_limit = memory_limit,
                                    .evicts = true,
                                    .wall_ms = TEST_START_MS};
    open_with(fixture, &options);
}

void fixture_close(struct fixture *fixture)
{
    service_free(&fixture->service);
    cr_assert_eq(store_close(&fixture->store), 0);
    buffer_free(&fixture->replies);
}

void fixture_commit(struct fixture *fixture)
{
    cr_assert_eq(service_end_turn(&fixture->service, fixture->now_ms), 0);
    cr_assert_eq(store_commit(fixture->store), 0);
    service_commit(&fixture->service);
}

/* The text's grammar is JSON's, without white space and escapes. Counts come from a first pass. */
static const char *pack_next(struct buffer *out, const char *at);

static unsigned count_elements(const char *at)
{
    unsigned depth = 0;
    unsigned commas = 0;
    bool quoted = false;
    const char *start = at++;
    for (; depth > 0 || quoted || (*at != ']' && *at != '}'); at++) {
        if (*at == '"')
            quoted = !quoted;
        if (quoted)
            continue;
        depth += (unsigned)(*at == '[' || *at == '{') - (unsigned)(*at == ']' || *at == '}');
        commas += *at == ',' && depth == 0;
    }
    return at == start + 1 ? 0 : commas + 1;
}

static const char *pack_container(struct buffer *out, const char *at)
{
    char end = *at == '[' ? ']' : '}';
    unsigned count = count_elements(at);
    if (end == ']')
        wire_pack_array(out, count);
    else
        wire_pack_map(out, count);
    at++;
    while (*at != end) {
        at = pack_next(out, at);
        if (*at == ',' || *at == ':')
            at++;
    }
    return at + 1;
}

static const char *pack_word(struct buffer *out, const char *at)
{
    size_t size = strcspn(at, ",:]}");
    if (strncmp(at, "nil", size) == 0)
        wire_pack_nil(out);
    else if (strncmp(at, "true", size) == 0 || strncmp(at, "false", size) == 0)
        wire_pack_bool(out, *at == 't');
    else if (memchr(at, '.', size) != NULL)
        wire_pack_float(out, strtod(at, NULL));
    else if (*at == '-')
        wire_pack_integer(out, strtoll(at, NULL, 10));
    else
        wire_pack_uint(out, strtoull(at, NULL, 10));
    return at + size;
}

static const char *pack_next(struct buffer *out, const char *at)
{
    if (*at == '[' || *at == '{')
        return pack_container(out, at);
    if (*at != '"')
        return pack_word(out, at);
    const char *end = strchr(at + 1, '"');
    wire_pack_str(out, slice_of(at + 1, (size_t)(end - at - 1)));
    return end + 1;
}

void pack_text(struct buffer *out, const char *text)
{
    const char *end = pack_next(out, text);
    cr_assert_eq(*end, '\0', "cannot pack %s", text);
}

static void append(char *text, size_t size, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s", more);
}

static void unpack_next(struct wire_cursor *cursor, char *text, size_t size);

static void unpack_container(struct wire_cursor *cursor, char *text, size_t size, bool map)
{
    uint32_t count;
    append(text, size, map ? "{" : "[");
    cr_assert_eq(map ? wire_read_map(cursor, &count) : wire_read_array(cursor, &count), 0);
    for (uint32_t i = 0; i < count; i++) {
        append(text, size, i > 0 ? "," : "");
        unpack_next(cursor, text, size);
        if (map) {
            append(text, size, ":");
            unpack_next(cursor, text, size);
        }
    }
    append(text, size, map ? "}" : "]");
}

static void unpack_integer(struct wire_cursor *cursor, char *text, size_t size)
{
    char number[32];
    wire_integer value;
    cr_assert_eq(wire_read_integer(cursor, &value), 0);
    if (value < 0)
        snprintf(number, sizeof number, "%" PRId64, (int64_t)value);
    else
        snprintf(number, sizeof number, "%" PRIu64, (uint64_t)value);
    append(text, size, number);
}

static void unpack_bytes(struct wire_cursor *cursor, char *text, size_t size)
{
    struct slice bytes;
    char part[MAX_TEXT];
    cr_assert_eq(wire_read_bytes(cursor, &bytes), 0);
    snprintf(part, sizeof part, "\"%.*s\"", (int)bytes.size, (const char *)bytes.data);
    append(text, size, part);
}

static void unpack_next(struct wire_cursor *cursor, char *text, size_t size)
{
    bool truth;
    switch (wire_peek(cursor)) {
    case WIRE_ARRAY:
    case WIRE_MAP:
        unpack_container(cursor, text, size, wire_peek(cursor) == WIRE_MAP);
        break;
    case WIRE_NIL:
        cr_assert_eq(wire_read_nil(cursor), 0);
        append(text, size, "nil");
        break;
    case WIRE_BOOL:
        cr_assert_eq(wire_read_bool(cursor, &truth), 0);
        append(text, size, truth ? "true" : "false");
        break;
    case WIRE_INTEGER:
        unpack_integer(cursor, text, size);
        break;
    default:
        unpack_bytes(cursor, text, size);
        break;
    }
}

void unpack_text(struct slice object, char *text, size_t size)
{
    struct wire_cursor cursor = wire_cursor_of(object);
    text[0] = '\0';
    unpack_next(&cursor, text, size);
    cr_assert(wire_at_end(&cursor));
}

void fixture_send(struct fixture *fixture, uint64_t msgid, const char *method, const char *params)
{
    struct buffer payload = {0};
    struct wire_request request;
    wire_pack_request(&payload, msgid, method);
    pack_text(&payload, params);
    fixture->answer = (struct service_answer){0};
    if (service_read(&fixture->service, buffer_slice(&payload, 0), &fixture->replies, &request))
        fixture->answer = service_execute(&fixture->service, &request, &fixture->peer,
                                          fixture->now_ms, &fixture->replies);
    buffer_free(&payload);
}

const char *fixture_call(struct fixture *fixture, const char *method, const char *params)
{
    static char text[MAX_TEXT];
    buffer_clear(&fixture->replies);
    fixture_send(fixture, 1, method, params);
    fixture_commit(fixture);
    unpack_text(buffer_slice(&fixture->replies, 0), text, sizeof text);
    return text;
}

void fixture_see_changes(struct fixture *fixture, uint64_t since, struct buffer *state)
{
    struct store_history_change change;
    struct store_history *history;
    cr_assert_eq(store_history_open(fixture->store, &history), 0);
    cr_assert_eq(store_history_seek(history, since), 0);
    while (store_history_next(history, &change) == 0) {
        buffer_append(state, &change.seq, sizeof change.seq);
        buffer_append(state, &change.index, sizeof change.index);
        buffer_append(state, &change.count, sizeof change.count);
        buffer_append(state, &change.change, sizeof change.change);
        buffer_append_slice(state, change.key);
        buffer_append_slice(state, change.value);
    }
    store_history_close(&history);
}
