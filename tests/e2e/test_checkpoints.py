"""Checkpoints of the memory engine: when they are written, what a start makes of them, what the log
keeps behind them, and what happens where one is damaged or there is no room for it."""

import glob
import os
import signal
import subprocess
import tempfile
import unittest

from harness import MIB, Client, Daemon, all_changes, eventually

VALUE = "x" * 10000
SMALL_LOG = ("--log-retain", "1M", "--checkpoint-size", "0", "--checkpoint-interval", "0")


def checkpoints(daemon):
    return sorted(glob.glob(f"{daemon.data}/checkpoint-*"))


def log_bytes(daemon):
    return sum(os.path.getsize(file) for file in glob.glob(f"{daemon.data}/log-*"))


def written(client, count):
    """Waits until so many checkpoints have come to a good end, and none is running."""
    def done():
        stats = client.call("stats")
        return stats["checkpoints"] >= count and not stats["checkpoint_running"]
    eventually(done, f"{count} checkpoints")


def checkpoint(client):
    """One of all there is now."""
    count = client.call("stats")["checkpoints"]
    seq = client.call("checkpoint")
    written(client, count + 1)
    assert client.call("stats")["checkpoint_seq"] == seq
    return seq


def put_many(client, first, count, value=VALUE):
    for start in range(first, first + count, 100):
        client.batch(*(["put", f"k{number:06}", [number, value]]
                       for number in range(start, min(start + 100, first + count))))


def damage(file, offset=100):
    with open(file, "r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 1]))


class Checkpoints(unittest.TestCase):
    def check(self, client, count):
        self.assertEqual(client.call("count"), count)
        for number in range(0, count, max(1, count // 50)):
            self.assertEqual(client.call("get", f"k{number:06}")[0], [number, VALUE])

    def test_the_method_writes_one_and_a_killed_daemon_replays_what_is_behind_it(self):
        for durability in ("always", "interval", "none"):
            with self.subTest(durability), \
                    Daemon("--durability", durability, *SMALL_LOG) as daemon:
                with Client(daemon) as client:
                    put_many(client, 0, 200)
                    checkpoint(client)
                    for number in range(200, 210):
                        client.call("put", f"k{number:06}", [number, VALUE])
                daemon.kill()
                daemon.start()
                with Client(daemon) as client:
                    self.check(client, 210)
                    self.assertEqual(client.call("stats")["replayed"], 10)

    def test_a_signal_begins_one(self):
        with Daemon(*SMALL_LOG) as daemon, Client(daemon) as client:
            client.call("put", "key", 1)
            daemon.process.send_signal(signal.SIGUSR1)
            written(client, 1)

    def test_so_much_log_begins_one(self):
        with Daemon("--checkpoint-size", "1M", "--log-retain", "0") as daemon, \
                Client(daemon) as client:
            put_many(client, 0, 300)
            written(client, 1)

    def test_time_begins_one(self):
        with Daemon("--checkpoint-interval", "1") as daemon, Client(daemon) as client:
            client.call("put", "key", 1)
            written(client, 1)

    def test_after_a_clean_stop_nothing_is_replayed(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                put_many(client, 0, 100)
                seq = client.call("hello")["seq"]
            daemon.restart()
            with Client(daemon) as client:
                self.check(client, 100)
                stats = client.call("stats")
                self.assertEqual((stats["replayed"], stats["seq"]), (0, seq))

    def test_the_log_is_trimmed_and_keeps_its_history(self):
        with Daemon(*SMALL_LOG) as daemon:
            with Client(daemon) as client:
                for step in range(6):
                    put_many(client, 1000 * (step % 2), 1000)
                    checkpoint(client)
                    self.assertLessEqual(len(checkpoints(daemon)), 2)
                eventually(lambda: client.call("ping") and log_bytes(daemon) <= 80 * MIB, "trimmed")
                oldest = client.call("stats")["oldest"]
                self.assertGreater(oldest, 1)
                seqs = [change[0] for change in all_changes(client, oldest - 1)]
                self.assertEqual(seqs[-1], client.call("hello")["seq"])
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.check(client, 2000)

    def two(self, daemon):
        """A daemon, killed, with two checkpoints: of 100 and of 200 keys; and 10 keys behind."""
        with Client(daemon) as client:
            put_many(client, 0, 100)
            checkpoint(client)
            put_many(client, 100, 100)
            checkpoint(client)
            put_many(client, 200, 10)
        daemon.kill()
        return checkpoints(daemon)

    def test_where_the_newest_is_damaged_the_one_before_is_used(self):
        with Daemon(*SMALL_LOG) as daemon:
            older, newer = self.two(daemon)
            damage(newer)
            daemon.start()
            line = next(line for line in daemon.lines if "is damaged at offset" in line)
            self.assertIn(os.path.basename(newer), line)
            self.assertIn(os.path.basename(older), line)
            with Client(daemon) as client:
                self.check(client, 210)
                self.assertEqual(checkpoints(daemon), [older, newer])
                checkpoint(client)
                self.assertNotIn(newer, checkpoints(daemon))
            daemon.restart()
            with Client(daemon) as client:
                self.check(client, 210)

    def test_where_both_are_damaged_the_start_is_refused_and_changes_nothing(self):
        with Daemon(*SMALL_LOG) as daemon:
            files = self.two(daemon)
            for file in files:
                damage(file)
            daemon.spawn()
            line = daemon.wait_for_line("cubbyd: ")
            self.assertIn(f"{os.path.basename(files[1])} is damaged at offset 64", line)
            self.assertEqual(daemon.wait(), 1)
            self.assertEqual(checkpoints(daemon), files)

    def test_an_unfinished_one_is_removed_by_the_next_start(self):
        with Daemon() as daemon:
            daemon.stop()
            finished = checkpoints(daemon)
            with open(f"{daemon.data}/checkpoint-00000000000000000009.tmp", "wb") as file:
                file.write(b"x" * 1000)
            daemon.start()
            self.assertEqual(checkpoints(daemon), finished)


class FullDisk(unittest.TestCase):
    def test_a_checkpoint_without_room_loses_nothing_and_the_next_one_succeeds(self):
        directory = tempfile.mkdtemp(prefix="cubby-")
        self.addCleanup(os.rmdir, directory)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=44M", "cubby-test", directory],
                                 capture_output=True, check=False, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", directory], check=True)
        with Daemon(*SMALL_LOG, data=directory + "/data") as daemon:
            with Client(daemon) as client:
                put_many(client, 0, 1400)
                eventually(lambda: log_bytes(daemon) >= 32 * MIB, "the log has its next file")
                client.call("checkpoint")
                eventually(lambda: client.call("stats")["checkpoints_failed"] == 1, "it fails")
                self.assertEqual(checkpoints(daemon), [])
                subprocess.run(["mount", "-o", "remount,size=200M", directory], check=True)
                checkpoint(client)
                self.assertEqual(len(checkpoints(daemon)), 1)
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual((client.call("count"), client.call("stats")["replayed"]), (1400, 0))


if __name__ == "__main__":
    unittest.main()
