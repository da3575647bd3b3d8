"""The exchange under everything that can happen to it, in any order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.world import answered

from bester.core.effects import CallClassic, Deposit, Finished, Forward, Pause, PresenceChanged, ReadMailbox, Resume
from bester.core.endpoint import Endpoint, Peer
from bester.core.exchange import Exchange
from bester.core.limits import Limits
from bester.core.routing import AttachedHandler
from bester.core.rules import Allow, TypeRules
from bester.core.session import Session
from bester.errors import BadResponse, HandlerTimeout, MailboxFull
from bester.protocol.messages import Data, decode_classic
from bester.protocol.names import RESERVED_TYPES

T = TypeVar("T", bound=Callable[..., None])

TIMEOUT_S = 10.0
LIMITS = Limits(max_hops=3, max_in_flight=3, max_recipients=3, max_held_bytes=1500)
NAMES = ["g", "t", "G", "away", "not a name"]
TYPES = ["a", "b", "classic", "configured", "unknown"]
CONFIGURATIONS = [
    {"classic": TypeRules(TIMEOUT_S, "/s", 2), "configured": TypeRules(TIMEOUT_S)},
    {"classic": TypeRules(TIMEOUT_S, "/s", 1), "configured": TypeRules(TIMEOUT_S, "/t", 1)},
    {"configured": TypeRules(TIMEOUT_S, transient=True), "b": TypeRules(TIMEOUT_S, allow=Allow(servers=False))},
]

types = st.sampled_from(TYPES)
carried = st.sampled_from([{}, {}, {}, {"payload": {"type": "b"}}, {"payload": {"type": "builtin"}}])
"""The type that a command carries, which may be one that no handler sends."""
commands: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.one_of(
        st.builds(
            lambda to, carried: {"type": "sendClients", "data": to} | carried,
            st.lists(st.sampled_from(NAMES), max_size=4),
            carried,
        ),
        st.builds(
            lambda to, carried: {"type": "sendServers", "data": to} | carried,
            st.lists(st.sampled_from(["k.example", "l.example", "not an address"]), max_size=4),
            carried,
        ),
        st.builds(
            lambda to: {"type": "sendHandler", "data": to, "payload": {"data": "on"}},
            st.sampled_from([*TYPES, "builtin"]),
        ),
        st.sampled_from([{"type": "reply"}, {"type": "reply", "payload": {"type": "dummy"}}, {"type": "done"}]),
    ),
    max_size=3,
)
statuses = st.sampled_from(["0", "0", "0", 0, "1", None])
picks = st.integers(0, 1000)


def needs(pool: str) -> Callable[[T], T]:
    """The rule needs one of these."""

    def decorate(function: T) -> T:
        return precondition(lambda machine: bool(getattr(machine, pool)))(function)

    return decorate


class ExchangeMachine(RuleBasedStateMachine):
    """Plays the server around an exchange, and keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.exchange = Exchange("j.example", LIMITS)
        self.exchange.batch.now = 100.0
        self.sessions: list[Session] = []
        self.senders: list[Session | Peer] = []
        self.handlers: list[AttachedHandler] = []
        self.calls: list[CallClassic] = []
        self.unsettled: list[Deposit | Forward] = []
        self.everybody: list[Endpoint] = []
        self.closed: dict[Endpoint, int] = {}
        """What had been written to an endpoint when it was closed."""
        self.sent: dict[Endpoint, Counter[str]] = {}
        self.reported: dict[Endpoint, Counter[str]] = {}
        self.handed: dict[tuple[Endpoint, str], int] = {}
        """The last message that was handed over, by sender and type."""
        self.paused: set[Endpoint] = set()
        self.closing: set[Endpoint] = set()
        """Those that are to be told when nothing from them is in flight any more."""
        self.number = 0

    # -- the server's part --

    def add(self, endpoint: Endpoint) -> None:
        self.everybody.append(endpoint)
        self.sent[endpoint] = Counter()
        self.reported[endpoint] = Counter()

    def close(self, endpoint: Endpoint) -> None:
        self.write()
        self.closed[endpoint] = 0

    def write(self) -> None:
        """Carries out what the exchange has decided."""
        while self.exchange.settle():
            self.write_once()
            self.exchange.written()

    def write_once(self) -> None:
        exchange = self.exchange
        effects, exchange.batch.effects = exchange.batch.effects, []
        for effect in effects:
            match effect:
                case CallClassic():
                    self.calls.append(effect)
                    self.hand_over(effect.request.envelope.origin, effect.request.route.name, effect.request.data)
                case Deposit() | Forward():
                    sent = effect.delivery if isinstance(effect, Deposit) else effect
                    assert sent.type not in RESERVED_TYPES
                    self.unsettled.append(effect)
                case ReadMailbox(session):
                    exchange.replay.page(session, [])
                case Pause(endpoint):
                    assert endpoint not in self.paused
                    assert not isinstance(endpoint, AttachedHandler)
                    self.paused.add(endpoint)
                case Resume(endpoint):
                    self.paused.remove(endpoint)
                case Finished(endpoint):
                    assert endpoint.closing
                    assert not endpoint.in_flight
                    self.closing.remove(endpoint)  # told once
                case PresenceChanged(name, online):
                    assert online == any(session.username == name for session in self.sessions)
        requests: list[tuple[int, AttachedHandler, Any]] = []
        dirty, exchange.batch.dirty = exchange.batch.dirty, []
        assert len(set(dirty)) == len(dirty)
        for endpoint in dirty:
            assert endpoint.listed
            endpoint.listed = False
            assert endpoint not in self.closed
            for frame in endpoint.out:
                message = json.loads(frame[4:])
                if message["header"]["messageType"] == "request":
                    assert isinstance(endpoint, AttachedHandler)
                    requests.append((int(message["header"]["id"]), endpoint, message["payload"]))
                else:
                    self.read(endpoint, message)
            endpoint.out.clear()
        for id, handler, payload in sorted(requests, key=lambda request: request[0]):
            request = handler.outstanding.get(str(id))
            if request is not None:
                data = json.dumps(payload["data"]).encode()
                self.hand_over(request.envelope.origin, payload["type"], data)

    def read(self, endpoint: Endpoint, message: Any) -> None:
        payload = message["payload"]
        match message["header"]["messageType"]:
            case "statusReport":
                self.reported[endpoint][payload["id"]] += 1
                assert all(payload.get("results", [])), "an outcome is missing"
            case "receivedMessage":
                assert isinstance(endpoint, Session)
                assert payload["type"] not in RESERVED_TYPES

    def hand_over(self, origin: Endpoint, type: str, data: Data) -> None:
        """The first step of each sender's messages for a type is taken in the order of their coming."""
        number = json.loads(bytes(data))
        if isinstance(number, int):
            assert number > self.handed.get((origin, type), 0)
            self.handed[origin, type] = number

    # -- what happens --

    @initialize(number=st.integers(0, len(CONFIGURATIONS) - 1))
    def begin(self, number: int) -> None:
        self.configure(number)

    @rule(number=st.integers(0, len(CONFIGURATIONS) - 1))
    def configure(self, number: int) -> None:
        self.exchange.dispatcher.configure(CONFIGURATIONS[number], LIMITS, {"a": TypeRules(TIMEOUT_S)})

    @rule(name=st.sampled_from(["g", "t"]))
    def connect(self, name: str) -> None:
        session = Session(name, "j.example")
        self.add(session)
        self.sessions.append(session)
        self.senders.append(session)
        self.exchange.deliveries.add_session(session)
        self.write()

    @rule()
    def connect_a_server(self) -> None:
        peer = Peer()
        self.add(peer)
        self.senders.append(peer)

    @needs("sessions")
    @rule(pick=picks)
    def disconnect(self, pick: int) -> None:
        session = self.sessions.pop(pick % len(self.sessions))
        if session in self.senders:
            self.senders.remove(session)
        self.close(session)
        self.exchange.deliveries.remove_session(session)

    @needs("senders")
    @rule(pick=picks)
    def finish_input(self, pick: int) -> None:
        sender = self.senders.pop(pick % len(self.senders))
        sender.closing = True
        if sender.in_flight:
            self.closing.add(sender)

    @needs("senders")
    @rule(pick=picks, type=types, times=st.integers(1, 6), hops=st.integers(0, 4))
    def send(self, pick: int, type: str, times: int, hops: int) -> None:
        sender = self.senders[pick % len(self.senders)]
        for _ in range(times):
            self.number += 1
            id = str(self.number)
            self.sent[sender][id] += 1
            data = id.encode()
            if isinstance(sender, Peer):
                self.exchange.admission.message(sender, type, b'"%b"' % data, data, 100, hops)
            else:
                self.exchange.admission.untracked_message(sender, type, b'"%b"' % data, data, 100)

    @rule(named=st.lists(types, min_size=1, max_size=3), concurrency=st.integers(1, 3), blocked=st.booleans())
    def attach(self, named: list[str], concurrency: int, blocked: bool) -> None:
        handler = AttachedHandler("h", "j.example", concurrency)
        handler.blocked = blocked
        self.add(handler)
        self.handlers.append(handler)
        self.exchange.dispatcher.attach(handler, named, TIMEOUT_S)

    @needs("handlers")
    @rule(pick=picks)
    def detach(self, pick: int) -> None:
        handler = self.handlers[pick % len(self.handlers)]
        self.exchange.dispatcher.detach(handler)
        self.write()
        assert all(handler not in route.attached for route in self.exchange.dispatcher.types.values())

    @needs("handlers")
    @rule(pick=picks)
    def kill(self, pick: int) -> None:
        handler = self.handlers.pop(pick % len(self.handlers))
        self.close(handler)
        self.exchange.dispatcher.remove(handler)

    @needs("handlers")
    @rule(pick=picks)
    def block_or_unblock(self, pick: int) -> None:
        handler = self.handlers[pick % len(self.handlers)]
        if handler.blocked:
            self.exchange.dispatcher.unblocked(handler)
        else:
            handler.blocked = True

    def tell(self, handler: AttachedHandler, header: dict[str, Any]) -> None:
        answered(self.exchange, handler, {"header": header, "data": "outgoing"})

    @needs("handlers")
    @rule(pick=picks, which=picks, commands=commands, status=statuses)
    def answer(self, pick: int, which: int, commands: list[dict[str, Any]], status: Any) -> None:
        handler = self.handlers[pick % len(self.handlers)]
        ids = [*handler.outstanding, "unknown"]
        said = {"command": commands[0]} if len(commands) == 1 else {"commands": commands}
        self.tell(handler, {"id": ids[which % len(ids)], "status": status, **said})

    @needs("handlers")
    @rule(pick=picks)
    def answer_badly(self, pick: int) -> None:
        handler = self.handlers[pick % len(self.handlers)]
        self.exchange.answer_failed(handler, next(iter(handler.outstanding), "unknown"), BadResponse("wrong"))

    @needs("handlers")
    @rule(pick=picks, commands=commands)
    def push(self, pick: int, commands: list[dict[str, Any]]) -> None:
        handler = self.handlers[pick % len(self.handlers)]
        self.number += 1
        self.sent[handler][str(self.number)] += 1
        self.tell(handler, {"id": str(self.number), "messageType": "push", "commands": commands})

    @needs("calls")
    @rule(pick=picks, commands=commands, status=statuses)
    def answer_classic(self, pick: int, commands: list[dict[str, Any]], status: Any) -> None:
        call = self.calls.pop(pick % len(self.calls))
        body = json.dumps({"header": {"status": status, "commands": commands}}).encode()
        self.exchange.classic_answered(call.request, decode_classic(body))

    @needs("calls")
    @rule(pick=picks)
    def fail_classic(self, pick: int) -> None:
        self.exchange.classic_failed(self.calls.pop(pick % len(self.calls)).request, HandlerTimeout())

    @needs("unsettled")
    @rule(pick=picks, good=st.booleans())
    def settle(self, pick: int, good: bool) -> None:
        effect = self.unsettled.pop(pick % len(self.unsettled))
        error = None if good else MailboxFull()
        if isinstance(effect, Deposit):
            self.exchange.replay.deposited(effect.delivery, "stored" if good else "failed", error)
            return
        self.exchange.reports.settled(effect.envelope, effect.slot, effect.to, "sent" if good else "failed", error)

    @rule(seconds=st.sampled_from([0.5, TIMEOUT_S / 2, 2 * TIMEOUT_S]))
    def time_passes(self, seconds: float) -> None:
        self.exchange.batch.now += seconds
        self.exchange.sweep()

    @rule()
    def drain(self) -> None:
        self.exchange.admission.draining = not self.exchange.admission.draining

    # -- what is always true --

    @invariant()
    def everything_holds(self) -> None:
        self.write()
        self.nothing_is_written_to_a_closed_endpoint()
        self.every_message_has_at_most_one_report()
        self.bounds_are_kept()
        self.a_classic_handler_has_one_message_of_each_sender()

    def nothing_is_written_to_a_closed_endpoint(self) -> None:
        for endpoint in self.closed:
            assert endpoint.closed
            assert not endpoint.out
            assert not endpoint.listed

    def every_message_has_at_most_one_report(self) -> None:
        for endpoint, reported in self.reported.items():
            assert reported <= self.sent[endpoint]
            assert endpoint.closed or self.sent[endpoint].total() - reported.total() == (
                endpoint.in_flight + endpoint.waiting + endpoint.backlog
            )

    def bounds_are_kept(self) -> None:
        exchange = self.exchange
        waiting: Counter[Endpoint] = Counter()
        for route in exchange.dispatcher.types.values():
            assert route.active >= 0
            for queue in route.queues.values():
                assert queue.waiting or queue.busy
                assert queue.ready == (queue in route.ready)
                waiting.update(request.envelope.origin for request in queue.waiting)
            assert not route.ready or route.available
        for endpoint in self.everybody:
            backlog = endpoint.backlog
            assert endpoint.in_flight >= 0
            assert (endpoint.held_bytes > 0) == bool(waiting[endpoint] + backlog)
            assert endpoint.held_bytes >= 256 * (waiting[endpoint] + backlog)
            assert endpoint.paused == (endpoint in self.paused)
            assert not endpoint.paused or endpoint.held_bytes
            if isinstance(endpoint, AttachedHandler):
                assert len(endpoint.outstanding) <= endpoint.concurrency
            else:
                assert endpoint.in_flight <= LIMITS.max_in_flight
                assert not backlog or endpoint.in_flight == LIMITS.max_in_flight
        assert exchange.reports.under_way == sum(endpoint.in_flight + endpoint.waiting for endpoint in self.everybody)

    def a_classic_handler_has_one_message_of_each_sender(self) -> None:
        active = Counter((call.request.envelope.origin, id(call.request.route)) for call in self.calls)
        assert all(count == 1 for count in active.values())
        for route in self.exchange.dispatcher.types.values():
            assert route.active == sum(call.request.route is route for call in self.calls)

    def teardown(self) -> None:
        """Whatever is still under way comes to an end: half of it by time, the rest by handlers that only send on."""
        self.write()
        if self.number % 2:
            self.time_passes(2 * TIMEOUT_S)
        on = [{"type": "sendHandler", "data": type} for type in ("a", "classic")]
        for handler in self.handlers:
            self.exchange.dispatcher.unblocked(handler)
        for _ in range(100_000):
            self.write()
            asked = next((handler for handler in self.exchange.dispatcher.handlers if handler.outstanding), None)
            if asked is not None:
                self.tell(asked, {"id": next(iter(asked.outstanding)), "status": "0", "commands": on})
            elif self.calls:
                self.answer_classic(0, on, "0")
            elif self.unsettled:
                self.settle(0, True)
            else:
                break
        self.everything_holds()
        assert self.exchange.reports.under_way == 0
        assert not self.closing
        for endpoint in self.everybody:
            assert (endpoint.in_flight, endpoint.held_bytes, endpoint.paused) == (0, 0, False)
            assert endpoint.closed or self.reported[endpoint] == self.sent[endpoint]
        for route in self.exchange.dispatcher.types.values():
            assert not route.queues
            assert not route.ready
            assert route.active == 0


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
