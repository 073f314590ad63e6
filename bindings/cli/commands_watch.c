/* watch and mirror: changes over the requests' own connection, and a file that follows keys. */
#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli/changes_print.h"
#include "bindings/cli/commands.h"
#include "bindings/cli/stream.h"

enum {
    POLL_MS = 500, /* how soon a signal is noticed */
    MIRROR_INTERVAL_MS = 200,
};

/* ---- watch ---------------------------------------------------------------------------------- */

static enum status print_page(struct session *session, const struct cubby_watch_page *page,
                              uint64_t *left)
{
    for (size_t i = 0; i<page->count && * left> 0; i++, (*left)--)
        print_change(session, &page->changes[i]);
    return session_write(session);
}

/* Until there have been enough, history is gone, or a signal comes. */
static enum status follow_watch(struct session *session, struct cubby_watch *watch)
{
    uint64_t left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && left > 0 && !stream_is_stopped()) {
        struct cubby_watch_page *page;
        enum cubby_status next = cubby_watch_next(watch, &page, POLL_MS);
        if (next == CUBBY_TIMEOUT || next == CUBBY_UNAVAILABLE || next == CUBBY_BUSY)
            continue;
        if (next != CUBBY_OK)
            return session_fail(session);
        status = print_page(session, page, &left);
        cubby_watch_page_free(&page);
    }
    return status;
}

enum status command_watch(struct session *session)
{
    const struct arguments *arguments = session->arguments;
    const struct cubby_watch_options options = {
        .has_since = session_given(session, OPTION_SINCE),
        .since = arguments_number(arguments, OPTION_SINCE, 0),
        .epoch = session_text(session, OPTION_EPOCH),
    };
    const char *prefix = arguments->positional_count > 0 ? arguments->positional[0] : "";
    struct cubby_watch *watch;
    if (session_given(session, OPTION_EPOCH) && !options.has_since)
        return session_misused("watch", "--epoch is that of --since: give both");
    session_greet(session);
    stream_take_signals();
    if (cubby_watch_open(session->cubby, cubby_text(prefix), &watch, &options) != CUBBY_OK)
        return session_fail(session);
    enum status status = follow_watch(session, watch);
    cubby_watch_cancel(&watch);
    return status;
}

/* ---- mirror --------------------------------------------------------------------------------- */

