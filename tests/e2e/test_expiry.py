"""Expiry: when a key is gone, what says so, and what keeps or clears it."""

import time
import unittest

from harness import (
    Client, Daemon, DaemonCase, Subscriber, all_changes, check_reply, eventually,
)

LONG_TTL_MS = 10**9


class Setting(DaemonCase):
    def expires_at(self, key=None):
        return self.call("get", key or self.key)[2]

    def test_ttl_counts_from_now(self):
        before = self.call("hello")["time"]
        self.call("put", self.key, 1, {"ttl": LONG_TTL_MS})
        after = self.call("hello")["time"]
        self.assertTrue(before <= self.expires_at() - LONG_TTL_MS <= after)

    def test_put_without_ttl_clears_an_earlier_expiry(self):
        self.call("put", self.key, 1, {"ttl": LONG_TTL_MS})
        self.call("put", self.key, 2)
        self.assertIsNone(self.expires_at())

    def test_keep_ttl_keeps_it(self):
        self.call("put", self.key, 1, {"ttl": LONG_TTL_MS})
        expires_at = self.expires_at()
        self.call("put", self.key, 2, {"keep_ttl": True})
        self.assertEqual(self.call("get", self.key)[::2], [2, expires_at])
        self.call("put", self.key, 3, {"keep_ttl": False})
        self.assertIsNone(self.expires_at())

    def test_keep_ttl_of_an_absent_key_is_no_expiry(self):
        self.call("put", self.key, 1, {"keep_ttl": True})
        self.assertIsNone(self.expires_at())

    def test_keep_ttl_of_an_expired_key_is_no_expiry(self):
        self.call("put", self.key, 1, {"ttl": 0})
        self.call("put", self.key, 2, {"keep_ttl": True})
        self.assertEqual(self.call("get", self.key)[::2], [2, None])

    def test_touch_sets_and_clears_without_a_version_or_a_change(self):
        version = self.call("put", self.key, 1)
        self.assertIs(self.call("touch", self.key, LONG_TTL_MS), True)
        self.assertIsNotNone(self.expires_at())
        self.assertIs(self.call("touch", self.key, None), True)
        self.assertEqual(self.call("get", self.key), [1, version, None])
        self.assertEqual(self.seq(), version)
        self.assertEqual(all_changes(self.client, version), [])

    def test_touch_of_an_absent_key_does_nothing(self):
        self.assertIs(self.call("touch", self.key, 5), False)
        self.assertIs(self.call("touch", self.key, None), False)
        self.assertIsNone(self.call("get", self.key))

    def test_a_change_has_the_expiry_as_of_that_change(self):
        before = self.seq()
        self.call("put", self.key, 1, {"ttl": LONG_TTL_MS})
        first = self.expires_at()
        self.call("touch", self.key, 5 * LONG_TTL_MS)
        second = self.expires_at()
        self.call("increment", self.key)
        self.call("touch", self.key, None)
        self.assertEqual([change[6] for change in all_changes(self.client, before)],
                         [first, second])

    def test_time_is_read_once_for_a_transaction(self):
        self.client.batch(*(["put", f"{self.key}{number}", "x" * 100, {"ttl": LONG_TTL_MS}]
                            for number in range(5000)), ["touch", self.key + "0", LONG_TTL_MS])
        entries = self.call("scan", {"prefix": self.key, "limit": 5000})["entries"]
        self.assertEqual((len(entries), len({entry[3] for entry in entries})), (5000, 1))

    def test_a_batch_sets_expiries_too(self):
        self.client.batch(["put", self.key, 1], ["touch", self.key, LONG_TTL_MS],
                          ["increment", self.key])
        self.assertIsNotNone(self.expires_at())


