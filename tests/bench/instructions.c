/*
 * The work of one kind of request without sockets and disk, for callgrind to count:
 *
 *     instructions get|put|batch|push|pop|work
 *
 * Turns of TURN requests go through the service as the server loop would pass them on. Only what
 * `measure` calls is counted (check_instructions.py says so to callgrind): MEASURED operations.
 * Keys are drawn by a fixed generator, so that each run does the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/service.h"
#include "wire/reply.h"

enum {
    KEYS = 4096,
    VALUE_SIZE = 100,
    TURN = 64,
    BATCH_SIZE = 100,
    MEASURED = 6400, /* operations, or batches times BATCH_SIZE */
    START_MS = 1700000000,
    MAX_KEY = 32,
};

enum workload { GET, PUT, BATCH, PUSH, POP, WORK, WORKLOADS };

struct bench {
    struct store *store;
    struct service service;
    struct counters counters;
    struct peer peer;
    struct buffer requests[TURN]; /* payloads of a turn */
    struct wire_request read[TURN];
    struct buffer replies;
    size_t starts[TURN + 1]; /* where each reply begins */
    uint32_t random;
};

void measure(struct bench *bench, unsigned count);

static void give_up(const char *what)
{
    fprintf(stderr, "instructions: %s\n", what);
    exit(1);
}

static void pack_key(struct bench *bench, struct buffer *out)
{
    char key[MAX_KEY];
    bench->random = bench->random * 1664525 + 1013904223;
    snprintf(key, sizeof(key), "key:%012u", (bench->random >> 8) % KEYS);
    wire_pack_text(out, key);
}

static void pack_value(struct buffer *out)
{
    static const uint8_t value[VALUE_SIZE] = {'v'};
    wire_pack_bin(out, slice_of(value, sizeof(value)));
}

static void pack_put(struct bench *bench, struct buffer *out)
{
    wire_pack_array(out, 2);
    pack_key(bench, out);
    pack_value(out);
}

static void pack_batch(struct bench *bench, struct buffer *out)
{
    wire_pack_array(out, 1);
    wire_pack_array(out, BATCH_SIZE);
    for (unsigned i = 0; i < BATCH_SIZE; i++) {
        wire_pack_array(out, 2);
        wire_pack_text(out, "put");
        pack_put(bench, out);
    }
}

/* The ack of the job in reply `index` of the turn before: [1, msgid, nil, [[id, queue, body, lease,
 * … */
static void pack_ack(struct bench *bench, unsigned index, struct buffer *out)
{
    struct slice all = buffer_slice(&bench->replies, 0);
    struct wire_cursor cursor = wire_cursor_of(
        slice_of(all.data + bench->starts[index], bench->starts[index + 1] - bench->starts[index]));
    struct slice skipped;
    uint32_t count;
    uint64_t id = 0;
    uint64_t lease = 0;
    if (wire_read_array(&cursor, &count) != 0 || wire_read_uint(&cursor, &id) != 0 ||
        wire_read_uint(&cursor, &id) != 0 || wire_read_nil(&cursor) != 0 ||
        wire_read_array(&cursor, &count) != 0 || count != 1 ||
        wire_read_array(&cursor, &count) != 0 || wire_read_uint(&cursor, &id) != 0 ||
        wire_read_bytes(&cursor, &skipped) != 0 ||
        wire_read_object(&cursor, WIRE_MAX_DEPTH, &skipped, NULL) != 0 ||
        wire_read_uint(&cursor, &lease) != 0)
        give_up("a reserve brought no job");
    wire_pack_array(out, 2);
    wire_pack_uint(out, id);
    wire_pack_uint(out, lease);
}

static void pack_request(struct bench *bench, const char *method, unsigned index)
{
    struct buffer *out = &bench->requests[index];
    buffer_clear(out);
    wire_pack_request(out, index, method);
    if (strcmp(method, "get") == 0) {
        wire_pack_array(out, 1);
        pack_key(bench, out);
    } else if (strcmp(method, "put") == 0) {
        pack_put(bench, out);
    } else if (strcmp(method, "batch") == 0) {
        pack_batch(bench, out);
    } else if (strcmp(method, "queue.ack") == 0) {
        pack_ack(bench, index, out);
    } else {
        bool push = strcmp(method, "queue.push") == 0;
        wire_pack_array(out, push ? 2 : 1);
        wire_pack_text(out, "jobs");
        if (push)
            pack_value(out);
    }
}

