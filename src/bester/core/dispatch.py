"""Hands requests to handlers: at once where there is room, later where there is not.

The rooms of this class are the types with their handlers and lanes (:mod:`bester.core.handlers`). It decides who is
asked and when, and who waits; what an answer leads to is the :class:`~bester.core.exchange.Exchange`'s, which is built
on it. ``dirty`` lists the endpoints that have frames to be written; ``effects`` lists what else the server must do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bester.core.effects import AskRemote, CallClassic, Effect, Pause, Resume
from bester.core.endpoint import Endpoint
from bester.core.limits import Limits
from bester.core.metrics import Counters
from bester.core.model import Envelope, Relayed
from bester.core.order import Order
from bester.core.routing import HANDED_BYTES, AttachedHandler, RemoteHandler, Request, TypeRoute
from bester.core.rules import OTHERS, TypeRules
from bester.core.traces import Traces
from bester.core.trail import Trail
from bester.errors import BesterError, HandlerTimeout, HandlerUnavailable, NoHandler, NotAllowed
from bester.protocol import frames
from bester.protocol.messages import NULL
from bester.protocol.names import RESERVED_TYPES

_NEVER_PAUSED = ("handler", "node")
"""A handler's answers are what the others wait for, and another node asks for no more than it was told it may."""
_HELD_OVERHEAD = 256
"""What a waiting message takes beside its own bytes, about."""


