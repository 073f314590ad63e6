#include "store/segment_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    PREPARE_STEP = 1 << 16, /* bytes that are prepared at once; a commit may stand behind them */
    PREPARE_REST_MS = 10,   /* between steps, while there is time */
    RETRY_MS = 1000,
};

/* A file gets its segment's name when it is whole, so what has this name is never part of a log. */
static const char unfinished_name[] = "log-spare";

/* In order, first to be used first. */
struct list {
    struct segment *first;
    struct segment *last;
    size_t count;
};

struct pool {
    int directory;
    size_t segment_size;
    const struct log_io *io;
    pthread_t thread;
    bool started;
    _Atomic uint64_t used;       /* of the newest segment */
    _Atomic uint64_t group_size; /* of its groups, on average */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct list spares;
    struct list retired;
    uint64_t next_id; /* of the next spare */
    uint64_t size;
    bool busy;     /* somebody makes or recycles a file, with the lock released */
    bool unsynced; /* the directory is not on disk as it is: no spare of it may be used */
    bool full;     /* the last attempt failed */
    bool hurried;  /* somebody waits for a spare */
    bool stopping;
};

static void push(struct list *list, struct segment *segment)
{
    segment->next = NULL;
    if (list->last != NULL)
        list->last->next = segment;
    else
        list->first = segment;
    list->last = segment;
    list->count++;
}

static struct segment *shift(struct list *list)
{
    struct segment *segment = list->first;
    list->first = segment->next;
    if (list->first == NULL)
        list->last = NULL;
    list->count--;
    segment->next = NULL;
    return segment;
}

static void free_list(struct list *list)
{
    while (list->first != NULL)
        segment_free(shift(list));
}

static bool in_memory(const struct pool *pool)
{
    return pool->directory < 0;
}

static bool is_stopping(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool stopping = pool->stopping;
    pthread_mutex_unlock(&pool->lock);
    return stopping;
}

static void set_deadline(struct timespec *until, long ms)
{
    clock_gettime(CLOCK_MONOTONIC, until);
    until->tv_sec += ms / 1000;
    until->tv_nsec += ms % 1000 * 1000000;
    until->tv_sec += until->tv_nsec / 1000000000;
    until->tv_nsec %= 1000000000;
}

/* A spare is ready when four fifths of the newest segment are used, at the latest. */
static bool is_ahead(const struct pool *pool, uint64_t prepared)
{
    return prepared / 5 >= atomic_load_explicit(&pool->used, memory_order_relaxed) / 4;
}

/* Behind each step: commits have the disk, unless the log needs the spare. */
static void rest(struct pool *pool, uint64_t prepared)
{
    struct timespec until;
    set_deadline(&until, PREPARE_REST_MS);
    int result = 0;
    pthread_mutex_lock(&pool->lock);
    while (result == 0 && !pool->hurried && !pool->stopping && is_ahead(pool, prepared))
        result = pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
    pthread_mutex_unlock(&pool->lock);
}

/*
 * What is in the page cache must not grow: the log's fdatasync would wait behind all of it. Where a
 * file system cannot do this, that is how it is; the fdatasync at the end tells of everything else.
 */
static void flush(int file, uint64_t offset, uint64_t end)
{
    (void)sync_file_range(file, (off_t)offset, (off_t)(end - offset),
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                              SYNC_FILE_RANGE_WAIT_AFTER);
}

static bool has_large_groups(struct pool *pool)
{
    return atomic_load_explicit(&pool->group_size, memory_order_relaxed) >= POOL_LARGE_GROUP;
}

/*
 * Writes zeros, because only blocks that were written once take an fdatasync without metadata;
 * fallocate before it, so that a disk without room says so before it was filled up. Beside large
 * groups the metadata is little, and to write everything twice is much.
 */
static int fill(struct pool *pool, int file, uint64_t size)
{
    bool has_space = fallocate(file, 0, 0, (off_t)size) == 0;
    if (!has_space && segment_is_full(errno))
        return errno;
    uint64_t zeroed = has_space && has_large_groups(pool) ? 0 : size;
    for (uint64_t offset = 0; offset < zeroed; offset += PREPARE_STEP) {
        if (is_stopping(pool))
            return EINTR;
        uint64_t end = zeroed - offset < PREPARE_STEP ? zeroed : offset + PREPARE_STEP;
        int cause = segment_zero(pool->io, file, offset, end);
        if (cause != 0)
            return cause;
        flush(file, offset, end);
        rest(pool, end);
    }
    return pool->io->fdatasync(pool->io->context, file) == 0 ? 0 : errno;
}

/* Returns the file, or -1. */
static int make_file(struct pool *pool, uint64_t id, uint64_t size)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
    int file = openat(pool->directory, unfinished_name, flags, 0600);
    if (file < 0)
        return -1;
    if (fill(pool, file, size) != 0)
        goto err_after_open;
    if (renameat(pool->directory, unfinished_name, pool->directory, name) != 0)
        goto err_after_open;
    return file;

