"""The change feed, watches, and fairness between clients. Tables of scripts/bench."""

import json
import statistics
import subprocess
import threading

from servers import BUILD, VALUE_SIZE, Cubby, Etcd, Redis

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


class Kind:
    """What can be listened to: what listeners speak, and where. `figures`: of so many of them."""

    def __init__(self, name, server, tongue, port):
        self.name, self.server, self.tongue, self.port = name, server, tongue, port
        self.figures = {}


def kinds(directory, options):
    """Two of ours, and the others."""
    ours = Cubby("cubbyd", f"{directory}/watch", "always")
    redis = Redis("Redis", f"{directory}/redis", True)
    etcd = Etcd("etcd", f"{directory}/etcd")
    redis.command(b"CONFIG SET notify-keyspace-events KEA\r\n")
    for server in (ours, redis):
        server.load(options.keys)
    found = [Kind("watches", ours, "watch", ours.port),
             Kind("subscribers", ours, "feed", ours.publish_port),
             Kind("Redis", redis, "redis", redis.port),
             Kind("etcd", etcd, "etcd", etcd.port)]
    for kind in found:
        kind.server.pause()
    return found


def listen(kind, count, options):
    """Figures of one round with so many listeners, and without them."""
    alone = put(kind.server, options, WATCHERS_SHAPE)
    before = kind.server.memory()
    listeners = Listeners(kind.tongue, kind.port, count)
    memory = kind.server.memory() - before
    heard = put(kind.server, options, WATCHERS_SHAPE)
    came = listeners.figures()
    return {"alone": alone["operations_per_second"], "heard": heard["operations_per_second"],
            "came": came["changes_per_second"], "memory": memory / count / 1024,
            "missed": heard["operations"] * count - came["changes"],
            **{f"lag_{name}": lag / 1000 for name, lag in came.get("lag_us", {}).items()}}


def listen_rounds(kind, options):
    kind.server.resume()
    for count in WATCHERS:
        rounds = [listen(kind, count, options) for _ in range(options.rounds)]
        kind.figures[count] = {name: statistics.median(figures[name] for figures in rounds)
                               for name in rounds[0]}
    kind.server.pause()


def show(table, ours, others, count):
    figures = ours.figures[count]
    who = f"{count:,} {ours.name}"
    table.row(f"SET, reply after fsync, 10 x 1, {who} of every key", figures["heard"],
              "without them", figures["alone"], "/s")
    for name, title, unit, digits in (("came", "changes that came to", "/s", 0),
                                      ("lag_p50", "lag, p50, of", "ms", 2),
                                      ("lag_p99", "lag, p99, of", "ms", 2),
                                      ("memory", "memory for each of", "KiB", 1)):
        for other in others:
            if name in other.figures[count]:
                table.row(f"{title} {who}", figures[name], other.name, other.figures[count][name],
                          unit, digits=digits)
        if not any(name in other.figures[count] for other in others):
            table.alone(f"{title} {who}", figures[name], unit, digits)
    table.alone(f"changes that {who} missed", figures["missed"], "")


def watch(table, directory, options):
    """
    Up to a thousand listeners to every change, while ten clients write. Redis: PSUBSCRIBE to keyspace
    notifications, which name the key and bring no value, so there is no lag. etcd: its JSON gateway,
    which is what one gets without its libraries, and costs more than they do.
    """
    found = kinds(directory, options)
    for kind in found:
        listen_rounds(kind, options)
    ours, others = found[:2], found[2:]
    for kind in ours:
        for count in WATCHERS:
            show(table, kind, others, count)
    for other in others:
        for count in WATCHERS:
            table.row(f"{other.name}: SET, reply after fsync, 10 x 1, {count:,} listeners",
                      other.figures[count]["heard"], "without them", other.figures[count]["alone"], "/s")
    for server in {kind.server for kind in found}:
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
