"""Receipts of all nodes of a server, in JetStream: each message of the stream is a batch of one node.

Those of good messages and of bad ones have a subject each, since most who ask want to know of the few bad ones.
There is no index: whoever asks looks through the stream from its end backwards, and says how far that was where it was
not all (:data:`MAX_LOOK_S`, :data:`MAX_LOOK_BYTES`). As in a file, what cannot be kept is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing

import msgspec
from msgspec import Struct

from bester.bus.connection import Bus
from bester.clock import wall_time
from bester.errors import BesterError
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Stored, Stream, Wanted
from bester.store.receipts import MAX_PENDING, PRUNE_EVERY_S, Bounds, Cause, Found, Receipt, told_digits

log = logging.getLogger("bester.receipts")

MAX_LOOK_S = 5.0
MAX_LOOK_BYTES = 256 * 1024 * 1024
"""How long somebody who asks looks at most, and at how much."""
ROW_BYTES = 512
"""How much of the stream one receipt may take, on the average."""
SKEW_S = 10.0
"""How much later than its messages a batch may be written, and how much nodes' clocks may differ."""
KEEP = 0.9
"""How much of what may be there is left when something is removed."""
CLOSE_S = 2.0
MAX_CAUSES = 100
_MIN_WINDOW, _MAX_WINDOW = 16, 4096
_PAGE_BYTES = 4 * 1024 * 1024


class _Batch(Struct, array_like=True):
    node: str
    receipts: list[Receipt]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Batch).decode