class Expiring(DaemonCase):
    def test_an_expired_key_is_absent_to_every_method_at_once(self):
        key = self.key
        calls = [("hello",), ("get", key), ("count", {"prefix": key}), ("scan", {"prefix": key}),
                 ("batch", [["get", [key]]]), ("hello",)]
        self.call("put", key, 1, {"ttl": 150})
        expires_at = self.call("get", key)[2]
        seen_present = seen_absent = False
        while not seen_absent:
            for msgid, (method, *params) in enumerate(calls):
                self.client.send_request(msgid, method, *params)
            results = [check_reply(self.client.receive_payload())[3] for _ in calls]
            before, get, count, scan, batch, after = results
            present = [get is not None, count == 1, len(scan["entries"]) == 1,
                       batch["results"][0] is not None]
            if after["time"] < expires_at:
                self.assertEqual(present, [True] * 4)
                seen_present = True
            if before["time"] >= expires_at:
                self.assertEqual(present, [False] * 4)
                seen_absent = True
        self.assertTrue(seen_present)

    def test_a_ttl_of_0_expires_at_once(self):
        self.call("put", self.key, 1, {"ttl": 0})
        self.assertIsNone(self.call("get", self.key))
        self.call("put", self.key, 1)
        self.assertIs(self.call("touch", self.key, 0), True)
        self.assertIsNone(self.call("get", self.key))
        self.assertIs(self.call("touch", self.key, None), False)

    def test_to_a_write_an_expired_key_is_absent_too(self):
        key = self.key
        expired = {"ttl": 0}
        self.call("put", key, 5, expired)
        self.assertEqual(self.call("increment", key)[0], 1)
        self.call("put", key, 5, expired)
        self.assertIs(self.call("delete", key), False)
        self.call("put", key, 5, expired)
        self.assertIs(self.call("touch", key, LONG_TTL_MS), False)
        self.call("put", key, 5, expired)
        self.refused("conflict", "put", key, 6, {"if_exists": True}, key=key, version=0)
        self.call("put", key, 5, expired)
        self.assertIsNone(self.call("put", key, 6, {"previous": True, "if_version": 0})[1])
        self.call("put", key, 5, expired)
        self.assertEqual(self.call("delete", key, {"previous": True}), [False, None])
        self.call("put", key, 5, expired)
        self.assertEqual(self.call("delete_range", {"prefix": key}), {"deleted": 0, "more": False})
        self.assertEqual(self.call("count", {"prefix": key}), 0)

    def test_its_expire_change_comes_before_any_later_change_of_the_key(self):
        before = self.seq()
        for _ in range(20):
            self.call("put", self.key, 1, {"ttl": 0})
            self.call("put", self.key, 2)
        changes = all_changes(self.client, before, prefix=self.key)
        self.assertEqual([change[3] for change in changes], ["put", "expire", "put"] + [
            "put", "expire", "put"] * 19)
        self.assertEqual([change[0] for change in changes], list(range(before + 1, before + 61)))

    def test_an_expired_key_that_a_batch_writes_expires_in_a_transaction_before_it(self):
        before = self.seq()
        self.call("put", self.key, 1, {"ttl": 0})
        reply = self.client.batch(["put", self.key + "a", 1], ["put", self.key, 2])
        self.assertEqual(reply["seq"], before + 3)
        changes = all_changes(self.client, before)
        self.assertEqual([change[:5] for change in changes], [
            [before + 1, 0, 1, "put", self.key], [before + 2, 0, 1, "expire", self.key],
            [before + 3, 0, 2, "put", self.key + "a"], [before + 3, 1, 2, "put", self.key],
        ])

    def test_an_expire_change_comes_by_itself_and_soon(self):
        with Subscriber(self.daemon, self.key.encode()).welcome() as subscriber:
            version = self.call("put", self.key, "v", {"ttl": 100})
            expires_at = self.call("get", self.key)[2]
            (_, _, put), (_, _, expire) = subscriber.changes(2)
            self.assertEqual(put, [version, 0, 1, "put", self.key, "v", expires_at])
            self.assertEqual(expire[1:], [0, 1, "expire", self.key, None, None])
            self.assertGreater(expire[0], version)
            self.assertLess(self.call("hello")["time"] - expires_at, 5000)
            self.assertGreaterEqual(self.call("hello")["time"], expires_at)

    def test_what_was_touched_in_time_stays(self):
        self.call("put", self.key + "a", 1, {"ttl": 200})
        self.call("touch", self.key + "a", LONG_TTL_MS)
        self.call("put", self.key + "b", 1, {"ttl": 200})
        self.call("put", self.key + "b", 2)
        self.call("put", self.key + "c", 1, {"ttl": 200})
        eventually(lambda: self.call("get", self.key + "c") is None, "the untouched key expires")
        self.assertEqual(self.call("count", {"prefix": self.key}), 2)

    def test_expiries_are_grouped_into_transactions_of_at_most_1000(self):
        total = 2500
        before = self.seq()
        self.call("batch", [["put", [f"{self.key}{number:05}", None, {"ttl": 300}]]
                            for number in range(total)])
        eventually(lambda: len(self.expire_changes(before)) >= total, "all expire")
        changes = self.expire_changes(before)
        self.assertEqual(len(changes), total)
        self.assertEqual(len({change[4] for change in changes}), total)
        self.assertLessEqual(max(change[2] for change in changes), 1000)
        self.assertLessEqual(len({change[0] for change in changes}), 100)
        self.assertEqual(self.call("count", {"prefix": self.key}), 0)

    def expire_changes(self, since):
        changes = all_changes(self.client, since, prefix=self.key, limit=10000)
        return [change for change in changes if change[3] == "expire"]

    def test_counts_are_exact_while_many_keys_expire(self):
        total = 3000
        self.call("batch", [["put", [f"{self.key}{number:05}", None, {"ttl": 100}]]
                            for number in range(total)])
        expires_at = self.call("hello")["time"] + 100
        while True:
            time_before = self.call("hello")["time"]
            count = self.call("count", {"prefix": self.key})
            self.assertIn(count, (0, total))
            if time_before > expires_at:
                self.assertEqual(count, 0)
                break

    def test_expired_keys_free_their_memory(self):
        self.call("put", self.key, "x" * 100000, {"ttl": 50})
        keys = self.call("stats")["keys"]
        eventually(lambda: self.call("stats")["keys"] < keys, "the key is gone from the store")


