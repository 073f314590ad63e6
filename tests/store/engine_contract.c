/*
 * What store/engine.h promises, checked on every engine: each test runs once for each row of
 * engine_rows.h. Random tests print their seed where they fail, and take it from CUBBY_SEED. What
 * concerns threads is in engine_threads.c, what is left on disk in engine_disk.c.
 */
#include "tests/store/engine_rows.h"

struct place {
    char directory[MAX_DIRECTORY];
    struct engine *engine; /* that has it open */
};

static struct place places[8];

static struct place *find_place(const struct engine *engine)
{
    struct place *place = places;
    while (place->engine != engine)
        place++;
    return place;
}

static struct engine *open_engine(const struct engine_methods *methods, struct failure *failure)
{
    struct engine_mark mark = {.position = 1};
    if (!is_on_disk(methods)) {
        struct engine *engine = open_there(methods, failure, NULL, &mark);
        cr_assert_eq(mark.position, 0);
        return engine;
    }
    struct place *place = find_place(NULL);
    make_directory(place->directory);
    place->engine = open_there(methods, failure, place->directory, &mark);
    cr_assert_eq(mark.position, 0);
    return place->engine;
}

static void close_engine(struct engine *engine)
{
    struct place *place = is_on_disk(engine->methods) ? find_place(engine) : NULL;
    engine->methods->close(engine);
    if (place == NULL)
        return;
    place->engine = NULL;
    remove_directory(place->directory);
}

static int put_text(struct engine *engine, const char *key, const char *value)
{
    return put(engine, slice_of_text(key), slice_of_text(value));
}

static int delete_text(struct engine *engine, const char *key)
{
    return engine->methods->delete (engine, 0, slice_of_text(key));
}

static struct engine_snapshot *take_snapshot(struct engine *engine)
{
    struct engine_snapshot *snapshot = NULL;
    const struct engine_mark mark = {.position = 1};
    cr_assert_eq(engine->methods->commit(engine, &mark), STORE_OK);
    cr_assert_eq(engine->methods->snapshot(engine, &snapshot), STORE_OK);
    return snapshot;
}

/* Keys and values in shapes that are hard in different ways. */
enum shape { SHAPE_TINY, SHAPE_NUMBERED, SHAPE_BINARY, SHAPE_LONG_PREFIX };

static size_t tiny_key(struct random *random, uint8_t *key)
{
    static const uint8_t alphabet[] = {0, 1, 'a', 0xff};
    size_t size = random_below(random, 8);
    for (size_t i = 0; i < size; i++)
        key[i] = alphabet[random_below(random, sizeof(alphabet))];
    return size;
}

static size_t numbered_key(struct random *random, uint8_t *key)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "key:%012u", (unsigned)random_below(random, 6000));
    memcpy(key, text, (size_t)size);
    return (size_t)size;
}

/* Drawn from so many keys that each is met again. */
static size_t binary_key(struct random *random, uint8_t *key)
{
    uint64_t which = random_below(random, 1500);
    struct random own = {.state = (which + 1) * UINT64_C(0x9E3779B97F4A7C15)};
    size_t size = random_below(&own, ENGINE_MAX_KEY + 1);
    for (size_t i = 0; i < size; i++)
        key[i] = (uint8_t)(random_next(&own) >> 56);
    return size;
}

static size_t long_prefix_key(struct random *random, uint8_t *key)
{
    static const size_t prefixes[] = {0, 3, 300, 1500, 2040};
    size_t prefix = prefixes[random_below(random, sizeof(prefixes) / sizeof(prefixes[0]))];
    memset(key, 'p', prefix);
    size_t size = prefix + random_below(random, 9);
    for (size_t i = prefix; i < size; i++)
        key[i] = (uint8_t)('n' + random_below(random, 4));
    return size;
}

static struct slice random_key(struct random *random, enum shape shape, uint8_t *buffer)
{
    switch (shape) {
    case SHAPE_TINY:
        return slice_of(buffer, tiny_key(random, buffer));
    case SHAPE_NUMBERED:
        return slice_of(buffer, numbered_key(random, buffer));
    case SHAPE_BINARY:
        return slice_of(buffer, binary_key(random, buffer));
    case SHAPE_LONG_PREFIX:
    default:
        return slice_of(buffer, long_prefix_key(random, buffer));
    }
}

