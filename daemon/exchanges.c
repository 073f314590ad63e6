#include "daemon/exchanges.h"

#include <errno.h>

#include "daemon/clock.h"
#include "daemon/deferred.h"
#include "daemon/inbox.h"
#include "daemon/waits.h"

/* A request of this turn, and its reply where it has one. */
struct exchange {
    struct router_message *message; /* without its payload, once that is carried out */
    enum wire_answer answer;
    uint64_t msgid;
    size_t offset; /* of the reply in exchanges->replies */
    size_t size;
    size_t first; /* so many messages of the outbox leave before it */
    uint64_t seq; /* newest as of the reply; the changes up to it leave right behind */
    uint64_t tag; /* for service_undelivered */

    bool is_long;     /* it might have taken long, so the next two are known */
    uint64_t took_us; /* to carry out */
    size_t wrote;     /* bytes of log */
};

/* A request that was read and is not yet carried out. */
struct arrival {
    bool executable;
    struct wire_request request; /* views of the exchange's message */
};

_Static_assert((size_t)INBOX_MAX_REQUESTS + DEFERRED_MAX_REQUESTS + TURN_MAX_REQUESTS <=
                   ROUTER_MAX_MESSAGES,
               "there is a message for each that is read");

struct exchanges {
    struct router *router;
    struct service *service;
    struct store *store;
    struct inbox *inbox;
    struct deferred *deferred;

    uint64_t turn_us;   /* when this turn began, */
    uint64_t time_ms;   /* and what time it has */
    uint64_t work_us;   /* how long it took to carry out what it has so far */
    uint64_t commit_us; /* how long the last commit took */

    struct exchange *items; /* of this turn */
    size_t count;
    size_t of_long;           /* how many are long */
    struct arrival *arrivals; /* EXCHANGES_WINDOW of them */
    struct arrival *held;     /* one of them that waits for the next turn, or NULL */
    size_t held_at;           /* its exchange */
    bool syncs;               /* a commit waits for the disk */
    bool had_few;             /* the last turn had one request, or none, */
    bool has_few;             /* and so has this one, it seems */
    bool gave_way;            /* the turn carries out a deferred request that is heavy */
    bool stopping;

    struct buffer replies;
    size_t outbox_sent; /* messages of the outbox that have left */
};

struct exchanges *exchanges_new(struct router *router, struct service *service, bool syncs)
{
    struct exchanges *exchanges = calloc(1, sizeof *exchanges);
    if (exchanges == NULL)
        return NULL;
    exchanges->router = router;
    exchanges->service = service;
    exchanges->store = service->store;
    exchanges->syncs = syncs;
    exchanges->items = calloc(TURN_MAX_REQUESTS, sizeof *exchanges->items);
    exchanges->arrivals = calloc(EXCHANGES_WINDOW, sizeof *exchanges->arrivals);
    exchanges->inbox = inbox_new();
    exchanges->deferred = deferred_new();
    if (exchanges->items == NULL || exchanges->arrivals == NULL || exchanges->inbox == NULL ||
        exchanges->deferred == NULL)
        exchanges_free(&exchanges);
    return exchanges;
}

void exchanges_free(struct exchanges **pointer)
{
    struct exchanges *exchanges = *pointer;
    if (exchanges == NULL)
        return;
    inbox_free(&exchanges->inbox);
    deferred_free(&exchanges->deferred);
    buffer_free(&exchanges->replies);
    free(exchanges->items);
    free(exchanges->arrivals);
    free(exchanges);
    *pointer = NULL;
}

size_t exchanges_count(const struct exchanges *exchanges)
{
    return exchanges->count;
}

/* Reading: what is no good request is answered at once. */

static void refuse_frames(struct exchanges *exchanges, struct arrival *arrival)
{
    arrival->executable = false;
    arrival->request.answer = WIRE_ANSWER_NIL;
    service_refuse(exchanges->service, &arrival->request, WIRE_BAD_REQUEST,
                   "a request is one frame, or an empty one and one", &exchanges->replies);
}

