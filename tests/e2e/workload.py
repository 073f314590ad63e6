"""A workload whose outcome can be judged exactly, and a model that does the same.

Clients send transactions, many at a time. Whatever a transaction does is drawn when it is sent and
remembered; the model repeats it. Each one puts a key `seen/CLIENT/NUMBER`, whose version says at
which seq it was carried out. So the state alone tells which transactions are in it and in which
order they were, those included whose reply never came, and what the state has to be, key by key,
version by version and job by job: transactions push, pop, reserve and end jobs too.

    history = History()
    load = Load(daemon, history, randomness)
    load.run(lambda: load.replies >= 100)
    daemon.kill()
    load.close()
    daemon.start()
    with Client(daemon) as client:
        history.settle(observe(client))
"""

import bisect
import itertools
import zlib

import zmq

from harness import Client, CubbyError, all_changes, deadline, request, result_of, unpack

WINDOW = 16  # requests that a client has outstanding
KEPT = 3 * WINDOW  # of the newest transactions of each client, which `seen` holds
OWN, SHARED, FLEETING, LARGE = 12, 20, 6, 4  # keys that are written again and again
LARGE_VALUE = (200_000, 900_000)
QUEUES = 3  # which all clients share, beside one of each
FLEETING_MS = 30
LONG_MS = 10**9


def shortened(value):
    """What the model keeps of a value: large ones by their checksum."""
    if isinstance(value, bytes) and len(value) > 100:
        return (len(value), zlib.crc32(value))
    return value


def seen_key(client, number):
    return f"seen/{client}/{number:08}"


def draw_operation(randomness, client, tag, fleeting):
    """One operation, [method, params], on keys of the client's own or of all."""
    key = randomness.choice([f"own/{client}/{randomness.randrange(OWN):02}",
                             f"shared/{randomness.randrange(SHARED):02}"])
    value = randomness.choice([tag, randomness.randbytes(randomness.randrange(60))])
    kinds = ["put", "put", "delete", "increment", "lasting", "touch", "range"]
    kind = randomness.choice(kinds + ["fleeting"] if fleeting else kinds)
    if kind == "put":
        return ["put", [key, value]]
    if kind == "delete":
        return ["delete", [key]]
    if kind == "increment":
        return ["increment", [f"number/{randomness.randrange(SHARED):02}",
                              randomness.randrange(-5, 10)]]
    if kind == "lasting":
        return ["put", [key, value, {"ttl": LONG_MS}]]
    if kind == "touch":
        return ["touch", [key, randomness.choice([None, LONG_MS])]]
    if kind == "range":
        start = randomness.randrange(SHARED)
        return ["delete_range", [{"start": f"shared/{start:02}", "end": f"shared/{start + 3:02}"}]]
    return ["put", [f"fleeting/{client}/{randomness.randrange(FLEETING)}", tag,
                    {"ttl": randomness.randrange(1, FLEETING_MS)}]]


def draw_jobs(randomness, client, tag, leases):
    """Operations on queues. leases: jobs that the client has; what it ends is taken out."""
    operations = []
    for place in range(randomness.randrange(4)):
        queue = randomness.choice([f"jobs/{client}", f"jobs/{randomness.randrange(QUEUES)}"])
        kind = randomness.choice(["push", "push", "push", "pop", "reserve", "reserve", "end",
                                  "end", "kick"])
        if kind == "push":
            operations.append(["queue.push", [queue, f"{tag}/{place}",
                                              {"priority": randomness.randrange(2)}]])
        elif kind == "pop":
            operations.append(["queue.pop", [queue]])
        elif kind == "reserve":
            operations.append(["queue.reserve", [queue, {"lease": LONG_MS}]])
        elif kind == "kick":
            operations.append(["queue.kick", [queue, {"count": 2}]])
        elif leases:
            _, job, lease = leases.pop(randomness.randrange(len(leases)))
            operations.append(randomness.choice([
                ["queue.ack", [job, lease]], ["queue.ack", [job, lease]],
                ["queue.nack", [job, lease, {"delay": 0}]], ["queue.bury", [job, lease]]]))
    return operations


