"""An open file of a simulated disk, as SQLite sees one: its locks, and the memory that a write-ahead log shares."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Protocol

from bester.lab.disk import Disk, File

NONE, SHARED, RESERVED, PENDING, EXCLUSIVE = range(5)
"""SQLite's locks of a file (sqlite.org/lockingv3.html)."""


class Owner(Protocol):
    """A process, to which open files belong."""

    @property
    def alive(self) -> bool:
        """Whether it runs; false for ever after it was killed."""


class _Everlasting:
    alive = True


WORLD: Owner = _Everlasting()
"""The owner of what no process opens, but the world itself."""


class Together:
    """What all that have a file open share."""

    __slots__ = ("mapped", "opens", "regions")

    def __init__(self) -> None:
        self.opens: list[Open] = []
        self.mapped: list[Open] = []
        """Those of them that have the memory."""
        self.regions: list[ctypes.Array[ctypes.c_char]] = []


class Open:
    """A file that SQLite opened once."""

    __slots__ = (
        "disk",
        "exclusive",
        "file",
        "level",
        "owner",
        "path",
        "regions",
        "removed_at_close",
        "shared",
        "syncs_folder",
        "together",
    )

    def __init__(self, disk: Disk, file: File, path: str, owner: Owner, together: Together) -> None:
        self.disk = disk
        self.file = file
        self.path = path
        self.owner = owner
        self.level = NONE
        self.syncs_folder = False
        """Whether the first sync makes the file's name durable too."""
        self.removed_at_close = False
        self.shared = 0
        """The slots of the memory that it has locked together with others, as bits."""
        self.exclusive = 0
        self.regions: list[ctypes.Array[ctypes.c_char]] | None = None
        """The memory, which SQLite points into: also after others began anew, when this one's owner died."""
        self.together = together
        together.opens.append(self)

    def is_dead(self) -> bool:
        """Returns whether the owner died."""
        return not self.owner.alive

    def close(self) -> None:
        """Gives up everything."""
        self.unmap()
        with suppress(ValueError):
            self.together.opens.remove(self)
        if self.removed_at_close and self.owner.alive and self.disk.find(self.path) is self.file:
            self.disk.remove(self.path)

    # -- locks of the file ---------------------------------------------------------------------------------------

    def lock(self, level: int) -> bool:
        """Raises the lock; returns whether it was possible."""
        if level <= self.level:
            return True
        others = max((one.level for one in self._others()), default=NONE)
        if level == SHARED:
            if others >= PENDING:
                return False
        elif others >= RESERVED:
            return False
        elif level == EXCLUSIVE and others > NONE:
            self.level = PENDING  # no new readers, until these have gone
            return False
        self.level = level
        return True

    def is_reserved(self) -> bool:
        """Returns whether anyone holds at least a reserved lock."""
        return self.level >= RESERVED or any(one.level >= RESERVED for one in self._others())

    def _others(self) -> list[Open]:
        self.together.opens = [one for one in self.together.opens if one is self or one.owner.alive]
        return [one for one in self.together.opens if one is not self]

    # -- the shared memory ---------------------------------------------------------------------------------------

    def map(self, region: int, size: int, extend: bool) -> int | None:
        """Returns the address of a region of the memory; None if there is none and it is not to be made."""
        if self.regions is None:
            together = self.together
            together.mapped = [one for one in together.mapped if one.owner.alive]
            if not together.mapped:
                together.regions = []
            together.mapped.append(self)
            self.regions = together.regions
        while len(self.regions) <= region:
            if not extend:
                return None
            self.regions.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self.regions[region])

    def unmap(self) -> None:
        """Gives up the memory and its locks."""
        self.shared = self.exclusive = 0
        self.regions = None
        with suppress(ValueError):
            self.together.mapped.remove(self)

    def shm_lock(self, slots: int, kind: int) -> bool:
        """Locks slots of the memory, given as bits; returns whether it was possible."""
        for one in self.together.mapped:
            if one is not self and one.owner.alive:
                held = one.exclusive if kind == SHARED else one.exclusive | one.shared
                if held & slots:
                    return False
        if kind == SHARED:
            self.shared |= slots
        else:
            self.exclusive |= slots
        return True

    def shm_unlock(self, slots: int) -> None:
        """Unlocks slots."""
        self.shared &= ~slots
        self.exclusive &= ~slots
