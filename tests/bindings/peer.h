/*
 * The daemon's end of both sockets in the hands of a test, on free ports of the loopback: the
 * test takes a client's requests one by one, decodes them as the daemon does, and answers what it
 * likes. Client and peer run in one thread; whoever waits for one lets the other work.
 */
#ifndef TESTS_BINDINGS_PEER_H
#define TESTS_BINDINGS_PEER_H

#include "bindings/c/cubby.h"
#include "wire/pack.h"
#include "wire/request.h"

enum { PEER_ENDPOINT_SIZE = 64, PEER_WAIT_MS = 10000, PEER_ID_SIZE = 256 };

struct peer {
    void *context;
    void *router;
    void *pub;
    char endpoint[PEER_ENDPOINT_SIZE];
    char broadcast[PEER_ENDPOINT_SIZE];
    struct buffer id;      /* of the client that sent the last request */
    struct buffer payload; /* of that request */
    struct wire_request request;
    struct wire_error error;
    enum wire_code code; /* of decoding it */
};

void peer_open(struct peer *peer);
void peer_close(struct peer *peer);

/* A handle to this peer, with a timeout that no test reaches by accident. */
struct cubby *peer_client(struct peer *peer);

/* The monotonic clock. */
int64_t peer_now_ms(void);

/* Takes the next request, letting the client work; fails the test where none comes. */
void peer_take(struct peer *peer, struct cubby *cubby);

/* The same, and it has to be this method, well-formed. */
void peer_expect(struct peer *peer, struct cubby *cubby, enum wire_method method);

/* Whether a request is there within the time. */
bool peer_takes_within(struct peer *peer, struct cubby *cubby, int64_t ms);

/* Sends the bytes as the reply's result, or a whole payload. */
void peer_answer(struct peer *peer, uint64_t msgid, const void *result, size_t size);
void peer_send(struct peer *peer, const void *payload, size_t size);
void peer_fail(struct peer *peer, uint64_t msgid, const struct wire_error *error);

/* Answers to the methods that subscriptions use. */
void peer_answer_hello(struct peer *peer, const char *epoch, uint64_t seq, uint64_t oldest);
void peer_answer_changes(struct peer *peer, const char *epoch, uint64_t seq,
                         const struct wire_change *changes, uint32_t count);

/* Broadcasts. */
void peer_publish_change(struct peer *peer, const char *epoch, uint64_t drops,
                         const struct wire_change *change);
void peer_publish_heartbeat(struct peer *peer, const char *epoch, uint64_t drops, uint64_t seq);

/* Lets the client work until *count reaches `wanted`; fails the test where it does not. */
void peer_wait_for(struct cubby *cubby, const unsigned *count, unsigned wanted);

/* Lets the client work until its subscription listens to the broadcast. */
void peer_wait_until_live(struct cubby *cubby, const struct cubby_subscription *subscription);

#endif
