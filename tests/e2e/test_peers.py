"""Peers that misbehave, leave, or are many: each costs itself, and nobody else."""

import contextlib
import os
import pathlib
import resource
import socket
import struct
import threading
import time
import unittest

import zmq

from harness import (
    LONG, MAX_BATCH, MAX_CHANGES, MAX_MESSAGE, MIB, Client, Daemon, DaemonCase, Subscriber, as_bin, check_reply, deadline,
    eventually, is_sanitized, request, resident_size, seeded, unpack,
)
from zmtp import COMMAND, PING, PING_TTL, Peer, frame

RECEIVE_HWM = 1000  # as in daemon/sockets.h
MANY = 2 * RECEIVE_HWM  # requests, more than it may have read while it waits for the disk


class Requests(DaemonCase):
    def assert_serves(self):
        with Client(self.daemon) as client:
            self.assertIs(client.call("ping"), True)
            client.call("put", self.key + "alive", 1)

    def test_a_peer_may_vanish_before_its_reply(self):
        for number in range(50):
            with Client(self.daemon) as client:
                for turn in range(20):
                    client.send_request(turn, "put", f"{self.key}{number}", turn)
                if number % 2:
                    client.receive()
            self.assert_serves()

    def test_a_peer_that_never_reads_its_replies_holds_up_nobody(self):
        self.call("put", self.key, "x" * 60000)
        with Client(self.daemon, RCVHWM=1, SNDHWM=0) as deaf:
            for turn in range(4000):
                deaf.send_request(turn, "get", self.key)
            for _ in range(50):
                self.assert_serves()
            eventually(lambda: self.call("stats")["requests"] > 4000, "all are read")
            self.assert_serves()
        self.assert_serves()

    def test_a_client_with_20000_outstanding_requests_gets_all_replies_in_order(self):
        total = 20000
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as client:
            for msgid in range(total):
                client.send_request(msgid, "put", f"{self.key}{msgid % 100}", msgid)
            versions = []
            for msgid in range(total):
                _, answered, error, version = check_reply(client.receive_payload())
                self.assertEqual((answered, error), (msgid, None))
                versions.append(version)
        self.assertEqual(versions, list(range(versions[0], versions[0] + total)))

    def test_200_connections_are_served_side_by_side(self):
        clients = [Client(self.daemon) for _ in range(200)]
        try:
            for turn in range(3):
                for number, client in enumerate(clients):
                    client.send_request(turn, "increment", f"{self.key}{number % 10}")
                for client in clients:
                    self.assertEqual(check_reply(client.receive_payload())[1:3], [turn, None])
            self.assertGreaterEqual(self.call("stats")["connections"], 200)
        finally:
            for client in clients:
                client.close()
        counts = self.call("scan", {"prefix": self.key})["entries"]
        self.assertEqual([entry[1] for entry in counts], [60] * 10)
        eventually(lambda: self.call("stats")["connections"] <= 20, "connections are let go")

    def test_increments_of_many_clients_add_up(self):
        def work():
            with Client(self.daemon) as client:
                for _ in range(100):
                    client.call("increment", self.key)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.call("get", self.key)[0], 800)

    def test_a_peer_may_choose_its_routing_id(self):
        for identity in (b"a", b"\x01" * 255, b"same"):
            with Client(self.daemon, ROUTING_ID=identity) as client:
                self.assertIs(client.call("ping"), True)

    def test_a_peer_that_comes_back_at_once_with_its_routing_id_is_served(self):
        for _ in range(100):
            with Client(self.daemon, ROUTING_ID=b"again") as client:
                self.assertIs(client.call("ping"), True)

    def test_those_that_chose_the_same_routing_id_are_told_apart(self):
        with Client(self.daemon, ROUTING_ID=b"twin") as first, \
                Client(self.daemon, ROUTING_ID=b"twin") as second:
            for msgid in range(20):
                for client, name in (first, "first"), (second, "second"):
                    client.send_request(msgid, "put", self.key + name, msgid)
                    client.send_request(msgid, "get", self.key + name)
                for client in first, second:
                    self.assertEqual(check_reply(client.receive_payload())[1:3], [msgid, None])
                    self.assertEqual(check_reply(client.receive_payload())[3][0], msgid)

    def test_many_peers_come_and_go(self):
        for _ in range(300 if not LONG else 3000):
            with Client(self.daemon) as client:
                client.send_request(1, "ping")
        self.assert_serves()