enum { MAX_TEST_VALUE = 64 << 10 };

/* Mostly small, some around where engines change how they keep them, a few large. */
static struct slice random_value(struct random *random, uint8_t *buffer)
{
    uint64_t kind = random_below(random, 400);
    size_t size = random_below(random, 120);
    if (kind == 0)
        size = random_below(random, MAX_TEST_VALUE + 1);
    else if (kind < 8)
        size = 1000 + random_below(random, 60);
    else if (kind < 200)
        size = 40;
    memset(buffer, (int)random_below(random, 256), size);
    for (size_t i = 0; i + sizeof(uint64_t) <= size && i < 64; i += sizeof(uint64_t)) {
        uint64_t bytes = random_next(random);
        memcpy(buffer + i, &bytes, sizeof(bytes));
    }
    return slice_of(buffer, size);
}

/* A model check: engine and model side by side. */
enum { CHECK_SNAPSHOTS = 4, CHECK_TABLE = 3 };

struct check {
    struct engine *engine;
    const struct engine_methods *methods;
    struct random random;
    enum shape shape;
    struct failure failure;
    struct model model;
    struct engine_cursor *cursor;
    struct slice at; /* where the cursor is; data NULL: nowhere */
    struct engine_snapshot *snapshots[CHECK_SNAPSHOTS];
    struct model snapshot_models[CHECK_SNAPSHOTS];
    uint8_t key[ENGINE_MAX_KEY];
    uint8_t value[MAX_TEST_VALUE];
};

#define CHECK(condition, check)                                                                    \
    cr_assert((condition), "CUBBY_SEED=%llu, shape %d: " #condition,                               \
              (unsigned long long)(check)->random.seed, (int)(check)->shape)

static struct check *check_open(const struct engine_methods *methods, enum shape shape)
{
    struct check *check = calloc(1, sizeof(*check));
    check->methods = methods;
    check->shape = shape;
    check->random = random_start();
    check->random.state += shape;
    check->failure.left = -1;
    check->engine = open_engine(methods, &check->failure);
    check->cursor = open_cursor(check->engine, NULL, CHECK_TABLE);
    return check;
}

static void check_release(struct check *check, unsigned which)
{
    if (check->snapshots[which] == NULL)
        return;
    CHECK(
        holds(check->engine, check->snapshots[which], CHECK_TABLE, &check->snapshot_models[which]),
        check);
    check->methods->release(check->engine, check->snapshots[which]);
    check->snapshots[which] = NULL;
    model_free(&check->snapshot_models[which]);
}

static void check_close(struct check *check)
{
    CHECK(holds(check->engine, NULL, CHECK_TABLE, &check->model), check);
    check->methods->cursor_close(check->cursor);
    for (unsigned i = 0; i < CHECK_SNAPSHOTS; i++)
        check_release(check, i);
    close_engine(check->engine);
    model_free(&check->model);
    slice_drop(check->at);
    free(check);
}

static void check_get(struct check *check)
{
    struct slice key = random_key(&check->random, check->shape, check->key);
    struct slice value;
    int result = check->methods->get(check->engine, CHECK_TABLE, key, &value);
    size_t at = model_find(&check->model, key);
    bool there = model_has(&check->model, at, key);
    CHECK(result == (there ? STORE_OK : STORE_NOT_FOUND), check);
    CHECK(!there || slice_equal(value, check->model.pairs[at].value), check);
}

/* As the store does it: look, then write. */
static void check_put(struct check *check)
{
    check_get(check);
    struct slice key = random_key(&check->random, check->shape, check->key);
    struct slice value = random_value(&check->random, check->value);
    struct slice old;
    if (random_below(&check->random, 2) == 0)
        check->methods->get(check->engine, CHECK_TABLE, key, &old);
    int result = check->methods->put(check->engine, CHECK_TABLE, key, value);
    if (result == STORE_OK)
        model_put(&check->model, key, value);
    else
        CHECK(result == STORE_NO_MEMORY && check->failure.left < 0, check);
}

static void check_delete(struct check *check)
{
    struct slice key = random_key(&check->random, check->shape, check->key);
    int result = check->methods->delete (check->engine, CHECK_TABLE, key);
    if (result != STORE_NO_MEMORY)
        CHECK(result == (model_delete(&check->model, key) ? STORE_OK : STORE_NOT_FOUND), check);
}

