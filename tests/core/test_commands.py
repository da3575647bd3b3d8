"""What handlers' commands do, and what is reported of them (docs/protocol.md, section 3)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.events import Answers, Deposited, Leaves, Sends, Settled
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report, resolve
from tests.core.world import REPLY, World, clients, send_handler, servers

from bester.core.effects import Deposit, Forward, PresenceChanged
from bester.core.limits import Limits
from bester.core.rules import TypeRules
from bester.errors import BadResponse, ServerRefused
from bester.protocol.addresses import ServerName, TcpAddress, UnixAddress

# -- sendClients ------------------------------------------------------------------------------------------------


def test_a_message_goes_to_every_session_of_each_account(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    first, second = world.session("g"), world.session("g")
    hello = {"text": "Hello"}
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="7")
        << Asked(chat)
        >> Answers(chat, clients("g", "t"), payload={"data": hello})
        << Received(first, "chat", hello)
        << Received(second, "chat", hello)
        << Received(t, "chat", hello)
        << Report(t, "good", "g delivered", "t delivered", id="7")
    )
    assert world.exchange.batch.counters.deliveries == 2
    assert world.at_rest(t, chat)


def test_an_account_that_is_named_twice_in_any_spelling_gets_a_message_once(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("gül")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("GÜL", "gül", "gu\u0308l"))
        << Received(g, "chat")
        << Report(t, "good", "GÜL delivered")
    )


def test_a_recipient_that_is_away_becomes_a_deposit(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    deposit = Placeholder()
    play = (
        Playbook(world)
        >> Sends(t, "chat", id="8")
        << Asked(chat)
        >> Answers(chat, clients("Away", "g", "away", transient=True, payload={"type": "x"}), payload={"data": 5})
        << Effect(Deposit, deposit, to="Away", username="away", type="x", data=5, transient=True)
        << Received(g, "x", 5)
    )
    assert play
    assert world.exchange.reports.under_way == t.in_flight == 1
    assert play >> Deposited(deposit, "skipped") << Report(t, "good", "Away skipped", "g delivered")
    assert world.exchange.batch.counters.deliveries == 1
    assert world.at_rest(t, chat)


def test_names_that_are_none_fail_at_once(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("a b", "g", "a b", ""))
        << Received(g, "chat")
        << Report(t, "unknownAccount", "a b failed unknownAccount", "g delivered", " failed unknownAccount")
    )


def test_two_commands_with_one_recipient_are_two_deliveries(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("g"), clients("g"))
        << Received(g, "chat")
        << Received(g, "chat")
        << Report(t, "good", "g delivered", "g delivered")
    )


@pytest.mark.parametrize("rules", [TypeRules(transient=True), TypeRules()])
def test_a_type_may_be_transient(world: World, rules: TypeRules) -> None:
    world.configure(chat=rules)
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("away"), servers("l.example"))
        << Effect(Deposit, transient=rules.transient)
        << Effect(Forward, transient=rules.transient)
    )


def test_an_empty_list_is_good_and_makes_no_results(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="1")
        << Asked(chat)
        >> Answers(chat, clients(), servers())
        << Report(t, "good", id="1")
    )


@pytest.mark.parametrize("command", [clients, servers])
def test_a_command_with_too_many_recipients_is_not_carried_out(world: World, limits: Limits, command: Any) -> None:
    world.configure(limits)
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, command(*"abcd"), clients("g"))
        << Received(g, "chat")
        << Report(t, "badResponse", "g delivered")
    )


# -- sendServers ------------------------------------------------------------------------------------------------


def test_each_address_becomes_a_forward(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    name, tcp, unix = Placeholder(), Placeholder(), Placeholder()
    same = {"type": "chat", "data": {"a": 1}, "hops": 1, "transient": False}
    play = (
        Playbook(world)
        >> Sends(t, "chat", id="9", hops=0)
        << Asked(chat)
        >> Answers(chat, servers("k.example", "K.example", "127.0.0.1:5", "unix:/l", "k.example"), data={"a": 1})
        << Effect(Forward, name, to="k.example", address=ServerName("k.example"), **same)
        << Effect(Forward, tcp, to="127.0.0.1:5", address=TcpAddress("127.0.0.1", 5), **same)
        << Effect(Forward, unix, to="unix:/l", address=UnixAddress("/l"), **same)
        >> Settled(unix, "failed", ServerRefused("no"))
        >> Settled(tcp)
        >> Settled(name)  # the results' order is the commands', not the outcomes'
        << Report(
            t,
            "serverRefused",
            "k.example sent",
            "127.0.0.1:5 sent",
            "unix:/l failed serverRefused",
            error={"code": "serverRefused", "message": "no", "temporary": False},
        )
    )
    assert play
    assert name().envelope.id == b'"9"'
    assert world.at_rest(t, chat)


def test_what_is_no_address_fails_and_the_others_are_served(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", servers("h:0", "k.example", payload={"type": "news"}))
    forward = world.only(Forward)
    assert forward.type == "news"
    world.exchange.reports.settled(forward.envelope, forward.slot, forward.to, "sent")
    report = world.report(t)
    assert [(result["to"], result["status"]) for result in report["results"]] == [
        ("h:0", "failed"),
        ("k.example", "sent"),
    ]
    assert report["error"]["code"] == "badAddress"


def test_a_message_goes_through_so_many_servers_at_most(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, k = world.handler("chat"), world.peer()
    forward = Placeholder()
    failed = [f"{to} failed tooManyHops" for to in ("k.example", "l.example")]
    assert (
        Playbook(world)
        >> Sends(k, "chat", hops=2)
        << Asked(chat)
        >> Answers(chat, servers("k.example"))
        << Effect(Forward, forward, hops=3)
        >> Settled(forward)
        << Report(k, "good", "k.example sent")
        >> Sends(k, "chat", hops=3)
        << Asked(chat)
        >> Answers(chat, servers("k.example", "l.example"))
        << Report(k, "tooManyHops", *failed)
        >> Sends(k, "chat", hops=4)
        << Report(k, "tooManyHops")
    )


# -- sendHandler ------------------------------------------------------------------------------------------------


def test_a_chain_has_one_report(world: World) -> None:
    first, second, t, g = world.handler("first"), world.handler("second"), world.session("t"), world.session("g")
    request = Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "first", "a", id="1")
        << Asked(first, "a")
        >> Answers(first, send_handler("second", payload={"type": "not looked at", "data": "b"}))
        << Asked(second, "b", type="second", tag="1", hops=1, header=request)
        >> Answers(second, clients("g"), REPLY, payload={"data": "c"})
        << Received(g, "second", "c")
        << Received(t, "second", "c")
        << Report(t, "good", "g delivered", id="1")
    )
    assert request()["from"]["user"] == "t"
    assert world.at_rest(t, first, second)


def test_a_loop_ends(world: World, limits: Limits) -> None:
    world.configure(limits)
    loop, t = world.handler("loop"), world.session("t")
    play = Playbook(world) >> Sends(t, "loop") << Asked(loop, hops=0)
    for hops in (1, 2, 3):
        assert play >> Answers(loop, send_handler("loop")) << Asked(loop, hops=hops)
    assert play >> Answers(loop, send_handler("loop")) << Report(t, "tooManyHops")
    assert world.at_rest(t, loop)


def test_a_chain_to_a_type_that_nobody_serves(world: World) -> None:
    world.configure(gone=TypeRules())
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, send_handler("unknown"), clients("g"))
        << Received(g, "chat")
        << Report(t, "noHandler", "g delivered")
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, send_handler("gone"), send_handler("unknown"))
        << Report(t, "handlerUnavailable")
    )


# -- reply, done ------------------------------------------------------------------------------------------------


def test_a_reply_goes_to_the_session_that_asked_alone(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="1")
        << Asked(chat)
        >> Answers(chat, REPLY, REPLY | {"payload": {"type": "x", "data": 2}}, payload={"data": 1})
        << Received(t, "chat", 1)
        << Received(t, "x", 2)
        << Report(t, "good", id="1")
    )


@pytest.mark.parametrize("ack", [False, True])
def test_a_reply_says_what_it_answers_where_that_was_asked_for(world: World, ack: bool) -> None:
    chat, last = world.handler("chat"), world.handler("last")
    features = ("ack", "replyTo") if ack else ("replyTo",)
    t, other = world.session("t", features=features), world.session("t", features=features)
    ids: list[Any] = [Placeholder() if ack else None for _ in range(4)]
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="a")
        << Asked(chat)
        >> Sends(t, "chat", id="")
        << Asked(chat)
        >> Answers(chat, REPLY, REPLY, id="2", payload={"data": 2})
        << Received(t, "chat", 2, reply_to="", id=ids[0])
        << Received(t, "chat", 2, reply_to="", id=ids[1])
        << Report(t, "good", id="")
        >> Answers(chat, clients("t"), send_handler("last"), id="1", payload={"data": 1})
        << Received(t, "chat", 1, id=ids[2])
        << Received(other, "chat", 1, id=ids[2])
        << Asked(last, 1)
        >> Answers(last, REPLY | {"payload": {"type": "x", "data": 3}})
        << Received(t, "x", 3, reply_to="a", id=ids[3])
        << Report(t, "good", "t delivered", id="a")
    )
    assert None not in [resolve(id) for id in ids] or not ack


def test_a_reply_to_a_server_is_in_the_report_and_the_last_one_counts(world: World) -> None:
    chat, k = world.handler("chat"), world.peer()
    assert (
        Playbook(world)
        >> Sends(k, "chat", id="1")
        << Asked(chat)
        >> Answers(chat, REPLY | {"payload": {"data": "first"}}, REPLY, payload={"data": "last"})
        << Report(k, "good", id="1", data="last")
    )


def test_a_reply_to_a_session_that_has_ended_is_no_error(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Leaves(t)
        << Effect(PresenceChanged, username="t", online=False)
        >> Answers(chat, REPLY)
    )
    assert world.exchange.batch.counters.good == 1
    assert world.at_rest(t, chat)


# -- lists, data and types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "shared", "top", "outgoing"),
    [
        ({}, {}, {}, ("chat", None)),
        ({}, {}, {"data": 3}, ("chat", 3)),
        ({}, {"payload": {}}, {"data": 3}, ("chat", 3)),
        ({}, {"payload": {"data": 2}}, {"data": 3}, ("chat", 2)),
        ({}, {"payload": {"data": None}}, {"data": 3}, ("chat", None)),
        ({"payload": {}}, {"payload": {"data": 2}}, {"data": 3}, ("chat", 2)),
        ({"payload": {"data": 1}}, {"payload": {"data": 2}}, {"data": 3}, ("chat", 1)),
        ({"payload": {"data": None}}, {"payload": {"data": 2}}, {}, ("chat", None)),
        ({"payload": {"type": "a"}}, {}, {"data": 3}, ("a", 3)),
        ({"payload": {"type": "a"}}, {"payload": {"type": "b", "data": 2}}, {}, ("a", 2)),
        ({"payload": {"data": 1}}, {"payload": {"type": "b"}}, {}, ("b", 1)),
        ({}, {"payload": {"type": "chat"}}, {}, ("chat", None)),
    ],
)
def test_where_the_outgoing_data_and_type_come_from(
    world: World, own: dict[str, Any], shared: dict[str, Any], top: dict[str, Any], outgoing: tuple[str, Any]
) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("t", **own), **shared, **top)
        << Received(t, *outgoing)
        << Report(t, "good", "t delivered")
    )


def test_a_list_of_commands_is_checked_as_a_whole(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    told = {"code": "badResponse", "message": BadResponse.meaning, "temporary": False}
    for wrong in ({"type": "unknown"}, {"type": "sendHandler"}, clients() | {"data": "t"}):
        assert (
            Playbook(world)
            >> Sends(t, "chat")
            << Asked(chat)
            >> Answers(chat, clients("t"), wrong)
            << Report(t, "badResponse", error=told)
        )
    assert "sendClients" in world.exchange.dispatcher.types["chat"].last_error
    assert world.exchange.dispatcher.types["chat"].metrics.failed == 3
