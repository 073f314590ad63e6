/*
 * How often a key that is asked for is there, in a cache that holds a part of all keys: SIEVE as
 * the store has it (many short queues), SIEVE with one queue, LRU and FIFO.
 *
 *     eviction_bench [TRACE]
 *
 * A trace is a file with a key on each line, in the order in which they were asked for. Without one
 * the keys are drawn: zipfian, alone and with every fourth request part of a scan of keys that
 * nobody else asks for. A miss puts the key. Sizes are parts of the keys that occur.
 */
#include <math.h>
#include <stdio.h>

#include "store/sieve.h"

enum { KEYS = 1000000, REQUESTS = 10000000, MAX_LINE = 1024, SCAN_EVERY = 4 };

static const double parts[] = {0.001, 0.01, 0.1, 0.3};

enum { PARTS = sizeof parts / sizeof parts[0] };

/* Which keys are asked for, by number. */
struct workload {
    const char *name;
    uint32_t *requests;
    size_t count;
    uint32_t keys; /* numbers are below */
};

/* A list of all keys that are there, newest first, for the policies with one queue. */
struct list {
    uint32_t *older, *newer;
    bool *there, *marked;
    uint32_t newest, oldest, hand;
    uint32_t count;
};

#define NOBODY UINT32_MAX

static void *zeros(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        fputs("eviction_bench: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void list_open(struct list *list, uint32_t keys)
{
    *list = (struct list){.newest = NOBODY, .oldest = NOBODY, .hand = NOBODY};
    list->older = zeros(keys, sizeof *list->older);
    list->newer = zeros(keys, sizeof *list->newer);
    list->there = zeros(keys, sizeof *list->there);
    list->marked = zeros(keys, sizeof *list->marked);
}

static void list_close(struct list *list)
{
    free(list->older);
    free(list->newer);
    free(list->there);
    free(list->marked);
}

static void list_add(struct list *list, uint32_t key)
{
    list->older[key] = list->newest;
    list->newer[key] = NOBODY;
    if (list->newest != NOBODY)
        list->newer[list->newest] = key;
    else
        list->oldest = key;
    list->newest = key;
    list->there[key] = true;
    list->marked[key] = false;
    list->count++;
}

static void list_remove(struct list *list, uint32_t key)
{
    uint32_t older = list->older[key];
    uint32_t newer = list->newer[key];
    if (list->hand == key)
        list->hand = newer;
    if (older != NOBODY)
        list->newer[older] = newer;
    else
        list->oldest = newer;
    if (newer != NOBODY)
        list->older[newer] = older;
    else
        list->newest = older;
    list->there[key] = false;
    list->count--;
}

static void lru_hit(struct list *list, uint32_t key)
{
    list_remove(list, key);
    list_add(list, key);
}

static void fifo_hit(struct list *list, uint32_t key)
{
    (void)list;
    (void)key;
}

static void mark_hit(struct list *list, uint32_t key)
{
    list->marked[key] = true;
}

static void evict_oldest(struct list *list)
{
    list_remove(list, list->oldest);
}

static void evict_sieve(struct list *list)
{
    uint32_t key = list->hand != NOBODY ? list->hand : list->oldest;
    while (list->marked[key]) {
        list->marked[key] = false;
        key = list->newer[key] != NOBODY ? list->newer[key] : list->oldest;
    }
    list->hand = key;
    list_remove(list, key);
}

/* The share of requests that miss. */
static double run_list(const struct workload *workload, uint32_t size,
                       void (*hit)(struct list *, uint32_t), void (*evict)(struct list *))
{
    struct list list;
    size_t misses = 0;
    list_open(&list, workload->keys);
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t key = workload->requests[i];
        if (list.there[key]) {
            hit(&list, key);
            continue;
        }
        misses++;
        if (list.count == size)
            evict(&list);
        list_add(&list, key);
    }
    list_close(&list);
    return (double)misses / (double)workload->count;
}

static struct slice name_of(char *text, uint32_t key)
{
    return slice_of(text, (size_t)snprintf(text, 32, "key:%012u", key));
}

static uint32_t number_of(const uint8_t *key, size_t size)
{
    uint32_t number = 0;
    for (size_t i = 4; i < size; i++)
        number = 10 * number + (key[i] - '0');
    return number;
}

static double run_sieve(const struct workload *workload, uint32_t size)
{
    struct sieve sieve;
    bool *there = zeros(workload->keys, sizeof *there);
    uint8_t victim[SIEVE_MAX_KEY];
    char text[32];
    size_t misses = 0;
    sieve_init(&sieve, 1);
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t key = workload->requests[i];
        if (there[key]) {
            sieve_visit(&sieve, name_of(text, key));
            continue;
        }
        misses++;
        if (sieve.count == size) {
            size_t victim_size = sieve_victim(&sieve, victim);
            there[number_of(victim, victim_size)] = false;
            sieve_remove(&sieve, slice_of(victim, victim_size));
        }
        sieve_add(&sieve, name_of(text, key));
        there[key] = true;
    }
    sieve_free(&sieve);
    free(there);
    return (double)misses / (double)workload->count;
}

