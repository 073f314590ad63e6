"""The queue methods: every method with every option, state and error by its exact code; order,
batches with keys. Waits are in test_queue_waits.py, restarts and large queues in
test_queue_storage.py."""

import unittest

import msgpack

from harness import (
    Client, Daemon, DaemonCase, MAX_DURATION_MS, U64_MAX, Raw, eventually, as_bin, as_str, request,
    result_of, unpack,
)

STATES = ("ready", "delayed", "leased", "dead")
DEFAULTS = {"lease": 30000, "max_deliveries": 20, "max_length": 0, "retry_delay": 1000, "ttl": None,
            "dedup_window": 300000}
ROW = {"id", "queue", "body", "state", "priority", "deliveries", "pushed_at", "due_at",
       "expires_at", "error", "at"}


class QueueCase(DaemonCase):
    """Tests that each have a queue of their own, self.queue."""

    def setUp(self):
        super().setUp()
        self.queue = self.id().rsplit(".", 1)[-1]

    def push(self, body=None, queue=None, **options):
        """The job's id."""
        job, duplicate = self.call("queue.push", queue or self.queue, body, options)
        self.assertIs(duplicate, False)
        return job

    def reserve(self, queue=None, **options):
        return self.call("queue.reserve", queue or self.queue, options)

    def reserve_one(self, queue=None, **options):
        """(id, lease) of the one job that comes."""
        ((job, _, _, lease, *_),) = self.reserve(queue, **options)
        return job, lease

    def stats(self, *names):
        stats = self.call("queue.stats", self.queue)
        return tuple(stats[name] for name in names) if names else stats

    def counts(self):
        """How many jobs are in each state."""
        return dict(zip(STATES, self.stats(*STATES)))

    def peek(self, state="ready", **options):
        return self.call("queue.peek", self.queue, {"state": state, **options})

    def bodies(self, state="ready"):
        return [row["body"] for row in self.peek(state)]

    def configure(self, **options):
        return self.call("queue.configure", self.queue, options)

    def die(self, body=None, **options):
        """A dead job."""
        self.push(body)
        job, lease = self.reserve_one()
        self.call("queue.bury", job, lease, options)
        return job


class Push(QueueCase):
    def test_a_job_is_pushed_reserved_and_acknowledged(self):
        before = self.call("hello")["time"]
        job = self.push({"to": "ann"})
        ((number, queue, body, lease, deliveries, priority, pushed_at),) = self.reserve()
        self.assertEqual((number, queue, body, deliveries, priority), (job, self.queue,
                                                                       {"to": "ann"}, 1, 0))
        self.assertIsInstance(lease, int)
        self.assertTrue(before <= pushed_at <= self.call("hello")["time"])
        self.assertIs(self.call("queue.ack", job, lease), True)
        self.assertIsNone(self.call("queue.job", job))
        self.assertEqual(self.reserve(), [])

    def test_jobs_come_in_the_order_of_their_pushes(self):
        jobs = [self.push(number) for number in range(20)]
        self.assertEqual(jobs, sorted(set(jobs)))
        self.assertEqual([self.reserve_one()[0] for _ in jobs], jobs)

    def test_the_lower_priority_goes_first_and_within_it_the_older(self):
        pushed = [(priority, self.push(priority, priority=priority))
                  for priority in (5, 0, 2**32 - 1, 5, 1, 0)]
        self.assertEqual([row[0] for row in self.reserve(count=10)],
                         [job for _, job in sorted(pushed)])

    def test_bodies_come_back_byte_for_byte(self):
        for body in (b"\xc0", b"\xd9\x01\xff", b"\xdd\x00\x00\x00\x01\x05", b"\xd4\x05\x00",
                     b"\xcf" + bytes(7) + b"\x01", msgpack.packb({"ttl": 5}), b"\xcb" + bytes(8)):
            self.client.call_raw("queue.push", self.queue, Raw(body))
            reply = self.client.call_raw("queue.reserve", self.queue)
            self.assertIn(body, reply)
            self.assertEqual(unpack(reply)[0][2], unpack(body))

    def test_a_name_is_the_same_as_str_and_as_bin_and_comes_back_as_utf8(self):
        raw = self.queue.encode() + b"\xff"
        self.push(1, queue=as_bin(self.queue.encode()))
        self.assertEqual(self.reserve(as_str(self.queue.encode()))[0][1], self.queue)
        self.call("queue.push", as_str(raw), 1)
        self.assertEqual(self.reserve(as_bin(raw))[0][1], raw)

    def test_a_delayed_job_is_ready_when_its_time_has_come(self):
        (job, _), (row,), none = self.client.batch(
            ["queue.push", self.queue, "later", {"delay": 60}],
            ["queue.peek", self.queue, {"state": "delayed"}],
            ["queue.reserve", self.queue])["results"]
        self.assertEqual((row["id"], row["state"]), (job, "delayed"))
        self.assertEqual(row["due_at"], row["pushed_at"] + 60)
        self.assertEqual(none, [])
        eventually(lambda: self.bodies() == ["later"], "the job is ready")
        self.assertGreaterEqual(self.call("hello")["time"], row["due_at"])
        self.assertEqual(self.reserve_one()[0], job)

    def test_jobs_that_become_due_go_to_their_own_place(self):
        first = self.push(1, delay=30)
        second = self.push(2)
        eventually(lambda: self.counts()["ready"] == 2, "both are ready")
        self.assertEqual([row["id"] for row in self.peek()], [first, second])

    def test_a_full_queue_takes_no_more_until_something_has_gone(self):
        self.configure(max_length=3)
        self.push(1)
        self.push(2, delay=100000)
        self.push(3)
        job, lease = self.reserve_one()
        self.refused("queue_full", "queue.push", self.queue, 4, limit=3)
        self.call("queue.ack", job, lease)
        self.push(4)
        self.refused("queue_full", "queue.push", self.queue, 5, {"id": "x"}, limit=3)

    def test_dead_jobs_take_no_room_in_a_full_queue(self):
        self.configure(max_length=1)
        self.die()
        self.push()
        self.refused("queue_full", "queue.push", self.queue, None, limit=1)
        self.assertEqual(self.call("queue.kick", self.queue), 1)  # is not a push
        self.assertEqual(self.counts()["ready"], 2)


