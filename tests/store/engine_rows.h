/*
 * The engines, and what runs a test once for each of them: every engine of store/engine.h has a
 * row here.
 */
#ifndef TESTS_STORE_ENGINE_ROWS_H
#define TESTS_STORE_ENGINE_ROWS_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <ftw.h>
#include <unistd.h>

#include "tests/store/engine_model.h"

static const struct engine_methods *const engines[] = {&engine_memory, &engine_lmdb,
                                                       &engine_rocksdb};

enum { ENGINES = sizeof(engines) / sizeof(engines[0]) };

static unsigned rows[ENGINES];

static struct criterion_test_params all_rows(void)
{
    for (unsigned i = 0; i < ENGINES; i++)
        rows[i] = i;
    return cr_make_param_array(unsigned, rows, ENGINES);
}

enum { ROW_TIMEOUT_S = 300 }; /* a test that hangs fails, instead of holding up all */

#define CONTRACT(name)                                                                             \
    ParameterizedTestParameters(engine_contract, name)                                             \
    {                                                                                              \
        return all_rows();                                                                         \
    }                                                                                              \
    ParameterizedTest(const unsigned *row, engine_contract, name, .timeout = ROW_TIMEOUT_S)

/* Engines on disk get a directory that lives as long as the test's engine. */
static inline bool is_on_disk(const struct engine_methods *methods)
{
    return methods != &engine_memory;
}

enum { MAX_DIRECTORY = 64 };

/* In memory where there is such a place: what is tested is not the disk. */
static inline void make_directory(char *directory)
{
    const char *where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, MAX_DIRECTORY, "%s/cubby-engine-XXXXXX", where);
    cr_assert_not_null(mkdtemp(directory));
}

static inline int remove_one(const char *path, const struct stat *status, int type,
                             struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static inline void remove_directory(const char *directory)
{
    enum { OPEN_FILES = 8 };
    cr_assert_eq(nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS), 0);
}

static inline struct engine *open_there(const struct engine_methods *methods,
                                        struct failure *failure, const char *directory,
                                        struct engine_mark *mark)
{
    struct engine *engine = NULL;
    struct engine_options options = {
        .directory = directory, .admit = failure != NULL ? admit : NULL, .admit_context = failure};
    struct store_error error = {0};
    int result = methods->open(&engine, &options, mark, &error);
    cr_assert_eq(result, STORE_OK, "%s", error.message);
    return engine;
}

static inline struct engine_cursor *open_cursor(struct engine *engine,
                                                struct engine_snapshot *snapshot, unsigned table)
{
    struct engine_cursor *cursor = NULL;
    cr_assert_eq(engine->methods->cursor_open(engine, snapshot, table, &cursor), STORE_OK);
    return cursor;
}

static inline bool holds(struct engine *engine, struct engine_snapshot *snapshot, unsigned table,
                         const struct model *model)
{
    struct engine_cursor *cursor = open_cursor(engine, snapshot, table);
    bool same = walks_as(cursor, model, true) && walks_as(cursor, model, false);
    engine->methods->cursor_close(cursor);
    return same;
}

static inline int put(struct engine *engine, struct slice key, struct slice value)
{
    return engine->methods->put(engine, 0, key, value);
}

static inline void fill(struct engine *engine, struct model *model, unsigned count,
                        const char *round)
{
    char key[64];
    char value[96];
    for (unsigned i = 0; i < count; i++) {
        unsigned number = (unsigned)((uint64_t)i * 7919 % count);
        struct slice name = numbered(key, sizeof(key), "key", number);
        struct slice content = numbered(value, sizeof(value), round, number);
        cr_assert_eq(put(engine, name, content), STORE_OK);
        if (model != NULL)
            model_put(model, name, content);
    }
}

#endif
