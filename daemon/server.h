/*
 * The server: the loop. One thread, in turns:
 *
 *     wait      until a request, a subscriber, a signal or a time comes
 *     drain     requests, up to the TURN_MAX_ limits; each is carried out at once (exchanges.h)
 *     commit    all of them, with one fsync
 *     flush     every reply and every change, in seq order (exchanges.h)
 *     notify    what is new to the watches; then history for those that are behind, as time allows
 *
 * Nothing leaves before the commit that covers it.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "daemon/config.h"
#include "daemon/journal.h"

enum {
    TURN_MAX_EXPIRY_US = 5000, /* before a turn begins no further step of what is due by time */
    TURN_MAX_HISTORY_US = 500, /* that one turn reads history for watches, while none else waits */
    SERVER_HISTORY_SHARE = 10, /* while requests come it may take one in so many of all moments, */
    SERVER_QUIET_US = 10000,   /* and all of them when none came for so long */
    SERVER_STOP_MS = 3000,     /* that a stop carries out what was read before */
    SERVER_MAX_ERROR = 512,
};

struct server;

/*
 * Binds the sockets. `config`, `store` and `journal` outlive the server. `signal_fd` is a signalfd:
 * SIGUSR1 begins a checkpoint, any other signal stops the server. On failure NULL, and one line in
 * `error` (SERVER_MAX_ERROR bytes).
 */
struct server *server_new(const struct config *config, struct store *store,
                          const struct journal *journal, int signal_fd, char *error);

/*
 * The endpoints as bound ("tcp://127.0.0.1:*" has become a port), separated by ", ", into `text`.
 */
void server_describe(const struct server *server, char *text, size_t size);

/*
 * Serves until a signal (0) or until the store fails (-1). After a signal nothing more is read;
 * what was is carried out for SERVER_STOP_MS, and the rest is answered `unavailable`.
 */
int server_run(struct server *server);

/* Sends what is waiting, for SOCKETS_LINGER_MS at most, and closes the sockets. */
void server_free(struct server **server);

#endif
