"""The state of the deliveries that a client must acknowledge (docs/protocol.md, section 4).


A delivery id is *open* from the moment its message is received until the application has finished with it; then it is
recorded as seen, and acknowledged. A message that is delivered again while its id is open is dropped, since the
acknowledgement is still to come; one that is delivered again later is dropped and acknowledged at once. If the
application fails on a message, its id is forgotten, so that the application gets it again with the next delivery.

All messages that are finished within one turn of the loop are recorded with one write and acknowledged with one frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bester.client.seen_deliveries import SeenDeliveries

MAX_IDS = 500
"""The most ids in one acknowledgement."""


class Deliveries:
    """The open and the seen delivery ids of one client.

    Args:
        seen: the ids that the client remembers.
        acknowledge: sends one frame with these ids; drops them if there is no connection, because the server delivers
            unacknowledged messages again, and the client acknowledges them then.
        failed: called if ids cannot be recorded. They are then not acknowledged, and stay open; the next
            :meth:`flush` tries again.
    """

    def __init__(
        self, seen: SeenDeliveries, acknowledge: Callable[[list[str]], None], failed: Callable[[OSError], None]
    ) -> None:
        self.seen = seen
        self._acknowledge = acknowledge
        self._failed = failed
        self._open: set[str] = set()
        self._held: list[str] = []
        self._done: list[str] = []
        self._again: list[str] = []
        self._scheduled = False

    def is_new(self, delivery_id: str) -> bool:
        """Returns whether the application is to get a message that was received; its id is then open."""
        if delivery_id in self._open:
            return False
        if delivery_id in self.seen:
            self._again.append(delivery_id)
            self._flush_soon()
            return False
        self._open.add(delivery_id)
        return True

    def hold(self, delivery_id: str) -> None:
        """Notes that the application has the message, and has not yet finished with it."""
        self._held.append(delivery_id)

    def release(self) -> None:
        """Notes that the application has finished with all messages that it holds."""
        if self._held:
            self._done += self._held
            self._held.clear()
            self._flush_soon()

    def done(self, delivery_id: str) -> None:
        """Notes that the application has finished with a message."""
        self._done.append(delivery_id)
        self._flush_soon()

    def forget(self, delivery_id: str) -> None:
        """Forgets a message, because the application failed on it."""
        self._open.discard(delivery_id)

    def forget_held(self) -> None:
        """Forgets all messages that the application holds, because it failed on them."""
        self._open.difference_update(self._held)
        self._held.clear()

    def _flush_soon(self) -> None:
        if len(self._done) + len(self._again) >= MAX_IDS:
            self.flush()  # the application may never let the loop turn
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Records and acknowledges the messages that are finished."""
        done = self._done
        if done:
            try:
                self.seen.record(done)
            except OSError as error:
                self._failed(error)
                return
            self._open.difference_update(done)
            self._done = []
        ids = self._again + done if self._again else done
        self._again = []
        for start in range(0, len(ids), MAX_IDS):
            self._acknowledge(ids[start : start + MAX_IDS])
