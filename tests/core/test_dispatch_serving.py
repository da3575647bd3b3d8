"""Who serves which type: handlers come and go, and the configuration changes (docs/protocol.md, section 3.1)."""

from __future__ import annotations

import pytest
from tests.core.events import Answers, Calls, ClassicAnswers, Leaves, Passes, Pushes, Sends
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Report
from tests.core.world import World, send_handler

from bester.core.effects import CallClassic
from bester.core.limits import Limits
from bester.core.rules import TypeRules
from bester.errors import NotAllowed

CLASSIC = TypeRules(classic_socket="/s", classic_concurrency=2, timeout_s=10)


# -- attach, detach, gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["dummy", "builtin"])
def test_the_servers_own_types_are_not_for_handlers(world: World, type: str) -> None:
    with pytest.raises(NotAllowed):
        world.handler("chat", type)
    assert (world.exchange.dispatcher.types, world.exchange.dispatcher.handlers) == ({}, [])


def test_a_type_named_twice_counts_once(world: World) -> None:
    chat = world.handler("chat", "chat")
    assert world.exchange.dispatcher.types["chat"].attached == [chat]
    world.exchange.dispatcher.remove(chat)
    assert world.exchange.dispatcher.types == {}


def test_a_handler_that_goes_away_fails_what_it_had_and_what_waited(world: World) -> None:
    chat, t, g = world.handler("chat", concurrency=1), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Sends(g, "chat")
        >> Sends(g, "chat")
        >> Leaves(chat)
        << Report(t, "handlerUnavailable")
        << Report(g, "handlerUnavailable")
        << Report(g, "handlerUnavailable")
        >> Sends(t, "chat")
        << Report(t, "noHandler")
    )
    assert world.exchange.dispatcher.handlers == []
    assert world.at_rest(t, g, chat)


def test_a_handler_that_goes_away_is_told_nothing_of_its_pushes(world: World) -> None:
    chat = world.handler("chat", concurrency=1)
    assert (
        Playbook(world)
        >> Pushes(chat, "h1", send_handler("chat"))
        << Asked(chat)
        >> Pushes(chat, "h2", send_handler("chat"))
        >> Leaves(chat)
    )
    assert world.at_rest(chat)


def test_the_other_process_goes_on(world: World) -> None:
    one, two, t = world.handler("chat", concurrency=1), world.handler("chat", concurrency=1), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat", 0)
        << Asked(one, 0)
        >> Sends(t, "chat", 1)
        << Asked(two, 1)
        >> Sends(t, "chat", 2)
        >> Leaves(one)
        << Report(t, "handlerUnavailable")
        >> Answers(two)
        << Report(t, "good")
        << Asked(two, 2)
    )


def test_detach_loses_nothing(world: World) -> None:
    one, two, t = world.handler("chat"), world.handler("chat"), world.session("t")
    detach = world.exchange.dispatcher.detach
    assert (
        Playbook(world)
        >> Sends(t, "chat", 0)
        << Asked(one, 0)
        >> Calls(detach, one)
        >> Calls(detach, one)
        >> Sends(t, "chat", 1)
        << Asked(two, 1)
        >> Answers(one)
        << Report(t, "good")
        >> Leaves(one)
        >> Answers(two)
        << Report(t, "good")
    )


def test_a_handler_that_detached_still_times_out(world: World) -> None:
    chat, t = world.handler("chat", timeout_s=10), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Calls(world.exchange.dispatcher.detach, chat)
        >> Passes(10)
        << Report(t, "handlerTimeout")
    )


def test_the_types_of_a_handler_take_turns(world: World) -> None:
    both, t, g = world.handler("a", "b", concurrency=1), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "a", 1)
        << Asked(both, 1)
        >> Sends(t, "a", 2)
        >> Sends(t, "a", 3)
        >> Sends(g, "b", 4)
        >> Sends(g, "b", 5)
        >> Answers(both)
        << Asked(both, 2)
        << Report(t, "good")
        >> Answers(both)
        << Asked(both, 4)
        << Report(t, "good")
        >> Answers(both)
        << Asked(both, 3)
        << Report(g, "good")
        >> Answers(both)
        << Asked(both, 5)
        << Report(t, "good")
        >> Answers(both)
        << Report(g, "good")
    )
    assert world.at_rest(t, g, both)


def test_a_handler_that_detaches_from_several_types_is_asked_nothing_more(world: World) -> None:
    world.configure(Limits(max_in_flight=2))
    both, t = world.handler("a", "b", concurrency=1), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "a", 1)
        << Asked(both, 1)
        >> Sends(t, "a", 2)
        >> Sends(t, "b", 3)  # waits behind the others, and is let in when they have failed
        >> Calls(world.exchange.dispatcher.detach, both)
        << Report(t, "handlerUnavailable")
        << Report(t, "noHandler")
        >> Answers(both)
        << Report(t, "good")
    )
    assert world.at_rest(t, both)


def test_a_type_whose_last_handler_goes_while_many_wait(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat", concurrency=1), world.session("t")
    for _ in range(3000):
        world.send(t, "chat")
    world.exchange.dispatcher.remove(chat)
    assert world.codes(t) == ["handlerUnavailable"] * 2 + ["noHandler"] * 2998
    assert world.at_rest(t, chat)


# -- configuration ----------------------------------------------------------------------------------------------


def test_a_reload_switches_handlers(world: World) -> None:
    world.configure(c=CLASSIC)
    t, call = world.session("t"), Placeholder()
    play = (
        Playbook(world)
        >> Sends(t, "c", 1)
        << Effect(CallClassic, call)
        >> Sends(t, "c", 2)
        >> Calls(world.configure, d=CLASSIC)
        << Report(t, "handlerUnavailable")  # the one that waited
    )
    assert play
    assert set(world.exchange.dispatcher.types) == {"d"}
    assert play >> ClassicAnswers(call) << Report(t, "good") >> Sends(t, "c") << Report(t, "noHandler")
    assert world.at_rest(t)


def test_a_reload_keeps_a_configured_type_without_a_handler(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "c")
        << Effect(CallClassic)
        >> Sends(t, "c")
        >> Calls(world.configure, c=TypeRules())
        << Report(t, "handlerUnavailable")
        >> Sends(t, "c")
        << Report(t, "handlerUnavailable")
    )
    assert not world.exchange.dispatcher.types["c"].available


def test_rules_for_types_that_are_only_attached(world: World) -> None:
    world.configure(attached={"chat": TypeRules(7, transient=True)})
    chat = world.handler("chat", "news", timeout_s=20)
    types = world.exchange.dispatcher.types
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7, transient=True), TypeRules(20))
    world.configure(attached={"news": TypeRules(8)})
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7), TypeRules(8))
    world.configure(chat=TypeRules(9))
    assert types["chat"].configured
    world.exchange.dispatcher.remove(chat)
    assert set(types) == {"chat"}


# -- nodes that cannot be reached --------------------------------------------------------------------------------


def test_a_type_that_another_node_may_serve_is_temporarily_unavailable(world: World) -> None:
    t, play = world.session("t"), Playbook(world)
    world.exchange.dispatcher.unsure_until = world.exchange.batch.now + 10
    assert play >> Sends(t, "chat") << Report(t, "handlerUnavailable")
    assert play >> Passes(10) >> Sends(t, "chat") << Report(t, "noHandler")
