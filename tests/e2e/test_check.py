"""cubbyd --check and --salvage: what they say of a directory, what they find of random damage, and
that what is saved is a prefix of history, which the model of workload.py judges."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import CUBBYD, LONG, MIB, Client, Daemon, eventually, pack, run, seeded
from test_checkpoints import checkpoint, checkpoints, put_many
from test_crash import engines
from workload import History, Load, observe

FLIPS = 400 if LONG else 20  # of each engine
LENGTHS = 200 if LONG else 12
QUIET = ("--log-retain", "1K", "--checkpoint-size", "0", "--checkpoint-interval", "0")


def check(directory):
    """Status, and the report as [(what a line is about, the rest of it)]."""
    status, out, err = run("--check", directory)
    about, lines = "", []
    for line in out.splitlines():
        about = line[:12].strip() or about
        lines.append((about, line[13:]))
    return status, lines, err


def told(lines, about):
    return [text for word, text in lines if word == about]


def digest(directory):
    """{path: (time, hash)} of all files below."""
    found = {}
    for place, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[path] = (os.stat(path).st_mtime_ns, hashlib.sha1(file.read()).hexdigest())
    return found


def files_of(directory):
    return sorted(digest(directory))


def used_size(path):
    """Up to the last byte that is not zero."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


@contextlib.contextmanager
def flipped(path, offset, bit):
    """One bit of a file is another, for a time."""
    def flip():
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1 << bit]))
    flip()
    try:
        yield
    finally:
        flip()


class DirectoryTest(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="cubby-check-")
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.data = os.path.join(self.root, "data")
        self.copy = os.path.join(self.root, "copy")
        self.saved = os.path.join(self.root, "saved")

    def filled(self, engine, randomness, transactions=400):
        """A directory with a random history, left by a kill: checkpoints, and log behind them."""
        history = History()
        with Daemon("--engine", engine, *QUIET, data=self.data) as daemon:
            load = Load(daemon, history, randomness, fleeting=False, others=0)
            for step in range(3):
                enough = load.replies + transactions // 3  # more of them each time: a checkpoint
                load.run(lambda enough=enough: load.replies >= enough)  # of nothing new is none
                load.finish()
                if step < 2:
                    with Client(daemon) as client:
                        checkpoint(client)
            daemon.kill()
            load.close()
        self.settle(history, engine)
        return history

    def settle(self, history, engine):
        self.take_copy()
        with Daemon("--engine", engine, data=self.copy) as daemon, Client(daemon) as client:
            history.settle(observe(client))

    def take_copy(self):
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.data, self.copy)

    def salvage(self, directory, status=0):
        """What it printed."""
        shutil.rmtree(self.saved, ignore_errors=True)
        found, out, err = run("--salvage", directory, "--data", self.saved)
        self.assertEqual(found, status, out + err)
        return out + err

    def judge(self, directory, history):
        """A start on the directory has a prefix of history; its seq."""
        with Daemon(data=directory) as daemon, Client(daemon) as client:
            seen = observe(client)
            self.assertEqual(seen["entries"], history.as_of(seen["seq"]), f"as of {seen['seq']}")
            self.assertEqual(client.call("put", "after", 1), seen["seq"] + 1)
            daemon.stop()
        return seen["seq"]


