#include "store/checkpoint_keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    KEPT_FILES = 2,
    REST_US = 25000, /* behind each block: requests go first, on the processor and on the disk, */
    RESTS_S = 120,   /* but no longer in all, about: meanwhile the log grows */
};

struct file {
    uint64_t position;
    uint64_t size;
    bool damaged;
};

/* One checkpoint that is being written. The thread owns it until it sets `done`. */
struct job {
    struct engine *engine;
    struct engine_snapshot *snapshot;
    struct engine_mark mark;
    pthread_t thread;
    atomic_bool stop;  /* give up */
    atomic_bool hurry; /* somebody waits */
    atomic_bool done;
    uint64_t size;
    uint64_t rest_us; /* behind each block */
    uint64_t rested;  /* bytes written as of the last rest */
    int result;
    struct store_error error;
};

struct checkpoint_keeper {
    const struct checkpoint_io *io;
    int directory;
    struct file *files; /* oldest first */
    size_t count;
    size_t capacity;
    struct engine_mark at; /* of the newest good one */
    bool any;              /* there is one */
    bool running;
    struct job job;
    uint64_t good;
    uint64_t failed;
    struct store_error failure;
};

/* Files. */

static int add_file(struct checkpoint_keeper *keeper, uint64_t position, uint64_t size)
{
    size_t at = keeper->count;
    if (keeper->count == keeper->capacity) {
        size_t capacity = keeper->capacity > 0 ? keeper->capacity * 2 : KEPT_FILES + 1;
        struct file *files = realloc(keeper->files, capacity * sizeof(*files));
        if (files == NULL)
            return STORE_NO_MEMORY;
        keeper->files = files;
        keeper->capacity = capacity;
    }
    while (at > 0 && keeper->files[at - 1].position > position)
        at--;
    memmove(keeper->files + at + 1, keeper->files + at,
            (keeper->count - at) * sizeof(keeper->files[0]));
    keeper->files[at] = (struct file){.position = position, .size = size};
    keeper->count++;
    return 0;
}

static void forget_file(struct checkpoint_keeper *keeper, size_t at)
{
    keeper->count--;
    memmove(keeper->files + at, keeper->files + at + 1,
            (keeper->count - at) * sizeof(keeper->files[0]));
}

/* Calls for each name in the directory; stops where `each` does not return 0. */
static int list_directory(struct checkpoint_keeper *keeper,
                          int (*each)(struct checkpoint_keeper *keeper, const char *name),
                          struct store_error *error)
{
    int copy = openat(keeper->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    int rc = 0;
    if (list == NULL) {
        rc = store_fail(error, STORE_IO, "cannot list the data directory: %s", strerror(errno));
        if (copy >= 0)
            close(copy);
        return rc;
    }
    errno = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(list)) != NULL; errno = 0)
        rc = each(keeper, entry->d_name);
    if (rc != 0)
        store_fail(error, STORE_NO_MEMORY, "no memory for the list of checkpoints");
    else if (errno != 0)
        rc = store_fail(error, STORE_IO, "cannot list the data directory: %s", strerror(errno));
    closedir(list);
    return rc;
}

static int note_name(struct checkpoint_keeper *keeper, const char *name)
{
    uint64_t position;
    return checkpoint_position(name, &position) ? add_file(keeper, position, 0) : 0;
}

static int remove_unfinished(struct checkpoint_keeper *keeper, const char *name)
{
    if (checkpoint_is_unfinished(name))
        (void)unlinkat(keeper->directory, name, 0);
    return 0;
}

static void free_keeper(struct checkpoint_keeper *keeper)
{
    if (keeper->directory >= 0)
        close(keeper->directory);
    free(keeper->files);
    free(keeper);
}

