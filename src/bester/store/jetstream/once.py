"""What is remembered of ``once`` messages, in JetStream: each record is the one message of its key's subject."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from bester.bus.connection import Bus
from bester.store.jetstream.divided import Divided, Keeping
from bester.store.jetstream.names import Names
from bester.store.jetstream.stream import Repeated
from bester.store.ports import Remembered

PAGE = 256


_DIGEST = 16


class JetStreamOnce:
    """The memory's half of a message store."""

    def __init__(self, bus: Bus, names: Names, keeping: Keeping) -> None:
        self._once = Divided(bus, names, "ONCE", "once", "*", keeping, refuse_repeats=True)

    def may_recall(self, key: bytes) -> bool:
        """Always: another node may remember it."""
        return True

    async def recall(self, key: bytes) -> Remembered | None:
        found = await self._once.of(key.hex()).last(self._once.subject(key.hex()))
        if found is None:
            return None
        begin = 8 + _DIGEST
        return Remembered(key, found.data[8:begin], found.data[begin:])

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        stamp = int(now * 1000).to_bytes(8, "little")
        writing = [
            self._once.of(one.key.hex()).put(self._once.subject(one.key.hex()), stamp + one.digest + one.report)
            for one in records
        ]
        for result in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Repeated):
                raise result

    async def forget_before(self, time: float, at_most: int) -> None:
        for stream, all in self._once.each():
            while page := await stream.page(all, 0, PAGE):
                old = [one for one in page if int.from_bytes(one.data[:8], "little") < int(time * 1000)]
                await asyncio.gather(*(stream.delete(one.position) for one in old))
                if len(old) < len(page):
                    break
        excess = await self._once.messages() - at_most
        while excess > 0:
            excess -= await self._forget_oldest(min(excess, PAGE))

    async def _forget_oldest(self, count: int) -> int:
        """Forgets the oldest of all streams, up to so many, and returns how many those were."""
        oldest = [
            (one.data[:8][::-1], one.position, stream)
            for stream, all in self._once.each()
            for one in await stream.page(all, 0, count)
        ]
        oldest.sort(key=itemgetter(0, 1))
        last = {stream: position for _, position, stream in oldest[:count]}
        await asyncio.gather(*(stream.purge_up_to(position) for stream, position in last.items()))
        return len(oldest[:count]) or count
