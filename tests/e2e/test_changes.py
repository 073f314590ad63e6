"""The broadcast and the method that catches up: what is said, in which order, how far back."""

import time
import unittest

import msgpack
import zmq

from harness import (
    MAX_KEY, MAX_VALUE, MIB, U64_MAX, Client, CubbyError, Daemon, DaemonCase, Raw, Subscriber, all_changes,
    as_bin, check_reply, eventually, pack, params_of, seeded, split, unpack, value_of_size,
)


class Broadcast(DaemonCase):
    def subscribe(self, *arguments, **options):
        subscriber = Subscriber(self.daemon, *arguments, **options)
        self.addCleanup(subscriber.socket.close)
        return subscriber

    def test_the_first_message_is_the_single_frame_w(self):
        subscriber = self.subscribe(topics=[b"w"])
        self.assertEqual(subscriber.socket.recv_multipart(), [b"w"])

    def test_every_connection_gets_a_w_of_its_own(self):
        for _ in range(3):
            self.subscribe().welcome()

    def test_a_change_has_topic_and_payload(self):
        subscriber = self.subscribe(self.key.encode()).welcome()
        epoch = self.call("hello")["epoch"]
        version = self.call("put", self.key, {"a": 1})
        topic, payload = next(subscriber.messages(b"k"))
        self.assertEqual(topic, b"k" + self.key.encode())
        self.assertEqual(payload, [2, "change", [
            epoch, 0, [version, 0, 1, "put", self.key, {"a": 1}, None]]])
        self.call("delete", self.key)
        _, payload = next(subscriber.messages(b"k"))
        self.assertEqual(payload[2][2], [version + 1, 0, 1, "delete", self.key, None, None])

    def test_values_and_keys_are_broadcast_byte_for_byte(self):
        key = self.key.encode() + b"\xff\0\xfe"
        subscriber = self.subscribe(self.key.encode(), topics=[b"w", b"k" + key]).welcome()
        for value in (b"\xcd\0\x01", b"\xdb\0\0\0\x01\xff", b"\xc7\x01\x81x", b"\xdd\0\0\0\0"):
            self.call("put", as_bin(key), Raw(value))
            topic, payload = subscriber.socket.recv_multipart()
            self.assertEqual(topic, b"k" + key)
            change = split(split(split(payload)[2])[2])
            self.assertEqual(change[5], value)
            self.assertEqual(unpack(change[4]), key)

    def test_a_subscription_filters_by_key_prefix(self):
        key = self.key.encode()
        subscriber = self.subscribe(key + b"a").welcome()
        for name in ("a", "b", "aa", "ab", "A", ""):
            self.call("put", self.key + name, name)
        self.call("put", self.key + "a end", 1)
        names = [change[4][len(self.key):] for _, _, change in subscriber.changes(4)]
        self.assertEqual(names, ["a", "aa", "ab", "a end"])

    def test_a_batch_is_broadcast_in_the_order_of_its_changes(self):
        subscriber = self.subscribe(self.key.encode()).welcome()
        reply = self.client.batch(
            ["put", self.key + "z", 1], ["put", self.key + "a", 2], ["put", self.key + "z", 3],
            ["delete", self.key + "none"])
        self.assertEqual([change for _, _, change in subscriber.changes(2)], [
            [reply["seq"], 0, 2, "put", self.key + "z", 3, None],
            [reply["seq"], 1, 2, "put", self.key + "a", 2, None],
        ])

    def test_a_failed_batch_is_not_broadcast(self):
        subscriber = self.subscribe(self.key.encode()).welcome()
        self.refused("conflict", "batch", [["put", [self.key, 1]],
                                           ["put", [self.key, 2, {"if_version": 0}]]])
        self.call("put", self.key, "next")
        self.assertEqual(subscriber.changes(1)[0][2][5], "next")

    def test_what_is_no_change_is_not_broadcast(self):
        subscriber = self.subscribe(self.key.encode()).welcome()
        self.call("put", self.key, 1)
        self.call("touch", self.key, 10**9)
        self.call("delete", self.key + "none")
        self.call("get", self.key)
        self.call("delete", self.key)
        self.assertEqual([change[3] for _, _, change in subscriber.changes(2)], ["put", "delete"])

    def test_a_value_of_max_value_is_broadcast(self):
        subscriber = self.subscribe(self.key.encode()).welcome()
        self.call("put", self.key, Raw(pack(value_of_size(MAX_VALUE))))
        self.assertEqual(len(subscriber.changes(1)[0][2][5]), MAX_VALUE - 5)
        self.call("delete", self.key)

    def test_a_heartbeat_comes_every_second(self):
        subscriber = self.subscribe(topics=[b"w", b"h"]).welcome()
        subscriber.heartbeat()
        times = [time.monotonic()]
        for _ in range(2):
            epoch, drops, seq, oldest = subscriber.heartbeat()
            times.append(time.monotonic())
            hello = self.call("hello")
            self.assertEqual((epoch, seq, oldest), (hello["epoch"], hello["seq"], hello["oldest"]))
            self.assertIs(type(drops), int)
        self.assertGreater(times[2] - times[0], 1.0)
        self.assertLess(times[2] - times[0], 10.0)

    def test_every_change_up_to_a_heartbeats_seq_has_left_before_it(self):
        subscriber = self.subscribe().welcome()
        last = self.seq()
        heartbeats = 0
        while heartbeats < 2:
            for msgid in range(20):
                self.client.send_request(msgid, "put", self.key, msgid)
            for msgid in range(20):
                self.client.receive_payload()
            while subscriber.socket.poll(1):
                topic, payload = subscriber.receive()
                if topic == b"h":
                    self.assertEqual(params_of(payload, "heartbeat")[2], last)
                    heartbeats += 1
                elif topic[:1] == b"k":
                    seq = params_of(payload, "change")[2][0]
                    self.assertEqual(seq, last + 1)
                    last = seq

    def test_a_subscriber_that_did_not_ask_gets_neither_w_nor_h(self):
        subscriber = self.subscribe(topics=[b"k" + self.key.encode()])
        heard = self.subscribe(topics=[b"w", b"h"]).welcome()

        def arrived():
            self.call("put", self.key, 1)
            return subscriber.socket.poll(10)

        eventually(arrived, "a change")
        heard.heartbeat()
        heard.heartbeat()
        while subscriber.socket.poll(50):
            self.assertEqual(subscriber.socket.recv_multipart()[0], b"k" + self.key.encode())

    def test_unsubscribing_ends_it(self):
        subscriber = self.subscribe(topics=[b"w", b"h", b"k" + self.key.encode()]).welcome()
        self.call("put", self.key, 1)
        subscriber.changes(1)
        subscriber.socket.unsubscribe(b"k" + self.key.encode())
        subscriber.heartbeat()  # time for the daemon to hear of it

        def silent():
            self.call("put", self.key, 2)
            subscriber.heartbeat()
            self.call("put", self.key, 3)
            return subscriber.receive()[0] == b"h"

        eventually(silent, "no more changes")

    def test_a_publisher_takes_nothing_but_subscriptions(self):
        sender = zmq.Context.instance().socket(zmq.XSUB)
        self.addCleanup(sender.close, 0)
        sender.connect(self.daemon.broadcast)
        for frame in (b"\x01k", b"hello", b"", b"\x02", b"\x01" + b"k" * 1500, b"\x01" + b"k" * 9000):
            sender.send(frame)
        subscriber = self.subscribe(self.key.encode()).welcome()
        self.call("put", self.key, 1)
        self.assertEqual(subscriber.changes(1)[0][2][5], 1)

    def test_a_subscription_to_the_longest_key_works(self):
        key = (self.key + "x" * MAX_KEY)[:MAX_KEY]
        subscriber = self.subscribe(key.encode()).welcome()
        self.call("put", key, 1)
        self.assertEqual(subscriber.changes(1)[0][2][4], key)

    def test_broadcast_and_changes_agree(self):
        randomness = seeded(self)
        subscriber = self.subscribe().welcome()
        before = self.seq()
        clients = [Client(self.daemon) for _ in range(4)]
        for client in clients:
            self.addCleanup(client.close)
        keys = [f"{self.key}{number}" for number in range(12)]
        for msgid in range(400):
            client = randomness.choice(clients)
            key = randomness.choice(keys)
            method, *params = randomness.choice([
                ["put", key, msgid], ["put", key, msgid, {"ttl": randomness.choice([0, 5, 10**9])}],
                ["delete", key], ["increment", self.key + "n"], ["touch", key, 20],
                ["delete_range", {"prefix": key}],
                ["batch", [["put", [randomness.choice(keys), None]],
                           ["delete", [randomness.choice(keys)]], ["put", [key, [msgid]]]]],
            ])
            client.send_request(msgid, method, *params)
        for client in clients:
            self.assertTrue(unpack(result_after_all(client)))
        eventually(lambda: not self.expiring(), "everything short-lived expires")
        last = self.call("put", self.key + "end", 1)
        heard = [[before]]
        while heard[-1][0] < last:
            heard.append(subscriber.changes(1)[0][2])
        heard = [change for change in heard if change[0] > before]
        changes = all_changes(self.client, before, limit=17)
        self.assertEqual(heard, changes)
        self.assertEqual(sorted({change[0] for change in changes}),
                         list(range(before + 1, last + 1)))
        self.assertEqual(replayed(changes), {
            entry[0]: entry[1:3] for entry in self.call("scan", {"prefix": self.key})["entries"]})

    def expiring(self):
        now = self.call("hello")["time"]
        entries = self.call("scan", {"prefix": self.key})["entries"]
        return [entry for entry in entries if entry[3] is not None and entry[3] < now + 60000]


