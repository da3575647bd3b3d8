"""What becomes of the messages that must be acknowledged (docs/protocol.md, section 4).

A delivery id is *open* from the moment its message is received until the application is done with it; then it is
recorded as seen, and acknowledged. What comes again while it is open is dropped, since the acknowledgement is still
to come; what comes again after that is dropped and acknowledged at once. An application that failed with a message is
not done with it: its id is forgotten, so that it is given out again when it comes again.

All that is done within one turn of the loop is recorded with one write and acknowledged with one frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bester.client.seen import Seen

MAX_IDS = 500
"""The most ids in one acknowledgement."""


class Deliveries:
    """The open and the seen ones of one client.

    Args:
        seen: what is remembered.
        acknowledge: sends one frame with these ids; drops them where there is no connection, because what is
            not acknowledged comes again, and is then.
        failed: called where ids cannot be recorded. They are not acknowledged then, and stay open; the next
            :meth:`flush` tries again.
    """

    def __init__(self, seen: Seen, acknowledge: Callable[[list[str]], None], failed: Callable[[OSError], None]) -> None:
        self.seen = seen
        self._acknowledge = acknowledge
        self._failed = failed
        self._open: set[str] = set()
        self._held: list[str] = []
        self._done: list[str] = []
        self._again: list[str] = []
        self._scheduled = False

    def is_new(self, delivery_id: str) -> bool:
        """Whether a message that was received is to be given out; it is open then."""
        if delivery_id in self._open:
            return False
        if delivery_id in self.seen:
            self._again.append(delivery_id)
            self._flush_soon()
            return False
        self._open.add(delivery_id)
        return True

    def hold(self, delivery_id: str) -> None:
        """The application has the message, and is not yet done with it."""
        self._held.append(delivery_id)

    def release(self) -> None:
        """The application is done with all that it holds."""
        if self._held:
            self._done += self._held
            self._held.clear()
            self._flush_soon()

    def done(self, delivery_id: str) -> None:
        """The application is done with a message."""
        self._done.append(delivery_id)
        self._flush_soon()

    def forget(self, delivery_id: str) -> None:
        """The application failed with a message."""
        self._open.discard(delivery_id)

    def forget_held(self) -> None:
        """The application failed with what it holds."""
        self._open.difference_update(self._held)
        self._held.clear()

    def _flush_soon(self) -> None:
        if len(self._done) + len(self._again) >= MAX_IDS:
            self.flush()  # somebody who never lets the loop turn
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Records and acknowledges what is done with."""
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
