#include "bindings/c/results.h"

#include <stdlib.h>

enum { VALUE_COUNT = 3, ENTRY_COUNT = 4, CHANGE_COUNT = 7, PAIR_COUNT = 2 };

struct wire_cursor results_cursor_of(struct cubby_bytes result)
{
    return wire_cursor_of(slice_of_bytes(result));
}

int results_read_counted(struct wire_cursor *cursor, uint32_t expected)
{
    uint32_t count;
    return wire_read_array(cursor, &count) == 0 && count == expected ? 0 : -1;
}

int results_read_bytes(struct wire_cursor *cursor, struct cubby_bytes *bytes)
{
    struct slice slice;
    if (wire_read_bytes(cursor, &slice) != 0)
        return -1;
    *bytes = bytes_of_slice(slice);
    return 0;
}

int results_read_object(struct wire_cursor *cursor, struct cubby_bytes *object)
{
    struct slice slice;
    if (wire_read_object(cursor, PARAMS_DEPTH, &slice, NULL) != 0)
        return -1;
    *object = bytes_of_slice(slice);
    return 0;
}

int results_read_time(struct wire_cursor *cursor, uint64_t *time_ms)
{
    *time_ms = 0;
    return wire_read_nil(cursor) == 0 ? 0 : wire_read_uint(cursor, time_ms);
}

/* nil, or [value, version, expires_at]. */
static int read_value(struct wire_cursor *cursor, struct cubby_value *value)
{
    *value = (struct cubby_value){0};
    if (wire_read_nil(cursor) == 0)
        return 0;
    value->exists = true;
    if (results_read_counted(cursor, VALUE_COUNT) != 0 ||
        results_read_object(cursor, &value->value) != 0 ||
        wire_read_uint(cursor, &value->version) != 0)
        return -1;
    return results_read_time(cursor, &value->expires_at_ms);
}

enum cubby_status results_finish(const struct wire_cursor *cursor, int read)
{
    return read == 0 && wire_at_end(cursor) ? CUBBY_OK : CUBBY_PROTOCOL;
}

enum cubby_status cubby_read_value(struct cubby_bytes result, struct cubby_value *value)
{
    struct wire_cursor cursor = results_cursor_of(result);
    return results_finish(&cursor, read_value(&cursor, value));
}

enum cubby_status cubby_read_written(struct cubby_bytes result, struct cubby_written *written)
{
    struct wire_cursor cursor = results_cursor_of(result);
    *written = (struct cubby_written){0};
    if (wire_read_uint(&cursor, &written->version) == 0)
        return results_finish(&cursor, 0);
    if (results_read_counted(&cursor, PAIR_COUNT) != 0 ||
        wire_read_uint(&cursor, &written->version) != 0)
        return CUBBY_PROTOCOL;
    return results_finish(&cursor, read_value(&cursor, &written->previous));
}

enum cubby_status cubby_read_deleted(struct cubby_bytes result, struct cubby_deleted *deleted)
{
    struct wire_cursor cursor = results_cursor_of(result);
    *deleted = (struct cubby_deleted){0};
    if (wire_read_bool(&cursor, &deleted->existed) == 0)
        return results_finish(&cursor, 0);
    if (results_read_counted(&cursor, PAIR_COUNT) != 0 ||
        wire_read_bool(&cursor, &deleted->existed) != 0)
        return CUBBY_PROTOCOL;
    return results_finish(&cursor, read_value(&cursor, &deleted->previous));
}

enum cubby_status cubby_read_incremented(struct cubby_bytes result,
                                         struct cubby_incremented *incremented)
{
    struct wire_cursor cursor = results_cursor_of(result);
    wire_integer sum;
    *incremented = (struct cubby_incremented){0};
    if (results_read_counted(&cursor, PAIR_COUNT) != 0 || wire_read_integer(&cursor, &sum) != 0)
        return CUBBY_PROTOCOL;
    incremented->value = (int64_t)(uint64_t)sum;
    incremented->above_int64 = sum > INT64_MAX;
    return results_finish(&cursor, wire_read_uint(&cursor, &incremented->version));
}

enum cubby_status cubby_read_touched(struct cubby_bytes result, bool *existed)
{
    struct wire_cursor cursor = results_cursor_of(result);
    return results_finish(&cursor, wire_read_bool(&cursor, existed));
}

enum cubby_status cubby_read_count(struct cubby_bytes result, uint64_t *count)
{
    struct wire_cursor cursor = results_cursor_of(result);
    return results_finish(&cursor, wire_read_uint(&cursor, count));
}

