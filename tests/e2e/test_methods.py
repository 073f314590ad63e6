"""The methods of the keys: results, options, conditions, ranges, pages."""

import time
import unittest

import msgpack

from harness import (
    MAX_DURATION_MS, MAX_KEY, MAX_MESSAGE, MAX_VALUE, MIB, U64_MAX, Client, DaemonCase, Pairs, Raw,
    eventually, pack, split, unpack, value_of_size,
)


class Ping(DaemonCase):
    def test_ping_is_true(self):
        self.assertIs(self.call("ping"), True)


class Hello(DaemonCase):
    def test_hello_says_what_a_client_must_know(self):
        hello = self.call("hello", {"client": "test"})
        self.assertLessEqual({"server", "version", "protocol", "epoch", "seq", "oldest", "time",
                              "limits"}, set(hello))
        self.assertIsInstance(hello["server"], str)
        self.assertRegex(hello["version"], r"^\d+\.\d+\.\d+")
        self.assertEqual(hello["protocol"], 1)
        self.assertIsInstance(hello["epoch"], str)
        self.assertTrue(hello["epoch"])
        self.assertAlmostEqual(hello["time"], time.time() * 1000, delta=60000)

    def test_hello_reports_the_limits_that_hold(self):
        limits = self.call("hello")["limits"]
        self.assertEqual(
            {name: limits[name] for name in ("max_key", "max_value", "max_message", "max_batch")},
            {"max_key": 1024, "max_value": MIB, "max_message": MAX_MESSAGE, "max_batch": 10000},
        )
        for name in ("max_waiters", "max_watches"):
            self.assertIs(type(limits[name]), int)

    def test_hello_reports_the_newest_seq_and_the_oldest_kept(self):
        version = self.call("put", self.key, 1)
        hello = self.call("hello")
        self.assertEqual((hello["seq"], hello["oldest"]), (version, 1))

    def test_client_is_a_str_of_at_most_255_bytes(self):
        self.call("hello", {"client": ""})
        self.call("hello", {"client": "x" * 255})
        self.call("hello", {"client": "\u00e4" * 127})
        for client in ("x" * 256, "\u00e4" * 128, 5, b"me", True):
            self.refused("bad_request", "hello", {"client": client})

    def test_time_does_not_run_backwards(self):
        times = [self.call("hello")["time"] for _ in range(50)]
        self.assertEqual(times, sorted(times))


class GetPutDelete(DaemonCase):
    def test_get_of_an_absent_key_is_nil(self):
        self.assertIsNone(self.call("get", self.key))

    def test_put_returns_the_version_which_is_the_seq(self):
        before = self.seq()
        self.assertEqual(self.call("put", self.key, "a"), before + 1)
        self.assertEqual(self.call("put", self.key, "a"), before + 2)
        self.assertEqual(self.call("get", self.key), ["a", before + 2, None])
        self.assertEqual(self.seq(), before + 2)

    def test_put_with_previous_returns_what_was_there(self):
        version = self.call("put", self.key, 1, {"previous": True})
        self.assertEqual(version[1], None)
        again = self.call("put", self.key, 2, {"previous": True, "ttl": 100000})
        self.assertEqual(again, [version[0] + 1, [1, version[0], None]])
        last = self.call("put", self.key, 3, {"previous": True})
        self.assertEqual(last[1][:2], [2, again[0]])
        self.assertAlmostEqual(last[1][2], time.time() * 1000 + 100000, delta=60000)
        self.assertEqual(self.call("put", self.key, 4, {"previous": False}), last[0] + 1)

    def test_delete_says_whether_the_key_existed(self):
        self.call("put", self.key, 1)
        self.assertIs(self.call("delete", self.key), True)
        self.assertIs(self.call("delete", self.key), False)
        self.assertIsNone(self.call("get", self.key))

    def test_delete_with_previous_returns_what_was_there(self):
        version = self.call("put", self.key, [1])
        self.assertEqual(self.call("delete", self.key, {"previous": True}),
                         [True, [[1], version, None]])
        self.assertEqual(self.call("delete", self.key, {"previous": True}), [False, None])
        self.assertIs(self.call("delete", self.key, {"previous": False}), False)

    def test_deleting_what_is_absent_takes_no_seq(self):
        before = self.seq()
        self.call("delete", self.key)
        self.call("delete", self.key, {"if_version": 0})
        self.call("delete_range", {"prefix": self.key})
        self.assertEqual(self.seq(), before)

    def test_a_deletion_takes_a_seq(self):
        version = self.call("put", self.key, 1)
        self.call("delete", self.key)
        self.assertEqual(self.seq(), version + 1)

    def test_a_new_version_is_never_a_former_one(self):
        first = self.call("put", self.key, 1)
        self.call("delete", self.key)
        self.assertGreater(self.call("put", self.key, 1), first + 1)