class Oversized(DaemonCase):
    def test_a_message_over_max_message_closes_the_connection_and_no_more(self):
        for size in (MAX_MESSAGE + 1, 3 * MAX_MESSAGE):
            with Client(self.daemon) as client:
                self.assertIs(client.call("ping"), True)
                client.send(b"\0" * size)
                client.socket.setsockopt(zmq.RECONNECT_IVL, 10)
                self.assertIs(self.call("ping"), True)
                self.assertFalse(client.socket.poll(200), "it is not answered")
        self.assertIs(self.call("ping"), True)

    def test_the_client_may_go_on_after_it_connected_again(self):
        with Client(self.daemon) as client:
            client.send(b"\0" * (MAX_MESSAGE + 1))

            def answered():
                client.send_request(5, "ping")
                return client.socket.poll(500)

            eventually(answered, "a reply on the new connection")

    def test_a_second_frame_over_the_limit_closes_it_too(self):
        with Client(self.daemon) as client:
            client.send(b"", b"\0" * (MAX_MESSAGE + 1))
            self.assertFalse(client.socket.poll(200))
        self.assertIs(self.call("ping"), True)

    def test_a_message_of_max_message_is_answered(self):
        with Client(self.daemon) as client:
            client.send(b"\x94\0\x05" + b"\xc1" * (MAX_MESSAGE - 3))
            reply = check_reply(client.receive_payload())
            self.assertEqual((reply[1], reply[2][0]), (5, "bad_request"))

    def test_many_frames_are_no_harm(self):
        with Client(self.daemon) as client:
            client.send(*[b"x" * 1000] * 5000)
            reply = check_reply(client.receive_payload())
            self.assertEqual((reply[1], reply[2][0]), (None, "bad_request"))
            self.assertIs(client.call("ping"), True)


