/* What `stats` tells of the daemon itself. */
#ifndef DAEMON_COUNTERS_H
#define DAEMON_COUNTERS_H

#include "daemon/histogram.h"

/* Counters and gauges for `stats`; whoever does the thing counts it. */
struct counters {
    uint64_t uptime_ms;
    uint64_t requests;          /* messages taken, notifications and malformed ones included */
    uint64_t errors;            /* of those, answered with an error */
    uint64_t connections;       /* open to the request socket */
    uint64_t drops;             /* as of the protocol */
    uint64_t waiting;           /* bytes of the broadcast that wait for subscribers */
    uint64_t deferred;          /* requests that waited since their peer's had taken long */
    uint64_t undelivered;       /* replies whose peer had left or took no more */
    struct histogram turn_us;   /* of turns with requests; its `max` is of all turns */
    struct histogram group;     /* requests of such a turn */
    struct histogram commit_us; /* of turns that wrote: their write and fsync */
    uint64_t expired;           /* keys */
    uint64_t evicted;           /* likewise */
    uint64_t returned;          /* jobs that went back, since their reply could not be sent */
};

#endif
