"""The servers that scripts/bench compares, each on 127.0.0.1 with files of its own."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time

import msgpack
import zmq

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build", "bench")
VALUE_SIZE = 100
CLOCK_HZ = os.sysconf("SC_CLK_TCK")
START_S = 300
POLL_S = 0.001


def run(*command):
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout


def build():
    run(os.path.join(TOP, "scripts", "install"), "run", "test", "bench")
    run("cmake", "-S", TOP, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", BUILD, "--target", "cubbyd", "cubby", "echo", "listen", "load")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, timeout_s=START_S):
    end = time.monotonic() + timeout_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), START_S)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)


class Server:
    """A process that may be paused while another one is measured."""

    running = []

    def __init__(self, name, *command):
        begin = time.monotonic()
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        Server.running.append(self)
        self.wait_for_reply()
        self.start_s = time.monotonic() - begin  # until the first reply

    def wait_for_reply(self):
        wait_for_port(self.port).close()

    def work(self, workload, connections, pipeline, **options):
        """By the generator that all servers are measured with; see load/load.h."""
        options = {"connections": connections, "pipeline": pipeline, "value_size": VALUE_SIZE,
                   **options}
        arguments = [word for name, value in options.items()
                     for word in (f"--{name.replace('_', '-')}", str(value))]
        figures = json.loads(run(f"{BUILD}/tests/bench/load", self.protocol, workload,
                                 "--port", str(self.port), *arguments))
        if figures["errors"]:
            sys.exit(f"{self.name}: {figures['errors']} errors in {workload}")
        return figures

    def work_apart(self, *arguments, **options):
        """As work, with one core for the server and the others for the generator, if there are any:
        one request at a time is mostly threads that wake each other, and where depends on luck."""
        all_cores = os.sched_getaffinity(0)
        first, *others = sorted(all_cores)
        if not others:
            return self.work(*arguments, **options)
        self.pin({first})
        os.sched_setaffinity(0, others)
        try:
            return self.work(*arguments, **options)
        finally:
            os.sched_setaffinity(0, all_cores)
            self.pin(all_cores)

    def pin(self, cores):
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cores)

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_HZ

    def memory(self):
        """Resident bytes of its own, without what it shares with its files."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["RssAnon"].split()[0]) * 1024

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.resume()
        self.process.terminate()
        self.wait()

    def kill(self):
        self.process.kill()
        self.wait()

    def wait(self):
        self.process.wait()
        self.process.stderr.close()
        Server.running.remove(self)

    def check(self):
        """Ends everything where the server has ended."""
        if self.process.poll() is not None:
            sys.exit(f"{self.name}: {self.process.stderr.read().decode().strip()}")


def kill_all():
    for server in list(Server.running):
        server.kill()


class Cubby(Server):
    protocol = "cubby"

    def __init__(self, name, data, durability, *more):
        self.port = free_port()
        self.publish_port = free_port()
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        super().__init__(name, f"{BUILD}/daemon/cubbyd", "--data", data, "--durability", durability,
                         "--listen", self.endpoint, "--publish",
                         f"tcp://127.0.0.1:{self.publish_port}", *more)

    def wait_for_reply(self):
        while True:
            try:
                wait_for_port(self.port, 1).close()
                break
            except OSError:
                self.check()
        self.call("ping")

    def call(self, method, *params):
        with zmq.Context() as context, context.socket(zmq.REQ) as peer:
            peer.setsockopt(zmq.RECONNECT_IVL, 1)
            peer.setsockopt(zmq.RCVTIMEO, START_S * 1000)
            peer.setsockopt(zmq.LINGER, 0)
            peer.connect(self.endpoint)
            peer.send(msgpack.packb([0, 1, method, list(params)]))
            _, _, error, result = msgpack.unpackb(peer.recv(), strict_map_key=False)
        if error is not None:
            sys.exit(f"{self.name}: {method}: {error}")
        return result

    def pause(self):
        """Between two turns: one that is stopped in its middle would count as one that took long."""
        self.call("ping")
        super().pause()

    def begin_queue(self):
        """An empty one; so for each kind of server."""
        self.call("queue.drop", "jobs")

    def load(self, keys):
        run(f"{BUILD}/bindings/cli/cubby", "--connect", self.endpoint, "bench", "--load", "--keys",
            str(keys), "--value-size", str(VALUE_SIZE), "--requests", "1", "--timeout", "60000")

    def client_bench(self, keys, workload, connections, in_flight, seconds):
        """By `cubby bench`: libcubby and libzmq on the client's side, too."""
        figures = json.loads(run(
            f"{BUILD}/bindings/cli/cubby", "--connect", self.endpoint, "--json", "bench",
            "--workload", workload, "--keys", str(keys), "--value-size", str(VALUE_SIZE),
            "--connections", str(connections), "--in-flight", str(in_flight),
            "--seconds", str(max(1, round(seconds))), "--timeout", "60000",
            "--daemon-pid", str(self.process.pid)))
        if figures["errors"]:
            sys.exit(f"{self.name}: {figures['errors']} errors in {workload}")
        return figures


