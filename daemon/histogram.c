#include "daemon/histogram.h"

enum { PARTS = 1 << HISTOGRAM_PART_BITS, PERCENT = 100 };

/* Small values have a bucket each; then each power of two has PARTS of them. */
static unsigned bucket_of(uint64_t value)
{
    if (value < PARTS)
        return (unsigned)value;
    unsigned power = 63 - (unsigned)__builtin_clzll(value);
    unsigned shift = power - HISTOGRAM_PART_BITS;
    return ((shift + 1) << HISTOGRAM_PART_BITS) + (unsigned)((value >> shift) & (PARTS - 1));
}

static uint64_t top_of(unsigned bucket)
{
    if (bucket < PARTS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_PART_BITS) - 1;
    uint64_t part = PARTS + (bucket & (PARTS - 1));
    return (part << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
    if (value > histogram->max)
        histogram->max = value;
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent)
{
    uint64_t wanted = histogram->count / PERCENT * percent +
                      (histogram->count % PERCENT * percent + PERCENT - 1) / PERCENT;
    uint64_t seen = 0;
    for (unsigned i = 0; wanted > 0 && i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted)
            return top_of(i) < histogram->max ? top_of(i) : histogram->max;
    }
    return histogram->max;
}
