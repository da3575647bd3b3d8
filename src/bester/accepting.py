"""Accepts connections from a listening socket, and reports each before its TLS handshake, so that it can be counted.

asyncio's servers report a connection only after its TLS handshake, and log a traceback for each attempt to accept while
the process is out of descriptors.

The module is beside :mod:`bester.timeouts`, below all packages, because the gadgets have listeners too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from bester.tlstransport import TlsTransport

__all__ = ["Acceptor", "Arrival", "LogThrottle", "bound"]

log = logging.getLogger("bester.net")

AT_ONCE = 64
"""How many connections are accepted before the loop serves the existing connections again."""
BACKLOG = 4096
PAUSE_S = 0.25
"""How long accepting pauses after the system had no descriptor or memory for a connection."""
SHUTDOWN_S = 2.0
"""How long a TLS connection that we close waits for the other end's ``close_notify``."""
_RESET = struct.pack("ii", 1, 0)
"""A time of 0 to linger: what is closed is reset."""
_ABSENT = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})
"""The system's errors for an address that this machine does not have, for example because IPv6 is off."""


class LogThrottle:
    """Limits how often a line is logged that outsiders can cause as often as they like.

    Args:
        every_s: the least time between two lines, in seconds.
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self._every_s = every_s
        self._next = 0.0
        self._count = 0

    def due(self) -> int:
        """Counts one event; returns how many there were since the last line, or 0 if it is too early for a new one."""
        self._count += 1
        now = time.monotonic()
        if now < self._next:
            return 0
        count, self._count = self._count, 0
        self._next = now + self._every_s
        return count


class Arrival:
    """A connection that was accepted and not yet handed over to its protocol: TLS may still be negotiated."""

    def __init__(self, connected: socket.socket, peername: Any, tls: bool) -> None:
        self.tls = tls
        self.gone: Callable[[], None] = lambda: None
        """Called if the connection ends before the handover, or perhaps a moment after it; it must cope with both."""
        self.failure: BaseException | None = None
        """Why it ended, if its handshake failed."""
        self._socket = connected
        self._peername = peername
        self._task: asyncio.Task[None] | None = None
        self._begun = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns the same as a transport would, for ``socket`` and ``peername``."""
        return {"socket": self._socket, "peername": self._peername}.get(name, default)

    def close(self) -> None:
        """Ends the connection at once."""
        if self._task is not None:
            self._task.cancel()

    async def hand_over(
        self, protocol: asyncio.BaseProtocol, tls: ssl.SSLContext | None, handshake_timeout_s: float
    ) -> None:
        """Hands the connection over to its protocol, after the TLS handshake."""
        self._begun = True
        loop = asyncio.get_running_loop()
        if tls is None:
            await loop.connect_accepted_socket(lambda: protocol, self._socket)
            return
        secure = TlsTransport(protocol, tls, handshake_timeout_s=handshake_timeout_s, shutdown_timeout_s=SHUTDOWN_S)
        await loop.connect_accepted_socket(lambda: secure, self._socket)
        await secure.ready()

    def begin(self, work: asyncio.Task[None]) -> None:
        self._task = work

    def done(self, work: asyncio.Task[None]) -> None:
        """Cleans up after the task that handed the connection over, if it failed or was cancelled."""
        error = None if work.cancelled() else work.exception()
        if work.cancelled() or error is not None:
            if not self._begun:
                self._socket.close()
            self.failure = error
            self.gone()
            if not work.cancelled() and not isinstance(error, OSError):
                log.error("a connection could not be made", exc_info=error)


Welcome = Callable[[Arrival], asyncio.BaseProtocol | None]
"""Returns the protocol that an arrival is handed over to; None closes it at once."""


class Acceptor:
    """Accepts from :meth:`open` to :meth:`close`.

    ``welcome`` gets each connection before its TLS handshake. While the system has no descriptor left, the acceptor
    tries again four times a second, and logs one line per minute.

    Args:
        listening: a bound socket, which :meth:`close` closes.
        name: the listener's name in the log.
        welcome: returns the protocol of a connection.
        tls: the context; None: no TLS.
        handshake_timeout_s: how long the handshake may take.
        starved: called whenever the system had no descriptor.
    """

    def __init__(
        self,
        listening: socket.socket,
        name: str,
        welcome: Welcome,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout_s: float = 10.0,
        starved: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening = listening
        self._name = name
        self._welcome = welcome
        self.tls = tls
        """The context for new connections."""
        self._handshake_timeout_s = handshake_timeout_s
        self._starved = starved
        self._loop = asyncio.get_running_loop()
        self._arrivals: dict[asyncio.Task[None], Arrival] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._throttle = LogThrottle()

    @property
    def arrivals(self) -> list[Arrival]:
        """The connections that were not handed over to their protocols yet."""
        return list(self._arrivals.values())

    def open(self) -> None:
        """Begins to accept.

        Raises:
            OSError: the socket cannot listen.
        """
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Stops accepting, and ends handshakes that are under way; existing connections stay open."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()
        for arrival in list(self._arrivals.values()):
            if arrival.tls:
                arrival.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connected, peername = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # the peer left before the connection was accepted
            except OSError as error:
                self._rest(error)
                return
            self._arrived(connected, peername)

    def _rest(self, error: OSError) -> None:
        """Pauses accepting: waiting connections keep their places in the backlog, and open ones have time to end."""
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(PAUSE_S, self._go_on)
        self._starved()
        if self._throttle.due():
            log.warning("%s: no connection can be accepted now, tried again: %s", self._name, error.strerror or error)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _arrived(self, connected: socket.socket, peername: Any) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        arrival = Arrival(connected, peername, self.tls is not None)
        protocol = self._welcome(arrival)
        if protocol is None:
            # Reset: to another server, an orderly end means a classic server, which may have taken a message.
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connected.close()
            return
        task = self._loop.create_task(arrival.hand_over(protocol, self.tls, self._handshake_timeout_s))
        arrival.begin(task)
        self._arrivals[task] = arrival
        task.add_done_callback(self._handed_over)

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        self._arrivals.pop(task).done(task)


async def bound(host: str, port: int) -> list[socket.socket]:
    """Returns sockets that are bound to a TCP port of all addresses of a host that this machine has.

    Raises:
        OSError: the machine has none of the addresses, or one of them cannot be bound.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # IDNA refuses the name
        raise socket.gaierror(socket.EAI_NONAME, "no such host") from error
    made: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                made.append(_bound_to(family, address))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
    except OSError:
        for one in made:
            one.close()
        raise
    if not made:
        raise absent or OSError("no addresses")
    return made


def _bound_to(family: int, address: Any) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one
