"""Watches: what a client is told, when, and at which price to the others."""

import time
import unittest

import msgpack

from harness import (
    MAX_BATCH, MAX_KEY, MIB, U64_MAX, Client, CubbyError, Daemon, DaemonCase, all_changes,
    check_error, check_reply, deadline, eventually, result_of, unpack, value_of_size,
)

MAX_CREDIT = 2**32 - 1
MAX_WATCHES = 10000
IDLE_S = 5  # with credit something comes at least so often


def begin(client, **options):
    """The number of a new watch."""
    return client.call("watch", options)["watch"]


def notification(client, watch, seconds=60):
    """The next one of that watch: (from, to, changes)."""
    return params_of(client.receive(seconds)[-1], watch)


def params_of(payload, watch):
    kind, method, params = unpack(payload)
    assert (kind, method) == (2, "watch") and params[0] == watch, (kind, method, params, watch)
    assert len(params) == 4 and params[1] <= params[2], params
    return params[1:]


def end_of(payload, watch):
    """The error of a watch.end."""
    kind, method, params = unpack(payload)
    assert (kind, method) == (2, "watch.end") and params[0] == watch, (kind, method, params, watch)
    check_error(*params[1])
    return params[1]


class Watches(DaemonCase):
    def test_the_reply_names_watch_epoch_and_newest_seq(self):
        hello, watches = self.call("hello"), self.call("stats")["watches"]
        reply = self.call("watch", {"prefix": self.key})
        self.assertEqual(set(reply), {"watch", "epoch", "seq"})
        self.assertEqual((reply["epoch"], reply["seq"]), (hello["epoch"], hello["seq"]))
        self.assertIs(type(reply["watch"]), int)
        self.assertEqual(self.call("stats")["watches"], watches + 1)
        version = self.call("put", self.key, "x")
        self.assertEqual(notification(self.client, reply["watch"]),
                         [hello["seq"], version, [[version, 0, 1, "put", self.key, "x", None]]])

    def test_the_reply_comes_before_the_first_notification(self):
        before = self.seq()
        for number in range(50):
            self.call("put", self.key, number)
        for _ in range(20):
            reply = self.call("watch", {"since": before, "prefix": self.key, "credit": 1})
            since, to, changes = notification(self.client, reply["watch"])
            self.assertEqual((since, changes[0][5]), (before, 0))
            self.assertLessEqual(to, reply["seq"])
            self.call("watch.cancel", reply["watch"])

    def test_nothing_comes_after_the_reply_to_cancel(self):
        with Client(self.daemon) as writer:
            for number in range(30):
                watch = begin(self.client, prefix=self.key, credit=1000)
                for msgid in range(100):
                    writer.send_request(msgid, "put", self.key, msgid)
                self.client.send_request(number, "watch.cancel", watch)
                payload = self.client.receive_payload()
                while unpack(payload)[0] == 2:
                    params_of(payload, watch)
                    payload = self.client.receive_payload()
                self.assertEqual(check_reply(payload), [1, number, None, True])
                for _ in range(100):
                    writer.receive_payload()
                self.assertTrue(self.client.silent())
                self.refused("not_found", "watch.cancel", watch)

    def test_an_empty_frame_before_the_request_is_repeated(self):
        with Client(self.daemon, empty_frame=True) as client:
            watch = begin(client, prefix=self.key)
            self.call("put", self.key, 1)
            frames = client.receive()
            self.assertEqual(frames[0], b"")
            self.assertEqual(len(params_of(frames[1], watch)[2]), 1)

    def test_a_prefix_filters(self):
        watch = begin(self.client, prefix=self.key + "a")
        seq = self.seq()
        with Client(self.daemon) as writer:
            reply = writer.batch(["put", self.key + "b", 1], ["put", self.key + "a", 2],
                                 ["put", self.key, 3], ["put", self.key + "a/x", 4])
        self.assertEqual(notification(self.client, watch), [seq, reply["seq"], [
            [reply["seq"], 1, 4, "put", self.key + "a", 2, None],
            [reply["seq"], 3, 4, "put", self.key + "a/x", 4, None]]])

    def test_changes_outside_the_prefix_cause_no_notification(self):
        begin(self.client, prefix=self.key + "a", credit=100)
        with Client(self.daemon) as writer:
            for _ in range(100):
                writer.call("put", self.key + "b", 1)
        self.assertFalse(self.client.socket.poll(500))

    def test_a_watch_from_the_past_is_what_changes_gives(self):
        before = self.seq()
        for number in range(300):
            self.client.batch(["put", f"{self.key}{number % 7}", number],
                              ["delete", f"{self.key}{(number + 3) % 7}"])
        for prefix in (self.key, self.key + "3", self.key + "none"):
            watch = begin(self.client, since=before, prefix=prefix, credit=1000)
            with Client(self.daemon) as other:
                expected = all_changes(other, before, prefix=prefix)
            place, found = before, []
            while place < self.seq_of_another():
                since, to, changes = notification(self.client, watch)
                self.assertEqual(since, place)
                place, found = to, found + changes
            self.assertEqual(found, expected)
            self.call_through("watch.cancel", watch)

    def seq_of_another(self):
        with Client(self.daemon) as client:
            return client.call("hello")["seq"]

    def call_through(self, method, *params):
        """A call while notifications may come."""
        self.client.send_request(1, method, *params)
        payload = self.client.receive_payload()
        while unpack(payload)[0] == 2:
            payload = self.client.receive_payload()
        return unpack(result_of(payload, 1))

    def test_each_notification_spends_a_credit_and_without_any_it_is_silent(self):
        watch = begin(self.client, prefix=self.key, credit=2)
        with Client(self.daemon) as writer:
            place = writer.call("hello")["seq"]
            for number in range(2):
                writer.call("put", self.key, number)
                since, place, _ = notification(self.client, watch)
            for number in range(10):
                writer.call("put", self.key, number)
            self.assertTrue(self.client.silent())
            self.assertFalse(self.client.socket.poll(6000))
        self.assertIs(self.call("watch.credit", watch, 1), True)
        since, to, changes = notification(self.client, watch)
        self.assertEqual(since, place)
        self.assertEqual([change[5] for change in changes], list(range(10)))
        self.assertTrue(self.client.silent())
        self.call("put", self.key, "more")
        self.assertTrue(self.client.silent())

    def test_a_watch_may_begin_without_credit(self):
        before = self.seq()
        version = self.call("put", self.key, 1)
        watch = begin(self.client, prefix=self.key, since=before, credit=0)
        self.assertTrue(self.client.silent())
        self.call("watch.credit", watch, MAX_CREDIT)
        self.call_through("watch.credit", watch, MAX_CREDIT)
        version = self.call_through("put", self.key, 2)
        place = 0
        while place < version:
            _, place, _ = notification(self.client, watch)

    def test_an_idle_watch_hears_at_least_every_5_s_how_far_history_is(self):
        watch = begin(self.client, prefix=self.key + "none")
        with Client(self.daemon) as writer:
            writer.call("put", self.key, 1)
            seq = writer.call("hello")["seq"]
            began = time.monotonic()
            self.assertEqual(notification(self.client, watch, IDLE_S + 3), [seq - 1, seq, []])
            self.assertEqual(notification(self.client, watch, IDLE_S + 3), [seq, seq, []])
            self.assertGreater(time.monotonic() - began, 2)

    def test_a_watch_is_nobody_elses(self):
        watch = begin(self.client, prefix=self.key)
        with Client(self.daemon) as other:
            for method, *params in (["watch.credit", watch, 1], ["watch.cancel", watch]):
                with self.assertRaises(CubbyError) as caught:
                    other.call(method, *params)
                self.assertEqual(caught.exception.code, "not_found")
        self.call("put", self.key, 1)
        self.assertEqual(len(notification(self.client, watch)[2]), 1)
        self.refused("not_found", "watch.credit", watch + 12345, 1)

    def test_a_client_may_have_many_watches(self):
        watches = [begin(self.client, prefix=f"{self.key}{number % 5}") for number in range(50)]
        with Client(self.daemon) as writer:
            writer.call("put", self.key + "3", 1)
        heard = sorted(unpack(self.client.receive_payload())[2][0] for _ in range(10))
        self.assertEqual(heard, sorted(watches[3::5]))
        self.assertTrue(self.client.silent())

    def test_arguments_are_checked(self):
        for options in ({"credit": -1}, {"credit": MAX_CREDIT + 1}, {"credit": "1"}, {"since": -1},
                        {"prefix": 5}, {"epoch": 5}, {"limit": 5}, {"credit": None}):
            self.refused("bad_request", "watch", options)
        self.refused("too_large", "watch", {"prefix": "x" * (MAX_KEY + 1)}, limit=MAX_KEY)
        self.refused("compacted", "watch", {"since": self.seq() + 1})
        self.refused("compacted", "watch", {"since": U64_MAX})
        self.refused("compacted", "watch", {"epoch": "another"})
        for params in ([], [1], [1, 0], [1, MAX_CREDIT + 1], [1, 2, 3], ["x", 1], [1.0, 1]):
            self.refused("bad_request", "watch.credit", *params)
        for params in ([], [-1], [None], [1, 2]):
            self.refused("bad_request", "watch.cancel", *params)
        self.refused("bad_request", "batch", [["watch", []]], index=0)

    def test_as_a_notification_it_is_ignored(self):
        watches = self.call("stats")["watches"]
        self.client.send_payload(msgpack.packb([2, "watch", [{"prefix": self.key}]]))
        self.assertTrue(self.client.silent())
        self.assertEqual(self.call("stats")["watches"], watches)

    def test_credit_and_cancel_may_come_as_notifications(self):
        watch = begin(self.client, prefix=self.key, credit=0)
        self.call("put", self.key, 1)
        self.client.send_payload(msgpack.packb([2, "watch.credit", [watch, 1]]))
        self.assertEqual(len(notification(self.client, watch)[2]), 1)
        self.client.send_payload(msgpack.packb([2, "watch.cancel", [watch]]))
        self.assertTrue(self.client.silent())
        self.refused("not_found", "watch.credit", watch, 1)

    def test_a_transaction_is_never_split(self):
        watch = begin(self.client, prefix=self.key)
        with Client(self.daemon) as writer:
            reply = writer.batch(*(["put", f"{self.key}{number:05}", b"x" * 300]
                                   for number in range(MAX_BATCH)))
        _, to, changes = notification(self.client, watch)
        self.assertEqual((to, len(changes)), (reply["seq"], MAX_BATCH))
        self.assertEqual([change[1] for change in changes], list(range(MAX_BATCH)))
        self.call_through("delete_range", {"prefix": self.key, "limit": MAX_BATCH})

    def test_a_failed_batch_is_not_heard_of(self):
        watch = begin(self.client, prefix=self.key)
        with Client(self.daemon) as writer:
            with self.assertRaises(CubbyError):
                writer.batch(["put", self.key, 1], ["put", self.key, 2, {"if_version": 0}])
            writer.call("put", self.key, 3)
        self.assertEqual([change[5] for change in notification(self.client, watch)[2]], [3])

    def test_an_expiry_is_heard_of(self):
        watch = begin(self.client, prefix=self.key)
        self.client.send_request(1, "put", self.key, 1, {"ttl": 50})
        kinds = []
        while len(kinds) < 2:
            payload = self.client.receive_payload()
            if unpack(payload)[0] == 2:
                kinds += [change[3] for change in params_of(payload, watch)[2]]
        self.assertEqual(kinds, ["put", "expire"])