class Dispatch:
    """The types, their handlers, and who waits for them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counters = Counters()
        self.now = 0.0
        """The server's clock in seconds, set by the server before each batch."""
        self.types: dict[str, TypeRoute] = {}
        self.unsure_until = 0.0
        """Until when a type that is not known here may have a handler at another node, or soon."""
        self.handlers: list[AttachedHandler] = []
        self.full: list[AttachedHandler] = []
        """Handlers that get no more before what they were handed is written."""
        self.dirty: list[Endpoint] = []
        self.effects: list[Effect] = []
        self._last_request = 0
        # Beyond 30 attributes an object's become slower to reach; so what belongs together is one of them.
        self.traces = Traces("0123456789abcdef" * 3)
        self._attached_rules: Mapping[str, TypeRules] = {}

    def count_from(self, number: int) -> None:
        """Numbers requests from there on; before the first one."""
        self._last_request = number

    def fail(self, request: Request, error: BesterError) -> None:
        """A request has no answer, and will have none; the exchange says what that means."""
        raise AssertionError

    def not_asked(self, request: Request) -> None:
        """Nobody can be asked what would be done in a dry run."""
        raise AssertionError

    def no_handler(self) -> BesterError:
        """Returns why a message of a type that is not known here has no handler."""
        if self.now < self.unsure_until:
            return HandlerUnavailable("no handler serves this type at a node that can be reached now")
        return NoHandler()

    def traceparent(self, envelope: Envelope, place: int = 0) -> str:
        """Returns a message's W3C traceparent: that which came with it, or its own.

        Args:
            envelope: the message.
            place: that of the step that it goes out with; of a traced message, each has its own.
        """
        trail = envelope.trail
        if trail is not None and trail.spans is not None:
            return trail.spans.traceparent(place)
        if not envelope.trace:
            envelope.trace = self.traces.new()
        return self.traces.whole(envelope.trace)

    # -- who serves which type -----------------------------------------------------------------------------------

    def configure(
        self, types: Mapping[str, TypeRules], limits: Limits, attached: Mapping[str, TypeRules] | None = None
    ) -> None:
        """Switches to other types and limits; what is under way goes on.

        Args:
            types: those that are served whether a handler is attached or not.
            limits: the new bounds.
            attached: rules for types that are served only while a handler is attached; under :data:`OTHERS`, those for
                all the rest, but for the time limit.
        """
        self.limits = limits
        self._attached_rules = attached or {}
        for name, rules in types.items():
            known = self.types.get(name)
            if known is None:
                metrics = self.counters.by_type.of(name, configured=True)
                self.types[name] = TypeRoute(name, rules, metrics, configured=True)
            else:
                known.rules = rules
                known.configured = True
        for handlers in list(self.types.values()):
            if handlers.name not in types:
                handlers.configured = False
                handlers.rules = self._rules_while_attached(handlers.name, handlers.rules.timeout_s)
            self._retire_or_pump(handlers)

    def _rules_while_attached(self, type: str, timeout_s: float) -> TypeRules:
        rules = self._attached_rules
        return rules.get(type) or replace(rules.get(OTHERS, TypeRules()), timeout_s=timeout_s)

    def attach(self, handler: AttachedHandler, types: list[str], default_timeout_s: float) -> None:
        """A handler process plugged in for these types (section 6).

        Raises:
            NotAllowed: one of the types is the server's own.
        """
        for name in types:
            if name in RESERVED_TYPES:
                raise NotAllowed(f"the type {name} is the server's own")
        attached: list[TypeRoute] = []
        for name in dict.fromkeys(types):
            handlers = self.types.get(name)
            if handlers is None:
                rules = self._rules_while_attached(name, default_timeout_s)
                metrics = self.counters.by_type.of(name, configured=False)
                handlers = self.types[name] = TypeRoute(name, rules, metrics, configured=False)
            handlers.attached.append(handler)
            handlers.mark_all_ready()
            attached.append(handlers)
        handler.types = tuple(attached)
        self.handlers.append(handler)
        for handlers in attached:
            self.pump(handlers)

    def attach_remote(self, handler: RemoteHandler, type: str, default_timeout_s: float) -> None:
        """Another node serves a type; ``handler`` stands for it, until :meth:`remove_handler`."""
        handlers = self.types.get(type)
        if handlers is None:
            rules = self._rules_while_attached(type, default_timeout_s)
            metrics = self.counters.by_type.of(type, configured=False)
            handlers = self.types[type] = TypeRoute(type, rules, metrics, configured=False)
        handlers.elsewhere.append(handler)
        handler.types = (handlers,)
        self.handlers.append(handler)
        handlers.mark_all_ready()
        self.pump(handlers)

    def detach(self, handler: AttachedHandler) -> None:
        """The handler gets no new requests; the outstanding ones finish."""
        if handler.detached:
            return
        handler.detached = True
        for handlers in handler.types:
            (handlers.elsewhere if handler.elsewhere else handlers.attached).remove(handler)
        for handlers in handler.types:  # only now: what this finishes may let in messages for any of the types
            self._retire_or_pump(handlers)

    def remove_handler(self, handler: AttachedHandler) -> None:
        """The handler's connection is gone: its outstanding requests fail."""
        handler.closed = True
        self.detach(handler)
        self.handlers.remove(handler)
        outstanding = list(handler.outstanding.values())
        handler.outstanding.clear()
        if isinstance(handler, RemoteHandler):
            for request in handler.carrying.values():
                request.envelope.awaiting -= 1
                outstanding.append(request)
            handler.carrying.clear()
        for request in outstanding:
            self.fail(request, HandlerUnavailable("the handler went away before it answered"))

    def unblocked(self, handler: AttachedHandler) -> None:
        """The handler's socket takes more again."""
        handler.blocked = handler.full = False
        handler.room = HANDED_BYTES
        for handlers in handler.types:
            self.pump(handlers)

    def blocked(self, handler: AttachedHandler) -> None:
        """The handler's socket takes no more for now."""
        handler.blocked = True
        handler.full = False

    def go_on_handing(self) -> None:
        """All is written: hands more to the handlers whose sockets took it."""
        full, self.full = self.full, []
        for handler in full:
            if handler.full:
                self.unblocked(handler)

    # -- handing over --------------------------------------------------------------------------------------------

    def hand(self, request: Request) -> None:
        """Hands a request over now if there is room and nobody waits before it; else it waits."""
        handlers = request.handlers
        attached = handlers.attached
        if attached:
            if not handlers.ready:
                handler = attached[0] if len(attached) == 1 else handlers.free_handler()
                if handler is not None and len(handler.outstanding) < handler.concurrency and not handler.blocked:
                    self._ask(handler, request)
                    return
        elif handlers.rules.classic_socket is None:
            if not handlers.elsewhere:
                self.fail(request, HandlerUnavailable("no handler of this type is attached now"))
                return
            if not handlers.ready and (handler := handlers.free_handler()) is not None:
                self._ask_elsewhere(handler, request)
                return
        handlers.put(request)
        self.hold(request.envelope.origin, request.size)
        self.pump(handlers)

    def hand_on(self, request: Request) -> None:
        """The same where the route may be recorded."""
        trail = request.envelope.trail
        if trail is None:
            self.hand(request)
        else:
            self._hand_traced(request, trail)

    def _hand_traced(self, request: Request, trail: Trail) -> None:
        """The same where the route is recorded; a dry run is handed over only to those who take part in such."""
        handlers = request.handlers
        request.step = trail.add("handler", handlers.name, self.now)
        if not trail.dry:
            self.hand(request)
            return
        self.traceparent(request.envelope)  # so that it has one, and the request is not made the quick way
        able = [handler for handler in handlers.attached if handlers.name in handler.dry_types]
        able = able or [handler for handler in handlers.elsewhere if handlers.name in handler.dry_types]
        if not able:
            request.step.end(self.now, "notAsked")
            self.not_asked(request)
            return
        free = [handler for handler in able if handler.free]
        if not free or handlers.ready:  # it takes nobody's turn
            self.fail(request, HandlerUnavailable("the handlers are busy, and dry runs do not wait"))
            return
        handler = min(free, key=lambda handler: len(handler.outstanding))
        if handler.elsewhere:
            self._ask_elsewhere(handler, request)
        else:
            self._ask(handler, request)

    def _ask(self, handler: AttachedHandler, request: Request) -> None:
        number = self._last_request + 1
        traces = self.traces
        if number >= traces.until:
            traces.widen(number)
        self._last_request = number
        id = str(number)
        request.since = self.now
        handler.outstanding[id] = request
        envelope = request.envelope
        if not envelope.trace:
            envelope.trace = id
            frame = frames.traced_request(
                id,
                envelope.origin.origin,
                request.hops,
                traces.head,
                traces.tail,
                request.handlers.request,
                envelope.id,
                request.data,
            )
        elif envelope.origin.scope == "node":
            assert isinstance(envelope, Relayed)
            frame = frames.relayed_request(id, envelope.head, request.data)
        else:
            trace = self.traceparent(envelope, request.step.place if request.step is not None else 0)
            more = frames.request_part(trace, envelope.trail is not None and envelope.trail.dry)
            frame = frames.request(
                id, envelope.origin.origin, request.hops, request.handlers.request, envelope.id, request.data, more
            )
        request.data = NULL  # not kept alive until the answer
        handler.out.append(frame)
        if not handler.listed:
            handler.listed = True
            self.dirty.append(handler)
        handler.room -= len(frame)
        if handler.room <= 0:
            handler.blocked = handler.full = True
            self.full.append(handler)

    def _ask_elsewhere(self, handler: AttachedHandler, request: Request) -> None:
        """Lets another node ask one of its handlers, and carry out the answer if that overtakes nothing."""
        assert isinstance(handler, RemoteHandler)
        number = self._last_request = self._last_request + 1
        if number >= self.traces.until:
            self.traces.widen(number)
        request.since = self.now
        id = str(number)
        handler.outstanding[id] = request
        envelope = request.envelope
        trail = envelope.trail
        dry = trail is not None and trail.dry
        if not envelope.trace and trail is None:
            envelope.trace = id
            more = b"".join((self.traces.part_head, id.encode(), self.traces.part_tail))
        else:
            trace = self.traceparent(envelope, request.step.place if request.step is not None else 0)
            more = frames.request_part(trace, dry)
        origin = envelope.origin
        head = frames.request_head(origin.origin, request.hops, request.handlers.request, envelope.id, more)
        asked = AskRemote(handler, number, request.handlers.name, head, request.data, dry)
        order = origin.order
        if order is None:
            order = origin.order = Order(number)
        if envelope.plain and not order.left and not order.older:
            order.asked += 1
            request.epoch = asked.epoch = order.epoch
            asked.order = order.number
        else:
            self.leave_here(envelope, order)
        self.effects.append(asked)
        request.data = NULL

    def leave_here(self, envelope: Envelope, order: Order) -> None:
        """What a handler elsewhere answers is carried out here, before what is carried out there."""
        if not envelope.left:
            envelope.left = True
            envelope.plain = False
            order.left += 1

    def pump(self, handlers: TypeRoute) -> None:
        """Hands over what waits, while there is room."""
        ready = handlers.ready
        while ready and handlers.available:
            if not handlers.classic:
                handler = handlers.free_handler()
                if handler is None:
                    return
                own = handlers.take_own() if handler.elsewhere else handlers.take()
                if own is None:
                    return
                self.release(own.envelope.origin, own.size)
                if handler.elsewhere:
                    self._ask_elsewhere(handler, own)
                else:
                    self._ask(handler, own)
            else:
                if handlers.active >= handlers.rules.classic_concurrency:
                    return
                request = handlers.take()
                handlers.active += 1
                request.since = self.now
                self.release(request.envelope.origin, request.size)
                self.effects.append(CallClassic(request))

    def _retire_or_pump(self, handlers: TypeRoute) -> None:
        """After a change of who serves a type: goes on with what waits, or fails it if there is nobody."""
        if handlers.available:
            handlers.mark_all_ready()
            self.pump(handlers)
            return
        if not handlers.configured:
            self.types.pop(handlers.name, None)
        for request in handlers.waiting_since(float("inf")):
            self.release(request.envelope.origin, request.size)
            self.fail(request, HandlerUnavailable("the type's last handler went away"))

    # -- backpressure --------------------------------------------------------------------------------------------

    def hold(self, origin: Endpoint, size: int) -> None:
        """Something from there waits; beyond the limit its socket is not read."""
        origin.held_bytes += size + _HELD_OVERHEAD
        if origin.held_bytes > self.limits.max_held_bytes and not origin.paused and origin.scope not in _NEVER_PAUSED:
            origin.paused = True
            self.effects.append(Pause(origin))

    def release(self, origin: Endpoint, size: int) -> None:
        """Something from there waits no longer."""
        origin.held_bytes -= size + _HELD_OVERHEAD
        if origin.paused and origin.held_bytes <= self.limits.max_held_bytes // 2:
            origin.paused = False
            self.effects.append(Resume(origin))

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Fails what has waited for its handler for too long; called a few times a second."""
        now = self.now
        self.counters.by_type.sweep()
        for handler in list(self.handlers):
            expired = [
                id
                for id, request in handler.outstanding.items()
                if now - request.since >= request.handlers.rules.timeout_s
            ]
            for id in expired:
                self.fail(handler.outstanding.pop(id), HandlerTimeout())
            if expired:
                for handlers in handler.types:
                    self.pump(handlers)
        for handlers in list(self.types.values()):
            timeout = handlers.rules.timeout_s
            if handlers.sender_queues and now - handlers.progress >= timeout:
                for request in handlers.waiting_since(now - timeout):
                    self.release(request.envelope.origin, request.size)
                    self.fail(request, HandlerTimeout("the handler was busy for longer than the time limit"))