static void read_request(struct exchanges *exchanges, struct exchange *exchange,
                         struct arrival *arrival, struct router_message *message)
{
    exchange->message = message;
    exchange->offset = exchanges->replies.size;
    if (message->well_framed)
        arrival->executable = service_read(exchanges->service, message->bytes, &exchanges->replies,
                                           &arrival->request);
    else
        refuse_frames(exchanges, arrival);
    exchange->answer = arrival->request.answer;
    exchange->msgid = arrival->request.msgid;
    exchange->tag = 0;
    exchange->first = 0;
    exchange->is_long = false;
    exchange->size = exchanges->replies.size - exchange->offset;
}

enum taken { NOTHING, A_REQUEST, A_DEFERRED_ONE };

/* Takes one message, if any is left; its bytes are added to `bytes`. */
static enum taken take_request(struct exchanges *exchanges, struct exchange *exchange,
                               struct arrival *arrival, size_t *bytes)
{
    struct counters *counters = exchanges->service->counters;
    struct router_message *message = inbox_take(exchanges->inbox);
    if (message == NULL)
        return NOTHING;
    *bytes += message->bytes.size;
    counters->requests++;
    if (deferred_offer(exchanges->deferred, message, exchanges->turn_us)) {
        counters->deferred++;
        return A_DEFERRED_ONE;
    }
    read_request(exchanges, exchange, arrival, message);
    return A_REQUEST;
}

/* Carrying out. */

static void connection_ended(void *context, int file)
{
    struct exchanges *exchanges = context;
    watches_connection_ended(exchanges->service->watches, file);
    waits_connection_ended(exchanges->service, file);
}

void exchanges_read_connections(struct exchanges *exchanges)
{
    struct connections *connections = exchanges->router->connections;
    connections_read(connections, connection_ended, exchanges);
    exchanges->service->counters->connections = connections_count(connections);
}

/*
 * Which connection the request came by. What was said of an earlier one with the same number is
 * read before: it must not end what begins here.
 */
static int connection_of(struct exchanges *exchanges, const struct exchange *exchange)
{
    exchanges_read_connections(exchanges);
    return router_connection(exchange->message);
}

/* Of requests that concern a watch it is to be known before they are carried out. */
static bool concerns_watch(enum wire_method method)
{
    return method == WIRE_METHOD_WATCH || method == WIRE_METHOD_WATCH_CREDIT;
}

/* The request waits, and not longer than its connection lasts. */
static void note_wait(struct exchanges *exchanges, const struct exchange *exchange)
{
    int connection = connection_of(exchanges, exchange);
    waits_came_by(exchanges->service, exchange->message->id, exchange->msgid, connection);
}

/* Of what may take long it is noted how long it took. */
static struct service_answer execute(struct exchanges *exchanges, struct exchange *exchange,
                                     struct arrival *arrival)
{
    const struct wire_request *request = &arrival->request;
    const struct peer peer = {
        .id = exchange->message->id,
        .empty_frame = exchange->message->empty_frame,
        .connection = concerns_watch(request->method) ? connection_of(exchanges, exchange) : 0};
    exchange->is_long = deferred_may_take_long(request);
    if (!exchange->is_long)
        return service_execute(exchanges->service, request, &peer, exchanges->time_ms,
                               &exchanges->replies);
    size_t pending = store_pending(exchanges->store);
    uint64_t begin_us = clock_us();
    struct service_answer answer = service_execute(exchanges->service, request, &peer,
                                                   exchanges->time_ms, &exchanges->replies);
    exchange->took_us = clock_us() - begin_us;
    exchange->wrote = store_pending(exchanges->store) - pending;
    exchanges->of_long++;
    return answer;
}

static void carry_out(struct exchanges *exchanges, struct exchange *exchange,
                      struct arrival *arrival)
{
    if (arrival->executable) {
        exchange->offset = exchanges->replies.size;
        struct service_answer answer = execute(exchanges, exchange, arrival);
        exchange->size = exchanges->replies.size - exchange->offset;
        exchange->tag = answer.tag;
        exchange->first = answer.first;
        if (answer.later) {
            note_wait(exchanges, exchange);
            exchange->answer = WIRE_ANSWER_NONE;
        }
    }
    exchange->seq = store_seq(exchanges->store);
    router_drop_payload(exchange->message);
}

/*
 * Whether the request waits for the next turn, because it is to see only what is committed. It
 * stays where it is, since what was read of it are views of the message.
 */
