"""The queues' commands against the daemon: what they print, how they exit, what work survives."""

import json
import os
import signal
import subprocess
import time
import unittest

from cli_harness import WAIT, CUBBY, Daemon


class Queues(Daemon):
    def take(self, *arguments):
        """The columns of the first job that reserve prints."""
        return self.ok("queue", "reserve", *arguments).decode().splitlines()[0].split("\t")

    def counts(self, queue):
        return json.loads(self.ok("queue", "stats", queue, "--json"))

    def test_work_refuses_what_is_no_program_before_it_takes_a_job(self):
        self.ok("queue", "push", "q", "1")
        for program in (self.directory, "./not-there", "not-there", ""):
            self.assertEqual(self.run_cubby("queue", "work", "q", "--drain", "--", program), (2, b""))
            self.assertEqual(self.errors, f"cubby: no such program: {program}\n")
        self.assertEqual(self.counts("q")["ready"], 1)

    def test_work_says_why_a_program_cannot_be_run(self):
        self.ok("queue", "push", "q", "1")
        program = f"{self.directory}/script"
        with open(program, "w", encoding="ascii") as script:
            script.write("#!/not/there\n")
        os.chmod(program, 0o755)
        status, _ = self.run_cubby("queue", "work", "q", "--limit", "1", "--", program)
        self.assertEqual(status, 0)
        self.assertIn(f"exit status 127: cubby: cannot run {program}: No such file", self.errors)

    def test_a_job_is_pushed_reserved_and_acknowledged(self):
        pushed = self.ok("queue", "push", "q", '{"a":1}').decode().strip()
        job, lease, deliveries, queue, body = self.take("other", "q")
        self.assertEqual((job, deliveries, queue, body), (pushed, "1", "q", '{"a":1}'))
        self.assertEqual(self.run_cubby("queue", "reserve", "q"), (1, b""))
        self.assertEqual(self.ok("queue", "ack", job, lease), b"")
        self.assertEqual(self.run_cubby("queue", "ack", job, lease), (3, b""))
        self.assertTrue(self.errors.startswith("cubby: not_found: "), self.errors)
        self.assertEqual(self.run_cubby("queue", "job", job), (1, b""))

    def test_a_push_takes_bodies_as_put_takes_values(self):
        self.ok("queue", "push", "q", "plain text", "--raw")
        self.ok("queue", "push", "q", "-", "--raw", stdin=b"\xff\n")
        self.ok("queue", "push", "q", "-", "--msgpack", stdin=b"\xca\x40\x00\x00\x00")
        self.ok("queue", "push", "q", "-", stdin=b" [1]\n")
        self.assertEqual(self.ok("queue", "pop", "q", "--raw"), b"plain text")
        self.assertEqual(self.ok("queue", "pop", "q", "--raw"), b"\xff\n")
        self.assertEqual(self.ok("queue", "pop", "q", "--msgpack"), b"\xca\x40\x00\x00\x00")
        self.assertEqual(self.ok("queue", "pop", "q", "--raw"), b"[1]\n")
        self.assertEqual(self.run_cubby("queue", "pop", "q", "--raw"), (1, b""))

    def test_a_name_makes_a_push_idempotent(self):
        first = self.ok("queue", "push", "q", "1", "--id", "me").decode().strip()
        again = self.ok("queue", "push", "q", "2", "--id", "me").decode()
        self.assertEqual(again, f"{first}\tduplicate\n")
        self.assertEqual(json.loads(self.ok("queue", "push", "q", "2", "--id", "me", "--json")),
                         [int(first), True])
        self.assertEqual(self.counts("q")["ready"], 1)

    def test_each_line_is_a_job(self):
        lines = "".join(f'{{"n":{i}}}\n' for i in range(2500)).encode()
        ids = self.ok("queue", "push", "q", "--lines", "--priority", "5", stdin=lines).split()
        self.assertEqual(ids, sorted(set(ids), key=int))
        self.assertEqual(len(ids), 2500)
        self.assertEqual(self.ok("queue", "peek", "q").count(b"\n"), 2500)
        last = self.ok("queue", "peek", "q", "--json").splitlines()[-1]
        self.assertEqual((json.loads(last)["body"], json.loads(last)["priority"]), ({"n": 2499}, 5))
        self.ok("queue", "push", "raw", "--lines", "--raw", stdin=b"a b\n\nno end")
        self.assertEqual(self.ok("queue", "peek", "raw").decode().splitlines(),
                         [line for line in self.ok("queue", "peek", "raw").decode().splitlines()
                          if line.split("\t")[5] in ('"a b"', '""', '"no end"')])

    def test_a_line_that_is_wrong_stops_after_those_before_it(self):
        status, out = self.run_cubby("queue", "push", "q", "--lines", stdin=b"1\n2\n[\n4\n")
        self.assertEqual((status, out.count(b"\n")), (2, 2))
        self.assertIn("line 3 is not JSON", self.errors)
        self.assertIn("stopped after 2 jobs", self.errors)
        self.assertEqual(self.counts("q")["ready"], 2)

    def test_lines_are_pushed_as_they_trickle_in(self):
        child = subprocess.Popen([CUBBY, "queue", "push", "q", "--lines"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, env=self.environment())
        child.stdin.write(b"1\n")
        child.stdin.flush()
        self.assertTrue(child.stdout.readline().strip().isdigit())
        child.stdin.close()
        self.assertEqual(child.wait(WAIT), 0)
        child.stdout.close()

    def test_a_wait_ends_with_a_job_or_with_its_time(self):
        begun = time.monotonic()
        self.assertEqual(self.run_cubby("queue", "reserve", "q", "--wait", "300"), (1, b""))
        self.assertGreaterEqual(time.monotonic() - begun, 0.3)
        waiter = self.begin("queue", "pop", "q", "--wait", "forever", "--raw", "--timeout", "1000")
        self.ok("queue", "push", "other", "0")
        self.wait_for(lambda: self.run_cubby("queue", "stats", "q")[0] != 0
                      or self.counts("q")["waiters"] == 1 or waiter.poll() is not None, "a waiter")
        self.ok("queue", "push", "q", '"body"')
        self.assertEqual(self.finish(waiter), (0, "body", ""))

    def test_a_failure_is_kept_and_seen_and_the_dead_are_kicked(self):
        self.ok("queue", "configure", "q", "--max-deliveries", "2", "--retry-delay", "0")
        self.ok("queue", "push", "q", "1")
        job, lease, *_ = self.take("q", "--lease", "60000")
        self.assertEqual(self.ok("queue", "nack", job, lease, "--error", "so\tso"), b"ready\n")
        row = self.ok("queue", "job", job).decode()
        self.assertEqual(row, f"{job}\tready\t1\t0\tnull\t1\tso\\tso\n")
        job, lease, *_ = self.take("q")
        self.assertTrue(self.ok("queue", "extend", job, lease, "5000").strip().isdigit())
        self.assertEqual(self.ok("queue", "nack", job, lease, "--json"), b'"dead"\n')
        self.assertEqual(self.run_cubby("queue", "nack", job, lease), (3, b""))
        self.assertTrue(self.errors.startswith("cubby: stale_lease: "), self.errors)
        self.assertEqual(self.ok("queue", "kick", "q"), b"1\n")
        job, lease, *_ = self.take("q")
        self.ok("queue", "bury", job, lease, "--error", "hopeless")
        self.assertIn(b"hopeless", self.ok("queue", "peek", "q", "--state", "dead"))
        self.assertEqual(self.ok("queue", "kick", "q", "--job", job), b"1\n")
        self.assertEqual(self.ok("queue", "delete", job), b"")
        self.assertEqual(self.run_cubby("queue", "delete", job), (1, b""))

    def test_queues_are_listed_configured_paused_purged_and_dropped(self):
        for queue in ("a1", "a2", "b"):
            self.ok("queue", "push", queue, "1")
        self.ok("queue", "push", "b", "1", "--delay", "60000")
        self.assertEqual(self.ok("queue", "list"), b"a1\na2\nb\n")
        self.assertEqual(self.ok("queue", "list", "--prefix", "a", "--limit", "1", "--json"),
                         b'"a1"\n')
        settings = json.loads(self.ok("queue", "configure", "b", "--lease", "7", "--no-ttl", "--json"))
        self.assertEqual((settings["lease"], settings["ttl"]), (7, None))
        self.assertIn(b"lease 7\n", self.ok("queue", "configure", "b"))
        self.assertEqual(self.run_cubby("queue", "configure", "none"), (3, b""))
        self.ok("queue", "pause", "b")
        self.assertEqual(self.run_cubby("queue", "reserve", "b"), (1, b""))
        self.ok("queue", "resume", "b")
        self.assertEqual(self.counts("b")["delayed"], 1)
        self.assertEqual(self.ok("queue", "purge", "b", "--state", "delayed"), b"1\n")
        self.assertEqual(self.ok("queue", "purge", "b"), b"1\n")
        self.assertEqual(self.ok("queue", "drop", "b"), b"")
        self.assertEqual(self.run_cubby("queue", "drop", "b"), (1, b""))

    def test_wrong_usage_exits_2_and_says_why(self):
        for arguments in ((), ("nope",), ("push",), ("push", "q"), ("push", "q", "{"),
                          ("push", "q", "1", "--lines"), ("push", "q", "--lines", "--id", "x"),
                          ("push", "q", "1", "--delay", "-1"), ("reserve",),
                          ("reserve", "q", "--wait", "soon"), ("reserve", "q", "--count", "0"),
                          ("reserve", "q", "--lease", "0"), ("ack", "1"), ("ack", "x", "2"),
                          ("extend", "1", "2", "x"), ("pause", "q", "soon"), ("work", "q"),
                          ("work", "q", "--"), ("work", "--", "cat"),
                          ("work", "q", "--", "no-such-program"),
                          ("work", "q", "--jobs", "0", "--", "cat"),
                          ("push", "q", "1", "--ttl", "1", "--no-ttl")):
            self.assertEqual(self.run_cubby("queue", *arguments), (2, b""), arguments)
            self.assertTrue(self.errors.startswith("cubby: "), self.errors)

    def test_bench_runs_the_workloads_of_queues(self):
        for workload in ("push", "pop", "work", "chain"):
            report = json.loads(self.ok("bench", "--json", "--requests", "500", "--keys", "1000",
                                        "--load", "--connections", "4", "--in-flight", "5",
                                        "--workload", workload, "--queue", workload))
            self.assertEqual((report["requests"], report["errors"], report["ran_dry"]),
                             (500, 0, False), workload)
        left = {queue: self.counts(queue)["ready"] for queue in ("push", "pop", "work", "chain")}
        self.assertEqual(left, {"push": 1500, "pop": 500, "work": 500, "chain": 1000})
        status, _ = self.run_cubby("bench", "--workload", "work", "--queue", "empty", "--requests",
                                   "5")
        self.assertEqual(status, 1)
        self.assertIn("--load", self.errors)


class Work(Daemon):
    keeps = True

    def counts(self, queue):
        return json.loads(self.ok("queue", "stats", queue, "--json"))

    def push(self, queue, *bodies):
        return [self.ok("queue", "push", queue, body).decode().strip() for body in bodies]

    def path(self, name):
        return f"{self.directory}/{name}"

    def wait_for_file(self, name):
        self.wait_for(lambda: os.path.exists(self.path(name)), name)

    def test_a_command_gets_the_body_and_who_it_is_for(self):
        first, second, third = self.push("q", '{"a":[1]}', '"text"', '{"$bin":"/w=="}')
        show = 'cat; echo ":$CUBBY_JOB_ID:$CUBBY_QUEUE:$CUBBY_DELIVERIES"'
        status, out = self.run_cubby("queue", "work", "none", "q", "--drain", "--", "sh", "-c", show)
        self.assertEqual((status, self.errors), (0, ""))
        self.assertEqual(out, f'{{"a":[1]}}\n:{first}:q:1\ntext:{second}:q:1\n'.encode()
                         + b"\xff" + f":{third}:q:1\n".encode())
        self.assertEqual(self.counts("q")["acked"], 3)
        self.push("q", "5")
        self.assertEqual(self.ok("queue", "work", "q", "--msgpack", "--drain", "--", "cat"), b"\x05")

    def test_a_command_that_fails_gives_its_job_back_with_the_reason(self):
        self.ok("queue", "configure", "q", "--max-deliveries", "2", "--retry-delay", "0")
        job, = self.push("q", "1")
        fail = "echo first >&2; echo 'no such user' >&2; echo >&2; exit 3"
        status, out = self.run_cubby("queue", "work", "q", "--drain", "--json", "--", "sh", "-c", fail)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(status, 0)
        self.assertEqual([(line["job"], line["outcome"], line["status"]) for line in lines],
                         [(int(job), "ready", 3), (int(job), "dead", 3)])
        self.assertIn(f"cubby: job {job} of q: exit status 3: no such user: dead", self.errors)
        row = json.loads(self.ok("queue", "job", job, "--json"))
        self.assertEqual((row["error"], row["state"]), ("exit status 3: no such user", "dead"))
        self.ok("queue", "kick", "q")
        self.run_cubby("queue", "work", "q", "--limit", "1", "--", "sh", "-c", "kill -9 $$")
        self.assertEqual(json.loads(self.ok("queue", "job", job, "--json"))["error"],
                         "killed by signal 9")

    def test_a_command_need_not_read_and_may_be_large(self):
        body = "x" * 1000000
        self.ok("queue", "push", "q", "-", "--raw", stdin=body.encode())
        self.ok("queue", "push", "q", "-", "--raw", stdin=body.encode())
        out = self.ok("queue", "work", "q", "--limit", "1", "--", "true")
        out = self.ok("queue", "work", "q", "--limit", "1", "--", "wc", "-c")
        self.assertEqual(out.strip(), b"1000000")

    def test_jobs_run_at_the_same_time(self):
        self.push("q", *[str(i) for i in range(4)])
        meet = (f'cd {self.directory}; touch met-$CUBBY_JOB_ID; '
                'while [ $(ls met-* | wc -l) -lt 4 ]; do sleep 0.05; done')
        self.ok("queue", "work", "q", "--jobs", "4", "--drain", "--", "sh", "-c", meet)
        self.assertEqual(self.counts("q")["acked"], 4)

    def test_a_lease_is_extended_while_the_command_runs(self):
        self.push("q", "1")
        worker = self.begin("queue", "work", "q", "--lease", "300", "--limit", "1", "--json", "--",
                            "sleep", "2")
        self.wait_for(lambda: self.counts("q")["leased"] == 1, "a lease")
        while worker.poll() is None:
            self.assertEqual(self.run_cubby("queue", "reserve", "q", "--wait", "50")[0], 1)
        status, out, _ = self.finish(worker)
        self.assertEqual((status, json.loads(out)["outcome"]), (0, "acked"))

    def test_the_command_of_a_lost_lease_is_terminated(self):
        self.push("q", "1")
        worker = self.begin("queue", "work", "q", "--lease", "300", "--limit", "1", "--json", "--",
                            "sh", "-c", f"touch {self.path('runs')}; exec sleep 60")
        self.wait_for_file("runs")
        worker.send_signal(signal.SIGSTOP)
        taken = self.ok("queue", "reserve", "q", "--wait", "20000", "--lease", "60000")
        self.assertEqual(taken.split(b"\t")[2], b"2")
        worker.send_signal(signal.SIGCONT)
        status, out, errors = self.finish(worker)
        outcome = json.loads(out)
        self.assertEqual((status, outcome["outcome"], outcome["signal"]), (0, "lost", 15))
        self.assertIn("lost", errors)
        self.ok("queue", "ack", *taken.decode().split("\t")[:2])

    def test_the_first_signal_lets_what_runs_finish(self):
        self.push("q", "1", "2", "3")
        for number in (signal.SIGTERM, signal.SIGINT):
            run = f"touch {self.path(number.name)}; while [ ! -e {self.path('go')} ]; do sleep 0.05; done"
            worker = self.begin("queue", "work", "q", "--json", "--", "sh", "-c", run)
            self.wait_for_file(number.name)
            worker.send_signal(number)
            with self.assertRaises(subprocess.TimeoutExpired):
                worker.wait(0.3)
            open(self.path("go"), "w", encoding="ascii").close()
            status, out, errors = self.finish(worker)
            self.assertEqual((status, json.loads(out)["outcome"], errors), (0, "acked", ""))
            os.remove(self.path("go"))
        self.assertEqual((self.counts("q")["ready"], self.counts("q")["leased"]), (1, 0))

    def test_an_idle_worker_ends_at_once(self):
        worker = self.begin("queue", "work", "q", "--", "true")
        self.ok("queue", "push", "q", "1")
        self.wait_for(lambda: self.counts("q")["acked"] == 1, "an ack")
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(worker), (0, "", ""))
        self.assertLess(time.monotonic() - begun, 3)

    def test_the_second_signal_gives_back_what_runs(self):
        self.push("q", "1", "2")
        run = f"touch {self.path('runs')}-$CUBBY_JOB_ID; sleep 60"
        worker = self.begin("queue", "work", "q", "--jobs", "2", "--json", "--", "sh", "-c", run)
        self.wait_for(lambda: sum("runs" in name for name in os.listdir(self.directory)) == 2,
                      "two that run")
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # two signals of one kind at once are one
        worker.send_signal(signal.SIGTERM)
        status, out, _ = self.finish(worker)
        self.assertEqual((status, [json.loads(line)["outcome"] for line in out.splitlines()]),
                         (0, ["ready", "ready"]))
        rows = [json.loads(row) for row in self.ok("queue", "peek", "q", "--json").splitlines()]
        self.assertEqual([row["error"] for row in rows], ["the worker was stopped"] * 2)

    def test_where_the_daemon_is_away_at_the_second_signal_the_outcome_is_not_known(self):
        job, = self.push("q", "1")
        worker = self.begin("--timeout", "200", "queue", "work", "q", "--json", "--", "sh", "-c",
                            f"touch {self.path('runs')}; exec sleep 60")
        self.wait_for_file("runs")
        self.kill()
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # two signals of one kind at once are one
        worker.send_signal(signal.SIGTERM)
        status, out, errors = self.finish(worker)
        self.assertEqual((status, json.loads(out)["outcome"]), (0, "unknown"))
        self.assertIn(f"cubby: job {job}: timeout: no reply from ", errors)

    def test_a_worker_that_is_killed_takes_its_command_along_and_the_job_comes_again(self):
        self.push("q", "1")
        run = f"echo $$ > {self.path('pid.part')}; mv {self.path('pid.part')} {self.path('pid')}; exec sleep 60"
        worker = self.begin("queue", "work", "q", "--lease", "500", "--", "sh", "-c", run)
        self.wait_for_file("pid")
        worker.kill()
        with open(self.path("pid"), encoding="ascii") as file:
            pid = int(file.read())
        self.wait_for(lambda: not is_running(pid), "the command's end")
        out = self.ok("queue", "reserve", "q", "--wait", "20000")
        self.assertEqual(out.split(b"\t")[2], b"2")

    def test_jobs_outlive_a_daemon_that_is_killed_and_started_again(self):
        self.push("q", *[str(i) for i in range(6)])
        worker = self.begin("queue", "work", "q", "--jobs", "2", "--limit", "12", "--json", "--",
                            "sh", "-c", f"sleep 0.3; echo done >> {self.path('done')}")
        for restart in range(2):
            self.wait_for(lambda: os.path.exists(self.path("done")), "a job's end")
            self.kill()
            os.remove(self.path("done"))
            self.start()
            self.push("q", *[str(restart * 10 + i) for i in range(3)])
        status, out, _ = self.finish(worker)
        outcomes = [json.loads(line)["outcome"] for line in out.splitlines()]
        self.assertEqual((status, outcomes), (0, ["acked"] * 12))
        counts = self.counts("q")
        self.assertEqual((counts["ready"], counts["leased"], counts["delayed"], counts["dead"]),
                         (0, 0, 0, 0))

    def test_a_command_may_acknowledge_in_a_batch_of_its_own(self):
        job, = self.push("q", "21")
        batch = (f"'{CUBBY}' batch '[[\"put\",[\"result\",'$(($(cat) * 2))']],"
                 "[\"queue.ack\",['$CUBBY_JOB_ID','$CUBBY_LEASE']]]'")
        status, out = self.run_cubby("--connect", self.endpoint, "queue", "work", "q", "--drain",
                                     "--json", "--", "sh", "-c", batch)
        self.assertEqual((status, self.errors), (0, ""))
        self.assertEqual(json.loads(out.splitlines()[-1])["outcome"], "acked")
        self.assertEqual(self.ok("get", "result"), b"42\n")
        self.assertEqual(self.run_cubby("queue", "job", job), (1, b""))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


if __name__ == "__main__":
    unittest.main()