def result_after_all(client):
    """Reads replies until that of one last ping."""
    marker = 2**50
    client.send_request(marker, "ping")
    while True:
        payload = client.receive_payload()
        if check_reply(payload)[1] == marker:
            return split(payload)[3]


def replayed(changes):
    """key: [value, version] that the changes add up to."""
    state = {}
    for seq, _, _, kind, key, value, _ in changes:
        if kind == "put":
            state[key] = [value, seq]
        else:
            state.pop(key, None)
    return state


class Changes(DaemonCase):
    def changes(self, **options):
        return self.call("changes", options)

    def test_changes_since_a_seq_come_oldest_first(self):
        before = self.seq()
        for number in range(5):
            self.call("put", self.key, number)
        page = self.changes(since=before)
        self.assertEqual(set(page), {"epoch", "changes", "seq", "oldest"})
        self.assertEqual(page["changes"], [[before + 1 + number, 0, 1, "put", self.key, number, None]
                                           for number in range(5)])
        self.assertEqual((page["seq"], page["oldest"]), (before + 5, 1))
        self.assertEqual(page["epoch"], self.call("hello")["epoch"])

    def test_the_end_is_reached_where_seq_comes_back_as_given(self):
        version = self.call("put", self.key, 1)
        page = self.changes(since=version)
        self.assertEqual((page["changes"], page["seq"]), ([], version))

    def test_since_is_0_where_it_is_left_out(self):
        self.call("put", self.key, 1)
        self.assertEqual(self.changes(limit=1), self.changes(since=0, limit=1))
        self.assertEqual(self.changes(limit=1)["changes"][0][0], 1)

    def test_a_page_holds_whole_transactions_until_limit(self):
        before = self.seq()
        for _ in range(5):
            self.client.batch(*(["put", f"{self.key}{number}", number] for number in range(6)))
        for limit in (1, 5, 6, 7, 11, 12, 13, 29, 30, 31, 10000):
            since, found = before, []
            while True:
                page = self.changes(since=since, limit=limit)
                changes = page["changes"]
                self.assertEqual(len(changes) % 6, 0)
                self.assertLess(len(changes), max(limit, 6) + 6)
                if page["seq"] == since:
                    self.assertEqual(changes, [])
                    break
                self.assertEqual(changes[-1][0], page["seq"])
                since = page["seq"]
                found += changes
            self.assertEqual([change[:3] for change in found], [
                [before + 1 + turn, index, 6] for turn in range(5) for index in range(6)])

    def test_a_page_ends_at_about_1_mib(self):
        before = self.seq()
        for number in range(20):
            self.call("put", f"{self.key}{number:02}", value_of_size(200000))
        since, found, pages = before, [], 0
        while True:
            reply = self.client.call_raw("changes", {"since": since, "prefix": self.key})
            self.assertLess(len(reply), 2 * MIB)
            page = unpack(reply)
            if page["seq"] == since:
                break
            since = page["seq"]
            found += page["changes"]
            pages += 1
        self.assertEqual([change[0] for change in found], list(range(before + 1, before + 21)))
        self.assertGreaterEqual(pages, 3)
        self.call("delete_range", {"prefix": self.key})

    def test_a_prefix_filters_and_the_pages_still_cover_everything(self):
        before = self.seq()
        for number in range(40):
            self.call("put", f"{self.key}other{number}", value_of_size(200000))
        self.client.batch(["put", self.key + "other", 1], ["put", self.key + "mine", 2],
                          ["put", self.key + "other2", 3])
        self.call("put", self.key + "other", 4)
        newest = self.seq()
        since, found = before, []
        while True:
            page = self.changes(since=since, prefix=self.key + "mine")
            self.assertGreaterEqual(page["seq"], since)
            found += page["changes"]
            if page["seq"] == since:
                break
            since = page["seq"]
        self.assertEqual(since, newest)
        self.assertEqual(found, [[before + 41, 1, 3, "put", self.key + "mine", 2, None]])
        self.call("delete_range", {"prefix": self.key})

    def test_a_page_may_be_empty_and_still_move_on(self):
        before = self.seq()
        version = self.call("put", self.key, 1)
        page = self.changes(since=before, prefix="no such/")
        self.assertEqual((page["changes"], page["seq"]), ([], version))

    def test_a_seq_that_is_yet_to_come_is_compacted(self):
        seq = self.call("put", self.key, 1)
        for since in (seq + 1, seq + 1000, U64_MAX):
            self.refused("compacted", "changes", {"since": since}, oldest=1, seq=seq)

    def test_another_epoch_is_compacted(self):
        hello = self.call("hello")
        epoch, seq = hello["epoch"], hello["seq"]
        self.assertEqual(self.changes(since=seq, epoch=epoch)["changes"], [])
        for other in ("", epoch + "x", epoch[:-1], "0"):
            self.refused("compacted", "changes", {"since": seq, "epoch": other}, oldest=1, seq=seq)

    def test_options_are_checked(self):
        for options in ({"since": -1}, {"since": "1"}, {"limit": 0}, {"limit": 10001},
                        {"prefix": 5}, {"epoch": 5}, {"epoch": b"x"}, {"start": "a"}):
            self.refused("bad_request", "changes", options)
        self.refused("too_large", "changes", {"prefix": "x" * (MAX_KEY + 1)}, limit=MAX_KEY)
        self.assertEqual(self.changes(prefix="x" * MAX_KEY)["changes"], [])

    def test_a_key_comes_as_bin_where_it_is_not_utf8(self):
        before = self.seq()
        self.call("put", self.key.encode() + b"\xff", msgpack.ExtType(1, b"x"))
        (change,) = self.changes(since=before)["changes"]
        self.assertEqual(change[4:6], [self.key.encode() + b"\xff", msgpack.ExtType(1, b"x")])

    def test_a_copy_made_by_scan_and_changes_stays_right(self):
        randomness = seeded(self)
        keys = [f"{self.key}{number:02}" for number in range(50)]
        copy, since, after = {}, None, {}
        with Client(self.daemon) as writer:
            for turn in range(60):
                for _ in range(10):
                    key = randomness.choice(keys)
                    if randomness.random() < 0.7:
                        writer.call("put", key, turn)
                    else:
                        writer.call("delete", key)
                if since is None or after:
                    page = self.call("scan", {"prefix": self.key, "limit": 7, **after})
                    since = page["seq"] if since is None else since
                    copy.update((entry[0], entry[1]) for entry in page["entries"])
                    after = {"after": page["next"]} if page["next"] else {}
                    continue
        for _, _, _, kind, key, value, _ in all_changes(self.client, since, prefix=self.key):
            if kind == "put":
                copy[key] = value
            else:
                copy.pop(key, None)
        self.assertEqual(copy, {entry[0]: entry[1] for entry in
                                self.call("scan", {"prefix": self.key})["entries"]})