class Conditions(DaemonCase):
    def test_if_version_holds_for_the_version_and_0_for_absent(self):
        first = self.call("put", self.key, 1, {"if_version": 0})
        second = self.call("put", self.key, 2, {"if_version": first})
        self.refused("conflict", "put", self.key, 3, {"if_version": first},
                     key=self.key, version=second)
        self.refused("conflict", "put", self.key, 3, {"if_version": 0}, version=second)
        self.refused("conflict", "put", self.key, 3, {"if_version": U64_MAX}, version=second)
        self.assertEqual(self.call("get", self.key)[0], 2)
        self.assertIs(self.call("delete", self.key, {"if_version": second}), True)
        self.refused("conflict", "put", self.key, 3, {"if_version": second}, key=self.key,
                     version=0)
        self.refused("conflict", "delete", self.key, {"if_version": second}, version=0)
        self.assertIs(self.call("delete", self.key, {"if_version": 0}), False)

    def test_if_exists_holds_for_what_exists(self):
        self.refused("conflict", "put", self.key, 1, {"if_exists": True}, key=self.key, version=0)
        version = self.call("put", self.key, 1, {"if_exists": False})
        self.refused("conflict", "put", self.key, 2, {"if_exists": False}, version=version)
        self.call("put", self.key, 2, {"if_exists": True})
        self.refused("conflict", "delete", self.key, {"if_exists": False}, key=self.key)
        self.assertIs(self.call("delete", self.key, {"if_exists": True}), True)
        self.refused("conflict", "delete", self.key, {"if_exists": True}, version=0)
        self.assertIs(self.call("delete", self.key, {"if_exists": False}), False)

    def test_of_two_conditions_both_must_hold(self):
        self.refused("conflict", "put", self.key, 1, {"if_version": 0, "if_exists": True})
        version = self.call("put", self.key, 1, {"if_version": 0, "if_exists": False})
        self.refused("conflict", "put", self.key, 1, {"if_version": version, "if_exists": False})
        self.refused("conflict", "put", self.key, 1, {"if_version": version + 1, "if_exists": True})
        self.call("put", self.key, 2, {"if_version": version, "if_exists": True})

    def test_the_key_of_a_conflict_is_bin_where_it_is_not_utf8(self):
        key = self.key.encode() + b"\xff"
        self.refused("conflict", "put", key, 1, {"if_exists": True}, key=key)

    def test_increment_has_conditions_too(self):
        self.refused("conflict", "increment", self.key, {"if_exists": True}, key=self.key)
        value, version = self.call("increment", self.key, {"if_version": 0})
        self.assertEqual(value, 1)
        self.refused("conflict", "increment", self.key, 5, {"if_version": 0}, version=version)
        self.assertEqual(self.call("increment", self.key, 5, {"if_version": version})[0], 6)
        self.refused("conflict", "increment", self.key, {"if_exists": False})

    def test_conditions_of_a_wrong_type_are_refused(self):
        for value in (-1, 2**64 - 0.5, "1", None, [1], 1.0):
            self.refused("bad_request", "put", self.key, 1, {"if_version": value})
        for value in (0, "yes", None):
            self.refused("bad_request", "delete", self.key, {"if_exists": value})

    def test_a_failed_condition_takes_no_seq(self):
        before = self.seq()
        self.refused("conflict", "put", self.key, 1, {"if_exists": True})
        self.assertEqual(self.seq(), before)