class Ids(QueueCase):
    """Idempotent push."""

    def repeat(self, identity, body=None):
        return self.call("queue.push", self.queue, body, {"id": identity})

    def test_a_push_with_the_same_id_adds_nothing_and_names_the_first(self):
        job = self.push("first", id="order 7")
        self.assertEqual(self.repeat("order 7", "second"), [job, True])
        self.assertEqual(self.bodies(), ["first"])
        self.assertEqual(self.stats("pushed"), (1,))

    def test_str_and_bin_are_the_same_id_and_an_integer_is_another(self):
        job = self.push(id="7")
        self.assertEqual(self.repeat(as_bin(b"7")), [job, True])
        number = self.push(id=7)
        self.assertNotEqual(number, job)
        self.assertEqual(self.repeat(Raw(b"\xcf" + bytes(7) + b"\x07")), [number, True])
        others = [self.push(id=other) for other in (-7, U64_MAX, -2**63, 2**63, "x" * 255, 0)]
        self.assertEqual(len(set(others)), 6)

    def test_ids_are_in_the_scope_of_their_queue(self):
        job = self.push(id=1)
        self.assertNotEqual(self.push(queue=self.queue + "2", id=1), job)

    def test_the_window_lasts_when_the_job_has_gone(self):
        for end in ("ack", "pop", "delete", "purge"):
            job = self.push(id=end)
            if end == "ack":
                self.call("queue.ack", *self.reserve_one())
            elif end == "pop":
                self.call("queue.pop", self.queue)
            elif end == "delete":
                self.assertIs(self.call("queue.delete", job), True)
            else:
                self.assertEqual(self.call("queue.purge", self.queue), 1)
            self.assertEqual(self.repeat(end), [job, True], end)

    def test_a_window_ends_and_a_job_that_is_there_keeps_its_id(self):
        self.configure(dedup_window=30)
        job = self.push(id="a")
        kept = self.push(id="b")
        self.call("queue.ack", *self.reserve_one())
        again = eventually(lambda: self.repeat("a")[1] is False and self.peek()[-1]["id"],
                           "the window is over")
        self.assertNotEqual(again, job)
        self.assertEqual(self.repeat("b"), [kept, True])

    def test_with_no_window_only_a_job_that_is_there_counts(self):
        self.configure(dedup_window=0)
        job = self.push(id="a")
        self.assertEqual(self.repeat("a"), [job, True])
        number, lease = self.reserve_one()
        self.assertEqual(self.repeat("a"), [job, True])
        self.call("queue.bury", number, lease)
        self.assertEqual(self.repeat("a"), [job, True])
        self.assertEqual(self.call("queue.delete", job), True)
        self.assertNotEqual(self.push(id="a"), job)

    def test_drop_ends_windows_too(self):
        job = self.push(id="a")
        self.call("queue.drop", self.queue)
        self.assertNotEqual(self.push(id="a"), job)

    def test_a_duplicate_is_found_before_the_queue_is_full(self):
        self.configure(max_length=1)
        job = self.push(id="a")
        self.assertEqual(self.repeat("a"), [job, True])
        self.refused("queue_full", "queue.push", self.queue, None, {"id": "b"}, limit=1)

    def test_a_duplicate_in_one_batch_is_found(self):
        results = self.client.batch(["queue.push", self.queue, 1, {"id": "a"}],
                                    ["queue.push", self.queue, 2, {"id": "a"}])["results"]
        self.assertEqual(results, [[results[0][0], False], [results[0][0], True]])


