"""Mirrors: copies of a daemon's keys that follow its changes, as an application would, by the words of
the specification and nothing else; with what makes that hard for them. They judge every message.

    with Proxy(daemon) as proxy, WatchMirror(daemon, endpoint=proxy.endpoint) as mirror:
        …                               writes, proxy.cut(), daemon.kill(), daemon.start()
        mirror.finish(seq_of(daemon))   waits until it has everything up to there
        assert mirror.state == state_of(daemon)
"""

import itertools
import os
import pickle
import select
import socket
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from harness import (
    DEADLINE_S, Client, CubbyError, deadline, field, open_reply, request, split, unpack,
)

SILENCE_S = 8  # after so long a watch with credit is begun again
TICK_MS = 50


class Proxy:
    """Carries connections on a TCP port to the daemon's requests (or broadcast), and cuts them."""

    def __init__(self, daemon, endpoint=None):
        self.target = (endpoint or daemon.endpoint).removeprefix("ipc://")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = {}  # each end to the other
        self.orders = socket.socketpair()
        self.cuts = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.orders[0].send(b"e")
        self.thread.join(DEADLINE_S)
        self.listener.close()
        for end in self.orders:
            end.close()

    def cut(self):
        """Every connection, in the middle of whatever is on its way."""
        self.orders[0].send(b"c")

    def _close_all(self):
        self.cuts += len(self.pairs) // 2
        for end in self.pairs:
            end.close()
        self.pairs = {}

    def _accept(self):
        near, _ = self.listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.target)
        except OSError:  # the daemon is down
            near.close()
            far.close()
            return
        self.pairs[near], self.pairs[far] = far, near

    def _carry(self, end):
        other = self.pairs.get(end)
        if other is None:
            return  # closed in this round
        try:
            data = end.recv(65536)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for one in (end, other):
            self.pairs.pop(one, None)
            one.close()

    def _run(self):
        while True:
            ready, _, _ = select.select([self.orders[1], self.listener, *self.pairs], [], [])
            for one in ready:
                if one is self.listener:
                    self._accept()
                elif one is not self.orders[1]:
                    self._carry(one)
                elif self.orders[1].recv(1) == b"c":
                    self._close_all()
                    break
                else:
                    self._close_all()
                    return


def apply(state, change):
    """A change, as split() gives it, to a state of key: (encoded value, version)."""
    seq, _, _, kind, key = (unpack(part) for part in change[:5])
    if kind == "put":
        state[key] = (change[5], seq)
    else:
        assert kind in ("delete", "expire", "evict"), kind
        assert change[5:] == [b"\xc0", b"\xc0"], change
        state.pop(key, None)


def scan(client, prefix=""):
    """(state, seq of the first page), page by page while others write."""
    state, since, after = {}, None, {}
    while True:
        page = client.call_raw("scan", {"prefix": prefix, "limit": 100, **after})
        if since is None:
            since = unpack(field(page, "seq"))
        for entry in split(field(page, "entries")):
            key, value, version, _ = split(entry)
            state[unpack(key)] = (value, unpack(version))
        following = unpack(field(page, "next"))
        if following is None:
            return state, since
        after = {"after": following}


def state_of(daemon, prefix=""):
    with Client(daemon) as client:
        return scan(client, prefix)[0]


def seq_of(daemon):
    with Client(daemon) as client:
        return client.call("hello")["seq"]


