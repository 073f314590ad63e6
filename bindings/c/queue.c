/* The queues' methods: one at a time, and many at once. */
#include "bindings/c/handle.h"
#include "bindings/c/queue_params.h"
#include "bindings/c/results.h"

/*
 * A long wait is several requests of this. A wait that was forgotten (its daemon was killed, its
 * connection made anew) lasts at most so long, and the reply's timeout. Shorter ones would cost
 * waiters their places in the line more often, and the daemon its time.
 */
enum { WAIT_PART_MS = 5000 };

static enum cubby_status refuse_body(struct cubby *cubby)
{
    return handle_fail(cubby, CUBBY_MISUSE, "the body is not one encoded MessagePack object");
}

/* Runs a request whose params are packed, and of which nothing is to be read. */
static enum cubby_status run(struct cubby *cubby, const struct cubby_call_options *options)
{
    struct cubby_bytes result;
    return request_run(cubby, TIMEOUT_OF(options), &result);
}

static enum cubby_status run_rows(struct cubby *cubby, int64_t timeout_ms,
                                  struct cubby_job_page **page)
{
    struct cubby_bytes result;
    enum cubby_status status = request_run(cubby, timeout_ms, &result);
    if (status == CUBBY_OK && page != NULL)
        status = request_read(cubby, cubby_read_job_page(result, page));
    return status;
}

/* ---- Pushing -------------------------------------------------------------------------------- */

enum cubby_status cubby_queue_push(struct cubby *cubby, struct cubby_bytes queue,
                                   struct cubby_bytes body, struct cubby_pushed *pushed,
                                   const struct cubby_push_options *options)
{
    struct cubby_bytes result;
    struct cubby_pushed read;
    if (!params_is_object(body))
        return refuse_body(cubby);
    if (!request_begin(cubby, "queue.push"))
        return CUBBY_MISUSE;
    params_queue_push(&cubby->out, queue, body, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_pushed(result, &read));
    if (status == CUBBY_OK && pushed != NULL)
        *pushed = read;
    return status;
}

/* ---- Reserving and popping ------------------------------------------------------------------ */

typedef void pack_take(struct buffer *out, struct queue_names queues, int64_t wait_ms,
                       const struct cubby_reserve_options *options);

/* How long to wait for a reply that may take `wait_ms` to come about. */
static int64_t reply_timeout(const struct cubby *cubby, int64_t wait_ms, int64_t timeout_ms)
{
    if (timeout_ms == 0)
        timeout_ms = cubby->timeout_ms;
    if (wait_ms < 0 || timeout_ms < 0 || timeout_ms > NEVER_MS - wait_ms)
        return CUBBY_FOREVER;
    return wait_ms + timeout_ms;
}

static enum cubby_status take_once(struct cubby *cubby, const char *method, pack_take *pack,
                                   struct queue_names queues, int64_t wait_ms,
                                   struct cubby_jobs **jobs,
                                   const struct cubby_reserve_options *options)
{
    struct cubby_bytes result;
    int64_t timeout_ms = TIMEOUT_OF(options);
    if (!request_begin(cubby, method))
        return CUBBY_MISUSE;
    pack(&cubby->out, queues, wait_ms, options);
    enum cubby_status status =
        request_run(cubby, reply_timeout(cubby, wait_ms, timeout_ms), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_jobs(result, jobs));
    return status;
}

/* The next part of a wait that ends at `until`. */
static int64_t wait_part(int64_t until, int64_t now)
{
    if (until <= now)
        return 0;
    return until - now < WAIT_PART_MS ? until - now : WAIT_PART_MS;
}

static enum cubby_status take(struct cubby *cubby, const char *method, pack_take *pack,
                              struct queue_names queues, struct cubby_jobs **jobs,
                              const struct cubby_reserve_options *options)
{
    int64_t until = due_ms(now_ms(), options != NULL ? options->wait_ms : 0);
    if (jobs == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "nowhere to put the jobs");
    for (;;) {
        struct cubby_jobs *got = NULL;
        int64_t wait_ms = wait_part(until, now_ms());
        enum cubby_status status = take_once(cubby, method, pack, queues, wait_ms, &got, options);
        if (status != CUBBY_OK)
            return status;
        if (got->count > 0 || now_ms() >= until) {
            *jobs = got;
            return CUBBY_OK;
        }
        cubby_jobs_free(&got);
    }
}

enum cubby_status cubby_queue_reserve(struct cubby *cubby, const struct cubby_bytes *queues,
                                      size_t queue_count, struct cubby_jobs **jobs,
                                      const struct cubby_reserve_options *options)
{
    const struct queue_names names = {queues, queue_count};
    return take(cubby, "queue.reserve", params_queue_reserve, names, jobs, options);
}

