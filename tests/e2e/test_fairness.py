"""What many requests, or large ones, of one client mean to the others. By counts, not by the clock."""

import os
import signal
import unittest

from harness import Client, Daemon, check_reply

TURN_MAX_OF_ONE = 256  # as in daemon/server.h
WINDOW = 16


class Fairness(unittest.TestCase):
    """A daemon for each test, since stats are of all of its turns."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.clean)
        self.daemon.start()

    def pause(self):
        os.kill(self.daemon.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.daemon.process.pid, signal.SIGCONT)

    def test_a_client_is_served_in_between_the_requests_of_one_that_has_many_outstanding(self):
        total, few = 30_000, 50
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog, Client(self.daemon) as other:
            hog.call("ping")
            other.call("ping")
            self.pause()
            for msgid in range(total):
                hog.send_request(msgid, "put", f"hog{msgid % 100}", msgid)
            for msgid in range(few):
                other.send_request(msgid, "put", "other", msgid)
            self.resume()
            versions = [check_reply(other.receive_payload())[3] for _ in range(few)]
        self.assertLess(versions[-1], total // 2)

    def test_a_turn_takes_few_requests_of_one_client_alone(self):
        total = 20_000
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog:
            self.pause()
            for msgid in range(total):
                hog.send_request(msgid, "put", f"hog{msgid % 100}", msgid)
            self.resume()
            for _ in range(total):
                hog.receive_payload()
            self.assertLessEqual(hog.call("stats")["group_max"], TURN_MAX_OF_ONE + WINDOW)

    def test_a_large_batch_has_a_turn_of_its_own(self):
        operations = [["increment", [f"key{number % 50}"]] for number in range(10_000)]
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog:
            self.pause()
            for msgid in range(8):
                hog.send_request(msgid, "batch", operations)
            self.resume()
            for _ in range(8):
                hog.receive_payload()
            self.assertLessEqual(hog.call("stats")["group_max"], 2)

    def test_stats_say_how_turns_are_distributed(self):
        with Client(self.daemon) as client:
            for number in range(100):
                client.call("put", "key", number)
            stats = client.call("stats")
        self.assertEqual(stats["turns"], 100)
        for name in ("turn", "commit"):
            self.assertLessEqual(stats[f"{name}_p50_us"], stats[f"{name}_p99_us"])
            self.assertLessEqual(stats[f"{name}_p99_us"], stats[f"{name}_max_us"])
        self.assertEqual((stats["group_p50"], stats["group_p99"], stats["group_max"]), (1, 1, 1))


if __name__ == "__main__":
    unittest.main()
