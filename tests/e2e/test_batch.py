"""batch: what it may hold, isolation, guards, all or nothing, its limits."""

import unittest

from harness import (
    MAX_BATCH, MAX_CHANGES, MAX_KEY, MAX_MESSAGE, MAX_VALUE, Client, CubbyError, Daemon, DaemonCase, Pairs,
    Raw, all_changes, pack, seeded, value_of_size,
)


class Sentences(DaemonCase):
    def test_what_is_no_array_is_named_once_and_told_to_be_one(self):
        for params, sentence in (
                ([5], "batch: operations must be an array"),
                ([[], {"if": 5}], "batch: guards of if must be an array"),
        ):
            with self.assertRaises(CubbyError) as caught:
                self.client.call("batch", *params)
            self.assertEqual((caught.exception.code, caught.exception.message),
                             ("bad_request", sentence))


class Results(DaemonCase):
    def test_there_is_one_result_for_each_operation(self):
        key = self.key
        before = self.seq()
        reply = self.client.batch(
            ["put", key + "a", 1], ["put", key + "a", 2, {"previous": True}], ["get", key + "a"],
            ["get", key + "none"], ["increment", key + "n", 5], ["touch", key + "a", 1000000],
            ["touch", key + "none", None], ["delete", key + "n"], ["delete", key + "n"],
            ["delete", key + "a", {"previous": True}], ["count", {"prefix": key}],
            ["scan", {"prefix": key}], ["delete_range", {"prefix": key}],
        )
        seq = before + 1
        self.assertEqual(set(reply), {"seq", "results"})
        self.assertEqual(reply["seq"], seq)
        results = reply["results"]
        self.assertEqual(results[:9], [seq, [seq, [1, seq, None]], [2, seq, None], None, [5, seq],
                                       True, False, True, False])
        self.assertEqual(results[9][0], True)
        self.assertEqual(results[9][1][:2], [2, seq])
        self.assertGreater(results[9][1][2], 0)
        self.assertEqual(results[10], 0)
        self.assertEqual({**results[11], "seq": 0}, {"entries": [], "next": None, "seq": 0})
        self.assertEqual(results[12], {"deleted": 0, "more": False})

    def test_all_changes_share_one_seq_and_number_their_places(self):
        before = self.seq()
        self.client.batch(*(["put", self.key + name, name] for name in "cab"))
        seq = before + 1
        self.assertEqual(self.seq(), seq)
        self.assertEqual(all_changes(self.client, before), [
            [seq, index, 3, "put", self.key + name, name, None] for index, name in enumerate("cab")
        ])

    def test_a_key_written_more_than_once_appears_once_with_its_final_state(self):
        key = self.key
        self.call("put", key + "old", 0)
        before = self.seq()
        self.client.batch(
            ["put", key + "a", 1], ["put", key + "b", 1], ["put", key + "a", 2],
            ["delete", key + "b"], ["delete", key + "old"], ["put", key + "old", 0],
            ["put", key + "new", 1], ["delete", key + "new"], ["increment", key + "n"],
            ["increment", key + "n"],
        )
        seq = before + 1
        self.assertEqual(all_changes(self.client, before), [
            [seq, 0, 5, "put", key + "a", 2, None],
            [seq, 1, 5, "delete", key + "b", None, None],
            [seq, 2, 5, "put", key + "old", 0, None],
            [seq, 3, 5, "delete", key + "new", None, None],
            [seq, 4, 5, "put", key + "n", 2, None],
        ])
        self.assertEqual(self.call("get", key + "a"), [2, seq, None])

    def test_a_batch_that_changes_nothing_takes_no_seq(self):
        version = self.call("put", self.key, 1)
        self.assertEqual(self.client.batch(), {"seq": version, "results": []})
        reply = self.client.batch(["get", self.key], ["delete", self.key + "no"],
                                  ["touch", self.key, 100000], ["count"])
        self.assertEqual(reply["seq"], version)
        self.assertEqual(self.seq(), version)

    def test_params_may_be_given_with_options(self):
        self.client.batch(["put", self.key, 1, {}], ["put", self.key, 2, {"if_exists": True}])
        self.assertEqual(self.call("get", self.key)[0], 2)


