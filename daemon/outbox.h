/*
 * The outbox: messages that are not the reply to a request of this turn, such as the end of a wait
 * and the notifications of a watch. They are collected while the turn runs, and sent in their order
 * behind its replies and changes, when it is committed. Owned by the service; it knows no sockets.
 *
 *     struct buffer *payload = outbox_begin(&outbox, &peer);
 *     wire_pack_reply(payload, msgid);
 *     …
 *     outbox_end(&outbox, tag);
 *
 * An outbox starts as all zeros.
 */
#ifndef DAEMON_OUTBOX_H
#define DAEMON_OUTBOX_H

#include "wire/bytes.h"

/*
 * Whom a message goes to: a connection, by bytes that name it as long as it lasts. `empty_frame`:
 * one goes before each payload, as REQ wants it. Who keeps a peer longer than a call copies the id.
 */
struct peer {
    struct slice id;
    bool empty_frame;
    int connection; /* that its request came by, a file descriptor; 0: unknown */
};

/* A message as it is taken out: views that live until the outbox is next changed. */
struct outbox_message {
    struct peer peer;
    struct slice payload;
    uint64_t tag;
};

struct outbox_place {
    size_t start; /* in `bytes`: the peer's id, then the payload */
    size_t peer_size;
    size_t payload_size;
    bool empty_frame;
    uint64_t tag;
};

struct outbox {
    struct buffer bytes;
    struct outbox_place *places;
    size_t count;
    size_t capacity;
    struct outbox_place next; /* between outbox_begin and outbox_end */
};

void outbox_free(struct outbox *outbox);

/*
 * Begins a message; its payload is to be appended to the buffer that is returned, behind what is in
 * it already. One at a time.
 */
struct buffer *outbox_begin(struct outbox *outbox, const struct peer *peer);

/*
 * Completes it. `tag`: what service_undelivered is told if the peer does not take it; 0: nothing.
 * False, and no message, where memory was out.
 */
bool outbox_end(struct outbox *outbox, uint64_t tag);

/* Gives up the message that was begun last. */
void outbox_take_back(struct outbox *outbox);

/* Bytes of all messages so far. */
size_t outbox_size(const struct outbox *outbox);

/* The message number `index` of outbox->count, in the order in which they were completed. */
struct outbox_message outbox_message(const struct outbox *outbox, size_t index);

/* Lets go of all but the first `count` messages, and keeps memory for the next. */
void outbox_truncate(struct outbox *outbox, size_t count);

#endif
