"""Sends a client's frames, and matches the server's frames to the calls that wait for them.

Each frame becomes a future's result or a message in the inbox as soon as it is read: there are no tasks.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from uuid import uuid4

from bester.client.deliveries import Deliveries
from bester.client.greeting import PARTS
from bester.client.inbox import Inbox
from bester.client.questions import OpenQuestions
from bester.client.seen_deliveries import SeenDeliveries
from bester.client.unreported import UnreportedMessages
from bester.net.channel import Channel
from bester.protocol.client import AUTHENTICATION_ID, ClientConversation
from bester.protocol.received import Pong, ReceivedMessage
from bester.protocol.reports import (
    ClientError,
    ConnectionClosed,
    FatalError,
    Report,
    ReportError,
)
from bester.protocol.values import BadNumber
from bester.timeouts import within

_log = logging.getLogger("bester.client")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of a session's owner; see :class:`bester.client.client.Client`."""

    tls: ssl.SSLContext | None
    max_queued: int
    on_message: Callable[[ReceivedMessage], object] | None
    on_connection: Callable[[bool, str], object] | None
    connect_timeout_s: float
    max_frame_bytes: int
    seen: SeenDeliveries
    reconnect: bool
    retry_first_s: float
    retry_max_s: float
    idle_ping_s: float


