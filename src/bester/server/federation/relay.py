"""Messages for another server, on their way to the node of this server that sends there (docs/scale.md).

Where a server has several nodes, one of them has the *lease* of a destination, and sends. For the others that node is
one more way to the other server, beside a link and the classic form: a :class:`Relay` takes messages in their order,
and tells what became of each. When it is lost, what is under way goes to the outbox, which all nodes share, and
whoever gets the lease sends it from there, with the same id, so that the other server recognises what it has already.

Rows of the outbox are never sent over a relay: the node with the lease is told to look for them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from bester.core.effects import Forward
from bester.errors import BesterError, ServerUnreachable
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.transport import TransportOwner

WINDOW = 1024
"""Messages without their outcome at one node, for one destination."""
WINDOW_BYTES = 8 * 1024 * 1024
EXTRA_S = 10.0
"""How much longer than the other server a node may take to say what became of a message."""


class HolderGone(ServerUnreachable):
    """The node that has the lease cannot be reached, and its lease has not ended."""


class RelayedForward(Forward):
    """Another node's message for another server."""

    node: str = ""
    number: int = 0
    """That node's own number for it."""
    passed: int = 0
    """How many nodes have passed it on before."""


class RelayOwner(Protocol):
    """Reaches the other nodes for relays."""

    def forward(self, relay: Relay, item: OutboundMessage) -> int:
        """Sends a message, and returns the number that its outcome will come with."""

    def tell(self, node: str, destination: str, stored: int = 0) -> None:
        """Lets another node look for what is in the outbox for a destination."""

    def forget(self, relay: Relay) -> None:
        """Stops waiting for the outcomes of messages that are under way on a relay."""


class Relay:
    """Carries one destination's messages to the node that has its lease."""

    classic = False
    routes = True

    def __init__(self, relays: RelayOwner, node: str, route: PeerRoute, owner: TransportOwner) -> None:
        self.node = node
        self.destination = route.destination
        self.owner = owner
        self.in_flight: dict[int, OutboundMessage] = {}
        """In the order in which they were sent."""
        self.since = asyncio.get_running_loop().time()
        self.ending = False
        """Whether nothing more is sent, because that node no longer has the lease."""
        self._route = route
        self._relays = relays
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        return not self.ending and len(self.in_flight) < WINDOW and (self._bytes < WINDOW_BYTES or not self.in_flight)

    def send(self, item: OutboundMessage) -> None:
        item.deadline = asyncio.get_running_loop().time() + self._route.report_timeout_s + EXTRA_S
        self._bytes += item.size
        self.in_flight[self._relays.forward(self, item)] = item

    def look(self, stored: int) -> None:
        """Lets the node look for what is in the outbox."""
        self._relays.tell(self.node, self.destination, stored)

    def ended(self, number: int) -> OutboundMessage:
        """A message has its outcome."""
        item = self.in_flight.pop(number)
        self._bytes -= item.size
        return item

    def end_soon(self) -> None:
        """Ends when all that is under way has its outcome: that node no longer has the lease."""
        self.ending = True
        if not self.in_flight:
            self.give_back(ServerUnreachable("the node has the lease no longer"))

    def give_back(self, error: BesterError) -> None:
        items = list(self.in_flight.values())
        self.retire()
        self.owner.lost(self, items, error)

    def retire(self) -> None:
        self.ending = True
        self._relays.forget(self)
        self.in_flight.clear()
