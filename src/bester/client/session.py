"""A client's session: one connection at a time, whose messages :mod:`bester.client.messaging` sends and receives.

When the connection is lost, the session's owner or its supervisor can open it again. The inbox, the ids of the
deliveries that were seen and the ``once`` messages without a report outlive the connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bester.client.dial import dial
from bester.client.greeting import REPLY_TO, Greeting
from bester.client.messaging import Messaging, Options
from bester.client.seen_deliveries import SeenDeliveriesFile
from bester.client.supervisor import ConnectionSupervisor
from bester.client.url import Target
from bester.errors import TooLarge
from bester.net.channel import Channel
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation
from bester.protocol.framing import PREFIX
from bester.protocol.reports import (
    AuthenticationError,
    ClientError,
    ConnectError,
    ConnectionClosed,
    Refused,
    Report,
)
from bester.timeouts import within

_log = logging.getLogger("bester.client")
_CLOSE_TIMEOUT_S = 5.0
_OUR_FAULT = ("malformed", "tooLarge", "badScope")
"""Fatal codes after which the same bytes would only end the next connection too."""


class Session(Messaging):
    """The state behind a :class:`bester.client.client.Client`; see the module's docstring.

    Args:
        target: the server to connect to, and our account there.
        options: the owner's options.
        greeting: how each connection begins.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        greeting: Greeting,
    ) -> None:
        super().__init__(options, self._keep_connected)
        self.target = target
        self.greeting = greeting
        self.supervisor = ConnectionSupervisor(self, options.retry_first_s, options.retry_max_s, options.idle_ping_s)

    @property
    def connected(self) -> bool:
        return self.channel is not None and not self.channel.closed

    @property
    def needed(self) -> bool:
        """Whether there is to be a connection even if our owner does not ask for one."""
        return not self.closing and self.refusal is None and (self.options.reconnect or len(self.unreported) > 0)

    def require_replies(self) -> None:
        """Checks, if there is a connection, that the server says which message a reply answers.

        Raises:
            ClientError: it does not.
        """
        if self.connected and REPLY_TO not in self.conversation.features:
            raise ClientError(
                f"{self.target}: the server does not say which message a reply answers (feature {REPLY_TO})"
            )

    def _keep_connected(self) -> None:
        if self.connected:
            self.supervisor.watch()
        elif not self.connecting:
            self.supervisor.start()

    async def open(self) -> Report:
        """Connects, authenticates, and returns the good report on that.

        Raises:
            ConnectError, AuthenticationError, OSError: see :meth:`bester.client.client.Client.open`.
        """
        if self.connected or self.connecting:
            raise RuntimeError("the client is open already")
        self.connecting = True
        trying = self.supervisor.trying
        try:
            await self.supervisor.stop()
            self.closing = False
            self.refusal = None
            seen = self.deliveries.seen
            if isinstance(seen, SeenDeliveriesFile):
                await asyncio.to_thread(seen.open)  # reads the whole file
            try:
                return await self._connect()
            except BaseException:
                if not trying:
                    seen.close()
                raise
        finally:
            self.connecting = False
            if trying and not self.connected:
                self.supervisor.start()

    async def connect_again(self) -> None:
        """Connects for the supervisor, as :meth:`open` does.

        Raises:
            ConnectError, AuthenticationError: see :meth:`open`.
        """
        try:
            await self._connect()
        except AuthenticationError as error:
            if not self.greeting.refused(error, self.target):
                raise
            await self._connect()

    async def _connect(self) -> Report:
        if self.channel is not None:
            await self.channel.wait_closed()
        conversation = self.conversation = ClientConversation()
        self.fatal = None
        first = self.greeting.first(conversation, self.target)
        options = self.options
        channel = await dial(self.target, self._make_channel, tls=options.tls, timeout_s=options.connect_timeout_s)
        try:
            report = await self._greet(channel, first)
        except BaseException:
            channel.abort()
            await channel.wait_closed()
            raise
        self.greeting.accepted(report)
        return report

    async def _greet(self, channel: Channel, hello: bytes) -> Report:
        timeout_s = self.options.connect_timeout_s
        future: asyncio.Future[Report] = channel.loop.create_future()
        self.pending[AUTHENTICATION_ID] = future
        try:
            async with within(timeout_s):
                channel.write(hello)
                report = await future
        except ConnectionClosed as error:
            text = f"{self.target}: {error.message}"
            if self.fatal is None and self.target.path is None and not self.target.tls:
                text += ", before the server sent anything; if it speaks TLS, write besters:// instead of bester://"
            raise ConnectError(text, error.code, error.temporary) from error
        except TimeoutError as error:
            text = f"{self.target}: no answer within {timeout_s:g} s"
            raise ConnectError(text, temporary=True) from error
        if not report.good:
            refusal = Refused(report)
            raise AuthenticationError(refusal.message, refusal.code, refusal.temporary)
        return report

    def _make_channel(self) -> Channel:
        channel = Channel(
            self.options.max_frame_bytes,
            lambda bodies: self._greeted(channel, bodies),
            lambda error: self._lost(channel, error),
        )
        return channel

    def _greeted(self, channel: Channel, bodies: list[bytes]) -> None:
        """Receives frames until the server has authenticated us; the connection then becomes the session's."""
        for position, body in enumerate(bodies, 1):
            self.received([body])
            if self.conversation.authenticated:
                self._admitted(channel)
                self.received(bodies[position:])
                return

    def _admitted(self, channel: Channel) -> None:
        self.channel = channel
        channel.on_bodies = self.received
        self.inbox.open()
        max_bytes = self.conversation.max_message + PREFIX.size
        for id, frame in list(self.unreported.frames.items()):
            future = self.pending.get(id)
            if future is None or future.done():
                continue
            if len(frame) <= max_bytes:
                channel.write(frame)
            else:  # the server accepts less than it did, and would end the connection
                future.set_exception(
                    TooLarge(f"a frame of {len(frame)} bytes; the server now accepts at most {max_bytes}")
                )
        self.deliveries.flush()
        self.supervisor.connected()
        self._tell(True, "")

    async def close(self, acknowledge: bool = True) -> None:
        """Ends the connection; calls under way fail, and so do the messages that wait to be sent again."""
        if acknowledge:
            self.deliveries.release()
        else:
            self.deliveries.forget_held()
        self.closing = True
        await self.supervisor.stop()
        self.deliveries.flush()
        for id in self.questions.streams():
            self.cancel(id)  # the server cannot tell a client that has gone from one that only sends no more
        channel = self.channel
        if channel is not None:
            channel.close()
            try:
                async with within(_CLOSE_TIMEOUT_S):
                    await channel.wait_closed()
            except TimeoutError:
                channel.abort()
                await channel.wait_closed()
        error = self.closed_error()
        self.unreported.fail(error)
        self.inbox.end(None)
        self.deliveries.seen.close()

    def _lost(self, channel: Channel, cause: Exception | None) -> None:
        self.cause = cause
        error = self.closed_error() if self.channel is channel else self.lost_error()
        if self.channel is not channel:  # before the server authenticated us
            greeting = self.pending.pop(AUTHENTICATION_ID, None)
            if greeting is not None and not greeting.done():
                greeting.set_exception(error)
            return
        if not self.conversation.authenticated and not self.closing:
            self.refusal = error  # a client that logged out is not logged in again unless it asks for it
        again = self.needed
        unreported = self.unreported
        if not again or (self.fatal is not None and self.fatal.code in _OUR_FAULT):
            unreported.fail(error)
        failed: list[asyncio.Future[Any]] = [*self.pings.values()]
        failed += [future for id, future in self.pending.items() if id not in unreported]
        self.pending = {id: future for id, future in self.pending.items() if id in unreported}
        self.pings.clear()
        for future in failed:
            if not future.done():
                future.set_exception(error)
        if not (again and self.options.reconnect):
            self.inbox.end(None if self.closing else error)
        if not self.closing:
            self._tell(False, error.message)
        if again:
            self.supervisor.start()

    def give_up(self, error: ClientError) -> None:
        """Fails everything that waits for a connection, because the server does not let us in any more."""
        self.refusal = error
        self.unreported.fail(error)
        self.inbox.end(self.closed_error())
        self._tell(False, error.message)

    def _tell(self, connected: bool, why: str) -> None:
        if self.options.on_connection is not None:
            try:
                self.options.on_connection(connected, why)
            except Exception:
                _log.exception("on_connection failed")
