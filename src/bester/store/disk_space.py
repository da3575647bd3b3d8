"""The free space of the database's file system; see :mod:`bester.store.database`."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress

MAX_BALLAST_BYTES = 1024 * 1024
"""The largest size of the ballast, a file that only occupies space until the disk is full."""
CHECK_EVERY_S = 0.05
"""How long a measurement is used, unless more than :data:`AMPLE_BYTES` are free beyond the reserve."""
AMPLE_BYTES = 256 * 1024 * 1024
"""More bytes than are written in that time."""


class DiskSpace:
    """Decides whether there is space for work that adds data; measures it from time to time.

    Args:
        path: the database.
        reserve: how many bytes of the file system are kept free for work that does not add.
    """

    def __init__(self, path: str, reserve: int) -> None:
        self._path = path
        self._reserve = reserve
        self._ballast = f"{path}-ballast"
        self._ballast_bytes = max(1, min(reserve // 4, MAX_BALLAST_BYTES))
        self._has_ballast = False
        self._measured = float("-inf")
        self._spare = 0

    def is_low(self, connection: sqlite3.Connection) -> bool:
        """Returns whether less than the reserve is free. Must be called outside of transactions."""
        now = time.monotonic()
        if self._spare < AMPLE_BYTES or now - self._measured >= CHECK_EVERY_S:
            self._spare, log_bytes = self._measure(connection)
            # The log counts twice, as itself and as the pages that it adds to the file. With few writes nothing else
            # would checkpoint it, and on a small disk it would exclude work for which there is space.
            if self._spare < 0 < self._spare + 2 * log_bytes:
                self.checkpoint(connection)
                self._spare, _ = self._measure(connection)
            self._measured = now
            self._write_ballast()
        return self._spare < 0

    def _write_ballast(self) -> None:
        """Occupies some space while enough is free, so that it can be freed when the disk is full."""
        if self._has_ballast or self._spare < 2 * self._ballast_bytes:
            return
        with suppress(OSError):
            ballast = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._has_ballast = os.write(ballast, bytes(self._ballast_bytes)) == self._ballast_bytes
            finally:
                os.close(ballast)

    def remove_ballast(self) -> None:
        """Frees the space that the ballast occupies: even a removal needs a little before it frees any."""
        self._has_ballast = False
        with suppress(OSError):
            os.unlink(self._ballast)

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Moves the log into the database and empties it, unless a reader, such as a backup, uses it."""
        with suppress(sqlite3.Error):  # then the log stays, and work that does not fit is refused
            (wait_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute("PRAGMA busy_timeout = 0").close()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {wait_ms}").close()

    def _measure(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Returns how many bytes are free beyond the reserve, and how many the log has."""
        try:
            system = os.statvfs(self._path)
            log_bytes = os.stat(f"{self._path}-wal").st_size
            (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        except (OSError, sqlite3.Error):
            return 0, 0  # the work itself finds out what is wrong
        free = system.f_bavail * system.f_frsize
        # Removals left free pages in the file, which can be used again; but they go through the log first, so some
        # space outside of the file is needed in any case. What is in the log now goes into the file later.
        inside = int(pages) * int(page_bytes)
        return min(free + inside - log_bytes - self._reserve, free - self._reserve // 2), log_bytes
