#include "daemon/waits.h"

#include "daemon/stored.h"
#include "wire/reply.h"

static void pack_job(struct buffer *out, const struct job *job, bool pop)
{
    wire_pack_array(out, pop ? 3 : 7);
    wire_pack_uint(out, job->id);
    wire_pack_key(out, job->queue);
    wire_pack_object(out, job->body);
    if (pop)
        return;
    wire_pack_uint(out, job->lease);
    wire_pack_uint(out, job->deliveries);
    wire_pack_uint(out, job->priority);
    wire_pack_uint(out, job->pushed_at_ms);
}

static int note_job(struct service *service, const struct hand_out *what, const struct job *job)
{
    bool noted = what->tag == 0 || deliveries_add(&service->deliveries, what->tag, job);
    return noted ? 0 : STORE_NO_MEMORY;
}

/* Whether a further job still fits into a message, however large it is. */
static bool has_room(const struct buffer *out, size_t start)
{
    return out->size - start <= WIRE_MAX_MESSAGE - WIRE_MAX_VALUE - WIRE_MAX_KEY;
}

int waits_hand_out(struct service *service, struct slice queue, const struct hand_out *what,
                   struct buffer *out, uint32_t *taken)
{
    struct job job;
    size_t start = out->size;
    *taken = 0;
    int rc = queue_take(service->queues, queue, what->pop, what->lease_ms, &job);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    bool one = what->count == 1;
    size_t place = 0;
    if (one)
        wire_pack_array(out, 1);
    else
        place = wire_pack_array_later(out);
    do {
        ++*taken;
        pack_job(out, &job, what->pop); /* its views end with the next one */
        rc = note_job(service, what, &job);
        if (rc != 0 || *taken == what->count || !has_room(out, start))
            break;
        rc = queue_take(service->queues, queue, what->pop, what->lease_ms, &job);
    } while (rc == 0);
    if (!one)
        wire_set_array_count(out, place, *taken);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* Waiting. */

enum wire_code waits_begin(struct call *call)
{
    const struct wire_args *args = call->args;
    struct slice queues[WIRE_MAX_QUEUES];
    struct wire_cursor names = args->queues;
    uint64_t now_ms = store_now(call->service->store);
    const struct wait wait = {
        .peer = call->peer->id,
        .msgid = call->request->msgid,
        .empty_frame = call->peer->empty_frame,
        .pop = call->request->method == WIRE_METHOD_QUEUE_POP,
        .count = args->count,
        .lease_ms = args->lease_ms,
        .deadline_ms = args->wait_ms == WIRE_FOREVER ? QUEUE_FOREVER : now_ms + args->wait_ms,
    };
    for (uint32_t i = 0; i < args->queue_count; i++)
        wire_next_queue(&names, &queues[i]);
    int rc = waiters_add(call->service->waiters, &wait, queues, args->queue_count);
    if (rc != WAITERS_BUSY)
        return rc == 0 ? WIRE_OK : stored_fail(call->error, rc);
    wire_fail(call->error, WIRE_BUSY,
              "%d requests wait already, or name too many queues; "
              "ask again later, without a wait",
              WIRE_MAX_WAITERS);
    call->error->has = WIRE_DETAIL_LIMIT;
    call->error->limit = WIRE_MAX_WAITERS;
    return WIRE_BUSY;
}

/* Those of one client with one msgid that came before are of the same connection. */
void waits_came_by(struct service *service, struct slice peer, uint64_t msgid, int connection)
{
    struct waiter *waiter = waiters_find(service->waiters, peer, msgid);
    if (waiter != NULL && connection > 0)
        waiters_connect(service->waiters, waiter, connection);
}

void waits_connection_ended(struct service *service, int connection)
{
    (void)waiters_remove_connection(service->waiters, connection);
}

static struct peer peer_of(const struct wait *wait)
{
    return (struct peer){.id = wait->peer, .empty_frame = wait->empty_frame};
}

/* False where memory is out: it goes on waiting. */
static bool end_empty(struct service *service, struct waiter *waiter)
{
    const struct wait *wait = waiter_wait(waiter);
    const struct peer peer = peer_of(wait);
    struct buffer *payload = outbox_begin(&service->outbox, &peer);
    wire_pack_reply(payload, wait->msgid);
    wire_pack_array(payload, 0);
    if (!outbox_end(&service->outbox, 0))
        return false;
    waiters_remove(service->waiters, waiter);
    return true;
}

static bool end_with_error(struct service *service, struct waiter *waiter, int store_code)
{
    const struct wait *wait = waiter_wait(waiter);
    const struct peer peer = peer_of(wait);
    const struct wire_request request = {.answer = WIRE_ANSWER_MSGID, .msgid = wait->msgid};
    struct wire_error error;
    stored_fail(&error, store_code);
    wire_pack_error_reply(outbox_begin(&service->outbox, &peer), &request, &error);
    if (!outbox_end(&service->outbox, 0)) {
        service->unmatched = true; /* the next turn tries again */
        return false;
    }
    service->counters->errors++;
    waiters_remove(service->waiters, waiter);
    return true;
}

bool waits_cancel(struct service *service, const struct peer *peer, uint64_t msgid)
{
    bool any = false;
    struct waiter *waiter;
    while ((waiter = waiters_find(service->waiters, peer->id, msgid)) != NULL &&
           end_empty(service, waiter))
        any = true;
    return any;
}

/* Of the first of its queues that has any. */
static int hand_out_to(struct service *service, struct waiter *waiter, uint64_t tag,
                       struct buffer *out, uint32_t *taken)
{
    const struct wait *wait = waiter_wait(waiter);
    const struct hand_out what = {wait->pop, wait->count, wait->lease_ms, tag};
    struct slice queue;
    int rc = 0;
    *taken = 0;
    for (uint32_t i = 0; rc == 0 && *taken == 0; i++) {
        queue = waiter_queue(waiter, i);
        if (queue.data == NULL)
            break;
        rc = waits_hand_out(service, queue, &what, out, taken);
    }
    return rc;
}

/* Gives the waiter its jobs, if there are any. Whether it has been answered. */
static bool serve(struct service *service, struct waiter *waiter)
{
    const struct wait *wait = waiter_wait(waiter);
    const struct peer peer = peer_of(wait);
    uint64_t tag = deliveries_begin(&service->deliveries);
    uint32_t taken;
    struct buffer *payload = outbox_begin(&service->outbox, &peer);
    wire_pack_reply(payload, wait->msgid);
    store_begin(service->store, store_now(service->store));
    int rc = hand_out_to(service, waiter, tag, payload, &taken);
    if (rc == 0 && payload->failed)
        rc = STORE_NO_MEMORY;
    rc = method_end_transaction(service, rc);
    if (rc == 0 && taken > 0) {
        if (outbox_end(&service->outbox, tag)) {
            waiters_remove(service->waiters, waiter);
            return true;
        }
        deliveries_return(&service->deliveries, tag); /* out of memory: it goes on waiting */
        return false;
    }
    outbox_take_back(&service->outbox);
    if (rc == 0)
        return false;
    deliveries_take_back(&service->deliveries, tag);
    return end_with_error(service, waiter, rc);
}

/* Notes that the broadcast is to say so. */
static void announce(struct service *service, struct slice queue)
{
    struct buffer *news = &service->queue_news;
    struct queue_news item = {.seq = store_seq(service->store), .size = (uint8_t)queue.size};
    if (!service->announce || !buffer_reserve(news, sizeof item + queue.size))
        return;
    buffer_append(news, &item, sizeof item);
    buffer_append_slice(news, queue);
}

static void wake(void *context, struct slice queue)
{
    struct service *service = context;
    struct waiter *waiter;
    announce(service, queue);
    do
        waiter = waiters_first(service->waiters, queue);
    while (waiter != NULL && serve(service, waiter));
}

void waits_wake(struct service *service)
{
    queues_awoken(service->queues, wake, service);
}

void waits_wake_all(struct service *service)
{
    struct waiter *waiter = waiters_oldest(service->waiters);
    while (waiter != NULL) {
        struct waiter *newer = waiters_newer(waiter);
        (void)serve(service, waiter);
        waiter = newer;
    }
}

void waits_expire(struct service *service, uint64_t now_ms)
{
    struct waiter *waiter;
    for (unsigned i = 0; i < WAITS_MAX_ENDED; i++) {
        waiter = waiters_due(service->waiters, now_ms);
        if (waiter == NULL || !end_empty(service, waiter))
            return;
    }
}

void waits_stop(struct service *service)
{
    struct waiter *waiter;
    do
        waiter = waiters_oldest(service->waiters);
    while (waiter != NULL && end_empty(service, waiter));
}

/* Replies in the outbox are the ends of waits; an empty one is right all the same. */
static void refuse(struct service *service, const struct outbox_message *message,
                   const struct wire_error *error)
{
    struct wire_reply reply;
    if (wire_decode_reply(message->payload, &reply) != 0)
        return;
    const struct wire_request request = {.answer = WIRE_ANSWER_MSGID, .msgid = reply.msgid};
    struct buffer *payload = outbox_begin(&service->outbox, &message->peer);
    if (message->tag == 0) {
        buffer_append_slice(payload, message->payload);
    } else {
        wire_pack_error_reply(payload, &request, error);
        service->counters->errors++;
    }
    (void)outbox_end(&service->outbox, 0);
}

void waits_abandon(struct service *service, enum wire_code code, const char *text)
{
    struct outbox before = service->outbox;
    struct wire_error error;
    wire_fail(&error, code, "%s", text);
    service->outbox = (struct outbox){0};
    for (size_t i = 0; i < before.count; i++) {
        struct outbox_message message = outbox_message(&before, i);
        refuse(service, &message, &error);
    }
    outbox_free(&before);
    deliveries_clear(&service->deliveries);
    buffer_clear(&service->queue_news);
}