class Reports(DirectoryTest):
    def test_a_check_says_what_each_engine_keeps_and_changes_nothing(self):
        randomness = seeded(self)
        for engine in engines():
            with self.subTest(engine=engine):
                history = self.filled(engine, randomness)
                before = digest(self.data)
                status, lines, err = check(self.data)
                self.assertEqual((status, err), (0, ""), lines)
                self.assertEqual(told(lines, "engine"), [engine])
                self.assertEqual(told(lines, "verdict"), ["good"])
                self.assertEqual(told(lines, "last run"),
                                 ["durability always, did not stop cleanly"])
                self.assertRegex(told(lines, "newest")[0], rf"^seq {history.seq}, 2")
                self.assertIn(f"keys: {len(history.model.entries)}", told(lines, "table"))
                jobs = sum(len(jobs) for jobs in history.model.jobs.values())
                self.assertGreater(jobs, 0)
                self.assertIn(f"jobs: {jobs}", told(lines, "table"))
                self.assertRegex(told(lines, "log")[0], r"^log-\d+: groups \d+ to \d+, seqs \d+ to")
                self.assertEqual(digest(self.data), before)
                shutil.rmtree(self.data)

    def test_the_oldest_seq_epoch_and_count_are_those_of_the_daemon(self):
        with Daemon(*QUIET) as daemon:
            with Client(daemon) as client:
                for number in range(6):
                    put_many(client, 0, 2000, "x" * 2000)
                    checkpoint(client)
                    client.call("put", f"another {number}", 1, {"ttl": 10**9})
                put_many(client, 0, 100)
                hello = client.call("hello")
                count = client.call("count")
            daemon.stop()
            status, lines, _ = check(daemon.data)
            self.assertEqual(status, 0, lines)
            self.assertEqual(told(lines, "oldest"), [f"seq {hello['oldest']}"])
            self.assertEqual(told(lines, "epoch"), [hello["epoch"]])
            self.assertEqual(told(lines, "last run"), ["durability always, stopped cleanly"])
            self.assertIn(f"keys: {count}", told(lines, "table"))
            self.assertIn("expiry: 6", told(lines, "table"))

    def test_what_a_daemon_has_is_left_to_it(self):
        with Daemon() as daemon:
            for option in (["--check"], ["--data", self.saved, "--salvage"]):
                status, out, err = run(*option, daemon.data)
                self.assertEqual((status, out), (1, ""))
                self.assertRegex(err, r"^cubbyd: the data directory [^\n]* is in use by process "
                                      rf"{daemon.process.pid}\b[^\n]*\n$")
            self.assertFalse(os.path.exists(self.saved))

    def test_what_is_no_data_directory_is_refused_with_a_line(self):
        os.mkdir(self.data)
        for directory in ("/nonexistent/data", self.data, CUBBYD):
            for option in (["--check"], ["--data", self.saved, "--salvage"]):
                status, out, err = run(*option, directory)
                self.assertEqual((status, out), (1, ""), err)
                self.assertRegex(err, r"^cubbyd: [^\n]+\n$")
        self.assertEqual(os.listdir(self.data), [])

    def test_wrong_usage(self):
        file = os.path.join(self.root, "config")
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(f"check = \"{self.data}\"\n")
        for options in (["--check"], ["--check", ""], ["--check", "a", "--check", "b"],
                        ["--check", "a", "--data", "b"], ["--check", "a", "--engine", "memory"],
                        ["--check", "a", "--salvage", "b"], ["--check", "a", "--restore", "b"],
                        ["--salvage"], ["--salvage", "a"], ["--salvage", "a", "--data", "none"],
                        ["--salvage", "a", "--data", "b", "--restore", "c"],
                        ["--salvage", "a", "--data", "b", "--durability", "none"],
                        ["--salvage", "a", "--data", "b", "--engine", "nonesuch"],
                        ["--config", file]):
            with self.subTest(options):
                status, out, err = run(*options)
                self.assertEqual((status, out), (2, ""))
                self.assertRegex(err, r"^cubbyd: [^\n]+\n$")

    def test_a_check_works_on_a_medium_that_cannot_be_written_to(self):
        randomness = seeded(self)
        os.mkdir(self.copy)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400M", "cubby-test",
                                  self.copy], capture_output=True, check=False, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"nothing can be mounted: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", self.copy], check=True)
        for engine in engines():
            with self.subTest(engine=engine):
                history = History()
                self.data = os.path.join(self.copy, engine)
                with Daemon("--engine", engine, *QUIET, data=self.data) as daemon:
                    load = Load(daemon, history, randomness, fleeting=False)
                    load.run(lambda load=load: load.replies >= 50)
                    load.finish()
                    load.close()
                    daemon.kill()
                subprocess.run(["mount", "-o", "remount,ro", self.copy], check=True)
                status, lines, err = check(self.data)
                subprocess.run(["mount", "-o", "remount,rw", self.copy], check=True)
                self.assertEqual((status, err), (0, ""), lines)

    def test_what_takes_long_says_how_far_it_is(self):
        with Daemon(*QUIET) as daemon:
            with Client(daemon) as client:
                put_many(client, 0, 3000, "x" * 20000)
            daemon.kill()
            randomness = seeded(self)

            def is_told():
                return self.slow_check(daemon.data, randomness.uniform(0, 0.1))
            eventually(is_told, "a line of progress")

    def slow_check(self, directory, delay_s):
        """A check that is stopped for a second. Whether it said how far it was."""
        with subprocess.Popen([CUBBYD, "--check", directory], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            time.sleep(delay_s)
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(1.1)
            os.killpg(process.pid, signal.SIGCONT)
            _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        return re.search(r"(?m)^cubbyd: reading the log: \d+ of \d+ MiB$", err) is not None


class Salvages(DirectoryTest):
    def test_a_good_directory_is_copied_whole_with_its_jobs_under_a_new_epoch(self):
        randomness = seeded(self)
        for engine in engines():
            with self.subTest(engine=engine):
                history = self.filled(engine, randomness)
                before = digest(self.data)
                out = self.salvage(self.data)
                self.assertIn(f"everything up to seq {history.seq}, ", out)
                self.assertEqual(digest(self.data), before)
                with Daemon(data=self.saved) as daemon, Client(daemon) as client:
                    _, lines, _ = check(self.data)
                    self.assertNotIn(client.call("hello")["epoch"], told(lines, "epoch"))
                self.assertEqual(self.judge(self.saved, history), history.seq)
                shutil.rmtree(self.data)

    def test_a_salvage_goes_into_a_new_directory_only(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
            daemon.stop()
            before = digest(daemon.data)
            inside = os.path.join(daemon.data, "inside")
            for place in (daemon.data, inside, self.root):
                with open(os.path.join(self.root, "file"), "w", encoding="utf-8"):
                    pass
                status, out, err = run("--salvage", daemon.data, "--data", place)
                self.assertEqual((status, out), (1, ""), err)
                self.assertRegex(err, r"^cubbyd: [^\n]+\n$")
            self.assertEqual(digest(daemon.data), before)
            self.assertFalse(os.path.exists(inside))

    def test_the_other_engine_can_be_asked_for(self):
        randomness = seeded(self)
        history = self.filled("memory", randomness, 100)
        status, out, err = run("--salvage", self.data, "--data", self.saved, "--engine", "lmdb")
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("engine lmdb", out)
        self.assertEqual(self.judge(self.saved, history), history.seq)

    def test_a_log_cut_at_any_length_is_checked_started_and_salvaged_alike(self):
        randomness = seeded(self)
        history = self.filled("memory", randomness, 150)
        newest = max(path for path in files_of(self.data) if "/log-" in path and used_size(path))
        end = used_size(newest)
        state = int(re.search(r"seq (\d+)", told(check(self.data)[1], "checkpoint")[0]).group(1))
        whole = os.path.getsize(newest)
        self.assertGreater(whole, end)
        for size in [0, 1, 63, 64, 65, end - 1, end, *(randomness.randrange(end)
                                                       for _ in range(LENGTHS))]:
            with self.subTest(size=size):
                self.take_copy()
                os.truncate(os.path.join(self.copy, os.path.basename(newest)), size)
                status, lines, _ = check(self.copy)
                seq = int(re.match(r"seq (\d+)", told(lines, "newest")[0]).group(1))
                self.assertIn(f"everything up to seq {seq}, ", self.salvage(self.copy))
                self.assertEqual(self.judge(self.saved, history), seq)
                self.assertGreaterEqual(seq, state)
                if status == 0:
                    self.assertEqual(self.judge(self.copy, history), seq)
                else:  # the checkpoint has what the log lacks
                    self.refused(self.copy, os.path.basename(newest))

    def refused(self, directory, name):
        daemon = Daemon(data=directory)
        try:
            daemon.spawn()
            line = daemon.wait_for_line("cubbyd: ")
            self.assertEqual(daemon.wait(), 1)
            self.assertRegex(line, rf"{re.escape(name)} is damaged at offset \d+.*--salvage")
        finally:
            daemon.clean()

    def test_damage_that_the_checkpoint_covers_costs_history_only(self):
        randomness = seeded(self)
        history = self.filled("memory", randomness)
        log = next(path for path in files_of(self.data) if "/log-" in path)
        with flipped(log, used_size(log) // 10, 3):
            status, lines, _ = check(self.data)
            self.assertEqual(status, 1)
            self.assertRegex(told(lines, "damaged")[0], r"log-\d+ is damaged at offset \d+")
            self.assertIn("--salvage", told(lines, "to do")[0])
            out = self.salvage(self.data)
            self.assertIn("is damaged at offset", out)
        self.assertEqual(self.judge(self.saved, history), history.seq)

    def test_where_nothing_can_be_saved_it_says_why(self):
        with Daemon(*QUIET) as daemon:
            with Client(daemon) as client:
                for _ in range(6):
                    put_many(client, 0, 2000, "x" * 2000)
                    checkpoint(client)
                eventually(lambda: client.call("stats")["oldest"] > 1, "the log is trimmed")
            daemon.stop()
            with contextlib.ExitStack() as stack:
                for file in checkpoints(daemon):
                    stack.enter_context(flipped(file, 100, 0))
                out = self.salvage(daemon.data, status=1)
                for file in checkpoints(daemon):
                    self.assertIn(f"{os.path.basename(file)} is damaged at offset 64", out)
                self.assertRegex(out, r"nothing in [^\n]* can be saved")
            self.assertFalse(os.path.exists(self.saved))


class LmdbFiles(DirectoryTest):
    """What LMDB itself does not look at."""

    def stored(self, **entries):
        with Daemon("--engine", "lmdb", data=self.data) as daemon:
            with Client(daemon) as client:
                for key, value in entries.items():
                    client.call("put", key, value)
            daemon.stop()
        return os.path.join(self.data, "lmdb", "data.mdb")

    def test_a_value_that_is_no_messagepack_is_damage_and_a_salvage_leaves_it_out(self):
        path = self.stored(good="kept", bad="some text")
        with open(path, "r+b") as file:
            content = file.read()
            self.assertIn(pack("some text"), content)
            file.seek(0)
            file.write(content.replace(pack("some text"), b"\xa7some text"))  # shorter than there is
        for log in os.listdir(self.data):  # or a salvage has all from there
            if log.startswith("log-"):
                with open(os.path.join(self.data, log), "r+b") as file:
                    file.seek(100)
                    file.write(b"damage")
        status, lines, _ = check(self.data)
        said = "lmdb is damaged: in table keys, bad: its value is none: it is not one whole MessagePack object"
        self.assertEqual(status, 1)
        self.assertIn(said, told(lines, "damaged"))
        self.assertIn(said, self.salvage(self.data, status=1))
        with Daemon(data=self.saved) as daemon, Client(daemon) as client:
            self.assertEqual(client.call("get", "good")[0], "kept")
            self.assertIsNone(client.call("get", "bad"))

    def test_a_large_value_that_only_the_log_has_is_none_of_these(self):
        for engine in ("memory", "lmdb"):
            with Daemon("--engine", engine, data=self.data) as daemon:
                with Client(daemon) as client:
                    client.call("put", "large", "x" * 100000)
                daemon.kill()
            status, lines, err = check(self.data)
            self.assertEqual((status, told(lines, "verdict"), err), (0, ["good"], ""), lines)
            shutil.rmtree(self.data)

    def test_a_file_that_ends_too_soon_is_named_by_check_and_start(self):
        path = self.stored(**{f"key{number}": "x" * 3000 for number in range(100)})
        size = os.path.getsize(path)
        for cut in (1, 4096, size // 2):
            os.truncate(path, size - cut)
            said = f"{path} is damaged at offset {size - cut}: it ends there"
            status, lines, err = check(self.data)
            self.assertEqual((status, err), (1, ""))
            self.assertTrue(told(lines, "damaged")[0].startswith(said), lines)
            status, _, err = run("--data", self.data, "--listen", f"ipc://{self.root}/r",
                                 "--publish", f"ipc://{self.root}/p")
            self.assertEqual(status, 1)
            self.assertTrue(err.startswith("cubbyd: " + said), err)

    def test_a_file_that_is_cut_under_a_daemon_ends_it_with_a_line(self):
        with Daemon("--engine", "lmdb", data=self.data) as daemon:
            with Client(daemon) as client:
                for number in range(100):
                    client.call("put", f"key{number}", "x" * 3000)
                checkpoint(client)
                os.truncate(os.path.join(self.data, "lmdb", "data.mdb"), 8192)
                client.send_request(1, "get", "key50")
                daemon.wait_for_line("cubbyd: a mapped file cannot be read (SIGBUS)")
                self.assertEqual(daemon.wait(), -signal.SIGBUS)


class Flips(DirectoryTest):
    """One bit, anywhere in any file."""

    def test_random_flips_are_found_and_what_is_salvaged_is_a_prefix(self):
        randomness = seeded(self)
        for engine in engines():
            history = self.filled(engine, randomness)
            good = files_of(self.data)
            for number in range(FLIPS):
                path = randomness.choice(self.interesting(good))
                offset = randomness.randrange(max(1, used_size(path)))
                bit = randomness.randrange(8)
                name = os.path.relpath(path, self.data)
                with self.subTest(engine=engine, number=number, name=name, offset=offset, bit=bit):
                    with flipped(path, offset, bit):
                        self.look(name, history)
            shutil.rmtree(self.data)

    def interesting(self, files):
        return [path for path in files if used_size(path) > 0 and not path.endswith(("/lock", ".tmp"))]

    def look(self, name, history):
        before = digest(self.data)
        status, lines, err = check(self.data)
        self.assertEqual(digest(self.data), before)
        self.assertIn(status, (0, 1))
        if name.startswith("log-"):
            found = told(lines, "damaged") + told(lines, "torn end") + told(lines, "end")
            self.assertIn(name, "\n".join(found), "not found")
            self.look_at_start(status, history)
        elif name.startswith("checkpoint-"):
            self.assertEqual(status, 1)
            self.assertRegex("\n".join(told(lines, "damaged")) + err, f"{name} (is damaged|has)")
        elif name == "state":
            self.assertEqual(status, 1)
            self.assertIn("state is damaged", "\n".join(told(lines, "damaged")))
        self.look_at_salvage(name, lines, history)

    def look_at_start(self, status, history):
        """A damaged log is refused with file and offset, a torn end is cut."""
        self.take_copy()
        daemon = Daemon(data=self.copy)
        try:
            daemon.spawn()
            line = daemon.wait_for_line("cubbyd: ")
            if "cubbyd: ready" in line:
                self.assertEqual(status, 0, line)
                daemon.kill()
                self.judge(self.copy, history)
            else:
                self.assertEqual((daemon.wait(), status), (1, 1), line)
                self.assertRegex(line, r"log-\d+ is damaged at offset \d+")
        finally:
            daemon.clean()

    def look_at_salvage(self, name, lines, history):
        """LMDB has no checksums: what is in its file may be wrong, or end the one who reads it."""
        shutil.rmtree(self.saved, ignore_errors=True)
        status, out, err = run("--salvage", self.data, "--data", self.saved)
        self.assertIn(status, (0, 1), err)
        if status == 1:
            self.assertTrue(name.startswith(("lmdb", "rocksdb", "checkpoint-")), out + err)
            return
        if name.startswith("lmdb"):
            return
        seq = self.judge(self.saved, history)
        self.assertIn(f"everything up to seq {seq}, ", out)
        if told(lines, "newest"):
            self.assertIn(f"seq {seq}, ", told(lines, "newest")[0])
        if not name.startswith("log-"):
            self.assertEqual(seq, history.seq)


if __name__ == "__main__":
    unittest.main()