class Leases(QueueCase):
    def test_a_lease_that_runs_out_makes_the_job_ready_in_its_own_place(self):
        first, second = self.push(1), self.push(2)
        ((number, *_),) = self.reserve(lease=20)
        self.assertEqual(number, first)
        eventually(lambda: self.counts()["ready"] == 2, "the lease ran out")
        self.assertEqual([row["id"] for row in self.peek()], [first, second])
        self.assertEqual(self.reserve()[0][4], 2)

    def test_the_lease_of_the_queue_holds_where_none_is_asked_for(self):
        self.configure(lease=12345)
        self.push()
        self.reserve_one()
        (row,) = self.peek("leased")
        self.assertTrue(0 < row["due_at"] - row["pushed_at"] < 12345 + 10000)
        self.push()
        self.reserve_one(lease=MAX_DURATION_MS)
        self.assertGreater(self.peek("leased")[1]["due_at"], MAX_DURATION_MS)

    def test_another_token_is_stale_and_changes_nothing(self):
        job = self.push()
        number, lease = self.reserve_one()
        for token in (0, lease + 1, lease - 1, U64_MAX):
            for method, *rest in (["queue.ack"], ["queue.nack"], ["queue.bury"],
                                  ["queue.extend", 1000]):
                self.refused("stale_lease", method, job, token, *rest)
        self.assertEqual(self.call("queue.job", job)["state"], "leased")
        self.assertIs(self.call("queue.ack", number, lease), True)

    def test_a_job_that_is_gone_is_not_found(self):
        self.push()
        job, lease = self.reserve_one()
        self.call("queue.ack", job, lease)
        for method, *rest in (["queue.ack"], ["queue.nack"], ["queue.bury"],
                              ["queue.extend", 1000]):
            self.refused("not_found", method, job, lease, *rest)
            self.refused("not_found", method, 1, lease, *rest)

    def test_a_job_that_was_never_reserved_is_stale(self):
        job = self.push()
        self.refused("stale_lease", "queue.ack", job, 0)
        self.refused("stale_lease", "queue.ack", job, 5)

    def lapse(self):
        """A job whose lease ran out; (id, lease)."""
        self.push()
        job, lease = self.reserve_one(lease=1)
        eventually(lambda: self.counts()["leased"] == 0, "the lease ran out")
        return job, lease

    def test_a_late_ack_is_good_until_somebody_else_has_the_job(self):
        job, lease = self.lapse()
        self.assertIs(self.call("queue.ack", job, lease), True)
        job, lease = self.lapse()
        self.reserve_one()
        self.refused("stale_lease", "queue.ack", job, lease)

    def test_a_late_nack_bury_or_extend_is_good_too(self):
        job, lease = self.lapse()
        self.assertEqual(self.call("queue.nack", job, lease, {"delay": 100000}), "delayed")
        job, lease = self.lapse()
        self.call("queue.bury", job, lease)
        self.assertEqual(self.call("queue.job", job)["state"], "dead")
        job, lease = self.lapse()
        due = self.call("queue.extend", job, lease, 50000)
        row = self.call("queue.job", job)
        self.assertEqual((row["state"], row["due_at"]), ("leased", due))
        self.assertIs(self.call("queue.ack", job, lease), True)

    def test_extend_takes_a_job_back_from_dead_and_its_next_return_is_dead_again(self):
        self.configure(max_deliveries=1)
        job, lease = self.lapse()
        self.assertEqual(self.call("queue.job", job)["state"], "dead")
        self.call("queue.extend", job, lease, 50000)
        self.assertEqual(self.call("queue.job", job)["state"], "leased")
        self.assertEqual(self.call("queue.nack", job, lease), "dead")

    def test_after_nack_bury_and_kick_the_lease_is_void(self):
        self.push()
        job, lease = self.reserve_one()
        self.call("queue.nack", job, lease, {"delay": 0})
        self.refused("stale_lease", "queue.ack", job, lease)
        job, lease = self.reserve_one()
        self.call("queue.bury", job, lease)
        self.refused("stale_lease", "queue.extend", job, lease, 1000)
        self.call("queue.kick", self.queue)
        self.refused("stale_lease", "queue.ack", job, lease)

    def test_extend_counts_from_now(self):
        self.push()
        job, lease = self.reserve_one(lease=100000)
        now = self.call("hello")["time"]
        due = self.call("queue.extend", job, lease, 50)
        self.assertTrue(now + 50 <= due <= self.call("hello")["time"] + 50)
        eventually(lambda: self.counts()["ready"] == 1, "the shortened lease ran out")

    def test_tokens_and_ids_never_repeat_not_even_over_a_kill(self):
        with Daemon() as daemon:
            seen = set()
            for _ in range(3):
                with Client(daemon) as client:
                    for _ in range(50):
                        job, _ = client.call("queue.push", "q", None)
                        lease = client.call("queue.reserve", "q", {"lease": 100000})[0][3]
                        self.assertFalse({job, lease} & seen)
                        seen |= {job, lease}
                daemon.kill()
                daemon.start()


