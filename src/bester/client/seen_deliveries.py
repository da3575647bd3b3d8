"""The ids of the deliveries that the application has finished with, so that it does not get them twice.

The ids are in memory, and optionally also in a file, which outlives the process. The file has one delivery id per line,
each a JSON string, oldest first. Ids are appended in batches, each with one write, before the batch is acknowledged:
the next process finds everything that a killed process wrote. When the file has twice as many lines as ids are
remembered, a new file is written beside it and replaces it atomically. A line that was written only in part, and any
other line that is not an id, is ignored.

The file is locked by ``flock`` while it is open, which also excludes other clients of the same process.
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
"""How many ids are remembered in memory; a mailbox holds as many messages by default."""
FILE_SIZE = 100_000
"""How many ids are remembered with a file."""

_as_lines = Encoder().encode_lines
_id = Decoder(str)


class SeenDeliveries:
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
            OSError: the ids may not be stored; record them again.
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
        """Closes the file, if there is one. Can be called again."""


class SeenDeliveriesFile(SeenDeliveries):
    """The newest ids, in memory and in a file."""

    def __init__(self, path: str | os.PathLike[str], size: int = FILE_SIZE) -> None:
        super().__init__(size)
        self._path = Path(path)
        self._file = -1
        self._bytes = 0
        self._lines = 0
        self._unwritten: list[str] = []

    def open(self) -> None:
        """Creates the file if necessary, locks it and reads it; blocks. Can be called again.

        Raises:
            BlockingIOError: another client has it open.
            OSError: it cannot be created, read or written.
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
            os.close(file)  # the client that had the lock replaced the file before we got it

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
        """Records ids as :meth:`SeenDeliveries.record` does; they are then in the file, but perhaps not on the disk.

        While the file is closed the ids wait for the next :meth:`open`.

        Raises:
            OSError: not all of the ids could be written; the file is as it was before.
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
        """Writes a new file with the remembered ids; if that fails, the old one keeps growing."""
        beside = self._path.with_name(self._path.name + ".new")
        data = _as_lines(list(self._ids))
        with suppress(OSError):
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                # Locked before it has the name, so that at no moment can another client lock it.
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
        # After a failure, too, the next attempt comes only after as many more lines.
        self._lines = len(self._ids)

    def close(self) -> None:
        """Closes the file, which also unlocks it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _readable(lines: Iterable[bytes]) -> Iterable[str]:
    for line in lines:
        with suppress(DecodeError, ValidationError, UnicodeDecodeError):
            yield _id.decode(line)
