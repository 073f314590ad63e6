/*
 * A subscription is in one of three states.
 *
 *     LISTENING ──something may be missing──▶ SUSPECT ──hello──▶ ASKING ──all is here──▶ LISTENING
 *                                                ▲                  │
 *                                                └──no good answer──┘
 *
 * Only LISTENING reads the broadcast. In the other two its messages wait in the socket, which has
 * no high-water mark, so that nothing that comes while we ask is lost, and what is told twice is
 * passed over by its (seq, index).
 *
 * What a suspicion costs is a `hello`, whose seq is the target: it is read after the message that
 * made us suspicious, so whatever that message announced has a seq up to it. Then pages of
 * `changes` follow until the target is reached. The message itself need not be kept.
 *
 * A subscription to queues is always LISTENING: nobody can be asked what was announced, so a
 * suspicion is told to the program.
 */
#include <errno.h>
#include <stdlib.h>

#include "bindings/c/handle.h"
#include "bindings/c/results.h"

enum {
    SILENCE_MS = 3000, /* three heartbeats */
    RETRY_MS = 1000,   /* between questions that got no good answer */
    ASK_TIMEOUT_MS = CUBBY_DEFAULT_TIMEOUT_MS,
    BROADCAST_BUDGET = 1000, /* messages of one round */
};

enum state { LISTENING, SUSPECT, ASKING };

struct cubby_subscription {
    struct task task; /* first; its socket is a SUB */
    struct cubby *cubby;
    struct cubby_subscriber subscriber;
    struct cubby_queue_subscriber queues; /* with on_ready: it is one to queues, not to changes */
    void *context;
    struct buffer topic; /* `k` or `q`, and the prefix */
    struct buffer epoch; /* empty: not known yet */
    enum state state;
    int64_t retry_ms; /* SUSPECT: do not ask before */
    int64_t heard_ms; /* LISTENING: when the broadcast last said something */
    bool placed;      /* `done` means something */
    bool compacted;   /* the history behind `done` is gone */
    bool missed;      /* queues: to be told */
    bool has_drops;
    uint64_t drops;
    uint64_t done;     /* every change up to this seq has been delivered */
    uint64_t part_seq; /* over `done`: of this transaction, the changes below part_next too */
    uint32_t part_next;
    uint64_t target; /* ASKING: what `done` has to reach */
};

static struct slice prefix_of(const struct cubby_subscription *subscription)
{
    return buffer_slice(&subscription->topic, 1);
}

static void suspect(struct cubby_subscription *subscription, int64_t retry_ms)
{
    subscription->state = SUSPECT;
    subscription->retry_ms = retry_ms;
}

static bool is_to_queues(const struct cubby_subscription *subscription)
{
    return subscription->queues.on_ready != NULL;
}

/* Something may be missing. */
static void doubt(struct cubby_subscription *subscription)
{
    if (is_to_queues(subscription))
        subscription->missed = true;
    else
        suspect(subscription, now_ms());
}

static void go_live(struct cubby_subscription *subscription)
{
    subscription->state = LISTENING;
    subscription->heard_ms = now_ms();
}

/* ---- Delivering ----------------------------------------------------------------------------- */

static bool is_new(const struct cubby_subscription *subscription, const struct cubby_change *change)
{
    if (change->seq <= subscription->done)
        return false;
    return change->seq != subscription->part_seq || change->index >= subscription->part_next;
}

/* Only to be asked where every change is ours to see: with an empty prefix. */
static bool is_next(const struct cubby_subscription *subscription,
                    const struct cubby_change *change)
{
    if (subscription->part_seq > subscription->done)
        return change->seq == subscription->part_seq && change->index == subscription->part_next;
    return change->seq == subscription->done + 1 && change->index == 0;
}

static void deliver(struct cubby_subscription *subscription, const struct cubby_change *change)
{
    subscription->part_seq = change->seq;
    subscription->part_next = change->index + 1;
    subscription->done = change->index + 1 == change->count ? change->seq : change->seq - 1;
    subscription->subscriber.on_change(subscription->context, change);
}

/* Goes on behind the daemon's newest seq, in its epoch; the subscriber has to start afresh. */
static void reset(struct cubby_subscription *subscription, const struct cubby_server *server)
{
    struct cubby_reset told = {server->epoch, server->oldest, server->seq};
    subscription->compacted = false;
    subscription->done = server->seq;
    subscription->part_seq = 0;
    go_live(subscription);
    if (subscription->subscriber.on_reset != NULL)
        subscription->subscriber.on_reset(subscription->context, &told);
}

