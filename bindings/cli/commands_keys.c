#include "bindings/cli/commands.h"
#include "bindings/cli/json.h"

static const char *argument(const struct session *session, int index)
{
    return session->arguments->positional[index];
}

/* Params that begin with the key and end with the options. */
static struct buffer *open_params(struct session *session, uint32_t positional)
{
    wire_pack_array(&session->params, positional + 1);
    wire_pack_key(&session->params, slice_of_text(argument(session, 0)));
    return &session->params;
}

static enum status call(struct session *session, const char *method, struct cubby_bytes *result)
{
    arguments_pack_options(&session->params, session->arguments);
    return session_call(session, method, result);
}

/* One line: the whole result where JSON is asked for, else the object. */
static void print_line(struct session *session, struct cubby_bytes result,
                       struct cubby_bytes object)
{
    session_print_json(session, session_given(session, OPTION_JSON) ? result : object);
    session_print_text(session, "\n");
}

static enum status finish(struct session *session, bool found)
{
    enum status status = session_write(session);
    return status != STATUS_OK || found ? status : STATUS_NOTHING;
}

/* ---- get ------------------------------------------------------------------------------------ */

static void print_value(struct session *session, struct cubby_bytes value)
{
    if (!session_print_bytes(session, value))
        print_line(session, value, value);
}

enum status command_get(struct session *session)
{
    struct cubby_bytes result;
    struct cubby_value value;
    open_params(session, 1);
    enum status status = call(session, "get", &result);
    if (status != STATUS_OK)
        return status;
    if (cubby_read_value(result, &value) != CUBBY_OK)
        return session_malformed();
    if (session_given(session, OPTION_JSON))
        print_line(session, result, result);
    else if (value.exists)
        print_value(session, value.value);
    return finish(session, value.exists);
}

/* ---- put ------------------------------------------------------------------------------------ */

static enum status send_put(struct session *session, struct slice given, struct cubby_bytes *result)
{
    open_params(session, 2);
    enum status status = session_pack_value(session, given, "VALUE");
    return status == STATUS_OK ? call(session, "put", result) : status;
}

static enum status print_put(struct session *session, struct cubby_bytes result)
{
    struct cubby_written written;
    if (cubby_read_written(result, &written) != CUBBY_OK)
        return session_malformed();
    if (session_given(session, OPTION_JSON)) {
        session_print_json(session, result);
    } else {
        session_print_number(session, written.version);
        session_print_text(session, written.previous.exists ? "\t" : "");
        if (written.previous.exists)
            session_print_json(session, written.previous.value);
    }
    session_print_text(session, "\n");
    return finish(session, true);
}

enum status command_put(struct session *session)
{
    struct buffer input = {0};
    struct cubby_bytes result = {0};
    const char *value = argument(session, 1);
    struct slice given = slice_of_text(value);
    enum status status = STATUS_OK;
    if (strcmp(value, "-") == 0) {
        status = session_read_input(&input);
        given = slice_of(input.data, input.size);
    }
    if (status == STATUS_OK)
        status = send_put(session, given, &result);
    buffer_free(&input);
    return status == STATUS_OK ? print_put(session, result) : status;
}

/* ---- delete, incr, touch -------------------------------------------------------------------- */

enum status command_delete(struct session *session)
{
    struct cubby_bytes result;
    struct cubby_deleted deleted;
    open_params(session, 1);
    enum status status = call(session, "delete", &result);
    if (status != STATUS_OK)
        return status;
    if (cubby_read_deleted(result, &deleted) != CUBBY_OK)
        return session_malformed();
    if (session_given(session, OPTION_JSON))
        print_line(session, result, result);
    else if (deleted.previous.exists)
        print_line(session, result, deleted.previous.value);
    return finish(session, deleted.existed);
}

enum status command_incr(struct session *session)
{
    struct cubby_bytes result;
    struct cubby_incremented sum;
    wire_integer delta = 1;
    if (session->arguments->positional_count > 1 &&
        arguments_integer(argument(session, 1), &delta) != 0)
        return session_misused("DELTA is not an integer", argument(session, 1));
    wire_pack_integer(open_params(session, 2), delta);
    enum status status = call(session, "increment", &result);
    if (status != STATUS_OK)
        return status;
    if (cubby_read_incremented(result, &sum) != CUBBY_OK)
        return session_malformed();
    struct cubby_buffer number = {0};
    if (sum.above_int64)
        cubby_pack_uint(&number, (uint64_t)sum.value);
    else
        cubby_pack_int(&number, sum.value);
    print_line(session, result, cubby_buffer_bytes(&number));
    cubby_buffer_free(&number);
    return finish(session, true);
}

enum status command_touch(struct session *session)
{
    struct cubby_bytes result;
    wire_integer ttl;
    bool existed;
    bool never = strcmp(argument(session, 1), "none") == 0;
    if (!never && (arguments_integer(argument(session, 1), &ttl) != 0 || ttl < 0))
        return session_misused("TTL is neither milliseconds nor none", argument(session, 1));
    open_params(session, 2);
    if (never)
        wire_pack_nil(&session->params);
    else
        wire_pack_integer(&session->params, ttl);
    enum status status = call(session, "touch", &result);
    if (status != STATUS_OK)
        return status;
    if (cubby_read_touched(result, &existed) != CUBBY_OK)
        return session_malformed();
    if (session_given(session, OPTION_JSON))
        print_line(session, result, result);
    return finish(session, existed);
}
