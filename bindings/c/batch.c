#include <stdlib.h>

#include "bindings/c/handle.h"
#include "bindings/c/queue_params.h"
#include "bindings/c/results.h"

/* Operations and guards are kept encoded, without the headers that their counts make. */
struct cubby_batch {
    struct buffer operations;
    uint32_t operation_count;
    struct buffer guards;
    uint32_t guard_count;
    const char *misuse;   /* what is wrong with the first operation that cannot be sent; or NULL */
    uint32_t misused;     /* its index */
    struct buffer result; /* of the last run, and its elements: */
    struct cubby_bytes *results;
    size_t result_count;
    size_t result_room;
    uint64_t seq;
};

struct cubby_batch *cubby_batch_new(void)
{
    return calloc(1, sizeof(struct cubby_batch));
}

static void clear_result(struct cubby_batch *batch)
{
    buffer_clear(&batch->result);
    batch->result_count = 0;
    batch->seq = 0;
}

void cubby_batch_clear(struct cubby_batch *batch)
{
    if (batch == NULL)
        return;
    buffer_clear(&batch->operations);
    buffer_clear(&batch->guards);
    batch->operation_count = 0;
    batch->guard_count = 0;
    batch->misuse = NULL;
    clear_result(batch);
}

void cubby_batch_free(struct cubby_batch **batch)
{
    if (batch == NULL || *batch == NULL)
        return;
    buffer_free(&(*batch)->operations);
    buffer_free(&(*batch)->guards);
    buffer_free(&(*batch)->result);
    free((*batch)->results);
    free(*batch);
    *batch = NULL;
}

size_t cubby_batch_count(const struct cubby_batch *batch)
{
    return batch != NULL ? batch->operation_count : 0;
}

/* ---- Building ------------------------------------------------------------------------------- */

/* The operation that is being added; the run says so. */
static void note_misuse(struct cubby_batch *batch, const char *misuse)
{
    if (batch->misuse != NULL)
        return;
    batch->misuse = misuse;
    batch->misused = batch->operation_count;
}

static void check_value(struct cubby_batch *batch, struct cubby_bytes value)
{
    if (!params_is_object(value))
        note_misuse(batch, "a value in the batch is not one encoded MessagePack object");
}

/* [method, …: the params have to follow in the buffer that it returns. */
static struct buffer *open_operation(struct cubby_batch *batch, const char *method)
{
    wire_pack_array(&batch->operations, 2);
    wire_pack_text(&batch->operations, method);
    batch->operation_count++;
    return &batch->operations;
}

size_t cubby_batch_get(struct cubby_batch *batch, struct cubby_bytes key)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_get(open_operation(batch, "get"), key);
    return batch->operation_count - 1;
}

