#include "daemon/histogram.h"

#include <criterion/criterion.h>

Test(histogram, without_values_says_zero)
{
    struct histogram histogram = {0};
    cr_assert_eq(histogram_percentile(&histogram, 99), 0);
}

Test(histogram, small_values_are_exact)
{
    struct histogram histogram = {0};
    for (uint64_t i = 0; i < 8; i++)
        histogram_add(&histogram, i);
    cr_assert_eq(histogram_percentile(&histogram, 50), 3);
    cr_assert_eq(histogram_percentile(&histogram, 99), 7);
}

Test(histogram, a_percentile_is_right_to_an_eighth)
{
    struct histogram histogram = {0};
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(&histogram, i);
    uint64_t half = histogram_percentile(&histogram, 50);
    uint64_t most = histogram_percentile(&histogram, 99);
    cr_assert(half >= 50000 && half <= 56250, "%lu", (unsigned long)half);
    cr_assert(most >= 99000 && most <= 100000, "%lu", (unsigned long)most);
}

Test(histogram, any_value_has_a_bucket)
{
    struct histogram histogram = {0};
    for (unsigned shift = 0; shift < 64; shift++)
        histogram_add(&histogram, UINT64_C(1) << shift);
    histogram_add(&histogram, UINT64_MAX);
    cr_assert_eq(histogram_percentile(&histogram, 100), UINT64_MAX);
    cr_assert_eq(histogram.max, UINT64_MAX);
}
