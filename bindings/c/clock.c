#include "bindings/c/clock.h"

#include <time.h>

enum { NS_PER_MS = 1000000, MS_PER_S = 1000 };

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

int64_t due_ms(int64_t now, int64_t timeout_ms)
{
    return timeout_ms < 0 || timeout_ms > NEVER_MS - now ? NEVER_MS : now + timeout_ms;
}
