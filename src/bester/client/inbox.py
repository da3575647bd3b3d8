"""The messages that a client received and its owner did not take yet.

Bounded: when it is full the socket is not read on, until it is half empty. The server then sees a slow consumer, and
keeps what it can in the mailbox. A reader's wait is one future, made only where there is nothing to take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from bester.protocol.client import ReceivedMessage
from bester.protocol.reports import ConnectionClosed


class Inbox:
    """First in, first out, for any number of readers."""

    def __init__(self, size: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._size = size
        self._pause = pause
        self._resume = resume
        self._messages: deque[ReceivedMessage] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self.paused = False
        """Whether the socket is not read, because nobody takes what is here."""
        self.ended = True
        """Whether nothing more will come."""
        self._error: ConnectionClosed | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def open(self) -> None:
        """A connection begins; what is left from the last one can still be taken."""
        self.ended = False
        self._error = None
        if self.paused:
            self._pause()

    def end(self, error: ConnectionClosed | None) -> None:
        """The connection ended: readers get the messages that are left, and then the error, or None."""
        self.ended = True
        self._error = error
        self._wake(len(self._readers))

    def put(self, message: ReceivedMessage) -> None:
        """Takes a message in."""
        self._messages.append(message)
        self._wake(1)
        if len(self._messages) >= self._size and not self.paused:
            self.paused = True
            self._pause()

    def _wake(self, count: int) -> None:
        while count and self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                count -= 1

    async def take(self) -> ReceivedMessage | None:
        """Returns the oldest message; None when the connection was closed by us and all are taken.

        Raises:
            ConnectionClosed: the connection was lost, and all are taken.
        """
        while not self._messages:
            if self.ended:
                if self._error is not None:
                    raise self._error
                return None
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            except asyncio.CancelledError:
                if reader.done() and not reader.cancelled() and self._messages:
                    self._wake(1)  # the message that woke us is for the next one
                raise
        message = self._messages.popleft()
        if self.paused and len(self._messages) <= self._size // 2:
            self.paused = False
            self._resume()
        return message
