"""One connection to the listener ``web``: HTTP by aiohttp, until it becomes a WebSocket.

The front is the socket's protocol for the connection's whole life, and passes everything on to whom it belongs to:
first to aiohttp's handler, which sees the socket through a :class:`_Lent` transport, and after an upgrade to a
:class:`~bester.web.gateway.Gateway`, which has the socket to itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiohttp.web_protocol import RequestHandler

from bester.accepting import Arrival
from bester.errors import BesterError
from bester.net.peers import Remote, remote_of
from bester.web.gateway import Gateway

if TYPE_CHECKING:
    from bester.web.site import Site


class Front(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, site: Site, make_handler: Callable[[], RequestHandler]) -> None:
        self.site = site
        self._make_handler = make_handler
        self.http: RequestHandler | None = None
        self.socket: asyncio.Transport | None = None
        self._lent: _Lent | None = None
        self._gateway: Gateway | None = None
        self._arrival: Arrival | None = None
        self.remote = Remote("unknown", False)

    def arrive(self, arrival: Arrival) -> bool:
        """It was accepted; its TLS handshake may be still to come. False closes it at once."""
        self._arrival = arrival
        self.remote = remote_of(arrival)
        arrival.gone = lambda: self.site.leave(self)
        return self.site.arrive(self)

    def fail(self, error: BesterError) -> None:
        """Ends a connection on which no whole request has come."""
        self.site.runtime.counts.refuse(error.code)
        if self.socket is not None:
            self.socket.abort()
        elif self._arrival is not None:
            self._arrival.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.Transport, transport)
        self.http = self._make_handler()
        self._lent = _Lent(self.socket)
        self.site.fronts[self.http] = self
        self.http.connection_made(self._lent)

    def upgrade(self, answer: bytes) -> None:
        """Sends the handshake's answer; what comes from now on is WebSocket messages. aiohttp's part is over."""
        assert self.socket is not None
        assert self._lent is not None
        http, self.http = self.http, None
        assert http is not None
        self._lent.returned = True
        self.site.leave(self)
        self.socket.write(answer)
        self._gateway = gateway = Gateway(self.site.services, self.socket, self.site.gateways.discard)
        self.site.gateways.add(gateway)
        gateway.begin()
        # It runs in a task of aiohttp's just now.
        asyncio.get_running_loop().call_soon(self._let_go, http)

    def _let_go(self, http: RequestHandler) -> None:
        self.site.fronts.pop(http, None)
        http.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        if self._gateway is not None:
            self._gateway.data_received(data)
        elif self.http is not None:
            self.http.data_received(data)

    def eof_received(self) -> bool:
        if self._gateway is not None:
            return self._gateway.eof_received()
        if self.http is not None:
            self.http.eof_received()
        return False

    def pause_writing(self) -> None:
        if self._gateway is not None:
            self._gateway.pause_writing()
        elif self.http is not None:
            self.http.pause_writing()

    def resume_writing(self) -> None:
        if self._gateway is not None:
            self._gateway.resume_writing()
        elif self.http is not None:
            self.http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.site.leave(self)
        if self._gateway is not None:
            self._gateway.connection_lost(exc)
        elif self.http is not None:
            self.site.fronts.pop(self.http, None)
            self.http.connection_lost(exc)


class _Lent(asyncio.Transport):
    """The socket as aiohttp sees it; once it is returned, nothing that aiohttp still does reaches it."""

    def __init__(self, socket: asyncio.Transport) -> None:
        super().__init__()
        self._socket = socket
        self.returned = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.returned:
            self._socket.write(data)

    def writelines(self, parts: Any) -> None:
        if not self.returned:
            self._socket.writelines(parts)

    def close(self) -> None:
        if not self.returned:
            self._socket.close()

    def abort(self) -> None:
        if not self.returned:
            self._socket.abort()

    def is_closing(self) -> bool:
        return self.returned or self._socket.is_closing()

    def pause_reading(self) -> None:
        if not self.returned:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if not self.returned:
            self._socket.resume_reading()

    def get_write_buffer_size(self) -> int:
        return 0 if self.returned else self._socket.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self.returned:
            self._socket.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)
