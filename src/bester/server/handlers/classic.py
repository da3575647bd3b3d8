"""Calls of classic handlers: a connection per message (docs/protocol.md, section 3).

COMPAT: this is the founding form; a handler that attaches (section 6) saves a connection per message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from bester.core.routing import Request
from bester.errors import BadResponse, BesterError, HandlerTimeout, HandlerUnavailable, Malformed
from bester.protocol.framing import Framer, frame
from bester.protocol.messages import BadAnswer, decode_classic
from bester.server.handlers.processes import Supervisor
from bester.server.handlers.readiness import make_readiness
from bester.server.runtime import Runtime

log = logging.getLogger("bester.handler")

RETRY_S = 0.05
"""The pause between tries to reach a handler that has just been started, or whose queue of connections is full."""
GRACE_S = 10.0
"""How long after the server's start a handler's socket may be missing without being a problem."""
READ_SIZE = 64 * 1024
EXTRA_SIZE = 64 * 1024
"""By how much a handler's frame may exceed ``maxMessage``, so that every accepted message fits into it."""


class ClassicCall:
    """One message's connection to its handler.

    A bare socket: a transport with its protocol and a task would cost more than the rest of the message's way. A Unix
    socket connects at once or not at all.
    """

    __slots__ = ("_framer", "_retry", "_socket", "_unsent", "_writing", "calls", "deadline", "request")

    def __init__(self, calls: ClassicCalls, request: Request) -> None:
        self.calls = calls
        self.request = request
        self.deadline = request.since + request.route.rules.timeout_s
        self._framer = Framer(calls.runtime.config.limits.max_message + EXTRA_SIZE)
        self._unsent = frame(bytes(request.data))
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._writing = False

    def start(self) -> None:
        """Connects and sends; tries again soon if the handler has just been started, or is behind with accepting."""
        self._retry = None
        handlers = self.request.route
        path = handlers.rules.classic_socket
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.setblocking(False)
        try:
            if path is None:
                raise FileNotFoundError("the type has no classic handler any more")
            connected.connect(path)
        except OSError as error:
            connected.close()
            self.calls.missed(path, error)
            log.debug("type %s: cannot connect to %s: %s", ascii(handlers.name), path, error)
            behind = isinstance(error, BlockingIOError)  # its queue of connections is full
            if behind or self.calls.supervisor.unreachable(handlers.name):
                self._retry = self.calls.loop.call_later(RETRY_S, self.start)
            else:
                self.calls.failed(self, HandlerUnavailable("the handler cannot be reached"))
            return
        if self.calls.away:
            self.calls.there(path)
        self._socket = connected
        self.calls.readiness.add(connected.fileno(), self)
        self.writable()

    def writable(self) -> None:
        """Sends what is left; called again when there is room."""
        connected = self._socket
        if connected is None:
            return
        try:
            written = connected.send(self._unsent)
            self._unsent = self._unsent[written:]
            self.calls.runtime.counts.sent["classicHandler"] += written
        except BlockingIOError:
            pass
        except OSError:
            # It does not read; it may have answered all the same, and is read below.
            self._unsent = b""
        if bool(self._unsent) != self._writing:
            self._writing = not self._writing
            self.calls.readiness.await_room(connected.fileno(), self._writing)

    def readable(self) -> None:
        """Reads, and ends the call when its answer is there, or can't come any more."""
        connected = self._socket
        if connected is None:
            return
        try:
            data = connected.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.calls.failed(self, HandlerUnavailable("the handler closed the connection before it answered"))
            return
        self.calls.runtime.counts.received["classicHandler"] += len(data)
        bodies = self._framer.feed(data, 1)
        if bodies:
            self.calls.answered(self, bodies[0])
        elif self._framer.failure is not None:
            self.calls.failed(self, BadResponse(self._framer.failure.message))

    def close(self) -> None:
        """Ends the connection, or the waiting for one."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        connected, self._socket = self._socket, None
        if connected is not None:
            self.calls.readiness.release(connected)


class ClassicCalls:
    """The calls that are open.

    Args:
        runtime: whose exchange has the requests.
        supervisor: starts the handlers that are ours.
    """

    def __init__(self, runtime: Runtime, supervisor: Supervisor) -> None:
        self.runtime = runtime
        self.supervisor = supervisor
        self.loop = asyncio.get_running_loop()
        self.readiness = make_readiness(self.loop)
        self.open: dict[ClassicCall, None] = {}
        self.away: dict[str, tuple[str, object]] = {}
        """Sockets that could not be connected to: the reason, and which file it was."""
        self._opened = runtime.clock()

    def call(self, request: Request) -> None:
        """Asks the request's classic handler."""
        call = ClassicCall(self, request)
        self.open[call] = None
        call.start()

    def answered(self, call: ClassicCall, body: bytes) -> None:
        """Gives the handler's frame to the exchange."""
        self._close(call)
        exchange = self.runtime.turn()
        try:
            exchange.classic_answered(call.request, decode_classic(body))
        except BadAnswer as error:
            exchange.classic_failed(call.request, BadResponse(error.detail))
        except Malformed as error:
            exchange.classic_failed(call.request, BadResponse(error.message))

    def failed(self, call: ClassicCall, error: BesterError) -> None:
        """Ends a call without an answer; nothing happens if it is over already."""
        if call in self.open:
            self._close(call)
            self.runtime.turn().classic_failed(call.request, error)

    def _close(self, call: ClassicCall) -> None:
        self.open.pop(call, None)
        call.close()

    def close(self) -> None:
        """Ends all calls; their messages get no report any more."""
        for call in list(self.open):
            self._close(call)
        self.readiness.close()

    # -- sockets that nobody answers at ----------------------------------------------------------------------------

    def missed(self, path: str | None, error: OSError) -> None:
        """Notes a socket that cannot be connected to."""
        if path is None or isinstance(error, BlockingIOError):
            return
        if path not in self.away:
            self.runtime.problems_changed()
        self.away[path] = (os.strerror(error.errno) if error.errno else str(error), _file(path))

    def there(self, path: str | None) -> None:
        """Notes a socket that can be connected to."""
        if path is not None and self.away.pop(path, None) is not None:
            self.runtime.problems_changed()

    def why_away(self, path: str) -> str:
        """Returns why the handler at a socket cannot be asked; "" if nothing is known against it.

        This connects to nobody: a classic handler takes each connection for a message.
        """
        found = _file(path)
        if path in self.away:
            why, before = self.away[path]
            if found == before:
                return f"nobody answers at {path}: {why}"
            del self.away[path]  # somebody listens there anew
        if found is None and self.runtime.clock() - self._opened > GRACE_S:
            return f"nobody answers at {path}: there is no such socket"
        return ""

    def sweep(self, now: float) -> None:
        """Fails the calls whose time is over."""
        for call in [call for call in self.open if now >= call.deadline]:
            self.failed(call, HandlerTimeout())


def _file(path: str) -> tuple[int, int] | None:
    """Returns a key that differs between two files of one name; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
