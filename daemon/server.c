#include "daemon/server.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "daemon/broadcast.h"
#include "daemon/connections.h"
#include "daemon/deferred.h"
#include "daemon/eviction.h"
#include "daemon/payloads.h"
#include "daemon/service.h"
#include "daemon/sockets.h"

/* A request of this turn, and its reply where it has one. */
struct exchange {
    zmq_msg_t peer;   /* routing id */
    bool empty_frame; /* before the payload, as REQ sends it and wants it back */
    enum wire_answer answer;
    uint64_t msgid;
    size_t offset; /* of the reply in server->replies */
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
    zmq_msg_t payload;
    bool executable;
    struct wire_request request;
};

struct server {
    const struct config *config;
    const struct journal *journal;
    struct store *store;
    int signal_fd;
    void *zmq;
    void *requests;
    void *publish;
    struct broadcast *broadcast;
    struct connections *connections;
    struct deferred *deferred;
    struct service service;
    struct counters counters;

    uint64_t turn_us;      /* when this turn began, monotonic */
    uint64_t start_us;     /* likewise the daemon */
    uint64_t start_ms;     /* wall clock at the same moment, or the store's time if later */
    uint64_t heartbeat_us; /* when the next one is due, monotonic */
    uint64_t sync_us;      /* likewise the next fsync of `interval` */
    bool unsynced;         /* something was committed since the last */

    uint64_t request_us;        /* when a turn had requests last */
    uint64_t history_us;        /* up to when the time for reading history has been counted, */
    int64_t history_allowed_us; /* and what is left of it */

    uint64_t checkpoint_us; /* when the next one is due by time; UINT64_MAX: never */
    uint64_t began_us;      /* when the last was begun */
    struct store_checkpoints checkpoints;

    struct exchange *exchanges; /* of this turn */
    size_t count;
    size_t of_one;            /* the newest of them that are all of one peer, as far as we look */
    struct arrival *arrivals; /* SERVER_WINDOW of them */
    struct arrival *held;     /* one of them that waits for the next turn, or NULL */
    size_t held_at;           /* its exchange */
    bool gave_way;            /* the turn carries out a deferred request that is heavy */
    size_t of_long;           /* exchanges that are long */
    bool stopping;
    struct buffer replies;
    struct payloads payloads; /* of what is sent to peers */
    size_t outbox_sent;       /* messages of the outbox that have left */

    char listening[SOCKETS_MAX_ENDPOINTS_TEXT];
    char publishing[SOCKETS_MAX_ENDPOINTS_TEXT];
};

/* Time. It cannot jump: the wall clock counts once, at the start. */

static uint64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t now_ms(const struct server *server, uint64_t monotonic)
{
    return server->start_ms + (monotonic - server->start_us) / 1000;
}

static void set_checkpoint_time(struct server *server, uint64_t now_us)
{
    uint64_t interval_s = server->config->checkpoint_interval_s;
    server->checkpoint_us = UINT64_MAX;
    if (interval_s > 0 && server->config->data != NULL)
        server->checkpoint_us = now_us + interval_s * 1000000;
}

/* Opening and closing. */

static void warn_of_public(const struct server *server, const struct endpoints *endpoints)
{
    for (int i = 0; i < endpoints->count; i++)
        if (sockets_is_public(endpoints->names[i]))
            journal_say(server->journal, JOURNAL_WARNING,
                        "%s can be reached from other machines, by anyone and unencrypted",
                        endpoints->names[i]);
}

static int open_sockets(struct server *server, char *error)
{
    const struct config *config = server->config;
    server->zmq = zmq_ctx_new();
    if (server->zmq != NULL)
        server->requests = sockets_new_requests(server->zmq);
    if (server->requests != NULL)
        server->publish = sockets_new_broadcast(server->zmq);
    if (server->publish != NULL)
        server->connections = connections_watch(server->zmq, server->requests);
    if (server->connections == NULL) {
        snprintf(error, SERVER_MAX_ERROR, "cannot make the sockets: %s", zmq_strerror(errno));
        return -1;
    }
    if (sockets_bind(server->publish, &config->publish, server->publishing, error,
                     SERVER_MAX_ERROR) != 0 ||
        sockets_bind(server->requests, &config->listen, server->listening, error,
                     SERVER_MAX_ERROR) != 0)
        return -1;
    warn_of_public(server, &config->listen);
    warn_of_public(server, &config->publish);
    return 0;
}

