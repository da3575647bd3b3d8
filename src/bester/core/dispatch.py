"""Hands requests to handlers: at once where there is room, later where there is not.

The dispatcher owns the types with their handlers and the queues of senders (:mod:`bester.core.routing`). It decides
which handler is asked and when, and fails requests that find none, or that wait too long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bester.core.batch import Batch
from bester.core.effects import AskRemote, CallClassic
from bester.core.limits import Limits
from bester.core.model import Envelope, Relayed
from bester.core.order import Order
from bester.core.reports import Reports
from bester.core.routing import HANDED_BYTES, AttachedHandler, Question, RemoteHandler, Request, TypeRoute, Watcher
from bester.core.rules import OTHERS, TypeRules
from bester.core.streams import Streams
from bester.core.traces import Traces
from bester.core.trail import Trail
from bester.errors import BadResponse, BesterError, Cancelled, HandlerTimeout, HandlerUnavailable, NoHandler, NotAllowed
from bester.protocol import frames
from bester.protocol.messages import NULL
from bester.protocol.names import RESERVED_TYPES


class Dispatcher:
    """Owns the types and their handlers, and the requests that wait for them."""

    __slots__ = (
        "_attached_rules",
        "_last_request",
        "batch",
        "full",
        "gate_of",
        "handlers",
        "reports",
        "streams",
        "taps",
        "traces",
        "types",
        "unsure_until",
    )

    def __init__(self, batch: Batch, reports: Reports, traces: Traces, streams: Streams) -> None:
        self.batch = batch
        self.reports = reports
        self.streams = streams
        self.traces = traces
        self.types: dict[str, TypeRoute] = {}
        self.gate_of: Callable[[str], Callable[[Request], None] | None] = lambda type: None  # the gate of a type
        self.taps: dict[str, Watcher] = {}
        """By type, the taps of types that have one, whether they are served or not."""
        self.unsure_until = 0.0
        """The time until which a type that is unknown here may have a handler at another node."""
        self.handlers: list[AttachedHandler] = []
        self.full: list[AttachedHandler] = []
        """Handlers that get no more requests before the batch is written."""
        self._last_request = 0
        self._attached_rules: Mapping[str, TypeRules] = {}

    def count_from(self, number: int) -> None:
        """Sets the number after which requests are numbered; called before the first one."""
        self._last_request = number

    def no_handler(self) -> BesterError:
        """Returns the error for a message of a type that is unknown here."""
        if self.batch.now < self.unsure_until:
            return HandlerUnavailable("no handler serves this type at a node that can be reached now")
        return NoHandler()

    # -- types and their handlers --------------------------------------------------------------------------------

    def configure(
        self, types: Mapping[str, TypeRules], limits: Limits, attached: Mapping[str, TypeRules] | None = None
    ) -> None:
        """Switches to other types and limits; messages under way go on.

        Args:
            types: the rules of types that are served whether a handler is attached or not.
            limits: the new bounds.
            attached: the rules of types that are served only while a handler is attached; under :data:`OTHERS`, those
                of all other types, whose time limit is not taken from there.
        """
        self.batch.limits = limits
        self._attached_rules = attached or {}
        for name, rules in types.items():
            known = self.types.get(name)
            if known is None:
                self._add_type(name, rules, configured=True)
            else:
                known.rules = rules
                known.configured = True
        for route in list(self.types.values()):
            if route.name not in types:
                route.configured = False
                route.rules = self._rules_while_attached(route.name, route.rules.timeout_s)
            self._retire_or_pump(route)

    def _rules_while_attached(self, type: str, timeout_s: float) -> TypeRules:
        rules = self._attached_rules
        return rules.get(type) or replace(rules.get(OTHERS, TypeRules()), timeout_s=timeout_s)

    def _add_type(self, name: str, rules: TypeRules, *, configured: bool) -> TypeRoute:
        metrics = self.batch.counters.by_type.of(name, configured=configured)
        route = self.types[name] = TypeRoute(name, rules, metrics, configured=configured)
        route.gate = self.gate_of(name)
        route.tap = self.taps.get(name)
        return route

    def _find_or_add(self, type: str, default_timeout_s: float) -> TypeRoute:
        known = self.types.get(type)
        return known or self._add_type(type, self._rules_while_attached(type, default_timeout_s), configured=False)

    def attach(self, handler: AttachedHandler, types: list[str], default_timeout_s: float) -> None:
        """Lets a handler process serve these types (section 6).

        Raises:
            NotAllowed: one of the types is the server's own.
        """
        for name in types:
            if name in RESERVED_TYPES:
                raise NotAllowed(f"the type {name} is the server's own")
        attached: list[TypeRoute] = []
        for name in dict.fromkeys(types):
            route = self._find_or_add(name, default_timeout_s)
            route.attached.append(handler)
            route.mark_all_ready()
            attached.append(route)
        handler.types = tuple(attached)
        self.handlers.append(handler)
        for route in attached:
            self.pump(route)

    def attach_remote(self, handler: RemoteHandler, type: str, default_timeout_s: float) -> None:
        """Lets another node serve a type; ``handler`` stands for it, until :meth:`remove`."""
        route = self._find_or_add(type, default_timeout_s)
        route.remote.append(handler)
        handler.types = (route,)
        self.handlers.append(handler)
        route.mark_all_ready()
        self.pump(route)

    def detach(self, handler: AttachedHandler) -> None:
        """Gives the handler no new requests; the outstanding ones finish."""
        if handler.detached:
            return
        handler.detached = True
        for route in handler.types:
            if isinstance(handler, RemoteHandler):
                route.remote.remove(handler)
            else:
                route.attached.remove(handler)
            self._retire_or_pump(route)

    def remove(self, handler: AttachedHandler) -> None:
        """Removes a handler whose connection has ended; its outstanding requests fail."""
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
        """The handler's socket takes more again; hands over requests that wait."""
        handler.blocked = handler.full = False
        handler.room = HANDED_BYTES
        self.streams.tell_granted()
        self.pump_all(handler)

    def blocked(self, handler: AttachedHandler) -> None:
        """The handler's socket takes no more for now."""
        handler.blocked = True
        handler.full = False

    def written(self) -> None:
        """The batch has been written; hands more to the handlers whose sockets took it, or else to other nodes."""
        full, self.full = self.full, []
        for handler in full:
            if handler.full:
                self.unblocked(handler)
            else:
                self.pump_all(handler)

    # -- handing over --------------------------------------------------------------------------------------------

    def hand(self, request: Request) -> None:
        """Hands a request over if there is room and no other waits before it; else lets it wait."""
        route = request.route
        attached = route.attached
        if attached:
            if not route.ready:
                handler = attached[0] if len(attached) == 1 else route.free_attached()
                if handler is not None and len(handler.outstanding) < handler.concurrency and not handler.blocked:
                    self._ask(handler, request)
                    return
        elif route.rules.classic_socket is None:
            if not route.remote:
                self.fail(request, HandlerUnavailable("no handler of this type is attached now"))
                return
            if not route.ready and (handler := route.free_handler()) is not None:
                self._ask_remote(handler, request)
                return
        route.put(request)
        self.batch.hold(request.envelope.origin, request.size)
        self.pump(route)

    def hand_on(self, request: Request) -> None:
        """Hands a request over as :meth:`hand` does, and records the step if the envelope has a trail."""
        if request.route.tap is not None:
            request.route.tap.take(request)
        trail = request.envelope.trail
        if trail is None:
            self.hand(request)
        else:
            self._hand_traced(request, trail)

    def _hand_traced(self, request: Request, trail: Trail) -> None:
        """Hands over a request with a trail; a dry run goes only to a handler that takes part in dry runs."""
        route = request.route
        now = self.batch.now
        request.step = request.step or trail.add("handler", route.name, now)
        if not trail.dry:
            self.hand(request)
            return
        self.traces.of(request.envelope)  # with a trace of its own the request is not made the quick way
        able: list[AttachedHandler] = [one for one in route.attached if route.name in one.dry_types]
        if not able and request.envelope.origin.scope != "node":
            able = [one for one in route.remote if route.name in one.dry_types]
        if not able:
            request.step.end(now, "notAsked")
            if not request.unanswered(None):
                self.reports.step_done(request.envelope)
            return
        free = [handler for handler in able if handler.free]
        if not free or route.ready:  # a dry run takes no sender's turn
            self.fail(request, HandlerUnavailable("the handlers are busy, and dry runs do not wait"))
            return
        handler = min(free, key=lambda handler: len(handler.outstanding))
        if handler.is_remote:
            self._ask_remote(handler, request)
        else:
            self._ask(handler, request)

    def _ask(self, handler: AttachedHandler, request: Request) -> None:
        """Writes a request to an attached handler."""
        batch = self.batch
        traces = self.traces
        number = self._last_request = self._last_request + 1
        if number >= traces.until:
            traces.widen(number)
        id = str(number)
        request.since = batch.now
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
                request.route.request,
                envelope.id,
                request.data,
            )
        elif isinstance(envelope, Relayed):
            frame = frames.relayed_request(id, envelope.head, request.data, self.streams.asked(handler, request, id))
        else:
            trace = traces.of(envelope, request.step.place if request.step is not None else 0)
            more = request.header_part(trace, self.streams.asked(handler, request, id))
            frame = frames.request(
                id, envelope.origin.origin, request.hops, request.route.request, envelope.id, request.data, more
            )
        request.data = NULL  # not kept alive until the answer
        handler.out.append(frame)
        if not handler.listed:
            handler.listed = True
            batch.dirty.append(handler)
        room = handler.room = handler.room - len(frame)
        if room <= 0:
            handler.blocked = handler.full = True
            self.full.append(handler)
            batch.awaits_write = True

    def _ask_remote(self, handler: AttachedHandler, request: Request) -> None:
        """Lets another node ask one of its handlers, and carry out the answer if it overtakes nothing."""
        assert isinstance(handler, RemoteHandler)
        if request.route.tap is not None:
            request.route.tap.forget(request)
        traces = self.traces
        number = self._last_request = self._last_request + 1
        if number >= traces.until:
            traces.widen(number)
        request.since = self.batch.now
        id = str(number)
        handler.outstanding[id] = request
        envelope = request.envelope
        trail = envelope.trail
        dry = trail is not None and trail.dry
        if not envelope.trace and trail is None:
            envelope.trace = id
            more = b"".join((traces.part_head, id.encode(), traces.part_tail))
        else:
            trace = traces.of(envelope, request.step.place if request.step is not None else 0)
            more = request.header_part(trace)
        origin = envelope.origin
        head = frames.request_head(origin.origin, request.hops, request.route.request, envelope.id, more)
        asked = AskRemote(handler, number, request.route.name, head, request.data, dry, isinstance(request, Question))
        asked.sent_on = request.route.name != envelope.type
        if not envelope.untracked:
            asked.parts = self.streams.asked(handler, request, id)
        order = origin.order
        if order is None:
            order = origin.order = Order(number)
        if envelope.untracked and not order.answered_locally and not order.older:
            order.asked += 1
            request.epoch = asked.epoch = order.epoch
            asked.order = order.number
        else:
            answer_locally(envelope, order)
        self.batch.effects.append(asked)
        request.data = NULL

    def pump(self, route: TypeRoute) -> None:
        """Hands over a type's waiting requests while there is room."""
        ready = route.ready
        batch = self.batch
        while ready and route.available:
            if not route.classic:
                handler = route.free_handler()
                if handler is None:
                    return
                own = route.take_own() if handler.is_remote else route.take()
                if own is None:
                    return
                batch.release(own.envelope.origin, own.size)
                if handler.is_remote:
                    self._ask_remote(handler, own)
                else:
                    self._ask(handler, own)
            else:
                if route.active >= route.rules.classic_concurrency:
                    return
                request = route.take()
                route.active += 1
                request.since = batch.now
                batch.release(request.envelope.origin, request.size)
                batch.effects.append(CallClassic(request))

    def pump_all(self, handler: AttachedHandler) -> None:
        """Hands over the waiting requests of a handler's types, which are first in turn: so none starves the others."""
        types = handler.types
        if len(types) > 1:
            turn = handler.turn = (handler.turn + 1) % len(types)
            types = types[turn:] + types[:turn]
        for route in types:
            if route.ready:
                self.pump(route)

    def _retire_or_pump(self, route: TypeRoute) -> None:
        """Hands over a type's waiting requests after a change of its handlers, or fails them if none is left."""
        if route.available:
            route.mark_all_ready()
            self.pump(route)
            return
        if not route.configured:
            self.types.pop(route.name, None)
        for request in route.waiting_since(float("inf")):
            self.batch.release(request.envelope.origin, request.size)
            self.fail(request, HandlerUnavailable("the type's last handler went away"))

    # -- answers and failures ------------------------------------------------------------------------------------

    def classic_done(self, request: Request) -> None:
        """A classic handler's connection has ended, which makes room for another."""
        route = request.route
        route.active -= 1
        assert request.queue is not None
        route.done(request.queue)
        self.pump(route)

    def fail(self, request: Request, error: BesterError) -> None:
        """Fails a request that will have no answer: its message is reported bad."""
        route = request.route
        envelope = request.envelope
        if route.tap is not None and route.tap.failed(request, error):
            return
        if request.epoch:
            settle_order(request)
        if not envelope.untracked:
            self.streams.answered(request)
        if request.step is not None:
            request.step.end(self.batch.now, error.code)
        if not isinstance(error, Cancelled):  # which is no fault of the handler
            route.metrics.failed += 1
            route.last_error = f"{error.code}: {error.explained}"
        if request.unanswered(error):
            return
        if isinstance(error, BadResponse):
            error = BadResponse()  # the details are for the operator and the handler's author, not for the sender
        self.reports.note(envelope, error)
        self.reports.step_done(envelope)

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Fails requests that have waited for their handler for too long; called a few times a second."""
        now = self.batch.now
        self.batch.counters.by_type.sweep()
        for handler in list(self.handlers):
            expired = [id for id, one in handler.outstanding.items() if self.streams.is_over(one)]
            for id in expired:
                request = handler.outstanding.pop(id)
                self.fail(request, self.streams.give_up(handler, request, id))
            if expired:
                self.pump_all(handler)
        for route in list(self.types.values()):
            timeout_s = route.rules.timeout_s
            if route.queues and now - route.progress >= timeout_s:
                for request in route.waiting_since(now - timeout_s):
                    self.batch.release(request.envelope.origin, request.size)
                    self.fail(request, HandlerTimeout("the handler was busy for longer than the time limit"))


def answer_locally(envelope: Envelope, order: Order) -> None:
    """Lets this node carry out the answer of another node's handler, before later answers that the node carries out."""
    if not envelope.answered_locally:
        envelope.answered_locally = True
        envelope.untracked = False
        order.answered_locally += 1


def settle_order(request: Request) -> None:
    """Counts off a request in its sender's order: the other node has nothing left of it to carry out."""
    order = request.envelope.origin.order
    assert order is not None
    order.answered(request.epoch)
    request.epoch = 0
