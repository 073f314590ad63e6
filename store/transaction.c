#include "store/transaction.h"

#include "store/hash.h"

enum {
    FIRST_PLACES = 64,
    FIRST_SLOTS = 256,
    SEARCH_PLACES = 8, /* up to so many operations are searched one by one, without the table */
    MAX_VARINT = 5,
    NOT_FOUND = -1,
};

enum store_change operation_change(enum operation_action action)
{
    static const enum store_change changes[] = {
        [OPERATION_CHANGE_PUT] = STORE_CHANGE_PUT,
        [OPERATION_CHANGE_DELETE] = STORE_CHANGE_DELETE,
        [OPERATION_CHANGE_EXPIRE] = STORE_CHANGE_EXPIRE,
        [OPERATION_CHANGE_EVICT] = STORE_CHANGE_EVICT,
    };
    return operation_is_change(action) ? changes[action] : STORE_QUIET;
}

static size_t write_varint(uint8_t *at, size_t number)
{
    size_t size = 0;
    for (; number >= 0x80; number >>= 7)
        at[size++] = (uint8_t)(number | 0x80);
    at[size++] = (uint8_t)number;
    return size;
}

static int read_varint(struct slice body, size_t *at, size_t *number)
{
    *number = 0;
    for (unsigned shift = 0; shift < 7 * MAX_VARINT && *at < body.size; shift += 7) {
        uint8_t byte = body.data[(*at)++];
        *number |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 0;
    }
    return STORE_CORRUPT;
}

static int read_bytes(struct slice body, size_t *at, size_t size, struct slice *bytes)
{
    if (size > body.size - *at)
        return STORE_CORRUPT;
    *bytes = slice_of(body.data + *at, size);
    *at += size;
    return 0;
}

size_t operation_size(struct slice key, size_t value_size)
{
    return 1 + 2 * MAX_VARINT + key.size + value_size;
}

int operation_read(struct slice body, size_t *at, struct operation *operation)
{
    size_t key_size;
    size_t value_size = 0;
    if (*at >= body.size)
        return STORE_NOT_FOUND;
    uint8_t code = body.data[(*at)++];
    operation->table = code >> 4;
    operation->action = (enum operation_action)(code & 0x0f);
    if (operation->table >= STORE_TABLES || operation->action > OPERATION_CHANGE_EVICT)
        return STORE_CORRUPT;
    int rc = read_varint(body, at, &key_size);
    if (rc == 0 && operation_is_put(operation->action))
        rc = read_varint(body, at, &value_size);
    if (rc == 0)
        rc = read_bytes(body, at, key_size, &operation->key);
    if (rc == 0)
        rc = read_bytes(body, at, value_size, &operation->value);
    return rc;
}

void transaction_init(struct transaction *transaction, uint64_t seed)
{
    *transaction = (struct transaction){.seed = seed};
}

void transaction_free(struct transaction *transaction)
{
    free(transaction->places);
    free(transaction->slots);
    buffer_free(&transaction->scratch);
}

void transaction_clear(struct transaction *transaction)
{
    transaction->indexed = false;
    transaction->count = 0;
    transaction->changes = 0;
    transaction->repeated = 0;
}

static struct operation operation_at(const struct transaction *transaction, struct slice body,
                                     uint32_t index)
{
    struct operation operation = {0};
    size_t at = transaction->places[index].offset;
    (void)operation_read(body, &at, &operation); /* we wrote it ourselves */
    return operation;
}

static bool changes_key(const struct transaction *transaction, struct slice body, uint32_t index,
                        struct slice key)
{
    struct operation operation = operation_at(transaction, body, index);
    return operation_is_change(operation.action) && operation.table == STORE_KEYS &&
           slice_equal(operation.key, key);
}

/*
 * The slot of the key's change, or the empty one where it belongs. Keys are compared only where
 * their hashes are the same: a key in the body is seldom in a cache.
 */
static uint32_t *find_slot(const struct transaction *transaction, struct slice body,
                           struct slice key, uint32_t hash)
{
    uint32_t mask = transaction->slot_count - 1;
    for (uint32_t at = hash & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &transaction->slots[at];
        if (*slot == 0 || (transaction->places[*slot - 1].hash == hash &&
                           changes_key(transaction, body, *slot - 1, key)))
            return slot;
    }
}

