"""Answers in parts and cancelled messages, in any order of what clients and handlers do.

A model of every message says how many parts are granted, which parts came, and whether it may still be reported. The
promises: parts come in order and never more than were granted; each message has exactly one report, and nothing of it
comes after that; and a report says ``cancelled`` only if the client has cancelled the message.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.world import World

from bester.core.limits import Limits
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.protocol.frames import encode_text

TIMEOUT_S = 10.0
LIMITS = Limits(max_hops=3, max_in_flight=3, max_recipients=4, max_parts=6)

picks = st.integers(0, 1000)
few = st.integers(1, 4)
commands = st.sampled_from(
    [
        [{"type": "reply"}],
        [{"type": "done"}],
        [{"type": "reply"}, {"type": "reply"}],
        [{"type": "sendClients", "data": ["g"]}, {"type": "reply"}],
        [{"type": "sendHandler", "data": "b", "payload": {"data": "on"}}],
    ]
)


class Sent:
    """One message, as its client sees it."""

    def __init__(self, session: Session, granted: int) -> None:
        self.session = session
        self.granted = granted
        self.got: list[int] = []
        self.cancelled = False
        self.reports = 0


class PartsMachine(RuleBasedStateMachine):
    """Clients and handlers around an exchange, and a model of what they may see."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.configure(LIMITS)
        self.sent: dict[str, Sent] = {}
        self.held: dict[tuple[AttachedHandler, str], dict[str, Any]] = {}
        """The requests that handlers have not answered: the message's id, and how many parts may come, or None."""
        self.number = 0
        self.part = 0

    @initialize(cancels=st.booleans(), concurrency=st.integers(1, 3))
    def begin(self, cancels: bool, concurrency: int) -> None:
        features = "parts cancel" if cancels else "parts"
        self.handlers = [
            self.world.handler("a", concurrency=concurrency, timeout_s=TIMEOUT_S, features=features),
            self.world.handler("b", concurrency=1, timeout_s=TIMEOUT_S, features="parts cancel"),
            self.world.handler("old", concurrency=1, timeout_s=TIMEOUT_S),
        ]
        self.sessions = [
            self.world.session("t", features=("parts",)),
            self.world.session("t", features=("parts", "ack")),
        ]
        self.g = self.world.session("g")

    # -- what clients do --

    @rule(which=picks, type=st.sampled_from(["a", "a", "b", "old"]), granted=st.integers(0, 3))
    def send(self, which: int, type: str, granted: int) -> None:
        session = self.sessions[which % 2]
        if session.closed:
            return
        self.number += 1
        id = f"m{self.number}"
        self.sent[id] = Sent(session, granted)
        self.world.take_in(session, type, id, id=id, parts=granted)

    def open(self) -> list[str]:
        return [id for id, one in self.sent.items() if not one.reports and not one.session.closed]

    @precondition(lambda self: self.open())
    @rule(which=picks, parts=few)
    def grant(self, which: int, parts: int) -> None:
        id = self.open()[which % len(self.open())]
        one = self.sent[id]
        self.world.exchange.streams.grant(one.session, encode_text(id), parts)
        if one.granted:  # else it takes none
            one.granted += parts

    @precondition(lambda self: self.open())
    @rule(which=picks)
    def cancel(self, which: int) -> None:
        id = self.open()[which % len(self.open())]
        self.world.exchange.parts.cancel(self.sent[id].session, encode_text(id))
        self.sent[id].cancelled = True

    @precondition(lambda self: not self.sessions[1].closed)
    @rule()
    def leave(self) -> None:
        self.turn_ends()
        self.world.exchange.deliveries.remove_session(self.sessions[1])
        self.world.exchange.parts.left(self.sessions[1])

    # -- what handlers do --

    @precondition(lambda self: self.held)
    @rule(which=picks, commands=commands, status=st.sampled_from(["0", "0", "0", "1"]))
    def answer(self, which: int, commands: list[dict[str, Any]], status: str) -> None:
        self.turn_ends()
        if self.held:
            handler, id = list(self.held)[which % len(self.held)]
            self.held.pop((handler, id))
            self.world.answer(handler, id, *commands, header={"status": status}, payload={"data": "last"})

    @precondition(lambda self: self.held)
    @rule(which=picks, commands=commands)
    def answer_in_part(self, which: int, commands: list[dict[str, Any]]) -> None:
        self.turn_ends()
        if not self.held:
            return
        handler, id = list(self.held)[which % len(self.held)]
        request = self.held[handler, id]
        replies = sum(command["type"] == "reply" for command in commands)
        if request["parts"] is None or request["parts"] < replies or request["sent"] == LIMITS.max_parts:
            self.held.pop((handler, id))  # it fails, or is the last answer
        else:
            request["parts"] -= replies
            request["sent"] += 1
        self.part += 1
        self.world.answer(handler, id, *commands, header={"more": True}, payload={"data": self.part})
        if id not in handler.outstanding:
            self.held.pop((handler, id), None)  # with its earlier parts it has too many, or too many recipients

    @rule(seconds=st.sampled_from([1.0, TIMEOUT_S / 2, TIMEOUT_S]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.world.exchange.sweep()
        self.turn_ends()

    # -- what comes of it --

    @rule()
    def turn_ends(self) -> None:
        world = self.world
        world.settle()
        for handler in self.handlers:
            for frame in world.take(handler):
                self.told(handler, frame["header"], frame.get("payload", {}))
        self.world.take(self.g)
        for session in self.sessions:
            for frame in world.take(session):
                if not session.closed:
                    self.received(session, frame["header"], frame["payload"])
        world.effects()
        for handler, id in list(self.held):
            if id not in handler.outstanding:  # its time is up
                del self.held[handler, id]

    def told(self, handler: AttachedHandler, header: dict[str, Any], payload: dict[str, Any]) -> None:
        kind, id = header["messageType"], header["id"]
        if kind == "request":
            parts = header.get("parts")
            assert parts is None or (self.sent[payload["id"]].granted and handler.parts)
            self.held[handler, id] = {"of": payload["id"], "parts": parts, "sent": 0}
        elif kind == "more":
            assert header["parts"] > 0
            if (handler, id) in self.held:
                self.held[handler, id]["parts"] += header["parts"]
        else:
            assert kind == "cancel"
            assert handler.cancels

    def received(self, session: Session, header: dict[str, Any], payload: dict[str, Any]) -> None:
        if "partOf" in header:
            one = self.sent[header["partOf"]]
            assert one.session is session
            assert not one.reports, "nothing comes after the report"
            assert not one.got or one.got[-1] <= payload["data"], "parts come in order"
            one.got.append(payload["data"])
            assert len(one.got) <= one.granted, "never more than were granted"
            assert len(set(one.got)) <= LIMITS.max_parts
        elif header["messageType"] == "statusReport":
            one = self.sent[payload["id"]]
            assert one.session is session
            one.reports += 1
            assert one.reports == 1, "exactly one report"
            code = payload.get("error", {}).get("code")
            assert code != "cancelled" or one.cancelled

    @invariant()
    def streams_are_those_of_messages_under_way(self) -> None:
        if self.sent:
            streams = self.world.exchange.streams
            assert len(streams) <= sum(1 for one in self.sent.values() if one.granted)

    def teardown(self) -> None:
        if not hasattr(self, "handlers"):
            return
        for _ in range(1000):  # each answer may ask another handler
            self.turn_ends()
            if not self.held:
                break
            handler, id = next(iter(self.held))
            self.held.pop((handler, id))
            self.world.answer(handler, id, {"type": "done"})
        assert not self.held
        assert all(one.reports == 1 for one in self.sent.values() if not one.session.closed)
        exchange = self.world.exchange
        assert len(exchange.streams) == 0
        assert self.world.at_rest(*self.sessions)


TestParts = PartsMachine.TestCase
TestParts.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
