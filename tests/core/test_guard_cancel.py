"""Guards, and messages that are cancelled or take their answers in parts, and what is recorded of guards."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.events import Answers, AnswersInPart, Calls, Cancels, Grants, Leaves, Passes, Sends
from tests.core.playbook import Asked, Cancelled, Effect, Granted, Part, Placeholder, Playbook, Report
from tests.core.test_tap import Tapped
from tests.core.world import DONE, REPLY, World, send_handler

from bester.core.effects import AskRemote, HoldBack, PresenceChanged
from bester.core.endpoint import NodePeer
from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.core.rules import GuardRule
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BadPayload, HandlerTimeout
from bester.protocol import frames

ACCEPT, DROP, HOLD = {"type": "accept"}, {"type": "drop"}, {"type": "hold"}


@pytest.fixture
def g(world: World) -> AttachedHandler:
    world.exchange.gates.guard((GuardRule("guard"),), frozenset())
    return world.handler("guard", concurrency=2, features="parts cancel")


@pytest.fixture
def chat(world: World) -> AttachedHandler:
    return world.handler("chat", features="parts cancel")


@pytest.fixture
def t(world: World) -> Session:
    return world.session("t", features=("parts",))


# -- cancelled ----------------------------------------------------------------------------------------------------


def test_what_a_guard_thinks_about_is_cancelled_at_once(
    world: World, g: AttachedHandler, chat: AttachedHandler, t: Session
) -> None:
    trail = Trail(told=False)
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, id="a", trail=trail)
        << Asked(g, 1)
        >> Cancels(t, "a")
        << Cancelled(g, "1")
        << Report(t, "cancelled", id="a")
        >> Answers(g, ACCEPT)
    )
    assert [step.status for step in trail.steps] == ["cancelled"]
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 1
    assert not chat.outstanding
    assert not world.exchange.streams._cancelled
    assert world.at_rest(t)


def test_it_is_reported_behind_those_before_it(
    world: World, g: AttachedHandler, chat: AttachedHandler, t: Session
) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, id="a")
        << Asked(g, 1)
        >> Sends(t, "chat", 2, id="b")
        << Asked(g, 2)
        >> Answers(g, ACCEPT, id="2")  # and waits for the first
        >> Cancels(t, "b")
        >> Answers(g, ACCEPT, id="1")
        << Asked(chat, 1)
        << Report(t, "cancelled", id="b")
        >> Answers(chat, DONE)
        << Report(t, "good", id="a")
    )
    assert world.at_rest(t)


def test_a_refusal_stays_one(world: World, g: AttachedHandler, chat: AttachedHandler, t: Session) -> None:
    play = Playbook(world) >> Sends(t, "chat", 1, id="a") << Asked(g, 1) >> Sends(t, "chat", 2, id="b") << Asked(g, 2)
    play = play >> Answers(g, DROP, id="2") >> Cancels(t, "b")
    assert play >> Answers(g, DROP, id="1") << Report(t, "good", id="a") << Report(t, "good", id="b")


def test_what_is_being_held_is_held(world: World, g: AttachedHandler, chat: AttachedHandler, t: Session) -> None:
    held = Placeholder()
    play = Playbook(world) >> Sends(t, "chat", 1, id="a") << Asked(g, 1) >> Answers(g, HOLD) << Effect(HoldBack, held)
    assert play >> Cancels(t, "a")
    assert (
        Playbook(world)
        >> Calls(world.exchange.gates.held_back, held().number, "held")
        << Report(t, "good", "j.example held", id="a")
    )


def test_the_end_of_a_session_cancels_its_streams_at_the_guard(
    world: World, g: AttachedHandler, chat: AttachedHandler, t: Session
) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, id="a", parts=5)
        << Asked(g, 1)
        >> Sends(t, "chat", 2, id="b")
        << Asked(g, 2)
        >> Leaves(t)
        << Effect(PresenceChanged)
        << Cancelled(g, "1")
        >> Answers(g, ACCEPT, id="1")
        >> Answers(g, ACCEPT, id="2")
        << Asked(chat, 2)
        >> Answers(chat, DONE)
    )
    assert len(world.exchange.streams) == 0


def test_credit_that_is_granted_while_a_guard_thinks(
    world: World, g: AttachedHandler, chat: AttachedHandler, t: Session
) -> None:
    header = Placeholder()
    play = Playbook(world) >> Sends(t, "chat", 1, id="a", parts=1) << Asked(g, 1) >> Grants(t, "a", 2)
    assert play >> Answers(g, ACCEPT) << Asked(chat, 1, header=header)
    assert header()["parts"] == 3
    play = Playbook(world) >> AnswersInPart(chat, REPLY, REPLY, REPLY) << Part(t, "a") << Part(t, "a") << Part(t, "a")
    assert play >> Answers(chat, DONE) << Report(t, "good")


def test_a_question_of_a_server_is_withdrawn_too(world: World, chat: AttachedHandler) -> None:
    world.exchange.gates.guard((GuardRule("guard", timeout_s=5.0, passes_on_failure=True),), frozenset())
    guard = world.handler("guard", concurrency=1)
    k = world.peer("k.example")
    play = Playbook(world) >> Sends(k, "chat", 1, id="a") << Asked(guard, 1) >> Sends(k, "chat", 2, id="b")
    assert play >> Passes(5.1) << Asked(chat, 1) << Asked(chat, 2)
    assert not world.exchange.dispatcher.types["guard"].queues


# -- other nodes --------------------------------------------------------------------------------------------------


def test_a_guards_schema_is_for_its_own_messages(world: World) -> None:
    world.exchange.gates.validate("guard", lambda data: BadPayload("never fits"))
    g, node, t = world.handler("guard"), NodePeer("n1"), world.session("t")
    head = frames.request_head(t.origin, 0, frames.type_part("guard"), b'"a"', b',"guards":"chat"')
    play = Playbook(world) >> Calls(world.exchange.remote.ask, node, 5, "guard", head, b"1", guards=True)
    assert play << Asked(g, 1)


def test_what_a_handler_sends_on_is_not_validated_at_another_node_either(world: World, t: Session) -> None:
    chat = world.handler("chat")
    world.remote_handler("n2", "log")
    asked = Placeholder()
    play = Playbook(world) >> Sends(t, "chat", id="a") << Asked(chat) >> Answers(chat, send_handler("log"))
    assert play << Effect(AskRemote, asked, sent_on=True)
    other = World()
    other.exchange.gates.validate("log", lambda data: BadPayload("never fits"))
    log, ask = other.handler("log"), other.exchange.remote.ask
    play = Playbook(other) >> Calls(ask, NodePeer("n1"), 5, "log", asked().head, asked().data, sent_on=True)
    assert play << Asked(log)
    assert Playbook(world) >> Sends(t, "log", id="b") << Effect(AskRemote, sent_on=False)


# -- recordings ---------------------------------------------------------------------------------------------------


def verdict(world: World, g: AttachedHandler, t: Session, *commands: Any, **header: Any) -> Any:
    tapped = Tapped(world, "guard", twice=True)
    world.send(t, "chat", {"x": 1}, id="m1")
    world.answer(g, next(iter(g.outstanding)), *commands, header=header)
    (record,) = tapped.records()
    tapped.close()
    assert "again" not in record
    assert record["request"] == {
        "scope": "client",
        "from": {"user": "t", "server": "j.example", "verified": True},
        "hops": 0,
        "guards": "chat",
        "id": "m1",
        "data": {"x": 1},
    }
    return record["outcome"]


def test_verdicts_are_recorded(world: World, g: AttachedHandler, chat: AttachedHandler, t: Session) -> None:
    g.dry_types = frozenset({"guard"})
    assert verdict(world, g, t, ACCEPT) == {"commands": [ACCEPT]}
    assert verdict(world, g, t, DROP) == {"commands": [DROP]}
    assert verdict(world, g, t, HOLD | {"data": "g"}) == {"commands": [HOLD | {"data": "g"}]}
    assert verdict(world, g, t, status="1", error={"code": "spam"}) == {"refused": {"code": "spam"}}
    told = verdict(world, g, t, {"type": "reply"})
    assert told == {
        "failed": {"code": "badResponse", "message": "a guard's command must be one of accept, done, drop, hold"}
    }
    tapped = Tapped(world, "guard")
    world.send(t, "chat", 1)
    g_id = next(iter(g.outstanding))
    world.answer(g, g_id, header={"commands": []})
    assert [one["outcome"] for one in tapped.records()] == [{"commands": []}]


def test_the_verdicts_for_other_nodes_are_recorded(world: World, t: Session) -> None:
    world.exchange.gates.guard((GuardRule("guard"),), frozenset())
    world.handler("chat")
    world.remote_handler("n2", "guard")
    asked = Placeholder()
    assert Playbook(world) >> Sends(t, "chat", 1, id="m1") << Effect(AskRemote, asked)
    other = World()
    there, g = Tapped(other, "guard", twice=True), other.handler("guard")
    other.exchange.remote.ask(NodePeer("n1"), 5, "guard", asked().head, asked().data, guards=True)
    other.answer(g, "1", DROP)
    (record,) = there.records()
    assert record["request"]["guards"] == "chat"
    assert record["outcome"] == {"commands": [DROP]}


def test_a_question_that_nobody_waits_for_is_not_recorded(world: World, chat: AttachedHandler, t: Session) -> None:
    world.exchange.gates.guard((GuardRule("guard", timeout_s=5.0),), frozenset())
    guard = world.handler("guard", concurrency=1)
    tapped = Tapped(world, "guard")
    world.send(t, "chat", 1, id="a")
    world.send(t, "chat", 2, id="b")
    world.wait(5.1)
    world.exchange.sweep()
    world.got(t)
    assert len(tapped.tap._asked) == 1, "what the guard has"
    world.answer(guard, "1", ACCEPT)
    assert [one["request"]["id"] for one in tapped.records()] == ["a"]
    assert not tapped.tap._held_bytes


def test_a_waiting_request_that_is_cancelled_is_not_recorded(world: World, t: Session) -> None:
    tapped = Tapped(world)
    order = world.handler("order", concurrency=1)
    world.send(t, "order", 1, id="a")
    world.send(t, "order", 2, id="b")
    world.exchange.parts.cancel(t, b'"b"')
    world.settle()
    assert len(tapped.tap._asked) == 1
    world.answer(order, "1", DONE)
    assert [one["request"]["id"] for one in tapped.records()] == ["a"]
    world.got(t)


def test_a_part_of_what_was_not_chosen(world: World, t: Session) -> None:
    tapped = Tapped(world, choose=lambda: False)
    count = world.handler("order", features="parts")
    play = Playbook(world) >> Sends(t, "order", id="7", parts=1) << Asked(count) >> AnswersInPart(count) << Part(t, "7")
    assert play >> Answers(count, DONE) << Report(t, "good")
    assert tapped.records() == []


def test_the_second_asking_of_a_message_is_nobodys_to_cancel(world: World, t: Session) -> None:
    tapped = Tapped(world, twice=True)
    order = world.handler("order", features="cancel dryRun")
    order.dry_types = frozenset({"order"})
    world.send(t, "order", 1, id="7")
    world.answer(order, "1", DONE)
    world.got(t)
    world.send(t, "order", 2, id="7")
    world.exchange.parts.cancel(t, b'"7"')
    world.settle()
    world.answer(order, "2", DONE)
    assert world.got(t) == []
    assert [one["request"]["data"] for one in tapped.records()] == [1]


# -- credit -------------------------------------------------------------------------------------------------------


def test_a_handler_without_credit_is_not_too_slow(world: World, chat: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="7", parts=1)
        << Asked(chat)
        >> AnswersInPart(chat)
        << Part(t, "7")
        >> Passes(290)
        >> Grants(t, "7", 1)
        << Granted(chat, "1", 1)
        >> AnswersInPart(chat)
        << Part(t, "7")
        >> Passes(299)
        >> Passes(2)
        << Cancelled(chat, "1")
        << Report(t, "cancelled")
    )
    assert HandlerTimeout.code not in world.exchange.dispatcher.types["chat"].last_error
