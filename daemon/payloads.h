/*
 * The payloads of messages that leave. libzmq's I/O thread frees what the loop has allocated, when
 * it is sent, and malloc is dear at that: the two wait for each other's lock, and the same memory
 * is merged and split again for ever. So payloads of medium size are blocks of one size that come
 * back to the loop without a lock.
 *
 *     payloads_init(&payloads)
 *     payloads_fill(&payloads, &message, bytes)       then zmq_msg_send, or zmq_msg_close
 *     payloads_end(&payloads)                         when the ZeroMQ context has ended
 *
 * One thread calls these; the messages may be copied, sent and closed by any. The structure stays
 * where it is in between.
 */
#ifndef DAEMON_PAYLOADS_H
#define DAEMON_PAYLOADS_H

#include <stdatomic.h>
#include <zmq.h>

#include "wire/bytes.h"

enum {
    PAYLOADS_MIN_SIZE = 34,    /* bytes; libzmq keeps smaller ones in the message itself */
    PAYLOADS_MAX_SIZE = 256,   /* larger ones are allocated: less of their time goes there */
    PAYLOADS_MAX_SPARE = 4096, /* blocks that are kept for what comes */
};

struct payload_block;

struct payloads {
    struct payload_block *spare; /* the calling thread's */
    size_t spare_count;
    _Atomic(struct payload_block *) returned; /* any thread adds to it; the calling one takes all */
};

void payloads_init(struct payloads *payloads);

/* Initializes a message with a copy of the bytes. -1, and no message, where memory is out. */
int payloads_fill(struct payloads *payloads, zmq_msg_t *message, struct slice bytes);

/* Frees the blocks. No message is left that has one of them. */
void payloads_end(struct payloads *payloads);

#endif
