/*
 * What an engine costs: bytes of memory for each key, and operations a second of one thread.
 *
 *     engine_bench [KEYS [ENGINE [DIRECTORY]]]
 *
 * An engine that keeps its state on disk does so in a new directory below DIRECTORY, which is
 * removed afterwards; the default is where it is started. There is a commit after every
 * COMMIT_EVERY operations, which is a turn under load.
 *
 * Every row runs in a process of its own, so that each measures its memory from nothing. Values
 * have 105 bytes: 100 of a client, and what the store puts before them. `update` is what the
 * store does for a put: two gets and a put of the same key. `shared` is updates of every key
 * under a snapshot, which copy each page once.
 */
#include <ftw.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/engine.h"

enum {
    DEFAULT_KEYS = 1000000,
    VALUE_SIZE = 105,
    MAX_KEY = 40,
    COMMIT_EVERY = 1000,
    MAX_PATH = 1024
};

/* A run of all operations over the same keys. */
struct bench {
    const char *name;
    size_t (*make_key)(uint64_t number, char *key);
    bool shuffled;
    uint32_t count;
    uint32_t *order;
    struct engine *engine;
    uint64_t turns;
    uint8_t value[VALUE_SIZE];
};

typedef int operation_fn(struct bench *bench, struct slice key);

static size_t numbered_key(uint64_t number, char *key)
{
    return (size_t)snprintf(key, MAX_KEY, "key:%012llu", (unsigned long long)number);
}

