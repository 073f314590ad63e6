/* What is particular to the memory engine: how it lays out pages, and what that costs. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "store/memory_page.h"
#include "tests/store/engine_model.h"
#include "tests/store/heap.h"

enum { KEYS = 50000, VALUE_SIZE = 105 };

/* Counts allocations, and lets `left` of them succeed. */
struct gate {
    unsigned left;
    unsigned count;
    size_t size;
};

static bool pass(void *context, size_t size)
{
    struct gate *gate = context;
    gate->count++;
    gate->size += size;
    if (gate->left == 0)
        return false;
    gate->left--;
    return true;
}

static struct engine *open_gated(struct gate *gate)
{
    struct engine *engine = NULL;
    struct engine_options options = {.admit = pass, .admit_context = gate};
    struct engine_mark mark;
    *gate = (struct gate){.left = UINT32_MAX};
    cr_assert_eq(engine_memory.open(&engine, &options, &mark, NULL), STORE_OK);
    return engine;
}

static struct slice filled(size_t size, char with)
{
    static uint8_t bytes[ENGINE_MAX_VALUE];
    memset(bytes, with, size);
    return slice_of(bytes, size);
}

static int put_number(struct engine *engine, unsigned number, struct slice value)
{
    char text[64];
    return engine_memory.put(engine, 0, numbered(text, sizeof(text), "key", number), value);
}

static int delete_number(struct engine *engine, unsigned number)
{
    char text[64];
    return engine_memory.delete(engine, 0, numbered(text, sizeof(text), "key", number));
}

/* The n-th of all numbers below KEYS, in no order. */
static unsigned scattered(unsigned n)
{
    return (unsigned)((uint64_t)n * 48271 % KEYS);
}

static void fill(struct engine *engine, bool in_order, size_t value_size)
{
    struct slice value = filled(value_size, 'v');
    for (unsigned i = 0; i < KEYS; i++)
        cr_assert_eq(put_number(engine, in_order ? i : scattered(i), value), STORE_OK);
}

static double bytes_a_key(struct engine *engine)
{
    return (double)engine_memory.memory(engine) / KEYS;
}

Test(engine_memory, numbered_keys_take_less_than_122_bytes_with_values_of_105)
{
    struct gate gate;
    for (int in_order = 0; in_order < 2; in_order++) {
        struct engine *engine = open_gated(&gate);
        fill(engine, in_order == 1, VALUE_SIZE);
        cr_assert_lt(bytes_a_key(engine), 122.0, "%f", bytes_a_key(engine));
        cr_assert_gt(bytes_a_key(engine), VALUE_SIZE);
        engine_memory.close(engine);
    }
}

Test(engine_memory, memory_is_what_the_allocator_says)
{
    if (!heap_size_works())
        cr_skip_test("this allocator keeps no account");
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    double before = heap_size();
    fill(engine, false, VALUE_SIZE);
    double truth = heap_size() - before;
    double told = (double)engine_memory.memory(engine);
    cr_assert_gt(told, 0.97 * truth);
    cr_assert_lt(told, 1.03 * truth);
    engine_memory.close(engine);
}

Test(engine_memory, nothing_is_left_when_everything_is_deleted)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    fill(engine, false, VALUE_SIZE);
    for (unsigned i = 0; i < KEYS; i++)
        cr_assert_eq(delete_number(engine, scattered(KEYS - 1 - i)), STORE_OK);
    cr_assert_eq(engine_memory.memory(engine), 0);
    engine_memory.close(engine);
}

Test(engine_memory, pages_shrink_and_merge_as_keys_go)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    fill(engine, false, VALUE_SIZE);
    uint64_t full = engine_memory.memory(engine);
    for (unsigned i = 0; i < KEYS; i++) {
        if (scattered(i) % 10 != 0)
            cr_assert_eq(delete_number(engine, scattered(i)), STORE_OK);
    }
    cr_assert_lt(engine_memory.memory(engine), full / 10 * 3 / 2);
    engine_memory.close(engine);
}

