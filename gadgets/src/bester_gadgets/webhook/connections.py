"""The endpoint's connections: how many there are, from where, and for how long they may be idle or half a request.

Whoever has not proven yet who calls is worth least. Where an address has its share, or there are too many in all, the
one that has been waiting for longest makes room; a connection whose authentic request is being carried out never does.
Connections count from when they are accepted, so that unfinished TLS handshakes count too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

from aiohttp.web_protocol import RequestHandler

from bester.accepting import Arrival, LogThrottle
from bester_gadgets.rates import network_of

log = logging.getLogger("bester.webhook")

FOR_EACH_SLOT = 2
"""Connections, for each request that may be carried out at the same time."""
GRACE_S = 1.0
"""Beyond the time for a body, so that who is too slow is told so."""


class Connections:
    """All of them.

    Args:
        most: in all.
        most_each: of one address.
        timeout_s: for a header, for a body, and between two requests.
        make_http: makes aiohttp's part of one.
    """

    def __init__(self, most: int, most_each: int, timeout_s: float, make_http: Callable[[], RequestHandler]) -> None:
        self._most = most
        self._most_each = most_each
        self._timeout_s = timeout_s
        self.make_http = make_http
        self.of: dict[object, Connection] = {}
        """By aiohttp's part."""
        self._all: dict[Connection, None] = {}
        self._throttle = LogThrottle()

    def welcome(self, arrival: Arrival) -> Connection | None:
        """Counts a new one; another may be ended for it, or there is no place for it."""
        connection = Connection(self, arrival)
        same = [one for one in self._all if one.address == connection.address]
        crowded = same if len(same) >= self._most_each else list(self._all) if len(self._all) >= self._most else []
        if crowded:
            waiting = [one for one in crowded if not one.proven]
            if count := self._throttle.due():
                log.warning("too many connections, now from %s: %d had to make room", connection.address, count)
            if not waiting:
                return None
            min(waiting, key=lambda one: one.since).abort()
        self._all[connection] = None
        arrival.gone = lambda: self.leave(connection)
        return connection

    def leave(self, connection: Connection) -> None:
        """Forgets one that is closed."""
        self._all.pop(connection, None)
        self.of.pop(connection.http, None)

    async def watch(self) -> None:
        """Ends those that take too long, until it is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._timeout_s / 2))
            before = time.monotonic() - self._timeout_s - GRACE_S
            for one in [one for one in self._all if not one.proven and one.since < before]:
                one.abort()


class Connection(asyncio.Protocol):
    """One of them: passes everything on to aiohttp's part, which begins when the TLS handshake, if any, is over."""

    def __init__(self, all: Connections, arrival: Arrival) -> None:
        self._connections = all
        self._arrival = arrival
        peername = arrival.get_extra_info("peername")
        self.address = network_of(str(peername[0])) if isinstance(peername, tuple) else ""
        self.http: RequestHandler | None = None
        self.since = time.monotonic()
        """When it was accepted, the last header was complete, or the last answer given."""
        self.proven = False
        """An authentic request is being carried out."""
        self._socket: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self.http = self._connections.make_http()
        self._connections.of[self.http] = self
        self.http.connection_made(self._socket)

    def data_received(self, data: bytes) -> None:
        if self.http is not None:
            self.http.data_received(data)

    def eof_received(self) -> None:
        if self.http is not None:
            self.http.eof_received()

    def pause_writing(self) -> None:
        if self.http is not None:
            self.http.pause_writing()

    def resume_writing(self) -> None:
        if self.http is not None:
            self.http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        if self.http is not None:
            self.http.connection_lost(cast(Any, exc))

    def abort(self) -> None:
        """Ends it at once."""
        self._connections.leave(self)
        if self._socket is not None:
            self._socket.abort()
        else:
            self._arrival.close()
