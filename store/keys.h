/*
 * The key-value side of the store: entries with a version and an expiry in STORE_KEYS, and an
 * index by time in STORE_EXPIRY. A key that has expired is absent to every function here at once;
 * its `expire` change is made by keys_expire and keys_expire_key.
 *
 * Values are opaque bytes. Times are ms since 1970 UTC, 0 means never. Views (keys and entries
 * handed out) live as store.h says.
 */
#ifndef STORE_KEYS_H
#define STORE_KEYS_H

#include "store/store.h"

enum {
    KEYS_MAX_KEY = 1024,
    KEYS_MAX_EXPIRY_KEY = 8 + KEYS_MAX_KEY,
    KEYS_MAX_EXPIRED = 1000, /* changes of one expiry transaction, or of one that evicts */
};

/* Made by keys_init for a store that outlives it; owns nothing. */
struct keys {
    struct store *store;
    uint64_t no_expiry_before_ms; /* nothing is due before; 0: look */
    uint64_t retry_ms;            /* keys_expire is not tried before: it had no room */
};

struct keys_entry {
    struct slice stored; /* all of it, as the store has it */
    struct slice value;
    uint64_t version;
    uint64_t expires_at_ms;
};

/* Keys from start up to, not including, end; `end.data == NULL`: no upper bound. */
struct keys_range {
    struct slice start;
    struct slice end;
};

void keys_init(struct keys *keys, struct store *store);

/* After a store_abandon, which may have brought back what had expired. */
void keys_forget_times(struct keys *keys);

/* STORE_NOT_FOUND where absent, or expired as of store_now. Where it is there it was visited. */
int keys_get(struct keys *keys, struct slice key, struct keys_entry *entry);

/*
 * Adds or replaces, with version store_next_seq. In a transaction; where keys_due, after
 * keys_expire_key for that key and before that transaction. Errors as of store_put.
 */
int keys_put(struct keys *keys, struct slice key, struct slice value, uint64_t expires_at_ms);

/* keys_put where keys_get has found the entry and nothing was written since: it is not looked up.
 */
int keys_replace(struct keys *keys, struct slice key, const struct keys_entry *found,
                 struct slice value, uint64_t expires_at_ms);

/* STORE_NOT_FOUND where absent or expired. */
int keys_delete(struct keys *keys, struct slice key);

/* Sets the expiry; neither version nor change. STORE_NOT_FOUND where absent or expired. */
int keys_touch(struct keys *keys, struct slice key, uint64_t expires_at_ms);

/* How many keys are in the range, exactly: expired ones do not count. Errors as of store_count. */
int keys_count(struct keys *keys, struct keys_range range, uint64_t *count);

/*
 * Walks a range in key order, or in descending order: keys_first starts, and STORE_NOT_FOUND
 * comes behind the last. Writes may happen between two steps. One walk at a time.
 */
struct keys_walk {
    struct keys *keys;
    struct keys_range range;
    bool reverse;
};

int keys_first(struct keys_walk *walk, struct slice *key, struct keys_entry *entry);
int keys_next(struct keys_walk *walk, struct slice *key, struct keys_entry *entry);

/* The entry in the stored bytes of a change (store_history_change.value). STORE_CORRUPT. */
int keys_decode(struct slice stored, struct keys_entry *entry);

/*
 * What the index by time has for a key that expires, written to a buffer of KEYS_MAX_EXPIRY_KEY
 * bytes; and what such an entry says: STORE_CORRUPT where it is none.
 */
struct slice keys_expiry_key(uint8_t *buffer, uint64_t expires_at_ms, struct slice key);
int keys_read_expiry_key(struct slice index, uint64_t *expires_at_ms, struct slice *key);

/*
 * The keys that begin with the prefix (KEYS_MAX_KEY bytes at most). `buffer` is to hold as many
 * bytes as the prefix has; the range is good as long as it and the prefix are.
 */
struct keys_range keys_prefix(struct slice prefix, uint8_t *buffer);

/*
 * Expiry. keys_due: whether any key is due at `now_ms`, at next to no cost. keys_expire removes
 * keys that are due, at most KEYS_MAX_EXPIRED of them, in a transaction of its own, and says how
 * many, also where it fails on the way: they are gone then. keys_next_expiry: when it is to be
 * called next: when the next key is due, UINT64_MAX where none is, or a second after it failed.
 * keys_expire_key does it for one key, and nothing where that is not due: it comes before a write
 * to a key while others wait for keys_expire. Errors as of store_delete.
 */
bool keys_due(struct keys *keys, uint64_t now_ms);
uint64_t keys_next_expiry(struct keys *keys);
int keys_expire(struct keys *keys, uint64_t now_ms, uint32_t *expired);
int keys_expire_key(struct keys *keys, uint64_t now_ms, struct slice key);

/*
 * Evicts keys until the store has room for so many bytes, at most KEYS_MAX_EXPIRED of them, in a
 * transaction of its own, and says how many, as keys_expire does; 0 too where none is left. One
 * that has expired makes an `expire` change. Errors as of store_delete.
 */
int keys_evict(struct keys *keys, uint64_t now_ms, size_t room, uint32_t *evicted);

#endif
