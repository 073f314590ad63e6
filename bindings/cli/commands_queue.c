/* The commands of queues but push and work: a request each, or page by page. */
#include "bindings/cli/commands.h"
#include "bindings/cli/json.h"

enum { PEEK_PAGE = 100, LIST_PAGE = 1000 };

static const char *argument(const struct session *session, int index)
{
    return session->arguments->positional[index];
}

/* ---- Calling -------------------------------------------------------------------------------- */

/* Appends an argument that has to be a number. */
static enum status pack_number(struct session *session, int index, const char *what)
{
    wire_integer number;
    if (arguments_integer(argument(session, index), &number) != 0 || number < 0)
        return session_misused(what, argument(session, index));
    wire_pack_integer(&session->params, number);
    return STATUS_OK;
}

/* [queue, {options}] */
static enum status call_queue(struct session *session, const char *method,
                              struct cubby_bytes *result)
{
    wire_pack_array(&session->params, 2);
    wire_pack_key(&session->params, slice_of_text(argument(session, 0)));
    arguments_pack_options(&session->params, session->arguments);
    return session_call(session, method, result);
}

/* [id, lease, {options}], with one more number where there is one. */
static enum status call_lease(struct session *session, const char *method,
                              struct cubby_bytes *result)
{
    int numbers = session->arguments->positional_count;
    wire_pack_array(&session->params, (uint32_t)numbers + 1);
    enum status status = pack_number(session, 0, "ID is not a job's number");
    if (status == STATUS_OK)
        status = pack_number(session, 1, "LEASE is not the number that reserve has printed");
    if (status == STATUS_OK && numbers > 2)
        status = pack_number(session, 2, "MS is not a number of milliseconds");
    arguments_pack_options(&session->params, session->arguments);
    return status == STATUS_OK ? session_call(session, method, result) : status;
}

/* [id, {}] */
static enum status call_job(struct session *session, const char *method, struct cubby_bytes *result)
{
    wire_pack_array(&session->params, 2);
    enum status status = pack_number(session, 0, "ID is not a job's number");
    arguments_pack_options(&session->params, session->arguments);
    return status == STATUS_OK ? session_call(session, method, result) : status;
}

static void print_line(struct session *session, struct cubby_bytes object)
{
    session_print_json(session, object);
    session_print_text(session, "\n");
}

/* What says nothing but that it was done is printed only where JSON is asked for. */
static enum status print_done(struct session *session, struct cubby_bytes result)
{
    if (session_given(session, OPTION_JSON))
        print_line(session, result);
    return session_write(session);
}

static enum status print_object(struct session *session, struct cubby_bytes result)
{
    print_line(session, result);
    return session_write(session);
}

static enum status print_existed(struct session *session, struct cubby_bytes result)
{
    bool existed;
    if (!cubby_as_bool(result, &existed))
        return session_malformed();
    enum status status = print_done(session, result);
    return status != STATUS_OK || existed ? status : STATUS_NOTHING;
}

/* How a request gets its parameters from the arguments, and how its result is shown. */
typedef enum status call_fn(struct session *session, const char *method,
                            struct cubby_bytes *result);
typedef enum status print_fn(struct session *session, struct cubby_bytes result);

static enum status call_and_print(struct session *session, call_fn *call, const char *method,
                                  print_fn *print)
{
    struct cubby_bytes result;
    enum status status = call(session, method, &result);
    return status == STATUS_OK ? print(session, result) : status;
}

/* ---- reserve and pop ------------------------------------------------------------------------ */

static enum status read_wait(const struct session *session, int64_t *wait_ms)
{
    wire_integer number;
    const char *text = session->arguments->options[OPTION_WAIT].text;
    *wait_ms = 0;
    if (text == NULL)
        return STATUS_OK;
    *wait_ms = CUBBY_FOREVER;
    if (strcmp(text, "forever") == 0)
        return STATUS_OK;
    if (arguments_integer(text, &number) != 0 || number < 0 ||
        number > (wire_integer)WIRE_MAX_DURATION_MS)
        return session_misused("--wait is neither milliseconds nor forever", text);
    *wait_ms = (int64_t)number;
    return STATUS_OK;
}

/* The number of an option that has to fit; the daemon knows the exact bounds. */
static enum status read_count(const struct session *session, uint32_t most, uint32_t *number)
{
    uint64_t given = arguments_number(session->arguments, OPTION_COUNT, 0);
    if (given > most || (given == 0 && session_given(session, OPTION_COUNT)))
        return session_out_of_range(session, OPTION_COUNT, 1, most);
    *number = (uint32_t)given;
    return STATUS_OK;
}

static enum status read_take(const struct session *session, struct cubby_reserve_options *options)
{
    *options = (struct cubby_reserve_options){
        .lease_ms = arguments_number(session->arguments, OPTION_LEASE, 0)};
    if (session_given(session, OPTION_LEASE) && options->lease_ms == 0)
        return session_misused("--lease is at least 1", "0");
    enum status status = read_wait(session, &options->wait_ms);
    return status == STATUS_OK ? read_count(session, WIRE_MAX_JOBS, &options->count) : status;
}