class Sizes(unittest.TestCase):
    def assert_kept(self, client, written):
        before = client.call("hello")["seq"]
        client.batch(*(["put", key, value] for key, value in written))
        final = dict(written)
        changes = all_changes(client, before)
        self.assertEqual([change[4:6] for change in changes],
                         [[key, final[key]] for key in dict.fromkeys(key for key, _ in written)])
        for key, value in final.items():
            self.assertEqual(client.call("get", key)[0], value)

    def test_batches_that_outgrow_the_daemons_buffers_at_any_operation_keep_every_value(self):
        # Each batch is twice as large as the one before and has one more operation.
        for first in (2, 12, 22):
            with Daemon() as daemon, Client(daemon) as client:
                for step in range(10):
                    count = first + step
                    size = int((4096 << step) / (count - 0.5))
                    self.assert_kept(client, [
                        (f"{number % (count - 1):03}", f"{number}" + "v" * size)
                        for number in range(count)])

    def test_batches_of_many_sizes_keep_every_value(self):
        randomness = seeded(self)
        with Daemon() as daemon, Client(daemon) as client:
            for total in (5, 10, 20, 40, 80, 200, 500, 1000):
                keys = [f"{number:04}" for number in range(total)]
                self.assert_kept(client, [
                    (randomness.choice(keys), "v" * int(randomness.expovariate(1 / 700)))
                    for _ in range(total)])


class Isolation(DaemonCase):
    def test_reads_and_conditions_see_the_writes_before_them(self):
        key = self.key
        seq = self.seq() + 1
        results = self.client.batch(
            ["get", key], ["put", key, "a", {"if_version": 0}], ["get", key],
            ["put", key, "b", {"if_version": seq}], ["count", {"prefix": key}],
            ["scan", {"prefix": key}], ["delete", key, {"if_exists": True}], ["get", key],
            ["put", key, "c", {"if_exists": False}],
        )["results"]
        self.assertEqual(results[0], None)
        self.assertEqual(results[2], ["a", seq, None])
        self.assertEqual(results[4], 1)
        self.assertEqual(results[5]["entries"], [[key, "b", seq, None]])
        self.assertEqual(results[7], None)
        self.assertEqual(self.call("get", key), ["c", seq, None])

    def test_a_scan_in_a_batch_walks_over_what_the_batch_wrote(self):
        key = self.key
        for letter in "bdf":
            self.call("put", key + letter, letter)
        results = self.client.batch(
            ["put", key + "a", 1], ["delete", key + "d"], ["put", key + "e", 1],
            ["scan", {"prefix": key, "keys_only": True}],
            ["scan", {"prefix": key, "keys_only": True, "reverse": True, "limit": 2}],
            ["delete_range", {"prefix": key, "limit": 2}],
            ["scan", {"prefix": key, "keys_only": True}],
        )["results"]
        self.assertEqual(results[3]["entries"], [key + letter for letter in "abef"])
        self.assertEqual(results[4]["entries"], [key + "f", key + "e"])
        self.assertEqual(results[5], {"deleted": 2, "more": True})
        self.assertEqual(results[6]["entries"], [key + "e", key + "f"])

    def test_clients_see_all_of_a_batch_or_nothing(self):
        keys = [f"{self.key}{number}" for number in range(20)]
        with Client(self.daemon) as writer:
            for turn in range(100):
                writer.send_request(turn, "batch", [["put", [key, turn]] for key in keys])
                entries = self.call("scan", {"prefix": self.key})["entries"]
                self.assertLessEqual(len({entry[1] for entry in entries}), 1)
                self.assertIn(len(entries), (0, 20))
            for turn in range(100):
                writer.receive_payload()