static bool hold(struct exchanges *exchanges, size_t taken)
{
    struct arrival *arrival = &exchanges->arrivals[taken];
    if (!arrival->executable || (wire_method_flags(arrival->request.method) & WIRE_FIRST) == 0 ||
        (exchanges->count + taken == 0 && store_pending(exchanges->store) == 0))
        return false;
    exchanges->held = arrival;
    exchanges->held_at = exchanges->count + taken;
    return true;
}

static void carry_out_held(struct exchanges *exchanges)
{
    struct exchange *first = &exchanges->items[0];
    if (exchanges->held == NULL)
        return;
    *first = exchanges->items[exchanges->held_at];
    carry_out(exchanges, first, exchanges->held);
    exchanges->held = NULL;
    exchanges->count = 1;
}

/* Where a commit waits for the disk, looking for who could share it is worth its cost. */
void exchanges_begin(struct exchanges *exchanges, uint64_t now_us, uint64_t time_ms, bool waited)
{
    exchanges->has_few = waited && exchanges->had_few && !exchanges->syncs;
    exchanges->turn_us = now_us;
    exchanges->time_ms = time_ms;
    exchanges->work_us = 0;
    carry_out_held(exchanges);
}

/* Draining: which requests a turn takes, and in what order. */

static void prefetch(struct exchanges *exchanges, size_t taken)
{
    struct slice keys[EXCHANGES_WINDOW];
    unsigned count = 0;
    for (size_t i = 0; i < taken; i++) {
        const struct arrival *arrival = &exchanges->arrivals[i];
        if (arrival->executable && arrival->request.args.key.size > 0)
            keys[count++] = arrival->request.args.key;
    }
    service_prefetch(exchanges->service, keys, count);
}

/* Whether waiting for the disk is no more than half of such a turn, if it is as slow as last. */
static bool is_worth_a_sync(const struct exchanges *exchanges, size_t count)
{
    return count >= TURN_ENOUGH_TO_SYNC && exchanges->work_us >= exchanges->commit_us;
}

/*
 * Whether the turn ends here, if it has so many requests. One that waits for the disk takes more,
 * so that it waits less often, but nobody twice: who has much must not hold up who comes now.
 */
static bool has_enough(const struct exchanges *exchanges, size_t count)
{
    if (count < TURN_ENOUGH || !inbox_changes_peer(exchanges->inbox))
        return false;
    return !exchanges->syncs || inbox_went_round(exchanges->inbox) ||
           store_pending(exchanges->store) == 0 || is_worth_a_sync(exchanges, count);
}

/*
 * A few requests are read before the first is carried out: what they look for is then loaded from
 * memory at the same time, which takes about as long as for one of them. Of large ones fewer, since
 * each may be a turn's work. False: no more were waiting.
 */
static bool drain_window(struct exchanges *exchanges)
{
    struct exchange *items = exchanges->items + exchanges->count;
    struct arrival *arrivals = exchanges->arrivals;
    size_t taken = 0;
    size_t bytes = 0;
    bool more = !deferred_is_full(exchanges->deferred);
    while (more && taken < EXCHANGES_WINDOW && bytes < EXCHANGES_WINDOW_BYTES &&
           !has_enough(exchanges, exchanges->count + taken)) {
        enum taken what = take_request(exchanges, &items[taken], &arrivals[taken], &bytes);
        more = what == A_REQUEST ? !hold(exchanges, taken)
                                 : what == A_DEFERRED_ONE && !deferred_is_full(exchanges->deferred);
        taken += what == A_REQUEST && more;
    }
    prefetch(exchanges, taken);
    for (size_t i = 0; i < taken; i++)
        carry_out(exchanges, &items[i], &arrivals[i]);
    exchanges->count += taken;
    return more;
}

static bool has_room(const struct exchanges *exchanges)
{
    return exchanges->count + EXCHANGES_WINDOW <= TURN_MAX_REQUESTS &&
           !has_enough(exchanges, exchanges->count) &&
           exchanges->replies.size + outbox_size(&exchanges->service->outbox) < TURN_MAX_BYTES &&
           store_pending(exchanges->store) < TURN_MAX_BYTES;
}

