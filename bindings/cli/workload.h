/*
 * One thread's share of a benchmark: connections that each keep a number of requests in flight,
 * all driven by one loop over one ZeroMQ context.
 */
#ifndef BINDINGS_CLI_WORKLOAD_H
#define BINDINGS_CLI_WORKLOAD_H

#include "bindings/c/cubby.h"
#include "bindings/cli/distribution.h"
#include "bindings/cli/histogram.h"

enum workload_kind {
    WORKLOAD_PUT,
    WORKLOAD_GET,
    WORKLOAD_MIXED,
    WORKLOAD_BATCH,
    WORKLOAD_PUSH,      /* jobs into the queue */
    WORKLOAD_POP,       /* jobs out of it */
    WORKLOAD_WORK,      /* reserve, then ack: two requests one after the other, counted as one */
    WORKLOAD_CHAIN,     /* reserve, then a batch that acks and pushes the body again: likewise */
    WORKLOAD_LOAD,      /* puts all keys */
    WORKLOAD_LOAD_JOBS, /* pushes as many jobs */
};

/* What all threads share, and none writes. */
struct workload_plan {
    enum workload_kind kind;
    struct cubby_options endpoints;
    uint64_t connections; /* of each thread */
    uint64_t in_flight;   /* of each connection */
    uint64_t requests;    /* of each thread; UINT64_MAX: until the time is over */
    uint64_t seconds;     /* 0: until the requests are done */
    uint64_t reads;       /* MIXED: percent */
    uint64_t batch_size;
    struct cubby_bytes value; /* also the body of each job */
    struct cubby_bytes queue;
    struct distribution keys;
};

struct workload_result {
    uint64_t requests;   /* that were answered well */
    uint64_t operations; /* a batch of 100 is 100 */
    uint64_t errors;
    bool ran_dry; /* it ended early: no job was ready in the queue */
    enum cubby_status first_error;
    char error_message[256];
    uint64_t started_ns;        /* of CLOCK_MONOTONIC */
    uint64_t ended_ns;          /* the last reply */
    struct histogram latencies; /* ns, of requests */
};

/*
 * Runs it, with random choices from `seed`. LOAD puts keys `first_key` to first_key + requests ×
 * batch_size, at most the last, instead, and LOAD_JOBS pushes as many jobs. CUBBY_OK, or why it
 * could not begin; failed requests are counted in the result.
 */
enum cubby_status workload_run(const struct workload_plan *plan, uint64_t seed, uint64_t first_key,
                               struct workload_result *result);

#endif
