"""What the end-to-end tests share: a daemon to start, stop and kill; clients on plain ZeroMQ and
MessagePack, which know nothing of the project's own code; MessagePack by hand, for what no packer
would send.

    with Daemon() as daemon, Client(daemon) as client:
        client.call("put", "key", 1)

The daemon is the program that CUBBYD names. Nothing here sleeps and hopes: everything that takes
time is waited for, with a deadline that fails the test.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import msgpack
import zmq

HERE = os.path.dirname(os.path.abspath(__file__))
CUBBYD = os.environ.get("CUBBYD") or os.path.join(HERE, "../../build/daemon/cubbyd")
LONG = bool(os.environ.get("CUBBY_LONG"))
DEADLINE_S = 60  # generous: it also holds under sanitizers on a busy machine

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1

MIB = 1024 * 1024
MAX_KEY = 1024
MAX_VALUE = MIB
MAX_MESSAGE = 8 * MIB
MAX_BATCH = 10000
MAX_CHANGES = 100000
MAX_DURATION_MS = 2**48
U64_MAX = 2**64 - 1

# Code of each error: names in its detail that must be there.
ERROR_DETAILS = {
    "bad_request": set(),
    "unknown_method": set(),
    "too_large": {"limit"},
    "conflict": {"key", "version"},
    "wrong_type": {"key"},
    "not_found": set(),
    "stale_lease": set(),
    "queue_full": {"limit"},
    "storage_full": set(),
    "compacted": {"oldest", "seq"},
    "busy": {"limit"},
    "read_only": set(),
    "unauthorized": set(),
    "forbidden": set(),
    "unavailable": set(),
    "internal": set(),
}


class CubbyError(Exception):
    """An error reply."""

    def __init__(self, code, message, detail):
        super().__init__(f"{code}: {message} {detail}")
        self.code, self.message, self.detail = code, message, detail


# --- MessagePack by hand ---


def pack(value):
    return msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")


def unpack(data):
    return msgpack.unpackb(
        data, raw=False, strict_map_key=False, unicode_errors="surrogateescape",
        max_str_len=2**31 - 1, max_bin_len=2**31 - 1, max_array_len=2**31 - 1,
        max_map_len=2**31 - 1, max_ext_len=2**31 - 1,
    )


class Raw(bytes):
    """An object that is encoded already, as an element of what build() encodes."""


def build(value):
    """Like pack, but Raw parts go in as they are and a dict may be given as a list of pairs."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
        return array_header(len(value)) + b"".join(build(element) for element in value)
    if isinstance(value, Pairs):
        body = b"".join(build(name) + build(element) for name, element in value.pairs)
        return map_header(len(value.pairs)) + body
    if isinstance(value, dict):
        return build(Pairs(*value.items()))
    return pack(value)


class Pairs:
    """A map with its pairs in order, names given twice included."""

    def __init__(self, *pairs):
        self.pairs = pairs


def array_header(count):
    return bytes([0x90 | count]) if count < 16 else b"\xdc" + struct.pack(">H", count)


def map_header(count):
    return bytes([0x80 | count]) if count < 16 else b"\xde" + struct.pack(">H", count)


def as_str(data):
    """The bytes as a MessagePack str, whether or not they are UTF-8."""
    return Raw(b"\xdb" + struct.pack(">I", len(data)) + data)


def as_bin(data):
    return Raw(b"\xc6" + struct.pack(">I", len(data)) + data)


def value_of_size(size, fill=b"x"):
    """A bin whose encoding has exactly that many bytes (more than 70,000)."""
    return fill * (size - 5)


def split(data):
    """The encodings of the elements of an encoded array."""
    unpacker = msgpack.Unpacker(max_buffer_size=0, raw=True, strict_map_key=False)
    unpacker.feed(data)
    count = unpacker.read_array_header()
    bounds = [unpacker.tell()]
    for _ in range(count):
        unpacker.skip()
        bounds.append(unpacker.tell())
    if bounds[-1] != len(data):
        raise AssertionError(f"{len(data) - bounds[-1]} bytes follow the array")
    return [data[start:end] for start, end in zip(bounds, bounds[1:])]


