"""What all players of one play share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bester.lab.server import LabServer
from bester.lab.world import World
from lab.ledger import Ledger
from lab.plan import Plan, server_name

PORT = 2223


@dataclass(eq=False)
class Stage:
    """A play that is under way."""

    world: World
    plan: Plan
    ledger: Ledger
    began: float = 0.0
    """When the times of the plan begin."""
    settling: bool = False
    """Whether all faults are over, and everybody stays and reads as fast as possible."""
    over: bool = False
    """Whether nobody connects any more."""
    hosts: list[str] = field(default_factory=list)
    """The addresses of the servers' machines; of a cluster, the name that leads to any node."""
    nodes: list[list[LabServer]] = field(default_factory=list)
    """By server: its nodes, or itself."""
    kill_hand: Callable[[int, float], None] = lambda index, for_s: None
    """Kills a handler, which comes back after some seconds."""

    @property
    def now(self) -> float:
        return self.world.loop.time()

    def node(self, server: int, number: int) -> LabServer:
        """Returns a node of a server; the server itself, if it is no cluster."""
        nodes = self.nodes[server]
        return nodes[number % len(nodes)]

    def host(self, server: int, node: int | None) -> str:
        """Returns what clients connect to.

        Args:
            server: the server.
            node: one of its nodes; None: any.
        """
        return self.hosts[server] if node is None else self.node(server, node).machine.address

    def address(self, server: int) -> str:
        """Returns what handlers call a server."""
        return server_name(server) if self.plan.names or self.plan.proven else f"{self.hosts[server]}:{PORT}"

    def note(self, text: str) -> None:
        self.world.trace.note(text)
