"""Connections to the listener ``web``: aiohttp serves HTTP until a connection becomes a WebSocket.

A front is the socket's protocol as long as the connection lives. It forwards all events: first to aiohttp's handler,
which sees the socket through a :class:`_DetachableTransport`, and after an upgrade to a
:class:`~bester.web.gateway.Gateway`, which then owns the socket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from aiohttp.web_protocol import RequestHandler

from bester.accepting import Arrival
from bester.errors import BesterError
from bester.net.peers import Remote, remote_of
from bester.server.connections.services import Services
from bester.web.gateway import Gateway

MAX_HTTP = 2000
"""The most connections that are not WebSockets."""
MAX_HTTP_PER_ADDRESS = 100
"""The most such connections from one address; this machine is exempt, because a proxy connects from there."""


class Front(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, fronts: Fronts, make_handler: Callable[[], RequestHandler]) -> None:
        self._fronts = fronts
        self._make_handler = make_handler
        self.http: RequestHandler | None = None
        self.socket: asyncio.Transport | None = None
        self._detachable: _DetachableTransport | None = None
        self._gateway: Gateway | None = None
        self._arrival: Arrival | None = None
        self.remote = Remote("unknown", False)

    def arrive(self, arrival: Arrival) -> bool:
        """Takes an accepted connection, perhaps before its TLS handshake; returns False to close it at once."""
        self._arrival = arrival
        self.remote = remote_of(arrival)
        arrival.gone = lambda: self._fronts.leave(self)
        return self._fronts.arrive(self)

    def fail(self, error: BesterError) -> None:
        """Ends a connection that has not sent a complete request."""
        self._fronts.runtime.counts.refuse(error.code)
        if self.socket is not None:
            self.socket.abort()
        elif self._arrival is not None:
            self._arrival.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.Transport, transport)
        self.http = self._make_handler()
        self._detachable = _DetachableTransport(self.socket)
        self._fronts.by_handler[self.http] = self
        self.http.connection_made(self._detachable)

    def upgrade(self, answer: bytes) -> None:
        """Sends the handshake's response and detaches aiohttp: from now on WebSocket messages come."""
        assert self.socket is not None
        assert self._detachable is not None
        http, self.http = self.http, None
        assert http is not None
        self._detachable.detached = True
        self._fronts.leave(self)
        self.socket.write(answer)
        self._gateway = self._fronts.open_gateway(self.socket)
        self._gateway.begin()
        # Later, because this method runs in a task of the handler.
        asyncio.get_running_loop().call_soon(self._release, http)

    def _release(self, http: RequestHandler) -> None:
        self._fronts.by_handler.pop(http, None)
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
        self._fronts.leave(self)
        if self._gateway is not None:
            self._gateway.connection_lost(exc)
        elif self.http is not None:
            self._fronts.by_handler.pop(self.http, None)
            self.http.connection_lost(exc)


class Fronts:
    """The connections of one listener ``web``: HTTP connections and WebSockets."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.runtime = services.runtime
        self.limits = services.limits
        self.by_handler: dict[RequestHandler, Front] = {}
        """The HTTP connections, by aiohttp's handlers."""
        self.gateways: dict[Gateway, None] = {}
        self._http: dict[Front, str] = {}
        """The HTTP connections, with the addresses that they count for."""
        self._per_address: Counter[str] = Counter()

    def arrive(self, front: Front) -> bool:
        """Counts an accepted connection; returns False if there are too many, or the server is stopping."""
        remote, stopping = front.remote, self.runtime.stopping
        crowded = not remote.local and self._per_address[remote.address] >= MAX_HTTP_PER_ADDRESS
        if stopping or crowded or len(self._http) >= MAX_HTTP:
            self.runtime.counts.refuse("shuttingDown" if stopping else "overloaded")
            return False
        if not self.limits.arrive(front, told=False):
            return False
        self._http[front] = remote.address
        self._per_address[remote.address] += 1
        return True

    def leave(self, front: Front) -> None:
        """Removes a connection that is closed, or has become a WebSocket, which the server counts elsewhere."""
        self.limits.gone(front)
        address = self._http.pop(front, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def stay(self, handler: RequestHandler) -> None:
        """Keeps a connection that has sent a complete request: from then on aiohttp's timeouts apply."""
        front = self.by_handler.get(handler)
        if front is not None:
            self.limits.leave(front)

    def open_gateway(self, socket: asyncio.Transport) -> Gateway:
        """Returns a new gateway for a connection that becomes a WebSocket."""
        gateway = Gateway(self.services, socket, self.gateways.pop)
        self.gateways[gateway] = None
        return gateway

    def look(self) -> None:
        """Pings silent WebSockets, and closes those that have not answered."""
        for gateway in list(self.gateways):
            gateway.look()

    def abort(self) -> None:
        """Closes all connections at once."""
        for gateway in list(self.gateways):
            gateway.abort()
        for front in list(self._http):
            if front.socket is not None:
                front.socket.abort()


class _DetachableTransport(asyncio.Transport):
    """The socket as aiohttp sees it; once detached, calls from aiohttp no longer reach it."""

    def __init__(self, socket: asyncio.Transport) -> None:
        super().__init__()
        self._socket = socket
        self.detached = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.detached:
            self._socket.write(data)

    def writelines(self, parts: Any) -> None:
        if not self.detached:
            self._socket.writelines(parts)

    def close(self) -> None:
        if not self.detached:
            self._socket.close()

    def abort(self) -> None:
        if not self.detached:
            self._socket.abort()

    def is_closing(self) -> bool:
        return self.detached or self._socket.is_closing()

    def pause_reading(self) -> None:
        if not self.detached:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if not self.detached:
            self._socket.resume_reading()

    def get_write_buffer_size(self) -> int:
        return 0 if self.detached else self._socket.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self.detached:
            self._socket.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)