class Compaction(unittest.TestCase):
    def test_a_new_store_begins_at_oldest_1(self):
        with Daemon() as daemon, Client(daemon) as client:
            hello = client.call("hello")
            self.assertEqual((hello["seq"], hello["oldest"]), (0, 1))
            page = client.call("changes")
            self.assertEqual((page["changes"], page["seq"], page["oldest"]), ([], 0, 1))

    def test_what_is_older_than_the_log_keeps_is_compacted(self):
        with Daemon("--log-retain", "1M", data="none") as daemon, Client(daemon) as client:
            value = value_of_size(MIB - 1000)

            def older_went():
                client.call("put", "key", value)
                return client.call("hello")["oldest"] > 1

            eventually(older_went, "the log lets go of its oldest")
            hello = client.call("hello")
            oldest, seq = hello["oldest"], hello["seq"]
            self.assertLessEqual(oldest, seq)
            page = client.call("changes", {"since": oldest - 1, "limit": 1})
            self.assertEqual((page["changes"][0][0], page["oldest"]), (oldest, oldest))
            for since in (0, oldest - 2):
                with self.assertRaises(CubbyError) as caught:
                    client.call("changes", {"since": since})
                self.assertEqual(caught.exception.code, "compacted")
                self.assertEqual(caught.exception.detail, {"oldest": oldest, "seq": seq})
            self.assertEqual([change[0] for change in all_changes(client, oldest - 1)],
                             list(range(oldest, seq + 1)))

    def test_a_log_on_disk_keeps_at_least_what_it_is_asked_to_over_a_restart(self):
        total = 48
        with Daemon("--log-retain", "16M") as daemon:
            with Client(daemon) as client:
                for number in range(total):
                    client.call("put", f"key{number % 4}", value_of_size(MIB - 1000))
                hello, entries = client.call("hello"), client.call("count")
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                again = client.call("hello")
                self.assertEqual((again["epoch"], again["seq"]), (hello["epoch"], total))
                self.assertLessEqual(again["oldest"], total - 15)
                seqs = [change[0] for change in all_changes(client, again["oldest"] - 1)]
                self.assertEqual(seqs, list(range(again["oldest"], total + 1)))
                self.assertEqual(client.call("count"), entries)
                self.assertEqual([client.call("get", f"key{number}")[1] for number in range(4)],
                                 list(range(total - 3, total + 1)))


class Restarts(unittest.TestCase):
    def test_a_subscriber_hears_w_again_when_the_daemon_comes_back(self):
        with Daemon() as daemon, Subscriber(daemon).welcome() as subscriber:
            epoch = subscriber.heartbeat()[0]
            daemon.restart()
            topic = b"h"
            while topic == b"h":
                topic, payload = subscriber.receive()
            self.assertEqual((topic, payload), (b"w", None))
            self.assertEqual(subscriber.heartbeat()[0], epoch)

    def test_history_goes_on_over_a_restart(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                for number in range(10):
                    client.call("put", f"key{number}", number)
                before = client.call("changes")
            daemon.restart()
            with Client(daemon) as client:
                self.assertEqual(client.call("changes"), before)
                client.call("put", "key", 1)
                self.assertEqual([change[0] for change in all_changes(client)],
                                 list(range(1, 12)))


if __name__ == "__main__":
    unittest.main()
