"""Mailboxes, the outbox, what is held for consent, and the records of ``once`` messages, in the embedded database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from bester.clock import SteadyClock, read_saved_time, save_time
from bester.store.mailboxes import SqliteMailboxes, allocate_positions, delete_letters
from bester.store.once import SqliteOnce
from bester.store.outbox import SqliteOutbox
from bester.store.ports import Letter, account_queue
from bester.store.sqlite_held import SqliteHeld

_BURY = """INSERT OR IGNORE INTO outgoing
    (position, destination, message_id, created, dead, tries, last_error, hops, size, trace, type, data)
    VALUES (?, ?, ?, ?, 1, ?, ?, 0, ?, '', ?, ?)"""


class SqliteMessages(SqliteMailboxes, SqliteOutbox, SqliteHeld, SqliteOnce):
    """A :class:`~bester.store.ports.MessageStore` in a database, which other stores may share."""

    async def restore_clock(self, clock: SteadyClock) -> None:
        clock.resume(await self.database.read(read_saved_time))

    async def save_clock(self, clock: SteadyClock) -> None:
        moment = clock.moment()
        await self.database.write(lambda connection: save_time(connection, moment))

    async def bury_letters(self, letters: Sequence[tuple[Letter, int]], why: str, now: float) -> None:
        def work(connection: sqlite3.Connection) -> None:
            before = allocate_positions(connection, "outgoing", len(letters))
            for position, (letter, tries) in enumerate(letters, before + 1):
                size = len(letter.data)
                key = (position, account_queue(letter.username), letter.delivery_id, now)
                connection.execute(_BURY, (*key, tries, why, size, letter.type, letter.data))
            delete_letters(connection, [(letter.username, letter.delivery_id) for letter, _ in letters])

        await self.database.write(work, adds=True)
