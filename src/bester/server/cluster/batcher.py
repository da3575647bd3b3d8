"""Gathers the items of one turn of the loop for other nodes to one NATS message for each of them."""

from __future__ import annotations

import logging

from msgspec import Raw

from bester.bus.connection import Bus
from bester.bus.errors import BusDown
from bester.cluster.items import Kind, Note, batches, opening, pack
from bester.cluster.subjects import Subjects
from bester.core.metrics import Drop, Drops

log = logging.getLogger("bester.nodes")

HEADROOM = 1024
"""Bytes of the largest message that are left for its subjects and headers."""


class Batcher:
    """Sends items of one node."""

    def __init__(self, bus: Bus, subjects: Subjects, node: str, drops: Drops) -> None:
        self.bus = bus
        self.subjects = subjects
        self.node = node
        self._drops = drops
        self._opening = opening(node)
        self._waiting: dict[str, list[bytes]] = {}
        """By subject."""

    def to_node(self, node: str, kind: Kind, number: int = 0, note: Note | None = None, *body: bytes | Raw) -> None:
        """Sends an item to one node at the end of this turn."""
        self._add(self.subjects.node(node), pack(kind, number, note, *body))

    def to_account(self, username: str, kind: Kind, note: Note) -> None:
        """Sends an item to the nodes with sessions of an account, at the end of this turn."""
        self._add(self.subjects.account(username), pack(kind, 0, note))

    def to_all(self, kind: Kind, note: Note | None = None, number: int = 0, *body: bytes | Raw) -> None:
        """Sends an item to all nodes at the end of this turn."""
        self._add(self.subjects.all, pack(kind, number, note, *body))

    def to_watchers(self, note: Note) -> None:
        """Sends an item about an account to the nodes where somebody watches, at the end of this turn."""
        self._add(self.subjects.presence, pack(Kind.PRESENCE, 0, note))

    def _add(self, subject: str, item: bytes) -> None:
        self._waiting.setdefault(subject, []).append(item)

    def flush(self) -> None:
        """Sends the items that have gathered."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for subject, items in waiting.items():
            try:
                self.publish(subject, items)
            except BusDown:
                self._drops.count(Drop.NODE_UNSENT, len(items))

    def publish(self, subject: str, items: list[bytes], reply: str = "") -> None:
        """Sends items now.

        Raises:
            BusDown: NATS is away.
        """
        most = self.bus.max_payload - HEADROOM
        for batch in batches(self._opening, items, most):
            self.bus.publish(subject, batch, reply)
