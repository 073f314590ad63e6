#include "bindings/cli/histogram.h"

#include <math.h>
#include <stddef.h>

enum { PARTS = 1 << HISTOGRAM_PART_BITS };

/*
 * Values below 2 × PARTS have a bucket each. Above, the bits behind the highest one choose the
 * part of their power of two.
 */
static unsigned shift_of(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    return bits > HISTOGRAM_PART_BITS + 1 ? bits - HISTOGRAM_PART_BITS - 1 : 0;
}

static size_t bucket_of(uint64_t value)
{
    unsigned shift = shift_of(value);
    return (size_t)shift * PARTS + (size_t)(value >> shift);
}

static uint64_t top_of(size_t bucket)
{
    if (bucket < (size_t)2 * PARTS)
        return bucket;
    unsigned shift = (unsigned)(bucket / PARTS) - 1;
    uint64_t part = bucket - (size_t)shift * PARTS;
    return (part << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
    if (value > histogram->max)
        histogram->max = value;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    histogram->count += other->count;
    if (other->max > histogram->max)
        histogram->max = other->max;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += other->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    uint64_t rank = (uint64_t)ceil(quantile * (double)histogram->count);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && seen >= rank)
            return top_of(i) < histogram->max ? top_of(i) : histogram->max;
    }
    return histogram->max;
}
