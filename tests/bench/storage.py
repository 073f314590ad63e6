"""What storage costs: memory, starts, checkpoints, engines, size. One table of scripts/bench."""

import os
import statistics
import threading

from servers import BUILD, Cubby, Redis, measure, run

SHAPE = (50, 16)  # connections, requests in flight on each
ENTRY_SIZE = 116  # bytes of a key and its value
LONGEST_TURN_MS = 50
LEAST_LIMIT = 8 << 20  # that rocksdb takes
ENGINES = ("memory", "lmdb", "rocksdb")


def rate(server, workload, keys, options):
    return measure(server, lambda it: it.work(
        workload, *SHAPE, keys=keys, seconds=options.seconds)).rate


def memory_per_key(server, keys):
    before = server.memory()
    server.load(keys)
    grown = server.memory() - before
    server.end()
    return grown / keys


def memory(table, directory, options):
    ours = memory_per_key(Cubby("cubbyd", "none", "none", "--log-retain", "0"), options.keys)
    theirs = memory_per_key(Redis("redis", f"{directory}/memory", False), options.keys)
    table.row(f"resident memory for a key, {options.keys:,} keys", ours, "redis", theirs, "B",
              "≤ 0.65")


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
    for peer, goal in (("redis, RDB", "≤ 0.5"), ("redis, AOF", "≤ 0.33")):
        table.row(f"start with {options.keys:,} keys, to the first reply",
                  statistics.median(times["cubbyd"]), peer, statistics.median(times[peer]), "ms",
                  goal)


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
        rates["without"].append(rate(calm, "put", options.keys, options))
        busy.resume()
        with Checkpoints(busy):
            figures = busy.work("put", *SHAPE, keys=options.keys, seconds=options.seconds)
        rates["with"].append(figures["operations_per_second"])
        busy.pause()
    table.row("SET, reply after fsync, 50 x 16, checkpoints without pause",
              statistics.median(rates["with"]), "without them", statistics.median(rates["without"]),
              "/s", "≥ 0.9")
    busy.resume()
    calm.resume()
    for name, server in (("with", busy), ("without", calm)):
        table.row(f"longest turn {name} checkpoints", server.call("stats")["turn_max_us"] / 1000,
                  "at most", LONGEST_TURN_MS, "ms", "≤ 1", digits=1)
    busy.end()
    calm.end()


def side_by_side(table, directory, options, servers, names):
    for title, workload in (("SET, reply after fsync, 50 x 16", "put"), ("GET, 50 x 16", "get")):
        rates = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(rate(servers[name], workload, options.keys, options))
        for name in names[1:]:
            table.row(f"{title}, engine {name}", statistics.median(rates[name]), names[0],
                      statistics.median(rates[names[0]]), "/s")


def engines(table, directory, options):
    servers = {}
    help_text = run(f"{BUILD}/daemon/cubbyd", "--help")
    names = [name for name in ENGINES if name in help_text]
    for name in names:
        servers[name] = Cubby(name, f"{directory}/engine-{name}", "always", "--engine", name)
        servers[name].load(options.keys)
        servers[name].pause()
    side_by_side(table, directory, options, servers, names)
    for name in names:
        servers[name].resume()
    disk = {name: servers[name].call("stats")["disk"] / 2**20 for name in names}
    for name in names[1:]:
        table.row(f"bytes on disk, log included, engine {name}", disk[name], "memory",
                  disk["memory"], "MiB")
    for name in names:
        servers[name].end()


def larger_than_memory(table, directory, options):
    """RocksDB, where caches and buffers together have a fifth of what the keys and values take."""
    limit = max(options.keys * ENTRY_SIZE // 5, LEAST_LIMIT)
    budgets = {"much": "1G", "little": str(limit)}
    servers = {}
    for name, budget in budgets.items():
        servers[name] = Cubby(name, f"{directory}/{name}", "always", "--engine", "rocksdb",
                              "--memory-limit", budget)
        servers[name].load(options.keys)
        servers[name].pause()
    for title, workload in (("SET, reply after fsync, 50 x 16", "put"), ("GET, 50 x 16", "get")):
        rates = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                rates[name].append(rate(server, workload, options.keys, options))
        table.row(f"{title}, engine rocksdb, data 5 x --memory-limit",
                  statistics.median(rates["little"]), "limit of 1G",
                  statistics.median(rates["much"]), "/s")
    table.row("resident memory of that", servers["little"].memory() / 2**20, "--memory-limit",
              limit / 2**20, "MiB", digits=1)
    for server in servers.values():
        server.end()


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
                rates[server].append(rate(server, workload, keys, options))
        table.row(f"{title}, {options.keys * 10:,} keys", statistics.median(rates[large]),
                  f"{options.keys:,} keys", statistics.median(rates[small]), "/s", "≥ 0.8")
    small.end()
    large.end()


def storage(table, directory, options):
    for part in (memory, starts, checkpoints, engines, larger_than_memory, scale):
        place = os.path.join(directory, part.__name__)
        os.mkdir(place)
        part(table, place, options)
