"""What each of many clients sees that send everything at once and wait for nothing: replies in the order of
its requests, its own writes, and nothing half done where the daemon stops in the middle."""

import collections
import itertools
import os
import pathlib
import signal
import unittest

import zmq

from harness import DEADLINE_S, Client, Daemon, End, Raw, check_reply, deadline, eventually, pack, seeded
from mirrors import BroadcastMirror, WatchMirror, seq_of, state_of

CLIENTS = 12
REQUESTS = 250  # of each
WINDOW = 40
KEYS = 6
HEAVY = 4000  # operations, which take long enough to be put on record
PUTS = 900  # more than two turns take of one client, and fewer than libzmq keeps of it
BAD = ("garbage", "frames")  # requests
LARGE = 64 << 10  # bytes, DEFERRED_LARGE of daemon/deferred.h: each such put is a turn of its own
SLOW_S = 0.1  # of a commit, SLOW_US in failing_disk.c
STOP_S = 3  # SERVER_STOP_MS in daemon/server.h
NOT_CARRIED_OUT = "this was not carried out"


class Talker(Client):
    """A client with keys and a queue of its own, so that it knows what each of its requests has to give. It
    has `asked` for what is not answered; `state` is what was, and `queue` likewise."""

    def __init__(self, daemon, number, randomness):
        super().__init__(daemon, RCVHWM=0, SNDHWM=0)
        self.number, self.randomness = number, randomness
        self.prefix = f"client{number:02}/"
        self.asked = collections.deque()
        self.state, self.queue = {}, collections.deque()
        self.answered = self.version = 0
        self.heavy = Raw(pack([["put", [self.prefix + "heavy", at]] for at in range(HEAVY)]))

    def next_key(self):
        return self.prefix + str(self.randomness.randrange(KEYS))

    def ask(self):
        """One more request, drawn at random."""
        kind = self.randomness.choices(
            ["put", "get", "batch", "scan", "push", "pop", "garbage", "frames", "checkpoint", "heavy"],
            [30, 30, 8, 4, 8, 8, 3, 3, 1, 1])[0]
        msgid, key = next(self._msgids), self.next_key()
        if kind == "garbage":
            self.send_payload(b"\xc1")
        elif kind == "frames":
            self.send(b"three", b"frames", b"here")
        else:
            self.send_request(msgid, *{
                "put": ("put", key, msgid),
                "get": ("get", key),
                "batch": ("batch", [["put", [key, msgid]], ["get", [key]]]),
                "scan": ("scan", {"prefix": self.prefix}),
                "push": ("queue.push", self.prefix, msgid),
                "pop": ("queue.pop", self.prefix),
                "checkpoint": ("checkpoint",),
                "heavy": ("batch", self.heavy),
            }[kind])
        self.asked.append((kind, msgid, key))

    def carry_out(self, kind, msgid, key):
        """What a request does to the state."""
        if kind in ("put", "batch"):
            self.state[key] = msgid
        elif kind == "heavy":
            self.state[self.prefix + "heavy"] = HEAVY - 1
        elif kind == "push":
            self.queue.append(msgid)
        elif kind == "pop" and self.queue:
            self.queue.popleft()

    def means(self, kind, key, msgid):
        """What a request that has not been carried out yet has to be told."""
        return {
            "get": lambda: self.state.get(key),
            "batch": lambda: msgid,
            "scan": lambda: [list(pair) for pair in sorted(self.state.items())],
            "pop": lambda: list(itertools.islice(self.queue, 1)),
        }.get(kind, lambda: None)()

    @staticmethod
    def says(kind, result):
        return {
            "get": lambda: result and result[0],
            "batch": lambda: result["results"][1][0],
            "scan": lambda: [entry[:2] for entry in result["entries"]],
            "pop": lambda: [job[2] for job in result],
        }.get(kind, lambda: None)()

    def read(self):
        """(kind, msgid, key, error, result) of one reply, which has to be that of the oldest request."""
        kind, expected, key = self.asked.popleft()
        _, msgid, error, result = check_reply(self.socket.recv())
        assert msgid == (None if kind in BAD else expected), (kind, expected, msgid)
        self.answered += 1
        return kind, expected, key, error, result

    def judge(self):
        """Reads one reply, which has to be what the state gives; returns the error if it is another one."""
        kind, msgid, key, error, result = self.read()
        if kind in BAD and error[0] == "bad_request":
            return None
        if error is not None:
            return kind, msgid, key, error
        meant = self.means(kind, key, msgid)
        said = self.says(kind, result)
        assert said == meant, (kind, msgid, said, meant)
        self.carry_out(kind, msgid, key)
        self.look_at_version(kind, result)
        return None

    def look_at_version(self, kind, result):
        if kind in ("put", "batch", "heavy"):
            version = result if kind == "put" else result["seq"]
            assert version > self.version, (kind, version, self.version)
            self.version = version

    def found(self, client):
        """Whether this is what the daemon has of it."""
        entries = client.call("scan", {"prefix": self.prefix})["entries"]
        return {entry[0]: entry[1] for entry in entries} == self.state


