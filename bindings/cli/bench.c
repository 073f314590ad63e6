#include <errno.h>
#include <pthread.h>

#include "bindings/cli/commands.h"
#include "bindings/cli/process_cpu.h"
#include "bindings/cli/workload.h"

enum {
    DEFAULT_KEYS = 1000000,
    DEFAULT_VALUE_SIZE = 100,
    DEFAULT_CONNECTIONS = 50,
    DEFAULT_IN_FLIGHT = 16,
    DEFAULT_SECONDS = 10,
    DEFAULT_BATCH_SIZE = 100,
    DEFAULT_READS = 50,
    MAX_THREADS = 64,
    MAX_CONNECTIONS = 10000,
    MAX_IN_FLIGHT = 100000,
    MAX_VALUE_SIZE = WIRE_MAX_VALUE - 5, /* with its header it is WIRE_MAX_VALUE */
    MAX_SECONDS = 1000000,
    LOAD_BATCH_SIZE = 100,
    LOAD_IN_FLIGHT = 4,
    PERCENT = 100,
};

#define MAX_KEYS UINT64_C(1000000000000) /* twelve digits */

struct bench {
    struct session *session;
    struct session_endpoints endpoints;
    struct workload_plan plan;
    struct cubby_buffer value;
    uint64_t threads;
    uint64_t seed;
    uint64_t daemon_pid; /* 0: not known */
    uint64_t own_cpu_ns;
    uint64_t daemon_cpu_ns;
    bool knows_daemon_cpu;
    struct workload_result total;
};

/* ---- The plan ------------------------------------------------------------------------------- */

/* A number within its bounds; says so where it is not. */
static enum status read_number(const struct bench *bench, enum option option, uint64_t otherwise,
                               uint64_t most, uint64_t *number)
{
    *number = arguments_number(bench->session->arguments, option, otherwise);
    if (*number >= 1 && *number <= most)
        return STATUS_OK;
    return session_out_of_range(bench->session, option, 1, most);
}

static enum status read_numbers(struct bench *bench)
{
    struct workload_plan *plan = &bench->plan;
    uint64_t keys, value_size;
    const struct {
        enum option option;
        uint64_t otherwise;
        uint64_t most;
        uint64_t *number;
    } rows[] = {
        {OPTION_KEYS, DEFAULT_KEYS, MAX_KEYS, &keys},
        {OPTION_VALUE_SIZE, DEFAULT_VALUE_SIZE, MAX_VALUE_SIZE, &value_size},
        {OPTION_CONNECTIONS, DEFAULT_CONNECTIONS, MAX_CONNECTIONS, &plan->connections},
        {OPTION_IN_FLIGHT, DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT, &plan->in_flight},
        {OPTION_REQUESTS, UINT64_MAX, UINT64_MAX, &plan->requests},
        {OPTION_SECONDS, DEFAULT_SECONDS, MAX_SECONDS, &plan->seconds},
        {OPTION_BATCH_SIZE, DEFAULT_BATCH_SIZE, WIRE_MAX_BATCH, &plan->batch_size},
        {OPTION_READS, DEFAULT_READS, PERCENT, &plan->reads},
        {OPTION_THREADS, 1, MAX_THREADS, &bench->threads},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum status status =
            read_number(bench, rows[i].option, rows[i].otherwise, rows[i].most, rows[i].number);
        if (status != STATUS_OK)
            return status;
    }
    if (session_given(bench->session, OPTION_REQUESTS) &&
        !session_given(bench->session, OPTION_SECONDS))
        plan->seconds = 0;
    plan->keys.keys = keys;
    for (uint64_t i = 0; i < value_size; i++)
        buffer_append(&bench->session->params, &"abcdefghijklmnopqrstuvwxyz"[i % 26], 1);
    cubby_pack_str(&bench->value, session_bytes(&bench->session->params));
    plan->value = cubby_buffer_bytes(&bench->value);
    return STATUS_OK;
}

