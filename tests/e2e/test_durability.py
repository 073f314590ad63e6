"""What survives: restarts, kills, torn and damaged logs, locks, epochs."""

import os
import random
import re
import shutil
import tempfile
import threading
import unittest

from harness import LONG, Client, Daemon, all_changes, eventually, result_of, run, seeded, unpack

ROUNDS = 60 if LONG else 6
OFFSETS = 200 if LONG else 14


def contents(client):
    """Everything that a client can see of the state and its history."""
    hello = client.call("hello")
    entries, after = [], {}
    while True:
        page = client.call("scan", {"limit": 10000, **after})
        entries += page["entries"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    return {
        "entries": entries,
        "changes": all_changes(client, hello["oldest"] - 1, limit=10000),
        **{name: hello[name] for name in ("seq", "oldest", "epoch")},
    }


def some(randomness, start, end):
    """OFFSETS of them, or all where there are no more."""
    return randomness.sample(range(start, end), min(OFFSETS, end - start))


class Restart(unittest.TestCase):
    def test_a_restart_keeps_everything(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.batch(*(["put", f"key{number}", {"n": number}] for number in range(500)))
                client.call("increment", "counter", 10**12)
                client.call("put", b"\xff\0", None, {"ttl": 10**9})
                client.call("delete_range", {"prefix": "key1"})
                client.call("touch", "key2", 10**9)
                before = contents(client)
            for end in (daemon.stop, daemon.kill, daemon.stop):
                end()
                daemon.start()
                with Client(daemon) as client:
                    self.assertEqual(contents(client), before)

    def test_an_empty_store_restarts_as_one(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                before = contents(client)
            for end in (daemon.stop, daemon.kill):
                end()
                daemon.start()
                with Client(daemon) as client:
                    self.assertEqual(contents(client), before)

    def test_seqs_go_on_where_they_were(self):
        with Daemon() as daemon:
            for turn in range(4):
                with Client(daemon) as client:
                    self.assertEqual(client.call("put", "key", turn), turn + 1)
                (daemon.kill if turn % 2 else daemon.stop)()
                daemon.start()

    def test_a_deleted_key_stays_deleted(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
                client.call("delete", "key")
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertIsNone(client.call("get", "key"))
                self.assertEqual(client.call("hello")["seq"], 2)

    def test_large_batches_survive_a_kill(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                for turn in range(3):
                    client.batch(*(["put", f"{turn}/{number:05}", "x" * 100]
                                   for number in range(10000)))
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("count"), 30000)
                self.assertEqual(client.call("hello")["seq"], 3)


class Writer(threading.Thread):
    """Writes without end until the daemon is gone: single keys and batches, many outstanding.

    `written[n]` is the version that the daemon acknowledged for write n; a write whose reply did
    not come may have been carried out.
    """

    WINDOW = 32
    BATCH = 5

    def __init__(self, daemon, name, first):
        super().__init__(daemon=True)
        self.name, self.next = name, first
        self.written = {}
        self.failure = None
        self.stopping = threading.Event()
        self.client = Client(daemon)

    def run(self):
        try:
            self.write()
        except AssertionError as failure:
            self.failure = failure
        finally:
            self.client.close()

    def write(self):
        outstanding = []
        while not self.stopping.is_set():
            while len(outstanding) < self.WINDOW:
                self.send(self.next)
                outstanding.append(self.next)
                self.next += 1
            if self.client.socket.poll(10):
                number = outstanding.pop(0)
                self.note(number, unpack(result_of(self.client.receive_payload(), number)))
        while outstanding and self.client.socket.poll(50):  # what was sent before the kill
            number = outstanding.pop(0)
            self.note(number, unpack(result_of(self.client.receive_payload(), number)))

    def send(self, number):
        if number % 3:
            self.client.send_request(number, "put", self.key(number), number)
        else:
            self.client.send_request(number, "batch", [
                ["put", [f"{self.key(number)}/{part}", number]] for part in range(self.BATCH)])

    def note(self, number, result):
        self.written[number] = result if number % 3 else result["seq"]

    def key(self, number):
        return f"{self.name}/{number:08}"


class Kills(unittest.TestCase):
    WRITERS = 3

    def test_no_acknowledged_write_is_lost_and_no_batch_split(self):
        self.kill_again_and_again("always", keeps_epoch=True)

    def test_a_killed_daemon_loses_nothing_in_the_other_modes_either(self):
        # The system still has what was written; only the machine's failure would lose it.
        self.kill_again_and_again("none", keeps_epoch=False, rounds=2)
        self.kill_again_and_again("interval", keeps_epoch=False, rounds=2)

    def kill_again_and_again(self, durability, keeps_epoch, rounds=ROUNDS):
        randomness = seeded(self)
        with Daemon("--durability", durability) as daemon:
            first, acknowledged, epochs = 1, {}, set()
            for _ in range(rounds):
                writers = self.write_until_killed(daemon, randomness, first)
                first = max(writer.next for writer in writers)
                for writer in writers:
                    for number, version in writer.written.items():
                        acknowledged[writer.key(number)] = (number, version)
                daemon.start()
                with Client(daemon) as client:
                    state = contents(client)
                epochs.add(state["epoch"])
                self.check(state, acknowledged, whole_history=keeps_epoch)
            self.assertEqual(len(epochs), 1 if keeps_epoch else rounds)

    def write_until_killed(self, daemon, randomness, first):
        writers = [Writer(daemon, f"w{number}", first) for number in range(self.WRITERS)]
        enough = randomness.randrange(1, 1500)
        for writer in writers:
            writer.start()
        eventually(lambda: sum(len(writer.written) for writer in writers) >= enough
                   or any(writer.failure for writer in writers), "acknowledged writes")
        daemon.kill()
        for writer in writers:
            writer.stopping.set()
            writer.join()
            self.assertIsNone(writer.failure)
        return writers

    def check(self, state, acknowledged, whole_history):
        entries = {entry[0]: entry[1:3] for entry in state["entries"]}
        for key, (number, version) in acknowledged.items():
            names = [key] if number % 3 else [f"{key}/{part}" for part in range(Writer.BATCH)]
            for name in names:
                self.assertEqual(entries.get(name), [number, version], name)
        self.check_batches(entries)
        if not whole_history:
            self.assertEqual((state["oldest"], state["changes"]), (state["seq"] + 1, []))
            return
        seqs = [change[0] for change in state["changes"]]
        self.assertEqual(sorted(set(seqs)), list(range(1, state["seq"] + 1)))
        self.assertEqual(seqs, sorted(seqs))
        replayed = {change[4]: [change[5], change[0]] for change in state["changes"]}
        self.assertEqual(replayed, entries)

    def check_batches(self, entries):
        batches = {}
        for name, (number, version) in entries.items():
            if name.count("/") == 2:
                batches.setdefault(name.rsplit("/", 1)[0], []).append((number, version))
        for parts in batches.values():
            self.assertEqual(len(parts), Writer.BATCH)
            self.assertEqual(len(set(parts)), 1)


class Epochs(unittest.TestCase):
    def lives(self, *ends, data=None):
        """(hello, all changes) of a start, then of one after each end: ("stop" or "kill",
        durability of the run that ends). Each run writes one key."""
        found = []
        with tempfile.TemporaryDirectory(prefix="cubby-") as directory:
            for end, *options in [*ends, ("stop",)]:
                with Daemon(*options, data=data or directory + "/data") as daemon:
                    with Client(daemon) as client:
                        hello = client.call("hello")
                        changes = all_changes(client, hello["oldest"] - 1)
                        found.append((hello, changes))
                        client.call("put", "key", len(found))
                    getattr(daemon, end)()
        return found

    def assert_kept(self, before, after):
        self.assertEqual(after[0]["epoch"], before[0]["epoch"])
        self.assertEqual(after[0]["seq"], before[0]["seq"] + 1)
        self.assertEqual(after[0]["oldest"], before[0]["oldest"])

    def assert_changed(self, before, after):
        self.assertNotEqual(after[0]["epoch"], before[0]["epoch"])
        self.assertEqual(after[0]["seq"], before[0]["seq"] + 1)
        self.assertEqual(after[0]["oldest"], after[0]["seq"] + 1)
        self.assertEqual(after[1], [])

    def test_always_keeps_the_epoch_over_stop_and_kill(self):
        first, second, third = self.lives(("stop",), ("kill",))
        self.assert_kept(first, second)
        self.assert_kept(second, third)

    def test_interval_and_none_keep_it_over_a_stop_only(self):
        for durability in ("interval", "none"):
            option = ("--durability", durability)
            first, second, third, fourth = self.lives(
                ("stop", *option), ("kill", *option), ("stop", *option))
            self.assert_kept(first, second)
            self.assert_changed(second, third)
            self.assert_kept(third, fourth)

    def test_what_counts_is_the_durability_of_the_run_that_was_killed(self):
        first, second, third = self.lives(("kill",), ("kill", "--durability", "none"))
        self.assert_kept(first, second)
        self.assert_changed(second, third)

    def test_history_goes_on_after_a_new_epoch(self):
        first, second, third, fourth = self.lives(
            ("stop", "--durability", "none"), ("kill", "--durability", "none"), ("kill",))
        self.assert_changed(second, third)
        self.assert_kept(third, fourth)
        self.assertEqual([change[0] for change in fourth[1]], [3])
        self.assertEqual(first[0]["seq"], 0)

    def test_each_start_without_data_has_an_epoch_of_its_own(self):
        found = self.lives(("stop",), ("kill",), ("stop",), data="none")
        self.assertEqual(len({hello["epoch"] for hello, _ in found}), 4)
        self.assertEqual({(hello["seq"], hello["oldest"]) for hello, _ in found}, {(0, 1)})

    def test_a_new_data_directory_has_an_epoch_of_its_own(self):
        epochs = {self.lives()[0][0]["epoch"] for _ in range(5)}
        self.assertEqual(len(epochs), 5)


class Damage(unittest.TestCase):
    """Starts on copies of one data directory, whose log is damaged in each of them."""

    KEYS = 30

    @classmethod
    def setUpClass(cls):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        cls.directory = tempfile.mkdtemp(prefix="cubby-", dir=memory)
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.original = cls.directory + "/original"
        with Daemon(data=cls.original) as daemon:
            with Client(daemon) as client:
                for number in range(cls.KEYS):
                    client.call("put", cls.key(number), cls.value(number))
            daemon.kill()
        cls.file, cls.log = cls.find_log()

    @staticmethod
    def key(number):
        return f"key{number:05}"

    @staticmethod
    def value(number):
        return f"value-of-{number:05}-" + "v" * 100

    @classmethod
    def find_log(cls):
        """Name and content of the file with the last key."""
        for name in sorted(os.listdir(cls.original)):
            with open(os.path.join(cls.original, name), "rb") as file:
                content = file.read()
            if cls.key(cls.KEYS - 1).encode() in content:
                return name, content
        raise AssertionError("no file holds the last key")

    @classmethod
    def end_of(cls, number):
        """Offset behind the value of a key; its group ends at most 8 bytes later."""
        value = cls.value(number).encode()
        return cls.log.index(value) + len(value)

    def copy(self, damage):
        """A copy of the directory whose log went through damage(bytearray)."""
        directory = tempfile.mkdtemp(dir=self.directory)
        for name in os.listdir(self.original):
            if name != self.file:
                shutil.copy(os.path.join(self.original, name), directory)
        content = bytearray(self.log)
        damage(content)
        with open(os.path.join(directory, self.file), "wb") as file:
            for start in range(0, len(content), 65536):  # leaving holes where it is empty
                block = content[start:start + 65536]
                if any(block):
                    file.seek(start)
                    file.write(block)
            file.truncate(len(content))
        return directory

    def assert_starts(self, damage, keys, what):
        """It starts with that many of the keys, takes writes, and starts once more with them."""
        directory = self.copy(damage)
        try:
            with Daemon(data=directory) as daemon:
                with Client(daemon) as client:
                    state = contents(client)
                    left = len(state["entries"])
                    self.assertIn(left, keys, what)
                    self.assertEqual([entry[:2] for entry in state["entries"]], [
                        [self.key(number), self.value(number)] for number in range(left)], what)
                    self.assertEqual(state["seq"], left, what)
                    self.assertEqual(client.call("put", "new", 1), left + 1, what)
                daemon.kill()
                daemon.start()
                with Client(daemon) as client:
                    self.assertEqual(client.call("count"), left + 1, what)
        finally:
            shutil.rmtree(directory)

    def assert_refused(self, damage, what, offset):
        """It does not start, and names the file and a place at or before the damaged offset."""
        directory = self.copy(damage)
        try:
            status, out, err = run("--data", directory, "--listen", "tcp://127.0.0.1:*",
                                   "--publish", "tcp://127.0.0.1:*")
            self.assertEqual((status, out), (1, ""), (what, err))
            self.assertRegex(err, r"^cubbyd: [^\n]+\n$", what)
            self.assertIn(self.file, err, what)
            self.assertRegex(err, r"offset \d+", what)
            named = int(re.search(r"offset (\d+)", err).group(1))
            self.assertTrue(offset - 300 <= named <= offset, (what, err))
            with open(os.path.join(directory, self.file), "rb") as file:
                damaged = bytearray(self.log)
                damage(damaged)
                self.assertEqual(file.read(), bytes(damaged), "a refused log is left as it is")
        finally:
            shutil.rmtree(directory)

    def offsets_of_the_last_write(self, randomness):
        """From just behind the last but one write to the end of the last one."""
        start = self.end_of(self.KEYS - 2) + 8
        end = self.end_of(self.KEYS - 1)
        inside = some(randomness, start, end)
        return sorted({start, start + 1, end - 1, *inside})

    def test_an_undamaged_copy_starts(self):
        self.assert_starts(lambda log: None, [self.KEYS], "undamaged")

    def test_a_log_cut_off_in_its_last_write_loses_only_that(self):
        for offset in self.offsets_of_the_last_write(seeded(self)):
            def cut(log, offset=offset):
                del log[offset:]

            self.assert_starts(cut, [self.KEYS - 1], f"cut at {offset}")

    def test_a_last_write_that_is_partly_zeros_is_cut_off(self):
        for offset in self.offsets_of_the_last_write(seeded(self)):
            def clear(log, offset=offset):
                log[offset:] = bytes(len(log) - offset)

            self.assert_starts(clear, [self.KEYS - 1], f"zeros from {offset}")

    def test_garbage_from_somewhere_in_the_last_write_on_is_cut_off(self):
        randomness = seeded(self)
        for offset in self.offsets_of_the_last_write(randomness):
            def garble(log, offset=offset):
                log[offset:offset + 5000] = randomness.randbytes(5000)

            self.assert_starts(garble, [self.KEYS - 1], f"garbage from {offset}")

    def test_a_flipped_bit_in_the_last_write_cuts_it_off(self):
        randomness = seeded(self)
        start, end = self.end_of(self.KEYS - 2) + 8, self.end_of(self.KEYS - 1)
        for offset in sorted(some(randomness, start, end)):
            def flip(log, offset=offset):
                log[offset] ^= 1 << random.Random(offset).randrange(8)

            self.assert_starts(flip, [self.KEYS - 1], f"flipped at {offset}")

    def test_garbage_behind_the_last_write_is_cut_off(self):
        randomness = seeded(self)
        end = self.end_of(self.KEYS - 1) + 8
        for size in (1, 7, 64, 4096, 100000):
            for at in (end, end + 1, end + 4096):
                def garble(log, at=at, size=size):
                    log[at:at + size] = randomness.randbytes(size)

                self.assert_starts(garble, [self.KEYS], f"{size} bytes of garbage at {at}")

    def test_bytes_behind_the_end_of_the_file_do_not_matter(self):
        randomness = seeded(self)
        for size in (1, 4096, 70000):
            self.assert_starts(lambda log, size=size: log.extend(randomness.randbytes(size)),
                               [self.KEYS], f"{size} bytes appended")

    def test_a_flipped_bit_before_a_whole_write_is_refused(self):
        randomness = seeded(self)
        middle = self.log.index(self.key(10).encode())
        first = self.log.index(self.key(0).encode())
        end = self.end_of(self.KEYS - 2)
        for offset in sorted({first, middle, end - 1, *some(randomness, first, end)}):
            def flip(log, offset=offset):
                log[offset] ^= 1 << random.Random(offset).randrange(8)

            self.assert_refused(flip, f"flipped at {offset}", offset)

    def test_a_damaged_beginning_of_the_file_is_refused(self):
        first = self.log.index(self.key(0).encode())
        for offset in range(0, first, 1 if LONG else 5):
            def flip(log, offset=offset):
                log[offset] ^= 0xff

            self.assert_refused(flip, f"flipped at {offset}", offset)

    def test_a_hole_in_the_middle_is_refused(self):
        start = self.log.index(self.key(5).encode())
        end = self.log.index(self.key(20).encode())

        def clear(log):
            log[start:end] = bytes(end - start)

        self.assert_refused(clear, "zeros in the middle", start)

        def cut(log):
            del log[start:end]

        self.assert_refused(cut, "a part is missing", start)

    def test_what_a_client_stores_never_looks_like_the_log(self):
        # A copy of the log's own bytes as a value, then a torn end right behind its beginning.
        with Daemon(data=self.directory + "/copied") as daemon:
            with Client(daemon) as client:
                client.call("put", "first", 1)
                client.call("put", "log", self.log[:self.end_of(self.KEYS - 1) + 64])
            daemon.kill()
            path = os.path.join(daemon.data, self.file)
            with open(path, "r+b") as file:
                at = file.read().index(self.log[:200])
                file.seek(at - 30)
                file.write(b"\xff")
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("hello")["seq"], 1)


class Directories(unittest.TestCase):
    def refused(self, data, *about):
        status, out, err = run("--data", data, "--listen", "tcp://127.0.0.1:*",
                               "--publish", "tcp://127.0.0.1:*")
        self.assertEqual((status, out), (1, ""), err)
        self.assertRegex(err, r"^cubbyd: [^\n]+\n$")
        for word in about:
            self.assertIn(word, err)

    def test_a_second_daemon_is_told_who_holds_the_directory(self):
        with Daemon() as daemon:
            self.refused(daemon.data, daemon.data, str(daemon.process.pid))
            with Client(daemon) as client:
                self.assertEqual(client.call("put", "key", 1), 1)

    def test_the_lock_ends_with_its_daemon(self):
        with Daemon() as daemon:
            daemon.kill()
            with Daemon(data=daemon.data) as other, Client(other) as client:
                client.call("ping")
                self.refused(daemon.data, str(other.process.pid))

    def test_a_directory_that_cannot_be_written_is_refused(self):
        with tempfile.NamedTemporaryFile(prefix="cubby-") as file:
            self.refused(file.name, file.name)
            self.refused(file.name + "/data", file.name)
        self.refused("/proc/cubby", "/proc/cubby")

    def test_a_directory_is_made_with_those_above_it(self):
        with tempfile.TemporaryDirectory(prefix="cubby-") as directory, Daemon(
                data=directory + "/a/b/c") as daemon, Client(daemon) as client:
            client.call("put", "key", 1)
            self.assertTrue(os.path.isdir(directory + "/a/b/c"))

    def damaged_state(self, change, *about):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
            daemon.stop()
            path = os.path.join(daemon.data, "state")
            with open(path, "rb") as file:
                content = file.read()
            with open(path, "wb") as file:
                file.write(change(content))
            self.refused(daemon.data, daemon.data, *about)
            with open(path, "wb") as file:
                file.write(content)
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("get", "key")[0], 1)

    def test_a_directory_of_another_format_is_refused(self):
        self.damaged_state(lambda state: state.replace(b"format 1", b"format 9"), "format")

    def test_a_damaged_state_is_refused(self):
        self.damaged_state(lambda state: state[:len(state) // 2])
        self.damaged_state(lambda state: state.replace(b"epoch", b"ehcop"))
        self.damaged_state(lambda state: b"")
        self.damaged_state(lambda state: bytes(len(state)))

    def test_a_log_without_its_state_is_refused(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
            daemon.stop()
            os.rename(os.path.join(daemon.data, "state"), daemon.directory + "/state")
            self.refused(daemon.data, daemon.data)

    def test_a_state_without_its_log_is_never_the_same_history(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
                epoch = client.call("hello")["epoch"]
            daemon.stop()
            for name in os.listdir(daemon.data):
                if name.startswith("log-"):
                    os.unlink(os.path.join(daemon.data, name))
            daemon.spawn()
            if "ready" not in daemon.wait_for_line("cubbyd: "):
                self.assertEqual(daemon.wait(), 1)
                return
            with Client(daemon) as client:
                self.assertNotEqual(client.call("hello")["epoch"], epoch)


if __name__ == "__main__":
    unittest.main()
