"""What is held for consent, in JetStream.

A held message is the only one of its subject, which consists of its holder, its sender, its id and its size. What is
released is published once more, at a subject that says so, and then removed where it was held; so it stays in the order
of the releases. A sender that a holder trusts is a message of a stream of its own.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from hashlib import blake2b

import msgspec

from bester.bus.connection import Bus
from bester.store.held import OPERATORS, Held, HeldBounds, HeldHead, HeldMessage, HoldOutcome
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import StoredMessage, Stream, StreamConfig

PAGE = 256


class _Head(msgspec.Struct, array_like=True):
    id: str
    holder: str
    created: float
    head: HeldHead


_head = msgspec.json.Decoder(_Head)


class JetStreamHeld:
    """The held messages of a message store."""

    def __init__(self, bus: Bus, names: Names, replicas: int) -> None:
        self._names = names
        self.held = Stream(
            bus, StreamConfig(names.stream("HELD"), names.subject("held", ">"), replicas, refuse_new=True)
        )
        self.trust = Stream(bus, StreamConfig(names.stream("TRUST"), names.subject("trust", ">"), replicas))

    # -- holding -------------------------------------------------------------------------------------------------

    async def hold(self, messages: Sequence[HeldMessage], bounds: HeldBounds, now: float) -> builtins.list[HoldOutcome]:
        return [await self._hold(one, bounds, now) for one in messages]

    async def _hold(self, one: HeldMessage, bounds: HeldBounds, now: float) -> HoldOutcome:
        sender = one.head.sender
        trusted = await self._trusts(one.holder, sender)
        if trusted and not await self.held.subjects(self._held_subjects("free", one.holder, sender)):
            return "passes"
        if await self._is_full(one, bounds):
            return "full"
        await self.restore_held(one, now, released=trusted)
        if not trusted and await self._trusts(one.holder, sender):  # since a moment ago, at another node
            await self._release_all(self._held_subjects("kept", one.holder, sender))
        return "held"

    async def restore_held(self, one: HeldMessage, created: float, *, released: bool) -> None:
        """Adds a message, unless the stream has it already."""
        subject = self._held_subjects("free" if released else "kept", one.holder, one.head.sender)
        await self._publish_held(subject.replace(">", f"{_digest(one.id)}.{len(one.data)}"), _encoded(one, created))

    async def restore_trust(self, holder: str, sender: str) -> None:
        """Lets a holder trust a sender."""
        await self.trust.publish(self._trust_subject(holder, sender), sender.encode())

    async def _is_full(self, one: HeldMessage, bounds: HeldBounds) -> bool:
        if (await self.held.state())["messages"] >= bounds.total:
            return True
        held = [
            subject
            for place in ("kept", "free")
            for subject in await self.held.subjects(self._held_subjects(place, one.holder))
        ]
        size = sum(int(subject.rpartition(".")[2]) for subject in held)
        return len(held) >= bounds.messages or size + len(one.data) > bounds.bytes

    async def _publish_held(self, subject: str, data: bytes) -> None:
        with suppress(SubjectTaken):  # an earlier try has published it
            await self.held.publish(subject, data)

    # -- consent -------------------------------------------------------------------------------------------------

    async def release_held(self, holder: str, positions: Sequence[int]) -> int:
        found = await self._held_at(holder, positions)
        for stored in found:
            await self._release_one(stored)
        return len(found)

    async def release_sender(self, holder: str, sender: str, *, always: bool, now: float) -> int:
        if always:
            await self.restore_trust(holder, sender)
        return await self._release_all(self._held_subjects("kept", holder, sender))

    async def _release_all(self, subject: str) -> int:
        count = 0
        async for stored in self._walk_held(subject, 0):
            await self._release_one(stored)
            count += 1
        return count

    async def _release_one(self, stored: StoredMessage) -> None:
        await self._publish_held(
            stored.subject.replace(self._held_root("kept"), self._held_root("free"), 1), stored.data
        )
        await self.held.delete(stored.sequence)

    async def refuse_held(self, holder: str, positions: Sequence[int]) -> int:
        found = await self._held_at(holder, positions)
        await asyncio.gather(*(self.held.delete(stored.sequence) for stored in found))
        return len(found)

    async def refuse_sender(self, holder: str, sender: str) -> int:
        await self.trust.purge(self._trust_subject(holder, sender))
        return await self.held.purge(self._held_subjects("kept", holder, sender))

    async def trusted(self, holder: str) -> builtins.list[str]:
        found: list[str] = []
        after = 0
        while page := await self.trust.page(self._trust_subject(holder, None), after, PAGE):
            after = page[-1].sequence
            found += [one.data.decode() for one in page]
        return sorted(found)

    async def _trusts(self, holder: str, sender: str) -> bool:
        return await self.trust.last_message(self._trust_subject(holder, sender)) is not None

    # -- reading and removing ------------------------------------------------------------------------------------

    async def list_held(self, holder: str, after: int, limit: int) -> builtins.list[Held]:
        return await self._list_held(self._held_subjects("kept", holder), after, limit)

    async def count_held(self) -> tuple[int, int]:
        total: int = (await self.held.state())["messages"]
        released = len(await self.held.subjects(self._names.subject("held", "free", ">")))
        operators = len(await self.held.subjects(self._held_subjects("kept", OPERATORS)))
        return operators, max(0, total - released - operators)

    async def released(self, after: int, limit: int) -> builtins.list[Held]:
        return await self._list_held(self._names.subject("held", "free", ">"), after, limit)

    async def remove_held(self, positions: Sequence[int]) -> None:
        await asyncio.gather(*(self.held.delete(position) for position in positions))

    async def expire_held(self, before: float, limit: int) -> int:
        old: list[int] = []
        async for stored in self._walk_held(self._names.subject("held", "kept", ">"), 0):
            if _decoded(stored).created >= before or len(old) >= limit:
                break
            old.append(stored.sequence)
        await self.remove_held(old)
        return len(old)

    async def clear_held(self, holder: str) -> int:
        await self.trust.purge(self._trust_subject(holder, None))
        await self.trust.purge(self._names.subject("trust", "*", _digest(f"user:{holder}")))
        return sum([await self.held.purge(self._held_subjects(place, holder)) for place in ("kept", "free")])

    async def _list_held(self, subject: str, after: int, limit: int) -> builtins.list[Held]:
        found: list[Held] = []
        async for stored in self._walk_held(subject, after):
            found.append(_decoded(stored))
            if len(found) >= limit:
                break
        return found

    async def _walk_held(self, subject: str, after: int) -> AsyncIterator[StoredMessage]:
        while page := await self.held.page(subject, after, PAGE):
            after = page[-1].sequence
            for stored in page:
                yield stored

    async def _held_at(self, holder: str, positions: Sequence[int]) -> builtins.list[StoredMessage]:
        """Returns those of these messages that are held for a holder, and not released."""
        root = f"{self._held_root('kept')}{self._names.token(holder) or '-'}."
        found = await asyncio.gather(*(self.held.message_at(one) for one in sorted(set(positions))))
        return [one for one in found if one is not None and one.subject.startswith(root)]

    # -- subjects ------------------------------------------------------------------------------------------------

    def _held_root(self, place: str) -> str:
        return self._names.subject("held", place) + "."

    def _held_subjects(self, place: str, holder: str, sender: str | None = None) -> str:
        """Returns the pattern of what is held for a holder, of one sender or of all; ``>`` stands for id and size."""
        sent_by = _digest(sender) if sender is not None else "*"
        return f"{self._held_root(place)}{self._names.token(holder) or '-'}.{sent_by}.>"

    def _trust_subject(self, holder: str, sender: str | None) -> str:
        sent_by = _digest(sender) if sender is not None else "*"
        return self._names.subject("trust", self._names.token(holder) or "-", sent_by)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _encoded(one: HeldMessage, created: float) -> bytes:
    head = msgspec.json.encode(_Head(one.id, one.holder, created, one.head))
    return len(head).to_bytes(4, "little") + head + one.data


def _decoded(stored: StoredMessage) -> Held:
    size = int.from_bytes(stored.data[:4], "little")
    head = _head.decode(stored.data[4 : 4 + size])
    return Held(stored.sequence, HeldMessage(head.id, head.holder, head.head, stored.data[4 + size :]), head.created)
