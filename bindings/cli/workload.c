#include "bindings/cli/workload.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { KEY_PREFIX_SIZE = 4, KEY_DIGITS = 12, KEY_SIZE = KEY_PREFIX_SIZE + KEY_DIGITS };
enum { DECIMAL = 10, PERCENT = 100, WAIT_MS = 1000 };

#define NS_PER_S UINT64_C(1000000000)

struct connection {
    struct cubby *cubby;
};

struct worker {
    const struct workload_plan *plan;
    struct workload_result *result;
    struct cubby_batch *batch;
    struct connection *connections;
    struct request *requests;
    struct pollfd *polls;
    void *context;
    uint64_t random;
    uint64_t next_key; /* LOAD */
    uint64_t left;     /* requests that are still to be sent */
    uint64_t until_ns;
    size_t outstanding;
};

/* One of the requests that a connection keeps in flight. */
struct request {
    struct worker *worker;
    struct cubby *cubby;
    uint64_t sent_ns;
    uint64_t operations;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* key:000000000042, without printf: this runs for every operation. */
static struct cubby_bytes make_key(char *key, uint64_t number)
{
    memcpy(key, "key:", KEY_PREFIX_SIZE);
    for (int i = KEY_SIZE - 1; i >= KEY_PREFIX_SIZE; i--, number /= DECIMAL)
        key[i] = (char)('0' + number % DECIMAL);
    return cubby_data(key, KEY_SIZE);
}

static struct cubby_bytes random_key(struct worker *worker, char *key)
{
    return make_key(key, distribution_next(&worker->plan->keys, &worker->random));
}

/* ---- Sending -------------------------------------------------------------------------------- */

static void on_reply(void *context, const struct cubby_reply *reply);

static enum cubby_status send_get(struct request *request)
{
    char key[KEY_SIZE];
    struct worker *worker = request->worker;
    return cubby_send_get(request->cubby, random_key(worker, key), on_reply, request, NULL);
}

static enum cubby_status send_put(struct request *request)
{
    char key[KEY_SIZE];
    struct worker *worker = request->worker;
    return cubby_send_put(request->cubby, random_key(worker, key), worker->plan->value, on_reply,
                          request, NULL);
}

/* One operation of a batch; false where a load is at its end. */
static bool add_operation(struct worker *worker)
{
    char key[KEY_SIZE];
    const struct workload_plan *plan = worker->plan;
    bool load = plan->kind == WORKLOAD_LOAD || plan->kind == WORKLOAD_LOAD_JOBS;
    if (load && worker->next_key >= plan->keys.keys)
        return false;
    struct cubby_bytes bytes = load ? make_key(key, worker->next_key++) : random_key(worker, key);
    if (plan->kind == WORKLOAD_LOAD_JOBS)
        cubby_batch_queue_push(worker->batch, plan->queue, plan->value, NULL);
    else
        cubby_batch_put(worker->batch, bytes, plan->value, NULL);
    return true;
}

static enum cubby_status send_batch(struct request *request)
{
    struct worker *worker = request->worker;
    cubby_batch_clear(worker->batch);
    for (uint64_t i = 0; i < worker->plan->batch_size && add_operation(worker); i++)
        ;
    request->operations = cubby_batch_count(worker->batch);
    return cubby_send_batch(request->cubby, worker->batch, on_reply, request, NULL);
}

static enum cubby_status send_push(struct request *request)
{
    const struct workload_plan *plan = request->worker->plan;
    return cubby_send_queue_push(request->cubby, plan->queue, plan->value, on_reply, request, NULL);
}

static void on_popped(void *context, const struct cubby_reply *reply);
static void on_reserved(void *context, const struct cubby_reply *reply);

static enum cubby_status send_by_kind(struct request *request)
{
    struct worker *worker = request->worker;
    const struct workload_plan *plan = worker->plan;
    switch (plan->kind) {
    case WORKLOAD_GET:
        return send_get(request);
    case WORKLOAD_PUT:
        return send_put(request);
    case WORKLOAD_MIXED:
        return distribution_random(&worker->random) % PERCENT < plan->reads ? send_get(request)
                                                                            : send_put(request);
    case WORKLOAD_PUSH:
        return send_push(request);
    case WORKLOAD_POP:
        return cubby_send_queue_pop(request->cubby, &plan->queue, 1, on_popped, request, NULL,
                                    NULL);
    case WORKLOAD_WORK:
    case WORKLOAD_CHAIN:
        return cubby_send_queue_reserve(request->cubby, &plan->queue, 1, on_reserved, request, NULL,
                                        NULL);
    default:
        return send_batch(request);
    }
}

static void note_error(struct worker *worker, enum cubby_status status, const char *message)
{
    struct workload_result *result = worker->result;
    if (result->errors++ > 0)
        return;
    result->first_error = status;
    snprintf(result->error_message, sizeof(result->error_message), "%s", message);
}

static void send_next(struct request *request, uint64_t now)
{
    struct worker *worker = request->worker;
    if (worker->left == 0 || now >= worker->until_ns)
        return;
    worker->left--;
    request->sent_ns = now;
    request->operations = 1;
    enum cubby_status status = send_by_kind(request);
    if (status == CUBBY_OK)
        worker->outstanding++;
    else
        note_error(worker, status, cubby_last_error(request->cubby)->message);
}

static void on_reply(void *context, const struct cubby_reply *reply)
{
    struct request *request = context;
    struct worker *worker = request->worker;
    struct workload_result *result = worker->result;
    uint64_t now = now_ns();
    worker->outstanding--;
    if (reply->status == CUBBY_CLOSED)
        return;
    result->ended_ns = now;
    if (reply->status == CUBBY_OK) {
        result->requests++;
        result->operations += request->operations;
        histogram_add(&result->latencies, now - request->sent_ns);
    } else {
        note_error(worker, reply->status, reply->error->message);
    }
    send_next(request, now);
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

/* Whoever finds the queue empty ends the run: what is measured is not how fast that is said. */
static void run_dry(struct worker *worker)
{
    worker->outstanding--;
    worker->left = 0;
    worker->result->ran_dry = true;
}

/* An empty array is one byte. */
static bool is_empty(const struct cubby_reply *reply)
{
    return reply->status == CUBBY_OK && reply->result.size == 1;
}

static void on_popped(void *context, const struct cubby_reply *reply)
{
    struct request *request = context;
    if (is_empty(reply))
        run_dry(request->worker);
    else
        on_reply(context, reply);
}

/* The second request for a job; its reply is the one that counts. */
static enum cubby_status send_end(struct request *request, const struct cubby_job *job)
{
    struct worker *worker = request->worker;
    if (worker->plan->kind == WORKLOAD_WORK)
        return cubby_send_queue_ack(request->cubby, job->id, job->lease, on_reply, request, NULL);
    cubby_batch_clear(worker->batch);
    cubby_batch_queue_ack(worker->batch, job->id, job->lease);
    cubby_batch_queue_push(worker->batch, worker->plan->queue, job->body, NULL);
    return cubby_send_batch(request->cubby, worker->batch, on_reply, request, NULL);
}

static void on_reserved(void *context, const struct cubby_reply *reply)
{
    struct request *request = context;
    struct worker *worker = request->worker;
    struct cubby_jobs *jobs = NULL;
    if (reply->status != CUBBY_OK) {
        on_reply(context, reply);
        return;
    }
    if (is_empty(reply)) {
        run_dry(worker);
        return;
    }
    enum cubby_status status = cubby_read_jobs(reply->result, &jobs);
    if (status == CUBBY_OK)
        status = jobs->count > 0 ? send_end(request, &jobs->jobs[0]) : CUBBY_PROTOCOL;
    if (status != CUBBY_OK) {
        worker->outstanding--;
        note_error(worker, status, "the job that was reserved cannot be ended");
    }
    cubby_jobs_free(&jobs);
}

/* ---- Running -------------------------------------------------------------------------------- */

static int poll_all(struct worker *worker)
{
    int events = 0;
    for (uint64_t i = 0; i < worker->plan->connections; i++) {
        int polled = cubby_poll(worker->connections[i].cubby, 0);
        if (polled < 0)
            return -1;
        events += polled;
    }
    return events;
}

/* Waits only after a round over all connections that found nothing, as cubby_fd wants it. */
static void drive(struct worker *worker)
{
    while (worker->outstanding > 0) {
        int events = poll_all(worker);
        if (events < 0)
            return;
        if (events == 0)
            poll(worker->polls, (nfds_t)worker->plan->connections, WAIT_MS);
    }
}

static void start(struct worker *worker)
{
    const struct workload_plan *plan = worker->plan;
    uint64_t now = now_ns();
    worker->result->started_ns = now;
    worker->result->ended_ns = now;
    worker->until_ns = plan->seconds > 0 ? now + plan->seconds * NS_PER_S : UINT64_MAX;
    for (uint64_t i = 0; i < plan->in_flight; i++) {
        for (uint64_t c = 0; c < plan->connections; c++)
            send_next(&worker->requests[c * plan->in_flight + i], now_ns());
    }
}

static void place_requests(struct worker *worker, uint64_t connection)
{
    uint64_t in_flight = worker->plan->in_flight;
    for (uint64_t i = 0; i < in_flight; i++) {
        worker->requests[connection * in_flight + i] =
            (struct request){.worker = worker, .cubby = worker->connections[connection].cubby};
    }
}

/* The ping is answered once the connection is up: time runs from there. */
static enum cubby_status open_connections(struct worker *worker)
{
    struct cubby_options options = worker->plan->endpoints;
    options.zmq_context = worker->context;
    for (uint64_t i = 0; i < worker->plan->connections; i++) {
        struct connection *connection = &worker->connections[i];
        enum cubby_status status = cubby_open(&connection->cubby, &options);
        if (status == CUBBY_OK)
            status = cubby_ping(connection->cubby, NULL);
        if (status != CUBBY_OK)
            return status;
        worker->polls[i] = (struct pollfd){.fd = cubby_fd(connection->cubby), .events = POLLIN};
        place_requests(worker, i);
    }
    return CUBBY_OK;
}

static void release(struct worker *worker)
{
    for (uint64_t c = 0; worker->connections != NULL && c < worker->plan->connections; c++)
        cubby_close(&worker->connections[c].cubby);
    if (worker->context != NULL)
        zmq_ctx_term(worker->context);
    cubby_batch_free(&worker->batch);
    free(worker->connections);
    free(worker->requests);
    free(worker->polls);
}

static void *context_for(uint64_t sockets)
{
    void *context = zmq_ctx_new();
    if (context != NULL)
        zmq_ctx_set(context, ZMQ_MAX_SOCKETS, (int)sockets + 1);
    return context;
}

enum cubby_status workload_run(const struct workload_plan *plan, uint64_t seed, uint64_t first_key,
                               struct workload_result *result)
{
    struct worker worker = {.plan = plan,
                            .result = result,
                            .random = seed,
                            .next_key = first_key,
                            .left = plan->requests,
                            .batch = cubby_batch_new(),
                            .context = context_for(plan->connections)};
    enum cubby_status status = CUBBY_NO_MEMORY;
    worker.connections = calloc(plan->connections, sizeof(*worker.connections));
    worker.requests = calloc(plan->connections * plan->in_flight, sizeof(*worker.requests));
    worker.polls = calloc(plan->connections, sizeof(*worker.polls));
    if (worker.batch != NULL && worker.context != NULL && worker.connections != NULL &&
        worker.requests != NULL && worker.polls != NULL)
        status = open_connections(&worker);
    if (status == CUBBY_OK) {
        start(&worker);
        drive(&worker);
    }
    release(&worker);
    return status;
}
