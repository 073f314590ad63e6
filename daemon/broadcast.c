#include "daemon/broadcast.h"

#include <sys/random.h>
#include <zmq.h>

#include "daemon/backlog.h"
#include "daemon/method.h"
#include "daemon/stored.h"
#include "daemon/subscriptions.h"

enum { FIRST_MESSAGES = 64 };

/* A message that waits for its turn to be committed: where it is in `bytes`. */
struct message {
    uint64_t seq;
    size_t offset;
    uint32_t topic_size;
    uint32_t change_size;
};

struct messages {
    struct message *items;
    size_t count;
    size_t capacity;
    size_t sent;
};

struct broadcast {
    void *socket;
    struct store *store;
    struct store_history *history;
    struct counters *counters;
    struct backlog backlog;
    size_t max_backlog;
    struct subscriptions subscriptions;
    uint64_t gathered_seq;
    struct buffer bytes;     /* topic and encoded change of each message, one behind the other */
    struct messages changes; /* both in the order of their seqs */
    struct messages queues;  /* topics only */
    struct buffer head;      /* [2, "change", [epoch, drops, …: what all changes begin with */
    uint64_t head_drops;
    struct buffer scratch;
    bool used; /* the socket, since it was last read to its end */
};

static void pack_head(struct buffer *out, const char *method, const struct broadcast *broadcast,
                      uint32_t count)
{
    wire_pack_notification(out, method);
    wire_pack_array(out, count);
    wire_pack_text(out, store_epoch(broadcast->store));
    wire_pack_uint(out, broadcast->counters->drops);
}

/* Drops are raised before the next message, so the head is made anew when they were. */
static void refresh_head(struct broadcast *broadcast)
{
    if (broadcast->head.size > 0 && broadcast->head_drops == broadcast->counters->drops)
        return;
    buffer_clear(&broadcast->head);
    pack_head(&broadcast->head, "change", broadcast, 3);
    broadcast->head_drops = broadcast->counters->drops;
}

struct broadcast *broadcast_new(void *socket, struct store *store, struct counters *counters,
                                size_t max_backlog)
{
    uint64_t seed = 0;
    struct broadcast *broadcast = calloc(1, sizeof *broadcast);
    if (broadcast == NULL)
        return NULL;
    (void)!getrandom(&seed, sizeof seed, 0);
    subscriptions_init(&broadcast->subscriptions, seed);
    broadcast->socket = socket;
    broadcast->store = store;
    broadcast->counters = counters;
    broadcast->max_backlog = max_backlog;
    broadcast->gathered_seq = store_seq(store);
    if (store_history_open(store, &broadcast->history) == 0)
        return broadcast;
    free(broadcast);
    return NULL;
}

void broadcast_free(struct broadcast **pointer)
{
    struct broadcast *broadcast = *pointer;
    if (broadcast == NULL)
        return;
    store_history_close(&broadcast->history);
    subscriptions_free(&broadcast->subscriptions);
    buffer_free(&broadcast->bytes);
    buffer_free(&broadcast->head);
    buffer_free(&broadcast->scratch);
    free(broadcast->changes.items);
    free(broadcast->queues.items);
    free(broadcast);
    *pointer = NULL;
}

bool broadcast_wants_queues(const struct broadcast *broadcast)
{
    return broadcast->subscriptions.queues > 0;
}

/* Whether a peer has sent the message, and not libzmq made it at a connection's end. */
static bool is_sent(zmq_msg_t *message)
{
    return zmq_msg_get(message, ZMQ_SRCFD) >= 0;
}

void broadcast_receive(struct broadcast *broadcast)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (zmq_msg_recv(&message, broadcast->socket, ZMQ_DONTWAIT) >= 0)
        subscriptions_note(&broadcast->subscriptions,
                           slice_of(zmq_msg_data(&message), zmq_msg_size(&message)),
                           !is_sent(&message));
    zmq_msg_close(&message);
    broadcast->used = false;
}

void broadcast_end_turn(struct broadcast *broadcast)
{
    if (broadcast->used)
        broadcast_receive(broadcast);
}

static bool add_message(struct messages *messages, const struct message *message)
{
    if (messages->count == messages->capacity) {
        size_t capacity = messages->capacity > 0 ? 2 * messages->capacity : FIRST_MESSAGES;
        struct message *items = realloc(messages->items, capacity * sizeof *items);
        if (items == NULL)
            return false;
        messages->items = items;
        messages->capacity = capacity;
    }
    messages->items[messages->count++] = *message;
    return true;
}

