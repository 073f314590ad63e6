"""Power failures: cubbyd runs on a traced disk (disk_trace.c), the trace is cut at random moments, and
cubbyd is started on contents that the disk may have had then (disk.py).

Whatever the moment and the contents: it starts. With durability `always` everything is there that was
acknowledged before; in every mode what is there is what the transactions up to some seq add up to,
exactly; history is served under the old epoch only where nothing may be missing. test_lying_disk.py
shows that a disk which only pretends to sync is found out.
"""

import os
import random
import shutil
import signal
import tempfile
import unittest

from disk import Disk, Notes, read_trace
from harness import LONG, Client, Daemon, is_sanitized, run, seeded
from test_crash import DURABILITIES, FAST, LARGE_SHARE, engines
from workload import History, Load, observe

LIBRARY = os.environ["DISK_TRACE_LIBRARY"]
IMAGES = 150 if LONG else 4 if is_sanitized() else 12  # for each engine and durability
REPLIES = 600 if LONG else 250  # of each run
LARGE_REPLIES = 400  # of a run that fills segments of the log
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Recording:
    """Runs of cubbyd on a traced disk, and what was acknowledged when.

    Notes in the trace: 'A' a reply has shown seq a; 'P' a run serves, beginning with seq
    a, its data "durability epoch"; 'Q' it was asked to stop; 'S' it has stopped cleanly.
    """

    def __init__(self, directory, randomness, engine):
        self.directory, self.randomness, self.engine = directory, randomness, engine
        self.root = os.path.join(directory, "disk")
        self.path = os.path.join(directory, "trace")
        self.history = History()
        self.notes = Notes(self.path)
        os.mkdir(self.root)

    def daemon(self, durability):
        sync = ("--sync-interval", "20") if durability == "interval" else ()
        environment = {"LD_PRELOAD": LIBRARY, "DISK_TRACE": self.path,
                       "DISK_TRACE_ROOT": self.root}
        return Daemon("--engine", self.engine, "--durability", durability, *sync, *FAST,
                      data=self.root + "/data", env=environment)

    def note_start(self, durability, seen):
        self.notes.add("P", seen["seq"], f"{durability} {seen['epoch']}".encode())

    def run(self, durability, end, replies=REPLIES, large=0.0):
        with self.daemon(durability) as daemon:
            with Client(daemon) as client:
                seen = observe(client, self.history.seq)
                self.history.settle(seen)
                self.note_start(durability, seen)
                load = Load(daemon, self.history, self.randomness, fleeting=False, large=large,
                            told=lambda seq: self.notes.add("A", seq))
                load.run(lambda: load.replies >= replies // 2)
                daemon.process.send_signal(signal.SIGUSR1)
                load.run(lambda: load.replies >= replies)
                load.finish()
                self.history.settle(observe(client, self.history.seq))
            self.notes.add("Q" if end == "stop" else "K")
            getattr(daemon, end)()
            self.notes.add("S" if end == "stop" else "K")
            load.close()

    def finish(self):
        self.notes.close()
        self.events = read_trace(self.path)
        return self

    def check_whole(self):
        """Every seq is a transaction that is known."""
        assert [seq for seq, _ in self.history.told] == list(range(1, self.history.seq + 1))


class Cut:
    """What the notes up to a cut say."""

    def __init__(self):
        self.durability = self.epoch = None
        self.shown = 0  # newest seq that a reply has shown
        self.stopping = self.stopped = self.started = False
        self.epochs = set()

    def apply(self, event):
        if event.kind == "A":
            self.shown = max(self.shown, event.a)
        elif event.kind == "P":
            self.durability, self.epoch = event.data.decode().split()
            self.epochs.add(self.epoch)
            self.shown = event.a
            self.stopping = self.stopped = False
        elif event.kind == "I":
            self.started = True
        elif event.kind == "Q":
            self.started = False
            self.stopping = True
        elif event.kind == "S":
            self.stopped = True


def choose_cuts(events, randomness, count):
    """Places in the trace, half of them near what is rare: names, sizes, syncs."""
    rare = [at for at, event in enumerate(events) if event.kind in "RUMTBEOPQS"]
    cuts = [randomness.randrange(len(events) + 1) for _ in range(count // 2)]
    while len(cuts) < count:
        cuts.append(min(len(events), randomness.choice(rare) + randomness.randrange(3)))
    return sorted(cuts)


class Checker:
    """Starts cubbyd on one possible content after the other."""

    def __init__(self, recording, randomness, forget=None, disk=None, cut=None):
        self.recording, self.randomness = recording, randomness
        self.disk, self.cut = disk or Disk(recording.root, forget), cut or Cut()
        self.again = disk is not None  # an earlier failure has lost what it may have
        self.at = 0
        self.failed = None  # where the content is that cubbyd failed on

    def advance(self, at):
        """Goes to that event, which is no earlier one than the last."""
        for event in self.recording.events[self.at:at]:
            self.disk.apply(event)
            self.cut.apply(event)
        self.at = at

    def check(self, at, way=None):
        """Cuts the trace there, draws a content, and judges what cubbyd makes of it."""
        self.advance(at)
        before = self.randomness.getstate()
        image, drawn = self.draw(self.randomness, way)
        try:
            self.judge(image, drawn)
        except Exception as failure:
            again = random.Random()
            again.setstate(before)
            self.failed, _ = self.draw(again, way)  # what was judged has been changed by that
            raise AssertionError(f"cut at event {at} of {len(self.recording.events)}, drawn "
                                 f"{drawn!r}, kept in {self.failed}: {failure}") from failure
        finally:
            shutil.rmtree(image)

    def draw(self, randomness, way):
        """Where a possible content is, and in which way it was drawn."""
        image = tempfile.mkdtemp(prefix="cubby-image-", dir=MEMORY)
        return image, self.disk.leave(image, randomness, way)

    def all_written(self, way):
        """Whether everything got to the disk, synced or not, since the beginning."""
        return way == "new" and not self.again

    def judge(self, image, way):
        """A check finds it good, unless there is no data directory yet, and so does a start."""
        status, out, err = run("--check", image + "/data")
        seq = self.judge_start(image, way)
        mended = "start cubbyd, which" in err  # the end of RocksDB's manifest: not by who only reads
        assert status == 0 or seq == 0 or mended, f"cubbyd --check: {status}\n{out}{err}"

    def judge_start(self, image, way):
        """The seq that it has."""
        with Daemon("--engine", self.recording.engine, data=image + "/data") as daemon:
            with Client(daemon) as client:
                seen = observe(client)
                self.judge_state(seen, way)
                after = client.call("put", "after", 1)
                assert after == seen["seq"] + 1, f"the next seq is {after}, not {seen['seq'] + 1}"
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                again = observe(client)
                assert again["epoch"] == seen["epoch"] and again["seq"] == after
                assert again["entries"].pop("after") == [1, after, False]
                assert again["entries"] == seen["entries"], "the next start shows another state"
                daemon.stop()
        return seen["seq"]

    def judge_state(self, seen, way):
        cut, history, seq = self.cut, self.recording.history, seen["seq"]
        lossless = cut.durability == "always" or cut.stopped or self.all_written(way)
        assert not lossless or seq >= cut.shown, f"seq {cut.shown} was shown, {seq} is left"
        assert seq <= history.seq, seq
        assert seen["entries"] == history.as_of(seq), f"not the state as of {seq}"
        if seen["epoch"] not in cut.epochs:
            assert cut.durability != "always", "a new epoch"
            assert cut.started or not cut.stopped, "a new epoch after a clean stop"
            assert seen["oldest"] == seq + 1, "old history under a new epoch"
            return
        assert seen["epoch"] == cut.epoch, "an epoch of before"
        assert cut.durability == "always" or cut.stopping, "the epoch is kept"
        assert seq >= cut.shown, "the epoch is kept and something is missing"
        history.check_changes(seen, seen["oldest"] - 1)


class Traced(unittest.TestCase):
    def directory(self):
        directory = tempfile.mkdtemp(prefix="cubby-traced-", dir=MEMORY)
        self.addCleanup(shutil.rmtree, directory)
        return directory

    def record(self, randomness, engine, *runs):
        recording = Recording(self.directory(), randomness, engine)
        for run in runs:
            recording.run(**run)
        recording.check_whole()
        return recording.finish()


class PowerLoss(Traced):
    def check(self, recording, randomness, images=IMAGES, forget=None):
        checker = Checker(recording, randomness, forget)
        for at in choose_cuts(recording.events, randomness, images):
            checker.check(at)
        checker.check(len(recording.events), "old")

    def test_no_moment_and_no_order_of_writes_loses_what_was_promised(self):
        randomness = seeded(self)
        for engine in engines():
            for durability in DURABILITIES:
                with self.subTest(engine=engine, durability=durability):
                    self.check(self.record(
                        randomness, engine,
                        {"durability": durability, "end": randomness.choice(["stop", "kill"])},
                        {"durability": durability, "end": randomness.choice(["stop", "kill"])},
                    ), randomness)

    def test_neither_does_one_while_segments_of_the_log_are_begun_recycled_and_removed(self):
        randomness = seeded(self)
        for engine in engines():
            for durability in ("always", "none"):
                with self.subTest(engine=engine, durability=durability):
                    recording = self.record(randomness, engine, {
                        "durability": durability, "end": "kill", "large": LARGE_SHARE,
                        "replies": LARGE_REPLIES})
                    files = {event.data.rsplit(b"/")[-1] for event in recording.events
                             if event.kind in "OR"}
                    self.assertIn(b"log-0000000003", files, "the log has turned")
                    self.check(recording, randomness, IMAGES // 2)

    def test_nor_does_a_second_one_while_the_start_after_the_first_mends_the_log(self):
        randomness = seeded(self)
        for engine in engines():
            for durability in DURABILITIES:
                with self.subTest(engine=engine, durability=durability):
                    recording = self.record(randomness, engine,
                                            {"durability": durability, "end": "kill"})
                    for at in choose_cuts(recording.events, randomness, IMAGES // 4):
                        self.cut_twice(recording, at, randomness, durability)

    def cut_twice(self, recording, at, randomness, durability):
        """Starts on what the first failure left, traces that, and cuts it at several places."""
        first = Checker(recording, randomness)
        first.advance(at)
        second = Recording(self.directory(), randomness, recording.engine)
        second.history = recording.history
        first.disk.leave(second.root, randomness)
        disk = Disk(second.root, load=second.root)
        with second.daemon(durability) as daemon:
            with Client(daemon) as client:
                second.note_start(durability, observe(client))
            daemon.kill()
        second.finish()
        checker = Checker(second, randomness, disk=disk, cut=first.cut)
        for place in choose_cuts(second.events, randomness, IMAGES // 4):
            checker.check(place)


if __name__ == "__main__":
    unittest.main()