class OrderOfChecks(DaemonCase):
    def test_arguments_come_before_conditions(self):
        failing = {"if_version": 77}
        self.refused("bad_request", "put", self.key, 1, {**failing, "ttl": -1})
        self.refused("bad_request", "put", self.key, 1, {"typo": 1, **failing})
        self.refused("too_large", "put", self.key, value_of_size(MAX_VALUE + 1), failing)
        self.refused("bad_request", "increment", self.key, 1.5, failing)

    def test_conditions_come_before_the_type(self):
        self.call("put", self.key, "text")
        self.refused("conflict", "increment", self.key, {"if_version": 0})
        self.refused("wrong_type", "increment", self.key, {"if_exists": True}, key=self.key)

    def test_reading_stops_at_the_first_error_from_the_front(self):
        self.refused("bad_request", "put", "", value_of_size(MAX_VALUE + 1))
        self.refused("too_large", "put", "k" * 1025, 1, {"typo": 1})
        self.refused("too_large", "put", "k", value_of_size(MAX_VALUE + 1), {"typo": 1})
        self.refused("too_large", "scan", Pairs(("prefix", "k" * 1025), ("typo", 1)))
        self.refused("bad_request", "scan", Pairs(("typo", 1), ("prefix", "k" * 1025)))


class Increment(DaemonCase):
    def test_an_absent_key_counts_from_initial(self):
        self.assertEqual(self.call("increment", self.key)[0], 1)
        self.assertEqual(self.call("increment", self.key + "a", 5)[0], 5)
        self.assertEqual(self.call("increment", self.key + "b", {"initial": 10})[0], 11)
        self.assertEqual(self.call("increment", self.key + "c", -3, {"initial": 1})[0], -2)
        self.assertEqual(self.call("increment", self.key + "c", {"initial": 100})[0], -1)

    def test_it_returns_value_and_version(self):
        before = self.seq()
        self.assertEqual(self.call("increment", self.key), [1, before + 1])
        self.assertEqual(self.call("get", self.key), [1, before + 1, None])

    def test_adding_0_is_a_write(self):
        _, version = self.call("increment", self.key)
        self.assertEqual(self.call("increment", self.key, 0), [1, version + 1])
        self.assertEqual(self.call("increment", self.key + "new", 0), [0, version + 2])

    def test_the_range_is_that_of_both_integer_types(self):
        low, high = -(2**63), U64_MAX
        key = self.key
        self.call("put", key, high - 1)
        self.assertEqual(self.call("increment", key)[0], high)
        self.refused("wrong_type", "increment", key, key=key)
        self.assertEqual(self.call("increment", key, low)[0], high + low)
        self.call("put", key, low + 1)
        self.assertEqual(self.call("increment", key, -1)[0], low)
        self.refused("wrong_type", "increment", key, -1, key=key)
        self.assertEqual(self.call("increment", key, high)[0], low + high)
        self.refused("wrong_type", "increment", key + "n", high, {"initial": 1}, key=key + "n")
        self.refused("wrong_type", "increment", key + "n", low, {"initial": -1})
        self.assertIsNone(self.call("get", key + "n"))
        self.assertEqual(self.call("increment", key + "n", high)[0], high)
        self.assertEqual(self.call("increment", key + "n", 0, {"initial": high})[0], high)

    def test_what_is_not_an_integer_is_of_the_wrong_type(self):
        for value in (1.0, True, None, "1", b"1", [1], {1: 1}, msgpack.ExtType(1, b"1")):
            version = self.call("put", self.key, value)
            self.refused("wrong_type", "increment", self.key, key=self.key)
            self.assertEqual(self.call("get", self.key)[1], version)

    def test_any_integer_encoding_counts_and_the_result_has_the_shortest(self):
        for stored, result in (
            (b"\xcf" + bytes(8), b"\x01"), (b"\xd3" + bytes(7) + b"\x7e", b"\x7f"),
            (b"\x7f", b"\xcc\x80"), (b"\xcc\xff", b"\xcd\x01\x00"), (b"\xff", b"\x00"),
            (b"\xcd\xff\xff", b"\xce\0\x01\0\0"), (b"\xd0\xdf", b"\xe0"), (b"\xd1\xff\x7f", b"\xd0\x80"),
            (b"\xce" + b"\xff" * 4, b"\xcf\0\0\0\x01\0\0\0\0"), (b"\xd2\xff\xff\x7f\xff", b"\xd1\x80\0"),
            (b"\xd3\x80" + bytes(7), b"\xd3\x80" + bytes(6) + b"\x01"),
        ):
            self.call("put", self.key, Raw(stored))
            self.assertEqual(split(self.client.call_raw("increment", self.key))[0], result)
            self.assertEqual(split(self.client.call_raw("get", self.key))[0], result)

    def test_it_keeps_the_expiry_unless_ttl_is_given(self):
        self.call("put", self.key, 1, {"ttl": 1000000})
        expires_at = self.call("get", self.key)[2]
        self.call("increment", self.key)
        self.assertEqual(self.call("get", self.key)[2], expires_at)
        self.call("increment", self.key, {"ttl": 9000000})
        self.assertGreater(self.call("get", self.key)[2], expires_at + 5000000)
        self.call("increment", self.key + "b", {"ttl": 1000000})
        self.assertGreaterEqual(self.call("get", self.key + "b")[2], expires_at)

    def test_delta_is_an_integer_in_range(self):
        for delta in (None, "1", 1.0, True, b"1", [1]):
            self.refused("bad_request", "increment", self.key, delta)