/* ---- Asking --------------------------------------------------------------------------------- */

static void on_changes(void *context, const struct cubby_reply *reply);

static void sent(struct cubby_subscription *subscription, enum cubby_status status)
{
    if (status != CUBBY_OK) {
        suspect(subscription, now_ms() + RETRY_MS);
        return;
    }
    subscription->state = ASKING;
}

static void ask_changes(struct cubby_subscription *subscription)
{
    struct cubby *cubby = subscription->cubby;
    struct cubby_changes_options options = {
        .since = subscription->done,
        .prefix = bytes_of_slice(prefix_of(subscription)),
        .epoch = cubby_data(subscription->epoch.data, subscription->epoch.size),
    };
    request_begin(cubby, "changes");
    params_changes(&cubby->out, &options);
    sent(subscription, request_send_for(cubby, &subscription->task, ASK_TIMEOUT_MS, on_changes));
}

/* It is asked again. A timeout has taken its time, and is nothing to tell of. */
static void refused(struct cubby_subscription *subscription, const struct cubby_error *error)
{
    suspect(subscription, now_ms() + RETRY_MS);
    if (error->status != CUBBY_TIMEOUT && subscription->subscriber.on_error != NULL)
        subscription->subscriber.on_error(subscription->context, error);
}

static void not_understood(struct cubby_subscription *subscription, const char *message)
{
    struct failure failure;
    failure_set(&failure, CUBBY_PROTOCOL, "%s", message);
    refused(subscription, &failure.error);
}

/* Common to both answers: false where the subscription is to do nothing with it. */
static bool answered(struct cubby_subscription *subscription, const struct cubby_reply *reply)
{
    suspect(subscription, now_ms());
    if (!request_answered(&subscription->task, reply))
        return false;
    if (reply->status == CUBBY_OK)
        return true;
    subscription->compacted |= reply->status == CUBBY_COMPACTED;
    if (reply->status != CUBBY_COMPACTED)
        refused(subscription, reply->error);
    return false;
}

static void deliver_page(struct cubby_subscription *subscription, struct wire_cursor rows,
                         uint32_t count)
{
    struct cubby_change change;
    for (; count > 0 && results_read_change(&rows, &change) == 0; count--) {
        if (is_new(subscription, &change))
            deliver(subscription, &change);
        if (subscription->task.dead)
            return;
    }
}

/* A page that brought us no further would be asked for again at once: later, then. */
static void take_page(struct cubby_subscription *subscription, uint64_t since, uint64_t seq)
{
    if (seq > subscription->done)
        subscription->done = seq;
    if (subscription->done >= subscription->target)
        go_live(subscription);
    else if (subscription->done > since)
        ask_changes(subscription);
    else
        suspect(subscription, now_ms() + RETRY_MS);
}

static void on_changes(void *context, const struct cubby_reply *reply)
{
    struct cubby_subscription *subscription = context;
    struct results_field fields[] = {{.name = "changes"}, {.name = "seq"}};
    uint32_t count;
    uint64_t seq;
    if (!answered(subscription, reply))
        return;
    if (results_find(reply->result, fields, 2) != 0 || !cubby_as_uint(fields[1].value, &seq)) {
        not_understood(subscription, "the reply is not what changes returns");
        return;
    }
    struct wire_cursor rows = wire_cursor_of(slice_of_bytes(fields[0].value));
    if (wire_read_array(&rows, &count) != 0) {
        not_understood(subscription, "the reply is not what changes returns");
        return;
    }
    uint64_t since = subscription->done;
    deliver_page(subscription, rows, count);
    if (!subscription->task.dead)
        take_page(subscription, since, seq);
}

static bool same_epoch(const struct cubby_subscription *subscription, struct slice epoch)
{
    return slice_equal(slice_of(subscription->epoch.data, subscription->epoch.size), epoch);
}

/* Whether the place that the subscription has is one of the daemon's history. */
static bool is_lost(const struct cubby_subscription *subscription,
                    const struct cubby_server *server)
{
    if (subscription->epoch.size > 0 && !same_epoch(subscription, slice_of_bytes(server->epoch)))
        return true;
    return subscription->placed && subscription->done > server->seq;
}

