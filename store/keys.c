#include "store/keys.h"

#include <endian.h>

#include "store/engine.h"
#include "store/sieve.h"

/*
 * An entry as it is stored, little endian:
 *
 *     1 byte    0 (4 bits: format) | has expiry (1 bit) | size of the version - 1 (3 bits)
 *     4 to 8    version: so that an entry that is written again keeps its size
 *     8         expires_at in ms, where it has one
 *     rest      value
 *
 * To change it, give the format another number and read both.
 *
 * The key of STORE_EXPIRY is expires_at in ms (8 bytes, big endian, so that the first key is due
 * first) and the key; it has no value.
 */
enum {
    ENTRY_VERSION_SIZE = 0x07,
    ENTRY_HAS_EXPIRY = 0x08,
    ENTRY_FORMAT = 0xf0,
    EXPIRY_SIZE = 8,
    MIN_VERSION_SIZE = 4,
    MAX_HEAD = 1 + 8 + EXPIRY_SIZE,
};

enum { RETRY_MS = 1000 }; /* after an expiry that failed: mostly the disk was full */

static uint64_t read_number(const uint8_t *at, unsigned size)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < size; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

/* All bytes at once where there are `room` for that: this is done for every key. */
static uint64_t read_version(const uint8_t *at, unsigned size, size_t room)
{
    uint64_t number;
    if (room < sizeof(number))
        return read_number(at, size);
    memcpy(&number, at, sizeof(number));
    return le64toh(number) & (UINT64_MAX >> (64 - 8 * size));
}

static unsigned version_size_of(uint64_t version)
{
    unsigned size = (unsigned)(71 - __builtin_clzll(version | 1)) / 8;
    return size < MIN_VERSION_SIZE ? MIN_VERSION_SIZE : size;
}

static struct slice encode_head(uint8_t *head, uint64_t version, uint64_t expires_at_ms)
{
    unsigned size = version_size_of(version);
    uint64_t number = htole64(version);
    head[0] = (uint8_t)((size - 1) | (expires_at_ms != 0 ? ENTRY_HAS_EXPIRY : 0));
    memcpy(head + 1, &number, sizeof(number)); /* zeros behind it are written over or left out */
    if (expires_at_ms == 0)
        return slice_of(head, 1 + size);
    number = htole64(expires_at_ms);
    memcpy(head + 1 + size, &number, EXPIRY_SIZE);
    return slice_of(head, 1 + size + EXPIRY_SIZE);
}

int keys_decode(struct slice stored, struct keys_entry *entry)
{
    if (stored.size < 1 || (stored.data[0] & ENTRY_FORMAT) != 0)
        return STORE_CORRUPT;
    unsigned version_size = (stored.data[0] & ENTRY_VERSION_SIZE) + 1;
    bool has_expiry = (stored.data[0] & ENTRY_HAS_EXPIRY) != 0;
    size_t head = 1 + version_size + (has_expiry ? EXPIRY_SIZE : 0);
    if (stored.size < head)
        return STORE_CORRUPT;
    entry->version = read_version(stored.data + 1, version_size, stored.size - 1);
    entry->expires_at_ms =
        has_expiry ? read_number(stored.data + 1 + version_size, EXPIRY_SIZE) : 0;
    entry->value = slice_of(stored.data + head, stored.size - head);
    entry->stored = stored;
    return 0;
}

void keys_init(struct keys *keys, struct store *store)
{
    *keys = (struct keys){.store = store};
}

void keys_forget_times(struct keys *keys)
{
    keys->no_expiry_before_ms = 0;
}

/* The entry, expired or not. */
static int get_any(struct keys *keys, struct slice key, struct keys_entry *entry)
{
    struct slice stored;
    int rc = store_get(keys->store, STORE_KEYS, key, &stored);
    return rc != 0 ? rc : keys_decode(stored, entry);
}

static bool expired(const struct keys *keys, const struct keys_entry *entry)
{
    return entry->expires_at_ms != 0 && entry->expires_at_ms <= store_now(keys->store);
}

int keys_get(struct keys *keys, struct slice key, struct keys_entry *entry)
{
    int rc = get_any(keys, key, entry);
    if (rc == 0 && expired(keys, entry))
        return STORE_NOT_FOUND;
    if (rc == 0)
        store_visit(keys->store, key);
    return rc;
}

