"""Simulated disks under SQLite: a VFS (sqlite.org/vfs.html) in Python, at the library that ``sqlite3`` uses.

While :func:`simulated` is active, files whose paths it maps to a :class:`~bester.lab.disk.Disk` are simulated: their
contents, their locks and the shared memory of their write-ahead logs. SQLite's own VFS has all other files.

Each open file belongs to the owner that opened it, a process. Once that is dead, everything done to the file is refused
and changes nothing, and it holds no lock and no shared memory against others.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_double, c_int, c_longlong, c_void_p, cast, memmove, memset, sizeof, string_at
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from bester.lab.binding import IO_METHODS, NAME, Library, NoVfs, Sqlite3File, Sqlite3IoMethods, Sqlite3Vfs, library
from bester.lab.disk import Disk, File
from bester.lab.openfile import EXCLUSIVE, SHARED, WORLD, Open, Owner, Together

__all__ = ["NoVfs", "Owner", "simulated"]

_OK, _BUSY, _IOERR, _NOTFOUND, _FULL, _CANTOPEN = 0, 5, 10, 12, 13, 14
_IOERR_READ, _IOERR_SHORT_READ, _IOERR_WRITE, _IOERR_FSYNC, _IOERR_TRUNCATE = (_IOERR | n << 8 for n in (1, 2, 3, 4, 6))
_IOERR_DELETE_NOENT, _IOERR_LOCK, _IOERR_SHMMAP = (_IOERR | n << 8 for n in (23, 15, 21))
_OPEN_CREATE, _OPEN_EXCLUSIVE, _OPEN_DELETEONCLOSE = 0x4, 0x10, 0x8
_OPEN_JOURNALS = 0x800 | 0x4000 | 0x80000
"""A main journal, a super-journal and a write-ahead log, whose folder the first sync of the file syncs too."""
_SHM_UNLOCK, _SHM_EXCLUSIVE = 1, 8
_SECTOR, _POWERSAFE_OVERWRITE = 4096, 0x1000
"""What SQLite's own VFS for Unix says of every disk."""
_JULIAN_1970_MS = 210_866_760_000_000

Find = Callable[[str], Disk | None]
"""The disk that a path is on; None: a real one."""


class _World:
    """What is handed to :func:`simulated`."""

    def __init__(
        self, find: Find, owner: Callable[[], Owner | None], random: Random, clock: Callable[[], float]
    ) -> None:
        self.find = find
        self.owner = owner
        self.random = random
        self.clock = clock

    def runs(self) -> bool:
        """Returns whether the process that runs has not been killed."""
        owner = self.owner()
        return owner is None or owner.alive


