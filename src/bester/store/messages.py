"""Mailboxes, the outbox and the memory of ``once`` messages, in the embedded database."""

from __future__ import annotations

from bester.clock import SteadyClock, read_kept, write_kept
from bester.store.mailboxes import SqliteMailboxes
from bester.store.once import SqliteOnce
from bester.store.outbox import SqliteOutbox


class SqliteMessages(SqliteMailboxes, SqliteOutbox, SqliteOnce):
    """All of a :class:`~bester.store.ports.MessageStore`, in a database of its own or one that is shared."""

    async def resume_clock(self, clock: SteadyClock) -> None:
        clock.resume(await self.database.read(read_kept))

    async def keep_clock(self, clock: SteadyClock) -> None:
        moment = clock.moment()
        await self.database.write(lambda connection: write_kept(connection, moment))