/* Lists as queues have them, in one table: appended to behind, taken from in front. */
enum { LISTS = 5, PADDING = 400, LIST_STEPS = 60000, LONGEST_LIST = 2000 };

struct span {
    unsigned first;
    unsigned end;
};

/* Long, so that few of them are in a page and the tree is deep. */
static struct slice list_key(unsigned list, unsigned number, uint8_t key[PADDING])
{
    memset(key, '-', PADDING);
    key[0] = (uint8_t)('a' + list);
    for (unsigned i = 0; i < 4; i++)
        key[PADDING - 1 - i] = (uint8_t)(number >> 8 * i);
    return slice_of(key, PADDING);
}

static void check_head(struct engine_cursor *cursor, unsigned list, struct span span)
{
    uint8_t first[PADDING];
    uint8_t head[PADDING];
    struct slice key;
    struct slice value;
    int rc = engine_memory.cursor_seek(cursor, list_key(list, 0, first), &key, &value);
    bool any = rc == STORE_OK && key.data[0] == 'a' + list;
    cr_assert_eq(any, span.first < span.end, "list %u", list);
    cr_assert(!any || slice_equal(key, list_key(list, span.first, head)), "list %u", list);
}

static void check_all(struct engine_cursor *cursor, const struct span *spans)
{
    uint8_t bytes[PADDING];
    struct slice key;
    struct slice value;
    int rc = engine_memory.cursor_seek(cursor, slice_of_text(""), &key, &value);
    for (unsigned list = 0; list < LISTS; list++) {
        for (unsigned i = spans[list].first; i < spans[list].end; i++) {
            cr_assert_eq(rc, STORE_OK);
            cr_assert(slice_equal(key, list_key(list, i, bytes)));
            rc = engine_memory.cursor_next(cursor, &key, &value);
        }
    }
    cr_assert_eq(rc, STORE_NOT_FOUND);
}

/* Appends, takes the first, or gives it back. */
static void step(struct engine *engine, struct random *random, unsigned list, struct span *span,
                 bool grows)
{
    uint8_t bytes[PADDING];
    struct slice value = filled(random_below(random, 40), 'v');
    unsigned action = (unsigned)random_below(random, 8);
    if (action == 0 && span->first > 0) {
        struct slice key = list_key(list, --span->first, bytes);
        cr_assert_eq(engine_memory.put(engine, 0, key, value), STORE_OK);
    } else if (action > (grows ? 2 : 5) && span->end - span->first < LONGEST_LIST) {
        struct slice key = list_key(list, span->end++, bytes);
        cr_assert_eq(engine_memory.get(engine, 0, key, &value), STORE_NOT_FOUND);
        cr_assert_eq(engine_memory.put(engine, 0, key, filled(20, 'v')), STORE_OK);
    } else if (span->first < span->end) {
        struct slice key = list_key(list, span->first++, bytes);
        cr_assert_eq(engine_memory.delete(engine, 0, key), STORE_OK);
        cr_assert_eq(engine_memory.get(engine, 0, key, &value), STORE_NOT_FOUND);
    }
}

Test(engine_memory, lists_side_by_side_are_found_from_wherever_the_last_key_was)
{
    struct random random = random_start();
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    struct engine_snapshot *snapshot = NULL;
    struct engine_cursor *cursor;
    struct span spans[LISTS] = {{0}};
    unsigned list = 0;
    printf("seed %llu\n", (unsigned long long)random.seed);
    cr_assert_eq(engine_memory.cursor_open(engine, NULL, 0, &cursor), STORE_OK);
    for (unsigned i = 0; i < LIST_STEPS; i++) {
        if (random_below(&random, 6) == 0)
            list = (unsigned)random_below(&random, LISTS);
        step(engine, &random, list, &spans[list], i / 20000 % 2 == 0);
        check_head(cursor, list, spans[list]);
        if (i % 5000 == 2500)
            cr_assert_eq(engine_memory.snapshot(engine, &snapshot), STORE_OK);
        if (i % 5000 == 4999) {
            check_all(cursor, spans);
            engine_memory.release(engine, snapshot);
        }
    }
    engine_memory.cursor_close(cursor);
    engine_memory.close(engine);
}

