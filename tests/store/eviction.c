/* Eviction of keys: in which transactions, what goes with a key, and what is never lost. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

#include "store/keys.h"
#include "store/store_internal.h"

enum {
    KEYS = 5000,
    VALUE_SIZE = 200,
    LIMIT = 4 << 20,
    ROOM = 50000, /* asked for, in bytes */
    LAST_KEY =
        8192, /* more than one key frees: its share of the pages that merge, and its record */
};

static struct store *store;
static struct keys keys;
static uint64_t now_ms = 1000;

static void begin(void)
{
    struct store_error error = {.message = ""};
    struct store_options options = {.durability = STORE_NONE,
                                    .wall_ms = 1000,
                                    .log_retain = 64 << 20,
                                    .memory_limit = LIMIT,
                                    .evicts = true};
    cr_assert_eq(store_open(&store, &options, &error), 0, "%s", error.message);
    keys_init(&keys, store);
}

static void end(void)
{
    cr_assert_eq(store_close(&store), 0);
}

TestSuite(eviction, .init = begin, .fini = end);

static int put(unsigned number, uint64_t expires_at_ms)
{
    char key[32];
    static const uint8_t value[VALUE_SIZE];
    snprintf(key, sizeof key, "key:%u", number);
    return keys_put(&keys, slice_of_text(key), slice_of(value, VALUE_SIZE), expires_at_ms);
}

static void fill(unsigned count, uint64_t expires_at_ms)
{
    for (unsigned i = 0; i < count; i++) {
        store_begin(store, now_ms);
        cr_assert_eq(put(i, expires_at_ms), 0);
        cr_assert_eq(store_end(store, NULL), 0);
    }
}

static uint64_t count_of(enum store_table table)
{
    uint64_t count;
    cr_assert_eq(store_count(store, table, slice_of("", 0), (struct slice){0}, &count), 0);
    return count;
}

static uint64_t count_keys(void)
{
    return count_of(STORE_KEYS);
}

static uint32_t evict(size_t room)
{
    uint32_t evicted;
    cr_assert_eq(keys_evict(&keys, now_ms, room, &evicted), 0);
    return evicted;
}

Test(eviction, nothing_goes_while_there_is_room)
{
    fill(KEYS, 0);
    uint64_t seq = store_seq(store);
    cr_assert_eq(evict(1000), 0);
    cr_assert_eq(store_seq(store), seq);
}

Test(eviction, a_transaction_has_at_most_a_thousand_changes)
{
    fill(KEYS, 0);
    uint64_t seq = store_seq(store);
    for (unsigned left = KEYS; left > 0; left -= KEYS_MAX_EXPIRED)
        cr_assert_eq(evict(LIMIT), KEYS_MAX_EXPIRED);
    cr_assert_eq(evict(LIMIT), 0);
    cr_assert_eq(store_seq(store), seq + KEYS / KEYS_MAX_EXPIRED);
    cr_assert_eq(count_keys(), 0);
}

Test(eviction, only_as_much_goes_as_is_needed)
{
    while (store_has_room(store, VALUE_SIZE + 100)) {
        store_begin(store, now_ms);
        cr_assert_eq(put((unsigned)store_seq(store), 0), 0);
        cr_assert_eq(store_end(store, NULL), 0);
    }
    struct store_stats stats;
    evict(ROOM);
    store_stats(store, &stats);
    cr_assert_leq(stats.memory, LIMIT - ROOM);
    cr_assert_gt(stats.memory, LIMIT - ROOM - LAST_KEY, "%" PRIu64, stats.memory);
}

Test(eviction, with_a_key_its_expiry_goes_and_an_expired_one_has_expired)
{
    struct store_history *history;
    struct store_history_change change;
    fill(10, 5000);
    fill(5, 2000);
    now_ms = 3000;
    uint64_t seq = store_seq(store);
    cr_assert_eq(evict(LIMIT), 10);
    cr_assert_eq(count_of(STORE_EXPIRY), 0);
    unsigned counts[STORE_CHANGES] = {0};
    cr_assert_eq(store_history_open(store, &history), 0);
    cr_assert_eq(store_history_seek(history, seq), 0);
    while (store_history_next(history, &change) == 0)
        counts[change.change]++;
    store_history_close(&history);
    cr_assert_eq(counts[STORE_CHANGE_EXPIRE], 5);
    cr_assert_eq(counts[STORE_CHANGE_EVICT], 5);
}

Test(eviction, other_tables_stay)
{
    fill(100, 0);
    store_begin(store, now_ms);
    for (enum store_table table = STORE_META; table < STORE_TABLES; table++)
        cr_assert_eq(store_put(store, table, slice_of_text("job"), slice_of("", 0),
                               slice_of_text("body"), STORE_QUIET),
                     0);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(evict(LIMIT), 100);
    for (enum store_table table = STORE_META; table < STORE_TABLES; table++)
        cr_assert_eq(count_of(table), 1);
}

Test(eviction, what_is_taken_back_is_tracked_as_it_is_then)
{
    fill(100, 0);
    store_begin(store, now_ms);
    cr_assert_eq(put(100, 0), 0);
    cr_assert_eq(keys_delete(&keys, slice_of_text("key:7")), 0);
    struct store_savepoint before = store_savepoint(store);
    cr_assert_eq(put(101, 0), 0);
    cr_assert_eq(keys_delete(&keys, slice_of_text("key:8")), 0);
    store_rollback(store, before);
    cr_assert_eq(store->sieve.count, 100);
    store_cancel(store);
    cr_assert_eq(store->sieve.count, 100);
    cr_assert_eq(evict(LIMIT), 100);
    store_abandon(store);
    cr_assert_eq(store->sieve.count, 0);
    cr_assert_eq(count_keys(), 0);
}

static bool never(void *context, size_t size)
{
    (void)context;
    (void)size;
    return false;
}

Test(eviction, a_key_for_which_there_was_no_memory_is_evicted_after_the_others)
{
    fill(100, 0);
    store->sieve.admit = never;
    fill(200, 0);
    store->sieve.admit = NULL;
    cr_assert_eq(count_keys(), 200);
    cr_assert_lt(store->sieve.count, 200);
    cr_assert_eq(evict(LIMIT), 200);
    cr_assert_eq(count_keys(), 0);
}
