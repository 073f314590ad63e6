/*
 * Parameters of methods: each function appends one array, the params of its method, to a buffer.
 * Used for single requests and for operations of a batch alike.
 */
#ifndef BINDINGS_C_PARAMS_H
#define BINDINGS_C_PARAMS_H

#include "bindings/c/cubby.h"
#include "wire/pack.h"

/* Never of NULL, so that whoever adds to the pointer may. */
static inline struct slice slice_of_bytes(struct cubby_bytes bytes)
{
    return bytes.data != NULL ? slice_of(bytes.data, bytes.size) : slice_of("", 0);
}

static inline struct cubby_bytes bytes_of_slice(struct slice bytes)
{
    return cubby_data(bytes.data, bytes.size);
}

/*
 * How deep what wraps values of full depth may be nested: at most a page of entries among the
 * results of a batch. What is deeper, the daemon would refuse.
 */
enum { PARAMS_DEPTH = WIRE_MAX_DEPTH + 8 };

/* Whether the bytes are one whole MessagePack object and nothing else. */
bool params_is_object(struct cubby_bytes bytes);

/*
 * Params with options: the array's header, then what is positional, then the options' header and a
 * call for each option. The map is left out where it is empty: a byte saved, and a shorter path in
 * the daemon. `bytes` with NULL data are not given.
 */
void params_open(struct buffer *out, uint32_t positional, unsigned options);
void params_open_options(struct buffer *out, unsigned options);
void params_option_uint(struct buffer *out, bool given, const char *name, uint64_t value);
void params_option_bytes(struct buffer *out, const char *name, struct cubby_bytes bytes);

void params_none(struct buffer *out);
void params_hello(struct buffer *out, struct cubby_bytes client);
void params_get(struct buffer *out, struct cubby_bytes key);
void params_put(struct buffer *out, struct cubby_bytes key, struct cubby_bytes value,
                const struct cubby_put_options *options);
void params_delete(struct buffer *out, struct cubby_bytes key,
                   const struct cubby_delete_options *options);
void params_increment(struct buffer *out, struct cubby_bytes key, int64_t delta,
                      const struct cubby_increment_options *options);
void params_touch(struct buffer *out, struct cubby_bytes key, uint64_t ttl_ms);
void params_scan(struct buffer *out, const struct cubby_range *range,
                 const struct cubby_scan_options *options);
void params_count(struct buffer *out, const struct cubby_range *range);
void params_delete_range(struct buffer *out, const struct cubby_range *range,
                         const struct cubby_delete_range_options *options);
void params_changes(struct buffer *out, const struct cubby_changes_options *options);

#endif
