"""Queues at the end of the disk, on each engine: what needs room is refused with `storage_full` and
changes nothing, no job is handed out whose lease was not written, ending jobs goes on in the reserve,
and all of it comes back by itself once there is room."""

import os
import random
import shutil
import unittest

from harness import MIB, Client, CubbyError, Daemon, eventually
from test_crash import check_tables, engines
from test_full import SmallDisk, fill, put

READY, LEASED, LAPSING, BURIED = 60, 6, 3, 2
FAR_MS = 10**9
LEAST_LAPSE_MS = 3000  # longer than it takes to use up what is left, however slow the machine


class Queues(SmallDisk, unittest.TestCase):
    def refused(self, client, method, *params):
        """The call is refused for want of room, and the queue is as it was."""
        before = self.seen(client)
        with self.assertRaises(CubbyError, msg=method) as caught:
            client.call(method, *params)
        self.assertEqual(caught.exception.code, "storage_full", method)
        self.assertEqual(self.seen(client), before, method)

    def seen(self, client):
        """All that can be seen of the queue: what it counts, and each job."""
        stats = client.call("queue.stats", "q")
        stats.pop("oldest_ready_ms", None)
        counts = {name: stats[name] for name in ("ready", "delayed", "leased", "dead", "pushed",
                                                 "acked", "expired")}
        return counts, {state: client.call("queue.peek", "q", {"state": state, "limit": 1000})
                        for state in ("ready", "delayed", "leased", "dead")}

    def kept(self, client):
        """The same without states: after a start there may be room for what is due."""
        counts, rows = self.seen(client)
        return ([counts[name] for name in ("pushed", "acked", "expired")],
                sorted(row["body"] for state in rows.values() for row in state))

    def fill_queue(self, client):
        """Jobs in all states; the leases that last, and those that run out."""
        lasting = client.call("queue.reserve", "q", {"count": LEASED, "lease": FAR_MS})
        for job, _, _, lease, *_ in client.call("queue.reserve", "q", {"count": BURIED}):
            client.call("queue.bury", job, lease)
        client.call("queue.push", "q", "delayed", {"delay": self.lapse_ms})
        lapsing = client.call("queue.reserve", "q", {"count": LAPSING, "lease": self.lapse_ms})
        self.assertEqual((len(lasting), len(lapsing)), (LEASED, LAPSING))
        return lasting, lapsing

    def use_up_log(self, client):
        fill(client, 1000)

    def use_up_engine(self, _client):
        """The log has room in its segment, the engine has not."""
        eventually(lambda: self.fill_up() == 0, "the log has prepared its segments")
        os.truncate(self.filler, os.path.getsize(self.filler) - MIB)

    def use_up_rest(self, client):
        randomness = random.Random(1)
        for size in (20000, 2000, 1):
            while put(client, f"rest {randomness.randrange(10**9)}", randomness.randbytes(size)):
                pass

    def test_at_the_end_of_the_log(self):
        self.live("memory", self.use_up_log)

    def test_at_the_end_of_the_engine(self):
        """Which comes first where an engine has files of its own on the disk."""
        for engine in engines():
            if engine != "memory":
                with self.subTest(engine=engine):
                    self.grow("200M")
                    self.live(engine, self.use_up_engine)

    def live(self, engine, use_up):
        data = f"{self.directory}/{engine}"
        try:
            with Daemon("--engine", engine, "--memory-limit", "64M", data=data) as daemon:
                self.live_in(daemon, use_up)
        finally:
            shutil.rmtree(data)

    def live_in(self, daemon, use_up):
        with Client(daemon) as client:
            for number in range(READY + LEASED + LAPSING + BURIED):
                client.call("queue.push", "q", f"job {number}")
            begin = client.call("hello")["time"]
            use_up(client)
            self.lapse_ms = LEAST_LAPSE_MS + 2 * (client.call("hello")["time"] - begin)
            lasting, lapsing = self.fill_queue(client)
            due = client.call("hello")["time"] + self.lapse_ms
            self.use_up_rest(client)
            self.check_refusals(client, lasting[0])
            self.check_nothing_lapses(client, due)
            self.check_refusals(client, lasting[0])
            left, gone = self.check_endings(client, lasting)
            after = self.kept(client)
        daemon.kill()
        check_tables(daemon.data)
        daemon.start()
        with Client(daemon) as client:
            self.assertEqual(self.kept(client), after, "as of before the kill")
            self.make_room()
            self.check_room(client, left, lapsing, gone)
        daemon.stop()
        check_tables(daemon.data)

    def check_refusals(self, client, leased):
        job, _, _, lease, *_ = leased
        self.refused(client, "queue.push", "q", "more")
        self.refused(client, "queue.push", "new", "more")
        self.refused(client, "queue.reserve", "q")
        self.refused(client, "queue.reserve", "q", {"count": 20, "wait": 1000})
        self.refused(client, "queue.nack", job, lease)
        self.refused(client, "queue.nack", job, lease, {"delay": 0})
        self.refused(client, "queue.bury", job, lease)
        self.refused(client, "queue.extend", job, lease, FAR_MS)
        self.refused(client, "queue.kick", "q")
        self.refused(client, "batch", [["queue.ack", [job, lease]],
                                       ["queue.push", ["q", "what follows"]]])
        self.assertEqual(client.call("queue.list"), ["q"])

    def check_nothing_lapses(self, client, due):
        """What is due waits for room: nobody gets those jobs meanwhile."""
        before = self.seen(client)
        self.assertEqual(before[0]["leased"], LEASED + LAPSING, "the disk was full before the end")
        eventually(lambda: client.call("hello")["time"] > due, "leases and delay are over")
        self.assertEqual(self.seen(client), before)

    def check_endings(self, client, lasting):
        """Acknowledging, deleting and popping go well in the reserve. What is still leased, and
        the bodies that are gone."""
        job, _, body, lease, *_ = lasting[0]
        self.assertIs(client.call("queue.ack", job, lease), True)
        (row,) = client.call("queue.peek", "q", {"state": "dead", "limit": 1})
        self.assertIs(client.call("queue.delete", row["id"]), True)
        (popped,) = client.call("queue.pop", "q")
        return lasting[1:], {body, row["body"], popped[2]}

    def check_room(self, client, left, lapsing, gone):
        """Nothing was lost: what ended is gone, and every other job comes once."""
        eventually(lambda: self.has_room(client), "pushes work again")
        eventually(lambda: client.call("queue.stats", "q")["leased"] == len(left), "the leases ran out")
        eventually(lambda: client.call("queue.stats", "q")["delayed"] == 0, "the delay is over")
        job, _, _, lease, *_ = left[0]
        self.assertIs(client.call("queue.ack", job, lease), True)
        client.call("queue.kick", "q", {"count": BURIED})
        got = []
        while jobs := client.call("queue.reserve", "q", {"count": 50, "lease": FAR_MS}):
            for job, _, body, lease, *_ in jobs:
                got.append(body)
                self.assertIs(client.call("queue.ack", job, lease), True)
        pushed = {f"job {number}" for number in range(READY + LEASED + LAPSING + BURIED)}
        pushed |= {"delayed", "room"}
        expected = pushed - gone - {row[2] for row in left}
        self.assertEqual(sorted(got), sorted(expected))
        self.assertTrue({row[2] for row in lapsing} <= expected)

    def has_room(self, client):
        try:
            client.call("queue.push", "q", "room")
        except CubbyError as error:
            if error.code != "storage_full":
                raise
            return False
        return True

    def make_room(self):
        self.grow("400M")
        if os.path.exists(self.filler):
            os.unlink(self.filler)


if __name__ == "__main__":
    unittest.main()
