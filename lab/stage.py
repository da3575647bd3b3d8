"""What all players of one play share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """The addresses of the servers' machines."""
    handler_paths: list[str] = field(default_factory=list)
    kill_hand: Callable[[int, float], None] = lambda index, for_s: None
    """Kills a handler, which comes back after some seconds."""

    @property
    def now(self) -> float:
        return self.world.loop.time()

    def address(self, server: int) -> str:
        """Returns what handlers call a server."""
        return server_name(server) if self.plan.names or self.plan.proven else f"{self.hosts[server]}:{PORT}"

    def note(self, text: str) -> None:
        self.world.trace.note(text)