err_after_open:
    unlinkat(pool->directory, unfinished_name, 0);
    close(file);
    return -1;
}

/* NULL where it fails, for whatever reason: the next attempt meets it again if it lasts. */
static struct segment *make(struct pool *pool, uint64_t id, uint64_t size)
{
    if (in_memory(pool))
        return segment_new_in_memory(id, size);
    struct segment *segment = segment_new(id, size);
    if (segment == NULL)
        return NULL;
    segment->file = make_file(pool, id, size);
    if (segment->file < 0) {
        segment_free(segment);
        return NULL;
    }
    return segment;
}

/* Gives the file of a retired segment the name of the spare that it becomes. */
static int rename_retired(struct pool *pool, struct segment *segment, uint64_t id)
{
    char from[SEGMENT_NAME_SIZE];
    char to[SEGMENT_NAME_SIZE];
    segment_name(segment->id, from);
    segment_name(id, to);
    if (segment->file < 0)
        segment->file = openat(pool->directory, from, O_RDWR | O_CLOEXEC);
    if (segment->file < 0 || renameat(pool->directory, from, pool->directory, to) != 0)
        return -1;
    segment_reset(segment, id);
    return 0;
}

static int remove_retired(struct pool *pool, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->id, name);
    return unlinkat(pool->directory, name, 0) == 0 || errno == ENOENT ? 0 : -1;
}

/* With the lock held, as everything below. Whoever is busy alone touches files. */
static void begin_work(struct pool *pool)
{
    while (pool->busy)
        pthread_cond_wait(&pool->changed, &pool->lock);
    pool->busy = true;
    pthread_mutex_unlock(&pool->lock);
}

/*
 * The directory is synced before anything else is done in it: spares must be there after a power
 * failure, and what is left of the log must have no holes. Where that fails it stays to be done.
 */
static void end_work(struct pool *pool, bool worked)
{
    bool synced = in_memory(pool) || fsync(pool->directory) == 0;
    pthread_mutex_lock(&pool->lock);
    pool->busy = false;
    pool->unsynced = !synced;
    pool->full = !worked || !synced;
    pthread_cond_broadcast(&pool->changed);
}

static void sync_directory(struct pool *pool)
{
    begin_work(pool);
    end_work(pool, true);
}

static void add_spare(struct pool *pool, struct segment *spare)
{
    push(&pool->spares, spare);
    pool->next_id = spare->id + 1;
}

static bool has_spare(const struct pool *pool)
{
    return pool->spares.count > 0 && !pool->unsynced;
}

static void make_spare(struct pool *pool)
{
    uint64_t id = pool->next_id;
    begin_work(pool);
    struct segment *spare = make(pool, id, pool->segment_size);
    end_work(pool, spare != NULL || is_stopping(pool));
    if (spare == NULL)
        return;
    pool->size += spare->size;
    add_spare(pool, spare);
}

/* The oldest retired segment becomes a spare, or goes. Where neither works it stays first in line.
 */
static void recycle(struct pool *pool)
{
    struct segment *segment = pool->retired.first;
    uint64_t id = pool->next_id;
    bool wanted = segment->size == pool->segment_size && pool->spares.count < POOL_MAX_SPARES;
    begin_work(pool);
    bool renamed = wanted && rename_retired(pool, segment, id) == 0;
    bool removed = !renamed && remove_retired(pool, segment) == 0;
    end_work(pool, renamed || removed);
    if (!renamed && !removed)
        return;
    shift(&pool->retired);
    if (renamed) {
        add_spare(pool, segment);
    } else {
        pool->size -= segment->size;
        segment_free(segment);
    }
}

static void wait_for_retry(struct pool *pool)
{
    struct timespec until;
    set_deadline(&until, RETRY_MS);
    int result = 0;
    while (result == 0 && pool->full && !pool->stopping)
        result = pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
}

/* What was retired is seen to before the end, so that a closed log has no more files than it needs.
 */
static bool is_done(const struct pool *pool)
{
    return pool->stopping && (pool->retired.count == 0 || pool->full);
}

static bool has_work(const struct pool *pool)
{
    bool wanted = pool->unsynced || pool->retired.count > 0 || pool->spares.count == 0;
    return wanted && !pool->busy;
}

