#include "bindings/c/handle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "bindings/c/results.h"

#ifndef CUBBY_VERSION
#error "CUBBY_VERSION comes from the build"
#endif

enum { MAX_POLL_MS = 3600 * 1000 }; /* longer waits are made of several */

const char *cubby_version(void)
{
    return CUBBY_VERSION;
}

enum cubby_status handle_fail(struct cubby *cubby, enum cubby_status status, const char *message)
{
    return cubby != NULL ? failure_set(&cubby->failure, status, "%s", message) : status;
}

static enum cubby_status fail_forked(struct cubby *cubby, const char *call)
{
    return failure_set(&cubby->failure, CUBBY_MISUSE,
                       "%s in a child by fork(): close the handle, and open one of its own", call);
}

/*
 * Whether another thread waits in it: whatever this one did, the failure included, would be done
 * under the feet of that one. Two threads that meet at another moment are not noticed.
 */
static bool is_taken(const struct cubby *cubby)
{
    pthread_t waiter = atomic_load_explicit(&cubby->waiter, memory_order_relaxed);
    return waiter != 0 && waiter != pthread_self();
}

static void take(struct cubby *cubby, pthread_t thread)
{
    atomic_store_explicit(&cubby->waiter, thread, memory_order_relaxed);
}

enum cubby_status handle_may_wait(struct cubby *cubby, const char *call)
{
    if (cubby == NULL || is_taken(cubby))
        return CUBBY_MISUSE;
    if (cubby->dispatching)
        return failure_set(&cubby->failure, CUBBY_MISUSE,
                           "%s in a callback: it waits; send a request instead, or wait when "
                           "cubby_poll has returned",
                           call);
    return sockets_are_inherited(&cubby->sockets) ? fail_forked(cubby, call) : CUBBY_OK;
}

enum cubby_status handle_check_prefix(struct cubby *cubby, struct cubby_bytes prefix, size_t limit)
{
    if (slice_of_bytes(prefix).size <= limit)
        return CUBBY_OK;
    failure_set(&cubby->failure, CUBBY_TOO_LARGE,
                "a prefix over the limit of %zu bytes: nothing can begin with it", limit);
    cubby->failure.error.has = CUBBY_HAS_LIMIT;
    cubby->failure.error.limit = limit;
    return CUBBY_TOO_LARGE;
}

enum cubby_status handle_fail_system(struct cubby *cubby, const char *what)
{
    return failure_set(&cubby->failure, CUBBY_SYSTEM, "%s: %s", what, zmq_strerror(errno));
}

const struct cubby_error *cubby_last_error(const struct cubby *cubby)
{
    static const struct cubby_error no_handle = {
        .status = CUBBY_MISUSE,
        .code = "misuse",
        .message = "there is no handle: it was not opened, or is closed",
    };
    static const struct cubby_error taken = {
        .status = CUBBY_MISUSE,
        .code = "misuse",
        .message = "another thread waits in this handle: give each thread one of its own",
    };
    if (cubby != NULL && is_taken(cubby))
        return &taken;
    return cubby != NULL ? &cubby->failure.error : &no_handle;
}

/* ---- Sockets -------------------------------------------------------------------------------- */

static void *connect_dealer(struct cubby *cubby)
{
    void *socket = sockets_make(&cubby->sockets, ZMQ_DEALER);
    if (socket == NULL || sockets_connect(&cubby->sockets, socket, cubby->endpoint) != 0)
        return NULL;
    return socket;
}

static int watch_all_sockets(const struct cubby *cubby)
{
    int rc = sockets_watch(&cubby->sockets, cubby->socket);
    for (const struct task *task = cubby->tasks; task != NULL && rc == 0; task = task->next) {
        if (task->socket != NULL && !task->dead)
            rc = sockets_watch(&cubby->sockets, task->socket);
    }
    return rc;
}

int cubby_fd(struct cubby *cubby)
{
    if (cubby == NULL)
        return -1;
    struct sockets *sockets = &cubby->sockets;
    if (sockets->fd < 0 && sockets_make_fd(sockets) >= 0 && watch_all_sockets(cubby) != 0)
        sockets_drop_fd(sockets);
    return sockets->fd;
}

