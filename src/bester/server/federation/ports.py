"""The protocols by which federation knows the other nodes of this server, which stand above it or are not there.

:class:`OnlyNode` stands for the other nodes where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from bester.core.effects import Forward
from bester.errors import BesterError
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.relay import Relay, RelayedForward
from bester.server.federation.transport import TransportOwner


class LeaseUser(Protocol):
    """Sends to other servers, and is told what other nodes do."""

    def send(self, forward: Forward) -> None:
        """Sends another node's message for a server whose lease that node thinks is here."""

    def look(self, key: str, node: str, stored: int, hurry: bool) -> None:
        """Another node says that there may be something on disk; or, with ``hurry``, that the server is there."""

    def lease_renewed(self, key: str, good_until: float) -> None:
        """This node may send to a server for some time more."""

    def lease_ended(self, key: str) -> None:
        """Another node may send to a server from now on."""

    async def take_over(self, keys: Iterable[str]) -> None:
        """Sends what other nodes have left on disk, because their leases have ended.

        Raises:
            BesterError: the outbox cannot be read.
        """

    def bus_up(self) -> None:
        """The other nodes can be reached again."""


class PeerLeases(Protocol):
    """Knows which node of this server sends to which other server, and reaches the other nodes."""

    shared: bool
    """Whether there may be other nodes, which put messages into the same outbox."""

    @property
    def reachable(self) -> bool:
        """Whether the outbox that all nodes share can be reached, as far as that is known."""

    def serve(self, user: LeaseUser) -> None:
        """Sets who is told what other nodes do."""

    def has(self, key: str) -> bool:
        """Whether this node has the lease of another server now."""

    def good_until(self, key: str) -> float:
        """Until when this node may send to another server, by `elapsed`; 0 where it may not."""

    def is_elsewhere(self, key: str) -> bool:
        """Whether another node sends to another server."""

    async def open_relay(self, route: PeerRoute, owner: TransportOwner) -> Relay | None:
        """Returns a relay to the node that has the lease; None if this node has it, or has taken it now.

        Raises:
            HolderGone: that node cannot be reached, and no other one may send yet.
            BesterError: the node with the lease is not known now.
        """

    def give_back(self, key: str) -> None:
        """Lets other nodes have a lease."""

    async def give_back_all(self) -> None:
        """Lets other nodes have all leases, because this node stops; returns when they can take them."""

    def tell_all(self, key: str) -> None:
        """Lets all other nodes look for what is on disk, because this node stops."""

    def hurry(self, key: str) -> None:
        """Tells the node that sends to another server that this server is there."""

    def answer(self, forward: RelayedForward, status: str, error: BesterError | None, route: bytes) -> None:
        """Tells another node the outcome of a message that it sent here."""


class OnlyNode:
    """The leases of a server that has one node: it sends to all others, as long as it lives."""

    shared = False
    reachable = True

    def serve(self, user: LeaseUser) -> None:
        pass

    def has(self, key: str) -> bool:
        return True

    def good_until(self, key: str) -> float:
        return math.inf

    def is_elsewhere(self, key: str) -> bool:
        return False

    async def open_relay(self, route: PeerRoute, owner: TransportOwner) -> Relay | None:
        return None

    def give_back(self, key: str) -> None:
        pass

    async def give_back_all(self) -> None:
        pass

    def tell_all(self, key: str) -> None:
        pass

    def hurry(self, key: str) -> None:
        pass

    def answer(self, forward: RelayedForward, status: str, error: BesterError | None, route: bytes) -> None:
        pass
