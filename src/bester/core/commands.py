"""Executes the commands of handlers' answers and pushes, one by one (docs/protocol.md, section 3).

In a dry run, commands whose recipients are clients are only written into the route (section 7).
"""

from __future__ import annotations

from bester.core.batch import Batch
from bester.core.delivery import Deliveries, DirectWrite
from bester.core.dispatch import Dispatcher
from bester.core.effects import Forward
from bester.core.endpoint import Endpoint
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceMemory, OnceRecord
from bester.core.presence import Presence
from bester.core.reports import Reports
from bester.core.routing import AttachedHandler, Request, TypeRoute
from bester.core.session import Session
from bester.core.traces import Traces
from bester.core.trail import Trail, place_of
from bester.errors import BadAddress, BadResponse, BesterError, InvalidName, Overloaded, TooManyHops, UnknownAccount
from bester.protocol import frames
from bester.protocol.addresses import parse_address
from bester.protocol.answers import commands_of
from bester.protocol.messages import NOTHING, NULL, Command, Data, HandlerMessage, OutgoingPayload, checked_trace
from bester.protocol.names import username


class CommandExecutor:
    """Carries out handlers' answers and pushes."""

    __slots__ = ("batch", "deliveries", "dispatcher", "in_part", "once", "presence", "reports", "traces")

    def __init__(
        self,
        batch: Batch,
        reports: Reports,
        dispatcher: Dispatcher,
        deliveries: Deliveries,
        presence: Presence,
        traces: Traces,
        once: OnceMemory,
    ) -> None:
        self.batch = batch
        self.reports = reports
        self.dispatcher = dispatcher
        self.deliveries = deliveries
        self.presence = presence
        self.traces = traces
        self.once = once
        self.in_part = False
        """Whether a part of an answer is carried out."""

    # -- answers and pushes --------------------------------------------------------------------------------------

    def carry_out(self, request: Request, commands: list[Command], message: HandlerMessage) -> None:
        """Executes the commands of a handler's answer to a request."""
        envelope = request.envelope
        if envelope.untracked:
            for command in commands:
                self.execute(envelope, request.route, request.hops, command, message, "")
        else:
            if request.step is not None:
                request.step.end(self.batch.now, "good")
            self._execute_tracked(envelope, request.route, request.hops, commands, message, request.place)
        if envelope.pending == 1:  # as is usual
            envelope.pending = 0
            self.reports.finish(envelope)
        else:
            self.reports.step_done(envelope)

    def carry_out_plain(
        self, request: Request, kind: str, to: list[str] | str | None, type: str | None, data: Data
    ) -> None:
        """Executes the command of a plain answer, which was checked, to a request whose envelope is untracked."""
        envelope = request.envelope
        self._carry_out(envelope, request.route, request.hops, kind, to, type, data, False, "")
        if envelope.pending == 1:  # as is usual
            envelope.pending = 0
            self.reports.finish(envelope)
        else:
            self.reports.step_done(envelope)

    def carry_out_part(self, request: Request, commands: list[Command], message: HandlerMessage) -> None:
        """Executes the commands of a part of a handler's answer; the request stays outstanding."""
        self.in_part = True
        try:
            self._execute_tracked(request.envelope, request.route, request.hops, commands, message, request.place)
        finally:
            self.in_part = False

    def pushed(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """A handler has pushed commands; they are executed as an answer's are, and reported to it."""
        batch = self.batch
        route = handler.types[0]
        envelope = Envelope(handler, frames.encode_text(message.header.id or ""), route.name, batch.now, route.metrics)
        self._trace_push(envelope, message.header.traceparent)
        handler.in_flight += 1
        batch.counters.pushes += 1
        try:
            if handler.in_flight > batch.limits.max_in_flight:
                raise Overloaded("too many pushes without their report")
            commands = commands_of(message, route.rules.may)
            if envelope.untracked:
                for command in commands:
                    self.execute(envelope, route, 0, command, message, "")
            else:
                self._execute_tracked(envelope, route, 0, commands, message, "")
        except BesterError as error:
            self.reports.note(envelope, error)
        self.reports.step_done(envelope)

    def _trace_push(self, envelope: Envelope, trace: object) -> None:
        """Gives a push the trace that its handler names, if any."""
        envelope.trace = checked_trace(trace) if isinstance(trace, str) else ""
        if self.traces.on:
            envelope.trace, envelope.trail = self.traces.begin(envelope.trace, None, self.batch.now)
            envelope.untracked = envelope.trail is None

    def _execute_tracked(
        self,
        envelope: Envelope,
        route: TypeRoute,
        hops: int,
        commands: list[Command],
        message: HandlerMessage,
        at: str,
    ) -> None:
        """Executes the commands for a tracked envelope; ``at`` is the place of the request."""
        trail = envelope.trail
        now = self.batch.now
        for ordinal, command in enumerate(commands):
            place = f"{at}.{ordinal}" if envelope.once is not None else ""
            if trail is None:
                self.execute(envelope, route, hops, command, message, place)
            elif trail.dry and command.type in ("sendClients", "reply"):
                self._plan(envelope, trail, route, command, message)
            else:
                first = len(envelope.results or ())
                self.execute(envelope, route, hops, command, message, place)
                kind = "server" if command.type == "sendServers" else "clients"
                trail.add_recipients(kind, first, len(envelope.results or ()), now)
                if command.type == "reply" and isinstance(envelope.origin, Session):
                    trail.add("clients", envelope.origin.username, now, "delivered")

    # -- commands ------------------------------------------------------------------------------------------------

    def execute(
        self,
        envelope: Envelope,
        route: TypeRoute,
        hops: int,
        command: Command,
        message: HandlerMessage,
        place: str,
    ) -> None:
        """Executes one command; failures are noted in the envelope, and the other recipients are still served."""
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
        self._carry_out(envelope, route, hops, command.type, command.data, type, data, command.transient, place)

    def _carry_out(
        self,
        envelope: Envelope,
        route: TypeRoute,
        hops: int,
        kind: str,
        to: list[str] | str | None,
        type: str | None,
        data: Data,
        transient: bool,
        place: str,
    ) -> None:
        if kind == "reply":
            self._reply(envelope, route, type, data)
        elif kind == "sendClients":
            transient = transient or route.rules.transient
            self._send_clients(envelope, to, route, type, data, transient, place)  # type: ignore[arg-type]
        elif kind == "sendHandler":
            self._send_handler(envelope, to, data, hops + 1, place)  # type: ignore[arg-type]
        elif kind == "sendServers":
            transient = transient or route.rules.transient
            type = type or route.name
            self._send_servers(envelope, to, type, data, hops + 1, transient, place)  # type: ignore[arg-type]

    def _send_clients(
        self,
        envelope: Envelope,
        names: list[str],
        route: TypeRoute,
        type: str | None,
        data: Data,
        transient: bool,
        place: str,
    ) -> None:
        if not self._count_allowed(envelope, names):
            return
        head = route.received if type is None or type == route.name else frames.received_head(type)
        frame = frames.received(head, data)
        if envelope.results is None:
            envelope.results = []
        results = envelope.results
        presence = self.presence
        accounts = presence.accounts
        dirty = self.batch.dirty
        served: set[str] = set()
        first = len(results)
        delivered = 0
        for name in names:
            account = accounts.get(name) or presence.find(name)
            if account is None:
                self.deliveries.recipient_away(envelope, name, type or route.name, data, transient, place, served)
                continue
            username = account.username
            if username in served:
                continue
            served.add(username)
            if not account.direct:
                self.deliveries.deliver(envelope, name, account, type or route.name, data, transient, place)
                continue
            for session in account.sessions:
                session.out.append(frame)
                if not session.listed:
                    session.listed = True
                    dirty.append(session)
            delivered += 1
            results.append(account.delivered if name == username else frames.result(name, "delivered"))
        self.batch.counters.deliveries += delivered
        if delivered > self._to_itself(envelope.origin, served):
            envelope.pending += 1
            self.deliveries.direct_writes.append(
                DirectWrite(envelope, names, first, type or route.name, data, transient, place)
            )
            self.batch.awaits_write = True

    def _to_itself(self, origin: Endpoint, served: set[str]) -> int:
        """Returns 1 if the sender alone was written to for its account: it reads that before the report; else 0."""
        if not isinstance(origin, Session) or origin.username not in served:
            return 0
        account = self.presence.accounts.get(origin.username)
        return int(account is not None and account.direct and account.sessions == [origin])

    def _send_servers(
        self,
        envelope: Envelope,
        addresses: list[str],
        type: str,
        data: Data,
        hops: int,
        transient: bool,
        place: str,
    ) -> None:
        if not self._count_allowed(envelope, addresses):
            return
        served: set[str] = set()
        for text in dict.fromkeys(addresses):
            if hops > self.batch.limits.max_hops:
                self.reports.add_result(envelope, text, "failed", TooManyHops())
                continue
            try:
                address = parse_address(text)
            except BadAddress as error:
                self.reports.add_result(envelope, text, "failed", error)
                continue
            if str(address) in served:
                continue
            served.add(str(address))
            slot = self.reports.await_result(envelope)
            id = self.batch.new_id() if envelope.once is None else envelope.once.delivery_id(place, str(address))
            trace = self.traces.of(envelope, place_of(slot))
            self.batch.effects.append(Forward(envelope, slot, text, address, type, data, hops, transient, id, trace))

    def _send_handler(self, envelope: Envelope, type: str, data: Data, hops: int, place: str) -> None:
        route = self.dispatcher.types.get(type)
        if route is None:
            self.reports.note(envelope, self.dispatcher.no_handler())
        elif hops > self.batch.limits.max_hops:
            self.reports.note(envelope, TooManyHops())
        else:
            envelope.pending += 1
            self.dispatcher.hand_on(Request(envelope, route, data, hops, self.batch.now, len(data), place=place))

    def _reply(self, envelope: Envelope, route: TypeRoute, type: str | None, data: Data) -> None:
        origin = envelope.origin
        if origin.scope != "client":
            envelope.data = data
        elif not envelope.untracked and self._reply_tracked(envelope, type or route.name, data):
            return
        elif origin.closed:
            self.batch.counters.drops.count(Drop.REPLY_UNWANTED)
        elif origin.acknowledges or origin.reply_to:
            self.deliveries.reply(origin, type or route.name, data, envelope.id)
        else:
            head = route.received if type is None or type == route.name else frames.received_head(type)
            origin.out.append(frames.received(head, data))
            if not origin.listed:
                origin.listed = True
                self.batch.dirty.append(origin)

    def _reply_tracked(self, envelope: Envelope, type: str, data: Data) -> bool:
        """Replies to a ``once`` message, or with a part; returns False for any other reply."""
        origin = envelope.origin
        if envelope.once is not None:
            self.reply_once(envelope.once, origin, type, data)
        elif self.in_part and not origin.closed:
            self.batch.write(origin, frames.received_part(type, data, envelope.id))
        else:
            return False
        return True

    def reply_once(self, record: OnceRecord, origin: Endpoint, type: str, data: Data) -> None:
        """Replies to everyone who waits for the report, including senders of repeats."""
        record.replies.append((type, data))
        if record.nodes:
            self.once.replied.append((record, len(record.replies) - 1, type, data))
        asking = [one for one in dict.fromkeys((origin, *record.waiting)) if not one.closed]
        for one in asking:
            self.deliveries.reply(one, type, data, record.id)
            if one not in record.replied:
                record.replied.append(one)
        if not asking and not record.nodes:
            self.batch.counters.drops.count(Drop.REPLY_UNWANTED)

    def _count_allowed(self, envelope: Envelope, recipients: list[str]) -> bool:
        if len(recipients) <= self.batch.limits.max_recipients:
            return True
        error = BadResponse(f"more than {self.batch.limits.max_recipients} recipients in one command")
        self.reports.note(envelope, error)
        self.reports.count_lost(envelope, error, len(recipients))
        return False

    def _plan(
        self, envelope: Envelope, trail: Trail, route: TypeRoute, command: Command, message: HandlerMessage
    ) -> None:
        """Adds to the trail of a dry run what a command to clients would do."""
        if command.type == "reply":
            if isinstance(envelope.origin, Session):
                trail.add("clients", envelope.origin.username, self.batch.now, "planned")
            return
        names: list[str] = command.data  # type: ignore[assignment]
        payloads = (command.payload, message.payload)
        type = next((payload.type for payload in payloads if payload is not None and payload.type), route.name)
        if not self._count_allowed(envelope, names):
            return
        seen: set[str] = set()
        for name in names:
            try:
                canonical = username(name)
            except InvalidName:
                canonical = name
                if canonical not in seen:
                    trail.add("clients", name, self.batch.now, UnknownAccount.code)
                    self.reports.note(envelope, UnknownAccount())
            else:
                if canonical in seen:
                    continue
                account = self.presence.find(canonical)
                if account is not None and account.takers(type):
                    trail.add("clients", name, self.batch.now, "planned")
                elif command.transient or route.rules.transient:
                    trail.add("clients", name, self.batch.now, "skipped")
                else:
                    trail.add("mailbox", name, self.batch.now, "planned")
            seen.add(canonical)


def _over(own: OutgoingPayload, shared: OutgoingPayload) -> OutgoingPayload:
    """Returns a command's own payload, completed from the response's."""
    return OutgoingPayload(own.type or shared.type, shared.data if own.data is NOTHING else own.data)
