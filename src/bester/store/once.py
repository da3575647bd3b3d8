"""Records of ``once`` messages, in the embedded database.

Nearly all messages are new, and need not wait for the disk: Bloom filters tell from memory that a key is unknown. Each
filter has a number of keys that were recorded one after another. The oldest records are removed first, so a filter is
dropped when all of its records are removed. At the start the filters are filled in steps; until that is done, any key
may be known.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from bester.errors import BesterError
from bester.store.database import SqliteStore
from bester.store.ports import Remembered
from bester.store.rows import insert_rows

KEYS_PER_FILTER = 1 << 16
FILTER_BITS = 1 << 20
"""The size of a filter: sixteen bits a key, four of which are set, so one in 400 unknown keys seems to be known."""
STEP = 10_000
"""How many records are read, or removed, at a time."""


class SqliteOnce(SqliteStore):
    """The ``once`` records of a message store."""

    _filters: Filters | None = None
    _filling: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await super().open()
        if self._filters is None:
            self._filters = Filters()
            self._last = (float("-inf"), b"")
            if await self._fill_step():
                self._filling = asyncio.create_task(self._fill())

    async def close(self) -> None:
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.cancel()
            with suppress(asyncio.CancelledError):
                await filling
        self._filters = None
        await super().close()

    async def _fill(self) -> None:
        with suppress(BesterError):  # any key may then be known
            while await self._fill_step():
                pass
            self._filling = None

    async def _fill_step(self) -> bool:
        """Reads the next keys, oldest first, and returns whether there are more."""
        rows = await self.database.read(
            lambda connection: connection.execute(
                "SELECT created, key FROM once WHERE (created, key) > (?, ?) ORDER BY created, key LIMIT ?",
                (*self._last, STEP),
            ).fetchall()
        )
        assert self._filters is not None
        for created, key in rows:
            self._filters.add(key, created)
        if rows:
            self._last = rows[-1]
        return len(rows) == STEP

    def may_recall(self, key: bytes) -> bool:
        return self._filters is None or self._filling is not None or key in self._filters

    async def recall(self, key: bytes) -> Remembered | None:
        row = await self.database.read(
            lambda connection: connection.execute("SELECT digest, report FROM once WHERE key = ?", (key,)).fetchone()
        )
        return None if row is None else Remembered(key, *row)

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        if not records:
            return
        rows = [(one.key, now, one.digest, one.report) for one in records]
        written = self.database.write(
            lambda connection: insert_rows(
                connection, "INSERT OR IGNORE INTO once (key, created, digest, report)", rows
            ),
            adds=True,
        )
        if self._filters is not None:
            for one in records:
                self._filters.add(one.key, now)
        await written

    async def forget_before(self, time: float, at_most: int) -> None:
        first_beyond = await self.database.read(
            lambda connection: connection.execute(
                "SELECT created, key FROM once ORDER BY created DESC, key DESC LIMIT 1 OFFSET ?", (at_most,)
            ).fetchone()
        )
        last = max((time, b""), first_beyond or (time, b""))

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM once WHERE key IN ("
                "SELECT key FROM once WHERE (created, key) <= (?, ?) ORDER BY created, key LIMIT ?)",
                (*last, STEP),
            ).rowcount

        while await self.database.write(work) == STEP:
            pass
        if self._filters is not None and self._filling is None:
            self._filters.drop_before(last[0])


class Filters:
    """Bloom filters, the oldest first."""

    def __init__(self) -> None:
        self._all: deque[_Filter] = deque([_Filter()])

    def add(self, key: bytes, created: float) -> None:
        newest = self._all[-1]
        if newest.count >= KEYS_PER_FILTER:
            newest = _Filter()
            self._all.append(newest)
        newest.count += 1
        newest.until = max(newest.until, created)
        bits = newest.bits
        for bit in _bits(key):
            bits[bit >> 3] |= 1 << (bit & 7)

    def drop_before(self, time: float) -> None:
        """Drops the filters that have only older keys."""
        while self._all[0].until < time:
            if len(self._all) == 1:
                self._all[0] = _Filter()
                return
            self._all.popleft()

    def __contains__(self, key: bytes) -> bool:
        places = tuple(_bits(key))
        return any(all(one.bits[bit >> 3] & (1 << (bit & 7)) for bit in places) for one in self._all)

    def __len__(self) -> int:
        return len(self._all)


class _Filter:
    def __init__(self) -> None:
        self.bits = bytearray(FILTER_BITS // 8)
        self.count = 0
        self.until = float("-inf")
        """When the newest key was recorded."""


def _bits(key: bytes) -> Iterable[int]:
    # The keys are hashes.
    return (int.from_bytes(key[start : start + 4]) % FILTER_BITS for start in (0, 4, 8, 12))
