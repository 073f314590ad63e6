"""A failed fsync is final: nothing is acknowledged after it, and the daemon stops."""

import os
import pathlib
import signal
import time
import unittest

from harness import Client, CubbyError, Daemon, End, Raw, Subscriber, check_reply, deadline, pack, request

NOT_CARRIED_OUT = b"this was not carried out"


class FailedSync(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.switch = os.path.join(self.daemon.directory, "disk-fails")
        self.daemon.env.update(LD_PRELOAD=os.environ["FAILING_DISK_LIBRARY"],
                               FAILING_DISK=self.switch)
        self.daemon.__enter__()
        self.addCleanup(self.daemon.clean)

    def break_disk(self):
        pathlib.Path(self.switch).touch()

    def test_the_write_is_not_acknowledged_and_the_daemon_stops_with_the_reason(self):
        with Client(self.daemon) as client:
            self.assertEqual(client.call("put", "a", 1), 1)
            self.break_disk()
            with self.assertRaises(CubbyError) as caught:
                client.call("put", "b", 2)
            self.assertEqual(caught.exception.code, "unavailable")
        self.assertEqual(self.daemon.wait(), 1)
        self.assertRegex(self.daemon.stderr, r"fdatasync of log-\d+ failed: Input/output error")

    def test_reads_of_that_turn_and_changes_do_not_leave_either(self):
        with Client(self.daemon) as client, Subscriber(self.daemon).welcome() as subscriber:
            ends = End(self, client), End(self, subscriber)
            subscriber.heartbeat()
            self.break_disk()
            client.send_request(1, "put", "b", 2)
            client.send_request(2, "get", "b")
            self.assertIn(b"unavailable", client.receive_payload())
            self.assertEqual(self.daemon.wait(), 1)
            for (reply,) in ends[0].messages():  # the get, where it was of the same turn
                self.assertIn(b"unavailable", reply)
            for topic, *_ in ends[1].messages():
                self.assertNotEqual(topic[:1], b"k")

    def test_a_start_on_a_mended_disk_has_everything_that_was_acknowledged(self):
        with Client(self.daemon) as client:
            for number in range(20):
                client.call("put", f"key{number}", number)
            epoch = client.call("hello")["epoch"]
            self.break_disk()
            with self.assertRaises(CubbyError):
                client.call("put", "key0", "new")
        self.assertEqual(self.daemon.wait(), 1)
        os.unlink(self.switch)
        self.daemon.start()
        with Client(self.daemon) as client:
            for number in range(1, 20):
                self.assertEqual(client.call("get", f"key{number}")[0], number)
            self.assertIn(client.call("get", "key0")[0], (0, "new"), "unknown, and either")
            self.assertEqual(client.call("hello")["epoch"], epoch)

    def test_requests_that_gave_way_to_others_are_told_that_they_were_not_carried_out(self):
        count, operations = 8, Raw(pack([["increment", [f"key{number % 50}"]] for number in range(10_000)]))
        with Client(self.daemon) as heavy, Client(self.daemon) as other:
            end_of_heavy = End(self, heavy)
            for msgid in range(3):  # after the first it is on record
                heavy.send_payload(request(msgid, "batch", operations))
                check_reply(heavy.receive_payload())
            before = other.call("stats")["requests"]
            for msgid in range(count):
                heavy.send_payload(request(msgid, "batch", operations))
            end, calls = deadline(), 1
            while other.call("stats")["requests"] < before + count + calls:  # all are read
                self.assertLess(time.monotonic(), end)
                calls += 1
            self.break_disk()
            with self.assertRaises(CubbyError):
                other.call("put", "a", 1)
            self.assertEqual(self.daemon.wait(), 1)
            replies = [reply for (reply,) in end_of_heavy.messages()]
        self.assertEqual([check_reply(reply)[1] for reply in replies], list(range(count)))
        self.assertIn(b"unavailable", replies[-1])
        self.assertIn(NOT_CARRIED_OUT, replies[-1])

    def many_puts_when_the_disk_fails(self):
        """What they are answered, in order. Those that were not read by then get no answer."""
        with Client(self.daemon, SNDHWM=0, RCVHWM=0) as client:
            end = End(self, client)
            client.call("ping")
            os.kill(self.daemon.process.pid, signal.SIGSTOP)
            self.break_disk()
            for msgid in range(4000):
                client.send_request(msgid, "put", "a", msgid)
            os.kill(self.daemon.process.pid, signal.SIGCONT)
            self.assertEqual(self.daemon.wait(), 1)
            replies = [reply for (reply,) in end.messages()]
        self.assertEqual([check_reply(reply)[1] for reply in replies], list(range(len(replies))))
        for reply in replies:
            self.assertIn(b"unavailable", reply)
        return [NOT_CARRIED_OUT in reply for reply in replies]

    def test_requests_that_were_read_ahead_are_told_that_they_were_not_carried_out(self):
        for _ in range(20):  # they may not have come yet when the turn was over
            told = self.many_puts_when_the_disk_fails()
            self.assertFalse(told[0])
            self.assertEqual(told, sorted(told))
            if told[-1]:
                return
            os.unlink(self.switch)
            self.daemon.start()
        self.fail("nothing was read ahead in 20 runs")

    def checkpoint_in_the_turn_that_fails(self):
        """What a checkpoint is answered that was sent behind a put, or None: a checkpoint begins a
        turn, so one that was read in the put's turn waits for the next."""
        with Client(self.daemon) as client:
            end = End(self, client)
            client.call("ping")
            os.kill(self.daemon.process.pid, signal.SIGSTOP)
            self.break_disk()
            client.send_request(1, "put", "a", 1)
            client.send_request(2, "checkpoint")
            os.kill(self.daemon.process.pid, signal.SIGCONT)
            self.assertEqual(self.daemon.wait(), 1)
            replies = [reply for (reply,) in end.messages()]
        self.assertIn(b"unavailable", replies[0])
        self.assertNotIn(NOT_CARRIED_OUT, replies[0])
        return replies[1] if len(replies) > 1 else None

    def test_a_request_that_was_to_begin_the_next_turn_is_told_that_it_was_not_carried_out(self):
        for _ in range(20):  # it may not have come yet when the put's turn was over
            reply = self.checkpoint_in_the_turn_that_fails()
            if reply is not None:
                break
            os.unlink(self.switch)
            self.daemon.start()
        self.assertIsNotNone(reply)
        self.assertIn(b"unavailable", reply)
        self.assertIn(NOT_CARRIED_OUT, reply)


if __name__ == "__main__":
    unittest.main()
