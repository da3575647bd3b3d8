"""What the states of a connection to a listener share: how it is read and ended, whoever is at its other end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from bester.accepting import Arrival
from bester.core.endpoint import Endpoint, Peer
from bester.core.metrics import Drop
from bester.core.session import Session
from bester.errors import BesterError, ShuttingDown
from bester.protocol import frames
from bester.server.connections.connection import Connection, Stop

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

log = logging.getLogger("bester.session")

UNREAD_BYTES = 64 * 1024
"""What a client may leave unread before it is not read from either."""


class Conversation(Connection):
    """A connection to a listener, and the endpoint that it becomes."""

    kind = "client"
    """Until it says that it is a server."""

    def __init__(self, runtime: Runtime) -> None:
        limits = runtime.config.limits
        # Which scope it is shows only in the first message; only where an unproven server is welcome may that be large.
        super().__init__(runtime, limits.max_first_message, self.first)
        self.endpoint: Endpoint | None = None
        self._at_most = 1
        self.scope = ""
        """After a logout: the scope that the connection has already said."""
        self._aside: list[bytes] = []
        """Frames that were cut before it was known that the ones before them must be done first."""
        self.input_ended = False
        self._arrival: Arrival | None = None
        """Set while it was accepted and has no transport yet."""

    def first(self, body: bytes) -> None:
        """Takes the first frame."""
        raise AssertionError

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> bool:
        """It was accepted; its TLS handshake may be still to come. False closes it at once."""
        self._arrival = arrival
        self.meet(arrival)
        arrival.gone = self._never_opened
        return self.runtime.gate.arrive(self, told=not arrival.tls)

    def _never_opened(self) -> None:
        self.ended = self.lost = True
        self.closed()

    def opened(self) -> None:
        self._arrival = None
        if self.ended:  # at the last moment of its handshake
            self.transport.abort()
            return
        self.runtime.counts.connections += 1
        self.remote = self.runtime.federation.trust.identified(self.remote, self.transport)
        if self.runtime.federation.admits(self.remote):
            self.framer.max_size = self.runtime.config.limits.max_message
        if self.runtime.stopping:
            self.fail(ShuttingDown())
        else:
            self.runtime.gate.enter(self)

    def fail(self, error: BesterError) -> None:
        if self._arrival is None or self.ended:
            super().fail(error)
            return
        self.runtime.counts.refuse(error.code)
        log.debug("%s is closed in its handshake: %s: %s", self, error.code, error.inside, extra=self.ids())
        self.ended = self.lost = True
        self._arrival.close()

    def finish_input(self) -> bool:
        """Stays open for reports that are still to come."""
        self.input_ended = True
        endpoint = self.endpoint
        if endpoint is None:
            return bool(self._stops & Stop.CHECKING)
        endpoint.closing = True
        if endpoint.busy or (isinstance(endpoint, Session) and endpoint.commands):
            return True
        self.flush_out()
        return False

    def closed(self) -> None:
        self.runtime.gate.gone(self)
        self.leave()
        aside, self._aside = self._aside, []
        self.drop(Drop.FRAME_AFTER_END, len(aside))

    def leave(self) -> None:
        """The endpoint's part in the exchange is over."""
        endpoint, self.endpoint = self.endpoint, None
        if isinstance(endpoint, Session):
            self.drop(Drop.COMMAND_ABANDONED, len(endpoint.commands))
            self.runtime.exchange.deliveries.remove_session(endpoint)
            self.runtime.accounts.session_ended(endpoint)
        elif endpoint is not None:
            endpoint.closed = True
            if isinstance(endpoint, Peer):
                self.runtime.exchange.admission.forget_unproven(endpoint)
            self.runtime.federation.incoming.discard(self)

    def flush_out(self) -> None:
        endpoint = self.endpoint
        if endpoint is not None and endpoint.out:
            self.write(endpoint.out)
            endpoint.out.clear()

    def end(self, last: bytes = b"") -> None:
        if self.lost:
            return
        self.flush_out()
        super().end(last)
        self.runtime.gate.leave(self)
        self.leave()

    # -- what the peer takes -------------------------------------------------------------------------------------

    def fell_behind(self, unread: int) -> None:
        super().fell_behind(unread)
        if unread > UNREAD_BYTES:
            self.stop_reading(Stop.UNREAD)

    def output_blocked(self) -> None:
        """The client's socket is full: messages wait; its acknowledgements are still read."""
        if isinstance(self.endpoint, Session):
            self.runtime.exchange.deliveries.session_blocked(self.endpoint)
        else:
            super().output_blocked()

    def output_unblocked(self) -> None:
        super().output_unblocked()
        if isinstance(self.endpoint, Session):
            self.runtime.exchange.batch.now = self.runtime.clock()
            self.runtime.exchange.deliveries.session_unblocked(self.endpoint)
            self.runtime.flush_soon()

    # -- one after the other -------------------------------------------------------------------------------------

    def wait_in_line(self) -> None:
        """Looks at no further frame until :meth:`go_on`."""
        self.stop_reading(Stop.CHECKING)
        self._at_most = 0
        self.receive = self._set_aside

    def _set_aside(self, body: bytes) -> None:
        self._aside.append(body)

    def go_on(self, receive: Callable[[bytes], None], at_most: int) -> None:
        """Takes frames again: those set aside, those buffered, those still to come."""
        self.receive = receive
        self._at_most = at_most
        self.resume_reading(Stop.CHECKING)
        aside, self._aside = self._aside, []
        self.runtime.exchange.batch.now = self.runtime.clock()
        self.take(aside)
        if self._at_most and self.framer.buffered:
            self.data_received(b"")
        self.runtime.flush_soon()

    def refuse(self, error: BesterError, id: str) -> None:
        """Answers the first message with a bad report, and closes."""
        if not self.ended:
            self.runtime.counts.refuse(error.code)
            log.info("%s is refused: %s: %s", self, error.code, error.inside, extra=self.ids())
            self.end(frames.report(id, error))

    def refuse_message(self, endpoint: Endpoint, id: str, error: BesterError) -> None:
        """Reports a message bad that the exchange never sees."""
        self.drop(Drop.MESSAGE_REFUSED, code=error.code)
        self.runtime.exchange.batch.write(endpoint, frames.report(id, error))

    def drop(self, drop: Drop, number: int = 1, *, code: str = "") -> None:
        """Counts something that is thrown away."""
        self.runtime.exchange.batch.counters.drops.count(drop, number, code=code)

    def ids(self) -> dict[str, str]:
        endpoint = self.endpoint
        known = super().ids()
        if isinstance(endpoint, Session):
            known["account"] = endpoint.username
        elif isinstance(endpoint, Peer) and endpoint.name is not None:
            known["server"] = endpoint.name
        return known
