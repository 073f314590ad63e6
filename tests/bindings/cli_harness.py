"""A daemon of a test's own, and the command line against it."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

CUBBY = os.environ["CUBBY"]
CUBBYD = os.environ["CUBBYD"]
WAIT = 60  # seconds, for what should take none


class Daemon(unittest.TestCase):
    """Subclasses hold the tests; with `keeps` the daemon has a data directory."""

    keeps = False

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cubby-test-")
        self.endpoint = f"ipc://{self.directory}/r"
        self.broadcast = f"ipc://{self.directory}/b"
        self.children = []
        self.start()
        self.addCleanup(self.end)

    def start(self, *more):
        data = f"{self.directory}/data" if self.keeps else "none"
        self.daemon = subprocess.Popen(
            [CUBBYD, "--data", data, "--listen", self.endpoint, "--publish", self.broadcast, *more],
            stderr=subprocess.DEVNULL)
        self.assertEqual(self.run_cubby("ping", "--timeout", str(WAIT * 1000)), (0, b"pong\n"))

    def kill(self):
        self.daemon.kill()
        self.daemon.wait(WAIT)

    def end(self):
        for child in self.children:
            child.kill()
            child.communicate()
        self.daemon.terminate()
        self.daemon.wait(WAIT)
        shutil.rmtree(self.directory)

    def environment(self):
        return {**os.environ, "CUBBY_ENDPOINT": self.endpoint}

    def run_cubby(self, *arguments, stdin=b""):
        done = subprocess.run([CUBBY, *arguments], input=stdin, capture_output=True, timeout=WAIT,
                              check=False, env=self.environment())
        self.errors = done.stderr.decode()
        return done.returncode, done.stdout

    def ok(self, *arguments, stdin=b""):
        status, out = self.run_cubby(*arguments, stdin=stdin)
        self.assertEqual((status, self.errors), (0, ""), arguments)
        return out

    def begin(self, *arguments, **more):
        """A command that goes on; ended with the test."""
        child = subprocess.Popen([CUBBY, *arguments], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env={**self.environment(), **more})
        self.children.append(child)
        return child

    def finish(self, child):
        """Its exit status and output."""
        out, errors = child.communicate(timeout=WAIT)
        self.children.remove(child)
        return child.returncode, out.decode(), errors.decode()

    def wait_for(self, condition, what):
        end = time.monotonic() + WAIT
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not come about")
            time.sleep(0.02)


class Proxy:
    """Passes bytes between a unix socket of its own and another one, and can cut all that it has."""

    def __init__(self, path, target):
        self.target = target
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                ours, _ = self.listener.accept()
                theirs = socket.socket(socket.AF_UNIX)
                theirs.connect(self.target)
            except OSError:
                return
            self.pairs.append((ours, theirs))
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    @staticmethod
    def copy(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        self.cut()