/* Of keys all over the tree, few in each page. */
Test(engine_memory, near_its_limit_every_delete_gives_memory_back)
{
    struct engine *engine = NULL;
    struct engine_options options = {.memory_limit = KEYS * UINT64_C(118)};
    struct engine_mark mark;
    cr_assert_eq(engine_memory.open(&engine, &options, &mark, NULL), STORE_OK);
    fill(engine, false, VALUE_SIZE);
    uint64_t full = engine_memory.memory(engine);
    for (unsigned i = 0; i < KEYS / 50; i++)
        cr_assert_eq(delete_number(engine, scattered(i)), STORE_OK);
    uint64_t freed = full - engine_memory.memory(engine);
    cr_assert_gt(freed, full / 50 / 3 * 2, "%llu of %llu", (unsigned long long)freed,
                 (unsigned long long)full);
    engine_memory.close(engine);
}

Test(engine_memory, shorter_values_give_memory_back)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    fill(engine, true, 900);
    fill(engine, false, 300);
    fill(engine, false, 300);
    cr_assert_lt(bytes_a_key(engine), 400.0, "%f", bytes_a_key(engine));
    fill(engine, false, 20);
    fill(engine, false, 20);
    cr_assert_lt(bytes_a_key(engine), 60.0, "%f", bytes_a_key(engine));
    engine_memory.close(engine);
}

Test(engine_memory, gets_and_overwrites_of_the_same_size_allocate_nothing)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    fill(engine, true, VALUE_SIZE);
    cr_assert_eq(put_number(engine, KEYS, filled(10000, 'a')), STORE_OK);
    gate.count = 0;
    fill(engine, false, VALUE_SIZE);
    cr_assert_eq(put_number(engine, KEYS, filled(10000, 'b')), STORE_OK);
    char text[64];
    struct slice value;
    for (unsigned i = 0; i < KEYS; i++)
        cr_assert_eq(engine_memory.get(engine, 0, numbered(text, sizeof(text), "key", i), &value),
                     STORE_OK);
    cr_assert_eq(gate.count, 0);
    engine_memory.close(engine);
}

Test(engine_memory, deletes_need_no_memory)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    fill(engine, true, VALUE_SIZE);
    gate.left = 0;
    for (unsigned i = 0; i < KEYS; i++)
        cr_assert_eq(delete_number(engine, scattered(i)), STORE_OK);
    cr_assert_eq(put_number(engine, 1, filled(1, 'a')), STORE_NO_MEMORY);
    cr_assert_eq(engine_memory.memory(engine), 0);
    engine_memory.close(engine);
}

Test(engine_memory, a_snapshot_costs_the_same_however_much_there_is)
{
    struct gate gate;
    struct engine_snapshot *snapshot;
    struct engine *engine = open_gated(&gate);
    cr_assert_eq(engine_memory.snapshot(engine, &snapshot), STORE_OK);
    cr_assert_eq(gate.count, 1);
    size_t size = gate.size;
    engine_memory.release(engine, snapshot);
    fill(engine, true, VALUE_SIZE);
    gate.count = 0;
    gate.size = 0;
    cr_assert_eq(engine_memory.snapshot(engine, &snapshot), STORE_OK);
    cr_assert_eq(gate.count, 1);
    cr_assert_eq(gate.size, size);
    engine_memory.release(engine, snapshot);
    engine_memory.close(engine);
}

