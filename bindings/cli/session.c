#include "bindings/cli/session.h"

#include <errno.h>

#include "bindings/cli/json.h"

/* ---- Opening -------------------------------------------------------------------------------- */

/*
 * The daemon's two ports stand side by side by default: whoever names the one of the requests
 * means the next one for the broadcast.
 */
static bool next_port(const char *endpoint, char *next, size_t room)
{
    wire_integer port;
    const char *colon = strrchr(endpoint, ':');
    if (strncmp(endpoint, "tcp://", 6) != 0 || arguments_integer(colon + 1, &port) != 0)
        return false;
    int size = snprintf(next, room, "%.*s:%d", (int)(colon - endpoint), endpoint, (int)port + 1);
    return size > 0 && (size_t)size < room;
}

void session_endpoints(const struct arguments *arguments, struct session_endpoints *endpoints)
{
    const struct option_value *given = arguments->options;
    const char *connect = given[OPTION_CONNECT].text;
    uint64_t timeout_ms = arguments_number(arguments, OPTION_TIMEOUT, CUBBY_DEFAULT_TIMEOUT_MS);
    if (connect == NULL)
        connect = getenv("CUBBY_ENDPOINT");
    if (!given[OPTION_CONNECT].given && connect != NULL && connect[0] == '\0')
        connect = NULL; /* an empty variable is none */
    *endpoints = (struct session_endpoints){.options = {.endpoint = connect}};
    if (given[OPTION_BROADCAST].given)
        endpoints->options.broadcast = given[OPTION_BROADCAST].text;
    else if (connect != NULL &&
             next_port(connect, endpoints->broadcast, sizeof(endpoints->broadcast)))
        endpoints->options.broadcast = endpoints->broadcast;
    bool for_ever = timeout_ms == 0 || timeout_ms > INT64_MAX;
    endpoints->options.timeout_ms = for_ever ? CUBBY_FOREVER : (int64_t)timeout_ms;
}

/* What is wrong with an endpoint is said with where it comes from. */
static enum status check_endpoints(const struct arguments *arguments,
                                   const struct session_endpoints *endpoints)
{
    const struct option_value *given = arguments->options;
    const struct {
        const char *of;
        const char *endpoint;
    } rows[] = {{given[OPTION_CONNECT].given ? "--connect" : "$CUBBY_ENDPOINT",
                 endpoints->options.endpoint},
                {"--broadcast", given[OPTION_BROADCAST].text}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *fault = cubby_endpoint_fault(rows[i].endpoint);
        if (fault == NULL)
            continue;
        fprintf(stderr, "cubby: %s '%s': %s\n", rows[i].of, rows[i].endpoint, fault);
        return STATUS_USAGE;
    }
    return STATUS_OK;
}

enum status session_open(struct session *session, const struct arguments *arguments)
{
    struct session_endpoints endpoints;
    session_endpoints(arguments, &endpoints);
    *session = (struct session){.arguments = arguments};
    enum status checked = check_endpoints(arguments, &endpoints);
    if (checked != STATUS_OK)
        return checked;
    enum cubby_status status = cubby_open(&session->cubby, &endpoints.options);
    if (status == CUBBY_OK)
        return STATUS_OK;
    bool misused = status == CUBBY_SYSTEM &&
                   (errno == EINVAL || errno == EPROTONOSUPPORT || errno == ENAMETOOLONG);
    const char *endpoint = endpoints.options.endpoint;
    fprintf(stderr, "cubby: %s: %s\n", endpoint != NULL ? endpoint : CUBBY_DEFAULT_ENDPOINT,
            status == CUBBY_SYSTEM ? strerror(errno) : "out of memory");
    return misused ? STATUS_USAGE : STATUS_FAILED;
}

void session_close(struct session *session)
{
    cubby_close(&session->cubby);
    buffer_free(&session->params);
    buffer_free(&session->out);
}