static enum status read_workload(struct bench *bench)
{
    static const char *const names[] = {"put",  "get", "mixed", "batch",
                                        "push", "pop", "work",  "chain"};
    const char *name = bench->session->arguments->options[OPTION_WORKLOAD].text;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (name == NULL || strcmp(name, names[i]) == 0) {
            bench->plan.kind = (enum workload_kind)i;
            return STATUS_OK;
        }
    }
    return session_misused("--workload is put, get, mixed, batch, push, pop, work or chain", name);
}

static enum status read_distribution(struct bench *bench)
{
    const char *name = bench->session->arguments->options[OPTION_DISTRIBUTION].text;
    bool zipfian = name != NULL && strcmp(name, "zipfian") == 0;
    if (name != NULL && !zipfian && strcmp(name, "uniform") != 0)
        return session_misused("--distribution is uniform or zipfian", name);
    distribution_init(&bench->plan.keys, bench->plan.keys.keys, zipfian);
    return STATUS_OK;
}

/* Threads share the connections and the requests evenly. */
static enum status share(struct bench *bench)
{
    struct workload_plan *plan = &bench->plan;
    if (bench->threads > plan->connections)
        return session_misused("bench", "more threads than connections");
    plan->connections /= bench->threads;
    if (plan->requests != UINT64_MAX)
        plan->requests = (plan->requests + bench->threads - 1) / bench->threads;
    return STATUS_OK;
}

static enum status read_plan(struct bench *bench)
{
    enum status status = read_numbers(bench);
    if (status == STATUS_OK)
        status = read_workload(bench);
    if (status == STATUS_OK)
        status = read_distribution(bench);
    if (status == STATUS_OK)
        status = share(bench);
    session_endpoints(bench->session->arguments, &bench->endpoints);
    bench->plan.endpoints = bench->endpoints.options;
    bench->plan.queue = session_given(bench->session, OPTION_QUEUE)
                            ? session_text(bench->session, OPTION_QUEUE)
                            : cubby_text("bench");
    bench->seed = arguments_number(bench->session->arguments, OPTION_SEED, 1);
    return status;
}

/* Whose CPU time it is, if the daemon runs on this host and says its process id. */
static enum status find_daemon(struct bench *bench)
{
    struct session *session = bench->session;
    struct cubby_bytes stats, pid;
    bench->daemon_pid = arguments_number(session->arguments, OPTION_DAEMON_PID, 0);
    if (bench->daemon_pid != 0)
        return STATUS_OK;
    if (cubby_stats(session->cubby, &stats, NULL) != CUBBY_OK)
        return session_fail(session);
    if (!cubby_map_find(stats, "pid", &pid) || !cubby_as_uint(pid, &bench->daemon_pid))
        bench->daemon_pid = 0;
    return STATUS_OK;
}

/* ---- Threads -------------------------------------------------------------------------------- */

struct share {
    const struct workload_plan *plan;
    uint64_t seed;
    uint64_t first_key;
    pthread_t thread;
    enum cubby_status status;
    struct workload_result result;
};

static void *run_share(void *argument)
{
    struct share *share = argument;
    share->status = workload_run(share->plan, share->seed, share->first_key, &share->result);
    return NULL;
}

static void add_result(struct workload_result *total, const struct workload_result *one)
{
    if (total->errors == 0 && one->errors > 0) {
        total->first_error = one->first_error;
        memcpy(total->error_message, one->error_message, sizeof(total->error_message));
    }
    if (total->started_ns == 0 || one->started_ns < total->started_ns)
        total->started_ns = one->started_ns;
    if (one->ended_ns > total->ended_ns)
        total->ended_ns = one->ended_ns;
    total->ran_dry |= one->ran_dry;
    total->requests += one->requests;
    total->operations += one->operations;
    total->errors += one->errors;
    histogram_merge(&total->latencies, &one->latencies);
}