static struct slice index_key(uint8_t *buffer, uint64_t expires_at_ms, struct slice key)
{
    for (int i = 0; i < EXPIRY_SIZE; i++)
        buffer[i] = (uint8_t)(expires_at_ms >> (8 * (EXPIRY_SIZE - 1 - i)));
    memcpy(buffer + EXPIRY_SIZE, key.data, key.size);
    return slice_of(buffer, EXPIRY_SIZE + key.size);
}

static uint64_t index_time(struct slice index)
{
    uint64_t time_ms = 0;
    for (int i = 0; i < EXPIRY_SIZE; i++)
        time_ms = time_ms << 8 | index.data[i];
    return time_ms;
}

struct slice keys_expiry_key(uint8_t *buffer, uint64_t expires_at_ms, struct slice key)
{
    return index_key(buffer, expires_at_ms, key);
}

int keys_read_expiry_key(struct slice index, uint64_t *expires_at_ms, struct slice *key)
{
    if (index.size <= EXPIRY_SIZE || index.size > EXPIRY_SIZE + KEYS_MAX_KEY)
        return STORE_CORRUPT;
    *expires_at_ms = index_time(index);
    *key = slice_of(index.data + EXPIRY_SIZE, index.size - EXPIRY_SIZE);
    return 0;
}

static int index_add(struct keys *keys, uint64_t expires_at_ms, struct slice key)
{
    uint8_t buffer[EXPIRY_SIZE + KEYS_MAX_KEY];
    if (expires_at_ms == 0)
        return 0;
    if (expires_at_ms < keys->no_expiry_before_ms)
        keys->no_expiry_before_ms = expires_at_ms;
    return store_put(keys->store, STORE_EXPIRY, index_key(buffer, expires_at_ms, key),
                     (struct slice){0}, (struct slice){0}, STORE_QUIET);
}

static int index_remove(struct keys *keys, uint64_t expires_at_ms, struct slice key)
{
    uint8_t buffer[EXPIRY_SIZE + KEYS_MAX_KEY];
    if (expires_at_ms == 0)
        return 0;
    return store_delete(keys->store, STORE_EXPIRY, index_key(buffer, expires_at_ms, key),
                        STORE_QUIET);
}

static int index_move(struct keys *keys, struct slice key, uint64_t from_ms, uint64_t to_ms)
{
    if (from_ms == to_ms)
        return 0;
    int rc = index_remove(keys, from_ms, key);
    return rc != 0 ? rc : index_add(keys, to_ms, key);
}

/* Puts an entry over the one that is there, which is `old`, or NULL where there is none. */
static inline int put_over(struct keys *keys, struct slice key, const struct keys_entry *old,
                           uint64_t version, struct slice value, uint64_t expires_at_ms,
                           enum store_change change)
{
    uint8_t buffer[MAX_HEAD];
    struct slice head = encode_head(buffer, version, expires_at_ms);
    struct store_savepoint before = store_savepoint(keys->store);
    int rc = store_put_over(keys->store, STORE_KEYS, key, old != NULL ? &old->stored : NULL, head,
                            value, change);
    if (rc == 0)
        rc = index_move(keys, key, old != NULL ? old->expires_at_ms : 0, expires_at_ms);
    if (rc != 0)
        store_rollback(keys->store, before);
    return rc;
}

int keys_put(struct keys *keys, struct slice key, struct slice value, uint64_t expires_at_ms)
{
    struct keys_entry old;
    int rc = get_any(keys, key, &old);
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    return put_over(keys, key, rc == 0 ? &old : NULL, store_next_seq(keys->store), value,
                    expires_at_ms, STORE_CHANGE_PUT);
}

int keys_replace(struct keys *keys, struct slice key, const struct keys_entry *found,
                 struct slice value, uint64_t expires_at_ms)
{
    return put_over(keys, key, found, store_next_seq(keys->store), value, expires_at_ms,
                    STORE_CHANGE_PUT);
}

static int remove_entry(struct keys *keys, struct slice key, uint64_t expires_at_ms,
                        enum store_change change)
{
    struct store_savepoint before = store_savepoint(keys->store);
    int rc = store_delete(keys->store, STORE_KEYS, key, change);
    if (rc == 0)
        rc = index_remove(keys, expires_at_ms, key);
    if (rc != 0)
        store_rollback(keys->store, before);
    return rc;
}

