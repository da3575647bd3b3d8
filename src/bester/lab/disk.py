"""The simulated disk of one machine: the files of its databases, in memory, and what of them a loss of power leaves.

A file is two byte strings: what is read, which has every write, and what is durable, which has what was synced. The
ranges that were written since the last sync are remembered, and so is the smallest size that the file had: a loss of
power leaves a random half of the sectors, and the size of before or after. So it is with names: until the folder was
synced, a loss of power may undo that a file was created, renamed or removed.

A sync that fails forgets the ranges, as Linux does: the file reads as before, and no later sync makes them durable.

Failures are ``OSError``, which :mod:`bester.lab.vfs` translates for SQLite.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

SECTOR = 512
"""A disk writes so many bytes whole or not at all."""
BALLAST = "-ballast"
"""The ending of a real file beside a database that takes room on the disk (bester.store.disk_space)."""


class File:
    """One file, under any name."""

    __slots__ = ("__weakref__", "data", "durable", "floor", "number", "written")

    def __init__(self, number: int, content: bytes = b"") -> None:
        self.number = number
        """As an inode's: a disk uses each once."""
        self.data = bytearray(content)
        """What is read."""
        self.durable = bytearray(content)
        self.floor = len(content)
        """The smallest size since the last sync."""
        self.written: list[tuple[int, int]] = []
        """The ranges in ``data`` that are not durable, in bytes that whole sectors take."""

    def write(self, offset: int, content: bytes) -> None:
        data = self.data
        end = offset + len(content)
        if offset > len(data):
            data.extend(bytes(offset - len(data)))
        data[offset:end] = content
        start, end = offset - offset % SECTOR, end + -end % SECTOR
        written = self.written
        if written and written[-1][0] <= start <= written[-1][1]:
            if end > written[-1][1]:
                written[-1] = (written[-1][0], end)
        else:
            written.append((start, end))

    def truncate(self, size: int) -> None:
        if size > len(self.data):
            self.data.extend(bytes(size - len(self.data)))
        else:
            del self.data[size:]
            self.floor = min(self.floor, size)

    def sync(self) -> None:
        data, durable = self.data, self.durable
        self._resize(self.floor)
        self._resize(len(data))
        for start, end in self.written:
            durable[start:end] = data[start:end]
        self.forget()

    def forget(self) -> None:
        """Takes all that was written for durable, which it is only after :meth:`sync`."""
        self.written = []
        self.floor = len(self.data)

    def remains(self, random: Random) -> bytes:
        """Returns what a loss of power leaves."""
        durable, data = self.durable[:], self.data
        limit = len(data)
        if self.floor < len(durable):
            if random.random() < 0.5:
                del durable[self.floor :]
            else:  # it was never made shorter, so what came after that is not there either
                limit = self.floor
        if limit > len(durable) and random.random() < 0.5:
            durable.extend(bytes(limit - len(durable)))
        limit = min(limit, len(durable))
        sectors = {at for start, end in self.written for at in range(start, end, SECTOR)}
        for at in sorted(sectors):
            if random.random() < 0.5:
                end = min(at + SECTOR, limit)
                durable[at:end] = data[at:end] if at < end else b""
        return bytes(durable)

    def _resize(self, size: int) -> None:
        if size < len(self.durable):
            del self.durable[size:]
        else:
            self.durable.extend(bytes(size - len(self.durable)))


