"""Answers in parts (docs/protocol.md, section 2.9).

A stream is two objects. :class:`Parts` is what its session knows: the messages that came and wait to be taken, and the
outcome. :class:`Stream` is what the application holds; when nobody holds it any more, because a loop was left, the
message is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from bester.client.greeting import PARTS
from bester.client.session import Session
from bester.protocol.received import ReceivedMessage
from bester.protocol.reports import ClientError, Refused, Report
from bester.timeouts import within
from bester.tracing import current_traceparent

MAX_WINDOW: Final = 65_536
"""The most parts that a server grants at a time, and the most messages of one stream that wait here."""


class Parts:
    """The messages of one stream that came and wait to be taken, and its outcome."""

    __slots__ = ("_grant_at", "_session", "_taken", "cancelled", "failure", "id", "messages", "reader", "report")

    def __init__(self, session: Session, window: int) -> None:
        self._session = session
        self._grant_at = (window + 1) // 2
        self._taken = 0
        self.id = session.questions.begin_stream(self.put)
        self.messages: deque[ReceivedMessage] = deque()
        self.reader: asyncio.Future[None] | None = None
        """Done when there is something to read; made by who waits for that."""
        self.report: Report | None = None
        self.failure: BaseException | None = None
        """Why there is no report."""
        self.cancelled = False
        """Whether the application has given the stream up."""

    @property
    def open(self) -> bool:
        """Whether more can come."""
        return self.report is None and self.failure is None and not self.cancelled

    def put(self, message: ReceivedMessage) -> None:
        """Adds a message."""
        if len(self.messages) >= MAX_WINDOW:
            self.cancel()
            self.failure = ClientError(f"more than {MAX_WINDOW} messages wait to be taken", "slowConsumer")
            return
        self.messages.append(message)
        self._wake()

    def take(self) -> ReceivedMessage:
        """Returns the oldest message; lets the server send more when half the window is taken."""
        message = self.messages.popleft()
        if message.part_of is not None and self.open:
            self._taken += 1
            if self._taken >= self._grant_at:
                self._session.grant(self.id, self._taken)
                self._taken = 0
        return message

    def end(self, reporting: asyncio.Future[Report]) -> None:
        """Notes the outcome; all messages came before it."""
        self._session.questions.end_stream(self.id)
        failure = reporting.exception()
        if failure is None:
            self.report = reporting.result()
        elif self.failure is None:
            self.failure = failure
        self._wake()

    def cancel(self) -> None:
        """Gives the stream up, unless it has ended: drops what waits and what still comes, and tells the server."""
        if self.open:
            self._session.questions.end_stream(self.id)
            self._session.cancel(self.id)
        self.cancelled = True
        self.messages.clear()
        self._wake()

    def _wake(self) -> None:
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)


class Stream:
    """The parts of a handler's answer, in order; made by :meth:`bester.Client.stream`, and read once.

    It sends its message when it is first read, or entered with ``async with``. It is cancelled when a wait for a part
    is cancelled or takes too long, by :meth:`aclose`, at the end of its ``async with``, and when nothing refers to it
    any more, as when a loop over it is left.
    """

    _parts: Parts | None = None
    """None until the message is sent."""

    def __init__(self, session: Session, type: str, data: Any, window: int, timeout: float | None) -> None:
        if not 1 <= window <= MAX_WINDOW:
            raise ValueError(f"window must be from 1 to {MAX_WINDOW}; got {window}")
        self._session = session
        self._type = type
        self._data = data
        self._window = window
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False

    @property
    def report(self) -> Report | None:
        """The report on the message; None as long as there is none, and if the connection was lost before it."""
        return self._parts.report if self._parts is not None else None

    async def take(self) -> ReceivedMessage | None:
        """Returns the next part; None at the end.

        Raises:
            Refused, ConnectionClosed, TimeoutError, ClientError: see :meth:`bester.Client.stream`.
        """
        if self._over:
            return None
        parts = self._parts or await self._begun()
        while not parts.messages and parts.open:
            await self._something_new(parts)
        if parts.messages:
            return parts.take()
        self._over = True
        if parts.failure is not None:
            raise parts.failure
        if parts.report is not None and not parts.report.good and not parts.cancelled:
            raise Refused(parts.report)
        return None

    async def _something_new(self, parts: Parts) -> None:
        if parts.reader is not None:
            raise RuntimeError("the stream is being read already")
        parts.reader = asyncio.get_running_loop().create_future()
        try:
            async with within(self._timeout):
                await parts.reader
        except (asyncio.CancelledError, TimeoutError):
            parts.cancel()
            raise
        finally:
            parts.reader = None

    async def _begun(self) -> Parts:
        """Sends the message, and returns the state of its answer."""
        session = self._session
        session.require_replies()
        async with within(self._timeout):
            while (channel := session.channel) is not None and channel.full:
                await channel.drained()
        if self._parts is not None:
            raise RuntimeError("the stream is being read already")
        conversation = session.conversation
        self._loop = asyncio.get_running_loop()
        parts = Parts(session, self._window)
        window = self._window if PARTS in conversation.features else 0
        try:
            frame = conversation.message(
                self._type, parts.id, self._data, parts=window, traceparent=current_traceparent()
            )
            reporting = session.write(frame, parts.id)
        except BaseException:
            session.questions.end_stream(parts.id)
            raise
        reporting.add_done_callback(parts.end)
        self._parts = parts
        return parts

    def cancel(self) -> None:
        """Gives the stream up, unless it has ended; does not wait."""
        self._over = True
        if self._parts is not None:
            self._parts.cancel()

    async def aclose(self) -> None:
        """Gives the stream up, unless it has ended; does not wait for the server."""
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage:
        message = await self.take()
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        parts = self._parts
        if parts is not None and parts.open and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and the connection with it
                self._loop.call_soon_threadsafe(parts.cancel)  # another thread may drop the last reference
