/* export and import: keys from one daemon to another, whatever their engines. */
#include <errno.h>

#include "bindings/cli/commands.h"
#include "bindings/cli/stream.h"

enum {
    EXPORT_PAGE = 1000,
    IMPORT_OPERATIONS = 1000, /* of a batch */
    IMPORT_BYTES = 1 << 20,
};

/* ---- export --------------------------------------------------------------------------------- */

static void pack_export_header(const struct session *session, struct buffer *out)
{
    struct cubby_bytes prefix = session_text(session, OPTION_PREFIX);
    wire_pack_map(out, 3);
    wire_pack_text(out, "cubby-export");
    wire_pack_uint(out, STREAM_VERSION);
    wire_pack_text(out, "version");
    wire_pack_text(out, cubby_version());
    wire_pack_text(out, "prefix");
    wire_pack_bin(out, session_slice(prefix));
}

static enum status write_keys(struct session *session, struct stream_writer *writer,
                              struct slice after)
{
    struct cubby_range range = {.prefix = session_text(session, OPTION_PREFIX)};
    struct cubby_scan_options options = {.after = cubby_data(after.data, after.size),
                                         .limit = EXPORT_PAGE};
    struct cubby_page *last = NULL;
    enum status status = STATUS_OK;
    for (bool more = true; more && status == STATUS_OK && !stream_is_stopped();) {
        struct cubby_page *page;
        if (cubby_scan(session->cubby, &range, &page, &options) != CUBBY_OK) {
            status = session_fail(session);
            break;
        }
        cubby_page_free(&last); /* only now: `after` points into it */
        last = page;
        for (size_t i = 0; i < page->count; i++)
            stream_pack_entry(&writer->out, &page->entries[i]);
        status = stream_write(writer, page->count);
        more = page->more;
        options.after = page->next;
    }
    cubby_page_free(&last);
    return status == STATUS_OK && stream_is_stopped() ? STATUS_FAILED : status;
}

/* The key of an entry that was written before. */
static bool key_of(struct slice entry, struct slice *key)
{
    struct wire_cursor cursor = wire_cursor_of(entry);
    uint32_t count;
    return wire_read_array(&cursor, &count) == 0 && count == 4 &&
           wire_read_bytes(&cursor, key) == 0;
}

static enum status export_keys(struct session *session, struct stream_writer *writer,
                               struct slice last)
{
    struct cubby_range range = {.prefix = session_text(session, OPTION_PREFIX)};
    struct slice after = {0};
    enum status status = STATUS_OK;
    if (cubby_count(session->cubby, &range, &writer->expected, NULL) != CUBBY_OK)
        return session_fail(session);
    if (last.data != NULL && !key_of(last, &after)) {
        fprintf(stderr, "cubby: %s is not an export; remove it\n", writer->part);
        return STATUS_FAILED;
    }
    if (writer->bytes == 0) {
        pack_export_header(session, &writer->out);
        status = stream_write(writer, 0);
    }
    if (status == STATUS_OK)
        status = write_keys(session, writer, after);
    return status == STATUS_OK ? stream_finish(writer) : status;
}

static enum status open_export(struct session *session, struct stream_writer *writer,
                               struct buffer *content, struct slice *last)
{
    const char *path = session->arguments->positional[0];
    bool force = session_given(session, OPTION_FORCE);
    if (!session_given(session, OPTION_RESUME))
        return stream_create(writer, path, force);
    struct buffer header = {0};
    pack_export_header(session, &header);
    const struct stream_resumption resumption = {path, buffer_slice(&header, 0), force};
    enum status status = stream_resume(writer, &resumption, content, last);
    buffer_free(&header);
    return status;
}

enum status command_export(struct session *session)
{
    struct stream_writer writer = {.file = NULL};
    struct buffer content = {0};
    struct slice last = {0};
    stream_take_signals();
    enum status status = open_export(session, &writer, &content, &last);
    if (status == STATUS_OK) {
        status = export_keys(session, &writer, last);
        if (status != STATUS_OK && writer.passes)
            fputs("cubby: stopped; what was written is no whole export\n", stderr);
        else if (status != STATUS_OK && writer.entries > 0 && writer.part[0] != '\0')
            fprintf(stderr, "cubby: stopped after %llu keys; go on with the same and --resume\n",
                    (unsigned long long)writer.entries);
    }
    stream_close(&writer, true);
    buffer_free(&content);
    return status;
}

/* ---- import --------------------------------------------------------------------------------- */

struct import {
    struct session *session;
    const char *path; /* as it is called in a sentence */
    struct stream_reader reader;
    size_t end;      /* offset behind the last entry that is whole */
    uint64_t now_ms; /* the daemon's time */
    uint64_t put;
    uint64_t expired;
    size_t batch_start; /* offset of the first entry of the batch */
};

static size_t offset_of(const struct import *import)
{
    return (size_t)(import->reader.entries.at - import->reader.content.data);
}

static bool has_more(const struct import *import)
{
    return offset_of(import) < import->end;
}

static enum status read_time(struct import *import)
{
    struct session *session = import->session;
    struct cubby_bytes hello;
    struct cubby_bytes time;
    buffer_clear(&session->params);
    wire_pack_array(&session->params, 0);
    enum status status = session_call(session, "hello", &hello);
    if (status != STATUS_OK)
        return status;
    return cubby_map_find(hello, "time", &time) && cubby_as_uint(time, &import->now_ms)
               ? STATUS_OK
               : session_malformed();
}

