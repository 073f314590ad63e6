/* For files whose tests each have a peer of their own and a handle to it: TestSuite takes both. */
#ifndef TESTS_BINDINGS_FIXTURE_H
#define TESTS_BINDINGS_FIXTURE_H

#include "tests/bindings/peer.h"

static struct peer peer;
static struct cubby *cubby;

static void start(void)
{
    peer_open(&peer);
    cubby = peer_client(&peer);
}

static void stop(void)
{
    cubby_close(&cubby);
    peer_close(&peer);
}

#endif