Test(engine_memory, a_write_under_a_snapshot_copies_one_page_of_each_level)
{
    struct gate gate;
    struct engine_snapshot *snapshot;
    struct engine *engine = open_gated(&gate);
    fill(engine, true, VALUE_SIZE);
    cr_assert_eq(engine_memory.snapshot(engine, &snapshot), STORE_OK);
    uint64_t before = engine_memory.memory(engine);
    gate.count = 0;
    cr_assert_eq(put_number(engine, KEYS / 2, filled(VALUE_SIZE, 'w')), STORE_OK);
    cr_assert_leq(gate.count, 4); /* three levels and a list of what is dead */
    cr_assert_leq(engine_memory.memory(engine), before + UINT64_C(5) * (PAGE_MAX_SIZE + 64));
    gate.count = 0;
    cr_assert_eq(put_number(engine, KEYS / 2, filled(VALUE_SIZE, 'x')), STORE_OK);
    cr_assert_eq(gate.count, 0);
    engine_memory.release(engine, snapshot);
    engine_memory.close(engine);
}

/* Memory once nothing is left to be freed: what a snapshot held is freed turn by turn. */
static uint64_t settled_memory(struct engine *engine)
{
    struct engine_status status;
    uint64_t before;
    do {
        before = engine_memory.memory(engine);
        engine_memory.status(engine, &status);
    } while (engine_memory.memory(engine) < before);
    return before;
}

Test(engine_memory, what_only_a_snapshot_saw_is_given_back_with_it)
{
    struct gate gate;
    struct engine_snapshot *snapshots[3];
    struct engine *engine = open_gated(&gate);
    fill(engine, true, VALUE_SIZE);
    uint64_t once = engine_memory.memory(engine);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(engine_memory.snapshot(engine, &snapshots[i]), STORE_OK);
        fill(engine, true, VALUE_SIZE);
    }
    cr_assert_gt(engine_memory.memory(engine), 4 * once - once / 10);
    engine_memory.release(engine, snapshots[1]);
    cr_assert_lt(settled_memory(engine), 3 * once + once / 10);
    engine_memory.release(engine, snapshots[0]);
    cr_assert_lt(settled_memory(engine), 2 * once + once / 10);
    engine_memory.release(engine, snapshots[2]);
    cr_assert_lt(settled_memory(engine), once + once / 10);
    cr_assert_eq(engine_memory.held(engine), 0);
    engine_memory.close(engine);
}

/* Sizes on both sides of where a value moves out of the page, and of its size's encoding. */
Test(engine_memory, values_change_between_page_and_blob)
{
    static const size_t sizes[] = {
        0,    1,     127,   128,  PAGE_MAX_INLINE - 1, PAGE_MAX_INLINE, 1025, 2000,
        5000, 16383, 16384, 65536};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    for (unsigned i = 0; i < SIZES * SIZES; i++) {
        char text[64];
        struct slice value;
        for (unsigned step = 0; step < 2; step++) {
            size_t size = sizes[step == 0 ? i / SIZES : i % SIZES];
            cr_assert_eq(put_number(engine, i % 10, filled(size, 'a' + (char)step)), STORE_OK);
        }
        struct slice key = numbered(text, sizeof(text), "key", i % 10);
        cr_assert_eq(engine_memory.get(engine, 0, key, &value), STORE_OK);
        cr_assert(slice_equal(value, filled(sizes[i % SIZES], 'b')), "%u", i);
    }
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(delete_number(engine, i), STORE_OK);
    cr_assert_eq(engine_memory.memory(engine), 0);
    engine_memory.close(engine);
}

