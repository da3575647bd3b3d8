"""The server's end of a TLS connection, between a socket's transport and the protocol that uses it.

It takes the place of asyncio's own TLS, and differs in three ways. A peer can end its own direction and still receive
(RFC 8446, section 6.1), as over TCP: ``eof_received`` says so, and returns whether the connection stays open. All that
one read of the socket brought is handed on at once, without an attempt to read more, which would raise an exception for
each read. And a connection has no buffer of its own: uvloop's has 64 KiB, of which a busy heap makes 25 KiB resident.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

__all__ = ["TlsTransport"]

RECORD_BYTES = 16_384
"""The most data that a record has (RFC 8446, section 5.1)."""
SLICE_BYTES = 2 * RECORD_BYTES
"""How much OpenSSL is given at once: its buffers for what comes and goes keep the size of the most that was in them."""

MAX_ANSWERS = 100
"""How often a peer may have us answer its renewed keys (RFC 8446, section 4.6.3) while it reads nothing."""


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """To the socket it is the protocol, and to ``protocol`` it is the transport, after the handshake.

    Args:
        protocol: what gets the data.
        context: the listener's.
        handshake_timeout_s, shutdown_timeout_s: how long the handshake, and the end, wait for the peer.
    """

    __slots__ = (
        "_answers",
        "_closing",
        "_context",
        "_ended",
        "_error",
        "_handshake_timeout_s",
        "_incoming",
        "_outgoing",
        "_protocol",
        "_raw",
        "_ready",
        "_shutdown_timeout_s",
        "_timer",
        "_tls",
    )

    def __init__(
        self,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        *,
        handshake_timeout_s: float,
        shutdown_timeout_s: float,
    ) -> None:
        super().__init__()
        self._protocol = cast(asyncio.Protocol, protocol)
        self._context = context
        self._shutdown_timeout_s = shutdown_timeout_s
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._raw: asyncio.Transport
        self._ready: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        """Done after the handshake; None from then on."""
        self._handshake_timeout_s = handshake_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        """Whether the peer has sent its ``close_notify``."""
        self._closing = False
        """Whether we have sent ours, after which nothing is handed on or written."""
        self._answers = 0
        self._error: Exception | None = None
        """The peer's offence against TLS."""

    async def ready(self) -> None:
        """Waits for the handshake, after which the protocol has this transport.

        Raises:
            OSError: it failed (``ssl.SSLError``), took too long, or the peer has left.
        """
        if self._ready is not None:
            try:
                await self._ready
            except asyncio.CancelledError:
                self._raw.abort()
                raise

    # -- the socket's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._handshake_timeout_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._ended or self._error is not None:
            return
        received: list[bytes] = []
        if len(data) <= SLICE_BYTES:
            self._take(data, received)
        else:
            for at in range(0, len(data), SLICE_BYTES):
                self._take(data[at : at + SLICE_BYTES], received)
                if self._ended or self._error is not None:
                    break
        if self._ready is not None:
            return
        if self._outgoing.pending:
            self._answer()
        if received and not self._closing:
            self._protocol.data_received(received[0] if len(received) == 1 else b"".join(received))
        if self._ended or self._error is not None:
            self._input_ended()

    def _shake_hands(self) -> bool:
        """Goes on with the handshake; returns whether it is over."""
        ready = self._ready
        assert ready is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._error = error
            self._flush()  # an alert that says why
            self._shut()
            return False
        self._flush()
        self._ready = None
        self._stop_timer()
        self._protocol.connection_made(self)
        if not ready.done():
            ready.set_result(None)
        return True

    def _take(self, data: bytes, received: list[bytes]) -> None:
        """Appends the data of all records that are complete."""
        self._incoming.write(data)
        if self._ready is not None and not self._shake_hands():
            return
        incoming, read = self._incoming, self._tls.read
        try:
            while incoming.pending:
                record = read(RECORD_BYTES)
                if not record:
                    self._ended = True
                    break
                received.append(record)
        except ssl.SSLWantReadError:
            pass  # the last record is not complete, or had no data
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._error = error

    def _answer(self) -> None:
        """Writes what TLS itself answers; without a bound, a peer that reads nothing could fill the memory."""
        self._answers = self._answers + 1 if self._raw.get_write_buffer_size() else 0
        if self._answers > MAX_ANSWERS:
            self._error = ConnectionAbortedError("the peer renews its keys all the time, and does not read")
            self._raw.abort()
        else:
            self._flush()

    def _input_ended(self) -> None:
        if self._error is not None:
            self._shut()
        elif self._closing:
            self._raw.close()
        elif not self._protocol.eof_received():
            self.close()

    def eof_received(self) -> bool:
        return False  # the end of TCP is the end of the connection (docs/protocol.md, section 12.3)

    def pause_writing(self) -> None:
        if self._ready is None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._ready is None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._stop_timer()
        error = self._error or exc
        if self._ready is None:
            self._protocol.connection_lost(error)
        elif not self._ready.done():
            self._ready.set_exception(error or ConnectionResetError("the peer has left during the TLS handshake"))
            self._ready.exception()  # perhaps nobody waits any more: then it is no fault that is to be logged

    # -- time ----------------------------------------------------------------------------------------------------

    def _too_slow(self) -> None:
        self._error = ConnectionAbortedError("the TLS handshake took too long")
        self._raw.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._raw.write(self._outgoing.read())

    def _shut(self) -> None:
        """Closes the socket when all is written, or after the time for that."""
        self._closing = True
        self._await_end()
        self._raw.close()

    def _await_end(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._shutdown_timeout_s, self._raw.abort)

    # -- the protocol's side: a transport ------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        encrypt, size = self._tls.write, len(data)
        done = encrypt(data)  # one record
        self._raw.write(self._outgoing.read())
        while done < size:
            done += encrypt(memoryview(data)[done:])
            self._raw.write(self._outgoing.read())

    def close(self) -> None:
        """Says ``close_notify``; the socket is closed after the peer's, or when that takes too long."""
        if self._closing:
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._ended = True  # what is here of the peer's was not read: it need not say more
        else:
            self._flush()
            self._ended = True
        if self._ended:
            self._shut()
            return
        self._await_end()
        if not self._raw.is_closing():
            self._raw.resume_reading()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        if not self._closing:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing:
            self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what asyncio's TLS would, of the names that are asked for here."""
        if name == "ssl_object":
            return self._tls
        if name == "sslcontext":
            return self._context
        return self._raw.get_extra_info(name, default)
