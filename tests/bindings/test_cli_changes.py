"""watch and mirror against the daemon, over restarts and connections that are cut."""

import json
import os
import signal
import time
import unittest

import msgpack

from cli_harness import WAIT, Daemon, Proxy


class Watch(Daemon):
    keeps = True

    def test_watch_prints_changes_as_they_come(self):
        self.ok("put", "k0", "0")
        watch = self.begin("watch", "k", "--since", "0", "--limit", "4")
        self.assertEqual(watch.stdout.readline(), b"1\tput\tk0\t0\n")
        self.ok("put", "other", "0")
        self.ok("put", "k1", "1")
        self.assertEqual(watch.stdout.readline(), b"3\tput\tk1\t1\n")
        self.ok("batch", '[["put",["k2",2]],["delete",["k1"]]]')
        self.assertEqual(self.finish(watch), (0, "4\tput\tk2\t2\n4\tdelete\tk1\n", ""))

    def test_watch_goes_on_over_a_daemon_that_is_killed(self):
        watch = self.begin("watch", "--json", "--limit", "6", "--since", "0")
        for restart in range(3):
            self.ok("put", "k", str(restart))
            self.assertEqual(json.loads(watch.stdout.readline())[4:6], ["k", restart])
            self.kill()
            self.start()
            self.ok("put", "k", str(restart))
            self.assertEqual(json.loads(watch.stdout.readline())[4:6], ["k", restart])
        self.assertEqual(self.finish(watch), (0, "", ""))

    def test_watch_ends_where_history_is_another(self):
        self.assertEqual(self.run_cubby("watch", "--since", "9"), (3, b""))
        self.assertTrue(self.errors.startswith("cubby: compacted: "), self.errors)
        self.assertEqual(self.run_cubby("watch", "--since", "0", "--epoch", "other"), (3, b""))
        self.assertEqual(self.run_cubby("watch", "--epoch", "other"), (2, b""))

    def test_a_signal_ends_watch(self):
        watch = self.begin("watch", "--since", "0")
        self.ok("put", "k", "0")
        watch.stdout.readline()
        watch.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(watch), (0, "", ""))


    def test_a_prefix_that_no_key_can_have_ends_watch_and_mirror(self):
        path = f"{self.directory}/mirror"
        for command in (("watch", "x" * 1025), ("mirror", "x" * 1025, path)):
            self.assertEqual(self.run_cubby(*command), (3, b""))
            self.assertTrue(self.errors.startswith("cubby: too_large: "), self.errors)
            self.assertIn("over the limit of 1024 bytes", self.errors)
        self.assertFalse(os.path.exists(path))


class Away(Daemon):
    def test_what_waits_for_a_daemon_says_so_and_goes_on_when_it_is_there(self):
        self.kill()
        for count, words in enumerate((("watch", "k", "--limit", "1"),
                                       ("changes", "--follow", "--limit", "1"),
                                       ("mirror", "k", f"{self.directory}/mirror", "--once"))):
            child = self.begin("--timeout", "50", "--broadcast", self.broadcast, *words)
            self.assertEqual(child.stderr.readline().decode(),
                             f"cubby: no answer from {self.endpoint} (is cubbyd running there?): "
                             "trying on\n")
            self.start()
            while child.poll() is None:
                self.ok("put", "k", str(count))
                time.sleep(0.02)
            self.assertEqual(self.finish(child)[0], 0, words)
            self.kill()
        self.start()