/* Keys that share all but their end take a page's prefix once, until one comes that does not. */
Test(engine_memory, a_long_common_prefix_is_stored_once_for_each_page)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    uint8_t key[ENGINE_MAX_KEY];
    memset(key, 'p', sizeof(key));
    for (unsigned i = 0; i < 10000; i++) {
        uint32_t number = i * 7919 % 10000;
        memcpy(key + 1000, &number, sizeof(number));
        cr_assert_eq(engine_memory.put(engine, 0, slice_of(key, 1004), filled(8, 'v')), STORE_OK);
    }
    cr_assert_lt(engine_memory.memory(engine), UINT64_C(400000));
    cr_assert_eq(engine_memory.put(engine, 0, slice_of_text("a"), filled(8, 'v')), STORE_OK);
    cr_assert_eq(engine_memory.put(engine, 0, slice_of_text("pq"), filled(8, 'v')), STORE_OK);
    cr_assert_eq(engine_memory.put(engine, 0, slice_of_text("q"), filled(8, 'v')), STORE_OK);
    cr_assert_lt(engine_memory.memory(engine), UINT64_C(400000));
    uint64_t count = 0;
    engine_memory.count(engine, 0, slice_of_text("b"), slice_of_text("pq"), &count);
    cr_assert_eq(count, 10000);
    engine_memory.close(engine);
}

Test(engine_memory, the_longest_keys_make_a_deep_tree_that_still_works)
{
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    struct model model = {0};
    struct random random = random_start();
    uint8_t key[ENGINE_MAX_KEY];
    memset(key, 'k', sizeof(key));
    for (unsigned i = 0; i < 3000; i++) {
        size_t at = random_below(&random, ENGINE_MAX_KEY);
        key[at] ^= (uint8_t)random_below(&random, 4);
        cr_assert_eq(engine_memory.put(engine, 0, slice_of(key, sizeof(key)), filled(8, 'v')),
                     STORE_OK);
        model_put(&model, slice_of(key, sizeof(key)), filled(8, 'v'));
    }
    struct engine_cursor *cursor;
    cr_assert_eq(engine_memory.cursor_open(engine, NULL, 0, &cursor), STORE_OK);
    cr_assert(walks_as(cursor, &model, true), "CUBBY_SEED=%llu", (unsigned long long)random.seed);
    cr_assert(walks_as(cursor, &model, false), "CUBBY_SEED=%llu", (unsigned long long)random.seed);
    engine_memory.cursor_close(cursor);
    for (size_t i = 0; i < model.count; i++)
        cr_assert_eq(engine_memory.delete(engine, 0, model.pairs[i].key), STORE_OK);
    cr_assert_eq(engine_memory.memory(engine), 0);
    model_free(&model);
    engine_memory.close(engine);
}

/* Prefetched keys */

enum { HINTED_KEYS = 3000, HINTED_ROUNDS = 4000, LONG_KEY = 100 };

/* Some keys are longer than what a hint takes, so they differ behind it. */
static struct slice hinted_key(char *text, size_t size, unsigned number)
{
    bool is_long = number % 7 == 0;
    int length = snprintf(text, size, "%0*u", is_long ? LONG_KEY : 8, number);
    return slice_of(text, (size_t)length);
}

static unsigned drawn(uint64_t *state, unsigned below)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)((*state >> 33) % below);
}

/* Writes or reads the key, and holds that against what it is known to be: 0 for absent. */
static void use_hinted(struct engine *engine, struct slice key, unsigned *known, unsigned what,
                       uint64_t seed)
{
    struct slice value;
    int result = engine_memory.get(engine, 0, key, &value);
    cr_assert_eq(result, *known > 0 ? STORE_OK : STORE_NOT_FOUND, "CUBBY_SEED=%llu",
                 (unsigned long long)seed);
    if (result == STORE_OK)
        cr_assert_eq(value.size, *known, "CUBBY_SEED=%llu", (unsigned long long)seed);
    if (what < 4) {
        *known = 1 + what * 60;
        cr_assert_eq(engine_memory.put(engine, 0, key, filled(*known, 'v')), STORE_OK);
    } else if (what < 6 && *known > 0) {
        *known = 0;
        cr_assert_eq(engine_memory.delete(engine, 0, key), STORE_OK);
    }
}

