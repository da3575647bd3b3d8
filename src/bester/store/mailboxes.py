"""Mailboxes in the embedded database.

``mailbox`` counts what each holds, in the same transaction as what changes it, so that bounds cost one look and not a
sum. Letters are in the order of their positions, which are given out from a counter, a batch at a time.
"""

from __future__ import annotations

import asyncio
import builtins
import sqlite3
from collections.abc import Iterable, Sequence

from bester.errors import MailboxFull
from bester.store.database import Shared
from bester.store.ports import KeptLetter, Letter, MailboxBounds, MailboxSize

_POSITIONS = "UPDATE position SET last = last + ? WHERE name = ? RETURNING last"
_INSERT = """INSERT OR IGNORE INTO letter (position, username, delivery_id, expires, size, type, data)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_COUNT = """INSERT INTO mailbox (username, messages, bytes) VALUES (?, ?, ?)
    ON CONFLICT (username) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes"""
# Left to itself SQLite would go through all letters in the order of their usernames.
_INSERTED = "SELECT username, count(*), sum(size) FROM letter NOT INDEXED WHERE position > ? GROUP BY username"
_SIZE = "SELECT messages, bytes FROM mailbox WHERE username = ?"
_TAKEN_AT_ONCE = 32

Row = tuple[int, str, str, float, int, str, bytes]


def give_positions(connection: sqlite3.Connection, name: str, count: int) -> int:
    """Takes so many positions, which nobody else gets, and returns the one before the first."""
    (last,) = connection.execute(_POSITIONS, (count, name)).fetchone()
    return int(last) - count


def remove_letters(connection: sqlite3.Connection, letters: Sequence[tuple[str, str]]) -> None:
    """Removes letters by username and delivery id, and counts them as gone; unknown ones are passed over."""
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


class SqliteMailboxes(Shared):
    """The part of a message store that is about mailboxes."""

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
            before = give_positions(connection, "letter", len(letters))
            tight = _tight(connection, needed, bounds)
            rows: Iterable[Row] = [
                (position, letter.username, letter.delivery_id, expires, len(letter.data), letter.type, letter.data)
                for position, letter in enumerate(letters, before + 1)
            ]
            results: builtins.list[MailboxFull | None] = [None] * len(letters)
            counts: Iterable[tuple[str, int, int]]
            if not tight:
                inserted = connection.executemany(_INSERT, rows).rowcount
            else:
                inserted = 0
                for index, row in enumerate(rows):
                    fits = tight.get(row[1])
                    if fits is None or fits.has_room_for(row[4]):
                        added = connection.execute(_INSERT, row).rowcount
                        inserted += added
                        if fits is not None and added:
                            fits.take(row[4])
                    elif not _is_there(connection, row):
                        results[index] = MailboxFull()
            if inserted == len(letters):
                counts = [(username, messages, size) for username, (messages, size) in needed.items()]
            else:  # some were there already, or did not fit
                counts = connection.execute(_INSERTED, (before,)).fetchall()
            connection.executemany(_COUNT, counts)
            return results

        return await self.database.write(work, adds=True)

    async def has_mail(self, username: str) -> bool:
        row = await self.database.read(lambda connection: connection.execute(_SIZE, (username,)).fetchone())
        return row is not None

    async def read_mailbox(
        self, username: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[KeptLetter]:
        def work(connection: sqlite3.Connection) -> builtins.list[KeptLetter]:
            rows = connection.execute(
                "SELECT position, delivery_id, type, data FROM letter INDEXED BY letter_by_username"
                " WHERE username = ? AND position > ? AND expires > ? ORDER BY position LIMIT ?",
                (username, after, now, limit),
            )
            found: builtins.list[KeptLetter] = []
            room = max_bytes
            for position, delivery_id, type, data in rows:
                room -= len(data)
                if room < 0 and found:
                    break
                found.append(KeptLetter(position, delivery_id, type, data))
            rows.close()
            return found

        return await self.database.read(work)

    async def take_letters(self, letters: Sequence[tuple[str, str]]) -> None:
        # They share a commit, unless the disk is full: then each of these parts gets by with little room.
        parts = [letters[start : start + _TAKEN_AT_ONCE] for start in range(0, len(letters), _TAKEN_AT_ONCE)]
        done = await asyncio.gather(*map(self._take, parts), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    def _take(self, letters: Sequence[tuple[str, str]]) -> asyncio.Future[None]:
        return self.database.write(lambda connection: remove_letters(connection, letters))

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


class _Room:
    """What still fits into a mailbox that cannot take all that came for it."""

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._bytes = size

    def has_room_for(self, size: int) -> bool:
        return self._messages > 0 and self._bytes >= size

    def take(self, size: int) -> None:
        self._messages -= 1
        self._bytes -= size


def _tight(connection: sqlite3.Connection, needed: dict[str, list[int]], bounds: MailboxBounds) -> dict[str, _Room]:
    """Returns the mailboxes that cannot take all that is for them."""
    found = {}
    for username, (messages, size) in needed.items():
        held_messages, held_bytes = connection.execute(_SIZE, (username,)).fetchone() or (0, 0)
        if held_messages + messages > bounds.messages or held_bytes + size > bounds.bytes:
            found[username] = _Room(bounds.messages - held_messages, bounds.bytes - held_bytes)
    return found


def _is_there(connection: sqlite3.Connection, row: Row) -> bool:
    found = connection.execute("SELECT 1 FROM letter WHERE username = ? AND delivery_id = ?", row[1:3])
    return found.fetchone() is not None


def _discount(connection: sqlite3.Connection, removed: Iterable[tuple[str, int, int]]) -> None:
    """Counts letters as gone; mailboxes that are empty then are forgotten."""
    for username, messages, size in removed:
        connection.execute(
            "UPDATE mailbox SET messages = messages - ?, bytes = bytes - ? WHERE username = ?",
            (messages, size, username),
        )
        connection.execute("DELETE FROM mailbox WHERE username = ? AND messages <= 0", (username,))
