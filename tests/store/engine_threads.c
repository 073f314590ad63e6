/*
 * A snapshot is read by another thread while the loop's thread writes. This is a program of its
 * own, without the test library, because that cannot run under ThreadSanitizer, and this is what
 * ThreadSanitizer is for. It prints what fails, and then ends with 1.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/store/engine_model.h"

static const struct engine_methods *const engines[] = {&engine_memory};

enum { KEYS = 2000, LEAST_ROUNDS = 12, MOST_ROUNDS = 400, LEAST_WALKS = 3 };

/* The reader walks the snapshot over and over, until told to stop and at least once. */
struct reader {
    struct engine *engine;
    struct engine_snapshot *snapshot;
    const struct model *model;
    atomic_bool stop;
    atomic_uint walks;
    unsigned wrong; /* walks that met something else than the model */
};

static bool walk_once(struct reader *reader, bool forward)
{
    const struct engine_methods *methods = reader->engine->methods;
    struct engine_cursor *cursor = NULL;
    if (methods->cursor_open(reader->engine, reader->snapshot, 0, &cursor) != STORE_OK)
        return false;
    bool same = walks_as(cursor, reader->model, forward);
    methods->cursor_close(cursor);
    return same;
}

static void *read_snapshot(void *context)
{
    struct reader *reader = context;
    do {
        unsigned walks = atomic_fetch_add(&reader->walks, 1);
        reader->wrong += !walk_once(reader, walks % 2 == 0);
    } while (!atomic_load(&reader->stop));
    return NULL;
}

static int fill(struct engine *engine, struct model *model, unsigned count, const char *round)
{
    for (unsigned i = 0; i < count; i++) {
        char key[64];
        char value[64];
        struct slice name = numbered(key, sizeof(key), "key", i * 7919 % count);
        struct slice content = numbered(value, sizeof(value), round, i);
        int result = engine->methods->put(engine, 0, name, content);
        if (result != STORE_OK)
            return result;
        if (model != NULL)
            model_put(model, name, content);
    }
    return STORE_OK;
}

/* Rewrites, grows, shrinks, with further snapshots that come and go. */
static int write_round(struct engine *engine, unsigned round)
{
    static const char *const values[] = {"other", "a value of another length", "x"};
    struct engine_snapshot *snapshot;
    int result = engine->methods->snapshot(engine, &snapshot);
    if (result != STORE_OK)
        return result;
    result = fill(engine, NULL, KEYS - 500 + 200 * (round % 6), values[round % 3]);
    if (round % 2 == 0)
        engine->methods->release(engine, snapshot);
    for (unsigned i = 0; i < KEYS / 2; i++) {
        char key[64];
        engine->methods->delete (engine, 0, numbered(key, sizeof(key), "key", i + round));
    }
    if (round % 2 == 1)
        engine->methods->release(engine, snapshot);
    return result;
}

/* Writes until the reader has walked often enough, or for so many rounds. */
static int write_while_reading(struct engine *engine, struct reader *reader)
{
    int result = STORE_OK;
    for (unsigned round = 0; result == STORE_OK && round < MOST_ROUNDS; round++) {
        if (round >= LEAST_ROUNDS && atomic_load(&reader->walks) > LEAST_WALKS)
            break;
        result = write_round(engine, round);
    }
    return result;
}

static bool reads_while_writing(struct engine *engine, struct reader *reader)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, read_snapshot, reader) != 0)
        return false;
    int result = write_while_reading(engine, reader);
    atomic_store(&reader->stop, true);
    pthread_join(thread, NULL);
    return result == STORE_OK && reader->wrong == 0;
}

static bool snapshot_is_still_for_another_thread(const struct engine_methods *methods)
{
    struct engine *engine;
    struct engine_options options = {0};
    struct engine_snapshot *older;
    struct model model = {0};
    struct reader reader = {.model = &model};
    struct engine_mark mark;
    if (methods->open(&engine, &options, &mark, NULL) != STORE_OK)
        return false;
    reader.engine = engine;
    bool good = fill(engine, &model, KEYS, "first") == STORE_OK &&
                methods->snapshot(engine, &older) == STORE_OK;
    if (good && methods->snapshot(engine, &reader.snapshot) == STORE_OK) {
        methods->release(engine, older);
        good = reads_while_writing(engine, &reader);
        methods->release(engine, reader.snapshot);
    }
    model_free(&model);
    methods->close(engine);
    return good;
}

/* A checkpoint is written in the background while the loop's thread writes. */
static bool checkpoint_goes_on_while_writing(void)
{
    char path[] = "/tmp/cubby-threads-XXXXXX";
    char command[64];
    struct engine *engine;
    struct engine_mark mark;
    struct engine_status status;
    if (mkdtemp(path) == NULL)
        return false;
    struct engine_options options = {.directory = path};
    if (engine_memory.open(&engine, &options, &mark, NULL) != STORE_OK)
        return false;
    bool good = true;
    for (unsigned round = 0; good && round < LEAST_ROUNDS; round++) {
        mark.position = round + 1;
        good = engine_memory.commit(engine, &mark) == STORE_OK &&
               engine_memory.checkpoint(engine, round % 4 == 3) == STORE_OK &&
               write_round(engine, round) == STORE_OK;
        engine_memory.status(engine, &status);
        good = good && status.failed == 0;
    }
    engine_memory.close(engine);
    snprintf(command, sizeof(command), "rm -r %s", path);
    return system(command) == 0 && good; // NOLINT(cert-env33-c): a directory of our own
}

int main(void)
{
    int failures = 0;
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
        bool good = snapshot_is_still_for_another_thread(engines[i]);
        printf("%s: a snapshot is still for another thread: %s\n", engines[i]->name,
               good ? "yes" : "NO");
        failures += !good;
    }
    bool good = checkpoint_goes_on_while_writing();
    printf("memory: a checkpoint goes on while writing: %s\n", good ? "yes" : "NO");
    return failures + !good > 0;
}
