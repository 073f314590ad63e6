"""Jobs a second, against Redis lists, Redis streams and beanstalkd. A table of scripts/bench."""

from servers import Beanstalk, Cubby, Redis, Streams
from table import Side

MANY = (50, 16)
WAITING = 1_000_000

# What is pushed before a measurement that takes jobs, for each second of it. Who takes them faster is
# measured for less than its time.
JOBS_PER_S = {"beanstalkd, log": 10_000, "beanstalkd": 100_000}
MOST_JOBS_PER_S = 200_000
ONE_AT_A_TIME_PER_S = 15_000


def start(directory):
    servers = {
        "cubbyd": Cubby("cubbyd", f"{directory}/cubby", "always"),
        "redis lists, always": Redis("redis lists, always", f"{directory}/lists", True),
        "redis streams, always": Streams("redis streams, always", f"{directory}/streams", True),
        "beanstalkd": Beanstalk("beanstalkd", f"{directory}/beanstalkd", False),
        "beanstalkd, log": Beanstalk("beanstalkd, log", f"{directory}/beanstalkd-log", True),
    }
    for server in servers.values():
        server.pause()
    return servers


class Queues:
    def __init__(self, table, directory, options):
        self.table, self.options = table, options
        self.servers = start(directory)

    def jobs(self, name, shape):
        rate = ONE_AT_A_TIME_PER_S if shape == (1, 1) else JOBS_PER_S.get(name, MOST_JOBS_PER_S)
        return int(min(rate, JOBS_PER_S.get(name, rate)) * self.options.seconds)

    def push(self, name, shape):
        return Side(name, self.servers[name],
                    lambda it: it.work("push", *shape, seconds=self.options.seconds),
                    lambda it: it.begin_queue())

    def take(self, name, workload, shape):
        """What it takes was pushed before."""
        jobs = self.jobs(name, shape)
        pushed = []

        def prepare(server):
            server.begin_queue()
            pushed.append(server.work("push", *MANY, requests=jobs,
                                      seconds=2 * self.options.seconds)["operations"])

        return Side(name, self.servers[name], lambda it: it.work(
            workload, *shape, requests=pushed[-1], seconds=self.options.seconds), prepare)

    def take_of_many(self, name, waiting):
        """So many wait behind what it takes, which is pushed again before the next round."""
        jobs = self.jobs(name, MANY)
        filled = []

        def prepare(server):
            if not filled:
                server.begin_queue()
            server.work("push", *MANY, requests=jobs if filled else waiting)
            filled.append(True)

        return Side(name, self.servers[name], lambda it: it.work(
            "work", *MANY, requests=min(jobs, waiting // 2), seconds=self.options.seconds), prepare)

    def against(self, title, make, shape, peers):
        """One row of a title for each peer, with rounds of ours for each of them."""
        for peer, goal in peers:
            self.table.compare(title, make("cubbyd", shape), make(peer, shape), goal)


def queues(table, directory, options):
    bench = Queues(table, directory, options)
    waiting = min(WAITING, options.keys)
    bench.against("push, after fsync, 50 x 16", bench.push, MANY, [("redis lists, always", "≥ 2")])
    bench.against("pop, after fsync, 50 x 16", lambda name, shape: bench.take(name, "pop", shape),
                  MANY, [("redis lists, always", "≥ 1.5")])
    shapes = {MANY: ("≥ 1.5", "≥ 15", "≥ 2"), (50, 1): (None,) * 3, (1, 1): (None,) * 3}
    for shape, goals in list(shapes.items())[:1 if options.quick else None]:
        bench.against(f"reserve and ack, after fsync, {shape[0]} x {shape[1]}",
                      lambda name, it: bench.take(name, "work", it), shape,
                      list(zip(("beanstalkd", "beanstalkd, log", "redis streams, always"), goals)))
    table.compare(f"reserve and ack, 50 x 16, {waiting:,} jobs waiting",
                  bench.take_of_many("cubbyd", waiting), bench.take_of_many("beanstalkd", waiting),
                  "≥ 1.5")
    for server in bench.servers.values():
        server.end()
