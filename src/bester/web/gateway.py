"""WebSocket clients, which speak the protocol of TCP clients with one message for each frame (section 1.1).

:class:`Gateway` connects the socket to a :class:`WebClient`, a connection like that of any listener. To the socket it
is the protocol, to the client it is the transport: it adds the length prefix to input and removes it from output.
Backpressure passes through in both directions, because there is no buffer in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from bester.core.metrics import Drop
from bester.errors import BadScope, BesterError, Internal, Malformed, ShuttingDown, TooLarge
from bester.protocol.framing import PREFIX
from bester.protocol.framing import frame as prefixed
from bester.protocol.messages import FirstMessage
from bester.server.connections.listener import ListenerConnection
from bester.server.connections.services import Services
from bester.web import messages
from bester.web.messages import Messages

log = logging.getLogger("bester.web")

CODES = {
    Malformed.code: messages.BAD_DATA,
    TooLarge.code: messages.TOO_BIG,
    ShuttingDown.code: messages.GOING_AWAY,
    Internal.code: messages.FAILED,
}
"""The close codes by the error that ends a connection; for all others :data:`~bester.web.messages.POLICY`."""

HEADS = tuple(messages.head(messages.TEXT, size) for size in range(512))
"""What stands before a text message, by its size."""

BROKEN = PREFIX.pack(0)
"""Replaces invalid input to the client: an impossible frame length, which fails after the frames before it."""


class WebClient(ListenerConnection):
    """The server's end of a WebSocket; it refuses other servers."""

    def __init__(self, gateway: Gateway, services: Services) -> None:
        super().__init__(services)
        self._gateway = gateway

    @property
    def takes(self) -> int:
        """How many messages to read before the first one is decoded; -1: any number, which are queued."""
        return self._at_most if self._at_most < 2 else -1

    def fail(self, error: BesterError) -> None:
        super().fail(self._gateway.ends_for(error))

    def refuse(self, error: BesterError, id: str) -> None:
        super().refuse(self._gateway.ends_for(error), id)

    def go_on(self, receive: Callable[[bytes], None], at_most: int) -> None:
        super().go_on(receive, at_most)
        self._gateway.go_on()

    def first_of_server(self, message: FirstMessage, size: int, *, asked: bool) -> None:
        raise BadScope('header.scope must be "client" on a WebSocket')


class Gateway(asyncio.Transport):
    """One WebSocket, after its handshake.

    Args:
        services: the server's services.
        transport: the socket's transport, whose callbacks must call this object from now on.
        gone: called when the connection is closed.
    """

    def __init__(self, services: Services, transport: asyncio.Transport, gone: Callable[[Gateway], None]) -> None:
        super().__init__()
        self._runtime = services.runtime
        self._incomplete = services.connections.incomplete
        self._raw = transport
        self._gone = gone
        self._closing = False
        """Whether this end has sent its close frame, after which it must send nothing."""
        self._code: int | None = None
        """The close frame's code, if already known."""
        self._heard = True
        self._ping: bytes | None = None
        """The data of the last unanswered ping."""
        self.client = WebClient(self, services)
        self._messages = Messages(self.client.framer.max_size)

    def begin(self) -> None:
        """Starts the conversation, after the handshake."""
        self.client.connection_made(self)

    def ends_for(self, error: BesterError) -> BesterError:
        """Returns the error to report to the client, and sets the close frame's code for it."""
        broken = self._messages.failure
        if broken is not None and error is self.client.framer.failure:
            self._code = broken.code
            return TooLarge(str(broken)) if broken.code == messages.TOO_BIG else Malformed(str(broken))
        if self._code is None:
            self._code = CODES.get(error.code, messages.POLICY)
        return error

    def go_on(self) -> None:
        """Passes buffered input to the client when it accepts messages again."""
        if self._messages.incomplete and not self.client.ended:
            self.data_received(b"")

    # -- the socket's side -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        client, reader = self.client, self._messages
        reader.max_size = client.framer.max_size
        if client.ended:
            self._discard(data)
            return
        was_broken = reader.failure is not None
        out: list[bytes] = []
        closed = False
        for opcode, payload in reader.feed(data, client.takes):
            if opcode == messages.TEXT:
                out.append(prefixed(payload))
            elif opcode == messages.PING:
                self._ping = payload  # replaces an unanswered ping, which then needs no answer
            elif opcode == messages.CLOSE:
                closed = True
                break
        if reader.failure is not None and not was_broken:
            out.append(BROKEN)
        if out:
            client.data_received(b"".join(out))
        if closed:
            self._answer_close()
            return
        self._answer_ping()
        if reader.incomplete and not client.ended:
            # The client sees only complete frames, so slow frames must be timed here.
            if not client.frame_began or out:
                client.frame_began = self._runtime.clock()
                self._incomplete[client] = None
        elif client.frame_began and not client.framer.buffered:
            client.frame_began = 0.0
            self._incomplete.pop(client, None)

    def _discard(self, data: bytes) -> None:
        """Discards input after the end, until the peer closes, so that no reset overtakes the last output."""
        self._runtime.counts.discarded_in += len(data)
        if any(opcode == messages.CLOSE for opcode, _ in self._messages.feed(data)):
            self._answer_close()

    def _answer_ping(self) -> None:
        """Answers the last ping once the peer has read all earlier output, so that pings use no memory."""
        if self._ping is not None and not self._closing and not self.client.unsent:
            ping, self._ping = self._ping, None
            self._raw.write(messages.frame(messages.PONG, ping))

    def _answer_close(self) -> None:
        """Closes because the peer has closed; a WebSocket has no half-closed state."""
        if not self._closing:
            self._closing = True
            self._raw.write(messages.close_frame(messages.NORMAL))
        self._raw.close()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.client.pause_writing()

    def resume_writing(self) -> None:
        self.client.resume_writing()
        self._answer_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(self)
        self.client.connection_lost(exc)

    # -- time ------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Pings a peer that was silent since the last call, and aborts if it did not answer the previous ping."""
        if self._closing or self.client.stopped:
            return
        if self._heard:
            self._heard = False
            self._raw.write(messages.frame(messages.PING, b""))
        else:
            log.info("%s does not answer pings", self.client, extra=self.client.ids())
            self._runtime.counts.refuse("noPong")
            self._raw.abort()

    # -- the client's side: a transport ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends complete frames, each as one message."""
        if self._closing:
            self._runtime.exchange.batch.counters.drops.count(Drop.FRAME_UNSENT)
            return
        data = cast(bytes, data)
        unpack, heads = PREFIX.unpack_from, HEADS
        out: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            (size,) = unpack(data, at)
            start = at + 4
            at = start + size
            out.append(heads[size] if size < len(heads) else messages.head(messages.TEXT, size))
            out.append(data[start:at])
        self._raw.write(b"".join(out))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Sends the close frame; the socket closes when the peer has answered with its own."""
        if not self._closing:
            self._closing = True
            code = self._code or (messages.GOING_AWAY if self._runtime.stopping else messages.NORMAL)
            self._raw.write(messages.close_frame(code))
            if self._messages.failure is not None:
                # After invalid input the peer's close frame cannot be read: the peer must end the connection itself.
                if self._raw.can_write_eof() and not self._raw.is_closing():
                    self._raw.write_eof()
            elif self._messages.incomplete:
                asyncio.get_running_loop().call_soon(self.data_received, b"")  # its close frame may be here already

    def close(self) -> None:
        self.write_eof()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        if not self._raw.is_closing():
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._raw.is_closing():
            self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)
