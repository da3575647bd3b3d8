"""Whether the file system has room for what a database adds; see :mod:`bester.store.database`."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress

BALLAST = 1024 * 1024
"""The largest file that does nothing but occupy room, until the disk is full."""
LOOK_EVERY_S = 0.05
"""How old what is known of the free room can be, as long as there is more than :data:`AMPLE` beyond the reserve."""
AMPLE = 256 * 1024 * 1024
"""More than what is written in that time."""


class Room:
    """Whether there is room to add, looked at now and then."""

    def __init__(self, path: str, reserve: int) -> None:
        self._path = path
        self._reserve = reserve
        self._ballast = f"{path}-ballast"
        self._ballast_size = max(1, min(reserve // 4, BALLAST))
        self._has_ballast = False
        self._looked = float("-inf")
        self._spare = 0

    def is_short(self, connection: sqlite3.Connection) -> bool:
        """Whether less than the reserve is free. Called outside of transactions."""
        now = time.monotonic()
        if self._spare < AMPLE or now - self._looked >= LOOK_EVERY_S:
            self._spare, log_size = self._look(connection)
            # The log is counted twice, as itself and as what it makes of the file. With few writes nothing else would
            # carry it over, and on a small disk it would keep out what there is room for.
            if self._spare < 0 < self._spare + 2 * log_size:
                self.carry_over(connection)
                self._spare, _ = self._look(connection)
            self._looked = now
            self._take_ballast()
        return self._spare < 0

    def _take_ballast(self) -> None:
        """Occupies some room while there is plenty, so that there is some when the disk is full."""
        if self._has_ballast or self._spare < 2 * self._ballast_size:
            return
        with suppress(OSError):
            ballast = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._has_ballast = os.write(ballast, bytes(self._ballast_size)) == self._ballast_size
            finally:
                os.close(ballast)

    def give_way(self) -> None:
        """Frees the room that was occupied: even what removes needs a little, before it makes any."""
        self._has_ballast = False
        with suppress(OSError):
            os.unlink(self._ballast)

    def carry_over(self, connection: sqlite3.Connection) -> None:
        """Brings the log into the file and empties it, unless somebody, such as a backup, is reading it."""
        with suppress(sqlite3.Error):  # then it stays, and what does not fit is refused
            (wait_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute("PRAGMA busy_timeout = 0").close()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {wait_ms}").close()

    def _look(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Returns how many bytes are free beyond the reserve, and how many the log has."""
        try:
            system = os.statvfs(self._path)
            log_size = os.stat(f"{self._path}-wal").st_size
            (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        except (OSError, sqlite3.Error):
            return 0, 0  # the work itself finds out what is wrong
        free = system.f_bavail * system.f_frsize
        # What was removed left pages in the file, which can be used again; but they go through the log first, so some
        # room outside is needed in any case. What is in the log now goes into the file later.
        inside = int(pages) * int(page_size)
        return min(free + inside - log_size - self._reserve, free - self._reserve // 2), log_size
