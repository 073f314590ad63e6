#include <stdlib.h>

#include "bindings/cli/distribution.h"
#include "bindings/cli/histogram.h"

#include <criterion/criterion.h>

enum { KEYS = 1000, DRAWS = 200000 };

static uint64_t seed(void)
{
    const char *text = getenv("CUBBY_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static struct histogram *new_histogram(void)
{
    struct histogram *histogram = calloc(1, sizeof(*histogram));
    cr_assert_not_null(histogram);
    return histogram;
}

Test(histogram, small_values_are_exact)
{
    struct histogram *histogram = new_histogram();
    for (uint64_t value = 1; value <= 200; value++)
        histogram_add(histogram, value);
    cr_assert_eq(histogram_quantile(histogram, 0.5), 100);
    cr_assert_eq(histogram_quantile(histogram, 0.99), 198);
    cr_assert_eq(histogram_quantile(histogram, 1), 200);
    cr_assert_eq(histogram_quantile(histogram, 0), 1);
    free(histogram);
}

Test(histogram, quantiles_of_large_values_are_right_within_a_percent)
{
    struct histogram *histogram = new_histogram();
    for (uint64_t value = 1; value <= 100000; value++)
        histogram_add(histogram, value * 1000);
    const double shares[] = {0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double exact = shares[i] * 100000 * 1000;
        double found = (double)histogram_quantile(histogram, shares[i]);
        cr_assert(found >= exact && found <= exact * 1.01, "%f: %f for %f", shares[i], found,
                  exact);
    }
    cr_assert_eq(histogram_quantile(histogram, 1), 100000000);
    free(histogram);
}

Test(histogram, every_value_has_a_bucket_and_no_quantile_passes_the_largest)
{
    struct histogram *histogram = new_histogram();
    for (unsigned bit = 0; bit < 64; bit++) {
        histogram_add(histogram, UINT64_C(1) << bit);
        histogram_add(histogram, (UINT64_C(1) << bit) - 1);
    }
    histogram_add(histogram, UINT64_MAX);
    cr_assert_eq(histogram->count, 129);
    cr_assert_eq(histogram_quantile(histogram, 1), UINT64_MAX);
    cr_assert_eq(histogram_quantile(histogram, 0), 0);
    free(histogram);
}

Test(histogram, without_values_there_is_no_latency)
{
    struct histogram *histogram = new_histogram();
    cr_assert_eq(histogram_quantile(histogram, 0.99), 0);
    free(histogram);
}

Test(histogram, merged_ones_count_as_one)
{
    struct histogram *one = new_histogram();
    struct histogram *other = new_histogram();
    histogram_add(one, 10);
    histogram_add(other, 30);
    histogram_add(other, 20);
    histogram_merge(one, other);
    cr_assert_eq(one->count, 3);
    cr_assert_eq(one->max, 30);
    cr_assert_eq(histogram_quantile(one, 0.5), 20);
    free(one);
    free(other);
}

Test(distribution, uniform_draws_reach_every_key_about_equally)
{
    unsigned counts[KEYS] = {0};
    struct distribution distribution;
    uint64_t random = seed();
    distribution_init(&distribution, KEYS, false);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t key = distribution_next(&distribution, &random);
        cr_assert_lt(key, KEYS);
        counts[key]++;
    }
    for (int key = 0; key < KEYS; key++)
        cr_assert(counts[key] > 100 && counts[key] < 320, "key %d: %u, seed %llu", key, counts[key],
                  (unsigned long long)seed());
}

/* Of n keys with theta 0.99 the first has 1/zeta of all draws: 12.9 % for a thousand. */
Test(distribution, zipfian_ranks_are_as_frequent_as_the_law_says)
{
    unsigned counts[KEYS] = {0};
    struct distribution distribution;
    uint64_t random = seed();
    distribution_init(&distribution, KEYS, true);
    for (int i = 0; i < DRAWS; i++)
        counts[distribution_rank(&distribution, &random)]++;
    double first = counts[0] / (double)DRAWS;
    double expected = 1 / distribution.zeta;
    cr_assert(first > expected * 0.95 && first < expected * 1.05, "%f for %f, seed %llu", first,
              expected, (unsigned long long)seed());
    double ratio = counts[0] / (double)counts[1];
    cr_assert(ratio > 1.85 && ratio < 2.15, "%f, seed %llu", ratio, (unsigned long long)seed());
    cr_assert_gt(counts[10], counts[200]);
    cr_assert_gt(counts[200], 0);
}

Test(distribution, popular_keys_are_scattered_over_all)
{
    unsigned counts[KEYS] = {0};
    struct distribution distribution;
    uint64_t random = seed();
    int popular = 0, early = 0;
    distribution_init(&distribution, KEYS, true);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t key = distribution_next(&distribution, &random);
        cr_assert_lt(key, KEYS);
        counts[key]++;
    }
    for (int key = 0; key < KEYS; key++) {
        popular += counts[key] > DRAWS / KEYS * 2;
        early += key < KEYS / 10 && counts[key] > DRAWS / KEYS * 2;
    }
    cr_assert_lt(early, popular / 2, "%d of %d, seed %llu", early, popular,
                 (unsigned long long)seed());
}

Test(distribution, few_keys_are_enough)
{
    struct distribution distribution;
    uint64_t random = seed();
    for (uint64_t keys = 1; keys <= 3; keys++) {
        distribution_init(&distribution, keys, true);
        for (int i = 0; i < 1000; i++) {
            cr_assert_lt(distribution_next(&distribution, &random), keys);
            cr_assert_lt(distribution_rank(&distribution, &random), keys);
        }
    }
}