/* False where it could not be: subscribers will notice by `drops`, and catch up. */
static bool gather_change(struct broadcast *broadcast, const struct store_history_change *change)
{
    static const uint8_t topic = TOPIC_CHANGE;
    struct buffer *bytes = &broadcast->bytes;
    size_t start = bytes->size;
    buffer_append(bytes, &topic, sizeof topic);
    buffer_append_slice(bytes, change->key);
    size_t end_of_topic = bytes->size;
    if (!bytes->failed &&
        !subscriptions_want(&broadcast->subscriptions,
                            slice_of(bytes->data + start, end_of_topic - start))) {
        bytes->size = start;
        return true;
    }
    if (stored_pack_change(bytes, change) != 0 || bytes->failed)
        return false;
    const struct message message = {.seq = change->seq,
                                    .offset = start,
                                    .topic_size = (uint32_t)(end_of_topic - start),
                                    .change_size = (uint32_t)(bytes->size - end_of_topic)};
    return add_message(&broadcast->changes, &message);
}

static bool gather_queue(struct broadcast *broadcast, uint64_t seq, struct slice queue)
{
    static const uint8_t topic = TOPIC_QUEUE;
    struct buffer *bytes = &broadcast->bytes;
    const struct message message = {
        .seq = seq, .offset = bytes->size, .topic_size = (uint32_t)(sizeof topic + queue.size)};
    buffer_append(bytes, &topic, sizeof topic);
    buffer_append_slice(bytes, queue);
    if (bytes->failed)
        return false;
    if (subscriptions_want(&broadcast->subscriptions,
                           slice_of(bytes->data + message.offset, message.topic_size)))
        return add_message(&broadcast->queues, &message);
    bytes->size = message.offset;
    return true;
}

static void gather_queues(struct broadcast *broadcast, struct buffer *news)
{
    bool complete = !news->failed;
    for (size_t at = 0; at < news->size;) {
        struct queue_news item;
        memcpy(&item, news->data + at, sizeof item);
        at += sizeof item;
        complete =
            gather_queue(broadcast, item.seq, slice_of(news->data + at, item.size)) && complete;
        at += item.size;
    }
    if (!complete)
        broadcast->counters->drops++;
    buffer_restart(news);
}

static void gather_changes(struct broadcast *broadcast)
{
    struct store *store = broadcast->store;
    struct store_history_change change;
    uint64_t since = broadcast->gathered_seq;
    broadcast->gathered_seq = store_seq(store);
    if (broadcast->subscriptions.changes == 0 || since == store_seq(store))
        return;
    int rc = store_history_seek(broadcast->history, since);
    while (rc == 0 && (rc = store_history_next(broadcast->history, &change)) == 0)
        if (!gather_change(broadcast, &change))
            break;
    if (rc != STORE_NOT_FOUND)
        broadcast->counters->drops++;
}

void broadcast_gather(struct broadcast *broadcast, struct buffer *queue_news)
{
    gather_changes(broadcast);
    gather_queues(broadcast, queue_news);
}

static void set_no_drop(struct broadcast *broadcast, int no_drop)
{
    (void)zmq_setsockopt(broadcast->socket, ZMQ_XPUB_NODROP, &no_drop, sizeof no_drop);
}

/*
 * With NODROP the socket refuses a frame that some subscriber has no room for. Then the others
 * get it all the same, and true says that somebody did not.
 */
static bool send_frame(struct broadcast *broadcast, zmq_msg_t *frame, int flags)
{
    if (zmq_msg_send(frame, broadcast->socket, flags | ZMQ_DONTWAIT) >= 0)
        return false;
    set_no_drop(broadcast, 0);
    if (zmq_msg_send(frame, broadcast->socket, flags | ZMQ_DONTWAIT) < 0)
        zmq_msg_close(frame);
    return true;
}

/* Sends a message, and never waits. The frames are closed. */
static void send_message(struct broadcast *broadcast, zmq_msg_t *topic, zmq_msg_t *payload)
{
    bool dropped = send_frame(broadcast, topic, ZMQ_SNDMORE);
    broadcast->used = true;
    dropped = send_frame(broadcast, payload, 0) || dropped;
    if (!dropped)
        return;
    broadcast->counters->drops++;
    set_no_drop(broadcast, 1);
}