size_t cubby_batch_put(struct cubby_batch *batch, struct cubby_bytes key, struct cubby_bytes value,
                       const struct cubby_put_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    check_value(batch, value);
    params_put(open_operation(batch, "put"), key, value, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_delete(struct cubby_batch *batch, struct cubby_bytes key,
                          const struct cubby_delete_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_delete(open_operation(batch, "delete"), key, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_increment(struct cubby_batch *batch, struct cubby_bytes key, int64_t delta,
                             const struct cubby_increment_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_increment(open_operation(batch, "increment"), key, delta, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_touch(struct cubby_batch *batch, struct cubby_bytes key, uint64_t ttl_ms)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_touch(open_operation(batch, "touch"), key, ttl_ms);
    return batch->operation_count - 1;
}

size_t cubby_batch_scan(struct cubby_batch *batch, const struct cubby_range *range,
                        const struct cubby_scan_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_scan(open_operation(batch, "scan"), range, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_count_keys(struct cubby_batch *batch, const struct cubby_range *range)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_count(open_operation(batch, "count"), range);
    return batch->operation_count - 1;
}

size_t cubby_batch_delete_range(struct cubby_batch *batch, const struct cubby_range *range,
                                const struct cubby_delete_range_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_delete_range(open_operation(batch, "delete_range"), range, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_call(struct cubby_batch *batch, const char *method, struct cubby_bytes params)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    if (method == NULL)
        note_misuse(batch, "an operation without a method");
    if (params.data != NULL)
        check_value(batch, params);
    struct buffer *out = open_operation(batch, method != NULL ? method : "");
    if (params.data == NULL)
        params_none(out);
    else
        wire_pack_object(out, slice_of_bytes(params));
    return batch->operation_count - 1;
}

void cubby_batch_guard(struct cubby_batch *batch, struct cubby_bytes key, uint64_t version)
{
    if (batch == NULL)
        return;
    wire_pack_array(&batch->guards, 2);
    wire_pack_key(&batch->guards, slice_of_bytes(key));
    wire_pack_uint(&batch->guards, version);
    batch->guard_count++;
}

/* ---- Building: queues ----------------------------------------------------------------------- */

size_t cubby_batch_queue_push(struct cubby_batch *batch, struct cubby_bytes queue,
                              struct cubby_bytes body, const struct cubby_push_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    check_value(batch, body);
    params_queue_push(open_operation(batch, "queue.push"), queue, body, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_reserve(struct cubby_batch *batch, const struct cubby_bytes *queues,
                                 size_t queue_count, const struct cubby_reserve_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    const struct queue_names names = {queues, queue_count};
    params_queue_reserve(open_operation(batch, "queue.reserve"), names, 0, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_pop(struct cubby_batch *batch, const struct cubby_bytes *queues,
                             size_t queue_count, const struct cubby_reserve_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    const struct queue_names names = {queues, queue_count};
    params_queue_pop(open_operation(batch, "queue.pop"), names, 0, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_ack(struct cubby_batch *batch, uint64_t id, uint64_t lease)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_ack(open_operation(batch, "queue.ack"), id, lease);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_nack(struct cubby_batch *batch, uint64_t id, uint64_t lease,
                              const struct cubby_nack_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_nack(open_operation(batch, "queue.nack"), id, lease, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_extend(struct cubby_batch *batch, uint64_t id, uint64_t lease, uint64_t ms)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_extend(open_operation(batch, "queue.extend"), id, lease, ms);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_bury(struct cubby_batch *batch, uint64_t id, uint64_t lease,
                              struct cubby_bytes error)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_bury(open_operation(batch, "queue.bury"), id, lease, error);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_kick(struct cubby_batch *batch, struct cubby_bytes queue,
                              const struct cubby_kick_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_kick(open_operation(batch, "queue.kick"), queue, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_delete(struct cubby_batch *batch, uint64_t id)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_number(open_operation(batch, "queue.delete"), id);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_job(struct cubby_batch *batch, uint64_t id)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_number(open_operation(batch, "queue.job"), id);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_peek(struct cubby_batch *batch, struct cubby_bytes queue,
                              const struct cubby_peek_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    if (options != NULL && options->after.data != NULL)
        check_value(batch, options->after);
    params_queue_peek(open_operation(batch, "queue.peek"), queue, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_configure(struct cubby_batch *batch, struct cubby_bytes queue,
                                   const struct cubby_configure_options *options)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_configure(open_operation(batch, "queue.configure"), queue, options);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_pause(struct cubby_batch *batch, struct cubby_bytes queue, int64_t ms)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_pause(open_operation(batch, "queue.pause"), queue, ms);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_resume(struct cubby_batch *batch, struct cubby_bytes queue)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue(open_operation(batch, "queue.resume"), queue);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_purge(struct cubby_batch *batch, struct cubby_bytes queue,
                               enum cubby_job_state state)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue_purge(open_operation(batch, "queue.purge"), queue, state);
    return batch->operation_count - 1;
}

size_t cubby_batch_queue_drop(struct cubby_batch *batch, struct cubby_bytes queue)
{
    if (batch == NULL)
        return CUBBY_NO_OPERATION;
    params_queue(open_operation(batch, "queue.drop"), queue);
    return batch->operation_count - 1;
}

/* ---- Running -------------------------------------------------------------------------------- */

static enum cubby_status refuse_none(struct cubby *cubby)
{
    return handle_fail(cubby, CUBBY_MISUSE, "there is no batch: cubby_batch_new had no memory");
}

static enum cubby_status refuse_misuse(struct cubby *cubby, const struct cubby_batch *batch)
{
    handle_fail(cubby, CUBBY_MISUSE, batch->misuse);
    cubby->failure.error.has = CUBBY_HAS_INDEX;
    cubby->failure.error.index = batch->misused;
    return CUBBY_MISUSE;
}

static enum cubby_status begin(struct cubby *cubby, const struct cubby_batch *batch)
{
    if (cubby == NULL)
        return CUBBY_MISUSE;
    struct buffer *out = &cubby->out;
    if (batch->operations.failed || batch->guards.failed)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the batch");
    if (batch->misuse != NULL)
        return refuse_misuse(cubby, batch);
    if (!request_begin(cubby, "batch"))
        return CUBBY_MISUSE;
    wire_pack_array(out, batch->guard_count > 0 ? 2 : 1);
    wire_pack_array(out, batch->operation_count);
    buffer_append(out, batch->operations.data, batch->operations.size);
    if (batch->guard_count > 0) {
        wire_pack_map(out, 1);
        wire_pack_text(out, "if");
        wire_pack_array(out, batch->guard_count);
        buffer_append(out, batch->guards.data, batch->guards.size);
    }
    return CUBBY_OK;
}

static int reserve_results(struct cubby_batch *batch, uint32_t count)
{
    if (count <= batch->result_room)
        return 0;
    struct cubby_bytes *results = realloc(batch->results, count * sizeof(*results));
    if (results == NULL)
        return -1;
    batch->results = results;
    batch->result_room = count;
    return 0;
}

/* Splits the copied array of results into its elements. */
static enum cubby_status read_results(struct cubby_batch *batch)
{
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&batch->result, 0));
    uint32_t count;
    if (wire_read_array(&cursor, &count) != 0)
        return CUBBY_PROTOCOL;
    if (reserve_results(batch, count) != 0)
        return CUBBY_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        struct slice object;
        if (wire_read_object(&cursor, PARAMS_DEPTH, &object, NULL) != 0)
            return CUBBY_PROTOCOL;
        batch->results[i] = bytes_of_slice(object);
    }
    batch->result_count = count;
    return CUBBY_OK;
}

enum cubby_status cubby_read_batch(struct cubby_bytes result, struct cubby_batch *batch)
{
    struct results_field fields[] = {{.name = "seq"}, {.name = "results"}};
    uint64_t seq;
    if (batch == NULL)
        return CUBBY_MISUSE;
    clear_result(batch);
    if (results_find(result, fields, 2) != 0 || !cubby_as_uint(fields[0].value, &seq))
        return CUBBY_PROTOCOL;
    buffer_append(&batch->result, fields[1].value.data, fields[1].value.size);
    enum cubby_status status = batch->result.failed ? CUBBY_NO_MEMORY : read_results(batch);
    if (status == CUBBY_OK)
        batch->seq = seq;
    return status;
}

enum cubby_status cubby_batch_run(struct cubby *cubby, struct cubby_batch *batch,
                                  const struct cubby_call_options *options)
{
    struct cubby_bytes result;
    if (batch == NULL)
        return refuse_none(cubby);
    clear_result(batch);
    enum cubby_status status = begin(cubby, batch);
    if (status == CUBBY_OK)
        status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_batch(result, batch));
    return status;
}

enum cubby_status cubby_send_batch(struct cubby *cubby, const struct cubby_batch *batch,
                                   cubby_callback *callback, void *context,
                                   const struct cubby_call_options *options)
{
    if (batch == NULL)
        return refuse_none(cubby);
    enum cubby_status status = begin(cubby, batch);
    if (status != CUBBY_OK)
        return status;
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

struct cubby_bytes cubby_batch_result(const struct cubby_batch *batch, size_t index)
{
    return batch != NULL && index < batch->result_count ? batch->results[index]
                                                        : cubby_data(NULL, 0);
}

uint64_t cubby_batch_seq(const struct cubby_batch *batch)
{
    return batch != NULL ? batch->seq : 0;
}