/* splitmix64: spreads consecutive numbers over all of 64 bits. */
static uint64_t scatter(uint64_t number)
{
    number += UINT64_C(0x9E3779B97F4A7C15);
    number = (number ^ (number >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94D049BB133111EB);
    return number ^ (number >> 31);
}

static size_t uuid_key(uint64_t number, char *key)
{
    unsigned long long high = scatter(2 * number);
    unsigned long long low = scatter(2 * number + 1);
    return (size_t)snprintf(key, MAX_KEY, "%08llx-%04llx-4%03llx-a%03llx-%012llx", high >> 32,
                            high >> 16 & 0xffff, high & 0xfff, low >> 52, low & 0xffffffffffff);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t resident_size(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1) // NOLINT(cert-err34-c): the kernel wrote it
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t heap_size(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void shuffle(uint32_t *order, uint32_t count, bool shuffled)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; shuffled && i > 1; i--) {
        uint32_t other = (uint32_t)(scatter(i) % i);
        uint32_t kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

static int put(struct bench *bench, struct slice key)
{
    bench->value[0]++;
    return bench->engine->methods->put(bench->engine, 0, key, slice_of(bench->value, VALUE_SIZE));
}

static int get(struct bench *bench, struct slice key)
{
    struct slice value;
    int result = bench->engine->methods->get(bench->engine, 0, key, &value);
    if (result == STORE_OK)
        bench->value[1] ^= value.data[value.size - 1];
    return result;
}

static int update(struct bench *bench, struct slice key)
{
    int result = get(bench, key);
    if (result == STORE_OK)
        result = get(bench, key);
    return result == STORE_OK ? put(bench, key) : result;
}

static int delete (struct bench *bench, struct slice key)
{
    return bench->engine->methods->delete (bench->engine, 0, key);
}

/* Time of making the keys, which is not the engine's. */
static double key_time(const struct bench *bench)
{
    char key[MAX_KEY];
    size_t sum = 0;
    double start = now_s();
    for (uint32_t i = 0; i < bench->count; i++)
        sum += bench->make_key(bench->order[i], key);
    return sum > 0 ? now_s() - start : 0;
}

static void end_turn(struct bench *bench)
{
    const struct engine_mark mark = {.position = ++bench->turns};
    struct engine_status status;
    if (bench->engine->methods->commit(bench->engine, &mark) != STORE_OK) {
        fprintf(stderr, "a commit failed\n");
        exit(1);
    }
    bench->engine->methods->status(bench->engine, &status);
}

/* Millions of operations a second over all keys. */
static double rate(struct bench *bench, operation_fn *operation, double overhead)
{
    char key[MAX_KEY];
    double start = now_s();
    for (uint32_t i = 0; i < bench->count; i++) {
        size_t size = bench->make_key(bench->order[i], key);
        if (operation(bench, slice_of(key, size)) != STORE_OK) {
            fprintf(stderr, "an operation failed at %.*s\n", (int)size, key);
            exit(1);
        }
        if (i % COMMIT_EVERY == COMMIT_EVERY - 1)
            end_turn(bench);
    }
    end_turn(bench);
    double elapsed = now_s() - start - overhead;
    return bench->count / (elapsed > 1e-9 ? elapsed : 1e-9) / 1e6;
}

static double scan_rate(struct bench *bench)
{
    const struct engine_methods *methods = bench->engine->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    if (methods->cursor_open(bench->engine, NULL, 0, &cursor) != STORE_OK)
        return 0;
    double start = now_s();
    int result = methods->cursor_seek(cursor, slice_of_text(""), &key, &value);
    while (result == STORE_OK) {
        bench->value[1] ^= value.data[0];
        result = methods->cursor_next(cursor, &key, &value);
    }
    double elapsed = now_s() - start;
    methods->cursor_close(cursor);
    return bench->count / elapsed / 1e6;
}

static double shared_rate(struct bench *bench, double overhead, double *release_ms)
{
    struct engine_snapshot *snapshot;
    if (bench->engine->methods->snapshot(bench->engine, &snapshot) != STORE_OK)
        return 0;
    double result = rate(bench, update, overhead);
    double start = now_s();
    bench->engine->methods->release(bench->engine, snapshot);
    *release_ms = (now_s() - start) * 1e3;
    return result;
}

static void run(struct bench *bench, const struct engine_methods *methods, const char *directory)
{
    struct engine_options options = {.directory = directory};
    struct engine_mark mark;
    bench->order = malloc((size_t)bench->count * sizeof(bench->order[0]));
    if (bench->order == NULL || methods->open(&bench->engine, &options, &mark, NULL) != STORE_OK)
        exit(1);
    shuffle(bench->order, bench->count, bench->shuffled);
    double overhead = key_time(bench);
    uint64_t heap = heap_size();
    uint64_t resident = resident_size();
    double insert = rate(bench, put, overhead);
    double count = bench->count;
    printf("%-8s %-7s %6.1f %6.1f %6.1f", bench->name, bench->shuffled ? "random" : "in order",
           (double)methods->memory(bench->engine) / count, (double)(heap_size() - heap) / count,
           (double)(resident_size() - resident) / count);
    double gets = rate(bench, get, overhead);
    double puts = rate(bench, put, overhead);
    double updates = rate(bench, update, overhead);
    double scans = scan_rate(bench);
    double release_ms = 0;
    double shared = shared_rate(bench, overhead, &release_ms);
    double deletes = rate(bench, delete, overhead);
    printf(" %6.2f %6.2f %6.2f %6.2f %6.2f %6.2f %6.2f %8.1f\n", insert, gets, puts, updates, scans,
           shared, deletes, release_ms);
    methods->close(bench->engine);
    free(bench->order);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static void run_apart(struct bench *bench, const struct engine_methods *methods, const char *below)
{
    enum { OPEN_FILES = 8 };
    char directory[MAX_PATH];
    bool on_disk = methods != &engine_memory;
    snprintf(directory, sizeof(directory), "%s/engine-bench-XXXXXX", below);
    if (on_disk && mkdtemp(directory) == NULL) {
        perror(directory);
        exit(1);
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        run(bench, methods, on_disk ? directory : NULL);
        exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    if (on_disk)
        nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_KEYS;
    const struct engine_methods *methods = engine_find(argc > 2 ? argv[2] : "memory");
    if (methods == NULL || count == 0 || count > UINT32_MAX) {
        fprintf(stderr, "usage: engine_bench [KEYS [ENGINE [DIRECTORY]]]\n");
        return 2;
    }
    printf("engine %s, %lu keys\n", methods->name, count);
    printf("                   bytes a key           millions a second%*s release\n", 32, "");
    printf("keys     order     own   heap    rss    put    get   over update   scan shared delete"
           "       ms\n");
    for (unsigned i = 0; i < 3; i++) {
        struct bench bench = {.name = i < 2 ? "numbered" : "uuid",
                              .make_key = i < 2 ? numbered_key : uuid_key,
                              .shuffled = i > 0,
                              .count = (uint32_t)count};
        run_apart(&bench, methods, argc > 3 ? argv[3] : ".");
    }
    return 0;
}
