"""What is written to the outbox on disk, gathered per turn of the loop (docs/protocol.md, section 4.5).

An :class:`OutboundMessage` is a message on its way to another server, whether it came just now and somebody waits for
its outcome (``forward``), or was read from disk (``position``), or both were true one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from bester.bus.connection import BusDown
from bester.core.effects import Forward
from bester.core.metrics import Drop
from bester.core.trail import Trail
from bester.errors import BesterError, Internal
from bester.protocol.link import is_traceparent
from bester.server.batching import take_batch
from bester.server.faultpoints import reach
from bester.store.ports import Outgoing, Queued

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

log = logging.getLogger("bester.outbox")

OVERHEAD = 500
"""What a message takes in memory beside its data, in bytes, about."""


class OutboundMessage:
    """A message for one destination."""

    __slots__ = (
        "classic_id",
        "data",
        "deadline",
        "error",
        "failure",
        "forward",
        "hops",
        "message_id",
        "order",
        "position",
        "repeats",
        "size",
        "trace",
        "trail",
        "tries",
        "type",
        "whole",
    )

    def __init__(
        self, order: int, message_id: str, type: str, data: Raw | bytes, hops: int, trace: str, classic_id: str
    ) -> None:
        self.order = order
        """Its place among the destination's messages that were never on disk."""
        self.message_id = message_id
        self.classic_id = classic_id
        """The id that a classic server is given: the original sender's, as long as that is known."""
        self.type = type
        self.data = data
        self.hops = hops
        self.trace = trace if is_traceparent(trace) else new_trace()
        self.size = len(data) + OVERHEAD
        self.forward: Forward | None = None
        """Whose outcome somebody waits for; None if it was settled when it went to disk."""
        self.position = 0
        """Where it is on disk; 0 if it is not there."""
        self.trail: Trail | None = None
        """Where somebody asks for its route, what takes it."""
        self.repeats: tuple[OutboundMessage, ...] = ()
        """Others of the same id that came while it was under way: they are not sent, and have its outcome."""
        self.tries = 0
        self.deadline = 0.0
        """When its report is overdue, in the loop's time."""
        self.error: BesterError | None = None
        """Why it came back."""
        self.failure = ""
        """``code: text`` where it was the message's own failure, and not that of the way."""
        self.whole = False
        """Whether that is for the destination as a whole, as ``overloaded`` is."""

    @property
    def transient(self) -> bool:
        """Whether one try is all that it gets."""
        return self.dry or (self.forward is not None and self.forward.transient)

    @property
    def dry(self) -> bool:
        """Whether it is only asked what would become of it: then it is never kept."""
        return self.trail is not None and self.trail.dry


def item_of(forward: Forward, order: int) -> OutboundMessage:
    """Returns a message that came just now."""
    classic_id = forward.envelope.id
    item = OutboundMessage(
        order, forward.message_id, forward.type, forward.data, forward.hops, forward.trace, classic_id
    )
    item.forward = forward
    trail = forward.envelope.trail
    item.trail = trail if trail is not None and trail.told else None
    return item


def item_on_disk(row: Queued) -> OutboundMessage:
    """Returns a message that was read from disk."""
    message = row.message
    item = OutboundMessage(
        0, message.message_id, message.type, message.data, message.hops, message.trace, message.message_id
    )
    item.position = row.position
    item.tries = row.tries
    return item


def new_trace() -> str:
    """Returns the W3C traceparent of a trace that begins here."""
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-01"


_Entry = tuple[str, OutboundMessage, Callable[[OutboundMessage, BesterError | None], None]]


class Outbox:
    """Writes to the store for all destinations, once per turn of the loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
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
        """Why nothing can be put there now, where that is known: in a cluster, it is kept in NATS."""
        nodes = self.runtime.nodes
        return BusDown() if nodes is not None and not nodes.bus.up else None

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
        """The other server has the message, or nobody wants it any more."""
        self._sent.append(position)
        self._soon()

    def bury(self, position: int, why: str) -> None:
        """The message is given up; operators find it among the dead letters."""
        self._dead.append((position, why))
        self._soon()

    def failed(self, position: int, next_try: float, why: str) -> None:
        """A try failed; not tried before ``next_try``, seconds since 1970, unless that is 0."""
        self._failures.append((position, next_try, why))
        self._soon()

    @property
    def waiting(self) -> int:
        """How many messages are on their way to disk."""
        return self._given - self._stored

    async def written(self) -> None:
        """Returns when all that was said so far is on disk, or has failed."""
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
            self._storing = self.runtime.spawn(self._store_all())
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
        task = self.runtime.spawn(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _store_all(self) -> None:
        while self._entries:
            entries = take_batch(self._entries, lambda entry: len(entry[1].data))
            await self._store(entries)
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

    async def _store(self, entries: list[_Entry]) -> None:
        failure: BesterError | None = None
        positions = [0] * len(entries)
        try:
            messages = [
                Outgoing(destination, item.message_id, item.type, bytes(item.data), item.hops, item.trace)
                for destination, item, _ in entries
            ]
            positions = await self.runtime.messages.enqueue(messages, self.runtime.steady.now())
        except BesterError as error:
            failure = error
            log.error("%d messages could not be put into the outbox: %s", len(entries), error.inside)
        except Exception:
            failure = Internal()
            log.exception("%d messages could not be put into the outbox", len(entries))
        if failure is not None and self.runtime.failed:
            return  # nobody knows whether they are on disk, so nothing is reported
        if failure is None:
            reach("outbox.stored")
        for position, (_, item, done) in zip(positions, entries, strict=True):
            item.position = position
            try:
                done(item, failure)
            except Exception:
                self.runtime.exchange.counters.drops.count(Drop.REPORT_UNTOLD)
                log.exception("a message's outcome could not be told", extra={"message_id": item.message_id})

    async def _remove_all(self, positions: list[int]) -> None:
        if await self._tried("removed from", self.runtime.messages.remove_sent(positions)):
            reach("outbox.removed")

    async def _bury_all(self, dead: list[tuple[int, str]]) -> None:
        await self._tried("given up in", self.runtime.messages.bury(dead))

    async def _note_all(self, failures: list[tuple[int, float, str]]) -> None:
        await self._tried("marked in", self.runtime.messages.note_failures(failures))

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
