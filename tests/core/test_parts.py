"""Answers in parts: what is granted, in which order they come, and what ends them."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from tests.core.events import (
    Answers,
    AnswersInPart,
    AnswersWrongly,
    ClassicAnswers,
    Grants,
    Leaves,
    Passes,
    Sends,
    SocketDrains,
    SocketFills,
)
from tests.core.playbook import Asked, Cancelled, Effect, Granted, Part, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, REPLY, World, clients, send_handler

from bester.core.effects import CallClassic
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.routing import AttachedHandler
from bester.core.rules import TypeRules
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BadResponse, IdConflict

BOTH = "parts cancel"


@pytest.fixture
def count(world: World) -> AttachedHandler:
    return world.handler("count", features=BOTH)


@pytest.fixture
def t(world: World) -> Session:
    return world.session("t", features=("parts", "replyTo"))


def credit(world: World, handler: AttachedHandler) -> list[int | None]:
    """How many parts each request says that it may have."""
    return [frame["header"].get("parts") for frame in world.requests(handler)]


def test_parts_come_at_once_and_the_report_ends_them(world: World, count: AttachedHandler, t: Session) -> None:
    g = world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=2)
        << Asked(count, None, tag="7", header=ANY)
        >> AnswersInPart(count, data=1)
        << Part(t, "7", 1, type="count")
        >> AnswersInPart(count, clients("g"), {"type": "reply", "payload": {"type": "other", "data": 3}}, data=2)
        << Part(t, "7", 3, type="other")
        << Received(g, "count", 2)
        >> Answers(count, REPLY, data=4)
        << Received(t, "count", 4, reply_to="7")
        << Report(t, "good", "g delivered")
    )
    assert world.at_rest(t)
    assert len(world.exchange.streams) == 0


def test_a_request_says_how_many_parts_it_takes(world: World, count: AttachedHandler, t: Session) -> None:
    world.send(t, "count", id="1", parts=5)
    world.send(t, "count", id="2")
    assert credit(world, count) == [5, None]
    assert len(world.exchange.streams) == 1


def test_a_session_that_acknowledges_gets_parts_without_a_delivery_id(world: World, count: AttachedHandler) -> None:
    t = world.session("t", features=("ack", "parts"))
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=2)
        << Asked(count)
        >> AnswersInPart(count, data=1)
        << Part(t, "7", 1)
        >> Passes(60)
        << Report(t, "handlerTimeout")
        << Cancelled(count, "1")
    )
    assert not t.unacked


def test_each_reply_uses_up_one_and_more_are_granted(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=1)
        << Asked(count)
        >> AnswersInPart(count, data=1)
        << Part(t, "7", 1)
        >> AnswersInPart(count, DONE)
        >> Grants(t, "7", 1)
        << Granted(count, "1", 1)
        >> AnswersInPart(count, data=2)
        << Part(t, "7", 2)
        >> AnswersInPart(count, data=3)
        << Cancelled(count, "1")
        << Report(t, "badResponse")
        >> AnswersInPart(count, id="1", data=4)
        >> Answers(count, REPLY, id="1", data=4)
        >> Grants(t, "7", 2)
    )
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 2
    assert world.at_rest(t)


def test_what_is_granted_in_one_batch_is_told_once_and_bounded(
    world: World, count: AttachedHandler, t: Session
) -> None:
    world.send(t, "count", id="7", parts=65_000)
    world.take(count)
    for _ in range(5):
        world.exchange.streams.grant(t, b'"7"', 500)
    world.exchange.streams.grant(t, b'"8"', 500)
    (told,) = world.got(count)
    assert told["header"] == {"messageType": "more", "id": "1", "parts": 536}
    world.exchange.streams.grant(t, b'"7"', 500)
    assert not world.got(count)


def test_a_handler_that_does_not_read_is_told_later_what_is_granted(
    world: World, count: AttachedHandler, t: Session
) -> None:
    assert (
        Playbook(world)
        >> SocketFills(count)
        >> Sends(t, "count", id="7", parts=1)
        << Asked(count)
        >> Grants(t, "7", 1)
        >> Grants(t, "7", 1)
        >> SocketDrains(count)
        << Granted(count, "1", 2)
    )


def test_what_is_granted_before_the_request_goes_with_it(world: World, t: Session) -> None:
    count = world.handler("count", concurrency=1, features=BOTH)
    world.send(t, "count", id="6")
    world.send(t, "count", id="7", parts=1)
    world.exchange.streams.grant(t, b'"7"', 4)
    assert credit(world, count) == [None]
    world.answer(count, "1", DONE)
    assert credit(world, count) == [5]


@pytest.mark.parametrize("features", ["", "cancel"])
def test_a_handler_without_the_feature_answers_once(world: World, t: Session, features: str) -> None:
    count = world.handler("count", features=features)
    world.send(t, "count", id="7", parts=5)
    assert credit(world, count) == [None]
    assert (
        Playbook(world)
        >> Grants(t, "7", 1)
        >> AnswersInPart(count, data=1)  # a member that it does not know
        << Received(t, "count", 1, reply_to="7")
        << Report(t, "good")
    )


def test_a_classic_handler_answers_once(world: World, t: Session) -> None:
    world.configure(count=TypeRules(classic_socket="/s"))
    call = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=5)
        << Effect(CallClassic, call)
        >> ClassicAnswers(call, REPLY, data=1)
        << Received(t, "count", 1, reply_to="7")
        << Report(t, "good")
    )


@pytest.mark.parametrize("features", ["parts", BOTH])
def test_a_part_for_a_request_that_takes_none(world: World, t: Session, features: str) -> None:
    count = world.handler("count", features=features)
    play = (
        Playbook(world) >> Sends(t, "count", id="7") << Asked(count) >> AnswersInPart(count) << Report(t, "badResponse")
    )
    if features == BOTH:
        play = play << Cancelled(count, "1")
    assert play
    assert world.at_rest(t)


def test_a_part_with_another_status_is_the_last_answer(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=5)
        << Asked(count)
        >> AnswersInPart(count, status=0, data=1)
        << Part(t, "7", 1)
        >> AnswersInPart(count, status="1")
        << Report(t, "handlerError")
        >> Sends(t, "count", id="8", parts=5)
        << Asked(count)
        >> AnswersInPart(count, status=False)
        << Report(t, "handlerError")
    )


def test_a_push_has_no_parts(world: World, count: AttachedHandler) -> None:
    world.push(count, "p", DONE)
    world.answer(count, "p", DONE, header={"messageType": "push", "more": True})
    assert [frame["payload"] for frame in world.got(count)] == [{"id": "p"}, {"id": "p"}]


def test_a_malformed_part_fails_the_request(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=5)
        << Asked(count)
        >> AnswersInPart(count, {"type": "unheard"})
        << Cancelled(count, "1")
        << Report(t, "badResponse")
        >> Sends(t, "count", id="8", parts=5)
        << Asked(count)
        >> AnswersWrongly(count, BadResponse("no JSON"))
        << Cancelled(count, "2")
        << Report(t, "badResponse")
    )
    assert world.at_rest(t)
    assert not world.exchange.streams._cancelled


def test_bounds_of_one_answer(world: World, count: AttachedHandler, t: Session) -> None:
    world.configure(Limits(max_parts=2, max_recipients=3))
    g = world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=9)
        << Asked(count)
        >> AnswersInPart(count)
        << Part(t, "7")
        >> AnswersInPart(count)
        << Part(t, "7")
        >> AnswersInPart(count)
        << Cancelled(count, "1")
        << Report(t, "badResponse")
        >> Sends(t, "count", id="8", parts=9)
        << Asked(count)
        >> AnswersInPart(count, clients("g"), clients("g"))
        << Received(g, "count")
        << Received(g, "count")
        >> AnswersInPart(count, clients("g", "g"))
        << Cancelled(count, "2")
        << Report(t, "badResponse", "g delivered", "g delivered")
    )


def test_the_time_limit_begins_anew_with_each_part(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=2)
        << Asked(count)
        >> Passes(20)
        >> AnswersInPart(count)
        << Part(t, "7")
        >> Passes(20)
        >> AnswersInPart(count)
        << Part(t, "7")
        >> Passes(20)
        >> Grants(t, "7", 1)  # until now it could do nothing
        << Granted(count, "1", 1)
        >> Passes(20)
        >> Grants(t, "7", 1)
        << Granted(count, "1", 1)
        >> Passes(20)
        << Cancelled(count, "1")
        << Report(t, "handlerTimeout")
    )


def test_a_handler_is_measured_by_its_whole_answer(world: World, count: AttachedHandler, t: Session) -> None:
    world.send(t, "count", id="7", parts=2)
    world.wait(1)
    world.answer(count, "1", REPLY, header={"more": True})
    world.wait(2)
    world.answer(count, "1", DONE)
    assert world.exchange.dispatcher.types["count"].metrics.seconds == 3


def test_a_chain_goes_on_with_what_is_left(world: World, count: AttachedHandler, t: Session) -> None:
    next_ = world.handler("next", features=BOTH)
    world.send(t, "count", id="7", parts=2)
    assert credit(world, count) == [2]
    world.answer(count, "1", send_handler("next"), REPLY, header={"more": True})
    assert len(world.got(t)) == 1
    assert credit(world, next_) == [None], "the first one has it"
    world.answer(count, "1", send_handler("next"), send_handler("next"))
    assert credit(world, next_) == [1, None]
    assert (
        Playbook(world)
        >> AnswersInPart(next_, id="3")
        << Part(t, "7")
        >> Answers(next_, send_handler("count"), id="3")
        << Asked(count, id="5", header=ANY)
        >> Grants(t, "7", 3)
        << Granted(count, "5", 3)
        >> Answers(next_, DONE, id="2")
        >> Answers(next_, DONE, id="4")
        >> AnswersInPart(count)
        << Part(t, "7")
        >> Answers(count, DONE)
        << Report(t, "good")
    )


def test_nothing_is_left_for_the_next_one_of_a_chain(world: World, count: AttachedHandler, t: Session) -> None:
    next_ = world.handler("next", features=BOTH)
    world.send(t, "count", id="7", parts=1)
    world.answer(count, "1", header={"more": True, "commands": [REPLY]})
    world.answer(count, "1", send_handler("next"))
    assert credit(world, next_) == [0]


def test_the_handler_of_a_stream_goes_away(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=2)
        << Asked(count)
        >> AnswersInPart(count)
        << Part(t, "7")
        >> Leaves(count)
        << Report(t, "handlerUnavailable")
    )
    assert len(world.exchange.streams) == 0


def test_two_messages_with_parts_need_two_ids(world: World, count: AttachedHandler, t: Session) -> None:
    world.send(t, "count", id="7", parts=2)
    with pytest.raises(IdConflict):
        world.send(t, "count", id="7", parts=2)
    world.send(world.session("g"), "count", id="7", parts=2)
    world.send(t, "count", id="7")
    world.answer(count, "1", DONE)
    world.send(t, "count", id="7", parts=2)
    assert credit(world, count) == [2, 2, None, 2]


def test_a_dry_run_plans_parts(world: World, count: AttachedHandler, t: Session) -> None:
    count.dry_types = frozenset(["count"])
    trail = Trail(dry=True)
    route = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=2, trail=trail)
        << Asked(count, header=ANY)
        >> AnswersInPart(count)
        >> AnswersInPart(count, clients("g"))
        >> Answers(count, REPLY)
        << Report(t, "good", route=route)
    )
    steps = [(step["step"], step["name"], step["status"], step.get("parts")) for step in route()]
    assert steps == [
        ("handler", "count", "good", 2),
        ("clients", "t", "planned", None),
        ("mailbox", "g", "planned", None),
        ("clients", "t", "planned", None),
    ]


def test_a_message_beyond_max_in_flight_keeps_its_stream(world: World, count: AttachedHandler, t: Session) -> None:
    world.configure(Limits(max_in_flight=1))
    world.send(t, "count", id="6")
    world.send(t, "count", id="7", parts=1)
    world.exchange.streams.grant(t, b'"7"', 1)
    world.answer(count, "1", DONE)
    assert credit(world, count) == [None, 2]


def test_a_part_has_no_more_replies_than_are_granted(world: World, count: AttachedHandler, t: Session) -> None:
    assert (
        Playbook(world)
        >> Sends(t, "count", id="7", parts=3)
        << Asked(count)
        >> AnswersInPart(count, REPLY, REPLY, data=1)
        << Part(t, "7", 1)
        << Part(t, "7", 1)
        >> AnswersInPart(count, REPLY, REPLY, data=2)
        << Cancelled(count, "1")
        << Report(t, "badResponse")
    )
