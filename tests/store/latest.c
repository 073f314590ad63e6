/* A base seen through what a log wrote is what both add up to, whatever was written. */
#include "store/latest.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

enum { KEYS = 60, WRITES = 40, ROUNDS = 400, TABLE = 3, NAME_SIZE = 32 };

static struct engine *open_memory(void)
{
    const struct engine_options nowhere = {0};
    struct engine *engine;
    struct engine_mark mark;
    cr_assert_eq(engine_memory.open(&engine, &nowhere, &mark, NULL), 0);
    return engine;
}

static struct slice key_of(unsigned number, char name[NAME_SIZE])
{
    return slice_of(name, (size_t)snprintf(name, NAME_SIZE, "%u", number));
}

static void put(struct engine *engine, struct slice key, struct slice value)
{
    cr_assert_eq(engine->methods->put(engine, TABLE, key, value), 0);
}

/* Writes to the expected state, and to the base or through the log. */
static void write_one(struct engine *expected, struct engine *base, struct latest *latest,
                      unsigned *random)
{
    char name[NAME_SIZE];
    char content[NAME_SIZE];
    struct slice key = key_of((unsigned)rand_r(random) % KEYS, name);
    struct slice value = key_of((unsigned)rand_r(random), content);
    bool deletes = rand_r(random) % 3 == 0;
    if (deletes)
        (void)expected->methods->delete (expected, TABLE, key);
    else
        put(expected, key, value);
    if (latest != NULL)
        cr_assert_eq(latest_put(latest, TABLE, key, deletes ? NULL : &value), 0);
    else if (deletes)
        (void)base->methods->delete (base, TABLE, key);
    else
        put(base, key, value);
}

/* From a key on, with a status now and then, which ends views. */
static void compare_from(struct engine *expected, struct engine *seen, struct slice from,
                         unsigned every, unsigned seed)
{
    struct engine_cursor *a;
    struct engine_cursor *b;
    struct slice keys[2];
    struct slice values[2];
    struct engine_status ignored;
    cr_assert_eq(expected->methods->cursor_open(expected, NULL, TABLE, &a), 0);
    cr_assert_eq(seen->methods->cursor_open(seen, NULL, TABLE, &b), 0);
    int first = a->methods->cursor_seek(a, from, &keys[0], &values[0]);
    int second = b->methods->cursor_seek(b, from, &keys[1], &values[1]);
    for (unsigned step = 1; first == 0 && second == 0; step++) {
        cr_assert(slice_equal(keys[0], keys[1]) && slice_equal(values[0], values[1]),
                  "CUBBY_SEED=%u: %.*s, not %.*s", seed, (int)keys[1].size,
                  (const char *)keys[1].data, (int)keys[0].size, (const char *)keys[0].data);
        if (step % every == 0)
            seen->methods->status(seen, &ignored);
        first = a->methods->cursor_next(a, &keys[0], &values[0]);
        second = b->methods->cursor_next(b, &keys[1], &values[1]);
    }
    cr_assert_eq(first, STORE_NOT_FOUND);
    cr_assert_eq(second, STORE_NOT_FOUND, "CUBBY_SEED=%u", seed);
    a->methods->cursor_close(a);
    b->methods->cursor_close(b);
}

static void compare(struct engine *expected, struct engine *seen, unsigned seed)
{
    for (unsigned number = 0; number < KEYS; number++) {
        char name[NAME_SIZE];
        struct slice values[2] = {{0}};
        struct slice key = key_of(number, name);
        int rc = expected->methods->get(expected, TABLE, key, &values[0]);
        cr_assert_eq(seen->methods->get(seen, TABLE, key, &values[1]), rc, "CUBBY_SEED=%u", seed);
        cr_assert(slice_equal(values[0], values[1]), "CUBBY_SEED=%u", seed);
        if (number % 7 == 0)
            compare_from(expected, seen, key, 1 + number % 3, seed);
    }
    compare_from(expected, seen, slice_of("", 0), 5, seed);
}

Test(latest, is_what_base_and_log_add_up_to)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    unsigned random = seed;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct engine *expected = open_memory();
        struct engine *base = round % 5 != 0 ? open_memory() : NULL;
        struct latest latest;
        cr_assert_eq(latest_init(&latest, base), 0);
        for (unsigned i = 0; base != NULL && i < WRITES; i++)
            write_one(expected, base, NULL, &random);
        for (unsigned i = 0; i < round % WRITES; i++)
            write_one(expected, base, &latest, &random);
        compare(expected, &latest.engine, seed);
        latest_end(&latest);
        expected->methods->close(expected);
        if (base != NULL)
            base->methods->close(base);
    }
}

Test(latest, keeps_the_beginning_of_long_values)
{
    static const uint8_t value[LATEST_MAX_VALUE + 1] = {7};
    struct latest latest;
    struct slice whole = slice_of(value, sizeof value);
    struct slice found;
    cr_assert_eq(latest_init(&latest, NULL), 0);
    cr_assert_eq(latest_put(&latest, TABLE, slice_of_text("a"), &whole), 0);
    cr_assert_eq(latest.engine.methods->get(&latest.engine, TABLE, slice_of_text("a"), &found), 0);
    cr_assert_eq(found.size, LATEST_MAX_VALUE);
    cr_assert_eq(found.data[0], 7);
    latest_end(&latest);
}
