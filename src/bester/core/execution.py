"""Executes what handlers answer and push: their commands, one by one (docs/protocol.md, section 3).

In a dry run, what would go to clients is only written into the route (section 7).
"""

from __future__ import annotations

from msgspec import Raw

from bester.core.delivery import Delivering, Written
from bester.core.effects import Forward
from bester.core.endpoint import Endpoint
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceRecord
from bester.core.routing import Request, TypeRoute
from bester.core.session import Session
from bester.core.trail import Trail, place_of
from bester.errors import BadAddress, BadResponse, InvalidName, TooManyHops, UnknownAccount
from bester.protocol import frames
from bester.protocol.addresses import parse_address
from bester.protocol.messages import NOTHING, NULL, Command, HandlerMessage, OutgoingPayload
from bester.protocol.names import username


class Execution(Delivering):
    """What each command leads to."""

    def execute(
        self,
        envelope: Envelope,
        handlers: TypeRoute,
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
        handlers: TypeRoute,
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
        given = 0
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
            for session in attendance.sessions:
                session.out.append(frame)
                if not session.listed:
                    session.listed = True
                    self.dirty.append(session)
            given += 1
            results.append(attendance.delivered if name == account else frames.result(name, "delivered"))
        if given:
            self.counters.deliveries += given
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
                self.add_result(envelope, name, "failed", UnknownAccount())
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
                self.add_result(envelope, text, "failed", TooManyHops())
                continue
            try:
                address = parse_address(text)
            except BadAddress as error:
                self.add_result(envelope, text, "failed", error)
                continue
            if str(address) in served:
                continue
            served.add(str(address))
            slot = self.await_result(envelope)
            id = self.new_id() if envelope.once is None else envelope.once.delivery_id(place, str(address))
            trace = self.traceparent(envelope, place_of(slot))
            self.effects.append(Forward(envelope, slot, text, address, type, data, hops, transient, id, trace))

    def _send_handler(self, envelope: Envelope, type: str, data: Raw, hops: int, place: str) -> None:
        handlers = self.types.get(type)
        if handlers is None:
            self.note(envelope, self.no_handler())
        elif hops > self.limits.max_hops:
            self.note(envelope, TooManyHops())
        else:
            envelope.pending += 1
            self.hand_on(Request(envelope, handlers, data, hops, self.now, len(data), place=place))

    def _reply(self, envelope: Envelope, handlers: TypeRoute, type: str | None, data: Raw) -> None:
        origin = envelope.origin
        if origin.scope != "client":
            envelope.data = data
        elif envelope.once is not None:
            self.reply_once(envelope.once, origin, type or handlers.name, data)
        elif origin.closed:
            self.counters.drops.count(Drop.REPLY_UNWANTED)
        elif origin.acknowledges or origin.reply_to:
            self.reply(origin, type or handlers.name, data, envelope.id)
        else:
            head = handlers.received if type is None or type == handlers.name else frames.received_head(type)
            self.write(origin, frames.received(head, data))

    def reply_once(self, record: OnceRecord, origin: Endpoint, type: str, data: Raw) -> None:
        """Replies to all that will have the report: those that sent it again, too."""
        record.replies.append((type, data))
        if record.nodes:
            self.once.replied.append((record, len(record.replies) - 1, type, data))
        asking = [one for one in dict.fromkeys((origin, *record.waiting)) if not one.closed]
        for one in asking:
            self.reply(one, type, data, record.id)
            if one not in record.replied:
                record.replied.append(one)
        if not asking and not record.nodes:
            self.counters.drops.count(Drop.REPLY_UNWANTED)

    def _count_allowed(self, envelope: Envelope, recipients: list[str]) -> bool:
        if len(recipients) <= self.limits.max_recipients:
            return True
        error = BadResponse(f"more than {self.limits.max_recipients} recipients in one command")
        self.note(envelope, error)
        self.count_lost(envelope, error, len(recipients))
        return False

    def plan(
        self, envelope: Envelope, trail: Trail, handlers: TypeRoute, command: Command, message: HandlerMessage
    ) -> None:
        """Says of a command whose recipients are clients what would be done."""
        if command.type == "reply":
            if isinstance(envelope.origin, Session):
                trail.add("clients", envelope.origin.username, self.now, "planned")
            return
        names: list[str] = command.data  # type: ignore[assignment]
        payloads = (command.payload, message.payload)
        type = next((payload.type for payload in payloads if payload is not None and payload.type), handlers.name)
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
                attendance = self.presence.find(account)
                if attendance is not None and attendance.takers(type):
                    trail.add("clients", name, self.now, "planned")
                elif command.transient or handlers.rules.transient:
                    trail.add("clients", name, self.now, "skipped")
                else:
                    trail.add("mailbox", name, self.now, "planned")
            seen.add(account)


def _over(own: OutgoingPayload, shared: OutgoingPayload) -> OutgoingPayload:
    """A command's own payload, with the response's where it says nothing."""
    return OutgoingPayload(own.type or shared.type, shared.data if own.data is NOTHING else own.data)
