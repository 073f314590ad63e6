/* The time by which a handle and what goes on within it judge what is due. */
#ifndef BINDINGS_C_CLOCK_H
#define BINDINGS_C_CLOCK_H

#include <stdint.h>

#define NEVER_MS INT64_MAX

/* The monotonic clock, in milliseconds. */
int64_t now_ms(void);

/* `timeout_ms` from now, NEVER_MS for CUBBY_FOREVER. */
int64_t due_ms(int64_t now, int64_t timeout_ms);

#endif