static void start_clock(struct server *server)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    server->start_us = monotonic_us();
    server->start_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    if (server->start_ms < store_now(server->store))
        server->start_ms = store_now(server->store);
    server->heartbeat_us = server->start_us;
    set_checkpoint_time(server, server->start_us);
}

struct server *server_new(const struct config *config, struct store *store,
                          const struct journal *journal, int signal_fd, char *error)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        snprintf(error, SERVER_MAX_ERROR, "out of memory");
        return NULL;
    }
    server->config = config;
    server->store = store;
    server->journal = journal;
    server->signal_fd = signal_fd;
    start_clock(server);
    struct store_error store_error = {.message = "out of memory"};
    int rc =
        service_init(&server->service, store, &server->counters, server->start_ms, &store_error);
    if (rc == 0)
        eviction_begin(&server->service, server->start_ms);
    server->service.durability = config_durability_name(config->durability);
    payloads_init(&server->payloads);
    server->exchanges = calloc(TURN_MAX_REQUESTS, sizeof *server->exchanges);
    server->arrivals = calloc(SERVER_WINDOW, sizeof *server->arrivals);
    server->deferred = deferred_new();
    if (rc != 0 || server->exchanges == NULL || server->arrivals == NULL ||
        server->deferred == NULL)
        snprintf(error, SERVER_MAX_ERROR, "%s", store_error.message);
    else if (open_sockets(server, error) == 0) {
        server->broadcast =
            broadcast_new(server->publish, store, &server->counters, config->publish_queue);
        if (server->broadcast != NULL)
            return server;
        snprintf(error, SERVER_MAX_ERROR, "out of memory");
    }
    server_free(&server);
    return NULL;
}

void server_describe(const struct server *server, char *text, size_t size)
{
    snprintf(text, size, "requests on %s, broadcast on %s", server->listening, server->publishing);
}

void server_free(struct server **pointer)
{
    struct server *server = *pointer;
    if (server == NULL)
        return;
    service_free(&server->service);
    connections_free(&server->connections);
    deferred_free(&server->deferred);
    if (server->requests != NULL)
        zmq_close(server->requests);
    if (server->publish != NULL)
        zmq_close(server->publish);
    if (server->zmq != NULL)
        zmq_ctx_term(server->zmq);
    broadcast_free(&server->broadcast);
    payloads_end(&server->payloads);
    buffer_free(&server->replies);
    free(server->exchanges);
    free(server->arrivals);
    free(server);
    *pointer = NULL;
}

/* Drain: take what is waiting and carry it out. */

/* One message, read to its end; -1 where none is waiting. */
static int receive(struct server *server, struct deferred_message *message)
{
    zmq_msg_t *payload = message->payload;
    if (zmq_msg_recv(message->peer, server->requests, ZMQ_DONTWAIT) < 0)
        return -1;
    (void)zmq_msg_recv(payload, server->requests, ZMQ_DONTWAIT);
    message->empty_frame = false;
    message->well_framed = !zmq_msg_more(payload);
    if (message->well_framed)
        return 0;
    message->empty_frame = zmq_msg_size(payload) == 0;
    (void)zmq_msg_recv(payload, server->requests, ZMQ_DONTWAIT);
    message->well_framed = message->empty_frame && !zmq_msg_more(payload);
    while (zmq_msg_more(payload))
        (void)zmq_msg_recv(payload, server->requests, ZMQ_DONTWAIT);
    return 0;
}

static void refuse_frames(struct server *server, struct arrival *arrival)
{
    arrival->executable = false;
    arrival->request.answer = WIRE_ANSWER_NIL;
    service_refuse(&server->service, &arrival->request, WIRE_BAD_REQUEST,
                   "a request is one frame, or an empty one and one", &server->replies);
}

