"""Peers that speak ZMTP in every wrong way, at random, beside clients that do nothing wrong."""

import contextlib
import os
import pathlib
import select
import socket
import struct
import tempfile
import time
import unittest

from harness import (
    DEADLINE_S, LONG, MAX_MESSAGE, Client, Daemon, Subscriber, check_reply, deadline, eventually, open_sockets,
    request, seeded,
)
from zmtp import COMMAND, LARGE, MORE, PING, PING_TTL, PONG, frame

SECONDS = 60 if LONG else 8
PATIENCE_S = 0.2  # of a foe, for an answer that may not come
FOES = 40  # connections that are open at once
FLOOD = 1500  # messages, more than the daemon's libzmq takes in (SOCKETS_RECEIVE_HWM)
KEY = "good/"
IDENTITIES = [b"", b"same", b"x", b"\0\0\0\0\1", b"\0" * 5, b"i" * 255, b"i" * 256, b"i" * 4000]
REQUEST_TYPES = [b"DEALER", b"REQ", b"ROUTER"]
BROADCAST_TYPES = [b"SUB", b"XSUB"]
OTHER_TYPES = [b"PUB", b"XPUB", b"REP", b"PAIR", b"PUSH", b"STREAM", b"", b"DEALER\0", b"S" * 300]


def greeting(revision=3, minor=1, mechanism=b"NULL", signature=b"\xff\0\0\0\0\0\0\0\1\x7f"):
    return signature + bytes([revision, minor]) + mechanism.ljust(20, b"\0") + bytes(32)


