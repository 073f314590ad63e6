/*
 * Changes as `changes` and `watch` print them.
 */
#ifndef BINDINGS_CLI_CHANGES_PRINT_H
#define BINDINGS_CLI_CHANGES_PRINT_H

#include "bindings/cli/session.h"

/* A line: seq, kind, key and value, or with --json the array of the protocol. */
void print_change(struct session *session, const struct cubby_change *change);

#endif
