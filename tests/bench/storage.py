"""What storage costs: memory, starts, checkpoints, engines, size. One table of scripts/bench."""

import os
import statistics
import threading

from servers import Cubby, Redis, measure

SHAPE = (50, 16)  # connections, requests in flight on each
ENGINES = ("memory", "lmdb", "rocksdb")


class Table:
    def __init__(self, emit):
        self.emit = emit

    def head(self):
        self.emit(None, "| what | cubbyd | against | ratio |\n|---|---|---|---|")

    def row(self, what, ours, peer, theirs, unit, digits=0):
        ratio = ours / theirs
        self.emit({"row": what, "ours": ours, "peer": peer, "theirs": theirs, "unit": unit,
                   "ratio": ratio},
                  f"| {what} | {ours:,.{digits}f} {unit} | {peer} {theirs:,.{digits}f} {unit} "
                  f"| {ratio:.2f} |")


def memory_per_key(server, keys):
    before = server.memory()
    server.load(keys)
    grown = server.memory() - before
    server.end()
    return grown / keys


def memory(table, directory, options):
    ours = memory_per_key(Cubby("cubbyd", "none", "none", "--log-retain", "0"), options.keys)
    theirs = memory_per_key(Redis("redis", f"{directory}/memory", False), options.keys)
    table.row(f"resident memory for a key, {options.keys:,} keys", ours, "redis", theirs, "B")


def prepare_starts(directory, keys):
    """A data directory of each, stopped."""
    ours = Cubby("cubbyd", f"{directory}/start", "always")
    ours.load(keys)
    ours.end()
    for name, durable in (("rdb", False), ("aof", True)):
        redis = Redis(name, f"{directory}/{name}", durable)
        redis.load(keys)
        if not durable:
            redis.command(b"SAVE\r\n")
        redis.kill()


def starts(table, directory, options):
    prepare_starts(directory, options.keys)
    makers = {
        "cubbyd": lambda: Cubby("cubbyd", f"{directory}/start", "always"),
        "redis, RDB": lambda: Redis("rdb", f"{directory}/rdb", False),
        "redis, AOF": lambda: Redis("aof", f"{directory}/aof", True),
    }
    times = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            server = make()
            times[name].append(server.start_s * 1000)
            server.kill()
    for peer in ("redis, RDB", "redis, AOF"):
        table.row(f"start with {options.keys:,} keys, to the first reply",
                  statistics.median(times["cubbyd"]), peer, statistics.median(times[peer]), "ms")


class Checkpoints:
    """Asks for one checkpoint after the other while it is open."""

    def __init__(self, server):
        self.server, self.stop = server, threading.Event()
        self.thread = threading.Thread(target=self.go)

    def go(self):
        while not self.stop.wait(0.05):
            if not self.server.call("stats")["checkpoint_running"]:
                self.server.call("checkpoint")

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def checkpoints(table, directory, options):
    """Two daemons, so that each has a longest turn of its own."""
    never = ("--checkpoint-size", "0", "--checkpoint-interval", "0")
    servers = []
    for name in ("with", "without"):
        server = Cubby(name, f"{directory}/{name}", "always", *never)
        server.load(options.keys)
        server.end()
        servers.append(Cubby(name, f"{directory}/{name}", "always", *never))
        servers[-1].pause()
    busy, calm = servers
    rates = {"with": [], "without": []}
    for _ in range(options.rounds):
        rates["without"].append(measure(calm, options.keys, "put", SHAPE, options.seconds)[0])
        busy.resume()
        with Checkpoints(busy):
            rates["with"].append(busy.bench(options.keys, "put", *SHAPE, options.seconds)[0])
        busy.pause()
    table.row("SET, reply after fsync, 50 x 16, checkpoints without pause",
              statistics.median(rates["with"]), "without them", statistics.median(rates["without"]),
              "/s")
    busy.resume()
    calm.resume()
    table.row("longest turn of that", busy.call("stats")["turn_max_us"] / 1000, "without them",
              calm.call("stats")["turn_max_us"] / 1000, "ms", 1)
    busy.end()
    calm.end()


def side_by_side(table, directory, options, servers, names):
    for title, workload in (("SET, reply after fsync, 50 x 16", "put"), ("GET, 50 x 16", "get")):
        rates = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(
                    measure(servers[name], options.keys, workload, SHAPE, options.seconds)[0])
        for name in names[1:]:
            table.row(f"{title}, engine {name}", statistics.median(rates[name]), names[0],
                      statistics.median(rates[names[0]]), "/s")


def engines(table, directory, options):
    servers = {}
    for name in ENGINES:
        servers[name] = Cubby(name, f"{directory}/engine-{name}", "always", "--engine", name)
        servers[name].load(options.keys)
        servers[name].pause()
    side_by_side(table, directory, options, servers, ENGINES)
    for name in ENGINES:
        servers[name].resume()
    disk = {name: servers[name].call("stats")["disk"] / 2**20 for name in ENGINES}
    for name in ENGINES[1:]:
        table.row(f"bytes on disk, log included, engine {name}", disk[name], "memory",
                  disk["memory"], "MiB")
    for name in ENGINES:
        servers[name].end()


def scale(table, directory, options):
    """Ten times the keys, with nothing on disk."""
    small = Cubby("small", "none", "none")
    large = Cubby("large", "none", "none")
    small.load(options.keys)
    large.load(options.keys * 10)
    small.pause()
    large.pause()
    for title, workload in (("SET, nothing on disk, 50 x 16", "put"), ("GET, 50 x 16", "get")):
        rates = {small: [], large: []}
        for _ in range(options.rounds):
            for server, keys in ((small, options.keys), (large, options.keys * 10)):
                rates[server].append(measure(server, keys, workload, SHAPE, options.seconds)[0])
        table.row(f"{title}, {options.keys * 10:,} keys", statistics.median(rates[large]),
                  f"{options.keys:,} keys", statistics.median(rates[small]), "/s")
    small.end()
    large.end()


def bench(emit, directory, options):
    table = Table(emit)
    table.head()
    for part in (memory, starts, checkpoints, engines, scale):
        place = os.path.join(directory, part.__name__)
        os.mkdir(place)
        part(table, place, options)