class RawConnections(unittest.TestCase):
    """Peers that do not speak ZeroMQ, or stop in the middle of it."""

    GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)

    def test_connections_that_say_nonsense_are_no_harm(self):
        with Daemon(listen=["tcp://127.0.0.1:*"], publish=["tcp://127.0.0.1:*"],
                    data="none") as daemon, Client(daemon) as client:
            randomness = seeded(self)
            ready = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
            openings = [b"", b"GET / HTTP/1.1\r\n\r\n", randomness.randbytes(2000), self.GREETING,
                        self.GREETING[:20], self.GREETING + b"\x04\x05READY",
                        self.GREETING + ready + b"\x02" + struct.pack(">Q", 2**63 - 1),
                        self.GREETING + ready + b"\x02" + struct.pack(">Q", 2**40) + b"abc",
                        self.GREETING + ready + b"\x00\x04abc", self.GREETING + b"\x04\xff" * 100,
                        bytes(5000), b"\xff" * 5000]
            left_open = []
            for endpoint in (daemon.endpoint, daemon.broadcast):
                port = int(endpoint.rsplit(":", 1)[1])
                for opening in openings:
                    for _ in range(3):
                        peer = socket.create_connection(("127.0.0.1", port))
                        left_open.append(peer)
                        try:
                            peer.sendall(opening)
                        except OSError:
                            pass
                    self.assertIs(client.call("ping"), True)
            for peer in left_open:
                peer.close()
            self.assertIs(client.call("ping"), True)
            with Subscriber(daemon) as subscriber:
                subscriber.welcome().heartbeat()

    def test_a_connection_that_never_says_anything_is_closed(self):
        with Daemon(listen=["tcp://127.0.0.1:*"], data="none") as daemon:
            port = int(daemon.endpoint.rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.settimeout(30)
                while peer.recv(1000):  # the daemon's greeting, then the end
                    pass


QUEUE_LENGTH = 1 << 18  # changes that wait for a subscriber that does not read
COST = 512  # bytes that one of them takes at most, with 100 bytes of value


class Subscribers(DaemonCase):
    data = "none"
    options = "--log-retain", "0"  # history would be memory of its own

    def test_a_subscriber_that_never_reads_raises_drops_for_the_others(self):
        end = deadline()
        with Subscriber(self.daemon, b"deaf/") as healthy:
            healthy.welcome()
            while not self.drops_beside_a_deaf_one(healthy):
                self.assertLess(time.monotonic(), end, "it was always cut off before")

    def drops_beside_a_deaf_one(self, healthy):
        """False where that was cut off before, as it is after 20 s."""
        with Subscriber(self.daemon, topics=[b"w", b"k"], RCVHWM=1) as deaf:
            deaf.welcome()
            drops = self.put_and_hear(healthy, 1)
            before, known = resident_size(self.daemon), drops
            sent = waiting = 0
            while drops == known:
                drops = self.put_and_hear(healthy, MAX_BATCH)
                sent += MAX_BATCH
                waited, waiting = waiting, self.call("stats")["publish_queue"]
                if waiting < waited // 2:
                    return False
                self.assertLess(sent, 2 * QUEUE_LENGTH, "no drops")
            self.assertGreaterEqual(healthy.heartbeat()[1], drops)
            stats = self.call("stats")
            self.assertEqual(stats["drops"], healthy.heartbeat()[1])
            self.assertGreater(stats["publish_queue"], QUEUE_LENGTH * 200)
            self.assertLess(stats["publish_queue"], QUEUE_LENGTH * COST)
            if not is_sanitized():
                self.assertLess(resident_size(self.daemon) - before, QUEUE_LENGTH * COST)
        return True

    def put_and_hear(self, subscriber, count):
        """
        A transaction of so many changes, of which the subscriber wants and hears the last: the
        `drops` that it is told. A peer that does not read is cut off after 20 s, so be quick.
        """
        puts = [["put", [f"mute/{number:04}", "x" * 100]] for number in range(count - 1)]
        seq = self.call("batch", puts + [["put", ["deaf/0000", "x" * 100]]])["seq"]
        (_, drops, change), = subscriber.changes(1)
        self.assertEqual((change[0], change[1]), (seq, count - 1), "the others miss nothing")
        return drops

    def test_where_too_much_waits_all_are_told_and_go_on_when_the_slow_one_is_gone(self):
        value = b"x" * 900_000
        with Daemon("--publish-queue", "16M", data="none") as daemon, Client(daemon) as client, \
                Subscriber(daemon) as healthy:
            healthy.welcome()
            with Subscriber(daemon, topics=[b"w", b"k"], RCVHWM=1) as deaf:
                deaf.welcome()
                for _ in range(100):
                    client.call("put", self.key, value)
                    self.assertLess(client.call("stats")["publish_queue"], 18 * MIB)
                    if client.call("stats")["drops"] > 0:
                        break
                else:
                    self.fail("no drops")
                missed = client.call("stats")["seq"]
                while healthy.heartbeat()[1] == 0:
                    pass
            eventually(lambda: client.call("stats")["publish_queue"] < MIB, "the queue is gone")
            client.call("put", self.key, 1)
            _, drops, change = healthy.changes(1)[0]
            self.assertGreater(drops, 0)
            self.assertGreater(change[0], missed)
            caught_up = client.call("changes", {"since": missed - 1})["changes"]
            self.assertEqual([change[0] for change in caught_up], [missed, change[0]])

    def test_one_that_reads_misses_nothing_of_the_largest_transactions(self):
        keys = [f"{self.key}{number:05}" for number in range(MAX_CHANGES)]
        pages = [keys[at:at + MAX_BATCH] for at in range(0, MAX_CHANGES, MAX_BATCH)]
        with Subscriber(self.daemon, self.key.encode()) as subscriber:
            subscriber.welcome()
            before = self.call("stats")["drops"]
            for page in pages:
                self.call("batch", [["put", [key, None]] for key in page])
            result = self.call("batch", [["delete_range", [{"prefix": self.key,
                                                            "limit": MAX_BATCH}]]] * len(pages))
            heard = subscriber.changes(2 * MAX_CHANGES)
            self.assertEqual({drops for _, drops, _ in heard}, {before})
            self.assertTrue(all(change[:3] == [result["seq"], at, MAX_CHANGES]
                                for at, (_, _, change) in enumerate(heard[MAX_CHANGES:])))

    def test_a_subscriber_that_leaves_is_no_harm(self):
        for _ in range(30):
            with Subscriber(self.daemon) as subscriber:
                subscriber.welcome()
            self.call("put", self.key, 1)
        self.assertIs(self.call("ping"), True)

    def test_a_peer_cannot_take_back_what_others_have_subscribed_to(self):
        topic = b"k" + self.key.encode()
        with Daemon(publish=["tcp://127.0.0.1:*"], data="none") as daemon, Client(daemon) as client, \
                Subscriber(daemon, self.key.encode()) as subscriber:
            subscriber.welcome()
            peer = Peer(daemon.broadcast, b"SUB")
            eventually(lambda: peer.receive() or peer.ready, "it is greeted")
            peer.ask([b"\0" + topic, b"\1kother"])
            peer.socket.settimeout(0.1)

            def hears():
                client.call("put", "other", 1)
                with contextlib.suppress(TimeoutError):
                    peer.receive()
                return any(b"other" in frame for frame in peer.replies)

            eventually(hears, "what it wants itself")
            version = client.call("put", self.key, 1)
            self.assertEqual([change[2][0] for change in subscriber.changes_up_to(version)], [version])
            peer.socket.close()

    def test_many_subscribers_all_hear_everything(self):
        subscribers = [Subscriber(self.daemon, self.key.encode()) for _ in range(60)]
        try:
            for subscriber in subscribers:
                subscriber.welcome()
            versions = [self.call("put", self.key, number) for number in range(10)]
            for subscriber in subscribers:
                self.assertEqual([change[0] for _, _, change in subscriber.changes(10)], versions)
        finally:
            for subscriber in subscribers:
                subscriber.socket.close(0)

    def test_a_subscriber_with_2000_prefixes_hears_each(self):
        topics = [b"w"] + [b"k%s%04d" % (self.key.encode(), number) for number in range(2000)]
        with Subscriber(self.daemon, topics=topics, SNDHWM=0) as subscriber:
            subscriber.welcome()
            self.call("batch", [["put", [f"{self.key}{number:04}", number]]
                                for number in range(0, 2000, 7)])
            for number in range(0, 2000, 7):
                (_, _, change), = subscriber.changes(1)
                self.assertEqual(change[5], number)


class FewDescriptors(unittest.TestCase):
    def test_at_the_limit_of_open_files_it_serves_those_that_are_connected(self):
        for options in {"listen": ["tcp://127.0.0.1:*"]}, {}:  # ipc:// otherwise
            with self.subTest(options):
                self.come_over_the_limit(options)

    def come_over_the_limit(self, options):
        def limits():
            resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))

        with Daemon(limits=limits, **options) as daemon, Client(daemon) as early:
            early.call("put", "key", 1)
            clients = [Client(daemon) for _ in range(200)]
            try:
                for client in clients:
                    client.send_request(1, "ping")
                for number in range(200):
                    self.assertEqual(early.call("put", "key", number), number + 2)
            finally:
                for client in clients:
                    client.close()
            eventually(lambda: early.call("stats")["connections"] < 20, "connections are let go")
            with Client(daemon) as late:
                self.assertIs(late.call("ping"), True)
            daemon.stop()