static void print_tab_number(struct session *session, uint64_t number)
{
    session_print_text(session, "\t");
    session_print_number(session, number);
}

static void print_job(struct session *session, const struct cubby_job *job)
{
    session_print_number(session, job->id);
    if (job->lease != 0) {
        print_tab_number(session, job->lease);
        print_tab_number(session, job->deliveries);
    }
    session_print_text(session, "\t");
    session_print_key(session, job->queue);
    session_print_text(session, "\t");
    print_line(session, job->body);
}

/* As the protocol has it: [id, queue, body, lease, deliveries, priority, pushed_at]. */
static void print_job_json(struct session *session, const struct cubby_job *job)
{
    session_print_text(session, "[");
    session_print_number(session, job->id);
    session_print_text(session, ",");
    json_print_key(&session->out, session_slice(job->queue));
    session_print_text(session, ",");
    session_print_json(session, job->body);
    const uint64_t numbers[] = {job->lease, job->deliveries, job->priority, job->pushed_at_ms};
    for (size_t i = 0; i < 4 && job->lease != 0; i++) {
        session_print_text(session, ",");
        session_print_number(session, numbers[i]);
    }
    session_print_text(session, "]\n");
}

/* With --raw and --msgpack, bodies only. */
static void print_taken(struct session *session, const struct cubby_job *job)
{
    if (session_given(session, OPTION_JSON))
        print_job_json(session, job);
    else if (!session_given(session, OPTION_RAW) && !session_given(session, OPTION_MSGPACK))
        print_job(session, job);
    else if (!session_print_bytes(session, job->body))
        print_line(session, job->body);
}

typedef enum cubby_status take_jobs(struct cubby *cubby, const struct cubby_bytes *queues,
                                    size_t queue_count, struct cubby_jobs **jobs,
                                    const struct cubby_reserve_options *options);

static enum status take(struct session *session, take_jobs *take_some)
{
    struct cubby_bytes queues[ARGUMENTS_MAX_POSITIONAL];
    struct cubby_reserve_options options;
    struct cubby_jobs *jobs;
    size_t count = (size_t)session->arguments->positional_count;
    enum status status = read_take(session, &options);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        queues[i] = cubby_text(argument(session, (int)i));
    if (take_some(session->cubby, queues, count, &jobs, &options) != CUBBY_OK)
        return session_fail(session);
    for (size_t i = 0; i < jobs->count; i++)
        print_taken(session, &jobs->jobs[i]);
    bool some = jobs->count > 0;
    cubby_jobs_free(&jobs);
    status = session_write(session);
    return status != STATUS_OK || some ? status : STATUS_NOTHING;
}

enum status command_queue_reserve(struct session *session)
{
    return take(session, cubby_queue_reserve);
}

enum status command_queue_pop(struct session *session)
{
    return take(session, cubby_queue_pop);
}

/* ---- With a job in hand --------------------------------------------------------------------- */

enum status command_queue_ack(struct session *session)
{
    return call_and_print(session, call_lease, "queue.ack", print_done);
}

enum status command_queue_bury(struct session *session)
{
    return call_and_print(session, call_lease, "queue.bury", print_done);
}

enum status command_queue_extend(struct session *session)
{
    return call_and_print(session, call_lease, "queue.extend", print_object);
}

enum status command_queue_nack(struct session *session)
{
    struct cubby_bytes result;
    enum cubby_job_state state;
    enum status status = call_lease(session, "queue.nack", &result);
    if (status != STATUS_OK)
        return status;
    if (session_given(session, OPTION_JSON))
        return print_object(session, result);
    if (cubby_read_nacked(result, &state) != CUBBY_OK)
        return session_malformed();
    session_print_text(session, cubby_job_state_text(state));
    session_print_text(session, "\n");
    return session_write(session);
}

/* ---- Looking after queues ------------------------------------------------------------------- */

enum status command_queue_kick(struct session *session)
{
    uint32_t count;
    enum status status = read_count(session, WIRE_MAX_KICK, &count);
    if (status != STATUS_OK)
        return status;
    return call_and_print(session, call_queue, "queue.kick", print_object);
}

enum status command_queue_purge(struct session *session)
{
    return call_and_print(session, call_queue, "queue.purge", print_object);
}

enum status command_queue_delete(struct session *session)
{
    return call_and_print(session, call_job, "queue.delete", print_existed);
}

enum status command_queue_drop(struct session *session)
{
    return call_and_print(session, call_queue, "queue.drop", print_existed);
}

enum status command_queue_stats(struct session *session)
{
    return call_and_print(session, call_queue, "queue.stats", session_print_answer);
}

enum status command_queue_configure(struct session *session)
{
    return call_and_print(session, call_queue, "queue.configure", session_print_answer);
}

enum status command_queue_resume(struct session *session)
{
    return call_and_print(session, call_queue, "queue.resume", print_done);
}

