"""System calls of a request: one at a time is as fast as these are few. Counted, so that no clock is in it."""

import os
import struct
import time
import unittest

from harness import Client, Daemon, deadline

REQUESTS = 20  # of a round
# What a request costs, in the order of call_counts.c. Most of it is libzmq's own.
FEW = {"poll": 3, "epoll_wait": 1, "read": 1, "write": 1, "getpid": 5}


class OneAtATime(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(data="none")
        self.addCleanup(self.daemon.clean)
        self.counts = os.path.join(self.daemon.directory, "calls")
        self.daemon.env.update(LD_PRELOAD=os.environ["CALL_COUNTS_LIBRARY"], CALL_COUNTS=self.counts)
        self.daemon.start()

    def calls(self):
        with open(self.counts, "rb") as file:
            return struct.unpack(f"{len(FEW)}Q", file.read())

    def round(self, client, request):
        before = self.calls()
        for _ in range(REQUESTS):
            client.call(*request)
        return {name: new - old for name, old, new in zip(FEW, before, self.calls())}

    def test_a_request_alone_costs_no_more_calls_than_it_has_to(self):
        """libzmq looks for commands once more in a request that comes a millisecond after the last one.
        How many do is up to the machine, hence as many rounds as it takes to have one without."""
        most = {name: few * REQUESTS + REQUESTS // 2 for name, few in FEW.items()}
        with Client(self.daemon) as client:
            for request in (("get", "key"), ("put", "key", 1)):
                end, calls = deadline(), most
                while any(calls[name] >= most[name] for name in FEW):
                    self.assertLess(time.monotonic(), end, f"{request}: {calls} in {REQUESTS} requests")
                    calls = self.round(client, request)
                self.assertGreaterEqual(calls["epoll_wait"], REQUESTS // 2, "they are counted")


if __name__ == "__main__":
    unittest.main()
