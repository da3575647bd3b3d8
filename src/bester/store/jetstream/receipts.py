"""Receipts of all nodes of a server, in JetStream: each message of the stream is a batch of receipts of one node.

Receipts of good messages and of bad ones have a subject each, since most queries are about the few bad ones. There is
no index: a query reads the stream backwards from its end, and reports how far it came if it did not read everything
(:class:`QueryLimits`). As in a file, receipts that cannot be stored are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from bester.bus.connection import Bus
from bester.clock import wall_time
from bester.errors import BesterError
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import StoredMessage, Stream, StreamConfig
from bester.store.receipts import HELD, MAX_PENDING, PRUNE_EVERY_S, Bounds, Cause, Found, Receipt, compared_digits

log = logging.getLogger("bester.receipts")

SKEW_S = 10.0
"""How much later than its messages a batch may be published, and how much the nodes' clocks may differ."""
PRUNED_TO = 0.9
"""The part of the allowed bytes that remains when the oldest batches are removed."""
CLOSE_S = 2.0
MAX_CAUSES = 100


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The limits on the part of the stream that a query reads, and on the stream's size."""

    seconds: float = 5.0
    bytes: int = 256 * 1024 * 1024
    min_window: int = 16
    """How many messages are read first; the number doubles as long as they are small."""
    max_window: int = 4096
    page_bytes: int = 4 * 1024 * 1024
    row_bytes: int = 512
    """How many bytes of the stream a receipt may take, on average."""


LIMITS = QueryLimits()


class _Batch(Struct, array_like=True):
    node: str
    receipts: list[Receipt]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Batch).decode