def field(encoded_map, name):
    """The encoding of one value of an encoded map with str names."""
    unpacker = msgpack.Unpacker(max_buffer_size=0, raw=False, strict_map_key=False,
                                unicode_errors="surrogateescape")
    unpacker.feed(encoded_map)
    for _ in range(unpacker.read_map_header()):
        found = unpacker.unpack()
        start = unpacker.tell()
        unpacker.skip()
        if found == name:
            return encoded_map[start:unpacker.tell()]
    raise AssertionError(f"no {name}")


def request(msgid, method, *params):
    return build([0, msgid, method, list(params)])


# --- waiting ---


def deadline(seconds=DEADLINE_S):
    return time.monotonic() + seconds


def eventually(condition, what, seconds=DEADLINE_S):
    """Calls condition until it returns something true, and returns that."""
    end = deadline(seconds)
    pause = 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def seeded(test):
    """A random generator; its seed is in the test's message where the test fails."""
    seed = int(os.environ.get("CUBBY_SEED") or random.SystemRandom().randrange(2**32))
    test.addCleanup(lambda: _tell_seed(test, seed))
    return random.Random(seed)


def _tell_seed(test, seed):
    outcome = getattr(test, "_outcome", None)
    result = getattr(outcome, "result", None)
    broken = [getattr(case, "test_case", case)  # of a subtest
              for case, _ in getattr(result, "failures", []) + getattr(result, "errors", [])]
    if test in broken or (outcome is not None and not outcome.success):
        print(f"\nCUBBY_SEED={seed} for {test.id()}", flush=True)


# --- the daemon ---