static bool is_heavy(const struct exchange *exchange)
{
    return exchange->is_long &&
           (exchange->took_us >= DEFERRED_HEAVY_US || exchange->wrote >= DEFERRED_LARGE);
}

/* Carries out one of the deferred requests; false where none is due. */
static bool take_deferred(struct exchanges *exchanges)
{
    struct exchange *exchange = &exchanges->items[exchanges->count];
    struct arrival *arrival = &exchanges->arrivals[0];
    struct router_message *message =
        deferred_take(exchanges->deferred, !exchanges->gave_way, exchanges->turn_us);
    if (message == NULL)
        return false;
    read_request(exchanges, exchange, arrival, message);
    if (hold(exchanges, 0))
        return false;
    carry_out(exchanges, exchange, arrival);
    exchanges->count++;
    exchanges->gave_way = exchanges->gave_way || is_heavy(exchange);
    return true;
}

/*
 * What was deferred and is due. A heavy one has the turn without those in the inbox, who then have
 * the next one without such.
 */
static void drain_deferred(struct exchanges *exchanges)
{
    bool had_turn = exchanges->gave_way;
    while (exchanges->held == NULL && has_room(exchanges) && take_deferred(exchanges))
        continue;
    if (had_turn)
        exchanges->gave_way = false;
}

/* Reads what came during the turn, once all that was there has been served. */
static void read_ahead(struct exchanges *exchanges)
{
    if (!exchanges->stopping && inbox_went_round(exchanges->inbox))
        inbox_fill(exchanges->inbox, exchanges->router);
}

void exchanges_drain(struct exchanges *exchanges)
{
    drain_deferred(exchanges);
    if (exchanges->gave_way || exchanges->held != NULL)
        return;
    inbox_begin_turn(exchanges->inbox);
    if (!exchanges->stopping && exchanges->has_few)
        (void)inbox_read(exchanges->inbox, exchanges->router);
    else if (!exchanges->stopping)
        inbox_fill(exchanges->inbox, exchanges->router);
    while (exchanges->work_us < TURN_MAX_DRAIN_US && has_room(exchanges) &&
           drain_window(exchanges)) {
        read_ahead(exchanges);
        exchanges->work_us = clock_us() - exchanges->turn_us;
    }
    inbox_end_turn(exchanges->inbox, exchanges->count,
                   exchanges->work_us >= TURN_MAX_DRAIN_US ||
                       deferred_is_full(exchanges->deferred));
}

/* The commit's outcome. */

void exchanges_charge_commit(struct exchanges *exchanges, uint64_t took_us, size_t wrote)
{
    exchanges->commit_us = took_us;
    for (size_t i = 0; exchanges->of_long > 0 && i < exchanges->count; i++) {
        struct exchange *exchange = &exchanges->items[i];
        if (exchange->is_long && exchange->wrote >= DEFERRED_LARGE)
            exchange->took_us += took_us * exchange->wrote / wrote;
    }
}

/* The reply becomes this error. */
static void refuse(struct exchanges *exchanges, struct exchange *exchange, enum wire_code code,
                   const char *message)
{
    struct wire_request request = {.answer = exchange->answer, .msgid = exchange->msgid};
    exchange->offset = exchanges->replies.size;
    service_refuse(exchanges->service, &request, code, message, &exchanges->replies);
    exchange->size = exchanges->replies.size - exchange->offset;
    exchange->seq = store_seq(exchanges->store);
}

void exchanges_fail(struct exchanges *exchanges, enum wire_code code, const char *message)
{
    buffer_clear(&exchanges->replies);
    for (size_t i = 0; i < exchanges->count; i++)
        refuse(exchanges, &exchanges->items[i], code, message);
}

/* Flushing. */

/* Who asked for much gives way from now on. */
static void charge_peers(struct exchanges *exchanges)
{
    if (exchanges->of_long == 0)
        return;
    uint64_t now_us = clock_us();
    for (size_t i = 0; i < exchanges->count; i++) {
        struct exchange *exchange = &exchanges->items[i];
        if (exchange->is_long)
            deferred_charge(exchanges->deferred, exchange->message->id, exchange->took_us, now_us);
    }
    exchanges->of_long = 0;
}

