"""The bounds of everything that waits in a server, looked at again and again while a play runs."""

from __future__ import annotations

from collections.abc import Sequence

from bester.core.delivery import QUEUE_BYTES, QUEUE_MESSAGES
from bester.core.replay import MAX_LATE
from bester.core.session import Session
from bester.core.window import WINDOW_BYTES, WINDOW_MESSAGES
from bester.server.federation.pending import MAX_FRESH
from bester.server.server import Server
from lab.keeper import Keeper
from lab.stage import Stage

TURNS = 400
"""After how many turns of processes it is looked again."""


class Bounds:
    """Looks at all servers."""

    def __init__(self, stage: Stage, keepers: Sequence[Keeper]) -> None:
        self._stage = stage
        self._keepers = keepers
        self._turns = 0

    def look(self) -> None:
        """Called after each turn of a process."""
        self._turns += 1
        if self._turns % TURNS == 0:
            for keeper in self._keepers:
                server = keeper.lab.server
                if server is not None and keeper.lab.running:
                    self._look_at(keeper.lab.name, server)

    def _look_at(self, name: str, server: Server) -> None:
        exchange = server.runtime.exchange
        limits = exchange.batch.limits
        largest = server.config.limits.max_message + 64 * 1024 + 1024
        for account in exchange.presence.accounts.values():
            for session in account.sessions:
                self._look_at_session(f"{name} {session.username}", session, largest)
                self._at_most(f"{name} {session.username} in flight", session.in_flight, limits.max_in_flight)
                self._at_most(
                    f"{name} {session.username} bytes held",
                    session.held_bytes,
                    # What one read has brought is taken before the next is not read.
                    limits.max_held_bytes + 256 * 1024 + largest,
                )
        for key, destination in server.federation.destinations.items():
            self._at_most(f"{name} fresh for {key}", destination.fresh, 2 * MAX_FRESH)
            self._at_most(f"{name} in flight to {key}", destination.in_flight, 256)

    def _look_at_session(self, who: str, session: Session, largest: int) -> None:
        self._at_most(f"{who} window", len(session.unacked), WINDOW_MESSAGES)
        self._at_most(f"{who} window bytes", session.unacked_bytes, WINDOW_BYTES + largest)
        self._at_most(f"{who} queue", len(session.queue), QUEUE_MESSAGES)
        self._at_most(f"{who} queue bytes", session.queue_bytes, QUEUE_BYTES)
        self._at_most(f"{who} late", len(session.late), MAX_LATE)

    def _at_most(self, what: str, found: int, bound: int) -> None:
        if found > bound or found < 0:
            self._stage.ledger.violation(f"bound: {what} is {found}, and {bound} is allowed")
