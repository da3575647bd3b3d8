"""What is held for consent, in the embedded database."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from bester.store.database import SqliteStore
from bester.store.held import OPERATORS, Held, HeldBounds, HeldHead, HeldMessage, HoldOutcome
from bester.store.mailboxes import allocate_positions

_COLUMNS = "position, id, holder, created, head, data"
_INSERT = """INSERT OR IGNORE INTO held (position, holder, sender, released, id, created, size, head, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_head = msgspec.json.Decoder(HeldHead)


class SqliteHeld(SqliteStore):
    """The held messages of a message store."""

    async def hold(self, messages: Sequence[HeldMessage], bounds: HeldBounds, now: float) -> builtins.list[HoldOutcome]:
        rows = [(one, msgspec.json.encode(one.head), one.head.sender) for one in messages]
        return await self.database.write(
            lambda connection: [_hold(connection, one, head, sender, bounds, now) for one, head, sender in rows],
            adds=True,
        )

    async def list_held(self, holder: str, after: int, limit: int) -> builtins.list[Held]:
        return await self._held_rows("holder = ? AND released = 0 AND position > ?", (holder, after, limit))

    async def count_held(self) -> tuple[int, int]:
        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            total, operators = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE holder = ?) FROM held WHERE released = 0", (OPERATORS,)
            ).fetchone()
            return operators, total - operators

        return await self.database.read(work)

    async def release_held(self, holder: str, positions: Sequence[int]) -> int:
        return await self._change_held("UPDATE held SET released = 1", holder, positions)

    async def release_sender(self, holder: str, sender: str, *, always: bool, now: float) -> int:
        def work(connection: sqlite3.Connection) -> int:
            if always:
                connection.execute("INSERT OR IGNORE INTO trust VALUES (?, ?, ?)", (holder, sender, now))
            return connection.execute(
                "UPDATE held SET released = 1 WHERE holder = ? AND released = 0 AND sender = ?", (holder, sender)
            ).rowcount

        return await self.database.write(work)

    async def refuse_held(self, holder: str, positions: Sequence[int]) -> int:
        return await self._change_held("DELETE FROM held", holder, positions)

    async def refuse_sender(self, holder: str, sender: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM trust WHERE holder = ? AND sender = ?", (holder, sender))
            return connection.execute(
                "DELETE FROM held WHERE holder = ? AND released = 0 AND sender = ?", (holder, sender)
            ).rowcount

        return await self.database.write(work)

    async def trusted(self, holder: str) -> builtins.list[str]:
        return await self.database.read(
            lambda connection: [
                sender
                for (sender,) in connection.execute(
                    "SELECT sender FROM trust WHERE holder = ? ORDER BY sender", (holder,)
                )
            ]
        )

    async def released(self, after: int, limit: int) -> builtins.list[Held]:
        return await self._held_rows("released = 1 AND position > ?", (after, limit))

    async def remove_held(self, positions: Sequence[int]) -> None:
        rows = [(position,) for position in positions]
        await self.database.write(
            lambda connection: connection.executemany(
                "DELETE FROM held WHERE position = ? AND released = 1", rows
            ).close()
        )

    async def expire_held(self, before: float, limit: int) -> int:
        return await self.database.write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM held WHERE position IN ("
                    "SELECT position FROM held WHERE released = 0 AND created < ? ORDER BY created, position LIMIT ?)",
                    (before, limit),
                ).rowcount
            )
        )

    async def clear_held(self, holder: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM trust WHERE holder = ? OR sender = ?", (holder, f"user:{holder}"))
            return connection.execute("DELETE FROM held WHERE holder = ?", (holder,)).rowcount

        return await self.database.write(work)

    async def _held_rows(self, where: str, values: tuple[Any, ...]) -> builtins.list[Held]:
        return await self.database.read(
            lambda connection: [
                _held(row)
                for row in connection.execute(
                    f"SELECT {_COLUMNS} FROM held WHERE {where} ORDER BY position LIMIT ?", values
                )
            ]
        )

    async def _change_held(self, statement: str, holder: str, positions: Sequence[int]) -> int:
        rows = [(holder, position) for position in positions]
        return await self.database.write(
            lambda connection: max(
                0,
                connection.executemany(
                    f"{statement} WHERE holder = ? AND position = ? AND released = 0", rows
                ).rowcount,
            )
        )


def _hold(
    connection: sqlite3.Connection, one: HeldMessage, head: bytes, sender: str, bounds: HeldBounds, now: float
) -> HoldOutcome:
    trusted = connection.execute("SELECT 1 FROM trust WHERE holder = ? AND sender = ?", (one.holder, sender)).fetchone()
    if trusted is not None:
        before = connection.execute(
            "SELECT 1 FROM held WHERE holder = ? AND released = 1 AND sender = ? LIMIT 1", (one.holder, sender)
        ).fetchone()
        if before is None:
            return "passes"
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM held WHERE holder = ?", (one.holder,)
    ).fetchone()
    (total,) = connection.execute("SELECT count(*) FROM held").fetchone()
    if count >= bounds.messages or size + len(one.data) > bounds.bytes or total >= bounds.total:
        return "full"
    position = allocate_positions(connection, "held", 1) + 1
    row = (position, one.holder, sender, trusted is not None, one.id, now, len(one.data), head, one.data)
    connection.execute(_INSERT, row)
    return "held"


def _held(row: tuple[Any, ...]) -> Held:
    position, id, holder, created, head, data = row
    return Held(position, HeldMessage(id, holder, _head.decode(head), data), created)
