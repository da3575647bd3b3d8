"""Messages for other servers, on their way to the node that has the lease of their destination (docs/scale.md).

For who sends, that node is one more way to the other server, beside a link and the classic form: a :class:`Relay`
takes messages in their order, and tells what became of each. Whatever goes wrong with it is a turn of the destination
(``server/federation/destination.py``): what is under way goes to the outbox, which all nodes share, and whoever gets
the lease sends it from there, with the same id, so that the other server recognises what it has already.

Rows of the outbox are never sent over a relay: the node with the lease is told to look for them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec import Raw

from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.cluster.items import Kind, Look, Settled, ToServer, numbers
from bester.core.effects import Forward
from bester.core.endpoint import NodePeer
from bester.core.model import Envelope
from bester.core.trail import MAX_ROUTE_BYTES, Trail
from bester.errors import BesterError, Overloaded, ServerUnreachable, error_of
from bester.protocol.addresses import parse_address
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.leases import Leases
from bester.server.federation.link import Owner
from bester.server.federation.outbox import OutboundMessage

if TYPE_CHECKING:
    from bester.server.cluster.membership import Membership
    from bester.server.federation.peer_route import PeerRoute
    from bester.server.runtime import Runtime

log = logging.getLogger("bester.nodes")

WINDOW = 1024
"""Messages without their outcome at one node, for one destination."""
WINDOW_BYTES = 8 * 1024 * 1024
REACH_S = 1.0
"""How long a node may take to say that it is there."""
EXTRA_S = 10.0
"""How much longer than the other server a node may take to say what became of a message."""
HELLO_S = 5.0
"""How long a node may be unknown here that has a lease already."""
MAX_PASSED = 3
"""Over how many nodes a message goes at most, while a lease changes hands."""


class HolderGone(ServerUnreachable):
    """The node that has the lease cannot be reached, and its lease has not ended."""


class Relay:
    """The way of one destination's messages to the node that has its lease."""

    classic = False
    routes = True

    def __init__(self, relays: Relays, node: str, way: PeerRoute, owner: Owner) -> None:
        self.node = node
        self.way = way
        self.owner = owner
        self.in_flight: dict[int, OutboundMessage] = {}
        """In the order in which they were sent."""
        self.since = asyncio.get_running_loop().time()
        self.ending = False
        """Whether nothing more is sent, because that node has the lease no longer."""
        self._relays = relays
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        return not self.ending and len(self.in_flight) < WINDOW and (self._bytes < WINDOW_BYTES or not self.in_flight)

    def send(self, item: OutboundMessage) -> None:
        item.deadline = asyncio.get_running_loop().time() + self.way.report_timeout_s + EXTRA_S
        self._bytes += item.size
        self.in_flight[self._relays.forward(self, item)] = item

    def look(self, stored: int) -> None:
        """Lets the node look for what is in the outbox."""
        self._relays.tell(self.node, self.way.destination, stored)

    def ended(self, number: int) -> OutboundMessage:
        """A message has its outcome."""
        item = self.in_flight.pop(number)
        self._bytes -= item.size
        return item

    def end_soon(self) -> None:
        """That node has the lease no longer: ends when what is under way has its outcome."""
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


class ForNode(Forward):
    """Another node's message for another server."""

    node: str = ""
    number: int = 0
    """What that node knows it by."""
    passed: int = 0
    """How many nodes have passed it on before."""


