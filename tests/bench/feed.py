"""The change feed, watches, and fairness between clients. Tables of scripts/bench."""

import json
import statistics
import subprocess
import threading

from servers import BUILD, VALUE_SIZE, Cubby

SHAPE = (50, 16)
SUBSCRIBERS = 10
WATCHERS = (1, 10, 100, 1000)
WATCHERS_SHAPE = (10, 1)  # a load that leaves time for a thousand watchers
OUTSTANDING = 100_000


class Listeners:
    """So many that listen, until nothing more comes: then `figures` says what came."""

    def __init__(self, kind, port, count):
        self.process = subprocess.Popen(
            [f"{BUILD}/tests/bench/listen", kind, str(port), str(count), str(VALUE_SIZE)],
            stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def figures(self):
        text, _ = self.process.communicate()
        return json.loads(text)


def put(server, options, shape, seconds=None):
    return server.work("put", *shape, keys=options.keys, seconds=seconds or options.seconds)


def feed(table, directory, options):
    server = Cubby("cubbyd", f"{directory}/feed", "always")
    server.load(options.keys)
    alone, heard, lags, lost = [], [], [], 0
    for _ in range(options.rounds):
        alone.append(put(server, options, SHAPE)["operations_per_second"])
        listeners = Listeners("feed", server.publish_port, SUBSCRIBERS)
        figures = put(server, options, SHAPE)
        heard.append(figures["operations_per_second"])
        came = listeners.figures()
        lags.append(came["lag_us"]["p99"] / 1000)
        lost += figures["operations"] * SUBSCRIBERS - came["changes"]
    table.row(f"SET, reply after fsync, 50 x 16, {SUBSCRIBERS} subscribers to every change",
              statistics.median(heard), "without them", statistics.median(alone), "/s", "≥ 0.5")
    table.row("lag of these changes, p99", statistics.median(lags), "at most", 50, "ms", "≤ 1", 1)
    table.alone("changes that subscribers missed, of all rounds (each can tell, and catch up)", lost, "")
    server.end()


def watch(table, directory, options):
    server = Cubby("cubbyd", f"{directory}/watch", "always")
    server.load(options.keys)
    alone = statistics.median(put(server, options, WATCHERS_SHAPE)["operations_per_second"]
                              for _ in range(options.rounds))
    for count in WATCHERS:
        before = server.memory()
        listeners = Listeners("watch", server.port, count)
        memory = server.memory() - before
        figures = put(server, options, WATCHERS_SHAPE)
        came = listeners.figures()
        missed = figures["operations"] * count - came["changes"]
        table.row(f"SET, reply after fsync, 10 x 1, {count:,} watches of every key",
                  figures["operations_per_second"], "without them", alone, "/s")
        table.alone(f"lag of {count:,} watches: p50", came["lag_us"]["p50"] / 1000, "ms", 2)
        table.alone(f"lag of {count:,} watches: p99", came["lag_us"]["p99"] / 1000, "ms", 2)
        table.alone(f"changes that {count:,} watches missed", missed, "")
        table.alone(f"resident memory for a watch and its connection, of {count:,}",
                    memory / count / 1024, "KiB", 1)
    server.end()


def fairness(table, directory, options):
    """One request at a time, while another client has many outstanding, or sends large batches."""
    server = Cubby("cubbyd", f"{directory}/fair", "always")
    server.load(options.keys)

    def p99():
        return statistics.median(put(server, options, (1, 1))["latency_us"]["p99"]
                                 for _ in range(options.rounds))

    calm = p99()
    for title, workload, shape, more, goal in (
            (f"{OUTSTANDING:,} puts outstanding", "put", (1, OUTSTANDING), {}, "≤ 5"),
            ("batches of 10,000 puts, one at a time", "batch", (1, 1), {"batch_size": 10_000}, "≤ 5")):
        seconds = round(options.seconds * (options.rounds + 1)) + 1
        other = threading.Thread(target=lambda w=workload, s=shape, m=more, n=seconds: server.work(
            w, *s, keys=options.keys, seconds=n, **m))
        other.start()
        busy = p99()
        other.join()
        table.row(f"SET, reply after fsync, 1 x 1, p99, while another client has {title}", busy,
                  "alone", calm, "us", goal)
    stats = server.call("stats")
    table.alone("longest turn meanwhile", stats["turn_max_us"] / 1000, "ms", 1)
    server.end()
