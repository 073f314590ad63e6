/*
 * What a client receives: replies and notifications, decoded without allocation into views of
 * the message. The daemon does not use this; bindings and tests do.
 */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H

#include "wire/cursor.h"
#include "wire/error.h"

struct wire_reply {
    bool has_msgid; /* false: the daemon could not read the msgid of the request */
    uint64_t msgid;
    bool failed;          /* code, message and detail are set; result is not */
    struct slice code;    /* such as "conflict"; may be a code that this version does not know */
    struct slice message; /* English, not terminated */
    struct slice detail;  /* one whole map */
    struct slice result;  /* one whole object */
};

struct wire_notification {
    struct slice method; /* "change", "heartbeat", … */
    struct slice params; /* one whole array */
};

/* Both return 0, or -1 where the payload is not such a message. */
int wire_decode_reply(struct slice payload, struct wire_reply *reply);
int wire_decode_notification(struct slice payload, struct wire_notification *notification);

#endif