enum status command_queue_pause(struct session *session)
{
    struct cubby_bytes result;
    enum status status = STATUS_OK;
    wire_pack_array(&session->params, 2);
    wire_pack_key(&session->params, slice_of_text(argument(session, 0)));
    if (session->arguments->positional_count > 1)
        status = pack_number(session, 1, "MS is not a number of milliseconds");
    else
        wire_pack_nil(&session->params);
    if (status == STATUS_OK)
        status = session_call(session, "queue.pause", &result);
    return status == STATUS_OK ? print_done(session, result) : status;
}

/* ---- Page by page --------------------------------------------------------------------------- */

/* The fields of a row in their columns; the error, where there is one, is the last. */
static void print_row(struct session *session, struct cubby_bytes row)
{
    static const char *const columns[] = {"id",       "state",  "deliveries",
                                          "priority", "due_at", "body"};
    struct cubby_bytes value, text;
    if (session_given(session, OPTION_JSON)) {
        print_line(session, row);
        return;
    }
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        session_print_text(session, i > 0 ? "\t" : "");
        if (!cubby_map_find(row, columns[i], &value))
            continue;
        if (i == 1 && cubby_as_bytes(value, &text))
            session_print_key(session, text);
        else
            session_print_json(session, value);
    }
    if (cubby_map_find(row, "error", &value) && cubby_as_bytes(value, &text)) {
        session_print_text(session, "\t");
        session_print_key(session, text);
    }
    session_print_text(session, "\n");
}

enum status command_queue_job(struct session *session)
{
    struct cubby_bytes result;
    enum status status = call_job(session, "queue.job", &result);
    if (status != STATUS_OK)
        return status;
    bool found = !cubby_as_nil(result);
    if (found || session_given(session, OPTION_JSON))
        print_row(session, result);
    status = session_write(session);
    return status != STATUS_OK || found ? status : STATUS_NOTHING;
}

/* [queue, {limit, state, after}]; `after` is one encoded object, or empty for the first page. */
static enum status call_peek(struct session *session, const struct buffer *after, uint64_t limit,
                             struct cubby_bytes *result)
{
    struct buffer *out = &session->params;
    bool has_state = session_given(session, OPTION_STATE);
    buffer_clear(out);
    wire_pack_array(out, 2);
    wire_pack_key(out, slice_of_text(argument(session, 0)));
    wire_pack_map(out, 1u + has_state + (after->size > 0));
    wire_pack_text(out, "limit");
    wire_pack_uint(out, limit);
    if (has_state) {
        wire_pack_text(out, "state");
        wire_pack_text(out, session->arguments->options[OPTION_STATE].text);
    }
    if (after->size > 0) {
        wire_pack_text(out, "after");
        buffer_append(out, after->data, after->size);
    }
    return session_call(session, "queue.peek", result);
}

/* Prints a page and notes the place of its last row; how many rows there were, -1: malformed. */
static int64_t print_rows(struct session *session, struct cubby_bytes page, struct buffer *after)
{
    struct wire_cursor cursor = wire_cursor_of(session_slice(page));
    struct slice row;
    struct cubby_bytes at;
    uint32_t count;
    if (wire_read_array(&cursor, &count) != 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        if (wire_read_object(&cursor, WIRE_MAX_DEPTH + 2, &row, NULL) != 0 ||
            !cubby_map_find(cubby_data(row.data, row.size), "at", &at))
            return -1;
        print_row(session, cubby_data(row.data, row.size));
        buffer_clear(after);
        buffer_append(after, at.data, at.size);
    }
    return count;
}

static uint64_t page_of(uint64_t left, uint64_t page)
{
    return left < page ? left : page;
}

enum status command_queue_peek(struct session *session)
{
    struct buffer after = {0};
    struct cubby_bytes page;
    uint64_t left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX);
    enum status status = STATUS_OK;
    int64_t count = 1;
    while (status == STATUS_OK && count > 0 && left > 0) {
        status = call_peek(session, &after, page_of(left, PEEK_PAGE), &page);
        if (status != STATUS_OK)
            break;
        count = print_rows(session, page, &after);
        status = count < 0 ? session_malformed() : session_write(session);
        left -= count > 0 ? (uint64_t)count : 0;
    }
    buffer_free(&after);
    return status;
}

static void print_names(struct session *session, const struct cubby_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        if (session_given(session, OPTION_JSON))
            json_print_key(&session->out, session_slice(names->names[i]));
        else
            session_print_key(session, names->names[i]);
        session_print_text(session, "\n");
    }
}

enum status command_queue_list(struct session *session)
{
    struct cubby_list_options options = {.prefix = session_text(session, OPTION_PREFIX)};
    struct cubby_names *last = NULL;
    uint64_t left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX);
    enum status status = STATUS_OK;
    for (bool more = true; more && status == STATUS_OK && left > 0;) {
        struct cubby_names *names;
        options.limit = (uint32_t)page_of(left, LIST_PAGE);
        if (cubby_queue_list(session->cubby, &names, &options) != CUBBY_OK) {
            status = session_fail(session);
            break;
        }
        cubby_names_free(&last); /* only now: `after` points into it */
        last = names;
        more = names->count > 0;
        left -= names->count;
        if (more)
            options.after = names->names[names->count - 1];
        print_names(session, names);
        status = session_write(session);
    }
    cubby_names_free(&last);
    return status;
}
