/*
 * A key with its table before it, as an engine keeps all tables in one order, with room of its own.
 */
#ifndef STORE_TABLE_KEY_H
#define STORE_TABLE_KEY_H

#include "store/engine.h"

/*
 * One byte more than a key can have: a longer one that is sought compares with all that can be
 * there as its first ENGINE_MAX_KEY + 1 bytes do.
 */
enum { TABLE_KEY_SIZE = 1 + ENGINE_MAX_KEY + 1 };

struct table_key {
    size_t size;
    uint8_t bytes[TABLE_KEY_SIZE]; /* the table's number, the key */
};

/* `key` may be a view of `own`. */
static inline void table_key_set(struct table_key *own, unsigned table, struct slice key)
{
    size_t size = key.size < TABLE_KEY_SIZE - 1 ? key.size : TABLE_KEY_SIZE - 1;
    if (size > 0)
        memmove(own->bytes + 1, key.data, size);
    own->bytes[0] = (uint8_t)table;
    own->size = 1 + size;
}

static inline unsigned table_key_table(const struct table_key *own)
{
    return own->bytes[0];
}

static inline struct slice table_key_whole(const struct table_key *own)
{
    return slice_of(own->bytes, own->size);
}

/* Without the table. */
static inline struct slice table_key_rest(const struct table_key *own)
{
    return slice_of(own->bytes + 1, own->size - 1);
}

#endif
