"""Instructions for each operation, counted by callgrind, against those in instructions.txt.

    check_instructions.py PROGRAM [--renew]

No clock is involved, so this finds out a slower hot path on any machine, however busy. A count that
differs from the file's by more than TOLERANCE fails: the change that did it either mends that or renews
the file, and says in its message why. Less is as good a reason: the file then says what is reached.
"""

import os
import re
import subprocess
import sys
import tempfile

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.txt")
TOLERANCE = 0.05
HEAD = "# Instructions for each operation: gcc -O2 on Debian 12. Renew: see check_instructions.py.\n"
WORKLOADS = ("get", "put", "batch", "push", "pop", "work")


def count(program, workload):
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=measure",
             f"--callgrind-out-file={directory}/out", program, workload],
            check=False, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", ended.stderr)
    if ended.returncode != 0 or collected is None:
        sys.exit(f"{workload}: {ended.stderr}")
    return int(collected.group(1)) / int(ended.stdout)


def known():
    with open(PLACE, encoding="ascii") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    return {workload: float(number) for workload, number in rows}


def renew(counts):
    with open(PLACE, "w", encoding="ascii") as file:
        file.write(HEAD)
        file.writelines(f"{workload} {number:.0f}\n" for workload, number in counts.items())


def main():
    counts = {workload: count(sys.argv[1], workload) for workload in WORKLOADS}
    if "--renew" in sys.argv[2:]:
        renew(counts)
    failed = 0
    for workload, before in known().items():
        change = counts[workload] / before - 1
        failed += abs(change) > TOLERANCE
        print(f"{workload:6} {counts[workload]:8.0f}, was {before:8.0f} ({change:+.1%})"
              f"{'  FAILED' if abs(change) > TOLERANCE else ''}")
    if failed > 0:
        print(f"intended? say so in the commit, and: python3 {os.path.relpath(__file__)} "
              f"{os.path.relpath(sys.argv[1])} --renew")
    sys.exit(1 if failed > 0 else 0)


if __name__ == "__main__":
    main()
