/*
 * What queues cost: CPU time of each operation, with the store but without the disk.
 *
 *     build/gcc/tests/bench/queue_bench [JOBS [ENGINE [DIRECTORY]]]
 *
 * Under callgrind: instructions for each operation, which do not depend on what else runs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "queue/queue.h"

enum { TURN = 64, BODY = 100, FIRST_MS = 1000000 };

struct bench {
    struct store *store;
    struct queues *queues;
    uint64_t *ids;
    uint64_t *leases;
    uint64_t now_ms;
};

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int push(struct bench *bench, size_t i)
{
    static const uint8_t body[BODY];
    struct push_options options = {0};
    bool duplicate;
    return queue_push(bench->queues, slice_of_text("jobs"), slice_of(body, sizeof body), &options,
                      &bench->ids[i], &duplicate);
}

static int take(struct bench *bench, size_t i)
{
    struct job job;
    int rc = queue_take(bench->queues, slice_of_text("jobs"), false, 0, &job);
    bench->ids[i] = job.id;
    bench->leases[i] = job.lease;
    return rc;
}

static int ack(struct bench *bench, size_t i)
{
    return queue_ack(bench->queues, bench->ids[i], bench->leases[i]);
}

static int pop(struct bench *bench, size_t i)
{
    struct job job;
    (void)i;
    return queue_take(bench->queues, slice_of_text("jobs"), true, 0, &job);
}

static int commit(struct bench *bench)
{
    int rc = queues_save(bench->queues, bench->now_ms);
    if (rc == 0)
        rc = store_commit(bench->store);
    store_poll(bench->store);
    bench->now_ms++;
    return rc;
}

static void run(struct bench *bench, const char *name, int (*one)(struct bench *, size_t),
                size_t count)
{
    int rc = 0;
    double start = cpu_s();
    for (size_t i = 0; rc == 0 && i < count; i++) {
        store_begin(bench->store, bench->now_ms);
        rc = one(bench, i);
        if (rc == 0)
            rc = store_end(bench->store, NULL);
        queues_end(bench->queues);
        if (rc == 0 && i % TURN == TURN - 1)
            rc = commit(bench);
    }
    if (rc == 0)
        rc = commit(bench);
    double took = cpu_s() - start;
    printf("%-6s %8.0f ns, code %d\n", name, took / (double)count * 1e9, rc);
}

/* Leases of all jobs that run out at once: the longest step. */
static void lapse(struct bench *bench)
{
    bool more = true;
    double longest = 0;
    unsigned steps = 0;
    bench->now_ms += QUEUE_DEFAULT_LEASE_MS;
    while (more) {
        double start = cpu_s();
        if (queues_expire(bench->queues, bench->now_ms, &more) != 0)
            break;
        double took = cpu_s() - start;
        longest = took > longest ? took : longest;
        steps++;
        (void)commit(bench);
    }
    printf("lapse  %u steps, the longest %.2f ms\n", steps, longest * 1e3);
}

static int run_all(struct bench *bench, const struct store_options *options, size_t jobs)
{
    struct store_error error;
    if (bench->ids == NULL || bench->leases == NULL ||
        store_open(&bench->store, options, &error) != 0)
        return -1;
    if (queues_open(&bench->queues, bench->store, bench->now_ms, &error) == 0) {
        run(bench, "push", push, jobs);
        run(bench, "take", take, jobs);
        run(bench, "ack", ack, jobs);
        run(bench, "push", push, jobs);
        run(bench, "pop", pop, jobs);
        run(bench, "push", push, jobs);
        run(bench, "take", take, jobs);
        lapse(bench);
        queues_close(&bench->queues);
    }
    return store_close(&bench->store);
}

int main(int count, char **arguments)
{
    struct bench bench = {.now_ms = FIRST_MS};
    size_t jobs = count > 1 ? strtoul(arguments[1], NULL, 10) : 200000;
    struct store_options options = {.durability = STORE_NONE,
                                    .engine = count > 2 ? arguments[2] : NULL,
                                    .directory = count > 3 ? arguments[3] : NULL,
                                    .log_retain = 1 << 20,
                                    .wall_ms = FIRST_MS};
    bench.ids = calloc(jobs, sizeof *bench.ids);
    bench.leases = calloc(jobs, sizeof *bench.leases);
    int rc = run_all(&bench, &options, jobs);
    free(bench.ids);
    free(bench.leases);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
