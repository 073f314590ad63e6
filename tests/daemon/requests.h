/* Requests in bytes for tests of the service, and a service on a store to send them to. */
#ifndef TESTS_DAEMON_REQUESTS_H
#define TESTS_DAEMON_REQUESTS_H

#include "daemon/service.h"

enum { TEST_START_MS = 1700000000 };

/* A service whose store is in memory only (directory NULL) or in `directory`. */
struct fixture {
    struct store *store;
    struct service service;
    struct counters counters;
    struct peer peer; /* whose requests they are; set by the test, nobody at first */
    struct buffer replies;
    struct service_answer answer; /* of the last request */
    uint64_t now_ms;
};

void fixture_open(struct fixture *fixture, const char *directory);

/* The same with a log in segments of that size, of which so many bytes are kept; 0: the usual. */
void fixture_open_log(struct fixture *fixture, const char *directory, size_t segment_size,
                      uint64_t log_retain);

/* In memory, with that limit, at which it evicts. */
void fixture_open_evicting(struct fixture *fixture, uint64_t memory_limit);
void fixture_close(struct fixture *fixture);

/* Ends the turn: all that was sent holds. */
void fixture_commit(struct fixture *fixture);

/* Appends the changes since then, each with all that it says, as bytes. */
void fixture_see_changes(struct fixture *fixture, uint64_t since, struct buffer *state);

/*
 * Sends [0, msgid, method, params], where `params` is text in a small language: JSON without
 * white space. Returns the reply as such text; it lives until the next call.
 */
const char *fixture_call(struct fixture *fixture, const char *method, const char *params);

/* The same without a commit, and without looking at the reply, which stays in fixture->replies. */
void fixture_send(struct fixture *fixture, uint64_t msgid, const char *method, const char *params);

/* Packs such text as MessagePack; unpacks one object into such text, at most `size` bytes. */
void pack_text(struct buffer *out, const char *text);
void unpack_text(struct slice object, char *text, size_t size);

#endif