/* Reads the request of a message, and answers it at once where it is no good one. */
static void read_request(struct server *server, struct exchange *exchange, struct arrival *arrival,
                         const struct deferred_message *message)
{
    zmq_msg_t *payload = &arrival->payload;
    exchange->offset = server->replies.size;
    if (message->well_framed)
        arrival->executable =
            service_read(&server->service, slice_of(zmq_msg_data(payload), zmq_msg_size(payload)),
                         &server->replies, &arrival->request);
    else
        refuse_frames(server, arrival);
    exchange->empty_frame = message->empty_frame;
    exchange->answer = arrival->request.answer;
    exchange->msgid = arrival->request.msgid;
    exchange->tag = 0;
    exchange->first = 0;
    exchange->is_long = false;
    exchange->size = server->replies.size - exchange->offset;
}

enum taken { NOTHING, A_REQUEST, A_DEFERRED_ONE };

/* The message that the two are of. Its parts become empty ones. */
static struct deferred_message begin_message(struct exchange *exchange, struct arrival *arrival)
{
    zmq_msg_init(&exchange->peer);
    zmq_msg_init(&arrival->payload);
    return (struct deferred_message){.peer = &exchange->peer, .payload = &arrival->payload};
}

/* Takes one message, if any is waiting; its bytes are added to `bytes`. */
static enum taken take_request(struct server *server, struct exchange *exchange,
                               struct arrival *arrival, size_t *bytes)
{
    struct deferred_message message = begin_message(exchange, arrival);
    if (receive(server, &message) != 0)
        return NOTHING;
    *bytes += zmq_msg_size(&arrival->payload);
    server->counters.requests++;
    if (deferred_offer(server->deferred, &message, server->turn_us)) {
        server->counters.deferred++;
        return A_DEFERRED_ONE;
    }
    read_request(server, exchange, arrival, &message);
    return A_REQUEST;
}

static void connection_ended(void *context, int file)
{
    struct server *server = context;
    watches_connection_ended(server->service.watches, file);
}

static void read_connections(struct server *server)
{
    connections_read(server->connections, connection_ended, server);
    server->counters.connections = connections_count(server->connections);
}

/*
 * Which connection a request that concerns a watch came by; 0 for others. What was said of an
 * earlier one with the same number is read before: it must not end what begins here.
 */
static int connection_of(struct server *server, struct arrival *arrival)
{
    enum wire_method method = arrival->request.method;
    if (method != WIRE_METHOD_WATCH && method != WIRE_METHOD_WATCH_CREDIT)
        return 0;
    read_connections(server);
    int file = zmq_msg_get(&arrival->payload, ZMQ_SRCFD);
    return file > 0 ? file : 0;
}

/* Of what may take long it is noted how long it took. */
static struct service_answer execute(struct server *server, struct exchange *exchange,
                                     struct arrival *arrival, uint64_t time_ms)
{
    const struct wire_request *request = &arrival->request;
    const struct peer peer = {
        .id = slice_of(zmq_msg_data(&exchange->peer), zmq_msg_size(&exchange->peer)),
        .empty_frame = exchange->empty_frame,
        .connection = connection_of(server, arrival)};
    exchange->is_long = deferred_may_take_long(request);
    if (!exchange->is_long)
        return service_execute(&server->service, request, &peer, time_ms, &server->replies);
    size_t pending = store_pending(server->store);
    uint64_t begin_us = monotonic_us();
    struct service_answer answer =
        service_execute(&server->service, request, &peer, time_ms, &server->replies);
    exchange->took_us = monotonic_us() - begin_us;
    exchange->wrote = store_pending(server->store) - pending;
    server->of_long++;
    return answer;
}

static void carry_out(struct server *server, struct exchange *exchange, struct arrival *arrival,
                      uint64_t time_ms)
{
    if (arrival->executable) {
        exchange->offset = server->replies.size;
        struct service_answer answer = execute(server, exchange, arrival, time_ms);
        exchange->size = server->replies.size - exchange->offset;
        exchange->tag = answer.tag;
        exchange->first = answer.first;
        if (answer.later)
            exchange->answer = WIRE_ANSWER_NONE;
    }
    exchange->seq = store_seq(server->store);
    zmq_msg_close(&arrival->payload);
}

