"""The outbox in JetStream: a message is the only one of its subject, which consists of its destination and its id.

The state that changes with each try is in a stream of its own, at a subject with the message's sequence; only the
holder of the destination's lease publishes it. A message without a state has never been tried; an account's message
without one is a dead letter.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import blake2b

import msgspec

from bester.bus.connection import Bus
from bester.bus.headers import header
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import StoredMessage, Stream, StreamConfig
from bester.store.ports import Outgoing, Queued, QueueSize, account_of

PAGE = 256
PAGE_BYTES = 4 * 1024 * 1024
_BYTES, _CREATED = "Bester-Bytes", "Bester-Created"
_OVERHEAD = 1024
"""About how many bytes the stream counts of a message beside its data, at most."""


class _Head(msgspec.Struct, array_like=True):
    destination: str
    message_id: str
    type: str
    hops: int
    trace: str
    created: float


class _State(msgspec.Struct, omit_defaults=True):
    created: float
    tries: int = 0
    next_try: float = 0.0
    last_error: str = ""
    dead: bool = False


_head = msgspec.json.Decoder(_Head)
_state = msgspec.json.Decoder(_State)


class JetStreamOutbox:
    """The outbox of a message store."""

    def __init__(self, bus: Bus, names: Names, replicas: int) -> None:
        self._names = names
        self.outgoing = Stream(
            bus, StreamConfig(names.stream("OUTBOX"), names.subject("out", ">"), replicas, refuse_new=True)
        )
        self.tries = Stream(bus, StreamConfig(names.stream("TRIES"), names.subject("tries", "*"), replicas))
        self._enqueue_lock = asyncio.Lock()
        """Messages are published in the order of the calls."""

    # -- into the outbox -----------------------------------------------------------------------------------------

    async def enqueue(self, messages: Sequence[Outgoing], now: float) -> builtins.list[int]:
        publishing: dict[str, asyncio.Future[int]] = {}
        subjects: list[str] = []
        async with self._enqueue_lock:
            for message in messages:
                subject = self._out_subject(message.destination, message.message_id)
                subjects.append(subject)
                if subject not in publishing:
                    publishing[subject] = asyncio.ensure_future(self.outgoing.publish(subject, *_encoded(message, now)))
        results = dict(zip(publishing, await asyncio.gather(*publishing.values(), return_exceptions=True), strict=True))
        found: dict[str, int] = {}
        for subject, result in results.items():
            if isinstance(result, SubjectTaken):
                found[subject] = await self._enqueued_again(subject, now)
            elif isinstance(result, BaseException):
                raise result
            else:
                found[subject] = result
        return [found[subject] for subject in subjects]

    async def restore_outbox(self, rows: Sequence[Queued]) -> None:
        """Adds messages of another store, in their order, with their tries. Messages that the stream has already stay
        as they are."""
        subjects = [self._out_subject(row.message.destination, row.message.message_id) for row in rows]
        pairs = zip(subjects, rows, strict=True)
        publishing = [self.outgoing.publish(subject, *_encoded(row.message, row.created)) for subject, row in pairs]
        results = await asyncio.gather(*publishing, return_exceptions=True)
        for subject, row, result in zip(subjects, rows, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, SubjectTaken):
                raise result
            state = _State(row.created, row.tries, row.next_try, row.last_error, row.dead)
            if state == _State(row.created):
                continue
            if isinstance(result, int):
                await self._publish_state(result, state)
                continue
            # An earlier run may have published it, and ended before it could publish its state.
            stored = await self.outgoing.last_message(subject)
            if stored is not None and await self.tries.last_message(self._tries_subject(stored.sequence)) is None:
                await self._publish_state(stored.sequence, state)

    async def _enqueued_again(self, subject: str, now: float) -> int:
        """Returns the position of a message that the stream has already; a dead letter waits again."""
        stored = await self.outgoing.last_message(subject)
        if stored is None:
            return 0  # it was sent at this moment
        (row,) = await self._rows([stored])
        if row.dead:
            await self._publish_state(row.position, _State(now))
        return row.position

    # -- out of the outbox ---------------------------------------------------------------------------------------

    async def read_outbox(
        self, destination: str, after: int, limit: int, max_bytes: int, now: float
    ) -> builtins.list[Queued]:
        found: list[Queued] = []
        size = 0
        async for row in self._walk(self._out_subject(destination, ""), after, max_bytes + _OVERHEAD * limit):
            if row.dead or row.next_try > now:
                continue
            size += len(row.message.data)
            if found and size > max_bytes:
                break
            found.append(row)
            if len(found) >= limit or size >= max_bytes:
                break
        return found

    async def remove_sent(self, positions: Sequence[int]) -> None:
        await asyncio.gather(*(self.outgoing.delete(position) for position in positions))
        await asyncio.gather(*(self.tries.purge(self._tries_subject(position)) for position in positions))

    async def note_failures(self, failures: Sequence[tuple[int, float, str]]) -> None:
        for position, next_try, last_error in failures:
            row = await self.find_queued(position)
            if row is not None:
                state = _State(row.created, row.tries + 1, next_try, last_error, row.dead)
                await self._publish_state(position, state)

    async def bury(self, letters: Sequence[tuple[int, str]]) -> None:
        for position, why in letters:
            row = await self.find_queued(position)
            if row is not None and not row.dead:
                await self._publish_state(position, _State(row.created, row.tries, 0.0, why, True))

    async def give_up_before(self, created: float, why: str, limit: int, destination: str | None = None) -> int:
        old: list[tuple[int, str]] = []
        async for row in self._walk(self._out_subject_of(destination), 0):
            if not row.dead and row.created < created:
                old.append((row.position, why))
                if len(old) >= limit:
                    break
        await self.bury(old)
        return len(old)

    async def revive(self, positions: Sequence[int], now: float) -> int:
        count = 0
        for position in positions:
            row = await self.find_queued(position)
            if row is not None and (row.dead or row.next_try):
                await self._publish_state(position, _State(now))
                count += 1
        return count

    # -- for operators -------------------------------------------------------------------------------------------

    async def queue_sizes(self) -> builtins.list[QueueSize]:
        """Sums up the messages' headers, without reading their data."""
        if not (await self.outgoing.state())["messages"]:
            return []
        states: dict[int, _State] = {}
        after = 0
        while page := await self.tries.page(self._names.subject("tries", "*"), after, PAGE):
            after = page[-1].sequence
            states.update((int(one.subject.rpartition(".")[2]), _state.decode(one.data)) for one in page)
        root = self._names.subject("out") + "."
        found: dict[str, QueueSize] = {}
        async for one in self.outgoing.headers(f"{root}>"):
            destination = Names.text(one.subject[len(root) :].partition(".")[0])
            state = states.get(one.sequence) or _first_state(destination, float(header(one.headers, _CREATED) or 0))
            size = found.get(destination) or QueueSize(destination, 0, 0, 0, 0.0)
            oldest = size.oldest if state.dead else min(size.oldest or state.created, state.created)
            found[destination] = QueueSize(
                destination,
                size.waiting + (not state.dead),
                size.dead + state.dead,
                size.bytes + int(header(one.headers, _BYTES) or 0),
                oldest,
            )
        return [found[destination] for destination in sorted(found)]

    async def list_queue(
        self, destination: str | None = None, dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> builtins.list[Queued]:
        found: list[Queued] = []
        async for row in self._walk(self._out_subject_of(destination), after):
            if dead is None or row.dead is dead:
                found.append(row)
                if len(found) >= limit:
                    break
        return found

    async def find_queued(self, position: int) -> Queued | None:
        stored = await self.outgoing.message_at(position)
        return (await self._rows([stored]))[0] if stored is not None else None

    # -- rows ----------------------------------------------------------------------------------------------------

    async def _walk(self, subject: str, after: int, max_bytes: int = PAGE_BYTES) -> AsyncIterator[Queued]:
        """Yields the messages after a position, page by page."""
        while page := await self.outgoing.page(subject, after, PAGE, min(max_bytes, PAGE_BYTES)):
            after = page[-1].sequence
            for row in await self._rows(page):
                yield row

    async def _rows(self, page: Iterable[StoredMessage]) -> builtins.list[Queued]:
        stored = list(page)
        states = {
            one.subject: _state.decode(one.data)
            for one in await self.tries.last_messages([self._tries_subject(one.sequence) for one in stored])
        }
        return [_row(one, states.get(self._tries_subject(one.sequence))) for one in stored]

    async def _publish_state(self, position: int, state: _State) -> None:
        await self.tries.publish(self._tries_subject(position), msgspec.json.encode(state))

    def _tries_subject(self, position: int) -> str:
        return self._names.subject("tries", str(position))

    def _out_subject_of(self, destination: str | None) -> str:
        """Returns the pattern of all messages for one destination, or for all."""
        return self._out_subject(destination, "") if destination is not None else self._names.subject("out", ">")

    def _out_subject(self, destination: str, message_id: str) -> str:
        digest = blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self._names.subject("out", self._names.token(destination), digest if message_id else "*")


def _encoded(message: Outgoing, created: float) -> tuple[bytes, dict[str, str]]:
    """Returns a message as that of the stream: its data and its headers."""
    head = msgspec.json.encode(
        _Head(message.destination, message.message_id, message.type, message.hops, message.trace, created)
    )
    headers = {_BYTES: str(len(message.data)), _CREATED: repr(created)}
    return len(head).to_bytes(4, "little") + head + message.data, headers


def _first_state(destination: str, created: float) -> _State:
    return _State(created, dead=account_of(destination) is not None)


def _row(stored: StoredMessage, state: _State | None) -> Queued:
    size = int.from_bytes(stored.data[:4], "little")
    head = _head.decode(stored.data[4 : 4 + size])
    message = Outgoing(head.destination, head.message_id, head.type, stored.data[4 + size :], head.hops, head.trace)
    state = state or _first_state(head.destination, head.created)
    return Queued(stored.sequence, message, state.created, state.tries, state.next_try, state.last_error, state.dead)