class AllOrNothing(DaemonCase):
    def assert_nothing_done(self, function):
        key = self.key
        self.call("put", key + "kept", "kept", {"ttl": 5000000})
        kept = self.call("get", key + "kept")
        before = self.call("stats")["keys"], self.seq()
        function(["put", key + "a", 1], ["delete", key + "kept"], ["increment", key + "n"],
                 ["touch", key + "kept", None])
        self.assertEqual((self.call("stats")["keys"], self.seq()), before)
        self.assertEqual(self.call("get", key + "kept"), kept)
        self.assertEqual(self.call("scan", {"prefix": key})["entries"], [[key + "kept", *kept]])
        self.call("delete", key + "kept")

    def test_a_failed_condition_undoes_everything(self):
        def run(*operations):
            self.fails("conflict", lambda: self.client.batch(
                *operations, ["put", self.key + "x", 1, {"if_exists": True}]
            ), index=4, key=self.key + "x", version=0)

        self.assert_nothing_done(run)

    def test_a_wrong_type_undoes_everything(self):
        def run(*operations):
            self.fails("wrong_type", lambda: self.client.batch(
                *operations, ["put", self.key + "x", "text"], ["increment", self.key + "x"]
            ), index=5, key=self.key + "x")

        self.assert_nothing_done(run)

    def test_a_wrong_argument_undoes_what_came_before_it(self):
        def run(*operations):
            for wrong in (["put", self.key], ["get", ""], ["put", "k", 1, {"typo": 1}],
                          ["scan", {"limit": 0}], ["delete_range"], ["touch", "k", -1]):
                self.fails("bad_request", lambda wrong=wrong: self.client.batch(
                    *operations, wrong, ["get", "k"]), index=4)
            self.fails("too_large", lambda: self.client.batch(
                *operations, ["get", "k" * (MAX_KEY + 1)]), index=4, limit=MAX_KEY)
            self.fails("too_large", lambda: self.client.batch(
                *operations, ["put", "k", value_of_size(MAX_VALUE + 1)]), index=4, limit=MAX_VALUE)

        self.assert_nothing_done(run)

    def test_an_unknown_method_undoes_what_came_before_it(self):
        def run(*operations):
            self.fails("unknown_method", lambda: self.client.batch(*operations, ["nope"]), index=4)

        self.assert_nothing_done(run)

    def test_after_a_failed_batch_everything_goes_on(self):
        self.fails("conflict", lambda: self.client.batch(
            ["put", self.key, 1], ["put", self.key, 2, {"if_version": 0}]))
        seq = self.seq()
        self.assertEqual(self.client.batch(["put", self.key, 3])["seq"], seq + 1)
        self.assertEqual(len(all_changes(self.client, seq)), 1)


class Operations(DaemonCase):
    def test_methods_that_a_batch_may_not_hold_are_refused_by_place(self):
        for method in ("ping", "hello", "stats", "changes"):
            self.fails("bad_request", lambda method=method: self.client.batch(
                ["get", "k"], [method]), index=1)
        self.fails("bad_request", lambda: self.client.batch(["batch", []]), index=0)

    def test_an_operation_is_a_pair_of_method_and_params(self):
        for wrong in (None, 1, "get", [], ["get"], ["get", ["k"], {}], ["get", "k"], ["get", {}],
                      {"get": ["k"]}, [b"get", ["k"]], [1, []], ["get", None]):
            self.refused("bad_request", "batch", [["get", ["k"]], wrong], index=1)
        for wrong in (None, {}, "x", 5):
            self.refused("bad_request", "batch", wrong)

    def test_the_shape_is_checked_before_anything(self):
        shapeless = [["nope", []], ["put", [self.key, 1, {"if_exists": True}]], ["get"]]
        self.refused("bad_request", "batch", shapeless, index=2)
        self.refused("bad_request", "batch", [["get", ["k"]], []], {"if": [[self.key, 9]]}, index=1)
        self.refused("bad_request", "batch", [["get", [""]]],
                     {"if": [[self.key, 9], [self.key]]}, if_=1)

    def test_guards_come_before_operations(self):
        self.refused("conflict", "batch", [["nope", []]], {"if": [[self.key, 9]]}, if_=0)
        self.refused("conflict", "batch", [["get", [""]]], {"if": [[self.key, 9]]}, if_=0)

    def test_each_operation_is_checked_in_its_turn(self):
        self.refused("conflict", "batch", [["put", [self.key, 1, {"if_exists": True}]],
                                           ["get", [""]]], index=0)
        self.refused("bad_request", "batch", [["get", [""]],
                                              ["put", [self.key, 1, {"if_exists": True}]]], index=0)

    def test_options_of_an_operation_are_checked_like_those_of_a_request(self):
        self.refused("bad_request", "batch",
                     [["put", [self.key, 1, Pairs(("ttl", 5), ("ttl", 5))]]], index=0)
        self.refused("bad_request", "batch", [["put", [self.key, 1, {"ttl": None}]]], index=0)
        self.refused("bad_request", "batch", [["get", [self.key]]], {"iff": []})


