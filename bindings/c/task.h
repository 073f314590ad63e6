/*
 * What goes on within a handle besides requests: subscriptions, watches and mirrors. Each begins
 * with a struct task and is in the handle's list from its start until it is over; then it is freed,
 * and not before, since its own callback may be running or a reply to it be on its way.
 *
 * Nothing here knows the handle: a task sends its requests with request_send_for, which counts
 * them.
 */
#ifndef BINDINGS_C_TASK_H
#define BINDINGS_C_TASK_H

#include <stdbool.h>
#include <zmq.h>

#include "bindings/c/clock.h"
#include "wire/reply.h"

struct task {
    struct task *next;
    size_t requests; /* outstanding ones, of which the callbacks take the task */
    unsigned held;   /* calls that wait for something of it */
    bool dead;       /* nobody wants it any more: freed when no request is outstanding, nor held */
    void *socket;    /* that `work` reads; NULL: none */
    /* Where there is a socket: whether its news are waited for. */
    bool (*listens)(const struct task *task);
    /* Takes a notification of the daemon's; false where it is not for this task. NULL: none is. */
    bool (*notified)(struct task *task, const struct wire_notification *notification);
    int (*work)(struct task *task, int64_t now); /* what is due; the number of events */
    int64_t (*due_ms)(const struct task *task);  /* when something is; NEVER_MS */
    void (*free)(struct task *task);             /* at the end, of the handle too */
};

/* The task is the list's now. */
void tasks_add(struct task **tasks, struct task *task);

/* Has each that is not dead do what is due, and frees what is over; the number of events. */
int tasks_work(struct task **tasks, int64_t now);

/* Hands a notification to the task that it is for; false where there is none. */
bool tasks_notified(struct task *tasks, const struct wire_notification *notification);

/* When something is due. */
int64_t tasks_due_ms(const struct task *tasks);

/* Their outstanding requests, those of dead ones too. */
size_t tasks_requests(const struct task *tasks);

/* How many sockets they have. */
size_t tasks_sockets(const struct task *tasks);

/* Adds those of their sockets that are to be waited for; `items` has room for all. */
size_t tasks_items(const struct task *tasks, zmq_pollitem_t *items);

/* Frees all, whatever they wait for. */
void tasks_free(struct task **tasks);

#endif
