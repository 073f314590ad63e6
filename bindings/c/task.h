/*
 * What goes on within a handle besides requests: watches and mirrors. Each begins with a struct
 * task and is in the handle's list from its start until it is over; then the handle frees it, and
 * not before, since its own callback may be running or a reply to it be on its way.
 */
#ifndef BINDINGS_C_TASK_H
#define BINDINGS_C_TASK_H

#include "bindings/c/handle.h"

struct task {
    struct task *next;
    size_t requests; /* outstanding ones, of which the callbacks take the task */
    unsigned held;   /* calls that wait for something of it */
    bool dead;       /* nobody wants it any more: freed when no request is outstanding, nor held */
    int (*work)(struct task *task, int64_t now); /* what is due; the number of events */
    int64_t (*due_ms)(const struct task *task);  /* when something is; NEVER_MS */
    void (*free)(struct task *task);             /* at the end, of the handle too */
};

/* The task is the handle's now. */
void task_start(struct cubby *cubby, struct task *task);

/* request_send for a request of the task's own; its callback begins with task_answered. */
enum cubby_status task_send(struct cubby *cubby, struct task *task, int64_t timeout_ms,
                            cubby_callback *callback);

/* False where the task is to do nothing with the answer. */
bool task_answered(struct cubby *cubby, struct task *task, const struct cubby_reply *reply);

/* For the handle. */
int tasks_work(struct cubby *cubby, int64_t now);
int64_t tasks_due_ms(const struct cubby *cubby);
void tasks_free(struct cubby *cubby);

#endif
