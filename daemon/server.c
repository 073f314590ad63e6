#include "daemon/server.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/eviction.h"
#include "daemon/exchanges.h"
#include "daemon/sockets.h"
#include "daemon/wakeups.h"

struct server {
    const struct config *config;
    const struct journal *journal;
    struct store *store;
    int signal_fd;
    void *zmq;
    struct router router;
    void *publish;
    struct wakeups wakeups;
    struct service service;
    struct exchanges *exchanges;
    struct broadcast *broadcast;
    struct counters counters;

    /* Moments are monotonic. */
    struct clock clock;
    uint64_t heartbeat_us; /* when the next one is due */
    uint64_t sync_us;      /* likewise the next fsync of `interval` */
    bool unsynced;         /* something was committed since the last */
    uint64_t stop_us;      /* when the stop waits for nothing more; UINT64_MAX: there is none */

    uint64_t request_us;        /* when a turn had requests last */
    uint64_t history_us;        /* up to when the time for reading history has been counted, */
    int64_t history_allowed_us; /* and what is left of it */

    uint64_t checkpoint_us; /* when the next one is due by time; UINT64_MAX: never */
    uint64_t began_us;      /* when the last was begun */
    struct store_checkpoints checkpoints;

    char listening[SOCKETS_MAX_ENDPOINTS_TEXT];
    char publishing[SOCKETS_MAX_ENDPOINTS_TEXT];
};

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
    server->zmq = sockets_new_context();
    if (server->zmq != NULL)
        server->publish = sockets_new_broadcast(server->zmq);
    if (server->publish == NULL || router_open(&server->router, server->zmq) != 0 ||
        wakeups_init(&server->wakeups, server->router.socket, server->publish,
                     connections_socket(server->router.connections), server->signal_fd) != 0) {
        snprintf(error, SERVER_MAX_ERROR, "cannot make the sockets: %s", zmq_strerror(errno));
        return -1;
    }
    if (sockets_bind(server->publish, &config->publish, "publish", server->publishing, error,
                     SERVER_MAX_ERROR) != 0 ||
        sockets_bind(server->router.socket, &config->listen, "listen", server->listening, error,
                     SERVER_MAX_ERROR) != 0)
        return -1;
    warn_of_public(server, &config->listen);
    warn_of_public(server, &config->publish);
    return 0;
}

/* What turns need beside the sockets. */
static int open_service(struct server *server, char *error)
{
    struct store_error store_error = {.message = "out of memory"};
    uint64_t time_ms = server->clock.start_ms;
    int rc =
        service_init(&server->service, server->store, &server->counters, time_ms, &store_error);
    if (rc == 0)
        eviction_begin(&server->service, time_ms);
    server->service.durability = config_durability_name(server->config->durability);
    if (rc == 0)
        server->exchanges = exchanges_new(&server->router, &server->service,
                                          server->config->data != NULL &&
                                              server->config->durability == STORE_ALWAYS);
    if (server->exchanges != NULL)
        return 0;
    snprintf(error, SERVER_MAX_ERROR, "%s", store_error.message);
    return -1;
}

static int open_broadcast(struct server *server, char *error)
{
    server->broadcast = broadcast_new(server->publish, server->store, &server->counters,
                                      server->config->publish_queue);
    if (server->broadcast != NULL)
        return 0;
    snprintf(error, SERVER_MAX_ERROR, "out of memory");
    return -1;
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
    server->wakeups.file = -1;
    clock_begin(&server->clock, store_now(store));
    server->heartbeat_us = server->clock.start_us;
    server->stop_us = UINT64_MAX;
    set_checkpoint_time(server, server->clock.start_us);
    if (open_service(server, error) != 0 || open_sockets(server, error) != 0 ||
        open_broadcast(server, error) != 0)
        server_free(&server);
    return server;
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
    wakeups_end(&server->wakeups);
    exchanges_free(&server->exchanges);
    router_close(&server->router);
    if (server->publish != NULL)
        zmq_close(server->publish);
    if (server->zmq != NULL)
        zmq_ctx_term(server->zmq);
    broadcast_free(&server->broadcast);
    router_end(&server->router);
    free(server);
    *pointer = NULL;
}

/* Commit. */

/* The turn has come to nothing: who asked for something in it gets this error. */
static void fail_turn(struct server *server, enum wire_code code, const char *message)
{
    store_abandon(server->store);
    service_abandon(&server->service, code, message);
    broadcast_drop(server->broadcast);
    exchanges_fail(server->exchanges, code, message);
}

