/*
 * Listeners: connections that hear of every change. What a server speaks is one const struct, which
 * makes a connection a listener and finds changes in what it receives.
 */
#ifndef TESTS_BENCH_LISTEN_H
#define TESTS_BENCH_LISTEN_H

#include "bindings/cli/histogram.h"
#include "load.h"

struct listener {
    struct peer peer;
    bool asked;         /* has sent what makes it a listener */
    bool listens;       /* and hears of all that comes */
    bool topic;         /* cubby: the next frame is the payload to a change's topic */
    struct buffer text; /* etcd: what was in the chunks */
    uint64_t changes;
};

struct listening {
    const struct tongue *tongue;
    uint16_t port;
    uint64_t count;
    size_t value_size;
    struct listener *listeners;
    uint64_t changes;
    uint64_t first_ns; /* when the first one came, */
    uint64_t last_ns;  /* and the last one */
    int epoll;
    struct histogram lags; /* empty where changes come without their values */
};

struct tongue {
    const char *name;

    /* Appends what opens a connection to peer->out. */
    void (*greet)(struct listener *listener);

    /* Takes what was received at `now`: peer->read moves on over it. */
    void (*take)(struct listening *all, struct listener *listener, uint64_t now);
};

extern const struct tongue tongue_redis;
extern const struct tongue tongue_etcd;

/* Counts a change. `stamp`: where its value begins, with the stamp of load; NULL: it has none. */
void listen_note(struct listening *all, struct listener *listener, const uint8_t *stamp,
                 uint64_t now);

void listen_give_up(const char *what);

#endif
