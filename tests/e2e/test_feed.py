"""What the feeds guarantee, in etcd's words: ordered, unique, reliable, atomic, resumable, bookmarkable.
Mirrors (mirrors.py) follow while others write and while things break; each judges all that it gets,
and in the end is what the daemon has, byte for byte."""

import os
import signal
import subprocess
import sys
import time
import unittest

from harness import LONG, Client, Daemon, deadline, eventually, seeded
from mirrors import BroadcastMirror, Proxy, WatchMirror, Writers, seq_of, state_of

ROUNDS = 20 if LONG else 4
HERE = os.path.dirname(os.path.abspath(__file__))


class Feed(unittest.TestCase):
    def start(self, thing):
        """Enters it, and leaves it when the test ends."""
        thing.__enter__()
        self.addCleanup(thing.__exit__, None, None, None)
        return thing

    def assert_same(self, daemon, *mirrors):
        """Every mirror comes to have what the daemon has; nobody writes any more."""
        settle(daemon)
        seq = seq_of(daemon)
        for mirror in mirrors:
            mirror.finish(seq)
            with self.subTest(mirror=mirror.name):
                self.assertEqual(mirror.state, state_of(daemon, mirror.prefix))


def settle(daemon):
    """Waits until the last keys with a ttl have expired."""
    def quiet():
        before = seq_of(daemon)
        time.sleep(0.15)  # longer than any ttl of the writers
        return seq_of(daemon) == before

    eventually(quiet, "nothing changes any more")


def mirrors_of(daemon, endpoint=None, broadcast=None):
    """Of everything and of parts, fast and slow, with much credit and with little."""
    return [
        WatchMirror(daemon, endpoint=endpoint),
        WatchMirror(daemon, credit=1, endpoint=endpoint),
        WatchMirror(daemon, credit=2, prefix="a/", endpoint=endpoint),
        WatchMirror(daemon, prefix="b/01", endpoint=endpoint),
        WatchMirror(daemon, credit=3, endpoint=endpoint, pause=lambda: time.sleep(0.02)),
        BroadcastMirror(daemon, endpoint=endpoint, broadcast=broadcast),
        BroadcastMirror(daemon, prefix="c/", endpoint=endpoint, broadcast=broadcast),
    ]


class Calm(Feed):
    """Nothing breaks: no mirror has a reason to begin afresh."""

    def test_mirrors_are_what_the_daemon_has_byte_for_byte(self):
        randomness = seeded(self)
        daemon = self.start(Daemon())
        with Writers(daemon, randomness) as writers:
            writers.wait(200)
            mirrors = [self.start(mirror) for mirror in mirrors_of(daemon)]
            writers.wait(3000 * ROUNDS)
        self.assert_same(daemon, *mirrors)
        for mirror in mirrors:
            self.assertEqual((mirror.fresh_starts, mirror.breaks), (0, 0), mirror.name)
        with self.subTest("what comes without a filter is every change of history"):
            self.assertGreater(mirrors[0].judge.changes, 1000)

    def test_a_watch_of_all_of_history_is_what_changes_gives(self):
        randomness = seeded(self)
        daemon = self.start(Daemon())
        with Writers(daemon, randomness) as writers:
            writers.wait(2000)
        mirror = WatchMirror(daemon, credit=5)
        mirror.state, mirror.epoch = {}, daemon_epoch(daemon)
        self.start(mirror)
        with Writers(daemon, randomness) as writers:
            writers.wait(1000)
        self.assert_same(daemon, mirror)


def daemon_epoch(daemon):
    with Client(daemon) as client:
        return client.call("hello")["epoch"]


