/*
 * A failure that keeps what a struct cubby_error points to, so that it outlives the message it
 * came in.
 */
#ifndef BINDINGS_C_FAILURE_H
#define BINDINGS_C_FAILURE_H

#include "bindings/c/cubby.h"
#include "wire/reply.h"

enum { FAILURE_CODE_SIZE = 64, FAILURE_MESSAGE_SIZE = 512 };

struct failure {
    struct cubby_error error; /* points into the rest */
    char code[FAILURE_CODE_SIZE];
    char message[FAILURE_MESSAGE_SIZE];
    uint8_t key[WIRE_MAX_KEY];
};

/* Sets a failure of the library's own, printf style; returns the status. */
enum cubby_status failure_set(struct failure *failure, enum cubby_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

/* Takes over the error of a reply; what the details hold and this version does not know is left
 * out, and so is the part of a text that is longer than any daemon sends. */
enum cubby_status failure_from_reply(struct failure *failure, const struct wire_reply *reply);

/* Keeps an error with what it points to. */
void failure_keep(struct failure *failure, const struct cubby_error *error);

#endif
