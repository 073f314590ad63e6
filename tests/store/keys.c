/* Versions, expiry and ranges of keys. */
#include "store/keys.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/store/faulty_engine.h"

static struct store *store;
static struct keys keys;
static uint64_t now_ms;

static void setup(void)
{
    struct store_error error = {.message = ""};
    struct store_options options = {
        .durability = STORE_NONE, .wall_ms = 1000, .log_retain = 1 << 20};
    faults = (struct faults){.inner = &engine_memory};
    cr_assert_eq(store_open(&store, &options, &error), 0, "%s", error.message);
    keys_init(&keys, store);
    now_ms = 1000;
}

static void teardown(void)
{
    cr_assert_eq(store_close(&store), 0);
}

TestSuite(keys, .init = setup, .fini = teardown);

static void put(const char *key, uint64_t expires_at_ms)
{
    store_begin(store, now_ms);
    cr_assert_eq(keys_put(&keys, slice_of_text(key), slice_of_text("v"), expires_at_ms), 0);
    cr_assert_eq(store_end(store, NULL), 0);
}

static bool is_there(const char *key)
{
    struct keys_entry entry;
    store_begin(store, now_ms);
    int rc = keys_get(&keys, slice_of_text(key), &entry);
    cr_assert_eq(store_end(store, NULL), 0);
    return rc == 0;
}

static uint64_t count_in(struct keys_range range)
{
    uint64_t count;
    cr_assert_eq(keys_count(&keys, range, &count), 0);
    return count;
}

static uint64_t count_all(void)
{
    return count_in((struct keys_range){.start = {0}});
}

Test(keys, the_version_is_the_seq_of_the_transaction_that_wrote_the_value)
{
    struct keys_entry entry;
    put("a", 0);
    put("b", 0);
    put("a", 5000);
    cr_assert_eq(keys_get(&keys, slice_of_text("a"), &entry), 0);
    cr_assert_eq(entry.version, 3);
    cr_assert_eq(entry.expires_at_ms, 5000);
    cr_assert_eq(keys_get(&keys, slice_of_text("b"), &entry), 0);
    cr_assert_eq(entry.version, 2);
    cr_assert_eq(entry.expires_at_ms, 0);
}

Test(keys, versions_and_times_of_every_size_are_kept)
{
    static const uint64_t times[] = {1, 255, 256, UINT64_C(1) << 40, (UINT64_C(1) << 49) + 3};
    struct keys_entry entry;
    now_ms = 0;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        store_begin(store, 0);
        cr_assert_eq(keys_put(&keys, slice_of_text("a"), slice_of_text("v"), times[i] + 1000), 0);
        cr_assert_eq(keys_get(&keys, slice_of_text("a"), &entry), 0);
        cr_assert_eq(entry.expires_at_ms, times[i] + 1000);
        cr_assert_eq(store_end(store, NULL), 0);
    }
}

Test(keys, a_key_that_was_found_is_replaced_with_its_version_and_expiry_as_by_a_put)
{
    struct keys_entry found;
    struct slice key = slice_of_text("a");
    put("a", 5000);
    store_begin(store, now_ms);
    cr_assert_eq(keys_get(&keys, key, &found), 0);
    cr_assert_eq(keys_replace(&keys, key, &found, slice_of_text("longer"), 0), 0);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(keys_get(&keys, key, &found), 0);
    cr_assert(slice_equal(found.value, slice_of_text("longer")));
    cr_assert_eq(found.version, 2);
    cr_assert_eq(found.expires_at_ms, 0);
    keys_forget_times(&keys);
    cr_assert_eq(keys_next_expiry(&keys), UINT64_MAX);
    store_abandon(store);
    cr_assert_neq(keys_get(&keys, key, &found), 0);
}

