"""Which deliveries the application is done with, so that one that comes again is not given out again.

In memory, or in a file besides, which outlives the process. The file has one delivery id per line, each a JSON string,
oldest first. It is only appended to, a batch with one write, before the batch is acknowledged: what a killed process
wrote is there for the next one. Where it has twice as many lines as ids are remembered, it is written anew beside
itself and put in its place, as a whole or not at all. A line that was written only in part, and any other that is no
id, is ignored.

The file is locked as long as it is open, by ``flock``, which also excludes other clients of the same process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from errno import EAGAIN
from itertools import islice
from pathlib import Path

from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder, Encoder

SIZE = 10_000
"""How many ids are remembered in memory; as many as a mailbox has messages, unless its server says otherwise."""
FILE_SIZE = 100_000
"""How many ids are remembered with a file."""

_as_lines = Encoder().encode_lines
_id = Decoder(str)


class Seen:
    """The newest ids, in memory."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._ids: dict[str, None] = {}

    def __contains__(self, delivery_id: str) -> bool:
        return delivery_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def record(self, ids: list[str]) -> None:
        """Remembers ids, and forgets the oldest beyond the size.

        Raises:
            OSError: it is not certain that they can be remembered; record them again.
        """
        remembered = self._ids
        for delivery_id in ids:
            remembered.pop(delivery_id, None)  # so that it is among the newest again
            remembered[delivery_id] = None
        excess = len(remembered) - self._size
        if excess > 0:
            for oldest in list(islice(remembered, excess)):
                del remembered[oldest]

    def close(self) -> None:
        """Lets go of a file, if there is one. Can be called again."""


class SeenFile(Seen):
    """The newest ids, in memory and in a file."""

    def __init__(self, path: str | os.PathLike[str], size: int = FILE_SIZE) -> None:
        super().__init__(size)
        self._path = Path(path)
        self._file = -1
        self._bytes = 0
        self._lines = 0
        self._unwritten: list[str] = []

    def open(self) -> None:
        """Makes, locks and reads the file; blocks. Can be called again.

        Raises:
            BlockingIOError: another client has it open.
            OSError: it cannot be made, read or written.
        """
        if self._file >= 0:
            return
        self._file = self._locked()
        try:
            self._read()
            self.record(self._unwritten)
            self._unwritten = []
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file), os.stat(self._path)):
                        os.fchmod(file, 0o600)
                        return file
            except BlockingIOError as error:
                os.close(file)
                raise BlockingIOError(EAGAIN, "in use by another client", str(self._path)) from error
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # who had it put another in its place before we had the lock

    def _read(self) -> None:
        content = self._path.read_bytes()
        lines = content.split(b"\n")
        torn = lines.pop()
        self._bytes = len(content) - len(torn)
        self._lines = len(lines)
        self._ids.clear()
        super().record(list(_readable(lines)))
        if torn:
            os.ftruncate(self._file, self._bytes)
        if self._lines > 2 * self._size:
            self._rewrite()

    def record(self, ids: list[str]) -> None:
        """As :meth:`Seen.record`; the ids are in the file when it returns, though not yet on the disk.

        While the file is closed they wait for the next :meth:`open`.

        Raises:
            OSError: they are not all in the file; it is as it was before.
        """
        if self._file < 0:
            self._unwritten += ids
            super().record(ids)
            return
        data = _as_lines(ids)
        self._write(self._file, data, self._bytes)
        self._bytes += len(data)
        self._lines += len(ids)
        super().record(ids)
        if self._lines > 2 * self._size:
            self._rewrite()

    def _write(self, file: int, data: bytes, position: int) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(file, data[written:] if written else data, position + written)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file, position)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def _rewrite(self) -> None:
        """Writes the file anew with what is remembered; where that fails, the old one goes on to grow."""
        beside = self._path.with_name(self._path.name + ".new")
        data = _as_lines(list(self._ids))
        with suppress(OSError):
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                # Locked before it has the name, so that there is no moment in which somebody else can have it.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._write(file, data, 0)
                os.fsync(file)
                beside.replace(self._path)
            except BaseException:
                os.close(file)
                raise
            os.close(self._file)
            self._file = file
            self._bytes = len(data)
        # Otherwise not before as many more.
        self._lines = len(self._ids)

    def close(self) -> None:
        """Closes the file, and with that unlocks it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _readable(lines: Iterable[bytes]) -> Iterable[str]:
    for line in lines:
        with suppress(DecodeError, ValidationError, UnicodeDecodeError):
            yield _id.decode(line)
