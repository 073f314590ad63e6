/*
 * How a quantity is distributed: counts in buckets that are an eighth of a power of two wide, so
 * that a quantile is right to an eighth, in memory that does not grow. For stats.
 */
#ifndef DAEMON_HISTOGRAM_H
#define DAEMON_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_PART_BITS = 3,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_PART_BITS + 1) << HISTOGRAM_PART_BITS,
};

/* Starts as all zeros. */
struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

/*
 * The value that so many of a hundred do not exceed: the top of its bucket, at most the largest. 0
 * where there is none.
 */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent);

#endif
