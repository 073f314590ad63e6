"""scripts/demo checks whatever it shows; here it is made to run."""

import os
import subprocess
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


if __name__ == "__main__":
    unittest.main()
