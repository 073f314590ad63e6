/* backup and restore. */
#include <errno.h>
#include <unistd.h>

#include "bindings/cli/commands.h"
#include "bindings/cli/stream.h"

static void pack_pair(struct buffer *out, const char *name, struct cubby_bytes object)
{
    wire_pack_text(out, name);
    wire_pack_object(out, session_slice(object));
}

/* The header is what the daemon said of the backup, with what kind of file this is. */
static enum status write_header(struct stream_writer *writer, struct cubby_bytes begun,
                                uint64_t *id)
{
    static const char *const names[] = {"format", "epoch", "seq", "time", "keys"};
    enum { NAMES = sizeof(names) / sizeof(names[0]) };
    struct cubby_bytes value;
    if (!cubby_map_find(begun, "backup", &value) || !cubby_as_uint(value, id))
        return session_malformed();
    wire_pack_map(&writer->out, NAMES + 2);
    wire_pack_text(&writer->out, "cubby-backup");
    wire_pack_uint(&writer->out, STREAM_VERSION);
    wire_pack_text(&writer->out, "version");
    wire_pack_text(&writer->out, cubby_version());
    for (int i = 0; i < NAMES; i++) {
        if (!cubby_map_find(begun, names[i], &value))
            return session_malformed();
        pack_pair(&writer->out, names[i], value);
    }
    (void)cubby_as_uint(value, &writer->expected); /* the last: how many keys */
    return stream_write(writer, 0);
}

/* The entries of a page go into the file as they came. */
static enum status write_page(struct stream_writer *writer, struct cubby_bytes page, bool *more)
{
    struct cubby_bytes entries;
    struct cubby_bytes flag;
    struct slice entry;
    uint32_t count;
    if (!cubby_map_find(page, "entries", &entries) || !cubby_map_find(page, "more", &flag) ||
        !cubby_as_bool(flag, more))
        return session_malformed();
    struct wire_cursor cursor = wire_cursor_of(session_slice(entries));
    if (wire_read_array(&cursor, &count) != 0)
        return session_malformed();
    for (uint32_t i = 0; i < count; i++) {
        if (wire_read_object(&cursor, WIRE_MAX_DEPTH, &entry, NULL) != 0)
            return session_malformed();
        wire_pack_object(&writer->out, entry);
    }
    return stream_write(writer, count);
}

static enum status call_with_id(struct session *session, const char *method, uint64_t id,
                                struct cubby_bytes *result)
{
    buffer_clear(&session->params);
    wire_pack_array(&session->params, 1);
    wire_pack_uint(&session->params, id);
    return session_call(session, method, result);
}

static enum status copy_pages(struct session *session, struct stream_writer *writer, uint64_t id)
{
    struct cubby_bytes page;
    bool more = true;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && more && !stream_is_stopped()) {
        status = call_with_id(session, "backup.read", id, &page);
        if (status == STATUS_OK)
            status = write_page(writer, page, &more);
    }
    if (more && status == STATUS_OK) {
        (void)call_with_id(session, "backup.end", id, &page);
        fputs("cubby: stopped; there is no backup\n", stderr);
        status = STATUS_FAILED;
    }
    return status;
}

static enum status write_backup(struct session *session, struct stream_writer *writer)
{
    struct cubby_bytes begun;
    uint64_t id = 0;
    wire_pack_array(&session->params, 0);
    enum status status = session_call(session, "backup", &begun);
    if (status == STATUS_OK)
        status = write_header(writer, begun, &id);
    if (status == STATUS_OK)
        status = copy_pages(session, writer, id);
    return status == STATUS_OK ? stream_finish(writer) : status;
}

enum status command_backup(struct session *session)
{
    struct stream_writer writer;
    stream_take_signals();
    enum status status = stream_create(&writer, session->arguments->positional[0],
                                       session_given(session, OPTION_FORCE));
    if (status != STATUS_OK)
        return status;
    status = write_backup(session, &writer);
    stream_close(&writer, false);
    return status;
}

/* The daemon's program beside this one, or in the path. */
static void find_cubbyd(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL && (size_t)(slash - path) + sizeof("/cubbyd") <= size) {
        memcpy(slash, "/cubbyd", sizeof("/cubbyd"));
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, size, "cubbyd");
}

/* A data directory is the daemon's business, so its program does the work. */
enum status command_restore(struct session *session)
{
    char program[STREAM_MAX_PATH];
    const char *const *positional = session->arguments->positional;
    const char *engine = session->arguments->options[OPTION_ENGINE].text;
    const char *arguments[8] = {"cubbyd", "--restore", positional[0], "--data", positional[1]};
    if (session_given(session, OPTION_ENGINE)) {
        arguments[5] = "--engine";
        arguments[6] = engine;
    }
    if (strcmp(positional[0], "-") == 0)
        return session_misused("restore", "FILE is read twice, so it is not standard input");
    find_cubbyd(program, sizeof(program));
    execvp(program, (char *const *)arguments);
    fprintf(stderr, "cubby: cannot run %s, which restores: %s\n", program, strerror(errno));
    return STATUS_FAILED;
}