class Mirror(Daemon):
    keeps = True

    def setUp(self):
        super().setUp()
        self.file = f"{self.directory}/mirror"

    def read(self):
        """The file's header, and its entries by their keys; it has to be whole."""
        with open(self.file, "rb") as file:
            objects = list(msgpack.Unpacker(file, raw=False, strict_map_key=False))
        self.assertEqual(objects[-1]["entries"], len(objects) - 2)
        keys = [entry[0] for entry in objects[1:-1]]
        self.assertEqual(keys, sorted(keys))
        return objects[0], {entry[0]: entry[1:] for entry in objects[1:-1]}

    def stored(self, prefix):
        lines = self.ok("scan", "--prefix", prefix, "--json").splitlines()
        return {entry[0]: entry[1:] for entry in map(json.loads, lines)}

    def expect_same(self, prefix="k"):
        """The file has become what the daemon holds."""
        expected = self.stored(prefix)
        self.wait_for(lambda: os.path.exists(self.file) and self.read()[1] == expected,
                      f"a file that holds {expected}")

    def test_the_file_follows_the_keys(self):
        self.ok("put", "k1", '{"a":1}', "--ttl", "1000000")
        self.ok("put", "other", "1")
        mirror = self.begin("mirror", "k", self.file, "--interval", "0")
        self.expect_same()
        self.ok("put", "k2", "2")
        self.expect_same()
        self.ok("batch", '[["put",["k3",3]],["delete",["k1"]]]')
        self.expect_same()
        self.assertEqual(self.read()[1]["k3"], [3, 4, None])
        mirror.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(mirror), (0, "", ""))
        self.assertEqual([name for name in os.listdir(self.directory) if "part" in name], [])

    def test_once_is_enough_for_a_copy_that_import_takes(self):
        puts = [["put", [f"k{i:04d}", i]] for i in range(2500)]
        self.ok("batch", stdin=json.dumps(puts).encode())
        out = self.ok("mirror", "k", self.file, "--once", "--json")
        self.assertEqual(json.loads(out), {"seq": 1, "entries": 2500})
        self.assertEqual(self.read()[1], self.stored("k"))
        self.ok("delete-range", "--prefix", "k")
        self.assertEqual(self.ok("import", self.file), b"2500 keys\n")
        self.assertEqual(self.ok("count", "--prefix", "k"), b"2500\n")

    def test_it_goes_on_from_the_file_without_a_scan(self):
        self.ok("put", "k1", "1")
        self.ok("put", "k2", "2")
        self.ok("mirror", "k", self.file, "--once")
        before = os.stat(self.file).st_ino
        self.assertEqual(self.ok("mirror", "k", self.file, "--once", "--json"), b"")
        self.assertEqual(os.stat(self.file).st_ino, before)
        self.ok("delete", "k1")
        self.ok("put", "k3", "3")
        out = self.ok("mirror", "k", self.file, "--once", "--json")
        self.assertEqual(json.loads(out), {"seq": 4, "entries": 2})
        self.assertEqual(self.read()[1], self.stored("k"))

    def test_it_goes_on_over_a_daemon_that_is_killed(self):
        mirror = self.begin("mirror", "k", self.file, "--interval", "0")
        for restart in range(3):
            self.ok("put", f"k{restart}", str(restart))
            self.expect_same()
            self.kill()
            self.start()
            self.ok("put", "k", str(restart))
            self.expect_same()
        mirror.terminate()
        self.assertEqual(self.finish(mirror), (0, "", ""))

    def test_it_goes_on_over_a_connection_that_is_cut(self):
        proxy = Proxy(f"{self.directory}/proxy", f"{self.directory}/r")
        self.addCleanup(proxy.close)
        mirror = self.begin("--connect", f"ipc://{self.directory}/proxy", "mirror", "k", self.file,
                            "--interval", "0")
        for number in range(2):
            self.ok("put", "k", str(number))
            self.expect_same()
            proxy.cut()
            self.ok("put", "k", str(number + 10))
            self.expect_same()
        mirror.terminate()
        self.assertEqual(self.finish(mirror)[0], 0)

    def test_another_history_makes_it_anew(self):
        self.ok("put", "k1", "1")
        self.ok("put", "k2", "2")
        self.ok("mirror", "k", self.file, "--once")
        self.keeps = False
        self.kill()
        self.start()
        self.ok("put", "k3", "3")
        status, out = self.run_cubby("mirror", "k", self.file, "--once", "--json")
        self.assertEqual((status, json.loads(out)), (0, {"seq": 1, "entries": 1}))
        self.assertIn("scanning anew", self.errors)
        self.assertEqual(self.read()[1], {"k3": [3, 1, None]})

    def test_a_damaged_file_is_made_anew(self):
        self.ok("put", "k1", "1")
        self.ok("mirror", "k", self.file, "--once")
        with open(self.file, "rb") as file:
            whole = file.read()
        for damaged in (whole[:-1], whole.replace(b"k1\x01", b"k1\x02"), whole + b"\x01"):
            with open(self.file, "wb") as file:
                file.write(damaged)
            status, _ = self.run_cubby("mirror", "k", self.file, "--once")
            self.assertEqual(status, 0)
            self.assertIn("is damaged: scanning anew", self.errors)
            with open(self.file, "rb") as file:
                self.assertEqual(file.read(), whole)

    def test_a_file_of_something_else_is_refused_and_left_alone(self):
        self.ok("put", "k1", "1")
        self.ok("export", f"{self.directory}/export")
        self.ok("mirror", "k", self.file, "--once")
        for path, prefix in ((f"{self.directory}/export", "k"), (self.file, "other"),
                             ("/dev/null", "k")):
            self.assertEqual(self.run_cubby("mirror", prefix, path, "--once"), (5, b""))
            self.assertIn("remove it, or name another file", self.errors)
        self.assertEqual(self.read()[1], self.stored("k"))

    def test_a_daemon_that_is_away_is_waited_for(self):
        self.ok("put", "k1", "1")
        self.kill()
        mirror = self.begin("mirror", "k", self.file, "--once")
        time.sleep(0.3)
        self.assertIsNone(mirror.poll())
        self.start()
        self.assertEqual(mirror.wait(WAIT), 0)
        self.assertEqual(self.read()[1], self.stored("k"))


if __name__ == "__main__":
    unittest.main()
