"""One stream of JetStream: what its server is asked, and what is done while it does not answer.

What was asked when the connection or the stream's leader was lost has an outcome that nobody knows, so it is asked
again, for a while (``asking.py``): everything here can be done twice. Who is asked about the newest state is the
stream's leader (:meth:`Stream.last`, :meth:`Stream.get`); pages are read from any replica, which may be behind, and so
it is the leader who says that there is nothing more.
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
from bester.bus.headers import header, header_block
from bester.bus.requests import Answer
from bester.errors import BadConfiguration, Internal, Overloaded, StorageFull
from bester.store.jetstream.asking import AGAIN_S, Asking, Away, heard
from bester.store.jetstream.writing import Gathering, Put

log = logging.getLogger("bester.jetstream")

API = "$JS.API"
HEADS = 1000
"""Messages without their data that are read at once."""
HEADS_S = 1.0
CONSUMER_S = 10.0
"""How long NATS keeps what reads them, should nobody end it."""
READ_AGAIN_S = 0.5
"""How often it is asked again for many messages."""
MULTI = 512
"""Subjects that are asked for at once."""
IN_PROCESS_S = 0.05
IN_PROCESS_TRIES = 100
"""How long it is waited for another write to the same subject, which is not done yet, and how often."""
PEERS_S = 10.0
"""How long NATS servers are given to find enough of each other for a stream's replicas."""
SLOWLY_S = 2.0
"""How often it is asked again for what takes NATS long."""

_PER_SUBJECT_FULL = "maximum messages per subject exceeded"
_WRONG_SEQUENCE = 10071
_NAME_IN_USE = 10058
_OVERLAPS = 10065
_IN_PROCESS = 10164
_NO_PEERS = 10005
_NO_ROOM = frozenset({10023, 10047})


class Repeated(Exception):
    """There is a message of that subject already."""


class Conflict(Exception):
    """The subject's last message is not the one that was expected."""


