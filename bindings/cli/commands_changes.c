#include "bindings/cli/changes_print.h"
#include "bindings/cli/commands.h"
#include "bindings/cli/json.h"

/* Printing changes until there have been enough. */
struct printer {
    struct session *session;
    uint64_t left;
    enum status status;
};

static const char *kind_name(enum cubby_change_kind kind)
{
    switch (kind) {
    case CUBBY_PUT:
        return "put";
    case CUBBY_DELETE:
        return "delete";
    case CUBBY_EXPIRE:
        return "expire";
    default:
        return "evict";
    }
}

/* As in the protocol: [seq, index, count, kind, key, value, expires_at]. */
static void print_json(struct session *session, const struct cubby_change *change)
{
    struct buffer encoded = {0};
    struct wire_change packed = {.seq = change->seq,
                                 .index = change->index,
                                 .count = change->count,
                                 .kind = kind_name(change->kind),
                                 .key = session_slice(change->key),
                                 .value = session_slice(change->value),
                                 .expires_at_ms = change->expires_at_ms};
    wire_pack_change(&encoded, &packed);
    session_print_json(session, session_bytes(&encoded));
    buffer_free(&encoded);
}

static void print_plain(struct session *session, const struct cubby_change *change)
{
    session_print_number(session, change->seq);
    session_print_text(session, "\t");
    session_print_text(session, kind_name(change->kind));
    session_print_text(session, "\t");
    session_print_key(session, change->key);
    if (change->kind == CUBBY_PUT) {
        session_print_text(session, "\t");
        session_print_json(session, change->value);
    }
}

void print_change(struct session *session, const struct cubby_change *change)
{
    if (session_given(session, OPTION_JSON))
        print_json(session, change);
    else
        print_plain(session, change);
    session_print_text(session, "\n");
}

static void print_one(void *context, const struct cubby_change *change)
{
    struct printer *printer = context;
    if (printer->left == 0)
        return;
    printer->left--;
    print_change(printer->session, change);
}

static void print_reset(void *context, const struct cubby_reset *reset)
{
    struct printer *printer = context;
    struct session *session = printer->session;
    if (!session_given(session, OPTION_JSON)) {
        fprintf(stderr, "cubby: history up to seq %llu is gone (epoch %.*s)\n",
                (unsigned long long)reset->seq, (int)reset->epoch.size,
                (const char *)reset->epoch.data);
        return;
    }
    session_print_text(session, "{\"reset\":{\"epoch\":");
    json_print_key(&session->out, session_slice(reset->epoch));
    session_print_text(session, ",\"oldest\":");
    session_print_number(session, reset->oldest);
    session_print_text(session, ",\"seq\":");
    session_print_number(session, reset->seq);
    session_print_text(session, "}}\n");
}

/* It goes on: the library asks again, every second. */
static void print_refusal(void *context, const struct cubby_error *error)
{
    (void)context;
    fprintf(stderr, "cubby: %s: %s (asked again in a second)\n", error->code, error->message);
}

/* Without --limit, for ever: a signal ends it. */
static enum status follow(struct printer *printer)
{
    static const struct cubby_subscriber subscriber = {
        .on_change = print_one, .on_reset = print_reset, .on_error = print_refusal};
    struct session *session = printer->session;
    struct cubby_bytes prefix = session_text(session, OPTION_PREFIX);
    const struct cubby_subscribe_options options = {
        .has_since = session_given(session, OPTION_SINCE),
        .since = arguments_number(session->arguments, OPTION_SINCE, 0),
        .epoch = session_text(session, OPTION_EPOCH),
    };
    if (cubby_subscribe(session->cubby, prefix, &subscriber, printer, NULL, &options) != CUBBY_OK)
        return session_fail(session);
    while (printer->left > 0) {
        if (cubby_poll(session->cubby, CUBBY_FOREVER) < 0)
            return session_fail(session);
        enum status status = session->out.size > 0 ? session_write(session) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* Where the history begins that is kept. */
static enum status find_since(struct session *session, uint64_t *since)
{
    struct cubby_server server;
    *since = arguments_number(session->arguments, OPTION_SINCE, 0);
    if (session_given(session, OPTION_SINCE))
        return STATUS_OK;
    if (cubby_hello(session->cubby, cubby_data(NULL, 0), &server, NULL) != CUBBY_OK)
        return session_fail(session);
    *since = server.oldest > 0 ? server.oldest - 1 : 0;
    return STATUS_OK;
}

static enum status print_history(struct printer *printer, uint64_t since)
{
    struct session *session = printer->session;
    struct cubby_changes_options options = {.prefix = session_text(session, OPTION_PREFIX),
                                            .epoch = session_text(session, OPTION_EPOCH)};
    struct cubby_change_page *page;
    enum status status = STATUS_OK;
    for (bool more = true; more && status == STATUS_OK && printer->left > 0;) {
        options.since = since;
        if (cubby_changes(session->cubby, &page, &options) != CUBBY_OK)
            return session_fail(session);
        for (size_t i = 0; i < page->count; i++)
            print_one(printer, &page->changes[i]);
        more = page->seq != since;
        since = page->seq;
        cubby_changes_free(&page);
        status = session_write(session);
    }
    return status;
}

enum status command_changes(struct session *session)
{
    uint64_t since;
    struct printer printer = {
        .session = session, .left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX)};
    if (session_given(session, OPTION_FOLLOW)) {
        session_greet(session);
        return follow(&printer);
    }
    enum status status = find_since(session, &since);
    return status == STATUS_OK ? print_history(&printer, since) : status;
}
