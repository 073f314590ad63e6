/*
 * Processes that a test starts, and loses no time on: what runs in one ends it with a sentence and
 * an exit code where something is wrong, and the test waits for it with a deadline. Criterion's
 * assertions are for the test itself: in a forked child they would go on as if it were the test.
 *
 * Threads do not come along through a fork. So a test that forks must not itself have opened an
 * engine that has some: such an engine would wait for them in the child, for ever.
 */
#ifndef TESTS_STORE_CHILD_H
#define TESTS_STORE_CHILD_H

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_DEADLINE_MS = 60000, CHILD_DIED = 1000, CHILD_LATE };

/* In a child: ends it where the condition does not hold. */
#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s. ", __FILE__, __LINE__, #condition);                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

struct child {
    pid_t pid;    /* -1: it could not be started */
    int messages; /* to read from; at its end where the child is gone */
};

/* What a child does; its result is the exit code. It says something by writing to `messages`. */
typedef int child_fn(void *context, int messages);

static inline struct child child_start(child_fn *run, void *context)
{
    struct child child = {.pid = -1};
    int ends[2];
    if (pipe(ends) != 0)
        return child;
    child.messages = ends[0];
    child.pid = fork();
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        _exit(run(context, ends[1]));
    }
    close(ends[1]);
    return child;
}

/* The child's next byte: 1; or 0 where it has ended; or -1 where it took too long. */
static inline int child_hear(const struct child *child, char *byte)
{
    struct pollfd ready = {.fd = child->messages, .events = POLLIN};
    if (poll(&ready, 1, CHILD_DEADLINE_MS) != 1)
        return -1;
    return read(child->messages, byte, 1) == 1 ? 1 : 0;
}

static inline int child_reap(const struct child *child)
{
    int status = 0;
    close(child->messages);
    if (waitpid(child->pid, &status, 0) != child->pid || !WIFEXITED(status))
        return CHILD_DIED;
    return WEXITSTATUS(status);
}

static inline void child_kill(const struct child *child)
{
    kill(child->pid, SIGKILL);
    (void)child_reap(child);
}

/* Waits for its end: the exit code, CHILD_DIED by a signal, or CHILD_LATE, and it is killed. */
static inline int child_end(const struct child *child)
{
    char byte;
    int heard;
    while ((heard = child_hear(child, &byte)) == 1)
        ;
    if (heard == 0)
        return child_reap(child);
    child_kill(child);
    return CHILD_LATE;
}

/* Runs it to its end. */
static inline int child_run(child_fn *run, void *context)
{
    struct child child = child_start(run, context);
    return child.pid > 0 ? child_end(&child) : CHILD_DIED;
}

#endif
