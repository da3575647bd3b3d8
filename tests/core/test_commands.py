"""What handlers' commands do, and what is reported of them (docs/protocol.md, section 3)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.world import World, clients

from bester.core.effects import Deposit, Forward
from bester.core.limits import Limits
from bester.core.rules import TypeRules
from bester.errors import ServerRefused
from bester.protocol.addresses import ServerName, TcpAddress, UnixAddress


def servers(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"type": "sendServers", "data": list(addresses), **more}


def handler(type: str, **more: Any) -> dict[str, Any]:
    return {"type": "sendHandler", "data": type, **more}


# -- sendClients ------------------------------------------------------------------------------------------------


def test_to_every_session_of_each_account(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    first, second = world.session("g"), world.session("g")
    world.send(t, "chat", id="7")
    world.answer(chat, "1", clients("g", "t"), payload={"data": {"text": "Hello"}})
    assert world.received(first) == world.received(second) == [("chat", {"text": "Hello"})]
    received, report = world.got(t)
    assert received["payload"] == {"type": "chat", "data": {"text": "Hello"}}
    assert report["payload"] == {
        "id": "7",
        "results": [{"to": "g", "status": "delivered"}, {"to": "t", "status": "delivered"}],
    }
    assert world.exchange.batch.counters.deliveries == 2
    assert world.at_rest(t, chat)


def test_any_spelling_and_twice_counts_once(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("gül")
    world.send(t, "chat")
    world.answer(chat, "1", clients("GÜL", "gül", "gu\u0308l"))
    assert world.received(g) == [("chat", None)]
    assert world.report(t)["results"] == [{"to": "GÜL", "status": "delivered"}]


def test_who_is_away_becomes_a_deposit(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    world.send(t, "chat", id="8")
    world.answer(chat, "1", clients("Away", "g", "away", transient=True, payload={"type": "x"}), payload={"data": 5})
    deposit = world.only(Deposit).delivery
    assert (deposit.to, deposit.username, deposit.type, bytes(deposit.data)) == ("Away", "away", "x", b"5")
    assert deposit.transient
    assert world.received(g) == [("x", 5)]
    assert world.got(t) == []
    assert world.exchange.reports.under_way == t.in_flight == 1
    world.exchange.replay.deposited(deposit, "skipped")
    assert world.report(t)["results"] == [{"to": "Away", "status": "skipped"}, {"to": "g", "status": "delivered"}]
    assert world.exchange.batch.counters.deliveries == 1
    assert world.at_rest(t, chat)


def test_names_that_are_none_fail_at_once(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    world.send(t, "chat")
    world.answer(chat, "1", clients("a b", "g", "a b", ""))
    assert world.received(g)
    report = world.report(t)
    assert [(result["to"], result["status"]) for result in report["results"]] == [
        ("a b", "failed"),
        ("g", "delivered"),
        ("", "failed"),
    ]
    assert report["error"]["code"] == report["results"][0]["error"]["code"] == "unknownAccount"


def test_two_commands_with_one_recipient_are_two_deliveries(world: World) -> None:
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    world.send(t, "chat")
    world.answer(chat, "1", clients("g"), clients("g"))
    assert len(world.received(g)) == 2
    assert len(world.report(t)["results"]) == 2


@pytest.mark.parametrize("rules", [TypeRules(transient=True), TypeRules()])
def test_a_type_may_be_transient(world: World, rules: TypeRules) -> None:
    world.configure(chat=rules)
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", clients("away"), servers("l.example"))
    for effect in world.effects():
        assert isinstance(effect, Deposit | Forward)
        assert (effect.delivery if isinstance(effect, Deposit) else effect).transient is rules.transient


def test_an_empty_list_is_good_and_makes_no_results(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat", id="1")
    world.answer(chat, "1", clients(), servers())
    assert world.report(t) == {"id": "1"}


@pytest.mark.parametrize("command", [clients, servers])
def test_too_many_recipients(world: World, limits: Limits, command: Any) -> None:
    world.configure(limits)
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    world.send(t, "chat")
    world.answer(chat, "1", command(*"abcd"), clients("g"))
    assert world.received(g)
    report = world.report(t)
    assert report["error"]["code"] == "badResponse"
    assert report["results"] == [{"to": "g", "status": "delivered"}]
    assert world.effects() == []


# -- sendServers ------------------------------------------------------------------------------------------------


def test_each_address_becomes_a_forward(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat", id="9", hops=0)
    world.answer(chat, "1", servers("k.example", "K.example", "127.0.0.1:5", "unix:/l", "k.example"), data={"a": 1})
    forwards = world.all(Forward)
    assert [(forward.to, forward.address) for forward in forwards] == [
        ("k.example", ServerName("k.example")),
        ("127.0.0.1:5", TcpAddress("127.0.0.1", 5)),
        ("unix:/l", UnixAddress("/l")),
    ]
    assert {(forward.type, bytes(forward.data), forward.hops, forward.transient) for forward in forwards} == {
        ("chat", b'{"a": 1}', 1, False)
    }
    assert forwards[0].envelope.id == "9"
    for forward in reversed(forwards):  # the results' order is the commands', not the outcomes'
        assert world.got(t) == []
        error = ServerRefused("no") if forward.to == "unix:/l" else None
        world.exchange.reports.settled(forward.envelope, forward.slot, forward.to, "failed" if error else "sent", error)
    report = world.report(t)
    assert [(result["to"], result["status"]) for result in report["results"]] == [
        ("k.example", "sent"),
        ("127.0.0.1:5", "sent"),
        ("unix:/l", "failed"),
    ]
    assert report["error"] == {"code": "serverRefused", "message": "no", "temporary": False}
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


def test_hops_of_servers(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, k = world.handler("chat"), world.peer()
    world.send(k, "chat", hops=2)
    world.answer(chat, "1", servers("k.example"))
    forward = world.only(Forward)
    assert forward.hops == 3
    world.exchange.reports.settled(forward.envelope, forward.slot, forward.to, "sent")
    assert world.code(k) == ""
    world.send(k, "chat", hops=3)
    world.answer(chat, "2", servers("k.example", "l.example"))
    assert world.effects() == []
    report = world.report(k)
    assert report["error"]["code"] == "tooManyHops"
    assert [result["error"]["code"] for result in report["results"]] == ["tooManyHops"] * 2
    world.send(k, "chat", hops=4)
    assert world.code(k) == "tooManyHops"


# -- sendHandler ------------------------------------------------------------------------------------------------


def test_a_chain_has_one_report(world: World) -> None:
    first, second, t, g = world.handler("first"), world.handler("second"), world.session("t"), world.session("g")
    world.send(t, "first", "a", id="1")
    world.answer(first, "1", handler("second", payload={"type": "not looked at", "data": "b"}))
    assert world.got(t) == []
    (request,) = world.requests(second)
    assert request["payload"] == {"type": "second", "id": "1", "data": "b"}
    assert request["header"]["hops"] == 1
    assert request["header"]["from"]["user"] == "t"
    world.answer(second, "2", clients("g"), {"type": "reply"}, payload={"data": "c"})
    assert world.received(g) == [("second", "c")]
    reply, report = world.got(t)
    assert reply["payload"] == {"type": "second", "data": "c"}
    assert report["payload"] == {"id": "1", "results": [{"to": "g", "status": "delivered"}]}
    assert world.at_rest(t, first, second)


def test_a_loop_ends(world: World, limits: Limits) -> None:
    world.configure(limits)
    loop, t = world.handler("loop"), world.session("t")
    world.send(t, "loop")
    for number in range(1, 5):
        assert [request["header"]["hops"] for request in world.requests(loop)] == [number - 1]
        world.answer(loop, str(number), handler("loop"))
    assert world.requests(loop) == []
    assert world.code(t) == "tooManyHops"
    assert world.at_rest(t, loop)


def test_a_chain_to_nobody(world: World) -> None:
    world.configure(gone=TypeRules())
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    world.send(t, "chat")
    world.answer(chat, "1", handler("unknown"), clients("g"))
    assert world.received(g)
    assert world.code(t) == "noHandler"
    world.send(t, "chat")
    world.answer(chat, "2", handler("gone"), handler("unknown"))
    assert world.code(t) == "handlerUnavailable"


# -- reply, done ------------------------------------------------------------------------------------------------


def test_a_reply_goes_to_the_session_that_asked_alone(world: World) -> None:
    chat, t, other = world.handler("chat"), world.session("t"), world.session("t")
    world.send(t, "chat", id="1")
    world.answer(
        chat, "1", {"type": "reply"}, {"type": "reply", "payload": {"type": "x", "data": 2}}, payload={"data": 1}
    )
    first, second, report = world.got(t)
    assert (first["payload"], second["payload"]) == ({"type": "chat", "data": 1}, {"type": "x", "data": 2})
    assert report["payload"] == {"id": "1"}
    assert world.got(other) == []


@pytest.mark.parametrize("ack", [False, True])
def test_a_reply_says_what_it_answers_where_that_was_asked_for(world: World, ack: bool) -> None:
    chat, last = world.handler("chat"), world.handler("last")
    features = ("ack", "replyTo") if ack else ("replyTo",)
    t, other = world.session("t", features=features), world.session("t", features=features)
    for id in ("a", ""):
        world.send(t, "chat", id=id)
    world.answer(chat, "2", {"type": "reply"}, {"type": "reply"}, payload={"data": 2})
    world.answer(chat, "1", clients("t"), {"type": "sendHandler", "data": "last"}, payload={"data": 1})
    world.answer(last, "3", {"type": "reply", "payload": {"type": "x", "data": 3}})
    frames = [frame["payload"] for frame in world.got(t) if "data" in frame["payload"]]
    assert [(frame["type"], frame["data"], frame.get("replyTo")) for frame in frames] == [
        ("chat", 2, ""),
        ("chat", 2, ""),
        ("chat", 1, None),
        ("x", 3, "a"),
    ]
    assert all(("deliveryId" in frame) is ack for frame in frames)
    assert all("replyTo" not in frame["payload"] for frame in world.got(other))


def test_a_reply_to_a_server_is_in_the_report_and_the_last_one_counts(world: World) -> None:
    chat, k = world.handler("chat"), world.peer()
    world.send(k, "chat", id="1")
    world.answer(
        chat, "1", {"type": "reply", "payload": {"data": "first"}}, {"type": "reply"}, payload={"data": "last"}
    )
    assert world.report(k) == {"id": "1", "data": "last"}


def test_a_reply_to_a_session_that_has_ended_is_no_error(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.deliveries.remove_session(t)
    world.answer(chat, "1", {"type": "reply"})
    assert world.got(t) == []
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
    world.send(t, "chat")
    world.answer(chat, "1", clients("t", **own), **shared, **top)
    received = world.got(t)[0]["payload"]
    assert (received["type"], received["data"]) == outgoing


def test_a_list_is_checked_as_a_whole(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    for number, wrong in enumerate(({"type": "unknown"}, {"type": "sendHandler"}, clients() | {"data": "t"}), start=1):
        world.send(t, "chat")
        world.answer(chat, str(number), clients("t"), wrong)
        report = world.report(t)
        assert report["error"]["code"] == "badResponse"
        assert report["error"]["message"] == "the handler's answer is not of the form that the protocol gives"
    assert "sendClients" in world.exchange.dispatcher.types["chat"].last_error
    assert world.exchange.dispatcher.types["chat"].metrics.failed == 3
