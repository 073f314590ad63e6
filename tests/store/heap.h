/* What the allocator says is allocated, for tests of what is said to be. */
#ifndef TESTS_STORE_HEAP_H
#define TESTS_STORE_HEAP_H

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

static inline double heap_size(void)
{
    struct mallinfo2 info = mallinfo2();
    return (double)(info.uordblks + info.hblkhd);
}

/* Sanitizers bring an allocator of their own, of which mallinfo2 knows nothing. */
static inline bool heap_size_works(void)
{
    double before = heap_size();
    void *volatile block = malloc(1 << 22); /* too large to come out of a cache */
    bool works = heap_size() > before;
    free(block);
    return works;
}

#endif