/* Never 0, which says that there is none. */
static uint32_t hash_of(const struct transaction *transaction, struct slice key)
{
    uint32_t hash = (uint32_t)hash_bytes(transaction->seed, key);
    return hash != 0 ? hash : 1;
}

/* For a table that is made anew, where no two are of the same key. */
static void insert_slot(struct transaction *transaction, struct slice body, uint32_t index)
{
    struct operation_place *place = &transaction->places[index];
    uint32_t mask = transaction->slot_count - 1;
    if (place->hash == 0) {
        struct operation operation = operation_at(transaction, body, index);
        if (!operation_is_change(operation.action) || place->first != index)
            return;
        place->hash = hash_of(transaction, operation.key);
    }
    uint32_t at = place->hash & mask;
    while (transaction->slots[at] != 0)
        at = (at + 1) & mask;
    transaction->slots[at] = index + 1;
    transaction->slots_used++;
}

/* Sees to it that the table holds all changes so far and has room for one more. */
static int index_changes(struct transaction *transaction, struct slice body)
{
    if (transaction->indexed && 2 * (transaction->slots_used + 1) <= transaction->slot_count)
        return 0;
    uint32_t size = FIRST_SLOTS;
    while (size < 4 * (transaction->count + 1))
        size *= 2;
    if (size > transaction->slot_capacity) {
        uint32_t *slots = realloc(transaction->slots, size * sizeof *slots);
        if (slots == NULL)
            return STORE_NO_MEMORY;
        transaction->slots = slots;
        transaction->slot_capacity = size;
    }
    memset(transaction->slots, 0, size * sizeof *transaction->slots);
    transaction->slot_count = size;
    transaction->slots_used = 0;
    transaction->indexed = true;
    for (uint32_t i = 0; i < transaction->count; i++)
        insert_slot(transaction, body, i);
    return 0;
}

static int grow_places(struct transaction *transaction)
{
    if (transaction->count < transaction->capacity)
        return 0;
    uint32_t capacity = transaction->capacity > 0 ? 2 * transaction->capacity : FIRST_PLACES;
    struct operation_place *places =
        realloc(transaction->places, capacity * sizeof *transaction->places);
    if (places == NULL)
        return STORE_NO_MEMORY;
    transaction->places = places;
    transaction->capacity = capacity;
    return 0;
}

/* Index of the first change of the key in this transaction, or NOT_FOUND; of few operations. */
static int64_t search_change(const struct transaction *transaction, struct slice body,
                             struct slice key)
{
    for (uint32_t i = 0; i < transaction->count; i++)
        if (changes_key(transaction, body, i, key))
            return transaction->places[i].first;
    return NOT_FOUND;
}

/* Likewise by the table, which then holds the operation `index` if it is the first change. */
static int64_t find_or_insert(struct transaction *transaction, struct slice body, struct slice key,
                              uint32_t index, bool is_change)
{
    uint32_t hash = hash_of(transaction, key);
    uint32_t *slot = find_slot(transaction, body, key, hash);
    if (*slot != 0)
        return (int64_t)transaction->places[*slot - 1].first;
    if (!is_change)
        return NOT_FOUND;
    *slot = index + 1;
    transaction->places[index].hash = hash;
    transaction->slots_used++;
    return NOT_FOUND;
}

