"""The protocols of a transport, which carries messages to another server, and of its owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bester.errors import BesterError
from bester.protocol.link import ServerReport
from bester.server.federation.outbound import OutboundMessage


class PeerTransport(Protocol):
    """An open way to another server: a link, the classic form, or another node of this server."""

    @property
    def classic(self) -> bool:
        """Whether it is the classic form."""

    @property
    def routes(self) -> bool:
        """Whether the other server tells routes, and answers dry runs."""

    @property
    def has_room(self) -> bool:
        """Whether one more message may be given to it."""

    def send(self, item: OutboundMessage) -> None:
        """Sends a message after those before it; its owner is told what becomes of it, maybe before this returns.

        No other message of the same id is under way on it.
        """

    def give_back(self, error: BesterError) -> None:
        """Ends now; what has no report goes back to the owner, before this returns. ``error`` says why it ends."""

    def retire(self) -> None:
        """Ends, with nothing under way."""


class TransportOwner(Protocol):
    """Gives messages to a transport, and is told their outcomes."""

    def reported(self, item: OutboundMessage, report: ServerReport | None) -> None:
        """The other server answered; None: it is a classic one, and closed without a report."""

    def refused(self, item: OutboundMessage, error: BesterError) -> None:
        """The other server's answer cannot be understood, or it does not take such a message."""

    def unknown(self, item: OutboundMessage, error: BesterError) -> None:
        """A classic server did not report in time, or the connection was lost; it may have the message, and would not
        recognise a repeat."""

    def settled(self, item: OutboundMessage, status: str, error: BesterError | None, route: bytes) -> None:
        """Another node has done with it what was to be done, and tells its outcome."""

    def lost(self, transport: PeerTransport, items: Sequence[OutboundMessage], error: BesterError) -> None:
        """The transport is gone; these have no report, in the order in which they were sent."""

    def pump(self) -> None:
        """The transport may take more."""

    def look(self) -> None:
        """There may be something on disk that goes first."""
