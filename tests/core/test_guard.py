"""Guards: a type's messages are shown to them before its handler is asked."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.events import (
    Answers,
    AnswersWrongly,
    Calls,
    ClassicAnswers,
    ClassicFails,
    Leaves,
    Passes,
    Sends,
    Together,
)
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Report
from tests.core.world import World

from bester.core.effects import CallClassic, HoldBack, Remember, TellNode
from bester.core.endpoint import Consented, NodePeer
from bester.core.guard import VERDICTS
from bester.core.metrics import Drop
from bester.core.rules import Allow, GuardRule, TypeRules
from bester.core.trail import Trail
from bester.errors import BadResponse, HandlerFailed, HandlerUnavailable, StorageFull

ACCEPT, DROP, HOLD = {"type": "accept"}, {"type": "drop"}, {"type": "hold"}


def guard(world: World, *rules: GuardRule, known: frozenset[str] = frozenset()) -> None:
    world.exchange.gates.guard(rules or (GuardRule("guard"),), known)


def verdicts(world: World) -> dict[tuple[str, str], int]:
    return world.exchange.gates.verdicts


def test_what_a_guard_accepts_reaches_the_handler(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    header = {"messageType": "request", "id": "1", "scope": "client", "hops": 0, "guards": "chat"}
    who = {"from": {"user": "t", "server": "j.example", "verified": True}}
    trace = Placeholder()
    play = Playbook(world) >> Sends(t, "chat", 1, id="x") << Asked(g, 1, type="guard", tag="x", header=trace)
    assert play >> Answers(g, ACCEPT) << Asked(chat, 1, tag="x") >> Answers(chat) << Report(t, "good", id="x")
    assert {name: value for name, value in trace().items() if name != "traceparent"} == header | who
    assert (
        Playbook(world)
        >> Sends(t, "chat", 2)
        << Asked(g, 2)
        >> Answers(g)
        << Asked(chat, 2)
        >> Answers(chat)
        << (Report(t, "good"))
    )
    assert verdicts(world) == {("guard", "accept"): 2}
    assert world.at_rest(t)


def test_a_refusal_is_reported_in_the_guards_words(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard"), world.session("t")
    world.send(t, "chat", 1)
    world.answer(
        g, "1", header={"status": "1", "error": {"code": "spam", "message": "no spam here", "temporary": True}}
    )
    error = world.report(t)["error"]
    assert error == {"code": "rejected", "reason": "spam", "message": "no spam here", "temporary": True}
    world.send(t, "chat", 1)
    world.answer(g, "2", header={"status": "1"})
    assert world.report(t)["error"] == {
        "code": "rejected",
        "message": "a guard of this server does not let the message pass",
        "temporary": False,
    }
    assert verdicts(world) == {("guard", "reject"): 2}
    assert world.at_rest(t)


def test_the_sender_of_what_is_dropped_is_told_that_all_is_well(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard"), world.session("t")
    world.exchange.reports.receipts.bad_left = world.exchange.reports.receipts.good_left = 1
    trail = Trail()
    told = {"server": "j.example", "step": "guard", "name": "guard", "ms": 0, "status": "accept"}
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, trail=trail)
        << Asked(g, 1)
        >> Answers(g, DROP)
        << Report(t, "good", route=[told])
    )
    assert [step.status for step in trail.steps] == ["dropped"]
    (receipt,) = world.exchange.reports.receipts.entries
    assert receipt.large is not None
    assert receipt.large.error is not None
    assert receipt.large.error[0] == "dropped"
    assert world.at_rest(t)


def test_what_is_held_is_reported_when_it_is_kept(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    held = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, id="x")
        << Asked(g, 1)
        >> Answers(g, HOLD | {"data": "G"})
        << Effect(HoldBack, held, holder="g", guard="guard", data=1)
        >> Sends(t, "chat", 2)
        << Asked(g, 2)
        >> Answers(g)  # and waits behind the first
    )
    gates = world.exchange.gates
    assert (
        Playbook(world)
        >> Calls(gates.held_back, held().number, "held")
        << Report(t, "good", "g held", id="x")
        << Asked(chat, 2)
        >> Sends(t, "chat", 3)
        << Asked(g, 3)
        >> Answers(g, HOLD)
        << Effect(HoldBack, held_too := Placeholder(), holder=None)
    )
    assert (
        Playbook(world)
        >> Calls(gates.held_back, held_too().number, "failed", StorageFull())
        << (Report(t, "storageFull", "j.example failed storageFull"))
    )
    assert Playbook(world) >> Answers(chat) << Report(t, "good")
    assert world.at_rest(t)


def test_what_its_holder_trusts_passes(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    held = Placeholder()
    assert Playbook(world) >> Sends(t, "chat", 1) << Asked(g, 1) >> Answers(g, HOLD) << Effect(HoldBack, held)
    assert Playbook(world) >> Calls(world.exchange.gates.held_back, held().number, "passes") << Asked(chat, 1)
    assert Playbook(world) >> Answers(chat) << Report(t, "good")


def test_messages_pass_in_the_order_in_which_they_came(world: World) -> None:
    guard(world)
    chat, g, t, other = world.handler("chat"), world.handler("guard"), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Together(Sends(t, "chat", 1), Sends(t, "chat", 2), Sends(t, "chat", 3), Sends(other, "chat", 4))
        << Asked(g, 1)
        << Asked(g, 2)
        << Asked(g, 3)
        << Asked(g, 4)
        >> Answers(g, id="3")
        >> Answers(g, id="4")
        << Asked(chat, 4)
        >> Answers(g, DROP, id="2")
        >> Answers(g, id="1")
        << Asked(chat, 1)
        << Report(t, "good")
        << Asked(chat, 3)
    )


def test_guards_are_asked_one_after_the_other(world: World) -> None:
    guard(world, GuardRule("first"), GuardRule("second"), GuardRule("third", frozenset({"other"})))
    chat, one, two, t = world.handler("chat"), world.handler("first"), world.handler("second"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(one, 1)
        >> Answers(one, HOLD)
        << Asked(two, 1)  # a later guard may still refuse what an earlier one holds
        >> Answers(two, DROP)
        << Report(t, "good")
        >> Sends(t, "chat", 2)
        << Asked(one, 2)
        >> Answers(one)
        << Asked(two, 2)
        >> Answers(two, HOLD | {"data": "g"})
        << Effect(HoldBack, holder="g", guard="second")
    )
    assert not chat.outstanding


@pytest.mark.parametrize(
    "header",
    [
        {"status": "0"},
        {"status": "0", "command": {"type": "reply"}},
        {"status": "0", "command": {"type": "sendClients", "data": ["t"]}},
        {"status": "0", "command": {"type": "nonsense"}},
        {"status": "0", "command": {"type": "hold", "data": ["g"]}},
        {"status": "0", "command": {"type": "hold", "data": ""}},
        {"status": "0", "command": ACCEPT, "commands": [ACCEPT]},
        {"status": "0", "commands": [ACCEPT, DROP]},
    ],
)
@pytest.mark.parametrize("passes", [False, True])
def test_nonsense_is_no_verdict(world: World, header: dict[str, Any], passes: bool) -> None:
    guard(world, GuardRule("guard", passes_on_failure=passes))
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    world.send(t, "chat", 1)
    world.asked(g)
    world.answer(g, "1", header={"command": None, "commands": None} | header)
    if passes:
        assert world.asked(chat) == [("2", 1)]
    else:
        error = world.report(t)["error"]
        assert (error["code"], error["temporary"]) == ("rejected", True)
    assert verdicts(world) == {("guard", "failure"): 1}
    route = world.exchange.dispatcher.types["guard"]
    assert route.last_error.startswith("badResponse: ")
    assert route.metrics.failed == 1


def test_an_empty_list_of_commands_accepts(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    world.send(t, "chat", 1)
    world.answer(g, "1", header={"command": None, "commands": []})
    assert world.asked(chat) == [("2", 1)]


def test_a_guard_that_is_absent_gives_no_verdict(world: World) -> None:
    guard(world)
    chat, t = world.handler("chat"), world.session("t")
    assert Playbook(world) >> Sends(t, "chat", 1, trail=Trail(told=False)) << Report(t, "rejected")
    guard(world, GuardRule("guard", passes_on_failure=True))
    assert Playbook(world) >> Sends(t, "chat", 2) << Asked(chat, 2)
    world.configure(guard=TypeRules())  # which is configured, but served by nobody
    assert Playbook(world) >> Sends(t, "chat", 3) << Asked(chat, 3)
    g = world.handler("guard")
    assert Playbook(world) >> Sends(t, "chat", 4) << Asked(g, 4) >> Leaves(g) << Asked(chat, 4)


@pytest.mark.parametrize("trail", [None, Trail(told=False)])
def test_a_guard_that_is_too_slow_gives_no_verdict(world: World, trail: Trail | None) -> None:
    guard(world, GuardRule("guard", timeout_s=5.0))
    chat, t = world.handler("chat"), world.session("t")
    g = world.handler("guard", concurrency=1)
    assert (
        Playbook(world)
        >> Together(Sends(t, "chat", 1, trail=trail), Sends(t, "chat", 2), Sends(t, "chat", 3))
        << Asked(g, 1)
        >> Passes(4.9)
        >> Passes(0.2)
        << Report(t, "rejected")
        << Report(t, "rejected")
        << Report(t, "rejected")
        >> Answers(g)  # too late, and what waited behind it is not asked any more
    )
    assert not chat.outstanding
    assert world.at_rest(t)
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 1
    assert world.exchange.dispatcher.types["guard"].last_error.startswith("handlerTimeout: ")


def test_a_classic_guard(world: World) -> None:
    guard(world)
    world.configure(guard=TypeRules(classic_socket="/g"))
    chat, t, call = world.handler("chat"), world.session("t"), Placeholder()
    assert Playbook(world) >> Sends(t, "chat", 1) << Effect(CallClassic, call, data=1)
    assert Playbook(world) >> ClassicAnswers(call(), ACCEPT) << Asked(chat, 1)
    assert Playbook(world) >> Sends(t, "chat", 2) << Effect(CallClassic, again := Placeholder())
    assert Playbook(world) >> ClassicFails(again(), HandlerUnavailable()) << Report(t, "rejected")


def test_the_guard_of_another_node(world: World) -> None:
    guard(world)
    chat, t = world.handler("chat"), world.session("t")
    remote = world.remote_handler("B", "guard")
    world.send(t, "chat", 1)
    (asked,) = world.effects()
    assert asked.guards  # type: ignore[union-attr]
    assert b'"guards":"chat"' in asked.head  # type: ignore[union-attr]
    assert not asked.order  # type: ignore[union-attr]
    world.answer(remote, "1", ACCEPT)
    assert world.asked(chat) == [("2", 1)]
    world.answer(chat, "2")
    assert world.code(t) == ""
    world.send(t, "chat", 2)
    world.effects()
    world.exchange.answer_failed(remote, "3", HandlerFailed("no", "spam"))
    assert world.report(t)["error"] == {"code": "rejected", "reason": "spam", "message": "no", "temporary": False}
    world.send(t, "chat", 3)
    world.effects()
    world.exchange.answer_failed(remote, "4", BadResponse())
    assert world.code(t) == "rejected"
    assert world.at_rest(t)


def test_another_nodes_question_to_a_guard_here(world: World) -> None:
    guard(world)
    g, node = world.handler("guard"), NodePeer("A")
    world.exchange.remote.ask(node, 1, "guard", b'","guards":"chat"},"payload":{"data":', b"5", guards=True)
    world.got(g)
    world.answer(g, "1", HOLD | {"data": "g"})
    told = world.only(TellNode)
    assert told.envelope.answer.header.command.type == "hold"  # type: ignore[attr-defined]
    world.exchange.remote.ask(node, 2, "guard", b'","guards":"chat"},"payload":{"data":', b"5", guards=True)
    world.got(g)
    world.answer(g, "2", header={"status": "1", "error": {"code": "spam"}})
    error = world.only(TellNode).envelope.error
    assert error is not None
    assert (error.code, error.reason) == ("handlerError", "spam")


def test_who_is_a_stranger(world: World) -> None:
    guard(
        world,
        GuardRule("clients", senders=frozenset({"clients"})),
        GuardRule("servers", senders=frozenset({"servers"})),
        GuardRule("strangers", senders=frozenset({"strangers"})),
        known=frozenset({"k.example"}),
    )
    by_name = {name: world.handler(name) for name in ("chat", "clients", "servers", "strangers")}
    t, known, stranger, nobody = world.session("t"), world.peer("k.example"), world.peer("s.example"), world.peer()
    for origin, expected in (
        (t, ["clients"]),
        (known, ["servers"]),
        (stranger, ["servers", "strangers"]),
        (nobody, ["servers", "strangers"]),
    ):
        play = Playbook(world) >> Sends(origin, "chat", 1)
        for name in expected:
            play = play << Asked(by_name[name], 1) >> Answers(by_name[name])
        assert play << Asked(by_name["chat"], 1) >> Answers(by_name["chat"]) << Report(origin, "good")


def test_who_is_not_guarded(world: World) -> None:
    guard(world, GuardRule("guard"), GuardRule("other", frozenset({"guard"})))
    chat, g, other, t = world.handler("chat"), world.handler("guard"), world.handler("other"), world.session("t")
    assert Playbook(world) >> Sends(t, "guard", 1) << Asked(other, 1) >> Answers(other) << Asked(g, 1)
    assert Playbook(world) >> Answers(g, {"type": "sendHandler", "data": "chat"}) << Asked(chat)
    guard(world, GuardRule("guard", senders=frozenset({"servers"})))
    assert Playbook(world) >> Sends(t, "chat", 2) << Asked(chat, 2)


def test_a_type_that_is_served_later_is_guarded(world: World) -> None:
    guard(world)
    g, chat, t = world.handler("guard"), world.handler("chat"), world.session("t")
    world.exchange.dispatcher.remove(chat)
    late = world.handler("chat")
    assert Playbook(world) >> Sends(t, "chat", 1) << Asked(g, 1)
    world.exchange.dispatcher.remove(late)
    again = world.handler("chat")
    assert Playbook(world) >> Answers(g) << Asked(again, 1)


def test_without_guards_no_type_has_a_gate(world: World) -> None:
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    guard(world)
    assert Playbook(world) >> Sends(t, "chat", 1) << Asked(g, 1)
    world.exchange.gates.guard((), frozenset())
    assert Playbook(world) >> Sends(t, "chat", 2)  # behind the first
    assert Playbook(world) >> Answers(g) << Asked(chat, 1) << Asked(chat, 2)
    assert world.exchange.dispatcher.types["chat"].gate is None


def test_validation_comes_first(world: World) -> None:
    guard(world)
    world.exchange.gates.validate("chat", lambda data: BadResponse() if bytes(data) == b"1" else None)
    world.handler("chat")
    g, t = world.handler("guard"), world.session("t")
    assert Playbook(world) >> Sends(t, "chat", 1) << Report(t, "badResponse") >> Sends(t, "chat", 2) << Asked(g, 2)


def test_a_dry_run_asks_guards_that_take_part(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    chat.dry_types = frozenset({"chat"})
    step = {"server": "j.example", "step": "guard", "name": "guard", "ms": 0.0}
    asked = {"server": "j.example", "step": "handler", "name": "chat", "ms": 0.0, "status": "good"}
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, trail=Trail(dry=True))
        << Asked(chat, 1)
        >> Answers(chat)
        << Report(t, "good", route=[step | {"status": "notAsked"}, asked])
    )
    g.dry_types = frozenset({"guard"})
    assert (
        Playbook(world)
        >> Sends(t, "chat", 2, trail=Trail(dry=True))
        << Asked(g, 2)
        >> Answers(g, HOLD | {"data": "g"})
        << Report(t, "good", route=[step | {"status": "held"}])
    )
    assert world.at_rest(t)


def test_a_repeat_has_the_same_report(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t, held = world.handler("guard"), world.session("t"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1, id="a", once=True)
        << Asked(g, 1)
        >> Answers(g, status="1")
        << Report(t, "rejected", id="a")
        >> Sends(t, "chat", 1, id="a", once=True)
        << Report(t, "rejected", id="a")
        >> Sends(t, "chat", 2, id="b", once=True)
        << Asked(g, 2)
        >> Answers(g, HOLD)
        << Effect(HoldBack, held)
    )
    kept = Placeholder()
    assert Playbook(world) >> Calls(world.exchange.gates.held_back, held().number, "held") << Effect(Remember, kept)
    assert Playbook(world) >> Calls(world.exchange.admission.remembered, kept()) << Report(t, "good", "j.example held")
    assert Playbook(world) >> Sends(t, "chat", 2, id="b", once=True) << Report(t, "good", "j.example held")


def test_what_waits_for_guards_is_bounded(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard"), world.session("t")
    world.send(t, "chat", 1, size=300_000)
    assert t.paused
    world.effects()
    world.answer(g, "1", DROP)
    assert not t.paused


def test_every_verdict_has_its_word() -> None:
    assert VERDICTS == ("accept", "reject", "drop", "hold", "failure")


def test_what_was_held_and_is_released_passes(world: World) -> None:
    guard(world)
    world.exchange.gates.validate("chat", lambda data: BadResponse())
    world.configure(chat=TypeRules(allow=Allow(accounts=False, servers=False)))
    chat = world.handler("chat")
    header = {"scope": "server", "from": {"user": None, "server": "k.example", "verified": True}}
    sender = Consented("server", None, "k.example", True, "h-1")
    seen = Placeholder()
    play = Playbook(world) >> Sends(sender, "chat", 1, id="x", once=True) << Asked(chat, 1, tag="x", header=seen)
    assert (
        play
        >> Answers(chat, {"type": "reply"}, data="heard by nobody")
        << Report(sender, "good", id="x", data="heard by nobody")
    )
    assert header.items() <= seen().items()
    assert sender.name == "k.example"
    assert Consented("client", "t", "j.example", True, "h-2").name == "t"
    assert Consented("server", None, None, False, "h-3").name == ""


def test_a_message_that_no_rule_is_about_waits_behind_one_that_is(world: World) -> None:
    guard(world)
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    assert Playbook(world) >> Sends(t, "chat", 1) << Asked(g, 1)
    guard(world, GuardRule("guard", senders=frozenset({"servers"})))
    assert Playbook(world) >> Sends(t, "chat", 2) >> Answers(g) << Asked(chat, 1) << Asked(chat, 2)


def test_a_guards_answer_that_is_malformed_is_no_verdict(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard"), world.session("t")
    trail = Trail(told=False)
    play = Playbook(world) >> Sends(t, "chat", 1, trail=trail) << Asked(g, 1)
    assert play >> AnswersWrongly(g, BadResponse("it is no answer")) << Report(t, "rejected")
    assert [step.status for step in trail.steps] == ["badResponse"]
    again = Trail(told=False)
    play = Playbook(world) >> Sends(t, "chat", 1, trail=again) << Asked(g, 1)
    assert play >> Answers(g, {"type": "reply"}) << Report(t, "rejected")
    assert [step.status for step in again.steps] == ["badResponse"]


def test_a_guard_that_leaves_after_its_time_changes_nothing(world: World) -> None:
    guard(world, GuardRule("guard", timeout_s=5.0, passes_on_failure=True))
    chat, g, t = world.handler("chat"), world.handler("guard"), world.session("t")
    play = Playbook(world) >> Sends(t, "chat", 1) << Asked(g, 1) >> Passes(5.1) << Asked(chat, 1)
    assert play >> Leaves(g) >> Answers(chat) << Report(t, "good")


def test_a_guard_after_one_that_is_too_slow_is_asked(world: World) -> None:
    first = GuardRule("first", timeout_s=1.0, passes_on_failure=True)
    guard(world, first, GuardRule("second", timeout_s=2.0))
    chat, one, two, t = world.handler("chat"), world.handler("first"), world.handler("second"), world.session("t")
    play = Playbook(world) >> Sends(t, "chat", 1) << Asked(one, 1) >> Passes(1.1) << Asked(two, 1)
    assert play >> Answers(two) << Asked(chat, 1)


def test_a_message_that_is_cancelled_while_it_waits_for_a_guard(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard", concurrency=1), world.session("t")
    play = Playbook(world) >> Sends(t, "chat", 1, id="a") << Asked(g, 1) >> Sends(t, "chat", 2, id="b")
    assert play >> Calls(world.exchange.parts.cancel, t, b'"b"')
    assert Playbook(world) >> Answers(g, DROP) << Report(t, "good", id="a") << Report(t, "cancelled", id="b")


def test_a_long_line_of_dry_runs_that_would_be_held_is_reported_at_once(world: World) -> None:
    guard(world)
    world.handler("chat")
    g, t = world.handler("guard", concurrency=1000), world.session("t")
    g.dry_types = frozenset({"guard"})
    for number in range(900):
        world.take_in(t, "chat", number, id=str(number), trail=Trail(dry=True))
    world.settle()
    asked = list(g.outstanding)
    world.take(g)
    for id in reversed(asked):  # so that all wait for the first one
        world.answer(g, id, HOLD)
    assert [one["payload"]["id"] for one in world.got(t)] == [str(number) for number in range(900)]
    assert world.at_rest(t)
