#include "bindings/c/task.h"

void tasks_add(struct task **tasks, struct task *task)
{
    task->next = *tasks;
    *tasks = task;
}

static void sweep(struct task **place)
{
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

int tasks_work(struct task **tasks, int64_t now)
{
    int events = 0;
    for (struct task *task = *tasks; task != NULL; task = task->next) {
        if (!task->dead)
            events += task->work(task, now);
    }
    sweep(tasks);
    return events;
}

bool tasks_notified(struct task *tasks, const struct wire_notification *notification)
{
    for (struct task *task = tasks; task != NULL; task = task->next) {
        if (!task->dead && task->notified != NULL && task->notified(task, notification))
            return true;
    }
    return false;
}

int64_t tasks_due_ms(const struct task *tasks)
{
    int64_t due = NEVER_MS;
    for (const struct task *task = tasks; task != NULL; task = task->next) {
        int64_t own = task->dead ? NEVER_MS : task->due_ms(task);
        due = own < due ? own : due;
    }
    return due;
}

size_t tasks_requests(const struct task *tasks)
{
    size_t requests = 0;
    for (const struct task *task = tasks; task != NULL; task = task->next)
        requests += task->requests;
    return requests;
}

size_t tasks_sockets(const struct task *tasks)
{
    size_t sockets = 0;
    for (const struct task *task = tasks; task != NULL; task = task->next)
        sockets += task->socket != NULL;
    return sockets;
}

size_t tasks_items(const struct task *tasks, zmq_pollitem_t *items)
{
    size_t count = 0;
    for (const struct task *task = tasks; task != NULL; task = task->next) {
        if (task->socket != NULL && !task->dead && task->listens(task))
            items[count++] = (zmq_pollitem_t){.socket = task->socket, .events = ZMQ_POLLIN};
    }
    return count;
}

void tasks_free(struct task **tasks)
{
    while (*tasks != NULL) {
        struct task *task = *tasks;
        *tasks = task->next;
        task->free(task);
    }
}