static void on_hello(void *context, const struct cubby_reply *reply)
{
    struct cubby_subscription *subscription = context;
    struct cubby_server server;
    if (!answered(subscription, reply))
        return;
    if (cubby_read_hello(reply->result, &server) != CUBBY_OK) {
        not_understood(subscription, "the reply is not what hello returns");
        return;
    }
    bool lost = subscription->compacted || is_lost(subscription, &server);
    buffer_clear(&subscription->epoch);
    buffer_append(&subscription->epoch, server.epoch.data, server.epoch.size);
    if (subscription->epoch.failed) {
        subscription->compacted = lost;
        suspect(subscription, now_ms() + RETRY_MS);
        return;
    }
    if (!subscription->placed)
        subscription->done = server.seq;
    subscription->placed = true;
    subscription->target = server.seq;
    if (lost)
        reset(subscription, &server);
    else if (subscription->done >= subscription->target)
        go_live(subscription);
    else
        ask_changes(subscription);
}

static void ask(struct cubby_subscription *subscription)
{
    struct cubby *cubby = subscription->cubby;
    request_begin(cubby, "hello");
    params_hello(&cubby->out, cubby_data(NULL, 0));
    sent(subscription, request_send_for(cubby, &subscription->task, ASK_TIMEOUT_MS, on_hello));
}

/* ---- Listening ------------------------------------------------------------------------------ */

/* Of changes the epoch is that of the place, which a hello says. */
static void note_epoch(struct cubby_subscription *subscription, struct slice epoch)
{
    if (!is_to_queues(subscription))
        return;
    buffer_clear(&subscription->epoch);
    buffer_append_slice(&subscription->epoch, epoch);
}

/* Whether what a message tells of, and so all that may be missing before it, has been delivered. */
static bool is_covered(const struct cubby_subscription *subscription, uint8_t topic,
                       struct wire_cursor params)
{
    struct cubby_change change = {0};
    int rc =
        topic == 'k' ? results_read_change(&params, &change) : wire_read_uint(&params, &change.seq);
    return rc == 0 && change.seq <= subscription->done;
}

/*
 * Reads [epoch, drops, …. False where something may be missing: the messages before the first
 * one of a connection cannot be known, so the first is always suspicious. While some subscriber
 * stalls each message has higher drops; those that waited while we asked are covered by the answer.
 */
static bool read_head(struct cubby_subscription *subscription, uint8_t topic,
                      struct wire_cursor *params)
{
    struct slice epoch;
    uint64_t drops;
    uint32_t count;
    if (wire_read_array(params, &count) != 0 || wire_read_bytes(params, &epoch) != 0 ||
        wire_read_uint(params, &drops) != 0)
        return false;
    bool first = !subscription->has_drops;
    bool raised = subscription->drops != drops;
    subscription->has_drops = true;
    subscription->drops = drops;
    if (!same_epoch(subscription, epoch)) {
        note_epoch(subscription, epoch);
        return false;
    }
    if (is_to_queues(subscription))
        return !first && !raised;
    return !first && (!raised || is_covered(subscription, topic, *params));
}

static void on_change(struct cubby_subscription *subscription, struct wire_cursor params)
{
    struct cubby_change change;
    if (results_read_change(&params, &change) != 0) {
        suspect(subscription, now_ms());
        return;
    }
    if (!is_new(subscription, &change))
        return;
    if (prefix_of(subscription).size == 0 && !is_next(subscription, &change))
        suspect(subscription, now_ms());
    else
        deliver(subscription, &change);
}

/* Whoever sees only a part of the changes learns here how far that part goes. */
static void on_heartbeat(struct cubby_subscription *subscription, struct wire_cursor params)
{
    uint64_t seq;
    if (wire_read_uint(&params, &seq) != 0 || seq <= subscription->done)
        return;
    if (prefix_of(subscription).size == 0)
        suspect(subscription, now_ms());
    else
        subscription->done = seq;
}

/* An announcement counts whatever may be missing before it. */
static void on_queue(struct cubby_subscription *subscription, struct wire_cursor params)
{
    uint64_t seq;
    struct slice queue;
    if (!is_to_queues(subscription) || wire_read_uint(&params, &seq) != 0 ||
        wire_read_bytes(&params, &queue) != 0)
        return;
    subscription->done = seq;
    subscription->queues.on_ready(subscription->context, bytes_of_slice(queue), seq);
}

