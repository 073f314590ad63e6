"""What many requests, or large ones, of one client mean to the others. By counts, not by the clock."""

import itertools
import os
import pathlib
import re
import signal
import time
import unittest

from harness import (DEADLINE_S, Client, Daemon, Raw, Subscriber, check_reply, deadline, eventually, pack,
                     request, unpack)

TURN_ENOUGH = 256  # as in daemon/exchanges.h
TURN_ENOUGH_TO_SYNC = 512
WINDOW = 16
INBOX_OF_ONE = 128  # as in daemon/inbox.h
INBOX_OF_ALL = 1024
DEFERRED_MAX_REQUESTS = 1024  # as in daemon/deferred.h
KEYS = 50
LONG_READ = [["scan", [{"keys_only": True, "limit": 10_000}]]] * 5  # few bytes, and milliseconds
OPERATIONS = pack([["increment", [f"key{number % KEYS}"]] for number in range(10_000)])


class Case(unittest.TestCase):
    """A daemon for each test, since stats are of all of its turns."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.clean)
        self.daemon.start()

    def pause(self):
        os.kill(self.daemon.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.daemon.process.pid, signal.SIGCONT)


class Fairness(Case):
    def test_a_client_is_served_in_between_the_requests_of_one_that_has_many_outstanding(self):
        total, few = 30_000, 50
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog, Client(self.daemon) as other:
            hog.call("ping")
            other.call("ping")
            self.pause()
            for msgid in range(total):
                hog.send_request(msgid, "put", f"hog{msgid % 100}", msgid)
            for msgid in range(few):
                other.send_request(msgid, "put", "other", msgid)
            self.resume()
            versions = [check_reply(other.receive_payload())[3] for _ in range(few)]
        self.assertLess(versions[-1], total // 2)

    def test_a_client_is_served_in_between_the_requests_of_many_that_have_many_outstanding(self):
        clients, each, few = 50, 600, 4
        hogs = [Client(self.daemon, RCVHWM=0, SNDHWM=0) for _ in range(clients)]
        with Client(self.daemon) as other:
            for client in [other, *hogs]:
                self.addCleanup(client.close)
                client.call("ping")
            self.pause()
            for msgid, hog in itertools.product(range(each), hogs):
                hog.send_request(msgid, "put", "hog", msgid)
            self.resume()
            hogs[0].receive_payload()
            seqs = [other.call("put", "other", number) for number in range(few)]
        between = sorted(after - before for before, after in zip(seqs, seqs[1:]))
        self.assertLess(between[len(between) // 2], 4 * INBOX_OF_ALL, between)

    def test_a_turn_takes_few_requests_of_one_client_alone(self):
        total = 20_000
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog:
            self.pause()
            for msgid in range(total):
                hog.send_request(msgid, "put", f"hog{msgid % 100}", msgid)
            self.resume()
            for _ in range(total):
                hog.receive_payload()
            self.assertLessEqual(hog.call("stats")["group_max"], TURN_ENOUGH + WINDOW)

    def test_a_large_batch_has_a_turn_of_its_own(self):
        operations = [["increment", [f"key{number % 50}"]] for number in range(10_000)]
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as hog:
            self.pause()
            for msgid in range(8):
                hog.send_request(msgid, "batch", operations)
            self.resume()
            for _ in range(8):
                hog.receive_payload()
            self.assertLessEqual(hog.call("stats")["group_max"], 2)

    def test_stats_say_how_turns_are_distributed(self):
        with Client(self.daemon) as client:
            for number in range(100):
                client.call("put", "key", number)
            stats = client.call("stats")
        self.assertEqual(stats["turns"], 100)
        for name in ("turn", "commit"):
            self.assertLessEqual(stats[f"{name}_p50_us"], stats[f"{name}_p99_us"])
            self.assertLessEqual(stats[f"{name}_p99_us"], stats[f"{name}_max_us"])
        self.assertEqual((stats["group_p50"], stats["group_p99"], stats["group_max"]), (1, 1, 1))


class SlowDisk(unittest.TestCase):
    """The disk is waited for while a file is there."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.clean)
        self.switch = os.path.join(self.daemon.directory, "waits")
        self.daemon.env.update(LD_PRELOAD=os.environ["FAILING_DISK_LIBRARY"], WAITING_DISK=self.switch)
        self.daemon.start()

    def test_behind_a_commit_that_took_long_a_turn_takes_more_than_is_enough(self):
        """How many are there by then is up to the machine, hence as many rounds as that takes."""
        end, each, largest = deadline(), 20, 0
        clients = [Client(self.daemon, RCVHWM=0, SNDHWM=0) for _ in range(60)]
        for client in clients:
            self.addCleanup(client.close)
            client.call("ping")
        while largest < TURN_ENOUGH_TO_SYNC + 2 * WINDOW:
            self.assertLess(time.monotonic(), end, largest)
            pathlib.Path(self.switch).touch()
            clients[0].send_request(0, "put", "first", 0)
            for msgid, client in itertools.product(range(1, each), clients):
                client.send_request(msgid, *(("put", "key", 0) if msgid == 1 else ("ping",)))
            os.unlink(self.switch)
            clients[0].receive_payload()
            for client in clients:
                for _ in range(1, each):
                    client.receive_payload()
            largest = clients[0].call("stats")["group_max"]


