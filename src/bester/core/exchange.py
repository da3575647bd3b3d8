"""The exchange: takes one event, and decides what is to be done.

The way of a message, from top to bottom of this file::

    message()          a client or a server sent it; it becomes an Envelope
      hand()           its type's handler is asked now, or it waits in its sender's lane
    answer()           the handler answered: its commands are executed in order
      _send_clients()    frames for sessions; accounts that are away become a Deposit
      _send_servers()    each becomes a Forward
      _send_handler()    the next handler is asked, for the same envelope
      _reply()           a frame for the session that asked
    settled()          a Deposit or a Forward has its outcome
      _finish()        nothing is pending any more: the status report

Two things come out. ``dirty`` lists the endpoints that have frames to be written; ``effects`` lists what else the
server must do. Both are emptied by the server after each batch of events. The exchange has no clock: the server sets
``now`` before each batch.
"""

from __future__ import annotations

from collections import deque

from msgspec import Raw

from bester.core.counters import Counters
from bester.core.dispatch import Dispatch
from bester.core.endpoints import AttachedHandler, Endpoint, Peer, Session
from bester.core.handlers import Allow, HandlerType
from bester.core.limits import Limits
from bester.core.presence import Presence
from bester.core.work import (
    Deposit,
    Envelope,
    Finished,
    Forward,
    PresenceChanged,
    Request,
)
from bester.errors import (
    BadAddress,
    BadResponse,
    BesterError,
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


class Exchange(Dispatch):
    """All of one server's routing state."""

    def __init__(self, server_name: str, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        self.server_name = server_name
        self.presence = Presence()
        self.draining = False
        """Whether new messages are refused because the server is stopping."""
        self.counters = Counters()

    @property
    def under_way(self) -> int:
        """Messages and pushes without their report."""
        counters = self.counters
        return counters.accepted + counters.pushes - counters.good - counters.bad_total

    # -- sessions ------------------------------------------------------------------------------------------------

    def add_session(self, session: Session) -> None:
        """A client has authenticated."""
        if self.presence.add(session):
            self.effects.append(PresenceChanged(session.username, True))

    def remove_session(self, session: Session) -> None:
        """A client's session ended; what it sent goes on, its reports are dropped."""
        session.closed = True
        if self.presence.remove(session):
            self.effects.append(PresenceChanged(session.username, False))

    # -- a message comes in --------------------------------------------------------------------------------------

    def message(self, origin: Endpoint, payload: Payload, size: int, hops: int = 0) -> None:
        """A client or another server sent a message, of ``size`` bytes, for a type that is not the server's own."""
        if origin.in_flight < self.limits.max_in_flight and not origin.backlog:
            self._accept(origin, payload, size, hops)
            return
        if origin.backlog is None:
            origin.backlog = deque()
        origin.backlog.append((payload, size, hops))
        self.hold(origin, size)

    def _accept(self, origin: Endpoint, payload: Payload, size: int, hops: int) -> None:
        origin.in_flight += 1
        self.counters.accepted += 1
        envelope = Envelope(origin, payload.id)
        handlers = self.types.get(payload.type)
        if handlers is not None and handlers.rules.allow is None and not hops and not self.draining:
            self.hand(Request(envelope, handlers, payload.data, 0, self.now, size))
        elif (error := self._refusal(origin, handlers, hops)) is None:
            assert handlers is not None
            self.hand(Request(envelope, handlers, payload.data, hops, self.now, size))
        else:
            envelope.error = error
            self._step_done(envelope)

    def _refusal(self, origin: Endpoint, handlers: HandlerType | None, hops: int) -> BesterError | None:
        if handlers is None:
            return NoHandler()
        if handlers.rules.allow is not None and not _allowed(handlers.rules.allow, origin):
            return NotAllowed("this sender may not send this type")
        if self.draining:
            return ShuttingDown()
        return TooManyHops() if hops > self.limits.max_hops else None

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
        for command in commands:
            self._execute(envelope, handlers, request.hops, command, message)
        envelope.pending -= 1
        if not envelope.pending:
            self._finish(envelope)

    def fail(self, request: Request, error: BesterError) -> None:
        handlers = request.handlers
        handlers.failed += 1
        handlers.last_error = f"{error.code}: {error.message}"
        envelope = request.envelope
        if isinstance(error, BadResponse):
            error = BadResponse()  # the details are the operator's and the handler's author's, not the sender's
        if envelope.error is None:
            envelope.error = error
        self._step_done(envelope)

    def _push(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """A handler speaks first: executed like an answer, and reported to the handler."""
        envelope = Envelope(handler, message.header.id or "")
        handler.in_flight += 1
        self.counters.pushes += 1
        try:
            if handler.in_flight > self.limits.max_in_flight:
                raise Overloaded("too many pushes without their report")
            for command in commands_of(message.header):
                self._execute(envelope, handler.types[0], 0, command, message)
        except BesterError as error:
            envelope.error = error
        self._step_done(envelope)

    # -- commands ------------------------------------------------------------------------------------------------

    def _execute(
        self, envelope: Envelope, handlers: HandlerType, hops: int, command: Command, message: HandlerMessage
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
            self._send_clients(envelope, command.data, handlers, type, data, transient)  # type: ignore[arg-type]
        elif kind == "reply":
            self._reply(envelope, handlers, type, data)
        elif kind == "sendHandler":
            self._send_handler(envelope, command.data, data, hops + 1)  # type: ignore[arg-type]
        elif kind == "sendServers":
            transient = command.transient or handlers.rules.transient
            self._send_servers(envelope, command.data, type or handlers.name, data, hops + 1, transient)  # type: ignore[arg-type]

    def _send_clients(
        self, envelope: Envelope, names: list[str], handlers: HandlerType, type: str | None, data: Raw, transient: bool
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
        for name in names:
            attendance = present.find(name)
            if attendance is None:
                self._deposit(envelope, name, type or handlers.name, data, transient, served)
                continue
            account = attendance.username
            if account in served:
                continue
            served.add(account)
            self.counters.deliveries += 1
            for session in attendance.sessions:
                session.out.append(frame)
                if not session.listed:
                    session.listed = True
                    self.dirty.append(session)
            results.append(attendance.delivered if name == account else frames.result(name, "delivered"))

    def _deposit(self, envelope: Envelope, name: str, type: str, data: Raw, transient: bool, served: set[str]) -> None:
        """Notes a recipient that has no session."""
        try:
            account = username(name)
        except InvalidName:
            account = name
            if account not in served:
                self._add_result(envelope, name, "failed", UnknownAccount())
        else:
            if account not in served:
                slot = self._await_result(envelope)
                self.effects.append(Deposit(envelope, slot, name, account, type, data, transient))
        served.add(account)

    def _send_servers(
        self, envelope: Envelope, addresses: list[str], type: str, data: Raw, hops: int, transient: bool
    ) -> None:
        if not self._count_allowed(envelope, addresses):
            return
        for text in dict.fromkeys(addresses):
            if hops > self.limits.max_hops:
                self._add_result(envelope, text, "failed", TooManyHops())
                continue
            try:
                address = parse_address(text)
            except BadAddress as error:
                self._add_result(envelope, text, "failed", error)
                continue
            slot = self._await_result(envelope)
            self.effects.append(Forward(envelope, slot, text, address, type, data, hops, transient))

    def _send_handler(self, envelope: Envelope, type: str, data: Raw, hops: int) -> None:
        handlers = self.types.get(type)
        if handlers is None:
            self._note(envelope, NoHandler())
        elif hops > self.limits.max_hops:
            self._note(envelope, TooManyHops())
        else:
            envelope.pending += 1
            self.hand(Request(envelope, handlers, data, hops, self.now, len(data)))

    def _reply(self, envelope: Envelope, handlers: HandlerType, type: str | None, data: Raw) -> None:
        origin = envelope.origin
        if origin.scope != "client":
            envelope.data = data
        elif not origin.closed:
            head = handlers.received if type is None or type == handlers.name else frames.received_head(type)
            self.write(origin, frames.received(head, data))

    def _count_allowed(self, envelope: Envelope, recipients: list[str]) -> bool:
        if len(recipients) <= self.limits.max_recipients:
            return True
        self._note(envelope, BadResponse(f"more than {self.limits.max_recipients} recipients in one command"))
        return False

    # -- outcomes ------------------------------------------------------------------------------------------------

    def settled(self, envelope: Envelope, slot: int, to: str, status: str, error: BesterError | None = None) -> None:
        """A Deposit or a Forward has its outcome: one of the statuses of section 2."""
        assert envelope.results is not None
        envelope.results[slot] = frames.result(to, status, error)
        if error is not None:
            self._note(envelope, error)
        self._step_done(envelope)

    def _await_result(self, envelope: Envelope) -> int:
        envelope.pending += 1
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(b"")
        return len(envelope.results) - 1

    def _add_result(self, envelope: Envelope, to: str, status: str, error: BesterError) -> None:
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(frames.result(to, status, error))
        self._note(envelope, error)

    def _note(self, envelope: Envelope, error: BesterError) -> None:
        if envelope.error is None:
            envelope.error = error

    def _step_done(self, envelope: Envelope) -> None:
        envelope.pending -= 1
        if not envelope.pending:
            self._finish(envelope)

    def _finish(self, envelope: Envelope) -> None:
        """Everything is done: the status report, and room for what waited behind it."""
        origin = envelope.origin
        origin.in_flight -= 1
        error = envelope.error
        if error is None:
            self.counters.good += 1
        else:
            self.counters.count_bad(error.code)
        if not origin.closed:
            if error is None and not envelope.results and envelope.data is None:
                frame = frames.good_report(envelope.id)
            else:
                frame = frames.report(envelope.id, error, envelope.results, envelope.data)
            origin.out.append(frame)
            if not origin.listed:
                origin.listed = True
                self.dirty.append(origin)
        if origin.backlog:
            if not origin.admitting:
                self._admit(origin, origin.backlog)
        elif origin.closing and not origin.in_flight and not origin.admitting:
            self.effects.append(Finished(origin))

    def _admit(self, origin: Endpoint, backlog: deque[tuple[Payload, int, int]]) -> None:
        """Lets in what waited; in a loop of its own, because each message may be finished at once."""
        origin.admitting = True
        while backlog and origin.in_flight < self.limits.max_in_flight:
            payload, size, hops = backlog.popleft()
            self.release(origin, size)
            self._accept(origin, payload, size, hops)
        origin.admitting = False
        if origin.closing and not origin.in_flight:
            self.effects.append(Finished(origin))

    def write(self, endpoint: Endpoint, frame: bytes) -> None:
        """Lets a whole frame be written to an endpoint, after what is already there."""
        endpoint.out.append(frame)
        if not endpoint.listed:
            endpoint.listed = True
            self.dirty.append(endpoint)


def _over(own: OutgoingPayload, shared: OutgoingPayload) -> OutgoingPayload:
    """A command's own payload, with the response's where it says nothing."""
    return OutgoingPayload(own.type or shared.type, shared.data if own.data is NOTHING else own.data)


def _allowed(allow: Allow, origin: Endpoint) -> bool:
    if isinstance(origin, Session):
        return allow.accounts or origin.username in allow.names or not allow.roles.isdisjoint(origin.roles)
    return allow.servers or (isinstance(origin, Peer) and origin.name in allow.names)
