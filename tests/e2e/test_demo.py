"""scripts/demo checks whatever it shows; here it is made to run."""

import os
import signal
import subprocess
import tempfile
import unittest

from harness import CUBBYD, HERE

DEMO = os.path.join(HERE, "../../scripts/demo")


class Demo(unittest.TestCase):
    def run_demo(self, program):
        return subprocess.run([DEMO], env={**os.environ, "CUBBYD": program}, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=300)

    def test_the_demo_finds_everything_as_it_should_be(self):
        done = self.run_demo(CUBBYD)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("records equal byte for byte", done.stdout)
        self.assertIn("each with exactly one result", done.stdout)

    def test_the_demo_fails_where_the_daemon_does(self):
        done = self.run_demo("/bin/false")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^\nscripts/demo: cubbyd did not start")

    def test_a_demo_that_is_stopped_leaves_nothing_behind(self):
        for number, words in ((signal.SIGINT, "Writing the package table"), (signal.SIGTERM, "Jobs: ")):
            with tempfile.TemporaryDirectory(prefix="cubby-test-") as directory:
                demo = subprocess.Popen([DEMO], text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, start_new_session=True,
                                        env={**os.environ, "CUBBYD": CUBBYD, "TMPDIR": directory,
                                             "PYTHONUNBUFFERED": "1"})
                while words not in demo.stdout.readline():
                    self.assertIsNone(demo.poll())
                os.killpg(demo.pid, number)  # as a terminal does
                _, errors = demo.communicate(timeout=60)
                self.assertEqual((demo.returncode, errors),
                                 (128 + number, "\nscripts/demo: stopped\n"))
                self.assertEqual(os.listdir(directory), [])
                self.assertEqual(self.processes_that_name(directory), [])

    @staticmethod
    def processes_that_name(text):
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    found += [name] if text.encode() in file.read() else []
            except OSError:  # has ended
                pass
        return found

    def test_a_program_that_is_not_there_is_told(self):
        done = self.run_demo("/nowhere/cubbyd")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "\nscripts/demo: $CUBBYD is /nowhere/cubbyd, which is not there\n"))


if __name__ == "__main__":
    unittest.main()