static enum status refuse_start(enum cubby_status status)
{
    fprintf(stderr, "cubby: bench: cannot start: %s\n",
            status == CUBBY_SYSTEM ? strerror(errno) : cubby_status_text(status));
    return status == CUBBY_TIMEOUT ? STATUS_TIMEOUT : STATUS_FAILED;
}

/* One thread, which is the usual case, is the calling one. */
static enum status run_shares(struct share *shares, uint64_t count, struct workload_result *total)
{
    uint64_t started = 1;
    while (started < count &&
           pthread_create(&shares[started].thread, NULL, run_share, &shares[started]) == 0)
        started++;
    run_share(&shares[0]);
    for (uint64_t i = 1; i < started; i++)
        pthread_join(shares[i].thread, NULL);
    for (uint64_t i = 0; i < started; i++) {
        if (shares[i].status != CUBBY_OK)
            return refuse_start(shares[i].status);
        add_result(total, &shares[i].result);
    }
    return started == count ? STATUS_OK : refuse_start(CUBBY_SYSTEM);
}

static enum status run_plan(const struct bench *bench, const struct workload_plan *plan,
                            uint64_t keys_per_share, struct workload_result *total)
{
    struct share *shares = calloc(bench->threads, sizeof(*shares));
    if (shares == NULL)
        return refuse_start(CUBBY_NO_MEMORY);
    for (uint64_t i = 0; i < bench->threads; i++) {
        shares[i].plan = plan;
        shares[i].seed = bench->seed * MAX_THREADS + i;
        shares[i].first_key = i * keys_per_share;
    }
    enum status status = run_shares(shares, bench->threads, total);
    free(shares);
    return status;
}

static enum status report_errors(const struct workload_result *result)
{
    if (result->ran_dry && result->requests == 0) {
        fputs("cubby: bench: no job is ready in the queue; --load pushes some first\n", stderr);
        return STATUS_NOTHING;
    }
    if (result->errors == 0)
        return STATUS_OK;
    fprintf(stderr, "cubby: bench: %llu requests failed, the first with %s: %s\n",
            (unsigned long long)result->errors, cubby_status_text(result->first_error),
            result->error_message);
    return result->first_error == CUBBY_TIMEOUT ? STATUS_TIMEOUT : STATUS_REFUSED;
}

static enum status load(const struct bench *bench)
{
    struct workload_plan plan = bench->plan;
    struct workload_result *result = calloc(1, sizeof(*result));
    if (result == NULL)
        return refuse_start(CUBBY_NO_MEMORY);
    uint64_t batches = (plan.keys.keys + LOAD_BATCH_SIZE - 1) / LOAD_BATCH_SIZE;
    plan.kind = plan.kind >= WORKLOAD_PUSH ? WORKLOAD_LOAD_JOBS : WORKLOAD_LOAD;
    plan.batch_size = LOAD_BATCH_SIZE;
    plan.in_flight = LOAD_IN_FLIGHT;
    plan.requests = (batches + bench->threads - 1) / bench->threads;
    plan.seconds = 0;
    enum status status = run_plan(bench, &plan, plan.requests * LOAD_BATCH_SIZE, result);
    if (status == STATUS_OK)
        status = report_errors(result);
    free(result);
    return status;
}

static enum status measure(struct bench *bench)
{
    uint64_t own = process_own_cpu_ns();
    uint64_t before = 0;
    uint64_t after = 0;
    bool known = bench->daemon_pid != 0 && process_cpu_ns(bench->daemon_pid, &before) == 0;
    enum status status = run_plan(bench, &bench->plan, 0, &bench->total);
    bench->own_cpu_ns = process_own_cpu_ns() - own;
    bench->knows_daemon_cpu = known && process_cpu_ns(bench->daemon_pid, &after) == 0;
    bench->daemon_cpu_ns = after - before;
    return status;
}

/* ---- The report ----------------------------------------------------------------------------- */

static double microseconds(uint64_t ns)
{
    return (double)ns / 1e3;
}

static double per_operation(const struct bench *bench, uint64_t ns)
{
    uint64_t operations = bench->total.operations;
    return operations > 0 ? microseconds(ns) / (double)operations : 0;
}

