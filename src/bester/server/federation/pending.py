"""The messages of one destination that are in memory, and have no outcome yet."""

from __future__ import annotations

from collections import deque
from itertools import chain

from bester.server.federation.outbound import OutboundMessage

MAX_FRESH = 10_000
MAX_FRESH_BYTES = 32 * 1024 * 1024
"""Bounds of the fresh messages: beyond them all messages go to disk, and beyond twice as many they fail."""


class Pending:
    """Fresh messages, and those that the transport has.

    Of several messages with the same id one is sent; the others are its ``repeats``, and have its outcome.
    """

    def __init__(self) -> None:
        self.fresh: deque[OutboundMessage] = deque()
        """Messages that were never on disk, and that no transport has yet."""
        self.in_flight = 0
        """How many messages the transport has without an outcome."""
        self.suspects: set[str] = set()
        """Ids of the messages that were under way when the other server ended the link because of one of them; as long
        as there are any, messages go one at a time."""
        self._fresh_bytes = 0
        self._by_id: dict[str, OutboundMessage] = {}
        self._positions: set[int] = set()
        """The positions of the pending messages that are also on disk."""
        self._returned: list[OutboundMessage] = []

    @property
    def overflows(self) -> bool:
        """Whether more is fresh than should wait in memory."""
        return len(self.fresh) > MAX_FRESH or self._fresh_bytes > MAX_FRESH_BYTES

    @property
    def is_full(self) -> bool:
        """Whether nothing more may become fresh."""
        return len(self.fresh) >= 2 * MAX_FRESH or self._fresh_bytes > 2 * MAX_FRESH_BYTES

    @property
    def is_empty(self) -> bool:
        return not self.in_flight and not self.fresh and not self._returned

    @property
    def any_never_stored(self) -> bool:
        """Whether one of them is not on disk."""
        return any(not item.position for item in chain(self._by_id.values(), self._returned))

    # -- messages come -------------------------------------------------------------------------------------------

    def join(self, item: OutboundMessage) -> bool:
        """Makes a message the repeat of a pending one with its id; False if there is none."""
        first = self._by_id.get(item.message_id)
        if first is None:
            return False
        first.repeats += (item,)
        return True

    def add_fresh(self, item: OutboundMessage) -> None:
        """Adds a message that came just now, and joins no other one."""
        self._by_id[item.message_id] = item
        self.fresh.append(item)
        self._fresh_bytes += item.size

    def pop_fresh(self) -> OutboundMessage:
        """Returns the first of the fresh messages, for the transport."""
        item = self.fresh.popleft()
        self._fresh_bytes -= item.size
        return item

    def has_position(self, position: int) -> bool:
        """Whether the message at this place on disk is among them."""
        return position in self._positions

    def add_stored(self, item: OutboundMessage) -> bool:
        """Adds a message that was read from disk; False if it joined another one, and so is not to be sent."""
        self._positions.add(item.position)
        if self.join(item):
            return False
        self._by_id[item.message_id] = item
        return True

    # -- messages go ---------------------------------------------------------------------------------------------

    def has(self, item: OutboundMessage) -> bool:
        """Whether a message has no outcome yet."""
        return self._by_id.get(item.message_id) is item

    def release(self, item: OutboundMessage) -> tuple[OutboundMessage, ...]:
        """Takes a message out; returns it with its repeats."""
        del self._by_id[item.message_id]
        found, item.repeats = (item, *item.repeats), ()
        for one in found:
            self._positions.discard(one.position)
        return found

    def finish(self, item: OutboundMessage) -> tuple[OutboundMessage, ...]:
        """Takes a message out that the transport had; returns it with its repeats."""
        self.in_flight -= 1
        return self.release(item)

    def give_back(self, item: OutboundMessage) -> None:
        """Keeps a message that was taken out, until all that is under way has its outcome."""
        self._returned.append(item)

    def take_returned(self) -> list[OutboundMessage]:
        """Returns the messages that were given back, in the order in which they came."""
        returned, self._returned = self._returned, []
        returned.sort(key=lambda item: item.order)
        return returned

    def take_fresh(self) -> list[OutboundMessage]:
        """Returns the fresh messages with their repeats, in their order."""
        fresh = [one for item in self.fresh for one in self.release(item)]
        self.fresh.clear()
        self._fresh_bytes = 0
        return fresh

    def forget_absent_suspects(self) -> None:
        """All messages on disk have been read: suspects that are not pending are gone."""
        self.suspects.intersection_update(self._by_id)
