"""A stream: its configuration, its messages, and what it accepts.

Lifetimes end lazily: every request to a stream calls :meth:`Stream.expire` first. So there are no timers, and a client
sees no difference.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bester.lab.nats.errors import (
    BATCH_COMMIT,
    BATCH_DUPLICATE,
    BATCH_ID,
    BATCH_INCOMPLETE,
    BATCH_TOO_LARGE,
    BATCH_WITHOUT_SEQUENCE,
    IN_PROCESS,
    INVALID_TTL,
    NO_BATCHES,
    NO_TTL,
    OTHER_STREAM,
    STORE_FAILED,
    WRONG_LAST_ID,
    WRONG_LAST_SEQUENCE,
    Refused,
)
from bester.lab.nats.log import Follower, MessageLog, Stored, size_of
from bester.lab.nats.wire import Message, header_fields

DUPLICATES_S = 120.0
MAX_BATCH = 1000
MAX_BATCH_ID = 64
BATCH_S = 10.0
"""An unfinished batch is given up after this long."""
_TTL = re.compile(r"(\d+)(s|m|h|)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(slots=True)
class Acked:
    """The acknowledgement of a message, or of a batch."""

    sequence: int
    duplicate: bool = False
    batch: str = ""
    count: int = 0


@dataclass(slots=True)
class _Batch:
    touched: float
    messages: list[tuple[Message, dict[str, str]]] = field(default_factory=list)


class Consumer:
    """A reader of a stream's messages, in their order and once; see ``consumers.py``.

    Args:
        name: its own.
        config: complete, as a server answers with it.
        created: when it was created, as text.
        now: the loop's time.
    """

    __slots__ = ("config", "created", "delivered", "ends", "name", "next", "pattern")

    def __init__(self, name: str, config: dict[str, Any], created: str, now: float) -> None:
        self.name = name
        self.config = config
        self.created = created
        self.pattern = str(config["filter_subject"] or ">")
        self.next = 1
        """The sequence from which it goes on."""
        self.delivered = 0
        """How many messages it has delivered."""
        self.ends = now + config["inactive_threshold"] / 1e9
        """When it ends, by the loop's clock, unless it is used before."""