void session_greet(struct session *session)
{
    struct session_endpoints endpoints;
    struct cubby_server server;
    session_endpoints(session->arguments, &endpoints);
    const char *endpoint = endpoints.options.endpoint;
    bool for_ever = endpoints.options.timeout_ms == CUBBY_FOREVER;
    const struct cubby_call_options options = {.timeout_ms =
                                                   for_ever ? CUBBY_DEFAULT_TIMEOUT_MS : 0};
    enum cubby_status status = cubby_hello(session->cubby, cubby_data(NULL, 0), &server, &options);
    if (status == CUBBY_TIMEOUT || status == CUBBY_UNAVAILABLE)
        fprintf(stderr, "cubby: no answer from %s (is cubbyd running there?): trying on\n",
                endpoint != NULL ? endpoint : CUBBY_DEFAULT_ENDPOINT);
}

bool session_given(const struct session *session, enum option option)
{
    return session->arguments->options[option].given;
}

struct cubby_bytes session_text(const struct session *session, enum option option)
{
    const struct option_value *value = &session->arguments->options[option];
    return value->given ? cubby_text(value->text) : cubby_data(NULL, 0);
}

/* ---- Calling -------------------------------------------------------------------------------- */

enum status session_misused(const char *what, const char *why)
{
    fprintf(stderr, "cubby: %s: %s\n", what, why != NULL ? why : "");
    return STATUS_USAGE;
}

enum status session_out_of_range(const struct session *session, enum option option, uint64_t least,
                                 uint64_t most)
{
    fprintf(stderr, "cubby: --%s is %llu to %llu: %s\n", arguments_option_name(option),
            (unsigned long long)least, (unsigned long long)most,
            session->arguments->options[option].text);
    return STATUS_USAGE;
}

enum status session_malformed(void)
{
    fputs("cubby: protocol: the reply is not what the method returns\n", stderr);
    return STATUS_FAILED;
}

static void print_detail(const struct cubby_error *error)
{
    const struct {
        unsigned bit;
        const char *name;
        uint64_t number;
    } numbers[] = {
        {CUBBY_HAS_LIMIT, "limit", error->limit},    {CUBBY_HAS_VERSION, "version", error->version},
        {CUBBY_HAS_INDEX, "index", error->index},    {CUBBY_HAS_GUARD, "if", error->guard},
        {CUBBY_HAS_OLDEST, "oldest", error->oldest}, {CUBBY_HAS_SEQ, "seq", error->seq},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if ((error->has & numbers[i].bit) != 0)
            fprintf(stderr, ", %s %llu", numbers[i].name, (unsigned long long)numbers[i].number);
    }
}

enum status session_fail(const struct session *session)
{
    const struct cubby_error *error = cubby_last_error(session->cubby);
    fprintf(stderr, "cubby: %s: %s", error->code, error->message);
    print_detail(error);
    fputc('\n', stderr);
    if (error->status == CUBBY_TIMEOUT)
        return STATUS_TIMEOUT;
    if (error->status == CUBBY_MISUSE)
        return STATUS_USAGE;
    return error->status >= CUBBY_BAD_REQUEST ? STATUS_REFUSED : STATUS_FAILED;
}