static uint8_t *write_slice(uint8_t *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* There is room for it. */
static inline void append_operation(struct buffer *body, const struct write *write,
                                    struct slice *stored)
{
    size_t size = write->head.size + write->value.size;
    uint8_t *at = body->data + body->size;
    *at++ = (uint8_t)(write->table << 4 | (unsigned)write->action);
    at += write_varint(at, write->key.size);
    if (operation_is_put(write->action))
        at += write_varint(at, size);
    at = write_slice(at, write->key);
    *stored = slice_of(at, size);
    at = write_slice(write_slice(at, write->head), write->value);
    body->size = (size_t)(at - body->data);
}

int transaction_add(struct transaction *transaction, struct buffer *body, size_t start,
                    const struct write *write, struct slice *stored)
{
    int64_t first = NOT_FOUND;
    bool is_change = operation_is_change(write->action);
    if (grow_places(transaction) != 0 ||
        !buffer_reserve(body, operation_size(write->key, write->head.size + write->value.size)))
        return STORE_NO_MEMORY;
    struct slice before = buffer_slice(body, start); /* which buffer_reserve may have moved */
    uint32_t index = transaction->count;
    bool of_keys = write->table == STORE_KEYS;
    bool by_table = of_keys && index > SEARCH_PLACES;
    if (by_table && index_changes(transaction, before) != 0)
        return STORE_NO_MEMORY;
    transaction->places[index].hash = 0;
    if (by_table)
        first = find_or_insert(transaction, before, write->key, index, is_change);
    else if (of_keys)
        first = search_change(transaction, before, write->key);
    transaction->count++;
    transaction->places[index].offset = before.size;
    transaction->places[index].first = first == NOT_FOUND ? index : (uint32_t)first;
    append_operation(body, write, stored);
    if (first != NOT_FOUND)
        transaction->repeated++;
    else if (is_change)
        transaction->changes++;
    return 0;
}

void transaction_truncate(struct transaction *transaction, struct buffer *body, size_t start,
                          uint32_t count, uint32_t changes)
{
    if (count >= transaction->count)
        return;
    body->size = start + transaction->places[count].offset;
    for (uint32_t i = count; i < transaction->count; i++)
        transaction->repeated -= transaction->places[i].first != i;
    transaction->count = count;
    transaction->changes = changes;
    transaction->indexed = false; /* slots may name operations that are gone */
}

/* What the key that was first changed at `index` looks like at the end. */
static struct operation final_state(const struct transaction *transaction, struct slice body,
                                    uint32_t index, const uint32_t *last)
{
    struct operation operation = operation_at(transaction, body, last[index]);
    if (operation.action == OPERATION_PUT) /* a put whose expiry was set afterwards */
        operation.action = OPERATION_CHANGE_PUT;
    return operation;
}

static void append_final(struct transaction *transaction, const struct operation *operation)
{
    struct slice stored;
    const struct write write = {.table = operation->table,
                                .action = operation->action,
                                .key = operation->key,
                                .value = operation->value};
    if (buffer_reserve(&transaction->scratch,
                       operation_size(operation->key, operation->value.size)))
        append_operation(&transaction->scratch, &write, &stored);
}

/* The first operation that does not stay as it is; there is one. */
static uint32_t first_to_go(const struct transaction *transaction, const uint32_t *last)
{
    uint32_t index = 0;
    while (transaction->places[index].first == index && last[index] == index)
        index++;
    return index;
}

/* From this operation on. Most are what they were: those in a row are copied at once. */
static void rebuild(struct transaction *transaction, struct slice body, const uint32_t *last,
                    uint32_t first)
{
    size_t from = transaction->places[first].offset; /* those yet to be copied begin here */
    for (uint32_t i = first; i < transaction->count; i++) {
        size_t begin = transaction->places[i].offset;
        bool repeats = transaction->places[i].first != i;
        if (!repeats && last[i] == i)
            continue;
        buffer_append(&transaction->scratch, body.data + from, begin - from);
        from = i + 1 < transaction->count ? transaction->places[i + 1].offset : body.size;
        if (repeats)
            continue;
        struct operation operation = final_state(transaction, body, i, last);
        append_final(transaction, &operation);
    }
    buffer_append(&transaction->scratch, body.data + from, body.size - from);
}

int transaction_finish(struct transaction *transaction, struct buffer *body, size_t start)
{
    if (transaction->repeated == 0)
        return 0;
    uint32_t *last = malloc(transaction->count * sizeof *last);
    if (last == NULL)
        return STORE_NO_MEMORY;
    for (uint32_t i = 0; i < transaction->count; i++)
        last[transaction->places[i].first] = i;
    buffer_clear(&transaction->scratch);
    uint32_t first = first_to_go(transaction, last);
    rebuild(transaction, buffer_slice(body, start), last, first);
    free(last);
    if (transaction->scratch.failed)
        return STORE_NO_MEMORY;
    body->size = start + transaction->places[first].offset;
    buffer_append(body, transaction->scratch.data, transaction->scratch.size);
    buffer_restart(&transaction->scratch);
    return body->failed ? STORE_NO_MEMORY : 0;
}
