"""How much is in the store, and how much space is left on its disk."""

from __future__ import annotations

import asyncio
import os

from bester.server.runtime import Runtime
from bester.store.database import SqliteStore
from bester.store.ports import AccountStore, MailboxSize, MessageStore

FRESH_S = 10.0
"""How old the totals may be."""
MAX_PAGES = 50
"""How many pages of mailboxes are added up at most; mailboxes beyond them are not counted."""
_PAGE = 1000


class Totals:
    """The store's totals, some seconds old."""

    def __init__(self) -> None:
        self.accounts = 0
        self.mailboxes = 0
        self.mailbox_messages = 0
        self.mailbox_bytes = 0
        self.fullest: list[MailboxSize] = []
        """The mailboxes that are nearly full."""


class Storage:
    """Says how much a server stores.

    Args:
        runtime: whose configuration sets the limits.
        accounts, messages: the stores.
    """

    def __init__(self, runtime: Runtime, accounts: AccountStore, messages: MessageStore) -> None:
        self._runtime = runtime
        self._accounts = accounts
        self._messages = messages
        self._totals = Totals()
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    @property
    def on_disk(self) -> bool:
        """Whether the messages are in a database on this machine; the nodes of a cluster keep theirs in NATS."""
        return isinstance(self._messages, SqliteStore)

    @property
    def place(self) -> str:
        """Where the messages are, for operators."""
        return str(self._runtime.config.storage.path) if self.on_disk else "NATS"

    def disk_space(self) -> dict[str, int] | None:
        """Returns the ``free`` and ``total`` bytes of the database's file system; None if they are unknown."""
        try:
            system = os.statvfs(self._runtime.config.storage.path)
        except OSError:
            return None
        return {"free": system.f_bavail * system.f_frsize, "total": system.f_blocks * system.f_frsize}

    async def totals(self) -> Totals:
        """Returns the totals, at most :data:`FRESH_S` old.

        Raises:
            Internal: the store cannot be reached.
        """
        async with self._lock:
            if self._loop.time() - self._read_at >= FRESH_S:
                self._totals = await self._add_up()
                self._read_at = self._loop.time()
        return self._totals

    def expire(self) -> None:
        """Lets the next call of :meth:`totals` read the store."""
        self._read_at = float("-inf")

    async def _add_up(self) -> Totals:
        totals = Totals()
        totals.accounts = await self._accounts.count()
        limits = self._runtime.config.limits
        after = ""
        for _ in range(MAX_PAGES):
            page = await self._messages.mailbox_sizes(after, _PAGE)
            for size in page:
                totals.mailboxes += 1
                totals.mailbox_messages += size.messages
                totals.mailbox_bytes += size.bytes
                if size.messages > 0.8 * limits.mailbox_messages or size.bytes > 0.8 * limits.mailbox_bytes:
                    totals.fullest.append(size)
            if len(page) < _PAGE:
                break
            after = page[-1].username
        return totals
