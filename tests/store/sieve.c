/* SIEVE against a list that does what the paper says, and what many short queues make of it. */
#include "store/sieve.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/store/engine_model.h"

enum { MAX_KEYS = 20000 };

static struct sieve sieve;

static void begin(void)
{
    sieve_init(&sieve, 42);
}

static void end(void)
{
    sieve_free(&sieve);
    cr_assert_eq(sieve.memory, 0);
}

TestSuite(sieve, .init = begin, .fini = end);

static struct slice key_of(char *text, unsigned number)
{
    return slice_of(text, (size_t)snprintf(text, 32, "key:%012u", number));
}

static void add(unsigned number)
{
    char text[32];
    sieve_add(&sieve, key_of(text, number));
}

static void visit(unsigned number)
{
    char text[32];
    sieve_visit(&sieve, key_of(text, number));
}

static void drop(unsigned number)
{
    char text[32];
    sieve_remove(&sieve, key_of(text, number));
}

static unsigned victim(void)
{
    uint8_t key[SIEVE_MAX_KEY + 1];
    size_t size = sieve_victim(&sieve, key);
    cr_assert_eq(size, 16);
    key[size] = '\0';
    return (unsigned)strtoul((char *)key + 4, NULL, 10);
}

static unsigned evict(void)
{
    unsigned number = victim();
    drop(number);
    return number;
}

Test(sieve, what_came_first_goes_first_unless_it_was_used)
{
    for (unsigned i = 0; i < 6; i++)
        add(i);
    visit(0);
    visit(3);
    cr_assert_eq(evict(), 1);
    cr_assert_eq(evict(), 2);
    cr_assert_eq(evict(), 4);
    add(6);
    cr_assert_eq(evict(), 5);
    cr_assert_eq(evict(), 6); /* the hand has passed 0 and 3, and goes on from there */
    cr_assert_eq(evict(), 0);
    cr_assert_eq(evict(), 3);
    uint8_t key[SIEVE_MAX_KEY];
    cr_assert_eq(sieve_victim(&sieve, key), 0);
}

Test(sieve, a_key_that_comes_again_keeps_its_place_and_its_mark)
{
    for (unsigned i = 0; i < 3; i++)
        add(i);
    visit(1);
    add(0);
    add(1);
    cr_assert_eq(sieve.count, 3);
    cr_assert_eq(evict(), 0);
    cr_assert_eq(evict(), 2);
}

Test(sieve, a_victim_that_stays_is_named_again)
{
    add(1);
    add(2);
    cr_assert_eq(victim(), 1);
    cr_assert_eq(victim(), 1);
    visit(1);
    cr_assert_eq(victim(), 2);
}

/* The model: keys from the oldest to the newest, moved one by one. */
struct list {
    unsigned count;
    unsigned hand;
    unsigned numbers[SIEVE_SHARD_KEYS];
    bool marked[SIEVE_SHARD_KEYS];
};

static unsigned list_find(const struct list *list, unsigned number)
{
    unsigned at = 0;
    while (at < list->count && list->numbers[at] != number)
        at++;
    return at;
}

static void list_remove(struct list *list, unsigned number)
{
    unsigned at = list_find(list, number);
    if (at == list->count)
        return;
    list->count--;
    for (unsigned i = at; i < list->count; i++) {
        list->numbers[i] = list->numbers[i + 1];
        list->marked[i] = list->marked[i + 1];
    }
    if (at < list->hand)
        list->hand--;
}

static void list_add(struct list *list, unsigned number)
{
    if (list_find(list, number) < list->count)
        return;
    list->numbers[list->count] = number;
    list->marked[list->count++] = false;
}

static unsigned list_victim(struct list *list)
{
    for (;; list->hand++) {
        if (list->hand >= list->count)
            list->hand = 0;
        if (!list->marked[list->hand])
            return list->numbers[list->hand];
        list->marked[list->hand] = false;
    }
}

Test(sieve, it_does_what_a_list_does)
{
    struct random random = random_start();
    struct list list = {0};
    for (unsigned step = 0; step < 200000; step++) {
        unsigned number = (unsigned)random_below(&random, 100);
        unsigned what = (unsigned)random_below(&random, 8);
        if (what < 3 && list.count < SIEVE_SHARD_KEYS) {
            add(number);
            list_add(&list, number);
        } else if (what < 6 && list_find(&list, number) < list.count) {
            visit(number);
            list.marked[list_find(&list, number)] = true;
        } else if (what == 6) {
            drop(number);
            list_remove(&list, number);
        } else if (list.count > 0) {
            unsigned expected = list_victim(&list);
            cr_assert_eq(evict(), expected, "step %u, CUBBY_SEED=%llu", step,
                         (unsigned long long)random.seed);
            list_remove(&list, expected);
        }
        cr_assert_eq(sieve.count, list.count);
    }
}

/* Keys of all sizes, whose number is behind a beginning that some of them have in common. */
static struct slice any_key(uint8_t *key, unsigned number)
{
    size_t before = number % 5;
    size_t size = number % 50 == 0 ? SIEVE_MAX_KEY - number % 7 : 20 + number % 230;
    memset(key, 'b', before);
    for (unsigned i = 0; i < 4; i++)
        key[before + i] = (uint8_t)(number >> (24 - 8 * i));
    memset(key + before + 4, 'e', size - before - 4);
    return slice_of(key, size);
}