int keys_delete(struct keys *keys, struct slice key)
{
    struct keys_entry entry;
    int rc = keys_get(keys, key, &entry);
    return rc != 0 ? rc : remove_entry(keys, key, entry.expires_at_ms, STORE_CHANGE_DELETE);
}

int keys_touch(struct keys *keys, struct slice key, uint64_t expires_at_ms)
{
    struct keys_entry entry;
    int rc = keys_get(keys, key, &entry);
    if (rc != 0 || entry.expires_at_ms == expires_at_ms)
        return rc;
    return put_over(keys, key, &entry, entry.version, entry.value, expires_at_ms, STORE_QUIET);
}

/* Ranges. */

struct keys_range keys_prefix(struct slice prefix, uint8_t *buffer)
{
    struct keys_range range = {.start = prefix};
    size_t size = prefix.size;
    while (size > 0 && prefix.data[size - 1] == 0xff)
        size--;
    if (size == 0)
        return range;
    memcpy(buffer, prefix.data, size);
    buffer[size - 1]++;
    range.end = slice_of(buffer, size);
    return range;
}

static bool in_range(const struct keys_range *range, struct slice key)
{
    return slice_compare(key, range->start) >= 0 &&
           (range->end.data == NULL || slice_compare(key, range->end) < 0);
}

