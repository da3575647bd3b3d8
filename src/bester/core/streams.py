"""Streams: messages whose senders take the answer in parts (docs/protocol.md, sections 2.9 and 6.7).

A stream begins when its message comes, and ends with the message's report. In between, at most one request of the
message *has* it: the first one that a handler with the feature ``parts`` is asked, and after its last answer the next
such request. Whoever has the stream uses up its credit, reply by reply.

All envelopes with a stream are tracked, so that other messages pay nothing for this.
"""

from __future__ import annotations

from bester.core.batch import Batch
from bester.core.effects import TellHandler
from bester.core.endpoint import Endpoint
from bester.core.model import Envelope
from bester.core.routing import AttachedHandler, Question, RemoteHandler, Request
from bester.errors import BadResponse, BesterError, Cancelled, HandlerTimeout, IdConflict
from bester.protocol import frames
from bester.protocol.messages import MAX_PARTS

GRANT_S = 300.0
"""How long a sender may leave a handler without credit. The handler's time limit does not run meanwhile."""


class Stream:
    """One message whose sender takes parts."""

    __slots__ = (
        "credit",
        "handler",
        "key",
        "origin",
        "parts",
        "recipients",
        "request",
        "request_id",
        "since",
        "untold",
    )

    def __init__(self, origin: Endpoint, key: bytes, credit: int) -> None:
        self.origin = origin
        self.key = key
        """What its sender calls it: the message's id as JSON, or another node's number."""
        self.credit = credit
        """How many more replies are granted."""
        self.untold = 0
        """How many of those the handler has not been told of."""
        self.request: Request | None = None
        """The request that has the stream, if any."""
        self.request_id = ""
        self.handler: AttachedHandler | None = None
        """The handler that was asked."""
        self.since = 0.0
        """When it was asked; the request has the time of the last part."""
        self.parts = 0
        """How many parts have come."""
        self.recipients = 0
        """How many recipients they have named."""