class _Vfs:
    """The VFS, of which a program has one: connections may outlive the world that opened them."""

    def __init__(self, sqlite: Library) -> None:
        self._sqlite = sqlite
        self._real = sqlite.default()
        self._opens: dict[int, Open] = {}
        """By the address of SQLite's structure."""
        self._together: WeakKeyDictionary[File, Together] = WeakKeyDictionary()
        self.world: _World | None = None
        self.error: BaseException | None = None
        """The first exception of a callback, which cannot leave it, and is raised at the end."""
        self._io = Sqlite3IoMethods(iVersion=2)
        self._callbacks: list[Any] = []  # SQLite has only their addresses
        for name, prototype in IO_METHODS:
            self._set(self._io, name, prototype, getattr(self, "_" + name))
        self._io_address = ctypes.addressof(self._io)
        self._vfs = Sqlite3Vfs.from_buffer_copy(self._real)
        self._vfs.iVersion = 2
        self._vfs.szOsFile = max(self._real.szOsFile, sizeof(Sqlite3File))
        self._vfs.zName = NAME
        for name, prototype in Sqlite3Vfs.METHODS:
            self._set(self._vfs, name, prototype, getattr(self, "_" + name))
        self._real_open, self._real_delete, self._real_access = (
            prototype(getattr(self._real, name)) for name, prototype in Sqlite3Vfs.METHODS[:3]
        )
        self._real_address = ctypes.addressof(self._real)

    def _set(self, structure: ctypes.Structure, name: str, prototype: Any, method: Callable[..., int]) -> None:
        callback = prototype(method)
        self._callbacks.append(callback)
        setattr(structure, name, cast(callback, c_void_p).value)

    def enter(self, world: _World) -> None:
        if self.world is not None:
            raise RuntimeError("simulated disks are in use already: one world runs at a time")
        self.world = world
        self._sqlite.make_default(self._vfs)
        self._sqlite.forget_randomness()

    def leave(self) -> None:
        self._sqlite.remove(self._vfs)
        self._sqlite.make_default(self._real)
        self._sqlite.forget_randomness()
        self.world = None

    def _failed(self, error: BaseException, opened: Open | None, code: int) -> int:
        """Returns the code for SQLite."""
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ENOSPC):
            return _FULL if error.errno == errno.ENOSPC else code
        if self.error is None and not (opened is not None and not opened.owner.alive):
            self.error = error
        return code

    # -- of a file -----------------------------------------------------------------------------------------------

    def _xClose(self, address: int) -> int:
        try:
            self._opens.pop(address).close()
        except BaseException as error:
            return self._failed(error, None, _IOERR)
        return _OK

    def _xRead(self, address: int, buffer: int, amount: int, offset: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_READ
        try:
            content = opened.disk.read(opened.file, offset, amount)
            got = len(content)
            memmove(buffer, content, got)
            if got == amount:
                return _OK
            memset(buffer + got, 0, amount - got)
        except BaseException as error:
            return self._failed(error, opened, _IOERR_READ)
        return _IOERR_SHORT_READ

    def _xWrite(self, address: int, buffer: int, amount: int, offset: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_WRITE
        try:
            opened.disk.write(opened.file, offset, string_at(buffer, amount))
        except BaseException as error:
            return self._failed(error, opened, _IOERR_WRITE)
        return _OK

    def _xTruncate(self, address: int, size: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_TRUNCATE
        try:
            opened.file.truncate(size)
        except BaseException as error:
            return self._failed(error, opened, _IOERR_TRUNCATE)
        return _OK

    def _xSync(self, address: int, _flags: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_FSYNC
        try:
            opened.disk.sync(opened.file, opened.is_dead)
            if not opened.owner.alive:  # a hook killed it
                return _IOERR_FSYNC
            if opened.syncs_folder:
                opened.syncs_folder = False
                opened.disk.sync_folder(os.path.dirname(opened.path))
        except BaseException as error:
            return self._failed(error, opened, _IOERR_FSYNC)
        return _OK

    def _xFileSize(self, address: int, size: int) -> int:
        c_longlong.from_address(size).value = len(self._opens[address].file.data)
        return _OK

    def _xLock(self, address: int, level: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_LOCK
        return _OK if opened.lock(level) else _BUSY

    def _xUnlock(self, address: int, level: int) -> int:
        opened = self._opens[address]
        opened.level = min(opened.level, level)
        return _OK

    def _xCheckReservedLock(self, address: int, result: int) -> int:
        c_int.from_address(result).value = self._opens[address].is_reserved()
        return _OK

    def _xFileControl(self, _address: int, _operation: int, _argument: int | None) -> int:
        return _NOTFOUND

    def _xSectorSize(self, _address: int) -> int:
        return _SECTOR

    def _xDeviceCharacteristics(self, _address: int) -> int:
        return _POWERSAFE_OVERWRITE

    def _xShmMap(self, address: int, region: int, size: int, extend: int, result: int) -> int:
        opened = self._opens[address]
        found = c_void_p.from_address(result)
        found.value = None
        if not opened.owner.alive:
            return _IOERR_SHMMAP
        try:
            found.value = opened.map(region, size, bool(extend))
        except BaseException as error:
            return self._failed(error, opened, _IOERR_SHMMAP)
        return _OK

    def _xShmLock(self, address: int, first: int, count: int, flags: int) -> int:
        opened = self._opens[address]
        if not opened.owner.alive:
            return _IOERR_LOCK
        slots = ((1 << count) - 1) << first
        if flags & _SHM_UNLOCK:
            opened.shm_unlock(slots)
            return _OK
        return _OK if opened.shm_lock(slots, EXCLUSIVE if flags & _SHM_EXCLUSIVE else SHARED) else _BUSY

    def _xShmBarrier(self, _address: int) -> None:
        pass

    def _xShmUnmap(self, address: int, _delete: int) -> int:
        self._opens[address].unmap()
        return _OK

    # -- of the file system --------------------------------------------------------------------------------------

    def _xOpen(self, vfs: int, name: int | None, address: int, flags: int, out_flags: int | None) -> int:
        try:
            structure = Sqlite3File.from_address(address)
            structure.pMethods = None  # so nothing is closed if this fails
            world = self.world
            path = os.fsdecode(string_at(name)) if name and world is not None else ""
            disk = world.find(path) if path and world is not None else None
            if disk is None or world is None:
                return int(self._real_open(self._real_address, name, address, flags, out_flags))
            owner = world.owner() or WORLD
            found = disk.find(path)
            if not owner.alive or (found is None and not flags & _OPEN_CREATE) or (found and flags & _OPEN_EXCLUSIVE):
                return _CANTOPEN
            file = disk.create(path)
            opened = Open(disk, file, path, owner, self._together.setdefault(file, Together()))
            opened.syncs_folder = found is None and bool(flags & _OPEN_JOURNALS)
            opened.removed_at_close = bool(flags & _OPEN_DELETEONCLOSE)
            self._opens[address] = opened
            structure.pMethods = self._io_address
            if out_flags:
                c_int.from_address(out_flags).value = flags
        except BaseException as error:
            return self._failed(error, None, _CANTOPEN)
        return _OK

    def _on_disk(self, name: int) -> tuple[Disk | None, str]:
        path = os.fsdecode(string_at(name))
        return None if self.world is None else self.world.find(path), path

    def _xDelete(self, vfs: int, name: int, sync_folder: int) -> int:
        try:
            disk, path = self._on_disk(name)
            if disk is None or self.world is None:
                return int(self._real_delete(self._real_address, name, sync_folder))
            if not self.world.runs():
                return _IOERR
            if disk.find(path) is None:
                return _IOERR_DELETE_NOENT
            disk.remove(path)
            if sync_folder:
                disk.sync_folder(os.path.dirname(path))
        except BaseException as error:
            return self._failed(error, None, _IOERR)
        return _OK

    def _xAccess(self, vfs: int, name: int, flags: int, result: int) -> int:
        try:
            disk, path = self._on_disk(name)
            if disk is None:
                return int(self._real_access(self._real_address, name, flags, result))
            found = disk.find(path)
            # An empty file does not exist, for SQLite's own VFS too.
            c_int.from_address(result).value = found is not None and (flags != 0 or len(found.data) > 0)
        except BaseException as error:
            return self._failed(error, None, _IOERR)
        return _OK

    def _xRandomness(self, vfs: int, amount: int, buffer: int) -> int:
        try:
            content = os.urandom(amount) if self.world is None else self.world.random.randbytes(amount)
            memmove(buffer, content, amount)
        except BaseException as error:
            self._failed(error, None, _IOERR)
            return 0
        return amount

    def _xSleep(self, vfs: int, us: int) -> int:
        return us  # a wait for a lock: its holder cannot run meanwhile

    def _now_ms(self) -> int:
        try:
            return _JULIAN_1970_MS + (0 if self.world is None else int(self.world.clock() * 1000))
        except BaseException as error:
            self._failed(error, None, _IOERR)
            return _JULIAN_1970_MS

    def _xCurrentTime(self, vfs: int, result: int) -> int:
        c_double.from_address(result).value = self._now_ms() / 86_400_000
        return _OK

    def _xCurrentTimeInt64(self, vfs: int, result: int) -> int:
        c_longlong.from_address(result).value = self._now_ms()
        return _OK

    def _xGetLastError(self, vfs: int, size: int, buffer: int | None) -> int:
        return 0


_vfs: list[_Vfs] = []
"""The one of this program, once it is made."""


@contextmanager
def simulated(
    find: Find, owner: Callable[[], Owner | None], random: Random, clock: Callable[[], float]
) -> Iterator[None]:
    """Has SQLite use simulated disks, for all connections that are opened meanwhile.

    Args:
        find: returns the disk that an absolute path is on; it must know the paths of journals and logs too, which end
            in ``-journal`` and ``-wal``.
        owner: returns the process that runs, to which files belong that are opened now; None: the world itself. What
            is started after its end is another process.
        random: the randomness of SQLite.
        clock: the time of SQLite, in seconds since 1970.

    Raises:
        NoVfs: the SQLite of this Python cannot be reached.
    """
    if not _vfs:
        _vfs.append(_Vfs(library()))
    vfs = _vfs[0]
    vfs.enter(_World(find, owner, random, clock))
    try:
        yield
    finally:
        vfs.leave()
        error, vfs.error = vfs.error, None
    if error is not None:
        raise error
