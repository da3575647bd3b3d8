"""The exchange: takes one event, and decides what is to be done.

The way of a message, from top to bottom of this file::

    message()          a client or a server sent it; it becomes an Envelope
      hand()           its type's handler is asked now, or it waits in its sender's lane
    answer()           the handler answered: its commands are executed in order
      _send_clients()    frames for sessions; bester.core.delivery for those that are away or acknowledge
      _send_servers()    each becomes a Forward
      _send_handler()    the next handler is asked, for the same envelope
      _reply()           a frame for the session that asked
    settled()          a recipient has its outcome
      _finish()        nothing is pending any more: the status report

Two things come out. ``dirty`` lists the endpoints that have frames to be written; ``effects`` lists what else the
server must do. Both are emptied by the server after each batch of events; when all is written, it calls ``written()``.
The exchange has no clock: the server sets ``now`` before each batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Raw

from bester.core.counters import Counters
from bester.core.delivery import Delivering, Written
from bester.core.endpoints import AttachedHandler, Endpoint, Peer, Session
from bester.core.handlers import Allow, HandlerType
from bester.core.limits import Limits
from bester.core.once import OnceMemory, OnceRecord, new_record
from bester.core.receipts import MAX_NAMES, MAX_REPORT_BYTES, Entry, Large, Receipts, counts_of
from bester.core.route import Trail
from bester.core.work import Envelope, Finished, Forward, Recall, Remember, Request
from bester.errors import (
    BadAddress,
    BadResponse,
    BesterError,
    IdConflict,
    InvalidName,
    NoHandler,
    NotAllowed,
    Overloaded,
    ShuttingDown,
    TooManyHops,
    UnknownAccount,
)
from bester.protocol import frames
from bester.protocol.addresses import parse_address
from bester.protocol.messages import (
    NOTHING,
    NULL,
    Command,
    HandlerMessage,
    OutgoingPayload,
    Payload,
    check_status,
    commands_of,
)
from bester.protocol.names import username

MAX_REPEATED_BYTES = 8 * 1024 * 1024
"""What is written again for repeats in one batch."""

_Waiting = tuple[Payload, int, int, OnceRecord | None, str, Trail | None]


class Exchange(Delivering):
    """All of one server's routing state."""

    def __init__(self, server_name: str, limits: Limits | None = None, boot: str = "0") -> None:
        super().__init__(limits or Limits())
        self.server_name = server_name
        self.boot = boot
        self.draining = False
        """Whether new messages are refused because the server is stopping."""
        self.counters = Counters()
        self.once = OnceMemory()
        self.receipts = Receipts()
        self._repeated_at = 0.0
        self._repeated_bytes = 0
        self.may_recall: Callable[[bytes], bool] = _never
        """Says of a ``once`` message's key whether there may be something on disk."""

    @property
    def under_way(self) -> int:
        """Messages and pushes without their report."""
        counters = self.counters
        return counters.accepted + counters.pushes - counters.good - counters.bad_total

    def count_delivery(self) -> None:
        self.counters.deliveries += 1

    def count_dropped(self, error: BesterError) -> None:
        dropped = self.counters.dropped
        dropped[error.code] = dropped.get(error.code, 0) + 1

    # -- a message comes in --------------------------------------------------------------------------------------

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
            self._message_once(origin, payload, size, hops, trace, trail)
        elif origin.in_flight < self.limits.max_in_flight and not origin.backlog:
            self._accept(origin, payload, size, hops, None, trace, trail)
        else:
            self._take(origin, payload, size, hops, None, trace, trail)

    def _take(
        self,
        origin: Endpoint,
        payload: Payload,
        size: int,
        hops: int,
        record: OnceRecord | None,
        trace: str,
        trail: Trail | None,
    ) -> None:
        if origin.in_flight < self.limits.max_in_flight and not origin.backlog:
            self._accept(origin, payload, size, hops, record, trace, trail)
        else:
            self._wait_in_line(origin, payload, size, hops, record, trace, trail)

    def _wait_in_line(
        self,
        origin: Endpoint,
        payload: Payload,
        size: int,
        hops: int,
        record: OnceRecord | None,
        trace: str,
        trail: Trail | None,
    ) -> None:
        """Puts a message behind those of its sender that cannot be taken now."""
        if record is not None:
            record.recalled_for = origin
        if origin.backlog is None:
            origin.backlog = deque()
        origin.backlog.append((payload, size, hops, record, trace, trail))
        self.hold(origin, size)

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
        envelope = Envelope(origin, payload.id, payload.type, self.now)
        if record is not None or trace or trail is not None:
            envelope.once = record
            envelope.trace = trace
            envelope.trail = trail
            envelope.plain = record is None and trail is None
        handlers = self.types.get(payload.type)
        if handlers is not None and handlers.rules.allow is None and not hops and not self.draining and trail is None:
            self.hand(Request(envelope, handlers, payload.data, 0, self.now, size))
        elif (error := self._refusal(origin, handlers, hops)) is None:
            assert handlers is not None
            self._hand_on(Request(envelope, handlers, payload.data, hops, self.now, size))
        else:
            envelope.error = error
            self.step_done(envelope)

    def _hand_on(self, request: Request) -> None:
        trail = request.envelope.trail
        if trail is None:
            self.hand(request)
        else:
            self.hand_traced(request, trail)

    def _refusal(self, origin: Endpoint, handlers: HandlerType | None, hops: int) -> BesterError | None:
        if handlers is None:
            return NoHandler()
        if handlers.rules.allow is not None and not _allowed(handlers.rules.allow, origin):
            return NotAllowed("this sender may not send this type")
        if self.draining:
            return ShuttingDown()
        return TooManyHops() if hops > self.limits.max_hops else None

    # -- once ----------------------------------------------------------------------------------------------------

    def _message_once(
        self, origin: Endpoint, payload: Payload, size: int, hops: int, trace: str, trail: Trail | None
    ) -> None:
        if not origin.sender:  # it has proved nothing: its ids count on this connection alone
            origin.sender = self.new_id().encode()
        record = new_record(origin.sender, payload)
        known = self.once.find(record.key)
        if known is not None:
            self._repeated(origin, payload.id, known, record.digest)
            return
        self.once.add(record)
        if self.may_recall(record.key):
            record.recalling = True
            self.effects.append(Recall(record))
            self._wait_in_line(origin, payload, size, hops, record, trace, trail)
        else:
            self._take(origin, payload, size, hops, record, trace, trail)

    def recalled(self, record: OnceRecord, digest: bytes, report: bytes) -> None:
        """A Recall found what became of the message."""
        conflict = digest != record.digest
        record.answer = report if not conflict else frames.report(record.id, IdConflict())
        record.digest = digest
        self.once.finish(record, report)
        self._recall_ended(record)

    def not_recalled(self, record: OnceRecord, error: BesterError | None = None) -> None:
        """A Recall found nothing; or could not look, and then nobody knows whether the message was handled."""
        if error is not None:
            self.once.forget(record)
            record.answer = frames.report(record.id, error)
        self._recall_ended(record)

    def _recall_ended(self, record: OnceRecord) -> None:
        record.recalling = False
        if record.answer:
            self._tell_waiting(record, record.answer)
        assert record.recalled_for is not None
        self._make_progress(record.recalled_for)

    def _repeated(self, origin: Endpoint, id: str, known: OnceRecord, digest: bytes) -> None:
        """The same id again: the first one's report, now or when there is one."""
        if known.digest != digest:
            self._tell(origin, frames.report(id, IdConflict()))
            return
        self.counters.repeats += 1
        report = known.report
        if report is None and origin.in_flight < self.limits.max_in_flight:
            origin.in_flight += 1
            known.waiting.append(origin)
        elif report is not None and self._may_repeat(len(report)):
            self._tell(origin, report)
        else:
            self._tell(origin, frames.report(id, Overloaded("too many repeats at once")))

    def _may_repeat(self, size: int) -> bool:
        """Bounds what repeats make the server write, which can be much more than what asks for it."""
        if self._repeated_at != self.now:
            self._repeated_at = self.now
            self._repeated_bytes = 0
        self._repeated_bytes += size
        return self._repeated_bytes <= MAX_REPEATED_BYTES

    def remembered(self, remember: Remember) -> None:
        """What became of a ``once`` message is on disk, or cannot be put there: its sender may know."""
        self._report_once(remember.record, remember.envelope, remember.report)

    def _report_once(self, record: OnceRecord, envelope: Envelope, report: bytes) -> None:
        error = envelope.error
        if error is not None and error.temporary:
            self.once.forget(record)
        else:
            self.once.finish(record, report)
        self._tell(envelope.origin, report)
        self._tell_waiting(record, report)
        self._close_envelope(envelope, report)

    def _tell_waiting(self, record: OnceRecord, report: bytes) -> None:
        waiting, record.waiting = record.waiting, []
        for origin in waiting:
            origin.in_flight -= 1
            self._tell(origin, report)
            self._make_progress(origin)

    def _tell(self, origin: Endpoint, report: bytes) -> None:
        if not origin.closed:
            self.write(origin, report)

    # -- a handler answers ---------------------------------------------------------------------------------------

    def answer(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """An attached handler sent an answer, or pushed something."""
        header = message.header
        if header.message_type == "push":
            self._push(handler, message)
            return
        request = handler.outstanding.pop(header.id or "", None)
        if request is None:
            self.counters.unmatched_answers += 1
            return
        self._answered(request, message)
        for handlers in handler.types:
            if handlers.ready:
                self.pump(handlers)

    def answer_failed(self, handler: AttachedHandler, id: str, error: BesterError) -> None:
        """An attached handler's answer to this request is not of the right form."""
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.counters.unmatched_answers += 1
            return
        self.fail(request, error)
        for handlers in handler.types:
            self.pump(handlers)

    def classic_answered(self, request: Request, message: HandlerMessage) -> None:
        """A classic handler answered."""
        self._answered(request, message)
        self._classic_done(request)

    def classic_failed(self, request: Request, error: BesterError) -> None:
        """A classic handler could not be reached, took too long, or answered garbage."""
        self.fail(request, error)
        self._classic_done(request)

    def _classic_done(self, request: Request) -> None:
        handlers = request.handlers
        handlers.active -= 1
        assert request.lane is not None
        handlers.done(request.lane)
        self.pump(handlers)

    def _answered(self, request: Request, message: HandlerMessage) -> None:
        handlers = request.handlers
        now = self.now
        handlers.progress = now
        try:
            if message.header.status != "0":
                check_status(message.header.status)
            commands = commands_of(message.header)
        except BesterError as error:
            self.fail(request, error)
            return
        handlers.answered += 1
        handlers.seconds += now - request.since
        envelope = request.envelope
        if envelope.plain:
            for command in commands:
                self._execute(envelope, handlers, request.hops, command, message, "")
        else:
            self._execute_all(request, commands, message)
        pending = envelope.pending = envelope.pending - 1
        if not pending:
            self._finish(envelope)
        elif pending == envelope.awaiting:
            self.only_waits(envelope)

    def _execute_all(self, request: Request, commands: list[Command], message: HandlerMessage) -> None:
        """Executes the commands for an envelope that is not plain."""
        envelope, handlers = request.envelope, request.handlers
        trail = envelope.trail
        if request.step is not None:
            request.step.end(self.now, "good")
        for ordinal, command in enumerate(commands):
            place = f"{request.place}.{ordinal}" if envelope.once is not None else ""
            if trail is None:
                self._execute(envelope, handlers, request.hops, command, message, place)
            elif trail.dry and command.type in ("sendClients", "reply"):
                self._plan(envelope, trail, handlers, command)
            else:
                first = len(envelope.results or ())
                self._execute(envelope, handlers, request.hops, command, message, place)
                kind = "server" if command.type == "sendServers" else "clients"
                trail.add_recipients(kind, first, len(envelope.results or ()), self.now)
                if command.type == "reply" and isinstance(envelope.origin, Session):
                    trail.add("clients", envelope.origin.username, self.now, "delivered")

    def _plan(self, envelope: Envelope, trail: Trail, handlers: HandlerType, command: Command) -> None:
        """Says of a command whose recipients are clients what would be done."""
        if command.type == "reply":
            if isinstance(envelope.origin, Session):
                trail.add("clients", envelope.origin.username, self.now, "planned")
            return
        names: list[str] = command.data  # type: ignore[assignment]
        if not self._count_allowed(envelope, names):
            return
        seen: set[str] = set()
        for name in names:
            try:
                account = username(name)
            except InvalidName:
                account = name
                if account not in seen:
                    trail.add("clients", name, self.now, UnknownAccount.code)
                    self.note(envelope, UnknownAccount())
            else:
                if account in seen:
                    continue
                if self.presence.find(account) is not None:
                    trail.add("clients", name, self.now, "planned")
                elif command.transient or handlers.rules.transient:
                    trail.add("clients", name, self.now, "skipped")
                else:
                    trail.add("mailbox", name, self.now, "planned")
            seen.add(account)

    def not_asked(self, request: Request) -> None:
        self.step_done(request.envelope)

    def fail(self, request: Request, error: BesterError) -> None:
        handlers = request.handlers
        if request.step is not None:
            request.step.end(self.now, error.code)
        handlers.failed += 1
        handlers.last_error = f"{error.code}: {error.message}"
        envelope = request.envelope
        if isinstance(error, BadResponse):
            error = BadResponse()  # the details are the operator's and the handler's author's, not the sender's
        if envelope.error is None:
            envelope.error = error
        self.step_done(envelope)

    def _push(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """A handler speaks first: executed like an answer, and reported to the handler."""
        type = handler.types[0].name if handler.types else ""
        envelope = Envelope(handler, message.header.id or "", type, self.now)
        handler.in_flight += 1
        self.counters.pushes += 1
        try:
            if handler.in_flight > self.limits.max_in_flight:
                raise Overloaded("too many pushes without their report")
            for command in commands_of(message.header):
                self._execute(envelope, handler.types[0], 0, command, message, "")
        except BesterError as error:
            envelope.error = error
        self.step_done(envelope)

    # -- commands ------------------------------------------------------------------------------------------------

    def _execute(
        self,
        envelope: Envelope,
        handlers: HandlerType,
        hops: int,
        command: Command,
        message: HandlerMessage,
        place: str,
    ) -> None:
        """Executes one command; what fails is noted in the envelope, and the others are still served."""
        payload = message.payload
        if command.payload is not None:
            payload = command.payload if payload is None else _over(command.payload, payload)
        type: str | None = None
        data = NOTHING
        if payload is not None:
            type = payload.type
            data = payload.data
        if data is NOTHING:
            data = NULL if message.data is NOTHING else message.data
        kind = command.type
        if kind == "sendClients":
            transient = command.transient or handlers.rules.transient
            self._send_clients(envelope, command.data, handlers, type, data, transient, place)  # type: ignore[arg-type]
        elif kind == "reply":
            self._reply(envelope, handlers, type, data)
        elif kind == "sendHandler":
            self._send_handler(envelope, command.data, data, hops + 1, place)  # type: ignore[arg-type]
        elif kind == "sendServers":
            transient = command.transient or handlers.rules.transient
            type = type or handlers.name
            self._send_servers(envelope, command.data, type, data, hops + 1, transient, place)  # type: ignore[arg-type]

    def _send_clients(
        self,
        envelope: Envelope,
        names: list[str],
        handlers: HandlerType,
        type: str | None,
        data: Raw,
        transient: bool,
        place: str,
    ) -> None:
        if not self._count_allowed(envelope, names):
            return
        head = handlers.received if type is None or type == handlers.name else frames.received_head(type)
        frame = frames.received(head, data)
        if envelope.results is None:
            envelope.results = []
        results = envelope.results
        present = self.presence
        served: set[str] = set()
        first = len(results)
        given = False
        for name in names:
            attendance = present.find(name)
            if attendance is None:
                self._send_away(envelope, name, type or handlers.name, data, transient, place, served)
                continue
            account = attendance.username
            if account in served:
                continue
            served.add(account)
            if not attendance.plain:
                self.deliver(envelope, name, attendance, type or handlers.name, data, transient, place)
                continue
            self.counters.deliveries += 1
            for session in attendance.sessions:
                session.out.append(frame)
                if not session.listed:
                    session.listed = True
                    self.dirty.append(session)
            given = True
            results.append(attendance.delivered if name == account else frames.result(name, "delivered"))
        if given:
            envelope.pending += 1
            self.writing.append(Written(envelope, names, first, type or handlers.name, data, transient, place))

    def _send_away(
        self, envelope: Envelope, name: str, type: str, data: Raw, transient: bool, place: str, served: set[str]
    ) -> None:
        """Brings a message to an account that has no session."""
        try:
            account = username(name)
        except InvalidName:
            account = name
            if account not in served:
                self._add_result(envelope, name, "failed", UnknownAccount())
        else:
            if account not in served:
                self.keep(envelope, name, account, type, data, transient, place)
        served.add(account)

    def _send_servers(
        self,
        envelope: Envelope,
        addresses: list[str],
        type: str,
        data: Raw,
        hops: int,
        transient: bool,
        place: str,
    ) -> None:
        if not self._count_allowed(envelope, addresses):
            return
        served: set[str] = set()
        for text in dict.fromkeys(addresses):
            if hops > self.limits.max_hops:
                self._add_result(envelope, text, "failed", TooManyHops())
                continue
            try:
                address = parse_address(text)
            except BadAddress as error:
                self._add_result(envelope, text, "failed", error)
                continue
            if str(address) in served:
                continue
            served.add(str(address))
            slot = self.await_result(envelope)
            id = self.new_id() if envelope.once is None else envelope.once.delivery_id(place, str(address))
            trace = self.traceparent(envelope)
            self.effects.append(Forward(envelope, slot, text, address, type, data, hops, transient, id, trace))

    def _send_handler(self, envelope: Envelope, type: str, data: Raw, hops: int, place: str) -> None:
        handlers = self.types.get(type)
        if handlers is None:
            self.note(envelope, NoHandler())
        elif hops > self.limits.max_hops:
            self.note(envelope, TooManyHops())
        else:
            envelope.pending += 1
            self._hand_on(Request(envelope, handlers, data, hops, self.now, len(data), place=place))

    def _reply(self, envelope: Envelope, handlers: HandlerType, type: str | None, data: Raw) -> None:
        origin = envelope.origin
        if origin.scope != "client":
            envelope.data = data
        elif origin.closed:
            return
        elif origin.acknowledges:
            assert isinstance(origin, Session)
            self.reply(origin, type or handlers.name, data)
        else:
            head = handlers.received if type is None or type == handlers.name else frames.received_head(type)
            self.write(origin, frames.received(head, data))

    def _count_allowed(self, envelope: Envelope, recipients: list[str]) -> bool:
        if len(recipients) <= self.limits.max_recipients:
            return True
        self.note(envelope, BadResponse(f"more than {self.limits.max_recipients} recipients in one command"))
        return False

    # -- outcomes ------------------------------------------------------------------------------------------------

    def _add_result(self, envelope: Envelope, to: str, status: str, error: BesterError) -> None:
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(frames.result(to, status, error))
        self.note(envelope, error)

    def step_done(self, envelope: Envelope) -> None:
        pending = envelope.pending = envelope.pending - 1
        if not pending:
            self._finish(envelope)
        elif pending == envelope.awaiting:
            self.only_waits(envelope)

    def only_waits(self, envelope: Envelope) -> None:
        if not envelope.let_go:
            envelope.let_go = True
            origin = envelope.origin
            origin.waiting += 1
            origin.in_flight -= 1
            self._make_progress(origin)

    def _finish(self, envelope: Envelope) -> None:
        """Everything is done: the status report, and room for what waited behind it."""
        if not envelope.plain:
            self._finish_traced(envelope)
            return
        error = envelope.error
        if error is None and not envelope.results and envelope.data is None:
            frame = frames.good_report(envelope.id)
        else:
            frame = frames.report(envelope.id, error, envelope.results, envelope.data)
        origin = envelope.origin
        if not origin.closed:
            origin.out.append(frame)
            if not origin.listed:
                origin.listed = True
                self.dirty.append(origin)
        self._close_envelope(envelope, frame)

    def _finish_traced(self, envelope: Envelope) -> None:
        """The same for an envelope that is remembered, or whose route is reported."""
        error, results, trail = envelope.error, envelope.results, envelope.trail
        fields = b""
        if trail is not None:
            fields = b',"route":' + trail.as_json(self.server_name, results)
            if trail.dry:
                results = None
        frame = frames.report(envelope.id, error, results, envelope.data, fields)
        record = envelope.once
        if record is None:
            self._tell(envelope.origin, frame)
            self._close_envelope(envelope, frame)
        elif envelope.durable and (error is None or not error.temporary):
            self.effects.append(Remember(record, envelope, frame))
        else:
            self._report_once(record, envelope, frame)

    def _close_envelope(self, envelope: Envelope, report: bytes) -> None:
        if envelope.error is None:
            self.counters.good += 1
            if self.receipts.good_left:
                self.receipts.good_left -= 1
                self._keep_receipt(envelope, report)
        else:
            self.counters.count_bad(envelope.error.code)
            if self.receipts.bad_left:
                self.receipts.bad_left -= 1
                self._keep_receipt(envelope, report)
        origin = envelope.origin
        if envelope.let_go:
            origin.waiting -= 1
        else:
            origin.in_flight -= 1
        if origin.backlog or origin.closing:
            self._make_progress(origin)

    def _keep_receipt(self, envelope: Envelope, report: bytes) -> None:
        """Appends what is known; it is taken apart elsewhere, so that this costs next to nothing."""
        large: Large | None = None
        if len(report) > MAX_REPORT_BYTES:
            error = envelope.error
            told = (error.code, error.message) if error is not None else None
            large = Large(told, counts_of(report), (envelope.results or [])[:MAX_NAMES])
            report = b""
        if not envelope.trace:
            envelope.trace = self.traces.new()
        self.receipts.entries.append(
            Entry(self.now, envelope.since, envelope.origin, envelope.type, envelope.id, envelope.trace, report, large)
        )

    def _make_progress(self, origin: Endpoint) -> None:
        """Fewer messages of an endpoint are under way: lets in what waits, or tells that there is nothing more."""
        if origin.backlog:
            if not origin.admitting:
                self._admit(origin, origin.backlog)
        elif origin.closing:
            self._close_if_quiet(origin)

    def _close_if_quiet(self, origin: Endpoint) -> None:
        if not origin.busy and not origin.admitting:
            self.effects.append(Finished(origin))

    def _admit(self, origin: Endpoint, backlog: deque[_Waiting]) -> None:
        """Lets in what waited; in a loop of its own, because each message may be finished at once."""
        origin.admitting = True
        while backlog and origin.in_flight < self.limits.max_in_flight:
            record = backlog[0][3]
            if record is not None and record.recalling:
                break
            payload, size, hops, record, trace, trail = backlog.popleft()
            self.release(origin, size)
            if record is not None and record.answer:
                self._tell(origin, record.answer)
            else:
                self._accept(origin, payload, size, hops, record, trace, trail)
        origin.admitting = False
        if origin.closing:
            self._close_if_quiet(origin)


def _never(key: bytes) -> bool:
    return False


def _over(own: OutgoingPayload, shared: OutgoingPayload) -> OutgoingPayload:
    """A command's own payload, with the response's where it says nothing."""
    return OutgoingPayload(own.type or shared.type, shared.data if own.data is NOTHING else own.data)


def _allowed(allow: Allow, origin: Endpoint) -> bool:
    if isinstance(origin, Session):
        return allow.accounts or origin.username in allow.names or not allow.roles.isdisjoint(origin.roles)
    return allow.servers or (isinstance(origin, Peer) and origin.name in allow.names)