static void check_count(struct check *check)
{
    uint8_t buffer[ENGINE_MAX_KEY];
    struct slice start = random_key(&check->random, check->shape, check->key);
    struct slice end = random_key(&check->random, check->shape, buffer);
    uint64_t count = 0;
    if (random_below(&check->random, 4) == 0)
        end = slice_of(NULL, 0);
    check->methods->count(check->engine, CHECK_TABLE, start, end, &count);
    size_t from = model_find(&check->model, start);
    size_t to = end.data != NULL ? model_find(&check->model, end) : check->model.count;
    CHECK(count == (to > from ? to - from : 0), check);
}

/* `expected` is an index into the model; the model's count or beyond means nothing there. */
static void check_found(struct check *check, int result, struct slice key, struct slice value,
                        size_t expected)
{
    slice_drop(check->at);
    check->at = slice_of(NULL, 0);
    CHECK(result == (expected < check->model.count ? STORE_OK : STORE_NOT_FOUND), check);
    if (result != STORE_OK)
        return;
    CHECK(slice_equal(key, check->model.pairs[expected].key), check);
    CHECK(slice_equal(value, check->model.pairs[expected].value), check);
    check->at = slice_copy(key);
}

static void check_seek(struct check *check, bool before)
{
    struct slice key = random_key(&check->random, check->shape, check->key);
    struct slice found = {0};
    struct slice value = {0};
    if (before && random_below(&check->random, 10) == 0)
        key.data = NULL;
    size_t at = key.data != NULL ? model_find(&check->model, key) : check->model.count;
    int result = before ? check->methods->cursor_seek_before(check->cursor, key, &found, &value)
                        : check->methods->cursor_seek(check->cursor, key, &found, &value);
    check_found(check, result, found, value, before ? at - 1 : at);
}

static void check_step(struct check *check, bool forward)
{
    struct slice key = {0};
    struct slice value = {0};
    size_t expected = SIZE_MAX;
    if (check->at.data != NULL) {
        size_t at = model_find(&check->model, check->at);
        expected = forward ? at + model_has(&check->model, at, check->at) : at - 1;
    }
    int result = forward ? check->methods->cursor_next(check->cursor, &key, &value)
                         : check->methods->cursor_prev(check->cursor, &key, &value);
    check_found(check, result, key, value, expected);
}

static void check_snapshot(struct check *check)
{
    unsigned which = (unsigned)random_below(&check->random, CHECK_SNAPSHOTS);
    if (check->snapshots[which] != NULL) {
        check_release(check, which);
        return;
    }
    check->snapshots[which] = take_snapshot(check->engine);
    check->snapshot_models[which] = model_copy(&check->model);
}

/* Growing and shrinking take turns, so that the structure is built and taken apart again. */
static void check_one(struct check *check, unsigned step)
{
    bool growing = step / 8000 % 2 == 0;
    uint64_t kind = random_below(&check->random, 20);
    if (kind < (growing ? 8 : 3))
        check_put(check);
    else if (kind < 11)
        check_delete(check);
    else if (kind < 12)
        check_count(check);
    else if (kind < 14)
        check_seek(check, kind == 12);
    else if (kind < 18)
        check_step(check, kind < 16);
    else
        check_get(check);
    if (random_below(&check->random, 1500) == 0)
        check_snapshot(check);
}

enum { CHECK_STEPS = 100000, DISK_STEPS = 20000 };

static void check_many(const struct engine_methods *methods, enum shape shape, unsigned steps)
{
    struct check *check = check_open(methods, shape);
    if (is_on_disk(methods) && steps > DISK_STEPS)
        steps = DISK_STEPS;
    for (unsigned step = 0; step < steps; step++)
        check_one(check, step);
    check_close(check);
}

CONTRACT(random_operations_on_tiny_keys_match_a_sorted_array)
{
    check_many(engines[*row], SHAPE_TINY, CHECK_STEPS);
}

CONTRACT(random_operations_on_numbered_keys_match_a_sorted_array)
{
    check_many(engines[*row], SHAPE_NUMBERED, CHECK_STEPS);
}

CONTRACT(random_operations_on_binary_keys_match_a_sorted_array)
{
    check_many(engines[*row], SHAPE_BINARY, CHECK_STEPS);
}

