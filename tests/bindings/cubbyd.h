/*
 * A cubbyd of a test's own: the program that $CUBBYD names, on endpoints in a directory of its
 * own. It ends with the test, whatever becomes of that.
 */
#ifndef TESTS_BINDINGS_CUBBYD_H
#define TESTS_BINDINGS_CUBBYD_H

#include <stdbool.h>
#include <sys/types.h>

#include "bindings/c/cubby.h"

enum { CUBBYD_PATH_SIZE = 128, CUBBYD_TIMEOUT_MS = 20000 };

struct cubbyd {
    pid_t pid;
    bool keeps; /* has a data directory */
    char directory[CUBBYD_PATH_SIZE];
    char endpoint[CUBBYD_PATH_SIZE];
    char broadcast[CUBBYD_PATH_SIZE];
    char data[CUBBYD_PATH_SIZE];
};

/* Starts it and waits until it answers; without `keeps` with --data none. */
void cubbyd_start(struct cubbyd *cubbyd, bool keeps);

/* Ends it by SIGTERM and waits. */
void cubbyd_stop(struct cubbyd *cubbyd);

/* Starts it again, on the same endpoints and data. */
void cubbyd_restart(struct cubbyd *cubbyd);

/* Removes what it left, after cubbyd_stop. */
void cubbyd_remove(struct cubbyd *cubbyd);

/* A handle to it. */
struct cubby *cubbyd_client(const struct cubbyd *cubbyd);

#endif