Test(keys, a_replacement_that_is_taken_back_leaves_what_was_there)
{
    struct keys_entry found;
    struct slice key = slice_of_text("a");
    put("a", 5000);
    store_begin(store, now_ms);
    cr_assert_eq(keys_get(&keys, key, &found), 0);
    cr_assert_eq(keys_replace(&keys, key, &found, slice_of_text("longer"), 6000), 0);
    store_cancel(store);
    cr_assert_eq(keys_get(&keys, key, &found), 0);
    cr_assert(slice_equal(found.value, slice_of_text("v")));
    cr_assert_eq(found.version, 1);
    keys_forget_times(&keys);
    cr_assert_eq(keys_next_expiry(&keys), 5000);
}

Test(keys, a_touch_changes_the_expiry_and_nothing_else)
{
    struct keys_entry entry;
    put("a", 0);
    store_begin(store, now_ms);
    cr_assert_eq(keys_touch(&keys, slice_of_text("a"), 2000), 0);
    cr_assert_eq(keys_touch(&keys, slice_of_text("none"), 2000), STORE_NOT_FOUND);
    cr_assert_eq(store_change_count(store), 0);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(store_seq(store), 1);
    cr_assert_eq(keys_get(&keys, slice_of_text("a"), &entry), 0);
    cr_assert_eq(entry.version, 1);
    cr_assert_eq(entry.expires_at_ms, 2000);
    now_ms = 2000;
    cr_assert_not(is_there("a"));
}

Test(keys, what_is_due_is_absent_at_once_and_gone_after_keys_expire)
{
    uint32_t expired;
    put("a", 1500);
    put("b", 1501);
    put("c", 0);
    now_ms = 1499;
    cr_assert(is_there("a"));
    cr_assert_not(keys_due(&keys, now_ms));
    now_ms = 1500;
    cr_assert_not(is_there("a"));
    cr_assert(keys_due(&keys, now_ms));
    cr_assert_eq(count_all(), 2);
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, 1);
    cr_assert_not(keys_due(&keys, now_ms));
    cr_assert_eq(keys_next_expiry(&keys), 1501);
    cr_assert_eq(count_all(), 2);
    cr_assert_eq(store_seq(store), 4);
}

Test(keys, an_expiry_transaction_has_at_most_a_thousand_changes)
{
    uint32_t expired;
    for (int i = 0; i < KEYS_MAX_EXPIRED + 5; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        put(key, 1500);
    }
    now_ms = 1500;
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, KEYS_MAX_EXPIRED);
    cr_assert_eq(count_all(), 0);
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, 5);
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, 0);
}

/* So that nobody tries again and again while the disk is full. */
Test(keys, an_expiry_that_fails_is_tried_again_after_a_second_and_says_what_it_did)
{
    enum { KEYS = 5, RETRY_MS = 1000 };
    uint32_t gone = 0;
    uint32_t expired;
    for (int i = 0; i < KEYS; i++)
        put((char[]){(char)('a' + i), 0}, 1500);
    now_ms = 1500;
    for (long at = 1;; at++) {
        faults = (struct faults){.inner = faults.inner, .left = at, .kind = FAULT_FULL};
        int rc = keys_expire(&keys, now_ms, &expired);
        faults.left = 0;
        gone += expired;
        if (!faults.fired) {
            cr_assert_eq(rc, 0);
            break;
        }
        cr_assert_neq(rc, 0, "call %ld", at);
        cr_assert_eq(keys_next_expiry(&keys), now_ms + RETRY_MS);
        cr_assert_eq(keys_due(&keys, now_ms), gone < KEYS);
        now_ms += RETRY_MS;
    }
    cr_assert_eq(gone, KEYS);
    cr_assert_eq(keys_next_expiry(&keys), UINT64_MAX);
}

Test(keys, an_index_that_is_damaged_expires_nothing_and_is_looked_at_again)
{
    const struct slice none = {0};
    uint8_t large[KEYS_MAX_EXPIRY_KEY + 1] = {0};
    const struct slice indexes[] = {slice_of("short", 5), slice_of(large, sizeof large)};
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        uint32_t expired = 1;
        store_begin(store, now_ms);
        cr_assert_eq(store_put(store, STORE_EXPIRY, indexes[i], none, none, STORE_QUIET), 0);
        cr_assert_eq(store_end(store, NULL), 0);
        cr_expect_eq(keys_expire(&keys, now_ms, &expired), STORE_CORRUPT);
        cr_expect_eq(expired, 0);
        cr_expect_gt(keys_next_expiry(&keys), now_ms);
        store_begin(store, now_ms);
        cr_assert_eq(store_delete(store, STORE_EXPIRY, indexes[i], STORE_QUIET), 0);
        cr_assert_eq(store_end(store, NULL), 0);
    }
}

