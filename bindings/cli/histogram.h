/*
 * Latencies, counted in buckets whose width grows with the value: each power of two is cut into
 * 128 parts, so that any quantile is right to within 0.8 %, from a nanosecond to centuries, in
 * memory that does not grow.
 */
#ifndef BINDINGS_CLI_HISTOGRAM_H
#define BINDINGS_CLI_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_PART_BITS = 7, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_PART_BITS + 1) << 7 };

/* Starts as all zeros. */
struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/*
 * The value that the share `quantile` (0 to 1) of all values does not exceed: the top of its
 * bucket, at most the largest value. 0 where there are no values.
 */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