class Disk:
    """The files of one machine, by absolute path.

    Args:
        random: decides what a loss of power leaves.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._names: dict[str, File] = {}
        self._durable_names: dict[str, File] = {}
        self._next_number = 1
        self._failing_reads: set[int] = set()
        self._failing_writes: set[int] = set()
        self._failing_syncs: set[int] = set()
        self.capacity: int | None = None
        """How many bytes fit; None: any number. May be set at any time, also to less than is used."""
        self.careless = False
        """Whether syncs succeed and bring nothing to the disk: no promise holds on it, by which a test can be tried."""
        self.sync_s = 0.0
        """How long each sync takes."""
        self.byte_s = 0.0
        """How long each byte takes that is read or written."""
        self.owed_s = 0.0
        """How long all since the last :meth:`settle` would have taken."""
        self.reads = self.writes = self.syncs = self.written_bytes = self.failures = 0
        """Counts since the disk was made; :attr:`failures` of what failed with EIO, not for want of room."""
        self.before_sync: Callable[[int], None] | None = None
        """Called with the number of the sync, the first being 1. It may end the process whose sync it is, or cut the
        power; then the sync brings nothing to the disk."""
        self.after_sync: Callable[[int], None] | None = None
        """Called when what was synced is durable, and SQLite does not know it yet."""

    # -- faults --------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cuts the power: every file becomes what is left of it. The processes of the machine must be dead."""
        for path in sorted(self._names.keys() | self._durable_names.keys()):
            new, old = self._names.get(path), self._durable_names.get(path)
            if new is not old:
                self._put(self._durable_names, path, self._random.choice((new, old)))
        left = {path: self._durable_names[path] for path in sorted(self._durable_names)}
        copies: dict[File, File] = {}
        for file in left.values():
            if file not in copies:
                copies[file] = self._new(file.remains(self._random))
        self._names = {path: copies[file] for path, file in left.items()}
        self._durable_names = dict(self._names)

    def fail_read(self, nth: int = 1) -> None:
        """Makes the nth read from now fail with EIO."""
        self._failing_reads.add(self.reads + nth)

    def fail_write(self, nth: int = 1) -> None:
        """Makes the nth write from now fail with EIO; it changes nothing."""
        self._failing_writes.add(self.writes + nth)

    def fail_sync(self, nth: int = 1) -> None:
        """Makes the nth sync from now fail with EIO; what it should have made durable never becomes it by a later one,
        unless it is written again."""
        self._failing_syncs.add(self.syncs + nth)

    def heal(self) -> None:
        """Ends all faults that are still to come, and makes the disk large and fast."""
        self._failing_reads.clear()
        self._failing_writes.clear()
        self._failing_syncs.clear()
        self.capacity = None
        self.sync_s = self.byte_s = 0.0

    def settle(self) -> float:
        """Returns the seconds owed, which are then not owed any more."""
        owed_s, self.owed_s = self.owed_s, 0.0
        return owed_s

    # -- files ---------------------------------------------------------------------------------------------------

    def find(self, path: str) -> File | None:
        """Returns the file of this name."""
        return self._names.get(path)

    def create(self, path: str) -> File:
        """Returns the file of this name, new and empty if there is none."""
        file = self._names.get(path)
        if file is None:
            file = self._names[path] = self._new(b"")
        return file

    def remove(self, path: str) -> None:
        """Removes a name. Raises ``KeyError`` if there is none."""
        del self._names[path]

    def rename(self, path: str, new: str) -> None:
        """Gives a file another name. Raises ``KeyError`` if there is none."""
        self._names[new] = self._names.pop(path)

    def put(self, path: str, content: bytes) -> None:
        """Puts a file on the disk, durable, in place of one of this name."""
        self._names[path] = self._durable_names[path] = self._new(content)

    def content(self, path: str) -> bytes:
        """Returns what a read of the whole file gives. Raises ``KeyError`` if there is none."""
        return bytes(self._names[path].data)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def read(self, file: File, offset: int, amount: int) -> bytes:
        """Returns bytes, fewer at the end of the file."""
        self.reads += 1
        if self.reads in self._failing_reads:
            self._fail()
        if self.byte_s:
            self.owed_s += self.byte_s * amount
        return bytes(file.data[offset : offset + amount])

    def write(self, file: File, offset: int, content: bytes) -> None:
        """Writes bytes, which only a sync makes durable."""
        self.writes += 1
        if self.writes in self._failing_writes:
            self._fail()
        if self.capacity is not None:
            grows = offset + len(content) - len(file.data)
            if grows > 0 and grows > self.free():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written_bytes += len(content)
        if self.byte_s:
            self.owed_s += self.byte_s * len(content)
        file.write(offset, content)

    def sync(self, file: File, dead: Callable[[], bool] = lambda: False) -> None:
        """Makes what was written to a file durable.

        Args:
            file: the file.
            dead: whether the process has died; asked after :attr:`before_sync`.
        """
        self.syncs += 1
        number = self.syncs
        self.owed_s += self.sync_s
        if self.before_sync is not None:
            self.before_sync(number)
            if dead():
                return
        if number in self._failing_syncs:
            file.forget()
            self._fail()
        if not self.careless:
            file.sync()
        if self.after_sync is not None:
            self.after_sync(number)

    def sync_folder(self, folder: str) -> None:
        """Makes durable which files a folder has."""
        for path in [*self._names, *self._durable_names]:
            if os.path.dirname(path) == folder:
                self._put(self._durable_names, path, self._names.get(path))

    def used(self) -> int:
        """Returns how many bytes the files take, and ballast beside them, which is real."""
        used = 0
        for path, file in self._names.items():
            used += len(file.data)
            with suppress(OSError):
                used += os.lstat(path + BALLAST).st_size
        return used

    def free(self) -> int:
        """Returns how many bytes fit; 1 TiB where there is no bound."""
        return 1 << 40 if self.capacity is None else max(0, self.capacity - self.used())

    def _new(self, content: bytes) -> File:
        file = File(self._next_number, content)
        self._next_number += 1
        return file

    def _fail(self) -> None:
        self.failures += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    @staticmethod
    def _put(names: dict[str, File], path: str, file: File | None) -> None:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file
