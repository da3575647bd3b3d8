"""Plays fail where they should, and say why."""

from __future__ import annotations

import pytest
from tests.core.events import Acknowledges, Answers, Passes, Says, Sends, Together
from tests.core.playbook import Asked, Effect, Outcome, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, Talk, World, acking

from bester.core.effects import CallClassic, Deposit
from bester.core.rules import TypeRules


def test_a_play_that_goes_otherwise_says_what_was_expected_and_what_came(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat, 1)
        >> Answers(chat, DONE)
        << Received(t, "chat", 2)
        << Report(t, "noHandler")
    )
    with pytest.raises(AssertionError) as failed:
        assert play
    assert str(failed.value).splitlines() == [
        "the play goes otherwise (- expected, + came):",
        "  >> Sends(t, 'chat', 1)",
        "  << Asked(chat, data=1)",
        "  >> Answers(chat, {'type': 'done'})",
        "- << Received(t, type='chat', data=2)",
        "+ << Report(t, status='good')",
        "- << Report(t, status='noHandler')",
    ]


def test_an_error_in_a_play_says_where(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    with pytest.raises(StopIteration) as failed:
        assert Playbook(world) >> Sends(t, "none") << Report(t, "noHandler") >> Answers(chat)
    assert failed.value.__notes__ == [
        "the play so far:\n  >> Sends(t, 'none')\n  << Report(t, status='noHandler')\n  >> Answers(chat)"
    ]


def test_endpoints_of_one_name_are_told_apart(world: World) -> None:
    first, second = world.session("t"), world.session("t")
    with pytest.raises(AssertionError, match=r"- << Report\(t', status='good'\)"):
        assert Playbook(world) >> Sends(first, "none") << Report(first, "noHandler") << Report(second, "good")


def test_every_outcome_must_be_expected(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    with pytest.raises(AssertionError, match=r"\+ << Asked\(chat, .*data=1"):
        assert Playbook(world) >> Sends(t, "chat", 1)
    world.configure(c=TypeRules(classic_socket="/s"))
    with pytest.raises(AssertionError, match=r"\+ << CallClassic\(.*data=2"):
        assert Playbook(world) >> Sends(t, "c", 2)
    with pytest.raises(AssertionError, match=r"- << Asked\(chat"):
        assert Playbook(world) >> Passes(1) << Asked(chat)


def test_the_order_is_compared_for_each_endpoint_alone(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")

    def play(*outcomes: Outcome) -> Playbook:
        made = Playbook(world) >> Together(Sends(t, "chat", 1), Sends(g, "chat", 2), Sends(t, "none"))
        for outcome in outcomes:
            made <<= outcome
        return made

    assert play(Report(t, "noHandler"), Asked(chat, 1), Asked(chat, 2))
    assert play(Asked(chat, 1), Report(t, "noHandler"), Asked(chat, 2))
    with pytest.raises(AssertionError):
        assert play(Asked(chat, 2), Asked(chat, 1), Report(t, "noHandler"))


def test_a_placeholder_is_what_came_first(world: World, talk: Talk) -> None:
    g, id = acking(world), Placeholder()
    assert Playbook(world) >> Says(talk, 1, "g") << Received(g, "chat", 1, id=id)
    assert id() == next(iter(g.unacked))
    other = Placeholder()
    with pytest.raises(AssertionError, match="nothing has said"):
        other()
    with pytest.raises(AssertionError, match="- << Received"):
        assert Playbook(world) >> Says(talk, 2, "g") << Received(g, "chat", 2, id=id)
    assert Playbook(world) >> Acknowledges(g, id) << Report(talk.t, "good", "g delivered")


def test_effects_are_told_with_the_fields_of_what_they_are_about(world: World, talk: Talk) -> None:
    deposit = Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 5, "Away", transient=True)
        << Effect(Deposit, deposit, to="Away", username="away", type="chat", data=5, transient=True)
    )
    assert isinstance(deposit(), Deposit)
    world.configure(c=TypeRules(classic_socket="/s"))
    assert Playbook(world) >> Sends(talk.t, "c", 6, hops=2) << Effect(CallClassic, data=6, hops=2)


def test_a_play_goes_on_where_it_was_asserted(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    play = Playbook(world)
    assert play >> Sends(t, "chat") << Asked(chat)
    assert t.in_flight == 1
    with pytest.raises(AssertionError, match="behind its event"):
        play << Report(t, "good")
    assert play >> Answers(chat) << Report(t, "good")


def test_a_play_that_nobody_asserts_is_found(world: World) -> None:
    play = Playbook(world) >> Sends(world.session("t"), "none")
    assert list(Playbook.unasserted) == [play]
    Playbook.unasserted.clear()