Test(engine_memory, what_was_prefetched_is_found_whatever_was_written_since)
{
    const char *given = getenv("CUBBY_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid();
    uint64_t state = seed;
    static unsigned known[HINTED_KEYS];
    static char texts[ENGINE_MAX_PREFETCH][2 * LONG_KEY];
    struct gate gate;
    struct engine *engine = open_gated(&gate);
    for (unsigned round = 0; round < HINTED_ROUNDS; round++) {
        struct slice keys[ENGINE_MAX_PREFETCH];
        unsigned numbers[ENGINE_MAX_PREFETCH];
        unsigned count = 1 + drawn(&state, ENGINE_MAX_PREFETCH);
        for (unsigned i = 0; i < count; i++) {
            numbers[i] = drawn(&state, HINTED_KEYS);
            keys[i] = hinted_key(texts[i], sizeof(texts[i]), numbers[i]);
        }
        engine_memory.prefetch(engine, 0, keys, count);
        for (unsigned i = 0; i < count; i++) {
            unsigned at = drawn(&state, 4) == 0 ? drawn(&state, count) : i;
            use_hinted(engine, keys[at], &known[numbers[at]], drawn(&state, 10), seed);
        }
    }
    engine_memory.close(engine);
}

/* Keys of two bytes' worth of difference, so that many have the same head, and differ in length. */
enum { SHORT_KEYS = 127, SHORT_SIZE = 8, PAGE_ROUNDS = 40 };

/* "p" and up to 6 bytes, each of them the lowest or the highest. */
static struct slice short_key(unsigned number, uint8_t key[SHORT_SIZE])
{
    size_t size = 0;
    key[size++] = 'p';
    for (number++; number > 1; number /= 2)
        key[size++] = number % 2 == 0 ? 0 : UINT8_MAX;
    return slice_of(key, size);
}

static int compare_keys(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static void check_near(const struct page *page, const struct slice *keys)
{
    struct slice others[] = {slice_of_text(""), slice_of_text("o"), slice_of_text("q")};
    for (unsigned hint = 0; hint <= page->count; hint++) {
        for (unsigned i = 0; i < SHORT_KEYS + 3; i++) {
            struct slice key = i < SHORT_KEYS ? keys[i] : others[i - SHORT_KEYS];
            bool found;
            bool near;
            unsigned at = page_find(page, key, &found);
            cr_assert_eq(page_find_near(page, key, hint, &near), at, "key %u, hint %u", i, hint);
            cr_assert_eq(near, found, "key %u, hint %u", i, hint);
        }
    }
}

Test(engine_memory, a_hint_where_a_key_may_be_does_not_change_where_it_is_found)
{
    static uint8_t bytes[SHORT_KEYS][SHORT_SIZE];
    static uint64_t block[PAGE_MAX_SIZE / sizeof(uint64_t)];
    struct page *page = (struct page *)(void *)block;
    struct slice keys[SHORT_KEYS];
    struct page_entry entries[SHORT_KEYS];
    struct random random = random_start();
    for (unsigned i = 0; i < SHORT_KEYS; i++)
        keys[i] = short_key(i, bytes[i]);
    qsort(keys, SHORT_KEYS, sizeof(keys[0]), compare_keys);
    for (unsigned round = 0; round < PAGE_ROUNDS; round++) {
        struct page_draft draft;
        unsigned count = 0;
        unsigned skipped = 1 + (unsigned)random_below(&random, 8);
        for (unsigned i = 0; i < SHORT_KEYS; i++)
            if (random_below(&random, skipped) == 0)
                entries[count++] = (struct page_entry){.key = keys[i]};
        if (count == 0)
            continue;
        page_draft_init(&draft, false);
        page_draft_add_entries(&draft, entries, count);
        page_draft_build(&draft, 0, count, page, PAGE_MAX_SIZE);
        check_near(page, keys);
    }
}