class Failing(QueueCase):
    def nack(self, **options):
        job, lease = self.reserve_one()
        return self.call("queue.nack", job, lease, options)

    def test_a_nack_with_a_delay_of_0_returns_the_job_to_its_own_place(self):
        first, second = self.push(1), self.push(2)
        self.assertEqual(self.nack(delay=0), "ready")
        self.assertEqual([row["id"] for row in self.peek()], [first, second])

    def test_a_nack_doubles_the_retry_delay_with_each_delivery(self):
        self.configure(retry_delay=100000, max_deliveries=0)
        job = self.push()
        for doubled in (100000, 200000, 300000, 300000):
            self.assertEqual(self.nack(), "delayed")
            (row,) = self.peek("delayed")
            self.assertAlmostEqual(row["due_at"] - self.call("hello")["time"], doubled, delta=5000)
            self.call("queue.kick", self.queue, {"id": job})  # begins anew
            for _ in range(row["deliveries"]):
                self.assertEqual(self.nack(delay=0), "ready")

    def test_a_retry_delay_of_0_makes_the_job_ready_at_once(self):
        self.configure(retry_delay=0)
        self.push()
        self.assertEqual(self.nack(), "ready")

    def test_a_retry_delay_over_5_minutes_is_not_doubled(self):
        self.configure(retry_delay=400000)
        self.push()
        for _ in range(2):
            self.nack(delay=0)
        self.assertEqual(self.nack(), "delayed")
        (row,) = self.peek("delayed")
        self.assertAlmostEqual(row["due_at"] - self.call("hello")["time"], 400000, delta=5000)

    def test_the_last_delivery_allowed_ends_in_dead_with_everything(self):
        self.configure(max_deliveries=2)
        job = self.push("body", priority=7)
        self.assertEqual(self.nack(delay=0, error="once"), "ready")
        self.assertEqual(self.nack(delay=100, error="twice"), "dead")
        (row,) = self.peek("dead")
        self.assertEqual({name: row[name] for name in
                          ("id", "body", "priority", "deliveries", "error", "due_at")},
                         {"id": job, "body": "body", "priority": 7, "deliveries": 2,
                          "error": "twice", "due_at": None})

    def test_a_lapsed_last_delivery_ends_in_dead(self):
        self.configure(max_deliveries=1)
        self.push()
        self.reserve_one(lease=1)
        eventually(lambda: self.counts()["dead"] == 1, "the job is dead")

    def test_without_a_limit_no_delivery_is_the_last(self):
        self.configure(max_deliveries=0)
        self.push()
        for _ in range(30):
            self.assertEqual(self.nack(delay=0), "ready")
        self.assertEqual(self.reserve()[0][4], 31)

    def test_a_ready_job_over_a_lowered_limit_goes_to_dead_when_a_reserve_meets_it(self):
        self.push("tried")
        self.nack(delay=0)
        self.nack(delay=0)
        self.push("fresh")
        self.configure(max_deliveries=2)
        self.assertEqual(self.reserve()[0][2], "fresh")
        self.assertEqual(self.bodies("dead"), ["tried"])

    def test_an_error_is_kept_until_it_is_replaced(self):
        job = self.push()
        self.assertIsNone(self.call("queue.job", job)["error"])
        self.nack(delay=0, error="it broke: \u00fc" + "x" * 1000)
        self.assertEqual(self.peek()[0]["error"], "it broke: \u00fc" + "x" * 1000)
        self.nack(delay=0)
        self.assertTrue(self.peek()[0]["error"].startswith("it broke"))
        self.nack(delay=0, error="")
        self.assertEqual(self.peek()[0]["error"], "")

    def test_bury_is_dead_at_once(self):
        job = self.die(error="poison")
        (row,) = self.peek("dead")
        self.assertEqual((row["id"], row["error"], row["deliveries"]), (job, "poison", 1))
        self.assertEqual(self.reserve(), [])


class Kick(QueueCase):
    def test_a_kick_makes_the_first_dead_ones_ready_and_begins_them_anew(self):
        dead = [self.die(number, error="e") for number in range(3)]
        self.assertEqual(self.call("queue.kick", self.queue), 1)
        self.assertEqual(self.call("queue.kick", self.queue, {"count": 10}), 2)
        self.assertEqual(self.call("queue.kick", self.queue), 0)
        rows = self.peek()
        self.assertEqual([row["id"] for row in rows], dead)
        self.assertEqual([(row["deliveries"], row["error"]) for row in rows], [(0, "e")] * 3)

    def test_a_kick_of_one_job_takes_a_dead_or_a_delayed_one_of_this_queue(self):
        dead, delayed, ready = self.die(), self.push(delay=100000), self.push()
        other = self.push(queue=self.queue + "2", delay=100000)
        self.assertEqual(self.call("queue.kick", self.queue, {"id": dead}), 1)
        self.assertEqual(self.call("queue.kick", self.queue, {"id": delayed}), 1)
        for job in (ready, dead, other, 0, U64_MAX):
            self.assertEqual(self.call("queue.kick", self.queue, {"id": job}), 0, job)
        leased, _ = self.reserve_one()
        self.assertEqual(self.call("queue.kick", self.queue, {"id": leased}), 0)
        self.assertEqual(self.counts(), {"ready": 2, "delayed": 0, "leased": 1, "dead": 0})

    def test_kick_keeps_the_priority_and_clears_the_ttl(self):
        job = self.push(priority=3, ttl=100000)
        number, lease = self.reserve_one()
        self.call("queue.bury", number, lease)
        self.assertIsNotNone(self.call("queue.job", job)["expires_at"])
        self.call("queue.kick", self.queue)
        row = self.call("queue.job", job)
        self.assertEqual((row["priority"], row["expires_at"], row["state"]), (3, None, "ready"))


