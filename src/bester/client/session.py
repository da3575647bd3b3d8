"""A client's session: one connection at a time, what waits on it, and what came from it.

What is received becomes a future's result or a message in the inbox while it is read: there are no tasks. An opened
session that was lost can be opened again; the inbox and the delivery ids that were seen outlive the connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from itertools import count
from typing import Any

from bester.client.dial import dial
from bester.client.inbox import Inbox
from bester.client.url import Target
from bester.net.channel import Channel
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation, Pong, ReceivedMessage
from bester.protocol.reports import AuthenticationError, ConnectError, ConnectionClosed, Refused, Report, ReportError

_log = logging.getLogger("bester.client")
_CLOSE_TIMEOUT_S = 5.0


class Session:
    """The state behind a :class:`bester.client.client.Client`; see the module's text."""

    def __init__(
        self,
        target: Target,
        tls: ssl.SSLContext | None,
        max_queued: int,
        on_message: Callable[[ReceivedMessage], object] | None,
        timeout_s: float,
        max_frame_bytes: int,
    ) -> None:
        self.target = target
        self.channel: Channel | None = None
        self.conversation = ClientConversation()
        self.next_id = count(1).__next__
        self._tls = tls
        self._on_message = on_message
        self._timeout_s = timeout_s
        self._max_frame_bytes = max_frame_bytes
        self._fatal: ReportError | None = None
        self._closing = False
        self._pending: dict[str, asyncio.Future[Report]] = {}
        self._pings: dict[str, asyncio.Future[None]] = {}
        self.inbox = Inbox(max_queued, self._pause, self._resume)
        self._taken: list[str] = []
        self._unacknowledged: set[str] = set()

    # -- the connection ---------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.channel is not None and not self.channel.closed

    async def open(self, hello: Callable[[ClientConversation], bytes]) -> Report:
        """Connects, says hello, and returns the good report on that.

        Raises:
            ConnectError, AuthenticationError: see :meth:`bester.client.client.Client.open`.
        """
        if self.connected:
            raise RuntimeError("the client is open already")
        self.conversation = ClientConversation()
        self._fatal = None
        self._closing = False
        first = hello(self.conversation)
        channel = await dial(self.target, self._make_channel, tls=self._tls, timeout_s=self._timeout_s)
        self.channel = channel
        try:
            report = await self._admitted(first)
        except BaseException:
            self.channel = None
            channel.abort()
            await channel.wait_closed()
            raise
        self.inbox.open()
        return report

    async def _admitted(self, hello: bytes) -> Report:
        try:
            async with asyncio.timeout(self._timeout_s):
                report = await self.write(hello, AUTHENTICATION_ID)
        except ConnectionClosed as error:
            raise ConnectError(f"{self.target}: {error.message}", error.code, error.temporary) from error
        except TimeoutError as error:
            text = f"{self.target}: no answer within {self._timeout_s:g} s"
            raise ConnectError(text, temporary=True) from error
        if not report.good:
            refusal = Refused(report)
            raise AuthenticationError(refusal.message, refusal.code, refusal.temporary)
        return report

    def _make_channel(self) -> Channel:
        channel = Channel(self._max_frame_bytes, self._received, lambda error: self._lost(channel, error))
        return channel

    async def close(self) -> None:
        """Ends the connection; what is under way fails."""
        channel = self.channel
        if channel is None:
            return
        self._closing = True
        channel.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await channel.wait_closed()
        except TimeoutError:
            channel.abort()
            await channel.wait_closed()

    def closed_error(self, cause: Exception | None = None) -> ConnectionClosed:
        """Returns why there is no connection."""
        if self._fatal is not None:
            return ConnectionClosed(self._fatal.message, self._fatal.code, self._fatal.temporary)
        if self._closing or self.channel is None:
            return ConnectionClosed("the client is closed")
        error = ConnectionClosed(f"the connection was lost: {cause or 'closed by the server'}", temporary=True)
        error.__cause__ = cause
        return error

    def _lost(self, channel: Channel, cause: Exception | None) -> None:
        if self.channel is not channel:
            return
        error = self.closed_error(cause)
        pending: list[asyncio.Future[Any]] = [*self._pending.values(), *self._pings.values()]
        self._pending.clear()
        self._pings.clear()
        for future in pending:
            if not future.done():
                future.set_exception(error)
        self.inbox.end(None if self._closing else error)

    # -- to the server ----------------------------------------------------------------------------------------

    def write(self, frame: bytes, id: str) -> asyncio.Future[Report]:
        """Sends a frame soon, and returns the future of the report with this id.

        Raises:
            ConnectionClosed: there is no connection.
            ValueError: a message with this id has no report yet.
        """
        channel = self.channel
        if channel is None or channel.closed:
            raise self.closed_error()
        pending = self._pending
        if id in pending and not pending[id].done():
            raise ValueError(f"a message with the id {id!r} has no report yet")
        future: asyncio.Future[Report] = channel.loop.create_future()
        pending[id] = future
        channel.write(frame)
        return future

    async def ping(self, timeout: float | None) -> None:
        """Returns when the server answered."""
        channel = self.channel
        if channel is None or channel.closed:
            raise self.closed_error()
        id = f"ping-{self.next_id()}"
        future = self._pings[id] = asyncio.get_running_loop().create_future()
        channel.write(self.conversation.ping(id))
        try:
            async with asyncio.timeout(timeout):
                await future
        finally:
            self._pings.pop(id, None)

    def acknowledge(self) -> None:
        """The messages that were taken are done with."""
        if self._taken and self.connected and self.channel is not None:
            self.channel.write(self.conversation.ack(self._taken))
            self._unacknowledged.difference_update(self._taken)
            self._taken = []

    # -- from the server --------------------------------------------------------------------------------------

    async def take(self) -> ReceivedMessage | None:
        """Returns the next message, and acknowledges the one before; None when the client was closed."""
        self.acknowledge()
        message = await self.inbox.take()
        if message is not None and message.delivery_id is not None:
            self._taken.append(message.delivery_id)
        return message

    def _received(self, bodies: list[bytes]) -> None:
        receive = self.conversation.receive
        pending = self._pending
        for body in bodies:
            event = receive(body)
            if isinstance(event, Report):
                future = pending.pop(event.id, None)
                if future is not None and not future.done():
                    future.set_result(event)
            elif isinstance(event, ReceivedMessage):
                if event.delivery_id is None:
                    self._deliver(event)
                else:
                    self._deliver_once(event, event.delivery_id)
            elif isinstance(event, Pong):
                ping = self._pings.pop(event.id, None)
                if ping is not None and not ping.done():
                    ping.set_result(None)
            else:
                self._fatal = event.error

    def _deliver(self, message: ReceivedMessage) -> bool:
        """Gives a message to whoever takes it; true if that is done with it now."""
        if self._on_message is None:
            return self.inbox.put(message)
        try:
            self._on_message(message)
        except Exception:
            _log.exception("on_message failed for a message of type %s", message.type)
            return False
        return True

    def _deliver_once(self, message: ReceivedMessage, delivery_id: str) -> None:
        if self.inbox.repeated(delivery_id):
            done = delivery_id not in self._unacknowledged
        else:
            self._unacknowledged.add(delivery_id)
            done = self._deliver(message)
        if done and self.channel is not None:
            self._unacknowledged.discard(delivery_id)
            self.channel.write(self.conversation.ack([delivery_id]))

    def _pause(self) -> None:
        if self.channel is not None:
            self.channel.pause()

    def _resume(self) -> None:
        if self.channel is not None:
            self.channel.resume()