static void prefetch(struct server *server, size_t taken)
{
    struct slice keys[SERVER_WINDOW];
    unsigned count = 0;
    for (size_t i = 0; i < taken; i++)
        if (server->arrivals[i].executable && server->arrivals[i].request.args.key.size > 0)
            keys[count++] = server->arrivals[i].request.args.key;
    service_prefetch(&server->service, keys, count);
}

/*
 * Whether the request waits for the next turn, because it is to see only what is committed. It
 * stays where it is, since what was read of it are views of the message.
 */
static bool hold(struct server *server, size_t taken)
{
    struct arrival *arrival = &server->arrivals[taken];
    if (!arrival->executable || (wire_method_flags(arrival->request.method) & WIRE_FIRST) == 0 ||
        (server->count + taken == 0 && store_pending(server->store) == 0))
        return false;
    server->held = arrival;
    server->held_at = server->count + taken;
    return true;
}

static void carry_out_held(struct server *server, uint64_t time_ms)
{
    struct exchange *first = &server->exchanges[0];
    struct exchange *held = &server->exchanges[server->held_at];
    if (server->held == NULL)
        return;
    if (held != first) { /* it is where nothing but expiries made it wait */
        zmq_msg_init(&first->peer);
        zmq_msg_move(&first->peer, &held->peer);
        first->empty_frame = held->empty_frame;
        first->answer = held->answer;
        first->msgid = held->msgid;
        first->tag = 0;
        first->first = 0;
        first->is_long = false;
    }
    carry_out(server, first, server->held, time_ms);
    server->held = NULL;
    server->count = 1;
}

/*
 * The last two requests of the turn are of the same peer. libzmq takes requests from all peers in
 * turns, so nobody else was waiting then.
 */
static bool serves_one(const struct server *server)
{
    if (server->count < 2)
        return false;
    zmq_msg_t *last = &server->exchanges[server->count - 1].peer;
    zmq_msg_t *before = &server->exchanges[server->count - 2].peer;
    return slice_equal(slice_of(zmq_msg_data(last), zmq_msg_size(last)),
                       slice_of(zmq_msg_data(before), zmq_msg_size(before)));
}

/*
 * A few requests are read before the first is carried out: what they look for is then loaded from
 * memory at the same time, which takes about as long as for one of them. Of large ones fewer, since
 * each may be a turn's work. False: no more were waiting.
 */
static bool drain_window(struct server *server, uint64_t time_ms)
{
    struct exchange *exchanges = server->exchanges + server->count;
    size_t taken = 0;
    size_t bytes = 0;
    bool more = !deferred_is_full(server->deferred);
    while (more && taken < SERVER_WINDOW && bytes < SERVER_WINDOW_BYTES) {
        enum taken what = take_request(server, &exchanges[taken], &server->arrivals[taken], &bytes);
        more = what == A_REQUEST ? !hold(server, taken)
                                 : what == A_DEFERRED_ONE && !deferred_is_full(server->deferred);
        taken += what == A_REQUEST && more;
    }
    prefetch(server, taken);
    for (size_t i = 0; i < taken; i++)
        carry_out(server, &exchanges[i], &server->arrivals[i], time_ms);
    server->count += taken;
    server->of_one = serves_one(server) ? server->of_one + taken : 0;
    return more;
}

static bool has_room(const struct server *server)
{
    return server->count + SERVER_WINDOW <= TURN_MAX_REQUESTS && server->of_one < TURN_MAX_OF_ONE &&
           server->replies.size + outbox_size(&server->service.outbox) < TURN_MAX_BYTES &&
           store_pending(server->store) < TURN_MAX_BYTES;
}

static bool is_heavy(const struct exchange *exchange)
{
    return exchange->is_long &&
           (exchange->took_us >= DEFERRED_HEAVY_US || exchange->wrote >= DEFERRED_LARGE);
}

