"""JetStream: the streams of a cluster, and the requests about them (``$JS.API.>``).

Everything is decided at once, in the turn of the loop in which a request comes; what a request does is on disk before
its answer is sent. :class:`~bester.lab.nats.faults.Fate` says what goes wrong.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import msgspec

from bester.lab.nats.answers import (
    RELEASE,
    Wanted,
    complete_config,
    find,
    read_directly,
    state_of,
    stored_message,
    time_text,
)
from bester.lab.nats.consumers import create_consumer, pull
from bester.lab.nats.errors import (
    BAD_REQUEST,
    INVALID_JSON,
    NAME_IN_USE,
    NO_CONSUMER,
    NO_MESSAGE,
    NO_PEERS,
    NO_ROOM,
    NO_SEQUENCE,
    NO_STREAM,
    NOT_AVAILABLE,
    NOT_CLUSTERED,
    OTHER_NAME,
    OVERLAP,
    Refused,
)
from bester.lab.nats.faults import USUAL, Fate, Fates
from bester.lab.nats.leaders import Leaders
from bester.lab.nats.routing import Member, Router
from bester.lab.nats.streams import Acked, Stream
from bester.lab.nats.subjects import overlap
from bester.lab.nats.wire import Message

T = TypeVar("T")
API = "$JS.API."
_TYPE = "io.nats.jetstream.api.v1."
_OF_JETSTREAM = ("INFO", "STREAM.CREATE", "STREAM.UPDATE")
"""The requests that JetStream's own leader answers."""
MAX_SUBJECTS = 100_000
"""How many subjects one STREAM.INFO lists."""
_LEVEL = {"_nats.level": "5", "_nats.ver": RELEASE}

_Answers = tuple[Member, str, list[Message]]
"""The server that answers, the subject that it answers to, and its answers."""


@dataclass(slots=True)
class Request:
    """A request of a client."""

    stream: str
    """The name of its stream; empty if it is about none."""
    rest: str
    """The subject's part after that."""
    wanted: Wanted
    data: bytes
    """Its JSON."""


class _StreamInterest:
    """A stream hears the subjects that it stores."""

    def __init__(self, jetstream: JetStream, stream: Stream, subject: str) -> None:
        self.subject = subject
        self.queue = ""
        self._jetstream = jetstream
        self._stream = stream

    def member(self) -> Member | None:
        return self._jetstream.leaders.of(self._stream)

    def deliver(self, message: Message, via: Member, origin: object) -> bool:
        return self._jetstream.published(self._stream, message)


class _ApiInterest:
    """A server hears the requests that its clients publish."""

    def __init__(self, jetstream: JetStream, member: Member) -> None:
        self.subject = f"{API}>"
        self.queue = ""
        self._jetstream = jetstream
        self._member = member

    def member(self) -> Member:
        return self._member

    def deliver(self, message: Message, via: Member, origin: object) -> bool:
        return via is self._member and self._jetstream.asked(message, via)


