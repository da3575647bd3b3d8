"""Leases in JetStream: each is the only message of its name's subject, with a lifetime (``Nats-TTL``).

So no two clocks are compared: NATS says when a lease has ended, and its holder counts from before it asked.
"""

from __future__ import annotations

import msgspec

from bester.bus.connection import Bus
from bester.errors import Overloaded
from bester.store.jetstream.errors import WrongLastSequence
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import StoredMessage, Stream, StreamConfig
from bester.store.ports import Lease

PAGE = 1000
TRIES = 5
"""How often a node tries to take a lease that ends, or is given back, at that moment."""


class _Entry(msgspec.Struct):
    name: str
    node: str


_entry = msgspec.json.Decoder(_Entry)


class JetStreamLeases:
    """A :class:`~bester.store.ports.LeaseStore` for a cluster.

    Args:
        bus: the connection, which is open before this is.
        names: of this server's streams.
        replicas: on how many NATS servers each lease is.
    """

    def __init__(self, bus: Bus, names: Names, replicas: int = 1) -> None:
        self._names = names
        self._stream = Stream(
            bus, StreamConfig(names.stream("LEASES"), names.subject("lease", "*"), replicas, allow_ttl=True)
        )

    async def open(self) -> None:
        await self._stream.open()

    async def close(self) -> None:
        self._stream.close()

    async def take(self, name: str, node: str, lifetime_s: int) -> Lease:
        for _ in range(TRIES):
            try:
                return await self._publish(Lease(name, node, 0), lifetime_s)
            except WrongLastSequence:
                found = await self._find(name)
            if found is None:
                continue
            if found.node != node:
                return found
            # The node held it before, under the same name; or the answer to its first try was lost.
            renewed = await self.renew(found, lifetime_s)
            if renewed is not None:
                return renewed
        raise Overloaded("a lease changes hands too often")

    async def renew(self, lease: Lease, lifetime_s: int) -> Lease | None:
        for _ in range(TRIES):
            try:
                return await self._publish(lease, lifetime_s)
            except WrongLastSequence:
                found = await self._find(lease.name)
            if found is None or found.node != lease.node:
                return None
            lease = found  # it was renewed, and the answer was lost
        return None

    async def give_back(self, lease: Lease) -> None:
        await self._stream.delete(lease.version)

    async def list(self) -> list[Lease]:
        found: list[Lease] = []
        after = 0
        while page := await self._stream.page(self._names.subject("lease", "*"), after, PAGE):
            found += [_lease(stored) for stored in page]
            after = page[-1].sequence
            if len(page) < PAGE:
                break
        return sorted(found, key=lambda lease: lease.name)

    async def _publish(self, lease: Lease, lifetime_s: int) -> Lease:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(lease.version), "Nats-TTL": f"{lifetime_s}s"}
        data = msgspec.json.encode(_Entry(lease.name, lease.node))
        return Lease(lease.name, lease.node, await self._stream.publish(self._subject(lease.name), data, headers))

    async def _find(self, name: str) -> Lease | None:
        stored = await self._stream.last_message(self._subject(name))
        return _lease(stored) if stored is not None else None

    def _subject(self, name: str) -> str:
        return self._names.subject("lease", self._names.token(name))


def _lease(stored: StoredMessage) -> Lease:
    entry = _entry.decode(stored.data)
    return Lease(entry.name, entry.node, stored.sequence)