class Ttl(QueueCase):
    def reserve_with_ttl(self):
        """A job that was leased before its short ttl was over; (id, lease)."""
        _, ((job, _, _, lease, *_),) = self.client.batch(
            ["queue.push", self.queue, None, {"ttl": 20}],
            ["queue.reserve", self.queue])["results"]
        return job, lease

    def test_a_job_goes_away_when_its_ttl_is_over(self):
        (job, _), (row,) = self.client.batch(["queue.push", self.queue, None, {"ttl": 30}],
                                             ["queue.peek", self.queue])["results"]
        self.assertEqual(row["expires_at"], row["pushed_at"] + 30)
        eventually(lambda: self.stats("expired") == (1,), "the job has expired")
        self.assertIsNone(self.call("queue.job", job))
        self.assertEqual(self.counts()["ready"], 0)

    def test_a_delay_past_the_ttl_lets_the_job_go_undelivered(self):
        self.push(ttl=20, delay=100000)
        eventually(lambda: self.stats("expired") == (1,), "the job has expired")
        self.assertEqual(self.counts()["delayed"], 0)

    def test_a_ttl_of_0_is_never_delivered(self):
        self.push(ttl=0)
        self.assertEqual(self.reserve(), [])

    def test_the_ttl_of_the_queue_holds_unless_the_push_says_otherwise(self):
        self.configure(ttl=100000)
        rows = [self.call("queue.job", self.push(**options))
                for options in ({}, {"ttl": 5000}, {"ttl": None})]
        self.assertEqual([row["expires_at"] and row["expires_at"] - row["pushed_at"]
                          for row in rows], [100000, 5000, None])

    def test_a_leased_job_outlives_its_ttl_and_a_nack_then_is_expired(self):
        job, lease = self.reserve_with_ttl()
        expires_at = self.call("queue.job", job)["expires_at"]
        eventually(lambda: self.call("hello")["time"] > expires_at, "the ttl is over")
        self.assertEqual(self.call("queue.job", job)["state"], "leased")
        self.assertEqual(self.call("queue.nack", job, lease), "expired")
        self.assertEqual(self.stats("expired", "leased"), (1, 0))

    def test_expired_counts_before_dead(self):
        self.configure(max_deliveries=1)
        job, lease = self.reserve_with_ttl()
        expires_at = self.call("queue.job", job)["expires_at"]
        eventually(lambda: self.call("hello")["time"] > expires_at, "the ttl is over")
        self.assertEqual(self.call("queue.nack", job, lease), "expired")

    def test_a_dead_job_stays_beyond_its_ttl(self):
        job, lease = self.reserve_with_ttl()
        self.call("queue.bury", job, lease)
        expires_at = self.call("queue.job", job)["expires_at"]
        eventually(lambda: self.call("hello")["time"] > expires_at + 20, "the ttl is over")
        self.assertEqual(self.call("queue.job", job)["state"], "dead")


class Pop(QueueCase):
    def test_pop_takes_jobs_that_are_gone_at_once(self):
        jobs = [self.push(number) for number in range(3)]
        self.assertEqual(self.call("queue.pop", self.queue), [[jobs[0], self.queue, 0]])
        self.assertEqual(self.call("queue.pop", self.queue, {"count": 1000}),
                         [[jobs[1], self.queue, 1], [jobs[2], self.queue, 2]])
        self.assertEqual(self.call("queue.pop", self.queue), [])
        self.assertEqual(self.stats("acked", "leased", "ready"), (3, 0, 0))


class Several(QueueCase):
    def test_jobs_are_of_the_first_named_queue_that_has_any(self):
        a, b, c = (self.queue + letter for letter in "abc")
        self.push("b1", queue=b)
        self.push("c1", queue=c)
        self.push("b2", queue=b)
        names = [a, c, b, c]
        self.assertEqual([row[1:3] for row in self.reserve(names, count=5)], [[c, "c1"]])
        self.assertEqual([row[1:3] for row in self.reserve(names, count=5)],
                         [[b, "b1"], [b, "b2"]])
        self.assertEqual(self.reserve(names), [])

    def test_count_takes_what_is_there(self):
        for number in range(5):
            self.push(number)
        self.assertEqual([row[2] for row in self.reserve(count=3)], [0, 1, 2])
        self.assertEqual([row[2] for row in self.reserve(count=1000)], [3, 4])

    def test_a_reply_stays_within_the_size_of_a_message(self):
        body = b"x" * (1024 * 1024 - 100)
        for _ in range(10):
            self.push(body)
        reply = self.client.call_raw("queue.reserve", self.queue, {"count": 10})
        self.assertLessEqual(len(reply), self.call("hello")["limits"]["max_message"])
        self.assertGreaterEqual(len(unpack(reply)), 6)
        self.assertEqual(len(unpack(reply)) + len(self.reserve(count=10)), 10)