static int commit_store(struct server *server)
{
    if (store_pending(server->store) == 0)
        return store_commit(server->store);
    server->unsynced = true;
    size_t wrote = store_pending(server->store);
    uint64_t before_us = clock_us();
    int rc = store_commit(server->store);
    uint64_t now_us = clock_us();
    histogram_add(&server->counters.commit_us, now_us - before_us);
    exchanges_charge_commit(server->exchanges, now_us - before_us, wrote);
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

/* Watches. */

static void notify_watches(struct server *server, uint64_t time_ms)
{
    bool more = true;
    while (more) {
        more = watches_notify(server->service.watches, time_ms, &server->service.outbox);
        exchanges_send_outbox(server->exchanges);
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
    uint64_t begin_us = clock_us();
    uint64_t now_us = begin_us;
    int64_t allowed_us = allow_history(server, begin_us);
    bool quiet = is_quiet(server, begin_us);
    while (watches_behind(watches) && (int64_t)(now_us - begin_us) < allowed_us) {
        watches_step(watches, time_ms, &server->service.outbox);
        exchanges_send_outbox(server->exchanges);
        now_us = clock_us();
    }
    if (!quiet)
        server->history_allowed_us -= (int64_t)(now_us - begin_us);
}

/* When watches want to be seen to again, monotonic. */
static uint64_t watches_wake_us(const struct server *server, uint64_t now_us)
{
    const struct watches *watches = server->service.watches;
    uint64_t due_ms = watches_due(watches);
    uint64_t time_ms = clock_ms(&server->clock, now_us);
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

/* One step at least; what is left is for the next turn, so that requests get between. */
static void expire(struct server *server, uint64_t time_ms, uint64_t begin_us)
{
    bool more = true;
    while (more) {
        more = service_expire(&server->service, time_ms);
        more = more && clock_us() - begin_us < TURN_MAX_EXPIRY_US;
    }
}

static int turn(struct server *server)
{
    uint64_t begin_us = clock_us();
    uint64_t time_ms = clock_ms(&server->clock, begin_us);
    server->counters.uptime_ms = (begin_us - server->clock.start_us) / 1000;
    server->counters.waiting = broadcast_waiting(server->broadcast);
    server->service.announce = broadcast_wants_queues(server->broadcast);
    exchanges_begin(server->exchanges, begin_us, time_ms, server->wakeups.waited);
    service_begin_turn(&server->service, time_ms);
    expire(server, time_ms, begin_us);
    exchanges_drain(server->exchanges);
    int rc = commit(server, time_ms);
    size_t requests = exchanges_count(server->exchanges);
    if (requests > 0)
        server->request_us = clock_us();
    exchanges_flush(server->exchanges, server->broadcast);
    notify_watches(server, time_ms);
    read_history(server, time_ms);
    watch_checkpoints(server, begin_us);
    uint64_t end_us = clock_us();
    count_turn(server, requests, end_us - begin_us);
    heartbeat(server, end_us);
    broadcast_end_turn(server->broadcast);
    return rc == 0 ? sync_when_due(server, end_us) : rc;
}

/* How long there is nothing to do, in ms, unless something comes. */
static long idle_ms(struct server *server)
{
    uint64_t now_us = clock_us();
    uint64_t wake_us = server->heartbeat_us;
    uint64_t due_ms = service_next_due(&server->service);
    if (server->config->durability == STORE_INTERVAL && server->unsynced &&
        server->sync_us < wake_us)
        wake_us = server->sync_us;
    uint64_t watches_us = watches_wake_us(server, now_us);
    if (watches_us < wake_us)
        wake_us = watches_us;
    uint64_t exchanges_us = exchanges_due_us(server->exchanges);
    if (exchanges_us < wake_us)
        wake_us = exchanges_us;
    uint64_t wait_ms = wake_us > now_us ? (wake_us - now_us + 999) / 1000 : 0;
    uint64_t time_ms = clock_ms(&server->clock, now_us);
    if (due_ms < time_ms + wait_ms)
        wait_ms = due_ms > time_ms ? due_ms - time_ms : 0;
    return (long)wait_ms;
}

/* Nobody is left waiting for what will not come. */
static void stop(struct server *server)
{
    service_stop(&server->service);
    exchanges_send_outbox(server->exchanges);
}

static int stop_after_failure(struct server *server)
{
    exchanges_turn_away(server->exchanges, WIRE_UNAVAILABLE,
                        "the disk failed and the daemon stops; this was not carried out");
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

/* The first that says so counts. */
static void begin_stop(struct server *server)
{
    if (server->stop_us != UINT64_MAX)
        return;
    server->stop_us = clock_us() + SERVER_STOP_MS * UINT64_C(1000);
    exchanges_stop(server->exchanges);
}

/* Whether the stop is over: slow requests must not hold it up for long. */
static bool has_stopped(struct server *server)
{
    if (server->stop_us == UINT64_MAX)
        return false;
    if (clock_us() >= server->stop_us)
        exchanges_turn_away(server->exchanges, WIRE_UNAVAILABLE,
                            "the daemon stops; this was not carried out");
    return exchanges_are_done(server->exchanges);
}

int server_run(struct server *server)
{
    exchanges_read_connections(server->exchanges);
    broadcast_receive(server->broadcast);
    for (;;) {
        int come = wakeups_wait(&server->wakeups, idle_ms(server));
        if (come < 0) {
            journal_say(server->journal, JOURNAL_ERROR, "cannot wait for requests: %s",
                        strerror(errno));
            return -1;
        }
        if ((come & WAKEUP_SUBSCRIBERS) != 0)
            broadcast_receive(server->broadcast);
        if ((come & WAKEUP_CONNECTIONS) != 0)
            exchanges_read_connections(server->exchanges);
        if (turn(server) != 0)
            return stop_after_failure(server);
        if ((come & WAKEUP_SIGNAL) != 0 && take_signals(server))
            begin_stop(server);
        if (has_stopped(server)) {
            stop(server);
            return 0;
        }
    }
}
