/*
 * The key-value side of the store: entries with a version and an expiry in STORE_KEYS, and an
 * index by time in STORE_EXPIRY. A key that has expired is absent to every function here; its
 * `expire` change is made by keys_expire and keys_expire_key.
 *
 * Values are opaque bytes. Times are ms since 1970 UTC, 0 means never.
 */
#ifndef STORE_KEYS_H
#define STORE_KEYS_H

#include "store/store.h"

enum { KEYS_MAX_EXPIRED = 1000 }; /* changes of one expiry transaction */

struct keys_entry {
    struct slice value; /* a view, see store.h */
    uint64_t version;
    uint64_t expires_at_ms;
};

/* Keys from start up to, not including, end; `end.data == NULL`: no upper bound. */
struct keys_range {
    struct slice start;
    struct slice end;
};

/* STORE_NOT_FOUND where absent or expired as of store_now. */
int keys_get(struct store *store, struct slice key, struct keys_entry *entry);

/*
 * Adds or replaces, with version store_next_seq. In a transaction, and not for a key that
 * keys_must_expire: its expiry comes first, in a transaction of its own. Errors of store_put.
 */
int keys_put(struct store *store, struct slice key, struct slice value, uint64_t expires_at_ms);

/* STORE_NOT_FOUND where absent or expired. */
int keys_delete(struct store *store, struct slice key);

/* Sets the expiry and leaves version and value: no change. STORE_NOT_FOUND as above. */
int keys_touch(struct store *store, struct slice key, uint64_t expires_at_ms);

/* How many keys are in the range, exactly: expired ones do not count. */
uint64_t keys_count(struct store *store, struct keys_range range);

/*
 * Walks a range in key order, or in descending order. keys_first starts; `key` and `entry`
 * are views. STORE_NOT_FOUND behind the last. Writes may happen between two steps.
 */
struct keys_walk {
    struct store *store;
    struct keys_range range;
    bool reverse;
};

int keys_first(struct keys_walk *walk, struct slice *key, struct keys_entry *entry);
int keys_next(struct keys_walk *walk, struct slice *key, struct keys_entry *entry);

/* The entry in the stored bytes of a change (store_history_change.value). STORE_CORRUPT. */
int keys_decode(struct slice stored, struct keys_entry *entry);

/*
 * The keys that begin with the prefix. `buffer` (WIRE_MAX_KEY bytes at least) holds the range's
 * end; the range is good as long as it and the prefix are.
 */
struct keys_range keys_prefix(struct slice prefix, uint8_t *buffer);

/*
 * Expiry. keys_next_expiry: when the next key is due, 0 where none is. keys_expire removes keys
 * that are due at `now_ms`, at most KEYS_MAX_EXPIRED, in one transaction of its own; `expired` is
 * how many. keys_expire_key does the same for one key, and nothing where that is not due; it is
 * needed before a write to a key while others that are due still wait for keys_expire.
 */
uint64_t keys_next_expiry(struct store *store);
int keys_expire(struct store *store, uint64_t now_ms, uint32_t *expired);
int keys_expire_key(struct store *store, uint64_t now_ms, struct slice key);

#endif
