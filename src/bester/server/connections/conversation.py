"""A connection to a listener: how it is admitted, read and ended, for clients and other servers alike.

The first message gives it a :class:`Role` (``listener.py``), which takes its messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from bester.core.endpoint import Endpoint, Peer
from bester.core.metrics import Drop
from bester.core.session import Session
from bester.errors import BesterError, ShuttingDown
from bester.protocol import frames
from bester.server.connections.connection import Connection, Stop
from bester.server.connections.services import Services

log = logging.getLogger("bester.session")

UNREAD_BYTES = 64 * 1024
"""How much a client may leave unread before nothing more is read from it."""


class Role(Protocol):
    """What a connection to a listener does after its first message: a client's side, or another server's."""

    scope: str
    """The scope that the first message has named."""

    @property
    def busy(self) -> bool:
        """Whether a connection whose input has ended stays open, because something from it is under way."""

    def finished(self) -> None:
        """Called when nothing of a closing endpoint is in flight any more, and its last report is written."""

    def left(self, endpoint: Endpoint) -> None:
        """Called when the connection has no endpoint any more."""

    def blocked(self) -> bool:
        """Called when the peer's socket is full; returns whether the peer is still read from."""

    def unblocked(self) -> None:
        """Called when the peer's socket takes more again."""

    def limits_changed(self) -> None:
        """Called when the configuration was reloaded."""

    def judge(self) -> None:
        """Called when the other end may prove something else than before."""


class Conversation(Connection):
    """A connection to a listener, and its endpoint in the exchange.

    Args:
        services: what it may need.
        first: takes the first frame, and the first one after a logout.
    """

    kind = "client"
    """Until it says that it is a server."""

    def __init__(self, services: Services, first: Callable[[bytes], None]) -> None:
        limits = services.runtime.config.limits
        # Which scope it is shows only in the first message; only where an unproven server is welcome may that be large.
        super().__init__(services.runtime, services.connections, limits.max_first_message, first)
        self.services = services
        self.role: Role | None = None
        self.endpoint: Endpoint | None = None
        self._first = first
        self._at_most = 1
        self._aside: list[bytes] = []
        """Frames that were already cut when it turned out that an earlier one must be done first."""
        self.input_ended = False

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self.runtime.counts.connections += 1
        federation = self.services.federation
        self.remote = federation.trust.identified(self.remote, self.transport)
        if federation.admits(self.remote):
            self.framer.max_size = self.runtime.config.limits.max_message
        if self.runtime.stopping:
            self.fail(ShuttingDown())
        else:
            self.services.limits.enter(self)

    def finish_input(self) -> bool:
        """Keeps the connection open for reports that are still to come."""
        self.input_ended = True
        if self.endpoint is None:
            return bool(self._stops & Stop.CHECKING)
        self.endpoint.closing = True
        if self.role is not None and self.role.busy:
            return True
        self.flush_out()
        return False

    def closed(self) -> None:
        self.services.limits.gone(self)
        self.leave()
        aside, self._aside = self._aside, []
        self.drop(Drop.FRAME_AFTER_END, len(aside))

    def leave(self) -> None:
        """Takes the endpoint out of the exchange."""
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None and self.role is not None:
            self.role.left(endpoint)

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
        self.services.limits.leave(self)
        self.leave()

    # -- what the exchange asks of an endpoint's connection ------------------------------------------------------

    def finished(self) -> None:
        """Called when nothing of a closing endpoint is in flight any more, and its last report is written."""
        if self.role is not None:
            self.role.finished()

    def end_session(self, error: BesterError) -> None:
        """Ends an authenticated session from the server's side."""
        self.fail(error)

    # -- what the peer takes -------------------------------------------------------------------------------------

    def fell_behind(self, unread: int) -> None:
        super().fell_behind(unread)
        if unread > UNREAD_BYTES:
            self.stop_reading(Stop.UNREAD)

    def output_blocked(self) -> None:
        if self.role is None or not self.role.blocked():
            super().output_blocked()

    def output_unblocked(self) -> None:
        super().output_unblocked()
        if self.role is not None:
            self.role.unblocked()

    # -- one after the other -------------------------------------------------------------------------------------

    def hold_frames(self) -> None:
        """Handles no further frame until :meth:`go_on`."""
        self.stop_reading(Stop.CHECKING)
        self._at_most = 0
        self.receive = self._set_aside

    def _set_aside(self, body: bytes) -> None:
        self._aside.append(body)

    def take_only_message(self) -> None:
        """Handles no frame after the present one."""
        self._at_most = 0

    def go_on(self, receive: Callable[[bytes], None], at_most: int) -> None:
        """Takes frames again: those set aside, those buffered, those still to come."""
        self.receive = receive
        self._at_most = at_most
        self.resume_reading(Stop.CHECKING)
        aside, self._aside = self._aside, []
        self.runtime.turn()
        self.take(aside)
        if self._at_most and self.framer.buffered:
            self.data_received(b"")

    def start_over(self) -> None:
        """Takes the next frame as a first one again, after a logout."""
        self.framer.max_size = self.runtime.config.limits.max_first_message
        self.services.limits.enter(self)
        self.go_on(self._first, 1)

    def refuse(self, error: BesterError, id: str) -> None:
        """Answers the first message with a bad report, and closes."""
        if not self.ended:
            self.runtime.counts.refuse(error.code)
            log.info("%s is refused: %s: %s", self, error.code, error.inside, extra=self.ids())
            self.end(frames.report(frames.encode_text(id), error))

    def refuse_message(self, endpoint: Endpoint, id: bytes, error: BesterError) -> None:
        """Reports a message bad that the exchange never sees; ``id`` is JSON."""
        self.drop(Drop.MESSAGE_REFUSED, code=error.code)
        self.runtime.exchange.batch.write(endpoint, frames.report(id, error))

    def drop(self, drop: Drop, number: int = 1, *, code: str = "") -> None:
        """Counts something that is dropped."""
        self.runtime.exchange.batch.counters.drops.count(drop, number, code=code)

    def limits_changed(self) -> None:
        if self.role is not None:
            self.role.limits_changed()

    def judge(self) -> None:
        """Checks again what the other end proves."""
        self.remote = self.services.federation.trust.identified(replace(self.remote, names=()), self.transport)
        if self.role is not None:
            self.role.judge()

    def ids(self) -> dict[str, str]:
        endpoint = self.endpoint
        known = super().ids()
        if isinstance(endpoint, Session):
            known["account"] = endpoint.username
        elif isinstance(endpoint, Peer) and endpoint.name is not None:
            known["server"] = endpoint.name
        return known
