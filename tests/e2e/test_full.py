"""Limits of memory and disk: writes are refused, everything else goes on, and it recovers."""

import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import MIB, Client, CubbyError, Daemon, all_changes, eventually

VALUE = "x" * 100000
EXPIRING = 2000  # with long keys: more than is in the log's reserve
ENGINES_ON_DISK = ("lmdb", "rocksdb")


def cpu_seconds(daemon):
    """What the process has used so far."""
    with open(f"/proc/{daemon.process.pid}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def put(client, key, value=VALUE, **options):
    """Whether there was room."""
    try:
        client.call("put", key, value, *([options] if options else []))
    except CubbyError as error:
        if error.code != "storage_full":
            raise
        return False
    return True


def fill(client, most):
    """Puts f0, f1… until there is no room; how many fit."""
    for number in range(most):
        if not put(client, f"f{number}"):
            return number
    raise AssertionError(f"{most} values of {len(VALUE)} bytes fit")


class Full:
    """What holds in both cases; `client` talks to a daemon that is full with `count` values."""

    def check_full(self, client, count):
        seq = client.call("hello")["seq"]
        self.assertFalse(put(client, "more"))
        with self.assertRaises(CubbyError) as caught:
            client.batch(["put", "small", 1], ["delete", "f0"], ["put", "more", VALUE * 3])
        self.assertEqual(caught.exception.code, "storage_full")
        self.assertEqual(client.call("hello")["seq"], seq)
        self.assertEqual(client.call("get", "f0")[0], VALUE)
        self.assertIsNone(client.call("get", "small"))
        self.assertEqual(client.call("count"), count)
        self.assertEqual(client.call("scan", {"limit": 2, "keys_only": True})["entries"],
                         ["f0", "f1"])
        self.assertEqual(client.call("changes", {"since": seq})["changes"], [])
        self.assertIs(client.call("delete", "f0"), True)
        self.assertEqual(client.call("delete_range", {"start": "f1", "end": "f1\0"}),
                         {"deleted": 1, "more": False})
        self.assertIsNone(client.call("get", "f0"))

    def check_space_comes_last(self, client):
        with self.assertRaises(CubbyError) as caught:
            client.call("put", "f5", VALUE, {"if_version": 0})
        self.assertEqual(caught.exception.code, "conflict")
        with self.assertRaises(CubbyError) as caught:
            client.call("put", "more", VALUE, {"typo": 0})
        self.assertEqual(caught.exception.code, "bad_request")
        with self.assertRaises(CubbyError) as caught:
            client.call("increment", "f5")
        self.assertEqual(caught.exception.code, "wrong_type")


class Memory(Full, unittest.TestCase):
    def test_at_the_memory_limit_writes_are_refused_and_deletes_make_room(self):
        with Daemon("--memory-limit", "8M") as daemon, Client(daemon) as client:
            count = fill(client, 200)
            self.assertGreater(count * len(VALUE), 4 * MIB)
            self.assertLessEqual(client.call("stats")["memory"], 9 * MIB)
            self.check_space_comes_last(client)
            self.check_full(client, count)
            client.call("delete_range", {"prefix": "f"})
            self.assertTrue(put(client, "again"))
            self.assertLess(client.call("stats")["memory"], 4 * MIB)

    def test_at_the_memory_limit_what_takes_no_more_room_is_carried_out(self):
        with Daemon("--memory-limit", "8M") as daemon, Client(daemon) as client:
            client.call("put", "number", 1)
            count = fill(client, 200)
            while put(client, f"s{client.call('hello')['seq']}", "y" * 1000):
                pass
            seq = client.call("hello")["seq"]
            for call in (lambda: client.call("put", "f0", VALUE + "longer" * 1000),
                         lambda: client.call("put", "new", "y" * 1000, {"ttl": 1000000}),
                         lambda: client.batch(["put", "f0", "short"], ["put", "new", VALUE * 2])):
                with self.assertRaises(CubbyError) as caught:
                    call()
                self.assertEqual(caught.exception.code, "storage_full")
            with self.assertRaises(CubbyError) as caught:
                client.batch(["get", "f0"], ["put", "new", VALUE])
            self.assertEqual(caught.exception.detail, {"index": 1})
            self.assertEqual(client.call("hello")["seq"], seq)
            self.assertTrue(put(client, "f0", VALUE[::-1]))
            self.assertEqual(client.call("increment", "number"), [2, seq + 2])
            self.assertIs(client.call("touch", "f1", 1000000), True)
            client.batch(["delete", "f2"], ["put", "new", VALUE])
            self.assertEqual(client.call("get", "new")[0], VALUE)
            self.assertEqual(client.call("count", {"prefix": "f"}), count - 1)
            self.assertFalse(put(client, "more"))

    def test_what_is_over_the_limit_at_a_start_is_kept(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                for number in range(50):
                    self.assertTrue(put(client, f"f{number}"))
            daemon.stop()
            with Daemon("--memory-limit", "1M", data=daemon.data) as small, \
                    Client(small) as client:
                self.check_full(client, 50)

    def test_a_key_that_expires_makes_room(self):
        with Daemon("--memory-limit", "4M") as daemon, Client(daemon) as client:
            while put(client, f"f{client.call('hello')['seq']}", ttl=1000):
                pass
            eventually(lambda: client.call("count") == 0, "all expire")
            eventually(lambda: put(client, "again"), "room")


class SmallDisk:
    """A disk of its own, `directory`, that can be filled and can grow."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cubby-")
        self.filler = os.path.join(self.directory, "filler")
        self.addCleanup(os.rmdir, self.directory)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48M", "cubby-test", self.directory],
            capture_output=True, check=False, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", self.directory], check=True)

    def grow(self, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", self.directory], check=True)

    def fill_up(self):
        """How many bytes that took."""
        with open(self.filler, "ab", buffering=0) as file:
            before = file.tell()
            try:
                while file.write(bytes(MIB)):
                    pass
            except OSError:
                pass
            return file.tell() - before


class Disk(SmallDisk, Full, unittest.TestCase):
    def test_at_the_end_of_the_disk_writes_are_refused_and_space_brings_them_back(self):
        with Daemon(data=self.directory + "/data") as daemon:
            with Client(daemon) as client:
                count = fill(client, 1000)
                self.assertGreater(count, 50)
                self.check_space_comes_last(client)
                self.check_full(client, count)
                for number in range(2, 40):
                    self.assertIs(client.call("delete", f"f{number}"), True)
                self.grow("160M")
                eventually(lambda: put(client, "again"), "writes work again")
                seq = client.call("hello")["seq"]
                self.assertEqual([change[0] for change in all_changes(client)][-1], seq)
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("hello")["seq"], seq)
                self.assertEqual(client.call("count"), count - 40 + 1)
                self.assertEqual(client.call("get", "again")[0], VALUE)

    def test_keys_that_expire_are_absent_cost_nothing_and_go_once_there_is_room(self):
        for ttl in (5000, 20000, 80000):  # the disk is to be full before the first expires
            with Daemon(data=f"{self.directory}/{ttl}") as daemon, Client(daemon) as client:
                client.batch(*(["put", f"k{number}".ljust(1000), 1, {"ttl": ttl}]
                               for number in range(EXPIRING)))
                count = fill(client, 1000)
                if client.call("count") == count + EXPIRING:
                    self.check_expiry_waits(daemon, client, count)
                    return
            shutil.rmtree(daemon.data)
        self.fail("the disk was not filled in time")

    def check_expiry_waits(self, daemon, client, count):
        eventually(lambda: client.call("count") == count, "all are absent", 100)
        self.assertLess(client.call("stats")["expired"], EXPIRING)
        before = cpu_seconds(daemon)
        time.sleep(2)  # a daemon that did not wait would work all the while
        self.assertLess(cpu_seconds(daemon) - before, 0.5)
        self.grow("160M")
        eventually(lambda: client.call("stats")["expired"] == EXPIRING, "all are gone")
        self.assertEqual(client.call("count"), count)

    def test_a_daemon_that_is_killed_while_the_disk_is_full_starts_again(self):
        with Daemon(data=self.directory + "/data") as daemon:
            with Client(daemon) as client:
                count = fill(client, 1000)
                seq = client.call("hello")["seq"]
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual((client.call("count"), client.call("hello")["seq"]), (count, seq))
                self.assertIs(client.call("delete", "f0"), True)
            daemon.stop()
            self.grow("160M")
            daemon.start()
            with Client(daemon) as client:
                eventually(lambda: put(client, "again"), "writes work again")

    def test_a_directory_without_room_for_a_log_is_refused_or_serves_reads(self):
        self.fill_up()
        daemon = Daemon(data=self.directory + "/data")
        self.addCleanup(daemon.clean)
        daemon.spawn()
        line = daemon.wait_for_line("cubbyd: ")
        if line.startswith("cubbyd: ready"):
            return
        self.assertEqual(daemon.wait(), 1)
        self.assertEqual(len(daemon.lines), 1, daemon.stderr)

    def test_an_engine_without_room_for_its_files_keeps_what_is_committed_until_there_is(self):
        for engine in ENGINES_ON_DISK:
            with self.subTest(engine=engine):
                self.grow("200M")
                self.engine_runs_out(engine)

    def engine_runs_out(self, engine):
        """The log has room in its segment, the engine has not."""
        randomness = random.Random(1)
        values = [randomness.randbytes(20000) for _ in range(1000)]
        with Daemon("--engine", engine, "--memory-limit", "16M",
                    data=f"{self.directory}/{engine}") as daemon:
            with Client(daemon) as client:
                eventually(lambda: self.fill_up() == 0, "the log has prepared its segments")
                os.truncate(self.filler, os.path.getsize(self.filler) - MIB)
                count = 0
                while put(client, f"f{count}", values[count]):
                    count += 1
                self.assertGreater(count, 20)
                self.assertIs(client.call("delete", "f0"), True)
                self.assertEqual(client.call("get", "f1")[0], values[1])
                self.assertFalse(put(client, "f0"))
                self.assertEqual(client.call("count"), count - 1)
                os.unlink(self.filler)
                eventually(lambda: put(client, "f0"), "writes work again")
                client.call("checkpoint")
                seq = client.call("hello")["seq"]
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("hello")["seq"], seq)
                self.assertEqual(client.call("count"), count)
                for number in range(1, count):
                    self.assertEqual(client.call("get", f"f{number}")[0], values[number])
            daemon.stop()


if __name__ == "__main__":
    unittest.main()
