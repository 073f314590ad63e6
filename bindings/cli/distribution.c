#include "bindings/cli/distribution.h"

#include <math.h>

static const double theta = 0.99;

static uint64_t scatter(uint64_t number)
{
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
    return number ^ number >> 31;
}

uint64_t distribution_random(uint64_t *random)
{
    *random += UINT64_C(0x9e3779b97f4a7c15);
    return scatter(*random);
}

/* Without the division of a modulo, and as even as 64 bits allow. */
static uint64_t below(uint64_t random, uint64_t limit)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)random * limit >> 64);
}

/* In [0, 1): the 53 bits that a double holds. */
static double fraction(uint64_t random)
{
    return (double)(random >> 11) / (double)(UINT64_C(1) << 53);
}

void distribution_init(struct distribution *distribution, uint64_t keys, bool zipfian)
{
    *distribution = (struct distribution){.keys = keys, .zipfian = zipfian};
    if (!zipfian)
        return;
    for (uint64_t i = 1; i <= keys; i++)
        distribution->zeta += 1 / pow((double)i, theta);
    double two = 1 + pow(0.5, theta);
    distribution->alpha = 1 / (1 - theta);
    distribution->eta = (1 - pow(2 / (double)keys, 1 - theta)) / (1 - two / distribution->zeta);
}

uint64_t distribution_rank(const struct distribution *distribution, uint64_t *random)
{
    double uniform = fraction(distribution_random(random));
    double scaled = uniform * distribution->zeta;
    if (scaled < 1 || distribution->keys == 1)
        return 0;
    if (scaled < 1 + pow(0.5, theta) || distribution->keys == 2)
        return 1;
    double base = distribution->eta * uniform - distribution->eta + 1;
    uint64_t rank = (uint64_t)((double)distribution->keys * pow(base, distribution->alpha));
    return rank < distribution->keys ? rank : distribution->keys - 1;
}

uint64_t distribution_next(const struct distribution *distribution, uint64_t *random)
{
    if (!distribution->zipfian)
        return below(distribution_random(random), distribution->keys);
    return below(scatter(distribution_rank(distribution, random) + 1), distribution->keys);
}