class Judge:
    """Holds each list of changes to what is promised of it."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.changes = 0

    def judge(self, since, to, changes):
        """All of since < seq <= to, as split() gives them: ordered, unique, whole transactions."""
        assert since <= to, (since, to)
        before = (since, None)
        for change in changes:
            seq, index, count, _, key = (unpack(part) for part in change[:5])
            assert since < seq <= to and 0 <= index < count, (since, to, seq, index, count)
            key = key if isinstance(key, bytes) else key.encode()
            assert key.startswith(self.prefix.encode()), key
            if seq == before[0]:
                assert index > before[1], ("not in order", before, seq, index)
            else:
                assert seq > before[0], ("not in order", before, seq)
            if not self.prefix:
                self._judge_whole(before, seq, index, count)
            before = (seq, index)
        self.changes += len(changes)
        if changes and not self.prefix:
            last = [unpack(part) for part in changes[-1][:3]]
            assert last[1] == last[2] - 1 and last[0] == to, ("cut off", last, to)

    @staticmethod
    def _judge_whole(before, seq, index, count):
        """Without a filter there are no holes: neither between transactions nor inside one."""
        if seq == before[0]:
            assert index == before[1] + 1, ("a hole", before, seq, index)
        else:
            assert seq == before[0] + 1 and index == 0, ("a hole", before, seq, index)


class Disconnected(Exception):
    pass


class Background(threading.Thread):
    """A thread that runs until it sees `stopping`: for as long as its `with` lasts."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.join(DEADLINE_S)


class Mirror(Background):
    """What the two kinds share: a copy, where it is in history, and a thread that follows."""

    def __init__(self, daemon, prefix="", endpoint=None, pause=None, path=None):
        super().__init__()
        self.daemon_process = daemon  # None: another process starts and kills it
        self.endpoint = endpoint or daemon.endpoint
        self.prefix = prefix
        self.pause = pause or (lambda: None)  # called after each message
        self.path = path  # of a file that the copy is kept in, for a mirror that is killed
        self.state, self.place, self.epoch = None, 0, None
        self.target = None  # seq at which it is finished
        self.failure = None
        self.judge = Judge(prefix)
        self.fresh_starts = self.breaks = self.messages = self.largest = 0
        self._restore()

    def _restore(self):
        if self.path and os.path.exists(self.path):
            with open(self.path, "rb") as file:
                self.state, self.place, self.epoch = pickle.load(file)

    def keep(self):
        if self.path:
            with open(self.path + ".new", "wb") as file:
                pickle.dump((self.state, self.place, self.epoch), file)
            os.replace(self.path + ".new", self.path)

    def run(self):
        try:
            while not self.is_done():
                try:
                    self.follow()
                except Disconnected:
                    self.breaks += 1
        except BaseException as error:  # of this thread: finish() tells it to the test
            self.failure = error
            raise

    def is_done(self):
        return self.stopping or (self.target is not None and self.place >= self.target)

    def finish(self, seq):
        """Waits until it has everything up to seq."""
        self.target = seq
        self.join(2 * DEADLINE_S)
        assert self.failure is None, repr(self.failure)
        assert not self.is_alive(), f"{self.name} is at {self.place} and not at {seq}"

    def take(self, since, to, changes):
        self.judge.judge(since, to, changes)
        for change in changes:
            apply(self.state, change)
        self.place = to
        self.messages += 1
        self.largest = max(self.largest, len(changes))
        self.keep()
        self.pause()


class Line:
    """A DEALER that tells when its connection breaks, so that a mirror need not wait for silence."""

    _msgids = itertools.count(1)

    def __init__(self, mirror):
        self.mirror = mirror
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvhwm = 4  # what is not read stays in the connection
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(mirror.endpoint)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.poller.register(self.monitor, zmq.POLLIN)
        self.replies = {}
        self.heard = time.monotonic()

    def close(self):
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def send(self, method, *params):
        msgid = next(self._msgids)
        try:
            self.socket.send(request(msgid, method, *params), zmq.DONTWAIT)
        except zmq.Again:
            raise Disconnected from None
        return msgid

    def receive(self):
        """The next message, or None after a moment."""
        ready = dict(self.poller.poll(TICK_MS))
        if self.socket in ready:
            self.heard = time.monotonic()
            return self.socket.recv()
        if self.monitor in ready:
            recv_monitor_message(self.monitor)
            raise Disconnected
        if time.monotonic() - self.heard > SILENCE_S:
            raise Disconnected
        return None

    def call_raw(self, method, *params):
        """The encoded result; what else comes meanwhile is of no interest yet."""
        msgid = self.send(method, *params)
        while not self.mirror.stopping:
            message = self.receive()
            if message is not None and message[1:2] == b"\x01":
                answered, error, result = open_reply(message)
                assert answered == msgid, (answered, msgid)
                if error is not None:
                    raise CubbyError(*error)
                return result
        raise Disconnected

    def call(self, method, *params):
        return unpack(self.call_raw(method, *params))