static void note_undelivered(struct exchanges *exchanges, uint64_t tag, int reason)
{
    exchanges->service->counters->undelivered++;
    if (tag != 0)
        service_undelivered(exchanges->service, tag, reason == EHOSTUNREACH);
}

/* Sends the reply, where there is one. The exchange is over. */
static void send_reply(struct exchanges *exchanges, struct exchange *exchange)
{
    struct slice reply = slice_of(exchanges->replies.data + exchange->offset, exchange->size);
    if (exchange->answer == WIRE_ANSWER_NONE) {
        router_give_back(exchanges->router, exchange->message);
        return;
    }
    int reason = router_reply(exchanges->router, exchange->message, reply);
    if (reason != 0)
        note_undelivered(exchanges, exchange->tag, reason);
}

/* Sends the messages of the outbox before number `end` that are still there. */
static void send_outbox_to(struct exchanges *exchanges, size_t end)
{
    struct outbox *outbox = &exchanges->service->outbox;
    while (exchanges->outbox_sent < end && exchanges->outbox_sent < outbox->count) {
        struct outbox_message message = outbox_message(outbox, exchanges->outbox_sent++);
        int reason = router_send_to(exchanges->router, &message.peer, message.payload);
        if (reason != 0)
            note_undelivered(exchanges, message.tag, reason);
    }
}

void exchanges_send_outbox(struct exchanges *exchanges)
{
    send_outbox_to(exchanges, SIZE_MAX);
    outbox_truncate(&exchanges->service->outbox, 0);
    exchanges->outbox_sent = 0;
}

void exchanges_flush(struct exchanges *exchanges, struct broadcast *broadcast)
{
    bool active = exchanges->count > 0;
    bool news = broadcast_has_news(broadcast); /* mostly nobody subscribes */
    charge_peers(exchanges);
    for (size_t i = 0; i < exchanges->count; i++) {
        struct exchange *exchange = &exchanges->items[i];
        if (exchange->first > exchanges->outbox_sent)
            send_outbox_to(exchanges, exchange->first);
        send_reply(exchanges, exchange);
        if (news)
            broadcast_send(broadcast, exchange->seq);
    }
    broadcast_send(broadcast, UINT64_MAX);
    exchanges_send_outbox(exchanges);
    exchanges->had_few = exchanges->count <= 1;
    exchanges->count = 0;
    buffer_restart(&exchanges->replies);
    if (active)
        deferred_end_turn(exchanges->deferred, clock_us());
}

/* Waiting and stopping. */

uint64_t exchanges_due_us(const struct exchanges *exchanges)
{
    if (exchanges->held != NULL || inbox_count(exchanges->inbox) > 0)
        return 0;
    return deferred_due_us(exchanges->deferred);
}

void exchanges_stop(struct exchanges *exchanges)
{
    exchanges->stopping = true;
    deferred_stop(exchanges->deferred);
}

/* Answers a request that was read. What is wrong with it has been said already. */
static void turn_away(struct exchanges *exchanges, struct exchange *exchange,
                      struct arrival *arrival, enum wire_code code, const char *message)
{
    if (arrival->executable)
        refuse(exchanges, exchange, code, message);
    router_drop_payload(exchange->message);
    send_reply(exchanges, exchange);
    buffer_restart(&exchanges->replies);
}

void exchanges_turn_away(struct exchanges *exchanges, enum wire_code code, const char *message)
{
    struct exchange *exchange = &exchanges->items[0];
    struct arrival *arrival = &exchanges->arrivals[0];
    if (exchanges->held != NULL)
        turn_away(exchanges, &exchanges->items[exchanges->held_at], exchanges->held, code, message);
    exchanges->held = NULL;
    exchanges_stop(exchanges);
    for (;;) {
        struct router_message *waiting =
            deferred_take(exchanges->deferred, true, exchanges->turn_us);
        if (waiting == NULL)
            waiting = inbox_take(exchanges->inbox);
        if (waiting == NULL)
            break;
        read_request(exchanges, exchange, arrival, waiting);
        turn_away(exchanges, exchange, arrival, code, message);
    }
}

bool exchanges_are_done(const struct exchanges *exchanges)
{
    return exchanges->held == NULL && inbox_count(exchanges->inbox) == 0 &&
           deferred_count(exchanges->deferred) == 0;
}
