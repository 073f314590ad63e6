"""The command line against the daemon: what it prints and how it exits."""

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import msgpack

from cli_harness import CUBBY, CUBBYD, WAIT, Daemon


class Cli(Daemon):
    def test_a_value_comes_back_as_it_was_put(self):
        for value in ('{"a":[1,2.5,null,true]}', "18446744073709551615", '"text"', "5.0",
                      '{"$bin":"AAEC"}', '{"$map":[[1,2]]}', '{"$ext":[-1,"AAAAAQ=="]}'):
            self.ok("put", "k", value)
            self.assertEqual(self.ok("get", "k").decode(), value + "\n")

    def test_put_prints_the_version_and_get_can_print_everything(self):
        self.assertEqual(self.ok("put", "k", "1"), b"1\n")
        self.assertEqual(self.ok("put", "k", "2", "--previous"), b"2\t1\n")
        self.assertEqual(json.loads(self.ok("get", "k", "--json")), [2, 2, None])
        self.assertEqual(self.run_cubby("get", "absent", "--json"), (1, b"null\n"))

    def test_raw_values_are_kept_byte_for_byte(self):
        for value in (b"hello", b"", b"\x00\xff\n", "gr\u00fcn".encode()):
            self.ok("put", "k", "-", "--raw", stdin=value)
            self.assertEqual(self.ok("get", "k", "--raw"), value)
        self.ok("put", "k", "argument", "--raw")
        self.assertEqual(self.ok("get", "k"), b'"argument"\n')

    def test_msgpack_values_are_kept_byte_for_byte(self):
        encoded = b"\xca\x40\x00\x00\x00"  # a float of 32 bits
        self.ok("put", "k", "-", "--msgpack", stdin=encoded)
        self.assertEqual(self.ok("get", "k", "--msgpack"), encoded)
        self.assertEqual(self.ok("get", "k"), b"2.0\n")
        for bad in (b"", b"\x01\x01", b"\xc1", b"\x92\x01"):
            self.assertEqual(self.run_cubby("put", "k", "-", "--msgpack", stdin=bad), (2, b""))

    def test_absent_keys_exit_1(self):
        self.assertEqual(self.run_cubby("get", "k"), (1, b""))
        self.assertEqual(self.run_cubby("delete", "k"), (1, b""))
        self.assertEqual(self.run_cubby("touch", "k", "1000"), (1, b""))
        self.ok("put", "k", "7")
        self.ok("touch", "k", "100000")
        self.ok("touch", "k", "none")
        self.assertEqual(self.ok("delete", "k", "--previous"), b"7\n")

    def test_wrong_usage_exits_2_and_says_why(self):
        for arguments in ((), ("nope",), ("get",), ("put", "k", "{"), ("put", "k", "1", "--ttl"),
                          ("incr", "k", "x"), ("touch", "k", "soon"), ("batch", "{}"),
                          ("batch", "["), ("call", "get", "5"), ("bench", "--workload", "x"),
                          ("bench", "--distribution", "x"), ("bench", "--keys", "0"),
                          ("bench", "--threads", "3", "--connections", "2"),
                          ("--connect", "nonsense", "ping")):
            self.assertEqual(self.run_cubby(*arguments), (2, b""), arguments)
            self.assertTrue(self.errors.startswith("cubby: "), self.errors)

    def test_wrong_usage_names_the_option_its_bounds_and_the_help_to_read(self):
        for arguments, said in (
                (("queue", "psh"), "no such command: queue psh (see cubby queue --help)"),
                (("scan", "--limit", "5x"),
                 "--limit takes a number from 0 to 2^64-1: 5x (see cubby scan --help)"),
                (("scan", "--limit"), "--limit needs its value: N (see cubby scan --help)"),
                (("get", "k", "--ttl", "5"), "--ttl is not an option of: get (see cubby get --help)"),
                (("put", "k", "1", "--raw", "--msgpack"),
                 "--raw does not go with: --msgpack (see cubby put --help)"),
                (("queue", "reserve", "q", "--count", "0"), "--count is 1 to 1000: 0"),
                (("queue", "reserve", "q", "--count", "1001"), "--count is 1 to 1000: 1001"),
                (("queue", "pop", "q", "--count", "1001"), "--count is 1 to 1000: 1001"),
                (("queue", "kick", "q", "--count", "10001"), "--count is 1 to 10000: 10001"),
                (("queue", "work", "q", "--jobs", "0", "--", "true"), "--jobs is 1 to 1000: 0"),
                (("bench", "--reads", "101"), "--reads is 1 to 100: 101")):
            self.assertEqual(self.run_cubby(*arguments), (2, b""), arguments)
            self.assertEqual(self.errors, f"cubby: {said}\n")

    def test_an_endpoint_that_leads_nowhere_is_refused_by_its_option_and_name(self):
        for options, said in (
                (("--connect", "foo"), "--connect 'foo': not an endpoint of cubbyd: give tcp://HOST:PORT or ipc://PATH"),
                (("--broadcast", "foo"), "--broadcast 'foo': not an endpoint of cubbyd: give tcp://HOST:PORT or ipc://PATH"),
                (("--broadcast", ""), "--broadcast '': not an endpoint of cubbyd: give tcp://HOST:PORT or ipc://PATH"),
                (("--connect", "ws://127.0.0.1:7420"),
                 "--connect 'ws://127.0.0.1:7420': not an endpoint of cubbyd: give tcp://HOST:PORT or ipc://PATH"),
                (("--broadcast", "tcp://127.0.0.1"),
                 "--broadcast 'tcp://127.0.0.1': there is no port from 1 to 65535 at its end"),
                (("--connect", "tcp://127.0.0.1:65536"),
                 "--connect 'tcp://127.0.0.1:65536': there is no port from 1 to 65535 at its end"),
                (("--connect", "tcp://:7420"), "--connect 'tcp://:7420': there is no host before its port"),
                (("--connect", "ipc://"), "--connect 'ipc://': there is no name in it"),
                (("--connect", "inproc://a"), "inproc://a: Invalid argument")):
            for command in (("get", "k"), ("bench",), ("watch",)):
                self.assertEqual(self.run_cubby(*options, *command), (2, b""), (options, command))
                self.assertEqual(self.errors, f"cubby: {said}\n")

    def test_an_endpoint_of_the_environment_is_refused_by_its_variable(self):
        self.endpoint, endpoint = "udp://127.0.0.1:1", self.endpoint
        self.assertEqual(self.run_cubby("ping"), (2, b""))
        self.endpoint = endpoint
        self.assertTrue(self.errors.startswith("cubby: $CUBBY_ENDPOINT 'udp://127.0.0.1:1': "), self.errors)

    def test_a_minus_is_standard_output_of_export_and_backup_and_standard_input_of_import(self):
        with tempfile.TemporaryDirectory() as directory:
            for number in range(3):
                self.ok("put", f"a{number}", str(number))
            self.ok("export", f"{directory}/file")
            self.ok("backup", f"{directory}/backup")
            exported = self.ok("export", "-")
            with open(f"{directory}/file", "rb") as file:
                self.assertEqual(exported, file.read())
            self.assertEqual(self.ok("backup", "-")[:13], b"\x87\xaccubby-backu"[:13])
            self.ok("delete-range", "--prefix", "")
            self.assertEqual(self.run_cubby("import", "-", stdin=exported[:-1]), (5, b""))
            self.assertIn("cubby: standard input is damaged at offset ", self.errors)
            self.assertEqual(self.run_cubby("import", "-"), (5, b""))
            self.assertIn("cubby: standard input is not an export", self.errors)
            self.assertEqual(self.ok("count"), b"0\n")
            self.assertEqual(self.ok("import", "-", stdin=exported), b"3 keys\n")
            self.assertEqual(self.ok("get", "a2"), b"2\n")

    def test_a_minus_is_refused_where_it_cannot_be_a_file(self):
        for arguments, said in (
                (("export", "-", "--resume"),
                 "--resume needs a FILE: what went to standard output is not there any more"),
                (("mirror", "", "-"), "mirror: FILE is replaced whole at every change, so it is not "
                                      "standard output (cubby export - is)"),
                (("restore", "-", "data"), "restore: FILE is read twice, so it is not standard input")):
            self.assertEqual(self.run_cubby(*arguments), (2, b""), arguments)
            self.assertEqual(self.errors, f"cubby: {said}\n")

    def test_an_export_that_cannot_be_written_out_fails(self):
        self.ok("put", "k", "1")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CUBBY, "export", "-"], stdout=full, stderr=subprocess.PIPE, timeout=WAIT,
                                  check=False, env=self.environment())
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (5, "cubby: cannot write standard output: No space left on device\n"
                             "cubby: stopped; what was written is no whole export\n"))

    def test_a_daemon_on_ipv6_is_reached_by_its_address_in_brackets(self):
        daemon = subprocess.Popen([CUBBYD, "--data", "none", "--listen", "tcp://[::1]:*", "--publish",
                                   "tcp://[::1]:*"], stderr=subprocess.PIPE, text=True)
        try:
            line = daemon.stderr.readline()
            if "ready" not in line:
                self.skipTest(line)
            endpoint, broadcast = re.findall(r"tcp://\[::1\]:\d+", line)
            self.ok("--connect", endpoint, "put", "k", "1")
            self.assertEqual(self.ok("--connect", endpoint, "--broadcast", broadcast, "changes", "--follow",
                                     "--since", "0", "--limit", "1"), b"1\tput\tk\t1\n")
        finally:
            daemon.terminate()
            daemon.communicate(timeout=WAIT)

    def test_an_empty_variable_names_no_endpoint(self):
        self.endpoint, endpoint = "", self.endpoint
        status, _ = self.run_cubby("ping", "--timeout", "1")
        self.endpoint = endpoint
        self.assertNotIn("not an endpoint", self.errors)
        self.assertIn(status, (0, 4))

    def run_shell(self, script):
        """A script in which $CUBBY is the program; its exit status and what it said."""
        done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=WAIT, check=False,
                              env={**self.environment(), "CUBBY": CUBBY})
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_a_standard_input_that_is_closed_is_not_an_empty_value(self):
        said = "cubby: reading standard input: Bad file descriptor\n"
        for command in ("put k - --raw", "batch", "queue push q - --raw"):
            self.assertEqual(self.run_shell(f"$CUBBY {command} <&-"), (5, "", said))
        self.assertEqual(self.run_shell("$CUBBY queue push q --lines <&-"),
                         (5, "", said + "cubby: stopped after 0 jobs\n"))
        self.assertEqual(self.ok("count"), b"0\n")

    def test_output_that_cannot_be_written_is_said(self):
        for command in ("--help", "--version", "ping", "scan"):
            self.ok("put", "k", "1")
            self.assertEqual(self.run_shell(f"$CUBBY {command} > /dev/full"),
                             (5, "", "cubby: writing: No space left on device\n"))
        with tempfile.TemporaryDirectory() as directory:
            self.ok("put", "k", "-", "--raw", stdin=b"x" * 100000)
            self.assertEqual(self.run_shell(f"ulimit -f 1; $CUBBY backup {directory}/backup"),
                             (5, "", f"cubby: cannot write {directory}/backup.part: File too large\n"))

    def test_a_file_that_cannot_become_one_is_refused_before_anything_is_written(self):
        with tempfile.TemporaryDirectory() as directory:
            for arguments in (("export", directory), ("export", directory, "--force"),
                              ("backup", directory, "--force"), ("export", directory, "--resume")):
                self.assertEqual(self.run_cubby(*arguments), (2, b""), arguments)
                self.assertEqual(self.errors, f"cubby: {directory} is a directory: give a file\n")
            self.assertEqual(self.run_cubby("export", ""), (2, b""))
            self.assertEqual(self.errors, "cubby: FILE is an empty name\n")

    def test_without_descriptors_left_it_is_not_the_usage_that_is_wrong(self):
        status, out, errors = self.run_shell("ulimit -n 8; $CUBBY ping")
        self.assertEqual((status, out, errors), (5, "", f"cubby: {self.endpoint}: Too many open files\n"))

    def test_help_is_there_by_its_short_name_and_says_where_options_may_stand(self):
        self.assertEqual(self.ok("-h"), self.ok("--help"))
        self.assertEqual(self.ok("queue", "-h"), self.ok("queue", "--help"))
        self.assertEqual(self.run_cubby("get", "-h"), (1, b""))  # a key may be called so
        self.assertTrue(self.ok("queue", "work", "--help").decode().startswith(
            "Usage: cubby queue work [OPTION]… QUEUE… -- COMMAND…\n"))

    def test_errors_of_the_daemon_exit_3_with_code_and_detail(self):
        self.ok("put", "k", '"text"')
        self.assertEqual(self.run_cubby("incr", "k"), (3, b""))
        self.assertTrue(self.errors.startswith("cubby: wrong_type: "), self.errors)
        self.assertEqual(self.run_cubby("put", "k", "1", "--if-version", "9"), (3, b""))
        self.assertTrue(self.errors.startswith("cubby: conflict: "), self.errors)
        self.assertIn("version 1", self.errors)
        self.assertEqual(self.run_cubby("put", "k", "1", "--if-absent"), (3, b""))
        self.assertEqual(self.run_cubby("delete-range"), (3, b""))
        self.assertEqual(self.run_cubby("get", "k" * 1025), (3, b""))
        self.assertIn("limit 1024", self.errors)
        self.assertIn("key: over the limit of 1024 bytes", self.errors)
        self.assertEqual(self.run_cubby("call", "nope"), (3, b""))

    def test_no_answer_exits_4(self):
        self.daemon.send_signal(signal.SIGSTOP)
        self.addCleanup(self.daemon.send_signal, signal.SIGCONT)
        self.assertEqual(self.run_cubby("--timeout", "100", "get", "k"), (4, b""))
        self.assertTrue(self.errors.startswith(f"cubby: timeout: no reply from {self.endpoint} within "
                                               "100 ms"), self.errors)
        self.assertIn("is cubbyd running there?", self.errors)

    def test_output_that_cannot_be_written_exits_5(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CUBBY, "ping"], stdout=full, stderr=subprocess.PIPE,
                                  env=self.environment(), timeout=WAIT)
        self.assertEqual(done.returncode, 5)

    def test_output_that_is_closed_exits_5(self):
        self.ok("put", "k", "1")
        for command in ("scan", "ping"):
            done = subprocess.run(["sh", "-c", f"exec {CUBBY} {command} <&- >&-"], env=self.environment(),
                                  stderr=subprocess.PIPE, timeout=WAIT, check=False)
            self.assertEqual(done.returncode, 5, done.stderr)

    def test_a_request_over_the_limit_is_not_sent_and_says_how_much_it_is(self):
        self.assertEqual(self.run_cubby("put", "k", "-", "--raw", stdin=bytes(9 << 20)), (3, b""))
        self.assertIn("too_large: a request of 94", self.errors)
        self.assertIn("limit 8388608", self.errors)
        self.assertEqual(self.run_cubby("get", "k"), (1, b""))

    def test_incr_counts(self):
        self.assertEqual(self.ok("incr", "n"), b"1\n")
        self.assertEqual(self.ok("incr", "n", "-5"), b"-4\n")
        self.assertEqual(self.ok("incr", "m", "2", "--initial", "40"), b"42\n")
        self.assertEqual(self.ok("incr", "big", "18446744073709551615"),
                         b"18446744073709551615\n")
        self.assertEqual(json.loads(self.ok("incr", "n", "--json")), [-3, 5])

    def test_scan_prints_a_line_for_each_entry_of_all_pages(self):
        operations = [["put", [f"k{i:04d}", i]] for i in range(2500)]
        self.ok("batch", stdin=json.dumps(operations).encode())
        lines = self.ok("scan").decode().splitlines()
        self.assertEqual(len(lines), 2500)
        self.assertEqual(lines[7], "k0007\t7")
        self.assertEqual(self.ok("scan", "--limit", "1001", "--keys-only").count(b"\n"), 1001)
        self.assertEqual(self.ok("scan", "--reverse", "--limit", "1", "--json"),
                         b'["k2499",2499,1,null]\n')
        self.assertEqual(self.ok("scan", "--start", "k0001", "--end", "k0003", "--keys-only"),
                         b"k0001\nk0002\n")
        self.assertEqual(self.ok("scan", "--prefix", "k249", "--after", "k2498"), b"k2499\t2499\n")
        self.assertEqual(self.ok("count", "--prefix", "k00"), b"100\n")
        self.assertEqual(self.ok("delete-range", "--prefix", "k", "--limit", "5"), b"5\n")
        self.assertEqual(self.ok("delete-range", "--prefix", "k"), b"2495\n")

    def test_keys_of_any_bytes_stay_on_their_line(self):
        self.ok("batch", '[["put",[{"$bin":"CQr/XAA="},1]],["put",["\u00e9\\\\",2]]]')
        self.assertEqual(self.ok("scan").decode(), "\\t\\n\\xff\\\\\\x00\t1\n\u00e9\\\\\t2\n")
        self.assertEqual(self.ok("scan", "--keys-only", "--json").decode(),
                         '{"$bin":"CQr/XAA="}\n"\u00e9\\\\"\n')

    def test_batch_is_guarded_and_prints_a_result_a_line(self):
        operations = '[["put",["k",1]],["get",["k"]],["count",[]]]'
        self.assertEqual(self.ok("batch", operations, "--if", "k=0"), b"1\n[1,1,null]\n1\n")
        self.assertEqual(self.run_cubby("batch", operations, "--if", "k=0"), (3, b""))
        self.assertIn("conflict", self.errors)
        result = json.loads(self.ok("batch", "-", "--json", stdin=operations.encode()))
        self.assertEqual(result, {"seq": 2, "results": [2, [1, 2, None], 1]})

    def test_changes_prints_the_history_that_is_kept(self):
        self.ok("put", "a", "1")
        self.ok("put", "b", '"x"')
        self.ok("delete", "a")
        self.assertEqual(self.ok("changes"), b'1\tput\ta\t1\n2\tput\tb\t"x"\n3\tdelete\ta\n')
        self.assertEqual(self.ok("changes", "--since", "2"), b"3\tdelete\ta\n")
        self.assertEqual(self.ok("changes", "--prefix", "b"), b'2\tput\tb\t"x"\n')
        self.assertEqual(json.loads(self.ok("changes", "--limit", "1", "--json")),
                         [1, 0, 1, "put", "a", 1, None])
        self.assertEqual(self.run_cubby("changes", "--since", "99"), (3, b""))
        self.assertEqual(self.run_cubby("changes", "--epoch", "other"), (3, b""))

    def test_changes_follows_what_comes(self):
        self.ok("put", "k0", "0")
        follower = subprocess.Popen(
            [CUBBY, "--broadcast", self.broadcast, "changes", "--follow", "--since", "0",
             "--prefix", "k", "--limit", "5"], stdout=subprocess.PIPE, env=self.environment())
        self.assertEqual(follower.stdout.readline(), b"1\tput\tk0\t0\n")
        for i in range(1, 5):
            self.ok("put", "other", "0")
            self.ok("put", f"k{i}", str(i))
            self.assertEqual(follower.stdout.readline(), f"{2 * i + 1}\tput\tk{i}\t{i}\n".encode())
        self.assertEqual(follower.wait(WAIT), 0)
        follower.stdout.close()

    def test_hello_and_stats_are_a_line_for_each_name(self):
        hello = dict(line.split(" ", 1) for line in self.ok("hello").decode().splitlines())
        self.assertEqual(hello["protocol"], "1")
        self.assertEqual(hello["limits.max_key"], "1024")
        stats = dict(line.split(" ", 1) for line in self.ok("stats").decode().splitlines())
        self.assertEqual(stats["pid"], str(self.daemon.pid))
        self.assertEqual(json.loads(self.ok("stats", "--json"))["keys"], 0)
        self.assertEqual(json.loads(self.ok("hello", "--client", "me", "--json"))["protocol"], 1)

    def test_bench_runs_every_workload_and_reports(self):
        for options in (["--load"], ["--workload", "get"], ["--workload", "mixed"],
                        ["--workload", "batch", "--batch-size", "10"],
                        ["--distribution", "zipfian"], ["--threads", "2"]):
            report = json.loads(self.ok("bench", "--json", "--requests", "500", "--keys", "1000",
                                        "--connections", "4", "--in-flight", "5", *options))
            self.assertEqual((report["requests"], report["errors"]), (500, 0), options)
            self.assertEqual(report["operations"], 5000 if "batch" in options else 500)
            self.assertGreater(report["latency_us"]["p50"], 0)
            self.assertLessEqual(report["latency_us"]["p50"], report["latency_us"]["max"])
            self.assertGreaterEqual(report["cpu_us_per_operation"]["daemon"], 0)
        self.assertEqual(self.ok("count"), b"1000\n")
        self.assertEqual(self.ok("get", "key:000000000999"),
                         json.dumps("abcdefghijklmnopqrstuvwxyz" * 3 + "abcdefghijklmnopqrstuv")
                         .encode() + b"\n")

    def test_bench_stops_after_its_time(self):
        begun = time.monotonic()
        out = self.ok("bench", "--seconds", "1", "--keys", "10", "--connections", "1",
                      "--in-flight", "1")
        self.assertIn(b"operations/s", out)
        self.assertGreaterEqual(time.monotonic() - begun, 1)

    def test_bench_counts_requests_that_fail(self):
        status, out = self.run_cubby("bench", "--workload", "batch", "--value-size", "100000",
                                     "--requests", "2", "--connections", "1", "--in-flight", "1",
                                     "--json")
        self.assertEqual(status, 3)
        self.assertIn("requests failed, the first with too_large", self.errors)
        self.assertGreater(json.loads(out)["errors"], 0)