class Looking(QueueCase):
    def test_a_row_has_every_element(self):
        now = self.call("hello")["time"]
        job = self.push({"a": [1]}, priority=4)
        row = self.call("queue.job", job)
        self.assertEqual(set(row), ROW)
        self.assertEqual({name: row[name] for name in ROW - {"pushed_at", "at"}}, {
            "id": job, "queue": self.queue, "body": {"a": [1]}, "state": "ready", "priority": 4,
            "deliveries": 0, "due_at": None, "expires_at": None, "error": None})
        self.assertTrue(now <= row["pushed_at"] <= self.call("hello")["time"])
        self.assertEqual(self.peek(), [row])

    def test_a_job_that_is_absent_is_nil(self):
        self.assertIsNone(self.call("queue.job", 5))
        self.assertIsNone(self.call("queue.job", U64_MAX))

    def test_peek_shows_each_state_in_its_order(self):
        self.push("late", delay=200000)
        self.push("early", delay=100000)
        for body, lease in (("long", 200000), ("short", 100000)):
            self.push(body)
            self.reserve_one(lease=lease)
        for body, priority in (("d2", 2), ("d1", 1)):
            self.push(body, priority=priority)
            self.call("queue.bury", *self.reserve_one())
        self.push("r2", priority=1)
        self.push("r1")
        self.assertEqual({state: self.bodies(state) for state in STATES}, {
            "ready": ["r1", "r2"], "delayed": ["early", "late"], "leased": ["short", "long"],
            "dead": ["d1", "d2"]})

    def test_peek_goes_on_behind_a_row(self):
        jobs = [self.push(number, priority=number % 3) for number in range(10)]
        order = sorted(jobs, key=lambda job: (jobs.index(job) % 3, job))
        for state in ("ready", "delayed"):
            found, after = [], {}
            while page := self.peek(state, limit=3, **after):
                self.assertLessEqual(len(page), 3)
                found += [row["id"] for row in page]
                after = {"after": page[-1]["at"]}
            self.assertEqual(found, order if state == "ready" else [])

    def test_peek_has_100_rows_and_about_a_mib_at_most(self):
        self.client.batch(*(["queue.push", self.queue, number] for number in range(150)))
        self.assertEqual(len(self.peek()), 100)
        self.assertEqual(len(self.peek(limit=1000)), 150)
        self.call("queue.purge", self.queue)
        for _ in range(4):
            self.push(b"x" * 600000)
        self.assertEqual(len(self.peek()), 2)

    def test_peek_takes_nothing(self):
        self.push()
        for _ in range(3):
            self.assertEqual(self.peek()[0]["deliveries"], 0)
        self.assertEqual(len(self.reserve()), 1)

    def test_stats_are_exact(self):
        self.assertEqual(self.configure(lease=30000), DEFAULTS)
        self.assertEqual(self.stats(), {
            "ready": 0, "leased": 0, "delayed": 0, "dead": 0, "waiters": 0, "pushed": 0,
            "acked": 0, "expired": 0, "oldest_age": None, "paused": False, "paused_until": None})
        self.push("old")
        self.push(delay=100000)
        self.die()
        self.push()
        self.call("queue.ack", *self.reserve_one())
        self.push()
        self.reserve_one()
        stats = self.stats()
        age = stats.pop("oldest_age")
        self.assertEqual({name: stats[name] for name in
                          ("ready", "leased", "delayed", "dead", "pushed", "acked", "expired")},
                         {"ready": 1, "leased": 1, "delayed": 1, "dead": 1, "pushed": 5,
                          "acked": 1, "expired": 0})
        oldest = self.peek()[0]["pushed_at"]
        self.assertTrue(age <= self.call("hello")["time"] - oldest)
        self.assertGreaterEqual(self.call("hello")["time"] - oldest, age)

    def test_the_oldest_age_is_of_the_oldest_whatever_its_priority(self):
        self.push(priority=9)
        eventually(lambda: self.stats("oldest_age")[0] >= 20, "it ages")
        self.push(priority=0)
        self.assertGreaterEqual(self.stats("oldest_age")[0], 20)

    def test_list_gives_names_in_order(self):
        names = [self.queue + suffix for suffix in ("", "/a", "/b", "/c", "0")]
        for name in names:
            self.push(queue=name)
        listed = lambda **options: self.call("queue.list", options)
        self.assertEqual([name for name in listed() if name.startswith(self.queue)], names)
        self.assertEqual(listed(), sorted(listed()))
        self.assertEqual(listed(prefix=self.queue), names)
        self.assertEqual(listed(prefix=self.queue + "/"), names[1:4])
        self.assertEqual(listed(prefix=self.queue, limit=2), names[:2])
        self.assertEqual(listed(prefix=self.queue, after=names[1]), names[2:])
        self.assertEqual(listed(prefix=self.queue + "/", after=names[0]), names[1:4])
        self.assertEqual(listed(prefix=self.queue, after="zzzz"), [])
        self.assertEqual(listed(prefix=self.queue + "/b", after=self.queue + "/"), [names[2]])


