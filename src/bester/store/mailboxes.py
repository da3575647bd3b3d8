"""Mailboxes in the embedded database.

The table ``mailbox`` has the size of each mailbox, which changes in the same transaction as its letters: a limit costs
one query instead of a sum. Letters are in the order of their positions, which come from a counter, a batch at a time.
"""

from __future__ import annotations

import asyncio
import builtins
import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import json

from bester.errors import MailboxFull
from bester.store.database import SqliteStore
from bester.store.ports import Letter, MailboxBounds, MailboxLetter, MailboxSize
from bester.store.rows import insert_rows

_POSITIONS = "UPDATE position SET last = last + ? WHERE name = ? RETURNING last"
_INSERT = "INSERT OR IGNORE INTO letter (position, username, delivery_id, expires, size, type, data)"
_COUNT = "INSERT INTO mailbox (username, messages, bytes)"
_ADD = """ON CONFLICT (username) DO UPDATE
    SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes"""
# Left to itself SQLite would go through all letters in the order of their usernames.
_INSERTED = "SELECT username, count(*), sum(size) FROM letter NOT INDEXED WHERE position > ? GROUP BY username"
_SIZE = "SELECT messages, bytes FROM mailbox WHERE username = ?"
_SIZES = """SELECT username, messages, bytes FROM mailbox
    WHERE username IN (SELECT value FROM json_each(?)) AND (messages > ? OR bytes > ?)"""
_REMOVED_AT_ONCE = 32

Row = tuple[int, str, str, float, int, str, bytes]


def allocate_positions(connection: sqlite3.Connection, name: str, count: int) -> int:
    """Reserves so many positions, and returns the one before the first."""
    (last,) = connection.execute(_POSITIONS, (count, name)).fetchone()
    return int(last) - count


def delete_letters(connection: sqlite3.Connection, letters: Sequence[tuple[str, str]]) -> None:
    """Deletes letters by username and delivery id, with their sizes; ignores unknown ones."""
    removed: dict[str, list[int]] = {}
    for username, delivery_id in letters:
        row = connection.execute(
            "DELETE FROM letter WHERE username = ? AND delivery_id = ? RETURNING size", (username, delivery_id)
        ).fetchone()
        if row is not None:
            sums = removed.setdefault(username, [0, 0])
            sums[0] += 1
            sums[1] += row[0]
    _discount(connection, ((name, count, size) for name, (count, size) in removed.items()))