static void *work(void *argument)
{
    struct pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!is_done(pool)) {
        if (!has_work(pool))
            pthread_cond_wait(&pool->changed, &pool->lock);
        else if (pool->unsynced)
            sync_directory(pool);
        else if (pool->retired.count > 0)
            recycle(pool);
        else
            make_spare(pool);
        if (pool->full)
            wait_for_retry(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int start_condition(struct pool *pool)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return -1;
    int result = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (result == 0)
        result = pthread_cond_init(&pool->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return result;
}

int pool_open(struct pool **pool, int directory, size_t segment_size, const struct log_io *io,
              uint64_t next_id)
{
    struct pool *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STORE_NO_MEMORY;
    *made = (struct pool){
        .directory = directory, .segment_size = segment_size, .io = io, .next_id = next_id};
    if (pthread_mutex_init(&made->lock, NULL) != 0)
        goto err_after_alloc;
    if (start_condition(made) != 0)
        goto err_after_mutex;
    if (directory >= 0)
        unlinkat(directory, unfinished_name, 0);
    *pool = made;
    return 0;

err_after_mutex:
    pthread_mutex_destroy(&made->lock);
err_after_alloc:
    free(made);
    return STORE_NO_MEMORY;
}

/* Signals are the business of the thread that knows what to do about them. */
int pool_start(struct pool *pool)
{
    if (in_memory(pool))
        return 0;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool->started = pthread_create(&pool->thread, NULL, work, pool) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool->started ? 0 : STORE_NO_MEMORY;
}

void pool_close(struct pool **pool)
{
    struct pool *ended = *pool;
    if (ended == NULL)
        return;
    *pool = NULL;
    if (ended->started) {
        pthread_mutex_lock(&ended->lock);
        ended->stopping = true;
        pthread_cond_broadcast(&ended->changed);
        pthread_mutex_unlock(&ended->lock);
        pthread_join(ended->thread, NULL);
    }
    free_list(&ended->spares);
    free_list(&ended->retired);
    pthread_cond_destroy(&ended->changed);
    pthread_mutex_destroy(&ended->lock);
    free(ended);
}

void pool_adopt(struct pool *pool, struct segment *spare)
{
    pthread_mutex_lock(&pool->lock);
    pool->size += spare->size;
    add_spare(pool, spare);
    pthread_mutex_unlock(&pool->lock);
}

static void hurry(struct pool *pool, bool hurried)
{
    pool->hurried = hurried;
    pthread_cond_broadcast(&pool->changed);
}

struct segment *pool_spare(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    if (in_memory(pool) && pool->spares.count == 0)
        make_spare(pool);
    hurry(pool, true);
    while (!has_spare(pool) && !pool->full)
        pthread_cond_wait(&pool->changed, &pool->lock);
    hurry(pool, false);
    struct segment *spare = has_spare(pool) ? pool->spares.first : NULL;
    pthread_mutex_unlock(&pool->lock);
    return spare;
}

/* The new file takes the first spare's name, which ends that one's file. */
static void replace_first(struct pool *pool, struct segment *spare)
{
    pool->size += spare->size;
    if (pool->spares.count == 0) {
        add_spare(pool, spare);
        return;
    }
    struct segment *old = shift(&pool->spares);
    spare->next = pool->spares.first;
    pool->spares.first = spare;
    if (pool->spares.last == NULL)
        pool->spares.last = spare;
    pool->spares.count++;
    pool->size -= old->size;
    segment_free(old);
}

void pool_enlarge(struct pool *pool, uint64_t size)
{
    uint64_t whole = pool->segment_size;
    while (whole < size)
        whole *= 2;
    pthread_mutex_lock(&pool->lock);
    hurry(pool, true);
    while (pool->busy)
        pthread_cond_wait(&pool->changed, &pool->lock);
    uint64_t id = pool->next_id - pool->spares.count; /* the first spare's */
    begin_work(pool);
    struct segment *spare = make(pool, id, whole);
    end_work(pool, spare != NULL);
    if (spare != NULL)
        replace_first(pool, spare);
    hurry(pool, false);
    pthread_mutex_unlock(&pool->lock);
}

void pool_note_used(struct pool *pool, uint64_t used, uint64_t groups)
{
    atomic_store_explicit(&pool->used, used, memory_order_relaxed);
    atomic_store_explicit(&pool->group_size, used / groups, memory_order_relaxed);
}

struct segment *pool_take(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct segment *spare = shift(&pool->spares);
    pool->size -= spare->size;
    pool->full = false; /* whether it is shows when the next one is made, which is tried at once */
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return spare;
}

/* Work to do is hope for space: who asks for a spare waits for what comes of it. */
static void retire(struct pool *pool, struct segment *segment)
{
    pool->size += segment->size;
    push(&pool->retired, segment);
    pool->full = false;
    pthread_cond_broadcast(&pool->changed);
}

static void retire_memory(struct pool *pool, struct segment *segment)
{
    bool wanted = segment->size == pool->segment_size && pool->spares.count == 0;
    if (!wanted) {
        segment_free(segment);
        return;
    }
    segment_reset(segment, pool->next_id);
    pool->size += segment->size;
    add_spare(pool, segment);
}

void pool_retire(struct pool *pool, struct segment *segment)
{
    pthread_mutex_lock(&pool->lock);
    if (in_memory(pool))
        retire_memory(pool, segment);
    else
        retire(pool, segment);
    pthread_mutex_unlock(&pool->lock);
}

uint64_t pool_size(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    uint64_t size = pool->size;
    pthread_mutex_unlock(&pool->lock);
    return size;
}