class Settings(QueueCase):
    def test_configure_makes_a_queue_and_gives_all_of_it(self):
        changed = {"lease": 1, "max_deliveries": 2, "max_length": 3, "retry_delay": 4, "ttl": 5,
                   "dedup_window": 6}
        self.assertEqual(self.configure(max_length=3), {**DEFAULTS, "max_length": 3})
        self.assertEqual(self.configure(**changed), changed)
        self.assertEqual(self.configure(ttl=None), {**changed, "ttl": None})
        self.assertEqual(self.call("queue.configure", self.queue), {**changed, "ttl": None})

    def test_new_settings_hold_for_what_comes_after(self):
        self.push(id="a")
        job, _ = self.reserve_one()
        before = self.call("queue.job", job)
        self.configure(lease=1, ttl=1, dedup_window=1)
        self.assertEqual(self.call("queue.job", job), before)
        self.assertEqual(self.call("queue.push", self.queue, None, {"id": "a"}), [job, True])

    def test_an_absent_queue_is_empty_or_not_found(self):
        for method in ("stats", "resume", "configure"):
            self.refused("not_found", "queue." + method, self.queue)
        for method, nothing in (("reserve", []), ("pop", []), ("peek", []), ("kick", 0),
                                ("purge", 0), ("drop", False)):
            self.assertEqual(self.call("queue." + method, self.queue), nothing, method)
        self.assertNotIn(self.queue, self.call("queue.list"))

    def test_a_paused_queue_delivers_nothing_until_it_is_resumed(self):
        self.push()
        self.assertIs(self.call("queue.pause", self.queue, None), True)
        self.assertEqual(self.reserve(), [])
        self.assertEqual(self.call("queue.pop", self.queue), [])
        self.assertEqual(self.stats("paused", "paused_until"), (True, None))
        self.push()  # other methods work
        self.assertIs(self.call("queue.resume", self.queue), True)
        self.assertEqual(self.stats("paused", "paused_until"), (False, None))
        self.assertEqual(len(self.reserve(count=5)), 2)

    def test_a_pause_ends_by_itself_and_0_resumes(self):
        self.push()
        self.call("queue.pause", self.queue, 500)
        paused, until = self.stats("paused", "paused_until")
        self.assertIs(paused, True)
        self.assertEqual(self.reserve(), [])
        eventually(lambda: self.stats("paused") == (False,), "the pause is over")
        self.assertGreaterEqual(self.call("hello")["time"], until)
        self.assertEqual(len(self.reserve()), 1)
        self.push()
        self.call("queue.pause", self.queue, None)
        self.call("queue.pause", self.queue, 0)
        self.assertEqual(len(self.reserve()), 1)

    def test_pause_makes_a_queue_and_a_list_passes_over_a_paused_one(self):
        other = self.queue + "2"
        self.call("queue.pause", self.queue, MAX_DURATION_MS)
        self.push("paused")
        self.push("there", queue=other)
        self.assertEqual(self.reserve([self.queue, other])[0][2], "there")

    def test_leases_go_on_in_a_paused_queue(self):
        self.push()
        self.push()
        kept = self.reserve_one()
        self.reserve_one(lease=1)
        self.call("queue.pause", self.queue, None)
        eventually(lambda: self.counts()["ready"] == 1, "the lease ran out")
        self.assertIs(self.call("queue.ack", *kept), True)

    def test_purge_removes_all_of_a_state_or_of_all_but_leased(self):
        def fill():
            self.die()
            self.push(delay=100000)
            self.push()
            self.reserve_one()
            self.push()
        fill()
        for state in ("ready", "delayed", "dead"):
            self.assertEqual(self.call("queue.purge", self.queue, {"state": state}), 1)
            self.assertEqual(self.counts()[state], 0)
        self.assertEqual(self.call("queue.purge", self.queue), 0)
        fill()
        self.assertEqual(self.call("queue.purge", self.queue), 3)
        self.assertEqual(self.counts(), {"ready": 0, "delayed": 0, "leased": 2, "dead": 0})

    def test_drop_removes_everything(self):
        self.configure(lease=5000)
        leased = self.push()
        _, lease = self.reserve_one()
        ready = self.push()
        self.assertIs(self.call("queue.drop", self.queue), True)
        self.assertIs(self.call("queue.drop", self.queue), False)
        self.refused("not_found", "queue.ack", leased, lease)
        self.assertIsNone(self.call("queue.job", ready))
        self.assertNotIn(self.queue, self.call("queue.list"))
        self.push()
        self.assertEqual(self.call("queue.configure", self.queue), DEFAULTS)
        self.assertEqual(self.counts()["ready"], 1)

    def test_delete_removes_a_job_in_any_state_but_leased(self):
        for job in (self.die(), self.push(), self.push(delay=100000)):
            self.assertIs(self.call("queue.delete", job), True)
            self.assertIs(self.call("queue.delete", job), False)
        job = self.push()
        _, lease = self.reserve_one()
        self.refused("stale_lease", "queue.delete", job)
        self.assertIs(self.call("queue.ack", job, lease), True)

    def test_stats_and_peek_after_many_purges_are_of_what_is_there(self):
        for number in range(5):
            self.client.batch(*(["queue.push", self.queue, number] for _ in range(1000)))
            self.assertEqual(self.call("queue.purge", self.queue), 1000)
        job = self.push("last")
        self.assertEqual([row["id"] for row in self.peek()], [job])
        self.assertEqual(self.reserve_one()[0], job)