/* Carries out one of the deferred requests; false where none is due. */
static bool take_deferred(struct server *server, uint64_t time_ms)
{
    struct exchange *exchange = &server->exchanges[server->count];
    struct arrival *arrival = &server->arrivals[0];
    struct deferred_message message = begin_message(exchange, arrival);
    if (!deferred_take(server->deferred, !server->gave_way, server->turn_us, &message))
        return false;
    read_request(server, exchange, arrival, &message);
    if (hold(server, 0))
        return false;
    carry_out(server, exchange, arrival, time_ms);
    server->count++;
    server->gave_way = server->gave_way || is_heavy(exchange);
    return true;
}

/*
 * What was deferred and is due. A heavy one has the turn without those in libzmq, who then have the
 * next one without such.
 */
static void drain_deferred(struct server *server, uint64_t time_ms)
{
    bool had_turn = server->gave_way;
    while (server->held == NULL && has_room(server) && take_deferred(server, time_ms))
        continue;
    if (had_turn)
        server->gave_way = false;
}

static void drain(struct server *server, uint64_t time_ms)
{
    server->of_one = 0;
    drain_deferred(server, time_ms);
    if (server->gave_way || server->held != NULL || server->stopping)
        return;
    while (has_room(server) && drain_window(server, time_ms) &&
           monotonic_us() - server->turn_us < TURN_MAX_DRAIN_US)
        continue;
}

/* Commit. */

/* The turn has come to nothing: every reply becomes this error. */
static void fail_turn(struct server *server, enum wire_code code, const char *message)
{
    store_abandon(server->store);
    service_abandon(&server->service, code, message);
    broadcast_drop(server->broadcast);
    buffer_clear(&server->replies);
    for (size_t i = 0; i < server->count; i++) {
        struct exchange *exchange = &server->exchanges[i];
        struct wire_request request = {.answer = exchange->answer, .msgid = exchange->msgid};
        exchange->offset = server->replies.size;
        service_refuse(&server->service, &request, code, message, &server->replies);
        exchange->size = server->replies.size - exchange->offset;
        exchange->seq = store_seq(server->store);
    }
}

/* Of a commit what much of it was written for is part of its work. */
static void charge_commit(struct server *server, uint64_t took_us, size_t wrote)
{
    for (size_t i = 0; server->of_long > 0 && i < server->count; i++) {
        struct exchange *exchange = &server->exchanges[i];
        if (exchange->is_long && exchange->wrote >= DEFERRED_LARGE)
            exchange->took_us += took_us * exchange->wrote / wrote;
    }
}

/* Who asked for much gives way from now on. */
static void charge_peers(struct server *server)
{
    if (server->of_long == 0)
        return;
    uint64_t now_us = monotonic_us();
    for (size_t i = 0; i < server->count; i++) {
        struct exchange *exchange = &server->exchanges[i];
        if (exchange->is_long)
            deferred_charge(server->deferred,
                            slice_of(zmq_msg_data(&exchange->peer), zmq_msg_size(&exchange->peer)),
                            exchange->took_us, now_us);
    }
    server->of_long = 0;
}

static int commit_store(struct server *server)
{
    if (store_pending(server->store) == 0)
        return store_commit(server->store);
    server->unsynced = true;
    size_t wrote = store_pending(server->store);
    uint64_t before_us = monotonic_us();
    int rc = store_commit(server->store);
    uint64_t now_us = monotonic_us();
    histogram_add(&server->counters.commit_us, now_us - before_us);
    charge_commit(server, now_us - before_us, wrote);
    return rc;
}

static int commit(struct server *server, uint64_t time_ms)
{
    int rc = service_end_turn(&server->service, time_ms);
    broadcast_gather(server->broadcast, &server->service.queue_news);
    if (rc == 0)
        rc = commit_store(server);
    if (rc == 0)
        service_commit(&server->service);
    if (rc == STORE_FULL)
        fail_turn(server, WIRE_STORAGE_FULL, "the disk is full; nothing was done");
    if (rc == STORE_NO_MEMORY)
        fail_turn(server, WIRE_STORAGE_FULL, "the daemon is out of memory; nothing was done");
    if (rc == 0 || rc == STORE_FULL || rc == STORE_NO_MEMORY)
        return 0;
    fail_turn(server, WIRE_UNAVAILABLE,
              "the disk failed and the daemon stops; whether a write was carried out is unknown");
    return -1;
}

