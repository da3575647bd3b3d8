"""The connection of one client to a server."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bester.lab.nats.routing import Member, Router
from bester.lab.nats.subjects import is_valid
from bester.lab.nats.wire import (
    Connect,
    Message,
    Parser,
    Ping,
    Subscribe,
    Unsubscribe,
    WireError,
    encoded_error,
    encoded_info,
    encoded_message,
    status,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of a server, with the values of a real one."""

    max_payload: int = 1024 * 1024
    max_pending: int = 64 * 1024 * 1024
    """A client that lets more bytes than this wait is cut off."""
    ping_s: float = 120.0
    """The pause between pings to a client."""
    max_pings: int = 2
    """How many pings a client may leave unanswered."""


class ClientSubscription:
    """A subscription of a client."""

    __slots__ = ("connection", "heard", "limit", "queue", "sid", "subject")

    def __init__(self, connection: Connection, subject: str, queue: str, sid: str) -> None:
        self.subject = subject
        self.queue = queue
        self.connection = connection
        self.sid = sid
        self.heard = 0
        self.limit = 0
        """It ends after so many messages; 0: it does not."""

    def member(self) -> Member:
        return self.connection.member

    def deliver(self, message: Message, via: Member, origin: object) -> bool:
        connection = self.connection
        if origin is connection and not connection.echo:
            return False
        connection.send(encoded_message(self.sid, message))
        self.heard += 1
        if self.heard == self.limit:
            connection.unsubscribe(self)
        return True


class Connection(asyncio.Protocol):
    """The server's end of one connection.

    Args:
        member: the server.
        number: the client's.
        router: carries what is published.
        settings: the server's.
        info: returns the fields of an INFO, without the client's number.
        admits: whether a client with the options of its CONNECT may use the server.
        closed: called when the connection has ended.
    """

    def __init__(
        self,
        member: Member,
        number: int,
        router: Router,
        settings: Settings,
        info: Callable[[], dict[str, Any]],
        admits: Callable[[Mapping[str, Any]], bool],
        closed: Callable[[Connection], None],
    ) -> None:
        self.member = member
        self.number = number
        self.options: dict[str, Any] = {}
        """The options of its CONNECT."""
        self.echo = True
        """Whether the client hears its own messages."""
        self.connected = False
        """Whether it has sent its CONNECT, and was admitted."""
        self._router = router
        self._settings = settings
        self._info = info
        self._admits = admits
        self._closed = closed
        self._parser = Parser(settings.max_payload)
        self._subscriptions: dict[str, ClientSubscription] = {}
        self._transport: asyncio.Transport | None = None
        self._context: contextvars.Context | None = None
        """The server's, also where another one's client is the reason for sending."""
        self._unsent: list[bytes] = []
        self._pings = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The client's name, as it told it."""
        return str(self.options.get("name") or "")

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._context = contextvars.copy_context()
        if not self.member.running or self.member.retiring:
            transport.abort()
            return
        transport.write(encoded_info(self._info() | {"client_id": self.number}))
        self._ping_later()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def cut_off(self, text: str = "") -> None:
        """Ends the connection, at once and without what waits to be sent.

        Args:
            text: an error that the client is told before; empty: nothing.
        """
        transport = self._transport
        if transport is not None:
            if text:
                transport.write(encoded_error(text))
                transport.close()
            else:
                transport.abort()
        self._end()

    def _end(self) -> None:
        """Hears nothing any more; the second time it does nothing."""
        if self._transport is None:
            return
        self._transport = None
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
        for subscription in self._subscriptions.values():
            self._router.remove(subscription)
        self._subscriptions.clear()
        self._closed(self)

    def _ping_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._settings.ping_s, self._ping)

    def _ping(self) -> None:
        if self._pings >= self._settings.max_pings:
            self.cut_off("Stale Connection")
            return
        self._pings += 1
        self.send(b"PING\r\n")
        self._ping_later()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Sends bytes at the end of the loop's turn."""
        if self._transport is None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush, context=self._context)
        self._unsent.append(data)

    def _flush(self) -> None:
        transport, unsent = self._transport, self._unsent
        if transport is None or not unsent:
            return
        self._unsent = []
        transport.write(b"".join(unsent))
        if transport.get_write_buffer_size() > self._settings.max_pending:
            self.cut_off()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            for command in self._parser.feed(data):
                if type(command) is Message:
                    self._published(command)
                else:
                    self._handle(command)
                if self._transport is None:
                    return
        except WireError as error:
            self._flush()
            if error.args[0]:
                self.cut_off(str(error))
            elif self._transport is not None:
                self._transport.close()
                self._end()

    def _handle(self, command: object) -> None:
        if type(command) is Subscribe:
            self._subscribe(command)
        elif type(command) is Unsubscribe:
            subscription = self._subscriptions.get(command.sid)
            if subscription is not None:
                subscription.limit = command.after
                if command.after <= subscription.heard:
                    self.unsubscribe(subscription)
            self._confirm()
        elif type(command) is Ping:
            self.send(b"PONG\r\n")
        elif type(command) is Connect:
            self.options = command.options
            if not self._admits(command.options):
                raise WireError("Authorization Violation")
            self.connected = True
            self._confirm()
            self.echo = bool(command.options.get("echo", True))
        else:
            self._pings = 0

    def _confirm(self) -> None:
        if self.options.get("verbose"):
            self.send(b"+OK\r\n")

    def _published(self, message: Message) -> None:
        self._confirm()
        heard = self._router.publish(message, self.member, self)
        if not heard and message.reply and self.options.get("no_responders") and self.options.get("headers"):
            nothing = Message(message.reply, "", status("503", Subject=message.subject), b"")
            self._router.publish(nothing, self.member)

    def _subscribe(self, command: Subscribe) -> None:
        if not is_valid(command.subject):
            self.send(encoded_error("Invalid Subject"))
            return
        subscription = ClientSubscription(self, command.subject, command.queue, command.sid)
        if command.sid not in self._subscriptions:
            self._subscriptions[command.sid] = subscription
            self._router.add(subscription)
        self._confirm()

    def unsubscribe(self, subscription: ClientSubscription) -> None:
        """Ends a subscription."""
        if self._subscriptions.pop(subscription.sid, None) is not None:
            self._router.remove(subscription)
