/*
 * Which key is next: uniform, or zipfian as YCSB draws it (Gray et al., "Quickly generating
 * billion-record synthetic databases"), where few keys are asked for most of the time. The
 * zipfian ranks are scattered over all keys, so that the popular ones are not neighbours.
 */
#ifndef BINDINGS_CLI_DISTRIBUTION_H
#define BINDINGS_CLI_DISTRIBUTION_H

#include <stdbool.h>
#include <stdint.h>

struct distribution {
    uint64_t keys;
    bool zipfian;
    double zeta; /* the sum of 1/i^theta over all keys */
    double alpha;
    double eta;
};

/* Sums over all keys for the zipfian one: some 20 ms for a million. `keys` is over 0. */
void distribution_init(struct distribution *distribution, uint64_t keys, bool zipfian);

/* A number below `keys`; `random` is the generator's state and is moved on. */
uint64_t distribution_next(const struct distribution *distribution, uint64_t *random);

/* Its zipfian rank before scattering: 0 is drawn most often. For tests. */
uint64_t distribution_rank(const struct distribution *distribution, uint64_t *random);

/* The next of a sequence of random 64-bit numbers (splitmix64); any state is a good start. */
uint64_t distribution_random(uint64_t *random);

#endif
