"""Waiting for jobs: order and fairness, deadlines, cancelling, several queues, batches that wake
nobody, peers that leave, the broadcast of queues, restarts. Who waits is known by the statistics of
the queue, so nothing here hopes that something has arrived."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import unittest

import zmq

from harness import (
    Client, CubbyError, Daemon, DaemonCase, Subscriber, check_reply, deadline, eventually,
    open_sockets, params_of, request, result_of, seeded, unpack,
)

WORKERS = 300
PRECISION_MS = 1000  # of a deadline; the requirement is 10, but the machine may be busy


class WaitCase(DaemonCase):
    def setUp(self):
        super().setUp()
        self.queue = self.id().rsplit(".", 1)[-1]
        self.waiting = 0
        eventually(lambda: self.all_waiters() == 0, "the waits of the test before have ended")

    def another(self, **options):
        client = Client(self.daemon, **options)
        self.addCleanup(client.close)
        return client

    def all_waiters(self):
        return self.call("stats")["waiters"]

    def waiters(self, queue=None):
        try:
            return self.call("queue.stats", queue or self.queue)["waiters"]
        except CubbyError:
            return 0

    def wait(self, client, msgid=1, queues=None, method="queue.reserve", **options):
        """Sends a request that waits, and sees that it does."""
        before = self.all_waiters()
        client.send_request(msgid, method, queues or self.queue, {"wait": None, **options})
        eventually(lambda: self.all_waiters() == before + 1, "it waits")

    def push(self, body=None, queue=None, **options):
        return self.call("queue.push", queue or self.queue, body, options)[0]

    def told(self, client, msgid=1):
        """The jobs that answer the wait."""
        return unpack(result_of(client.receive_payload(), msgid))

    def bodies(self, client, msgid=1):
        return [job[2] for job in self.told(client, msgid)]

    def counts(self):
        stats = self.call("queue.stats", self.queue)
        return stats["ready"], stats["leased"]


class Order(WaitCase):
    def test_a_push_wakes_the_one_who_waits(self):
        client = self.another()
        self.wait(client)
        job = self.push("body")
        ((number, queue, body, lease, deliveries, priority, _),) = self.told(client)
        self.assertEqual((number, queue, body, deliveries, priority),
                         (job, self.queue, "body", 1, 0))
        self.assertIs(self.call("queue.ack", number, lease), True)
        self.assertEqual(self.call("stats")["waiters"], 0)

    def test_first_come_first_served(self):
        clients = [self.another() for _ in range(10)]
        for client in clients:
            self.wait(client)
        self.client.batch(*(["queue.push", self.queue, number] for number in range(10)))
        self.assertEqual([self.bodies(client) for client in clients],
                         [[number] for number in range(10)])

    def test_a_later_request_never_overtakes_an_older_waiter(self):
        older, later = self.another(), self.another()
        self.wait(older, method="queue.pop")
        self.wait(later, method="queue.pop")
        for payload in (request(1, "queue.push", self.queue, "first"),
                        request(2, "queue.pop", self.queue),
                        request(3, "queue.push", self.queue, "second"),
                        request(4, "queue.pop", self.queue)):
            self.client.send_payload(payload)
        replies = [unpack(result_of(self.client.receive_payload(), msgid))
                   for msgid in range(1, 5)]
        self.assertEqual(replies[1::2], [[], []])
        self.assertEqual(self.bodies(older) + self.bodies(later), ["first", "second"])

    def test_a_waiter_gets_what_is_there_up_to_its_count(self):
        first, second = self.another(), self.another()
        self.wait(first, count=3)
        self.wait(second, count=3)
        self.client.batch(*(["queue.push", self.queue, number] for number in range(5)))
        self.assertEqual(self.bodies(first), [0, 1, 2])
        self.assertEqual(self.bodies(second), [3, 4])

    def test_one_job_is_enough_for_a_waiter_of_many(self):
        client = self.another()
        self.wait(client, count=1000)
        self.push("one")
        self.assertEqual(self.bodies(client), ["one"])

    def test_a_pop_that_waits_takes_the_job_away(self):
        client = self.another()
        self.wait(client, method="queue.pop")
        job = self.push("gone")
        self.assertEqual(self.told(client), [[job, self.queue, "gone"]])
        self.assertIsNone(self.call("queue.job", job))

    def test_req_and_dealer_clients_wait_alike(self):
        req = self.another(kind=zmq.REQ)
        framed = self.another(empty_frame=True)
        self.wait(req)
        self.wait(framed)
        self.push("req")
        self.push("framed")
        self.assertEqual(self.bodies(req), ["req"])
        self.assertEqual(self.bodies(framed), ["framed"])

    def test_one_client_may_have_many_waits_and_other_requests_meanwhile(self):
        client = self.another()
        for msgid in range(10, 20):
            self.wait(client, msgid)
        self.assertEqual(client.call("ping"), True)
        for number in range(10):
            self.push(number)
        self.assertEqual([self.bodies(client, 10 + number) for number in range(10)],
                         [[number] for number in range(10)])

    def test_jobs_that_become_ready_in_every_way_wake_a_waiter(self):
        def delayed():
            self.push(delay=30)

        def lapsed():
            self.push()
            self.call("queue.reserve", self.queue, {"lease": 30})

        def leased():
            self.push()
            return self.call("queue.reserve", self.queue)[0]

        def nacked():
            job = leased()
            return lambda: self.call("queue.nack", job[0], job[3], {"delay": 0})

        def nacked_for_a_while():
            job = leased()
            return lambda: self.call("queue.nack", job[0], job[3], {"delay": 20})

        def kicked():
            job = leased()
            self.call("queue.bury", job[0], job[3])
            return lambda: self.call("queue.kick", self.queue)

        def kicked_early():
            job = self.push(delay=100000)
            return lambda: self.call("queue.kick", self.queue, {"id": job})

        def resumed():
            self.call("queue.pause", self.queue, None)
            self.push()
            return lambda: self.call("queue.resume", self.queue)

        def paused_for_a_while():
            self.call("queue.pause", self.queue, 40)
            self.push()

        for prepare in (delayed, lapsed, nacked, nacked_for_a_while, kicked, kicked_early, resumed,
                        paused_for_a_while):
            with self.subTest(prepare.__name__):
                client = self.another()
                then = prepare()
                client.send_request(1, "queue.reserve", self.queue, {"wait": None})
                if then is not None:
                    eventually(lambda: self.waiters() == 1, "it waits")
                    then()
                ((job, _, _, lease, *_),) = self.told(client)
                self.call("queue.ack", job, lease)


class Batches(WaitCase):
    def test_a_batch_that_pushes_and_removes_wakes_nobody(self):
        client = self.another()
        self.wait(client)
        job = self.client.batch(["queue.push", self.queue, "mine"],
                                ["queue.pop", self.queue])["results"][1]
        self.assertEqual(job[0][2], "mine")
        self.client.batch(["queue.push", self.queue, "purged"], ["queue.purge", self.queue])
        self.client.batch(["queue.push", self.queue, "dropped"], ["queue.drop", self.queue])
        with self.assertRaises(CubbyError):
            self.client.batch(["queue.push", self.queue, "undone"], ["queue.ack", 1, 1])
        self.assertEqual(self.call("stats")["waiters"], 1)
        self.push("real")
        self.assertEqual(self.bodies(client), ["real"])

    def test_of_what_a_batch_leaves_the_waiters_get_their_share(self):
        clients = [self.another() for _ in range(3)]
        for client in clients:
            self.wait(client)
        self.client.batch(["queue.push", self.queue, "a"], ["queue.push", self.queue, "b"],
                          ["queue.pop", self.queue], ["queue.push", self.queue, "c"])
        self.assertEqual([self.bodies(client) for client in clients[:2]], [["b"], ["c"]])
        self.assertEqual(self.waiters(), 1)
        self.push("d")
        self.assertEqual(self.bodies(clients[2]), ["d"])

    def test_work_moves_along_a_chain_of_queues_and_waiters(self):
        # As Redis's chained BRPOPLPUSH: each stage waits, and moves its job on in a batch.
        stages = [f"{self.queue}/{number}" for number in range(5)]

        def work(here, there):
            with Client(self.daemon) as client:
                for _ in range(20):
                    ((job, _, body, lease, *_),) = client.call("queue.reserve", here,
                                                               {"wait": 60000})
                    client.batch(["queue.ack", job, lease], ["queue.push", there, body + 1],
                                 ["increment", self.key + here])

        threads = [threading.Thread(target=work, args=pair) for pair in zip(stages, stages[1:])]
        for thread in threads:
            thread.start()
        for _ in range(20):
            self.push(0, queue=stages[0])
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive())
        jobs = self.call("queue.pop", stages[-1], {"count": 100})
        self.assertEqual([body for _, _, body in jobs], [4] * 20)
        self.assertEqual([self.call("get", self.key + stage)[0] for stage in stages[:-1]],
                         [20] * 4)

    def test_a_value_is_there_when_the_waiter_hears_of_the_job(self):
        client = self.another()
        for number in range(50):
            self.wait(client, number)
            self.client.batch(["put", self.key, number], ["queue.push", self.queue, number])
            ((_, _, body, *_),) = self.told(client, number)
            self.assertEqual(client.call("get", self.key)[0], body)


class Several(WaitCase):
    def test_a_waiter_at_several_queues_gets_a_job_of_whichever_has_one(self):
        names = [self.queue + letter for letter in "abc"]
        client = self.another()
        for number, name in enumerate(names):
            self.wait(client, number, names)
            self.push(name, queue=name)
            self.assertEqual(self.bodies(client, number), [name])
        self.assertEqual([self.waiters(name) for name in names], [0, 0, 0])

    def test_of_several_that_have_jobs_it_gets_those_of_the_first_named(self):
        names = [self.queue + letter for letter in "abc"]
        client = self.another()
        self.wait(client, 1, names, count=5)
        self.client.batch(["queue.push", names[2], "c"], ["queue.push", names[1], "b1"],
                          ["queue.push", names[1], "b2"])
        self.assertEqual(self.bodies(client), ["b1", "b2"])
        self.assertEqual([job[2] for job in self.call("queue.pop", names[2])], ["c"])

    def test_naming_a_queue_twice_means_once(self):
        client, other = self.another(), self.another()
        self.wait(client, 1, [self.queue, self.queue, self.queue])
        self.push()
        self.assertEqual(len(self.told(client)), 1)
        self.wait(client, 2, [self.queue] * 5)
        self.assertEqual(self.waiters(), 1)
        self.wait(other)
        self.push("a")
        self.push("b")
        self.assertEqual([self.bodies(client, 2), self.bodies(other)], [["a"], ["b"]])

    def test_one_who_was_served_at_one_queue_is_not_served_at_another(self):
        names = [self.queue + "1", self.queue + "2"]
        client = self.another()
        self.wait(client, 1, names)
        self.client.batch(["queue.push", names[0], 1], ["queue.push", names[1], 2])
        self.assertEqual(self.bodies(client), [1])
        self.assertEqual(self.call("queue.stats", names[1])["ready"], 1)

    def test_a_paused_queue_is_passed_over(self):
        names = [self.queue + "1", self.queue + "2"]
        client = self.another()
        self.call("queue.pause", names[0], None)
        self.push("paused", queue=names[0])
        self.wait(client, 1, names)
        self.push("there", queue=names[1])
        self.assertEqual(self.bodies(client), ["there"])

    def test_a_waiter_survives_drop(self):
        client = self.another()
        self.push()
        self.call("queue.pop", self.queue)
        self.wait(client)
        self.call("queue.drop", self.queue)
        self.push("again")
        self.assertEqual(self.bodies(client), ["again"])


class Ends(WaitCase):
    def test_a_wait_ends_in_time_without_traffic(self):
        for wait in (1, 30, 200):
            before = self.call("hello")["time"]
            self.client.send_request(5, "queue.reserve", self.queue, {"wait": wait})
            self.assertEqual(self.told(self.client, 5), [])
            took = self.call("hello")["time"] - before
            self.assertTrue(wait <= took < wait + PRECISION_MS, took)

    def test_waits_end_in_the_order_of_their_deadlines(self):
        waits = [300, 20, 250, 60, 120, 60]
        for msgid, wait in enumerate(waits):
            self.client.send_request(msgid, "queue.pop", [self.queue, "other"], {"wait": wait})
        ended = [check_reply(self.client.receive_payload()) for _ in waits]
        self.assertTrue(all(reply[2:] == [None, []] for reply in ended))
        self.assertEqual([waits[reply[1]] for reply in ended], sorted(waits))
        self.assertEqual(self.call("stats")["waiters"], 0)

    def test_without_a_wait_the_answer_comes_in_its_place(self):
        for msgid, params in enumerate([(self.queue,), (self.queue, {"wait": 0}),
                                        ([self.queue, "x"], {})]):
            self.client.send_request(msgid, "queue.reserve", *params)
            self.client.send_request(100, "ping")
            self.assertEqual(self.told(self.client, msgid), [])
            self.assertIs(unpack(result_of(self.client.receive_payload(), 100)), True)

    def test_cancel_ends_the_wait_first_and_is_then_answered(self):
        client = self.another()
        self.wait(client, 7)
        client.send_request(8, "queue.cancel", 7)
        self.assertEqual([check_reply(client.receive_payload()) for _ in range(2)],
                         [[1, 7, None, []], [1, 8, None, True]])
        self.assertEqual(self.waiters(), 0)
        self.push("kept")
        self.assertEqual(self.counts(), (1, 0))

    def test_replies_around_a_cancel_keep_their_order(self):
        for payload in (request(1, "queue.pop", self.queue, {"wait": None}), request(2, "ping"),
                        request(3, "queue.cancel", 1), request(4, "ping"),
                        request(5, "queue.cancel", 1)):
            self.client.send_payload(payload)
        replies = [check_reply(self.client.receive_payload()) for _ in range(5)]
        self.assertEqual([reply[1] for reply in replies], [2, 1, 3, 4, 5])
        self.assertEqual(replies[4][2][0], "not_found")

    def test_cancel_ends_all_waits_of_this_client_with_that_msgid_and_no_other(self):
        client, other = self.another(), self.another()
        for _ in range(3):
            self.wait(client, 7)
        self.wait(client, 6)
        self.wait(other, 7)
        client.send_request(8, "queue.cancel", 7)
        self.assertEqual([check_reply(client.receive_payload())[1] for _ in range(4)],
                         [7, 7, 7, 8])
        self.assertEqual(self.call("stats")["waiters"], 2)
        self.push("six")
        self.push("seven")
        self.assertEqual([self.bodies(client, 6), self.bodies(other, 7)], [["six"], ["seven"]])

    def test_a_wait_that_is_not_there_is_not_found(self):
        client = self.another()
        self.refused("not_found", "queue.cancel", 1)
        self.wait(client, 7)
        self.refused("not_found", "queue.cancel", 7)
        self.push()
        self.told(client, 7)
        with self.assertRaises(CubbyError) as caught:
            client.call("queue.cancel", 7)
        self.assertEqual(caught.exception.code, "not_found")

    def test_a_cancelled_or_ended_wait_gets_no_job(self):
        client = self.another()
        client.send_request(1, "queue.pop", [self.queue, self.queue + "2"], {"wait": 20})
        self.assertEqual(self.told(client), [])
        self.push()
        self.push(queue=self.queue + "2")
        self.assertEqual(self.counts(), (1, 0))


class Pauses(WaitCase):
    def test_waiters_stay_through_a_pause_in_their_order(self):
        clients = [self.another() for _ in range(3)]
        self.call("queue.pause", self.queue, None)
        for client in clients:
            self.wait(client)
        for number in range(2):
            self.push(number)
        self.assertEqual(self.waiters(), 3)
        self.call("queue.resume", self.queue)
        self.assertEqual([self.bodies(client) for client in clients[:2]], [[0], [1]])
        self.push(2)
        self.assertEqual(self.bodies(clients[2]), [2])

    def test_a_wait_runs_on_while_the_queue_is_paused(self):
        self.call("queue.pause", self.queue, None)
        self.push()
        self.client.send_request(1, "queue.pop", self.queue, {"wait": 30})
        self.assertEqual(self.told(self.client), [])


class Workers:
    """A process with so many connections, each of which waits for a job; to be killed."""

    PROGRAM = """