def entry(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


class Foe:
    """One connection of a peer that means harm; what it does fails in silence."""

    def __init__(self, randomness, endpoint, broadcast):
        self.random, self.broadcast = randomness, broadcast
        if endpoint.startswith("ipc://"):
            self.socket = socket.socket(socket.AF_UNIX)
            address = endpoint.removeprefix("ipc://")
        else:
            self.socket = socket.socket()
            host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
            address = host, int(port)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)

    def say(self, data):
        """As a whole, or in two pieces."""
        at = self.random.choice([0, 0, 0, self.random.randint(0, len(data))])
        with contextlib.suppress(OSError):
            self.socket.sendall(data[:at])
            self.socket.sendall(data[at:])

    def listen(self):
        """Reads what is there, and waits for a little."""
        with contextlib.suppress(OSError):
            if select.select([self.socket], [], [], PATIENCE_S)[0]:
                self.socket.recv(self.random.choice([1, 64, 1 << 20]))

    def meet(self):
        """A handshake, mostly a right one."""
        if self.random.random() < 0.2:
            self.say(self.random.choice([
                b"", b"\xff", b"\1\0", b"\0", b"\xff" * 9, self.random.randbytes(70),
                greeting(0), greeting(1), greeting(2), greeting(4), greeting(255, 255),
                greeting(mechanism=b"PLAIN"), greeting(mechanism=b"CURVE"), greeting(mechanism=b"x"),
                greeting(signature=b"\xff" + bytes(8) + b"\x7e"), greeting()[:self.random.randint(1, 63)],
                greeting(1)[:11] + b"\5\0\0" + b"\1\1x\0\0", b"\1\0\5\0ping\3\1m\2\0x",
            ]))
        else:
            self.say(greeting(3, self.random.choice([0, 1, 1, 7])))
            self.listen()
            self.say(self.ready())
        self.listen()

    def ready(self):
        kinds = BROADCAST_TYPES if self.broadcast else REQUEST_TYPES
        kind = self.random.choice(kinds if self.random.random() < 0.9 else OTHER_TYPES)
        body = b"\5READY" + entry(b"Socket-Type", kind)
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            body += entry(b"Identity", self.random.choice(IDENTITIES))
        if self.random.random() < 0.1:
            body = self.random.choice([
                body[:-1], body + b"\1", body + b"\xff" * 5, b"\5READY", b"\5ERROR\x03400", b"\5ERROR\xff",
                b"\5ERROR", PING + bytes(2), b"", b"\x09SUBSCRIBE", body + entry(b"X" * 255, b"y" * 3000),
                body + entry(b"__fd", b"1") + entry(b"User-Id", b"me"), body + entry(b"X", b"y" * 20000)])
        return frame(self.random.choice([COMMAND] * 9 + [0, MORE, COMMAND | MORE]), body,
                        self.random.random() < 0.3)

    def command(self):
        body = self.random.choice([
            PING + struct.pack(">H", self.random.choice([0, 1, 2, 656, 65535])), PING + bytes(PING_TTL) + b"c" * 17,
            PING + bytes(PING_TTL) + b"c" * 5000, PING, PING + b"\0", PONG, PONG + b"c" * 100, b"\x09SUBSCRIBEk", b"\x06CANCELk", b"\x06CANCEL" + b"no",
            b"\x09SUBSCRIBE" + b"t" * 3000, b"\5READY", b"\5ERROR\x03400", b"\x07UNKNOWN", b"", b"\xff", b"\x04"])
        return frame(self.random.choice([COMMAND, COMMAND, COMMAND, COMMAND | MORE]), body, self.random.random() < 0.3)

    def subscription(self):
        topic = self.random.choice([b"", b"k", b"q", b"w", b"h", b"kbad/", self.random.randbytes(self.random.randint(0, 40))])
        return frame(self.random.choice([0, 0, 0, MORE]), self.random.choice([b"\1", b"\1", b"\0", b"\2"]) + topic)

    def request(self):
        payload = self.random.choice([
            request(1, "ping"), request(2, "put", "bad/key", 1), request(3, "get", "bad/key"), request(4, "scan", {"prefix": ""}),
            request(5, "queue.reserve", "bad", {"wait": 100000}), request(6, "queue.pop", "bad", {"wait": 1}),
            request(7, "watch", {"prefix": "bad/"}), request(8, "increment", "bad/number"), b"", b"\xc1",
            self.random.randbytes(40)])
        return self.random.choice([b"", b"", frame(MORE, b"")]) + frame(0, payload)

    def phrase(self):
        usual = self.subscription if self.broadcast else self.request
        what = self.random.random()
        if what < 0.4:
            return b"".join(usual() for _ in range(self.random.randint(1, 20)))
        if what < 0.6:
            return b"".join(self.random.choice([self.command, usual])() for _ in range(self.random.randint(1, 20)))
        if what < 0.7:
            return frame(MORE, b"") * self.random.choice([1, 300, 3000]) + self.random.choice([b"", frame(0, b"end")])
        if what < 0.8:
            return b"".join(self.random.choice([usual] * 9 + [self.command])() for _ in range(FLOOD))
        if what < 0.85:
            return bytes([self.random.choice([0, COMMAND]) | LARGE]) + struct.pack(
                ">Q", self.random.choice([0, MAX_MESSAGE, MAX_MESSAGE + 1, 2**31, 2**63, 2**64 - 1])) + b"x" * 100
        if what < 0.95:
            return self.random.choice([self.request, self.subscription, self.command])()
        return self.random.randbytes(self.random.choice([1, 10, 1000, 20000]))

    def act(self):
        """Does something; whether it goes on."""
        what = self.random.random()
        if what < 0.6:
            self.say(self.phrase())
        elif what < 0.75:
            self.listen()
        elif what < 0.8:
            with contextlib.suppress(OSError):
                self.socket.shutdown(self.random.choice([socket.SHUT_WR, socket.SHUT_RD]))
        else:
            self.leave()
            return False
        return True

    def leave(self):
        if self.random.random() < 0.5:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Friends:
    """Clients that do everything right, of each kind, and one that hears all that they write."""

    def __init__(self, test, daemon):
        self.test = test
        self.clients = [Client(daemon, endpoint=endpoint, empty_frame=empty, **options)
                        for endpoint in daemon.requests for empty in (False, True)
                        for options in ({}, {"ROUTING_ID": b"same", "HEARTBEAT_IVL": 200, "HEARTBEAT_TIMEOUT": 1000 * DEADLINE_S})]
        self.written = [0] * len(self.clients)
        self.subscribers = [Subscriber(daemon, KEY.encode(), endpoint=endpoint) for endpoint in daemon.broadcasts]
        for client in self.clients:
            test.addCleanup(client.close)
        for subscriber in self.subscribers:
            test.addCleanup(subscriber.socket.close, 0)
            subscriber.welcome()

    def sockets(self):
        """How many of the daemon's are for these, and for others to come."""
        daemon = self.clients[0].daemon
        return len(self.clients + self.subscribers) + len(daemon.requests + daemon.broadcasts)

    def work(self):
        """Each asks for something before any hears the reply."""
        for number, client in enumerate(self.clients):
            client.send_request(self.written[number], "increment", f"{KEY}{number}")
        for number, client in enumerate(self.clients):
            self.written[number] += 1
            _, msgid, error, result = check_reply(client.receive_payload())
            self.test.assertEqual((msgid, error), (self.written[number] - 1, None))
            self.test.assertEqual(result[0], self.written[number])

    def check(self):
        """Each subscriber has heard all that was written, in order."""
        seq = self.clients[0].call("stats")["seq"]
        for subscriber in self.subscribers:
            heard = [0] * len(self.clients)
            for _, drops, change in subscriber.changes_up_to(seq):
                number = int(change[4].removeprefix(KEY))
                heard[number] += 1
                self.test.assertEqual((drops, change[5]), (0, heard[number]))
            self.test.assertEqual(heard, self.written)