CONTRACT(random_operations_on_keys_with_long_prefixes_match_a_sorted_array)
{
    check_many(engines[*row], SHAPE_LONG_PREFIX, CHECK_STEPS);
}

CONTRACT(writes_that_run_out_of_memory_at_random_change_nothing)
{
    if (is_on_disk(engines[*row]))
        return;
    struct check *check = check_open(engines[*row], SHAPE_LONG_PREFIX);
    for (unsigned step = 0; step < CHECK_STEPS / 4; step++) {
        check->failure.left = (long)random_below(&check->random, 6);
        check_put(check);
        check->failure.left = (long)random_below(&check->random, 6);
        check->failure.for_ever = true;
        check_delete(check);
        check->failure = (struct failure){.left = -1};
        check_one(check, step);
    }
    check_close(check);
}

/* One run of a scenario in which the n-th allocation fails. Whether it came so far. */
static bool fails_cleanly(const struct engine_methods *methods, enum shape shape, long n)
{
    struct check *check = check_open(methods, shape);
    check->random.state = (uint64_t)shape + 1;
    for (unsigned i = 0; i < 150; i++)
        check_put(check);
    check->snapshots[0] = take_snapshot(check->engine);
    check->snapshot_models[0] = model_copy(&check->model);
    check->failure.left = n;
    for (unsigned i = 0; i < 150; i++) {
        bool armed = check->failure.left >= 0;
        check_put(check);
        check_delete(check);
        if (armed && check->failure.left < 0)
            CHECK(holds(check->engine, NULL, CHECK_TABLE, &check->model), check);
    }
    bool failed = check->failure.left < 0;
    check->failure.left = -1;
    check_close(check);
    return failed;
}

CONTRACT(an_allocation_that_fails_leaves_the_state_as_it_was)
{
    if (is_on_disk(engines[*row]))
        return;
    for (int shape = SHAPE_TINY; shape <= SHAPE_LONG_PREFIX; shape++) {
        long n = 0;
        while (n < 200 && fails_cleanly(engines[*row], (enum shape)shape, n))
            n++;
        cr_assert_gt(n, 20, "only %ld allocations in shape %d", n, shape);
    }
}

CONTRACT(an_absent_key_is_not_found)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct slice value;
    cr_assert_eq(engine->methods->get(engine, 0, slice_of_text("a"), &value), STORE_NOT_FOUND);
    cr_assert_eq(delete_text(engine, "a"), STORE_NOT_FOUND);
    cr_assert_eq(put_text(engine, "b", "1"), STORE_OK);
    cr_assert_eq(engine->methods->get(engine, 0, slice_of_text("a"), &value), STORE_NOT_FOUND);
    cr_assert_eq(delete_text(engine, "a"), STORE_NOT_FOUND);
    close_engine(engine);
}

CONTRACT(a_key_beyond_the_limit_is_not_found)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    static uint8_t bytes[ENGINE_MAX_KEY + 1];
    struct slice key = slice_of(bytes, sizeof(bytes));
    struct slice value;
    cr_assert_eq(engine->methods->get(engine, 0, key, &value), STORE_NOT_FOUND);
    cr_assert_eq(engine->methods->delete (engine, 0, key), STORE_NOT_FOUND);
    close_engine(engine);
}

CONTRACT(a_table_without_keys_counts_none)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    uint64_t count = 1;
    int result = engine->methods->count(engine, 0, slice_of_text("a"), slice_of_text("b"), &count);
    cr_assert_eq(result, STORE_OK);
    cr_assert_eq(count, 0);
    close_engine(engine);
}

CONTRACT(cursors_and_snapshots_that_get_no_memory_say_so)
{
    if (is_on_disk(engines[*row]))
        return;
    struct failure failure = {.left = -1};
    struct engine *engine = open_engine(engines[*row], &failure);
    struct engine_cursor *cursor;
    struct engine_snapshot *snapshot;
    failure = (struct failure){.left = 0, .for_ever = true};
    cr_assert_eq(engine->methods->cursor_open(engine, NULL, 0, &cursor), STORE_NO_MEMORY);
    cr_assert_eq(engine->methods->snapshot(engine, &snapshot), STORE_NO_MEMORY);
    close_engine(engine);
}