class Pings(unittest.TestCase):
    """libzmq answers pings of a client that is gone, which once ended the daemon (daemon/interposed.h)."""

    def test_a_client_with_pings_may_die_behind_a_disk_that_stands_still(self):
        daemon = Daemon(listen=["tcp://127.0.0.1:*"])
        self.addCleanup(daemon.clean)
        switch = pathlib.Path(daemon.directory, "waits")
        daemon.env.update(LD_PRELOAD=os.environ["FAILING_DISK_LIBRARY"], WAITING_DISK=str(switch))
        daemon.start()
        switch.touch()
        peer, ping = self.meet(daemon), frame(COMMAND, PING + bytes(PING_TTL))
        peer.ask([request(0, "put", "key", 0)])
        for _ in range(MANY // 20):
            peer.ask([request(0, "increment", "key")] * 20)
            peer.socket.sendall(ping)
        eventually(lambda: peer.unsent() == 0, "the daemon's side has all")
        peer.vanish()
        self.meet(daemon).vanish()  # nor has the thread that reads missed this
        switch.unlink()
        with Client(daemon) as client:
            eventually(lambda: client.call("stats")["connections"] == 1, "its end is found")
            eventually(lambda: client.call("get", "key")[0] == MANY, "all is carried out")
        daemon.stop()

    def meet(self, daemon):
        """A new peer that the thread which reads requests has greeted."""
        peer, end = Peer(daemon.endpoint), deadline()
        while not peer.ready:
            self.assertLess(deadline(0), end)
            peer.receive()
        return peer


class Pipelines(DaemonCase):
    def test_what_many_clients_send_at_once_is_as_if_one_after_the_other(self):
        """Each client alone sees its own writes in order; versions are unique over all."""
        randomness = seeded(self)
        clients = [Client(self.daemon, RCVHWM=0, SNDHWM=0) for _ in range(10)]
        versions = []
        try:
            for number, client in enumerate(clients):
                for turn in range(200):
                    key = f"{self.key}{randomness.randrange(5)}"
                    client.send_request(2 * turn, "put", key, [number, turn])
                    client.send_request(2 * turn + 1, "get", key)
            for number, client in enumerate(clients):
                for turn in range(200):
                    put = check_reply(client.receive_payload())
                    get = check_reply(client.receive_payload())
                    self.assertEqual((put[1], get[1]), (2 * turn, 2 * turn + 1))
                    versions.append(put[3])
                    self.assertGreaterEqual(get[3][1], put[3])
                    if get[3][1] == put[3]:
                        self.assertEqual(get[3][0], [number, turn])
        finally:
            for client in clients:
                client.close()
        self.assertEqual(len(set(versions)), len(versions))
        self.assertEqual(max(versions) - min(versions) + 1, len(versions))

    def test_large_requests_and_replies_interleave_with_small_ones(self):
        big = as_bin(b"x" * (MIB - 5))
        with Client(self.daemon, RCVHWM=0, SNDHWM=0) as client:
            for turn in range(20):
                client.send_request(3 * turn, "put", self.key, big)
                client.send_request(3 * turn + 1, "get", self.key)
                client.send_payload(request(3 * turn + 2, "ping"))
            for msgid in range(60):
                payload = client.receive_payload()
                self.assertEqual(check_reply(payload)[1], msgid)
                if msgid % 3 == 1:
                    self.assertEqual(len(unpack(payload)[3][0]), MIB - 5)


if __name__ == "__main__":
    unittest.main()