static double quantile(const struct bench *bench, double share)
{
    return microseconds(histogram_quantile(&bench->total.latencies, share));
}

static const char *workload_name(const struct bench *bench)
{
    const char *name = bench->session->arguments->options[OPTION_WORKLOAD].text;
    return name != NULL ? name : "put";
}

static uint64_t connections_of(const struct bench *bench)
{
    return bench->plan.connections * bench->threads;
}

static void print_plain(const struct bench *bench, double seconds, double rate)
{
    const struct workload_result *total = &bench->total;
    printf("%s: %llu requests in %.2f s over %llu connections, %llu in flight on each\n",
           workload_name(bench), (unsigned long long)total->requests, seconds,
           (unsigned long long)connections_of(bench), (unsigned long long)bench->plan.in_flight);
    printf("  throughput     %12.0f operations/s\n", rate);
    printf("  latency p50    %12.1f us\n", quantile(bench, 0.5));
    printf("  latency p99    %12.1f us\n", quantile(bench, 0.99));
    printf("  latency p99.9  %12.1f us\n", quantile(bench, 0.999));
    printf("  latency max    %12.1f us\n", microseconds(total->latencies.max));
    printf("  errors         %12llu\n", (unsigned long long)total->errors);
    if (total->ran_dry)
        printf("  the queue ran dry before the end\n");
    printf("  CPU, cubby     %12.2f us/operation\n", per_operation(bench, bench->own_cpu_ns));
    if (bench->knows_daemon_cpu)
        printf("  CPU, daemon    %12.2f us/operation\n",
               per_operation(bench, bench->daemon_cpu_ns));
}

static void print_json(const struct bench *bench, double seconds, double rate)
{
    const struct workload_result *total = &bench->total;
    printf("{\"workload\":\"%s\",\"connections\":%llu,\"in_flight\":%llu,\"threads\":%llu,"
           "\"requests\":%llu,\"operations\":%llu,\"errors\":%llu,\"ran_dry\":%s,"
           "\"seconds\":%.6f,"
           "\"operations_per_second\":%.1f,",
           workload_name(bench), (unsigned long long)connections_of(bench),
           (unsigned long long)bench->plan.in_flight, (unsigned long long)bench->threads,
           (unsigned long long)total->requests, (unsigned long long)total->operations,
           (unsigned long long)total->errors, total->ran_dry ? "true" : "false", seconds, rate);
    printf("\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"max\":%.1f},",
           quantile(bench, 0.5), quantile(bench, 0.99), quantile(bench, 0.999),
           microseconds(total->latencies.max));
    printf("\"cpu_us_per_operation\":{\"cubby\":%.3f,\"daemon\":",
           per_operation(bench, bench->own_cpu_ns));
    if (bench->knows_daemon_cpu)
        printf("%.3f}}\n", per_operation(bench, bench->daemon_cpu_ns));
    else
        printf("null}}\n");
}

static enum status report(const struct bench *bench)
{
    const struct workload_result *total = &bench->total;
    double seconds = (double)(total->ended_ns - total->started_ns) / 1e9;
    double rate = seconds > 0 ? (double)total->operations / seconds : 0;
    if (session_given(bench->session, OPTION_JSON))
        print_json(bench, seconds, rate);
    else
        print_plain(bench, seconds, rate);
    if (fflush(stdout) != 0)
        return STATUS_FAILED;
    return report_errors(total);
}

enum status command_bench(struct session *session)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    if (bench == NULL)
        return refuse_start(CUBBY_NO_MEMORY);
    bench->session = session;
    enum status status = read_plan(bench);
    if (status == STATUS_OK)
        status = find_daemon(bench);
    if (status == STATUS_OK && session_given(session, OPTION_LOAD))
        status = load(bench);
    if (status == STATUS_OK)
        status = measure(bench);
    if (status == STATUS_OK)
        status = report(bench);
    cubby_buffer_free(&bench->value);
    free(bench);
    return status;
}