static unsigned number_in(const uint8_t *key)
{
    unsigned number = 0;
    while (*key == 'b')
        key++;
    for (unsigned i = 0; i < 4; i++)
        number = number << 8 | key[i];
    return number;
}

Test(sieve, every_key_is_a_victim_once_and_no_other)
{
    struct random random = random_start();
    static bool there[MAX_KEYS];
    uint8_t key[SIEVE_MAX_KEY];
    unsigned count = 0;
    for (unsigned step = 0; step < 3 * MAX_KEYS; step++) {
        unsigned number = (unsigned)random_below(&random, MAX_KEYS);
        bool adds = step < 2 * MAX_KEYS;
        if (adds)
            sieve_add(&sieve, any_key(key, number));
        else
            sieve_remove(&sieve, any_key(key, number));
        count = count + (adds && !there[number]) - (!adds && there[number]);
        there[number] = adds;
        cr_assert_eq(sieve.count, count, "CUBBY_SEED=%llu", (unsigned long long)random.seed);
    }
    for (size_t size; (size = sieve_victim(&sieve, key)) > 0; count--) {
        unsigned number = number_in(key);
        uint8_t expected[SIEVE_MAX_KEY];
        cr_assert(number < MAX_KEYS && there[number] &&
                      slice_equal(any_key(expected, number), slice_of(key, size)),
                  "CUBBY_SEED=%llu", (unsigned long long)random.seed);
        there[number] = false;
        sieve_remove(&sieve, slice_of(key, size));
    }
    cr_assert_eq(count, 0);
}

Test(sieve, of_many_keys_half_of_which_were_used_no_used_one_goes_first)
{
    for (unsigned i = 0; i < MAX_KEYS; i++)
        add(i);
    for (unsigned i = 0; i < MAX_KEYS; i += 2)
        visit(i);
    for (unsigned i = 0; i < MAX_KEYS / 5; i++)
        cr_assert_eq(evict() % 2, 1, "victim %u", i);
}

Test(sieve, a_numbered_key_takes_less_than_eleven_bytes)
{
    for (unsigned i = 0; i < 1000000; i++)
        add((unsigned)((uint64_t)i * 48271 % 1000000));
    cr_assert_eq(sieve.count, 1000000);
    cr_assert_lt(sieve.memory, 11000000, "%llu", (unsigned long long)sieve.memory);
}

Test(sieve, memory_is_given_back_as_keys_go)
{
    for (unsigned i = 0; i < MAX_KEYS; i++)
        add(i);
    uint64_t full = sieve.memory;
    for (unsigned i = MAX_KEYS / 100; i < MAX_KEYS; i++)
        drop(i);
    cr_assert_lt(sieve.memory, full / 20, "%llu of %llu", (unsigned long long)sieve.memory,
                 (unsigned long long)full);
    cr_assert_eq(sieve.count, MAX_KEYS / 100);
}

static bool seldom(void *context, size_t size)
{
    (void)size;
    return random_below(context, 4) != 0;
}

Test(sieve, without_memory_a_key_is_lost_and_nothing_else)
{
    struct random random = random_start();
    sieve.admit = seldom;
    sieve.admit_context = &random;
    for (unsigned i = 0; i < MAX_KEYS; i++)
        add(i);
    cr_assert(sieve.lost);
    cr_assert_gt(sieve.count, MAX_KEYS / 2);
    for (unsigned i = 0; i < MAX_KEYS; i += 3)
        drop(i);
    sieve.admit = NULL;
    for (unsigned i = 0; i < MAX_KEYS; i++)
        add(i);
    cr_assert_eq(sieve.count, MAX_KEYS);
    for (unsigned i = 0; i < MAX_KEYS; i++)
        evict();
    cr_assert_eq(sieve.count, 0);
}

/* A cache of a tenth of all keys, most wanted are those with small numbers. */
static unsigned count_hits(struct random *random, unsigned scans)
{
    static bool there[MAX_KEYS];
    unsigned hits = 0;
    memset(there, 0, sizeof there);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned number = (unsigned)random_below(random, MAX_KEYS);
        for (unsigned again = 0; again < 3; again++)
            number = (unsigned)random_below(random, number + 1);
        if (scans > 0 && i % 4 == 0)
            number = MAX_KEYS - 1 - (i / 4 * scans) % (MAX_KEYS / 2);
        hits += there[number];
        if (there[number]) {
            visit(number);
            continue;
        }
        if (sieve.count == MAX_KEYS / 10)
            there[evict()] = false;
        add(number);
        there[number] = true;
    }
    return hits;
}

Test(sieve, a_scan_does_not_take_the_place_of_what_is_used)
{
    struct random random = random_start();
    unsigned without = count_hits(&random, 0);
    sieve_free(&sieve);
    sieve_init(&sieve, 42);
    unsigned with = count_hits(&random, 1);
    cr_assert_gt(with, without / 4 * 3 / 20 * 19, "%u of %u, CUBBY_SEED=%llu", with, without,
                 (unsigned long long)random.seed);
}