class WatchMirror(Mirror):
    """Follows by a watch. `credit` is how many notifications may be on their way."""

    def __init__(self, daemon, credit=64, **options):
        super().__init__(daemon, **options)
        self.credit = credit
        self.name = f"WatchMirror({self.prefix!r}, credit {credit})"

    def follow(self):
        line = Line(self)
        try:
            if self.state is None:
                self._begin(line)
            self._watch(line)
        except CubbyError as error:
            assert error.code in ("compacted", "not_found", "unavailable"), error
            if error.code == "compacted":
                self.state = None
                self.fresh_starts += 1
        finally:
            line.close()

    def _begin(self, line):
        epoch = line.call("hello")["epoch"]
        state, since = scan(line, self.prefix)
        self.state, self.place, self.epoch = state, since, epoch
        self.keep()

    def _watch(self, line):
        began = line.call("watch", {"prefix": self.prefix, "since": self.place,
                                    "credit": self.credit, "epoch": self.epoch})
        assert began["epoch"] == self.epoch, (began, self.epoch)
        watch, spent, asked = began["watch"], 0, 0
        while not self.is_done():
            message = line.receive()
            if message is None:
                continue
            if message[1:2] == b"\x01":  # the reply to watch.credit
                answered, error, _ = open_reply(message)
                assert asked and answered, message
                if error is not None:
                    raise CubbyError(*error)
                continue
            _, method, params = split(message)
            self._notice(watch, unpack(method), split(params))
            spent += 1
            if spent >= max(1, self.credit // 2):
                asked += 1
                line.send("watch.credit", watch, spent)
                spent = 0

    def _notice(self, watch, method, params):
        assert unpack(params[0]) == watch, params
        if method == "watch.end":
            raise CubbyError(*unpack(params[1]))
        assert method == "watch" and len(params) == 4, (method, params)
        since, to = unpack(params[1]), unpack(params[2])
        assert since == self.place, f"{self.name}: a gap from {self.place} to {since}"
        self.take(since, to, [split(change) for change in split(params[3])])


class BroadcastMirror(Mirror):
    """Follows the broadcast, and calls `changes` when the specification says that something may be
    missing."""

    def __init__(self, daemon, broadcast=None, **options):
        super().__init__(daemon, **options)
        self.broadcast = broadcast or daemon.broadcast
        self.name = f"BroadcastMirror({self.prefix!r})"
        self.drops = self.caught_up = 0

    def follow(self):
        line = Line(self)
        subscriber = zmq.Context.instance().socket(zmq.SUB)
        subscriber.linger = 0
        for topic in (b"w", b"h", b"k" + self.prefix.encode()):
            subscriber.subscribe(topic)
        subscriber.connect(self.broadcast)
        try:
            if self.state is None:
                self._begin(line)
            self._listen(line, subscriber)
        except CubbyError as error:
            assert error.code == "compacted", error
            self.state = None
            self.fresh_starts += 1
        finally:
            subscriber.close(0)
            line.close()

    _begin = WatchMirror._begin

    def _catch_up(self, line):
        self.caught_up += 1
        while not self.stopping:
            page = line.call_raw("changes", {"since": self.place, "prefix": self.prefix,
                                             "epoch": self.epoch})
            seq = unpack(field(page, "seq"))
            if seq == self.place:
                return
            self.take(self.place, seq, [split(one) for one in split(field(page, "changes"))])

    def _listen(self, line, subscriber):
        """`doubt`: w has come, and the first heartbeat after it has not."""
        doubt, transaction, heard = True, [], time.monotonic()
        while not self.is_done():
            if not subscriber.poll(TICK_MS):
                if time.monotonic() - heard > 4:  # no three heartbeats: perhaps it is gone
                    self._catch_up(line)
                    heard = time.monotonic()
                continue
            heard = time.monotonic()
            frames = subscriber.recv_multipart()
            if frames[0] == b"w":
                doubt = True
                continue
            _, _, params = split(frames[1])
            params = split(params)
            epoch, drops = unpack(params[0]), unpack(params[1])
            missed = drops > self.drops or epoch != self.epoch
            self.drops = drops
            if frames[0] == b"h":
                seq = unpack(params[2])
                if missed or doubt or (not self.prefix and seq > self.place):
                    self._catch_up(line)
                self.place = max(self.place, seq)
                doubt, transaction = False, []
            elif missed or doubt:
                self._catch_up(line)
                transaction = []
            else:
                transaction = self._hear(line, transaction, split(params[2]))

    def _hear(self, line, transaction, change):
        """A change by itself: what belongs to its transaction is collected first."""
        seq, index, count = (unpack(part) for part in change[:3])
        if seq <= self.place:
            return []
        if self.prefix:  # up to where all has come the next heartbeat says
            apply(self.state, change)
            self.messages += 1
            return []
        transaction = [*transaction, change]
        if len(transaction) != index + 1 or seq != self.place + 1:
            self._catch_up(line)
            return []
        if index + 1 < count:
            return transaction
        self.take(seq - 1, seq, transaction)
        return []


class Writers(Background):
    """Random transactions, several of them on their way, through whatever happens to the daemon."""

    def __init__(self, daemon, randomness, value_size=200, window=20, keys=60):
        super().__init__()
        self.daemon_process = daemon
        self.randomness = randomness
        self.value_size, self.window, self.keys = value_size, window, keys
        self.replies = 0

    def wait(self, replies, seconds=DEADLINE_S):
        """Until so many more transactions were answered."""
        goal, end = self.replies + replies, deadline(seconds)
        while self.replies < goal:
            assert time.monotonic() < end, f"{self.replies} of {goal} replies"
            time.sleep(0.001)

    def _key(self):
        return self.randomness.choice("abc") + f"/{self.randomness.randrange(self.keys):03}"

    def _value(self):
        return self.randomness.randbytes(self.randomness.randrange(self.value_size))

    def _operation(self):
        draw = self.randomness.random()
        if draw < 0.55:
            return ["put", [self._key(), self._value()]]
        if draw < 0.65:
            return ["put", [self._key(), self._value(), {"ttl": self.randomness.randrange(60)}]]
        if draw < 0.85:
            return ["delete", [self._key()]]
        return ["delete_range", [{"prefix": self._key()[:-1], "limit": 3}]]

    def _request(self, msgid):
        if self.randomness.random() < 0.4:
            count = self.randomness.randrange(1, 12)
            return request(msgid, "batch", [self._operation() for _ in range(count)])
        method, params = self._operation()
        return request(msgid, method, *params)

    def run(self):
        while not self.stopping:
            self._write_on_one_connection()

    def _write_on_one_connection(self):
        socket_ = zmq.Context.instance().socket(zmq.DEALER)
        socket_.linger = 0
        socket_.connect(self.daemon_process.endpoint)
        on_their_way, heard = 0, time.monotonic()
        try:
            while not self.stopping and time.monotonic() - heard < 1:
                while on_their_way < self.window:
                    socket_.send(self._request(1))
                    on_their_way += 1
                while socket_.poll(TICK_MS if on_their_way == self.window else 0):
                    open_reply(socket_.recv())
                    on_their_way -= 1
                    self.replies += 1
                    heard = time.monotonic()
        finally:
            socket_.close(0)