CONTRACT(tables_do_not_see_each_other)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct slice key = slice_of_text("key");
    struct slice value;
    for (unsigned table = 0; table < ENGINE_TABLES; table += 2)
        cr_assert_eq(engine->methods->put(engine, table, key, slice_of(&table, sizeof(table))),
                     STORE_OK);
    for (unsigned table = 0; table < ENGINE_TABLES; table++) {
        int result = engine->methods->get(engine, table, key, &value);
        cr_assert_eq(result, table % 2 == 0 ? STORE_OK : STORE_NOT_FOUND);
        cr_assert(table % 2 == 1 || slice_equal(value, slice_of(&table, sizeof(table))));
    }
    close_engine(engine);
}

CONTRACT(keys_and_values_at_their_limits_come_back_whole)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model model = {0};
    static const size_t key_sizes[] = {0, 1, ENGINE_MAX_KEY - 1, ENGINE_MAX_KEY};
    static const size_t value_sizes[] = {0, 1, ENGINE_MAX_VALUE - 1, ENGINE_MAX_VALUE};
    uint8_t *bytes = malloc(ENGINE_MAX_VALUE + 1);
    memset(bytes, 'x', ENGINE_MAX_VALUE + 1);
    for (unsigned i = 0; i < 16; i++) {
        struct slice key = slice_of(bytes, key_sizes[i % 4]);
        struct slice value = slice_of(bytes, value_sizes[(i + i / 4) % 4]);
        cr_assert_eq(put(engine, key, value), STORE_OK);
        model_put(&model, key, value);
        cr_assert(holds(engine, NULL, 0, &model));
    }
    cr_assert_eq(put(engine, slice_of(bytes, ENGINE_MAX_KEY + 1), slice_of(bytes, 1)),
                 STORE_INVALID);
    cr_assert_eq(put(engine, slice_of(bytes, 1), slice_of(bytes, ENGINE_MAX_VALUE + 1)),
                 STORE_INVALID);
    cr_assert(holds(engine, NULL, 0, &model));
    model_free(&model);
    free(bytes);
    close_engine(engine);
}

CONTRACT(keys_are_ordered_as_unsigned_bytes_and_prefixes_come_first)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    static const char *const texts[] = {"",
                                        "a",
                                        "a\x01",
                                        "aa",
                                        "aaaaa",
                                        "aaaab",
                                        "b",
                                        "\x7f",
                                        "\x80",
                                        "\xff",
                                        "\xff\xff\xff\xff",
                                        "\xff\xff\xff\xff\x01"};
    enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };
    for (unsigned i = 0; i < TEXTS; i++)
        cr_assert_eq(put_text(engine, texts[i * 5 % TEXTS], "v"), STORE_OK);
    struct engine_cursor *cursor = open_cursor(engine, NULL, 0);
    struct slice key;
    struct slice value;
    int result = engine->methods->cursor_seek(cursor, slice_of_text(""), &key, &value);
    for (unsigned i = 0; i < TEXTS; i++) {
        cr_assert_eq(result, STORE_OK);
        cr_assert(slice_equal(key, slice_of_text(texts[i])), "at %u", i);
        result = engine->methods->cursor_next(cursor, &key, &value);
    }
    cr_assert_eq(result, STORE_NOT_FOUND);
    engine->methods->cursor_close(cursor);
    close_engine(engine);
}

CONTRACT(keys_that_repeat_one_byte_are_told_apart_by_their_length)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model model = {0};
    uint8_t key[64];
    for (int byte = 0; byte <= 0xff; byte += 0x33) {
        memset(key, byte, sizeof(key));
        for (size_t i = 0; i < sizeof(key); i++) {
            struct slice name = slice_of(key, i * 37 % sizeof(key));
            cr_assert_eq(put(engine, name, slice_of(&i, sizeof(i))), STORE_OK);
            model_put(&model, name, slice_of(&i, sizeof(i)));
        }
    }
    cr_assert(holds(engine, NULL, 0, &model));
    for (size_t i = 0; i < model.count; i++) {
        struct slice value;
        cr_assert_eq(engine->methods->get(engine, 0, model.pairs[i].key, &value), STORE_OK);
        cr_assert(slice_equal(value, model.pairs[i].value));
    }
    model_free(&model);
    close_engine(engine);
}