class SqliteMailboxes(SqliteStore):
    """The mailboxes of a message store."""

    async def deposit(
        self, letters: Sequence[Letter], bounds: MailboxBounds, now: float
    ) -> builtins.list[MailboxFull | None]:
        if not letters:
            return []
        expires = now + bounds.lifetime_s
        needed: dict[str, builtins.list[int]] = {}
        for letter in letters:
            size = len(letter.data)
            if (sums := needed.get(letter.username)) is None:
                needed[letter.username] = [1, size]
            else:
                sums[0] += 1
                sums[1] += size

        def work(connection: sqlite3.Connection) -> builtins.list[MailboxFull | None]:
            before = allocate_positions(connection, "letter", len(letters))
            limited = _limited(connection, needed, bounds)
            rows: builtins.list[Row] = [
                (position, letter.username, letter.delivery_id, expires, len(letter.data), letter.type, letter.data)
                for position, letter in enumerate(letters, before + 1)
            ]
            results: builtins.list[MailboxFull | None] = [None] * len(letters)
            counts: builtins.list[tuple[str, int, int]]
            if not limited:
                inserted = insert_rows(connection, _INSERT, rows)
            else:
                inserted = 0
                for index, row in enumerate(rows):
                    limit = limited.get(row[1])
                    if limit is None or limit.fits(row[4]):
                        added = insert_rows(connection, _INSERT, [row])
                        inserted += added
                        if limit is not None and added:
                            limit.add(row[4])
                    elif not _exists(connection, row):
                        results[index] = MailboxFull()
            if inserted == len(letters):
                counts = [(username, messages, size) for username, (messages, size) in needed.items()]
            else:  # some existed already, or did not fit
                counts = connection.execute(_INSERTED, (before,)).fetchall()
            insert_rows(connection, _COUNT, counts, _ADD)
            return results

        return await self.database.write(work, adds=True)

    async def has_mail(self, username: str) -> bool:
        row = await self.database.read(lambda connection: connection.execute(_SIZE, (username,)).fetchone())
        return row is not None

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[MailboxLetter]:
        def work(connection: sqlite3.Connection) -> builtins.list[MailboxLetter]:
            rows = connection.execute(
                "SELECT position, delivery_id, type, data FROM letter INDEXED BY letter_by_username"
                " WHERE username = ? AND position > ? AND expires > ? ORDER BY position LIMIT ?",
                (username, after, now, limit),
            )
            found: builtins.list[MailboxLetter] = []
            remaining = max_bytes
            for position, delivery_id, type, data in rows:
                remaining -= len(data)
                if remaining < 0 and found:
                    break
                found.append(MailboxLetter(position, delivery_id, type, data))
            rows.close()
            return found

        return await self.database.read(work)

    async def remove_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        # The parts share a commit, unless the disk is full: then each needs little space.
        parts = [letters[start : start + _REMOVED_AT_ONCE] for start in range(0, len(letters), _REMOVED_AT_ONCE)]
        done = await asyncio.gather(*map(self._remove, parts), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    def _remove(self, letters: Sequence[tuple[str, str]]) -> asyncio.Future[None]:
        return self.database.write(lambda connection: delete_letters(connection, letters))

    async def clear_mailbox(self, username: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM mailbox WHERE username = ?", (username,))
            return connection.execute("DELETE FROM letter WHERE username = ?", (username,)).rowcount

        return await self.database.write(work)

    async def expire_letters(self, now: float, limit: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            expired = connection.execute(
                "SELECT position, username, size FROM letter WHERE expires <= ? ORDER BY expires LIMIT ?", (now, limit)
            ).fetchall()
            connection.executemany("DELETE FROM letter WHERE position = ?", ((position,) for position, _, _ in expired))
            removed: dict[str, builtins.list[int]] = {}
            for _, username, size in expired:
                sums = removed.setdefault(username, [0, 0])
                sums[0] += 1
                sums[1] += size
            _discount(connection, ((name, count, size) for name, (count, size) in removed.items()))
            return len(expired)

        return await self.database.write(work)

    async def mailbox_sizes(self, after: str = "", limit: int = 1000) -> builtins.list[MailboxSize]:
        rows = await self.database.read(
            lambda connection: connection.execute(
                "SELECT username, messages, bytes FROM mailbox WHERE username > ? ORDER BY username LIMIT ?",
                (after, limit),
            ).fetchall()
        )
        return [MailboxSize(*row) for row in rows]

    async def mailbox_size(self, username: str) -> MailboxSize:
        row = await self.database.read(lambda connection: connection.execute(_SIZE, (username,)).fetchone())
        return MailboxSize(username, *(row or (0, 0)))


class _Remaining:
    """How much still fits into a mailbox that cannot take all of its letters."""

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._bytes = size

    def fits(self, size: int) -> bool:
        return self._messages > 0 and self._bytes >= size

    def add(self, size: int) -> None:
        self._messages -= 1
        self._bytes -= size


def _limited(
    connection: sqlite3.Connection, needed: dict[str, list[int]], bounds: MailboxBounds
) -> dict[str, _Remaining]:
    """Returns the mailboxes that cannot take all of their letters."""
    # Only the sizes of mailboxes that may be too full are read; all others have room for the most that any needs.
    most_messages = max(messages for messages, _ in needed.values())
    most_bytes = max(size for _, size in needed.values())
    nearly_full = (json.encode(list(needed)).decode(), bounds.messages - most_messages, bounds.bytes - most_bytes)
    held = {username: (messages, size) for username, messages, size in connection.execute(_SIZES, nearly_full)}
    found = {}
    for username, (messages, size) in needed.items():
        held_messages, held_bytes = held.get(username, (0, 0))
        if held_messages + messages > bounds.messages or held_bytes + size > bounds.bytes:
            found[username] = _Remaining(bounds.messages - held_messages, bounds.bytes - held_bytes)
    return found


def _exists(connection: sqlite3.Connection, row: Row) -> bool:
    found = connection.execute("SELECT 1 FROM letter WHERE username = ? AND delivery_id = ?", row[1:3])
    return found.fetchone() is not None


def _discount(connection: sqlite3.Connection, removed: Iterable[tuple[str, int, int]]) -> None:
    """Subtracts letters from the sizes of mailboxes, and deletes the rows of empty ones."""
    for username, messages, size in removed:
        connection.execute(
            "UPDATE mailbox SET messages = messages - ?, bytes = bytes - ? WHERE username = ?",
            (messages, size, username),
        )
        connection.execute("DELETE FROM mailbox WHERE username = ? AND messages <= 0", (username,))
