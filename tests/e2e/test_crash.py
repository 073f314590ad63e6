"""Kills under load, again and again in one directory, judged by a model; see workload.py.

Each round loads a daemon, kills it in one of several ways, starts it, and checks that everything
acknowledged is there, nothing else is but whole transactions that were under way, in an order
that explains every key, and that epoch and history are as the durability promises. After each end
`cubbyd --check` has to find the directory good, and its tables in agreement with each other. Checkpoints
are frequent and history short, so that kills meet the writing of checkpoints, and the
renaming and removing of files.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
import unittest

from harness import LONG, Client, Daemon, run, seeded
from workload import History, Load, observe

ENGINES = ("memory", "lmdb", "rocksdb")
DURABILITIES = ("always", "interval", "none")
ROUNDS = 60 if LONG else 2  # for each engine and durability
LARGE_SHARE = 0.3  # of the transactions in a round that is to fill segments of the log
FAST = ("--checkpoint-size", "64K", "--log-retain", "1K")


def engines():
    """Those that this cubbyd has."""
    _, _, sentence = run("--engine", "nonesuch", "--data", "/nonexistent/data")
    return [name for name in ENGINES if name in sentence.rsplit("has", 1)[-1]]


def check_tables(data):
    """Holds that nothing in the directory is damaged, and its tables agree with each other."""
    status, out, err = run("--check", data)
    assert status == 0 and out.endswith("good\n"), f"cubbyd --check: {status}\n{out}{err}"


class Life:
    """A data directory and its history over many rounds."""

    def __init__(self, data, randomness, *options):
        self.data, self.randomness, self.options = data, randomness, options
        self.history = History()
        self.epoch = None
        self.durability = None  # of the last run
        self.kept = True  # whether the last end must keep the epoch; None: it may

    def daemon(self, durability):
        sync = ("--sync-interval", "20") if durability == "interval" else ()
        return Daemon(*self.options, "--durability", durability, *sync, data=self.data)

    def round(self, end, durability):
        """One start, its checks, load, and an end, which is the name of a method."""
        with self.daemon(durability) as daemon:
            with Client(daemon) as client:
                self.check(client)
            load = Load(daemon, self.history, self.randomness)
            getattr(self, end)(daemon, load)
            load.close()
            daemon.look_for_defects()
        check_tables(self.data)
        self.durability = durability

    def check(self, client):
        since = None if self.randomness.random() < 0.3 else self.history.seq
        seen = observe(client, since)
        self.check_epoch(seen)
        self.history.settle(seen)
        self.history.check_changes(seen, since or 0)
        if seen["epoch"] != self.epoch:
            assert seen["oldest"] > self.history.newest(), "history of another epoch is served"
        self.epoch = seen["epoch"]

    def check_epoch(self, seen):
        if self.epoch is None:
            self.epoch = seen["epoch"]
        same = seen["epoch"] == self.epoch
        assert self.kept is None or same == self.kept, \
            f"the epoch {'is the same' if same else 'changed'} after {self.durability}"

    # Ends. Each leaves the process dead, and says in `kept` what that does to the epoch.

    def dies(self, daemon):
        daemon.process.kill()
        daemon.process.wait()
        durability = daemon.options[daemon.options.index("--durability") + 1]
        self.kept = durability == "always"

    def after_replies(self, daemon, load):
        enough = self.randomness.choice([1, 10, 100, 600])
        count = self.randomness.randrange(enough) + 1
        load.run(lambda: load.replies >= count)
        self.dies(daemon)

    def after_a_time(self, daemon, load):
        end = time.monotonic() + self.randomness.uniform(0, 0.2)
        load.run(lambda: time.monotonic() > end)
        self.dies(daemon)

    def in_a_checkpoint(self, daemon, load):
        for _ in range(2):
            count = load.replies + self.randomness.randrange(150)
            load.run(lambda count=count: load.replies >= count)
            daemon.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + self.randomness.uniform(0, 0.02)
        load.run(lambda: time.monotonic() > end)
        self.dies(daemon)

    def while_segments_turn(self, daemon, load):
        load.large = LARGE_SHARE
        count = self.randomness.randrange(50, 250)
        load.run(lambda: load.replies >= count)
        self.dies(daemon)

    def while_stopping(self, daemon, load):
        count = self.randomness.randrange(1, 200)
        load.run(lambda: load.replies >= count)
        daemon.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + self.randomness.uniform(0, 0.03)
        while time.monotonic() < end:
            load.receive(1)
        self.dies(daemon)
        self.kept = self.kept or None  # it may have come to the end of its stop before

    def while_starting(self, daemon, load):
        self.after_replies(daemon, load)
        for _ in range(3):
            daemon.spawn()
            time.sleep(self.randomness.uniform(0, 0.03))
            daemon.process.kill()
            daemon.wait()
            assert daemon.stderr == "" or "ready" in daemon.stderr, daemon.stderr

    ENDS = ("after_replies", "while_segments_turn", "while_starting", "in_a_checkpoint",
            "while_stopping", "after_a_time")


@contextlib.contextmanager
def kept_directory(name):
    """A directory that stays for the post mortem where the test fails, with a word about where."""
    directory = tempfile.mkdtemp(prefix=f"cubby-crash-{name}-")
    try:
        yield directory
    except BaseException:
        print(f"\nthe data is kept in {directory}", flush=True)
        raise
    shutil.rmtree(directory)


class Kills(unittest.TestCase):
    def live(self, name, durabilities, *options, rounds):
        """Rounds in one directory, and at last a clean stop."""
        randomness = seeded(self)
        at = randomness.randrange(len(Life.ENDS))
        with kept_directory(name) as directory:
            life = Life(os.path.join(directory, "data"), randomness, *options)
            for number in range(rounds):
                end = Life.ENDS[(at + number) % len(Life.ENDS)]
                life.round(end, randomness.choice(durabilities))
            with life.daemon("always") as daemon:
                with Client(daemon) as client:
                    life.check(client)
                daemon.stop()

    def test_every_engine_keeps_what_it_acknowledged_in_every_durability(self):
        for engine in engines():
            for durability in DURABILITIES:
                with self.subTest(engine=engine, durability=durability):
                    self.live(f"{engine}-{durability}", [durability], "--engine", engine, *FAST,
                              rounds=ROUNDS)

    def test_each_way_to_end_with_durabilities_in_turn(self):
        for engine in engines():
            with self.subTest(engine=engine):
                self.live(f"{engine}-mixed", DURABILITIES, "--engine", engine, *FAST,
                          rounds=5 * ROUNDS if LONG else len(Life.ENDS))

    def test_a_killed_first_start_leaves_nothing_in_the_way_of_the_next(self):
        randomness = seeded(self)
        for engine in engines():
            for number in range(5 * ROUNDS if LONG else 6):
                with self.subTest(engine=engine, number=number):
                    with kept_directory(f"{engine}-first") as directory:
                        self.start_twice(engine, directory, randomness.uniform(0, 0.03))

    def start_twice(self, engine, directory, delay_s):
        daemon = Daemon("--engine", engine, data=directory + "/data")
        try:
            daemon.spawn()
            time.sleep(delay_s)
            daemon.process.kill()
            daemon.wait()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("put", "key", 1), 1)
            daemon.stop()
        finally:
            daemon.clean()


if __name__ == "__main__":
    unittest.main()