int checkpoint_keeper_open(struct checkpoint_keeper **result, const char *directory,
                           const struct checkpoint_io *io, struct store_error *error)
{
    struct checkpoint_keeper *keeper = calloc(1, sizeof(*keeper));
    if (keeper == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for checkpoints");
    keeper->io = io != NULL ? io : &checkpoint_system_io;
    keeper->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;
    if (keeper->directory < 0)
        rc = store_fail(error, STORE_IO, "cannot open %s: %s", directory, strerror(errno));
    if (rc == 0)
        rc = list_directory(keeper, note_name, error);
    if (rc != 0) {
        free_keeper(keeper);
        return rc;
    }
    *result = keeper;
    return 0;
}

/* Loading. */

static int load_file(struct checkpoint_keeper *keeper, size_t at, checkpoint_load_fn *load,
                     void *context, struct engine_mark *mark, struct store_error *error)
{
    struct file *file = &keeper->files[at];
    struct checkpoint_reader *reader;
    int rc = checkpoint_open(&reader, keeper->directory, file->position, mark, &file->size, error);
    if (rc != 0)
        return rc;
    rc = load(context, reader, file->size, error);
    checkpoint_close(&reader);
    return rc;
}

static void warn(const struct engine_options *options, const struct store_error *error,
                 uint64_t position)
{
    char name[CHECKPOINT_NAME_SIZE];
    char line[STORE_MAX_ERROR_MESSAGE + 256];
    if (options->warn == NULL)
        return;
    checkpoint_name(position, name);
    snprintf(line, sizeof(line),
             "%s: starting from %s and the log behind it instead; the damaged file is removed once "
             "there is a new checkpoint",
             error->message, name);
    options->warn(options->context, line);
}

/* Nothing is taken for an empty state: where there are checkpoints one of them must be good. */
static int fail_all(const struct checkpoint_keeper *keeper, const struct store_error *newest,
                    struct store_error *error)
{
    return store_fail(error, STORE_CORRUPT, "%.300s, %s", newest->message,
                      keeper->count > 1 ? "and no older checkpoint is whole"
                                        : "and there is no other checkpoint");
}

int checkpoint_keeper_load(struct checkpoint_keeper *keeper, const struct engine_options *options,
                           checkpoint_load_fn *load, void *context, struct engine_mark *mark,
                           struct store_error *error)
{
    struct store_error found = {0};
    struct store_error newest = {0};
    int rc = 0;
    *mark = (struct engine_mark){0};
    for (size_t at = keeper->count; at > 0 && !keeper->any; at--) {
        rc = load_file(keeper, at - 1, load, context, mark, &found);
        if (rc == STORE_CORRUPT) {
            keeper->files[at - 1].damaged = true;
            newest = at == keeper->count ? found : newest;
        } else if (rc != 0) {
            return store_fail(error, (enum store_code)rc, "%s", found.message);
        } else {
            if (newest.code != STORE_OK)
                warn(options, &newest, keeper->files[at - 1].position);
            keeper->at = *mark;
            keeper->any = true;
        }
    }
    if (rc != 0)
        return fail_all(keeper, &newest, error);
    return options->read_only ? 0 : list_directory(keeper, remove_unfinished, error);
}

/* Writing: the thread. */

/*
 * A checkpoint has time: about 10 MB a second, and more where the last one was over 1.2 GB. Each
 * page that a write meets meanwhile is copied, once for the whole of it.
 */
static uint64_t rest_us(const struct checkpoint_keeper *keeper)
{
    uint64_t size = keeper->count > 0 ? keeper->files[keeper->count - 1].size : 0;
    uint64_t share = UINT64_C(1000000) * RESTS_S / (size / CHECKPOINT_BLOCK_SIZE + 1);
    return share < REST_US ? share : REST_US;
}

/* No clock is read for it; one that is cut short does no harm. */
static void rest(struct job *job, const struct checkpoint_writer *writer)
{
    uint64_t written = checkpoint_written(writer);
    if (written == job->rested || atomic_load(&job->hurry) || atomic_load(&job->stop))
        return;
    struct timespec pause = {.tv_nsec = (long)job->rest_us * 1000};
    nanosleep(&pause, NULL);
    job->rested = written;
}

static int write_table(struct job *job, struct checkpoint_writer *writer, unsigned table)
{
    const struct engine_methods *methods = job->engine->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = methods->cursor_open(job->engine, job->snapshot, table, &cursor);
    if (rc != 0)
        return store_fail(&job->error, (enum store_code)rc, "no memory for a checkpoint");
    rc = methods->cursor_seek(cursor, slice_of("", 0), &key, &value);
    while (rc == 0 && !atomic_load_explicit(&job->stop, memory_order_relaxed)) {
        rc = checkpoint_add(writer, table, key, value, &job->error);
        if (rc != 0)
            break;
        rest(job, writer);
        rc = methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int write_tables(struct job *job, struct checkpoint_writer *writer)
{
    int rc = 0;
    for (unsigned table = 0; rc == 0 && table < ENGINE_TABLES; table++)
        rc = write_table(job, writer, table);
    return rc;
}

static void *write_all(void *context)
{
    struct checkpoint_keeper *keeper = context;
    struct job *job = &keeper->job;
    struct checkpoint_writer *writer;
    job->result =
        checkpoint_create(&writer, keeper->directory, keeper->io, &job->mark, &job->error);
    if (job->result == 0) {
        job->result = write_tables(job, writer);
        if (job->result == 0 && !atomic_load(&job->stop))
            job->result = checkpoint_finish(&writer, &job->size, &job->error);
        checkpoint_discard(&writer);
    }
    atomic_store(&job->done, true);
    return NULL;
}

/* Writing: the loop's side. */

/* A state is what its position says; the time of the mark alone makes no other. */
static bool same_state(const struct engine_mark *a, const struct engine_mark *b)
{
    return a->position == b->position && a->seq == b->seq;
}

static bool is_written(const struct checkpoint_keeper *keeper, const struct engine_mark *mark)
{
    bool empty = mark->position == 0 && mark->seq == 0;
    return keeper->any ? same_state(&keeper->at, mark) : empty;
}

static int fail(struct checkpoint_keeper *keeper, int rc, const char *message)
{
    keeper->failed++;
    return store_fail(&keeper->failure, (enum store_code)rc, "%s", message);
}

static int begin(struct checkpoint_keeper *keeper, struct engine *engine,
                 const struct engine_mark *mark, bool hurry)
{
    struct job *job = &keeper->job;
    *job = (struct job){.engine = engine, .mark = *mark, .rest_us = rest_us(keeper)};
    atomic_init(&job->hurry, hurry);
    int rc = engine->methods->snapshot(engine, &job->snapshot);
    if (rc != 0)
        return fail(keeper, rc, "no memory for a snapshot");
    int cause = pthread_create(&job->thread, NULL, write_all, keeper);
    if (cause == 0) {
        keeper->running = true;
        return 0;
    }
    engine->methods->release(engine, job->snapshot);
    return fail(keeper, STORE_NO_MEMORY, "no thread can be made for a checkpoint");
}

static bool is_kept(const struct checkpoint_keeper *keeper, size_t at)
{
    unsigned newer = 0;
    for (size_t i = at + 1; i < keeper->count; i++)
        newer += !keeper->files[i].damaged;
    return !keeper->files[at].damaged && newer < KEPT_FILES;
}

/*
 * Once there is a new good one: the oldest go, and those that are damaged. What cannot be removed
 * is tried again behind the next. The directory need not be synced: a file that comes back after a
 * power failure is older than what is kept, or known to be damaged.
 */
static void remove_others(struct checkpoint_keeper *keeper)
{
    for (size_t at = keeper->count; at > 0; at--) {
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(keeper->files[at - 1].position, name);
        if (!is_kept(keeper, at - 1) && unlinkat(keeper->directory, name, 0) == 0)
            forget_file(keeper, at - 1);
    }
}

static void note_written(struct checkpoint_keeper *keeper)
{
    const struct job *job = &keeper->job;
    for (size_t at = keeper->count; at > 0; at--)
        if (keeper->files[at - 1].position == job->mark.position)
            forget_file(keeper, at - 1);
    keeper->good++;
    keeper->at = job->mark;
    keeper->any = true;
    /* Without memory for the list the next start finds the file. */
    if (add_file(keeper, job->mark.position, job->size) == 0)
        remove_others(keeper);
}

/* Joins the thread, which has ended or soon will. Returns how its checkpoint went. */
static int collect(struct checkpoint_keeper *keeper, struct engine *engine)
{
    struct job *job = &keeper->job;
    pthread_join(job->thread, NULL);
    keeper->running = false;
    engine->methods->release(engine, job->snapshot);
    if (job->result != 0)
        return fail(keeper, job->result, job->error.message);
    if (job->size > 0)
        note_written(keeper);
    return 0;
}

static void give_up(struct checkpoint_keeper *keeper, struct engine *engine)
{
    atomic_store(&keeper->job.stop, true);
    (void)collect(keeper, engine);
}

static int wait_for_end(struct checkpoint_keeper *keeper, struct engine *engine)
{
    atomic_store(&keeper->job.hurry, true);
    return collect(keeper, engine);
}

int checkpoint_keeper_write(struct checkpoint_keeper *keeper, struct engine *engine,
                            const struct engine_mark *mark, bool wait)
{
    if (keeper->running && !wait)
        return 0;
    if (keeper->running && same_state(&keeper->job.mark, mark))
        return wait_for_end(keeper, engine);
    if (keeper->running)
        give_up(keeper, engine);
    if (is_written(keeper, mark))
        return 0;
    int rc = begin(keeper, engine, mark, wait);
    return rc == 0 && wait ? collect(keeper, engine) : rc;
}

/* The older of the two that are kept; with one alone nothing may go. */
static uint64_t kept_position(const struct checkpoint_keeper *keeper)
{
    unsigned good = 0;
    for (size_t at = keeper->count; at > 0; at--) {
        good += !keeper->files[at - 1].damaged;
        if (good == KEPT_FILES)
            return keeper->files[at - 1].position;
    }
    return 0;
}

void checkpoint_keeper_status(struct checkpoint_keeper *keeper, struct engine *engine,
                              struct engine_status *status)
{
    if (keeper->running && atomic_load(&keeper->job.done))
        (void)collect(keeper, engine);
    *status = (struct engine_status){
        .running = keeper->running,
        .at = keeper->at,
        .kept = kept_position(keeper),
        .count = keeper->good,
        .failed = keeper->failed,
        .failure = keeper->failure.code != STORE_OK ? keeper->failure.message : NULL,
    };
    for (size_t at = 0; at < keeper->count; at++) {
        status->size += keeper->files[at].size;
        if (!keeper->files[at].damaged)
            status->cost = keeper->files[at].size;
    }
}

void checkpoint_keeper_close(struct checkpoint_keeper **pointer, struct engine *engine)
{
    struct checkpoint_keeper *keeper = *pointer;
    if (keeper == NULL)
        return;
    if (keeper->running)
        give_up(keeper, engine);
    free_keeper(keeper);
    *pointer = NULL;
}
