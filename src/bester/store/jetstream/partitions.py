"""Streams that are partitioned by account (``cluster.partitions``).

A stream has one leader, which all its writes, and all reads of its newest state, go to. Several streams share this
work, and a NATS server that is lost takes the leaders of some of them. The partition of a key follows from the key, so
all nodes must have the same number: it is part of the streams' names, and NATS refuses other streams with the same
subjects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from bester.bus.connection import Bus
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Stream, StreamConfig


@dataclass(frozen=True, slots=True)
class Layout:
    """The distribution of a cluster's streams."""

    replicas: int = 1
    """The number of NATS servers that have each stream."""
    partitions: int = 1
    """The number of streams among which the accounts are divided."""


SINGLE = Layout()


class PartitionedStream:
    """The partitions of one stream.

    Args:
        bus: the connection.
        names: of this server's streams.
        name: the stream's name, which begins those of the partitions.
        root: the first part of their subjects.
        rest: the subjects after the key, as one pattern: ``*`` if there is nothing but the key, else ``>``.
        layout: how many partitions and replicas there are.
        allow_ttl, refuse_new: as :class:`~bester.store.jetstream.stream.StreamConfig` takes them.
    """

    def __init__(
        self,
        bus: Bus,
        names: Names,
        name: str,
        root: str,
        rest: str,
        layout: Layout,
        *,
        allow_ttl: bool = False,
        refuse_new: bool = False,
    ) -> None:
        self._names = names
        self._root = root
        self._rest = rest
        self.count = layout.partitions
        self.replicas = layout.replicas
        self.streams = [
            Stream(
                bus,
                StreamConfig(
                    names.stream(name if self.count == 1 else f"{name}_{number}_OF_{self.count}"),
                    self._pattern(number),
                    layout.replicas,
                    allow_ttl=allow_ttl,
                    refuse_new=refuse_new,
                ),
            )
            for number in range(self.count)
        ]

    def _parts(self, number: int) -> tuple[str, ...]:
        return (self._root,) if self.count == 1 else (self._root, str(number))

    def _pattern(self, number: int) -> str:
        return self._names.subject(*self._parts(number), self._rest)

    def _number(self, key: str) -> int:
        return crc32(key.encode()) % self.count

    async def open(self) -> None:
        """Creates the streams that do not exist.

        Raises:
            BadConfiguration: they cannot be created, or there is another number of partitions.
        """
        for stream in self.streams:
            await stream.open()

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

    def stream_of(self, key: str) -> Stream:
        """Returns the stream of a key, which must be safe in subjects."""
        return self.streams[self._number(key)]

    def subject(self, key: str, *rest: str) -> str:
        """Returns a subject of a key."""
        return self._names.subject(*self._parts(self._number(key)), key, *rest)

    def patterns(self) -> Iterator[tuple[Stream, str]]:
        """Returns all streams, each with the pattern that matches all its subjects."""
        for number, stream in enumerate(self.streams):
            yield stream, self._pattern(number)

    async def keys(self) -> set[str]:
        """Returns all keys that have messages."""
        found: set[str] = set()
        for number, stream in enumerate(self.streams):
            begin = len(self._names.subject(*self._parts(number))) + 1
            found.update(one[begin:].partition(".")[0] for one in await stream.subjects(self._pattern(number)))
        return found

    async def message_count(self) -> int:
        """Returns how many messages there are."""
        return sum([int((await stream.state())["messages"]) for stream in self.streams])
