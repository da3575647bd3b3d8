"""The structures and functions of SQLite's C interface that a VFS needs (sqlite.org/c3ref/vfs.html), by ctypes."""

from __future__ import annotations

import _sqlite3
import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_longlong, c_void_p
from typing import Any, ClassVar

NAME = b"bester-lab"


class NoVfs(Exception):
    """No VFS can be given to the SQLite of this Python; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"disks cannot be simulated: {reason}")
        self.reason = reason


_int = c_int  # the result of nearly all
IO_METHODS: list[tuple[str, Any]] = [
    ("xClose", CFUNCTYPE(_int, c_void_p)),
    ("xRead", CFUNCTYPE(_int, c_void_p, c_void_p, c_int, c_longlong)),
    ("xWrite", CFUNCTYPE(_int, c_void_p, c_void_p, c_int, c_longlong)),
    ("xTruncate", CFUNCTYPE(_int, c_void_p, c_longlong)),
    ("xSync", CFUNCTYPE(_int, c_void_p, c_int)),
    ("xFileSize", CFUNCTYPE(_int, c_void_p, c_void_p)),
    ("xLock", CFUNCTYPE(_int, c_void_p, c_int)),
    ("xUnlock", CFUNCTYPE(_int, c_void_p, c_int)),
    ("xCheckReservedLock", CFUNCTYPE(_int, c_void_p, c_void_p)),
    ("xFileControl", CFUNCTYPE(_int, c_void_p, c_int, c_void_p)),
    ("xSectorSize", CFUNCTYPE(_int, c_void_p)),
    ("xDeviceCharacteristics", CFUNCTYPE(_int, c_void_p)),
    ("xShmMap", CFUNCTYPE(_int, c_void_p, c_int, c_int, c_int, c_void_p)),
    ("xShmLock", CFUNCTYPE(_int, c_void_p, c_int, c_int, c_int)),
    ("xShmBarrier", CFUNCTYPE(None, c_void_p)),
    ("xShmUnmap", CFUNCTYPE(_int, c_void_p, c_int)),
]
"""The methods of an open file, in their order."""


class Sqlite3IoMethods(Structure):
    """``sqlite3_io_methods``, version 2."""

    _fields_: ClassVar = [("iVersion", c_int), *((name, c_void_p) for name, _ in IO_METHODS)]


class Sqlite3File(Structure):
    """``sqlite3_file``."""

    _fields_: ClassVar = [("pMethods", c_void_p)]


class Sqlite3Vfs(Structure):
    """``sqlite3_vfs``, version 2."""

    METHODS: ClassVar[list[tuple[str, Any]]] = [
        ("xOpen", CFUNCTYPE(_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)),
        ("xDelete", CFUNCTYPE(_int, c_void_p, c_void_p, c_int)),
        ("xAccess", CFUNCTYPE(_int, c_void_p, c_void_p, c_int, c_void_p)),
        ("xRandomness", CFUNCTYPE(_int, c_void_p, c_int, c_void_p)),
        ("xSleep", CFUNCTYPE(_int, c_void_p, c_int)),
        ("xCurrentTime", CFUNCTYPE(_int, c_void_p, c_void_p)),
        ("xGetLastError", CFUNCTYPE(_int, c_void_p, c_int, c_void_p)),
        ("xCurrentTimeInt64", CFUNCTYPE(_int, c_void_p, c_void_p)),
    ]
    """Those that a simulation replaces."""
    _fields_: ClassVar = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("xDelete", c_void_p),
        ("xAccess", c_void_p),
        ("xFullPathname", c_void_p),
        ("xDlOpen", c_void_p),
        ("xDlError", c_void_p),
        ("xDlSym", c_void_p),
        ("xDlClose", c_void_p),
        ("xRandomness", c_void_p),
        ("xSleep", c_void_p),
        ("xCurrentTime", c_void_p),
        ("xGetLastError", c_void_p),
        ("xCurrentTimeInt64", c_void_p),
    ]


class Library:
    """The functions of the library."""

    def __init__(self, functions: ctypes.CDLL) -> None:
        self._find = functions.sqlite3_vfs_find
        self._find.argtypes, self._find.restype = [c_char_p], POINTER(Sqlite3Vfs)
        self._register = functions.sqlite3_vfs_register
        self._register.argtypes = [POINTER(Sqlite3Vfs), c_int]
        self._unregister = functions.sqlite3_vfs_unregister
        self._unregister.argtypes = [POINTER(Sqlite3Vfs)]
        self._randomness = functions.sqlite3_randomness
        self._randomness.argtypes, self._randomness.restype = [c_int, c_void_p], None
        if functions.sqlite3_initialize() != 0 or not self._find(None):
            raise NoVfs("SQLite has no VFS of its own")

    def default(self) -> Sqlite3Vfs:
        """Returns the VFS that is the default now, at its own address."""
        found: Sqlite3Vfs = self._find(None).contents
        return found

    def make_default(self, vfs: Sqlite3Vfs) -> None:
        """Registers a VFS, whose memory must stay."""
        if self._register(vfs, 1) != 0:
            raise NoVfs("SQLite refuses another VFS")

    def remove(self, vfs: Sqlite3Vfs) -> None:
        """Takes a VFS out of those that connections can be opened with; open ones go on."""
        self._unregister(vfs)

    def forget_randomness(self) -> None:
        """Has SQLite ask the default VFS for new randomness when it next needs some."""
        self._randomness(0, None)


def library() -> Library:
    """Returns the library that Python's ``sqlite3`` uses.

    Raises:
        NoVfs: its functions cannot be found.
    """
    file: str | None = getattr(_sqlite3, "__file__", None)  # none where it is part of the interpreter
    try:
        return Library(ctypes.CDLL(file))
    except (AttributeError, OSError) as error:
        raise NoVfs(f"the functions of SQLite cannot be found in {file or 'the interpreter'}: {error}") from error
