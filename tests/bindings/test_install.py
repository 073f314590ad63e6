"""libcubby as its users meet it: installed, found by pkg-config and by CMake, in C99 and C++."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["CUBBY_BUILD"]
SOURCE = os.environ["CUBBY_SOURCE"]
CUBBYD = os.environ["CUBBYD"]
WAIT = 300
EXPECTED = b"version 1\n1 visits\ntotal 1\npage changed\ntotal changed\npage changed\n"

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(example C)
find_package(cubby 0.1 REQUIRED)
add_executable(example example.c)
target_link_libraries(example PRIVATE cubby::cubby)
"""

WRONG_VERSION = """
cmake_minimum_required(VERSION 3.25)
project(example C)
find_package(cubby 99 REQUIRED)
"""


def example():
    with open(f"{SOURCE}/bindings/c/README.md", encoding="utf-8") as readme:
        return re.search(r"```c\n(.*?)```", readme.read(), re.S).group(1)


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="cubby-test-")
        cls.prefix = f"{cls.directory}/usr"
        cls.run_command("cmake", "--install", BUILD, "--prefix", cls.prefix)
        found = [path for path, _, files in os.walk(cls.prefix) if "cubby.pc" in files]
        cls.pkg_config_path = found[0]
        cls.library_path = os.path.dirname(found[0])
        cls.write("example.c", example())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory)

    @classmethod
    def write(cls, name, text):
        os.makedirs(os.path.dirname(f"{cls.directory}/{name}"), exist_ok=True)
        with open(f"{cls.directory}/{name}", "w", encoding="utf-8") as file:
            file.write(text)

    @classmethod
    def run_command(cls, *command, **options):
        done = subprocess.run(command, capture_output=True, timeout=WAIT, cwd=cls.directory,
                              **options)
        if done.returncode != 0:
            raise AssertionError(f"{command}: {done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout

    def pkg_config(self, *options):
        environment = {**os.environ, "PKG_CONFIG_PATH": self.pkg_config_path}
        return self.run_command("pkg-config", *options, env=environment).decode().split()

    def assert_example_runs(self, program):
        directory = tempfile.mkdtemp(prefix="cubby-test-")
        endpoints = [f"ipc://{directory}/r", f"ipc://{directory}/b"]
        daemon = subprocess.Popen([CUBBYD, "--data", "none", "--listen", endpoints[0],
                                   "--publish", endpoints[1]], stderr=subprocess.DEVNULL)
        try:
            environment = {**os.environ, "LD_LIBRARY_PATH": self.library_path}
            self.assertEqual(self.run_command(program, *endpoints, env=environment),
                             EXPECTED)
        finally:
            daemon.terminate()
            daemon.wait(WAIT)
            shutil.rmtree(directory)

    def test_pkg_config_finds_the_shared_library(self):
        self.run_command("cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                         "example.c", "-o", "shared", *self.pkg_config("--cflags", "--libs", "cubby"))
        self.assert_example_runs(f"{self.directory}/shared")

    def test_the_static_library_needs_only_libzmq(self):
        self.run_command("cc", "example.c", "-o", "static", *self.pkg_config("--cflags", "cubby"),
                         f"{self.library_path}/libcubby.a", *self.pkg_config("--libs", "libzmq"))
        self.assertNotIn("libcubby", self.run_command("ldd", "static").decode())
        self.assert_example_runs(f"{self.directory}/static")

    def test_cmake_finds_the_package(self):
        self.write("project/CMakeLists.txt", CMAKE)
        self.write("project/example.c", example())
        self.run_command("cmake", "-S", "project", "-B", "project/build",
                         f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_command("cmake", "--build", "project/build")
        self.assert_example_runs(f"{self.directory}/project/build/example")

    def test_cmake_refuses_another_version(self):
        self.write("wrong/CMakeLists.txt", WRONG_VERSION)
        with self.assertRaisesRegex(AssertionError, r"compatible\s+with requested version"):
            self.run_command("cmake", "-S", "wrong", "-B", "wrong/build",
                             f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_the_header_is_cpp_and_stands_alone(self):
        self.write("header.cc", "#include <cubby.h>\nint main() { struct cubby *c = nullptr; "
                                "cubby_close(&c); return cubby_text(\"x\").size == 1 ? 0 : 1; }\n")
        self.run_command("c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow",
                         "-Werror", "header.cc", "-o", "header",
                         *self.pkg_config("--cflags", "--libs", "cubby"))

    def test_only_the_public_names_are_exported(self):
        names = self.run_command("nm", "-D", "--defined-only", "--format=posix",
                                 f"{self.library_path}/libcubby.so").decode()
        exported = {line.split()[0] for line in names.splitlines()}
        declared = set()
        for path in glob.glob(f"{self.prefix}/include/cubby*.h"):
            with open(path, encoding="utf-8") as header:
                declared |= set(re.findall(r"\b(cubby_\w+)\(", header.read()))
        self.assertEqual({name for name in exported if not name.startswith("cubby_")}, set())
        self.assertLessEqual(exported, declared)

    def test_the_library_has_a_soname_and_needs_only_libzmq(self):
        dynamic = self.run_command("readelf", "-d", f"{self.library_path}/libcubby.so").decode()
        self.assertIn("soname: [libcubby.so.0]", dynamic)
        needed = set(re.findall(r"NEEDED.*\[(.*?)\]", dynamic))
        self.assertLessEqual(needed, {"libzmq.so.5", "libc.so.6", "libm.so.6"})

    def test_the_installed_command_line_runs(self):
        self.assertRegex(self.run_command(f"{self.prefix}/bin/cubby", "--version"),
                         rb"^cubby \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main()
