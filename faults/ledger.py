"""A record of the messages that were sent, reported and received, from which promises are judged."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Container, Iterable


class Ledger:
    """All messages of one play. Each has a key that no other one has, which travels in its data."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.good: dict[str, str] = {}
        """Messages that were reported good, with the result's status."""
        self.refused: dict[str, str] = {}
        """Messages that were refused permanently, with the code."""
        self.temporary: dict[str, int] = {}
        """How often each temporary code was reported; those messages were sent again."""
        self.again: set[str] = set()
        """Messages that were sent more than once, whose order nobody promises."""
        self.received: dict[str, set[str]] = {}
        """By key: the delivery ids under which it came."""
        self.repeats = 0
        """Deliveries that were dropped because their delivery id was known."""
        self.order: dict[str, list[str]] = {}
        """By recipient, the keys in the order in which they first came."""
        self.tokens_lost = 0
        """Tokens that a report gave and the server did not know later."""
        self.handled: dict[str, int] = {}
        """How often handlers saw each message."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._changed: list[asyncio.Future[None]] = []

    # -- what happens ----------------------------------------------------------------------------------------------

    def reported_good(self, key: str, status: str) -> None:
        self.good[key] = status
        self._wake()

    def reported_bad(self, key: str, code: str) -> None:
        self.refused[key] = code
        self._wake()

    def refused_for_now(self, key: str, code: str, after_s: float) -> None:
        """A report says that the message may be sent again; it came this long after the message was sent."""
        self.temporary[code] = self.temporary.get(code, 0) + 1
        self.again.add(key)

    def came(self, recipient: str, key: str, delivery_id: str) -> None:
        """A recipient got a message, perhaps once more."""
        ids = self.received.setdefault(key, set())
        if delivery_id in ids:
            self.repeats += 1
            return
        if not ids:
            self.order.setdefault(recipient, []).append(key)
        ids.add(delivery_id)
        changed, self._changed = self._changed, []
        for waiter in changed:
            if not waiter.done():
                waiter.set_result(None)

    # -- waiting ---------------------------------------------------------------------------------------------------

    @property
    def reports(self) -> int:
        """How many messages have their last report."""
        return len(self.good) + len(self.refused)

    async def at(self, reports: int) -> None:
        """Returns as soon as this many messages have their last report."""
        if self.reports >= reports:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (reports, next(self._numbers), future))
        await future

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.reports:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def all_came(self, timeout_s: float) -> bool:
        """Returns whether all messages that were reported good came, after this time at the latest."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.lost():
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._changed.append(future)
                    await future
        except TimeoutError:
            return False
        return True

    # -- the judgement ---------------------------------------------------------------------------------------------

    def lost(self) -> set[str]:
        """Returns messages that were reported good and did not come, except ``skipped`` ones, which nobody has."""
        missing = self.good.keys() - self.received.keys()
        return {key for key in missing if self.good[key] != "skipped"}

    def twice(self) -> set[str]:
        """Returns messages that came under two delivery ids, so that a recipient could not recognise the repeat."""
        return {key for key, ids in self.received.items() if len(ids) > 1}

    def wrongly_refused(self) -> set[str]:
        """Returns messages that were refused permanently and came."""
        return self.refused.keys() & self.received.keys()

    def unreported(self) -> set[str]:
        """Returns messages without a report."""
        return self.sent - self.good.keys() - self.refused.keys()

    def out_of_order(self, prefixes: Iterable[str], but: Container[str] = ()) -> int:
        """Returns how many messages came after a newer one of their sender; keys are ``SENDER.NUMBER``.

        Args:
            prefixes: the senders.
            but: messages that are left out, such as those that were sent again.
        """
        found = 0
        wanted = set(prefixes)
        for keys in self.order.values():
            newest: dict[str, int] = {}
            for key in keys:
                sender, _, number = key.rpartition(".")
                if sender in wanted and key not in but:
                    found += int(number) < newest.get(sender, -1)
                    newest[sender] = max(int(number), newest.get(sender, -1))
        return found