def draw_transaction(randomness, client, number, tag, fleeting, large, leases):
    """The operations of one transaction. One in five is a put and nothing else."""
    seen = ["put", [seen_key(client, number), number]]
    if randomness.random() < 0.2:
        return [seen]
    operations = [draw_operation(randomness, client, tag, fleeting)
                  for _ in range(randomness.randrange(6))]
    operations += draw_jobs(randomness, client, tag, leases)
    if randomness.random() < large:
        value = randomness.randbytes(1000) * (randomness.randrange(*LARGE_VALUE) // 1000)
        operations.append(["put", [f"large/{client}/{randomness.randrange(LARGE)}", value]])
    operations.append(["delete_range", [{"start": seen_key(client, 0),
                                         "end": seen_key(client, max(number - KEPT, 0))}]])
    return [["increment", ["total"]], ["put", [f"mark/{client}/a", [number, tag]]],
            *operations, seen, ["put", [f"mark/{client}/b", [number, tag]]]]


class Model:
    """What the keys are: {key: [value, version, whether it expires]}, and the jobs of each queue
    and state: [(priority, number in the order of pushes, body)], in order.

    bodies: {job id: (queue, body)}, of those that replies have shown."""

    def __init__(self, bodies):
        self.entries = {}
        self.jobs = {}
        self.pushes = itertools.count()
        self.bodies = bodies

    def all(self):
        """Entries, and the bodies of jobs as observe tells them."""
        jobs = {place: [body for _, _, body in jobs] for place, jobs in self.jobs.items() if jobs}
        for (queue, state), found in jobs.items():
            if state == "leased":
                found.sort()
        return {**self.entries, **{f"queue {queue} {state}": [found, 0, False]
                                   for (queue, state), found in jobs.items()}}

    def apply(self, operations, seq):
        """Carries out a transaction; its changes, [(kind, key, value)]."""
        changed = {}
        for method, params in operations:
            getattr(self, method.replace(".", "_"))(seq, changed, *params)
        return [("put", key, self.entries[key][0]) if key in self.entries
                else ("delete", key, None) for key in changed]

    def write(self, changed, key, entry):
        self.entries[key] = entry
        changed[key] = True

    def put(self, seq, changed, key, value, options=None):
        self.write(changed, key, [shortened(value), seq, bool(options)])

    def delete(self, _seq, changed, key):
        if self.entries.pop(key, None) is not None:
            changed[key] = True

    def increment(self, seq, changed, key, delta=1):
        value, _, expires = self.entries.get(key, [0, 0, False])
        self.write(changed, key, [value + delta, seq, expires])

    def touch(self, _seq, _changed, key, ttl):
        if key in self.entries:
            self.entries[key][2] = ttl is not None

    def delete_range(self, seq, changed, bounds):
        for key in sorted(key for key in self.entries if bounds["start"] <= key < bounds["end"]):
            self.delete(seq, changed, key)

    def move(self, queue, job, state):
        bisect.insort(self.jobs.setdefault((queue, state), []), job)

    def take(self, queue, state):
        jobs = self.jobs.get((queue, state))
        return jobs.pop(0) if jobs else None

    def queue_push(self, _seq, _changed, queue, body, options):
        self.move(queue, (options["priority"], next(self.pushes), body), "ready")

    def queue_pop(self, _seq, _changed, queue):
        self.take(queue, "ready")

    def queue_reserve(self, _seq, _changed, queue, _options):
        job = self.take(queue, "ready")
        if job is not None:
            self.move(queue, job, "leased")

    def end(self, number, state):
        """The job, which is leased, goes there; state None: it is gone."""
        queue, body = self.bodies[number]
        (job,) = [job for job in self.jobs[queue, "leased"] if job[2] == body]
        self.jobs[queue, "leased"].remove(job)
        if state is not None:
            self.move(queue, job, state)

    def queue_ack(self, _seq, _changed, number, _lease):
        self.end(number, None)

    def queue_nack(self, _seq, _changed, number, _lease, _options):
        self.end(number, "ready")

    def queue_bury(self, _seq, _changed, number, _lease):
        self.end(number, "dead")

    def queue_kick(self, _seq, _changed, queue, options):
        for _ in range(options["count"]):
            job = self.take(queue, "dead")
            if job is not None:
                self.move(queue, job, "ready")


def observe_jobs(client):
    """As Model.all tells them. A page of each list in one request, until each has come to its end."""
    found = {(queue, state): [] for queue in client.call("queue.list")
             for state in ("ready", "delayed", "leased", "dead")}
    more = {key: {} for key in found}
    while more:
        pages = client.call("batch", [["queue.peek", [queue, {"state": state, "limit": 1000, **after}]]
                                      for (queue, state), after in more.items()])["results"]
        pages = {key: page for key, page in zip(more, pages) if page}
        for key, page in pages.items():
            found[key] += [row["body"] for row in page]
        more = {key: {"after": page[-1]["at"]} for key, page in pages.items()}
    return {f"queue {queue} {state}": [sorted(bodies) if state == "leased" else bodies, 0, False]
            for (queue, state), bodies in found.items() if bodies}


def observe(client, since=None):
    """What there is to see: {seq, oldest, epoch, entries, changes by seq}. Changes from `since`
    on, or as far back as they go. Jobs are among the entries."""
    while True:
        hello = client.call("hello")
        try:
            return observe_since(client, hello, max(hello["oldest"] - 1, since or 0))
        except CubbyError as error:  # a checkpoint came to its end, and the log was trimmed
            if error.code != "compacted" or client.call("hello")["oldest"] == hello["oldest"]:
                raise


def observe_since(client, hello, since):
    entries, after = {}, {}
    while True:
        page = client.call("scan", {"limit": 10000, **after})
        for key, value, version, expires_at in page["entries"]:
            entries[key] = [shortened(value), version, expires_at is not None]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    entries.update(observe_jobs(client))
    changes = {}
    for seq, index, count, kind, key, value, _ in all_changes(client, since, limit=10000):
        if seq <= page["seq"]:
            changes.setdefault(seq, []).append((index, count, kind, key, shortened(value)))
    return {"seq": page["seq"], "oldest": hello["oldest"], "epoch": hello["epoch"],
            "entries": entries, "changes": changes}


def without_fleeting(entries):
    return {key: entry for key, entry in entries.items() if not key.startswith("fleeting/")}


class History:
    """Everything that was sent, what was acknowledged of it, and what the state is by that."""

    def __init__(self):
        self.bodies = {}
        self.model = Model(self.bodies)
        self.leases = {}  # client: [(seq of the reserve, job id, lease)]
        self.seq = 0  # the model is as of this seq
        self.changes = {}  # seq: changes of the transaction, where it was ours
        self.next = {}  # client: number of its next transaction
        self.sent = {}  # (client, number): operations, where not yet in the model
        self.acknowledged = {}  # (client, number): (seq, total or None), likewise
        self.shown = 0  # the newest seq that any reply has shown
        self.tags = itertools.count(1)
        self.told = []  # [(seq, operations)] of all transactions in the model

    def draw(self, randomness, client, fleeting, large):
        number = self.next.get(client, 1)
        operations = draw_transaction(randomness, client, number, next(self.tags), fleeting, large,
                                      self.leases.setdefault(client, []))
        self.next[client] = number + 1
        self.sent[client, number] = operations
        return number, operations

    def acknowledge(self, client, number, seq, total):
        self.acknowledged[client, number] = (seq, total)
        self.shown = max(self.shown, seq)

    def note_jobs(self, client, number, seq, results):
        """What the reply shows of jobs."""
        for (method, params), result in zip(self.sent.get((client, number), ()), results):
            if method == "queue.push":
                self.bodies[result[0]] = (params[0], params[1])
            elif method == "queue.reserve" and result:
                ((job, queue, body, lease, *_),) = result
                assert self.bodies.setdefault(job, (queue, body)) == (queue, body), \
                    f"job {job} is {queue} {body}, and was {self.bodies[job]}"
                self.leases[client].append((seq, job, lease))

    def settle(self, seen, lossless=True):
        """Finds out which transactions the state has, and checks that it is what they add up to.
        With lossless: that it has all that were acknowledged. Everything else that was sent is
        from now on as if it had never been."""
        found = self.find(seen["entries"])
        if lossless:
            self.check_nothing_lost(seen, found)
        self.replay(seen, found)
        self.check_entries(seen)
        for client, number in self.sent:
            self.next[client] = min(self.next[client], number)
        for client, number in found:
            self.next[client] = max(self.next[client], number + 1)
        self.sent, self.acknowledged = {}, {}
        self.leases = {client: [lease for lease in leases if lease[0] <= seen["seq"]]
                       for client, leases in self.leases.items()}
        self.shown = self.seq = seen["seq"]

    def as_of(self, seq):
        """The entries and jobs as they were."""
        model = Model(self.bodies)
        for own_seq, operations in self.told:
            if own_seq <= seq:
                model.apply(operations, own_seq)
        return model.all()

    def newest(self):
        """Seq of the newest transaction in the model."""
        return max(self.changes, default=0)

    def find(self, entries):
        """{(client, number): seq} of what the state has and the model has not."""
        found = {}
        for key, (value, version, _) in entries.items():
            if key.startswith("seen/"):
                client, number = key.split("/")[1], int(key.split("/")[2])
                assert value == number, f"{key} is {value}"
                if (client, number) in self.sent:
                    found[client, number] = version
        for (client, number), (seq, _) in self.acknowledged.items():
            if found.setdefault((client, number), seq) != seq:
                raise AssertionError(f"{client}/{number} was acknowledged with seq {seq}, "
                                     f"and is there with {found[client, number]}")
        return self.check_order(found)

    def check_order(self, found):
        """Of each client's transactions the first ones, in order; each seq once, and new."""
        for client in {client for client, _ in self.sent}:
            numbers = sorted(number for name, number in found if name == client)
            first = min(number for name, number in self.sent if name == client)
            assert numbers == list(range(first, first + len(numbers))), \
                f"of {client}, from {first} on, there are {numbers}"
            seqs = [found[client, number] for number in numbers]
            assert seqs == sorted(seqs), f"{client}: order {seqs}"
        seqs = list(found.values())
        assert len(seqs) == len(set(seqs)), "two transactions with one seq"
        assert all(seq > self.seq for seq in seqs), f"seqs before {self.seq}: {sorted(seqs)}"
        return found

    def check_nothing_lost(self, seen, found):
        entries = seen["entries"]
        assert seen["seq"] >= self.shown, f"seq {seen['seq']}, but {self.shown} was shown"
        for client, number in self.acknowledged:
            newest = entries.get(f"mark/{client}/a", [[0]])[0][0]
            kept = number + KEPT > max(newest, number)
            assert not kept or seen_key(client, number) in entries or self.is_deleted(
                client, number, found), f"{client}/{number} was acknowledged and is lost"

    def is_deleted(self, client, number, found):
        """Whether a later transaction of the client has cleared it away."""
        return any(name == client and other - KEPT > number for name, other in found)

    def replay(self, seen, found):
        for place, seq in sorted(found.items(), key=lambda item: item[1]):
            self.told.append((seq, self.sent[place]))
            self.changes[seq] = self.model.apply(self.sent[place], seq)
            total = self.acknowledged.get(place, (seq, None))[1]
            assert total is None or self.model.entries["total"] == [total, seq, False], \
                f"{place}: the reply said total {total}, not {self.model.entries['total']}"
        assert not found or max(found.values()) <= seen["seq"], "transactions beyond seq"

    def check_entries(self, seen):
        """Keys that soon expire may be gone; what is there of them must be the newest."""
        expected, actual = self.model.all(), seen["entries"]
        if without_fleeting(expected) != without_fleeting(actual):
            wrong = {key: (expected.get(key), actual.get(key)) for key in {*expected, *actual}
                     if expected.get(key) != actual.get(key) and not key.startswith("fleeting/")}
            raise AssertionError(f"(expected, found) as of {seen['seq']}: "
                                 f"{dict(sorted(wrong.items())[:20])}")
        for key in set(expected) | set(actual):
            if key not in actual:
                del self.model.entries[key]
            elif expected.get(key) != actual[key]:
                raise AssertionError(f"{key}: expected {expected.get(key)}, found {actual[key]}")

    def check_changes(self, seen, since):
        """From since + 1 to the end there is each seq, and in it what the transaction did. Other
        transactions than ours are expiries."""
        first = max(seen["oldest"], since + 1)
        assert sorted(seen["changes"]) == list(range(first, seen["seq"] + 1)), \
            f"changes {first} to {seen['seq']} have holes: {sorted(seen['changes'])}"
        for seq, changes in seen["changes"].items():
            places = [(index, count) for index, count, *_ in changes]
            assert places == [(index, len(changes)) for index in range(len(changes))], places
            told = [change[2:] for change in changes]
            if seq in self.changes:
                assert told == self.changes[seq], f"{seq}: {told}, not {self.changes[seq]}"
            else:
                assert all(kind == "expire" and key.startswith("fleeting/")
                           for kind, key, _ in told), f"{seq}: whose is {told}?"

class Load:
    """Clients that keep their windows full. fleeting: with keys that soon expire; large: share of
    transactions with a large value; others: share of requests that are reads and checkpoints."""

    def __init__(self, daemon, history, randomness, clients=4, fleeting=True, large=0.0,
                 others=0.1, told=None):
        self.daemon, self.history, self.randomness = daemon, history, randomness
        self.fleeting, self.large, self.others = fleeting, large, others
        self.told = told or (lambda seq: None)  # called with what a reply shows
        self.clients = {f"c{number}": Client(daemon) for number in range(clients)}
        self.outstanding = {name: [] for name in self.clients}
        self.replies = 0
        self.msgids = itertools.count(1)
        self.poller = zmq.Poller()
        self.names = {}
        for name, client in self.clients.items():
            self.poller.register(client.socket, zmq.POLLIN)
            self.names[client.socket] = name

    def run(self, enough, pause_ms=1):
        """Sends and receives until enough() is true."""
        end = deadline()
        while not enough():
            if not self.daemon.alive():
                raise AssertionError(f"cubbyd is gone: {self.daemon.stderr}")
            assert deadline(0) < end, f"only {self.replies} replies: {self.daemon.stderr}"
            for name in self.clients:
                while len(self.outstanding[name]) < WINDOW:
                    self.send(name)
            self.receive(pause_ms)

    def finish(self):
        """Waits for all replies."""
        end = deadline()
        while any(self.outstanding.values()):
            assert deadline(0) < end, f"no reply: {self.daemon.stderr}"
            self.receive(10)

    def close(self):
        """Takes what replies have still come, and ends. The daemon is gone."""
        while self.receive(20):
            pass
        for client in self.clients.values():
            client.close()

    def send(self, name):
        if self.randomness.random() < self.others:
            method, *params = self.randomness.choice(
                [["get", "total"], ["get", "total"], ["checkpoint"],
                 ["scan", {"prefix": "shared/", "limit": 5}]])
            self.send_request(name, method, None, *params)
            return
        number, operations = self.history.draw(self.randomness, name, self.fleeting, self.large)
        method, params = operations[0] if len(operations) == 1 else ["batch", [operations]]
        self.send_request(name, method, number, *params)

    def send_request(self, name, method, number, *params):
        msgid = next(self.msgids)
        self.outstanding[name].append((msgid, method, number))
        self.clients[name].send_payload(request(msgid, method, *params))

    def receive(self, timeout_ms):
        """Takes what has come; whether anything has."""
        ready = self.poller.poll(timeout_ms)
        for socket, _ in ready:
            while True:
                try:
                    (payload,) = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self.note(self.names[socket], payload)
        return bool(ready)

    def note(self, name, payload):
        msgid, method, number = self.outstanding[name].pop(0)
        self.replies += 1
        try:
            result = unpack(result_of(payload, msgid))
        except CubbyError as error:
            if method == "checkpoint" and error.code == "unavailable":
                return
            raise AssertionError(f"{method} of {name} was refused: {error}") from error
        history = self.history
        if method == "put":
            history.acknowledge(name, number, result, None)
        elif method == "batch":
            history.acknowledge(name, number, result["seq"], result["results"][0][0])
            history.note_jobs(name, number, result["seq"], result["results"])
        elif method == "get" and result is not None:
            history.shown = max(history.shown, result[1])
        elif method == "scan":
            history.shown = max(history.shown, result["seq"])
        self.told(history.shown)