import sys, zmq
from harness import request
endpoint, queue, count = sys.argv[1:]
sockets = [zmq.Context.instance().socket(zmq.DEALER) for _ in range(int(count))]
for socket in sockets:
    socket.connect(endpoint)
    socket.send(request(1, "queue.reserve", queue, {"wait": None}))
sys.stdin.read()
"""

    def __init__(self, daemon, queue, count):
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", self.PROGRAM, daemon.endpoint, queue, str(count)],
            stdin=subprocess.PIPE, cwd=os.path.dirname(os.path.abspath(__file__)))

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Peers(WaitCase):
    """Waits end with their connection."""

    def leave(self, client):
        connections = self.call("stats")["connections"]
        client.close()
        eventually(lambda: self.call("stats")["connections"] < connections, "it has left")

    def test_waits_end_with_their_connection(self):
        gone, there = self.another(), self.another()
        for msgid in range(1, 4):
            self.wait(gone, msgid)
        self.wait(there)
        self.leave(gone)
        self.assertEqual(self.all_waiters(), 1)
        before = self.call("stats")
        self.push("body")
        self.assertEqual(self.bodies(there), ["body"])
        self.assert_no_detour(before)

    def test_a_job_goes_past_many_workers_that_were_killed(self):
        killed = Workers(self.daemon, self.queue, WORKERS)
        self.addCleanup(killed.kill)
        eventually(lambda: self.all_waiters() == WORKERS, "the workers wait")
        there = self.another()
        self.wait(there)
        killed.kill()
        eventually(lambda: self.all_waiters() == 1, "their waits have ended")
        before = self.call("stats")
        job = self.push("body")
        ((number, _, _, _, deliveries, *_),) = self.told(there)
        self.assertEqual((number, deliveries), (job, 1))
        self.assert_no_detour(before)

    def assert_no_detour(self, before):
        stats = self.call("stats")
        for name in ("returned", "undelivered"):
            self.assertEqual(stats[name], before[name], name)

    def test_a_wait_does_not_end_with_a_former_connection_of_the_same_number(self):
        gone = self.another()
        for number in range(100):
            gone.send_request(1, "queue.reserve", self.queue, {"wait": None})
            self.assertIs(gone.call("ping"), True)
            gone.close()
            there = self.another()
            there.send_request(1, "queue.reserve", self.queue, {"wait": None})
            self.assertIs(there.call("ping"), True)
            eventually(lambda: self.all_waiters() == 1, "the former one's wait has ended")
            self.push(number)
            self.assertEqual(self.bodies(there), [number])
            gone = there

    def test_a_job_reserved_in_a_batch_stays_leased(self):
        self.push()
        gone = self.another()
        payload = request(1, "batch", [["queue.reserve", [self.queue]]])
        gone.send_payload(payload)
        eventually(lambda: self.counts() == (0, 1), "the job is leased")
        gone.close()
        self.assertEqual(self.counts(), (0, 1))


class TooLate(WaitCase):
    """Who leaves once the job is given to him, but before it is sent: the disk stands between."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.clean)
        cls.switch = pathlib.Path(cls.daemon.directory, "waits")
        cls.daemon.env.update(LD_PRELOAD=os.environ["FAILING_DISK_LIBRARY"], WAITING_DISK=str(cls.switch))
        cls.daemon.start()
        with Client(cls.daemon) as client:
            client.call("ping")
            cls.listening = open_sockets(cls.daemon) - 1

    def serve_one_who_leaves(self, *pushes, behind=None, **options):
        gone, pusher, reached = self.another(), self.another(), pathlib.Path(f"{self.switch}.reached")
        self.wait(gone, **options)
        if behind is not None:
            self.wait(behind)
        pusher.call("ping")
        sockets = self.listening + (3 if behind is None else 4)
        eventually(lambda: open_sockets(self.daemon) == sockets, "nobody else is there")
        reached.unlink(missing_ok=True)
        self.switch.touch()
        self.addCleanup(self.switch.unlink, missing_ok=True)
        pusher.send_request(1, "batch", [["queue.push", [self.queue, *push]] for push in pushes])
        eventually(reached.exists, "the commit waits for the disk")
        gone.close()
        eventually(lambda: open_sockets(self.daemon) == sockets - 1, "libzmq has let go of it")
        self.switch.unlink()
        self.assertIsNone(check_reply(pusher.receive_payload())[2])

    def test_a_job_goes_to_the_next_uncounted(self):
        there, before = self.another(), self.call("stats")["returned"]
        self.serve_one_who_leaves(["body"], behind=there)
        ((_, _, body, _, deliveries, *_),) = self.told(there)
        self.assertEqual((body, deliveries), ("body", 1))
        self.assertEqual(self.waiters(), 0)
        self.assertEqual(self.call("stats")["returned"], before + 1)

    def test_jobs_go_back_to_their_own_places(self):
        self.serve_one_who_leaves([0], [1], [2], count=2)
        eventually(lambda: self.counts() == (3, 0), "the jobs are back")
        rows = self.call("queue.peek", self.queue)
        self.assertEqual([(row["body"], row["deliveries"]) for row in rows],
                         [(0, 0), (1, 0), (2, 0)])

    def test_a_popped_job_comes_back_too(self):
        self.serve_one_who_leaves([{"x": 1}, {"priority": 3, "id": "a", "ttl": 1000000}],
                                  method="queue.pop")
        eventually(lambda: self.counts() == (1, 0), "the job is back")
        (row,) = self.call("queue.peek", self.queue)
        row = self.call("queue.job", row["id"])
        self.assertEqual((row["body"], row["priority"], row["deliveries"]), ({"x": 1}, 3, 0))
        self.assertEqual(row["expires_at"], row["pushed_at"] + 1000000)
        self.assertEqual(self.call("queue.push", self.queue, 2, {"id": "a"}), [row["id"], True])
        self.assertEqual(self.call("queue.stats", self.queue)["acked"], 0)


