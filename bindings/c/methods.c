#include "bindings/c/handle.h"
#include "bindings/c/results.h"

static enum cubby_status refuse_value(struct cubby *cubby)
{
    return handle_fail(cubby, CUBBY_MISUSE, "the value is not one encoded MessagePack object");
}

static enum cubby_status refuse_params(struct cubby *cubby)
{
    return handle_fail(cubby, CUBBY_MISUSE, "the params are not one encoded MessagePack array");
}

/* No bytes at all stand for an empty array. */
static bool is_params(struct cubby_bytes params)
{
    struct wire_cursor cursor = wire_cursor_of(slice_of_bytes(params));
    return params.data == NULL || (wire_peek(&cursor) == WIRE_ARRAY && params_is_object(params));
}

static void pack_params(struct buffer *out, struct cubby_bytes params)
{
    if (params.data == NULL)
        params_none(out);
    else
        wire_pack_object(out, slice_of_bytes(params));
}

/* ---- One at a time -------------------------------------------------------------------------- */

enum cubby_status cubby_call(struct cubby *cubby, const char *method, struct cubby_bytes params,
                             struct cubby_bytes *result, const struct cubby_call_options *options)
{
    struct cubby_bytes returned;
    if (!is_params(params))
        return refuse_params(cubby);
    if (!request_begin(cubby, method))
        return CUBBY_MISUSE;
    pack_params(&cubby->out, params);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &returned);
    if (status == CUBBY_OK && result != NULL)
        *result = returned;
    return status;
}

enum cubby_status cubby_ping(struct cubby *cubby, const struct cubby_call_options *options)
{
    return cubby_call(cubby, "ping", cubby_data(NULL, 0), NULL, options);
}

enum cubby_status cubby_stats(struct cubby *cubby, struct cubby_bytes *map,
                              const struct cubby_call_options *options)
{
    return cubby_call(cubby, "stats", cubby_data(NULL, 0), map, options);
}

enum cubby_status cubby_hello(struct cubby *cubby, struct cubby_bytes client,
                              struct cubby_server *server, const struct cubby_call_options *options)
{
    struct cubby_bytes result;
    struct cubby_server read;
    if (!request_begin(cubby, "hello"))
        return CUBBY_MISUSE;
    params_hello(&cubby->out, client);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_hello(result, &read));
    if (status == CUBBY_OK && server != NULL)
        *server = read;
    return status;
}

enum cubby_status cubby_get(struct cubby *cubby, struct cubby_bytes key, struct cubby_value *value,
                            const struct cubby_call_options *options)
{
    struct cubby_bytes result;
    struct cubby_value read;
    if (!request_begin(cubby, "get"))
        return CUBBY_MISUSE;
    params_get(&cubby->out, key);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_value(result, &read));
    if (status == CUBBY_OK && value != NULL)
        *value = read;
    return status;
}

enum cubby_status cubby_put(struct cubby *cubby, struct cubby_bytes key, struct cubby_bytes value,
                            struct cubby_written *written, const struct cubby_put_options *options)
{
    struct cubby_bytes result;
    struct cubby_written read;
    if (!params_is_object(value))
        return refuse_value(cubby);
    if (!request_begin(cubby, "put"))
        return CUBBY_MISUSE;
    params_put(&cubby->out, key, value, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_written(result, &read));
    if (status == CUBBY_OK && written != NULL)
        *written = read;
    return status;
}

enum cubby_status cubby_delete(struct cubby *cubby, struct cubby_bytes key,
                               struct cubby_deleted *deleted,
                               const struct cubby_delete_options *options)
{
    struct cubby_bytes result;
    struct cubby_deleted read;
    if (!request_begin(cubby, "delete"))
        return CUBBY_MISUSE;
    params_delete(&cubby->out, key, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_deleted(result, &read));
    if (status == CUBBY_OK && deleted != NULL)
        *deleted = read;
    return status;
}

