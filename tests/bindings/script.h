/*
 * A peer that plays a script: it takes requests one by one in a thread of its own, so that calls
 * that wait can be tested, compares each with what is expected, and answers what the script says.
 * Requests, results and notifications are written as JSON (see bindings/cli/json.h).
 */
#ifndef TESTS_BINDINGS_SCRIPT_H
#define TESTS_BINDINGS_SCRIPT_H

#include <pthread.h>

#include "tests/bindings/peer.h"

enum { SCRIPT_NOTIFICATIONS = 20, SCRIPT_TEXT_SIZE = 1024 };

struct script_step {
    const char *request; /* "queue.push [\"q\",1]" */
    const char *result;  /* JSON; "!conflict" for an error with that code; NULL: no answer */
    const char *then[SCRIPT_NOTIFICATIONS]; /* whole payloads that follow the answer, up to NULL */
};

struct script {
    struct peer *peer;
    const struct script_step *steps;
    size_t count;
    pthread_t thread;
    char wrong[SCRIPT_TEXT_SIZE]; /* what was not as expected; empty: nothing */
};

/* The peer is the script's until script_end. */
void script_start(struct script *script, struct peer *peer, const struct script_step *steps,
                  size_t count);

/* Plays these steps with the `script` and the `peer` that the test has. */
#define PLAY(...)                                                                                  \
    static const struct script_step steps[] = {__VA_ARGS__};                                       \
    script_start(&script, &peer, steps, sizeof(steps) / sizeof(steps[0]))

/* Waits for the last step; fails the test where a request was another one or did not come. */
void script_end(struct script *script);

/* The last request that the peer has taken, in the form of script_step. */
void script_text(const struct peer *peer, char text[SCRIPT_TEXT_SIZE]);

/* Appends what the JSON says; fails the test where it is none. */
void script_encode(struct buffer *out, const char *json);

#endif
