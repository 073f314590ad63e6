/*
 * Opening a store and closing it: the directory, the engine, the log's records replayed into it,
 * and the epoch. What a start does is told step by step in README.md.
 */
#include <stdio.h>
#include <sys/random.h>

#include "store/store_internal.h"

static int apply(struct store *store, const struct operation *operation)
{
    struct engine *engine = store->engine;
    if (operation_is_put(operation->action))
        return engine->methods->put(engine, operation->table, operation->key, operation->value);
    int rc = engine->methods->delete (engine, operation->table, operation->key);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* What the callbacks need during a start. */
struct opening {
    struct store *store;
    const struct store_options *options;
};

static void load_progress(void *context, uint64_t done, uint64_t total)
{
    const struct store_options *options = ((struct opening *)context)->options;
    if (options->progress != NULL)
        options->progress(options->context, "checkpoint", done, total);
}

static void load_warn(void *context, const char *line)
{
    const struct store_options *options = ((struct opening *)context)->options;
    if (options->warn != NULL)
        options->warn(options->context, line);
}

static void replay_progress(void *context, uint64_t done, uint64_t total)
{
    const struct store_options *options = ((struct opening *)context)->options;
    if (options->progress != NULL)
        options->progress(options->context, "log", done, total);
}

static int fail_engine(struct store *store, int rc, struct store_error *error)
{
    struct engine_status status;
    store->engine->methods->status(store->engine, &status);
    return store_fail(error, (enum store_code)rc, "%s",
                      status.failure != NULL ? status.failure : "out of memory");
}

/* A group is complete when the first record of the next one comes. */
static int replay(void *context, uint64_t position, const struct log_record *record,
                  struct store_error *error)
{
    struct store *store = ((struct opening *)context)->store;
    struct operation operation;
    size_t at = 0;
    int rc = 0;
    if (position > store->mark.position + 1)
        rc = store_commit_engine(store, position - 1);
    if (rc != 0)
        return fail_engine(store, rc, error);
    while ((rc = operation_read(record->body, &at, &operation)) == 0) {
        rc = apply(store, &operation);
        if (rc != 0)
            return store_fail(error, (enum store_code)rc, "out of memory while reading the log");
    }
    if (rc != STORE_NOT_FOUND)
        return store_fail(error, STORE_CORRUPT,
                          "the log has a record that makes no sense in group %llu: it was written "
                          "by another version or is damaged",
                          (unsigned long long)position);
    if (record->seq != 0)
        store->seq = record->seq;
    if (record->time_ms > store->now_ms)
        store->now_ms = record->time_ms;
    store->written += record->body.size;
    store->replayed++;
    return 0;
}

bool store_has_engine(const char *name)
{
    return engine_find(name) != NULL;
}

const char *store_engines(void)
{
    return engine_names();
}

/* The engine that was asked for, and that the directory has. */
static int choose_engine(const struct store *store, const struct store_options *options,
                         const struct engine_methods **methods, struct store_error *error)
{
    const struct directory_state *state = &store->state;
    bool fresh = state->epoch[0] == '\0';
    const char *name = options->engine;
    if (name == NULL)
        name = fresh ? engine_memory.name : state->engine;
    *methods = engine_find(name);
    if (*methods == NULL)
        return store_fail(error, STORE_INVALID, "there is no engine '%s'; this version has %s",
                          name, engine_names());
    if (!fresh && strcmp(state->engine, name) != 0)
        return store_fail(error, STORE_INVALID,
                          "%s was made with engine %s: give --engine %s; to change it, back it up "
                          "with 'cubby backup FILE' and restore that with 'cubbyd --restore FILE "
                          "--data NEWDIR --engine %s'",
                          options->directory, state->engine, state->engine, name);
    return 0;
}

static int open_directory(struct store *store, const struct store_options *options,
                          struct store_error *error)
{
    struct directory_state *state = &store->state;
    if (options->directory == NULL)
        return 0;
    int rc = directory_open(&store->directory, options->directory, state, error);
    return rc == 0 ? directory_check_log(store->directory, state, error) : rc;
}

/*
 * A new directory gets its state before anything else: files without one are somebody else's, so a
 * first start that was interrupted would stand in the way of the second.
 */
static int begin_directory(struct store *store, const struct store_options *options,
                           const char *engine, struct store_error *error)
{
    struct directory_state *state = &store->state;
    if (store->directory == NULL || state->epoch[0] != '\0')
        return 0;
    snprintf(state->engine, sizeof state->engine, "%s", engine);
    state->durability = options->durability;
    state->clean = true;
    int rc = directory_new_epoch(state->epoch, error);
    return rc == 0 ? directory_save(store->directory, state, error) : rc;
}

static int open_engine(struct store *store, const struct store_options *options,
                       struct store_error *error)
{
    const struct engine_methods *methods;
    struct opening opening = {.store = store, .options = options};
    struct engine_options engine_options = {
        .directory = options->directory,
        .memory_limit = options->memory_limit,
        .progress = load_progress,
        .warn = load_warn,
        .context = &opening,
    };
    int rc = choose_engine(store, options, &methods, error);
    if (rc == 0)
        rc = begin_directory(store, options, methods->name, error);
    if (rc == 0)
        rc = methods->open(&store->engine, &engine_options, &store->mark, error);
    if (rc != 0)
        return rc;
    store->seq = store->mark.seq;
    if (store->mark.time_ms > store->now_ms)
        store->now_ms = store->mark.time_ms;
    return 0;
}

/* Files of the log are about to go, all of them: from here on they are not missed. */
static int begin_log_again(void *context, struct store_error *error)
{
    struct store *store = ((struct opening *)context)->store;
    if (!store->state.begun)
        return 0;
    store->state.begun = false;
    return directory_save(store->directory, &store->state, error);
}

/* History goes on under its epoch where nothing can have been lost. */
static int settle_epoch(struct store *store, enum store_durability durability,
                        struct store_error *error)
{
    struct directory_state *state = &store->state;
    bool fresh = state->epoch[0] == '\0';
    bool lost = directory_may_have_lost(state);
    int rc = fresh || lost ? directory_new_epoch(state->epoch, error) : 0;
    if (rc != 0)
        return rc;
    if (lost)
        state->forgotten = store->seq;
    log_forget(store->log, state->forgotten);
    snprintf(state->engine, sizeof state->engine, "%s", store->engine->methods->name);
    state->durability = durability;
    state->clean = false;
    state->begun = log_begun(store->log);
    return store->directory != NULL ? directory_save(store->directory, state, error) : 0;
}

static int open_log(struct store *store, const struct store_options *options,
                    struct store_error *error)
{
    static const enum log_durability durabilities[] = {
        [STORE_ALWAYS] = LOG_ALWAYS, [STORE_INTERVAL] = LOG_INTERVAL, [STORE_NONE] = LOG_NONE};
    struct log_options log_options = {
        .directory = options->directory,
        .durability = durabilities[options->durability],
        .segment_size = options->segment_size,
        .applied = store->mark.position,
        .lossy = directory_may_have_lost(&store->state) || !store->state.begun,
        .begin_again = begin_log_again,
    };
    struct opening opening = {.store = store, .options = options};
    int rc = log_open(&store->log, &log_options, replay, replay_progress, &opening, error);
    if (rc != 0)
        return rc;
    rc = store_commit_engine(store, log_position(store->log));
    if (rc == 0)
        return 0;
    rc = fail_engine(store, rc, error);
    (void)log_close(&store->log);
    return rc;
}

static void destroy(struct store *store)
{
    for (int table = 0; table < STORE_TABLES; table++)
        if (store->cursors[table] != NULL)
            store->engine->methods->cursor_close(store->cursors[table]);
    if (store->engine != NULL)
        store->engine->methods->close(store->engine);
    sieve_free(&store->sieve);
    directory_close(&store->directory);
    transaction_free(&store->transaction);
    buffer_free(&store->undo);
    free(store);
}

/* Whatever is damaged, the same can be done about it. */
static void add_advice(const char *directory, struct store_error *error)
{
    char what[sizeof error->message];
    if (error == NULL || error->code != STORE_CORRUPT)
        return;
    snprintf(what, sizeof what, "%s", error->message);
    (void)store_fail(error, STORE_CORRUPT,
                     "%.300s; 'cubbyd --check %.100s' says more; restore a backup, or save what is "
                     "whole with --salvage",
                     what, directory);
}

int store_open(struct store **result, const struct store_options *options,
               struct store_error *error)
{
    uint64_t seed;
    int rc = STORE_OK;
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return store_fail(error, STORE_NO_MEMORY, "out of memory");
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        rc = store_fail(error, STORE_IO, "the system gives no random bytes");
        goto err_after_alloc;
    }
    transaction_init(&store->transaction, seed);
    store->memory_limit = options->memory_limit;
    store->log_retain = options->log_retain;
    store->checkpoint_size = options->checkpoint_size;
    store->now_ms = options->wall_ms;
    rc = open_directory(store, options, error);
    if (rc == 0)
        rc = open_engine(store, options, error);
    if (rc == 0)
        rc = open_log(store, options, error);
    if (rc != 0)
        goto err_after_alloc;
    rc = settle_epoch(store, options->durability, error);
    if (rc == 0 && options->evicts)
        rc = store_open_eviction(store, error);
    if (rc != 0)
        goto err_after_log;
    store->committed_seq = store->seq;
    store->engine->methods->status(store->engine, &store->status);
    *result = store;
    return 0;

err_after_log:
    (void)log_close(&store->log);
err_after_alloc:
    add_advice(options->directory, error);
    destroy(store);
    return rc;
}

/* Everything to the disk, so that the next start has nothing to replay. */
static int finish(struct store *store)
{
    int rc = log_sync(store->log);
    if (rc == 0 && !store->broken && store->directory != NULL)
        (void)store->engine->methods->checkpoint(store->engine, true);
    store->state.begun = log_begun(store->log);
    return rc;
}

int store_close(struct store **pointer)
{
    struct store *store = *pointer;
    if (store == NULL)
        return 0;
    *pointer = NULL;
    store_abandon(store);
    int rc = finish(store);
    int closed = log_close(&store->log);
    if (rc == 0)
        rc = closed;
    if (rc == 0 && store->directory != NULL && !store->broken) {
        store->state.clean = true;
        rc = directory_save(store->directory, &store->state, NULL);
    }
    destroy(store);
    return rc;
}
