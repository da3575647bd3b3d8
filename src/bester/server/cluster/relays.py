"""Messages to other servers that go over the nodes with their leases, in both directions (docs/scale.md)."""

from __future__ import annotations

import asyncio
import logging

from msgspec import Raw

from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.cluster.items import Kind, Look, Settled, ToServer, numbers
from bester.core.endpoint import NodePeer
from bester.core.model import Envelope
from bester.core.trail import MAX_ROUTE_BYTES, Trail
from bester.errors import BesterError, Overloaded, ServerUnreachable, error_of
from bester.protocol.addresses import parse_address
from bester.protocol.frames import encode_text
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.leases import Leases
from bester.server.cluster.membership import Membership
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.ports import LeaseUser
from bester.server.federation.relay import HolderGone, Relay, RelayedForward
from bester.server.federation.transport import TransportOwner
from bester.server.runtime import Runtime

log = logging.getLogger("bester.nodes")

REACH_S = 1.0
"""How long a node may take to say that it is there."""
HELLO_S = 5.0
"""How long a node that has a lease already may be unknown here."""
MAX_PASSED = 3
"""Over how many nodes a message goes at most, while a lease changes hands."""


class Relays:
    """The relays of one node to others, and the messages that it sends for them.

    Args:
        runtime: ends the turns in which something is sent.
        batcher: how the other nodes are reached.
        membership: who they are.
        leases: which of them sends to which other server.
    """

    shared = True

    def __init__(self, runtime: Runtime, batcher: Batcher, membership: Membership, leases: Leases) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self._membership = membership
        self._leases = leases
        self._user: LeaseUser | None = None
        self._open: dict[Relay, None] = {}
        self._next = numbers().__next__
        self._under_way: dict[int, Relay] = {}
        self._to_tell: dict[str, None] = {}
        """Destinations that all nodes are to look for."""
        self._loop = asyncio.get_running_loop()

    # -- what federation asks for (federation/ports.py) ----------------------------------------------------------

    @property
    def reachable(self) -> bool:
        return self._batcher.bus.up

    def serve(self, user: LeaseUser) -> None:
        self._user = user
        self._leases.serve(user)

    def has(self, key: str) -> bool:
        return self._leases.has(key)

    def good_until(self, key: str) -> float:
        return self._leases.good_until(key)

    def is_elsewhere(self, key: str) -> bool:
        return self._leases.seen.get(key, self._leases.node) != self._leases.node

    def give_back(self, key: str) -> None:
        self._leases.give_back(key)

    async def give_back_all(self) -> None:
        await self._leases.give_back_all()

    # -- to the node with the lease ------------------------------------------------------------------------------

    async def open_relay(self, route: PeerRoute, owner: TransportOwner) -> Relay | None:
        node = await self._leases.take(route.destination)
        if node == self._leases.node:
            return None
        gone = HolderGone(f"node {node}, which sends to it, is gone; another one soon takes over")
        if self._membership.is_silent(node):
            raise gone
        try:
            await self._batcher.bus.request(self._batcher.subjects.node(node), b"", timeout_s=REACH_S)
        except (NoResponders, BusLost) as error:
            raise gone from error
        relay = Relay(self, node, route, owner)
        self._open[relay] = None
        return relay

    def forget(self, relay: Relay) -> None:
        """Stops waiting for the outcomes of messages that are under way on a relay."""
        self._open.pop(relay, None)
        for number in relay.in_flight:
            del self._under_way[number]

    def forward(self, relay: Relay, item: OutboundMessage) -> int:
        """Sends a message, and returns the number that its outcome will come with."""
        number = self._next()
        forward = item.forward
        note = ToServer(
            relay.destination,
            item.type,
            item.message_id,
            item.classic_id,
            item.hops,
            item.trace,
            item.transient,
            item.trail is not None,
            item.dry,
            forward.passed + 1 if isinstance(forward, RelayedForward) else 0,
        )
        self._batcher.to_node(relay.node, Kind.FORWARD, number, note, item.data)
        self._under_way[number] = relay
        self._runtime.turn()
        return number

    def settled(self, node: str, number: int, note: Settled, route: bytes) -> None:
        """Settles a message whose outcome the node with the lease tells."""
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
        """Takes back the messages that are under way to a node that is gone."""
        for relay in [one for one in self._open if one.node == node]:
            relay.give_back(ServerUnreachable(f"node {node} is gone"))

    def bus_up(self) -> None:
        """Notes that the other nodes can be reached again."""
        if self._user is not None:
            self._user.bus_up()

    def bus_down(self) -> None:
        """Takes back all messages under way, because no node can be reached."""
        for relay in list(self._open):
            relay.give_back(BusDown())

    def sweep(self) -> None:
        """Takes back the messages whose outcome a node does not tell in time."""
        now = self._loop.time()
        for relay in list(self._open):
            oldest = next(iter(relay.in_flight.values()), None)
            if oldest is not None and now >= oldest.deadline:
                relay.give_back(ServerUnreachable(f"node {relay.node} does not say what became of it"))
            elif relay.node not in self._membership.others and now - relay.since > HELLO_S:
                relay.give_back(ServerUnreachable(f"node {relay.node} is gone"))

    # -- for other nodes -----------------------------------------------------------------------------------------

    def asked(self, node: str, number: int, note: ToServer, data: bytes) -> None:
        """Sends a message of another node, which thinks that the destination's lease is here."""
        envelope = Envelope(NodePeer(node), encode_text(note.classic_id))
        if note.route or note.dry:
            envelope.trail = Trail(dry=note.dry)
        address = parse_address(note.destination)
        forward = RelayedForward(
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
        for relay in [one for one in self._open if one.node == node and one.destination == note.destination]:
            # Each of the two takes the other one for the node with the lease, and would wait for it.
            relay.give_back(ServerUnreachable(f"node {node} has the lease no longer"))
        if note.passed >= MAX_PASSED:
            self.answer(forward, "failed", Overloaded("the nodes do not agree who sends to this server"), b"")
        elif self._user is not None:
            self._user.send(forward)

    def answer(self, forward: RelayedForward, status: str, error: BesterError | None, route: bytes) -> None:
        """Tells another node the outcome of a message that it sent here."""
        moved = not self._leases.has(str(forward.address))
        note = Settled(status, error.code, error.message, moved) if error is not None else Settled(status, moved=moved)
        if len(route) > min(MAX_ROUTE_BYTES, self._batcher.bus.max_payload // 2):
            route = b""
        self._batcher.to_node(forward.node, Kind.FORWARDED, forward.number, note, route)
        self._runtime.turn()

    # -- what is in the outbox -----------------------------------------------------------------------------------

    def looked_for(self, node: str, note: Look) -> None:
        """Hears from another node that messages may be in the outbox, or that the other server is there."""
        if self._user is not None:
            self._user.look(note.destination, node, note.stored, note.hurry)

    def tell(self, node: str, destination: str, stored: int = 0, *, hurry: bool = False) -> None:
        """Lets another node look for messages in the outbox for a destination."""
        self._batcher.to_node(node, Kind.LOOK, 0, Look(destination, stored, hurry))
        self._runtime.turn()

    def tell_all(self, destination: str) -> None:
        """Lets all other nodes look for messages in the outbox, because this node stops."""
        self._to_tell[destination] = None
        self._runtime.turn()

    def hurry(self, destination: str) -> None:
        """Tells the node that sends to another server that this server is there."""
        node = self._leases.seen.get(destination)
        if node is not None and node != self._leases.node:
            self.tell(node, destination, hurry=True)

    def flush(self) -> None:
        """Sends the items of this turn of the loop for all nodes."""
        if self._to_tell:
            to_tell, self._to_tell = self._to_tell, {}
            for destination in to_tell:
                self._batcher.to_all(Kind.LOOK, Look(destination))
