/*
 * Messages whose bytes are counted until libzmq is done with them: those that wait for some
 * subscriber. libzmq does not tell what is in its pipes, but it says when a message whose bytes are
 * ours is with nobody any more; a message that goes to several subscribers is one, and counts once.
 */
#ifndef DAEMON_BACKLOG_H
#define DAEMON_BACKLOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <zmq.h>

#include "wire/bytes.h"

enum { BACKLOG_OVERHEAD = 128 }; /* of a message, beside its bytes: what is allocated with them */

/* All zeros: nothing waits. It outlives the messages: they end with their ZeroMQ context. */
struct backlog {
    atomic_size_t bytes; /* libzmq's threads take messages off it */
};

/* Makes a message of these bytes, `first` of which there are some, and `rest`. -1: no memory. */
int backlog_message(struct backlog *backlog, zmq_msg_t *message, struct slice first,
                    struct slice rest);

/* What waits now, BACKLOG_OVERHEAD of each message included. */
size_t backlog_bytes(const struct backlog *backlog);

#endif
