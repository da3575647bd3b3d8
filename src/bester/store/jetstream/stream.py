"""One stream of JetStream.

The newest state is read from the stream's leader (:meth:`Stream.last_message`, :meth:`Stream.message_at`). Pages are
read from any replica, which may lack the newest messages; so the leader confirms the end of a subject.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.headers import header
from bester.errors import BadConfiguration, Overloaded
from bester.store.jetstream.api import API, StreamApi
from bester.store.jetstream.publishing import LIMITS, BatchLimits, Publisher
from bester.store.jetstream.retrying import TIMES, RetryTimes, unreachable

log = logging.getLogger("bester.jetstream")

HEADERS_BATCH = 1000
"""How many messages without their data are read at once."""
HEADERS_S = 1.0
CONSUMER_S = 10.0
"""How long NATS keeps the consumer that reads them, unless it is deleted."""
LAST_MESSAGES_BATCH = 512
"""How many subjects are asked for at once."""
PEERS_S = 10.0
"""How long NATS servers are given to find enough of each other for a stream's replicas."""
PEERS_PAUSE_S = 0.25
SLOW_PAUSE_S = 2.0
"""The pause between repeated requests that take NATS long."""

_NAME_IN_USE = 10058
_SUBJECTS_OVERLAP = 10065
_NO_PEERS = 10005


