/* The methods on keys: protocol section 4. */
#include "daemon/method.h"
#include "daemon/stored.h"

enum { MAX_INTEGER = 9 }; /* an encoded integer */

/* [value, version, expires_at], or nil where `entry` is NULL. */
static void pack_entry(struct buffer *out, const struct keys_entry *entry)
{
    if (entry == NULL) {
        wire_pack_nil(out);
        return;
    }
    wire_pack_array(out, 3);
    wire_pack_object(out, entry->value);
    wire_pack_uint(out, entry->version);
    wire_pack_expires_at(out, entry->expires_at_ms);
}

/* The entry of the call's key: `*found` is `entry`, or NULL where the key is absent. */
static enum wire_code find(struct call *call, struct keys_entry *entry,
                           const struct keys_entry **found)
{
    int rc = keys_get(&call->service->keys, call->args->key, entry);
    *found = rc == 0 ? entry : NULL;
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    return WIRE_OK;
}

static enum wire_code check_conditions(struct call *call, const struct keys_entry *found)
{
    const struct wire_args *args = call->args;
    uint64_t version = found != NULL ? found->version : 0;
    bool holds = true;
    if ((args->given & WIRE_HAS_IF_VERSION) != 0)
        holds = version == args->if_version;
    if ((args->given & WIRE_HAS_IF_EXISTS) != 0)
        holds = holds && (found != NULL) == args->if_exists;
    if (holds)
        return WIRE_OK;
    wire_fail(call->error, WIRE_CONFLICT, "the key's version is %llu: a condition does not hold",
              (unsigned long long)version);
    call->error->has = WIRE_DETAIL_KEY | WIRE_DETAIL_VERSION;
    call->error->key = args->key;
    call->error->version = version;
    return WIRE_CONFLICT;
}

/* The entry of a call that has conditions, once these hold. */
static enum wire_code find_to_write(struct call *call, struct keys_entry *entry,
                                    const struct keys_entry **found)
{
    enum wire_code code = find(call, entry, found);
    return code == WIRE_OK ? check_conditions(call, *found) : code;
}

static enum wire_code store_result(struct call *call, int rc)
{
    return rc == 0 ? WIRE_OK : stored_fail(call->error, rc);
}

/* Writes the call's key, for which `found` was found just before. */
static int write_key(struct call *call, const struct keys_entry *found, struct slice value,
                     uint64_t expires_at_ms)
{
    struct keys *keys = &call->service->keys;
    return found != NULL ? keys_replace(keys, call->args->key, found, value, expires_at_ms)
                         : keys_put(keys, call->args->key, value, expires_at_ms);
}

enum wire_code method_get(struct call *call)
{
    struct keys_entry entry;
    const struct keys_entry *found;
    enum wire_code code = find(call, &entry, &found);
    if (code == WIRE_OK)
        pack_entry(call->out, found);
    return code;
}

/* When a key that is written now expires. */
static uint64_t expiry(const struct call *call, const struct keys_entry *found)
{
    const struct wire_args *args = call->args;
    if (args->has_ttl)
        return store_now(call->service->store) + args->ttl_ms;
    return args->keep_ttl && found != NULL ? found->expires_at_ms : 0;
}

enum wire_code method_put(struct call *call)
{
    const struct wire_args *args = call->args;
    struct keys_entry entry;
    const struct keys_entry *found;
    enum wire_code code = find_to_write(call, &entry, &found);
    if (code != WIRE_OK)
        return code;
    uint64_t expires_at_ms = expiry(call, found);
    if (args->previous)
        wire_pack_array(call->out, 2);
    wire_pack_uint(call->out, store_next_seq(call->service->store));
    if (args->previous) /* before the write, with which the view of the old value ends */
        pack_entry(call->out, found);
    return store_result(call, write_key(call, found, args->value, expires_at_ms));
}

enum wire_code method_delete(struct call *call)
{
    struct keys_entry entry;
    const struct keys_entry *found;
    enum wire_code code = find_to_write(call, &entry, &found);
    if (code != WIRE_OK)
        return code;
    if (call->args->previous)
        wire_pack_array(call->out, 2);
    wire_pack_bool(call->out, found != NULL);
    if (call->args->previous)
        pack_entry(call->out, found);
    if (found == NULL)
        return WIRE_OK;
    return store_result(call, keys_delete(&call->service->keys, call->args->key));
}

static enum wire_code wrong_type(struct call *call, const char *message)
{
    wire_fail(call->error, WIRE_WRONG_TYPE, "%s", message);
    call->error->has = WIRE_DETAIL_KEY;
    call->error->key = call->args->key;
    return WIRE_WRONG_TYPE;
}

static enum wire_code add(struct call *call, const struct keys_entry *found, wire_integer *sum)
{
    wire_integer value = call->args->initial;
    if (found != NULL) {
        struct wire_cursor cursor = wire_cursor_of(found->value);
        if (wire_read_integer(&cursor, &value) != 0)
            return wrong_type(call, "increment: the value is not an integer");
    }
    *sum = value + call->args->delta;
    if (*sum < WIRE_INTEGER_MIN || *sum > WIRE_INTEGER_MAX)
        return wrong_type(call, "increment: the sum is outside of -2^63 to 2^64-1");
    return WIRE_OK;
}

