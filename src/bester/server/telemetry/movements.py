"""The console's movements: senders and recipients of some of the messages of the last second (docs/web.md).

Nothing is recorded for it: a movement is made from the receipt that the exchange keeps of a finished message, and only
while somebody watches. The first :data:`MAX_MOVEMENTS` of each second are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from bester.core.endpoint import Endpoint, Peer
from bester.core.receipts import Entry
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.server.telemetry.receipts import Receipts, outcome_of

MAX_MOVEMENTS = 50
"""The most movements that are shown in a second."""
MAX_RECIPIENTS = 5
"""The most recipients that a movement names."""


class Movements:
    """Picks some of the finished messages from the receipts, as long as there are watchers."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._watchers = 0
        self._seen: list[tuple[Entry, float]] = []
        """Entries, each with the time at which the exchange's clock was 0, in seconds since 1970."""

    def watch(self) -> None:
        """Begins to pick movements for one more watcher, until :meth:`unwatch`."""
        self._watchers += 1
        if self._watchers == 1:
            self._receipts.flushed.append(self._see)

    def unwatch(self) -> None:
        """Forgets a watcher; without any, nothing is picked."""
        self._watchers -= 1
        if not self._watchers:
            self._receipts.flushed.remove(self._see)
            self._seen.clear()

    def take(self) -> list[dict[str, Any]]:
        """Returns the movements since the last call, oldest first, at most :data:`MAX_MOVEMENTS`."""
        self._receipts.flush()
        seen, self._seen = self._seen, []
        return [_movement(entry, began) for entry, began in seen]

    def _see(self, entries: Sequence[Entry], began: float) -> None:
        self._seen += ((entry, began) for entry in islice(entries, MAX_MOVEMENTS - len(self._seen)))


def _movement(entry: Entry, began: float) -> dict[str, Any]:
    outcome = outcome_of(entry)
    return {
        "time": round(entry.at + began, 3),
        "from": _name_of(entry.origin),
        "scope": entry.origin.scope,
        "type": entry.type,
        "to": [result.to for result in outcome.first[:MAX_RECIPIENTS]],
        "recipients": sum(outcome.counts.values()),
        "outcome": outcome.error.code if outcome.error is not None else "good",
        "ms": round(1000 * (entry.at - entry.since), 3),
    }


def _name_of(origin: Endpoint) -> str | None:
    if isinstance(origin, Session):
        return origin.username
    return origin.name if isinstance(origin, (Peer, AttachedHandler)) else None