class Announcements(WaitCase):
    def heard(self, subscriber, count):
        found = []
        for topic, payload in itertools.islice(subscriber.messages(b"q"), count):
            epoch, drops, seq, queue = params_of(payload, "queue")
            self.assertEqual(topic, b"q" + queue.encode())
            self.assertEqual(epoch, self.call("hello")["epoch"])
            found.append((queue, seq))
        return found

    def subscriber(self, prefix=None):
        prefix = self.queue if prefix is None else prefix
        subscriber = Subscriber(self.daemon, topics=[b"w", b"q" + prefix.encode()])
        self.addCleanup(subscriber.socket.close, 0)
        return subscriber.welcome()

    def test_none_to_some_is_announced_and_some_to_more_is_not(self):
        subscriber = self.subscriber()
        seq = self.seq()
        self.push()
        self.push()
        self.call("queue.pop", self.queue, {"count": 2})
        self.push()
        self.push(queue=self.queue + "/end")
        self.assertEqual(self.heard(subscriber, 3), [(self.queue, seq), (self.queue, seq),
                                                     (self.queue + "/end", seq)])

    def test_a_job_that_a_waiter_took_at_once_is_announced(self):
        subscriber = self.subscriber()
        client = self.another()
        for number in range(3):
            self.wait(client, number)
            self.push()
            self.told(client, number)
        self.assertEqual(len(self.heard(subscriber, 3)), 3)

    def test_a_batch_that_leaves_nothing_is_not_announced(self):
        subscriber = self.subscriber()
        self.client.batch(["queue.push", self.queue, 1], ["queue.pop", self.queue])
        self.push(queue=self.queue + "/end")
        self.assertEqual([queue for queue, _ in self.heard(subscriber, 1)], [self.queue + "/end"])

    def test_delays_leases_and_pauses_that_end_are_announced(self):
        subscriber = self.subscriber()
        self.push(delay=20)
        self.assertEqual(len(self.heard(subscriber, 1)), 1)
        self.call("queue.reserve", self.queue, {"lease": 20})
        self.assertEqual(len(self.heard(subscriber, 1)), 1)
        self.call("queue.pause", self.queue, 20)
        self.assertEqual(len(self.heard(subscriber, 1)), 1)
        self.call("queue.pause", self.queue, None)
        self.call("queue.resume", self.queue)
        self.assertEqual(len(self.heard(subscriber, 1)), 1)

    def test_it_comes_after_the_changes_of_its_transaction_and_before_later_ones(self):
        subscriber = Subscriber(self.daemon, topics=[b"w", b"q" + self.queue.encode(),
                                                     b"k" + self.key.encode()])
        self.addCleanup(subscriber.socket.close, 0)
        subscriber.welcome()
        payloads = []
        for number in range(20):
            payloads += [request(1, "put", self.key + "a", number),
                         request(2, "batch", [["queue.push", [self.queue, number]],
                                              ["put", [self.key + "b", number]]]),
                         request(3, "queue.pop", self.queue)]
        for payload in payloads:
            self.client.send_payload(payload)
        for _ in payloads:
            self.client.receive_payload()
        heard = []
        while len(heard) < 60:
            topic, payload = subscriber.receive()
            if topic[:1] in b"kq":
                heard.append((topic[:1], payload[2][2] if topic[:1] == b"q" else
                              payload[2][2][0]))
        for first, second, news in zip(heard[::3], heard[1::3], heard[2::3]):
            self.assertEqual((first[0], second[0], news[0]), (b"k", b"k", b"q"))
            self.assertEqual(second[1], news[1])