class Batches(QueueCase):
    def test_ack_put_and_push_are_all_or_nothing(self):
        self.push("work")
        job, lease = self.reserve_one()
        operations = [["queue.ack", job, lease], ["put", self.key, "result"],
                      ["queue.push", self.queue + "/next", "more"]]
        seq = self.seq()
        reply = self.client.batch(*operations)
        self.assertEqual(reply["seq"], seq + 1)
        self.assertIs(reply["results"][0], True)
        self.assertEqual(self.call("get", self.key)[0], "result")
        self.assertEqual(self.reserve(self.queue + "/next")[0][2], "more")
        self.fails("not_found", lambda: self.client.batch(*operations), index=0)

    def test_a_stale_lease_undoes_the_whole_batch(self):
        self.push("work")
        job, lease = self.reserve_one(lease=1)
        eventually(lambda: self.counts()["ready"] == 1, "the lease ran out")
        _, new = self.reserve_one()
        self.fails("stale_lease", lambda: self.client.batch(
            ["put", self.key, "result"], ["queue.push", self.queue, "more"],
            ["queue.ack", job, lease]), index=2)
        self.assertIsNone(self.call("get", self.key))
        self.assertEqual(self.counts(), {"ready": 0, "delayed": 0, "leased": 1, "dead": 0})
        self.assertEqual(self.stats("pushed"), (1,))
        self.assertIs(self.call("queue.ack", job, new), True)

    def test_a_failing_condition_undoes_what_queues_did(self):
        self.push("one")
        kept = self.reserve_one()
        self.push("two", delay=100000)
        before = self.stats()
        self.fails("conflict", lambda: self.client.batch(
            ["queue.configure", self.queue, {"lease": 7}], ["queue.push", self.queue, "three"],
            ["queue.ack", *kept], ["queue.pop", self.queue], ["queue.purge", self.queue],
            ["queue.drop", self.queue], ["queue.push", self.queue, "four"],
            ["queue.push", self.queue + "new", 1], ["put", self.key, 1, {"if_exists": True}]),
            index=8)
        self.assertEqual({**self.stats(), "oldest_age": None}, {**before, "oldest_age": None})
        self.assertEqual(self.call("queue.configure", self.queue), DEFAULTS)
        self.assertEqual(self.bodies("delayed"), ["two"])
        self.assertNotIn(self.queue + "new", self.call("queue.list"))
        self.assertIs(self.call("queue.ack", *kept), True)

    def test_every_method_for_batches_works_in_one(self):
        batch = lambda *operations: self.client.batch(*operations)["results"]
        (job, _), (other, _), _ = batch(
            ["queue.push", self.queue, 1], ["queue.push", self.queue, 2],
            ["queue.configure", self.queue, {"max_deliveries": 5}])
        ((_, _, _, lease, *_),), row, rows = batch(
            ["queue.reserve", self.queue], ["queue.job", job],
            ["queue.peek", self.queue, {"state": "leased"}])
        self.assertEqual((row["state"], rows), ("leased", [row]))
        due, nacked, popped = batch(
            ["queue.extend", job, lease, 5000], ["queue.nack", job, lease, {"delay": 9999}],
            ["queue.pop", [self.queue, "none"]])
        self.assertEqual((nacked, popped), ("delayed", [[other, self.queue, 2]]))
        self.assertGreater(due, row["pushed_at"])
        self.assertEqual(batch(
            ["queue.kick", self.queue, {"id": job}], ["queue.pause", self.queue, None],
            ["queue.reserve", self.queue], ["queue.resume", self.queue],
            ["queue.delete", job], ["queue.purge", self.queue], ["queue.drop", self.queue],
            ["queue.drop", self.queue]), [1, True, [], True, True, 0, True, False])
        self.push("x")
        ((number, _, _, lease, *_),), buried = batch(["queue.reserve", self.queue], ["count"])
        self.assertIs(batch(["queue.bury", number, lease, {"error": "e"}])[0], True)
        self.assertEqual(self.peek("dead")[0]["error"], "e")

    def test_others_are_refused_in_a_batch(self):
        for operation in (["queue.stats", self.queue], ["queue.list"], ["queue.cancel", 1],
                          ["queue.reserve", self.queue, {"wait": 1}],
                          ["queue.pop", self.queue, {"wait": None}]):
            self.fails("bad_request", lambda operation=operation: self.client.batch(operation),
                       index=0)

    def test_a_reserve_sees_the_pushes_of_its_batch(self):
        results = self.client.batch(["queue.push", self.queue, "mine"],
                                    ["queue.reserve", self.queue, {"wait": 0}])["results"]
        self.assertEqual(results[1][0][:3], [results[0][0], self.queue, "mine"])

    def test_acks_count_before_pushes_in_a_full_queue(self):
        self.configure(max_length=1)
        self.push("one")
        kept = self.reserve_one()
        self.fails("queue_full", lambda: self.client.batch(
            ["queue.push", self.queue, "two"], ["queue.ack", *kept]), index=0, limit=1)
        self.client.batch(["queue.ack", *kept], ["queue.push", self.queue, "two"])
        self.assertEqual(self.bodies(), ["two"])

    def test_a_batch_of_queues_alone_has_no_seq(self):
        self.call("put", self.key, 1)
        seq = self.seq()
        self.assertEqual(self.client.batch(["queue.push", self.queue, 1])["seq"], seq)
        self.assertEqual(self.seq(), seq)

    def test_a_guard_holds_for_pushes(self):
        version = self.call("put", self.key, 1)
        self.client.batch(["queue.push", self.queue, 1], if_=[[self.key, version]])
        self.fails("conflict", lambda: self.client.batch(
            ["queue.push", self.queue, 2], if_=[[self.key, version + 1]]), if_=0)
        self.assertEqual(self.bodies(), [1])


class Notifications(QueueCase):
    def notify(self, method, *params):
        self.client.send_payload(msgpack.packb([2, method, list(params)]))

    def test_a_push_without_an_answer_is_carried_out(self):
        self.notify("queue.push", self.queue, "quiet")
        self.assertTrue(self.client.silent())
        self.assertEqual(self.bodies(), ["quiet"])

    def test_reserve_and_pop_without_an_answer_are_ignored(self):
        self.push("kept")
        for method in ("queue.reserve", "queue.pop"):
            self.notify(method, self.queue)
            self.notify(method, self.queue, {"wait": None})
            self.notify(method, "nowhere", {"wait": None})
        self.assertTrue(self.client.silent())
        self.assertEqual(self.counts()["ready"], 1)
        self.assertEqual(self.call("stats")["waiters"], 0)


class Pipelining(QueueCase):
    def test_many_requests_at_once_are_answered_in_their_order(self):
        payloads = []
        for number in range(300):
            payloads.append(request(3 * number, "queue.push", self.queue, number))
            payloads.append(request(3 * number + 1, "queue.pop", self.queue))
            payloads.append(request(3 * number + 2, "queue.pop", self.queue))
        for payload in payloads:
            self.client.send_payload(payload)
        for number in range(300):
            job, _ = unpack(result_of(self.client.receive_payload(), 3 * number))
            self.assertEqual(unpack(result_of(self.client.receive_payload(), 3 * number + 1)),
                             [[job, self.queue, number]])
            self.assertEqual(unpack(result_of(self.client.receive_payload(), 3 * number + 2)), [])


if __name__ == "__main__":
    unittest.main()
