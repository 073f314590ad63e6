"""cubbyd --salvage of directories with flipped bytes: what comes of it is good, and its queues work."""

import os
import re
import shutil
import unittest

from harness import LONG, Client, Daemon, run, seeded
from test_check import DirectoryTest, QUIET, check, files_of, told, used_size
from test_checkpoints import checkpoint, put_many

JOBS = 1500
QUEUES = ("mail", "thumbs", "late")
ROUNDS = 40 if LONG else 6  # of each engine


def fill(client):
    """Jobs in every state, in numbers that fill many pages; {id: (queue, body)}."""
    pushed = {}
    client.call("queue.configure", "mail", {"lease": 10**8, "dedup_window": 10**9})
    for number in range(JOBS):
        queue = QUEUES[number % len(QUEUES)]
        options = {"priority": number % 5} if number % 4 == 0 else {}
        options |= {"delay": 10**8} if number % 7 == 0 else {}
        options |= {"ttl": 10**9} if number % 6 == 0 else {}
        options |= {"id": f"order-{number}"} if number % 3 == 0 else {}
        body = f"{number} " * (number % 40)
        job = client.call("queue.push", queue, body, options)[0]
        pushed[job] = (queue, body)
    for number in range(JOBS // 5):
        ((job, _, _, lease, *_),) = client.call("queue.reserve", "mail")
        if number % 3 == 0:
            client.call("queue.bury", job, lease, {"error": "it does not work"})
        elif number % 3 == 1:
            client.call("queue.ack", job, lease)
            del pushed[job]
    return pushed


def flip(path, offset, bit):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


class Queues(DirectoryTest):
    def filled_queues(self, engine):
        """A directory whose log does not go back to its first write."""
        with Daemon("--engine", engine, "--durability", "none", *QUIET, data=self.data) as daemon:
            with Client(daemon) as client:
                pushed = fill(client)
                checkpoint(client)
                client.call("queue.push", "mail", "behind the checkpoint")
            daemon.kill()
        log = min(path for path in files_of(self.data) if "/log-" in path)
        flip(log, 100, 0)
        self.take_copy()
        return pushed

    def peek_all(self, client):
        """{id: (queue, body, state)}; no job is there twice."""
        seen = {}
        for queue in client.call("queue.list"):
            counts = client.call("queue.stats", queue)
            for state in ("ready", "delayed", "leased", "dead"):
                rows = self.peek(client, queue, state)
                self.assertEqual(len(rows), counts[state], (queue, state))
                for row in rows:
                    self.assertNotIn(row["id"], seen)
                    seen[row["id"]] = (queue, row["body"], state)
        return seen

    def peek(self, client, queue, state):
        rows, place = [], None
        while True:
            options = {"state": state, "limit": 500}
            if place is not None:
                options["after"] = place
            more = client.call("queue.peek", queue, options)
            rows += more
            if not more:
                return rows
            place = more[-1]["at"]

    def work_off(self, client, exact):
        """Each job that is to be had is taken once and acknowledged; where bytes were altered, not
        only lost, its ttl may be over by that, or it was delivered too often."""
        for queue in client.call("queue.list"):
            client.call("queue.kick", queue, {"count": 10000})
            ready = client.call("queue.stats", queue)["ready"]
            taken = set()
            while True:
                jobs = client.call("queue.reserve", queue, {"count": 100})
                if not jobs:
                    break
                for job, _, _, lease, *_ in jobs:
                    self.assertNotIn(job, taken)
                    taken.add(job)
                    self.assertIs(client.call("queue.ack", job, lease), True)
            stats = client.call("queue.stats", queue)
            self.assertEqual(stats["ready"], 0)
            if exact:
                self.assertEqual((len(taken), stats["dead"]), (ready, 0))
            client.call("queue.push", queue, "new")

    def judge_queues(self, pushed, exact):
        status, lines, err = check(self.saved)
        self.assertEqual((status, told(lines, "verdict")), (0, ["good"]), (lines, err))
        with Daemon("--durability", "none", data=self.saved) as daemon:
            with Client(daemon) as client:
                seen = self.peek_all(client)
                for job, (queue, body, _) in seen.items():
                    if exact and body != "behind the checkpoint":
                        self.assertEqual(pushed[job][1], body)
                        self.assertIn(queue[:9], (pushed[job][0], "salvaged-"))
                self.work_off(client, exact)
            daemon.stop()
        status, lines, err = check(self.saved)
        self.assertEqual((status, told(lines, "verdict")), (0, ["good"]), (lines, err))
        return seen

    def flip_somewhere(self, randomness, below, count):
        """Flips bits in the files of the copy's engine."""
        paths = [path for path in files_of(os.path.join(self.copy, below))
                 if path.endswith((".mdb", ".sst")) and used_size(path) > 0
                 and not path.endswith("lock.mdb")]
        for _ in range(count):
            path = randomness.choice(paths)
            flip(path, randomness.randrange(8192 if path.endswith(".mdb") else 0, used_size(path)),
                 randomness.randrange(8))

    def test_queues_that_lost_blocks_of_rocksdb_are_mended_and_the_report_says_how(self):
        pushed = self.filled_queues("rocksdb")
        randomness = seeded(self)
        for number in range(ROUNDS):
            self.take_copy()
            self.flip_somewhere(randomness, "rocksdb", 1 + number % 3)
            shutil.rmtree(self.saved, ignore_errors=True)
            status, out, err = run("--salvage", self.copy, "--data", self.saved)
            with self.subTest(number=number, out=out):
                if not re.search("(?m)^saved ", out):  # what holds the blocks together is gone
                    self.assertRegex(err, r"rocksdb|RocksDB|saved|restore")
                    continue
                seen = self.judge_queues(pushed, exact=True)
                missing = len(pushed) + 1 - len(seen)
                self.assertIn(status, (0, 1))
                if missing > 0:
                    self.assertEqual(status, 1)
                    self.assertRegex(out, r"(?m)^lost  ")
                lost = re.findall(r"(?m)^lost +queue \S+: (\d+) jobs", out)
                self.assertLessEqual(sum(map(int, lost)), missing)

    def test_queues_of_an_lmdb_with_flipped_bytes_are_mended(self):
        pushed = self.filled_queues("lmdb")
        randomness = seeded(self)
        for number in range(ROUNDS):
            self.take_copy()
            self.flip_somewhere(randomness, "lmdb", 4 << number % 5)
            shutil.rmtree(self.saved, ignore_errors=True)
            _, out, err = run("--salvage", self.copy, "--data", self.saved)
            with self.subTest(number=number, out=out):
                if not re.search("(?m)^saved ", out):
                    self.assertRegex(err, r"lmdb|saved|restore")
                    continue
                self.judge_queues(pushed, exact=False)


class BadPages(DirectoryTest):
    """Of LMDB: what kind of page it is, in its head, is what LMDB itself asserts when it walks on."""

    PAGE, HEAD, AT_FLAGS, AT_LOWER, LEAF = 4096, 16, 10, 12, 2

    def spoil(self, containing):
        """Leaves that have this, and more than a few entries."""
        path = os.path.join(self.data, "lmdb", "data.mdb")
        with open(path, "rb") as file:
            content = bytearray(file.read())
        spoiled = 0
        for at in range(2 * self.PAGE, len(content), self.PAGE):
            page = content[at:at + self.PAGE]
            entries = (int.from_bytes(page[self.AT_LOWER:self.AT_LOWER + 2], "little") - self.HEAD) / 2
            if page[self.AT_FLAGS] == self.LEAF and entries > 8 and containing in page:
                content[at + self.AT_FLAGS] = 0
                spoiled += 1
        self.assertGreater(spoiled, 0)
        with open(path, "wb") as file:
            file.write(content)

    def filled(self):
        with Daemon("--engine", "lmdb", "--durability", "none", data=self.data) as daemon:
            with Client(daemon) as client:
                put_many(client, 0, 3000, "x" * 50)
                for number in range(300):
                    client.call("queue.configure", f"queue-{number:04}", {"ttl": 1000})
            daemon.stop()

    def ends_with_a_line(self, daemon):
        line = daemon.wait_for_line("cubbyd: " + self.data)
        self.assertRegex(line, r"/lmdb/data\.mdb is damaged, and LMDB cannot go on: .*"
                               rf"'cubbyd --check {re.escape(self.data)}'.*--salvage")
        self.assertEqual(daemon.wait(), 1)

    def check_names_the_page(self):
        status, lines, err = check(self.data)
        self.assertEqual((status, err), (1, ""))
        self.assertRegex(told(lines, "damaged")[0], r"lmdb/data\.mdb is damaged: a page")
        self.assertIn("--salvage", told(lines, "to do")[0])

    def test_a_daemon_that_meets_one_names_file_and_remedy_before_it_ends(self):
        self.filled()
        self.spoil(b"k002000")
        daemon = Daemon(data=self.data)
        try:
            daemon.start()
            with Client(daemon) as client:
                client.send_request(1, "scan", {"start": "k001800", "limit": 1000})
                self.ends_with_a_line(daemon)
        finally:
            daemon.clean()
        self.check_names_the_page()

    def test_a_start_that_meets_one_names_file_and_remedy_before_it_ends(self):
        self.filled()
        self.spoil(b"nqueue-0200")
        daemon = Daemon(data=self.data)
        try:
            daemon.spawn()
            self.ends_with_a_line(daemon)
        finally:
            daemon.clean()
        self.check_names_the_page()


if __name__ == "__main__":
    unittest.main()
