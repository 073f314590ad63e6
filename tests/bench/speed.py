"""Requests a second against Redis and against a bare echo. One table of scripts/bench."""

import statistics

from servers import Cubby, Echo, Redis, measure

# What is measured: title, ours, peer, workload, (connections, in flight) of ours, of the peer's,
# and whether the figure is a rate or a time.
ROWS = [
    ("SET, reply after fsync, 50 x 16", "durable", "redis always", "put", (50, 16), (50, 16), "rate"),
    ("SET, reply after fsync, 50 x 1", "durable", "redis always", "put", (50, 1), (50, 1), "rate"),
    ("SET, reply after fsync, 1 x 1", "durable", "redis always", "put", (1, 1), (1, 1), "rate"),
    ("SET, nothing on disk, 50 x 16", "none", "redis", "put", (50, 16), (50, 16), "rate"),
    ("SET, nothing on disk, 2 x 400", "none", "redis", "put", (2, 400), (2, 400), "rate"),
    ("GET, 50 x 16", "none", "redis", "get", (50, 16), (50, 16), "rate"),
    ("batches of 100 puts, nothing on disk, 8 x 4", "none", "redis", "batch", (8, 4), (8, 100), "rate"),
    ("batches of 100 puts, after fsync, 8 x 4", "durable", "redis always", "batch", (8, 4), (8, 100), "rate"),
    ("SET against the echo, 50 x 16", "none", "echo", "put", (50, 16), (50, 16), "rate"),
    ("GET against the echo, 50 x 16", "none", "echo", "get", (50, 16), (50, 16), "rate"),
    ("SET against the echo, 1 x 1, p50", "none", "echo", "put", (1, 1), (1, 1), "time"),
]


def median_of(samples, index):
    return statistics.median(sample[index] for sample in samples)


def compare(servers, row, options):
    title, ours, peer, workload, our_shape, peer_shape, kind = row
    samples = {ours: [], peer: []}
    for _ in range(options.rounds):
        for name, shape in ((ours, our_shape), (peer, peer_shape)):
            samples[name].append(
                measure(servers[name], options.keys, workload, shape, options.seconds))
    index = 0 if kind == "rate" else 1
    figures = {
        "row": title, "peer": peer, "kind": kind,
        "ours": median_of(samples[ours], index), "theirs": median_of(samples[peer], index),
        "our_cpu_us": median_of(samples[ours], 2), "their_cpu_us": median_of(samples[peer], 2),
    }
    figures["ratio"] = figures["ours"] / figures["theirs"]
    return figures


def show(figures):
    unit = "/s" if figures["kind"] == "rate" else " us"
    return (f"| {figures['row']} | {figures['ours']:,.0f}{unit} | {figures['peer']} "
            f"{figures['theirs']:,.0f}{unit} | {figures['ratio']:.2f} | "
            f"{figures['our_cpu_us']:.2f} | {figures['their_cpu_us']:.2f} |")


def start(servers, directory, options):
    """Each holds the same keys, and is paused."""
    servers["durable"] = Cubby("cubbyd", f"{directory}/cubby", "always")
    servers["none"] = Cubby("cubbyd", "none", "none")
    servers["redis always"] = Redis("redis always", f"{directory}/redis", True)
    servers["redis"] = Redis("redis", f"{directory}/redis-none", False)
    for server in servers.values():
        server.load(options.keys)
        server.pause()
    servers["echo"] = Echo(3600)
    servers["echo"].pause()


def bench(emit, directory, options):
    servers = {}
    start(servers, directory, options)
    emit(None, "| what | cubbyd | peer | ratio | CPU us/op, cubbyd | CPU us/op, peer |\n"
               "|---|---|---|---|---|---|")
    for row in ROWS:
        figures = compare(servers, row, options)
        emit(figures, show(figures))
    for server in servers.values():
        server.end()