int results_find(struct cubby_bytes map, struct results_field *fields, size_t count)
{
    struct wire_cursor cursor = results_cursor_of(map);
    size_t found = 0;
    uint32_t pairs;
    if (wire_read_map(&cursor, &pairs) != 0)
        return -1;
    for (; pairs > 0 && found < count; pairs--) {
        struct slice name;
        struct cubby_bytes value;
        if (wire_read_str(&cursor, &name) != 0 || results_read_object(&cursor, &value) != 0)
            return -1;
        for (size_t i = 0; i < count; i++) {
            if (!slice_equal(name, slice_of_text(fields[i].name)))
                continue;
            fields[i].value = value;
            found++;
        }
    }
    return found == count ? 0 : -1;
}

enum cubby_status cubby_read_range_deleted(struct cubby_bytes result,
                                           struct cubby_range_deleted *deleted)
{
    struct results_field fields[] = {{.name = "deleted"}, {.name = "more"}};
    *deleted = (struct cubby_range_deleted){0};
    if (results_find(result, fields, 2) != 0 ||
        !cubby_as_uint(fields[0].value, &deleted->deleted) ||
        !cubby_as_bool(fields[1].value, &deleted->more))
        return CUBBY_PROTOCOL;
    return CUBBY_OK;
}

static int read_limits(struct cubby_bytes limits, struct cubby_server *server)
{
    struct results_field fields[] = {
        {.name = "max_key"}, {.name = "max_value"}, {.name = "max_message"}, {.name = "max_batch"}};
    uint64_t *const numbers[] = {&server->max_key, &server->max_value, &server->max_message,
                                 &server->max_batch};
    if (results_find(limits, fields, 4) != 0)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        if (!cubby_as_uint(fields[i].value, numbers[i]))
            return -1;
    }
    return 0;
}

enum cubby_status cubby_read_hello(struct cubby_bytes result, struct cubby_server *server)
{
    enum { SERVER, VERSION, EPOCH, PROTOCOL, SEQ, OLDEST, TIME, LIMITS, FIELDS };
    struct results_field fields[FIELDS] = {
        [SERVER] = {.name = "server"}, [VERSION] = {.name = "version"},
        [EPOCH] = {.name = "epoch"},   [PROTOCOL] = {.name = "protocol"},
        [SEQ] = {.name = "seq"},       [OLDEST] = {.name = "oldest"},
        [TIME] = {.name = "time"},     [LIMITS] = {.name = "limits"},
    };
    *server = (struct cubby_server){0};
    if (results_find(result, fields, FIELDS) != 0 ||
        !cubby_as_bytes(fields[SERVER].value, &server->server) ||
        !cubby_as_bytes(fields[VERSION].value, &server->version) ||
        !cubby_as_bytes(fields[EPOCH].value, &server->epoch) ||
        !cubby_as_uint(fields[PROTOCOL].value, &server->protocol) ||
        !cubby_as_uint(fields[SEQ].value, &server->seq) ||
        !cubby_as_uint(fields[OLDEST].value, &server->oldest) ||
        !cubby_as_uint(fields[TIME].value, &server->time_ms))
        return CUBBY_PROTOCOL;
    return read_limits(fields[LIMITS].value, server) == 0 ? CUBBY_OK : CUBBY_PROTOCOL;
}

/*
 * ---- Pages: one allocation that holds the page, its rows, and a copy of the encoded rows, into
 * which they point.
 */

void *results_page_new(size_t page_size, size_t row_size, uint32_t count, struct wire_cursor *rows)
{
    size_t head = page_size + row_size * count;
    size_t size = (size_t)(rows->end - rows->at);
    uint8_t *memory = calloc(1, head + size);
    if (memory == NULL)
        return NULL;
    memcpy(memory + head, rows->at, size);
    *rows = wire_cursor_of(slice_of(memory + head, size));
    return memory;
}

/* A key where only keys were asked for, or [key, value, version, expires_at]. */
static int read_entry(struct wire_cursor *cursor, struct cubby_entry *entry)
{
    if (results_read_bytes(cursor, &entry->key) == 0)
        return 0;
    if (results_read_counted(cursor, ENTRY_COUNT) != 0 ||
        results_read_bytes(cursor, &entry->key) != 0 ||
        results_read_object(cursor, &entry->value) != 0 ||
        wire_read_uint(cursor, &entry->version) != 0)
        return -1;
    return results_read_time(cursor, &entry->expires_at_ms);
}

static int read_entries(struct wire_cursor *rows, struct cubby_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (read_entry(rows, &entries[i]) != 0)
            return -1;
    }
    return 0;
}

/* `next` is the last key of the page, so it need not be copied as well. */
static int set_next(struct cubby_page *page, struct cubby_bytes next)
{
    page->more = !cubby_as_nil(next);
    if (!page->more)
        return 0;
    if (page->count == 0)
        return -1;
    page->next = page->entries[page->count - 1].key;
    return 0;
}