/* How many keys of the range are still stored though they have expired. */
static int count_expired(struct keys *keys, const struct keys_range *range, uint64_t *count)
{
    struct engine_cursor *cursor = store_cursor(keys->store, STORE_EXPIRY);
    struct slice index;
    struct slice none;
    *count = 0;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = cursor->methods->cursor_seek(cursor, slice_of("", 0), &index, &none);
    while (rc == 0 && index_time(index) <= store_now(keys->store)) {
        *count += in_range(range, slice_of(index.data + EXPIRY_SIZE, index.size - EXPIRY_SIZE));
        rc = cursor->methods->cursor_next(cursor, &index, &none);
    }
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int keys_count(struct keys *keys, struct keys_range range, uint64_t *count)
{
    uint64_t expired_keys = 0;
    int rc = store_count(keys->store, STORE_KEYS, range.start, range.end, count);
    if (rc == 0 && keys_due(keys, store_now(keys->store)))
        rc = count_expired(keys, &range, &expired_keys);
    *count = rc == 0 ? *count - expired_keys : 0;
    return rc;
}

/* From where the cursor is, on to the next entry that is in the range and has not expired. */
static int settle(struct keys_walk *walk, struct engine_cursor *cursor, int rc, struct slice *key,
                  struct keys_entry *entry, struct slice *stored)
{
    for (;;) {
        if (rc != 0)
            return rc;
        if (!in_range(&walk->range, *key))
            return STORE_NOT_FOUND;
        rc = keys_decode(*stored, entry);
        if (rc != 0 || !expired(walk->keys, entry))
            return rc;
        rc = walk->reverse ? cursor->methods->cursor_prev(cursor, key, stored)
                           : cursor->methods->cursor_next(cursor, key, stored);
    }
}

int keys_first(struct keys_walk *walk, struct slice *key, struct keys_entry *entry)
{
    struct engine_cursor *cursor = store_cursor(walk->keys->store, STORE_KEYS);
    struct slice stored;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = walk->reverse
                 ? cursor->methods->cursor_seek_before(cursor, walk->range.end, key, &stored)
                 : cursor->methods->cursor_seek(cursor, walk->range.start, key, &stored);
    return settle(walk, cursor, rc, key, entry, &stored);
}

int keys_next(struct keys_walk *walk, struct slice *key, struct keys_entry *entry)
{
    struct engine_cursor *cursor = store_cursor(walk->keys->store, STORE_KEYS);
    struct slice stored;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = walk->reverse ? cursor->methods->cursor_prev(cursor, key, &stored)
                           : cursor->methods->cursor_next(cursor, key, &stored);
    return settle(walk, cursor, rc, key, entry, &stored);
}

/* Expiry. */

/* The first of the index: STORE_NOT_FOUND where nothing ever expires, STORE_CORRUPT. */
static int first_due(struct keys *keys, uint64_t *expires_at_ms, struct slice *key)
{
    struct engine_cursor *cursor = store_cursor(keys->store, STORE_EXPIRY);
    struct slice index, none;
    if (cursor == NULL)
        return STORE_NO_MEMORY;
    int rc = cursor->methods->cursor_seek(cursor, slice_of("", 0), &index, &none);
    return rc == 0 ? keys_read_expiry_key(index, expires_at_ms, key) : rc;
}

/* Looks when the next key is due and remembers it. */
static void look_up_expiry(struct keys *keys)
{
    uint64_t expires_at_ms;
    struct slice key;
    int rc = first_due(keys, &expires_at_ms, &key);
    if (rc == 0)
        keys->no_expiry_before_ms = expires_at_ms;
    else if (rc == STORE_NOT_FOUND)
        keys->no_expiry_before_ms = UINT64_MAX;
}

uint64_t keys_next_expiry(struct keys *keys)
{
    if (keys->no_expiry_before_ms == 0)
        look_up_expiry(keys);
    return keys->no_expiry_before_ms < keys->retry_ms ? keys->retry_ms : keys->no_expiry_before_ms;
}

bool keys_due(struct keys *keys, uint64_t now_ms)
{
    if (now_ms < keys->no_expiry_before_ms)
        return false;
    look_up_expiry(keys);
    return now_ms >= keys->no_expiry_before_ms;
}

/* In a transaction: removes the first of the index where it is due, else STORE_NOT_FOUND. */
static int expire_first(struct keys *keys)
{
    uint8_t bytes[KEYS_MAX_KEY];
    uint64_t expires_at_ms;
    struct slice key;
    int rc = first_due(keys, &expires_at_ms, &key);
    if (rc != 0)
        return rc;
    if (expires_at_ms > store_now(keys->store))
        return STORE_NOT_FOUND;
    memcpy(bytes, key.data, key.size); /* the view ends with the first write */
    return remove_entry(keys, slice_of(bytes, key.size), expires_at_ms, STORE_CHANGE_EXPIRE);
}

int keys_expire(struct keys *keys, uint64_t now_ms, uint32_t *expired_keys)
{
    uint32_t count = 0;
    int rc = 0;
    store_begin(keys->store, now_ms);
    while (count < KEYS_MAX_EXPIRED && (rc = expire_first(keys)) == 0)
        count++;
    keys->no_expiry_before_ms = 0;
    int end_rc = store_end(keys->store, NULL);
    *expired_keys = end_rc == 0 ? count : 0;
    if (rc == 0 || rc == STORE_NOT_FOUND)
        rc = end_rc;
    keys->retry_ms = rc == 0 ? 0 : now_ms + RETRY_MS;
    return rc;
}

int keys_expire_key(struct keys *keys, uint64_t now_ms, struct slice key)
{
    struct keys_entry entry;
    store_begin(keys->store, now_ms);
    int rc = get_any(keys, key, &entry);
    if (rc == 0 && expired(keys, &entry))
        rc = remove_entry(keys, key, entry.expires_at_ms, STORE_CHANGE_EXPIRE);
    int end_rc = store_end(keys->store, NULL);
    return rc != 0 && rc != STORE_NOT_FOUND ? rc : end_rc;
}

/* Eviction. */

_Static_assert((int)KEYS_MAX_KEY <= (int)SIEVE_MAX_KEY, "every key may be a victim");

/* In a transaction: removes the next victim; STORE_NOT_FOUND where there is none. */
static int evict_next(struct keys *keys)
{
    uint8_t key[SIEVE_MAX_KEY];
    struct keys_entry entry;
    struct slice victim = slice_of(key, store_victim(keys->store, key));
    if (victim.size == 0)
        return STORE_NOT_FOUND;
    int rc = get_any(keys, victim, &entry);
    if (rc != 0)
        return rc;
    return remove_entry(keys, victim, entry.expires_at_ms,
                        expired(keys, &entry) ? STORE_CHANGE_EXPIRE : STORE_CHANGE_EVICT);
}

int keys_evict(struct keys *keys, uint64_t now_ms, size_t room, uint32_t *evicted)
{
    uint32_t count = 0;
    int rc = 0;
    store_begin(keys->store, now_ms);
    while (count < KEYS_MAX_EXPIRED && !store_has_room(keys->store, room) &&
           (rc = evict_next(keys)) == 0)
        count++;
    int end_rc = store_end(keys->store, NULL);
    *evicted = end_rc == 0 ? count : 0;
    return rc != 0 && rc != STORE_NOT_FOUND ? rc : end_rc;
}
