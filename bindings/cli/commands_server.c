#include "bindings/cli/commands.h"
#include <time.h>

#include "bindings/cli/json.h"

/* ---- batch and call: JSON in, JSON out ------------------------------------------------------ */

static bool is_array(const struct buffer *buffer, size_t from)
{
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(buffer, from));
    return wire_peek(&cursor) == WIRE_ARRAY;
}

/* {if: [[key, version], …]}; what arguments_read has accepted has an equals sign and a number. */
static void pack_guards(struct buffer *out, const struct arguments *arguments)
{
    wire_pack_map(out, arguments->guard_count > 0);
    if (arguments->guard_count == 0)
        return;
    wire_pack_text(out, "if");
    wire_pack_array(out, (uint32_t)arguments->guard_count);
    for (size_t i = 0; i < arguments->guard_count; i++) {
        const char *text = arguments->guards[i];
        const char *mark = strrchr(text, '=');
        wire_integer version = 0;
        arguments_integer(mark + 1, &version);
        wire_pack_array(out, 2);
        wire_pack_key(out, slice_of(text, (size_t)(mark - text)));
        wire_pack_integer(out, version);
    }
}

static enum status pack_operations(struct session *session)
{
    const struct arguments *arguments = session->arguments;
    struct buffer input = {0};
    const char *reason = "an array of operations is expected";
    bool given = arguments->positional_count > 0 && strcmp(arguments->positional[0], "-") != 0;
    enum status status = STATUS_OK;
    if (given)
        buffer_append_slice(&input, slice_of_text(arguments->positional[0]));
    else
        status = session_read_input(&input);
    wire_pack_array(&session->params, 2);
    size_t from = session->params.size;
    if (status == STATUS_OK &&
        (json_parse(&session->params, slice_of(input.data, input.size), &reason) != 0 ||
         !is_array(&session->params, from)))
        status = session_misused("OPERATIONS", reason);
    buffer_free(&input);
    pack_guards(&session->params, arguments);
    return status;
}

static enum status print_results(struct session *session, struct cubby_bytes result)
{
    struct cubby_bytes results;
    struct slice object;
    uint32_t count = 0;
    if (!cubby_map_find(result, "results", &results))
        return session_malformed();
    struct wire_cursor cursor = wire_cursor_of(session_slice(results));
    if (wire_read_array(&cursor, &count) != 0)
        return session_malformed();
    for (; count > 0 && wire_read_object(&cursor, WIRE_MAX_DEPTH + 8, &object, NULL) == 0;
         count--) {
        session_print_json(session, cubby_data(object.data, object.size));
        session_print_text(session, "\n");
    }
    return session_write(session);
}

enum status command_batch(struct session *session)
{
    struct cubby_bytes result;
    enum status status = pack_operations(session);
    if (status == STATUS_OK)
        status = session_call(session, "batch", &result);
    if (status != STATUS_OK)
        return status;
    if (!session_given(session, OPTION_JSON))
        return print_results(session, result);
    session_print_json(session, result);
    session_print_text(session, "\n");
    return session_write(session);
}

enum status command_call(struct session *session)
{
    const struct arguments *arguments = session->arguments;
    const char *reason = "an array is expected";
    struct cubby_bytes result;
    if (arguments->positional_count == 1)
        wire_pack_array(&session->params, 0);
    else if (json_parse(&session->params, slice_of_text(arguments->positional[1]), &reason) != 0 ||
             !is_array(&session->params, 0))
        return session_misused("PARAMS", reason);
    enum status status = session_call(session, arguments->positional[0], &result);
    if (status != STATUS_OK)
        return status;
    session_print_json(session, result);
    session_print_text(session, "\n");
    return session_write(session);
}

/* ---- ping, hello, stats --------------------------------------------------------------------- */

enum status command_stats(struct session *session)
{
    struct cubby_bytes result;
    wire_pack_array(&session->params, 0);
    enum status status = session_call(session, "stats", &result);
    return status == STATUS_OK ? session_print_answer(session, result) : status;
}

enum status command_hello(struct session *session)
{
    struct cubby_bytes result;
    wire_pack_array(&session->params, 1);
    arguments_pack_options(&session->params, session->arguments);
    enum status status = session_call(session, "hello", &result);
    return status == STATUS_OK ? session_print_answer(session, result) : status;
}

enum status command_ping(struct session *session)
{
    struct cubby_bytes result;
    wire_pack_array(&session->params, 0);
    enum status status = session_call(session, "ping", &result);
    if (status != STATUS_OK)
        return status;
    if (session_given(session, OPTION_JSON))
        session_print_json(session, result);
    else
        session_print_text(session, "pong");
    session_print_text(session, "\n");
    return session_write(session);
}

/* ---- checkpoint ----------------------------------------------------------------------------- */

enum { CHECKPOINT_POLL_MS = 50 };

/* How the daemon's checkpoints stand, as of its stats. */
struct checkpoints {
    uint64_t seq;
    uint64_t failed;
};

static enum status read_checkpoints(struct session *session, struct checkpoints *checkpoints)
{
    struct cubby_bytes stats, seq, failed;
    if (cubby_stats(session->cubby, &stats, NULL) != CUBBY_OK)
        return session_fail(session);
    if (!cubby_map_find(stats, "checkpoint_seq", &seq) ||
        !cubby_map_find(stats, "checkpoints_failed", &failed) ||
        !cubby_as_uint(seq, &checkpoints->seq) || !cubby_as_uint(failed, &checkpoints->failed))
        return session_malformed();
    return STATUS_OK;
}

static enum status wait_for_checkpoint(struct session *session, uint64_t seq, uint64_t failed)
{
    const struct timespec pause = {.tv_nsec = CHECKPOINT_POLL_MS * 1000000L};
    struct checkpoints now = {0};
    for (;;) {
        enum status status = read_checkpoints(session, &now);
        if (status != STATUS_OK || now.seq >= seq)
            return status;
        if (now.failed > failed) {
            fputs("cubby: the checkpoint failed; the daemon's log says why\n", stderr);
            return STATUS_REFUSED;
        }
        nanosleep(&pause, NULL);
    }
}

enum status command_checkpoint(struct session *session)
{
    struct cubby_bytes result;
    struct checkpoints before = {0};
    uint64_t seq;
    wire_pack_array(&session->params, 0);
    enum status status = read_checkpoints(session, &before);
    if (status == STATUS_OK)
        status = session_call(session, "checkpoint", &result);
    if (status != STATUS_OK)
        return status;
    if (!cubby_as_uint(result, &seq))
        return session_malformed();
    status = wait_for_checkpoint(session, seq, before.failed);
    if (status != STATUS_OK)
        return status;
    session_print_number(session, seq);
    session_print_text(session, "\n");
    return session_write(session);
}
