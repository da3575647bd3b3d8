"""How many connections there may be, and for how long without authentication (docs/protocol.md, section 2).

A connection counts from when it is accepted, before any TLS handshake, to when it is closed. The number of connections
is bounded, also by the process's descriptors: some stay free for handlers, operators, files and other servers. Of those
that have not authenticated, the number is bounded for each address and in all; beyond it the oldest is closed. A
connection whose first message is being checked is not closed for that: the queue of the checks is bounded itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from bester.accepting import LogThrottle
from bester.errors import AuthenticationTimeout, BesterError, Overloaded
from bester.net.descriptors import descriptor_limit
from bester.net.peers import Remote
from bester.server.runtime import Runtime

log = logging.getLogger("bester.connection")

GRACE_S = 0.25
"""The least age at which a connection is closed for others: its first message may be on its way."""
TOLD = 64
"""How many connections beyond the bound are accepted for a moment, to be told why they are refused."""
RESERVE = 256
"""Descriptors that the listeners leave free, beside one for each handler; at most half of the process's limit."""
RECENTLY_S = 60.0


class Guest(Protocol):
    """A connection to a listener."""

    remote: Remote

    def fail(self, error: BesterError) -> None:
        """Ends the connection, and tells why if it can be told anything."""


class ConnectionLimits:
    """The connections of the listeners, and which of them have not authenticated, oldest first."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.connections: set[Guest] = set()
        """All connections of the listeners."""
        self._crowded: set[Guest] = set()
        """The connections that are to be told that there are too many."""
        self._waiting: dict[Guest, tuple[float, str]] = {}
        """The connections that have not authenticated: when they came, and from which address."""
        self._per_address: Counter[str] = Counter()
        self._starved_until = 0.0
        self._throttle = LogThrottle()
        limit = descriptor_limit()
        self.room = limit - min(limit // 2, RESERVE + runtime.config.limits.max_handlers)
        """How many connections there are descriptors for."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def most(self) -> int:
        """The most connections that there may be."""
        return min(self.runtime.config.limits.max_connections, self.room)

    @property
    def is_starved(self) -> bool:
        """Whether a connection could not be had lately, because there was no descriptor for it."""
        return self.runtime.clock() < self._starved_until

    def starved(self) -> None:
        """Notes that there was no descriptor for a connection."""
        self._starved_until = self.runtime.clock() + RECENTLY_S

    # -- who comes and goes ----------------------------------------------------------------------------------------

    def arrive(self, guest: Guest, *, told: bool) -> bool:
        """Counts an accepted connection; False closes it at once.

        Args:
            told: whether it will :meth:`enter` without delay, and can then be told that there are too many. One that
                has a TLS handshake before it cannot.
        """
        limits, most = self.runtime.config.limits, self.most
        crowded = len(self.connections) >= most
        if crowded and most < limits.max_connections:
            self.starved()
        if len(self.connections) >= most + TOLD * told:
            self._refuse(f"at most {most} connections are allowed")
            return False
        if len(self._waiting) >= 2 * limits.max_unauthenticated + TOLD:
            self._refuse("too many connections have not authenticated")
            return False
        self.connections.add(guest)
        if crowded:
            self._crowded.add(guest)
        else:
            self._wait(guest)
        return True

    def _refuse(self, why: str) -> None:
        self.runtime.counts.refuse(Overloaded.code)
        if count := self._throttle.due():
            log.warning("%d connections were refused since the last such line: %s", count, why)

    def enter(self, guest: Guest) -> None:
        """Lets a connection's time to authenticate begin: it is open now, or has logged out."""
        if guest in self._crowded:
            guest.fail(Overloaded(f"at most {self.most} connections are allowed"))
        elif guest not in self._waiting:
            self.connections.add(guest)
            self._wait(guest)

    def _wait(self, guest: Guest) -> None:
        address = guest.remote.address
        if not guest.remote.local:
            most = self.runtime.config.limits.max_unauthenticated_per_address
            if self._per_address[address] >= most:
                oldest = next(waiting for waiting, (_, of) in self._waiting.items() if of == address)
                oldest.fail(Overloaded("too many connections from this address have not authenticated"))
                self.leave(oldest)
        self._waiting[guest] = self.runtime.clock(), address
        self._per_address[address] += 1

    def leave(self, guest: Guest) -> None:
        """Ends a connection's time to authenticate: it has done so, is being checked, or is gone."""
        _, address = self._waiting.pop(guest, (0.0, None))
        if address is None:
            return
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def gone(self, guest: Guest) -> None:
        """Forgets a closed connection."""
        self.connections.discard(guest)
        self._crowded.discard(guest)
        self.leave(guest)

    def sweep(self, now: float) -> None:
        """Closes connections that did not authenticate in time, and the oldest of too many."""
        limits = self.runtime.config.limits
        excess = len(self._waiting) - limits.max_unauthenticated
        for guest, (came, _) in list(self._waiting.items()):
            if now - came >= limits.authentication_timeout:
                guest.fail(AuthenticationTimeout(f"no authentication within {limits.authentication_timeout:g} s"))
            elif excess > 0 and now - came >= GRACE_S:
                guest.fail(Overloaded("too many connections have not authenticated"))
            else:
                break  # the others are younger
            self.leave(guest)
            excess -= 1
