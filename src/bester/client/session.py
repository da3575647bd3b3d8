"""A client's session: one connection at a time, what waits on it, and what came from it.

What is received becomes a future's result or a message in the inbox while it is read: there are no tasks. An opened
session that was lost can be opened again, by its owner or by its keeper; the inbox, the delivery ids that were seen
and the ``once`` messages without a report outlive the connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from bester.client.deliveries import Deliveries
from bester.client.dial import dial
from bester.client.inbox import Inbox
from bester.client.keeper import Keeper
from bester.client.seen import Seen, SeenFile
from bester.client.url import Target
from bester.client.waiting import Waiting
from bester.errors import TooLarge
from bester.net.channel import Channel
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation, Pong, ReceivedMessage
from bester.protocol.framing import PREFIX
from bester.protocol.reports import (
    AuthenticationError,
    ClientError,
    ConnectError,
    ConnectionClosed,
    FatalError,
    Refused,
    Report,
    ReportError,
)

_log = logging.getLogger("bester.client")
_CLOSE_TIMEOUT_S = 5.0
_OUR_FAULT = ("malformed", "tooLarge", "badScope")
"""Fatal codes after which the same bytes would only end the next connection too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a session's owner asks for; see :class:`bester.client.client.Client`."""

    tls: ssl.SSLContext | None
    max_queued: int
    on_message: Callable[[ReceivedMessage], object] | None
    on_connection: Callable[[bool, str], object] | None
    connect_timeout_s: float
    max_frame_bytes: int
    seen: Seen
    reconnect: bool
    retry_first_s: float
    retry_max_s: float
    idle_ping_s: float