class Encoding(unittest.TestCase):
    """The same value by two implementations of MessagePack."""

    def test_what_python_packs_is_shown_as_json_and_back(self):
        value = {"list": [1, -1, 2**63, 1.5, None, True, "x" * 300], "map": {"a": {"b": []}}}
        directory = tempfile.mkdtemp(prefix="cubby-test-")
        self.addCleanup(shutil.rmtree, directory)
        endpoint = f"ipc://{directory}/r"
        daemon = subprocess.Popen([CUBBYD, "--data", "none", "--listen", endpoint, "--publish",
                                   f"ipc://{directory}/b"], stderr=subprocess.DEVNULL)
        try:
            connect = [CUBBY, "--connect", endpoint]
            subprocess.run([*connect, "put", "k", "-", "--msgpack"], input=msgpack.packb(value),
                           check=True, capture_output=True, timeout=WAIT)
            shown = subprocess.run([*connect, "get", "k"], check=True, capture_output=True,
                                   timeout=WAIT).stdout
            self.assertEqual(json.loads(shown), value)
            subprocess.run([*connect, "put", "k", "-"], input=shown, check=True,
                           capture_output=True, timeout=WAIT)
            again = subprocess.run([*connect, "get", "k", "--msgpack"], check=True,
                                   capture_output=True, timeout=WAIT).stdout
            self.assertEqual(again, msgpack.packb(value))
        finally:
            daemon.terminate()
            daemon.wait(WAIT)


if __name__ == "__main__":
    unittest.main()
