/* queue push: a body, or one for each line of standard input. */
#include <errno.h>
#include <unistd.h>

#include "bindings/cli/commands.h"

enum {
    READ_STEP = 1 << 16,
    LINES_BATCH = 1000, /* pushes of one transaction */
};

static struct slice queue_of(const struct session *session)
{
    return slice_of_text(session->arguments->positional[0]);
}

static void print_pushed(struct session *session, struct cubby_bytes result,
                         const struct cubby_pushed *pushed)
{
    if (session_given(session, OPTION_JSON)) {
        session_print_json(session, result);
    } else {
        session_print_number(session, pushed->id);
        session_print_text(session, pushed->duplicate ? "\tduplicate" : "");
    }
    session_print_text(session, "\n");
}

/* [queue, body, {options}] behind what is in the params. */
static enum status pack_push(struct session *session, struct slice body, const char *what)
{
    wire_pack_array(&session->params, 3);
    wire_pack_key(&session->params, queue_of(session));
    enum status status = session_pack_value(session, body, what);
    arguments_pack_options(&session->params, session->arguments);
    return status;
}

static enum status push_one(struct session *session, struct slice body)
{
    struct cubby_bytes result;
    struct cubby_pushed pushed;
    enum status status = pack_push(session, body, "BODY");
    if (status == STATUS_OK)
        status = session_call(session, "queue.push", &result);
    if (status != STATUS_OK)
        return status;
    if (cubby_read_pushed(result, &pushed) != CUBBY_OK)
        return session_malformed();
    print_pushed(session, result, &pushed);
    return session_write(session);
}

/* ---- Lines ---------------------------------------------------------------------------------- */

struct lines {
    struct session *session;
    struct buffer input; /* read, and not yet pushed */
    uint64_t line;       /* the number of the last line that was packed */
    uint64_t pushed;     /* lines */
};

static enum status print_results(struct session *session, struct cubby_bytes batch)
{
    struct cubby_bytes results, one;
    struct cubby_pushed pushed;
    struct slice object;
    uint32_t count = 0;
    if (!cubby_map_find(batch, "results", &results))
        return session_malformed();
    struct wire_cursor cursor = wire_cursor_of(session_slice(results));
    if (wire_read_array(&cursor, &count) != 0)
        return session_malformed();
    for (; count > 0; count--) {
        if (wire_read_object(&cursor, 1, &object, NULL) != 0)
            return session_malformed();
        one = cubby_data(object.data, object.size);
        if (cubby_read_pushed(one, &pushed) != CUBBY_OK)
            return session_malformed();
        print_pushed(session, one, &pushed);
    }
    return session_write(session);
}

/* Sends the pushes that are packed behind the params' first `head` bytes. */
static enum status push_packed(struct lines *lines, size_t place, uint32_t count)
{
    struct session *session = lines->session;
    struct cubby_bytes result;
    if (count == 0)
        return STATUS_OK;
    wire_set_array_count(&session->params, place, count);
    enum status status = session_call(session, "batch", &result);
    if (status != STATUS_OK)
        return status;
    lines->pushed += count;
    return print_results(session, result);
}

/* The next whole line, without its end; false where there is none. At the end of the input the
 * rest is one. */
static bool next_line(const struct buffer *input, size_t *at, bool at_end, struct slice *line)
{
    const uint8_t *start = input->data + *at;
    size_t left = input->size - *at;
    const uint8_t *end = left > 0 ? memchr(start, '\n', left) : NULL;
    if (end == NULL && (!at_end || left == 0))
        return false;
    *line = slice_of(start, end != NULL ? (size_t)(end - start) : left);
    *at += line->size + (end != NULL);
    return true;
}

/*
 * Pushes lines that are there, in one transaction, and takes them off the input. A line that is
 * wrong is reported after those before it were pushed.
 */
static enum status push_some(struct lines *lines, bool at_end, bool *more)
{
    struct session *session = lines->session;
    char what[32];
    struct slice line;
    size_t at = 0;
    uint32_t count = 0;
    enum status wrong = STATUS_OK;
    buffer_clear(&session->params);
    wire_pack_array(&session->params, 1);
    size_t place = wire_pack_array_later(&session->params);
    while (count < LINES_BATCH && session->params.size < WIRE_PAGE_BYTES &&
           next_line(&lines->input, &at, at_end, &line)) {
        size_t before = session->params.size;
        snprintf(what, sizeof(what), "line %llu", (unsigned long long)++lines->line);
        wire_pack_array(&session->params, 2);
        wire_pack_text(&session->params, "queue.push");
        wrong = pack_push(session, line, what);
        if (wrong != STATUS_OK) {
            session->params.size = before;
            break;
        }
        count++;
    }
    *more = count > 0;
    enum status status = push_packed(lines, place, count);
    lines->input.size -= at;
    if (at > 0)
        memmove(lines->input.data, lines->input.data + at, lines->input.size);
    return status != STATUS_OK ? status : wrong;
}

/* Takes what is there, without waiting for more: lines that trickle in are pushed as they come. */
static enum status read_some(struct lines *lines, bool *at_end)
{
    ssize_t size;
    if (lines->input.size > WIRE_MAX_MESSAGE)
        return session_misused("a line is too long", "a body is at most 1 MiB");
    if (!buffer_reserve(&lines->input, READ_STEP)) {
        fputs("cubby: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    do
        size = read(STDIN_FILENO, lines->input.data + lines->input.size, READ_STEP);
    while (size < 0 && errno == EINTR);
    if (size < 0) {
        fprintf(stderr, "cubby: reading standard input: %s\n", strerror(errno));
        return STATUS_FAILED;
    }
    lines->input.size += (size_t)size;
    *at_end = size == 0;
    return STATUS_OK;
}

static enum status push_lines(struct session *session)
{
    struct lines lines = {.session = session};
    bool at_end = false;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !at_end) {
        status = read_some(&lines, &at_end);
        for (bool more = true; more && status == STATUS_OK;)
            status = push_some(&lines, at_end, &more);
    }
    if (status != STATUS_OK)
        fprintf(stderr, "cubby: stopped after %llu jobs\n", (unsigned long long)lines.pushed);
    buffer_free(&lines.input);
    return status;
}

enum status command_queue_push(struct session *session)
{
    const struct arguments *arguments = session->arguments;
    const char *body = arguments->positional_count > 1 ? arguments->positional[1] : NULL;
    bool from_input = body != NULL && strcmp(body, "-") == 0;
    struct buffer input = {0};
    if (session_given(session, OPTION_LINES)) {
        if (body != NULL && !from_input)
            return session_misused("queue push", "--lines reads standard input: give no BODY");
        if (session_given(session, OPTION_ID) || session_given(session, OPTION_MSGPACK))
            return session_misused("queue push", "--lines goes with neither --id nor --msgpack");
        return push_lines(session);
    }
    if (body == NULL)
        return session_misused("queue push", "a BODY is missing (- for standard input)");
    enum status status = from_input ? session_read_input(&input) : STATUS_OK;
    if (status == STATUS_OK)
        status =
            push_one(session, from_input ? slice_of(input.data, input.size) : slice_of_text(body));
    buffer_free(&input);
    return status;
}
