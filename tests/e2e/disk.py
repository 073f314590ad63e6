"""The disk under a trace of disk_trace.c: what a power failure could have left of it.

    disk = Disk(root)
    for event in read_trace(path):
        disk.apply(event)
    disk.leave(directory, randomness)         one of the possible contents

What is possible is what a journaling file system promises a program, and no more:

- **Contents.** What was written before an fsync or fdatasync of the file began is there once that
  has ended, and so is what was written through an O_DSYNC descriptor, but of the file only that.
  Of everything else each sector of 512 bytes is, by itself, any one of those that it has been
  since: the system writes pages when it likes, in any order, and a disk tears a page at sectors.
- **Sizes** likewise: any that the file had since its last sync. Where a larger size is there
  and the bytes are not, there are zeros: a file system with a journal never shows what another file
  left on the disk. (Blocks may be allocated and not written, or only the size may be there.)
- **Names.** A new name, a rename, a removal is there for certain once the directory, not the file, was
  synced after it. Before that, it may be there or not, each atomically: either the first
  ones in their order, as where one journal takes all (ext4, XFS), or any that do not need another one
  that is missing, as with several logs (btrfs, and what POSIX allows). Names and contents are
  independent of each other: a rename may be there before the bytes of the file.

Ways to choose are drawn at random, since extremes (nothing, everything, everything but one) find what
evenly mixed contents seldom do.
"""

import os
import struct

EVENT = struct.Struct("=IIQQII")
SECTOR = 512
PAGE = 4096
CHUNK = 65536
ZERO_SECTOR = bytes(SECTOR)


class Event:
    __slots__ = ("kind", "handle", "a", "b", "data")

    def __init__(self, kind, handle, a, b, data):
        self.kind, self.handle, self.a, self.b, self.data = kind, handle, a, b, data

    def __repr__(self):
        return f"{self.kind}({self.handle}, {self.a}, {self.b}, {self.data[:60]!r})"


def read_trace(path):
    """All events; of an end that was cut off by a kill, nothing."""
    with open(path, "rb") as file:
        content = file.read()
    events, at = [], 0
    while at + EVENT.size <= len(content):
        kind, handle, a, b, size, _ = EVENT.unpack_from(content, at)
        at += EVENT.size
        if at + size > len(content):
            break
        events.append(Event(chr(kind), handle, a, b, content[at:at + size]))
        at += size
    return events


