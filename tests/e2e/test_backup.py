"""Backup, restore, export, import: what the files hold, and what is refused."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

import msgpack

from harness import CUBBYD, Client, CubbyError, Daemon, run, seeded

CUBBY = os.environ.get("CUBBY") or os.path.join(os.path.dirname(CUBBYD), "../bindings/cli/cubby")
ENVIRONMENT = {**os.environ, "PATH": f"{os.path.dirname(CUBBYD)}:{os.environ['PATH']}"}
ENGINES = ("memory", "lmdb", "rocksdb")


def entries_of(client):
    entries, after = [], {}
    while after is not None:
        page = client.call("scan", {"limit": 500, **after})
        entries += page["entries"]
        after = {"after": page["next"]} if page["next"] is not None else None
    return entries


def read_backup(client):
    """The whole snapshot, by the methods themselves."""
    begun = client.call("backup")
    entries, more = [], True
    while more:
        page = client.call("backup.read", begun["backup"])
        entries += page["entries"]
        more = page["more"]
    return begun, entries


class BackupTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cubby-backup-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.file = os.path.join(self.directory, "backup")

    def cubby(self, daemon, *words, status=0):
        done = subprocess.run([CUBBY, "--connect", daemon.endpoint, *words], capture_output=True,
                              text=True, timeout=60, check=False, env=ENVIRONMENT)
        self.assertEqual(done.returncode, status, f"cubby {words}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def refused(self, client, code, method, *params):
        with self.assertRaises(CubbyError) as caught:
            client.call(method, *params)
        self.assertEqual(caught.exception.code, code)

    def fill(self, client, random, count=300):
        for _ in range(count):
            key = f"key:{random.randrange(200)}"
            kind = random.randrange(5)
            if kind == 0:
                client.call("delete", key)
            elif kind == 1:
                client.call("put", key, random.randbytes(random.randrange(300)),
                            {"ttl": 3600_000})
            else:
                client.call("put", key, {"n": random.randrange(2**40), "t": "x" * random.randrange(99)})


class Methods(BackupTest):
    def test_a_snapshot_does_not_see_what_is_written_after_it(self):
        with Daemon() as daemon, Client(daemon) as client:
            self.fill(client, seeded(self))
            before = entries_of(client)
            begun = client.call("backup")
            self.assertEqual(begun["seq"], client.call("hello")["seq"])
            self.assertEqual(begun["keys"], len(before))
            client.call("delete_range", {"prefix": ""})
            page = client.call("backup.read", begun["backup"])
            self.assertFalse(page["more"])
            keys = [key for table, key, _ in page["entries"] if table == 0]
            self.assertEqual(keys, [entry[0].encode() for entry in before])

    def test_a_large_snapshot_comes_in_pages_of_about_a_mebibyte(self):
        with Daemon() as daemon, Client(daemon) as client:
            for i in range(8):
                client.call("put", f"k{i}", b"v" * 600_000)
            begun = client.call("backup")
            pages = [client.call("backup.read", begun["backup"]) for _ in range(4)]
            self.assertTrue(all(page["more"] for page in pages))
            self.assertEqual([len(page["entries"]) for page in pages], [2, 2, 2, 2])
            last = client.call("backup.read", begun["backup"])
            self.assertFalse(last["more"])
            self.assertNotIn(0, [table for table, _, _ in last["entries"]])  # no more keys

    def test_what_is_not_open_is_not_found(self):
        with Daemon() as daemon, Client(daemon) as client:
            self.refused(client, "not_found", "backup.read", 5)
            begun, _ = read_backup(client)
            self.refused(client, "not_found", "backup.read", begun["backup"])
            self.assertIs(client.call("backup.end", begun["backup"]), False)
            begun = client.call("backup")
            self.assertIs(client.call("backup.end", begun["backup"]), True)
            self.refused(client, "not_found", "backup.read", begun["backup"])
            self.refused(client, "bad_request", "backup.read", "x")

    def test_only_so_many_are_open_at_once(self):
        with Daemon() as daemon, Client(daemon) as client:
            begun = [client.call("backup") for _ in range(4)]
            self.refused(client, "busy", "backup")
            client.call("backup.end", begun[0]["backup"])
            client.call("backup")
            daemon.stop()  # with some open

    def test_a_snapshot_is_of_what_was_committed_even_in_a_pipeline(self):
        with Daemon() as daemon, Client(daemon) as client:
            for msgid in range(1, 200, 2):
                client.send_request(msgid, "put", "key", msgid)
                client.send_request(msgid + 1, "ping")
            client.send_request(1000, "backup")
            client.send_request(1001, "put", "key", "after")
            replies = [msgpack.unpackb(client.receive_payload()) for _ in range(202)]
            self.assertEqual([reply[1] for reply in replies], [*range(1, 201), 1000, 1001])
            begun = replies[200][3]
            entries = client.call("backup.read", begun["backup"])["entries"]
            self.assertEqual(entries[0][2][-1:], msgpack.packb(199)[-1:])


class Restore(BackupTest):
    def test_a_restored_directory_has_keys_versions_and_expiries_and_a_new_epoch(self):
        random = seeded(self)
        for source in ENGINES:
            with Daemon("--engine", source) as daemon, Client(daemon) as client:
                self.fill(client, random)
                self.cubby(daemon, "backup", self.file, "--force")
                before, hello = entries_of(client), client.call("hello")
            for target in ENGINES:
                place = os.path.join(self.directory, f"{source}-{target}")
                status, _, err = run("--restore", self.file, "--data", place, "--engine", target)
                self.assertEqual(status, 0, err)
                self.assertIn(f"{len(before)} keys as of seq {hello['seq']}", err)
                with Daemon(data=place) as daemon, Client(daemon) as client:
                    self.assertEqual(client.call("stats")["engine"], target)
                    self.assertEqual(entries_of(client), before)
                    now = client.call("hello")
                    self.assertEqual(now["seq"], hello["seq"])
                    self.assertEqual(now["oldest"], hello["seq"] + 1)
                    self.assertNotEqual(now["epoch"], hello["epoch"])
                    self.assertEqual(client.call("put", "new", 1), hello["seq"] + 1)
                    daemon.kill()
                    daemon.start()
                    with Client(daemon) as again:
                        self.assertEqual(again.call("get", "new")[1], hello["seq"] + 1)

    def test_the_command_line_restores_with_the_daemons_program(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.call("put", "a", 1)
            self.cubby(daemon, "backup", self.file)
            place = os.path.join(self.directory, "place")
            self.assertIn("1 keys as of seq 1", self.cubby(daemon, "restore", self.file, place))
            self.assertIn("is there already", self.cubby(daemon, "backup", self.file, status=2))

    def test_any_damage_is_refused_and_nothing_is_made(self):
        with Daemon() as daemon, Client(daemon) as client:
            for i in range(5):
                client.call("put", f"key{i}", i)
            self.cubby(daemon, "backup", self.file)
        with open(self.file, "rb") as file:
            good = file.read()
        place = os.path.join(self.directory, "place")
        random = seeded(self)
        broken = [good[:size] for size in random.sample(range(len(good)), 20)]
        for at in random.sample(range(len(good)), 40):
            broken.append(good[:at] + bytes([good[at] ^ 1 << random.randrange(8)]) + good[at + 1:])
        broken += [good + b"\0", b"", good[:-1], b"junk"]
        for number, content in enumerate(broken):
            with open(self.file, "wb") as file:
                file.write(content)
            status, _, err = run("--restore", self.file, "--data", place)
            self.assertEqual(status, 1, f"{number}: {err}")
            self.assertFalse(os.path.exists(place), number)
            self.assertEqual(err.count("\n"), 1, err)

    def test_a_directory_that_holds_something_is_refused(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.call("put", "a", 1)
            self.cubby(daemon, "backup", self.file)
            daemon.stop()
            status, _, err = run("--restore", self.file, "--data", daemon.data)
            self.assertEqual(status, 1)
            self.assertIn("already", err)
            status, _, err = run("--restore", self.file)
            self.assertEqual(status, 2)
            status, _, err = run("--restore", "/nonexistent", "--data", daemon.data + "2")
            self.assertEqual(status, 1)


class Transfer(BackupTest):
    def test_an_export_comes_back_as_it_was(self):
        random = seeded(self)
        for source, target in zip(ENGINES, (*ENGINES[1:], ENGINES[0])):
            with self.subTest(source=source, target=target), \
                    Daemon("--engine", source) as daemon, Client(daemon) as client, \
                    Daemon("--engine", target) as other, Client(other) as second:
                self.fill(client, random, 1500)
                client.call("put", b"\xff\x00", [None, 1.5, -1, b"x", {"a": []}])
                self.check_transfer(daemon, client, other, second)
                os.unlink(self.file)

    def check_transfer(self, daemon, client, other, second):
        self.cubby(daemon, "export", self.file)
        said = self.cubby(other, "import", self.file)
        before, after = entries_of(client), entries_of(second)
        self.assertEqual(said, f"{len(before)} keys\n")
        self.assertEqual([entry[:2] for entry in after], [entry[:2] for entry in before])
        for old, new in zip(before, after):
            self.assertEqual(old[3] is None, new[3] is None)
            if old[3] is not None:
                self.assertLess(abs(old[3] - new[3]), 60_000)

    def test_an_export_of_a_prefix_has_only_that(self):
        with Daemon() as daemon, Client(daemon) as client, Daemon() as other, Client(other) as second:
            for name in ("a:1", "a:2", "b:1"):
                client.call("put", name, name)
            self.cubby(daemon, "export", self.file, "--prefix", "a:")
            self.cubby(other, "import", self.file)
            self.assertEqual([entry[0] for entry in entries_of(second)], ["a:1", "a:2"])

    def test_an_interrupted_export_goes_on_behind_its_last_whole_entry(self):
        with Daemon() as daemon, Client(daemon) as client:
            self.fill(client, seeded(self))
            self.cubby(daemon, "export", self.file)
            with open(self.file, "rb") as file:
                whole = file.read()
            for size in seeded(self).sample(range(len(whole) - 70), 12):
                os.unlink(self.file)
                with open(self.file + ".part", "wb") as file:
                    file.write(whole[:size])
                self.cubby(daemon, "export", self.file, "--resume")
                with open(self.file, "rb") as file:
                    self.assertEqual(file.read(), whole, size)

    def test_an_export_goes_on_with_nothing_but_what_it_has_begun(self):
        with Daemon() as daemon, Client(daemon) as client:
            for i in range(20):
                client.call("put", f"{'ab'[i % 2]}:{i}", i)
            self.cubby(daemon, "export", self.file, "--prefix", "a:")
            with open(self.file, "rb") as file:
                begun = file.read()[:100]
            for content, options in ((begun, ("--prefix", "b:")), (begun, ()),
                                     (b"somebody's notes", ("--prefix", "a:"))):
                with open(self.file + ".part", "wb") as file:
                    file.write(content)
                os.unlink(self.file)
                said = self.cubby(daemon, "export", self.file, "--resume", *options, status=2)
                self.assertIn("was not begun with these options", said)
                with open(self.file + ".part", "rb") as file:
                    self.assertEqual(file.read(), content)
                with open(self.file, "wb") as file:
                    file.write(b"another")
            said = self.cubby(daemon, "export", self.file, "--resume", status=2)
            self.assertIn("give --force", said)
            with open(self.file, "rb") as file:
                self.assertEqual(file.read(), b"another")

    def exported(self, daemon, client, count=2500, size=0):
        """What a file is made of after these many puts."""
        for i in range(count):
            client.call("put", f"{i:04}", [i, "x" * size])
        self.cubby(daemon, "export", self.file)
        with open(self.file, "rb") as file:
            return file.read()

    def write(self, content):
        with open(self.file, "wb") as file:
            file.write(content)

    def test_a_damaged_export_is_not_imported_and_the_place_is_told(self):
        with Daemon() as daemon, Client(daemon) as client, Daemon() as other, Client(other) as second:
            whole = self.exported(daemon, client)
            at = whole.index(msgpack.packb("1500")) - 1
            end = len(whole) - len(msgpack.packb({"entries": 2500, "sha1": "x" * 40}))
            for content, place in ((whole[:at] + b"\x93" + whole[at + 1:], None),  # other fields
                                   (whole[:at + 2] + b"7" + whole[at + 3:], end),  # another key
                                   (whole[:at + 3], at), (whole[:at], at), (whole[:end], end),
                                   (whole[:-1], end), (whole + b"x", end)):
                self.write(content)
                said = self.cubby(other, "import", self.file, status=5)
                self.assertIn("is damaged at offset " + ("" if place is None else f"{place}: "), said)
                self.assertIn("nothing is imported", said)
            self.assertEqual(second.call("count"), 0)
            self.write(whole[:at + 3])
            said = self.cubby(other, "import", self.file, "--force")
            self.assertIn(f"is damaged at offset {at}: ", said)
            self.assertTrue(said.startswith("1500 keys\n"), said)
            self.assertEqual(second.call("count"), 1500)

    def test_an_interrupted_import_goes_on_from_the_offset_that_it_names(self):
        with Daemon() as daemon, Client(daemon) as client, Daemon() as other, Client(other) as second, \
                Daemon("--memory-limit", "2M") as small, Client(small) as first:
            self.exported(daemon, client, size=1000)
            said = self.cubby(small, "import", self.file, status=3)
            self.assertIn("storage_full", said)
            offset = int(said.split("go on with --from ")[1])
            there = first.call("count")
            self.assertGreater(there, 0)
            self.assertEqual(self.cubby(other, "import", self.file, "--from", str(offset)),
                             f"{2500 - there} keys\n")
            self.assertEqual(second.call("count"), 2500 - there)
            for wrong in (offset + 1, 1, 1 << 40):
                said = self.cubby(other, "import", self.file, "--from", str(wrong), status=2)
                self.assertIn(f"--from {wrong}: no entry of ", said)

    def test_expired_keys_are_counted_and_left_out(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.call("put", "a", 1)
            client.call("put", "b", 1, {"ttl": 3600_000})
            self.cubby(daemon, "export", self.file)
            with open(self.file, "rb") as file:
                objects = list(msgpack.Unpacker(file, raw=False))
            objects[2][3] = 1
            entries = b"".join(msgpack.packb(each) for each in objects[:-1])
            end = {"entries": 2, "sha1": hashlib.sha1(entries).hexdigest().upper()}
            self.write(entries + msgpack.packb(end))
            self.assertEqual(self.cubby(daemon, "import", self.file), "1 keys, 1 had expired\n")

    def test_what_is_no_export_is_refused(self):
        with Daemon() as daemon:
            self.cubby(daemon, "backup", self.file)
            self.assertIn("is not an export", self.cubby(daemon, "import", self.file, status=5))
            self.assertIn("cannot read", self.cubby(daemon, "import", self.file + "x", status=5))


if __name__ == "__main__":
    unittest.main()
