"""The messages that a client has received and that nobody has taken yet.

The inbox is bounded: when it is full the client stops reading the socket until it is half empty. The server then sees a
slow consumer, and keeps messages in the mailbox where it can. A reader waits on one future, which is made only when the
inbox is empty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import ConnectionClosed


class Inbox:
    """A first-in, first-out queue for any number of readers."""

    def __init__(self, size: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._size = size
        self._pause = pause
        self._resume = resume
        self._messages: deque[ReceivedMessage] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self.paused = False
        """Whether the client has stopped reading the socket, because nobody takes the messages."""
        self.ended = True
        """Whether no more messages will come."""
        self._error: ConnectionClosed | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def open(self) -> None:
        """Begins with a new connection; messages left from the last one can still be taken."""
        self.ended = False
        self._error = None
        if self.paused:
            self._pause()

    def end(self, error: ConnectionClosed | None) -> None:
        """Ends with the connection: readers get the messages that are left, and then the error, or None."""
        self.ended = True
        self._error = error
        self._wake(len(self._readers))

    def put(self, message: ReceivedMessage) -> None:
        """Adds a message."""
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
        """Returns the oldest message; None when we closed the connection and all messages are taken.

        Raises:
            ConnectionClosed: the connection was lost, and all messages are taken.
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
                    self._wake(1)  # the message that woke us is for the next reader
                raise
        message = self._messages.popleft()
        if self.paused and len(self._messages) <= self._size // 2:
            self.paused = False
            self._resume()
        return message