int handle_reserve_item(struct cubby *cubby)
{
    size_t count = 1 + tasks_sockets(cubby->tasks) + 1;
    zmq_pollitem_t *items = realloc(cubby->items, count * sizeof(*items));
    if (items == NULL)
        return -1;
    cubby->items = items;
    return 0;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

static int copy_options(struct cubby *cubby, const struct cubby_options *options)
{
    const char *endpoint = options->endpoint;
    const char *broadcast = options->broadcast;
    cubby->endpoint = strdup(endpoint != NULL ? endpoint : CUBBY_DEFAULT_ENDPOINT);
    cubby->broadcast = strdup(broadcast != NULL ? broadcast : CUBBY_DEFAULT_BROADCAST);
    cubby->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : CUBBY_DEFAULT_TIMEOUT_MS;
    return cubby->endpoint != NULL && cubby->broadcast != NULL ? 0 : -1;
}

static enum cubby_status connect_handle(struct cubby *cubby, const struct cubby_options *options)
{
    if (sockets_begin(&cubby->sockets, options->zmq_context) != 0)
        return CUBBY_SYSTEM;
    if (cubby->items == NULL || copy_options(cubby, options) != 0)
        return CUBBY_NO_MEMORY;
    cubby->socket = connect_dealer(cubby);
    return cubby->socket != NULL ? CUBBY_OK : CUBBY_SYSTEM;
}

static void release(struct cubby *cubby)
{
    if (cubby->socket != NULL)
        sockets_close(&cubby->sockets, cubby->socket);
    sockets_end(&cubby->sockets);
    zmq_msg_close(&cubby->messages[0]);
    zmq_msg_close(&cubby->messages[1]);
    slots_free(&cubby->slots);
    buffer_free(&cubby->out);
    free(cubby->items);
    free(cubby->endpoint);
    free(cubby->broadcast);
    free(cubby);
}

enum cubby_status cubby_open(struct cubby **cubby, const struct cubby_options *options)
{
    const struct cubby_options none = {0};
    if (cubby == NULL)
        return CUBBY_MISUSE;
    *cubby = NULL;
    struct cubby *opened = calloc(1, sizeof(*opened));
    if (opened == NULL)
        return CUBBY_NO_MEMORY;
    opened->next_due_ms = NEVER_MS;
    opened->items = malloc(sizeof(*opened->items));
    zmq_msg_init(&opened->messages[0]);
    zmq_msg_init(&opened->messages[1]);
    handle_fail(opened, CUBBY_OK, "nothing has failed");
    enum cubby_status status = connect_handle(opened, options != NULL ? options : &none);
    if (status != CUBBY_OK) {
        int error = errno;
        release(opened);
        errno = error == ENOCOMPATPROTO ? EPROTONOSUPPORT : error;
        return status;
    }
    *cubby = opened;
    return CUBBY_OK;
}

/* ---- Dispatching ---------------------------------------------------------------------------- */

/* The slot is free before the callback runs, so that what it sends may take it. */
static void answer(struct cubby *cubby, struct slot *slot, const struct cubby_reply *reply)
{
    cubby_callback *callback = slot->callback;
    void *context = slot->context;
    slots_release(&cubby->slots, slot);
    callback(context, reply);
}

static void answer_failed(struct cubby *cubby, struct slot *slot)
{
    const struct cubby_error *error = &cubby->reply_failure.error;
    struct cubby_reply reply = {.status = error->status, .error = error};
    answer(cubby, slot, &reply);
}

static void answer_failure(struct cubby *cubby, struct slot *slot, enum cubby_status status,
                           const char *message)
{
    failure_set(&cubby->reply_failure, status, "%s", message);
    answer_failed(cubby, slot);
}

static void answer_timeout(struct cubby *cubby, struct slot *slot)
{
    failure_set(&cubby->reply_failure, CUBBY_TIMEOUT,
                "no reply from %s within %" PRId64 " ms%s; the request may or may not have been "
                "carried out",
                cubby->endpoint, slot->due_ms - slot->sent_ms,
                cubby->heard_ms == 0 ? ", nor any before (is cubbyd running there?)" : "");
    answer_failed(cubby, slot);
}

/* A watch that no task has was opened by a request that had been given up. */
static void notify(struct cubby *cubby, const struct wire_notification *notification)
{
    struct wire_cursor params = wire_cursor_of(notification->params);
    uint64_t watch;
    if (tasks_notified(cubby->tasks, notification))
        return;
    if (slice_equal(notification->method, slice_of_text("watch")) &&
        results_read_counted(&params, 4) == 0 && wire_read_uint(&params, &watch) == 0)
        handle_cancel_watch(cubby, watch);
}

/*
 * Replies that nobody waits for are dropped: those of requests that have timed out, and the
 * daemon's answer to what it could not read a msgid of.
 */
static void dispatch(struct cubby *cubby, struct slice payload)
{
    struct wire_reply decoded;
    struct wire_notification notification;
    if (wire_decode_reply(payload, &decoded) != 0) {
        if (wire_decode_notification(payload, &notification) == 0)
            notify(cubby, &notification);
        return;
    }
    if (!decoded.has_msgid)
        return;
    struct slot *slot = slots_find(&cubby->slots, decoded.msgid);
    if (slot == NULL)
        return;
    struct cubby_reply reply = {.result = bytes_of_slice(decoded.result)};
    if (decoded.failed) {
        reply.status = failure_from_reply(&cubby->reply_failure, &decoded);
        reply.error = &cubby->reply_failure.error;
    }
    answer(cubby, slot, &reply);
}

/* A reply is one frame; more than one is somebody else's protocol, and goes as a whole. */
static void drop_rest(struct cubby *cubby, zmq_msg_t *message)
{
    while (zmq_msg_more(message) != 0 && zmq_msg_recv(message, cubby->socket, ZMQ_DONTWAIT) >= 0)
        ;
}

/* Takes one message: 1, 0 where there is none, -1 with errno. */
static int receive(struct cubby *cubby)
{
    zmq_msg_t *message = &cubby->messages[cubby->incoming];
    int size;
    do
        size = zmq_msg_recv(message, cubby->socket, ZMQ_DONTWAIT);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == EAGAIN ? 0 : -1;
    if (zmq_msg_more(message) != 0)
        drop_rest(cubby, message);
    else
        dispatch(cubby, slice_of(zmq_msg_data(message), (size_t)size));
    return 1;
}

/* At most one message for each request that was outstanding, until *stop; their number, or -1. */
static int receive_all(struct cubby *cubby, const bool *stop, int64_t now)
{
    size_t budget = cubby->slots.used + 1;
    int events = 0;
    while (budget > 0 && !*stop) {
        int received = receive(cubby);
        if (received < 0)
            return -1;
        if (received == 0)
            break;
        budget--;
        events++;
    }
    if (events > 0)
        cubby->heard_ms = now;
    return events;
}

/* Where a callback's request makes the table grow, the search begins again. */
static int expire_slots(struct cubby *cubby, int64_t now, int64_t *newest_sent_ms)
{
    int events = 0;
    size_t size = cubby->slots.size;
    for (size_t i = 0; i < size; i++) {
        struct slot *slot = &cubby->slots.table[i];
        if (slot->msgid == 0)
            continue;
        if (slot->due_ms > now) {
            if (slot->due_ms < cubby->next_due_ms)
                cubby->next_due_ms = slot->due_ms;
            continue;
        }
        if (slot->sent_ms > *newest_sent_ms)
            *newest_sent_ms = slot->sent_ms;
        answer_timeout(cubby, slot);
        events++;
        if (cubby->slots.size != size) {
            size = cubby->slots.size;
            i = SIZE_MAX;
        }
    }
    return events;
}

/*
 * Requests that wait in a socket whose peer is away are sent when it is back, however late. When
 * all have timed out and nothing was heard meanwhile, a new socket forgets them.
 */
static void forget_unsent(struct cubby *cubby)
{
    void *socket = connect_dealer(cubby);
    if (socket == NULL)
        return;
    sockets_close(&cubby->sockets, cubby->socket);
    cubby->socket = socket;
}

static int expire(struct cubby *cubby, int64_t now)
{
    int64_t newest_sent_ms = 0;
    if (now < cubby->next_due_ms)
        return 0;
    cubby->next_due_ms = NEVER_MS;
    int events = expire_slots(cubby, now, &newest_sent_ms);
    if (events > 0 && cubby->slots.used == 0 && cubby->heard_ms <= newest_sent_ms)
        forget_unsent(cubby);
    return events;
}

static int work_round(struct cubby *cubby, const bool *stop, int64_t now)
{
    int events = receive_all(cubby, stop, now);
    if (events < 0 || *stop)
        return events;
    events += expire(cubby, now);
    if (!*stop)
        events += tasks_work(&cubby->tasks, now);
    return events;
}

/*
 * One round over everything that can have news, without waiting; the number of events, or -1. All
 * callbacks run in here, but for those of a handle that is closed.
 */
static int work(struct cubby *cubby, const bool *stop)
{
    cubby->dispatching = true;
    int events = work_round(cubby, stop, now_ms());
    cubby->dispatching = false;
    return events;
}

static int64_t next_due_ms(const struct cubby *cubby)
{
    int64_t tasks = tasks_due_ms(cubby->tasks);
    return tasks < cubby->next_due_ms ? tasks : cubby->next_due_ms;
}

int64_t cubby_wait_ms(const struct cubby *cubby)
{
    int64_t due = cubby != NULL ? next_due_ms(cubby) : NEVER_MS;
    int64_t now = now_ms();
    if (due == NEVER_MS)
        return -1;
    return due > now ? due - now : 0;
}

/* Waits for news until `until` or until something is due. -1 with errno, EINTR among them. */
static int wait_for_news(struct cubby *cubby, int64_t until)
{
    int64_t due = next_due_ms(cubby);
    int64_t now = now_ms();
    if (until < due)
        due = until;
    if (due <= now)
        return 0;
    int64_t wait = due - now < MAX_POLL_MS ? due - now : MAX_POLL_MS;
    cubby->items[0] = (zmq_pollitem_t){.socket = cubby->socket, .events = ZMQ_POLLIN};
    size_t count = 1 + tasks_items(cubby->tasks, cubby->items + 1);
    return zmq_poll(cubby->items, (int)count, (long)wait) < 0 ? -1 : 0;
}

static int poll_until_news(struct cubby *cubby, int64_t timeout_ms)
{
    const bool never = false;
    int64_t until = due_ms(now_ms(), timeout_ms);
    int events = work(cubby, &never);
    while (events == 0 && timeout_ms != 0 && now_ms() < until) {
        if (wait_for_news(cubby, until) != 0 && errno == EINTR)
            return 0;
        events = work(cubby, &never);
    }
    if (events < 0)
        handle_fail_system(cubby, "receiving");
    return events;
}

int cubby_poll(struct cubby *cubby, int64_t timeout_ms)
{
    if (handle_may_wait(cubby, "cubby_poll") != CUBBY_OK)
        return -1;
    take(cubby, pthread_self());
    int events = poll_until_news(cubby, timeout_ms);
    take(cubby, 0);
    return events;
}

size_t cubby_outstanding(const struct cubby *cubby)
{
    return cubby != NULL ? cubby->slots.used - tasks_requests(cubby->tasks) : 0;
}

static void answer_closed(struct cubby *cubby)
{
    for (size_t i = 0; i < cubby->slots.size; i++) {
        struct slot *slot = &cubby->slots.table[i];
        if (slot->msgid != 0)
            answer_failure(cubby, slot, CUBBY_CLOSED, "the handle was closed");
    }
}

void cubby_close(struct cubby **cubby)
{
    struct cubby *closed = cubby != NULL ? *cubby : NULL;
    if (closed == NULL || is_taken(closed))
        return;
    if (closed->dispatching) {
        handle_fail(closed, CUBBY_MISUSE,
                    "cubby_close in a callback did nothing: close when cubby_poll has returned");
        return;
    }
    *cubby = NULL;
    closed->closing = true;
    closed->dispatching = true;
    answer_closed(closed);
    tasks_free(&closed->tasks);
    release(closed);
}

/* ---- Requests ------------------------------------------------------------------------------- */

bool request_begin(struct cubby *cubby, const char *method)
{
    if (cubby != NULL && is_taken(cubby))
        return false;
    if (cubby == NULL || method == NULL) {
        handle_fail(cubby, CUBBY_MISUSE, "a request without a method");
        return false;
    }
    buffer_clear(&cubby->out);
    cubby->msgid = slots_next(&cubby->slots);
    wire_pack_request(&cubby->out, cubby->msgid, method);
    return true;
}

/* A daemon disconnects who sends it more. */
static enum cubby_status refuse_size(struct cubby *cubby, size_t size)
{
    failure_set(&cubby->failure, CUBBY_TOO_LARGE,
                "a request of %zu bytes: over the limit of %d bytes, and not sent", size,
                WIRE_MAX_MESSAGE);
    cubby->failure.error.has = CUBBY_HAS_LIMIT;
    cubby->failure.error.limit = WIRE_MAX_MESSAGE;
    return CUBBY_TOO_LARGE;
}

enum cubby_status request_send(struct cubby *cubby, int64_t timeout_ms, cubby_callback *callback,
                               void *context)
{
    if (cubby->closing)
        return handle_fail(cubby, CUBBY_CLOSED, "the handle is being closed");
    if (callback == NULL)
        return handle_fail(cubby, CUBBY_MISUSE,
                           "a request without a callback: nobody would learn how it ended");
    if (cubby->msgid == 0 || cubby->out.failed)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the request");
    if (cubby->out.size > WIRE_MAX_MESSAGE)
        return refuse_size(cubby, cubby->out.size);
    if (zmq_send(cubby->socket, cubby->out.data, cubby->out.size, ZMQ_DONTWAIT) < 0)
        return sockets_are_inherited(&cubby->sockets) ? fail_forked(cubby, "a request")
                                                      : handle_fail_system(cubby, "sending");
    struct slot *slot = slots_take(&cubby->slots, cubby->msgid);
    slot->callback = callback;
    slot->context = context;
    slot->sent_ms = now_ms();
    slot->due_ms = due_ms(slot->sent_ms, timeout_ms != 0 ? timeout_ms : cubby->timeout_ms);
    if (slot->due_ms < cubby->next_due_ms)
        cubby->next_due_ms = slot->due_ms;
    return CUBBY_OK;
}

void handle_cancel_watch(struct cubby *cubby, uint64_t watch)
{
    struct buffer *out = &cubby->out;
    buffer_clear(out);
    wire_pack_notification(out, "watch.cancel");
    wire_pack_array(out, 1);
    wire_pack_uint(out, watch);
    if (!out->failed)
        zmq_send(cubby->socket, out->data, out->size, ZMQ_DONTWAIT);
}

enum cubby_status request_send_for(struct cubby *cubby, struct task *task, int64_t timeout_ms,
                                   cubby_callback *callback)
{
    enum cubby_status status = request_send(cubby, timeout_ms, callback, task);
    task->requests += status == CUBBY_OK;
    return status;
}

bool request_answered(struct task *task, const struct cubby_reply *reply)
{
    task->requests--;
    return !task->dead && reply->status != CUBBY_CLOSED;
}

/* A call that waits for its reply. */
struct wait {
    struct cubby *cubby;
    bool done;
    enum cubby_status status;
    struct cubby_bytes result;
};

static void end_wait(void *context, const struct cubby_reply *reply)
{
    struct wait *wait = context;
    wait->done = true;
    wait->status = reply->status;
    wait->result = reply->result;
    if (reply->status == CUBBY_OK)
        wait->cubby->incoming ^= 1;
    else
        failure_keep(&wait->cubby->failure, reply->error);
}

/* Gives up on a reply when the socket is of no use any more. */
static enum cubby_status abandon(struct cubby *cubby, uint64_t msgid)
{
    enum cubby_status status = handle_fail_system(cubby, "receiving");
    struct slot *slot = slots_find(&cubby->slots, msgid);
    if (slot != NULL)
        slots_release(&cubby->slots, slot);
    return status;
}

static enum cubby_status wait_for_reply(struct wait *wait, uint64_t msgid)
{
    while (!wait->done) {
        int events = work(wait->cubby, &wait->done);
        if (events < 0)
            return abandon(wait->cubby, msgid);
        if (events == 0)
            wait_for_news(wait->cubby, NEVER_MS);
    }
    return wait->status;
}

enum cubby_status request_run(struct cubby *cubby, int64_t timeout_ms, struct cubby_bytes *result)
{
    struct wait wait = {.cubby = cubby};
    enum cubby_status status = handle_may_wait(cubby, "a call that waits");
    if (status != CUBBY_OK)
        return status;
    status = request_send(cubby, timeout_ms, end_wait, &wait);
    if (status != CUBBY_OK)
        return status;
    take(cubby, pthread_self());
    status = wait_for_reply(&wait, cubby->msgid);
    take(cubby, 0);
    *result = wait.result;
    return status;
}

enum cubby_status request_read(struct cubby *cubby, enum cubby_status read)
{
    if (read == CUBBY_PROTOCOL)
        return handle_fail(cubby, read, "the reply is not what the method returns");
    if (read == CUBBY_NO_MEMORY)
        return handle_fail(cubby, read, "no memory for the result");
    return read;
}

enum cubby_status request_run_number(struct cubby *cubby, int64_t timeout_ms, uint64_t *number)
{
    struct cubby_bytes result = {0};
    uint64_t read;
    enum cubby_status status = request_run(cubby, timeout_ms, &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_count(result, &read));
    if (status == CUBBY_OK && number != NULL)
        *number = read;
    return status;
}

enum cubby_status request_run_bool(struct cubby *cubby, int64_t timeout_ms, bool *existed)
{
    struct cubby_bytes result = {0};
    bool read;
    enum cubby_status status = request_run(cubby, timeout_ms, &result);
    if (status == CUBBY_OK)
        status = request_read(cubby, cubby_read_touched(result, &read));
    if (status == CUBBY_OK && existed != NULL)
        *existed = read;
    return status;
}