class Talk:
    """All of them, in turns, as their replies come."""

    def __init__(self, test, daemon):
        randomness = seeded(test)
        self.daemon = daemon
        self.talkers = [Talker(daemon, number, randomness) for number in range(CLIENTS)]
        self.ends = [End(test, talker) for talker in self.talkers]
        self.poller = zmq.Poller()
        for talker in self.talkers:
            test.addCleanup(talker.close)
            self.poller.register(talker.socket, zmq.POLLIN)

    def answered(self):
        return sum(talker.answered for talker in self.talkers)

    def fill_up(self, requests=REQUESTS):
        for talker in self.talkers:
            while len(talker.asked) < WINDOW and talker.answered + len(talker.asked) < requests:
                talker.ask()

    def go_on(self, requests, enough=lambda: False):
        """Until each has so many replies, or it is enough."""
        end = deadline()
        while not enough() and any(talker.answered < requests for talker in self.talkers):
            self.fill_up(requests)
            ready = dict(self.poller.poll(1000))
            assert ready or deadline(0) < end, "no reply"
            for talker in self.talkers:
                if talker.socket in ready:
                    assert talker.judge() is None

    def read_on(self):
        """What a daemon that has ended has sent beside what was right: (talker, its errors in order)."""
        for talker, end in zip(self.talkers, self.ends):
            errors = []
            end.wait()
            while talker.asked and talker.socket.poll(0):
                bad = talker.asked[0][0] in BAD
                error = talker.judge()
                assert error is not None or bad or not errors, "carried out after it had failed"
                errors += [error] if error else []
            if errors:
                yield talker, errors