class Durations(DaemonCase):
    def test_a_ttl_is_at_most_2_to_the_48(self):
        self.call("put", self.key, 1, {"ttl": MAX_DURATION_MS})
        expires_at = self.call("get", self.key)[2]
        self.assertAlmostEqual(expires_at, time.time() * 1000 + MAX_DURATION_MS, delta=60000)
        self.assertIs(self.call("touch", self.key, MAX_DURATION_MS), True)
        for ttl in (MAX_DURATION_MS + 1, U64_MAX, -1, "5", None):
            self.refused("bad_request", "put", self.key, 1, {"ttl": ttl})
            self.refused("bad_request", "increment", self.key, {"ttl": ttl})
            if ttl is not None:
                self.refused("bad_request", "touch", self.key, ttl)

    def test_ttl_and_keep_ttl_exclude_each_other(self):
        self.refused("bad_request", "put", self.key, 1, {"ttl": 5000, "keep_ttl": True})
        self.refused("bad_request", "put", self.key, 1, Pairs(("keep_ttl", True), ("ttl", 5000)))
        self.call("put", self.key, 1, {"ttl": 100000, "keep_ttl": False})
        self.assertIsNotNone(self.call("get", self.key)[2])


class Scan(DaemonCase):
    def setUp(self):
        super().setUp()
        self.names = [f"{self.key}{letter}" for letter in "abcdefghij"]
        self.versions = [self.call("put", name, number)
                         for number, name in enumerate(self.names)]

    def scan(self, **options):
        return self.call("scan", options)

    def names_of(self, **options):
        page = self.scan(keys_only=True, **options)
        return [key[len(self.key):] for key in page["entries"]]

    def test_entries_are_key_value_version_expiry_in_key_order(self):
        page = self.scan(prefix=self.key)
        self.assertEqual(page["entries"], [[name, number, version, None] for number, (name, version)
                                           in enumerate(zip(self.names, self.versions))])
        self.assertIsNone(page["next"])
        self.assertEqual(page["seq"], self.versions[-1])
        self.assertEqual(set(page), {"entries", "next", "seq"})

    def test_without_bounds_it_goes_over_everything(self):
        everything = []
        options = {}
        while True:
            page = self.scan(keys_only=True, **options)
            everything += page["entries"]
            if page["next"] is None:
                break
            options = {"after": page["next"]}
        self.assertEqual(len(everything), self.call("count"))
        self.assertLessEqual(set(self.names), set(everything))

    def test_start_is_in_the_range_and_end_is_not(self):
        start, end = self.key + "c", self.key + "f"
        self.assertEqual(self.names_of(start=start, end=end), list("cde"))
        self.assertEqual(self.names_of(start=start, end=end, reverse=True), list("edc"))
        self.assertEqual(self.names_of(start=start + "\0", end=end + "\0"), list("def"))
        self.assertEqual(self.names_of(start=start, end=start), [])
        self.assertEqual(self.names_of(start=end, end=start), [])
        self.assertEqual(self.names_of(start=end, end=start, reverse=True), [])
        self.assertEqual(self.names_of(start=self.key + "h", end=self.key + "zz"), list("hij"))

    def test_bounds_may_be_str_or_bin_and_empty(self):
        self.assertEqual(self.names_of(start=(self.key + "c").encode(), end=self.key + "e"),
                         list("cd"))
        self.assertEqual(self.scan(end=""), {"entries": [], "next": None, "seq": self.seq()})
        self.assertEqual(self.scan(start="", limit=1)["entries"], self.scan(limit=1)["entries"])
        self.assertEqual(self.scan(prefix="", limit=1)["entries"], self.scan(limit=1)["entries"])
        self.assertEqual(self.names_of(prefix=self.key, after=""), list("abcdefghij"))
        self.assertEqual(self.scan(prefix=self.key, after="", reverse=True)["entries"], [])

    def test_bounds_over_1024_bytes_are_too_large(self):
        for name in ("prefix", "start", "end", "after"):
            self.scan(**{name: "z" * MAX_KEY})
            self.refused("too_large", "scan", {name: "z" * (MAX_KEY + 1)}, limit=MAX_KEY)
            for wrong in (5, True, ["a"], {}):
                self.refused("bad_request", "scan", {name: wrong})

    def test_prefix_excludes_start_and_end(self):
        for other in ("start", "end"):
            for method in ("scan", "count", "delete_range"):
                self.refused("bad_request", method, {"prefix": self.key, other: self.key})

    def test_a_prefix_of_bytes_ff_has_no_end(self):
        for key in (b"\xff", b"\xff\xff", b"\xff\xff\xff", b"\xff\xfe"):
            self.call("put", key, 1)
        self.assertEqual(self.scan(prefix=b"\xff\xff", keys_only=True)["entries"],
                         [b"\xff\xff", b"\xff\xff\xff"])
        self.assertEqual(self.scan(prefix=b"\xff", keys_only=True, reverse=True)["entries"],
                         [b"\xff\xff\xff", b"\xff\xff", b"\xff\xfe", b"\xff"])
        self.assertEqual(self.call("count", {"prefix": b"\xff\xff"}), 2)
        self.assertEqual(self.call("delete_range", {"prefix": b"\xff"})["deleted"], 4)

    def test_after_goes_on_behind_a_key_in_the_direction_of_the_scan(self):
        key = self.key
        self.assertEqual(self.names_of(prefix=key, after=key + "g"), list("hij"))
        self.assertEqual(self.names_of(prefix=key, after=key + "g", reverse=True), list("fedcba"))
        self.assertEqual(self.names_of(prefix=key, after=key + "gg"), list("hij"))
        self.assertEqual(self.names_of(prefix=key, after=key + "gg", reverse=True),
                         list("gfedcba"))
        self.assertEqual(self.names_of(start=key + "c", end=key + "f", after=key + "a"),
                         list("cde"))
        self.assertEqual(self.names_of(start=key + "c", end=key + "f", after=key + "d"),
                         list("e"))
        self.assertEqual(self.names_of(start=key + "c", end=key + "f", after=key + "z"), [])
        self.assertEqual(self.names_of(start=key + "c", end=key + "f", after=key + "z",
                                       reverse=True), list("edc"))
        self.assertEqual(self.names_of(start=key + "c", end=key + "f", after=key + "a",
                                       reverse=True), [])

    def test_pages_follow_each_other_in_both_directions(self):
        for reverse in (False, True):
            for limit in (1, 2, 3, 5, 10, 11):
                found, options = [], {}
                while True:
                    page = self.scan(prefix=self.key, limit=limit, reverse=reverse, **options)
                    self.assertLessEqual(len(page["entries"]), limit)
                    found += [entry[0] for entry in page["entries"]]
                    if page["next"] is None:
                        break
                    self.assertEqual(page["next"], page["entries"][-1][0])
                    options = {"after": page["next"]}
                self.assertEqual(found, sorted(self.names, reverse=reverse))

    def test_next_is_nil_only_where_nothing_follows(self):
        self.assertEqual(self.scan(prefix=self.key, limit=9)["next"], self.names[8])
        self.assertIsNone(self.scan(prefix=self.key, limit=11)["next"])
        self.assertIsNone(self.scan(prefix="no such/")["next"])

    def test_keys_only_gives_keys_instead_of_entries(self):
        self.assertEqual(self.scan(prefix=self.key, keys_only=True)["entries"], self.names)
        self.assertEqual(self.scan(prefix=self.key, keys_only=False, limit=1)["entries"][0][0],
                         self.names[0])

    def test_limit_is_1_to_10000(self):
        for limit in (0, 10001, -1, U64_MAX, "1"):
            self.refused("bad_request", "scan", {"limit": limit})
            self.refused("bad_request", "delete_range", {"prefix": self.key, "limit": limit})
            self.refused("bad_request", "changes", {"limit": limit})
        self.assertEqual(len(self.scan(prefix=self.key, limit=10000)["entries"]), 10)

    def test_limit_is_1000_where_it_is_left_out(self):
        operations = [["put", [f"{self.key}x{number:05}", None]] for number in range(1500)]
        self.call("batch", operations)
        prefix = self.key + "x"
        page = self.scan(prefix=prefix)
        self.assertEqual((len(page["entries"]), page["next"]), (1000, f"{prefix}00999"))
        self.assertEqual(self.call("delete_range", {"prefix": prefix}),
                         {"deleted": 1000, "more": True})
        self.assertEqual(self.call("delete_range", {"prefix": prefix}),
                         {"deleted": 500, "more": False})

    def test_a_page_ends_at_about_1_mib(self):
        prefix = self.key + "big"
        for number in range(20):
            self.call("put", f"{prefix}{number:02}", value_of_size(150000))
        found, options, pages = [], {}, 0
        while True:
            reply = self.client.call_raw("scan", {"prefix": prefix, **options})
            self.assertLess(len(reply), 2 * MIB)
            page = unpack(reply)
            self.assertGreaterEqual(len(page["entries"]), 1)
            found += [entry[0] for entry in page["entries"]]
            pages += 1
            if page["next"] is None:
                break
            options = {"after": page["next"]}
        self.assertEqual(found, [f"{prefix}{number:02}" for number in range(20)])
        self.assertGreaterEqual(pages, 3)
        self.assertEqual(len(self.scan(prefix=prefix, keys_only=True)["entries"]), 20)

    def test_an_entry_larger_than_a_page_still_comes(self):
        prefix = self.key + "huge"
        for number in range(2):
            self.call("put", f"{prefix}{number}", Raw(pack(value_of_size(MAX_VALUE))))
        page = self.scan(prefix=prefix)
        self.assertEqual([entry[0] for entry in page["entries"]][:1], [prefix + "0"])
        page = self.scan(prefix=prefix, after=prefix + "0")
        self.assertEqual([entry[0] for entry in page["entries"]], [prefix + "1"])

    def test_an_expiry_is_in_the_entry(self):
        self.call("put", self.key + "a", 1, {"ttl": 1000000})
        entry = self.scan(prefix=self.key + "a")["entries"][0]
        self.assertEqual(entry[1:], self.call("get", self.key + "a"))
        self.assertAlmostEqual(entry[3], time.time() * 1000 + 1000000, delta=60000)