class JetStreamReceipts:
    """A :class:`~bester.store.receipts.ReceiptStore` for a cluster.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        node: this node's name.
        bounds: how much is stored.
        replicas: on how many NATS servers each batch is.
        limits: how much a query reads.
        clock: never goes back; counts when the oldest batches are looked for.
    """

    def __init__(
        self,
        bus: Bus,
        names: Names,
        node: str,
        bounds: Bounds,
        replicas: int = 1,
        limits: QueryLimits = LIMITS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.lost = 0
        self.expired = 0  # NATS removes them, and does not say how many
        self._bus = bus
        self._node = node
        self._bounds = bounds
        self._replicas = replicas
        self._limits = limits
        self._clock = time.monotonic if clock is None else clock
        self._name = names.stream("RECEIPTS")
        self._subjects = {good: names.subject("receipts", "good" if good else "bad") for good in (True, False)}
        self._all = names.subject("receipts", "*")
        self.stream = self._stream_for(bounds)
        self._opened = False
        self._batches = 0
        self._boot = secrets.token_hex(8)
        self._publish_lock = asyncio.Lock()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._failing = False
        self._closed = False
        self._pruned = self._clock()

    def _stream_for(self, bounds: Bounds) -> Stream:
        max_age_s = bounds.days * 86_400
        config = StreamConfig(self._name, self._all, self._replicas, max_age_s=max_age_s, one_per_subject=False)
        return Stream(self._bus, config)

    def open(self) -> None:
        self._spawn(list, 0, self._bounds)

    def add(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        if self._closed or len(self._tasks) >= MAX_PENDING:
            self.lost += count
        else:
            self._spawn(make, count, bounds)

    def _spawn(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        task = asyncio.get_running_loop().create_task(self._publish(make, count, bounds))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _publish(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        stored = False
        try:
            async with self._publish_lock:
                await self._open(bounds)
                if not bounds.rows:
                    make = list
                most = max(1024, self._bus.max_payload - 1024)
                batches = await asyncio.to_thread(lambda: list(_batches(make(), self._node, most)))
                for good, data in batches:
                    self._batches += 1
                    # Published twice, it is still stored once.
                    id = {"Nats-Msg-Id": f"{self._boot}-{self._batches}"}
                    await self.stream.publish(self._subjects[good], data, id)
                stored = True
                self._failing = False
                await self._prune()
        except Exception as error:
            if not self._failing:
                self._failing = True
                log.warning("receipts are not kept for now: %s", error)
        finally:
            if not stored:
                self.lost += count

    async def _open(self, bounds: Bounds) -> None:
        if not self._opened or bounds != self._bounds:
            self.stream = self._stream_for(bounds)
            self._bounds = bounds
            self._opened = False
            await self.stream.open()
            self._opened = True

    async def _prune(self) -> None:
        """Removes the oldest batches if there are too many; NATS itself would reserve the space for such a limit."""
        now = self._clock()
        if now < self._pruned + PRUNE_EVERY_S:
            return
        self._pruned = now
        state = await self.stream.state()
        most = self._bounds.rows * self._limits.row_bytes
        if state["bytes"] > most:
            await self.stream.purge_to_newest(int(state["messages"] * most / state["bytes"] * PRUNED_TO))

    async def settle(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
            late = list(self._tasks)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self.stream.close()

    # -- queries -------------------------------------------------------------------------------------------------

    async def find(
        self,
        *,
        id: str | None = None,
        sender: str | None = None,
        type: str | None = None,
        outcome: str | None = None,
        since: float = 0.0,
        limit: int = 100,
    ) -> Found[Receipt]:
        digits = compared_digits(id or "")

        def wanted(one: Receipt) -> bool:
            return (
                (id is None or id in (one.trace[:digits], one.trace[-digits:], one.message_id))
                and (sender is None or one.sender == sender)
                and (type is None or one.type == type)
                and (
                    outcome in (None, "bad")
                    or (HELD in one.recipients if outcome == "held" else one.outcome == outcome)
                )
            )

        good = None if outcome is None else outcome in ("good", "held")
        found: Found[Receipt] = Found()
        async with aclosing(self._read(good, since, wanted, found)) as reading:
            async for receipts in reading:
                found += receipts
                if len(found) >= limit:
                    break
        # Nodes publish a second's worth at a time, so batches of two nodes overlap.
        found.sort(key=lambda one: one.at, reverse=True)
        del found[limit:]
        return found

    async def causes(self, since: float) -> Found[Cause]:
        found: Found[Cause] = Found()
        times: dict[tuple[str, str], int] = {}
        last: dict[tuple[str, str], Receipt] = {}
        async for receipts in self._read(False, since, lambda one: True, found):
            for one in receipts:
                key = (one.outcome, one.type)
                times[key] = times.get(key, 0) + 1
                if key not in last or one.at > last[key].at:
                    last[key] = one
        order = sorted(times, key=lambda key: (-times[key], key))
        found += [Cause(*key, times[key], last[key]) for key in order[:MAX_CAUSES]]
        return found

    async def _read(
        self, good: bool | None, since: float, wanted: Callable[[Receipt], bool], found: Found[Receipt] | Found[Cause]
    ) -> AsyncGenerator[list[Receipt]]:
        """Yields the receipts that are wanted, the newest first, a window of the stream at a time.

        Where it ends early, it sets ``found.looked_since``.
        """
        if self._closed:
            return
        await self.settle()
        since = max(since, wall_time() - self._bounds.days * 86_400)
        subject = self._all if good is None else self._subjects[good]
        limits = self._limits
        until = asyncio.get_running_loop().time() + limits.seconds
        rows, size, window, oldest = 0, 0, limits.min_window, wall_time()
        try:
            if not self._opened:
                await self._open(self._bounds)
            info = await self.stream.state()
            end, begin = int(info["last_seq"]), int(info["first_seq"])
            while end >= begin and rows < self._bounds.rows:
                if size > limits.bytes or asyncio.get_running_loop().time() > until:
                    found.looked_since = oldest
                    return
                first = max(begin, end - window + 1)
                messages = await self._between(subject, first, end)
                read = sum(len(one.data) for one in messages)
                receipts = await asyncio.to_thread(_decoded, messages, self._bounds.rows - rows)
                rows += len(receipts)
                yield [one for one in receipts if one.at >= since and wanted(one)]
                if receipts:
                    oldest = min(oldest, min(one.at for one in receipts))
                    if max(one.at for one in receipts) < since - SKEW_S:
                        return
                size += read
                end = first - 1
                if read < limits.page_bytes // 4:
                    window = min(2 * window, limits.max_window)
                else:
                    window = max(window // 2, limits.min_window)
        except BesterError as error:
            log.warning("receipts cannot be read now: %s", error.inside)
            found.looked_since = oldest

    async def _between(self, subject: str, first: int, last: int) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        while first <= last:
            page = await self.stream.messages_between(subject, first, last, last - first + 1, self._limits.page_bytes)
            if not page:
                break
            found += page
            first = page[-1].sequence + 1
        return found


# -- on a thread -----------------------------------------------------------------------------------------------------


def _batches(receipts: Sequence[Receipt], node: str, most: int) -> Iterator[tuple[bool, bytes]]:
    for good in (True, False):
        yield from (
            (good, data) for data in _split([one for one in receipts if (one.outcome == "good") is good], node, most)
        )


def _split(receipts: Sequence[Receipt], node: str, most: int) -> Iterator[bytes]:
    """Encodes receipts in as few messages as NATS takes; a route that is too large by itself is left out."""
    if not receipts:
        return
    data = _encode(_Batch(node, list(receipts)))
    if len(data) <= most:
        yield data
    elif len(receipts) > 1:
        half = len(receipts) // 2
        yield from _split(receipts[:half], node, most)
        yield from _split(receipts[half:], node, most)
    elif receipts[0].route:
        yield from _split([receipts[0]._replace(route="")], node, most)


def _decoded(messages: Iterable[StoredMessage], most: int) -> list[Receipt]:
    """Decodes batches, and returns their newest receipts, the newest first."""
    found: list[Receipt] = []
    for message in reversed(list(messages)):
        try:
            batch = _decode(message.data)
        except msgspec.DecodeError:
            continue  # of another release
        found += [one._replace(node=batch.node) for one in reversed(batch.receipts)]
        if len(found) >= most:
            break
    return found[:most]
