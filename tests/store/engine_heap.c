/*
 * Whether the memory engine's account is what the allocator says, within ACCURACY: that is what
 * --memory-limit goes by.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "store/sieve.h"
#include "store/store.h"
#include "tests/store/engine_model.h"
#include "tests/store/heap.h"

#define ACCURACY 0.05

/* What keys and values look like, and how many there are. */
struct shape {
    const char *name;
    unsigned keys;
    size_t least_key, most_key;
    size_t least_value, most_value;
};

static const struct shape shapes[] = {
    {"counters", 100000, 8, 24, 6, 14},      {"sessions", 50000, 16, 64, 90, 130},
    {"documents", 20000, 10, 40, 300, 1500}, {"pages", 2000, 20, 100, 1025, 20000},
    {"files", 60, 20, 200, 100000, 1 << 20}, {"long keys", 5000, 500, 1024, 1, 2000},
    {"all", 3000, 4, 1024, 0, 30000},
};

enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* An engine, and the heap as it was before. */
struct subject {
    struct engine *engine;
    const struct shape *shape;
    struct random random;
    double before;
};

static void begin(struct subject *subject, const struct shape *shape)
{
    struct engine_options options = {0};
    struct engine_mark mark;
    *subject = (struct subject){.shape = shape, .random = random_start()};
    cr_assert_eq(engine_memory.open(&subject->engine, &options, &mark, NULL), STORE_OK);
    subject->before = heap_size();
}

static size_t between(struct random *random, size_t least, size_t most)
{
    return least + random_below(random, most - least + 1);
}

/* Always the same key for the same number. */
static struct slice key_of(const struct shape *shape, unsigned number)
{
    static uint8_t key[1024];
    struct random random = {.state = (number + 1) * UINT64_C(0x9E3779B97F4A7C15)};
    size_t size = between(&random, shape->least_key, shape->most_key);
    for (size_t i = 0; i < size; i++)
        key[i] = i < 4 ? (uint8_t)(number >> (8 * (3 - i))) : (uint8_t)random_next(&random);
    return slice_of(key, size);
}

static void put_some(struct subject *subject, unsigned count)
{
    static uint8_t value[1 << 20];
    const struct shape *shape = subject->shape;
    for (unsigned i = 0; i < count; i++) {
        unsigned number = (unsigned)random_below(&subject->random, shape->keys);
        size_t size = between(&subject->random, shape->least_value, shape->most_value);
        cr_assert_eq(
            engine_memory.put(subject->engine, 0, key_of(shape, number), slice_of(value, size)),
            STORE_OK);
    }
}

static void delete_some(struct subject *subject, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned number = (unsigned)random_below(&subject->random, subject->shape->keys);
        (void)engine_memory.delete(subject->engine, 0, key_of(subject->shape, number));
    }
}

static void compare(const struct subject *subject, const char *when)
{
    double truth = heap_size() - subject->before;
    double told = (double)engine_memory.memory(subject->engine);
    cr_expect(told > (1 - ACCURACY) * truth && told < (1 + ACCURACY) * truth,
              "%s, %s: %.0f told, %.0f taken (%+.1f %%), CUBBY_SEED=%llu", subject->shape->name,
              when, told, truth, 100 * (told / truth - 1),
              (unsigned long long)subject->random.seed);
}

static void check(const struct shape *shape)
{
    struct subject subject;
    struct engine_snapshot *snapshots[2];
    begin(&subject, shape);
    put_some(&subject, 2 * shape->keys);
    compare(&subject, "filled");
    put_some(&subject, shape->keys);
    compare(&subject, "overwritten");
    cr_assert_eq(engine_memory.snapshot(subject.engine, &snapshots[0]), STORE_OK);
    put_some(&subject, shape->keys / 2);
    compare(&subject, "under a snapshot");
    cr_assert_eq(engine_memory.snapshot(subject.engine, &snapshots[1]), STORE_OK);
    delete_some(&subject, shape->keys / 2);
    compare(&subject, "under two");
    engine_memory.release(subject.engine, snapshots[0]);
    compare(&subject, "under the second");
    engine_memory.release(subject.engine, snapshots[1]);
    compare(&subject, "after snapshots");
    put_some(&subject, shape->keys / 10);
    compare(&subject, "a little later");
    delete_some(&subject, shape->keys);
    compare(&subject, "after deletes");
    engine_memory.close(subject.engine);
}

Test(engine_heap, what_the_engine_says_of_its_memory_is_what_it_takes)
{
    if (!heap_size_works())
        cr_skip_test("this allocator keeps no account");
    for (unsigned i = 0; i < SHAPES; i++)
        check(&shapes[i]);
}

static void compare_sieve(const struct sieve *sieve, double before, const char *when)
{
    double truth = heap_size() - before;
    double told = (double)sieve->memory;
    cr_expect(told > (1 - ACCURACY) * truth && told < (1 + ACCURACY) * truth,
              "%s: %.0f told, %.0f taken", when, told, truth);
}

Test(engine_heap, so_is_what_eviction_says)
{
    enum {
        SIEVE_KEYS = 1000000
    }; /* what the allocator keeps for its next calls does not matter then */
    struct sieve sieve;
    if (!heap_size_works())
        cr_skip_test("this allocator keeps no account");
    double before = heap_size();
    sieve_init(&sieve, 1);
    for (unsigned i = 0; i < SIEVE_KEYS; i++)
        sieve_add(&sieve, key_of(&shapes[1], i));
    compare_sieve(&sieve, before, "filled");
    for (unsigned i = 0; i < SIEVE_KEYS; i++)
        if (i % 8 != 0)
            sieve_remove(&sieve, key_of(&shapes[1], i));
    compare_sieve(&sieve, before, "emptied");
    sieve_free(&sieve);
}
