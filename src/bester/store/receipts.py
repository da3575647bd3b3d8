"""Receipts: the outcomes of messages, in a file of their own, which may be lost without harm.

One thread writes them, a batch at a time, without an fsync for each: receipts are not messages. A file that is damaged,
or that a newer release wrote, is moved aside, and a new one is begun. Nothing here can stop a server; receipts that
cannot be stored are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeVar

from bester.store.opening import open_file

log = logging.getLogger("bester.receipts")

VERSION = 2
HELD = '"held":'
"""What the recipients contain where a guard holds the message. No name contains it: quotes are escaped."""
MAX_PENDING = 5
"""How many batches may wait for the disk; further ones are dropped."""
PRUNE_EVERY_S = 60.0
_PRUNE_STEP = 5000
_SCHEMA = """
CREATE TABLE receipts (
    position INTEGER PRIMARY KEY,
    at REAL NOT NULL, -- by the system clock
    trace TEXT NOT NULL,
    sender TEXT NOT NULL,
    type TEXT NOT NULL,
    message_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL,
    ms REAL NOT NULL,
    recipients TEXT NOT NULL,
    route TEXT NOT NULL,
    steady REAL NOT NULL DEFAULT 0 -- when it was stored, by the clock that counts lifetimes
)
"""
_FROM_1 = ("ALTER TABLE receipts ADD COLUMN steady REAL NOT NULL DEFAULT 0", "UPDATE receipts SET steady = at")
# No index: each would cost as much as the row itself, and a query may take the moment that a scan takes.

T = TypeVar("T")


class Receipt(NamedTuple):
    """One finished message, without its data."""

    at: float
    """When it was finished, in seconds since 1970."""
    trace: str
    """The 32 digits of its trace, which all servers on its way share."""
    sender: str
    """The account, or the other server's name; ``""`` for a server that did not prove its name."""
    type: str
    message_id: str
    """The id that the sender gave it."""
    outcome: str
    """``good``, or the error's code."""
    error: str
    """The error's text, as the sender got it."""
    ms: float
    recipients: str
    """The number of recipients by status, and the names of the first ones, as JSON; ``""`` if there were none."""
    route: str
    """Its steps as JSON, if they were recorded; else ``""``."""
    node: str = ""
    """The node of a cluster that had it; empty in a file, which belongs to one server."""


_COLUMNS = Receipt._fields[:-1]


class Cause(NamedTuple):
    """Failures with the same code and type."""

    code: str
    type: str
    times: int
    last: Receipt


class Found(list[T]):
    """The result of a query."""

    looked_since: float | None = None
    """The time since which the query has read everything, in seconds since 1970; None: all that was asked for."""


class Bounds(NamedTuple):
    """The limits on stored receipts."""

    days: float
    rows: int
    reserve: int
    """How many bytes of the file system are kept free for messages."""


MIN_DIGITS = 8
"""How many digits of a trace's id are enough to search for it."""
_TRACE_DIGITS = 32
_digits = re.compile(r"[0-9a-f]+").fullmatch


def compared_digits(id: str) -> int:
    """Returns how many digits, at either end of a trace's id, are compared with ``id``."""
    return len(id) if MIN_DIGITS <= len(id) < _TRACE_DIGITS and _digits(id) else _TRACE_DIGITS


