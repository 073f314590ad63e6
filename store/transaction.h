/*
 * The operations of one transaction: the body of its record in the log, and which of them wrote
 * the same key. Used inside of the store alone: store.c writes them, a start and readers of history
 * read them.
 *
 * Operations are appended to a buffer that belongs to the log, one behind the other:
 *
 *     1 byte    table (4 bits) | action (4 bits): enum operation_action
 *     varint    size of the key           (LEB128)
 *     varint    size of the value         (only OPERATION_PUT, OPERATION_CHANGE_PUT)
 *     key, value
 *
 * Each is the final state of a key in a table, so that replaying a record twice does no harm.
 * To add an action, give it the next number; what a number means never changes.
 */
#ifndef STORE_TRANSACTION_H
#define STORE_TRANSACTION_H

#include "store/store.h"

enum operation_action {
    OPERATION_PUT = 0, /* quiet: not a change */
    OPERATION_DELETE = 1,
    OPERATION_CHANGE_PUT = 2,
    OPERATION_CHANGE_DELETE = 3,
    OPERATION_CHANGE_EXPIRE = 4,
    OPERATION_CHANGE_EVICT = 5,
};

struct operation {
    unsigned table;
    enum operation_action action;
    struct slice key;
    struct slice value; /* empty for what is not a put */
};

static inline bool operation_is_put(enum operation_action action)
{
    return action == OPERATION_PUT || action == OPERATION_CHANGE_PUT;
}

static inline bool operation_is_change(enum operation_action action)
{
    return action >= OPERATION_CHANGE_PUT;
}

/* Which change a reader of history sees; STORE_QUIET for none. */
enum store_change operation_change(enum operation_action action);

/* How many bytes an operation takes at most. */
size_t operation_size(struct slice key, size_t value_size);

/*
 * Reads the operation at `*at` and moves behind it. STORE_NOT_FOUND at the end, STORE_CORRUPT where
 * the bytes are no operation.
 */
int operation_read(struct slice body, size_t *at, struct operation *operation);

/* Where an operation of the transaction is; `first` is the index of the first change of its key. */
struct operation_place {
    size_t offset; /* in the body */
    uint32_t first;
    uint32_t hash; /* of the key; 0 where it is not in the hash table */
};

struct transaction {
    struct operation_place *places;
    uint32_t count;
    uint32_t capacity;
    uint32_t changes;    /* keys that the reader of history sees */
    uint32_t repeated;   /* operations on keys that had been changed before */
    bool indexed;        /* the hash table holds every change */
    uint32_t *slots;     /* index of a place + 1, 0 where empty */
    uint32_t slot_count; /* of this transaction: a power of two */
    uint32_t slot_capacity;
    uint32_t slots_used;
    uint64_t seed; /* of the hash: clients choose the keys */
    struct buffer scratch;
};

/* Ready for the first transaction. `seed` is random. */
void transaction_init(struct transaction *transaction, uint64_t seed);
void transaction_free(struct transaction *transaction);

/* Empty again, for the next one. */
void transaction_clear(struct transaction *transaction);

/* A write that becomes an operation. The value is head and value one behind the other. */
struct write {
    unsigned table;
    enum operation_action action;
    struct slice key;
    struct slice head;
    struct slice value;
};

/*
 * Appends one operation to `body`, whose operations begin at `start`. `stored` is set to its value,
 * a view of `body`. STORE_NO_MEMORY: nothing was appended.
 */
int transaction_add(struct transaction *transaction, struct buffer *body, size_t start,
                    const struct write *write, struct slice *stored);

/* Takes back all operations from index `count` on, of which `changes` were changes before. */
void transaction_truncate(struct transaction *transaction, struct buffer *body, size_t start,
                          uint32_t count, uint32_t changes);

/*
 * Where keys were written more than once, rewrites the body: each such key once, at the place of
 * its first change with its last state. STORE_NO_MEMORY.
 */
int transaction_finish(struct transaction *transaction, struct buffer *body, size_t start);

#endif