class Stream:
    """One stream.

    Args:
        config: complete, as a server answers with it.
        created: when it was created, as text.
        peers: the names of the servers that have it.
    """

    def __init__(self, config: dict[str, Any], created: str, peers: list[str]) -> None:
        self.config = config
        self.created = created
        self.peers = peers
        self.leader = ""
        """The peer that leads it; empty while there is none."""
        self.log = MessageLog(_pattern(config))
        self._followers: dict[str, Follower] = {}
        """The copies that lag behind, by the servers that have them."""
        self.consumers: dict[str, Consumer] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        """The sequence and the time of each recent ``Nats-Msg-Id``, the oldest first."""
        self._last_id = ""
        self._batches: dict[str, _Batch] = {}
        self._ends: list[tuple[float, int]] = []
        """A heap: when messages with lifetimes of their own end, and their sequences."""

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def forget(self) -> None:
        """Loses what is only in the memory of the server that leads it."""
        self._batches.clear()
        self.consumers.clear()

    def configure(self, config: dict[str, Any]) -> None:
        """Changes the configuration."""
        self.config = config
        self.log.pattern = _pattern(config)
        self._trim()

    def lag(self, peer: str, lag_s: float, clock: Callable[[], float]) -> None:
        """Lets a server that does not lead have everything so much later; 0: no longer."""
        before = self._followers.pop(peer, None)
        if before is not None:
            self.log.followers.remove(before)
        if lag_s and peer in self.peers:
            follower = self._followers[peer] = Follower(self.log, lag_s, clock)
            self.log.followers.append(follower)

    def seen_by(self, peer: str) -> MessageLog:
        """Returns what a server has."""
        follower = self._followers.get(peer)
        return follower.seen() if follower is not None and peer != self.leader else self.log

    def expire(self, now: float) -> None:
        """Removes everything whose lifetime has ended."""
        while self._ends and self._ends[0][0] <= now:
            _, sequence = heapq.heappop(self._ends)
            stored = self.log.messages.get(sequence)
            if stored is not None:
                self.log.remove(stored)
        max_age_s = self.config["max_age"] / 1e9
        while max_age_s and (stored := self.log.oldest()) is not None and stored.at + max_age_s <= now:
            self.log.remove(stored)
        while self._ids and now - self._ids[oldest := next(iter(self._ids))][1] > DUPLICATES_S:
            del self._ids[oldest]
        for name in [name for name, one in self._batches.items() if now - one.touched > BATCH_S]:
            del self._batches[name]
        for name in [name for name, one in self.consumers.items() if one.ends <= now]:
            del self.consumers[name]

    # -- publishing ------------------------------------------------------------------------------------------------

    def publish(self, message: Message, now: float, time: float) -> Acked | None:
        """Stores a message, or a batch with its last one.

        Args:
            message: a subject of this stream.
            now: the loop's time.
            time: in seconds since 1970.

        Returns:
            None: the message is part of a batch that is not complete.

        Raises:
            Refused: nothing is stored.
        """
        fields = header_fields(message.headers) if message.headers else {}
        if "Nats-Batch-Id" in fields:
            return self._publish_batch(message, fields, now, time)
        id = fields.get("Nats-Msg-Id", "")
        if id in self._ids:
            return Acked(self._ids[id][0], duplicate=True)
        self._check(message, fields, {})
        return Acked(self._store(message, fields, now, time).sequence)

    def _publish_batch(self, message: Message, fields: dict[str, str], now: float, time: float) -> Acked | None:
        name, number = fields["Nats-Batch-Id"], fields.get("Nats-Batch-Sequence", "")
        if not self.config.get("allow_atomic"):
            raise Refused(NO_BATCHES)
        if not 0 < len(name) <= MAX_BATCH_ID:
            raise Refused(BATCH_ID)
        if not number.isdigit():
            raise Refused(BATCH_WITHOUT_SEQUENCE)
        batch = self._batches.setdefault(name, _Batch(now)) if number == "1" else self._batches.get(name)
        if batch is None or int(number) != len(batch.messages) + 1:
            self._batches.pop(name, None)
            raise Refused(BATCH_INCOMPLETE)
        if int(number) > MAX_BATCH:
            del self._batches[name]
            raise Refused(BATCH_TOO_LARGE, MAX_BATCH)
        batch.touched = now
        batch.messages.append((message, fields))
        if "Nats-Batch-Commit" not in fields:
            return None
        del self._batches[name]
        if fields["Nats-Batch-Commit"] != "1":
            raise Refused(BATCH_COMMIT)
        return self._commit(name, batch, now, time)

    def _commit(self, name: str, batch: _Batch, now: float, time: float) -> Acked:
        subjects: dict[str, int] = {}
        ids: dict[str, None] = {}
        for message, fields in batch.messages:
            self._check(message, fields, subjects)
            subjects[message.subject] = subjects.get(message.subject, 0) + 1
            id = fields.get("Nats-Msg-Id", "")
            if id and (id in self._ids or id in ids):
                raise Refused(BATCH_DUPLICATE)
            ids[id] = None
        for message, fields in batch.messages:
            self._store(message, fields, now, time)
        return Acked(self.log.last, batch=name, count=len(batch.messages))

    def _check(self, message: Message, fields: Mapping[str, str], before: Mapping[str, int]) -> None:
        """Checks a message against the messages that are there.

        Args:
            message: the message.
            fields: its headers.
            before: how many messages of each subject come before it in its batch.
        """
        log = self.log
        if fields:
            self._check_expectations(message, fields, before)
        config = self.config
        if config["discard"] != "new":
            return
        if config.get("discard_new_per_subject"):
            count = len(log.of_subject(message.subject)) + before.get(message.subject, 0)
            if 0 < config["max_msgs_per_subject"] <= count:
                raise Refused(STORE_FAILED, "maximum messages per subject exceeded")
        if 0 < config["max_msgs"] <= len(log.messages) + sum(before.values()):
            raise Refused(STORE_FAILED, "maximum messages exceeded")
        if 0 < config["max_bytes"] < log.bytes + size_of(message.subject, message.headers, message.data):
            raise Refused(STORE_FAILED, "maximum bytes exceeded")

    def _check_expectations(self, message: Message, fields: Mapping[str, str], before: Mapping[str, int]) -> None:
        log = self.log
        if fields.get("Nats-Expected-Stream", self.name) != self.name:
            raise Refused(OTHER_STREAM)
        if fields.get("Nats-Expected-Last-Msg-Id", self._last_id) != self._last_id:
            raise Refused(WRONG_LAST_ID, self._last_id)
        if fields.get("Nats-Expected-Last-Sequence", str(log.last)) != str(log.last):
            raise Refused(WRONG_LAST_SEQUENCE, log.last)
        expected = fields.get("Nats-Expected-Last-Subject-Sequence")
        if expected is not None:
            last = log.last_of(message.subject)
            sequence = last.sequence if last is not None else 0
            if message.subject in before:
                raise Refused(IN_PROCESS)
            if expected != str(sequence):
                raise Refused(WRONG_LAST_SEQUENCE, sequence)
        if "Nats-TTL" in fields:
            if not self.config.get("allow_msg_ttl"):
                raise Refused(NO_TTL)
            _lifetime_s(fields["Nats-TTL"])

    def _store(self, message: Message, fields: Mapping[str, str], now: float, time: float) -> Stored:
        stored = self.log.store(message.subject, message.headers, message.data, now, time)
        if "Nats-TTL" in fields:
            heapq.heappush(self._ends, (now + _lifetime_s(fields["Nats-TTL"]), stored.sequence))
        id = self._last_id = fields.get("Nats-Msg-Id", "")
        if id:
            self._ids[id] = stored.sequence, now
        self._trim(message.subject)
        return stored

    def _trim(self, subject: str = "") -> None:
        """Removes the oldest messages beyond the configured bounds, of one subject or of all."""
        config, log = self.config, self.log
        per_subject = config["max_msgs_per_subject"]
        if per_subject > 0:
            subjects = [subject] if subject else list(log.counts(">"))
            for one in subjects:
                kept = log.of_subject(one)
                while len(kept) > per_subject:
                    log.remove(next(iter(kept.values())))
        while (0 < config["max_msgs"] < len(log.messages) or 0 < config["max_bytes"] < log.bytes) and (
            oldest := log.oldest()
        ) is not None:
            log.remove(oldest)


def _pattern(config: dict[str, Any]) -> str:
    return str(config["subjects"][0]) if len(config["subjects"]) == 1 else ">"


def _lifetime_s(text: str) -> float:
    """Returns a ``Nats-TTL`` in seconds.

    Raises:
        Refused: it is none.
    """
    if text == "never":
        return math.inf
    found = _TTL.fullmatch(text)
    if found is None or not int(found[1]):
        raise Refused(INVALID_TTL)
    return float(int(found[1]) * _UNITS[found[2]])