enum cubby_status cubby_increment(struct cubby *cubby, struct cubby_bytes key, int64_t delta,
                                  struct cubby_incremented *incremented,
                                  const struct cubby_increment_options *options)
{
    struct cubby_bytes result;
    struct cubby_incremented read;
    if (!request_begin(cubby, "increment"))
        return CUBBY_MISUSE;
    params_increment(&cubby->out, key, delta, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_incremented(result, &read));
    if (status == CUBBY_OK && incremented != NULL)
        *incremented = read;
    return status;
}

enum cubby_status cubby_touch(struct cubby *cubby, struct cubby_bytes key, uint64_t ttl_ms,
                              bool *existed, const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "touch"))
        return CUBBY_MISUSE;
    params_touch(&cubby->out, key, ttl_ms);
    return request_run_bool(cubby, TIMEOUT_OF(options), existed);
}

enum cubby_status cubby_scan(struct cubby *cubby, const struct cubby_range *range,
                             struct cubby_page **page, const struct cubby_scan_options *options)
{
    struct cubby_bytes result;
    if (!request_begin(cubby, "scan"))
        return CUBBY_MISUSE;
    params_scan(&cubby->out, range, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK && page != NULL)
        status = request_read(cubby, cubby_read_page(result, page));
    return status;
}

enum cubby_status cubby_count(struct cubby *cubby, const struct cubby_range *range, uint64_t *count,
                              const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "count"))
        return CUBBY_MISUSE;
    params_count(&cubby->out, range);
    return request_run_number(cubby, TIMEOUT_OF(options), count);
}

enum cubby_status cubby_delete_range(struct cubby *cubby, const struct cubby_range *range,
                                     struct cubby_range_deleted *deleted,
                                     const struct cubby_delete_range_options *options)
{
    struct cubby_bytes result;
    struct cubby_range_deleted read;
    if (!request_begin(cubby, "delete_range"))
        return CUBBY_MISUSE;
    params_delete_range(&cubby->out, range, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_range_deleted(result, &read));
    if (status == CUBBY_OK && deleted != NULL)
        *deleted = read;
    return status;
}

enum cubby_status cubby_changes(struct cubby *cubby, struct cubby_change_page **page,
                                const struct cubby_changes_options *options)
{
    struct cubby_bytes result;
    if (!request_begin(cubby, "changes"))
        return CUBBY_MISUSE;
    params_changes(&cubby->out, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK && page != NULL)
        status = request_read(cubby, cubby_read_changes(result, page));
    return status;
}

/* ---- Many at once --------------------------------------------------------------------------- */

enum cubby_status cubby_send(struct cubby *cubby, const char *method, struct cubby_bytes params,
                             cubby_callback *callback, void *context,
                             const struct cubby_call_options *options)
{
    if (!is_params(params))
        return refuse_params(cubby);
    if (!request_begin(cubby, method))
        return CUBBY_MISUSE;
    pack_params(&cubby->out, params);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_get(struct cubby *cubby, struct cubby_bytes key,
                                 cubby_callback *callback, void *context,
                                 const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "get"))
        return CUBBY_MISUSE;
    params_get(&cubby->out, key);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_put(struct cubby *cubby, struct cubby_bytes key,
                                 struct cubby_bytes value, cubby_callback *callback, void *context,
                                 const struct cubby_put_options *options)
{
    if (!params_is_object(value))
        return refuse_value(cubby);
    if (!request_begin(cubby, "put"))
        return CUBBY_MISUSE;
    params_put(&cubby->out, key, value, options);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_delete(struct cubby *cubby, struct cubby_bytes key,
                                    cubby_callback *callback, void *context,
                                    const struct cubby_delete_options *options)
{
    if (!request_begin(cubby, "delete"))
        return CUBBY_MISUSE;
    params_delete(&cubby->out, key, options);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_increment(struct cubby *cubby, struct cubby_bytes key, int64_t delta,
                                       cubby_callback *callback, void *context,
                                       const struct cubby_increment_options *options)
{
    if (!request_begin(cubby, "increment"))
        return CUBBY_MISUSE;
    params_increment(&cubby->out, key, delta, options);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}