class Relays:
    """Those of one node, and what it sends for others."""

    def __init__(self, runtime: Runtime, post: Batcher, members: Membership, holding: Leases) -> None:
        self.runtime = runtime
        self.post = post
        self.members = members
        self.holding = holding
        self._open: set[Relay] = set()
        self._next = numbers().__next__
        self._under_way: dict[int, Relay] = {}
        self._to_tell: set[str] = set()
        """Destinations that all nodes are to look for."""
        self._loop = asyncio.get_running_loop()

    # -- to the node with the lease ------------------------------------------------------------------------------

    async def open(self, way: PeerRoute, owner: Owner) -> Relay | None:
        """Returns the way to the node that has the lease; None if it is this one, which has taken it where nobody had.

        Raises:
            HolderGone: that node cannot be reached, and no other one may send yet.
            BesterError: nobody knows now who has it.
        """
        node = await self.holding.take(way.destination)
        if node == self.holding.node:
            return None
        gone = HolderGone(f"node {node}, which sends to it, is gone; another one soon takes over")
        if self.members.is_silent(node):
            raise gone
        try:
            await self.post.bus.request(self.post.subjects.node(node), b"", timeout_s=REACH_S)
        except (NoResponders, BusLost) as error:
            raise gone from error
        relay = Relay(self, node, way, owner)
        self._open.add(relay)
        return relay

    def forget(self, relay: Relay) -> None:
        """Nothing that is under way there is waited for any more."""
        self._open.discard(relay)
        for number in relay.in_flight:
            del self._under_way[number]

    def forward(self, relay: Relay, item: OutboundMessage) -> int:
        """Sends a message, and returns what its outcome will be told by."""
        number = self._next()
        forward = item.forward
        note = ToServer(
            relay.way.destination,
            item.type,
            item.message_id,
            item.classic_id,
            item.hops,
            item.trace,
            item.transient,
            item.trail is not None,
            item.dry,
            forward.passed + 1 if isinstance(forward, ForNode) else 0,
        )
        self.post.to_node(relay.node, Kind.FORWARD, number, note, item.data)
        self._under_way[number] = relay
        self.runtime.flush_soon()
        return number

    def settled(self, node: str, number: int, note: Settled, route: bytes) -> None:
        """The node with the lease tells what became of a message."""
        relay = self._under_way.get(number)
        if relay is None or relay.node != node:
            return
        del self._under_way[number]
        item = relay.ended(number)
        error = error_of(note.code, note.message) if note.code else None
        relay.owner.settled(item, note.status, error, route)
        if note.moved and note.status == "queued":
            relay.owner.look()  # that node does not send it: who does must see it before what comes behind it
        if (note.moved or relay.ending) and relay in self._open:
            relay.end_soon()
        else:
            relay.owner.pump()

    def node_gone(self, node: str) -> None:
        """What is under way there is for another node."""
        for relay in [one for one in self._open if one.node == node]:
            relay.give_back(ServerUnreachable(f"node {node} is gone"))

    def bus_down(self) -> None:
        """No node can be reached."""
        for relay in list(self._open):
            relay.give_back(BusDown())

    def sweep(self) -> None:
        """Takes back what a node does not answer for in time."""
        now = self._loop.time()
        for relay in list(self._open):
            oldest = next(iter(relay.in_flight.values()), None)
            if oldest is not None and now >= oldest.deadline:
                relay.give_back(ServerUnreachable(f"node {relay.node} does not say what became of it"))
            elif relay.node not in self.members.others and now - relay.since > HELLO_S:
                relay.give_back(ServerUnreachable(f"node {relay.node} is gone"))

    # -- for other nodes -----------------------------------------------------------------------------------------

    def asked(self, node: str, number: int, note: ToServer, data: bytes) -> None:
        """Another node has a message for a destination whose lease it thinks is here."""
        envelope = Envelope(NodePeer(node), note.classic_id)
        if note.route or note.dry:
            envelope.trail = Trail(dry=note.dry)
        address = parse_address(note.destination)
        forward = ForNode(
            envelope,
            0,
            note.destination,
            address,
            note.type,
            Raw(data),
            note.hops,
            note.transient,
            note.id,
            note.trace,
            node,
            number,
            note.passed,
        )
        for relay in [one for one in self._open if one.node == node and one.way.destination == note.destination]:
            # Each of the two takes the other one for the node with the lease, and would wait for it.
            relay.give_back(ServerUnreachable(f"node {node} has the lease no longer"))
        if note.passed >= MAX_PASSED:
            self.answer(forward, "failed", Overloaded("the nodes do not agree who sends to this server"), b"")
        else:
            self.runtime.federation.send(forward)

    def answer(self, forward: ForNode, status: str, error: BesterError | None, route: bytes) -> None:
        """What another node sent here has its outcome."""
        moved = not self.holding.has(str(forward.address))
        note = Settled(status, error.code, error.message, moved) if error is not None else Settled(status, moved=moved)
        if len(route) > min(MAX_ROUTE_BYTES, self.post.bus.max_payload // 2):
            route = b""
        self.post.to_node(forward.node, Kind.FORWARDED, forward.number, note, route)
        self.runtime.flush_soon()

    # -- what is in the outbox -----------------------------------------------------------------------------------

    def tell(self, node: str, destination: str, stored: int = 0, *, hurry: bool = False) -> None:
        """Lets another node look for what is in the outbox for a destination."""
        self.post.to_node(node, Kind.LOOK, 0, Look(destination, stored, hurry))
        self.runtime.flush_soon()

    def tell_all(self, destination: str) -> None:
        """Lets all others look for it: this node stops."""
        self._to_tell.add(destination)
        self.runtime.flush_soon()

    def hurry(self, destination: str) -> None:
        """Another server is there: the node that sends to it hears of that."""
        node = self.holding.seen.get(destination)
        if node is not None and node != self.holding.node:
            self.tell(node, destination, hurry=True)

    def flush(self) -> None:
        """Says what this turn of the loop has for all."""
        if self._to_tell:
            to_tell, self._to_tell = self._to_tell, set()
            for destination in to_tell:
                self.post.to_all(Kind.LOOK, Look(destination))
