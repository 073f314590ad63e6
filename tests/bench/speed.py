"""Requests a second and latencies of keys, against Redis and a bare echo. Tables of scripts/bench."""

from servers import Cubby, Echo, Redis
from table import Side

# Title, ours, peer, workload, (connections, in flight) of ours, of the peer's, what is to be
# reached, and of what: the rate or a latency. A row without shapes shows the measurement above it.
SPEED = [
    ("SET, reply after fsync, 50 x 16", "durable", "redis always", "put", (50, 16), (50, 16), "≥ 2.5", "rate"),
    ("SET, reply after fsync, 50 x 1", "durable", "redis always", "put", (50, 1), (50, 1), "≥ 2.5", "rate"),
    ("the same, p99", "durable", "redis always", None, None, None, None, "p99"),
    ("SET, reply after fsync, 1 x 1", "durable", "redis always", "put", (1, 1), (1, 1), "≥ 0.8", "rate"),
    ("the same, p99", "durable", "redis always", None, None, None, None, "p99"),
    ("SET, nothing on disk, 50 x 16", "none", "redis", "put", (50, 16), (50, 16), "≥ 1.5", "rate"),
    ("SET, nothing on disk, 2 x 400", "none", "redis", "put", (2, 400), (2, 400), "≥ 1.75", "rate"),
    ("GET, 50 x 16", "none", "redis", "get", (50, 16), (50, 16), "≥ 1.3", "rate"),
    ("batches of 100 puts, nothing on disk, 8 x 4", "none", "redis", "batch", (8, 4), (8, 100), "≥ 3", "rate"),
    ("batches of 100 puts, after fsync, 8 x 4", "durable", "redis always", "batch", (8, 4), (8, 100), "≥ 5", "rate"),
    ("SET against the echo, 50 x 16", "none", "echo", "put", (50, 16), (50, 16), "≥ 0.7", "rate"),
    ("GET against the echo, 50 x 16", "none", "echo", "get", (50, 16), (50, 16), "≥ 0.7", "rate"),
    ("SET against the echo, 1 x 1, a core each, p50", "none", "echo", "put", (1, 1), (1, 1), "≤ 1.2", "p50"),
    ("GET against the echo, 1 x 1, a core each, p50", "none", "echo", "get", (1, 1), (1, 1), "≤ 1.2", "p50"),
]

# YCSB: title, workload, how many percent read. E reads ranges, which Redis does not have.
YCSB = [
    ("YCSB A, zipfian: 50 % reads, 50 % puts", "mixed", 50),
    ("YCSB B, zipfian: 95 % reads, 5 % puts", "mixed", 95),
    ("YCSB C, zipfian: reads", "mixed", 100),
    ("YCSB E, zipfian: 95 % scans of 50, 5 % inserts", "scan", 95),
    ("YCSB F, zipfian: 50 % reads, 50 % read and put", "rmw", 50),
]


def start(directory, options):
    """Each holds the same keys, and is paused."""
    servers = {
        "durable": Cubby("cubbyd", f"{directory}/cubby", "always"),
        "none": Cubby("cubbyd", "none", "none"),
        "redis always": Redis("redis always", f"{directory}/redis", True),
        "redis": Redis("redis", f"{directory}/redis-none", False),
    }
    for server in servers.values():
        server.load(options.keys)
        server.pause()
    servers["echo"] = Echo(3600)
    servers["echo"].pause()
    return servers


def side(name, server, workload, shape, options, **more):
    """Redis has no batches: it gets as many single puts in a pipeline."""
    plain = "put" if workload == "batch" and server.protocol == "redis" else workload
    apart = shape == (1, 1) and name != "durable" and "always" not in name
    return Side(name, server, lambda it: (it.work_apart if apart else it.work)(
        plain, *shape, keys=options.keys, seconds=options.seconds, **more))


def speed(table, directory, options):
    servers = start(directory, options)
    for title, our_name, name, workload, our_shape, shape, goal, figure in SPEED:
        if workload is None:
            table.show(title, ours, peer, goal, figure)
            continue
        ours = side(our_name, servers[our_name], workload, our_shape, options)
        peer = side(name, servers[name], workload, shape, options)
        table.compare(title, ours, peer, goal, figure)
    by_clients(table, servers, options)


def by_clients(table, servers, options):
    """By the clients that people use: what they cost is in these figures."""
    for title, workload in (("SET, nothing on disk, 50 x 16", "put"), ("GET, 50 x 16", "get")):
        ours, peer = (Side(name, servers[server], lambda it, w=workload: it.client_bench(
            options.keys, w, 50, 16, options.seconds))
            for name, server in (("none", "none"), ("redis-benchmark", "redis")))
        table.compare(f"{title}, by cubby bench (libcubby)", ours, peer)


def ycsb(table, directory, options):
    servers = start(directory, options)
    for suffix, our_name, name in (("nothing on disk", "none", "redis"),
                                   ("reply after fsync", "durable", "redis always")):
        for title, workload, reads in YCSB:
            ours, peer = (side(it, servers[it], workload, (50, 16), options, reads=reads, zipfian=1)
                          for it in (our_name, name))
            table.compare(f"{title}, {suffix}", ours, None if workload == "scan" else peer)


def connections(table, directory, options):
    """Many connections, one request in flight on each."""
    servers = start(directory, options)
    for count in (1000, 5000):
        for title, workload, our_name, name in (("GET", "get", "none", "redis"),
                                                ("SET, reply after fsync", "put", "durable",
                                                 "redis always")):
            ours, peer = (side(it, servers[it], workload, (count, 1), options)
                          for it in (our_name, name))
            table.compare(f"{title}, {count:,} x 1", ours, peer)
