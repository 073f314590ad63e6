#!/usr/bin/python3
"""Holds the tables and examples of wire/README.md against the tables of the code.

    check_specification.py WIRE_FOLDER

Prints each difference and exits 1 where there is one.
"""

import ast
import pathlib
import re
import sys

import msgpack

# The letters of methods.def as the specification names them, and what stands for those left out.
ARGUMENTS = {"k": "key", "v": "value", "d": "delta", "e": "ttl or nil", "o": "operations",
             "b": "backup", "q": "queue", "s": "queue or [queues]", "y": "body", "j": "job id",
             "l": "lease", "m": "ms", "p": "ms or nil", "i": "msgid", "w": "watch", "c": "n"}
DEFAULTS = {"d": " = 1"}


def rows_of(path, macro):
    """The arguments of each MACRO(…) row of a .def file, strings without their quotes."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    for body in re.findall(macro + r"\(((?:[^()\"]|\"[^\"]*\")*)\)", text):
        yield [part.strip().strip('"') for part in re.findall(r"(?:\"[^\"]*\"|[^,\"])+", body)]


def table_of(name, page):
    """The rows of all tables behind <!-- table: name -->, each a list of cells."""
    tables = re.findall(r"<!-- table: " + name + r" -->\n((?:\|.*\n)+)", page)
    if not tables:
        raise SystemExit(f"README.md: no table {name}")
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def bare(cell):
    return cell.replace("`", "")


def expected_methods(wire):
    options = {row[0]: row[1] for row in rows_of(wire / "options.def", "OPTION")}
    for _, _, name, flags, required, letters, takes in rows_of(wire / "methods.def", "METHOD"):
        params = [
            ARGUMENTS[letter] + (DEFAULTS[letter] if place >= int(required) else "")
            for place, letter in enumerate(letters)
        ]
        named = [options[bit] for bit in re.findall(r"WIRE_HAS_(\w+)", takes)]
        if named:
            params.append("{" + ", ".join(named) + "}")
        yield [name, ", ".join(params), "yes" if "WIRE_BATCHABLE" in flags else "no"]


def expected_limits(wire):
    text = (wire / "limits.h").read_text()
    for name, value in re.findall(r"^\s+WIRE_(\w+) = ([^,]+),", text, flags=re.M):
        yield [name.lower(), f"{value_of(value):,}"]
    for name, value in re.findall(r"^#define WIRE_(\w+) (.+)$", text, flags=re.M):
        yield [name.lower(), f"{value_of(value):,}"]


def value_of(expression):
    """A number, or one number shifted by another, as limits.h writes them."""
    plain = re.sub(r"UINT64_C\((\d+)\)", r"\1", expression).strip("() ")
    base, _, shift = plain.partition("<<")
    return int(base) << int(shift or 0)


def compare(what, found, expected):
    found, expected = list(found), list(expected)
    if not expected:
        yield f"{what}: the code has none"
    for row in expected:
        if row not in found:
            yield f"{what}: the code has {row}, the specification does not"
    for row in found:
        if row not in expected:
            yield f"{what}: the specification has {row}, the code does not"
    if not [row for row in found if row not in expected] and found != expected:
        yield f"{what}: the order differs"


def check_tables(wire, page):
    methods = ([bare(row[0]), bare(row[1]), row[3]] for row in table_of("methods", page))
    yield from compare("methods", methods, expected_methods(wire))
    options = ([bare(row[0])] for row in table_of("options", page))
    in_code = ([row[1]] for row in rows_of(wire / "options.def", "OPTION"))
    yield from compare("options", options, in_code)
    errors = ([bare(row[0]), row[1]] for row in table_of("errors", page))
    in_code = (row[1:] for row in rows_of(wire / "errors.def", "ERROR"))
    yield from compare("errors", errors, in_code)
    limits = ([bare(row[0]), row[1]] for row in table_of("limits", page))
    yield from compare("limits", limits, expected_limits(wire))


def check_examples(page):
    """Each ```hex block: the bytes decode to the literal, and are its shortest encoding."""
    blocks = re.findall(r"```hex\n(.*?)\n= (.*?)\n```", page, flags=re.S)
    if len(blocks) < 2:
        yield "examples: there are none"
    for digits, literal in blocks:
        payload = bytes.fromhex(digits)
        value = ast.literal_eval(literal)
        try:
            found = msgpack.unpackb(payload)
        except ValueError as error:
            yield f"example {literal}: {error!r}"
            continue
        if found != value:
            yield f"example {literal}: the bytes say {found}"
        elif payload != msgpack.packb(value):
            yield f"example {literal}: not in the shortest form"


def check_headings(page):
    """Each link to a section leads to one."""
    anchors = set()
    for heading in re.findall(r"^#+ (.*)$", page, flags=re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        anchors.add(plain.replace(" ", "-"))
    for target in re.findall(r"\]\(#([^)]*)\)", page):
        if target not in anchors:
            yield f"link #{target} leads nowhere"


def main():
    wire = pathlib.Path(sys.argv[1])
    page = (wire / "README.md").read_text()
    problems = [*check_tables(wire, page), *check_examples(page), *check_headings(page)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
