"""Admission: takes messages from clients and other servers, as many of each sender as ``maxInFlight`` allows.

A message becomes an :class:`~bester.core.model.Envelope`, and its type's handler is asked. Messages beyond the limit
wait in their sender's backlog, in order, until fewer of the sender's messages are under way.

A ``once`` message (docs/protocol.md, section 4) leaves a record (:mod:`bester.core.once`), and is not handled again.
If the disk may hold a record of an earlier one, the server first looks there and asks its other nodes; meanwhile, later
messages of the same sender wait. A repeat gets the report of the first message, as soon as there is one. If the first
message is under way at another node, the repeat steps aside until that node has the report or has forgotten the
message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bester.core.batch import Batch
from bester.core.delivery import Deliveries
from bester.core.dispatch import Dispatcher
from bester.core.effects import Finished, Recall, Remember
from bester.core.endpoint import Consented, Endpoint, Peer
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceMemory, OnceRecord, Waiting, new_record
from bester.core.reports import Reports
from bester.core.routing import Request, TypeRoute
from bester.core.rules import Allow
from bester.core.session import Session
from bester.core.traces import Traces
from bester.core.trail import Trail
from bester.errors import BesterError, Cancelled, IdConflict, NotAllowed, Overloaded, ShuttingDown, TooManyHops
from bester.protocol import frames
from bester.protocol.messages import Data


class Admission:
    """Decides which messages are taken, and when."""

    __slots__ = (
        "_backlogs",
        "batch",
        "deliveries",
        "dispatcher",
        "draining",
        "may_recall",
        "once",
        "reports",
        "traces",
        "types",
    )

    def __init__(
        self,
        batch: Batch,
        reports: Reports,
        dispatcher: Dispatcher,
        deliveries: Deliveries,
        traces: Traces,
        once: OnceMemory,
    ) -> None:
        self.batch = batch
        self.reports = reports
        self.dispatcher = dispatcher
        self.types = dispatcher.types
        self.deliveries = deliveries
        self.traces = traces
        self.once = once
        self.draining = False
        """Whether new messages are refused because the server is stopping."""
        self.may_recall: Callable[[bytes], bool] = _never
        """Tells whether the disk may hold a record with a ``once`` message's key."""
        self._backlogs: dict[Endpoint, deque[Waiting]] = {}
        """Messages beyond ``max_in_flight``, by sender, oldest first."""

    # -- incoming messages ---------------------------------------------------------------------------------------

    def message(
        self,
        origin: Endpoint,
        type: str,
        id: bytes,
        data: Data,
        size: int,
        hops: int = 0,
        once: bool = False,
        trace: str = "",
        trail: Trail | None = None,
        parts: bool = False,
    ) -> None:
        """A client or another server has sent a message for a type that is not the server's own.

        Args:
            origin: the sender.
            type, id, data: the message; the id as JSON.
            size: the size of its frame, in bytes.
            hops: how many handlers and servers it went through.
            once: whether a repeat of it is not to be handled again.
            trace: the W3C traceparent that came with it, checked.
            trail: records its route; in a ``dry`` run, nothing is done.
            parts: whether a stream was begun for it, because its sender takes the answer in parts.
        """
        if self.traces.on:
            trace, trail = self.traces.begin(trace, trail, self.batch.now)
        message = Waiting(type, id, data, size, hops, trace, trail, None, parts)
        if once and (trail is None or not trail.dry):
            record = message.record = self._begin_once(origin, message)
            if record is None:
                self.batch.fewer_under_way(origin)  # a classic server's connection has no other message
                return
            if record.recalling:
                self._wait(origin, message)
                return
        if origin.in_flight < self.batch.limits.max_in_flight and not origin.backlog:
            self._take(origin, message)
        else:
            self._wait(origin, message)

    def untracked_message(self, origin: Endpoint, type: str, id: bytes, data: Data, size: int) -> None:
        """A client has sent a message with an empty header; most are such, and take the shortest path."""
        batch = self.batch
        route = self.types.get(type)
        if (
            route is None
            or route.rules.allow is not None
            or route.gate is not None
            or origin.in_flight >= batch.limits.max_in_flight
            or origin.backlog
            or self.draining
            or self.traces.on
        ):
            self.message(origin, type, id, data, size)
            return
        origin.in_flight += 1
        batch.counters.accepted += 1
        now = batch.now
        envelope = Envelope(origin, id, type, now, route.metrics)
        self.dispatcher.hand(Request(envelope, route, data, 0, now, size))

    def _take(self, origin: Endpoint, message: Waiting, error: BesterError | None = None) -> None:
        """Makes an envelope of a message and hands it to its handler, or reports why not: the ``error``, or another."""
        batch = self.batch
        trail = message.trail
        origin.in_flight += 1
        batch.counters.accepted += 1
        route = self.types.get(message.type)
        metrics = batch.counters.by_type.others if route is None else route.metrics
        envelope = Envelope(origin, message.id, message.type, batch.now, metrics)
        envelope.once = message.record
        envelope.trace = message.trace
        envelope.trail = trail
        envelope.untracked = message.record is None and trail is None and not message.parts
        if message.parts:
            self.dispatcher.streams.admitted(origin, message.id, envelope)
            self.traces.of(envelope)  # with a trace of its own its requests are not made the quick way
        error = error or self._refusal(origin, route, message.hops)
        if error is None:
            assert route is not None
            request = Request(envelope, route, message.data, message.hops, batch.now, message.size)
            if route.gate is None:
                self.dispatcher.hand_on(request)
            else:
                route.gate(request)
        else:
            envelope.error = error
            self.reports.step_done(envelope)

    def _refusal(self, origin: Endpoint, route: TypeRoute | None, hops: int) -> BesterError | None:
        """Returns why a message is not taken: no handler, not allowed, stopping, too many hops; None if it is."""
        if route is None:
            return self.dispatcher.no_handler()
        if route.rules.allow is not None and not may_send(route.rules.allow, origin):
            return NotAllowed("this sender may not send this type")
        if self.draining:
            return ShuttingDown()
        return TooManyHops() if hops > self.batch.limits.max_hops else None

    # -- the backlog ---------------------------------------------------------------------------------------------

    def _wait(self, origin: Endpoint, message: Waiting) -> None:
        """Appends a message to its sender's backlog."""
        backlog = self._backlogs.get(origin)
        if backlog is None:
            backlog = self._backlogs[origin] = deque()
        backlog.append(message)
        origin.backlog += 1
        self.batch.hold(origin, message.size)

    def admit_waiting(self) -> None:
        """Takes messages from the backlogs of senders that have room again, and finishes endpoints that are closing."""
        batch = self.batch
        freed = batch.freed
        while freed:
            origin = next(iter(freed))
            del freed[origin]  # one by one: what goes wrong with one sender is not the others' loss
            backlog = self._backlogs.get(origin)
            if backlog is not None:
                self._admit(origin, backlog)
            if origin.closing and not origin.busy and origin not in freed:
                batch.effects.append(Finished(origin))

    def _admit(self, origin: Endpoint, backlog: deque[Waiting]) -> None:
        """Takes messages from a backlog, in order, while their sender has room."""
        while backlog and origin.in_flight < self.batch.limits.max_in_flight:
            record = backlog[0].record
            if record is None or not record.recalling:
                self._let_in(origin, self._next(origin, backlog))
            elif record.under_way_remotely:
                record.aside = self._next(origin, backlog)
                origin.in_flight += 1
            else:
                break
        if not backlog:
            self._backlogs.pop(origin, None)

    def _next(self, origin: Endpoint, backlog: deque[Waiting]) -> Waiting:
        origin.backlog -= 1
        return backlog.popleft()

    def _let_in(self, origin: Endpoint, message: Waiting) -> None:
        """Takes a message from the backlog, or answers it with the report of an earlier time."""
        self.batch.release(origin, message.size)
        record = message.record
        if record is not None and record.answer:
            self.batch.tell(origin, record.answer)
        else:
            self._take(origin, message)

    def cancel_waiting(self, origin: Endpoint, ids: set[bytes], *, streams: bool) -> None:
        """Reports messages in a sender's backlog as cancelled: those with these ids, and perhaps all with a stream."""
        backlog = self._backlogs.get(origin)
        if backlog is None:
            return
        waiting = list(backlog)
        backlog.clear()
        for message in waiting:
            record = message.record
            looked_up = record is not None and (record.recalling or record.answer)
            if looked_up or (message.id not in ids and not (streams and message.parts)):
                backlog.append(message)
            else:
                origin.backlog -= 1
                self.batch.release(origin, message.size)
                self._take(origin, message, Cancelled())
        if not backlog:
            del self._backlogs[origin]

    # -- once ----------------------------------------------------------------------------------------------------

    def _begin_once(self, origin: Endpoint, message: Waiting) -> OnceRecord | None:
        """Returns the record of a new ``once`` message; None for a repeat, which is answered here.

        While the record is ``recalling``, the message waits. If the record has an ``answer`` then, the message gets
        that and is not handled.
        """
        unproven = isinstance(origin, Peer) and origin.name is None
        if unproven and not origin.sender:  # its ids count on this connection alone
            origin.sender = self.batch.new_id().encode()
        record = new_record(origin.sender, message.type, message.id, message.data)
        known = self.once.find(record.key)
        if known is not None:
            self._repeated(origin, message.id, known, record.digest)
            return None
        self.once.add(record)
        if not unproven and self.may_recall(record.key):
            record.recalling = True
            record.recalled_for = origin
            self.batch.effects.append(Recall(record))
        return record

    def forget_unproven(self, peer: Peer) -> None:
        """A server's connection has ended; if it proved no name, its messages cannot be repeated and are forgotten."""
        if peer.name is None and peer.sender:
            self.once.forget_sender(peer.sender)

    def recalled(self, record: OnceRecord, digest: bytes, report: bytes) -> None:
        """A Recall has found the report of the message."""
        conflict = digest != record.digest
        record.answer = report if not conflict else frames.report(record.id, IdConflict())
        record.digest = digest
        self.once.finish(record, report)
        self._recall_ended(record)

    def not_recalled(self, record: OnceRecord, error: BesterError | None = None) -> None:
        """A Recall has found nothing; or it failed, and then it is unknown whether the message was handled."""
        if error is not None:
            self.once.forget(record)
            record.answer = frames.report(record.id, error)
        self._recall_ended(record)

    def under_way_remotely(self, record: OnceRecord) -> None:
        """A Recall has found the message under way at another node; it steps aside until that node is done."""
        if not record.under_way_remotely:
            record.under_way_remotely = True
            assert record.recalled_for is not None
            self.batch.fewer_under_way(record.recalled_for)

    def _recall_ended(self, record: OnceRecord) -> None:
        record.recalling = False
        if record.answer:
            self.reports.tell_repeats(record, record.answer)
        origin, message = record.recalled_for, record.aside
        assert origin is not None
        record.recalled_for = None
        if message is not None:
            record.aside = None
            origin.in_flight -= 1
            self._let_in(origin, message)
        self.batch.fewer_under_way(origin)

    def _repeated(self, origin: Endpoint, id: bytes, known: OnceRecord, digest: bytes) -> None:
        """Answers a repeat with the report of the first message, now or as soon as there is one."""
        if known.digest != digest:
            self._refuse_repeat(origin, id, IdConflict())
            return
        batch = self.batch
        batch.counters.repeats += 1
        report = known.report
        # The first one may be in the backlog: repeats leave a place for what waits there.
        room = batch.limits.max_in_flight - bool(origin.backlog)
        if report is None and origin.in_flight < room:
            origin.in_flight += 1
            known.waiting.append(origin)
            if known.replies and origin not in known.replied:
                known.replied.append(origin)
                for type, data in known.replies:
                    self.deliveries.reply(origin, type, data, id)
        elif report is not None and self.once.may_repeat(len(report), batch.now):
            batch.tell(origin, report)
        else:
            self._refuse_repeat(origin, id, Overloaded("too many repeats at once"))

    def _refuse_repeat(self, origin: Endpoint, id: bytes, error: BesterError) -> None:
        self.batch.counters.drops.count(Drop.MESSAGE_REFUSED, code=error.code)
        self.batch.tell(origin, frames.report(id, error))

    def remembered(self, remember: Remember) -> None:
        """The report of a ``once`` message is on disk, or cannot be put there; either way its sender gets it now."""
        self.reports.finish_once(remember.record, remember.envelope, remember.report)


def may_send(allow: Allow, origin: Endpoint) -> bool:
    """Whether a sender is among those that are allowed."""
    if isinstance(origin, Consented):
        return True  # it was asked when the message came
    if isinstance(origin, Session):
        return allow.accounts or origin.username in allow.names or not allow.roles.isdisjoint(origin.roles)
    return allow.servers or (isinstance(origin, Peer) and origin.name in allow.names)


def _never(key: bytes) -> bool:
    return False
