/*
 * Time as the daemon has it: the wall clock at the start plus the monotonic clock, so that it
 * cannot jump, nor be before what is in the store already.
 */
#ifndef DAEMON_CLOCK_H
#define DAEMON_CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t start_us; /* monotonic */
    uint64_t start_ms; /* since 1970, at the same moment */
};

/* Now, monotonic. */
uint64_t clock_us(void);

/* Begins now: at the time of the wall clock, or at `not_before_ms` where that is later. */
void clock_begin(struct clock *clock, uint64_t not_before_ms);

/* The time, ms since 1970, at a moment that clock_us gave. */
uint64_t clock_ms(const struct clock *clock, uint64_t moment_us);

#endif
