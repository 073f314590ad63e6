#include "bindings/c/queue_params.h"

void params_queue(struct buffer *out, struct cubby_bytes queue)
{
    params_open(out, 1, 0);
    wire_pack_key(out, slice_of_bytes(queue));
}

void params_number(struct buffer *out, uint64_t number)
{
    params_open(out, 1, 0);
    wire_pack_uint(out, number);
}

static void pack_queue(struct buffer *out, struct cubby_bytes queue)
{
    wire_pack_key(out, slice_of_bytes(queue));
}

/* nil stands for no limit of a ttl. */
static void option_ttl(struct buffer *out, bool given, uint64_t ttl_ms)
{
    if (!given)
        return;
    wire_pack_text(out, "ttl");
    if (ttl_ms == CUBBY_NO_TTL)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, ttl_ms);
}

static void option_str(struct buffer *out, const char *name, struct cubby_bytes text)
{
    if (text.data == NULL)
        return;
    wire_pack_text(out, name);
    wire_pack_str(out, slice_of_bytes(text));
}

static void option_state(struct buffer *out, enum cubby_job_state state)
{
    if (state == CUBBY_JOB_ANY)
        return;
    wire_pack_text(out, "state");
    wire_pack_text(out, cubby_job_state_text(state));
}

void params_queue_push(struct buffer *out, struct cubby_bytes queue, struct cubby_bytes body,
                       const struct cubby_push_options *options)
{
    const struct cubby_push_options none = {0};
    const struct cubby_push_options *o = options != NULL ? options : &none;
    unsigned count =
        (unsigned)(o->delay_ms > 0) + (o->priority > 0) + o->has_ttl + (o->id.data != NULL);
    params_open(out, 2, count);
    pack_queue(out, queue);
    wire_pack_object(out, slice_of_bytes(body));
    params_open_options(out, count);
    params_option_uint(out, o->delay_ms > 0, "delay", o->delay_ms);
    params_option_uint(out, o->priority > 0, "priority", o->priority);
    option_ttl(out, o->has_ttl, o->ttl_ms);
    params_option_bytes(out, "id", o->id);
}

/* One queue stands for itself, several are an array. */
static void pack_queues(struct buffer *out, struct queue_names queues)
{
    size_t count = queues.names != NULL ? queues.count : 0; /* none: the daemon refuses it */
    if (count != 1)
        wire_pack_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        pack_queue(out, queues.names[i]);
}

static void pack_take(struct buffer *out, struct queue_names queues, int64_t wait_ms, uint32_t jobs,
                      uint64_t lease_ms)
{
    unsigned count = (unsigned)(wait_ms != 0) + (jobs > 0) + (lease_ms > 0);
    params_open(out, 1, count);
    pack_queues(out, queues);
    params_open_options(out, count);
    params_option_uint(out, wait_ms > 0, "wait", (uint64_t)wait_ms);
    if (wait_ms < 0) {
        wire_pack_text(out, "wait");
        wire_pack_nil(out);
    }
    params_option_uint(out, jobs > 0, "count", jobs);
    params_option_uint(out, lease_ms > 0, "lease", lease_ms);
}

void params_queue_reserve(struct buffer *out, struct queue_names queues, int64_t wait_ms,
                          const struct cubby_reserve_options *options)
{
    pack_take(out, queues, wait_ms, options != NULL ? options->count : 0,
              options != NULL ? options->lease_ms : 0);
}

void params_queue_pop(struct buffer *out, struct queue_names queues, int64_t wait_ms,
                      const struct cubby_reserve_options *options)
{
    pack_take(out, queues, wait_ms, options != NULL ? options->count : 0, 0);
}

static void pack_job(struct buffer *out, uint64_t id, uint64_t lease)
{
    wire_pack_uint(out, id);
    wire_pack_uint(out, lease);
}

void params_queue_ack(struct buffer *out, uint64_t id, uint64_t lease)
{
    params_open(out, 2, 0);
    pack_job(out, id, lease);
}

void params_queue_nack(struct buffer *out, uint64_t id, uint64_t lease,
                       const struct cubby_nack_options *options)
{
    const struct cubby_nack_options none = {0};
    const struct cubby_nack_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)o->has_delay + (o->error.data != NULL);
    params_open(out, 2, count);
    pack_job(out, id, lease);
    params_open_options(out, count);
    params_option_uint(out, o->has_delay, "delay", o->delay_ms);
    option_str(out, "error", o->error);
}