/* Once for all that has come. */
static void tell_missed(struct cubby_subscription *subscription)
{
    bool missed = subscription->missed;
    subscription->missed = false;
    if (missed && !subscription->task.dead && subscription->queues.on_missed != NULL)
        subscription->queues.on_missed(subscription->context);
}

static void on_payload(struct cubby_subscription *subscription, uint8_t topic, struct slice payload)
{
    struct wire_notification notification;
    if (wire_decode_notification(payload, &notification) != 0)
        return;
    struct wire_cursor params = wire_cursor_of(notification.params);
    bool complete = read_head(subscription, topic, &params);
    if (!complete)
        doubt(subscription);
    if (topic == 'q')
        on_queue(subscription, params);
    else if (complete && topic == 'k')
        on_change(subscription, params);
    else if (complete && topic == 'h')
        on_heartbeat(subscription, params);
}

/* A topic alone is the welcome of a connection, made or made again. */
static void on_message(struct cubby_subscription *subscription, zmq_msg_t *message)
{
    const uint8_t *topic = zmq_msg_data(message);
    uint8_t first = zmq_msg_size(message) > 0 ? topic[0] : 0;
    if (zmq_msg_more(message) == 0) {
        subscription->has_drops = false;
        doubt(subscription);
        return;
    }
    int size = zmq_msg_recv(message, subscription->task.socket, ZMQ_DONTWAIT);
    if (size >= 0 && zmq_msg_more(message) == 0)
        on_payload(subscription, first, slice_of(zmq_msg_data(message), (size_t)size));
    while (zmq_msg_more(message) != 0 &&
           zmq_msg_recv(message, subscription->task.socket, ZMQ_DONTWAIT) >= 0)
        ;
}

/* zmq_msg_data of an empty message may be anything; a topic is never empty. */
static int read_broadcast(struct cubby_subscription *subscription, int64_t now)
{
    int events = 0;
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (events < BROADCAST_BUDGET && subscription->state == LISTENING &&
           !subscription->task.dead) {
        if (zmq_msg_recv(&message, subscription->task.socket, ZMQ_DONTWAIT) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        subscription->heard_ms = now;
        on_message(subscription, &message);
        events++;
    }
    zmq_msg_close(&message);
    return events;
}

/* A descriptor goes on telling of news until libzmq has looked at it. */
static void quiet(const struct cubby_subscription *subscription)
{
    int events;
    size_t size = sizeof(events);
    if (subscription->cubby->sockets.fd >= 0)
        zmq_getsockopt(subscription->task.socket, ZMQ_EVENTS, &events, &size);
}

/* ---- The task ------------------------------------------------------------------------------- */

static int work(struct task *task, int64_t now)
{
    struct cubby_subscription *subscription = (struct cubby_subscription *)task;
    int events = 0;
    if (subscription->state == LISTENING)
        events = read_broadcast(subscription, now);
    if (task->dead)
        return events;
    if (subscription->state == LISTENING && now - subscription->heard_ms >= SILENCE_MS) {
        subscription->heard_ms = now;
        doubt(subscription);
    }
    tell_missed(subscription);
    if (subscription->state == SUSPECT && now_ms() >= subscription->retry_ms) {
        ask(subscription);
        events++;
    }
    if (subscription->state != LISTENING)
        quiet(subscription);
    return events;
}

static int64_t next_due_ms(const struct task *task)
{
    const struct cubby_subscription *subscription = (const struct cubby_subscription *)task;
    if (subscription->state == LISTENING)
        return subscription->heard_ms + SILENCE_MS;
    return subscription->state == SUSPECT ? subscription->retry_ms : NEVER_MS;
}

static bool listens(const struct task *task)
{
    return ((const struct cubby_subscription *)task)->state == LISTENING;
}

static void free_subscription(struct task *task)
{
    struct cubby_subscription *subscription = (struct cubby_subscription *)task;
    if (task->socket != NULL)
        sockets_close(&subscription->cubby->sockets, task->socket);
    buffer_free(&subscription->topic);
    buffer_free(&subscription->epoch);
    free(subscription);
}

/* ---- Subscribing ---------------------------------------------------------------------------- */

static int connect_sub(struct cubby_subscription *subscription)
{
    struct cubby *cubby = subscription->cubby;
    const struct buffer *topic = &subscription->topic;
    void *socket = sockets_make(&cubby->sockets, ZMQ_SUB);
    if (socket == NULL)
        return -1;
    if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, topic->data, topic->size) != 0 ||
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "h", 1) != 0 ||
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "w", 1) != 0) {
        zmq_close(socket);
        return -1;
    }
    if (sockets_connect(&cubby->sockets, socket, cubby->broadcast) != 0)
        return -1;
    subscription->task.socket = socket;
    return 0;
}

