#include "daemon/backlog.h"

#include <stdlib.h>

/*
 * What is in front of a message's bytes. `backlog` is also how ThreadSanitizer, which cannot look
 * into libzmq, sees that the thread that frees it comes after the one that made it.
 */
struct head {
    _Atomic(struct backlog *) backlog;
    size_t counted;
};

/* In a thread of libzmq's, where the last subscriber's connection took the message. */
static void release(void *bytes, void *hint)
{
    struct head *head = hint;
    (void)bytes;
    struct backlog *backlog = atomic_load_explicit(&head->backlog, memory_order_acquire);
    atomic_fetch_sub_explicit(&backlog->bytes, head->counted, memory_order_relaxed);
    free(head);
}

int backlog_message(struct backlog *backlog, zmq_msg_t *message, size_t size)
{
    struct head *head = malloc(sizeof *head + size);
    if (head == NULL)
        return -1;
    head->counted = size + BACKLOG_OVERHEAD;
    atomic_store_explicit(&head->backlog, backlog, memory_order_release);
    if (zmq_msg_init_data(message, head + 1, size, release, head) != 0) {
        free(head);
        return -1;
    }
    atomic_fetch_add_explicit(&backlog->bytes, head->counted, memory_order_relaxed);
    return 0;
}

size_t backlog_bytes(const struct backlog *backlog)
{
    return atomic_load_explicit(&backlog->bytes, memory_order_relaxed);
}
