/*
 * A program that is run for a job: the body on its standard input, its standard error passed on
 * and its last line kept, its standard output ours. It leads a process group of its own, so that
 * an interrupt from the terminal does not reach it, and signals for it reach all that it started.
 * It is killed when this process dies.
 */
#ifndef BINDINGS_CLI_CHILD_H
#define BINDINGS_CLI_CHILD_H

#include <poll.h>
#include <sys/types.h>

#include "wire/bytes.h"

enum { CHILD_LINE_SIZE = 900, CHILD_POLLS = 2 };

/* Starts as all zeros and is ended with child_free. */
struct child {
    pid_t pid;          /* 0: none runs */
    int in;             /* where its standard input is written, -1: closed */
    int err;            /* where its standard error is read, -1: closed */
    struct buffer body; /* what is written there */
    size_t written;
    char line[CHILD_LINE_SIZE]; /* the last line of its standard error that is not empty */
    size_t line_size;
    bool line_ended; /* the next byte begins another one */
    int status;      /* of waitpid, once it has ended */
};

/* Whether there is such a program to run, in the path where it has no slash. */
bool child_can_run(const char *program);

/*
 * Starts it with what is in child->body. `variables` are NAME=VALUE, up to NULL, and go before
 * those of our own environment. -1 with errno where it could not be started.
 */
int child_start(struct child *child, char *const *program, const char *const *variables);

/* Whether it has ended since: child->status says how, and all that it wrote has been read. */
bool child_has_ended(struct child *child);

/* Sends the signal to all of its group. */
void child_signal(const struct child *child, int number);

/* Fills what to wait for, how many of CHILD_POLLS; does what can be done without waiting. */
size_t child_polls(const struct child *child, struct pollfd *polls);
void child_work(struct child *child);

/* Keeps the memory for the next one. It must have ended. */
void child_clear(struct child *child);
void child_free(struct child *child);

#endif