class StoredMessage(NamedTuple):
    """A message of a stream."""

    subject: str
    sequence: int
    """Grows with each message of the stream, and is never used again."""
    headers: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The configuration of a stream."""

    name: str
    subjects: str
    replicas: int = 1
    max_age_s: float = 0.0
    max_messages: int = -1
    allow_ttl: bool = False
    """Whether messages may have lifetimes of their own (``Nats-TTL``)."""
    one_per_subject: bool = True
    """Whether a subject has one message, which a new one replaces."""
    refuse_new: bool = False
    """Whether the new one is refused instead."""

    def as_json(self) -> dict[str, Any]:
        """Returns the configuration as JetStream takes it."""
        return {
            "name": self.name,
            "subjects": [self.subjects],
            "storage": "file",
            "retention": "limits",
            "num_replicas": self.replicas,
            "max_msgs_per_subject": 1 if self.one_per_subject else -1,
            "max_age": int(self.max_age_s * 1e9),
            "max_msgs": self.max_messages,
            "discard": "new" if self.refuse_new else "old",
            "discard_new_per_subject": self.refuse_new,
            "allow_direct": True,
            "allow_msg_ttl": self.allow_ttl,
            "allow_atomic": True,
        }


class Stream:
    """A stream; created, if it does not exist, by :meth:`open`.

    Args:
        bus: the connection, which is open before this is.
        config: how it is to be configured.
        times: how long its servers are waited for.
        limits: when messages are published in batches.
    """

    def __init__(self, bus: Bus, config: StreamConfig, times: RetryTimes = TIMES, limits: BatchLimits = LIMITS) -> None:
        self.config = config
        self.name = config.name
        self.api = StreamApi(bus, config.name, times)
        self.publisher = Publisher(bus, self.api, limits)
        self._bus = bus

    async def open(self) -> None:
        """Creates the stream, or checks that it is configured as it should be.

        Raises:
            BadConfiguration: it cannot be created, or is configured otherwise.
        """
        config = self.config.as_json()
        try:
            created = await self._create(config)
            if created.get("error", {}).get("err_code") == _NAME_IN_USE:
                created = await self.api.call("STREAM.UPDATE", config)
        except Overloaded as error:
            raise BadConfiguration(
                f"the stream {self.name} cannot be created: JetStream does not answer; is it on (jetstream: {{}} in "
                "the NATS server's configuration), and are most of the NATS servers there?"
            ) from error
        if created.get("error", {}).get("err_code") == _SUBJECTS_OVERLAP:
            raise BadConfiguration(
                f"the stream {self.name} cannot be created: there are streams of another number of partitions "
                "already; cluster.partitions must be the same at all nodes, and cannot be changed later"
            )
        if "error" in created:
            text = created["error"].get("description", "")
            hint = "there must be at least cluster.replicas NATS servers, with space on their disks"
            if "not enabled" in text:
                hint = "JetStream must be enabled for the NATS account of the nodes"
            raise BadConfiguration(f"the stream {self.name} cannot be used: {text}; {hint}")
        self.publisher.atomic = created.get("config", {}).get("allow_atomic") is True

    async def _create(self, config: dict[str, Any]) -> dict[str, Any]:
        """Creates the stream; waits a while for NATS servers that have just met and do not know all others yet."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PEERS_S
        while True:
            created = await self.api.call("STREAM.CREATE", config)
            if created.get("error", {}).get("err_code") != _NO_PEERS or clock() >= deadline:
                return created
            await asyncio.sleep(PEERS_PAUSE_S)

    def close(self) -> None:
        """Fails all requests, from now on."""
        self.api.close()

    @property
    def unresponsive(self) -> bool:
        """Whether the stream's leader did not answer a moment ago."""
        return self.api.unresponsive

    # -- writing -------------------------------------------------------------------------------------------------

    def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> asyncio.Future[int]:
        """Publishes a message after those before it; returns the future of its sequence.

        Raises (when awaited):
            SubjectTaken, WrongLastSequence: the stream, or the headers, exclude the message.
            StorageFull: NATS has no room for it.
            Overloaded: NATS does not answer; the stream may have it or not.
        """
        return self.publisher.publish(subject, data, headers or {})

    async def delete(self, sequence: int) -> bool:
        """Deletes one message; False if there was none."""
        answer = await self.api.call("STREAM.MSG.DELETE", {"seq": sequence, "no_erase": True})
        return "error" not in answer

    async def purge(self, subject: str) -> int:
        """Removes all messages of a subject, and returns how many there were."""
        answer = await self.api.call_checked("STREAM.PURGE", {"filter": subject})
        return int(answer.get("purged", 0))

    async def purge_to_newest(self, messages: int) -> None:
        """Removes the oldest messages beyond a number."""
        await self.api.call_checked("STREAM.PURGE", {"keep": messages} if messages else {})

    async def purge_up_to(self, sequence: int) -> None:
        """Removes all messages up to a sequence."""
        await self.api.call_checked("STREAM.PURGE", {"seq": sequence + 1})

    # -- reading -------------------------------------------------------------------------------------------------

    async def last_message(self, subject: str) -> StoredMessage | None:
        """Returns the last message of a subject, from the stream's leader."""
        return self._message(await self.api.call("STREAM.MSG.GET", {"last_by_subj": subject}))

    async def last_known_message(self, subject: str) -> tuple[StoredMessage | None, bool]:
        """Returns the last message of a subject, and whether it comes from the leader.

        While there is no leader, a replica's message is returned, if one has it.
        """
        try:
            answer = await self.api.call("STREAM.MSG.GET", {"last_by_subj": subject}, retry=False)
        except Overloaded:
            found = await self.last_messages([subject])
            return (found[0], False) if found else (await self.last_message(subject), True)
        return self._message(answer), True

    async def message_at(self, sequence: int) -> StoredMessage | None:
        """Returns the message with a sequence, from the stream's leader."""
        return self._message(await self.api.call("STREAM.MSG.GET", {"seq": sequence}))

    def _message(self, answer: dict[str, Any]) -> StoredMessage | None:
        message = answer.get("message")
        if message is None:
            if answer.get("error", {}).get("code") == 404:
                return None
            self.api.checked(answer)
            return None
        headers = base64.b64decode(message.get("hdrs") or "")
        data = base64.b64decode(message.get("data") or "")
        return StoredMessage(message["subject"], int(message["seq"]), headers, data)

    async def page(
        self, subject: str, after: int, limit: int, max_bytes: int = 0, *, from_leader: bool = True
    ) -> list[StoredMessage]:
        """Returns the messages of a subject (``*`` and ``>`` match many) after a sequence, in their order.

        Args:
            subject: which messages.
            after: the sequence.
            limit: the most messages.
            max_bytes: about the most bytes, but at least one message; 0: no limit.
            from_leader: whether the leader must confirm an empty page; else a replica's answer is enough.
        """
        wanted: dict[str, Any] = {"next_by_subj": subject, "seq": after + 1, "batch": limit}
        if max_bytes:
            wanted["max_bytes"] = max_bytes
        found = await self._direct_get(wanted)
        if found or self.config.replicas == 1:
            return found
        try:
            answer = await self.api.call(
                "STREAM.MSG.GET", {"next_by_subj": subject, "seq": after + 1}, retry=from_leader
            )
        except Overloaded:
            if from_leader:
                raise
            return []
        first = self._message(answer)
        return [first] if first is not None else []

    async def messages_between(
        self, subject: str, first: int, last: int, limit: int, max_bytes: int
    ) -> list[StoredMessage]:
        """Returns what a replica has of a subject from one sequence to another, limited as :meth:`page` is."""
        wanted = {"next_by_subj": subject, "seq": first, "batch": limit, "max_bytes": max_bytes}
        return [one for one in await self._direct_get(wanted) if one.sequence <= last]

    async def last_messages(self, subjects: Sequence[str]) -> list[StoredMessage]:
        """Returns the last messages of those subjects that have any, in the stream's order, from any replica."""
        found: list[StoredMessage] = []
        for begin in range(0, len(subjects), LAST_MESSAGES_BATCH):
            some = list(subjects[begin : begin + LAST_MESSAGES_BATCH])
            found += await self._direct_get({"multi_last": some, "batch": len(some)})
        return found

    async def _direct_get(self, wanted: dict[str, Any]) -> list[StoredMessage]:
        return [
            StoredMessage(
                header(answer.headers, "Nats-Subject") or "",
                int(header(answer.headers, "Nats-Sequence") or 0),
                answer.headers,
                answer.data,
            )
            for answer in await self.api.direct_get(wanted)
        ]

    async def headers(self, subject: str, *, retry: bool = True) -> AsyncIterator[StoredMessage]:
        """Yields the messages of a subject without their data, in their order, from the stream's leader.

        Raises:
            Overloaded: it does not answer; without ``retry`` there is one request.
        """
        consumer = {
            "stream_name": self.name,
            "config": {
                "filter_subject": subject,
                "deliver_policy": "all",
                "ack_policy": "none",
                "headers_only": True,
                "mem_storage": True,
                "num_replicas": 1,
                "inactive_threshold": int(CONSUMER_S * 1e9),
            },
        }
        created = await self.api.call_checked("CONSUMER.CREATE", consumer, retry=retry)
        name, pending = created["name"], int(created["num_pending"])
        count = 0
        pull = json.dumps({"batch": HEADERS_BATCH, "no_wait": True}).encode()
        next_messages = f"{API}.CONSUMER.MSG.NEXT.{self.name}.{name}"
        try:
            while count < pending:
                most = min(HEADERS_BATCH, pending - count)
                answers = await self._bus.request_many(next_messages, pull, HEADERS_S, most)
                messages = [one for one in answers if one.reply]
                for one in messages:
                    yield StoredMessage(one.subject, _sequence(one.reply), one.headers, b"")
                if not messages:
                    break
                count += len(messages)
        except (BusLost, NoResponders) as error:
            raise unreachable() from error
        finally:
            self._delete_consumer(name)

    def _delete_consumer(self, name: str) -> None:
        try:
            self._bus.publish(f"{API}.CONSUMER.DELETE.{self.name}.{name}", b"")
        except BusDown:
            log.debug("NATS deletes the consumer %s", name)

    async def subjects(self, pattern: str, *, retry: bool = True) -> dict[str, int]:
        """Returns the subjects that match a pattern, with the number of messages of each.

        Raises:
            Overloaded: the leader does not answer; without ``retry`` there is one request.
        """
        found: dict[str, int] = {}
        while True:
            wanted = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self.api.call_checked("STREAM.INFO", wanted, retry=retry, pause_s=SLOW_PAUSE_S)
            more = answer["state"].get("subjects") or {}
            found.update(more)
            if not more or len(found) >= int(answer.get("total", 0)):
                return found

    async def nats_time(self) -> float:
        """Returns the time by which NATS expires messages, in seconds since 1970."""
        text = str((await self.api.call_checked("STREAM.INFO", {}))["ts"])
        return datetime.datetime.fromisoformat(text).timestamp()

    async def state(self) -> dict[str, Any]:
        """Returns the stream's state: ``messages``, ``bytes``, ``first_seq``, ``last_seq``, ``num_subjects``, ..."""
        state: dict[str, Any] = (await self.api.call_checked("STREAM.INFO", {}))["state"]
        return state


def _sequence(reply: str) -> int:
    """Returns a message's sequence, which is part of the subject that a consumer's reader would acknowledge to.

    ``$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>. ...``, with two more parts before the stream if there are
    domains or accounts.
    """
    parts = reply.split(".")
    return int(parts[5] if len(parts) < 12 else parts[7])