class Messaging:
    """The messages and futures of a session, which outlive its connections.

    Args:
        options: the owner's.
        need_connection: called when a ``once`` message waits for its report; ensures that there is a connection, and
            that it is watched.
    """

    def __init__(self, options: Options, need_connection: Callable[[], None]) -> None:
        self.channel: Channel | None = None
        """The connection on which the server authenticated us; the last such one if it is closed."""
        self.conversation = ClientConversation()
        self.next_id = count(1).__next__
        self._once_prefix = ""
        self.options = options
        self._need_connection = need_connection
        self._on_message = options.on_message
        self.connecting = False
        self.closing = False
        self.fatal: ReportError | None = None
        self.cause: Exception | None = None
        self.refusal: ClientError | None = None
        self.pending: dict[str, asyncio.Future[Report]] = {}
        self.pings: dict[str, asyncio.Future[None]] = {}
        self.inbox = Inbox(options.max_queued, self._pause, self._resume)
        self.deliveries = Deliveries(options.seen, self._acknowledge, self._not_recorded)
        self.unreported = UnreportedMessages()
        self.questions = OpenQuestions()

    def closed_error(self) -> ConnectionClosed:
        """Returns why there is no connection."""
        if (self.closing or self.channel is None) and self.fatal is None and self.refusal is None:
            return ConnectionClosed("the client is closed")
        return self.lost_error()

    def lost_error(self) -> ConnectionClosed:
        """Returns why the connection was lost."""
        told = self.fatal or self.refusal
        if told is not None:
            error = ConnectionClosed(told.message, told.code, told.temporary)
        else:
            why = self.cause or "closed by the server"
            error = ConnectionClosed(f"the connection was lost: {why}", temporary=True)
        error.__cause__ = self.cause
        return error

    # -- to the server ----------------------------------------------------------------------------------------

    def checked_id(self, id: str | None, once: bool) -> str:
        """Returns the id that the sender chose, or a new one.

        Raises:
            ValueError: the id is not the sender's to choose.
        """
        if id == AUTHENTICATION_ID:
            raise ValueError(f"the id {id} belongs to the protocol")
        if id is not None:
            return id
        number = str(self.next_id())
        if not once:
            return number
        self._once_prefix = self._once_prefix or uuid4().hex
        return f"{self._once_prefix}n{number}"

    def write(self, frame: bytes, id: str) -> asyncio.Future[Report]:
        """Queues a frame for sending, and returns the future of the report with this id.

        Raises:
            ConnectionClosed: there is no connection.
            ValueError: a message with this id has no report yet.
        """
        channel = self.channel
        if channel is None or channel.closed:
            raise self.closed_error()
        pending = self.pending
        if id in pending and not pending[id].done():
            raise ValueError(f"a message with the id {id!r} has no report yet")
        future = pending[id] = channel.loop.create_future()
        channel.write(frame)
        return future

    def write_once(self, frame: bytes, id: str) -> asyncio.Future[Report]:
        """Writes a frame as :meth:`write` does, but waits for a connection, and sends it again until it is reported.

        Raises:
            ConnectionClosed: the client is not open, or the server does not let it in any more.
            ValueError: a message with this id has no report yet.
        """
        channel = self.channel
        if channel is None or self.closing or self.refusal is not None:
            raise self.closed_error()
        pending = self.pending
        if id in pending and not pending[id].done():
            raise ValueError(f"a message with the id {id!r} has no report yet")
        future: asyncio.Future[Report] = channel.loop.create_future()
        pending[id] = future
        self.unreported.add(id, frame, future)
        future.add_done_callback(partial(self._settled, id))
        if not channel.closed:
            channel.write(frame)
        self._need_connection()
        return future

    def _settled(self, id: str, future: asyncio.Future[Report]) -> None:
        self.unreported.settle(id, future)
        if self.pending.get(id) is future:
            del self.pending[id]

    def grant(self, id: str, parts: int) -> None:
        """Lets the server send this many further parts of the answer to a message."""
        if self.channel is not None:
            self.channel.write(self.conversation.more(id, parts))

    def cancel(self, id: str) -> bool:
        """Tells the server that nobody waits for the report on a message any more; returns whether it could be told."""
        channel = self.channel
        if channel is None or channel.closed or id not in self.pending or PARTS not in self.conversation.features:
            return False
        channel.write(self.conversation.cancel(id))
        return True

    async def ping(self, timeout: float | None) -> None:
        """Sends a ping, and returns when the server has answered it."""
        channel = self.channel
        if channel is None or channel.closed:
            raise self.closed_error()
        id = f"ping-{self.next_id()}"
        future = self.pings[id] = asyncio.get_running_loop().create_future()
        channel.write(self.conversation.ping(id))
        try:
            async with within(timeout):
                await future
        finally:
            self.pings.pop(id, None)

    def _acknowledge(self, ids: list[str]) -> None:
        if self.channel is not None:
            self.channel.write(self.conversation.ack(ids))

    def _not_recorded(self, error: OSError) -> None:
        _log.error("deliveries cannot be recorded, and are not acknowledged: %s", error)
        if self.channel is not None:
            self.channel.abort(error)

    # -- from the server --------------------------------------------------------------------------------------

    async def take(self) -> ReceivedMessage | None:
        """Finishes the previous message, and returns the next one; None when the client was closed."""
        self.deliveries.release()
        message = await self.inbox.take()
        if message is not None and message.delivery_id is not None:
            self.deliveries.hold(message.delivery_id)
        return message

    def received(self, bodies: list[bytes]) -> None:
        """Handles the frames that the server sent."""
        receive = self.conversation.receive
        pending = self.pending
        for body in bodies:
            event = receive(body)
            if type(event) is Report:  # isinstance is slow to say no
                future = pending.pop(event.id, None)
                if future is not None and not future.done():
                    future.set_result(event)
            elif type(event) is ReceivedMessage:
                self._deliver(event)
            elif isinstance(event, Pong):
                ping = self.pings.pop(event.id, None)
                if ping is not None and not ping.done():
                    ping.set_result(None)
            elif isinstance(event, FatalError):
                self.fatal = event.error

    def _deliver(self, message: ReceivedMessage) -> None:
        """Gives a message to the caller, callback or inbox that it is for, unless it was delivered before."""
        delivery_id = message.delivery_id
        if delivery_id is not None and not self.deliveries.is_new(delivery_id):
            return
        if (message.reply_to is None and message.part_of is None) or not self.questions.take_answer(message):
            if self._on_message is None:
                self.inbox.put(message)
                return
            try:
                self._on_message(message)
            except BadNumber as error:
                # It would fail again, so the message is finished.
                _log.error("on_message failed for a message of type %s: %s", message.type, error)
            except Exception:
                _log.exception("on_message failed for a message of type %s", message.type)
                if delivery_id is not None:
                    self.deliveries.forget(delivery_id)
                return
        if delivery_id is not None:
            self.deliveries.done(delivery_id)

    def _pause(self) -> None:
        if self.channel is not None:
            self.channel.pause()

    def _resume(self) -> None:
        if self.channel is not None:
            self.channel.resume()

    # -- for the supervisor: is the server there? ---------------------------------------------------------------

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
