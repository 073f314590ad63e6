"""The program: options, configuration file, endpoints, start, signals, systemd."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import unittest

from harness import CUBBYD, HERE, Client, Daemon, End, Subscriber, run

EXAMPLE = os.path.join(HERE, "../../scripts/cubbyd.zpl")


class WrongUsage(unittest.TestCase):
    def assert_usage(self, *options, about="", env=None):
        status, out, err = run(*options, env=env)
        self.assertEqual(status, 2, (options, err))
        self.assertEqual(out, "")
        lines = err.strip().split("\n")
        self.assertEqual(len(lines), 1, err)
        self.assertTrue(lines[0].startswith("cubbyd: "), err)
        self.assertIn(about, lines[0])

    def test_an_unknown_option_is_wrong_usage(self):
        for option in ("--nope", "--", "-x", "nope", "--dat", "--DATA", "--data-x=1", ""):
            self.assert_usage(option)
        self.assert_usage("--nope", about="nope")

    def test_an_option_without_its_value_is_wrong_usage(self):
        for name in ("listen", "publish", "publish-queue", "data", "engine", "durability", "sync-interval",
                     "log-retain", "checkpoint-size", "checkpoint-interval", "memory-limit",
                     "eviction", "config"):
            self.assert_usage(f"--{name}", about=name)
        self.assert_usage("--verbose=1", about="verbose")

    def test_a_size_is_a_number_with_k_m_or_g(self):
        for size in ("", "x", "-1", "1.5M", "1T", "1KB", "1 K", "K", "0x10", "99999999999G",
                     "18446744073709551616", "1k"):
            self.assert_usage("--data", "none", "--log-retain", size, about="log-retain")
            self.assert_usage("--data", "none", "--memory-limit", size, about="memory-limit")
            self.assert_usage("--publish-queue", size, about="publish-queue")

    def test_a_value_that_does_not_exist_is_wrong_usage(self):
        for name, value in (("engine", "nope"), ("engine", ""), ("durability", "sometimes"),
                            ("eviction", "lru"), ("sync-interval", "0"), ("sync-interval", "x"),
                            ("sync-interval", "-5"), ("listen", "nowhere"), ("listen", ""),
                            ("publish", "http://127.0.0.1:1"), ("publish-queue", "15M"),
                            ("data", "")):
            self.assert_usage(f"--{name}", value, about=name)

    def test_what_contradicts_itself_is_wrong_usage(self):
        self.assert_usage("--data", "none", "--durability", "always")
        self.assert_usage("--data", "none", "--durability", "interval")
        self.assert_usage("--data", "none", "--engine", "lmdb")
        self.assert_usage("--data", "none", "--engine", "rocksdb")
        self.assert_usage("--sync-interval", "100", "--durability", "always")
        self.assert_usage("--sync-interval", "100")
        self.assert_usage("--data", "none", "--data", "/tmp/x")
        self.assert_usage("--engine", "memory", "--engine", "memory")

    def test_without_a_home_the_data_directory_has_to_be_named(self):
        self.assert_usage(env={"HOME": "", "XDG_STATE_HOME": "", "CUBBY_DATA": ""}, about="--data")


class Information(unittest.TestCase):
    OPTIONS = ("config", "listen", "publish", "publish-queue", "data", "engine", "durability",
               "sync-interval", "log-retain", "checkpoint-size", "checkpoint-interval", "memory-limit", "eviction",
               "restore", "check", "salvage", "verbose", "version", "help")
    COMMAND_LINE_ONLY = {"config", "restore", "check", "salvage", "version", "help"}

    def test_help_has_its_texts_in_one_column(self):
        _, out, _ = run("--help")
        rows = [line for line in out.splitlines() if line.startswith("  --")]
        begins = {re.match(r"  --[a-z-]+( [A-Z]+)? +", row).end() for row in rows}
        self.assertEqual(len(begins), 1, out)

    def test_help_names_every_option(self):
        status, out, err = run("--help")
        self.assertEqual((status, err), (0, ""))
        for name in self.OPTIONS:
            self.assertRegex(out, rf"(?m)--{name}\b")

    def test_version_is_one_line(self):
        status, out, err = run("--version")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"^cubbyd \d+\.\d+\.\d+\n$")

    def test_hello_says_the_same_version(self):
        _, out, _ = run("--version")
        with Daemon(data="none") as daemon, Client(daemon) as client:
            self.assertEqual(client.call("hello")["version"], out.split()[1])


class Endpoints(unittest.TestCase):
    def assert_serves(self, daemon):
        for endpoint in daemon.requests:
            with Client(daemon, endpoint=endpoint) as client:
                self.assertIs(client.call("ping"), True)
        for endpoint in daemon.broadcasts:
            with Subscriber(daemon, endpoint=endpoint) as subscriber:
                subscriber.welcome().heartbeat()

    def test_tcp_with_any_free_port_is_named_by_its_real_port(self):
        with Daemon(listen=["tcp://127.0.0.1:*"], publish=["tcp://127.0.0.1:*"]) as daemon:
            self.assertRegex(daemon.endpoint, r"^tcp://127\.0\.0\.1:\d+$")
            self.assertRegex(daemon.broadcast, r"^tcp://127\.0\.0\.1:\d+$")
            self.assert_serves(daemon)

    def test_several_endpoints_of_each_socket_serve_the_same(self):
        with tempfile.TemporaryDirectory(prefix="cubby-") as directory, Daemon(
            listen=[f"ipc://{directory}/r1", "tcp://127.0.0.1:*", f"ipc://{directory}/r2"],
            publish=["tcp://127.0.0.1:*", f"ipc://{directory}/p"], data="none",
        ) as daemon:
            self.assertEqual((len(daemon.requests), len(daemon.broadcasts)), (3, 2))
            self.assert_serves(daemon)
            with Client(daemon, endpoint=daemon.requests[0]) as writer, \
                    Client(daemon, endpoint=daemon.requests[1]) as reader, \
                    Subscriber(daemon, b"key", endpoint=daemon.broadcasts[0]) as one, \
                    Subscriber(daemon, b"key", endpoint=daemon.broadcasts[1]) as other:
                one.welcome()
                other.welcome()
                writer.call("put", "key", 1)
                self.assertEqual(reader.call("get", "key")[0], 1)
                self.assertEqual(one.changes(1), other.changes(1))

    def test_an_endpoint_in_use_ends_the_start_with_1(self):
        with Daemon(listen=["tcp://127.0.0.1:*"], publish=["tcp://127.0.0.1:*"]) as daemon:
            for options in (["--listen", daemon.endpoint, "--publish", "tcp://127.0.0.1:*"],
                            ["--publish", daemon.broadcast, "--listen", "tcp://127.0.0.1:*"]):
                status, _, err = run("--data", "none", *options)
                self.assertEqual(status, 1, err)
                self.assertRegex(err, r"^cubbyd: [^\n]*127\.0\.0\.1[^\n]*\n$")

    def test_an_endpoint_that_cannot_be_bound_ends_the_start_with_1(self):
        for endpoint in ("tcp://192.0.2.1:1", "ipc:///no/such/directory/socket", "tcp://127.0.0.1",
                         "tcp://127.0.0.1:99999", "tcp://nonsense"):
            status, _, err = run("--data", "none", "--listen", endpoint,
                                 "--publish", "tcp://127.0.0.1:*")
            self.assertIn(status, (1, 2), err)
            self.assertRegex(err, r"^cubbyd: [^\n]*\n$")
            self.assertIn(endpoint, err)

    def test_a_failed_start_leaves_the_data_directory_free(self):
        with Daemon() as other, tempfile.TemporaryDirectory(prefix="cubby-") as directory:
            status, _, _ = run("--data", directory + "/data", "--publish", "tcp://127.0.0.1:*",
                               "--listen", "ipc:///no/such/directory/socket")
            self.assertEqual(status, 1)
            self.assertTrue(other.alive())
            with Daemon(data=directory + "/data") as daemon, Client(daemon) as client:
                self.assertIs(client.call("ping"), True)

    def test_loopback_prints_no_warning(self):
        with Daemon(listen=["tcp://127.0.0.1:*"], publish=["tcp://127.0.0.1:*"]) as daemon:
            self.assertEqual([line for line in daemon.lines if "warn" in line.lower()], [])


    def test_an_ipc_endpoint_of_a_running_daemon_is_not_taken_over(self):
        with Daemon(data="none") as first, Client(first) as client:
            for option, other in (("--listen", "--publish"), ("--publish", "--listen")):
                for taken in (first.endpoint, first.broadcast):
                    status, _, err = run("--data", "none", option, taken, other, "tcp://127.0.0.1:*")
                    self.assertEqual(status, 1, err)
                    self.assertIn(f"cannot serve {taken}: Address already in use; give another one", err)
            self.assertIs(client.call("ping"), True)
            with Client(first) as another:
                self.assertIs(another.call("ping"), True)

    def test_an_ipc_endpoint_that_a_killed_daemon_has_left_is_taken(self):
        with Daemon(data="none") as daemon:
            daemon.kill()
            self.assertTrue(os.path.exists(daemon.endpoint.removeprefix("ipc://")))
            daemon.start()
            with Client(daemon) as client:
                self.assertIs(client.call("ping"), True)

    def test_a_file_that_is_no_socket_is_not_removed_for_an_endpoint(self):
        with tempfile.NamedTemporaryFile() as file:
            status, _, err = run("--data", "none", "--listen", f"ipc://{file.name}",
                                 "--publish", "tcp://127.0.0.1:*")
            self.assertEqual(status, 1, err)
            self.assertIn(f"cannot serve ipc://{file.name}: File exists; give another one", err)
            self.assertTrue(os.path.exists(file.name))


class Data(unittest.TestCase):
    def default_directory(self, **env):
        """Where a start without --data keeps its data."""
        with tempfile.TemporaryDirectory(prefix="cubby-") as home:
            env = {name: value.replace("HOME", home) for name, value in env.items()}
            defaults = {"HOME": home, "XDG_STATE_HOME": "", "CUBBY_DATA": ""}
            daemon = Daemon(env={**defaults, **env})
            with contextlib.closing(_Cleaner(daemon)):
                command = daemon.command
                at = command.index("--data")
                daemon.start(command[:at] + command[at + 2:])
                with Client(daemon) as client:
                    client.call("put", "key", 1)
                daemon.stop()
            found = [directory for directory, _, files in os.walk(home) if files]
            self.assertEqual(len(found), 1, found)
            return os.path.relpath(found[0], home)

    def test_the_data_directory_comes_from_the_environment(self):
        self.assertEqual(self.default_directory(), ".local/state/cubby")
        self.assertEqual(self.default_directory(XDG_STATE_HOME="HOME/state"), "state/cubby")
        self.assertEqual(
            self.default_directory(XDG_STATE_HOME="HOME/state", CUBBY_DATA="HOME/a/b"), "a/b")

    def test_data_none_leaves_nothing_behind(self):
        with tempfile.TemporaryDirectory(prefix="cubby-") as home:
            daemon = Daemon(data="none", env={"HOME": home, "CUBBY_DATA": home + "/no"})
            with daemon, Client(daemon) as client:
                client.call("put", "key", 1)
                daemon.stop()
            self.assertEqual(os.listdir(home), [])

    def test_the_data_directory_is_for_its_owner_alone(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.call("put", "key", 1)
            for directory, _, files in os.walk(daemon.data):
                for name in ["."] + files:
                    mode = os.stat(os.path.join(directory, name)).st_mode
                    self.assertEqual(mode & 0o077, 0, name)


class _Cleaner:
    def __init__(self, daemon):
        self.close = daemon.clean


class Configuration(unittest.TestCase):
    def file(self, text):
        handle, path = tempfile.mkstemp(prefix="cubby-", suffix=".zpl")
        self.addCleanup(os.unlink, path)
        with os.fdopen(handle, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path

    def start(self, text, *options):
        daemon = Daemon()
        self.addCleanup(daemon.clean)
        text = text.replace("DIRECTORY", daemon.directory)
        daemon.start([CUBBYD, "--config", self.file(text), *options])
        return daemon

    def assert_wrong(self, text, *about, options=()):
        path = self.file(text)
        status, out, err = run("--config", path, "--data", "none", *options)
        self.assertEqual(status, 2, (text, err))
        self.assertEqual(out, "")
        lines = err.strip().split("\n")
        self.assertEqual(len(lines), 1, err)
        for word in (path, *about):
            self.assertIn(word, lines[0])

    def test_every_option_has_the_same_name_in_the_file(self):
        daemon = self.start('''#   A comment
listen = "ipc://DIRECTORY/r1"
listen = ipc://DIRECTORY/r2

publish = 'ipc://DIRECTORY/p'
data = DIRECTORY/data   # another comment
engine = memory
durability = interval
sync-interval = 50
log-retain = 8M
publish-queue = 32M
memory-limit = 1G
eviction = none
verbose = true
''')
        self.assertEqual(daemon.requests, (f"ipc://{daemon.directory}/r1",
                                           f"ipc://{daemon.directory}/r2"))
        self.assertEqual(daemon.broadcasts, (f"ipc://{daemon.directory}/p",))
        with Client(daemon, endpoint=daemon.requests[1]) as client:
            client.call("put", "key", 1)
        self.assertTrue(os.path.isdir(daemon.directory + "/data"))
        daemon.stop()

    def test_the_command_line_wins(self):
        daemon = self.start("listen = ipc://DIRECTORY/file\npublish = ipc://DIRECTORY/p\n"
                            "data = DIRECTORY/data\n", "--listen", "tcp://127.0.0.1:*",
                            "--data", "none")
        self.assertEqual(len(daemon.requests), 1)
        self.assertRegex(daemon.endpoint, "^tcp://")
        self.assertFalse(os.path.exists(daemon.directory + "/data"))
        self.assertFalse(os.path.exists(daemon.directory + "/file"))

    def test_an_unknown_name_is_refused_with_its_line(self):
        self.assert_wrong("# comment\nverbose = true\nlistn = tcp://127.0.0.1:1\n", ":3", "listn")
        self.assert_wrong("config = other\n", ":1", "config")
        self.assert_wrong("sync_interval = 5\n", ":1", "sync_interval")

    def test_a_bad_value_is_refused_with_its_line(self):
        self.assert_wrong("\n\nlog-retain = 5X\n", ":3", "log-retain")
        self.assert_wrong("durability = perhaps\n", ":1", "durability")
        self.assert_wrong("verbose = perhaps\n", ":1", "verbose")
        self.assert_wrong("engine = \n", ":1", "engine")
        self.assert_wrong("engine = memory\nengine = memory\n", ":2", "engine")

    def test_what_is_not_zpl_is_refused_with_its_line(self):
        self.assert_wrong("verbose = true\n= 5\n", ":2")
        self.assert_wrong('verbose = true\nlog-retain = "5M\n', ":2")
        self.assert_wrong("verbose = true\nserver\n    listen = tcp://127.0.0.1:1\n", ":")
        self.assert_wrong(b"\x00\x01\x02", ":1")
        self.assert_wrong("x" * 100000, ":1")

    def test_what_has_no_end_is_no_configuration(self):
        status, _, err = run("--data", "none", "--config", "/dev/zero")
        self.assertEqual((status, err), (2, "cubbyd: /dev/zero:1: is longer than 1023 bytes\n"))

    def test_a_file_that_cannot_be_read_is_wrong_usage(self):
        for path in ("/no/such/file", "/", ""):
            status, _, err = run("--data", "none", "--config", path)
            self.assertEqual(status, 2, err)
            self.assertRegex(err, r"^cubbyd: [^\n]+\n$")

    def test_contradictions_between_file_and_command_line_are_wrong_usage(self):
        path = self.file("durability = always\n")
        status, _, err = run("--config", path, "--data", "none")
        self.assertEqual(status, 2, err)

    def test_the_example_file_is_one_and_its_options_are_known(self):
        with open(EXAMPLE, encoding="utf-8") as file:
            example = file.read()
        names = set(re.findall(r"(?m)^#?([a-z-]+) = ", example))
        self.assertEqual(names, set(Information.OPTIONS) - Information.COMMAND_LINE_ONLY)
        given = re.sub(r"(?m)^#([a-z-]+ = )", r"\1", example)
        given = given.replace('durability = "always"', "durability = interval")
        daemon = self.start(given, "--listen", "tcp://127.0.0.1:*", "--publish",
                            "tcp://127.0.0.1:*", "--data", tempfile.mkdtemp(prefix="cubby-"))
        self.addCleanup(subprocess.run, ["rm", "-r", daemon.process.args[-1]], check=True)
        daemon.stop()
        daemon = self.start(example, "--listen", "tcp://127.0.0.1:*", "--publish",
                            "tcp://127.0.0.1:*", "--data", "none")
        daemon.stop()


class Signals(unittest.TestCase):
    def test_sigterm_and_sigint_end_it_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Daemon() as daemon, Client(daemon) as client:
                client.call("put", "key", 1)
                daemon.stop(number)

    def test_a_signal_right_after_the_start_ends_it_with_0(self):
        with Daemon(data="none") as daemon:
            daemon.stop()

    def test_requests_that_came_before_the_signal_are_all_answered_or_none_is_half_done(self):
        with Daemon() as daemon:
            with Client(daemon, RCVHWM=0, SNDHWM=0) as client:
                end = End(self, client)
                client.call("ping")
                for number in range(2000):
                    client.send_request(number, "put", f"key{number:05}", number)
                daemon.process.send_signal(signal.SIGTERM)
                self.assertEqual(daemon.wait(), 0)
                answered = len(list(end.messages()))
            daemon.start()
            with Client(daemon) as client:
                count = client.call("count")
                self.assertGreaterEqual(count, answered)
                self.assertEqual(client.call("hello")["seq"], count)
                keys = client.call("scan", {"keys_only": True, "limit": 10000})["entries"]
                self.assertEqual(keys, [f"key{number:05}" for number in range(count)])

    def test_a_terminal_that_goes_ends_it_cleanly_unless_nohup_says_otherwise(self):
        with Daemon() as daemon, Client(daemon) as client:
            client.call("put", "key", 1)
            daemon.stop(signal.SIGHUP)
            with open(os.path.join(daemon.data, "state"), encoding="ascii") as file:
                self.assertIn("stopped cleanly\n", file.read())
        with Daemon(data="none", limits=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as daemon, \
                Client(daemon) as client:
            daemon.process.send_signal(signal.SIGHUP)
            self.assertIs(client.call("ping"), True)
            daemon.stop()

    def test_sigpipe_does_not_end_it(self):
        with Daemon(data="none") as daemon, Client(daemon) as client:
            daemon.process.send_signal(signal.SIGPIPE)
            self.assertIs(client.call("ping"), True)

    def test_the_socket_files_of_ipc_may_be_left_by_a_killed_daemon(self):
        with Daemon() as daemon:
            daemon.kill()
            daemon.start()
            with Client(daemon) as client:
                self.assertIs(client.call("ping"), True)


class Systemd(unittest.TestCase):
    def test_it_tells_systemd_when_it_serves_and_when_it_stops(self):
        with tempfile.TemporaryDirectory(prefix="cubby-") as directory, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = os.path.join(directory, "notify")
            notify.bind(path)
            notify.settimeout(30)
            with Daemon(data="none", env={"NOTIFY_SOCKET": path}) as daemon:
                self.assertIn("READY=1", self.message(notify, "READY=1"))
                with Client(daemon) as client:
                    self.assertIs(client.call("ping"), True)
                daemon.stop()
                self.assertIn("STOPPING=1", self.message(notify, "STOPPING=1"))

    @staticmethod
    def message(notify, what):
        """Lines of the first message that says it."""
        while True:
            lines = notify.recv(4096).decode().split("\n")
            if what in lines:
                return lines

    def test_without_systemd_it_needs_none(self):
        with Daemon(data="none", env={"NOTIFY_SOCKET": "/no/such/socket"}) as daemon:
            daemon.stop()


class OpenFiles(unittest.TestCase):
    def test_it_raises_its_limit_of_open_files(self):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = min(hard, 4096)

        def limits():
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

        with Daemon(data="none", limits=limits) as daemon:
            with open(f"/proc/{daemon.process.pid}/limits", encoding="ascii") as file:
                match = re.search(r"Max open files\s+(\d+)\s+(\d+)", file.read())
            self.assertEqual(match.group(1), match.group(2))


class Output(unittest.TestCase):
    def run_shell(self, script):
        done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False,
                              env={**os.environ, "CUBBYD": CUBBYD})
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_help_that_cannot_be_written_is_a_failure(self):
        for option in ("--help", "--version"):
            self.assertEqual(
                self.run_shell(f"$CUBBYD {option} > /dev/full"),
                (1, "", "cubbyd: cannot write to standard output: No space left on device\n"))

    def test_too_few_open_files_are_refused_with_a_line(self):
        status, out, err = self.run_shell("ulimit -n 12; $CUBBYD --data none")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("only 12 files may be open at once", err)

    def test_it_serves_where_its_standard_files_are_closed(self):
        with tempfile.TemporaryDirectory() as directory:
            endpoint = f"ipc://{directory}/r"
            daemon = subprocess.Popen(["sh", "-c", f"exec {CUBBYD} --data none --listen {endpoint} "
                                       f"--publish ipc://{directory}/p <&- >&- 2>&-"])
            try:
                with Client(None, endpoint=endpoint) as client:
                    self.assertIs(client.call("ping"), True)
            finally:
                daemon.terminate()
                self.assertEqual(daemon.wait(60), 0)

    def test_the_ready_line_is_the_only_line_of_a_plain_start(self):
        with Daemon() as daemon:
            with Client(daemon) as client:
                client.call("put", "key", 1)
            self.assertEqual(len(daemon.lines), 1, daemon.stderr)

    def test_a_verbose_start_says_what_it_read_from_the_log(self):
        with Daemon("--verbose") as daemon:
            with Client(daemon) as client:
                for number in range(3):
                    client.call("put", "key", number)
            daemon.kill()
            daemon.start()
            # One for each put, and the ids that the first start reserved for queues.
            self.assertRegex(daemon.wait_for_line("cubbyd: read"),
                             r"^cubbyd: read 4 records of the log in \d+ ms$")

    def test_it_goes_on_when_nobody_reads_its_standard_error_any_more(self):
        daemon = Daemon("--verbose", data="none")
        with contextlib.closing(_Cleaner(daemon)):
            daemon.process = process = subprocess.Popen(daemon.command, stderr=subprocess.PIPE)
            while not process.stderr.readline().startswith(b"cubbyd: ready"):
                self.assertIsNone(process.poll())
            process.stderr.close()
            daemon.requests = daemon.listen
            for _ in range(5):
                with Client(daemon) as client:
                    client.send(b"", b"", b"", b"")
                    client.receive()
            with Client(daemon) as client:
                self.assertIs(client.call("ping"), True)
            process.terminate()
            self.assertEqual(process.wait(30), 0)


if __name__ == "__main__":
    unittest.main()
