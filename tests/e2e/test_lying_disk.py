"""Power failures of a disk that pretends to sync something, and does not: each must be found out, or
test_power_loss.py would say nothing. The daemon's own bugs would look the same."""

import shutil
import unittest

from harness import seeded
from test_crash import engines
from test_power_loss import Checker, Traced, choose_cuts

LIES = 100  # contents that the disk has to be found out with


class Liars(Traced):
    def found_out(self, engine, what, forget, durability="always"):
        """Whether any content in many shows it."""
        randomness = seeded(self)
        recording = self.record(randomness, engine, {"durability": durability, "end": "stop"},
                                {"durability": durability, "end": "kill"})
        checker = Checker(recording, randomness, forget)
        try:
            for at in choose_cuts(recording.events, randomness, LIES):
                checker.check(at, randomness.choice([None, "old", "all but one"]))
        except AssertionError:
            shutil.rmtree(checker.failed)
            return
        self.fail(f"{engine}: nobody noticed that {what} was not synced")

    def test_a_log_that_is_not_synced(self):
        for engine in engines():
            self.found_out(engine, "the log", lambda event, name: "/log-" in name)

    def test_a_data_directory_that_is_not_synced(self):
        for engine in engines():
            self.found_out(engine, "the directory", lambda event, name: name == "data")

    def test_a_directory_above_that_is_not_synced(self):
        self.found_out("memory", "the directory above", lambda event, name: name == "")

    def test_a_state_that_is_not_synced(self):
        self.found_out("memory", "the state", lambda event, name: name.endswith("state.tmp"))

    @unittest.skipUnless("lmdb" in engines(), "no engine lmdb")
    def test_pages_of_lmdb_that_are_not_synced_before_its_commit_is(self):
        self.found_out("lmdb", "its file", lambda event, name: event.kind == "E"
                       and name.endswith("/data.mdb"))

    @unittest.skipUnless("rocksdb" in engines(), "no engine rocksdb")
    def test_tables_of_rocksdb_that_are_not_synced_before_they_are_named(self):
        self.found_out("rocksdb", "its tables", lambda event, name: event.kind == "E"
                       and name.endswith(".sst"))

    @unittest.skipUnless("rocksdb" in engines(), "no engine rocksdb")
    def test_a_manifest_of_rocksdb_that_is_not_synced(self):
        self.found_out("rocksdb", "its manifest", lambda event, name: event.kind == "E"
                       and "/MANIFEST-" in name)

    def test_what_is_not_synced_at_a_clean_stop_without_syncs_before(self):
        self.found_out("memory", "the log at the stop",
                       lambda event, name: "/log-" in name, durability="none")


if __name__ == "__main__":
    unittest.main()