static int set_place(struct cubby_subscription *subscription, struct cubby_bytes prefix,
                     const struct cubby_subscribe_options *options)
{
    buffer_append(&subscription->topic, is_to_queues(subscription) ? "q" : "k", 1);
    buffer_append_slice(&subscription->topic, slice_of_bytes(prefix));
    if (options != NULL && options->has_since) {
        subscription->placed = true;
        subscription->done = options->since;
        buffer_append_slice(&subscription->epoch, slice_of_bytes(options->epoch));
    }
    return subscription->topic.failed || subscription->epoch.failed ? -1 : 0;
}

static enum cubby_status fail_connect(struct cubby *cubby)
{
    const char *fault = cubby_endpoint_fault(cubby->broadcast);
    if (fault == NULL)
        return handle_fail_system(cubby, cubby->broadcast);
    return failure_set(&cubby->failure, CUBBY_SYSTEM, "the broadcast's endpoint '%s': %s",
                       cubby->broadcast, fault);
}

static enum cubby_status begin(const struct cubby_subscription *wanted, struct cubby_bytes prefix,
                               const struct cubby_subscribe_options *options,
                               struct cubby_subscription **subscription)
{
    struct cubby *cubby = wanted->cubby;
    size_t limit = is_to_queues(wanted) ? WIRE_MAX_QUEUE_NAME : WIRE_MAX_KEY;
    if (handle_check_prefix(cubby, prefix, limit) != CUBBY_OK)
        return CUBBY_TOO_LARGE;
    struct cubby_subscription *made = malloc(sizeof(*made));
    if (made == NULL)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the subscription");
    *made = *wanted;
    made->task = (struct task){
        .listens = listens, .work = work, .due_ms = next_due_ms, .free = free_subscription};
    if (is_to_queues(made))
        go_live(made);
    else
        suspect(made, 0);
    if (set_place(made, prefix, options) != 0 || handle_reserve_item(cubby) != 0) {
        free_subscription(&made->task);
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the subscription");
    }
    if (connect_sub(made) != 0) {
        enum cubby_status status = fail_connect(cubby);
        free_subscription(&made->task);
        return status;
    }
    tasks_add(&cubby->tasks, &made->task);
    if (subscription != NULL)
        *subscription = made;
    return CUBBY_OK;
}

enum cubby_status cubby_subscribe(struct cubby *cubby, struct cubby_bytes prefix,
                                  const struct cubby_subscriber *subscriber, void *context,
                                  struct cubby_subscription **subscription,
                                  const struct cubby_subscribe_options *options)
{
    if (cubby == NULL || subscriber == NULL || subscriber->on_change == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "a subscriber without on_change");
    const struct cubby_subscription wanted = {
        .cubby = cubby, .subscriber = *subscriber, .context = context};
    return begin(&wanted, prefix, options, subscription);
}

enum cubby_status cubby_subscribe_queues(struct cubby *cubby, struct cubby_bytes prefix,
                                         const struct cubby_queue_subscriber *subscriber,
                                         void *context, struct cubby_subscription **subscription)
{
    if (cubby == NULL || subscriber == NULL || subscriber->on_ready == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "a subscriber without on_ready");
    const struct cubby_subscription wanted = {
        .cubby = cubby, .queues = *subscriber, .context = context};
    return begin(&wanted, prefix, NULL, subscription);
}

/* The handle frees it: this may be one of its own callbacks, and a reply may be on its way. */
void cubby_unsubscribe(struct cubby_subscription **subscription)
{
    if (subscription == NULL || *subscription == NULL)
        return;
    (*subscription)->task.dead = true;
    *subscription = NULL;
}

struct cubby_position cubby_subscription_position(const struct cubby_subscription *subscription)
{
    if (subscription == NULL)
        return (struct cubby_position){0};
    return (struct cubby_position){
        .epoch = cubby_data(subscription->epoch.data, subscription->epoch.size),
        .seq = subscription->done,
        .live = subscription->state == LISTENING,
    };
}