class Session:
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
        self.target = target
        self.channel: Channel | None = None
        """The connection that we were let in on; the last one, where there is none."""
        self.conversation = ClientConversation()
        self.next_id = count(1).__next__
        self._options = options
        self._hello = hello
        self._authenticated = authenticated
        self._refused = refused
        self._on_message = options.on_message
        self._connecting = False
        self._closing = False
        self._fatal: ReportError | None = None
        self._cause: Exception | None = None
        self._refusal: ClientError | None = None
        self._pending: dict[str, asyncio.Future[Report]] = {}
        self._pings: dict[str, asyncio.Future[None]] = {}
        self.inbox = Inbox(options.max_queued, self._pause, self._resume)
        self.deliveries = Deliveries(options.seen, self._acknowledge, self._not_recorded)
        self.waiting = Waiting()
        self._keeper = Keeper(self, options.retry_first_s, options.retry_max_s, options.idle_ping_s)

    # -- the connection ---------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.channel is not None and not self.channel.closed

    @property
    def needed(self) -> bool:
        """Whether there is to be a connection, without our owner's asking for it."""
        return not self._closing and self._refusal is None and (self._options.reconnect or len(self.waiting) > 0)

    async def open(self) -> Report:
        """Connects, says hello, and returns the good report on that.

        Raises:
            ConnectError, AuthenticationError, OSError: see :meth:`bester.client.client.Client.open`.
        """
        if self.connected or self._connecting:
            raise RuntimeError("the client is open already")
        self._connecting = True
        trying = self._keeper.trying
        try:
            await self._keeper.stop()
            self._closing = False
            self._refusal = None
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
            self._connecting = False
            if trying and not self.connected:
                self._keeper.start()

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
        self._fatal = None
        first = self._hello(conversation)
        options = self._options
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
        timeout_s = self._options.connect_timeout_s
        future: asyncio.Future[Report] = channel.loop.create_future()
        self._pending[AUTHENTICATION_ID] = future
        try:
            async with asyncio.timeout(timeout_s):
                channel.write(hello)
                report = await future
        except ConnectionClosed as error:
            raise ConnectError(f"{self.target}: {error.message}", error.code, error.temporary) from error
        except TimeoutError as error:
            text = f"{self.target}: no answer within {timeout_s:g} s"
            raise ConnectError(text, temporary=True) from error
        if not report.good:
            refusal = Refused(report)
            raise AuthenticationError(refusal.message, refusal.code, refusal.temporary)
        return report

    def _make_channel(self) -> Channel:
        channel = Channel(
            self._options.max_frame_bytes,
            lambda bodies: self._greeted(channel, bodies),
            lambda error: self._lost(channel, error),
        )
        return channel

    def _greeted(self, channel: Channel, bodies: list[bytes]) -> None:
        """Takes what comes until we are let in, which is when the connection becomes ours."""
        for position, body in enumerate(bodies, 1):
            self._received([body])
            if self.conversation.authenticated:
                self._admitted(channel)
                self._received(bodies[position:])
                return

    def _admitted(self, channel: Channel) -> None:
        self.channel = channel
        channel.on_bodies = self._received
        self.inbox.open()
        max_bytes = self.conversation.max_message + PREFIX.size
        for id, frame in list(self.waiting.frames.items()):
            future = self._pending.get(id)
            if future is None or future.done():
                continue
            if len(frame) <= max_bytes:
                channel.write(frame)
            else:  # the server takes less than it did; it would end the connection
                future.set_exception(
                    TooLarge(f"a frame of {len(frame)} bytes; the server now takes at most {max_bytes}")
                )
        self.deliveries.flush()
        self._keeper.connected()
        self._tell(True, "")

    async def close(self, acknowledge: bool = True) -> None:
        """Ends the connection; what is under way fails, and what waits to be sent again."""
        if acknowledge:
            self.deliveries.release()
        else:
            self.deliveries.forget_held()
        self._closing = True
        await self._keeper.stop()
        self.deliveries.flush()
        channel = self.channel
        if channel is not None:
            channel.close()
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await channel.wait_closed()
            except TimeoutError:
                channel.abort()
                await channel.wait_closed()
        error = self.closed_error()
        self.waiting.fail(error)
        self.inbox.end(None)
        self.deliveries.seen.close()

    def closed_error(self) -> ConnectionClosed:
        """Returns why there is no connection."""
        if (self._closing or self.channel is None) and self._fatal is None and self._refusal is None:
            return ConnectionClosed("the client is closed")
        return self._lost_error()

    def _lost_error(self) -> ConnectionClosed:
        told = self._fatal or self._refusal
        if told is not None:
            error = ConnectionClosed(told.message, told.code, told.temporary)
        else:
            why = self._cause or "closed by the server"
            error = ConnectionClosed(f"the connection was lost: {why}", temporary=True)
        error.__cause__ = self._cause
        return error

    def _lost(self, channel: Channel, cause: Exception | None) -> None:
        self._cause = cause
        error = self.closed_error() if self.channel is channel else self._lost_error()
        if self.channel is not channel:  # before we were let in
            greeting = self._pending.pop(AUTHENTICATION_ID, None)
            if greeting is not None and not greeting.done():
                greeting.set_exception(error)
            return
        if not self.conversation.authenticated and not self._closing:
            self._refusal = error  # who has logged out is not logged in again without being asked
        again = self.needed
        waiting = self.waiting
        if not again or (self._fatal is not None and self._fatal.code in _OUR_FAULT):
            waiting.fail(error)
        failed: list[asyncio.Future[Any]] = [*self._pings.values()]
        failed += [future for id, future in self._pending.items() if id not in waiting]
        self._pending = {id: future for id, future in self._pending.items() if id in waiting}
        self._pings.clear()
        for future in failed:
            if not future.done():
                future.set_exception(error)
        if again and self._options.reconnect:
            self.inbox.interrupt(error)
        else:
            self.inbox.end(None if self._closing else error)
        if not self._closing:
            self._tell(False, error.message)
        if again:
            self._keeper.start()

    def give_up(self, error: ClientError) -> None:
        """The server does not let us in any more: whatever waits for a connection fails."""
        self._refusal = error
        self.waiting.fail(error)
        self.inbox.end(self.closed_error())
        self._tell(False, error.message)

    def _tell(self, connected: bool, why: str) -> None:
        if self._options.on_connection is not None:
            try:
                self._options.on_connection(connected, why)
            except Exception:
                _log.exception("on_connection failed")

    # -- is anybody there? what the keeper asks -----------------------------------------------------------------

    def heard(self) -> bool:
        channel = self.channel
        if channel is None or self.inbox.paused:
            return True
        heard, channel.heard = channel.heard, False
        return heard

    def probe(self) -> None:
        if self.channel is not None:
            self.channel.write(self.conversation.ping(f"ping-{self.next_id()}"))

    def cut(self, reason: str) -> None:
        if self.channel is not None:
            self.channel.abort(TimeoutError(reason))

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
        future = pending[id] = channel.loop.create_future()
        channel.write(frame)
        return future

    def write_once(self, frame: bytes, id: str) -> asyncio.Future[Report]:
        """As :meth:`write`; but without a connection the frame waits for one, and it is sent until it is reported.

        Raises:
            ConnectionClosed: the client is not open, or the server does not let it in any more.
            ValueError: a message with this id has no report yet.
        """
        channel = self.channel
        if channel is None or self._closing or self._refusal is not None:
            raise self.closed_error()
        pending = self._pending
        if id in pending and not pending[id].done():
            raise ValueError(f"a message with the id {id!r} has no report yet")
        future: asyncio.Future[Report] = channel.loop.create_future()
        pending[id] = future
        self.waiting.add(id, frame, future)
        future.add_done_callback(partial(self._settled, id))
        if not channel.closed:
            channel.write(frame)
            self._keeper.watch()
        elif not self._connecting:
            self._keeper.start()
        return future

    def _settled(self, id: str, future: asyncio.Future[Report]) -> None:
        self.waiting.settle(id, future)
        if self._pending.get(id) is future:
            del self._pending[id]

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

    def _acknowledge(self, ids: list[str]) -> None:
        if self.channel is not None:
            self.channel.write(self.conversation.ack(ids))

    def _not_recorded(self, error: OSError) -> None:
        _log.error("deliveries cannot be recorded, and are not acknowledged: %s", error)
        if self.channel is not None:
            self.channel.abort(error)

    # -- from the server --------------------------------------------------------------------------------------

    async def take(self) -> ReceivedMessage | None:
        """Returns the next message, and is done with the one before; None when the client was closed."""
        self.deliveries.release()
        message = await self.inbox.take()
        if message is not None and message.delivery_id is not None:
            self.deliveries.hold(message.delivery_id)
        return message

    def _received(self, bodies: list[bytes]) -> None:
        receive = self.conversation.receive
        pending = self._pending
        for body in bodies:
            event = receive(body)
            if type(event) is Report:  # isinstance is slow to say no
                future = pending.pop(event.id, None)
                if future is not None and not future.done():
                    future.set_result(event)
            elif type(event) is ReceivedMessage:
                self._deliver(event)
            elif isinstance(event, Pong):
                ping = self._pings.pop(event.id, None)
                if ping is not None and not ping.done():
                    ping.set_result(None)
            elif isinstance(event, FatalError):
                self._fatal = event.error

    def _deliver(self, message: ReceivedMessage) -> None:
        """Gives a message to whoever takes it, unless it was given out before."""
        delivery_id = message.delivery_id
        if delivery_id is not None and not self.deliveries.is_new(delivery_id):
            return
        if self._on_message is None:
            done = self.inbox.put(message)
        else:
            try:
                self._on_message(message)
                done = True
            except Exception:
                _log.exception("on_message failed for a message of type %s", message.type)
                if delivery_id is not None:
                    self.deliveries.forget(delivery_id)
                return
        if done and delivery_id is not None:
            self.deliveries.done(delivery_id)

    def _pause(self) -> None:
        if self.channel is not None:
            self.channel.pause()

    def _resume(self) -> None:
        if self.channel is not None:
            self.channel.resume()
