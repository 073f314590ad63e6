#include "daemon/clock.h"

#include <time.h>

uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void clock_begin(struct clock *clock, uint64_t not_before_ms)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock->start_us = clock_us();
    clock->start_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    if (clock->start_ms < not_before_ms)
        clock->start_ms = not_before_ms;
}

uint64_t clock_ms(const struct clock *clock, uint64_t moment_us)
{
    return clock->start_ms + (moment_us - clock->start_us) / 1000;
}