void params_queue_extend(struct buffer *out, uint64_t id, uint64_t lease, uint64_t ms)
{
    params_open(out, 3, 0);
    pack_job(out, id, lease);
    wire_pack_uint(out, ms);
}

void params_queue_bury(struct buffer *out, uint64_t id, uint64_t lease, struct cubby_bytes error)
{
    unsigned count = error.data != NULL;
    params_open(out, 2, count);
    pack_job(out, id, lease);
    params_open_options(out, count);
    option_str(out, "error", error);
}

void params_queue_kick(struct buffer *out, struct cubby_bytes queue,
                       const struct cubby_kick_options *options)
{
    const struct cubby_kick_options none = {0};
    const struct cubby_kick_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)(o->id > 0) + (o->count > 0);
    params_open(out, 1, count);
    pack_queue(out, queue);
    params_open_options(out, count);
    params_option_uint(out, o->id > 0, "id", o->id);
    params_option_uint(out, o->count > 0, "count", o->count);
}

void params_queue_peek(struct buffer *out, struct cubby_bytes queue,
                       const struct cubby_peek_options *options)
{
    const struct cubby_peek_options none = {0};
    const struct cubby_peek_options *o = options != NULL ? options : &none;
    unsigned count =
        (unsigned)(o->state != CUBBY_JOB_ANY) + (o->after.data != NULL) + (o->limit > 0);
    params_open(out, 1, count);
    pack_queue(out, queue);
    params_open_options(out, count);
    option_state(out, o->state);
    if (o->after.data != NULL) {
        wire_pack_text(out, "after");
        wire_pack_object(out, slice_of_bytes(o->after));
    }
    params_option_uint(out, o->limit > 0, "limit", o->limit);
}

void params_queue_list(struct buffer *out, const struct cubby_list_options *options)
{
    const struct cubby_list_options none = {0};
    const struct cubby_list_options *o = options != NULL ? options : &none;
    unsigned count = (unsigned)(o->prefix.data != NULL) + (o->after.data != NULL) + (o->limit > 0);
    params_open(out, 0, count);
    params_open_options(out, count);
    params_option_bytes(out, "prefix", o->prefix);
    params_option_bytes(out, "after", o->after);
    params_option_uint(out, o->limit > 0, "limit", o->limit);
}

static unsigned count_bits(unsigned bits)
{
    unsigned count = 0;
    for (; bits != 0; bits &= bits - 1)
        count++;
    return count;
}

void params_queue_configure(struct buffer *out, struct cubby_bytes queue,
                            const struct cubby_configure_options *options)
{
    const struct cubby_configure_options none = {0};
    const struct cubby_configure_options *o = options != NULL ? options : &none;
    const struct {
        unsigned bit;
        const char *name;
        uint64_t value;
    } numbers[] = {
        {CUBBY_SET_LEASE, "lease", o->to.lease_ms},
        {CUBBY_SET_MAX_DELIVERIES, "max_deliveries", o->to.max_deliveries},
        {CUBBY_SET_MAX_LENGTH, "max_length", o->to.max_length},
        {CUBBY_SET_RETRY_DELAY, "retry_delay", o->to.retry_delay_ms},
        {CUBBY_SET_DEDUP_WINDOW, "dedup_window", o->to.dedup_window_ms},
    };
    unsigned known = CUBBY_SET_TTL;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        known |= numbers[i].bit;
    bool unknown = (o->set & ~known) != 0; /* an option that the daemon refuses */
    unsigned count = count_bits(o->set & known) + unknown;
    params_open(out, 1, count);
    pack_queue(out, queue);
    params_open_options(out, count);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        params_option_uint(out, (o->set & numbers[i].bit) != 0, numbers[i].name, numbers[i].value);
    option_ttl(out, (o->set & CUBBY_SET_TTL) != 0, o->to.ttl_ms);
    params_option_uint(out, unknown, "set", o->set);
}

void params_queue_pause(struct buffer *out, struct cubby_bytes queue, int64_t ms)
{
    params_open(out, 2, 0);
    pack_queue(out, queue);
    if (ms < 0)
        wire_pack_nil(out);
    else
        wire_pack_uint(out, (uint64_t)ms);
}

void params_queue_purge(struct buffer *out, struct cubby_bytes queue, enum cubby_job_state state)
{
    unsigned count = state != CUBBY_JOB_ANY;
    params_open(out, 1, count);
    pack_queue(out, queue);
    params_open_options(out, count);
    option_state(out, state);
}
