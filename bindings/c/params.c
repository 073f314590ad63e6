#include "bindings/c/params.h"

bool params_is_object(struct cubby_bytes bytes)
{
    struct slice object;
    if (bytes.data == NULL)
        return false;
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(bytes));
    return wire_read_object(&cursor, PARAMS_DEPTH, &object, NULL) == 0 && wire_at_end(&cursor);
}

static void pack_key(struct buffer *out, struct cubby_bytes key)
{
    wire_pack_key(out, slice_of_bytes(key));
}

void params_open(struct buffer *out, uint32_t positional, unsigned options)
{
    wire_pack_array(out, positional + (options > 0));
}

void params_open_options(struct buffer *out, unsigned options)
{
    if (options > 0)
        wire_pack_map(out, options);
}

void params_option_uint(struct buffer *out, bool given, const char *name, uint64_t value)
{
    if (!given)
        return;
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

static void option_true(struct buffer *out, bool given, const char *name)
{
    if (!given)
        return;
    wire_pack_text(out, name);
    wire_pack_bool(out, true);
}

void params_option_bytes(struct buffer *out, const char *name, struct cubby_bytes bytes)
{
    if (bytes.data == NULL)
        return;
    wire_pack_text(out, name);
    pack_key(out, bytes);
}

static void option_condition(struct buffer *out, enum cubby_condition condition)
{
    if (condition == CUBBY_ALWAYS)
        return;
    wire_pack_text(out, "if_exists");
    if (condition == CUBBY_IF_EXISTS || condition == CUBBY_IF_ABSENT)
        wire_pack_bool(out, condition == CUBBY_IF_EXISTS);
    else
        wire_pack_nil(out); /* none of the three: the daemon refuses it */
}

void params_none(struct buffer *out)
{
    wire_pack_array(out, 0);
}

void params_hello(struct buffer *out, struct cubby_bytes client)
{
    unsigned count = client.data != NULL;
    params_open(out, 0, count);
    params_open_options(out, count);
    if (count > 0) {
        wire_pack_text(out, "client");
        wire_pack_str(out, slice_of_bytes(client));
    }
}

void params_get(struct buffer *out, struct cubby_bytes key)
{
    params_open(out, 1, 0);
    pack_key(out, key);
}

void params_put(struct buffer *out, struct cubby_bytes key, struct cubby_bytes value,
                const struct cubby_put_options *options)
{
    const struct cubby_put_options none = {0};
    const struct cubby_put_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)o->has_ttl + o->keep_ttl + o->has_if_version +
                     (o->condition != CUBBY_ALWAYS) + o->previous;
    params_open(out, 2, count);
    pack_key(out, key);
    wire_pack_object(out, slice_of_bytes(value));
    params_open_options(out, count);
    params_option_uint(out, o->has_ttl, "ttl", o->ttl_ms);
    option_true(out, o->keep_ttl, "keep_ttl");
    params_option_uint(out, o->has_if_version, "if_version", o->if_version);
    option_condition(out, o->condition);
    option_true(out, o->previous, "previous");
}

void params_delete(struct buffer *out, struct cubby_bytes key,
                   const struct cubby_delete_options *options)
{
    const struct cubby_delete_options none = {0};
    const struct cubby_delete_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)o->has_if_version + (o->condition != CUBBY_ALWAYS) + o->previous;
    params_open(out, 1, count);
    pack_key(out, key);
    params_open_options(out, count);
    params_option_uint(out, o->has_if_version, "if_version", o->if_version);
    option_condition(out, o->condition);
    option_true(out, o->previous, "previous");
}

void params_increment(struct buffer *out, struct cubby_bytes key, int64_t delta,
                      const struct cubby_increment_options *options)
{
    const struct cubby_increment_options none = {0};
    const struct cubby_increment_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)(o->initial != 0) + o->has_ttl + o->has_if_version +
                     (o->condition != CUBBY_ALWAYS);
    params_open(out, 2, count);
    pack_key(out, key);
    wire_pack_integer(out, delta);
    params_open_options(out, count);
    if (o->initial != 0) {
        wire_pack_text(out, "initial");
        wire_pack_integer(out, o->initial);
    }
    params_option_uint(out, o->has_ttl, "ttl", o->ttl_ms);
    params_option_uint(out, o->has_if_version, "if_version", o->if_version);
    option_condition(out, o->condition);
}

void params_touch(struct buffer *out, struct cubby_bytes key, uint64_t ttl_ms)
{
    params_open(out, 2, 0);
    pack_key(out, key);
    if (ttl_ms == CUBBY_NO_TTL)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, ttl_ms);
}

static unsigned count_range(const struct cubby_range *range)
{
    if (range == NULL)
        return 0;
    return (unsigned)(range->prefix.data != NULL) + (range->start.data != NULL) +
           (range->end.data != NULL);
}

static void option_range(struct buffer *out, const struct cubby_range *range)
{
    if (range == NULL)
        return;
    params_option_bytes(out, "prefix", range->prefix);
    params_option_bytes(out, "start", range->start);
    params_option_bytes(out, "end", range->end);
}

void params_scan(struct buffer *out, const struct cubby_range *range,
                 const struct cubby_scan_options *options)
{
    const struct cubby_scan_options none = {0};
    const struct cubby_scan_options *o = options != NULL ? options : &none;
    unsigned count =
        count_range(range) + (o->after.data != NULL) + (o->limit > 0) + o->reverse + o->keys_only;
    params_open(out, 0, count);
    params_open_options(out, count);
    option_range(out, range);
    params_option_bytes(out, "after", o->after);
    params_option_uint(out, o->limit > 0, "limit", o->limit);
    option_true(out, o->reverse, "reverse");
    option_true(out, o->keys_only, "keys_only");
}

void params_count(struct buffer *out, const struct cubby_range *range)
{
    unsigned count = count_range(range);
    params_open(out, 0, count);
    params_open_options(out, count);
    option_range(out, range);
}

void params_delete_range(struct buffer *out, const struct cubby_range *range,
                         const struct cubby_delete_range_options *options)
{
    uint32_t limit = options != NULL ? options->limit : 0;
    unsigned count = count_range(range) + (limit > 0);
    params_open(out, 0, count);
    params_open_options(out, count);
    option_range(out, range);
    params_option_uint(out, limit > 0, "limit", limit);
}

void params_changes(struct buffer *out, const struct cubby_changes_options *options)
{
    const struct cubby_changes_options none = {0};
    const struct cubby_changes_options *o = options != NULL ? options : &none;
    unsigned count =
        1u + (o->prefix.data != NULL) + (o->limit > 0) + (unsigned)(o->epoch.data != NULL);
    params_open(out, 0, count);
    params_open_options(out, count);
    params_option_uint(out, true, "since", o->since);
    params_option_bytes(out, "prefix", o->prefix);
    params_option_bytes(out, "epoch", o->epoch);
    params_option_uint(out, o->limit > 0, "limit", o->limit);
}
