"""--eviction sieve: which keys go, in which transactions, and that listeners and restarts agree."""

import unittest

from harness import (
    MIB, Client, CubbyError, Daemon, Subscriber, all_changes, eventually, is_sanitized, resident_size, run,
    seeded,
)

LIMIT = 4 * MIB
SIEVE = ("--memory-limit", str(LIMIT), "--eviction", "sieve")
VALUE = "v" * 1000
COUNT = 10000  # values of that size, more than twice what fits


def fill(client, count=COUNT, prefix="f", value=VALUE, at_once=100):
    for begin in range(0, count, at_once):
        client.batch(*(["put", f"{prefix}{number}", value] for number in range(begin, begin + at_once)))


def entries_of(client):
    """All entries, by key."""
    found, after = {}, {}
    while True:
        page = client.call("scan", {"limit": 10000, **after})
        found.update((key, entry) for key, *entry in page["entries"])
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


def transactions(changes):
    """The changes by transaction, in order."""
    found = {}
    for change in changes:
        found.setdefault(change[0], []).append(change)
    return list(found.values())


class Eviction(unittest.TestCase):
    def start(self, *options, data="none"):
        daemon = Daemon(*options, data=data)
        self.addCleanup(daemon.clean)
        daemon.start()
        client = Client(daemon)
        self.addCleanup(client.close)
        return daemon, client

    def check_full(self, client):
        """The limit is kept, and what is there comes close to it."""
        stats = client.call("stats")
        self.assertEqual(stats["memory_limit"], LIMIT)
        self.assertLessEqual(stats["memory"], LIMIT * 1.01)
        self.assertGreater(stats["memory"], LIMIT * 0.9)
        self.assertGreater(stats["evicted"], 0)

    def test_at_the_limit_unused_keys_go_and_used_ones_stay(self):
        _, client = self.start(*SIEVE)
        fill(client, 1000, "used")
        for begin in range(0, COUNT, 500):
            for number in range(100):
                self.assertIsNotNone(client.call("get", f"used{number}"), begin)
            fill(client, 500, f"new{begin}/")
        self.check_full(client)
        self.assertGreater(client.call("count") * len(VALUE), LIMIT * 0.8)
        self.assertEqual(client.call("count", {"prefix": "new0/"}), 0)
        self.assertEqual(client.call("scan", {"prefix": "used1", "limit": 1})["next"], "used1")

    def test_every_lookup_by_name_is_a_use_and_no_walk_is(self):
        _, client = self.start(*SIEVE)
        fill(client, 2000)
        used = {}
        for way, call in enumerate((
                lambda key: client.call("get", key),
                lambda key: client.batch(["get", key]),
                lambda key: client.call("touch", key, None),
                lambda key: client.call("put", key, VALUE, {"if_version": 0}),
                lambda key: client.call("increment", key))):
            used[way] = [f"f{number}" for number in range(way * 20, way * 20 + 20)]
            for key in used[way]:
                try:
                    call(key)
                except CubbyError as error:
                    self.assertIn(error.code, ("conflict", "wrong_type"))
        entries_of(client)
        fill(client, 2500, "g")
        left = entries_of(client)
        for way, keys in used.items():
            self.assertEqual([key for key in keys if key not in left], [], f"way {way}")
        walked = sum(1 for number in range(100, 2000) if f"f{number}" in left)
        self.assertLess(walked, 1300)

    def test_evictions_come_in_transactions_of_a_thousand_before_the_write(self):
        _, client = self.start(*SIEVE)
        fill(client, 150000, value="small", at_once=1000)
        seq, count = client.call("hello")["seq"], client.call("count")
        version = client.call("put", "large", "v" * (MIB - 10))
        *evictions, write = transactions(all_changes(client, since=seq))
        self.assertEqual([change[3:5] for change in write], [["put", "large"]])
        self.assertEqual(write[0][0], version)
        self.assertGreater(len(evictions), 1)
        for number, changes in enumerate(evictions):
            last = number == len(evictions) - 1
            self.assertLessEqual(len(changes), 1000)
            self.assertTrue(last or len(changes) == 1000, len(changes))
            for index, (_, place, size, kind, key, value, expires_at) in enumerate(changes):
                self.assertEqual((place, size), (index, len(changes)))
                self.assertEqual((kind, value, expires_at), ("evict", None, None))
                self.assertIsNone(client.call("get", key))
        self.assertEqual(client.call("count"), count - sum(map(len, evictions)) + 1)
        self.check_full(client)

    def test_what_cannot_fit_is_refused_and_evicts_nothing(self):
        _, client = self.start("--memory-limit", "600K", "--eviction", "sieve")
        fill(client, 200)
        before = client.call("hello")["seq"], client.call("count")
        for call in (lambda: client.call("put", "large", "v" * 700000),
                     lambda: client.batch(*(["put", f"b{n}", "v" * 70000] for n in range(10)))):
            with self.assertRaises(CubbyError) as caught:
                call()
            self.assertEqual(caught.exception.code, "storage_full")
        self.assertEqual((client.call("hello")["seq"], client.call("count")), before)
        client.call("put", "half", "v" * 300000)
        client.batch(*(["put", f"b{n}", "v" * 50000] for n in range(10)))
        self.assertEqual(client.call("count", {"prefix": "b"}), 10)

    def test_a_batch_sees_only_what_the_evictions_before_it_have_left(self):
        _, client = self.start(*SIEVE)
        fill(client)
        oldest = client.call("scan", {"limit": 1, "keys_only": True})["entries"][0]
        for number in range(300):
            result = client.batch(["count"], ["put", f"large{number}", "v" * 30000], ["count"],
                                  ["get", oldest], ["get", oldest])["results"]
            self.assertEqual(result[2], result[0] + 1)
            self.assertEqual(result[3], result[4])
        self.check_full(client)

    def test_deletes_touches_and_writes_of_the_same_size_evict_nothing(self):
        _, client = self.start(*SIEVE)
        fill(client)
        keys = client.call("scan", {"keys_only": True})["entries"]
        evicted = client.call("stats")["evicted"]
        for key in keys[:100]:
            client.call("put", key, VALUE)
        self.assertIs(client.call("touch", keys[100], 1000000), True)
        self.assertIs(client.call("delete", keys[101]), True)
        client.call("delete_range", {"start": keys[102], "end": keys[200]})
        self.assertEqual(client.call("stats")["evicted"], evicted)

    def test_a_mirror_of_the_broadcast_and_of_history_is_what_the_daemon_has(self):
        randomness = seeded(self)
        daemon, client = self.start(*SIEVE, "--log-retain", "64M")
        with Subscriber(daemon) as subscriber:
            subscriber.welcome()
            fill(client, 4000)
            self.churn(client, randomness, 3000)
            eventually(lambda: client.call("hello")["seq"], "an answer")
            seq = client.call("put", "end", 1)
            mirrors = [{}, {}]
            for topic, payload in iter(subscriber.receive, None):
                if topic[:1] != b"k" or topic[1:] == subscriber.marker.encode():
                    continue
                self.apply(mirrors[0], payload[2][2])
                if payload[2][2][0] == seq:
                    break
        changes = all_changes(client)
        for change in changes:
            self.apply(mirrors[1], change)
        self.assertGreater(sum(change[3] == "evict" for change in changes), 1000)
        expected = {key: entry[:2] for key, entry in entries_of(client).items()}
        for found in (*mirrors, expected):
            found.pop(subscriber.marker, None)
        for found in mirrors:
            self.assertTrue(found == expected, f"{len(found)} and {len(expected)} keys")

    def churn(self, client, randomness, count):
        """Random writes; keys that were read before are likelier to be read again."""
        for _ in range(count):
            key = f"c{int(randomness.paretovariate(0.4)) % 20000}"
            size = int(randomness.paretovariate(0.3)) % 20000
            what = randomness.random()
            if what < 0.5:
                client.call("put", key, "v" * size)
            elif what < 0.6:
                client.batch(*(["put", f"b{randomness.randrange(3000)}", "v" * randomness.randrange(500)]
                               for _ in range(randomness.randrange(1, 60))))
            elif what < 0.7:
                client.call("increment", "n" + key)
            elif what < 0.8:
                client.call("delete", key)
            else:
                client.call("get", key)

    def apply(self, mirror, change):
        seq, _, _, kind, key, value, _ = change
        if kind == "put":
            mirror[key] = [value, seq]
        else:
            self.assertTrue(key in mirror, change)
            del mirror[key]

    def test_evictions_are_durable_and_a_restart_goes_on_evicting(self):
        randomness = seeded(self)
        daemon = Daemon(*SIEVE)
        self.addCleanup(daemon.clean)
        daemon.start()
        for number, end in enumerate((daemon.kill, daemon.stop, daemon.kill)):
            with Client(daemon) as client:
                self.churn(client, randomness, 700)
                fill(client, 3000, f"r{number}/")
                if number == 1:
                    client.call("checkpoint")
                before = entries_of(client), client.call("hello")["seq"]
            end()
            daemon.start()
            with Client(daemon) as client:
                now = entries_of(client), client.call("hello")["seq"]
                self.assertTrue(now == before, f"end {number}: {len(now[0])} keys, seq {now[1]}")
                fill(client, 1000, f"s{number}/")
                self.check_full(client)

    def test_a_start_under_a_lower_limit_evicts_before_it_serves(self):
        daemon = Daemon(*SIEVE)
        self.addCleanup(daemon.clean)
        daemon.start()
        with Client(daemon) as client:
            fill(client)
            seq = client.call("hello")["seq"]
        daemon.stop()
        daemon.options[1] = str(LIMIT // 4)
        daemon.start()
        with Client(daemon) as client:
            self.assertLessEqual(client.call("stats")["memory"], LIMIT // 4)
            left = client.call("count")
            self.assertGreater(left, 500)
            changes = all_changes(client, since=seq)
            self.assertEqual({change[3] for change in changes}, {"evict"})
            seq = client.call("hello")["seq"]
        daemon.kill()
        daemon.start()
        with Client(daemon) as client:
            self.assertEqual((client.call("count"), client.call("hello")["seq"]), (left, seq))

    def test_a_checkpoint_costs_no_keys(self):
        daemon, client = self.start(*SIEVE, data=None)
        fill(client)
        count = client.call("count")
        for number in range(5):
            client.call("checkpoint")
            fill(client, 500, f"g{number}/", at_once=10)
            self.assertGreater(client.call("count"), count * 0.9)
        eventually(lambda: client.call("stats")["checkpoints"] >= 2, "checkpoints end")
        eventually(lambda: client.call("stats")["memory"] <= LIMIT * 1.01, "what they held is freed")
        daemon.stop()

    def test_the_process_stays_small(self):
        daemon, client = self.start("--memory-limit", "32M", "--eviction", "sieve",
                                    "--log-retain", "0")
        before = resident_size(daemon)
        for number in range(10):
            fill(client, 20000, f"r{number}/", value="v" * 500, at_once=1000)
        stats = client.call("stats")
        self.assertLessEqual(stats["memory"], 32 * MIB * 1.01)
        self.assertGreater(stats["memory"], 32 * MIB * 0.95)
        if is_sanitized():
            self.skipTest("a sanitizer's memory is its own")
        self.assertLess(resident_size(daemon) - before, 32 * MIB * 1.25 + 24 * MIB)

    def test_where_it_cannot_be_it_is_refused_in_a_sentence(self):
        for options, said in (
                (("--data", "none", "--eviction", "sieve"), "--memory-limit"),
                (("--data", "none", "--eviction", "lru", "--memory-limit", "1M"), "none or sieve"),
                (("--data", "/tmp/x", "--engine", "lmdb", *SIEVE), "--engine memory only")):
            status, _, stderr = run(*options)
            self.assertEqual(status, 2, stderr)
            self.assertIn(said, stderr)
        daemon = Daemon("--engine", "lmdb")
        self.addCleanup(daemon.clean)
        daemon.start()
        daemon.stop()
        status, _, stderr = run("--data", daemon.data, *SIEVE)
        self.assertEqual(status, 1, stderr)
        self.assertIn("engine lmdb: give --eviction none", stderr)


if __name__ == "__main__":
    unittest.main()
