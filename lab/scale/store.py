"""The outbox of one server: in memory, with the time and the processor's cost of a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

from bester.store.ports import Outgoing, Queued, QueueSize
from lab.scale.costs import COMMIT_S


class MemoryOutbox:
    """What the federation asks of a :class:`bester.store.ports.MessageStore`; no message is ever given up.

    Args:
        charge: takes the number of messages that are written or read.
    """

    __slots__ = ("_charge", "_destinations", "_queues", "emptied_at", "most")

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self._destinations: list[str] = [""]
        """By position, of all messages there ever were."""
        self._queues: dict[str, dict[int, Queued]] = {}
        self.most = 0
        """The most messages that were ever there."""
        self.emptied_at = 0.0
        """When it became empty last."""

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    async def enqueue(self, messages: Sequence[Outgoing], now: float) -> list[int]:
        await asyncio.sleep(COMMIT_S)
        self._charge(len(messages))
        positions = []
        for message in messages:
            position = len(self._destinations)
            self._destinations.append(message.destination)
            queue = self._queues.setdefault(message.destination, {})
            queue[position] = Queued(position, message, now, 0, 0.0, "", False)
            positions.append(position)
        self.most = max(self.most, len(self))
        return positions

    async def read_outbox(self, destination: str, after: int, limit: int, max_bytes: int, now: float) -> list[Queued]:
        await asyncio.sleep(0)
        rows = self._queues.get(destination, {}).values()
        page = list(islice((row for row in rows if row.position > after and row.next_try <= now), limit))
        self._charge(len(page))
        return page

    async def list_queue(
        self, destination: str | None = None, dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> list[Queued]:
        return list(islice(self._queues.get(destination or "", {}).values(), limit))

    async def remove_sent(self, positions: Sequence[int]) -> None:
        for position in positions:
            destination = self._destinations[position]
            queue = self._queues.get(destination)
            if queue is not None and queue.pop(position, None) is not None and not queue:
                del self._queues[destination]
                if not self._queues:
                    self.emptied_at = asyncio.get_running_loop().time()

    async def note_failures(self, failures: Sequence[tuple[int, float, str]]) -> None:
        for position, next_try, error in failures:
            queue = self._queues[self._destinations[position]]
            row = queue[position]
            queue[position] = Queued(position, row.message, row.created, row.tries + 1, next_try, error, False)

    async def give_up_before(self, created: float, why: str, limit: int, destination: str | None = None) -> int:
        return 0

    async def queue_sizes(self) -> list[QueueSize]:
        return [QueueSize(destination, len(queue), 0, 0, 0.0) for destination, queue in sorted(self._queues.items())]