class JetStreamReceipts:
    """Keeps the receipts of a node beside those of the others.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        node: what this node is called.
        bounds: how much is kept.
        replicas: on how many NATS servers each batch is kept.
    """

    def __init__(self, bus: Bus, names: Names, node: str, bounds: Bounds, replicas: int = 1) -> None:
        self.lost = 0
        self.expired = 0  # NATS removes them, and does not say how many
        self._bus = bus
        self._node = node
        self._bounds = bounds
        self._replicas = replicas
        self._name = names.stream("RECEIPTS")
        self._subjects = {good: names.subject("receipts", "good" if good else "bad") for good in (True, False)}
        self._all = names.subject("receipts", "*")
        self._stream = self._wanted(bounds)
        self._opened = False
        self._batches = 0
        self._boot = secrets.token_hex(8)
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = False
        self._closed = False
        self._pruned = time.monotonic()

    def _wanted(self, bounds: Bounds) -> Stream:
        wanted = Wanted(
            self._name,
            self._all,
            self._replicas,
            max_age_s=bounds.days * 86_400,
            many=True,
        )
        return Stream(self._bus, wanted)

    def open(self) -> None:
        self._spawn(list, 0, self._bounds)

    def add(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        if self._closed or len(self._tasks) >= MAX_PENDING:
            self.lost += count
        else:
            self._spawn(make, count, bounds)

    def _spawn(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        task = asyncio.get_running_loop().create_task(self._write(make, count, bounds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, make: Callable[[], Sequence[Receipt]], count: int, bounds: Bounds) -> None:
        kept = False
        try:
            async with self._writing:
                await self._open(bounds)
                if not bounds.rows:
                    make = list
                most = max(1024, self._bus.max_payload - 1024)
                batches = await asyncio.to_thread(lambda: list(_batches(make(), self._node, most)))
                for good, data in batches:
                    self._batches += 1
                    # Asked twice, NATS still keeps it once.
                    id = {"Nats-Msg-Id": f"{self._boot}-{self._batches}"}
                    await self._stream.put(self._subjects[good], data, id)
                kept = True
                self._failing = False
                await self._prune()
        except Exception as error:
            if not self._failing:
                self._failing = True
                log.warning("receipts are not kept for now: %s", error)
        finally:
            if not kept:
                self.lost += count

    async def _open(self, bounds: Bounds) -> None:
        if not self._opened or bounds != self._bounds:
            self._stream = self._wanted(bounds)
            self._bounds = bounds
            self._opened = False
            await self._stream.open()
            self._opened = True

    async def _prune(self) -> None:
        """Removes the oldest batches where there are too many; NATS would set aside room for a bound of its own."""
        now = time.monotonic()
        if now < self._pruned + PRUNE_EVERY_S:
            return
        self._pruned = now
        state = await self._stream.info()
        most = self._bounds.rows * ROW_BYTES
        if state["bytes"] > most:
            await self._stream.keep(int(state["messages"] * most / state["bytes"] * KEEP))

    async def settle(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        self._closed = True
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._stream.close()

    # -- those who ask -------------------------------------------------------------------------------------------

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
        digits = told_digits(id or "")

        def wanted(one: Receipt) -> bool:
            return (
                (id is None or id in (one.trace[:digits], one.trace[-digits:], one.message_id))
                and (sender is None or one.sender == sender)
                and (type is None or one.type == type)
                and (outcome in (None, "bad") or one.outcome == outcome)
            )

        good = None if outcome is None else outcome == "good"
        found: Found[Receipt] = Found()
        async with aclosing(self._look(good, since, wanted, found)) as looking:
            async for receipts in looking:
                found += receipts
                if len(found) >= limit:
                    break
        # Nodes write theirs a second's worth at a time: what they had meanwhile belongs in between.
        found.sort(key=lambda one: one.at, reverse=True)
        del found[limit:]
        return found

    async def causes(self, since: float) -> Found[Cause]:
        found: Found[Cause] = Found()
        times: dict[tuple[str, str], int] = {}
        last: dict[tuple[str, str], Receipt] = {}
        async for receipts in self._look(False, since, lambda one: True, found):
            for one in receipts:
                key = (one.outcome, one.type)
                times[key] = times.get(key, 0) + 1
                if key not in last or one.at > last[key].at:
                    last[key] = one
        order = sorted(times, key=lambda key: (-times[key], key))
        found += [Cause(*key, times[key], last[key]) for key in order[:MAX_CAUSES]]
        return found

    async def _look(
        self, good: bool | None, since: float, wanted: Callable[[Receipt], bool], found: Found[Receipt] | Found[Cause]
    ) -> AsyncGenerator[list[Receipt]]:
        """Gives what is wanted, the newest first, a window at a time; ``found`` is told where it ends too early."""
        if self._closed:
            return
        await self.settle()
        since = max(since, wall_time() - self._bounds.days * 86_400)
        subject = self._all if good is None else self._subjects[good]
        until = asyncio.get_running_loop().time() + MAX_LOOK_S
        rows, size, window, oldest = 0, 0, _MIN_WINDOW, wall_time()
        try:
            if not self._opened:
                await self._open(self._bounds)
            info = await self._stream.info()
            end, begin = int(info["last_seq"]), int(info["first_seq"])
            while end >= begin and rows < self._bounds.rows:
                if size > MAX_LOOK_BYTES or asyncio.get_running_loop().time() > until:
                    found.looked_since = oldest
                    return
                first = max(begin, end - window + 1)
                messages = await self._between(subject, first, end)
                read = sum(len(one.data) for one in messages)
                kept = await asyncio.to_thread(_read, messages, self._bounds.rows - rows)
                rows += len(kept)
                yield [one for one in kept if one.at >= since and wanted(one)]
                if kept:
                    oldest = min(oldest, min(one.at for one in kept))
                    if max(one.at for one in kept) < since - SKEW_S:
                        return
                size += read
                end = first - 1
                window = min(2 * window, _MAX_WINDOW) if read < _PAGE_BYTES // 4 else max(window // 2, _MIN_WINDOW)
        except BesterError as error:
            log.warning("receipts cannot be read now: %s", error.inside)
            found.looked_since = oldest

    async def _between(self, subject: str, first: int, last: int) -> list[Stored]:
        found: list[Stored] = []
        while first <= last:
            page = await self._stream.between(subject, first, last, last - first + 1, _PAGE_BYTES)
            if not page:
                break
            found += page
            first = page[-1].position + 1
        return found


# -- on a thread -----------------------------------------------------------------------------------------------------


def _batches(receipts: Sequence[Receipt], node: str, most: int) -> Iterator[tuple[bool, bytes]]:
    for good in (True, False):
        yield from (
            (good, data) for data in _split([one for one in receipts if (one.outcome == "good") is good], node, most)
        )


def _split(receipts: Sequence[Receipt], node: str, most: int) -> Iterator[bytes]:
    """Encodes receipts, in as many parts as NATS needs; a route that is too large for it is left out."""
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


def _read(messages: Iterable[Stored], most: int) -> list[Receipt]:
    """Decodes the newest so many receipts of batches, the newest first."""
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
