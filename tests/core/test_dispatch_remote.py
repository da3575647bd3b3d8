"""Types that other nodes of the same server serve (docs/scale.md)."""

from __future__ import annotations

import json

import pytest
from tests.core.events import (
    Answers,
    ClassicAnswers,
    Leaves,
    Passes,
    Sends,
)
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, World, clients

from bester.core.effects import AskRemote, CallClassic
from bester.core.rules import TypeRules
from bester.core.trail import Trail
from bester.protocol import frames


def test_a_type_that_only_another_node_serves_is_asked_there(world: World) -> None:
    node, t, ask = world.remote_handler("n1", "chat"), world.session("t"), Placeholder()
    play = Playbook(world)
    assert (
        play
        >> Sends(t, "chat", {"a": 1}, id="tag", hops=2)
        << Effect(AskRemote, ask, handler=node, type="chat", data={"a": 1}, dry=False)
    )
    asked = ask()
    request = json.loads(frames.relayed_request(str(asked.number), asked.head, asked.data)[4:])
    assert request["payload"] == {"type": "chat", "id": "tag", "data": {"a": 1}}
    assert request["header"]["hops"] == 2
    assert request["header"]["from"]["user"] == "t"
    assert request["header"]["traceparent"] == world.exchange.traces.whole("1")
    assert (
        play
        >> Answers(node, clients("t"), payload={"data": 5})
        << Received(t, "chat", 5)
        << Report(t, "good", "t delivered")
    )
    assert world.at_rest(t)


def test_requests_may_be_numbered_from_anywhere_on(world: World) -> None:
    world.exchange.dispatcher.count_from(10**11 - 1)
    world.remote_handler("n1", "chat")
    world.send(world.session("t"), "chat", 1, id="1")
    asked = world.only(AskRemote)
    assert asked.number == 10**11
    request = json.loads(frames.relayed_request(str(asked.number), asked.head, asked.data)[4:])
    assert request["header"]["traceparent"] == world.exchange.traces.whole(str(10**11))
    assert len(request["header"]["traceparent"]) == 55


def test_an_attached_handler_is_preferred_and_the_least_busy_node_helps(world: World) -> None:
    one, other = world.remote_handler("n1", "work"), world.remote_handler("n2", "work")
    here, t = world.handler("work", concurrency=1), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "work", 0)
        << Asked(here, 0)
        >> Sends(t, "work", 1)
        << Effect(AskRemote, handler=one, data=1)
        >> Sends(t, "work", 2)
        << Effect(AskRemote, handler=other, data=2)
        >> Sends(t, "work", 3)
        << Effect(AskRemote, handler=one, data=3)
    )
    assert play
    assert (len(one.outstanding), len(other.outstanding)) == (2, 1)
    assert play >> Answers(here, DONE) << Report(t, "good") >> Sends(t, "work", 4) << Asked(here, 4)


def test_a_node_helps_several_attached_handlers_that_are_all_busy(world: World) -> None:
    node, t = world.remote_handler("n1", "work"), world.session("t")
    one, other = world.handler("work", concurrency=1), world.handler("work", concurrency=1)
    assert (
        Playbook(world)
        >> Sends(t, "work", 0)
        << Asked(one, 0)
        >> Sends(t, "work", 1)
        << Asked(other, 1)
        >> Sends(t, "work", 2)
        << Effect(AskRemote, handler=node, data=2)
    )


def test_messages_wait_while_all_nodes_are_busy(world: World) -> None:
    node, t = world.remote_handler("n1", "work", concurrency=1), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "work", 0)
        << Effect(AskRemote, data=0)
        >> Sends(t, "work", 1)
        >> Sends(t, "work", 2)
    )
    assert play
    assert t.held_bytes > 0
    assert (
        play
        >> Answers(node, DONE)
        << Report(t, "good")
        << Effect(AskRemote, data=1)
        >> Answers(node, DONE)
        << Report(t, "good")
        << Effect(AskRemote, data=2)
        >> Answers(node, DONE)
        << Report(t, "good")
    )
    assert world.at_rest(t)


def test_a_classic_handler_here_is_asked_and_no_node(world: World) -> None:
    world.configure(classic=TypeRules(classic_socket="aSock", classic_concurrency=1))
    world.remote_handler("n1", "classic")
    t, call = world.session("t"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "classic", 1)
        << Effect(CallClassic, call, data=1)
        >> Sends(t, "classic", 2)
        >> ClassicAnswers(call, DONE)
        << Report(t, "good")
        << Effect(CallClassic, data=2)
    )


def test_a_node_that_is_gone_fails_what_it_had_and_its_types_go(world: World) -> None:
    node, t = world.remote_handler("n1", "chat"), world.session("t")
    assert (
        Playbook(world) >> Sends(t, "chat", 1) << Effect(AskRemote) >> Leaves(node) << Report(t, "handlerUnavailable")
    )
    assert "chat" not in world.exchange.dispatcher.types
    assert world.at_rest(t)


def test_a_node_that_takes_too_long_is_not_waited_for(world: World) -> None:
    world.remote_handler("n1", "chat")
    t = world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Effect(AskRemote)
        >> Passes(29)
        >> Passes(1)
        << Report(t, "handlerTimeout")
    )


def test_the_rules_of_a_type_hold_for_other_nodes_too(world: World) -> None:
    world.configure(attached={"chat": TypeRules(timeout_s=1.0)})
    world.remote_handler("n1", "chat")
    assert world.exchange.dispatcher.types["chat"].rules.timeout_s == 1.0


def test_numbers_that_grow_longer_stay_in_step(world: World) -> None:
    node, t = world.remote_handler("n1", "chat"), world.session("t")
    for number in range(1, 12):
        assert (
            Playbook(world)
            >> Sends(t, "chat", number)
            << Effect(AskRemote, number=number, data=number)
            >> Answers(node, DONE, id=str(number))
            << Report(t, "good")
        )


@pytest.mark.parametrize("able", [True, False])
def test_a_dry_run_asks_a_node_that_takes_part(world: World, able: bool) -> None:
    node, t = world.remote_handler("n1", "chat"), world.session("t")
    node.dry_types = frozenset({"chat"} if able else ())
    ask, route = Placeholder(), Placeholder()
    play = Playbook(world) >> Sends(t, "chat", 1, trail=Trail(dry=True))
    if able:
        play = play << Effect(AskRemote, ask, dry=True) >> Answers(node, clients("t"))
    assert play << Report(t, "good", route=route)
    assert [step["status"] for step in route()] == (["good", "planned"] if able else ["notAsked"])
    if able:
        assert b'"dryRun":true' in ask().head
