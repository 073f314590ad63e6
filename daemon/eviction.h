/*
 * Eviction (--eviction sieve): a write for which there is no room under the limit of memory makes
 * some, in transactions before its own. Nothing happens where the store does not evict.
 */
#ifndef DAEMON_EVICTION_H
#define DAEMON_EVICTION_H

#include "daemon/method.h"

/*
 * After a request came to nothing with `storage_full` and was taken back, for the `attempt`th time
 * (from 0): evicts keys until there is room for it. False where it is no use to try it again: room
 * was not what it lacked, it does not fit under the limit, or there is no key left.
 */
bool eviction_make_room(struct service *service, const struct wire_request *request,
                        unsigned attempt, uint64_t now_ms);

/* Before anything is served: evicts what a start has found over the limit, and commits that. */
void eviction_begin(struct service *service, uint64_t now_ms);

#endif
