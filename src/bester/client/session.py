"""A client's session: one connection at a time, whose talk is in :mod:`bester.client.talking`.

An opened session that was lost can be opened again, by its owner or by its keeper; the inbox, the delivery ids that
were seen and the ``once`` messages without a report outlive the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bester.client.dial import dial
from bester.client.keeper import Keeper
from bester.client.seen import SeenFile
from bester.client.talking import Options, Talking
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


class Session(Talking):
    """The state behind a :class:`bester.client.client.Client`; see the module's text.

    Args:
        target: where to, and who we are there.
        options: see there.
        hello: returns the first frame of a connection.
        authenticated: told each good report on that.
        refused: told each refusal; true: another hello may have more luck at once.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        hello: Callable[[ClientConversation], bytes],
        authenticated: Callable[[Report], None],
        refused: Callable[[AuthenticationError], bool],
    ) -> None:
        super().__init__(options, self._keep_connected)
        self.target = target
        self._hello = hello
        self._authenticated = authenticated
        self._refused = refused
        self.keeper = Keeper(self, options.retry_first_s, options.retry_max_s, options.idle_ping_s)

    @property
    def connected(self) -> bool:
        return self.channel is not None and not self.channel.closed

    @property
    def needed(self) -> bool:
        """Whether there is to be a connection, without our owner's asking for it."""
        return not self.closing and self.refusal is None and (self.options.reconnect or len(self.waiting) > 0)

    def _keep_connected(self) -> None:
        if self.connected:
            self.keeper.watch()
        elif not self.connecting:
            self.keeper.start()

    async def open(self) -> Report:
        """Connects, says hello, and returns the good report on that.

        Raises:
            ConnectError, AuthenticationError, OSError: see :meth:`bester.client.client.Client.open`.
        """
        if self.connected or self.connecting:
            raise RuntimeError("the client is open already")
        self.connecting = True
        trying = self.keeper.trying
        try:
            await self.keeper.stop()
            self.closing = False
            self.refusal = None
            seen = self.deliveries.seen
            if isinstance(seen, SeenFile):
                await asyncio.to_thread(seen.open)  # which reads it whole
            try:
                return await self._connect()
            except BaseException:
                if not trying:
                    seen.close()
                raise
        finally:
            self.connecting = False
            if trying and not self.connected:
                self.keeper.start()

    async def connect_again(self) -> None:
        """As :meth:`open`, for the keeper.

        Raises:
            ConnectError, AuthenticationError: as there.
        """
        try:
            await self._connect()
        except AuthenticationError as error:
            if not self._refused(error):
                raise
            await self._connect()

    async def _connect(self) -> Report:
        if self.channel is not None:
            await self.channel.wait_closed()
        conversation = self.conversation = ClientConversation()
        self.fatal = None
        first = self._hello(conversation)
        options = self.options
        channel = await dial(self.target, self._make_channel, tls=options.tls, timeout_s=options.connect_timeout_s)
        try:
            report = await self._greet(channel, first)
        except BaseException:
            channel.abort()
            await channel.wait_closed()
            raise
        self._authenticated(report)
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
                text += ", before it said anything; where it speaks TLS, write besters:// in place of bester://"
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
        """Takes what comes until we are let in, which is when the connection becomes ours."""
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
        for id, frame in list(self.waiting.frames.items()):
            future = self.pending.get(id)
            if future is None or future.done():
                continue
            if len(frame) <= max_bytes:
                channel.write(frame)
            else:  # the server takes less than it did; it would end the connection
                future.set_exception(
                    TooLarge(f"a frame of {len(frame)} bytes; the server now takes at most {max_bytes}")
                )
        self.deliveries.flush()
        self.keeper.connected()
        self._tell(True, "")

    async def close(self, acknowledge: bool = True) -> None:
        """Ends the connection; what is under way fails, and what waits to be sent again."""
        if acknowledge:
            self.deliveries.release()
        else:
            self.deliveries.forget_held()
        self.closing = True
        await self.keeper.stop()
        self.deliveries.flush()
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
        self.waiting.fail(error)
        self.inbox.end(None)
        self.deliveries.seen.close()

    def _lost(self, channel: Channel, cause: Exception | None) -> None:
        self.cause = cause
        error = self.closed_error() if self.channel is channel else self.lost_error()
        if self.channel is not channel:  # before we were let in
            greeting = self.pending.pop(AUTHENTICATION_ID, None)
            if greeting is not None and not greeting.done():
                greeting.set_exception(error)
            return
        if not self.conversation.authenticated and not self.closing:
            self.refusal = error  # who has logged out is not logged in again without being asked
        again = self.needed
        waiting = self.waiting
        if not again or (self.fatal is not None and self.fatal.code in _OUR_FAULT):
            waiting.fail(error)
        failed: list[asyncio.Future[Any]] = [*self.pings.values()]
        failed += [future for id, future in self.pending.items() if id not in waiting]
        self.pending = {id: future for id, future in self.pending.items() if id in waiting}
        self.pings.clear()
        for future in failed:
            if not future.done():
                future.set_exception(error)
        if not (again and self.options.reconnect):
            self.inbox.end(None if self.closing else error)
        if not self.closing:
            self._tell(False, error.message)
        if again:
            self.keeper.start()

    def give_up(self, error: ClientError) -> None:
        """The server does not let us in any more: whatever waits for a connection fails."""
        self.refusal = error
        self.waiting.fail(error)
        self.inbox.end(self.closed_error())
        self._tell(False, error.message)

    def _tell(self, connected: bool, why: str) -> None:
        if self.options.on_connection is not None:
            try:
                self.options.on_connection(connected, why)
            except Exception:
                _log.exception("on_connection failed")