class Streams:
    """The streams that are under way, and what their handlers are told."""

    __slots__ = ("_by_envelope", "_by_origin", "_cancelled", "_granted", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._by_envelope: dict[Envelope, Stream] = {}
        self._by_origin: dict[Endpoint, dict[bytes, Stream]] = {}
        self._granted: dict[Stream, None] = {}
        """Streams whose handlers are to be told of credit."""
        self._cancelled: dict[Request, None] = {}
        """Requests whose handlers were told that they are cancelled."""

    def __len__(self) -> int:
        return sum(map(len, self._by_origin.values()))

    # -- from the message to its report --------------------------------------------------------------------------

    def begin(self, origin: Endpoint, key: bytes, credit: int) -> None:
        """Begins the stream of a new message, which is admitted next or waits for that.

        Raises:
            IdConflict: the sender calls another one so.
        """
        of_origin = self._by_origin.setdefault(origin, {})
        if key in of_origin:
            raise IdConflict("another message with header.parts and this id has no report yet")
        of_origin[key] = Stream(origin, key, credit)

    def admitted(self, origin: Endpoint, key: bytes, envelope: Envelope) -> None:
        """Gives a stream its envelope, which must be tracked."""
        self._by_envelope[envelope] = self._by_origin[origin][key]

    def finished(self, envelope: Envelope) -> None:
        """Ends an envelope's stream, if it has one: it is reported."""
        stream = self._by_envelope.pop(envelope, None)
        if stream is not None:
            of_origin = self._by_origin[stream.origin]
            del of_origin[stream.key]
            if not of_origin:
                del self._by_origin[stream.origin]
            self._granted.pop(stream, None)

    def has(self, envelope: Envelope) -> bool:
        """Whether an envelope has a stream."""
        return envelope in self._by_envelope

    def has_any(self, origin: Endpoint) -> bool:
        """Whether a sender has a stream."""
        return origin in self._by_origin

    # -- requests ------------------------------------------------------------------------------------------------

    def asked(self, handler: AttachedHandler, request: Request, id: str) -> int:
        """A request is written; returns the credit that it takes along, or -1 if its answer must not come in parts."""
        stream = self._by_envelope.get(request.envelope)
        if stream is None or stream.request is not None or not handler.parts or isinstance(request, Question):
            return -1
        stream.request = request
        stream.request_id = id
        stream.handler = handler
        stream.since = request.since
        stream.untold = 0
        return stream.credit

    def answered(self, request: Request) -> bool:
        """A tracked request has its last answer, or has failed; returns whether its handler was told to cancel it."""
        stream = self._by_envelope.get(request.envelope)
        if stream is not None and stream.request is request:
            request.since = stream.since
            stream.request = stream.handler = None
        if request in self._cancelled:
            del self._cancelled[request]
            return True
        return False

    def take_part(self, request: Request, replies: int, recipients: int) -> None:
        """Uses up credit for a part of a request's answer.

        Raises:
            BadResponse: there is none, or the message has too many parts or recipients.
        """
        limits = self.batch.limits
        stream = self._by_envelope.get(request.envelope)
        if stream is None or stream.request is not request or replies > stream.credit:
            raise BadResponse("a part that was not granted")
        if stream.parts >= limits.max_parts:
            raise BadResponse(f"more than {limits.max_parts} parts of one answer")
        stream.recipients += recipients
        if stream.recipients > limits.max_recipients:
            raise BadResponse(f"more than {limits.max_recipients} recipients in the parts of one answer")
        stream.credit -= replies
        stream.parts += 1
        request.since = self.batch.now

    # -- what handlers are told ----------------------------------------------------------------------------------

    def grant(self, origin: Endpoint, key: bytes, parts: int) -> None:
        """The sender of a message takes more parts; its handler is told at the end of the batch."""
        stream = self._by_origin.get(origin, {}).get(key)
        if stream is None:
            return
        if not stream.credit and stream.request is not None:
            stream.request.since = self.batch.now  # its handler had to wait
        parts = min(parts, MAX_PARTS - stream.credit)
        stream.credit += parts
        stream.untold += parts
        self._granted[stream] = None
        self.batch.freed[origin] = None

    def tell_granted(self) -> None:
        """Tells handlers of credit: one frame for each stream, and none to a handler that does not read."""
        if not self._granted:
            return
        for stream in list(self._granted):
            handler = stream.handler
            if handler is not None and handler.blocked:
                continue
            del self._granted[stream]
            if handler is None or not stream.untold:
                continue
            if isinstance(handler, RemoteHandler):
                self.batch.effects.append(TellHandler(handler, int(stream.request_id), stream.untold))
            else:
                self.batch.write(handler, frames.more(stream.request_id, stream.untold))
            stream.untold = 0

    def cancel(self, handler: AttachedHandler, request: Request, id: str) -> None:
        """Tells a handler that a request is cancelled that it has, if it knows what that is; and only once."""
        if isinstance(handler, RemoteHandler):
            if handler.cancels:
                self.batch.effects.append(TellHandler(handler, int(id)))
        elif handler.cancels and request not in self._cancelled:
            request.envelope.untracked = False
            self._cancelled[request] = None
            self.batch.write(handler, frames.cancel(id))

    # -- time ----------------------------------------------------------------------------------------------------

    def is_over(self, request: Request) -> bool:
        """Whether a handler has had a request for longer than the time limit, which does not run without credit."""
        waited_s = self.batch.now - request.since
        return waited_s >= request.route.rules.timeout_s and (waited_s >= GRANT_S or not self._without_credit(request))

    def give_up(self, handler: AttachedHandler, request: Request, id: str) -> BesterError:
        """Returns why a request fails whose time is over; tells the handler, if the request has a stream."""
        stream = self._by_envelope.get(request.envelope)
        if stream is not None and stream.request is request:
            self.cancel(handler, request, id)
        if self._without_credit(request):
            return Cancelled("the sender granted no further part for too long")
        return HandlerTimeout()

    def _without_credit(self, request: Request) -> bool:
        stream = self._by_envelope.get(request.envelope)
        return stream is not None and stream.request is request and not stream.credit
