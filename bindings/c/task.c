#include "bindings/c/task.h"

void task_start(struct cubby *cubby, struct task *task)
{
    task->next = cubby->tasks;
    cubby->tasks = task;
}

enum cubby_status task_send(struct cubby *cubby, struct task *task, int64_t timeout_ms,
                            cubby_callback *callback)
{
    enum cubby_status status = request_send(cubby, timeout_ms, callback, task);
    if (status != CUBBY_OK)
        return status;
    task->requests++;
    cubby->own_requests++;
    return CUBBY_OK;
}

bool task_answered(struct cubby *cubby, struct task *task, const struct cubby_reply *reply)
{
    task->requests--;
    cubby->own_requests--;
    return !task->dead && reply->status != CUBBY_CLOSED;
}

static void sweep(struct cubby *cubby)
{
    struct task **place = &cubby->tasks;
    while (*place != NULL) {
        struct task *task = *place;
        if (task->dead && task->requests == 0 && task->held == 0) {
            *place = task->next;
            task->free(task);
        } else {
            place = &task->next;
        }
    }
}

int tasks_work(struct cubby *cubby, int64_t now)
{
    int events = 0;
    for (struct task *task = cubby->tasks; task != NULL; task = task->next) {
        if (!task->dead)
            events += task->work(task, now);
    }
    sweep(cubby);
    return events;
}

int64_t tasks_due_ms(const struct cubby *cubby)
{
    int64_t due = NEVER_MS;
    for (const struct task *task = cubby->tasks; task != NULL; task = task->next) {
        int64_t own = task->dead ? NEVER_MS : task->due_ms(task);
        due = own < due ? own : due;
    }
    return due;
}

void tasks_free(struct cubby *cubby)
{
    while (cubby->tasks != NULL) {
        struct task *task = cubby->tasks;
        cubby->tasks = task->next;
        task->free(task);
    }
}
