#include "daemon/payloads.h"

#include <stdlib.h>

/*
 * `owner` is also how ThreadSanitizer, which cannot look into libzmq, sees who has a block after
 * whom.
 */
struct payload_block {
    struct payload_block *next;
    _Atomic(struct payloads *) owner;
    uint8_t bytes[PAYLOADS_MAX_SIZE];
};

void payloads_init(struct payloads *payloads)
{
    *payloads = (struct payloads){.spare = NULL};
    atomic_init(&payloads->returned, NULL);
}

/* libzmq calls it, in the thread that lets go of the message's last copy. */
static void give_back(void *bytes, void *hint)
{
    (void)bytes;
    struct payload_block *block = hint;
    struct payloads *owner = atomic_load_explicit(&block->owner, memory_order_acquire);
    _Atomic(struct payload_block *) *returned = &owner->returned;
    block->next = atomic_load_explicit(returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(returned, &block->next, block,
                                                  memory_order_release, memory_order_relaxed))
        continue;
}

static void keep(struct payloads *payloads, struct payload_block *block)
{
    if (payloads->spare_count == PAYLOADS_MAX_SPARE) {
        free(block);
        return;
    }
    block->next = payloads->spare;
    payloads->spare = block;
    payloads->spare_count++;
}

/* All at once, so that no other thread can have changed the list behind its head. */
static void collect(struct payloads *payloads)
{
    struct payload_block *block =
        atomic_exchange_explicit(&payloads->returned, NULL, memory_order_acquire);
    while (block != NULL) {
        struct payload_block *next = block->next;
        keep(payloads, block);
        block = next;
    }
}

static struct payload_block *take(struct payloads *payloads)
{
    if (payloads->spare == NULL)
        collect(payloads);
    struct payload_block *block = payloads->spare;
    if (block == NULL)
        return malloc(sizeof *block);
    payloads->spare = block->next;
    payloads->spare_count--;
    return block;
}

static int fill_allocated(zmq_msg_t *message, struct slice bytes)
{
    if (zmq_msg_init_size(message, bytes.size) != 0)
        return -1;
    memcpy(zmq_msg_data(message), bytes.data, bytes.size);
    return 0;
}

int payloads_fill(struct payloads *payloads, zmq_msg_t *message, struct slice bytes)
{
    if (bytes.size < PAYLOADS_MIN_SIZE || bytes.size > PAYLOADS_MAX_SIZE)
        return fill_allocated(message, bytes);
    struct payload_block *block = take(payloads);
    if (block == NULL)
        return -1;
    memcpy(block->bytes, bytes.data, bytes.size);
    atomic_store_explicit(&block->owner, payloads, memory_order_release);
    if (zmq_msg_init_data(message, block->bytes, bytes.size, give_back, block) == 0)
        return 0;
    keep(payloads, block);
    return -1;
}

void payloads_end(struct payloads *payloads)
{
    collect(payloads);
    while (payloads->spare != NULL) {
        struct payload_block *next = payloads->spare->next;
        free(payloads->spare);
        payloads->spare = next;
    }
    payloads->spare_count = 0;
}