/* The whole file before the first key is put: half of an import would be hard to take back. */
static enum status check_file(struct import *import)
{
    bool force = session_given(import->session, OPTION_FORCE);
    const char *damage = stream_damage(&import->reader, &import->end);
    if (damage == NULL)
        return STATUS_OK;
    fprintf(stderr, "cubby: %s is damaged at offset %zu: %s; %s\n", import->path, import->end,
            damage,
            force ? "importing what is before that"
                  : "nothing is imported (--force: what is before that)");
    return force ? STATUS_OK : STATUS_FAILED;
}

static enum status go_to(struct import *import, uint64_t from)
{
    struct wire_cursor *cursor = &import->reader.entries;
    struct slice entry;
    while (offset_of(import) < from && has_more(import))
        (void)wire_read_object(cursor, WIRE_MAX_DEPTH + 1, &entry, NULL);
    if (from == 0 || offset_of(import) == from)
        return STATUS_OK;
    fprintf(stderr,
            "cubby: --from %llu: no entry of %s begins there; give the offset that the "
            "interrupted import has named\n",
            (unsigned long long)from, import->path);
    return STATUS_USAGE;
}

static enum status begin_import(struct import *import, const char *path)
{
    struct cubby_bytes version;
    enum status status = stream_open(&import->reader, path);
    if (status != STATUS_OK)
        return status;
    if (!cubby_map_find(import->reader.header, "cubby-export", &version)) {
        fprintf(stderr, "cubby: %s is not an export: give a file that 'cubby export' wrote\n",
                import->path);
        return STATUS_FAILED;
    }
    status = check_file(import);
    if (status == STATUS_OK)
        status = go_to(import, arguments_number(import->session->arguments, OPTION_FROM, 0));
    return status == STATUS_OK ? read_time(import) : status;
}

/* Adds ["put", [key, value, {ttl}]] where the entry has not expired. */
static bool add_put(struct import *import, struct buffer *operations, uint32_t *count)
{
    struct cubby_entry entry;
    if (!stream_next_entry(&import->reader, &entry))
        return false;
    bool expires = entry.expires_at_ms != 0;
    if (expires && entry.expires_at_ms <= import->now_ms) {
        import->expired++;
        return true;
    }
    wire_pack_array(operations, 2);
    wire_pack_text(operations, "put");
    wire_pack_array(operations, expires ? 3 : 2);
    wire_pack_key(operations, session_slice(entry.key));
    wire_pack_object(operations, session_slice(entry.value));
    if (expires) {
        wire_pack_map(operations, 1);
        wire_pack_text(operations, "ttl");
        wire_pack_uint(operations, entry.expires_at_ms - import->now_ms);
    }
    (*count)++;
    return true;
}

static enum status send_batch(struct import *import, const struct buffer *operations,
                              uint32_t count)
{
    struct session *session = import->session;
    struct cubby_bytes result;
    if (count == 0)
        return STATUS_OK;
    buffer_clear(&session->params);
    wire_pack_array(&session->params, 1);
    wire_pack_array(&session->params, count);
    buffer_append(&session->params, operations->data, operations->size);
    enum status status = session_call(session, "batch", &result);
    import->put += status == STATUS_OK ? count : 0;
    return status;
}

static enum status import_batch(struct import *import)
{
    struct buffer operations = {0};
    uint32_t count = 0;
    enum status status = STATUS_OK;
    import->batch_start = offset_of(import);
    while (has_more(import) && count < IMPORT_OPERATIONS && operations.size < IMPORT_BYTES &&
           status == STATUS_OK) {
        size_t at = offset_of(import);
        if (add_put(import, &operations, &count))
            continue;
        fprintf(stderr, "cubby: %s is not an export: what is at offset %zu is no entry of one\n",
                import->path, at);
        status = STATUS_FAILED;
    }
    if (operations.failed) {
        fputs("cubby: out of memory\n", stderr);
        status = STATUS_FAILED;
    }
    if (status == STATUS_OK)
        status = send_batch(import, &operations, count);
    buffer_free(&operations);
    return status;
}

static enum status import_all(struct import *import)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && has_more(import) && !stream_is_stopped())
        status = import_batch(import);
    if (status == STATUS_OK && !has_more(import))
        return STATUS_OK;
    size_t offset = status == STATUS_OK ? offset_of(import) : import->batch_start;
    fprintf(stderr, "cubby: stopped after %llu keys; go on with --from %zu\n",
            (unsigned long long)import->put, offset);
    return status == STATUS_OK ? STATUS_FAILED : status;
}

enum status command_import(struct session *session)
{
    const char *path = session->arguments->positional[0];
    struct import import = {.session = session, .path = stream_input_name(path)};
    stream_take_signals();
    enum status status = begin_import(&import, path);
    if (status == STATUS_OK)
        status = import_all(&import);
    stream_reader_free(&import.reader);
    if (status != STATUS_OK)
        return status;
    session_print_number(session, import.put);
    session_print_text(session, " keys");
    if (import.expired > 0) {
        session_print_text(session, ", ");
        session_print_number(session, import.expired);
        session_print_text(session, " had expired");
    }
    session_print_text(session, "\n");
    return session_write(session);
}
