"""The exchange: takes one event, and decides what is to be done.

It is built of classes with a file each, each of which knows those it is built on and no others::

    Exchange                                  what handlers answer and push
      Intake                                  messages come in, and wait in line
        Repeats                               once: what is not handled again
      ForNodes                                what other nodes of this server ask for
        Execution                             the commands of an answer
          Delivering > GivingAgain            to accounts: who gets what when; what they do not acknowledge
            Keeping > Giving                  mailboxes; what sessions have
            Outcomes                          what became of it: results, reports, receipts
              Dispatch                        types, their handlers, and who waits for them

The way of a message through them::

    message()          intake: a client or a server sent it; it becomes an Envelope
      hand()           dispatch: its type's handler is asked now, or it waits in its sender's lane
    answer()           exchange: the handler answered
      execute()        execution: its commands, in order
        _send_clients()    frames for sessions; delivery for accounts that are away or acknowledge
        _send_servers()    each becomes a Forward
        _send_handler()    the next handler is asked, for the same envelope
        _reply()           a frame for the session that asked
    settled()          outcomes: a recipient has its outcome
      finish()         nothing is pending any more: the status report, and room for what waits behind it
        admit()        intake: that is let in

Two things come out. ``dirty`` lists the endpoints that have frames to be written; ``effects`` lists what else the
server must do. Both are emptied by the server after each batch of events; when all is written, it calls ``written()``.
The exchange has no clock: the server sets ``now`` before each batch.
"""

from __future__ import annotations

from bester.core.intake import Intake
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.model import Envelope, Relayed
from bester.core.nodes import ForNodes
from bester.core.routing import AttachedHandler, Request, TypeRoute
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BadResponse, BesterError, Overloaded
from bester.protocol.messages import Command, HandlerMessage, check_status, checked_trace, commands_of


class Exchange(Intake, ForNodes):
    """All of one server's routing state."""

    def __init__(self, server_name: str, limits: Limits | None = None, boot: str = "0") -> None:
        super().__init__(server_name, limits or Limits(), boot)

    def answer(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """An attached handler sent an answer, or pushed something."""
        header = message.header
        if header.message_type == "push":
            self._push(handler, message)
            return
        request = handler.outstanding.pop(header.id or "", None)
        if request is None:
            self.counters.drops.count(Drop.ANSWER_LATE)
            return
        if handler.elsewhere:
            self.left_here(request)
        self._answered(request, message)
        for handlers in handler.types:
            if handlers.ready:
                self.pump(handlers)

    def answer_failed(self, handler: AttachedHandler, id: str, error: BesterError) -> None:
        """An attached handler's answer to this request is not of the right form."""
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.counters.drops.count(Drop.ANSWER_LATE)
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
        assert request.sender_queue is not None
        handlers.done(request.sender_queue)
        self.pump(handlers)

    def _answered(self, request: Request, message: HandlerMessage) -> None:
        handlers = request.handlers
        now = self.now
        handlers.progress = now
        try:
            if message.header.status != "0":
                check_status(message.header)
            commands = commands_of(message, handlers.rules.may)
        except BesterError as error:
            self.fail(request, error)
            return
        handlers.metrics.took(now - request.since)
        envelope = request.envelope
        if envelope.plain:
            for command in commands:
                self.execute(envelope, handlers, request.hops, command, message, "")
        else:
            if request.step is not None:
                request.step.end(now, "good")
            self._execute_all(envelope, handlers, request.hops, commands, message, request.place)
        pending = envelope.pending = envelope.pending - 1
        if not pending:
            self.finish(envelope)
        elif pending == envelope.awaiting:
            self.only_waits(envelope)

    def _execute_all(
        self,
        envelope: Envelope,
        handlers: TypeRoute,
        hops: int,
        commands: list[Command],
        message: HandlerMessage,
        at: str,
    ) -> None:
        """Executes the commands for an envelope that is not plain; ``at`` is the place of the request."""
        if isinstance(envelope, Relayed):
            self.answered_for_node(envelope, handlers, commands, message)
            return
        trail = envelope.trail
        for ordinal, command in enumerate(commands):
            place = f"{at}.{ordinal}" if envelope.once is not None else ""
            if trail is None:
                self.execute(envelope, handlers, hops, command, message, place)
            elif trail.dry and command.type in ("sendClients", "reply"):
                self.plan(envelope, trail, handlers, command, message)
            else:
                first = len(envelope.results or ())
                self.execute(envelope, handlers, hops, command, message, place)
                kind = "server" if command.type == "sendServers" else "clients"
                trail.add_recipients(kind, first, len(envelope.results or ()), self.now)
                if command.type == "reply" and isinstance(envelope.origin, Session):
                    trail.add("clients", envelope.origin.username, self.now, "delivered")

    def not_asked(self, request: Request) -> None:
        self.step_done(request.envelope)

    def fail(self, request: Request, error: BesterError) -> None:
        handlers = request.handlers
        if request.epoch:
            self.answered_in_order(request)
        if request.step is not None:
            request.step.end(self.now, error.code)
        handlers.metrics.failed += 1
        handlers.last_error = f"{error.code}: {error.explained}"
        envelope = request.envelope
        if isinstance(error, BadResponse):
            error = BadResponse()  # the details are the operator's and the handler's author's, not the sender's
        if envelope.error is None:
            envelope.error = error
        self.step_done(envelope)

    def _push(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """A handler speaks first: executed like an answer, and reported to the handler."""
        type = handler.types[0].name if handler.types else ""
        metrics = handler.types[0].metrics if handler.types else self.counters.by_type.others
        envelope = Envelope(handler, message.header.id or "", type, self.now, metrics)
        self._trace_push(envelope, message.header.traceparent)
        handler.in_flight += 1
        self.counters.pushes += 1
        try:
            if handler.in_flight > self.limits.max_in_flight:
                raise Overloaded("too many pushes without their report")
            commands = commands_of(message, handler.types[0].rules.may)
            if envelope.plain:
                for command in commands:
                    self.execute(envelope, handler.types[0], 0, command, message, "")
            else:
                self._execute_all(envelope, handler.types[0], 0, commands, message, "")
        except BesterError as error:
            envelope.error = error
        self.step_done(envelope)

    def _trace_push(self, envelope: Envelope, trace: object) -> None:
        """A push belongs to the trace that the handler names, if it does."""
        envelope.trace = checked_trace(trace) if isinstance(trace, str) else ""
        traced = self.traces.traced
        spans = traced.begin(envelope.trace, self.now) if traced is not None else None
        if spans is not None:
            envelope.trail = Trail(told=False)
            envelope.trail.spans = spans
            envelope.trace = spans.traceparent()
            envelope.plain = False
