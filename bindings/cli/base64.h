/*
 * Base64 (RFC 4648, with padding), for bytes that JSON cannot hold.
 */
#ifndef BINDINGS_CLI_BASE64_H
#define BINDINGS_CLI_BASE64_H

#include "wire/bytes.h"

void base64_encode(struct buffer *out, struct slice bytes);

/* -1 where the text is not base64: wrong characters or padding, bits left over. */
int base64_decode(struct buffer *out, struct slice text);

#endif