struct mirroring {
    struct session *session;
    struct cubby_mirror *mirror;
    struct cubby_bytes prefix;
    const char *path;
    bool changed;       /* the file is not what the copy is */
    uint64_t seq;       /* of the file */
    int64_t written_ms; /* when it was last written */
    int64_t interval_ms;
    enum cubby_status said; /* the last trouble that was told */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_change(void *context, const struct cubby_change *change)
{
    struct mirroring *mirroring = context;
    (void)change;
    mirroring->changed = true;
}

static void on_anew(void *context, const struct cubby_position *position)
{
    struct mirroring *mirroring = context;
    (void)position;
    mirroring->changed = true;
    fputs("cubby: mirror: history since then is gone: scanning anew\n", stderr);
}

static void on_live(void *context, const struct cubby_position *position)
{
    struct mirroring *mirroring = context;
    (void)position;
    mirroring->said = CUBBY_OK;
}

/* Once for each kind of trouble. */
static void on_error(void *context, const struct cubby_error *error)
{
    struct mirroring *mirroring = context;
    if (mirroring->said != error->status)
        fprintf(stderr, "cubby: mirror: %s: %s; trying on\n", error->code, error->message);
    mirroring->said = error->status;
}

static void pack_header(struct mirroring *mirroring, struct buffer *out,
                        const struct cubby_position *position)
{
    wire_pack_map(out, 5);
    wire_pack_text(out, "cubby-export");
    wire_pack_uint(out, STREAM_VERSION);
    wire_pack_text(out, "version");
    wire_pack_text(out, cubby_version());
    wire_pack_text(out, "prefix");
    wire_pack_bin(out, session_slice(mirroring->prefix));
    wire_pack_text(out, "epoch");
    wire_pack_str(out, session_slice(position->epoch));
    wire_pack_text(out, "seq");
    wire_pack_uint(out, position->seq);
}

static enum status write_entries(struct mirroring *mirroring, struct stream_writer *writer)
{
    struct cubby_entry entry = {.key = {0}};
    enum status status = STATUS_OK;
    while (status == STATUS_OK && cubby_mirror_next(mirroring->mirror, entry.key, &entry)) {
        stream_pack_entry(&writer->out, &entry);
        writer->entries++;
        if (writer->out.size >= WIRE_PAGE_BYTES)
            status = stream_write(writer, 0);
    }
    return status == STATUS_OK ? stream_write(writer, 0) : status;
}

static void print_written(struct mirroring *mirroring, uint64_t entries)
{
    struct session *session = mirroring->session;
    if (!session_given(session, OPTION_JSON))
        return;
    session_print_text(session, "{\"seq\":");
    session_print_number(session, mirroring->seq);
    session_print_text(session, ",\"entries\":");
    session_print_number(session, entries);
    session_print_text(session, "}\n");
}

/* The whole file anew, beside the old one, which it then replaces. */
static enum status write_file(struct mirroring *mirroring)
{
    struct cubby_position position = cubby_mirror_position(mirroring->mirror);
    struct stream_writer writer = {.file = NULL};
    enum status status = stream_create(&writer, mirroring->path, true);
    if (status != STATUS_OK)
        return status;
    writer.quiet = true;
    pack_header(mirroring, &writer.out, &position);
    status = write_entries(mirroring, &writer);
    if (status == STATUS_OK)
        status = stream_finish(&writer);
    stream_close(&writer, false);
    if (status != STATUS_OK)
        return status;
    mirroring->changed = false;
    mirroring->seq = position.seq;
    mirroring->written_ms = now_ms();
    print_written(mirroring, cubby_mirror_count(mirroring->mirror));
    return session_write(mirroring->session);
}

/* Only what the daemon held at one seq is written. */
static bool may_write(const struct mirroring *mirroring)
{
    return mirroring->changed && cubby_mirror_position(mirroring->mirror).live;
}

static int64_t time_left(const struct mirroring *mirroring)
{
    int64_t left = mirroring->written_ms + mirroring->interval_ms - now_ms();
    return left > 0 ? left : 0;
}

static enum status run_mirror(struct mirroring *mirroring)
{
    struct session *session = mirroring->session;
    bool once = session_given(session, OPTION_ONCE);
    while (!stream_is_stopped()) {
        bool due = may_write(mirroring);
        if (due && time_left(mirroring) == 0) {
            enum status status = write_file(mirroring);
            if (status != STATUS_OK)
                return status;
        }
        if (once && !mirroring->changed && cubby_mirror_position(mirroring->mirror).live)
            return STATUS_OK;
        int64_t wait = due && time_left(mirroring) < POLL_MS ? time_left(mirroring) : POLL_MS;
        if (cubby_poll(session->cubby, wait) < 0)
            return session_fail(session);
    }
    return may_write(mirroring) ? write_file(mirroring) : STATUS_OK;
}

/* ---- Going on from the file that is there --------------------------------------------------- */

static enum status refuse_file(const struct mirroring *mirroring, const char *why)
{
    fprintf(stderr, "cubby: %s %s: remove it, or name another file\n", mirroring->path, why);
    return STATUS_FAILED;
}

/* What a mirror of another time has written at the head of its file. */
static enum status read_header(struct mirroring *mirroring, struct cubby_bytes header,
                               struct cubby_mirror_options *options)
{
    struct cubby_bytes value, prefix;
    if (!cubby_map_find(header, "cubby-export", &value) ||
        !cubby_map_find(header, "prefix", &value) || !cubby_as_bytes(value, &prefix) ||
        !cubby_map_find(header, "epoch", &value) || !cubby_as_bytes(value, &options->epoch) ||
        !cubby_map_find(header, "seq", &value) || !cubby_as_uint(value, &options->since))
        return refuse_file(mirroring, "is not the file of a mirror");
    if (!slice_equal(session_slice(prefix), session_slice(mirroring->prefix)))
        return refuse_file(mirroring, "is the mirror of another prefix");
    options->has_since = true;
    return STATUS_OK;
}

static enum status open_mirror(struct mirroring *mirroring,
                               const struct cubby_mirror_options *options)
{
    static const struct cubby_mirror_events events = {on_change, on_anew, on_live, on_error};
    struct session *session = mirroring->session;
    if (cubby_mirror_open(session->cubby, mirroring->prefix, &events, mirroring, &mirroring->mirror,
                          options) != CUBBY_OK)
        return session_fail(session);
    return STATUS_OK;
}

static enum status load_entries(struct mirroring *mirroring, struct stream_reader *reader)
{
    struct cubby_entry entry;
    while (stream_next_entry(reader, &entry)) {
        if (cubby_mirror_load(mirroring->mirror, &entry) != CUBBY_OK)
            return session_fail(mirroring->session);
    }
    return STATUS_OK;
}

/* A file that is damaged is no reason to stop: all of it can be had again. */
static enum status open_from_file(struct mirroring *mirroring)
{
    struct stream_reader reader;
    struct cubby_mirror_options options = {.has_since = false};
    enum status status = stream_open(&reader, mirroring->path);
    if (status == STATUS_OK)
        status = read_header(mirroring, reader.header, &options);
    size_t offset;
    if (status == STATUS_OK && stream_damage(&reader, &offset) != NULL) {
        fprintf(stderr, "cubby: %s is damaged: scanning anew\n", mirroring->path);
        stream_reader_free(&reader);
        return open_mirror(mirroring, NULL);
    }
    if (status == STATUS_OK)
        status = open_mirror(mirroring, &options);
    if (status == STATUS_OK)
        status = load_entries(mirroring, &reader);
    mirroring->changed = false;
    stream_reader_free(&reader);
    return status;
}

enum status command_mirror(struct session *session)
{
    const struct arguments *arguments = session->arguments;
    struct mirroring mirroring = {
        .session = session,
        .prefix = cubby_text(arguments->positional[0]),
        .path = arguments->positional[1],
        .changed = true,
        .interval_ms = MIRROR_INTERVAL_MS,
        .written_ms = INT64_MIN / 2,
    };
    if (strcmp(mirroring.path, "-") == 0)
        return session_misused("mirror", "FILE is replaced whole at every change, so it is not "
                                         "standard output (cubby export - is)");
    uint64_t interval = arguments_number(arguments, OPTION_INTERVAL, MIRROR_INTERVAL_MS);
    if (interval > INT32_MAX)
        return session_out_of_range(session, OPTION_INTERVAL, 0, INT32_MAX);
    mirroring.interval_ms = (int64_t)interval;
    stream_take_signals();
    enum status status = access(mirroring.path, F_OK) == 0 ? open_from_file(&mirroring)
                                                           : open_mirror(&mirroring, NULL);
    if (status == STATUS_OK) {
        session_greet(session);
        status = run_mirror(&mirroring);
    }
    cubby_mirror_close(&mirroring.mirror);
    return status;
}