/* A message of these bytes: a topic, and a payload in two parts. */
static void send_parts(struct broadcast *broadcast, struct slice topic, struct slice head,
                       struct slice rest)
{
    zmq_msg_t topic_frame;
    zmq_msg_t payload;
    if (zmq_msg_init_size(&topic_frame, topic.size) != 0)
        goto err_no_memory;
    if (backlog_message(&broadcast->backlog, &payload, head, rest) != 0) {
        zmq_msg_close(&topic_frame);
        goto err_no_memory;
    }
    memcpy(zmq_msg_data(&topic_frame), topic.data, topic.size);
    send_message(broadcast, &topic_frame, &payload);
    return;

err_no_memory:
    broadcast->counters->drops++;
}

/* Whether one more may wait. Where not, nobody gets it: libzmq does not say who is slow. */
static bool has_room(const struct broadcast *broadcast)
{
    return backlog_bytes(&broadcast->backlog) < broadcast->max_backlog;
}

static void send_change(struct broadcast *broadcast, const struct message *message)
{
    const uint8_t *topic = broadcast->bytes.data + message->offset;
    refresh_head(broadcast);
    if (broadcast->head.failed || !has_room(broadcast)) {
        broadcast->counters->drops++;
        return;
    }
    send_parts(broadcast, slice_of(topic, message->topic_size), buffer_slice(&broadcast->head, 0),
               slice_of(topic + message->topic_size, message->change_size));
}

static void send_queue(struct broadcast *broadcast, const struct message *message)
{
    const uint8_t *topic = broadcast->bytes.data + message->offset;
    struct buffer *out = &broadcast->scratch;
    buffer_clear(out);
    pack_head(out, "queue", broadcast, 4);
    wire_pack_uint(out, message->seq);
    wire_pack_key(out, slice_of(topic + 1, message->topic_size - 1));
    if (out->failed || !has_room(broadcast))
        broadcast->counters->drops++;
    else
        send_parts(broadcast, slice_of(topic, message->topic_size), buffer_slice(out, 0),
                   (struct slice){0});
}

/* The next one to send, if its seq is not beyond. */
static const struct message *next_of(const struct messages *messages, uint64_t seq)
{
    if (messages->sent == messages->count || messages->items[messages->sent].seq > seq)
        return NULL;
    return &messages->items[messages->sent];
}

bool broadcast_has_news(const struct broadcast *broadcast)
{
    return broadcast->changes.sent < broadcast->changes.count ||
           broadcast->queues.sent < broadcast->queues.count;
}

void broadcast_send(struct broadcast *broadcast, uint64_t seq)
{
    struct messages *changes = &broadcast->changes;
    struct messages *queues = &broadcast->queues;
    for (;;) {
        const struct message *change = next_of(changes, seq);
        const struct message *queue = next_of(queues, seq);
        if (change != NULL && (queue == NULL || change->seq <= queue->seq)) {
            changes->sent++;
            send_change(broadcast, change);
        } else if (queue != NULL) {
            queues->sent++;
            send_queue(broadcast, queue);
        } else {
            break;
        }
    }
    if (!broadcast_has_news(broadcast))
        broadcast_drop(broadcast);
}

void broadcast_drop(struct broadcast *broadcast)
{
    broadcast->changes.count = broadcast->changes.sent = 0;
    broadcast->queues.count = broadcast->queues.sent = 0;
    buffer_restart(&broadcast->bytes);
    broadcast->gathered_seq = store_seq(broadcast->store);
}

size_t broadcast_waiting(const struct broadcast *broadcast)
{
    return backlog_bytes(&broadcast->backlog);
}

void broadcast_heartbeat(struct broadcast *broadcast)
{
    static const uint8_t topic = TOPIC_HEARTBEAT;
    struct buffer *out = &broadcast->scratch;
    buffer_clear(out);
    pack_head(out, "heartbeat", broadcast, 4);
    wire_pack_uint(out, store_seq(broadcast->store));
    wire_pack_uint(out, store_oldest(broadcast->store));
    if (!out->failed)
        send_parts(broadcast, slice_of(&topic, sizeof topic), buffer_slice(out, 0),
                   (struct slice){0});
}