class Adversary(unittest.TestCase):
    def setUp(self):
        self.random = seeded(self)
        directory = tempfile.TemporaryDirectory(prefix="cubby-")
        self.addCleanup(directory.cleanup)
        self.daemon = Daemon(listen=["tcp://127.0.0.1:*", f"ipc://{directory.name}/r"],
                             publish=["tcp://127.0.0.1:*", f"ipc://{directory.name}/p"])
        self.addCleanup(self.daemon.clean)
        self.waits = pathlib.Path(self.daemon.directory, "waits")
        self.daemon.env.update(LD_PRELOAD=os.environ["FAILING_DISK_LIBRARY"], WAITING_DISK=str(self.waits))
        self.daemon.start()
        self.foes = []

    def test_whatever_a_peer_says_the_others_are_served_and_it_costs_nothing_when_it_is_gone(self):
        friends = Friends(self, self.daemon)
        end = deadline(SECONDS)
        while time.monotonic() < end:
            self.do_harm()
            friends.work()
            self.assertTrue(self.daemon.alive(), self.daemon.stderr)
        for foe in self.foes:
            foe.leave()
        friends.work()
        eventually(lambda: open_sockets(self.daemon) == friends.sockets(), "connections are let go")
        friends.check()
        for client in friends.clients:
            client.close()
        self.daemon.stop()

    def do_harm(self):
        """Some steps of some foes, now and then while the disk stands still."""
        if self.random.random() < 0.1:
            self.waits.touch()
        for _ in range(self.random.randint(1, 20)):
            if len(self.foes) < FOES and self.random.random() < 0.4:
                self.foes.append(self.new_foe())
            elif self.foes:
                foe = self.random.choice(self.foes)
                if not foe.act():
                    self.foes.remove(foe)
        self.waits.unlink(missing_ok=True)

    def new_foe(self):
        broadcast = self.random.random() < 0.4
        endpoints = self.daemon.broadcasts if broadcast else self.daemon.requests
        foe = Foe(self.random, self.random.choice(endpoints), broadcast)
        foe.meet()
        return foe


if __name__ == "__main__":
    unittest.main()