class Fairness(WaitCase):
    def test_under_pipelining_every_job_comes_once_and_in_order_for_each_consumer(self):
        randomness = seeded(self)
        consumers = [self.another() for _ in range(8)]
        jobs, window = 2000, 5
        for client, msgid in itertools.product(consumers, range(window)):
            client.send_request(msgid, "queue.pop", self.queue, {"wait": None})
        seen = {client: [] for client in consumers}
        sent = 0
        end = deadline()
        while sum(map(len, seen.values())) < jobs:
            for _ in range(min(randomness.randrange(40), jobs - sent)):
                self.client.send_request(sent, "queue.push", self.queue, sent)
                sent += 1
            for client in consumers:
                while client.socket.poll(0):
                    msgid, _, result = check_reply(client.receive_payload())[1:]
                    seen[client] += [body for _, _, body in result]
                    client.send_request(msgid, "queue.pop", self.queue, {"wait": None})
            while self.client.socket.poll(0):
                self.client.receive_payload()
            self.assertLess(deadline(0), end)
        self.assertEqual(sorted(sum(seen.values(), [])), list(range(jobs)))
        for found in seen.values():
            self.assertEqual(found, sorted(found))
            self.assertGreater(len(found), jobs / len(consumers) / 4)


class Limits(unittest.TestCase):
    def test_waits_of_a_client_that_is_gone_do_not_count(self):
        with Daemon(data="none") as daemon, Client(daemon) as other:
            names = [f"q{number}" for number in range(1000)]
            with Client(daemon) as client:
                for msgid in range(1000):
                    client.send_request(msgid, "queue.pop", names, {"wait": None})
                eventually(lambda: other.call("stats")["waiters"] == 1000, "all wait")
                with self.assertRaises(CubbyError) as caught:
                    other.call("queue.pop", "q", {"wait": 5})
                self.assertEqual(caught.exception.code, "busy")
            eventually(lambda: other.call("stats")["waiters"] == 0, "they have ended")
            self.assertEqual(other.call("queue.pop", "q", {"wait": 5}), [])

    def test_too_many_names_are_busy_and_a_job_that_is_there_is_not(self):
        with Daemon(data="none") as daemon, Client(daemon) as client, Client(daemon) as other:
            names = [f"q{number}" for number in range(1000)]
            for msgid in range(1000):
                client.send_request(msgid, "queue.pop", names, {"wait": None})
            eventually(lambda: other.call("stats")["waiters"] == 1000, "all wait")
            client.send_request(1000, "queue.pop", "q", {"wait": 5})
            _, msgid, (code, _, detail), _ = check_reply(client.receive_payload())
            self.assertEqual((msgid, code, detail), (1000, "busy", {"limit": 100000}))
            other.call("queue.push", "q", 1)
            self.assertEqual(len(other.call("queue.pop", "q", {"wait": 5})), 1)
            other.call("queue.push", names[500], 1)
            self.assertEqual(check_reply(client.receive_payload())[1], 0)
            client.send_request(1000, "queue.pop", "q", {"wait": 5})
            self.assertEqual(check_reply(client.receive_payload()), [1, 1000, None, []])

    def test_too_many_waits_are_busy(self):
        with Daemon(data="none") as daemon, Client(daemon, SNDHWM=0, RCVHWM=0) as client, \
                Client(daemon) as other:
            limit = other.call("hello")["limits"]["max_waiters"]
            for msgid in range(limit + 5):
                client.send_request(msgid, "queue.pop", "q", {"wait": None})
            for msgid in range(limit, limit + 5):
                _, answered, error, _ = check_reply(client.receive_payload())
                self.assertEqual((answered, error[0], error[2]), (msgid, "busy", {"limit": limit}))
            self.assertEqual(other.call("stats")["waiters"], limit)
            other.call("queue.push", "r", 1)
            self.assertEqual(len(other.call("queue.reserve", "r", {"wait": 5})), 1)
            client.send_request(7, "queue.cancel", 7)
            self.assertEqual([check_reply(client.receive_payload())[1:] for _ in range(2)],
                             [[7, None, []], [7, None, True]])


class Stops(unittest.TestCase):
    def test_waits_end_with_an_empty_array_when_the_daemon_stops(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            with Daemon(data="none") as daemon, Client(daemon) as client:
                for msgid in range(3):
                    client.send_request(msgid, "queue.reserve", "q", {"wait": None})
                self.assertTrue(client.call("ping"))
                daemon.stop(how)
                self.assertEqual([check_reply(Stops.receive(client)) for _ in range(3)],
                                 [[1, msgid, None, []] for msgid in range(3)])

    @staticmethod
    def receive(client):
        if not client.socket.poll(60000):
            raise AssertionError("the wait was not ended")
        return client.socket.recv()

    def test_waits_are_not_kept_over_a_restart(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.send_request(1, "queue.reserve", "q", {"wait": None})
            self.assertTrue(client.call("ping"))
            daemon.kill()
            daemon.start()
            with Client(daemon) as other:
                self.assertEqual(other.call("stats")["waiters"], 0)
                other.call("queue.push", "q", 1)
                self.assertEqual(len(other.call("queue.reserve", "q")), 1)


if __name__ == "__main__":
    unittest.main()