class Count(DaemonCase):
    def test_count_is_exact_for_prefix_range_and_all(self):
        for number in range(25):
            self.call("put", f"{self.key}{number:02}", None)
        self.assertEqual(self.call("count", {"prefix": self.key}), 25)
        self.assertEqual(self.call("count", {"prefix": self.key + "1"}), 10)
        self.assertEqual(self.call("count", {"start": self.key + "05", "end": self.key + "08"}), 3)
        self.assertEqual(self.call("count", {"start": self.key + "08", "end": self.key + "05"}), 0)
        self.assertEqual(self.call("count", {"prefix": "no such/"}), 0)
        self.assertEqual(self.call("count"), self.call("count", {"prefix": ""}))
        self.assertEqual(self.call("count"), self.call("count", {"start": ""}))
        self.assertEqual(self.call("count", {"end": ""}), 0)

    def test_bounds_are_checked(self):
        for name in ("prefix", "start", "end"):
            self.refused("too_large", "count", {name: "z" * (MAX_KEY + 1)}, limit=MAX_KEY)
            self.refused("bad_request", "count", {name: 1})


class DeleteRange(DaemonCase):
    def setUp(self):
        super().setUp()
        for letter in "abcdefghij":
            self.call("put", self.key + letter, letter)

    def left(self):
        entries = self.call("scan", {"prefix": self.key, "keys_only": True})["entries"]
        return "".join(key[-1] for key in entries)

    def test_it_deletes_a_prefix_or_a_range(self):
        self.assertEqual(self.call("delete_range", {"start": self.key + "c", "end": self.key + "f"}),
                         {"deleted": 3, "more": False})
        self.assertEqual(self.left(), "abfghij")
        self.assertEqual(self.call("delete_range", {"prefix": self.key}),
                         {"deleted": 7, "more": False})
        self.assertEqual(self.left(), "")
        self.assertEqual(self.call("delete_range", {"prefix": self.key}),
                         {"deleted": 0, "more": False})

    def test_more_is_exact(self):
        self.assertEqual(self.call("delete_range", {"prefix": self.key, "limit": 4}),
                         {"deleted": 4, "more": True})
        self.assertEqual(self.left(), "efghij")
        self.assertEqual(self.call("delete_range", {"prefix": self.key, "limit": 6}),
                         {"deleted": 6, "more": False})

    def test_it_is_one_transaction(self):
        before = self.seq()
        self.call("delete_range", {"prefix": self.key})
        self.assertEqual(self.seq(), before + 1)
        changes = self.call("changes", {"since": before})["changes"]
        self.assertEqual(changes, [[before + 1, index, 10, "delete", self.key + letter, None, None]
                                   for index, letter in enumerate("abcdefghij")])

    def test_it_needs_a_bound(self):
        self.refused("bad_request", "delete_range")
        self.refused("bad_request", "delete_range", {})
        self.refused("bad_request", "delete_range", {"limit": 5})
        self.assertEqual(self.left(), "abcdefghij")

    def test_bounds_are_checked(self):
        for name in ("prefix", "start", "end"):
            self.refused("too_large", "delete_range", {name: "z" * (MAX_KEY + 1)}, limit=MAX_KEY)
        self.assertEqual(self.call("delete_range", {"start": self.key + "z", "end": self.key}),
                         {"deleted": 0, "more": False})
        self.assertEqual(self.left(), "abcdefghij")

    def test_start_alone_goes_to_the_end_and_the_empty_prefix_is_all(self):
        with Client(self.daemon) as client:
            client.call("delete_range", {"start": self.key + "f"})
            self.assertEqual(self.left(), "abcde")
            while client.call("delete_range", {"prefix": ""})["more"]:
                pass
            self.assertEqual(client.call("count"), 0)