enum cubby_status cubby_queue_pop(struct cubby *cubby, const struct cubby_bytes *queues,
                                  size_t queue_count, struct cubby_jobs **jobs,
                                  const struct cubby_reserve_options *options)
{
    const struct queue_names names = {queues, queue_count};
    return take(cubby, "queue.pop", params_queue_pop, names, jobs, options);
}

enum cubby_status cubby_queue_cancel(struct cubby *cubby, uint64_t request,
                                     const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.cancel"))
        return CUBBY_MISUSE;
    params_number(&cubby->out, request);
    return run(cubby, options);
}

/* ---- With a job in hand --------------------------------------------------------------------- */

enum cubby_status cubby_queue_ack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                  const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.ack"))
        return CUBBY_MISUSE;
    params_queue_ack(&cubby->out, id, lease);
    return run(cubby, options);
}

enum cubby_status cubby_queue_nack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                   enum cubby_job_state *state,
                                   const struct cubby_nack_options *options)
{
    struct cubby_bytes result;
    enum cubby_job_state read;
    if (!request_begin(cubby, "queue.nack"))
        return CUBBY_MISUSE;
    params_queue_nack(&cubby->out, id, lease, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_nacked(result, &read));
    if (status == CUBBY_OK && state != NULL)
        *state = read;
    return status;
}

enum cubby_status cubby_queue_extend(struct cubby *cubby, uint64_t id, uint64_t lease, uint64_t ms,
                                     uint64_t *due_at_ms, const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.extend"))
        return CUBBY_MISUSE;
    params_queue_extend(&cubby->out, id, lease, ms);
    return request_run_number(cubby, TIMEOUT_OF(options), due_at_ms);
}

enum cubby_status cubby_queue_bury(struct cubby *cubby, uint64_t id, uint64_t lease,
                                   struct cubby_bytes error,
                                   const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.bury"))
        return CUBBY_MISUSE;
    params_queue_bury(&cubby->out, id, lease, error);
    return run(cubby, options);
}

/* ---- Looking after queues ------------------------------------------------------------------- */

enum cubby_status cubby_queue_kick(struct cubby *cubby, struct cubby_bytes queue, uint64_t *kicked,
                                   const struct cubby_kick_options *options)
{
    if (!request_begin(cubby, "queue.kick"))
        return CUBBY_MISUSE;
    params_queue_kick(&cubby->out, queue, options);
    return request_run_number(cubby, TIMEOUT_OF(options), kicked);
}

enum cubby_status cubby_queue_delete(struct cubby *cubby, uint64_t id, bool *existed,
                                     const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.delete"))
        return CUBBY_MISUSE;
    params_number(&cubby->out, id);
    return request_run_bool(cubby, TIMEOUT_OF(options), existed);
}

enum cubby_status cubby_queue_job(struct cubby *cubby, uint64_t id, struct cubby_job_page **page,
                                  const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.job"))
        return CUBBY_MISUSE;
    params_number(&cubby->out, id);
    return run_rows(cubby, TIMEOUT_OF(options), page);
}

enum cubby_status cubby_queue_peek(struct cubby *cubby, struct cubby_bytes queue,
                                   struct cubby_job_page **page,
                                   const struct cubby_peek_options *options)
{
    if (options != NULL && options->after.data != NULL && !params_is_object(options->after))
        return handle_fail(cubby, CUBBY_MISUSE, "`after` is not the `at` of a row");
    if (!request_begin(cubby, "queue.peek"))
        return CUBBY_MISUSE;
    params_queue_peek(&cubby->out, queue, options);
    return run_rows(cubby, TIMEOUT_OF(options), page);
}

enum cubby_status cubby_queue_stats(struct cubby *cubby, struct cubby_bytes queue,
                                    struct cubby_queue_counts *stats,
                                    const struct cubby_call_options *options)
{
    struct cubby_bytes result;
    struct cubby_queue_counts read;
    if (!request_begin(cubby, "queue.stats"))
        return CUBBY_MISUSE;
    params_queue(&cubby->out, queue);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_queue_stats(result, &read));
    if (status == CUBBY_OK && stats != NULL)
        *stats = read;
    return status;
}

enum cubby_status cubby_queue_list(struct cubby *cubby, struct cubby_names **names,
                                   const struct cubby_list_options *options)
{
    struct cubby_bytes result;
    if (!request_begin(cubby, "queue.list"))
        return CUBBY_MISUSE;
    params_queue_list(&cubby->out, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK && names != NULL)
        status = request_read(cubby, cubby_read_names(result, names));
    return status;
}

