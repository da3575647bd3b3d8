"""Tells what a broker kept from what a device says now.

A broker sends what it retained each time that we subscribe, and does not say since when it has it. Sent again after a
lost connection, the same payload is no news: what the device said live since then is newer. Another payload is: it was
published while we were away.

With MQTT 5 we ask for the publisher's own flag (*retain as published*), so that a live message says that the broker
keeps it from now on. The broker's copies have the same flag; they come first on their topics, once on each connection,
all together. In MQTT 3.1.1 the flag stands on the broker's copies only, and a live message that replaces one is not
recognised.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

MAX_TOPICS = 20_000
"""Beyond these the topic that was first heard of is forgotten: what is retained there counts as unknown again."""

COPIES_END_S = 5.0
"""When no copy came for so long, there are no more of them on this connection."""

Kind = Literal["live", "retained", "known"]
"""``retained``: the broker kept it, and its age is not known; ``known``: and we had it already."""


@dataclass(slots=True)
class _Topic:
    connection: int
    kept: bytes | None
    """A digest of the payload that the broker keeps, as far as we know."""


class Retained:
    """The retained copies at the broker, by topic.

    Args:
        as_published: the flag is the publisher's, on live messages too.
        clock: monotonic.
    """

    def __init__(self, *, as_published: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._as_published = as_published
        self._clock = clock
        self._copies_until = 0.0
        self._connection = 0
        self._topics: dict[str, _Topic] = {}

    def subscribing(self) -> None:
        """On a new connection the broker is about to send what it retained."""
        self._connection += 1
        self._copies_until = self._clock() + COPIES_END_S

    def kind(self, topic: str, payload: bytes, flag: bool) -> Kind:
        """Returns what a message is; to be called once for each, in their order."""
        before = self._topics.get(topic)
        first = before is None or before.connection != self._connection
        kept = before.kept if before is not None else None
        copied = flag and (not self._as_published or (first and self._clock() < self._copies_until))
        if not flag:
            now = kept if payload else None  # without a payload the broker keeps nothing any more
        else:
            now = blake2b(payload, digest_size=16).digest() if payload else None
        if before is None:
            if len(self._topics) >= MAX_TOPICS:
                del self._topics[next(iter(self._topics))]
            self._topics[topic] = _Topic(self._connection, now)
        else:
            before.connection, before.kept = self._connection, now
        if not copied:
            return "live"
        self._copies_until = self._clock() + COPIES_END_S
        return "known" if now == kept else "retained"
