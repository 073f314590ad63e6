"""A failed fsync is final: nothing is acknowledged after it, and the daemon stops."""

import os
import pathlib
import unittest

from harness import Client, CubbyError, Daemon, Subscriber


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
            subscriber.heartbeat()
            self.break_disk()
            client.send_request(1, "put", "b", 2)
            client.send_request(2, "get", "b")
            self.assertIn(b"unavailable", client.receive_payload())
            self.assertEqual(self.daemon.wait(), 1)
            while client.socket.poll(100):  # the get, where it was of the same turn
                self.assertIn(b"unavailable", client.receive_payload())
            while subscriber.socket.poll(100):
                self.assertNotEqual(subscriber.socket.recv_multipart()[0][:1], b"k")

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


if __name__ == "__main__":
    unittest.main()