class Ends(unittest.TestCase):
    def trim(self, client, prefix):
        """Writes until history from before has gone."""
        before = client.call("hello")["seq"]

        def gone():
            client.call("put", prefix + "key", value_of_size(MIB - 1000))
            return client.call("hello")["oldest"] > before + 1

        eventually(gone, "the log lets go of its oldest")

    def test_a_watch_whose_place_is_gone_ends_compacted_also_without_credit(self):
        with Daemon("--log-retain", "1M", data="none") as daemon, Client(daemon) as client, \
                Client(daemon) as writer:
            writer.call("put", "a", 1)
            without = begin(client, credit=0)
            quiet = begin(client, credit=0, prefix="quiet")
            self.trim(writer, "")
            for watch in (without, quiet):
                code, _, detail = end_of(client.receive_payload(), watch)
                hello = writer.call("hello")
                self.assertEqual(code, "compacted")
                self.assertLessEqual(detail["seq"], hello["seq"])
                self.assertGreater(detail["oldest"], 1)
            for watch in (without, quiet):
                with self.assertRaises(CubbyError) as caught:
                    client.call("watch.credit", watch, 1)
                self.assertEqual(caught.exception.code, "not_found")
            self.assertEqual(client.call("stats")["watches"], 0)

    def test_a_watch_with_credit_is_told_before_its_place_goes(self):
        with Daemon("--log-retain", "1M", data="none") as daemon, Client(daemon) as client, \
                Client(daemon) as writer:
            writer.call("put", "a", 1)
            watch = begin(client, prefix="quiet", credit=1000)
            self.trim(writer, "")
            self.trim(writer, "")
            writer.call("put", "quiet", 1)
            place, changes = 1, []
            while not changes:
                since, to, changes = notification(client, watch)
                self.assertEqual(since, place)
                place = to
            self.assertEqual(changes[0][4], "quiet")

    def test_a_stop_of_the_daemon_ends_all_with_unavailable(self):
        with Daemon() as daemon, Client(daemon) as client, Client(daemon) as other:
            watches = [begin(client), begin(client, credit=0)]
            others = begin(other)
            daemon.stop()
            ends = [client.socket.recv() for _ in watches]
            for watch, end in zip(sorted(watches), sorted(ends)):
                self.assertEqual(end_of(end, watch)[0], "unavailable")
            self.assertEqual(end_of(other.socket.recv(), others)[0], "unavailable")

    def test_a_number_of_before_a_restart_is_nobodys(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                watch = begin(client)
            daemon.restart()
            with Client(daemon) as client:
                begin(client)
                with self.assertRaises(CubbyError) as caught:
                    client.call("watch.cancel", watch)
                self.assertEqual(caught.exception.code, "not_found")

    def test_watches_go_with_their_client(self):
        with Daemon() as daemon, Client(daemon) as client:
            for _ in range(20):
                with Client(daemon) as other:
                    for number in range(10):  # credit for more than what is sent before it is known
                        begin(other, credit=100000 * (number % 2))
            eventually(lambda: client.call("put", "key", 1) and
                       client.call("stats")["watches"] == 0, "all have gone")

    def test_watches_without_credit_go_with_their_connection_and_no_others(self):
        with Daemon() as daemon, Client(daemon) as client:
            seq = client.call("hello")["seq"]
            kept = []
            for _ in range(30):
                with Client(daemon) as other:
                    begin(other, credit=0)
                    spent = begin(other, credit=1)
                    client.call("put", "key", 1)
                    notification(other, spent)
                kept.append(Client(daemon))  # soon by a connection of the same number
                kept[-1].watch = begin(kept[-1], credit=0, since=seq)
            eventually(lambda: client.call("stats")["watches"] == len(kept), "the others have gone")
            for other in kept:
                other.send_request(7, "watch.credit", other.watch, 1)
                replies = [unpack(other.receive()[-1]) for _ in range(2)]
                self.assertIn([1, 7, None, True], replies)
                other.close()
            eventually(lambda: client.call("stats")["watches"] == 0, "all have gone")


class Many(unittest.TestCase):
    def test_a_thousand_watches_at_once_hear_what_is_theirs(self):
        with Daemon() as daemon, Client(daemon, SNDHWM=0) as writer:
            clients = [Client(daemon) for _ in range(100)]
            try:
                watches = {}
                for number in range(1000):
                    watches[number] = begin(clients[number % 100], prefix=f"{number:03}/")
                everything = [begin(client) for client in clients[:10]]
                self.assertEqual(writer.call("stats")["watches"], 1010)
                for number in range(1000):
                    writer.send_request(number, "put", f"{number:03}/key", number)
                for _ in range(1000):
                    writer.receive_payload()
                heard = {number: [] for number in range(1000)}
                for place, client in enumerate(clients):
                    wanted = 10 + (1000 if place < 10 else 0)
                    mine = {watches[number]: number for number in range(place, 1000, 100)}
                    while wanted > 0:
                        _, _, (watch, _, _, changes) = unpack(client.receive_payload())
                        if watch in mine:
                            heard[mine[watch]] += [change[5] for change in changes]
                        else:
                            self.assertIn(watch, everything)
                        wanted -= len(changes)
                self.assertEqual(heard, {number: [number] for number in range(1000)})
            finally:
                for client in clients:
                    client.close()

    def test_more_than_max_watches_are_busy(self):
        with Daemon() as daemon, Client(daemon, SNDHWM=0, RCVHWM=0) as client:
            self.assertEqual(client.call("hello")["limits"]["max_watches"], MAX_WATCHES)
            for msgid in range(MAX_WATCHES + 5):
                client.send_request(msgid, "watch", {"prefix": f"{msgid}/", "credit": 1})
            replies = [check_reply(client.receive_payload()) for _ in range(MAX_WATCHES + 5)]
            self.assertEqual([error for _, _, error, _ in replies[:MAX_WATCHES]], [None] * MAX_WATCHES)
            for _, _, error, _ in replies[MAX_WATCHES:]:
                self.assertEqual((error[0], error[2]), ("busy", {"limit": MAX_WATCHES}))
            self.assertEqual(client.call("stats")["watches"], MAX_WATCHES)
            client.call("watch.cancel", replies[77][3]["watch"])
            client.call("watch")

    def test_a_watcher_that_does_not_read_holds_up_nobody_and_loses_nothing(self):
        total, value = 2000, "x" * 20000
        with Daemon() as daemon, Client(daemon) as writer, Client(daemon, RCVHWM=1) as deaf, \
                Client(daemon) as client:
            numbers = begin(deaf, credit=MAX_CREDIT), begin(client, credit=MAX_CREDIT)
            for number in range(total):
                writer.call("put", f"key{number % 10}", value)
                if number % 10 == 0:
                    self.assertIs(writer.call("ping"), True)
            for one, number in ((client, numbers[1]), (deaf, numbers[0])):
                place, found = 0, 0
                while found < total:
                    since, place_, changes = notification(one, number)
                    self.assertEqual(since, place)
                    place, found = place_, found + len(changes)

    def test_a_client_that_vanishes_while_much_is_on_its_way_costs_nobody_anything(self):
        with Daemon() as daemon, Client(daemon) as client:
            for _ in range(200):
                client.call("put", "key", "x" * 50000)
            for _ in range(10):
                with Client(daemon, RCVHWM=1) as other:
                    begin(other, since=0, credit=1000)
                    other.receive()
                client.call("put", "key", 1)
            end = deadline()
            while client.call("stats")["watches"] > 0 and time.monotonic() < end:
                client.call("put", "key", 1)
            self.assertEqual(client.call("stats")["watches"], 0)


if __name__ == "__main__":
    unittest.main()