CONTRACT(a_value_got_from_the_engine_may_be_put_back)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model model = {0};
    static uint8_t large[5000];
    memset(large, 'L', sizeof(large));
    cr_assert_eq(put(engine, slice_of_text("small"), slice_of_text("some value")), STORE_OK);
    cr_assert_eq(put(engine, slice_of_text("large"), slice_of(large, sizeof(large))), STORE_OK);
    model_put(&model, slice_of_text("small"), slice_of_text("some value"));
    model_put(&model, slice_of_text("large"), slice_of(large, sizeof(large)));
    for (unsigned i = 0; i < 300; i++) {
        char text[64];
        struct slice source = slice_of_text(i % 5 == 0 ? "large" : "small");
        struct slice target = i % 7 == 0 ? source : numbered(text, sizeof(text), "copy", i);
        struct slice value;
        cr_assert_eq(engine->methods->get(engine, 0, source, &value), STORE_OK);
        size_t cut = value.size > 2 && i % 7 == 0 ? 1 : 0;
        value = slice_of(value.data + cut, value.size - cut);
        model_put(&model, target, value);
        cr_assert_eq(put(engine, target, value), STORE_OK);
    }
    cr_assert(holds(engine, NULL, 0, &model));
    model_free(&model);
    close_engine(engine);
}

CONTRACT(a_key_got_from_the_engine_may_be_put_back)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model model = {0};
    fill(engine, &model, 500, "first");
    for (unsigned i = 0; i < 500; i++) {
        char text[64];
        struct slice value;
        struct slice key = numbered(text, sizeof(text), "key", i);
        cr_assert_eq(engine->methods->get(engine, 0, key, &value), STORE_OK);
        model_put(&model, value, value);
        cr_assert_eq(put(engine, value, value), STORE_OK);
    }
    cr_assert(holds(engine, NULL, 0, &model));
    model_free(&model);
    close_engine(engine);
}

CONTRACT(a_cursor_that_fell_off_the_end_must_be_sought_again)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct engine_cursor *cursor = open_cursor(engine, NULL, 0);
    const struct engine_methods *methods = engine->methods;
    struct slice key;
    struct slice value;
    cr_assert_eq(methods->cursor_next(cursor, &key, &value), STORE_NOT_FOUND);
    cr_assert_eq(put_text(engine, "a", "1"), STORE_OK);
    cr_assert_eq(methods->cursor_seek(cursor, slice_of_text("a"), &key, &value), STORE_OK);
    cr_assert_eq(methods->cursor_next(cursor, &key, &value), STORE_NOT_FOUND);
    cr_assert_eq(methods->cursor_next(cursor, &key, &value), STORE_NOT_FOUND);
    cr_assert_eq(methods->cursor_prev(cursor, &key, &value), STORE_NOT_FOUND);
    cr_assert_eq(methods->cursor_seek(cursor, slice_of_text("b"), &key, &value), STORE_NOT_FOUND);
    cr_assert_eq(methods->cursor_seek_before(cursor, slice_of_text("a"), &key, &value),
                 STORE_NOT_FOUND);
    cr_assert_eq(methods->cursor_seek_before(cursor, slice_of_text("b"), &key, &value), STORE_OK);
    cr_assert(slice_equal(key, slice_of_text("a")));
    methods->cursor_close(cursor);
    close_engine(engine);
}

CONTRACT(a_walk_that_deletes_what_it_meets_meets_everything_once)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct engine_cursor *cursor = open_cursor(engine, NULL, 0);
    struct slice key;
    struct slice value;
    for (int forward = 0; forward < 2; forward++) {
        fill(engine, NULL, 3000, "round");
        unsigned met = 0;
        int result =
            forward ? engine->methods->cursor_seek(cursor, slice_of_text(""), &key, &value)
                    : engine->methods->cursor_seek_before(cursor, slice_of(NULL, 0), &key, &value);
        while (result == STORE_OK) {
            char text[64];
            struct slice expected = numbered(text, sizeof(text), "key", forward ? met : 2999 - met);
            cr_assert(slice_equal(key, expected));
            cr_assert_eq(engine->methods->delete (engine, 0, key), STORE_OK);
            met++;
            result = forward ? engine->methods->cursor_next(cursor, &key, &value)
                             : engine->methods->cursor_prev(cursor, &key, &value);
        }
        cr_assert_eq(met, 3000);
    }
    engine->methods->cursor_close(cursor);
    close_engine(engine);
}

