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

static enum status write_export_header(struct session *session, struct stream_writer *writer)
{
    struct cubby_bytes prefix = session_text(session, OPTION_PREFIX);
    wire_pack_map(&writer->out, 3);
    wire_pack_text(&writer->out, "cubby-export");
    wire_pack_uint(&writer->out, STREAM_VERSION);
    wire_pack_text(&writer->out, "version");
    wire_pack_text(&writer->out, cubby_version());
    wire_pack_text(&writer->out, "prefix");
    wire_pack_bin(&writer->out, session_slice(prefix));
    return stream_write(writer, 0);
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
    if (status == STATUS_OK && stream_is_stopped()) {
        fprintf(stderr, "cubby: stopped; go on with --resume\n");
        status = STATUS_FAILED;
    }
    return status;
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
    if (writer->bytes == 0)
        status = write_export_header(session, writer);
    if (status == STATUS_OK)
        status = write_keys(session, writer, after);
    return status == STATUS_OK ? stream_finish(writer) : status;
}

enum status command_export(struct session *session)
{
    const char *path = session->arguments->positional[0];
    struct stream_writer writer = {.file = NULL};
    struct buffer content = {0};
    struct slice last = {0};
    stream_take_signals();
    enum status status = session_given(session, OPTION_RESUME)
                             ? stream_resume(&writer, path, &content, &last)
                             : stream_create(&writer, path, session_given(session, OPTION_FORCE));
    if (status == STATUS_OK)
        status = export_keys(session, &writer, last);
    stream_close(&writer, true);
    buffer_free(&content);
    return status;
}

/* ---- import --------------------------------------------------------------------------------- */

struct import {
    struct session *session;
    const char *path;
    struct buffer content;
    struct wire_cursor cursor;
    uint64_t now_ms; /* the daemon's time */
    uint64_t put;
    uint64_t expired;
    size_t batch_start; /* offset of the first entry of the batch */
};

static size_t offset_of(const struct import *import)
{
    return (size_t)(import->cursor.at - import->content.data);
}

static enum status damaged(const struct import *import, size_t offset, const char *what)
{
    fprintf(stderr, "cubby: %s is damaged at offset %zu: %s\n", import->path, offset, what);
    return STATUS_FAILED;
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

static enum status begin_import(struct import *import)
{
    struct slice header;
    struct cubby_bytes version;
    enum status status = stream_read(import->path, &import->content);
    if (status != STATUS_OK)
        return status;
    import->cursor = wire_cursor_of(slice_of(import->content.data, import->content.size));
    if (wire_peek(&import->cursor) != WIRE_MAP ||
        wire_read_object(&import->cursor, WIRE_MAX_DEPTH, &header, NULL) != 0 ||
        !cubby_map_find(cubby_data(header.data, header.size), "cubby-export", &version)) {
        fprintf(stderr, "cubby: %s is not an export: give a file that 'cubby export' wrote\n",
                import->path);
        return STATUS_FAILED;
    }
    uint64_t from = arguments_number(import->session->arguments, OPTION_FROM, 0);
    if (from > import->content.size)
        return damaged(import, from, "it is not that long");
    if (from > 0)
        import->cursor.at = import->content.data + from;
    return read_time(import);
}

/* Adds ["put", [key, value, {ttl}]] where the entry has not expired. */
static bool add_put(struct import *import, struct buffer *operations, uint32_t *count)
{
    struct slice key;
    struct slice value;
    uint64_t version;
    uint64_t expires_at_ms = 0;
    uint32_t fields;
    struct wire_cursor *cursor = &import->cursor;
    if (wire_read_array(cursor, &fields) != 0 || fields != 4 ||
        wire_read_bytes(cursor, &key) != 0 ||
        wire_read_object(cursor, WIRE_MAX_DEPTH, &value, NULL) != 0 ||
        wire_read_uint(cursor, &version) != 0 ||
        (wire_read_nil(cursor) != 0 && wire_read_uint(cursor, &expires_at_ms) != 0))
        return false;
    if (expires_at_ms != 0 && expires_at_ms <= import->now_ms) {
        import->expired++;
        return true;
    }
    wire_pack_array(operations, 2);
    wire_pack_text(operations, "put");
    wire_pack_array(operations, expires_at_ms != 0 ? 3 : 2);
    wire_pack_key(operations, key);
    wire_pack_object(operations, value);
    if (expires_at_ms != 0) {
        wire_pack_map(operations, 1);
        wire_pack_text(operations, "ttl");
        wire_pack_uint(operations, expires_at_ms - import->now_ms);
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
    while (wire_peek(&import->cursor) == WIRE_ARRAY && count < IMPORT_OPERATIONS &&
           operations.size < IMPORT_BYTES && status == STATUS_OK) {
        size_t at = offset_of(import);
        if (!add_put(import, &operations, &count))
            status = damaged(import, at, "an entry is not whole");
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
    while (status == STATUS_OK && wire_peek(&import->cursor) == WIRE_ARRAY && !stream_is_stopped())
        status = import_batch(import);
    if (status != STATUS_OK || wire_peek(&import->cursor) == WIRE_ARRAY) {
        size_t offset = status == STATUS_OK ? offset_of(import) : import->batch_start;
        fprintf(stderr, "cubby: stopped after %llu keys; go on with --from %zu\n",
                (unsigned long long)import->put, offset);
        return status == STATUS_OK ? STATUS_FAILED : status;
    }
    if (wire_peek(&import->cursor) != WIRE_MAP)
        return damaged(import, offset_of(import),
                       "its end is missing; what was before is imported");
    return STATUS_OK;
}

enum status command_import(struct session *session)
{
    struct import import = {.session = session, .path = session->arguments->positional[0]};
    stream_take_signals();
    enum status status = begin_import(&import);
    if (status == STATUS_OK)
        status = import_all(&import);
    buffer_free(&import.content);
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
