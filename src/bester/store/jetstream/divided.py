"""What is kept for many accounts, in one stream or divided among several (``cluster.partitions``).

A stream has one leader, which all its writes and newest reads go to; several share the work, and a NATS server that is
lost takes the leaders of some of them. Which one a key is in follows from the key, so all nodes must divide alike: the
streams' names say among how many, and NATS refuses others for the same subjects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from bester.bus.connection import Bus
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Stream, Wanted


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the streams of a cluster keep things."""

    replicas: int = 1
    """On how many NATS servers."""
    partitions: int = 1
    """Among how many streams what belongs to accounts is divided."""


ONE = Keeping()
"""On one NATS server, and not divided."""


class Divided:
    """The streams of one kind.

    Args:
        bus: the connection.
        names: of this server's streams.
        what: begins the streams' names.
        root: of their subjects.
        rest: the subjects behind the key, as one pattern: ``*`` if there is nothing but the key, else ``>``.
        keeping: how they keep.
        more: what else :class:`~bester.store.jetstream.stream.Wanted` takes.
    """

    def __init__(self, bus: Bus, names: Names, what: str, root: str, rest: str, keeping: Keeping, **more: Any) -> None:
        self._names = names
        self._root = root
        self._rest = rest
        self.count = keeping.partitions
        self.replicas = keeping.replicas
        self.streams = [
            Stream(
                bus, Wanted(names.stream(self._called(what, number)), self._pattern(number), keeping.replicas, **more)
            )
            for number in range(self.count)
        ]

    def _called(self, what: str, number: int) -> str:
        return what if self.count == 1 else f"{what}_{number}_OF_{self.count}"

    def _parts(self, number: int) -> tuple[str, ...]:
        return (self._root,) if self.count == 1 else (self._root, str(number))

    def _pattern(self, number: int) -> str:
        return self._names.subject(*self._parts(number), self._rest)

    def _number(self, key: str) -> int:
        return crc32(key.encode()) % self.count

    async def open(self) -> None:
        """Makes those that are not there.

        Raises:
            BadConfiguration: they cannot be made, or are divided otherwise.
        """
        for stream in self.streams:
            await stream.open()

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

    def of(self, key: str) -> Stream:
        """Returns the stream that a key is in; it must be safe in subjects."""
        return self.streams[self._number(key)]

    def subject(self, key: str, *rest: str) -> str:
        """Returns a subject of a key."""
        return self._names.subject(*self._parts(self._number(key)), key, *rest)

    def each(self) -> Iterator[tuple[Stream, str]]:
        """Returns all streams, with the pattern of all that each of them has."""
        for number, stream in enumerate(self.streams):
            yield stream, self._pattern(number)

    async def keys(self) -> set[str]:
        """Returns all keys that there is something of."""
        found: set[str] = set()
        for number, stream in enumerate(self.streams):
            begin = len(self._names.subject(*self._parts(number))) + 1
            found.update(one[begin:].partition(".")[0] for one in await stream.subjects(self._pattern(number)))
        return found

    async def messages(self) -> int:
        """Returns how many messages there are."""
        return sum([int((await stream.info())["messages"]) for stream in self.streams])