enum status session_call(struct session *session, const char *method, struct cubby_bytes *result)
{
    struct cubby_bytes params = session_bytes(&session->params);
    if (session->params.failed) {
        fputs("cubby: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    if (cubby_call(session->cubby, method, params, result, NULL) != CUBBY_OK)
        return session_fail(session);
    return STATUS_OK;
}

/* ---- Input and output ----------------------------------------------------------------------- */

enum status session_write(struct session *session)
{
    struct buffer *out = &session->out;
    bool written = !out->failed && fwrite(out->data, 1, out->size, stdout) == out->size;
    buffer_clear(out);
    if (written && fflush(stdout) == 0)
        return STATUS_OK;
    fprintf(stderr, "cubby: writing: %s\n", strerror(errno));
    return STATUS_FAILED;
}

enum status session_read_input(struct buffer *input)
{
    enum { CHUNK = 65536 };
    size_t size;
    do {
        if (!buffer_reserve(input, CHUNK)) {
            fputs("cubby: out of memory\n", stderr);
            return STATUS_FAILED;
        }
        size = fread(input->data + input->size, 1, CHUNK, stdin);
        input->size += size;
    } while (size > 0);
    if (ferror(stdin) == 0)
        return STATUS_OK;
    fprintf(stderr, "cubby: reading standard input: %s\n", strerror(errno));
    return STATUS_FAILED;
}

void session_print_text(struct session *session, const char *text)
{
    buffer_append(&session->out, text, strlen(text));
}

void session_print_json(struct session *session, struct cubby_bytes object)
{
    if (json_print(&session->out, session_slice(object)) != 0)
        session_print_text(session, "(malformed)");
}

void session_print_number(struct session *session, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    session_print_text(session, text);
}

void session_print_key(struct session *session, struct cubby_bytes key)
{
    const uint8_t *bytes = key.data;
    bool text = wire_is_utf8(session_slice(key));
    char escape[8];
    for (size_t i = 0; i < key.size; i++) {
        if (bytes[i] == '\t')
            session_print_text(session, "\\t");
        else if (bytes[i] == '\n')
            session_print_text(session, "\\n");
        else if (bytes[i] == '\\')
            session_print_text(session, "\\\\");
        else if (bytes[i] >= ' ' && bytes[i] != 127 && (text || bytes[i] < 128))
            buffer_append(&session->out, &bytes[i], 1);
        else {
            snprintf(escape, sizeof(escape), "\\x%02x", bytes[i]);
            session_print_text(session, escape);
        }
    }
}

/* A line for each name, maps inside with their names before a dot: limits.max_key 1024. */
static void print_map(struct session *session, struct slice map, const char *within)
{
    struct wire_cursor cursor = wire_cursor_of(map);
    struct slice name, value;
    uint32_t count;
    if (wire_read_map(&cursor, &count) != 0)
        return;
    for (; count > 0; count--) {
        if (wire_read_str(&cursor, &name) != 0 ||
            wire_read_object(&cursor, WIRE_MAX_DEPTH, &value, NULL) != 0)
            return;
        struct wire_cursor inner = wire_cursor_of(value);
        char path[64];
        snprintf(path, sizeof(path), "%s%.*s", within, (int)name.size, (const char *)name.data);
        if (wire_peek(&inner) == WIRE_MAP && *within == 0) {
            strncat(path, ".", sizeof(path) - strlen(path) - 1);
            print_map(session, value, path);
            continue;
        }
        session_print_text(session, path);
        session_print_text(session, " ");
        struct slice text;
        if (wire_read_str(&inner, &text) == 0)
            session_print_key(session, cubby_data(text.data, text.size));
        else
            session_print_json(session, cubby_data(value.data, value.size));
        session_print_text(session, "\n");
    }
}

enum status session_print_answer(struct session *session, struct cubby_bytes result)
{
    if (session_given(session, OPTION_JSON)) {
        session_print_json(session, result);
        session_print_text(session, "\n");
    } else {
        print_map(session, session_slice(result), "");
    }
    return session_write(session);
}

/* ---- Values --------------------------------------------------------------------------------- */

bool session_print_bytes(struct session *session, struct cubby_bytes value)
{
    struct cubby_bytes bytes = value;
    bool as_it_is = session_given(session, OPTION_MSGPACK) ||
                    (session_given(session, OPTION_RAW) && cubby_as_bytes(value, &bytes));
    if (as_it_is)
        buffer_append(&session->out, bytes.data, bytes.size);
    return as_it_is;
}

/* Encoded bytes go into the params as they are, so they must be one object, or another request
 * than this one would come out. */
static bool is_object(struct slice given)
{
    struct slice object;
    if (given.size == 0)
        return false;
    struct wire_cursor cursor = wire_cursor_of(given);
    return wire_read_object(&cursor, WIRE_MAX_DEPTH, &object, NULL) == 0 && wire_at_end(&cursor);
}

enum status session_pack_value(struct session *session, struct slice given, const char *what)
{
    const char *reason = NULL;
    if (session_given(session, OPTION_MSGPACK) && !is_object(given))
        return session_misused(what, "not one MessagePack object");
    if (session_given(session, OPTION_MSGPACK)) {
        wire_pack_object(&session->params, given);
    } else if (session_given(session, OPTION_RAW)) {
        wire_pack_key(&session->params, given);
    } else if (json_parse(&session->params, given, &reason) != 0) {
        fprintf(stderr, "cubby: %s is not JSON (for text as it is, --raw): %s\n", what, reason);
        return STATUS_USAGE;
    }
    return STATUS_OK;
}