class Stats(DaemonCase):
    NAMES = {"keys", "seq", "connections", "requests", "errors", "watches", "waiters", "memory",
             "disk", "drops", "uptime"}

    def test_stats_are_numbers_by_name(self):
        stats = self.call("stats")
        self.assertLessEqual(self.NAMES, set(stats))
        for name in self.NAMES:
            self.assertIn(type(stats[name]), (int, float), name)
            self.assertGreaterEqual(stats[name], 0, name)

    def test_stats_count(self):
        before = self.call("stats")
        self.call("put", self.key, "x" * 5000)
        self.refused("bad_request", "get")
        after = self.call("stats")
        self.assertEqual(after["keys"], before["keys"] + 1)
        self.assertEqual(after["seq"], before["seq"] + 1)
        self.assertEqual(after["requests"], before["requests"] + 3)
        self.assertEqual(after["errors"], before["errors"] + 1)
        self.assertGreater(after["memory"], 0)
        self.assertGreater(after["disk"], 0)

    def test_connections_are_those_that_are_open(self):
        with Client(self.daemon) as other:
            other.call("ping")
            eventually(lambda: self.call("stats")["connections"] >= 2, "two connections")

    def test_uptime_grows(self):
        before = self.call("stats")["uptime"]
        eventually(lambda: self.call("stats")["uptime"] > before, "uptime")


if __name__ == "__main__":
    unittest.main()