class JetStream:
    """The streams of a cluster.

    Args:
        router: the cluster's.
        leaders: the cluster's.
        random: makes the names of consumers.
        wall: the time in seconds since 1970, for timestamps.
        fates: what happens to each request.
        max_bytes: how much all streams may hold.
    """

    def __init__(
        self,
        router: Router,
        leaders: Leaders,
        random: Random,
        wall: Callable[[], float],
        fates: Fates,
        max_bytes: int,
    ) -> None:
        self.leaders = leaders
        self.streams: dict[str, Stream] = leaders.streams
        self._router = router
        self._random = random
        self._wall = wall
        self._fates = fates
        self._max_bytes = max_bytes
        self._context = contextvars.copy_context()
        self._interest: dict[str, list[_StreamInterest]] = {}
        self._methods: dict[str, tuple[str, Callable[[Request], dict[str, Any]]]] = {
            "INFO": ("account_info", self._info),
            "STREAM.CREATE": ("stream_create", self._create),
            "STREAM.UPDATE": ("stream_update", self._update),
            "STREAM.INFO": ("stream_info", self._stream_info),
            "STREAM.PURGE": ("stream_purge", self._purge),
            "STREAM.MSG.GET": ("stream_msg_get", self._get),
            "STREAM.MSG.DELETE": ("stream_msg_delete", self._delete_message),
            "CONSUMER.CREATE": ("consumer_create", self._create_consumer),
            "CONSUMER.DELETE": ("consumer_delete", self._delete_consumer),
        }

    def serve(self, member: Member) -> None:
        """Lets a server take requests."""
        self._router.add(_ApiInterest(self, member))

    # -- from and to the clients -------------------------------------------------------------------------------------

    def published(self, stream: Stream, message: Message) -> bool:
        """Takes a message for a stream, and acknowledges it; False if nobody hears it."""
        fate, leader = self._fates(message.subject), self.leaders.of(stream)
        if fate.nobody or leader is None:
            return False
        if not fate.ignored:
            self._answer(leader, message.reply, [Message(message.reply, "", b"", self._stored(stream, message))], fate)
        return True

    def asked(self, message: Message, via: Member) -> bool:
        """Takes a request, and answers it; False if nobody hears it."""
        fate = self._fates(message.subject)
        if fate.nobody:
            return False
        if not fate.ignored:
            try:
                found = self._answers(message, via)
            except Refused:
                return True  # it is not JSON, and answered by messages
            if found is None:
                return False
            self._answer(*found, fate)
        return True

    def _answer(self, by: Member, to: str, answers: list[Message], fate: Fate) -> None:
        if not to or fate.lost:
            return
        if fate.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(fate.delay_s, self._answer_late, by, by.starts, to, answers, context=self._context)
        else:
            for message in answers:
                self._router.publish(message, by, to=to)

    def _answer_late(self, by: Member, starts: int, to: str, answers: list[Message]) -> None:
        if by.running and by.starts == starts:
            self._answer(by, to, answers, USUAL)

    def _stored(self, stream: Stream, message: Message) -> bytes:
        """Stores a message, and returns the acknowledgement."""
        now = self._now()
        stream.expire(now)
        try:
            if sum(one.log.bytes for one in self.streams.values()) > self._max_bytes:
                raise Refused(NO_ROOM)
            acked = stream.publish(message, now, self._wall())
        except Refused as error:
            return msgspec.json.encode({"error": error.as_json(), "stream": stream.name, "seq": 0})
        return _acknowledgement(stream.name, acked) if acked is not None else b""

    def _answers(self, message: Message, via: Member) -> _Answers | None:
        """Does what a request asks for; None if nobody hears it."""
        method, stream_name, rest = _parts(message.subject[len(API) :])
        if method == "DIRECT.GET":
            return self._read_directly(stream_name, message, via)
        if method == "CONSUMER.MSG.NEXT":
            return self._pull(stream_name, rest, message, via)
        if method not in self._methods:
            return via, message.reply, []
        kind, handle = self._methods[method]
        answer: dict[str, Any] = {"type": f"{_TYPE}{kind}_response"}
        leader = self.leaders.jetstream(via)
        try:
            if leader is None:
                raise Refused(NOT_AVAILABLE)
            request = Request(stream_name, rest, _decoded(message.data, Wanted), message.data)
            if method not in _OF_JETSTREAM:
                leader = self.leaders.of(self._stream(stream_name))
                if not self._router.reaches(via, leader):
                    return via, message.reply, []
            answer |= handle(request)
        except Refused as error:
            answer["error"] = error.as_json()
        encoded = Message(message.reply, "", b"", msgspec.json.encode(answer))
        return leader or via, message.reply, [encoded]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _stream(self, name: str) -> Stream:
        found = self.streams.get(name)
        if found is None:
            raise Refused(NO_STREAM)
        found.expire(self._now())
        return found

    # -- JetStream itself --------------------------------------------------------------------------------------------

    def _info(self, request: Request) -> dict[str, Any]:
        used = sum(stream.log.bytes for stream in self.streams.values())
        return {"memory": 0, "storage": used, "streams": len(self.streams), "consumers": 0, "api": {"level": 5}}

    def _create(self, request: Request) -> dict[str, Any]:
        config = complete_config(_decoded(request.data, dict[str, Any]))
        before = self.streams.get(request.stream)
        if config["name"] != request.stream:
            raise Refused(OTHER_NAME)
        if before is not None:
            if before.config != config:
                raise Refused(NAME_IN_USE)
            return self._described(before) | {"did_create": True}
        self._check_overlap(config)
        replicas, members = int(config["num_replicas"]), self.leaders.members()
        if replicas > len(members):
            raise Refused(NO_PEERS if len(self._router.members) > 1 else NOT_CLUSTERED)
        stream = Stream(config, time_text(self._wall()), [])
        self.streams[config["name"]] = stream
        self.leaders.place(stream, replicas)
        self._listen(stream)
        return self._described(stream) | {"did_create": True}

    def _update(self, request: Request) -> dict[str, Any]:
        stream = self._stream(request.stream)
        config = complete_config(_decoded(request.data, dict[str, Any]))
        self._check_overlap(config)
        stream.configure(config)
        self._listen(stream)
        return self._described(stream)

    def _check_overlap(self, config: dict[str, Any]) -> None:
        for other in self.streams.values():
            if other.name != config["name"] and any(
                overlap(one, another) for one in config["subjects"] for another in other.config["subjects"]
            ):
                raise Refused(OVERLAP)

    def _listen(self, stream: Stream) -> None:
        """Lets a stream hear the subjects of its configuration, and no others."""
        for one in self._interest.pop(stream.name, []):
            self._router.remove(one)
        self._interest[stream.name] = [_StreamInterest(self, stream, one) for one in stream.config["subjects"]]
        for one in self._interest[stream.name]:
            self._router.add(one)

    def _described(self, stream: Stream) -> dict[str, Any]:
        config = stream.config | {"metadata": _LEVEL}
        found = {"config": config, "created": stream.created, "state": state_of(stream)}
        return found | {"ts": time_text(self._wall())}

    # -- one stream --------------------------------------------------------------------------------------------------

    def _stream_info(self, request: Request) -> dict[str, Any]:
        stream = self._stream(request.stream)
        described = self._described(stream) | {"cluster": self.leaders.described(stream)}
        pattern, offset = request.wanted.subjects_filter, request.wanted.offset
        counts = stream.log.counts(pattern) if pattern else {}
        if counts:
            some = dict(list(counts.items())[offset : offset + MAX_SUBJECTS])
            described["state"] = state_of(stream, some)
        limit = MAX_SUBJECTS if counts else 0
        return {"total": len(counts), "offset": offset, "limit": limit} | described

    def _purge(self, request: Request) -> dict[str, Any]:
        log, wanted = self._stream(request.stream).log, request.wanted
        if wanted.keep and wanted.seq:
            raise Refused(BAD_REQUEST)
        found = list(log.after(1, wanted.filter or ">"))
        if wanted.keep:
            found = found[: -wanted.keep]
        elif wanted.seq:
            found = [one for one in found if one.sequence < wanted.seq]
        for one in found:
            log.remove(one)
        return {"success": True, "purged": len(found)}

    def _get(self, request: Request) -> dict[str, Any]:
        stream, wanted = self._stream(request.stream), request.wanted
        if not (wanted.seq or wanted.last_by_subj or wanted.next_by_subj):
            raise Refused(BAD_REQUEST)
        stored = find(stream.log, wanted)
        if stored is None:
            raise Refused(NO_MESSAGE)
        return {"message": stored_message(stored)}

    def _delete_message(self, request: Request) -> dict[str, Any]:
        log, sequence = self._stream(request.stream).log, request.wanted.seq
        stored = log.messages.get(sequence)
        if stored is None:
            raise Refused(NO_SEQUENCE, sequence)
        log.remove(stored)
        return {"success": True}

    def _read_directly(self, stream_name: str, message: Message, via: Member) -> _Answers | None:
        stream = self.streams.get(stream_name)
        replica = self.leaders.replica(stream, via) if stream is not None else None
        if stream is None or replica is None or not stream.config["allow_direct"]:
            return None
        stream.expire(self._now())
        log = stream.seen_by(replica.name)
        return replica, message.reply, [*read_directly(stream_name, log, _decoded(message.data, Wanted), message.reply)]

    # -- consumers ---------------------------------------------------------------------------------------------------

    def _create_consumer(self, request: Request) -> dict[str, Any]:
        stream = self._stream(request.stream)
        name = request.rest.partition(".")[0] or f"{self._random.getrandbits(40):010x}"
        return create_consumer(stream, name, request.wanted.config, self._now(), self._wall())

    def _delete_consumer(self, request: Request) -> dict[str, Any]:
        if self._stream(request.stream).consumers.pop(request.rest, None) is None:
            raise Refused(NO_CONSUMER)
        return {"success": True}

    def _pull(self, stream_name: str, consumer_name: str, message: Message, via: Member) -> _Answers | None:
        stream = self.streams.get(stream_name)
        leader = self.leaders.of(stream) if stream is not None else None
        if stream is None or leader is None or not self._router.reaches(via, leader):
            return None
        stream.expire(self._now())
        consumer = stream.consumers.get(consumer_name)
        if consumer is None:
            return None
        found = pull(stream, consumer, _decoded(message.data, Wanted), message.reply, self._now())
        return leader, message.reply, [*found]


def _parts(subject: str) -> tuple[str, str, str]:
    """Returns a request's method, its stream, and the rest of its subject."""
    tokens = subject.split(".")
    count = 3 if tokens[1:2] == ["MSG"] else min(2, len(tokens))
    method, names = ".".join(tokens[:count]), tokens[count:]
    return method, names[0] if names else "", ".".join(names[1:])


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise Refused(INVALID_JSON) from error


def _acknowledgement(stream: str, acked: Acked) -> bytes:
    found: dict[str, Any] = {"stream": stream, "seq": acked.sequence}
    if acked.duplicate:
        found["duplicate"] = True
    if acked.batch:
        found |= {"batch": acked.batch, "count": acked.count}
    return msgspec.json.encode(found)
