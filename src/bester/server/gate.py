"""Who may stay connected before saying who it is (docs/protocol.md, section 2).

At most so many connections in all; of those that have not authenticated, so many per address and in all, where the
oldest makes room. A connection whose first message is being checked is not among those that make room: it is bounded
by the queue of the checks, and it is not its fault that they take time.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bester.errors import AuthenticationTimeout, Overloaded

if TYPE_CHECKING:
    from bester.server.connection import Connection
    from bester.server.hall import Hall

GRACE_S = 0.25
"""How old a connection is at least before it makes room: its first message may be on its way."""


class Gate:
    """The connections that have not said who they are, oldest first, and when they came."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.connections: set[Connection] = set()
        """Those of the listeners, whether they have authenticated or not."""
        self._waiting: dict[Connection, float] = {}
        self._per_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, connection: Connection) -> None:
        """A connection is there, or has logged out."""
        limits = self.hall.config.limits
        self.connections.add(connection)
        if len(self.connections) > limits.max_connections:
            connection.fail(Overloaded(f"at most {limits.max_connections} connections are allowed"))
            return
        address = connection.remote.address
        if not connection.remote.local and self._per_address[address] >= limits.max_unauthenticated_per_address:
            oldest = next(waiting for waiting in self._waiting if waiting.remote.address == address)
            oldest.fail(Overloaded("too many connections from this address have not authenticated"))
            self.leave(oldest)
        self._waiting[connection] = self.hall.clock()
        self._per_address[address] += 1

    def leave(self, connection: Connection) -> None:
        """A connection has said who it is, is being checked, or is gone."""
        if self._waiting.pop(connection, None) is None:
            return
        address = connection.remote.address
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def gone(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        self.leave(connection)

    def sweep(self, now: float) -> None:
        """Ends those that took too long, and those that must make room."""
        limits = self.hall.config.limits
        excess = len(self._waiting) - limits.max_unauthenticated
        for connection, came in list(self._waiting.items()):
            if now - came >= limits.authentication_timeout:
                connection.fail(AuthenticationTimeout(f"no authentication within {limits.authentication_timeout:g} s"))
            elif excess > 0 and now - came >= GRACE_S:
                connection.fail(Overloaded("too many connections have not authenticated"))
            else:
                break  # the others are younger
            self.leave(connection)
            excess -= 1