class HeavyRequests(Case):
    """One client sends batches of 10,000 operations, and the others come before it."""

    def setUp(self):
        super().setUp()
        self.hog = self.client(RCVHWM=0, SNDHWM=0)
        self.other = self.client(RCVHWM=0, SNDHWM=0)
        self.sent = 0  # batches

    def client(self, **options):
        client = Client(self.daemon, **options)
        self.addCleanup(client.close)
        return client

    def send_batch(self, client=None):
        """One more, each operation of which adds 1 to a key."""
        self.sent += 1
        (client or self.hog).send_payload(request(self.sent, "batch", Raw(OPERATIONS)))
        return self.sent

    def serve_others_until(self, condition):
        """Calls of the other client until the condition is true, and how many."""
        end, calls = deadline(), 0
        while not condition():
            self.assertLess(time.monotonic(), end)
            self.other.call("put", "other", calls)
            calls += 1
        return calls

    def has_reply(self, client):
        return lambda: client.socket.poll(0)

    def put_on_record(self, client=None):
        self.send_batch(client)
        check_reply((client or self.hog).receive_payload())

    def fill(self):
        """Keys for LONG_READ."""
        self.hog.call("batch", [["put", [f"key{number}", number]] for number in range(10_000)])

    def sleeps(self):
        """How often the daemon's own thread has gone to sleep."""
        with open(f"/proc/{self.daemon.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read(), re.M).group(1))

    def hold(self, count):
        """So many batches of a peer on record, until the daemon has read them."""
        self.put_on_record()
        before = self.other.call("stats")["requests"]
        for _ in range(count):
            self.send_batch()
        calls = itertools.count(1)
        self.serve_others_until(
            lambda: self.other.call("stats")["requests"] - 2 * next(calls) >= before + count - 1)

    def check_replies(self, client, msgids):
        for msgid in msgids:
            self.assertEqual(check_reply(client.receive_payload())[1], msgid)

    def total(self):
        return sum(self.other.call("get", f"key{number}")[0] for number in range(KEYS))

    def test_others_are_served_many_times_between_two_heavy_requests(self):
        """What it would serve in between if it gave no way: what a turn takes of one client. Whether the
        others keep it busy meanwhile is up to the machine, hence as many rounds as that takes."""
        self.fill()
        limit, most, end = TURN_ENOUGH + WINDOW, 0, deadline()
        while most <= 2 * limit:
            self.assertLess(time.monotonic(), end, most)
            msgids, puts = range(2 * WINDOW), range(10 * limit)
            self.pause()
            for msgid in msgids:
                self.hog.send_payload(request(msgid, "batch", LONG_READ))
            for msgid in puts:
                self.other.send_request(msgid, "put", "other", msgid)
            self.resume()
            self.check_replies(self.other, puts)
            seqs = [check_reply(self.hog.receive_payload())[3]["seq"] for _ in msgids]
            most = max(after - before for before, after in zip(seqs, seqs[1:]))

    def test_two_heavy_clients_take_turns(self):
        second = self.client()
        for client in (self.hog, second):
            self.put_on_record(client)
        for _ in range(3):
            self.send_batch(self.hog)
        self.send_batch(second)
        self.serve_others_until(self.has_reply(second))
        versions = [check_reply(self.hog.receive_payload())[3]["seq"] for _ in range(3)]
        own = check_reply(second.receive_payload())[3]["seq"]
        self.assertLess(own, versions[-1])

    def test_the_requests_of_a_client_keep_their_order(self):
        self.put_on_record()
        expected = []
        for number in range(4):
            expected.append(self.send_batch())
            for kind in ("put", "get", "scan"):
                msgid = 1000 * (number + 1) + len(expected)
                self.hog.send_request(msgid, kind, *{"put": ("own", msgid), "get": ("own",)}.get(kind, ()))
                expected.append(msgid)
            self.hog.send(b"three", b"frames", b"here")
            expected.append(None)
        self.serve_others_until(self.has_reply(self.hog))
        for msgid in expected:
            reply = check_reply(self.hog.receive_payload())
            self.assertEqual(reply[1], msgid)
            if msgid is None:
                self.assertEqual(reply[2][0], "bad_request")
        self.assertEqual(self.total(), 10_000 * self.sent)

    def test_a_heavy_request_does_not_wait_once_the_others_are_silent(self):
        """Nothing wakes the daemon then but itself. If it did not, the next heartbeat would, whose seq
        is that of what was carried out in the same turn."""
        end, woken = deadline(), False
        with Subscriber(self.daemon, topics=[b"w", b"h"]) as subscriber:
            subscriber.welcome()
            while not woken:
                self.assertLess(time.monotonic(), end)
                self.hold(1)
                before = self.other.call("put", "other", "the last before the silence")
                seq = check_reply(self.hog.receive_payload())[3]["seq"]
                after = self.other.call("put", "other", "the first after it")
                seqs = [subscriber.heartbeat()[2]]
                while seqs[-1] < after:
                    seqs.append(subscriber.heartbeat()[2])
                woken = before < seq and seq not in seqs

    def test_a_client_alone_waits_for_nobody(self):
        """A daemon that makes a request wait sleeps meanwhile."""
        self.fill()
        before = self.hog.call("stats")["deferred"]
        msgids = range(4 * WINDOW)
        self.pause()
        for msgid in msgids:
            self.hog.send_payload(request(msgid, "batch", LONG_READ))
        slept = self.sleeps()
        self.resume()
        self.check_replies(self.hog, msgids)
        slept = self.sleeps() - slept
        deferred = self.hog.call("stats")["deferred"] - before
        self.assertGreaterEqual(deferred, 2 * WINDOW)
        self.assertLess(slept, deferred // 2)

    def test_ten_batches_of_a_client_alone_are_carried_out(self):
        self.put_on_record()
        for _ in range(10):
            self.send_batch()
        self.check_replies(self.hog, range(2, 12))
        self.assertEqual(self.total(), 110_000)

    def test_what_waits_is_answered_at_a_stop(self):
        self.hold(5)
        self.daemon.process.send_signal(signal.SIGTERM)
        replies = [unpack(self.hog.receive_payload()) for _ in range(5)]
        self.assertEqual([(reply[1], reply[2]) for reply in replies],
                         [(msgid, None) for msgid in range(2, 7)])
        self.assertEqual(self.daemon.process.wait(DEADLINE_S), 0)

    def test_what_a_client_has_sent_is_carried_out_though_it_has_left(self):
        self.hold(3)
        self.hog.close()
        eventually(lambda: self.total() == 10_000 * self.sent, "all batches are carried out")
        self.assertEqual(self.other.call("stats")["undelivered"] > 0, True)

    def test_few_are_carried_out_between_two_requests_of_another_though_more_are_there_than_may_wait(self):
        self.fill()
        puts, count = 9, DEFERRED_MAX_REQUESTS + 8 * INBOX_OF_ONE
        self.other.call("ping")
        self.pause()
        for msgid in range(count):
            self.hog.send_payload(request(msgid, "batch", LONG_READ))
        self.resume()
        self.check_replies(self.hog, [0])
        seqs = [self.other.call("put", "other", number) for number in range(puts)]
        heavy = [check_reply(self.hog.receive_payload())[3]["seq"]]
        while heavy[-1] < seqs[-1]:
            heavy.append(check_reply(self.hog.receive_payload())[3]["seq"])
        between = sorted(heavy.count(seq) for seq in seqs[:-1])
        self.assertLess(between[len(between) // 2], WINDOW, between)

    def test_more_than_fit_are_carried_out_in_order(self):
        count = 3 * DEFERRED_MAX_REQUESTS
        self.put_on_record()
        for msgid in range(count):
            self.hog.send_request(msgid, "batch", [["increment", ["count"]]])
        self.serve_others_until(self.has_reply(self.hog))
        for msgid in range(count):
            reply = check_reply(self.hog.receive_payload())
            self.assertEqual((reply[1], reply[3]["results"][0][0]), (msgid, msgid + 1))


if __name__ == "__main__":
    unittest.main()