static void pack_turn(struct bench *bench, const char *method, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pack_request(bench, method, i);
}

static void read_turn(struct bench *bench, unsigned count)
{
    struct slice keys[STORE_MAX_PREFETCH];
    unsigned known = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!service_read(&bench->service, buffer_slice(&bench->requests[i], 0), &bench->replies,
                          &bench->read[i]))
            give_up("a request is malformed");
        if (i < STORE_MAX_PREFETCH && bench->read[i].args.key.size > 0)
            keys[known++] = bench->read[i].args.key;
    }
    service_prefetch(&bench->service, keys, known);
}

static void run_turn(struct bench *bench, unsigned count)
{
    buffer_clear(&bench->replies);
    service_begin_turn(&bench->service, START_MS);
    service_expire(&bench->service, START_MS);
    read_turn(bench, count);
    for (unsigned i = 0; i < count; i++) {
        bench->starts[i] = bench->replies.size;
        service_execute(&bench->service, &bench->read[i], &bench->peer, START_MS, &bench->replies);
    }
    bench->starts[count] = bench->replies.size;
    if (service_end_turn(&bench->service, START_MS) != 0 || store_commit(bench->store) != 0)
        give_up("a turn was not committed");
    if (bench->counters.errors > 0)
        give_up("a request was refused");
}

/* Not inlined, and by its own name: here the count is switched on. */
__attribute__((noinline)) void measure(struct bench *bench, unsigned count)
{
    run_turn(bench, count);
}

static void run(struct bench *bench, enum workload workload)
{
    static const char *const methods[WORKLOADS] = {
        [GET] = "get",         [PUT] = "put",       [BATCH] = "batch",
        [PUSH] = "queue.push", [POP] = "queue.pop", [WORK] = "queue.reserve"};
    unsigned count = workload == BATCH ? 1 : TURN;
    unsigned operations = workload == BATCH ? BATCH_SIZE : TURN;
    for (unsigned done = 0; done < MEASURED; done += operations) {
        pack_turn(bench, methods[workload], count);
        measure(bench, count);
        if (workload != WORK)
            continue;
        pack_turn(bench, "queue.ack", count);
        measure(bench, count);
    }
}

/* Some keys, and as many jobs as are taken. */
static void prepare(struct bench *bench, enum workload workload)
{
    bool takes = workload == POP || workload == WORK;
    const char *method = takes ? "queue.push" : "put";
    unsigned turns = takes ? MEASURED / TURN : 2 * KEYS / TURN;
    for (unsigned i = 0; i < turns && workload != PUSH; i++) {
        pack_turn(bench, method, TURN);
        run_turn(bench, TURN);
    }
}

static enum workload workload_of(int count, char **texts)
{
    static const char *const names[WORKLOADS] = {[GET] = "get",   [PUT] = "put", [BATCH] = "batch",
                                                 [PUSH] = "push", [POP] = "pop", [WORK] = "work"};
    for (unsigned i = 0; count == 2 && i < WORKLOADS; i++)
        if (strcmp(names[i], texts[1]) == 0)
            return (enum workload)i;
    fprintf(stderr, "usage: instructions get|put|batch|push|pop|work\n");
    exit(2);
}

int main(int count, char **texts)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct store_error error = {.message = "memory is out"};
    struct store_options options = {
        .durability = STORE_NONE, .log_retain = 1 << 20, .wall_ms = START_MS};
    enum workload workload = workload_of(count, texts);
    if (bench == NULL || store_open(&bench->store, &options, &error) != 0 ||
        service_init(&bench->service, bench->store, &bench->counters, START_MS, &error) != 0)
        give_up(error.message);
    bench->peer = (struct peer){.id = slice_of_text("peer")};
    prepare(bench, workload);
    run(bench, workload);
    printf("%d\n", MEASURED);
    service_free(&bench->service);
    store_close(&bench->store);
    for (unsigned i = 0; i < TURN; i++)
        buffer_free(&bench->requests[i]);
    buffer_free(&bench->replies);
    free(bench);
    return 0;
}
