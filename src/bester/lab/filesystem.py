"""What a store asks of the system apart from SQLite's VFS, for databases on simulated disks.

The functions stand in for those of :mod:`os`, :mod:`fcntl` and :mod:`sqlite3` while a world runs. They know the
simulated files; for all others they do as before. A database on a simulated disk may have an empty real file of its
name beside it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bester.lab.disk import Disk
from bester.lab.openfile import WORLD, Owner

BLOCK = 4096


class FileSystem:
    """The functions; made before any of them is installed.

    Args:
        find: returns the disk that an absolute path is on; None: a real one.
        owner: returns the process that runs; None: the world itself.
    """

    def __init__(self, find: Callable[[str], Disk | None], owner: Callable[[], Owner | None]) -> None:
        self._find = find
        self._owner = owner
        self._locked: dict[tuple[int, int], tuple[int, Owner]] = {}
        """The locked files by device and inode, with the descriptor of the lock."""
        self._stat, self._statvfs, self._fsync = os.stat, os.statvfs, os.fsync
        self._unlink, self._replace, self._connect = os.unlink, os.replace, sqlite3.connect
        self._connections: list[tuple[Owner, sqlite3.Connection]] = []

    def replacements(self) -> dict[tuple[str, str], object]:
        """Returns what stands in for what, as module and name."""
        return {
            ("os", "stat"): self.stat,
            ("os", "statvfs"): self.statvfs,
            ("os", "fsync"): self.fsync,
            ("os", "unlink"): self.unlink,
            ("os", "remove"): self.unlink,
            ("os", "replace"): self.replace,
            ("os", "rename"): self.replace,
            ("fcntl", "flock"): self.flock,
            ("sqlite3", "connect"): self.connect,
        }

    def close(self) -> None:
        """Closes every connection, and the descriptors of locks; called when all processes have ended."""
        for _, connection in self._connections:
            _close(connection)
        self._connections = []
        for key, (number, _) in self._locked.items():
            if self._holds(number, key):
                os.close(number)
        self._locked = {}

    def _simulated(self, path: Any) -> tuple[Disk | None, str]:
        """Returns the disk of a path, and the path as the disk knows it."""
        if isinstance(path, int):
            return None, ""
        name = os.path.abspath(os.fsdecode(path))
        disk = self._find(name)
        if disk is None or disk.find(name) is not None:
            return disk, name
        return disk, os.path.realpath(name)  # as SQLite does

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        disk, name = self._simulated(path)
        file = None if disk is None else disk.find(name)
        if file is None:
            return self._stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        try:
            found = list(self._stat(name))
        except FileNotFoundError:
            found = [stat.S_IFREG | 0o600, file.number, 0, 1, os.getuid(), os.getgid(), 0, 0, 0, 0]
        found[stat.ST_SIZE] = len(file.data)
        return os.stat_result(found[:10])

    def statvfs(self, path: Any) -> os.statvfs_result:
        disk, _ = self._simulated(path)
        if disk is None:
            return self._statvfs(path)
        free = disk.free() // BLOCK
        blocks = free + disk.used() // BLOCK
        return os.statvfs_result((BLOCK, BLOCK, blocks, free, free, 1 << 20, 1 << 20, 1 << 20, 0, 255))

    def fsync(self, descriptor: Any) -> None:
        name = ""
        with suppress(OSError):  # not on Linux
            name = os.readlink(f"/proc/self/fd/{_number(descriptor)}")
        disk = self._find(name) if name else None
        if disk is None:
            self._fsync(descriptor)
            return
        self._refuse_dead()
        file = disk.find(name)
        if file is None:
            disk.sync_folder(name)
        else:
            disk.sync(file)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        disk, name = self._simulated(path)
        if disk is not None:
            self._refuse_dead()
        if disk is None or disk.find(name) is None:
            self._unlink(path, dir_fd=dir_fd)
            return
        disk.remove(name)
        with suppress(FileNotFoundError):
            self._unlink(name)

    def replace(self, path: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        disk, name = self._simulated(path)
        if disk is not None:
            self._refuse_dead()
        if disk is None or disk.find(name) is None:
            self._replace(path, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return
        disk.rename(name, os.path.realpath(os.fsdecode(new)))
        with suppress(FileNotFoundError):
            self._replace(name, new)

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """Opens a connection, which is closed when its process has died: nobody else does that."""
        for owner, connection in self._connections:
            if not owner.alive:
                _close(connection)
        self._connections = [one for one in self._connections if one[0].alive]
        new: sqlite3.Connection = self._connect(*args, **options)
        self._connections.append((self._owner() or WORLD, new))
        return new

    def flock(self, descriptor: Any, operation: int) -> None:
        """Locks a file for the process that runs; a lock ends with its descriptor, and with its process."""
        number = _number(descriptor)
        found = os.fstat(number)
        key = (found.st_dev, found.st_ino)
        holder = self._locked.get(key)
        if operation & fcntl.LOCK_UN:
            if holder is not None and holder[0] == number:
                del self._locked[key]
            return
        if holder is not None and holder[0] != number and self._holds(holder[0], key):
            if holder[1].alive:
                raise BlockingIOError
            os.close(holder[0])  # nobody else does
        self._locked[key] = (number, self._owner() or WORLD)

    def _refuse_dead(self) -> None:
        owner = self._owner()
        if owner is not None and not owner.alive:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    @staticmethod
    def _holds(number: int, key: tuple[int, int]) -> bool:
        try:
            found = os.fstat(number)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == key


def _number(descriptor: Any) -> int:
    return descriptor if isinstance(descriptor, int) else int(descriptor.fileno())


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # it belongs to another thread, which closes it
        connection.close()
