"""What the README shows: its lines run as they are printed, and say what it says."""

import os
import re
import shlex
import subprocess
import sys
import unittest

from cli_harness import WAIT, Daemon

SOURCE = os.environ["CUBBY_SOURCE"]
PRINTED = "tcp://127.0.0.1:7420"
FOR_EVER = ("cubby watch", "cubby queue work")


def readme():
    with open(f"{SOURCE}/README.md", encoding="utf-8") as page:
        return page.read()


class Readme(Daemon):
    def run_python(self, text):
        self.assertIn(PRINTED, text)
        done = subprocess.run([sys.executable, "-c", text.replace(PRINTED, self.endpoint)],
                              capture_output=True, timeout=WAIT, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().splitlines()

    def test_the_lines_of_protocol_print_what_is_beside_them(self):
        for text in re.findall(r"```python\n(.*?)```", readme(), re.S):
            printing = [line for line in text.splitlines() if "print(" in line]
            printed = self.run_python(text)
            self.assertEqual(len(printed), len(printing))
            for line, out in zip(printing, printed):
                if "  # " in line:
                    self.assertEqual(out, line.rsplit("  # ", 1)[1])

    def test_the_commands_among_them_run_in_their_order(self):
        section = readme().split("## Five lines of protocol")[1].split("\n## ")[0]
        commands = [command for command in re.findall(r"`(cubby [^`]*)`", section)
                    if not command.startswith(FOR_EVER)]
        self.assertGreater(len(commands), 3)
        for command in commands:
            self.ok(*shlex.split(command)[1:])


if __name__ == "__main__":
    unittest.main()
