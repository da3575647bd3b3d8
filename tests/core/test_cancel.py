"""Cancelled messages: what waits is taken out, and handlers are told of what they have."""

from __future__ import annotations

import pytest
from tests.core.events import (
    Answers,
    AnswersInPart,
    AnswersWrongly,
    Calls,
    Cancels,
    ClassicAnswers,
    Leaves,
    Sends,
    Together,
)
from tests.core.playbook import Asked, Cancelled, Effect, Part, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, REPLY, World, clients, send_handler

from bester.core.effects import AskRemote, CallClassic, PresenceChanged, Recall, TellHandler, TellNode
from bester.core.endpoint import NodePeer
from bester.core.limits import Limits
from bester.core.routing import AttachedHandler
from bester.core.rules import TypeRules
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BadResponse

BOTH = "parts cancel"


@pytest.fixture
def work(world: World) -> AttachedHandler:
    return world.handler("work", concurrency=2, features="cancel")


@pytest.fixture
def t(world: World) -> Session:
    return world.session("t", features=("parts",))


def test_a_handler_is_told_and_says_how_it_ended(world: World, work: AttachedHandler, t: Session) -> None:
    g = world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Asked(work)
        >> Sends(t, "work", id="2")
        << Asked(work)
        >> Cancels(t, "1", "2")
        << Cancelled(work, "1")
        << Cancelled(work, "2")
        >> Cancels(t, "1")  # told once
        >> Answers(work, status="1")
        << Report(t, "cancelled", id="1")
        >> Answers(work, clients("g"))
        << Received(g, "work")
        << Report(t, "good", "g delivered", id="2")
        >> Cancels(t, "1", "2", "3")
    )
    assert world.at_rest(t)
    assert not world.exchange.dispatcher.types["work"].metrics.failed, "which is no fault of the handler"


def test_a_malformed_answer_is_no_cancelled_one(world: World, work: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Asked(work)
        >> Cancels(t, "1")
        << Cancelled(work, "1")
        >> AnswersWrongly(work, BadResponse("no JSON"))
        << Report(t, "badResponse")
        >> Sends(t, "work", id="2")
        << Asked(work)
        >> Answers(work, status="1")
        << Report(t, "handlerError", id="2")
    )


def test_a_handler_without_the_feature_is_not_told(world: World, t: Session) -> None:
    old = world.handler("work")
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Asked(old)
        >> Cancels(t, "1")
        >> Answers(old, status="1")
        << Report(t, "handlerError")
    )


def test_what_waits_for_a_handler_is_taken_out(world: World, work: AttachedHandler, t: Session) -> None:
    g = world.session("g")
    for number in range(5):
        world.send(t, "work", id=str(number))
    world.send(g, "work", id="2")
    world.take(work)
    assert (
        Playbook(world)
        >> Cancels(t, "2", "4")
        << Report(t, "cancelled", id="2")
        << Report(t, "cancelled", id="4")
        >> Answers(work, DONE)
        << Report(t, "good", id="0")
        << Asked(work, tag="3")
        >> Answers(work, DONE)
        << Report(t, "good", id="1")
        << Asked(work, tag="2")
        >> Answers(work, DONE)
        << Report(t, "good", id="3")
        >> Answers(work, DONE)
        << Report(g, "good")
    )
    assert world.at_rest(t, g)


def test_the_last_one_that_waits_is_taken_out(world: World, work: AttachedHandler, t: Session) -> None:
    for number in range(3):
        world.send(t, "work", id=str(number))
    world.take(work)
    assert Playbook(world) >> Cancels(t, "2") << Report(t, "cancelled")
    route = world.exchange.dispatcher.types["work"]
    assert not route.queues
    assert not route.ready


def test_a_route_tells_that_it_was_cancelled(world: World, t: Session) -> None:
    world.handler("work", concurrency=0)
    route = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1", trail=Trail())
        >> Cancels(t, "1")
        << Report(t, "cancelled", route=route)
    )
    (step,) = route()
    assert (step["step"], step["status"]) == ("handler", "cancelled")


def test_what_is_beyond_max_in_flight_is_taken_out(world: World, work: AttachedHandler, t: Session) -> None:
    world.configure(Limits(max_in_flight=1))
    for number in range(4):
        world.send(t, "work", id=str(number))
    world.take(work)
    assert (
        Playbook(world)
        >> Cancels(t, "1", "3")
        << Report(t, "cancelled", id="1")
        << Report(t, "cancelled", id="3")
        >> Answers(work, DONE)
        << Report(t, "good", id="0")
        << Asked(work, tag="2")
        >> Answers(work, DONE)
        << Report(t, "good", id="2")
    )
    assert world.at_rest(t)


