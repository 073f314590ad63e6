/*
 * What the handle does with its subscriptions; the public part is in cubby.h.
 */
#ifndef BINDINGS_C_SUBSCRIPTION_H
#define BINDINGS_C_SUBSCRIPTION_H

#include "bindings/c/handle.h"

/*
 * Reads what the broadcast has brought and starts catching up where something may be missing.
 * Returns the number of events; the callbacks run.
 */
int subscriptions_work(struct cubby *cubby, int64_t now);

/* The earliest time at which one has something to do by the clock. */
int64_t subscriptions_due_ms(const struct cubby *cubby);

/* Adds those of its sockets that are to be waited for; `items` has room for all. */
size_t subscriptions_items(const struct cubby *cubby, zmq_pollitem_t *items);

/* Adds the descriptors of all its sockets to the handle's; -1 with errno. */
int subscriptions_watch(struct cubby *cubby);

void subscriptions_free(struct cubby *cubby);

#endif