class Daemon:
    """A cubbyd on free endpoints, with a data directory of its own unless `data` says otherwise.

    data: a directory, "none", or None for a temporary one that ends with this object.
    listen, publish: endpoints; default is ipc in a temporary directory.
    """

    def __init__(self, *options, data=None, listen=None, publish=None, env=None, limits=None):
        self.directory = tempfile.mkdtemp(prefix="cubby-")
        self.data = data or os.path.join(self.directory, "data")
        self.listen = listen or [f"ipc://{self.directory}/r"]
        self.publish = publish or [f"ipc://{self.directory}/p"]
        self.options = list(options)
        self.env = {**os.environ, **(env or {})}
        self.limits = limits  # called in the child before it becomes cubbyd
        self.process = None
        self.lines = []
        self.requests = self.broadcasts = ()
        self._reader = None
        self._ended = False  # stderr is closed
        self._news = threading.Condition()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.clean()
            raise

    def __exit__(self, *_):
        self.clean()

    @property
    def command(self):
        command = [CUBBYD, "--data", self.data, *self.options]
        for endpoint in self.listen:
            command += ["--listen", endpoint]
        for endpoint in self.publish:
            command += ["--publish", endpoint]
        return command

    @property
    def endpoint(self):
        return self.requests[0]

    @property
    def broadcast(self):
        return self.broadcasts[0]

    @property
    def stderr(self):
        with self._news:
            return "\n".join(self.lines)

    def spawn(self, command=None):
        """Starts the process and returns at once."""
        self.lines = []
        self._ended = False
        self.process = subprocess.Popen(
            command or self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=self.env, preexec_fn=self._before_exec,
        )
        self._reader = threading.Thread(
            target=self._read, args=(self.process.stderr,), daemon=True
        )
        self._reader.start()
        return self

    def _before_exec(self):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no daemon survives tests that crash
        if self.limits:
            self.limits()

    def start(self, command=None):
        """Starts it and waits until it serves."""
        self.spawn(command)
        ready = self.wait_for_line("cubbyd: ready")
        match = re.match(r"cubbyd: ready, requests on ([^;]*), broadcast on ([^;]*)(;.*)?$", ready)
        if not match:
            raise AssertionError(f"the ready line is {ready!r}")
        self.requests = tuple(match.group(1).split(", "))
        self.broadcasts = tuple(match.group(2).split(", "))
        return self

    def wait_for_line(self, beginning):
        """The first line of stderr that begins so."""
        with self._news:
            end = deadline()
            while True:
                for line in self.lines:
                    if line.startswith(beginning):
                        return line
                if self._ended or time.monotonic() > end:
                    raise AssertionError(f"no {beginning!r} from cubbyd: {self.lines}")
                self._news.wait(0.5)

    def _read(self, stream):
        for line in stream:
            with self._news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        stream.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait(self, seconds=DEADLINE_S):
        """Waits for the end; the exit status, negative for a signal."""
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status

    def stop(self, how=signal.SIGTERM):
        """Ends it as an operator does; it has to leave with 0 and without complaints."""
        self.process.send_signal(how)
        status = self.wait()
        if status != 0:
            raise AssertionError(f"exit status {status} after {how!r}:\n{self.stderr}")
        self.look_for_defects()

    def kill(self):
        self.process.kill()
        self.wait()
        self.look_for_defects()

    def restart(self):
        self.stop()
        return self.start()

    def look_for_defects(self):
        for sign in ("Sanitizer", "runtime error:", "Assertion", "assertion"):
            if sign in self.stderr:
                raise AssertionError(f"cubbyd complained:\n{self.stderr}")

    def clean(self):
        """Ends the process, whatever its state, and removes the files."""
        try:
            if self.alive():
                self.process.kill()
                self.wait()
            if self.process is not None:
                self.look_for_defects()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def run(*options, env=None, seconds=DEADLINE_S):
    """Runs cubbyd with these arguments until it ends: (status, stdout, stderr)."""
    done = subprocess.run(
        [CUBBYD, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds, check=False, env={**os.environ, **(env or {})},
    )
    return done.returncode, done.stdout, done.stderr


# --- clients ---


def close_socket(socket):
    """One that was monitored, and goes on for a moment, has libzmq's thread wait for whoever is to hear of it."""
    if not socket.closed:
        socket.disable_monitor()
        socket.close(0)


def new_socket(kind):
    """None while libzmq, which closes sockets behind our back, has too many of them."""
    try:
        return zmq.Context.instance().socket(kind)
    except zmq.ZMQError as error:
        if error.errno != errno.EMFILE:
            raise
        return None


class Client:
    """A DEALER (or another type) that sends raw frames or calls methods, one at a time or many."""

    _msgids = itertools.count(1)

    def __init__(self, daemon, kind=zmq.DEALER, endpoint=None, empty_frame=False, **sockopts):
        self.daemon = daemon
        self.socket = eventually(lambda: new_socket(kind), "sockets that were closed are gone")
        self.socket.linger = 0
        for name, value in sockopts.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.empty_frame = empty_frame
        self.socket.connect(endpoint or daemon.endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        close_socket(self.socket)

    def send(self, *frames):
        self.socket.send_multipart(frames)

    def receive(self, seconds=DEADLINE_S):
        """The frames of the next message."""
        end = deadline(seconds)
        while not self.socket.poll(200):
            if self.daemon and not self.daemon.alive():
                raise AssertionError(f"cubbyd is gone: {self.daemon.stderr}")
            if time.monotonic() > end:
                said = self.daemon.stderr if self.daemon else "(it is not the harness's)"
                raise AssertionError(f"no reply in {seconds} s: {said}")
        return self.socket.recv_multipart()

    def silent(self):
        """Whether what was sent before is not answered: the next message is the reply to one more
        ping."""
        msgid = next(self._msgids)
        self.send_request(msgid, "ping")
        reply = unpack(self.receive_payload())
        return reply == [1, msgid, None, True]

    def send_request(self, msgid, method, *params):
        self.send_payload(request(msgid, method, *params))

    def send_payload(self, payload):
        if self.empty_frame:
            self.send(b"", payload)
        else:
            self.send(payload)

    def receive_payload(self):
        frames = self.receive()
        if self.empty_frame:
            empty, payload = frames
            assert empty == b"", frames
        else:
            (payload,) = frames
        return payload

    def call_raw(self, method, *params):
        """The encoded result."""
        msgid = next(self._msgids)
        self.send_request(msgid, method, *params)
        return result_of(self.receive_payload(), msgid)

    def call(self, method, *params):
        """The result, or CubbyError."""
        return unpack(self.call_raw(method, *params))

    def batch(self, *operations, **options):
        """{seq, results} of [method, params...] operations."""
        options = {name.rstrip("_"): value for name, value in options.items()}
        operations = [[method, list(params)] for method, *params in operations]
        return self.call("batch", operations, *([options] if options else []))

    def ask(self, payload):
        """Sends one payload as it is; the decoded reply, its form checked."""
        self.send_payload(payload)
        return check_reply(self.receive_payload())


def open_reply(payload):
    """(msgid, error, encoded result) of a reply; raises where it is not as every reply has to be."""
    parts = split(payload)
    if len(parts) != 4 or parts[0] != b"\x01":
        raise AssertionError(f"not a reply: {payload[:200]!r}")
    msgid, error, result = unpack(parts[1]), unpack(parts[2]), parts[3]
    if msgid is not None and (type(msgid) is not int or msgid < 0):
        raise AssertionError(f"msgid {msgid!r}")
    if error is not None:
        if not isinstance(error, list) or len(error) != 3 or result != b"\xc0":
            raise AssertionError(f"not an error reply: {error!r} {result!r}")
        check_error(*error)
    return msgid, error, result


def check_error(code, message, detail):
    if code not in ERROR_DETAILS or not isinstance(detail, dict):
        raise AssertionError(f"not an error: {code!r} {detail!r}")
    if not isinstance(message, str) or not message or not message.isprintable():
        raise AssertionError(f"no message for a person, or not in UTF-8: {message!r}")
    if not ERROR_DETAILS[code] <= set(detail):
        raise AssertionError(f"detail of {code} lacks something: {detail!r}")


def check_reply(payload):
    """A reply, decoded and checked: [1, msgid, error, result]."""
    msgid, error, result = open_reply(payload)
    return [1, msgid, error, unpack(result)]


def result_of(payload, msgid):
    """The encoded result of a reply to msgid; raises CubbyError for an error."""
    answered, error, result = open_reply(payload)
    if answered != msgid:
        raise AssertionError(f"the reply is to {answered}, not to {msgid}: {payload[:200]!r}")
    if error is not None:
        raise CubbyError(*error)
    return result


def open_sockets(daemon):
    """How many it has."""
    files, count = f"/proc/{daemon.process.pid}/fd", 0
    for name in os.listdir(files):
        with contextlib.suppress(OSError):  # it has just been closed
            count += os.readlink(f"{files}/{name}").startswith("socket:")
    return count


def resident_size(daemon):
    with open(f"/proc/{daemon.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def is_sanitized():
    """Sanitizers keep what was freed for a while, and use memory of their own."""
    with open(CUBBYD, "rb") as file:
        program = file.read()
    return b"__asan_init" in program or b"__tsan_init" in program


class End:
    """The end of a client's connection, by when all that the daemon has sent has come. To be made before it."""

    def __init__(self, test, client):
        self.socket = client.socket
        self.monitor = client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        test.addCleanup(self.monitor.close, 0)

    def wait(self):
        assert self.monitor.poll(1000 * DEADLINE_S), "the connection goes on"

    def messages(self):
        """What is left to be received."""
        self.wait()
        while self.socket.poll(0):
            yield self.socket.recv_multipart()


class Subscriber:
    """A SUB socket on the broadcast. With a prefix it takes `k` + prefix; "w" and "h" come too
    unless `topics` says exactly what is wanted."""

    _numbers = itertools.count(1)

    def __init__(self, daemon, prefix=b"", topics=None, endpoint=None, **sockopts):
        self.daemon = daemon
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = 0
        for name, value in sockopts.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        for topic in [b"w", b"h", b"k" + prefix] if topics is None else topics:
            self.socket.subscribe(topic)
        self.marker = f"\0heard/{next(self._numbers)}"
        self.socket.connect(endpoint or daemon.broadcast)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        close_socket(self.socket)

    def receive(self, seconds=DEADLINE_S):
        """(topic, decoded payload); payload None for the single frame `w`."""
        if not self.socket.poll(int(seconds * 1000)):
            raise AssertionError(f"no broadcast in {seconds} s")
        frames = self.socket.recv_multipart()
        if len(frames) == 1:
            return frames[0], None
        topic, payload = frames
        return topic, unpack(payload)

    def welcome(self):
        """Waits until the connection stands and its subscriptions hold: `w` says the former; a
        change of a key that is subscribed to last, and then written until it is heard, the latter.
        """
        topic, payload = self.receive()
        assert (topic, payload) == (b"w", None), (topic, payload)
        marker_topic = b"k" + self.marker.encode()
        self.socket.subscribe(marker_topic)
        with Client(self.daemon) as client:
            written = heard = 0
            while heard == 0 or heard != written:
                if heard == 0:
                    written += 1
                    client.call("put", self.marker, written)
                while self.socket.poll(20):
                    topic, payload = self.receive()
                    if topic == marker_topic:
                        heard = payload[2][2][5]
                        break
        self.socket.unsubscribe(marker_topic)
        return self

    def messages(self, first_letter):
        """Those whose topic begins with the letter, for ever."""
        while True:
            topic, payload = self.receive()
            if topic[:1] == first_letter:
                yield topic, payload

    def changes(self, count):
        """The next changes, each checked: [epoch, drops, change]."""
        return [
            params_of(payload, "change")
            for _, payload in itertools.islice(self.messages(b"k"), count)
        ]

    def changes_up_to(self, seq):
        """All changes before a heartbeat that says this seq, or a later one."""
        found = []
        while True:
            topic, payload = self.receive()
            if topic[:1] == b"k":
                found.append(params_of(payload, "change"))
            elif topic[:1] == b"h" and params_of(payload, "heartbeat")[2] >= seq:
                return found

    def heartbeat(self):
        """The next heartbeat: [epoch, drops, seq, oldest]."""
        return params_of(next(self.messages(b"h"))[1], "heartbeat")


def params_of(payload, method):
    kind, name, params = payload
    assert (kind, name) == (2, method), payload
    return params


def all_changes(client, since=0, **options):
    """Every change from `since` to the end, page by page."""
    found = []
    while True:
        page = client.call("changes", {"since": since, **options})
        found += page["changes"]
        if page["seq"] == since:
            return found
        since = page["seq"]


# --- test cases ---


class DaemonCase(unittest.TestCase):
    """Tests that share one daemon; each uses keys of its own (self.key) and its own client."""

    options = ()
    data = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(*cls.options, data=cls.data)
        cls.addClassCleanup(cls.daemon.clean)
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls):
        if cls.daemon.alive():
            cls.daemon.stop()

    def setUp(self):
        self.client = Client(self.daemon)
        self.addCleanup(self.client.close)
        self.key = self.id().rsplit(".", 1)[-1] + "/"

    def call(self, method, *params):
        return self.client.call(method, *params)

    def refused(self, code, method, *params, **detail):
        """The call fails with that code and at least these details; returns the detail."""
        return self.fails(code, lambda: self.client.call(method, *params), **detail)

    def fails(self, code, function, **detail):
        detail = {name.rstrip("_"): value for name, value in detail.items()}
        with self.assertRaises(CubbyError) as caught:
            function()
        error = caught.exception
        self.assertEqual(error.code, code, str(error))
        self.assertEqual({**error.detail, **detail}, error.detail, str(error))
        return error.detail

    def seq(self):
        return self.call("hello")["seq"]