class Notes:
    """Events of the test's own in a trace."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, kind, a=0, data=b""):
        os.write(self.file, EVENT.pack(ord(kind), 0, a, 0, len(data), 0) + data)

    def close(self):
        os.close(self.file)


class Write:
    """`data` at `offset`; None: `size` zeros. size only, offset None: a new size of the file."""

    def __init__(self, number, offset, size, data=None, durable=False):
        self.number, self.offset, self.size, self.data = number, offset, size, data
        self.durable = durable

    def part(self, start, end):
        return bytes(end - start) if self.data is None else \
            self.data[start - self.offset:end - self.offset]


class File:
    """What is on disk for certain, and what was written since. Chunks that are missing are zeros."""

    def __init__(self):
        self.chunks, self.size = {}, 0
        self.pending = []

    def read(self, start, end):
        """Bytes for certain, within one chunk."""
        chunk = self.chunks.get(start // CHUNK)
        return bytes(end - start) if chunk is None else \
            bytes(chunk[start % CHUNK:start % CHUNK + end - start])

    def settle(self, before):
        """What has a number before that is on disk now."""
        count = 0
        for write in self.pending:
            if write.number >= before:
                break
            self.keep(write)
            count += 1
        del self.pending[:count]

    def keep(self, write):
        if write.offset is None:
            if write.size < self.size:
                self.keep(Write(0, write.size, self.size - write.size))
            self.size = write.size
            return
        start, end = write.offset, write.offset + write.size
        self.size = max(self.size, end)
        while start < end:
            stop = min(end, (start // CHUNK + 1) * CHUNK)
            if write.data is not None or start // CHUNK in self.chunks:
                chunk = self.chunks.setdefault(start // CHUNK, bytearray(CHUNK))
                chunk[start % CHUNK:start % CHUNK + stop - start] = write.part(start, stop)
            start = stop

    def versions(self):
        """({sector: [(number, bytes)]}, [(number, size)]): what each sector, and the size, may be,
        oldest first. Sectors that can only be as they are for certain are left out."""
        sectors, sizes = {}, [(0, self.size)]
        for write in self.pending:
            offset, size = write.offset, write.size
            length = sizes[-1][1]
            if offset is None:
                offset, size = size, max(length - size, 0)
                length = write.size
            else:
                length = max(length, offset + size)
            if length != sizes[-1][1]:
                sizes.append((write.number, length))
            if write.durable:
                sizes = sizes[-1:]
            self.add_versions(sectors, write, offset, size)
        return sectors, sizes

    def add_versions(self, sectors, write, offset, size):
        for number in range(offset // SECTOR, -(-(offset + size) // SECTOR) if size else 0):
            known = sectors.get(number)
            start = number * SECTOR
            if known is None and write.data is None and start // CHUNK not in self.chunks:
                continue  # zeros over zeros
            known = known or [(0, self.read(start, start + SECTOR))]
            before = known[-1][1]
            first, last = max(offset, start), min(offset + size, start + SECTOR)
            new = bytes(last - first) if write.offset is None else write.part(first, last)
            after = before[:first - start] + new + before[last - start:]
            sectors[number] = [*([] if write.durable else known), (write.number, after)]


class Directory(File):
    pass


class Change:
    """Of names: one leads to another thing. made: the thing; source: the name it had before;
    made None: the name ends."""

    def __init__(self, number, name, made=None, source=None):
        self.number, self.name, self.made, self.source = number, name, made, source


class Disk:
    """forget(event, name): whether the disk only pretends to do that sync; for tests of the
    tests. load: a directory whose content is there from the beginning."""

    def __init__(self, root, forget=None, load=None):
        self.root = root
        self.forget = forget or (lambda event, name: False)
        self.live = {"": Directory()}  # name below the root: the thing
        self.names = dict(self.live)  # the same, as it is for certain
        self.changes = []  # of names, since
        self.handles, self.syncs, self.opened = {}, {}, {}
        self.number = 0
        if load:
            self.load(load)

    def load(self, directory):
        for path, folders, files in os.walk(directory):
            below = os.path.relpath(path, directory)
            for name in folders:
                self.names[os.path.normpath(os.path.join(below, name))] = Directory()
            for name in files:
                with open(os.path.join(path, name), "rb") as file:
                    content = file.read()
                made = File()
                made.keep(Write(0, 0, len(content), content))
                self.names[os.path.normpath(os.path.join(below, name))] = made
        self.live = dict(self.names)

    def below(self, path):
        name = os.path.relpath(path.decode(), self.root)
        return "" if name == "." else name

    def apply(self, event):
        self.number += 1
        method = getattr(self, "do_" + event.kind, None)
        if method:
            method(event)

    # One method for each kind of event.

    def do_I(self, _):
        self.handles, self.syncs, self.opened = {}, {}, {}

    def do_X(self, event):
        raise AssertionError(f"the trace does not follow {event.data.decode()}")

    def do_O(self, event):
        name = self.below(event.data)
        if event.b:
            self.live[name] = File()
            self.changes.append(Change(self.number, name, self.live[name]))
        self.handles[event.handle] = self.live.get(name)
        self.opened[event.handle] = name
        if event.a & os.O_TRUNC and not event.b:
            self.write(event.handle, Write(self.number, None, 0))

    def write(self, handle, write):
        if self.handles.get(handle) is not None:
            self.handles[handle].pending.append(write)

    def do_W(self, event):
        durable = bool(event.b) and not self.forget(event, self.opened[event.handle])
        self.write(event.handle, Write(self.number, event.a, len(event.data), event.data, durable))

    def do_Z(self, event):
        self.write(event.handle, Write(self.number, event.a, event.b))

    def do_T(self, event):
        self.write(event.handle, Write(self.number, None, event.a))

    def do_M(self, event):
        name = self.below(event.data)
        self.live[name] = Directory()
        self.changes.append(Change(self.number, name, self.live[name]))

    def do_U(self, event):
        name = self.below(event.data)
        if self.live.pop(name, None) is not None:
            self.changes.append(Change(self.number, name))

    def do_R(self, event):
        source, name = (self.below(path) for path in event.data.split(b"\0"))
        made = self.live.pop(source)
        assert not isinstance(made, Directory), "renames of directories are not followed"
        self.live[name] = made
        self.changes.append(Change(self.number, name, made, source))

    def do_B(self, event):
        self.syncs[event.a] = self.number

    def do_E(self, event):
        before, thing = self.syncs.pop(event.a), self.handles.get(event.handle)
        if thing is None or self.forget(event, self.opened[event.handle]):
            return
        if not isinstance(thing, Directory):
            thing.settle(before)
            return
        folder, rest = self.opened[event.handle], []
        for change in self.changes:
            if change.number < before and os.path.dirname(change.name) == folder:
                self.change(self.names, change)
            else:
                rest.append(change)
        self.changes = rest

    @staticmethod
    def change(names, change):
        """Carries it out, where it can be; whether it could."""
        if change.made is None:
            return names.pop(change.name, None) is not None
        if change.source is not None:
            if names.get(change.source) is not change.made:
                return False
            del names[change.source]
        elif change.name in names:
            return False
        names[change.name] = change.made
        return True

    # Contents that are possible.

    def leave(self, directory, randomness, way=None):
        """Makes the directory one of the possible contents; says in which way it was drawn."""
        ways = list(CHOICES)
        way = way or randomness.choice([*ways, "mixed", "mixed"])
        names = self.draw_names(randomness, way)
        for name, thing in sorted(names.items(), key=lambda item: item[0]):
            path = os.path.join(directory, name)
            if isinstance(thing, Directory):
                os.makedirs(path, exist_ok=True)
            elif os.path.isdir(os.path.dirname(path)):
                own = randomness.choice(ways) if way == "mixed" else way
                leave_file(thing, path, randomness, own)
        return way

    def draw_names(self, randomness, way):
        names = dict(self.names)
        count = len(self.changes)
        if way == "new":
            kept = range(count)
        elif way == "old":
            kept = ()
        elif randomness.random() < 0.5:
            kept = range(randomness.randrange(count + 1))
        else:
            kept = [number for number in range(count) if randomness.random() < 0.5]
        for number in kept:
            self.change(names, self.changes[number])
        return names


# Ways to choose which version each sector has: functions (randomness, numbers of the writes) that give
# a function (sector, versions), which gives a place in the versions.


def choose_old(_randomness, _numbers):
    return lambda sector, versions: 0


def choose_new(_randomness, _numbers):
    return lambda sector, versions: -1


def choose_sectors(randomness, _numbers):
    return lambda sector, versions: randomness.randrange(len(versions))


def choose_pages(randomness, _numbers):
    chance = randomness.random()
    drawn = {}

    def choose(sector, versions):
        page = sector * SECTOR // PAGE
        return -1 if drawn.setdefault(page, randomness.random() < chance) else 0

    return choose


def choose_first(randomness, numbers):
    """The writes up to one, and of that one some sectors."""
    last = randomness.choice(numbers)

    def choose(_sector, versions):
        place = max(at for at, (number, _) in enumerate(versions) if number <= last or at == 0)
        torn = place > 0 and versions[place][0] == last and randomness.random() < 0.5
        return place - torn

    return choose


def choose_all_but_one(randomness, numbers):
    """All but one write: the later ones are there, as far as they lie elsewhere."""
    lost = randomness.choice(numbers)
    return lambda sector, versions: len(versions) - 1 - (versions[-1][0] == lost)


CHOICES = {"old": choose_old, "new": choose_new, "sectors": choose_sectors, "pages": choose_pages,
           "first": choose_first, "all but one": choose_all_but_one}


def leave_file(thing, path, randomness, way):
    sectors, sizes = thing.versions()
    numbers = [write.number for write in thing.pending] or [0]
    choose = CHOICES[way](randomness, numbers)
    size = sizes[max(min(choose(None, sizes), len(sizes) - 1), -len(sizes))][1] \
        if way != "pages" else randomness.choice(sizes)[1]
    with open(path, "wb") as file:
        file.truncate(size)
        for number, chunk in thing.chunks.items():
            if number * CHUNK < size and any(chunk):
                file.seek(number * CHUNK)
                file.write(chunk[:size - number * CHUNK])
        for start, content in runs(sectors, choose):
            if start < size:
                file.seek(start)
                file.write(content[:size - start])


def runs(sectors, choose):
    """(offset, bytes) of what is chosen, neighbours together."""
    start, parts = 0, []
    for sector, versions in sectors.items():
        if sector * SECTOR != start + SECTOR * len(parts):
            yield start, b"".join(parts)
            start, parts = sector * SECTOR, []
        parts.append(versions[max(choose(sector, versions), -len(versions))][1])
    yield start, b"".join(parts)
