"""What queues keep over restarts, on each engine; a full memory; very many jobs."""

import itertools
import signal
import time
import unittest

from harness import Client, CubbyError, Daemon, check_reply, eventually

STATES = ("ready", "delayed", "leased", "dead")


class Restarts(unittest.TestCase):
    ENGINES = ("memory", "lmdb", "rocksdb")

    def fill(self, client):
        """Jobs in every state, and settings; what there is to see of them."""
        call = client.call
        call("queue.configure", "q", {"lease": 100000, "max_deliveries": 3, "dedup_window": 10**9})
        for number in range(8):
            call("queue.push", "q", number, {"priority": number % 2, "id": number})
        call("queue.push", "q", "delayed", {"delay": 10**7})
        call("queue.push", "q", "ttl", {"ttl": 10**7, "id": "t"})
        for method, *rest in (["queue.bury", {"error": "e"}], ["queue.ack"],
                              ["queue.nack", {"delay": 10**6}]):
            ((job, _, _, lease, *_),) = call("queue.reserve", "q")
            call(method, job, lease, *rest)
        ((job, _, _, lease, *_),) = call("queue.reserve", "q")
        call("queue.pause", "paused", None)
        call("queue.push", "paused", 1)
        call("queue.push", "gone", 1)
        call("queue.drop", "gone")
        return job, lease

    def see(self, client):
        stats = client.call("queue.stats", "q")
        stats.pop("oldest_age")
        return (stats, [client.call("queue.peek", "q", {"state": state}) for state in STATES],
                client.call("queue.configure", "q"), client.call("queue.list"),
                client.call("queue.stats", "paused")["paused"])

    def test_a_restart_and_a_kill_change_nothing(self):
        for engine, how in itertools.product(self.ENGINES, ("stop", "kill", "checkpoint")):
            with self.subTest(engine=engine, how=how), Daemon("--engine", engine) as daemon:
                with Client(daemon) as client:
                    job, lease = self.fill(client)
                    before = self.see(client)
                    if how == "checkpoint":
                        client.call("checkpoint")
                        eventually(lambda: client.call("stats")["checkpoints"] > 0, "checkpoint")
                if how == "stop":
                    daemon.stop()
                else:
                    daemon.kill()
                daemon.start()
                with Client(daemon) as client:
                    self.assertEqual(self.see(client), before)
                    self.assertEqual(client.call("queue.push", "q", 1, {"id": 5})[1], True)
                    self.assertIs(client.call("queue.ack", job, lease), True)
                    self.assertEqual(client.call("queue.reserve", ["paused", "gone"]), [])

    def test_what_became_due_while_it_was_down_is_done_at_once(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("queue.push", "q", "delayed", {"delay": 300})
                client.call("queue.push", "q", "leased")
                client.call("queue.reserve", "q", {"lease": 300})
                client.call("queue.push", "q", "ttl", {"ttl": 300})
                daemon.kill()
                time.sleep(0.35)  # by the wall clock: nothing to wait for
                daemon.start()
            with Client(daemon) as client:
                eventually(lambda: client.call("queue.stats", "q")["expired"] == 1, "the ttl")
                self.assertEqual([row["body"] for row in client.call("queue.peek", "q")],
                                 ["delayed", "leased"])

    def test_without_a_disk_everything_is_gone(self):
        with Daemon(data="none") as daemon:
            with Client(daemon) as client:
                client.call("queue.push", "q", 1)
            daemon.stop()
            daemon.start()
            with Client(daemon) as client:
                self.assertEqual(client.call("queue.list"), [])


class Full(unittest.TestCase):
    def test_where_memory_is_full_jobs_can_still_be_taken_and_ended(self):
        with Daemon("--memory-limit", "32M", data="none") as daemon, Client(daemon) as client:
            pushed = 0
            with self.assertRaises(CubbyError) as caught:
                while True:
                    client.call("queue.push", "q", "x" * 20000)
                    pushed += 1
            self.assertEqual(caught.exception.code, "storage_full")
            self.assertEqual(client.call("queue.stats", "q")["ready"], pushed)
            for job, _, _, lease, *_ in client.call("queue.reserve", "q", {"count": 10}):
                self.assertIs(client.call("queue.ack", job, lease), True)
            taken = 10
            while jobs := client.call("queue.pop", "q", {"count": 100}):
                taken += len(jobs)
            self.assertEqual(taken, pushed)
            self.assertEqual(client.call("queue.stats", "q")["acked"], pushed)
            client.call("queue.push", "q", "x" * 20000)


class ManyDue(unittest.TestCase):
    COUNT, BATCH = 100000, 2000
    ASKED = 4000  # more than the daemon answers to one client in a few turns
    STEPS = 10  # at least, in which they become ready while it answers

    def test_many_jobs_that_are_due_at_once_do_not_stop_the_loop(self):
        with Daemon(data="none") as daemon, Client(daemon, RCVHWM=0, SNDHWM=0) as client:
            self.stop_before_they_are_due(daemon, client)
            for msgid in range(self.ASKED):
                client.send_request(msgid, "queue.stats", "q")
            daemon.process.send_signal(signal.SIGCONT)
            ready = {check_reply(client.receive_payload())[3]["ready"] for _ in range(self.ASKED)}
            self.assertGreaterEqual(len(ready - {0, self.COUNT}), self.STEPS, sorted(ready))
            eventually(lambda: client.call("queue.stats", "q")["ready"] == self.COUNT, "all are ready")

    def stop_before_they_are_due(self, daemon, client):
        """Stops the process while all wait, and returns when all are due."""
        delay = 1000
        while True:  # until they could all be pushed before they were due
            delay *= 2
            due = client.call("hello")["time"] + delay
            for _ in range(self.COUNT // self.BATCH):
                options = {"delay": max(due - client.call("hello")["time"], 0)}
                client.batch(*(["queue.push", "q", None, options] for _ in range(self.BATCH)))
            delayed = client.call("queue.stats", "q")["delayed"]
            daemon.process.send_signal(signal.SIGSTOP)
            if delayed == self.COUNT and time.time() * 1000 < due:
                eventually(lambda: time.time() * 1000 > due + 100, "due", seconds=delay)
                return
            daemon.process.send_signal(signal.SIGCONT)
            client.call("queue.drop", "q")


if __name__ == "__main__":
    unittest.main()
