"""What is remembered of ``once`` messages, in JetStream: each record is the one message of its key's subject."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bester.bus.connection import Bus
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Repeated, Stream, Wanted
from bester.store.ports import Remembered

PAGE = 256


_DIGEST = 16


class JetStreamOnce:
    """The memory's half of a message store."""

    def __init__(self, bus: Bus, names: Names, replicas: int) -> None:
        self._once_names = names
        self._once = Stream(
            bus, Wanted(names.stream("ONCE"), names.subject("once", "*"), replicas, refuse_repeats=True)
        )

    def may_recall(self, key: bytes) -> bool:
        """Always: another node may remember it."""
        return True

    async def recall(self, key: bytes) -> Remembered | None:
        found = await self._once.last(self._once_subject(key))
        if found is None:
            return None
        begin = 8 + _DIGEST
        return Remembered(key, found.data[8:begin], found.data[begin:])

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        stamp = int(now * 1000).to_bytes(8, "little")
        writing = [self._once.put(self._once_subject(one.key), stamp + one.digest + one.report) for one in records]
        for result in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Repeated):
                raise result

    async def forget_before(self, time: float, at_most: int) -> None:
        while page := await self._once.page(self._once_names.subject("once", "*"), 0, PAGE):
            old = [one for one in page if int.from_bytes(one.data[:8], "little") < int(time * 1000)]
            await asyncio.gather(*(self._once.delete(one.position) for one in old))
            if len(old) < len(page):
                break
        if (await self._once.info())["messages"] > at_most:
            await self._once.keep(at_most)

    def _once_subject(self, key: bytes) -> str:
        return self._once_names.subject("once", key.hex())
