"""Takes messages in: from clients and from other servers, as many of each as ``maxInFlight`` says.

A message becomes an :class:`~bester.core.model.Envelope`, and its type's handler is asked. What is beyond the limit
waits in its sender's backlog, in its order.
"""

from __future__ import annotations

from collections import deque

from bester.core.endpoint import Endpoint, Peer
from bester.core.limits import Limits
from bester.core.model import Envelope
from bester.core.once import OnceRecord, Waiting
from bester.core.repeats import Repeats
from bester.core.routing import Request, TypeRoute
from bester.core.rules import Allow
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BesterError, NotAllowed, ShuttingDown, TooManyHops
from bester.protocol.messages import Payload


class Intake(Repeats):
    """Who may send what, and when it is taken."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(server_name, limits, boot)
        self.draining = False
        """Whether new messages are refused because the server is stopping."""

    def message(
        self,
        origin: Endpoint,
        payload: Payload,
        size: int,
        hops: int = 0,
        once: bool = False,
        trace: str = "",
        trail: Trail | None = None,
    ) -> None:
        """A client or another server sent a message, of ``size`` bytes, for a type that is not the server's own.

        Args:
            origin: who sent it.
            payload: what is sent.
            size: of its frame, in bytes.
            hops: how many handlers and servers it went through.
            once: it is not handled again where it was before.
            trace: the W3C traceparent that came with it, checked.
            trail: takes its route; where that is ``dry``, nothing is done.
        """
        if once and (trail is None or not trail.dry):
            self._message_once(origin, Waiting(payload, size, hops, None, trace, trail))
        elif origin.in_flight < self.limits.max_in_flight and not origin.backlog:
            self._accept(origin, payload, size, hops, None, trace, trail)
        else:
            self._wait_in_line(origin, Waiting(payload, size, hops, None, trace, trail))

    def plain_message(self, origin: Endpoint, payload: Payload, size: int) -> None:
        """The same for a message that came from a client and asks for nothing: most do, and go the shortest way."""
        handlers = self.types.get(payload.type)
        if (
            handlers is None
            or handlers.rules.allow is not None
            or origin.in_flight >= self.limits.max_in_flight
            or origin.backlog
            or self.draining
        ):
            self.message(origin, payload, size)
            return
        origin.in_flight += 1
        self.counters.accepted += 1
        now = self.now
        envelope = Envelope(origin, payload.id, payload.type, now, handlers.metrics)
        self.hand(Request(envelope, handlers, payload.data, 0, now, size))

    def _message_once(self, origin: Endpoint, message: Waiting) -> None:
        record = message.record = self.begin_once(origin, message.payload)
        if record is None:
            if origin.closing:  # a classic server's connection has no other message
                self.close_if_quiet(origin)
            return
        if not record.recalling and origin.in_flight < self.limits.max_in_flight and not origin.backlog:
            self._take(origin, message)
        else:
            self._wait_in_line(origin, message)

    def _take(self, origin: Endpoint, message: Waiting) -> None:
        payload, size, hops = message.payload, message.size, message.hops
        self._accept(origin, payload, size, hops, message.record, message.trace, message.trail)

    def let_in(self, origin: Endpoint, message: Waiting) -> None:
        self.release(origin, message.size)
        record = message.record
        if record is not None and record.answer:
            self.tell(origin, record.answer)
        else:
            self._take(origin, message)

    def _accept(
        self,
        origin: Endpoint,
        payload: Payload,
        size: int,
        hops: int,
        record: OnceRecord | None,
        trace: str,
        trail: Trail | None,
    ) -> None:
        origin.in_flight += 1
        self.counters.accepted += 1
        handlers = self.types.get(payload.type)
        metrics = self.counters.by_type.others if handlers is None else handlers.metrics
        envelope = Envelope(origin, payload.id, payload.type, self.now, metrics)
        if record is not None or trace or trail is not None:
            envelope.once = record
            envelope.trace = trace
            envelope.trail = trail
            envelope.plain = record is None and trail is None
        if handlers is not None and handlers.rules.allow is None and not hops and not self.draining and trail is None:
            self.hand(Request(envelope, handlers, payload.data, 0, self.now, size))
        elif (error := self._refusal(origin, handlers, hops)) is None:
            assert handlers is not None
            self.hand_on(Request(envelope, handlers, payload.data, hops, self.now, size))
        else:
            envelope.error = error
            self.step_done(envelope)

    def _refusal(self, origin: Endpoint, handlers: TypeRoute | None, hops: int) -> BesterError | None:
        if handlers is None:
            return self.no_handler()
        if handlers.rules.allow is not None and not _allowed(handlers.rules.allow, origin):
            return NotAllowed("this sender may not send this type")
        if self.draining:
            return ShuttingDown()
        return TooManyHops() if hops > self.limits.max_hops else None

    def _wait_in_line(self, origin: Endpoint, message: Waiting) -> None:
        """Puts a message behind those of its sender that cannot be taken now."""
        if origin.backlog is None:
            origin.backlog = deque()
        origin.backlog.append(message)
        self.hold(origin, message.size)

    def admit(self, origin: Endpoint, backlog: deque[Waiting]) -> None:
        """Lets in what waited; in a loop of its own, because each message may be finished at once."""
        origin.admitting = True
        while backlog and origin.in_flight < self.limits.max_in_flight:
            record = backlog[0].record
            if record is None or not record.recalling:
                self.let_in(origin, backlog.popleft())
            elif record.elsewhere:
                record.aside = backlog.popleft()
                origin.in_flight += 1
            else:
                break
        origin.admitting = False
        if origin.closing:
            self.close_if_quiet(origin)


def _allowed(allow: Allow, origin: Endpoint) -> bool:
    if isinstance(origin, Session):
        return allow.accounts or origin.username in allow.names or not allow.roles.isdisjoint(origin.roles)
    return allow.servers or (isinstance(origin, Peer) and origin.name in allow.names)