class Guards(DaemonCase):
    def test_guards_that_hold_let_the_batch_through(self):
        version = self.call("put", self.key + "a", 1)
        reply = self.client.batch(["put", self.key + "b", 2],
                                  if_=[[self.key + "a", version], [self.key + "b", 0]])
        self.assertEqual(reply["seq"], version + 1)
        self.client.batch(["put", self.key + "b", 3], if_=[])

    def test_a_guard_that_fails_is_named_with_key_and_version(self):
        version = self.call("put", self.key + "a", 1)
        for guard, actual in ((version + 1, version), (0, version)):
            detail = self.refused("conflict", "batch", [["put", [self.key + "b", 2]]],
                                  {"if": [[self.key + "b", 0], [self.key + "a", guard]]},
                                  if_=1, key=self.key + "a", version=actual)
            self.assertNotIn("index", detail)
        self.refused("conflict", "batch", [["put", [self.key + "b", 2]]],
                     {"if": [[as_bytes(self.key + "c"), 5]]}, if_=0, key=self.key + "c", version=0)
        self.assertIsNone(self.call("get", self.key + "b"))

    def test_guards_are_of_the_state_before_the_batch(self):
        self.refused("conflict", "batch", [["put", [self.key, 1]]],
                     {"if": [[self.key, self.seq() + 1]]}, if_=0, version=0)
        self.client.batch(["put", self.key, 1], ["delete", self.key], if_=[[self.key, 0]] * 2)

    def test_a_guard_is_a_pair_of_key_and_version(self):
        for wrong in (None, 1, [], ["k"], ["k", 0, 0], [1, 0], ["k", -1], ["k", 1.0], ["k", None],
                      ["k", True], ["", 0], {"k": 0}, "k0"):
            self.refused("bad_request", "batch", [], {"if": [["k", 0], wrong]}, if_=1)
        for wrong in (None, 1, {}, "k", True):
            self.refused("bad_request", "batch", [], {"if": wrong})
        self.refused("too_large", "batch", [], {"if": [["k" * (MAX_KEY + 1), 0]]}, if_=0,
                     limit=MAX_KEY)

    def test_an_expired_key_is_absent_to_a_guard(self):
        self.call("put", self.key, 1, {"ttl": 0})
        self.client.batch(["put", self.key, 2], if_=[[self.key, 0]])


def as_bytes(text):
    return text.encode()


class Limits(DaemonCase):
    def test_a_batch_holds_max_batch_operations(self):
        operations = [["put", [f"{self.key}{number}", number]] for number in range(MAX_BATCH)]
        reply = self.call("batch", operations)
        self.assertEqual(reply["results"], [reply["seq"]] * MAX_BATCH)
        self.assertEqual(self.call("count", {"prefix": self.key}), MAX_BATCH)
        self.refused("too_large", "batch", operations + [["get", ["k"]]], limit=MAX_BATCH)
        self.assertEqual(self.seq(), reply["seq"])

    def test_a_batch_holds_max_batch_guards(self):
        self.client.batch(if_=[[self.key, 0]] * MAX_BATCH)
        self.refused("too_large", "batch", [], {"if": [[self.key, 0]] * (MAX_BATCH + 1)},
                     limit=MAX_BATCH)

    def test_results_over_max_message_are_too_large(self):
        self.call("put", self.key, Raw(pack(value_of_size(MAX_VALUE))))
        self.assertEqual(len(self.client.batch(*[["get", self.key]] * 7)["results"]), 7)
        before = self.seq()
        self.refused("too_large", "batch",
                     [["put", [self.key + "x", 1]]] + [["get", [self.key]]] * 9, limit=MAX_MESSAGE)
        self.assertEqual(self.seq(), before)
        self.assertIsNone(self.call("get", self.key + "x"))

    def test_a_batch_makes_at_most_100000_changes(self):
        value = "x"
        for start in range(0, MAX_CHANGES, MAX_BATCH):
            self.call("batch", [["put", [f"{self.key}{number:06}", value]]
                                for number in range(start, start + MAX_BATCH)])
        self.call("put", self.key + "one more", value)
        delete = ["delete_range", {"prefix": self.key, "limit": MAX_BATCH}]
        before = self.seq()
        self.fails("too_large", lambda: self.client.batch(*[delete] * 11), limit=MAX_CHANGES)
        self.assertEqual(self.seq(), before)
        self.assertEqual(self.call("count", {"prefix": self.key}), MAX_CHANGES + 1)
        results = self.client.batch(*[delete] * 10)["results"]
        self.assertEqual(results, [{"deleted": MAX_BATCH, "more": True}] * 10)
        self.assertEqual(self.call("count", {"prefix": self.key}), 1)
        page = self.call("changes", {"since": before, "limit": 1})
        self.assertEqual((len(page["changes"]), page["seq"]), (MAX_CHANGES, before + 1))
        self.assertEqual([change[1] for change in page["changes"]], list(range(MAX_CHANGES)))


if __name__ == "__main__":
    unittest.main()
