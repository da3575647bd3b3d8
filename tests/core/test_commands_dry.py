"""Routes of messages, and dry runs, which only tell what would be done (docs/protocol.md, section 7)."""

from __future__ import annotations

from typing import Any

from tests.core.events import Answers, Calls, Sends
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import REPLY, World, clients, send_handler, servers

from bester.core.effects import Forward
from bester.core.limits import Limits
from bester.core.trail import Trail

# -- sendClients ------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_be_done_with_each_recipient(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat"), world.session("t")
    chat.dry_types = frozenset({"chat"})
    world.session("g")
    answers: list[tuple[list[dict[str, Any]], list[tuple[str, str, str]], str]] = [
        ([clients("g", "G")], [("clients", "g", "planned")], "good"),
        ([clients("away", "Away")], [("mailbox", "away", "planned")], "good"),
        ([clients("away", transient=True)], [("clients", "away", "skipped")], "good"),
        (
            [clients("a b", "a b", "g")],
            [("clients", "a b", "unknownAccount"), ("clients", "g", "planned")],
            "unknownAccount",
        ),
        ([clients(*"abcd"), REPLY], [("clients", "t", "planned")], "badResponse"),
        ([send_handler("unknown")], [], "noHandler"),
    ]
    for commands, steps, status in answers:
        route = Placeholder()
        assert (
            Playbook(world)
            >> Sends(t, "chat", trail=Trail(dry=True))
            << Asked(chat)
            >> Answers(chat, *commands)
            << Report(t, status, route=route)
        )
        first, *others = [(step["step"], step["name"], step["status"]) for step in route()]
        assert first == ("handler", "chat", "good")
        assert others == steps
    assert world.exchange.batch.counters.drops.by_what() == {}
    assert world.at_rest(t, chat)


def test_a_server_that_asks_for_a_dry_run_gets_no_plan_of_a_reply(world: World) -> None:
    chat, k, route = world.handler("chat"), world.peer("k.example"), Placeholder()
    chat.dry_types = frozenset({"chat"})
    assert (
        Playbook(world)
        >> Sends(k, "chat", trail=Trail(dry=True))
        << Asked(chat)
        >> Answers(chat, REPLY)
        << Report(k, "good", route=route)
    )
    assert [step["step"] for step in route()] == ["handler"]


def test_a_dry_run_does_not_wait_and_is_told_how_its_handler_failed(world: World) -> None:
    chat, t, first, second = world.handler("chat", concurrency=1), world.session("t"), Placeholder(), Placeholder()
    chat.dry_types = frozenset({"chat"})
    dry = Sends(t, "chat", id="dry", trail=Trail(dry=True))
    assert (
        Playbook(world)
        >> dry
        << Asked(chat)
        >> Answers(chat, status="1")
        << Report(t, "handlerError", route=first)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Sends(t, "chat", id="dry", trail=Trail(dry=True))
        << Report(t, "handlerUnavailable", id="dry", route=second)
    )
    assert [[step["status"] for step in route()] for route in (first, second)] == [
        ["handlerError"],
        ["handlerUnavailable"],
    ]


def test_the_route_of_a_message_stands_in_its_report(world: World) -> None:
    chat, t, route, forward = world.handler("chat"), world.session("t"), Placeholder(), Placeholder()
    world.session("g")
    inner = b'[{"server":"k.example"}]'
    play = Playbook(world)
    assert (
        play
        >> Sends(t, "chat", trail=Trail())
        << Asked(chat)
        >> Answers(chat, clients("t"), servers("k.example"), REPLY)
        << Received(t, "chat")
        << Received(t, "chat")
        << Effect(Forward, forward)
    )
    sent = forward()
    settle = Calls(world.exchange.reports.settled, sent.envelope, sent.slot, "k.example", "sent", route=inner)
    assert play >> settle << Report(t, "good", "t delivered", "k.example sent", route=route)
    assert [(step["step"], step["name"], step["status"], step.get("route")) for step in route()] == [
        ("handler", "chat", "good", None),
        ("clients", "t", "delivered", None),
        ("server", "k.example", "sent", [{"server": "k.example"}]),
        ("clients", "t", "delivered", None),
    ]
