"""Records of ``once`` messages in JetStream: each is the only message of its key's subject."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from bester.bus.connection import Bus
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout, PartitionedStream
from bester.store.ports import Remembered

PAGE = 256
_DIGEST_BYTES = 16


class JetStreamOnce:
    """The ``once`` records of a message store."""

    def __init__(self, bus: Bus, names: Names, layout: Layout) -> None:
        self.records = PartitionedStream(bus, names, "ONCE", "once", "*", layout, refuse_new=True)

    def may_recall(self, key: bytes) -> bool:
        """Returns True for every key, because another node may have recorded it."""
        return True

    async def recall(self, key: bytes) -> Remembered | None:
        found = await self.records.stream_of(key.hex()).last_message(self.records.subject(key.hex()))
        if found is None:
            return None
        begin = 8 + _DIGEST_BYTES
        return Remembered(key, found.data[8:begin], found.data[begin:])

    async def remember(self, records: Sequence[Remembered], now: float) -> None:
        stamp = int(now * 1000).to_bytes(8, "little")
        publishing = [self._publish_record(one.key.hex(), stamp + one.digest + one.report) for one in records]
        for result in await asyncio.gather(*publishing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, SubjectTaken):
                raise result

    def _publish_record(self, key: str, data: bytes) -> asyncio.Future[int]:
        return self.records.stream_of(key).publish(self.records.subject(key), data)

    async def forget_before(self, time: float, at_most: int) -> None:
        for stream, pattern in self.records.patterns():
            while page := await stream.page(pattern, 0, PAGE):
                old = [one for one in page if int.from_bytes(one.data[:8], "little") < int(time * 1000)]
                await asyncio.gather(*(stream.delete(one.sequence) for one in old))
                if len(old) < len(page):
                    break
        excess = await self.records.message_count() - at_most
        while excess > 0:
            excess -= await self._forget_oldest(min(excess, PAGE))

    async def _forget_oldest(self, count: int) -> int:
        """Forgets up to so many records, the oldest of all partitions, and returns how many."""
        oldest = [
            (one.data[:8][::-1], one.sequence, stream)
            for stream, pattern in self.records.patterns()
            for one in await stream.page(pattern, 0, count)
        ]
        oldest.sort(key=itemgetter(0, 1))
        last = {stream: sequence for _, sequence, stream in oldest[:count]}
        await asyncio.gather(*(stream.purge_up_to(sequence) for stream, sequence in last.items()))
        return len(oldest[:count]) or count