class Stored(NamedTuple):
    """A message of a stream."""

    subject: str
    position: int
    """Its sequence: grows with each message of the stream, and never comes back."""
    headers: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a stream is to be."""

    name: str
    subjects: str
    replicas: int = 1
    max_age_s: float = 0.0
    max_messages: int = -1
    ttl: bool = False
    """Whether messages may have lifetimes of their own."""
    many: bool = False
    """Whether a subject has many messages; else a new one takes the place of the old one."""
    refuse_repeats: bool = False
    """Whether instead of that the new one is refused."""


class Stream:
    """A stream; made, if it is not there, by :meth:`open`."""

    def __init__(self, bus: Bus, wanted: Wanted) -> None:
        self.bus = bus
        self.wanted = wanted
        self.name = wanted.name
        self._writing = Asking(bus, f"the stream {self.name}, which is written to,")
        self._asking = Asking(bus, f"the stream {self.name}")
        self._making = Asking(bus, f"JetStream, for the stream {self.name},")
        self._reading = Asking(bus, f"the stream {self.name}, any replica of it,")
        self.gathering = Gathering(bus, self._write_alone)

    async def open(self) -> None:
        """Makes it, or sees that it is as it should be.

        Raises:
            BadConfiguration: it cannot be made, or be as wanted.
        """
        wanted = self.wanted
        config: dict[str, Any] = {
            "name": wanted.name,
            "subjects": [wanted.subjects],
            "storage": "file",
            "retention": "limits",
            "num_replicas": wanted.replicas,
            "max_msgs_per_subject": -1 if wanted.many else 1,
            "max_age": int(wanted.max_age_s * 1e9),
            "max_msgs": wanted.max_messages,
            "discard": "new" if wanted.refuse_repeats else "old",
            "discard_new_per_subject": wanted.refuse_repeats,
            "allow_direct": True,
            "allow_msg_ttl": wanted.ttl,
            "allow_atomic": True,
        }
        try:
            made = await self._create(config)
            if made.get("error", {}).get("err_code") == _NAME_IN_USE:
                made = await self._api("STREAM.UPDATE", config)
        except Overloaded as error:
            raise BadConfiguration(
                f"the stream {self.name} cannot be made: JetStream does not answer; is it on (jetstream: {{}} in the "
                "NATS server's configuration), and are most of the NATS servers there?"
            ) from error
        if made.get("error", {}).get("err_code") == _OVERLAPS:
            raise BadConfiguration(
                f"the stream {self.name} cannot be made: what is kept already is divided among another number of "
                "streams; cluster.partitions is the same at all nodes, and for good"
            )
        if "error" in made:
            text = made["error"].get("description", "")
            hint = "cluster.replicas must not be more than the NATS servers, which need room on their disks"
            if "not enabled" in text:
                hint = "JetStream must be on for the account that nodes enter"
            raise BadConfiguration(f"the stream {self.name} cannot be used: {text}; {hint}")
        self.gathering.atomic = made.get("config", {}).get("allow_atomic") is True

    async def _create(self, config: dict[str, Any]) -> dict[str, Any]:
        """Asks for the stream; waits a while for NATS servers that have only just met, and do not know all yet."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PEERS_S
        while True:
            made = await self._api("STREAM.CREATE", config)
            if made.get("error", {}).get("err_code") != _NO_PEERS or clock() >= deadline:
                return made
            await asyncio.sleep(AGAIN_S)

    def close(self) -> None:
        """Nothing more is asked."""
        for asking in (self._writing, self._asking, self._making, self._reading):
            asking.close()

    # -- writing -------------------------------------------------------------------------------------------------

    def put(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> asyncio.Future[int]:
        """Begins to write a message, after those that were begun before; returns what waits for its position.

        Raises (when awaited):
            Repeated, Conflict: as the stream, or the headers, say.
            StorageFull: NATS has no room for it.
            Overloaded: NATS does not answer; it may be there or not.
        """
        self._writing.check_open()
        put = Put(subject, data, headers or {}, asyncio.get_running_loop().create_future())
        self.gathering.add(put)
        return put.done

    async def _write_alone(self, put: Put) -> int:
        block = header_block(put.headers) if put.headers else b""

        async def ask(timeout_s: float) -> dict[str, Any]:
            said = heard(await self.bus.request(put.subject, put.data, block, timeout_s))
            if said.get("error", {}).get("description") == _PER_SUBJECT_FULL and await self.last(put.subject) is None:
                # Our own first try stands in the way, at a leader that is cut off and will never keep it.
                raise Away
            return said

        answer = await self._writing.insist(ask)
        for _ in range(IN_PROCESS_TRIES):  # it may be our own, whose answer was lost
            if answer.get("error", {}).get("err_code") != _IN_PROCESS:
                break
            await asyncio.sleep(IN_PROCESS_S)
            answer = await self._writing.insist(ask)
        error = answer.get("error")
        if error is not None:
            self._refuse(error)
        return int(answer["seq"])

    def _refuse(self, error: dict[str, Any]) -> None:
        text, code = str(error.get("description", "")), error.get("err_code")
        if code == _WRONG_SEQUENCE:
            raise Conflict
        if text == _PER_SUBJECT_FULL:
            raise Repeated
        if code == _IN_PROCESS:
            raise Overloaded("what this server keeps is being written by others")
        if code in _NO_ROOM or "maximum" in text or "insufficient" in text or "no space" in text:
            log.error("the stream %s takes nothing more: %s", self.name, text)
            raise StorageFull
        log.error("the stream %s refuses a message: %s", self.name, text)
        raise Internal

    async def delete(self, position: int) -> bool:
        """Removes one message; False if it was not there."""
        answer = await self._api("STREAM.MSG.DELETE", {"seq": position, "no_erase": True})
        return "error" not in answer

    async def purge(self, subject: str) -> int:
        """Removes all messages of a subject, and returns how many there were."""
        answer = self._checked(await self._api("STREAM.PURGE", {"filter": subject}))
        return int(answer.get("purged", 0))

    async def keep(self, messages: int) -> None:
        """Removes the oldest messages beyond a number."""
        self._checked(await self._api("STREAM.PURGE", {"keep": messages} if messages else {}))

    async def purge_up_to(self, position: int) -> None:
        """Removes all messages up to a position."""
        self._checked(await self._api("STREAM.PURGE", {"seq": position + 1}))

    # -- reading -------------------------------------------------------------------------------------------------

    async def last(self, subject: str) -> Stored | None:
        """Returns the last message of a subject, as the stream's leader knows it."""
        return self._stored(await self._api("STREAM.MSG.GET", {"last_by_subj": subject}))

    @property
    def silent(self) -> bool:
        """Whether its leader did not answer a moment ago."""
        return self._asking.silent or self._writing.silent

    async def last_known(self, subject: str) -> tuple[Stored | None, bool]:
        """Returns the last message of a subject, and whether that is sure: while there is no leader, a replica is
        believed that has one."""
        try:
            answer = await self._api("STREAM.MSG.GET", {"last_by_subj": subject}, once=True)
        except Overloaded:
            found = await self.lasts([subject])
            return (found[0], False) if found else (await self.last(subject), True)
        return self._stored(answer), True

    async def get(self, position: int) -> Stored | None:
        """Returns the message at a position, as the stream's leader knows it."""
        return self._stored(await self._api("STREAM.MSG.GET", {"seq": position}))

    def _stored(self, answer: dict[str, Any]) -> Stored | None:
        message = answer.get("message")
        if message is None:
            if answer.get("error", {}).get("code") == 404:
                return None
            self._checked(answer)
            return None
        headers = base64.b64decode(message.get("hdrs") or "")
        return Stored(message["subject"], int(message["seq"]), headers, base64.b64decode(message.get("data") or ""))

    async def page(
        self, subject: str, after: int, limit: int, max_bytes: int = 0, *, sure: bool = True
    ) -> list[Stored]:
        """Returns messages of a subject (``*`` and ``>`` stand for many) behind a position, in their order.

        Args:
            subject: which.
            after: the position.
            limit: how many at most.
            max_bytes: about how much at most, but at least one message; 0: as much as there is.
            sure: whether it is waited for a leader, who knows if there is nothing more; else a replica is believed.
        """
        asked: dict[str, Any] = {"next_by_subj": subject, "seq": after + 1, "batch": limit}
        if max_bytes:
            asked["max_bytes"] = max_bytes
        found = await self._direct(asked)
        if found or self.wanted.replicas == 1:
            return found
        try:
            answer = await self._api("STREAM.MSG.GET", {"next_by_subj": subject, "seq": after + 1}, once=not sure)
        except Overloaded:
            if sure:
                raise
            return []
        first = self._stored(answer)
        return [first] if first is not None else []

    async def between(self, subject: str, first: int, last: int, limit: int, max_bytes: int) -> list[Stored]:
        """Returns what a replica has of a subject from one position to another, as :meth:`page` does, once."""
        asked = {"next_by_subj": subject, "seq": first, "batch": limit, "max_bytes": max_bytes}
        return [one for one in await self._direct(asked) if one.position <= last]

    async def lasts(self, subjects: Sequence[str]) -> list[Stored]:
        """Returns the last messages of many subjects, where they have any, in the stream's order."""
        found: list[Stored] = []
        for begin in range(0, len(subjects), MULTI):
            some = list(subjects[begin : begin + MULTI])
            found += await self._direct({"multi_last": some, "batch": len(some)})
        return found

    async def _direct(self, asked: dict[str, Any]) -> list[Stored]:
        subject, data = f"{API}.DIRECT.GET.{self.name}", json.dumps(asked).encode()

        async def ask(timeout_s: float) -> list[Answer]:
            found = await self.bus.request_many(subject, data, timeout_s)
            status = found[-1].headers[:12]
            if status not in (b"NATS/1.0 204", b"NATS/1.0 404"):
                log.error("the stream %s cannot be read: %s", self.name, found[-1].headers[:200])
                raise Internal
            return found

        answers = await self._reading.insist(ask, READ_AGAIN_S)
        return [
            Stored(
                header(answer.headers, "Nats-Subject") or "",
                int(header(answer.headers, "Nats-Sequence") or 0),
                answer.headers,
                answer.data,
            )
            for answer in answers[:-1]
        ]

    async def heads(self, subject: str, *, once: bool = False) -> AsyncIterator[Stored]:
        """Yields the messages of a subject without their data, in their order, as the stream's leader has them.

        Raises:
            Overloaded: it cannot be asked now; with ``once`` it is asked once.
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
        made = self._checked(await self._api("CONSUMER.CREATE", consumer, once=once))
        name, pending = made["name"], int(made["num_pending"])
        count = 0
        pull = json.dumps({"batch": HEADS, "no_wait": True}).encode()
        try:
            while count < pending:
                asked = f"{API}.CONSUMER.MSG.NEXT.{self.name}.{name}"
                answers = await self.bus.request_many(asked, pull, HEADS_S, min(HEADS, pending - count))
                more = [one for one in answers if one.reply]
                for one in more:
                    yield Stored(one.subject, _position(one.reply), one.headers, b"")
                if not more:
                    break
                count += len(more)
        except (BusLost, NoResponders) as error:
            raise Overloaded("what this server keeps cannot be reached now") from error
        finally:
            self._drop(name)

    def _drop(self, consumer: str) -> None:
        try:
            self.bus.publish(f"{API}.CONSUMER.DELETE.{self.name}.{consumer}", b"")
        except BusDown:
            log.debug("the consumer %s is left to NATS", consumer)

    async def subjects(self, subject: str, *, once: bool = False) -> dict[str, int]:
        """Returns the subjects that match, with how many messages each has.

        Raises:
            Overloaded: that cannot be known now; with ``once`` it is asked once.
        """
        found: dict[str, int] = {}
        while True:
            asked = {"subjects_filter": subject, "offset": len(found)}
            answer = self._checked(await self._api("STREAM.INFO", asked, once=once, again_s=SLOWLY_S))
            more = answer["state"].get("subjects") or {}
            found.update(more)
            if not more or len(found) >= int(answer.get("total", 0)):
                return found

    async def nats_time(self) -> float:
        """Returns what time it is where NATS expires messages, in seconds since 1970."""
        told = str(self._checked(await self._api("STREAM.INFO", {}))["ts"])
        return datetime.datetime.fromisoformat(told).timestamp()

    async def info(self) -> dict[str, Any]:
        """Returns the stream's state: ``messages``, ``bytes``, ``first_seq``, ``last_seq``, ``num_subjects``, ..."""
        state: dict[str, Any] = self._checked(await self._api("STREAM.INFO", {}))["state"]
        return state

    # -- asking --------------------------------------------------------------------------------------------------

    async def _api(
        self, what: str, body: dict[str, Any], *, once: bool = False, again_s: float = AGAIN_S
    ) -> dict[str, Any]:
        """Asks the stream's leader; what is made, NATS's own leader of all streams makes."""
        subject, data = f"{API}.{what}.{self.name}", json.dumps(body).encode()

        async def ask(timeout_s: float) -> dict[str, Any]:
            return heard(await self.bus.request(subject, data, timeout_s=timeout_s))

        asking = self._making if what.endswith(("CREATE", "UPDATE")) else self._asking
        return await (asking.once(ask) if once else asking.insist(ask, again_s))

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        error = answer.get("error")
        if error is not None:
            log.error("the stream %s: %s", self.name, error.get("description"))
            raise Internal
        return answer


def _position(reply: str) -> int:
    """Returns a message's sequence, which stands in what a consumer's reader would acknowledge to.

    ``$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>. ...``, with two parts more before the stream where there are
    domains or accounts.
    """
    parts = reply.split(".")
    return int(parts[5] if len(parts) < 12 else parts[7])