class Broken(Feed):
    def test_mirrors_go_on_where_their_connection_was_cut(self):
        randomness = seeded(self)
        daemon = self.start(Daemon())
        requests = self.start(Proxy(daemon))
        broadcast = self.start(Proxy(daemon, daemon.broadcast))
        with Writers(daemon, randomness) as writers:
            writers.wait(100)
            mirrors = [self.start(mirror) for mirror in
                       mirrors_of(daemon, requests.endpoint, broadcast.endpoint)]
            for _ in range(3 * ROUNDS):
                writers.wait(randomness.randrange(50, 800))
                randomness.choice([requests, broadcast]).cut()
            eventually(lambda: requests.cuts + broadcast.cuts > len(mirrors), "connections were cut")
        self.assert_same(daemon, *mirrors)
        self.assertEqual([mirror.fresh_starts for mirror in mirrors], [0] * len(mirrors))
        self.assertGreater(sum(mirror.breaks for mirror in mirrors), 0)

    def test_mirrors_go_on_where_the_daemon_was_killed(self):
        randomness = seeded(self)
        daemon = self.start(Daemon("--checkpoint-size", "1M"))
        with Writers(daemon, randomness) as writers:
            writers.wait(100)
            mirrors = [self.start(mirror) for mirror in mirrors_of(daemon)]
            for number in range(ROUNDS):
                writers.wait(randomness.randrange(50, 1500))
                (daemon.stop if number % 4 == 3 else daemon.kill)()
                daemon.start()
        self.assert_same(daemon, *mirrors)
        self.assertEqual([mirror.fresh_starts for mirror in mirrors], [0] * len(mirrors))
        self.assertGreaterEqual(sum(mirror.breaks for mirror in mirrors), ROUNDS)

    def test_mirrors_begin_afresh_where_a_kill_may_have_lost_history(self):
        for durability in ("interval", "none"):
            randomness = seeded(self)
            daemon = self.start(Daemon("--durability", durability))
            with self.subTest(durability), Writers(daemon, randomness) as writers:
                writers.wait(100)
                mirrors = [self.start(mirror) for mirror in mirrors_of(daemon)]
                for _ in range(ROUNDS // 2):
                    writers.wait(randomness.randrange(50, 1500))
                    daemon.kill()
                    daemon.start()
                writers.__exit__()
                self.assert_same(daemon, *mirrors)
                for mirror in mirrors:
                    self.assertGreater(mirror.fresh_starts, 0, mirror.name)

    def test_mirrors_that_are_killed_go_on_from_what_they_kept(self):
        randomness = seeded(self)
        daemon = self.start(Daemon())
        copy = os.path.join(daemon.directory, "copy")
        with Writers(daemon, randomness) as writers:
            for _ in range(2 * ROUNDS):
                child = subprocess.Popen(
                    [sys.executable, "-B", __file__, "mirror", daemon.endpoint, daemon.broadcast, copy],
                    cwd=HERE)
                try:
                    before = kept_place(copy)
                    eventually(lambda: kept_place(copy) > before, "the mirror moves on")
                    writers.wait(randomness.randrange(1, 300))
                finally:
                    child.send_signal(signal.SIGKILL)
                    child.wait()
        mirror = WatchMirror(daemon, path=copy)
        self.assertGreater(mirror.place, 0)
        self.assert_same(daemon, self.start(mirror))
        self.assertEqual(mirror.fresh_starts, 0)

    def test_mirrors_that_are_too_slow_begin_afresh_where_history_was_trimmed(self):
        randomness = seeded(self)
        daemon = self.start(Daemon("--log-retain", "1M", "--checkpoint-size", "1M"))
        with Writers(daemon, randomness, value_size=300_000, keys=10) as writers:
            writers.wait(20)
            slow = [WatchMirror(daemon, credit=1, pause=lambda: time.sleep(0.5)),
                    WatchMirror(daemon, credit=1, prefix="a/00", pause=lambda: time.sleep(2))]
            mirrors = [self.start(mirror) for mirror in [*slow, WatchMirror(daemon), BroadcastMirror(daemon)]]
            end = deadline()
            while slow[0].fresh_starts == 0 and time.monotonic() < end:
                writers.wait(10)
        for mirror in slow:
            mirror.pause = lambda: None
        self.assert_same(daemon, *mirrors)
        self.assertGreater(slow[0].fresh_starts, 0)
        with Client(daemon) as client:
            self.assertGreater(client.call("hello")["oldest"], 1)


def kept_place(copy):
    mirror = WatchMirror(None, endpoint="none", path=copy)
    return mirror.place


def mirror_until_killed(endpoint, _, copy):
    """What a child does."""
    with WatchMirror(None, endpoint=endpoint, credit=4, path=copy) as mirror:
        mirror.join()
    sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["mirror"]:
        mirror_until_killed(*sys.argv[2:])
    unittest.main()
