"""The outbox, and its dead letters, in the embedded database."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Sequence
from typing import Any

from bester.store.database import SqliteStore
from bester.store.mailboxes import allocate_positions
from bester.store.ports import Outgoing, Queued, QueueSize
from bester.store.rows import insert_rows

_INSERT = """INSERT OR IGNORE INTO outgoing
    (position, destination, message_id, created, hops, size, trace, type, data)"""
_AGAIN = """UPDATE outgoing SET dead = 0, tries = 0, next_try = 0, last_error = '', created = ?
    WHERE destination = ? AND message_id = ? AND dead = 1"""
_COLUMNS = "position, destination, message_id, type, data, hops, trace, created, tries, next_try, last_error, dead"


class SqliteOutbox(SqliteStore):
    """The outbox of a message store."""

    async def enqueue(self, messages: Sequence[Outgoing], now: float) -> builtins.list[int]:
        if not messages:
            return []

        def work(connection: sqlite3.Connection) -> builtins.list[int]:
            before = allocate_positions(connection, "outgoing", len(messages))
            inserted = insert_rows(
                connection,
                _INSERT,
                [
                    (position, one.destination, one.message_id, now, *_rest(one))
                    for position, one in enumerate(messages, before + 1)
                ],
            )
            if inserted == len(messages):
                return list(range(before + 1, before + len(messages) + 1))
            connection.executemany(_AGAIN, ((now, one.destination, one.message_id) for one in messages))
            return [
                connection.execute(
                    "SELECT position FROM outgoing WHERE destination = ? AND message_id = ?",
                    (one.destination, one.message_id),
                ).fetchone()[0]
                for one in messages
            ]

        return await self.database.write(work, adds=True)

    async def read_outbox(
        self, destination: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[Queued]:
        def work(connection: sqlite3.Connection) -> builtins.list[Queued]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM outgoing INDEXED BY outgoing_by_destination"
                " WHERE destination = ? AND dead = 0 AND position > ? AND next_try <= ? ORDER BY position LIMIT ?",
                (destination, after, now, limit),
            )
            found: builtins.list[Queued] = []
            remaining = max_bytes
            for row in rows:
                remaining -= len(row[4])
                if remaining < 0 and found:
                    break
                found.append(_queued(row))
            rows.close()
            return found

        return await self.database.read(work)

    async def remove_sent(self, positions: Sequence[int]) -> None:
        await self._change("DELETE FROM outgoing WHERE position = ?", [(position,) for position in positions])

    async def note_failures(self, failures: Sequence[tuple[int, float, str]]) -> None:
        await self._change(
            "UPDATE outgoing SET tries = tries + 1, next_try = ?, last_error = ? WHERE position = ?",
            [(next_try, error, position) for position, next_try, error in failures],
        )

    async def bury(self, letters: Sequence[tuple[int, str]]) -> None:
        await self._change(
            "UPDATE outgoing SET dead = 1, last_error = ? WHERE position = ? AND dead = 0",
            [(why, position) for position, why in letters],
        )

    async def give_up_before(self, created: float, why: str, limit: int, destination: str | None = None) -> int:
        return await self.database.write(
            lambda connection: (
                connection.execute(
                    "UPDATE outgoing SET dead = 1, last_error = ? WHERE position IN ("
                    "SELECT position FROM outgoing WHERE dead = 0 AND created < ? AND (? IS NULL OR destination = ?)"
                    " ORDER BY created, position LIMIT ?)",
                    (why, created, destination, destination, limit),
                ).rowcount
            )
        )

    async def revive(self, positions: Sequence[int], now: float) -> int:
        return await self._change(
            "UPDATE outgoing SET dead = 0, tries = 0, next_try = 0, last_error = '', created = ?"
            " WHERE position = ? AND (dead = 1 OR next_try > 0)",
            [(now, position) for position in positions],
        )

    async def queue_sizes(self) -> builtins.list[QueueSize]:
        rows = await self.database.read(
            lambda connection: connection.execute(
                "SELECT destination, sum(dead = 0), sum(dead = 1), sum(size),"
                " coalesce(min(CASE dead WHEN 0 THEN created END), 0.0)"
                " FROM outgoing INDEXED BY outgoing_by_destination GROUP BY destination ORDER BY destination"
            ).fetchall()
        )
        return [QueueSize(*row) for row in rows]

    async def list_queue(
        self, destination: str | None = None, dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> builtins.list[Queued]:
        where, values = "position > ?", [after]
        if destination is not None:
            where += " AND destination = ?"
            values.append(destination)  # type: ignore[arg-type]
        if dead is not None:
            where += f" AND dead = {int(dead)}"
        values.append(limit)
        return await self.database.read(
            lambda connection: [
                _queued(row)
                for row in connection.execute(
                    f"SELECT {_COLUMNS} FROM outgoing WHERE {where} ORDER BY position LIMIT ?", values
                )
            ]
        )

    async def find_queued(self, position: int) -> Queued | None:
        row = await self.database.read(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM outgoing WHERE position = ?", (position,)
            ).fetchone()
        )
        return None if row is None else _queued(row)

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Runs a statement for each row, and returns how many changed."""
        if not rows:
            return 0
        return await self.database.write(lambda connection: connection.executemany(statement, rows).rowcount)


def _rest(message: Outgoing) -> tuple[Any, ...]:
    return message.hops, len(message.data), message.trace, message.type, message.data


def _queued(row: tuple[Any, ...]) -> Queued:
    position, destination, message_id, type, data, hops, trace, created, tries, next_try, last_error, dead = row
    message = Outgoing(destination, message_id, type, data, hops, trace)
    return Queued(position, message, created, tries, next_try, last_error, bool(dead))
