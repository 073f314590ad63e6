/*
 * The shape of the protocol's messages, for the files of this folder: the first element says
 * which of three it is, and each has a fixed number of elements.
 */
#ifndef WIRE_ENVELOPE_H
#define WIRE_ENVELOPE_H

enum wire_message_type { WIRE_REQUEST = 0, WIRE_REPLY = 1, WIRE_NOTIFICATION = 2 };

enum {
    WIRE_REQUEST_COUNT = 4,      /* [0, msgid, method, params] */
    WIRE_REPLY_COUNT = 4,        /* [1, msgid, error, result] */
    WIRE_NOTIFICATION_COUNT = 3, /* [2, method, params] */
    WIRE_ERROR_COUNT = 3,        /* [code, message, detail] */
    WIRE_CHANGE_COUNT = 7,       /* [seq, index, count, kind, key, value, expires_at] */
    WIRE_PAIR_COUNT = 2,         /* [method, params] of a batch, [key, version] of a guard */
};

#endif
