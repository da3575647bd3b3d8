"""Calls of classic handlers: a connection per message (docs/protocol.md, section 3).

COMPAT: this is the founding form; a handler that attaches (section 6) saves a connection per message.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from bester.core.work import Request
from bester.errors import BadResponse, BesterError, HandlerTimeout, HandlerUnavailable, Malformed
from bester.protocol.framing import Framer, frame
from bester.protocol.messages import BadAnswer, decode_classic

if TYPE_CHECKING:
    from bester.server.hall import Hall

log = logging.getLogger("bester.handler")

RETRY_S = 0.05
"""How often the socket of a handler that has just been started is tried."""
EXTRA_SIZE = 64 * 1024
"""By how much a handler's frame may exceed ``maxMessage``, so that what was accepted can be carried on."""


class ClassicCall(asyncio.Protocol):
    """One message's connection to its handler."""

    def __init__(self, calls: ClassicCalls, request: Request) -> None:
        self.calls = calls
        self.request = request
        self.deadline = request.since + request.handlers.rules.timeout_s
        self.transport: asyncio.Transport | None = None
        self._framer = Framer(calls.hall.config.limits.max_message + EXTRA_SIZE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self not in self.calls.open:
            self.transport.abort()  # its time was over before it was connected
            return
        self.transport.write(frame(bytes(self.request.data)))

    def data_received(self, data: bytes) -> None:
        if self not in self.calls.open:
            return
        bodies = self._framer.feed(data, 1)
        if bodies:
            self.calls.answered(self, bodies[0])
        elif self._framer.failure is not None:
            self.calls.failed(self, BadResponse(self._framer.failure.message))

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.failed(self, HandlerUnavailable("the handler closed the connection before it answered"))


class ClassicCalls:
    """The calls that are open."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.open: set[ClassicCall] = set()

    def call(self, request: Request) -> None:
        """Asks the request's classic handler."""
        call = ClassicCall(self, request)
        self.open.add(call)
        self.hall.spawn(self._connect(call))

    async def _connect(self, call: ClassicCall) -> None:
        handlers = call.request.handlers
        while call in self.open:
            path = handlers.rules.classic_socket
            try:
                if path is None:
                    raise FileNotFoundError("the type has no classic handler any more")
                await asyncio.get_running_loop().create_unix_connection(lambda: call, path)
                return
            except OSError as error:
                log.debug("type %s: cannot connect to %s: %s", ascii(handlers.name), path, error)
                if not self.hall.supervisor.unreachable(handlers.name):
                    self.failed(call, HandlerUnavailable("the handler cannot be reached"))
                    return
            await asyncio.sleep(RETRY_S)

    def answered(self, call: ClassicCall, body: bytes) -> None:
        """The handler's frame is there."""
        self._close(call)
        exchange = self.hall.exchange
        exchange.now = self.hall.clock()
        try:
            exchange.classic_answered(call.request, decode_classic(body))
        except BadAnswer as error:
            exchange.classic_failed(call.request, BadResponse(error.detail))
        except Malformed as error:
            exchange.classic_failed(call.request, BadResponse(error.message))
        self.hall.flush_soon()

    def failed(self, call: ClassicCall, error: BesterError) -> None:
        """The call is over without an answer; nothing if it was over before."""
        if call in self.open:
            self._close(call)
            self.hall.exchange.now = self.hall.clock()
            self.hall.exchange.classic_failed(call.request, error)
            self.hall.flush_soon()

    def _close(self, call: ClassicCall) -> None:
        self.open.discard(call)
        if call.transport is not None:
            call.transport.abort()

    def sweep(self, now: float) -> None:
        """Fails the calls whose time is over."""
        for call in [call for call in self.open if now >= call.deadline]:
            self.failed(call, HandlerTimeout())
