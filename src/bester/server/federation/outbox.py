"""Writes to the outbox on disk, gathered per turn of the loop (docs/protocol.md, section 4.5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bester.bus.errors import BusDown
from bester.core.metrics import Drop
from bester.errors import BesterError, Internal
from bester.server.batching import take_batch
from bester.server.faultpoints import hit
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.ports import PeerLeases
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore, Outgoing

log = logging.getLogger("bester.outbox")

_Entry = tuple[str, OutboundMessage, Callable[[OutboundMessage, BesterError | None], None]]


class Outbox:
    """Writes to the store for all destinations, once per turn of the loop.

    Args:
        runtime: its tasks, and the exchange's counters.
        store: where the messages are kept.
        leases: knows whether a store that all nodes share can be reached.
    """

    def __init__(self, runtime: Runtime, store: MessageStore, leases: PeerLeases) -> None:
        self._runtime = runtime
        self._store = store
        self._leases = leases
        self._entries: list[_Entry] = []
        self._storing: asyncio.Task[None] | None = None
        """Puts the entries on disk, one batch after the other."""
        self._given = self._stored = 0
        """How many entries there ever were, and how many of them are on disk, or have failed."""
        self._progress = asyncio.Event()
        self._sent: list[int] = []
        self._dead: list[tuple[int, str]] = []
        self._failures: list[tuple[int, float, str]] = []
        self._due = False
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def away(self) -> BesterError | None:
        """The reason why nothing can be put there now; in a cluster the outbox is kept in NATS."""
        return None if self._leases.reachable else BusDown()

    def enqueue(
        self, destination: str, item: OutboundMessage, done: Callable[[OutboundMessage, BesterError | None], None]
    ) -> None:
        """Puts a message on disk; ``done`` is called when it is there, or with why it is not.

        Where that is not known, because the store was lost, ``done`` is never called.
        """
        self._entries.append((destination, item, done))
        self._given += 1
        self._soon()

    def sent(self, position: int) -> None:
        """Removes a message that the other server has."""
        self._sent.append(position)
        self._soon()

    def bury(self, position: int, why: str) -> None:
        """Makes a message a dead letter, for operators to find."""
        self._dead.append((position, why))
        self._soon()

    def failed(self, position: int, next_try: float, why: str) -> None:
        """Notes a failed try of a message, which is not tried before ``next_try``, in seconds since 1970, unless 0."""
        self._failures.append((position, next_try, why))
        self._soon()

    @property
    def waiting(self) -> int:
        """How many messages are on their way to disk."""
        return self._given - self._stored

    async def written(self) -> None:
        """Returns when all changes so far are on disk, or have failed."""
        self._flush()
        given = self._given
        if self._writing:
            await asyncio.wait(set(self._writing))
        while self._stored < given and self._storing is not None:
            await self._progress.wait()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        if self._entries and self._storing is None:
            self._storing = self._runtime.spawn(self._store_all())
            self._storing.add_done_callback(self._all_stored)
        if self._sent:
            sent, self._sent = self._sent, []
            self._spawn(self._remove_all(sent))
        if self._dead:
            dead, self._dead = self._dead, []
            self._spawn(self._bury_all(dead))
        if self._failures:
            failures, self._failures = self._failures, []
            self._spawn(self._note_all(failures))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._runtime.spawn(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _store_all(self) -> None:
        while self._entries:
            entries = take_batch(self._entries, lambda entry: len(entry[1].data))
            await self._put(entries)
            self._stored += len(entries)
            self._moved()

    def _all_stored(self, task: asyncio.Task[None]) -> None:
        self._storing = None
        self._moved()
        if self._entries and not task.cancelled():
            self._soon()

    def _moved(self) -> None:
        self._progress.set()
        self._progress.clear()

    async def _put(self, entries: list[_Entry]) -> None:
        failure: BesterError | None = None
        positions = [0] * len(entries)
        try:
            messages = [
                Outgoing(destination, item.message_id, item.type, bytes(item.data), item.hops, item.trace)
                for destination, item, _ in entries
            ]
            hit("outbox.storing")
            positions = await self._store.enqueue(messages, self._runtime.steady.now())
        except BesterError as error:
            failure = error
            log.error("%d messages could not be put into the outbox: %s", len(entries), error.inside)
        except Exception:
            failure = Internal()
            log.exception("%d messages could not be put into the outbox", len(entries))
        if failure is not None and self._runtime.failed:
            return  # nobody knows whether they are on disk, so nothing is reported
        if failure is None:
            hit("outbox.stored")
        for position, (_, item, done) in zip(positions, entries, strict=True):
            item.position = position
            try:
                done(item, failure)
            except Exception:
                self._runtime.exchange.batch.counters.drops.count(Drop.REPORT_UNTOLD)
                log.exception("a message's outcome could not be told", extra={"message_id": item.message_id})

    async def _remove_all(self, positions: list[int]) -> None:
        if await self._tried("removed from", self._store.remove_sent(positions)):
            hit("outbox.removed")

    async def _bury_all(self, dead: list[tuple[int, str]]) -> None:
        await self._tried("given up in", self._store.bury(dead))

    async def _note_all(self, failures: list[tuple[int, float, str]]) -> None:
        await self._tried("marked in", self._store.note_failures(failures))

    async def _tried(self, what: str, work: Awaitable[object]) -> bool:
        """Waits for a change that no report depends on: where it fails, a message is sent once more."""
        try:
            await work
        except BesterError as error:
            log.error("messages could not be %s the outbox: %s", what, error.inside)
            return False
        except Exception:
            log.exception("messages could not be %s the outbox", what)
            return False
        return True