class Restart(unittest.TestCase):
    def test_expiries_survive_a_restart(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "long", 1, {"ttl": LONG_TTL_MS})
                client.call("put", "never", 1)
                client.call("put", "touched", 1)
                client.call("touch", "touched", LONG_TTL_MS)
                client.call("put", "cleared", 1, {"ttl": LONG_TTL_MS})
                client.call("touch", "cleared", None)
                entries = client.call("scan")["entries"]
            for end in (daemon.stop, daemon.kill):
                end()
                daemon.start()
                with Client(daemon) as client:
                    self.assertEqual(client.call("scan")["entries"], entries)

    def test_what_expired_meanwhile_is_absent_at_once_and_its_change_follows(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                version = client.call("put", "key", 1, {"ttl": 200})
                epoch = client.call("hello")["epoch"]
                expires_at = client.call("get", "key")[2]
            daemon.kill()
            eventually(lambda: time.time() * 1000 > expires_at + 5, "the time passes")
            daemon.start()
            with Client(daemon) as client:
                self.assertIsNone(client.call("get", "key"))
                changes = eventually(lambda: all_changes(client, version), "an expire change")
                self.assertEqual(changes,
                                 [[version + 1, 0, 1, "expire", "key", None, None]])
                self.assertEqual(client.call("hello")["epoch"], epoch)

    def test_time_does_not_run_backwards_over_a_restart(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
                before = client.call("hello")["time"]
            daemon.restart()
            with Client(daemon) as client:
                self.assertGreaterEqual(client.call("hello")["time"], before)


if __name__ == "__main__":
    unittest.main()