/* Flush. */

/*
 * Sends the payload to the peer, which is closed. Else, EHOSTUNREACH: the peer has left; EAGAIN: it
 * does not read; ENOMEM.
 */
static int send_to(struct server *server, zmq_msg_t *peer, bool empty_frame, struct slice bytes)
{
    zmq_msg_t payload;
    if (bytes.size == 0 || payloads_fill(&server->payloads, &payload, bytes) != 0) {
        zmq_msg_close(peer);
        return ENOMEM;
    }
    if (zmq_msg_send(peer, server->requests, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int reason = errno;
        zmq_msg_close(peer);
        zmq_msg_close(&payload);
        return reason;
    }
    if (empty_frame)
        (void)zmq_send(server->requests, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (zmq_msg_send(&payload, server->requests, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&payload);
    return 0;
}

static void note_undelivered(struct server *server, uint64_t tag, int reason)
{
    server->counters.undelivered++;
    if (tag != 0)
        service_undelivered(&server->service, tag, reason == EHOSTUNREACH);
}

static void send_reply(struct server *server, struct exchange *exchange)
{
    struct slice reply = slice_of(server->replies.data + exchange->offset, exchange->size);
    int reason = send_to(server, &exchange->peer, exchange->empty_frame, reply);
    if (reason != 0)
        note_undelivered(server, exchange->tag, reason);
}

/* Sends the messages of the outbox before number `end` that are still there. */
static void send_outbox_to(struct server *server, size_t end)
{
    struct outbox *outbox = &server->service.outbox;
    while (server->outbox_sent < end && server->outbox_sent < outbox->count) {
        struct outbox_message message = outbox_message(outbox, server->outbox_sent++);
        struct slice id = message.peer.id;
        zmq_msg_t peer;
        int reason = ENOMEM;
        if (zmq_msg_init_size(&peer, id.size) == 0) {
            memcpy(zmq_msg_data(&peer), id.data, id.size);
            reason = send_to(server, &peer, message.peer.empty_frame, message.payload);
        }
        if (reason != 0)
            note_undelivered(server, message.tag, reason);
    }
}

static void send_outbox(struct server *server)
{
    send_outbox_to(server, SIZE_MAX);
    outbox_truncate(&server->service.outbox, 0);
    server->outbox_sent = 0;
}

static void flush(struct server *server)
{
    for (size_t i = 0; i < server->count; i++) {
        struct exchange *exchange = &server->exchanges[i];
        uint64_t seq = exchange->seq;
        send_outbox_to(server, exchange->first);
        if (exchange->answer != WIRE_ANSWER_NONE)
            send_reply(server, exchange);
        else
            zmq_msg_close(&exchange->peer);
        broadcast_send(server->broadcast, seq);
    }
    broadcast_send(server->broadcast, UINT64_MAX);
    send_outbox(server);
    server->count = 0;
    buffer_restart(&server->replies);
}

/* Watches. */

static void notify_watches(struct server *server, uint64_t time_ms)
{
    bool more = true;
    while (more) {
        more = watches_notify(server->service.watches, time_ms, &server->service.outbox);
        send_outbox(server);
    }
}

/* Whether no client has sent anything for a while, so that nobody waits if history is read. */
static bool is_quiet(const struct server *server, uint64_t now_us)
{
    return now_us - server->request_us >= SERVER_QUIET_US;
}

/* How long history may be read in this turn. */
static int64_t allow_history(struct server *server, uint64_t now_us)
{
    uint64_t passed_us = now_us - server->history_us;
    server->history_us = now_us;
    server->history_allowed_us += (int64_t)(passed_us / SERVER_HISTORY_SHARE);
    if (server->history_allowed_us > TURN_MAX_HISTORY_US)
        server->history_allowed_us = TURN_MAX_HISTORY_US;
    return is_quiet(server, now_us) ? TURN_MAX_HISTORY_US : server->history_allowed_us;
}

/* Steps of watches that are behind; what a step takes too long, later ones wait. */
static void read_history(struct server *server, uint64_t time_ms)
{
    struct watches *watches = server->service.watches;
    uint64_t begin_us = monotonic_us();
    uint64_t now_us = begin_us;
    int64_t allowed_us = allow_history(server, begin_us);
    bool quiet = is_quiet(server, begin_us);
    while (watches_behind(watches) && (int64_t)(now_us - begin_us) < allowed_us) {
        watches_step(watches, time_ms, &server->service.outbox);
        send_outbox(server);
        now_us = monotonic_us();
    }
    if (!quiet)
        server->history_allowed_us -= (int64_t)(now_us - begin_us);
}

/* When watches want to be seen to again, monotonic. */
static uint64_t watches_wake_us(const struct server *server, uint64_t now_us)
{
    const struct watches *watches = server->service.watches;
    uint64_t due_ms = watches_due(watches);
    uint64_t time_ms = now_ms(server, now_us);
    if (watches_behind(watches))
        return is_quiet(server, now_us) || server->history_allowed_us > 0 ? 0 : now_us + 1000;
    if (due_ms == UINT64_MAX)
        return UINT64_MAX;
    return due_ms > time_ms ? now_us + (due_ms - time_ms) * 1000 : 0;
}

/* Turns. */

static void heartbeat(struct server *server, uint64_t now_us)
{
    if (now_us < server->heartbeat_us)
        return;
    broadcast_heartbeat(server->broadcast);
    server->heartbeat_us = now_us + BROADCAST_HEARTBEAT_MS * UINT64_C(1000);
}

/* The fsync of durability `interval`. */
static int sync_when_due(struct server *server, uint64_t now_us)
{
    if (server->config->durability != STORE_INTERVAL || !server->unsynced ||
        now_us < server->sync_us)
        return 0;
    server->unsynced = false;
    server->sync_us = now_us + server->config->sync_interval_ms * 1000;
    return store_sync(server->store);
}

static void begin_checkpoint(struct server *server)
{
    struct store_error error;
    if (store_checkpoint(server->store, &error) != 0)
        journal_say(server->journal, JOURNAL_WARNING, "no checkpoint: %s", error.message);
}

/* Begins one that is due by time, and tells the operator of those that have ended. */
static void watch_checkpoints(struct server *server, uint64_t now_us)
{
    struct store_checkpoints before = server->checkpoints;
    struct store_checkpoints *now = &server->checkpoints;
    if (now_us >= server->checkpoint_us) {
        set_checkpoint_time(server, now_us);
        begin_checkpoint(server);
    }
    store_poll(server->store);
    store_checkpoints(server->store, now);
    uint64_t began_us = server->began_us;
    if (now->running && (!before.running || now->count > before.count))
        server->began_us = now_us; /* one may begin where another ended */
    if (now->count > before.count)
        journal_say(server->journal, JOURNAL_INFO,
                    "checkpoint at seq %" PRIu64 " after %" PRIu64 " ms", now->seq,
                    (now_us - began_us) / 1000);
    if (now->failed > before.failed)
        journal_say(server->journal, JOURNAL_WARNING,
                    "no checkpoint: %s; nothing is lost, and the log goes on growing",
                    now->failure);
}

static void count_turn(struct server *server, size_t requests, uint64_t took_us)
{
    struct counters *counters = &server->counters;
    if (requests > 0) {
        histogram_add(&counters->turn_us, took_us);
        histogram_add(&counters->group, requests);
    } else if (took_us > counters->turn_us.max) {
        counters->turn_us.max = took_us; /* of an expiry, or a checkpoint's beginning */
    }
}

static int turn(struct server *server)
{
    uint64_t begin_us = monotonic_us();
    uint64_t time_ms = now_ms(server, begin_us);
    server->turn_us = begin_us;
    server->counters.uptime_ms = (begin_us - server->start_us) / 1000;
    server->counters.waiting = broadcast_waiting(server->broadcast);
    server->service.announce = broadcast_wants_queues(server->broadcast);
    carry_out_held(server, time_ms);
    service_begin_turn(&server->service, time_ms, TURN_MAX_EXPIRIES, TURN_MAX_JOB_EXPIRIES);
    drain(server, time_ms);
    int rc = commit(server, time_ms);
    charge_peers(server);
    size_t requests = server->count;
    if (requests > 0)
        server->request_us = monotonic_us();
    flush(server);
    if (requests > 0)
        deferred_end_turn(server->deferred, monotonic_us());
    notify_watches(server, time_ms);
    read_history(server, time_ms);
    watch_checkpoints(server, begin_us);
    uint64_t end_us = monotonic_us();
    count_turn(server, requests, end_us - begin_us);
    heartbeat(server, end_us);
    return rc == 0 ? sync_when_due(server, end_us) : rc;
}

/* How long there is nothing to do, in ms, unless something comes. */
static long idle_ms(struct server *server)
{
    uint64_t now_us = monotonic_us();
    uint64_t wake_us = server->heartbeat_us;
    uint64_t due_ms = service_next_due(&server->service);
    if (server->held != NULL)
        return 0;
    if (server->config->durability == STORE_INTERVAL && server->unsynced &&
        server->sync_us < wake_us)
        wake_us = server->sync_us;
    uint64_t watches_us = watches_wake_us(server, now_us);
    if (watches_us < wake_us)
        wake_us = watches_us;
    uint64_t deferred_us = deferred_due_us(server->deferred);
    if (deferred_us < wake_us)
        wake_us = deferred_us;
    uint64_t wait_ms = wake_us > now_us ? (wake_us - now_us + 999) / 1000 : 0;
    uint64_t time_ms = now_ms(server, now_us);
    if (due_ms < time_ms + wait_ms)
        wait_ms = due_ms > time_ms ? due_ms - time_ms : 0;
    return (long)wait_ms;
}

/* Nobody is left waiting for what will not come. */
static void stop(struct server *server)
{
    service_stop(&server->service);
    send_outbox(server);
}

static int stop_after_failure(struct server *server)
{
    stop(server);
    journal_say(server->journal, JOURNAL_ERROR,
                "%s; nothing more is acknowledged: check the disk and start again",
                store_failure(server->store));
    return -1;
}

/* Whether a signal says that this is the end. */
static bool take_signals(struct server *server)
{
    struct signalfd_siginfo signal;
    bool stop = false;
    while (read(server->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        if (signal.ssi_signo == SIGUSR1)
            begin_checkpoint(server);
        else
            stop = true;
    }
    return stop;
}

int server_run(struct server *server)
{
    zmq_pollitem_t items[] = {
        {.socket = server->requests, .events = ZMQ_POLLIN},
        {.socket = server->publish, .events = ZMQ_POLLIN},
        {.fd = server->signal_fd, .events = ZMQ_POLLIN},
        {.socket = connections_socket(server->connections), .events = ZMQ_POLLIN},
    };
    for (;;) {
        if (zmq_poll(items, sizeof items / sizeof items[0], idle_ms(server)) < 0 &&
            errno != EINTR) {
            journal_say(server->journal, JOURNAL_ERROR, "cannot wait for requests: %s",
                        zmq_strerror(errno));
            return -1;
        }
        if ((items[1].revents & ZMQ_POLLIN) != 0)
            broadcast_receive(server->broadcast);
        if ((items[3].revents & ZMQ_POLLIN) != 0)
            read_connections(server);
        if (turn(server) != 0)
            return stop_after_failure(server);
        if ((items[2].revents & ZMQ_POLLIN) != 0 && take_signals(server)) {
            server->stopping = true;
            deferred_stop(server->deferred);
        }
        if (server->stopping && server->held == NULL && deferred_count(server->deferred) == 0) {
            stop(server);
            return 0;
        }
    }
}
