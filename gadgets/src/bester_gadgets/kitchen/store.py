"""Stores what outlives the process: subscriptions with the states of their rules, and alarms that are still to be told.

One SQLite file and one thread, on which everything is written in order; the rest of the kitchen works on memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from bester_gadgets.kitchen.asking import Principal
from bester_gadgets.kitchen.rules import Memory, Rule

T = TypeVar("T")

VERSION = 1
_SCHEMA = f"""
CREATE TABLE subscription (user TEXT NOT NULL, server TEXT NOT NULL, device TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (user, server, device)) WITHOUT ROWID;
CREATE TABLE alarm (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
PRAGMA user_version = {VERSION};
"""


class Subscription(Struct, omit_defaults=True):
    """An account's subscription to a device."""

    state: bool = True
    rules: list[Rule] = []
    memories: list[Memory] = []
    """One for each rule."""


class Alarm(Struct):
    """One thing to tell to one account."""

    id: str
    who: Principal
    device: str
    rule: int
    """Which of the subscription's rules."""
    data: msgspec.Raw
    missed: int = 0
    """How many of this rule before it were not told because too many came."""


class Change(Struct):
    """One subscription's part of a write."""

    who: Principal
    device: str
    subscription: Subscription | None
    """None removes it."""
    alarms: list[Alarm] = []


class StoreError(Exception):
    """The file cannot be opened, read or written; the text says why."""


class Store:
    """The file.

    Raises:
        StoreError: it cannot be used.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kitchen-store")
        try:
            self._connection = self._thread.submit(self._open).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    connection.executescript("BEGIN;" + _SCHEMA + "COMMIT;")
                elif version != VERSION:
                    raise StoreError(f"{self._path}: made by another version of the kitchen ({version})")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error
        return connection

    def close(self) -> None:
        """Writes what is waiting, and closes the file."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Who waits may be cancelled, but what was begun is written.
        working = asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)
        try:
            return await asyncio.shield(working)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    async def load(self) -> tuple[list[tuple[Principal, str, Subscription]], list[Alarm]]:
        """Returns all subscriptions, and the alarms that are to be told, oldest first.

        Raises:
            StoreError: the file is not readable, or not ours.
        """

        def work(
            connection: sqlite3.Connection,
        ) -> tuple[list[tuple[Principal, str, Subscription]], list[Alarm]]:
            subscriptions = [
                (Principal(user, server), device, msgspec.json.decode(body, type=Subscription))
                for user, server, device, body in connection.execute(
                    "SELECT user, server, device, body FROM subscription"
                )
            ]
            alarms = [
                msgspec.json.decode(body, type=Alarm)
                for (body,) in connection.execute("SELECT body FROM alarm ORDER BY number")
            ]
            return subscriptions, alarms

        try:
            return await self._work(work)
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._path}: {error}") from error

    async def put(self, changes: list[Change]) -> None:
        """Writes subscriptions, and the alarms that they made, in one transaction.

        Raises:
            StoreError: nothing was written.
        """
        rows = [
            (change.who.user, change.who.server, change.device, msgspec.json.encode(change.subscription))
            for change in changes
            if change.subscription is not None
        ]
        removed = [
            (change.who.user, change.who.server, change.device) for change in changes if change.subscription is None
        ]
        alarms = [(alarm.id, msgspec.json.encode(alarm)) for change in changes for alarm in change.alarms]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM subscription WHERE user = ? AND server = ? AND device = ?", removed)
            connection.executemany("INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?)", rows)
            connection.executemany(
                "INSERT INTO alarm (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body", alarms
            )

        await self._work(work)

    async def told(self, ids: list[str]) -> None:
        """Removes alarms that need not be told any more.

        Raises:
            StoreError: they are still there, and will be told again after a restart.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM alarm WHERE id = ?", [(id,) for id in ids])

        await self._work(work)