class Order(unittest.TestCase):
    def start(self, switch=None):
        """With a disk that fails or waits while a file is there."""
        daemon = Daemon()
        self.addCleanup(daemon.clean)
        if switch:
            daemon.env.update({"LD_PRELOAD": os.environ["FAILING_DISK_LIBRARY"],
                               switch: os.path.join(daemon.directory, switch)})
        return daemon.start()

    def test_each_of_many_clients_has_its_replies_in_order_and_sees_its_writes(self):
        daemon = self.start()
        with BroadcastMirror(daemon) as heard, WatchMirror(daemon) as watched:
            talk = Talk(self, daemon)
            talk.go_on(REQUESTS)
            for mirror in (heard, watched):
                mirror.finish(seq_of(daemon))
                self.assertEqual(mirror.state, state_of(daemon))
        with Client(daemon) as client:
            for talker in talk.talkers:
                self.assertTrue(talker.found(client), talker.prefix)
            self.assertGreater(client.call("stats")["deferred"], 0)

    def test_at_a_stop_what_is_done_is_answered_and_what_is_answered_is_done(self):
        daemon = self.start()
        talk = Talk(self, daemon)
        talk.go_on(REQUESTS, enough=lambda: talk.answered() > CLIENTS * REQUESTS // 3)
        daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(list(talk.read_on()), [])
        daemon.start()
        with Client(daemon) as client:
            for talker in talk.talkers:
                self.assertTrue(talker.found(client), talker.prefix)

    def wait_until_read(self, daemon):
        """A connection that is made later is served later, by the same thread of the daemon's."""
        socket = zmq.Context.instance().socket(zmq.DEALER)
        self.addCleanup(socket.close, 0)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.addCleanup(monitor.close, 0)
        self.addCleanup(socket.disable_monitor)  # first, as in Client.close
        socket.connect(daemon.endpoint)
        self.assertTrue(monitor.poll(1000 * DEADLINE_S))

    def answers_at_a_stop(self, daemon):
        """To puts that came while the disk was waited for, as the signal did."""
        with Client(daemon) as first, Client(daemon, SNDHWM=0, RCVHWM=0) as client:
            end = End(self, client)
            client.call("ping")
            pathlib.Path(daemon.env["WAITING_DISK"]).touch()
            first.send_request(0, "put", "a", 0)
            for msgid in range(PUTS):
                client.send_request(msgid, "put", "a", msgid)
            self.wait_until_read(daemon)
            daemon.process.send_signal(signal.SIGTERM)
            os.unlink(daemon.env["WAITING_DISK"])
            self.assertEqual(daemon.wait(), 0)
            count = 0
            for (payload,) in end.messages():
                self.assertEqual(check_reply(payload)[1:3], [count, None])
                count += 1
        return count

    def test_what_was_read_ahead_is_carried_out_at_a_stop(self):
        """The signal is seen in the turn behind the one that waited, and that is not the last."""
        daemon, count = self.start("WAITING_DISK"), 0
        for _ in range(20):  # some may not have been there yet
            count = self.answers_at_a_stop(daemon)
            if count == PUTS:
                return
            daemon.start()
        self.fail(count)

    def read_until(self, end):
        """Errors of the replies that a daemon which has ended has sent; msgids count from 0."""
        errors = []
        for (payload,) in end.messages():
            _, msgid, error, _ = check_reply(payload)
            self.assertEqual(msgid, len(errors))
            errors.append(error)
        return errors

    def defer(self, client, other, count):
        """So many slow puts of a client on record, that the daemon reads before it forgets that."""
        end = deadline()
        while deadline(0) < end:
            client.call("put", "a", bytes(LARGE))
            before, calls = other.call("stats"), itertools.count(1)
            for msgid in range(count):
                client.send_request(msgid, "put", "a", bytes(LARGE) + pack(msgid))
            eventually(lambda: other.call("stats")["requests"] >= before["requests"] + count + next(calls),
                       "all are read")
            if other.call("stats")["deferred"] == before["deferred"] + count:
                return
            for _ in range(count):
                client.receive_payload()
        self.fail("the record was always forgotten")

    def test_a_stop_waits_so_long_for_slow_requests_and_says_that_the_others_were_not_carried_out(self):
        count, daemon = 2 * int(STOP_S / SLOW_S), self.start("SLOW_DISK")
        pathlib.Path(daemon.env["SLOW_DISK"]).touch()
        with Client(daemon) as other, Client(daemon, SNDHWM=0, RCVHWM=0) as client:
            end = End(self, client)
            self.defer(client, other, count)
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)
            errors = self.read_until(end)
        done = errors.count(None)
        self.assertEqual((len(errors), errors[:done]), (count, [None] * done))
        self.assertTrue(1 < done < count, done)
        for error in errors[done:]:
            self.assertEqual((error[0], NOT_CARRIED_OUT in error[1]), ("unavailable", True))
        os.unlink(daemon.env["SLOW_DISK"])
        daemon.start()
        with Client(daemon) as client:
            self.assertEqual(client.call("get", "a")[0], bytes(LARGE) + pack(done - 1))

    def check_failed(self, talker, errors, client):
        """Those that failed first may have been carried out all the same, but not who is told otherwise."""
        for kind, msgid, key, error in errors:
            self.assertEqual(error[0], "unavailable")
            if talker.found(client):
                return
            self.assertNotIn(NOT_CARRIED_OUT, error[1], talker.prefix)
            talker.carry_out(kind, msgid, key)
        self.assertTrue(talker.found(client), talker.prefix)

    def test_where_the_disk_fails_each_is_told_in_order_what_was_done(self):
        daemon = self.start("FAILING_DISK")
        talk = Talk(self, daemon)
        talk.go_on(REQUESTS, enough=lambda: talk.answered() > CLIENTS * REQUESTS // 3)
        pathlib.Path(daemon.env["FAILING_DISK"]).touch()
        talk.fill_up()
        self.assertEqual(daemon.wait(), 1)
        failed = list(talk.read_on())
        self.assertNotEqual(failed, [])
        os.unlink(daemon.env["FAILING_DISK"])
        daemon.start()
        with Client(daemon) as client:
            for talker, errors in failed:
                told = [NOT_CARRIED_OUT in error[1] for _, _, _, error in errors]
                self.assertEqual(told, sorted(told))
                self.check_failed(talker, errors, client)


if __name__ == "__main__":
    unittest.main()