class Echo(Cubby):
    def __init__(self, seconds):
        self.port = free_port()
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        Server.__init__(self, "echo", f"{BUILD}/tests/bench/echo", self.endpoint, str(seconds))

    def wait_for_reply(self):
        wait_for_port(self.port).close()


class Redis(Server):
    protocol = "redis"

    def __init__(self, name, directory, durable):
        self.port = free_port()
        os.makedirs(directory, exist_ok=True)
        super().__init__(name, "redis-server", "--bind", "127.0.0.1", "--port", str(self.port),
                         "--dir", directory, "--save", "",
                         "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
                         "--auto-aof-rewrite-percentage", "0", "--protected-mode", "no")

    def wait_for_reply(self):
        """Until it has read its files: before, it answers LOADING."""
        while True:
            try:
                if self.command(b"PING\r\n").startswith(b"+PONG"):
                    return
            except OSError:
                self.check()
            time.sleep(POLL_S)

    def command(self, line):
        with wait_for_port(self.port) as peer:
            peer.sendall(line)
            return peer.makefile("rb").readline()

    def begin_queue(self):
        self.command(b"DEL jobs\r\n")

    def load(self, keys):
        value = b"x" * VALUE_SIZE
        with wait_for_port(self.port) as peer:
            answers = peer.makefile("rb")
            for begin in range(0, keys, 1000):
                count = min(1000, keys - begin)
                peer.sendall(b"".join(
                    b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (k, len(value), value)
                    for k in range(begin, begin + count)))
                for _ in range(count):
                    answers.readline()

    def client_bench(self, keys, workload, connections, in_flight, seconds):
        """By redis-benchmark. It counts requests, not seconds: so many as take about as long."""
        requests = int((400_000 if connections * in_flight > 1 else 8000) * seconds)
        text = run("redis-benchmark", "-p", str(self.port), "-c", str(connections), "-P",
                   str(in_flight), "-n", str(requests), "-r", str(keys), "-d", str(VALUE_SIZE),
                   "-t", {"put": "set", "get": "get"}[workload], "--csv")
        row = list(csv.DictReader(io.StringIO(text)))[0]
        return {"operations": requests, "operations_per_second": float(row["rps"]),
                "latency_us": {q: float(row[f"{q}_latency_ms"]) * 1000 for q in ("p50", "p99")}}


class Etcd(Server):
    """Through its JSON gateway, which is HTTP: what it costs is more than that of its gRPC."""

    protocol = "etcd"

    def __init__(self, name, directory):
        self.port = free_port()
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.port, free_port()))
        super().__init__(name, "etcd", "--data-dir", directory, "--listen-client-urls", client,
                         "--advertise-client-urls", client, "--listen-peer-urls", peer,
                         "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                         "--log-level", "error")

    def wait_for_reply(self):
        """Until it answers a read, which needs a leader: itself."""
        body = b'{"key":"AA=="}'
        request = b"POST /v3/kv/range HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%s"
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                with wait_for_port(self.port, 1) as peer:
                    peer.sendall(request % (len(body), body))
                    if b" 200 " in peer.makefile("rb").readline():
                        return
            except OSError:
                self.check()
            time.sleep(POLL_S)
        sys.exit(f"{self.name}: no reply in {START_S} s")


class Streams(Redis):
    """Redis, whose queue is a stream with a group of consumers."""

    protocol = "streams"

    def begin_queue(self):
        self.command(b"DEL jobs\r\n")
        self.command(b"XGROUP CREATE jobs g 0 MKSTREAM\r\n")


class Beanstalk(Server):
    protocol = "beanstalk"

    def __init__(self, name, directory, durable):
        self.port = free_port()
        log = ("-b", directory, "-f", "0") if durable else ()
        os.makedirs(directory, exist_ok=True)
        super().__init__(name, "beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), *log)

    def begin_queue(self):
        """It cannot be emptied at once; what the measurement before has left stays."""


class Figures:
    """One measurement: operations a second, latencies and CPU for each operation in us."""

    def __init__(self, measured, server_cpu_s):
        self.rate = measured["operations_per_second"]
        self.p50 = measured["latency_us"]["p50"]
        self.p99 = measured["latency_us"]["p99"]
        self.cpu = server_cpu_s * 1e6 / max(measured["operations"], 1)
        self.own_cpu = measured.get("own_cpu_us", 0)
        self.operations = measured["operations"]


def measure(server, work):
    """Figures of work(server), while it alone is awake."""
    server.resume()
    before = server.cpu_s()
    measured = work(server)
    used = server.cpu_s() - before
    server.pause()
    return Figures(measured, used)