static void report(const struct workload *workload)
{
    for (unsigned i = 0; i < PARTS; i++) {
        uint32_t size = (uint32_t)(parts[i] * workload->keys);
        if (size < SIEVE_SHARD_KEYS / 2)
            continue;
        printf("%-24s %5.1f %% %8.2f %% %8.2f %% %8.2f %% %8.2f %%\n", workload->name,
               100 * parts[i], 100 * (1 - run_sieve(workload, size)),
               100 * (1 - run_list(workload, size, mark_hit, evict_sieve)),
               100 * (1 - run_list(workload, size, lru_hit, evict_oldest)),
               100 * (1 - run_list(workload, size, fifo_hit, evict_oldest)));
        fflush(stdout);
    }
}

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
    uint64_t number = *state += UINT64_C(0x9E3779B97F4A7C15);
    number = (number ^ (number >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94D049BB133111EB);
    return number ^ (number >> 31);
}

/* The first number whose share of the sum is reached. */
static uint32_t zipfian(const double *sums, uint32_t keys, uint64_t *state)
{
    double wanted = (double)(draw(state) >> 11) / 9007199254740992.0 * sums[keys - 1];
    uint32_t from = 0;
    for (uint32_t to = keys - 1; from < to;) {
        uint32_t middle = from + (to - from) / 2;
        if (sums[middle] < wanted)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Half of the keys are asked for by chance, the other half only by scans. */
static void draw_requests(struct workload *workload, double skew, bool scans)
{
    uint32_t keys = scans ? KEYS / 2 : KEYS;
    uint64_t state = 1;
    double *sums = zeros(keys, sizeof *sums);
    double sum = 0;
    for (uint32_t i = 0; i < keys; i++)
        sums[i] = sum += 1 / pow(i + 1.0, skew);
    for (size_t i = 0; i < workload->count; i++) {
        if (scans && i % SCAN_EVERY == 0)
            workload->requests[i] = keys + (uint32_t)(i / SCAN_EVERY % keys);
        else
            workload->requests[i] = zipfian(sums, keys, &state);
    }
    free(sums);
}

static void report_drawn(void)
{
    static const struct {
        const char *name;
        double skew;
        bool scans;
    } kinds[] = {{"zipfian 0.99", 0.99, false},
                 {"zipfian 0.99 and scans", 0.99, true},
                 {"zipfian 0.8", 0.8, false},
                 {"zipfian 0.8 and scans", 0.8, true}};
    struct workload workload = {.count = REQUESTS, .keys = KEYS};
    workload.requests = zeros(REQUESTS, sizeof *workload.requests);
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        workload.name = kinds[i].name;
        draw_requests(&workload, kinds[i].skew, kinds[i].scans);
        report(&workload);
    }
    free(workload.requests);
}

/* A request of a trace: a hash of its line, and when it came. */
struct line {
    uint64_t hash;
    size_t number;
};

static int compare_lines(const void *a, const void *b)
{
    const struct line *left = a;
    const struct line *right = b;
    return (left->hash > right->hash) - (left->hash < right->hash);
}

static size_t read_lines(FILE *file, struct line **lines)
{
    char text[MAX_LINE];
    size_t count = 0;
    size_t capacity = 0;
    while (fgets(text, sizeof text, file) != NULL) {
        if (count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 1 << 16;
            *lines = realloc(*lines, capacity * sizeof **lines);
            if (*lines == NULL)
                exit(1);
        }
        uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
        for (const char *at = text; *at != '\0'; at++)
            hash = (hash ^ (uint8_t)*at) * UINT64_C(1099511628211);
        (*lines)[count] = (struct line){.hash = hash, .number = count};
        count++;
    }
    return count;
}

static int report_trace(const char *path)
{
    struct workload workload = {.name = "the trace"};
    struct line *lines = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    workload.count = read_lines(file, &lines);
    fclose(file);
    if (workload.count == 0)
        return 1;
    qsort(lines, workload.count, sizeof *lines, compare_lines);
    workload.requests = zeros(workload.count, sizeof *workload.requests);
    for (size_t i = 0; i < workload.count; i++) {
        workload.keys += i == 0 || lines[i].hash != lines[i - 1].hash;
        workload.requests[lines[i].number] = workload.keys - 1;
    }
    printf("%zu requests of %u keys\n", workload.count, workload.keys);
    report(&workload);
    free(workload.requests);
    free(lines);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        fputs("usage: eviction_bench [TRACE]\n", stderr);
        return 2;
    }
    puts("hit ratio                   size      sieve  one queue        lru       fifo");
    if (argc == 2)
        return report_trace(argv[1]);
    report_drawn();
    return 0;
}