class ReceiptStore(Protocol):
    """A store of receipts. No method raises because of the state of the disk."""

    lost: int
    """How many receipts could not be stored, since the start."""
    expired: int
    """How many receipts were removed, for their number or their age, since the start."""

    def open(self) -> None:
        """Starts to open the store, without waiting."""

    def add(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        """Stores ``count`` receipts, which ``make`` creates on the store's thread."""

    async def settle(self) -> None:
        """Waits until all added receipts are stored or lost."""

    async def find(
        self,
        *,
        id: str | None = None,
        sender: str | None = None,
        type: str | None = None,
        outcome: str | None = None,
        since: float = 0.0,
        limit: int = 100,
    ) -> Found[Receipt]:
        """Returns receipts, newest first.

        Args:
            id: the id of a trace, its first or last digits (:data:`MIN_DIGITS` at least), or the sender's id.
            sender, type: only receipts of this sender, or type.
            outcome: ``good``, ``bad``, a code, or ``held``: a guard has held the message for consent.
            since: in seconds since 1970.
            limit: the most receipts.
        """

    async def causes(self, since: float) -> Found[Cause]:
        """Returns the failures since a time by code and type, the most frequent first."""

    async def close(self) -> None:
        """Stores all receipts that were added, and closes the store."""


class SqliteReceipts:
    """A :class:`ReceiptStore` in an SQLite file.

    Args:
        path: the file.
        now: the server's steady clock, by which receipts grow old.
    """

    def __init__(self, path: str | os.PathLike[str], now: Callable[[], float]) -> None:
        self.path = os.fspath(path)
        self._now = now
        self.lost = 0
        self.expired = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bester-receipts")
        self._connection: sqlite3.Connection | None = None
        self._pending: list[asyncio.Future[None]] = []
        self._pruned = 0.0
        self._failing = False
        self._closed = False

    def open(self) -> None:
        self._begin(self._opened)

    def add(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        self._pending = [job for job in self._pending if not job.done()]
        if self._closed or len(self._pending) >= MAX_PENDING:
            self.lost += count
        else:
            self._pending.append(self._begin(self._write, make, count, bounds))

    async def settle(self) -> None:
        await asyncio.gather(*self._pending)

    async def find(
        self,
        *,
        id: str | None = None,
        sender: str | None = None,
        type: str | None = None,
        outcome: str | None = None,
        since: float = 0.0,
        limit: int = 100,
    ) -> Found[Receipt]:
        wanted: list[tuple[str, Any]] = [("at >= ?", since)]
        if id is not None:
            digits = compared_digits(id)
            wanted.append((f"? IN (message_id, substr(trace, 1, {digits}), substr(trace, -{digits}))", id))
        wanted += [] if sender is None else [("sender = ?", sender)]
        wanted += [] if type is None else [("type = ?", type)]
        wanted += [("instr(recipients, ?)", HELD)] if outcome == "held" else []
        wanted += [] if outcome in (None, "bad", "held") else [("outcome = ?", outcome)]
        wanted += [("outcome <> ?", "good")] if outcome == "bad" else []
        where = " AND ".join(condition for condition, _ in wanted)
        columns = ", ".join(_COLUMNS)
        query = f"SELECT {columns} FROM receipts WHERE {where} ORDER BY position DESC LIMIT ?"
        values = [*(value for _, value in wanted), limit]
        return Found(Receipt(*row) for row in await self._read(lambda db: db.execute(query, values).fetchall()))

    async def causes(self, since: float) -> Found[Cause]:
        # With max() SQLite takes the other columns from the row that has it.
        query = (
            f"SELECT count(*), max(position), {', '.join(_COLUMNS)} FROM receipts"
            " WHERE at >= ? AND outcome <> 'good' GROUP BY outcome, type ORDER BY 1 DESC, outcome, type LIMIT 100"
        )
        found: Found[Cause] = Found()
        for count, _, *row in await self._read(lambda db: db.execute(query, (since,)).fetchall()):
            last = Receipt(*row)
            found.append(Cause(last.outcome, last.type, count, last))
        return found

    async def _read(self, work: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        if self._closed:
            return []
        return await self._begin(self._tried, work)

    def _begin(self, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._begin(self._end)
            self._thread.shutdown()

    # -- on the thread -------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection | None:
        if self._connection is None:
            try:
                try:
                    self._connection = self._connect()
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._move_aside(str(error))
                    self._connection = self._connect()
            except (sqlite3.Error, OSError) as error:
                self._warn(error)
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        crashed = os.path.exists(self.path + "-wal")
        connection = open_file(self.path, timeout_s=1.0, synchronous="NORMAL")
        try:
            if crashed and (told := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                raise _Damaged(str(told[0]))
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if not 0 <= version <= VERSION:
                raise _Damaged(f"it has version {version} of the schema, and this Bester knows {VERSION}")
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            elif version == 1:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _FROM_1:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            try:
                connection.execute(f"SELECT steady, {', '.join(_COLUMNS)} FROM receipts LIMIT 1").fetchone()
            except sqlite3.OperationalError as error:
                raise _Damaged(str(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self, why: str) -> None:
        self._disconnect()
        aside = f"{self.path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        log.warning("the receipts in %s cannot be used (%s): they are moved to %s", self.path, why, aside)
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(self.path + ending, aside + ending)

    def _write(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        try:
            receipts = make()
            self._check_space(bounds.reserve)
        except Exception as error:
            self.lost += count
            self._warn(error)
            return
        if self._tried(lambda connection: self._insert(connection, receipts, bounds)):
            self._failing = False
        else:
            self.lost += count

    def _insert(self, connection: sqlite3.Connection, receipts: Sequence[Receipt], bounds: Bounds) -> list[bool]:
        now = self._now()
        names = ", ".join((*_COLUMNS, "steady"))
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        rows = [(*receipt[: len(_COLUMNS)], now) for receipt in receipts]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO receipts ({names}) VALUES ({marks})", rows)
        removed = connection.execute(
            "DELETE FROM receipts WHERE position <= (SELECT max(position) FROM receipts) - ?", (bounds.rows,)
        ).rowcount
        connection.execute("COMMIT")
        self.expired += removed
        if now >= self._pruned + PRUNE_EVERY_S:
            self._pruned = now
            self._prune(connection, now - bounds.days * 86_400)
        return [True]

    def _prune(self, connection: sqlite3.Connection, before: float) -> None:
        # Receipts are in the order of their times, and only the position can be searched quickly.
        removed = _PRUNE_STEP
        while removed == _PRUNE_STEP:
            removed = connection.execute(
                "DELETE FROM receipts WHERE steady < ? AND position IN"
                " (SELECT position FROM receipts ORDER BY position LIMIT ?)",
                (before, _PRUNE_STEP),
            ).rowcount
            self.expired += removed

    def _tried(self, work: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        """Returns the result of the work; an empty list if the file cannot be used."""
        connection = self._opened()
        if connection is None:
            return []
        try:
            return work(connection)
        except (sqlite3.Error, OSError) as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
                with suppress(OSError):
                    self._move_aside(str(error))
            self._warn(error)
            return []

    def _check_space(self, reserve: int) -> None:
        disk = os.statvfs(os.path.dirname(os.path.abspath(self.path)))
        if disk.f_bavail * disk.f_frsize < reserve:
            raise OSError("the disk is almost full, and what is left is for messages")

    def _warn(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            log.warning("receipts are not kept for now: %s", error)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _end(self) -> None:
        self._disconnect()


class _Damaged(sqlite3.DatabaseError):
    """The file can be opened, but not used."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