enum cubby_status cubby_read_page(struct cubby_bytes result, struct cubby_page **page)
{
    struct results_field fields[] = {{.name = "entries"}, {.name = "next"}, {.name = "seq"}};
    uint64_t seq;
    uint32_t count;
    if (results_find(result, fields, 3) != 0 || !cubby_as_uint(fields[2].value, &seq))
        return CUBBY_PROTOCOL;
    struct wire_cursor rows = results_cursor_of(fields[0].value);
    if (wire_read_array(&rows, &count) != 0)
        return CUBBY_PROTOCOL;
    struct cubby_page *read = results_page_new(sizeof(*read), sizeof(*read->entries), count, &rows);
    if (read == NULL)
        return CUBBY_NO_MEMORY;
    struct cubby_entry *entries = (struct cubby_entry *)(read + 1);
    *read = (struct cubby_page){.entries = entries, .count = count, .seq = seq};
    if (read_entries(&rows, entries, count) != 0 || set_next(read, fields[1].value) != 0) {
        free(read);
        return CUBBY_PROTOCOL;
    }
    *page = read;
    return CUBBY_OK;
}

void cubby_page_free(struct cubby_page **page)
{
    free(*page);
    *page = NULL;
}

static int read_kind(struct wire_cursor *cursor, enum cubby_change_kind *kind)
{
    static const struct {
        const char *name;
        enum cubby_change_kind kind;
    } kinds[] = {
        {"put", CUBBY_PUT},
        {"delete", CUBBY_DELETE},
        {"expire", CUBBY_EXPIRE},
        {"evict", CUBBY_EVICT},
    };
    struct slice name;
    if (wire_read_str(cursor, &name) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (slice_equal(name, slice_of_text(kinds[i].name))) {
            *kind = kinds[i].kind;
            return 0;
        }
    }
    return -1;
}

static int read_uint32(struct wire_cursor *cursor, uint32_t *number)
{
    uint64_t wide;
    if (wire_read_uint(cursor, &wide) != 0 || wide > UINT32_MAX)
        return -1;
    *number = (uint32_t)wide;
    return 0;
}

int results_read_change(struct wire_cursor *cursor, struct cubby_change *change)
{
    *change = (struct cubby_change){0};
    if (results_read_counted(cursor, CHANGE_COUNT) != 0 ||
        wire_read_uint(cursor, &change->seq) != 0 || read_uint32(cursor, &change->index) != 0 ||
        read_uint32(cursor, &change->count) != 0 || read_kind(cursor, &change->kind) != 0 ||
        results_read_bytes(cursor, &change->key) != 0 ||
        results_read_object(cursor, &change->value) != 0 ||
        results_read_time(cursor, &change->expires_at_ms) != 0)
        return -1;
    if (change->kind != CUBBY_PUT)
        change->value = cubby_data(NULL, 0);
    return 0;
}

static int read_changes(struct wire_cursor *rows, struct cubby_change *changes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (results_read_change(rows, &changes[i]) != 0)
            return -1;
    }
    return 0;
}

/* Reads all but the changes; the epoch is a view into the result. */
static int read_history(struct cubby_bytes result, struct cubby_change_page *page,
                        struct cubby_bytes *changes)
{
    struct results_field fields[] = {
        {.name = "changes"}, {.name = "epoch"}, {.name = "seq"}, {.name = "oldest"}};
    if (results_find(result, fields, 4) != 0 || !cubby_as_bytes(fields[1].value, &page->epoch) ||
        !cubby_as_uint(fields[2].value, &page->seq) ||
        !cubby_as_uint(fields[3].value, &page->oldest))
        return -1;
    *changes = fields[0].value;
    return 0;
}

enum cubby_status cubby_read_changes(struct cubby_bytes result, struct cubby_change_page **page)
{
    struct cubby_change_page head = {0};
    struct cubby_bytes encoded;
    uint32_t count;
    if (read_history(result, &head, &encoded) != 0)
        return CUBBY_PROTOCOL;
    struct wire_cursor rows = results_cursor_of(encoded);
    if (wire_read_array(&rows, &count) != 0)
        return CUBBY_PROTOCOL;
    size_t before = sizeof(head) + head.epoch.size;
    before += (sizeof(void *) - before % sizeof(void *)) % sizeof(void *);
    struct cubby_change_page *read = results_page_new(before, sizeof(*read->changes), count, &rows);
    if (read == NULL)
        return CUBBY_NO_MEMORY;
    struct cubby_change *changes = (struct cubby_change *)((uint8_t *)read + before);
    *read = head;
    read->changes = changes;
    read->count = count;
    read->epoch.data = memcpy(read + 1, head.epoch.data, head.epoch.size);
    if (read_changes(&rows, changes, count) != 0) {
        free(read);
        return CUBBY_PROTOCOL;
    }
    *page = read;
    return CUBBY_OK;
}

void cubby_changes_free(struct cubby_change_page **page)
{
    free(*page);
    *page = NULL;
}
