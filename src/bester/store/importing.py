"""Moves the database of a SQLite server into a cluster's streams.

The database is locked and only read. Each table is moved in pages, in its order. When a page is stored, the position of
its last row is published (a mark), and a later run continues after it. So changes that users have made in the cluster
since, such as reading a letter, are not undone. If a run ends between a page and its mark, the next run
publishes that page again: rows that still exist are recognised, and a letter that was read has its old delivery id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from bester.bus.connection import Bus
from bester.clock import JUMP_S, SteadyClock
from bester.errors import AccountExists, BadConfiguration
from bester.store.held import HeldHead, HeldMessage
from bester.store.import_source import ACCOUNTS, HELD, LETTERS, ONCE, OUTGOING, TRUST, Row, Source, Table
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.jetstream.stream import Stream, StreamConfig
from bester.store.ports import Letter, Outgoing, Queued, Remembered

MAX_NAMES = 20
"""How many names of accounts are listed that the cluster has already."""
OVERHEAD_BYTES = 64 * 1024
"""How much the streams add to a message, at most."""

_roles = msgspec.json.Decoder(tuple[str, ...])
_head = msgspec.json.Decoder(HeldHead)


@dataclass(slots=True)
class Imported:
    """How much was moved by one run."""

    accounts: int = 0
    tokens: int = 0
    letters: int = 0
    waiting: int = 0
    dead: int = 0
    held: int = 0
    trusted: int = 0
    once: int = 0
    expired: int = 0
    """Letters that were too old to be moved."""
    earlier: int = 0
    """Rows that an earlier run has moved."""
    others: int = 0
    """Accounts whose name belongs to another account in the cluster, which stays."""
    names: list[str] = field(default_factory=list)
    """The first of them."""

    @property
    def rows(self) -> int:
        """How many rows were moved, or passed over."""
        queued = self.waiting + self.dead + self.held + self.trusted
        return self.accounts + self.letters + queued + self.once + self.expired + self.others

    def __str__(self) -> str:
        told = [
            f"{self.accounts} accounts with {self.tokens} tokens",
            f"{self.letters} letters",
            f"{self.waiting} messages that wait for other servers and {self.dead} that were given up",
            f"{self.held} messages that are held for consent",
            f"{self.once} outcomes of once messages",
        ]
        text = ", ".join(told)
        if self.expired:
            text += f"; {self.expired} letters had expired"
        if self.earlier:
            text += f"; {self.earlier} rows were moved earlier"
        return text


class Import:
    """One run of an import.

    Args:
        source: the database.
        bus: the connection to NATS.
        names: of the server's streams.
        layout: on how many NATS servers each message is, and among how many streams they are divided.
        on_progress: called with a table, how many of its rows are done, and how many it has.
    """

    def __init__(
        self,
        source: Source,
        bus: Bus,
        names: Names,
        layout: Layout,
        on_progress: Callable[[str, int, int], None] = lambda table, done, total: None,
    ) -> None:
        self.result = Imported()
        self._source = source
        self._bus = bus
        self._accounts = JetStreamAccounts(bus, names, layout)
        self._messages = JetStreamMessages(bus, names, layout)
        self._marks = Stream(bus, StreamConfig(names.stream("IMPORTS"), names.subject("import", ">"), layout.replicas))
        digest = blake2b(str(source.path.resolve()).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        self._subject = names.subject("import", digest)
        self._on_progress = on_progress
        self._now = 0.0
        """The present time of the database's clock."""
        self._shift_s = 0.0
        """The time by which the cluster's clock is ahead of it."""

    async def run(self) -> Imported:
        """Moves everything that no earlier run has moved; what is moved stays, if it fails.

        Raises:
            BesterError: NATS is away, or full, or a message is too large; then it can be run again.
        """
        for store in (self._accounts, self._messages, self._marks):
            await store.open()
        try:
            await self._set_clocks()
            await self._move(ACCOUNTS, self._put_accounts)
            await self._move(LETTERS, self._put_letters)
            await self._move(OUTGOING, self._put_outgoing)
            await self._move(TRUST, self._put_trust)
            await self._move(HELD, self._put_held)
            await self._move(ONCE, self._put_once)
        finally:
            await self._accounts.close()
            await self._messages.close()
            self._marks.close()
        return self.result

    async def _set_clocks(self) -> None:
        clock = SteadyClock()
        clock.resume(self._source.kept_time())
        self._now = clock.now()
        await self._messages.restore_clock(clock)
        shift_s = clock.now() - self._now
        self._shift_s = shift_s if abs(shift_s) > JUMP_S else 0.0

    async def _move(self, table: Table, put: Callable[[list[Row]], Any]) -> None:
        subject = f"{self._subject}.{table.name}"
        mark = await self._marks.last_message(subject)
        after = table.found(self._source, msgspec.json.decode(mark.data)) if mark is not None else None
        total = self._source.count(table.name)
        done = table.done(self._source, after) if after is not None else 0
        self.result.earlier += done
        after = after if after is not None else table.first
        self._on_progress(table.name, done, total)
        while page := table.page(self._source, after):
            await put(page)
            after = page[-1][: len(table.key)]
            await self._marks.publish(subject, msgspec.json.encode(table.place(page[-1])))
            done += len(page)
            self._on_progress(table.name, done, total)

    # -- one table after another ---------------------------------------------------------------------------------

    async def _put_accounts(self, page: list[Row]) -> None:
        await asyncio.gather(*(self._put_account(*row) for row in page))

    async def _put_account(self, username: str, created: float, password_hash: str, roles: str) -> None:
        try:
            await self._accounts.add(username, password_hash, _roles.decode(roles), created)
        except AccountExists:
            found = await self._accounts.find(username)
            if found is None or (found.created, found.password_hash) != (created, password_hash):
                self.result.others += 1
                if len(self.result.names) < MAX_NAMES:
                    self.result.names.append(username)
                return
        self.result.accounts += 1
        tokens = self._source.rows(
            "SELECT token_hash, expires FROM token WHERE username = ? AND expires > ? ORDER BY number",
            (username, self._now),
        )
        for token_hash, expires in tokens:
            await self._accounts.add_token(username, token_hash, expires + self._shift_s, self._now + self._shift_s)
            self.result.tokens += 1

    async def _put_letters(self, page: list[Row]) -> None:
        now = self._now
        letters: list[tuple[Letter, float]] = []
        for _, username, delivery_id, expires, type, data in page:
            self._check_size(len(data))
            if expires > now:
                letters.append((Letter(username, delivery_id, type, data), expires + self._shift_s))
        await self._messages.restore_letters(letters, now + self._shift_s)
        self.result.letters += len(letters)
        self.result.expired += len(page) - len(letters)

    async def _put_outgoing(self, page: list[Row]) -> None:
        rows: list[Queued] = []
        for position, destination, message_id, created, dead, tries, next_try, last_error, hops, *rest in page:
            trace, type, data = rest
            self._check_size(len(data))
            message = Outgoing(destination, message_id, type, data, hops, trace)
            created += self._shift_s
            next_try += self._shift_s if next_try else 0.0
            rows.append(Queued(position, message, created, tries, next_try, last_error, bool(dead)))
        await self._messages.restore_outbox(rows)
        dead_ones = sum(row.dead for row in rows)
        self.result.dead += dead_ones
        self.result.waiting += len(rows) - dead_ones

    async def _put_trust(self, page: list[Row]) -> None:
        for holder, sender, _ in page:
            await self._messages.restore_trust(holder, sender)
        self.result.trusted += len(page)

    async def _put_held(self, page: list[Row]) -> None:
        for _, holder, id, created, released, head, data in page:
            self._check_size(len(data))
            message = HeldMessage(id, holder, _head.decode(head), data)
            await self._messages.restore_held(message, created + self._shift_s, released=bool(released))
        self.result.held += len(page)

    async def _put_once(self, page: list[Row]) -> None:
        records = [(Remembered(key, digest, report), created + self._shift_s) for created, key, digest, report in page]
        await asyncio.gather(*(self._messages.remember([record], created) for record, created in records))
        self.result.once += len(records)

    def _check_size(self, size: int) -> None:
        if size + OVERHEAD_BYTES > self._bus.max_payload:
            raise BadConfiguration(
                f"the database has a message of {size} bytes, and the NATS servers take {self._bus.max_payload}: set "
                "max_payload in their configuration"
            )