def test_a_once_message_stays_cancelled(world: World, work: AttachedHandler, t: Session) -> None:
    world.configure(Limits(max_in_flight=2))
    world.send(t, "work", id="1")
    world.send(t, "work", id="1b")
    world.send(t, "work", id="2", once=True)
    world.take(work)
    assert (
        Playbook(world)
        >> Cancels(t, "2")
        << Report(t, "cancelled")
        >> Sends(t, "work", id="2", once=True)
        << Report(t, "cancelled")
    )


def test_a_once_message_that_is_looked_up_is_not_cancelled(world: World, work: AttachedHandler, t: Session) -> None:
    world.exchange.admission.may_recall = lambda key: True
    recall = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "work", id="2", once=True)
        << Effect(Recall, recall)
        >> Cancels(t, "2")
        >> Calls(lambda: world.exchange.admission.not_recalled(recall().record))
        << Asked(work)
    )


def test_a_classic_handler_is_not_told(world: World, t: Session) -> None:
    world.configure(work=TypeRules(classic_socket="/s"))
    call = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Effect(CallClassic, call)
        >> Sends(t, "work", id="2")
        >> Cancels(t, "1", "2")
        << Report(t, "cancelled", id="2")
        >> ClassicAnswers(call, REPLY, data=1)
        << Received(t, "work", 1)
        << Report(t, "good", id="1")
    )
    assert world.at_rest(t)


def test_the_next_one_of_a_chain_is_told_when_it_is_cancelled_too(
    world: World, work: AttachedHandler, t: Session
) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Asked(work)
        >> Cancels(t, "1")
        << Cancelled(work, "1")
        >> Answers(work, send_handler("work"))
        << Asked(work, id="2")
        >> Cancels(t, "1")
        << Cancelled(work, "2")
        >> Answers(work, status="1")
        << Report(t, "cancelled")
    )


def test_messages_of_others_go_on(world: World, work: AttachedHandler, t: Session) -> None:
    g = world.session("g")
    world.send(g, "work", id="1")
    world.send(t, "work", id="2")
    world.take(work)
    assert (
        Playbook(world)
        >> Cancels(t, "1")
        >> Cancels(g, "2")
        >> Together(Cancels(g, "1"), Cancels(t, "2"))
        << Cancelled(work, "1")
        << Cancelled(work, "2")
    )


def test_the_end_of_a_session_cancels_its_streams(world: World, t: Session) -> None:
    count = world.handler("count", concurrency=3, features=BOTH)
    world.configure(Limits(max_in_flight=5))
    world.send(t, "count", id="1", parts=2)
    world.send(t, "count", id="2")
    world.send(t, "count", id="3")
    world.send(t, "count", id="4")
    world.send(t, "count", id="5", parts=1)
    world.send(t, "count", id="6", parts=1)
    world.take(count)
    assert (
        Playbook(world)
        >> AnswersInPart(count)
        << Part(t, "1")
        >> Leaves(t)
        << Effect(PresenceChanged)
        << Cancelled(count, "1")
        >> AnswersInPart(count, id="1")
        >> Answers(count, status="1", id="1")
        << Asked(count, tag="4")
        >> Answers(count)
        >> Answers(count)
        >> Answers(count)
    )
    assert len(world.exchange.streams) == 0
    assert world.at_rest(t)


def test_what_a_session_cancels_before_it_ends(world: World, work: AttachedHandler, t: Session) -> None:
    world.send(t, "work", id="1")
    world.take(work)
    assert Playbook(world) >> Together(Cancels(t, "1"), Leaves(t)) << Effect(PresenceChanged) << Cancelled(work, "1")


def test_a_request_of_another_node_is_cancelled_there(world: World, t: Session) -> None:
    there, old = world.remote_handler("n1", "work"), world.remote_handler("n2", "old")
    there.cancels = True
    assert (
        Playbook(world)
        >> Sends(t, "work", id="1")
        << Effect(AskRemote)
        >> Sends(t, "old", id="2")
        << Effect(AskRemote)
        >> Cancels(t, "1", "2")
        << Effect(TellHandler, number=1, parts=0)
        >> Answers(old, DONE)
        << Report(t, "good")
    )


def test_a_node_cancels_what_waits_here(world: World) -> None:
    world.handler("work", concurrency=0)
    node = NodePeer("n2")
    assert (
        Playbook(world)
        >> Calls(world.exchange.remote.ask, node, 5, "work", b'","hops":0', b"null")
        >> Calls(world.exchange.parts.cancel, node, b"5")
        << Effect(TellNode, node="n2")
        >> Calls(world.exchange.parts.cancel, node, b"5")
    )
    assert world.at_rest(node)
