"""A record of what was sent, handled, reported and received in one play, from which the promises are judged.

A *copy* is what one recipient is to get of one message by one way: its key is the message's number, the way it took
(see :func:`way_on`), the account and its server.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

FULL = ("mailboxFull", "storageFull")
"""The codes of what is refused because something is full."""


class Copy(NamedTuple):
    """What an account is to get of a message."""

    message: int
    way: str
    server: int
    account: str


class Attempt(NamedTuple):
    """One report on a message."""

    good: bool
    temporary: bool
    code: str
    results: tuple[tuple[str, str, str, bool], ...]
    """By recipient: its name or address, status, error code, and whether that is temporary."""


class Receipt(NamedTuple):
    """One arrival of a copy at a session."""

    session: int
    delivery_id: str
    at: float
    connection: int


class Handled(NamedTuple):
    """A request that a handler got."""

    message: int
    way: str
    server: int
    hand: int
    at: float
    connection: int


def way_on(way: str, server: int | None) -> str:
    """Returns the way of what goes on to another server, or to the next handler of this one."""
    return f"{way}h" if server is None else f"{way}s{server}"


class Ledger:
    """All that was seen in one play, and by violations what must not have been."""

    def __init__(self) -> None:
        self.sent: dict[int, list[tuple[int, int]]] = {}
        """By message: the session and the connection of each time that it was sent."""
        self.sent_at: dict[int, float] = {}
        """By message: when it was sent first."""
        self.attempts: dict[int, list[Attempt]] = {}
        """By message: the reports on it, oldest first."""
        self.received: dict[Copy, list[Receipt]] = {}
        self.handled: list[Handled] = []
        self.handled_times: Counter[tuple[int, str, int]] = Counter()
        self.open: Counter[tuple[int, int]] = Counter()
        """By connection and message: how many reports are awaited; less than none is a violation."""
        self.lost_connections: set[int] = set()
        self.settled_at: dict[int, float] = {}
        """By message: when its first final report came."""
        self.violations: list[str] = []
        self.codes: Counter[str] = Counter()
        """Reports by code, results by status, and fatal errors."""
        self._connections = 0
        self.reports = self.receipts = 0
        self.last_at = 0.0
        """When something was reported or received last."""

    def violation(self, text: str) -> None:
        """Notes that a promise was broken."""
        if len(self.violations) < 50 and text not in self.violations:
            self.violations.append(text)

    def new_connection(self) -> int:
        """Returns a number for a connection."""
        self._connections += 1
        return self._connections

    # -- what happens --------------------------------------------------------------------------------------------

    def sends(self, message: int, session: int, connection: int, at: float) -> None:
        """A session sends a message, perhaps once more."""
        self.sent_at.setdefault(message, at)
        self.sent.setdefault(message, []).append((session, connection))
        self.open[connection, message] += 1

    def reported(self, message: int, connection: int, attempt: Attempt, at: float) -> None:
        """A report came."""
        self.reports += 1
        if attempt.code not in FULL:
            self.last_at = at
        self.codes[f"report {attempt.code or 'good'}"] += 1
        for _, status, code, _ in attempt.results:
            self.codes[f"result {code or status}"] += 1
        self.attempts.setdefault(message, []).append(attempt)
        if attempt.good or not attempt.temporary:
            self.settled_at.setdefault(message, at)
        self.open[connection, message] -= 1
        if self.open[connection, message] < 0:
            self.violation(f"message {message} has more reports on connection {connection} than it was sent there")

    def gave_up(self, message: int, connection: int) -> None:
        """The library says that there will be no report."""
        self.open[connection, message] -= 1

    def came(self, copy: Copy, receipt: Receipt) -> None:
        """A session got a message."""
        self.receipts += 1
        self.last_at = receipt.at
        self.received.setdefault(copy, []).append(receipt)

    def asked(self, handled: Handled) -> None:
        """A handler got a request."""
        self.handled.append(handled)
        self.handled_times[handled.message, handled.way, handled.server] += 1

    def fatal(self, code: str) -> None:
        """A connection was ended with an error."""
        self.codes[f"fatal {code}"] += 1

    def awaited(self) -> list[tuple[int, int]]:
        """Returns the connections that were not lost, with messages that have no report there.

        What is refused because something is full is sent again and again, and so is left out.
        """
        return [
            (connection, message)
            for (connection, message), count in self.open.items()
            if count > 0 and connection not in self.lost_connections and not self.is_full(message)
        ]

    # -- the outcome of a message --------------------------------------------------------------------------------

    def outcome(self, message: int) -> Attempt | None:
        """Returns the last report on a message."""
        attempts = self.attempts.get(message)
        return attempts[-1] if attempts else None

    def is_full(self, message: int) -> bool:
        """Returns whether a message was refused because something is full, which may never end."""
        attempts = self.attempts.get(message, [])
        return any(one.code in FULL for one in attempts) and not self.settled(message)

    def settled(self, message: int) -> bool:
        """Returns whether a message has a report after which it is not sent again."""
        outcome = self.outcome(message)
        return outcome is not None and (outcome.good or not outcome.temporary)


def attempt_of(report: dict[str, Any]) -> Attempt:
    """Returns what a status report says."""
    payload = report["payload"]
    error = payload.get("error") or {}
    results = tuple(
        (
            one["to"],
            one["status"],
            one.get("error", {}).get("code", ""),
            bool(one.get("error", {}).get("temporary", False)),
        )
        for one in payload.get("results", ())
    )
    good = report["header"]["status"] == "good"
    return Attempt(good, bool(error.get("temporary", False)), error.get("code", ""), results)