enum cubby_status cubby_queue_configure(struct cubby *cubby, struct cubby_bytes queue,
                                        struct cubby_queue_settings *now,
                                        const struct cubby_configure_options *options)
{
    struct cubby_bytes result;
    struct cubby_queue_settings read;
    if (!request_begin(cubby, "queue.configure"))
        return CUBBY_MISUSE;
    params_queue_configure(&cubby->out, queue, options);
    enum cubby_status status = request_run(cubby, TIMEOUT_OF(options), &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_queue_settings(result, &read));
    if (status == CUBBY_OK && now != NULL)
        *now = read;
    return status;
}

enum cubby_status cubby_queue_pause(struct cubby *cubby, struct cubby_bytes queue, int64_t ms,
                                    const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.pause"))
        return CUBBY_MISUSE;
    params_queue_pause(&cubby->out, queue, ms);
    return run(cubby, options);
}

enum cubby_status cubby_queue_resume(struct cubby *cubby, struct cubby_bytes queue,
                                     const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.resume"))
        return CUBBY_MISUSE;
    params_queue(&cubby->out, queue);
    return run(cubby, options);
}

enum cubby_status cubby_queue_purge(struct cubby *cubby, struct cubby_bytes queue,
                                    enum cubby_job_state state, uint64_t *removed,
                                    const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.purge"))
        return CUBBY_MISUSE;
    params_queue_purge(&cubby->out, queue, state);
    return request_run_number(cubby, TIMEOUT_OF(options), removed);
}

enum cubby_status cubby_queue_drop(struct cubby *cubby, struct cubby_bytes queue, bool *existed,
                                   const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.drop"))
        return CUBBY_MISUSE;
    params_queue(&cubby->out, queue);
    return request_run_bool(cubby, TIMEOUT_OF(options), existed);
}

/* ---- Many at once --------------------------------------------------------------------------- */

enum cubby_status cubby_send_queue_push(struct cubby *cubby, struct cubby_bytes queue,
                                        struct cubby_bytes body, cubby_callback *callback,
                                        void *context, const struct cubby_push_options *options)
{
    if (!params_is_object(body))
        return refuse_body(cubby);
    if (!request_begin(cubby, "queue.push"))
        return CUBBY_MISUSE;
    params_queue_push(&cubby->out, queue, body, options);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

/* The params are packed. */
static enum cubby_status send_take(struct cubby *cubby, const struct cubby_reserve_options *options,
                                   cubby_callback *callback, void *context, uint64_t *request)
{
    int64_t wait_ms = options != NULL ? options->wait_ms : 0;
    int64_t timeout_ms = TIMEOUT_OF(options);
    enum cubby_status status =
        request_send(cubby, reply_timeout(cubby, wait_ms, timeout_ms), callback, context);
    if (status == CUBBY_OK && request != NULL)
        *request = cubby->msgid;
    return status;
}

enum cubby_status cubby_send_queue_reserve(struct cubby *cubby, const struct cubby_bytes *queues,
                                           size_t queue_count, cubby_callback *callback,
                                           void *context, uint64_t *request,
                                           const struct cubby_reserve_options *options)
{
    const struct queue_names names = {queues, queue_count};
    if (!request_begin(cubby, "queue.reserve"))
        return CUBBY_MISUSE;
    params_queue_reserve(&cubby->out, names, options != NULL ? options->wait_ms : 0, options);
    return send_take(cubby, options, callback, context, request);
}

enum cubby_status cubby_send_queue_pop(struct cubby *cubby, const struct cubby_bytes *queues,
                                       size_t queue_count, cubby_callback *callback, void *context,
                                       uint64_t *request,
                                       const struct cubby_reserve_options *options)
{
    const struct queue_names names = {queues, queue_count};
    if (!request_begin(cubby, "queue.pop"))
        return CUBBY_MISUSE;
    params_queue_pop(&cubby->out, names, options != NULL ? options->wait_ms : 0, options);
    return send_take(cubby, options, callback, context, request);
}

enum cubby_status cubby_send_queue_ack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                       cubby_callback *callback, void *context,
                                       const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.ack"))
        return CUBBY_MISUSE;
    params_queue_ack(&cubby->out, id, lease);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_queue_nack(struct cubby *cubby, uint64_t id, uint64_t lease,
                                        cubby_callback *callback, void *context,
                                        const struct cubby_nack_options *options)
{
    if (!request_begin(cubby, "queue.nack"))
        return CUBBY_MISUSE;
    params_queue_nack(&cubby->out, id, lease, options);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}

enum cubby_status cubby_send_queue_extend(struct cubby *cubby, uint64_t id, uint64_t lease,
                                          uint64_t ms, cubby_callback *callback, void *context,
                                          const struct cubby_call_options *options)
{
    if (!request_begin(cubby, "queue.extend"))
        return CUBBY_MISUSE;
    params_queue_extend(&cubby->out, id, lease, ms);
    return request_send(cubby, TIMEOUT_OF(options), callback, context);
}