enum wire_code method_increment(struct call *call)
{
    struct keys_entry entry;
    const struct keys_entry *found;
    wire_integer sum;
    enum wire_code code = find_to_write(call, &entry, &found);
    if (code == WIRE_OK)
        code = add(call, found, &sum);
    if (code != WIRE_OK)
        return code;
    uint64_t expires_at_ms = expiry(call, found);
    if (!call->args->has_ttl && found != NULL)
        expires_at_ms = found->expires_at_ms;
    wire_pack_array(call->out, 2);
    size_t place = call->out->size;
    wire_pack_integer(call->out, sum);
    if (call->out->failed)
        return stored_fail(call->error, STORE_NO_MEMORY);
    int rc = write_key(call, found, buffer_slice(call->out, place), expires_at_ms);
    wire_pack_uint(call->out, store_next_seq(call->service->store));
    return store_result(call, rc);
}

enum wire_code method_touch(struct call *call)
{
    int rc = keys_touch(&call->service->keys, call->args->key, expiry(call, NULL));
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_pack_bool(call->out, rc == 0);
    return WIRE_OK;
}

/* Ranges. A bound made of another one needs a byte more than a key, or as many. */
struct bounds {
    struct keys_range range;
    uint8_t after[WIRE_MAX_KEY + 1];
    uint8_t end[WIRE_MAX_KEY];
};

/* Goes on behind `after`, in the direction of the scan. */
static void begin_after(struct bounds *bounds, struct slice after, bool reverse)
{
    struct keys_range *range = &bounds->range;
    if (reverse) {
        if (range->end.data == NULL || slice_compare(after, range->end) < 0)
            range->end = after;
        return;
    }
    if (after.size > 0)
        memcpy(bounds->after, after.data, after.size);
    bounds->after[after.size] = 0; /* the first key behind it */
    struct slice next = slice_of(bounds->after, after.size + 1);
    if (slice_compare(next, range->start) > 0)
        range->start = next;
}

static void read_bounds(const struct wire_args *args, struct bounds *bounds)
{
    bounds->range = (struct keys_range){0};
    if ((args->given & WIRE_HAS_PREFIX) != 0)
        bounds->range = keys_prefix(args->prefix, bounds->end);
    if ((args->given & WIRE_HAS_START) != 0)
        bounds->range.start = args->start;
    if ((args->given & WIRE_HAS_END) != 0)
        bounds->range.end = args->end;
    if ((args->given & WIRE_HAS_AFTER) != 0)
        begin_after(bounds, args->after, args->reverse);
}

/* A page of a scan as it grows. */
struct page {
    uint32_t count;
    size_t start; /* in the reply */
    uint8_t last[WIRE_MAX_KEY];
    size_t last_size;
};

static void add_to_page(struct call *call, struct page *page, struct slice key,
                        const struct keys_entry *entry)
{
    page->count++;
    page->last_size = key.size;
    memcpy(page->last, key.data, key.size);
    if (call->args->keys_only) {
        wire_pack_key(call->out, key);
        return;
    }
    wire_pack_array(call->out, 4);
    wire_pack_key(call->out, key);
    wire_pack_object(call->out, entry->value);
    wire_pack_uint(call->out, entry->version);
    wire_pack_expires_at(call->out, entry->expires_at_ms);
}

/* STORE_NOT_FOUND where the walk ended, 0 where the page was full before. */
static int fill_page(struct call *call, struct keys_walk *walk, struct page *page)
{
    struct slice key;
    struct keys_entry entry;
    int rc = keys_first(walk, &key, &entry);
    while (rc == 0 && page->count < call->args->limit &&
           call->out->size - page->start < WIRE_PAGE_BYTES) {
        add_to_page(call, page, key, &entry);
        rc = keys_next(walk, &key, &entry);
    }
    return rc;
}

enum wire_code method_scan(struct call *call)
{
    struct bounds bounds;
    struct page page = {0};
    read_bounds(call->args, &bounds);
    struct keys_walk walk = {
        .keys = &call->service->keys, .range = bounds.range, .reverse = call->args->reverse};
    wire_pack_map(call->out, 3);
    wire_pack_text(call->out, "entries");
    size_t place = wire_pack_array_later(call->out);
    page.start = call->out->size;
    int rc = fill_page(call, &walk, &page);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_set_array_count(call->out, place, page.count);
    wire_pack_text(call->out, "next");
    if (rc == 0)
        wire_pack_key(call->out, slice_of(page.last, page.last_size));
    else
        wire_pack_nil(call->out);
    wire_pack_text(call->out, "seq");
    wire_pack_uint(call->out, method_seq(call));
    return WIRE_OK;
}

enum wire_code method_count(struct call *call)
{
    struct bounds bounds;
    uint64_t count;
    read_bounds(call->args, &bounds);
    int rc = keys_count(&call->service->keys, bounds.range, &count);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_pack_uint(call->out, count);
    return WIRE_OK;
}

enum wire_code method_delete_range(struct call *call)
{
    struct bounds bounds;
    struct keys_entry entry;
    struct slice key;
    uint8_t copy[WIRE_MAX_KEY];
    uint32_t deleted = 0;
    read_bounds(call->args, &bounds);
    struct keys_walk walk = {.keys = &call->service->keys, .range = bounds.range};
    int rc = keys_first(&walk, &key, &entry);
    while (rc == 0 && deleted < call->args->limit) {
        memcpy(copy, key.data, key.size); /* the view ends with the delete */
        rc = keys_delete(walk.keys, slice_of(copy, key.size));
        if (rc != 0)
            return stored_fail(call->error, rc);
        deleted++;
        rc = keys_next(&walk, &key, &entry);
    }
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return stored_fail(call->error, rc);
    wire_pack_map(call->out, 2);
    wire_pack_text(call->out, "deleted");
    wire_pack_uint(call->out, deleted);
    wire_pack_text(call->out, "more");
    wire_pack_bool(call->out, rc == 0);
    return WIRE_OK;
}