CONTRACT(a_walk_meets_what_is_put_before_it_and_not_what_is_put_behind)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct engine_cursor *cursor = open_cursor(engine, NULL, 0);
    const struct engine_methods *methods = engine->methods;
    struct slice key;
    struct slice value;
    cr_assert_eq(put_text(engine, "d", "4"), STORE_OK);
    cr_assert_eq(methods->cursor_seek(cursor, slice_of_text("d"), &key, &value), STORE_OK);
    cr_assert_eq(put_text(engine, "c", "3"), STORE_OK);
    cr_assert_eq(put_text(engine, "e", "5"), STORE_OK);
    cr_assert_eq(methods->cursor_next(cursor, &key, &value), STORE_OK);
    cr_assert(slice_equal(key, slice_of_text("e")));
    cr_assert_eq(put_text(engine, "e", "changed"), STORE_OK);
    cr_assert_eq(methods->cursor_prev(cursor, &key, &value), STORE_OK);
    cr_assert(slice_equal(key, slice_of_text("d")));
    cr_assert_eq(delete_text(engine, "d"), STORE_OK);
    cr_assert_eq(methods->cursor_next(cursor, &key, &value), STORE_OK);
    cr_assert(slice_equal(value, slice_of_text("changed")));
    methods->cursor_close(cursor);
    close_engine(engine);
}

CONTRACT(a_snapshot_stays_still_while_everything_is_rewritten_and_deleted)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model before = {0};
    struct model none = {0};
    fill(engine, &before, 3000, "first");
    struct engine_snapshot *snapshot = take_snapshot(engine);
    fill(engine, NULL, 3000, "other");
    cr_assert(holds(engine, snapshot, 0, &before));
    fill(engine, NULL, 6000, "a longer value, so that it moves");
    cr_assert(holds(engine, snapshot, 0, &before));
    for (unsigned i = 0; i < 6000; i++) {
        char text[64];
        struct slice key = numbered(text, sizeof(text), "key", i);
        cr_assert_eq(engine->methods->delete (engine, 0, key), STORE_OK);
    }
    cr_assert(holds(engine, snapshot, 0, &before));
    cr_assert(holds(engine, NULL, 0, &none));
    engine->methods->release(engine, snapshot);
    model_free(&before);
    close_engine(engine);
}

CONTRACT(a_view_from_a_snapshot_is_not_affected_by_writes)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    fill(engine, NULL, 1000, "first");
    struct engine_snapshot *snapshot = take_snapshot(engine);
    struct engine_cursor *cursor = open_cursor(engine, snapshot, 0);
    struct slice key;
    struct slice value;
    cr_assert_eq(
        engine->methods->cursor_seek(cursor, slice_of_text("key:000000000500"), &key, &value),
        STORE_OK);
    fill(engine, NULL, 1000, "other");
    cr_assert(slice_equal(key, slice_of_text("key:000000000500")));
    cr_assert(slice_equal(value, slice_of_text("first:000000000500")));
    engine->methods->cursor_close(cursor);
    engine->methods->release(engine, snapshot);
    close_engine(engine);
}

CONTRACT(a_large_value_stays_in_a_snapshot_when_another_takes_its_place)
{
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model before = {0};
    struct model after = {0};
    static uint8_t value[100000];
    for (size_t size = 500; size <= sizeof(value); size *= 2) {
        struct slice key = slice_of(&size, sizeof(size));
        memset(value, 'a', sizeof(value));
        cr_assert_eq(put(engine, key, slice_of(value, size)), STORE_OK);
        model_put(&before, key, slice_of(value, size));
    }
    struct engine_snapshot *snapshot = take_snapshot(engine);
    for (size_t size = 500; size <= sizeof(value); size *= 2) {
        struct slice key = slice_of(&size, sizeof(size));
        memset(value, 'b', sizeof(value));
        cr_assert_eq(put(engine, key, slice_of(value, size)), STORE_OK);
        model_put(&after, key, slice_of(value, size));
    }
    cr_assert(holds(engine, snapshot, 0, &before));
    cr_assert(holds(engine, NULL, 0, &after));
    engine->methods->release(engine, snapshot);
    model_free(&before);
    model_free(&after);
    close_engine(engine);
}

