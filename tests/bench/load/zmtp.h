/*
 * ZMTP 3.0 by hand, for a client of a libzmq socket: the NULL handshake and frames. Enough to
 * measure a server with, without libzmq's threads on the client's side.
 */
#ifndef TESTS_BENCH_ZMTP_H
#define TESTS_BENCH_ZMTP_H

#include "load.h"

struct zmtp_frame {
    bool more;
    bool command;
    struct slice body;
    size_t size; /* of all of it */
};

/* Appends the greeting and the READY of a socket of this type, such as "DEALER". */
void zmtp_greet(struct peer *peer, const char *type);

/* Appends the head of a frame whose body of `size` bytes follows. */
void zmtp_head(struct buffer *out, size_t size);

/*
 * Takes what is no message: greeting and commands, which are answered in peer->out. FOUND_REPLY:
 * `frame` is part of a message; else as protocol.find says.
 */
enum found zmtp_find(struct peer *peer, struct slice bytes, struct zmtp_frame *frame, size_t *size);

#endif
