"""Holds a library to it that no two of its files call each other, directly or around some corners:

    check_circles.py NM OBJECT...

Headers do not show it, since two files may include only each other's headers for types. Symbols do:
an object needs another where it leaves undefined what the other defines. A circle is printed with the
symbols that make it. Files in a circle can be understood, tested and replaced only together.
"""

import os
import subprocess
import sys


def symbols(nm, path):
    """(what others may take from the object, what it takes from others)."""
    lines = subprocess.run([nm, "--extern-only", "--format=posix", path], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    kinds = dict(line.split()[:2] for line in lines)
    needed = {name for name, kind in kinds.items() if kind in "Uwv"}
    return kinds.keys() - needed, needed


def needs_of(nm, paths):
    """{object: {object that it needs: a symbol for which it does}}."""
    known = {path: symbols(nm, path) for path in paths}
    home = {name: path for path, (defined, _) in known.items() for name in defined}
    if len(paths) > 1 and not home:
        sys.exit(f"{nm} finds no symbols in {paths[0]} and the others, so nothing is checked")
    return {path: {home[name]: name for name in sorted(needed) if home.get(name, path) != path}
            for path, (_, needed) in known.items()}


def circle_of(needs):
    """Objects of which each needs the next one and the last the first; the shortest, or none."""
    shortest = []
    for start in needs:
        before, reached = {}, [start]
        for path in reached:  # breadth first: it grows meanwhile
            for other in sorted(needs[path]):
                if other not in before:
                    before[other] = path
                    reached.append(other)
        if start in before:
            circle = [start]
            while before[circle[0]] != start:
                circle.insert(0, before[circle[0]])
            circle.insert(0, circle.pop())
            if not shortest or len(circle) < len(shortest):
                shortest = circle
    return shortest


def main(nm, *paths):
    needs = needs_of(nm, paths)
    circle = circle_of(needs)
    for path, other in zip(circle, circle[1:] + circle[:1]):
        names = [os.path.basename(name).removesuffix(".o") for name in (path, other)]
        print(f"{names[0]} needs {needs[path][other]} of {names[1]}")
    print("a circle" if circle else f"{len(paths)} files, no circle")
    return 1 if circle else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