enum { ORDERED_SNAPSHOTS = 4 };

struct kept {
    struct engine_snapshot *snapshot;
    struct model model;
};

/* Writes a round, and tells the model what there is now: the round and what it left of `older`. */
static void fill_over(struct engine *engine, const struct model *older, struct model *model,
                      unsigned count, const char *round)
{
    *model = model_copy(older);
    fill(engine, model, count, round);
}

/* Takes snapshots with writes between them, and releases them in the n-th of all orders. */
static void release_in_order(const struct engine_methods *methods, unsigned n)
{
    struct engine *engine = open_engine(methods, NULL);
    struct kept kept[ORDERED_SNAPSHOTS] = {{0}};
    static const char *const rounds[] = {"first", "second", "third", "fourth", "fifth"};
    for (unsigned i = 0; i < ORDERED_SNAPSHOTS; i++) {
        struct model none = {0};
        fill_over(engine, i > 0 ? &kept[i - 1].model : &none, &kept[i].model, 300 - 20 * i,
                  rounds[i]);
        kept[i].snapshot = take_snapshot(engine);
    }
    for (unsigned left = ORDERED_SNAPSHOTS; left > 0; n /= left, left--) {
        unsigned which = n % left;
        for (unsigned i = 0; i < left; i++)
            cr_assert(holds(engine, kept[i].snapshot, 0, &kept[i].model), "%u of %u", which, left);
        engine->methods->release(engine, kept[which].snapshot);
        model_free(&kept[which].model);
        memmove(kept + which, kept + which + 1, (left - which - 1) * sizeof(struct kept));
        fill(engine, NULL, 100 + 10 * left, rounds[left]);
    }
    close_engine(engine);
}

CONTRACT(snapshots_may_be_released_in_any_order)
{
    for (unsigned n = 0; n < 24; n++)
        release_in_order(engines[*row], n);
}

CONTRACT(a_prefetch_of_keys_there_or_not_changes_nothing)
{
    struct check *check = check_open(engines[*row], SHAPE_LONG_PREFIX);
    static uint8_t buffers[ENGINE_MAX_PREFETCH][ENGINE_MAX_KEY];
    struct slice keys[ENGINE_MAX_PREFETCH];
    for (unsigned step = 0; check->methods->prefetch != NULL && step < 5000; step++) {
        unsigned count = (unsigned)random_below(&check->random, ENGINE_MAX_PREFETCH + 1);
        for (unsigned i = 0; i < count; i++) {
            buffers[i][0] = 'p';
            keys[i] = random_key(&check->random, check->shape, buffers[i]);
            keys[i].size += keys[i].size == 0;
        }
        check->methods->prefetch(check->engine, CHECK_TABLE, keys, count);
        check_put(check);
    }
    check_close(check);
}

CONTRACT(memory_grows_with_what_is_kept_and_comes_back)
{
    if (is_on_disk(engines[*row]))
        return;
    struct engine *engine = open_engine(engines[*row], NULL);
    uint64_t empty = engine->methods->memory(engine);
    fill(engine, NULL, 5000, "value");
    uint64_t full = engine->methods->memory(engine);
    cr_assert_geq(full, empty + UINT64_C(5000) * 20);
    for (unsigned i = 0; i < 5000; i++) {
        char text[64];
        struct slice key = numbered(text, sizeof(text), "key", i);
        cr_assert_eq(engine->methods->delete (engine, 0, key), STORE_OK);
    }
    cr_assert_leq(engine->methods->memory(engine), empty + (full - empty) / 10);
    close_engine(engine);
}

CONTRACT(without_a_directory_a_checkpoint_succeeds_and_the_next_open_finds_nothing)
{
    if (is_on_disk(engines[*row]))
        return;
    struct engine *engine = open_engine(engines[*row], NULL);
    struct model none = {0};
    fill(engine, NULL, 100, "value");
    cr_assert_eq(engine->methods->checkpoint(engine, true), STORE_OK);
    close_engine(engine);
    engine = open_engine(engines[*row], NULL);
    cr_assert(holds(engine, NULL, 0, &none));
    close_engine(engine);
}
