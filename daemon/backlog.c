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

/* Where the head is handed over nothing of it is touched any more. */
static struct head *make(struct backlog *backlog, struct slice first, struct slice rest)
{
    struct head *head = malloc(sizeof *head + first.size + rest.size);
    if (head == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(head + 1);
    memcpy(bytes, first.data, first.size);
    if (rest.size > 0)
        memcpy(bytes + first.size, rest.data, rest.size);
    head->counted = first.size + rest.size + BACKLOG_OVERHEAD;
    atomic_fetch_add_explicit(&backlog->bytes, head->counted, memory_order_relaxed);
    atomic_store_explicit(&head->backlog, backlog, memory_order_release);
    return head;
}

int backlog_message(struct backlog *backlog, zmq_msg_t *message, struct slice first,
                    struct slice rest)
{
    struct head *head = make(backlog, first, rest);
    if (head == NULL)
        return -1;
    if (zmq_msg_init_data(message, head + 1, first.size + rest.size, release, head) == 0)
        return 0;
    release(NULL, head);
    return -1;
}

size_t backlog_bytes(const struct backlog *backlog)
{
    return atomic_load_explicit(&backlog->bytes, memory_order_relaxed);
}