Test(keys, a_new_expiry_replaces_the_old_one)
{
    uint32_t expired;
    put("a", 1500);
    put("a", 3000);
    put("b", 1500);
    put("b", 0);
    now_ms = 2000;
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, 0);
    cr_assert(is_there("a") && is_there("b"));
    cr_assert_eq(keys_next_expiry(&keys), 3000);
}

Test(keys, a_cancelled_delete_still_expires_in_time)
{
    uint32_t expired;
    put("a", 1500);
    store_begin(store, now_ms);
    cr_assert_eq(keys_delete(&keys, slice_of_text("a")), 0);
    store_cancel(store);
    keys_forget_times(&keys);
    now_ms = 1500;
    cr_assert(keys_due(&keys, now_ms));
    cr_assert_eq(keys_expire(&keys, now_ms, &expired), 0);
    cr_assert_eq(expired, 1);
}

Test(keys, a_prefix_range_ends_before_the_next_prefix)
{
    uint8_t end[8];
    struct keys_range range = keys_prefix(slice_of("a\xff", 2), end);
    cr_assert(slice_equal(range.end, slice_of("b", 1)));
    range = keys_prefix(slice_of("ab", 2), end);
    cr_assert(slice_equal(range.end, slice_of("ac", 2)));
    cr_assert_null(keys_prefix(slice_of("\xff\xff", 2), end).end.data);
    cr_assert_null(keys_prefix(slice_of("", 0), end).end.data);
}

Test(keys, a_walk_skips_what_has_expired_in_both_directions)
{
    struct keys_walk walk = {.keys = &keys};
    struct slice key;
    struct keys_entry entry;
    put("a", 1500);
    put("b", 0);
    put("c", 1500);
    put("d", 0);
    put("e", 1500);
    store_begin(store, 1500);
    cr_assert_eq(keys_first(&walk, &key, &entry), 0);
    cr_assert_eq(key.data[0], 'b');
    cr_assert_eq(keys_next(&walk, &key, &entry), 0);
    cr_assert_eq(key.data[0], 'd');
    cr_assert_eq(keys_next(&walk, &key, &entry), STORE_NOT_FOUND);
    walk.reverse = true;
    cr_assert_eq(keys_first(&walk, &key, &entry), 0);
    cr_assert_eq(key.data[0], 'd');
    cr_assert_eq(keys_next(&walk, &key, &entry), 0);
    cr_assert_eq(key.data[0], 'b');
    cr_assert_eq(keys_next(&walk, &key, &entry), STORE_NOT_FOUND);
    cr_assert_eq(store_end(store, NULL), 0);
}

Test(keys, an_empty_range_counts_nothing)
{
    put("a", 0);
    put("b", 0);
    cr_assert_eq(count_in((struct keys_range){slice_of_text("b"), slice_of_text("a")}), 0);
    cr_assert_eq(count_in((struct keys_range){slice_of_text("a"), slice_of_text("")}), 0);
    cr_assert_eq(count_in((struct keys_range){slice_of_text("a"), slice_of_text("b")}), 1);
}

Test(keys, bytes_that_are_no_entry_are_corrupt)
{
    struct keys_entry entry;
    cr_assert_eq(keys_decode(slice_of("", 0), &entry), STORE_CORRUPT);
    cr_assert_eq(keys_decode(slice_of("\x08\x01", 2), &entry), STORE_CORRUPT);
    cr_assert_eq(keys_decode(slice_of("\x10\x01v", 3), &entry), STORE_CORRUPT);
    cr_assert_eq(keys_decode(slice_of("\x00\x01v", 3), &entry), 0);
}
