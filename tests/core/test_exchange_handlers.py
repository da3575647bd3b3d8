"""Handlers come, go, speak first and fail; the configuration changes; who may send what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bester.core.endpoints import AttachedHandler
from bester.core.handlers import Allow, TypeRules
from bester.core.limits import Limits
from bester.core.work import CallClassic, Deposit, PresenceChanged
from bester.errors import BadResponse, NotAllowed

if TYPE_CHECKING:
    from tests.core.conftest import World

CLASSIC = TypeRules(classic_socket="/s")


# -- who may send -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "codes"),
    [
        (None, ["", "", "", "", ""]),
        (Allow(), ["", "", "", "", ""]),
        (Allow(servers=False), ["", "", "", "notAllowed", "notAllowed"]),
        (Allow(accounts=False), ["notAllowed", "notAllowed", "notAllowed", "", ""]),
        (Allow(False, False), ["notAllowed"] * 5),
        (Allow(False, False, names=frozenset({"g"})), ["notAllowed", "", "notAllowed", "notAllowed", "notAllowed"]),
        (Allow(False, False, names=frozenset({"k"})), ["notAllowed", "notAllowed", "notAllowed", "", "notAllowed"]),
        (
            Allow(False, False, roles=frozenset({"admin", "x"})),
            ["notAllowed", "notAllowed", "", "notAllowed", "notAllowed"],
        ),
    ],
)
def test_allow(world: World, allow: Allow | None, codes: list[str]) -> None:
    world.configure(chat=TypeRules(allow=allow), open=TypeRules())
    chat, opened = world.handler("chat"), world.handler("open")
    senders = [
        world.session("t"),
        world.session("g"),
        world.session("a", roles=("admin",)),
        world.peer("k"),
        world.peer(),
    ]
    for sender, code in zip(senders, codes, strict=True):
        world.send(sender, "chat")
        for id, _ in world.asked(chat):
            world.answer(chat, id)
        assert world.code(sender) == code
        world.send(sender, "open")  # and a handler may send it on to any type
        ((id, _),) = world.asked(opened)
        world.answer(opened, id, {"type": "sendHandler", "data": "chat"})
        ((id, _),) = world.asked(chat)
        world.answer(chat, id)
        assert world.code(sender) == ""
    world.push(opened, "p", {"type": "sendHandler", "data": "chat"})
    assert len(world.asked(chat)) == 1


def test_nobody_serves_the_type(world: World) -> None:
    world.configure(gone=TypeRules())
    t = world.session("t")
    world.send(t, "unknown", id="1")
    world.send(t, "gone", id="2")
    assert [frame["payload"]["error"]["code"] for frame in world.got(t)] == ["noHandler", "handlerUnavailable"]
    assert world.exchange.counters.bad == {"noHandler": 1, "handlerUnavailable": 1}
    assert world.at_rest(t)


def test_what_a_handler_is_told_of_the_sender(world: World) -> None:
    chat = world.handler("chat")
    for sender in (world.session("t"), world.peer("k"), world.peer(), chat):
        if isinstance(sender, AttachedHandler):
            world.push(chat, "p", {"type": "sendHandler", "data": "chat"})
        else:
            world.send(sender, "chat", hops=2)
    told = [(frame["header"]["scope"], *frame["header"]["from"].values()) for frame in world.requests(chat)]
    assert told == [
        ("client", "t", "j.example", True),
        ("server", None, "k", True),
        ("server", None, None, False),
        ("handler", None, "j.example", True),
    ]


def test_draining(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.draining = True
    world.send(t, "chat")
    assert world.code(t) == "shuttingDown"
    world.answer(chat, "1", {"type": "sendHandler", "data": "chat"})
    world.answer(chat, "2")
    assert world.code(t) == ""
    assert world.at_rest(t, chat)


# -- answers that fail ------------------------------------------------------------------------------------------


def test_a_status_other_than_success(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", {"type": "sendClients", "data": ["t"]}, header={"status": "1"})
    assert world.code(t) == "handlerError"
    world.send(t, "chat")
    world.answer(chat, "2", header={"status": 0})
    assert world.code(t) == ""
    kind = world.exchange.types["chat"]
    assert (kind.answered, kind.failed) == (1, 1)


def test_an_answer_of_the_wrong_form(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.answer_failed(chat, "1", BadResponse("for the operator only"))
    assert world.report(t)["error"]["message"] == BadResponse.meaning
    assert world.exchange.types["chat"].last_error == "badResponse: for the operator only"
    world.exchange.answer_failed(chat, "1", BadResponse("twice"))
    world.answer(chat, "1")
    world.answer(chat, "unknown")
    assert world.exchange.counters.unmatched_answers == 3


def test_only_the_first_failure_of_a_chain_is_told(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", {"type": "sendHandler", "data": "unknown"}, {"type": "sendHandler", "data": "chat"})
    world.answer(chat, "2", header={"status": "1"})
    assert world.code(t) == "noHandler"


def test_times_are_summed(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.now += 0.5
    world.answer(chat, "1")
    assert world.exchange.types["chat"].seconds == 0.5


# -- attach, detach, gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["dummy", "builtin"])
def test_the_servers_own_types_are_not_for_handlers(world: World, type: str) -> None:
    with pytest.raises(NotAllowed):
        world.handler("chat", type)
    assert (world.exchange.types, world.exchange.handlers) == ({}, [])


def test_a_type_named_twice_counts_once(world: World) -> None:
    chat = world.handler("chat", "chat")
    assert world.exchange.types["chat"].attached == [chat]
    world.exchange.remove_handler(chat)
    assert world.exchange.types == {}


def test_a_handler_that_goes_away(world: World) -> None:
    chat, t, g = world.handler("chat", concurrency=1), world.session("t"), world.session("g")
    for sender in (t, g, g):
        world.send(sender, "chat")
    world.exchange.remove_handler(chat)
    assert world.codes(t) == ["handlerUnavailable"]
    assert world.codes(g) == ["handlerUnavailable"] * 2
    world.send(t, "chat")
    assert world.code(t) == "noHandler"
    assert world.exchange.handlers == []
    assert world.at_rest(t, g, chat)


def test_a_handler_that_goes_away_is_told_nothing_of_its_pushes(world: World) -> None:
    chat = world.handler("chat", concurrency=1)
    for id in ("h1", "h2"):
        world.push(chat, id, {"type": "sendHandler", "data": "chat"})
    assert len(world.asked(chat)) == 1
    world.exchange.remove_handler(chat)
    assert world.got(chat) == []
    assert world.at_rest(chat)


def test_the_other_process_goes_on(world: World) -> None:
    one, two, t = world.handler("chat", concurrency=1), world.handler("chat", concurrency=1), world.session("t")
    for number in range(3):
        world.send(t, "chat", number)
    world.exchange.remove_handler(one)
    assert world.code(t) == "handlerUnavailable"
    world.answer(two, "2")
    assert [data for _, data in world.asked(two)] == [1, 2]


def test_detach_loses_nothing(world: World) -> None:
    one, two, t = world.handler("chat"), world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.detach(one)
    world.exchange.detach(one)
    world.send(t, "chat")
    assert (len(world.asked(one)), len(world.asked(two))) == (1, 1)
    world.answer(one, "1")
    assert world.code(t) == ""
    world.exchange.remove_handler(one)
    world.answer(two, "2")
    assert world.code(t) == ""


def test_one_that_detached_still_times_out(world: World) -> None:
    chat, t = world.handler("chat", timeout_s=10), world.session("t")
    world.send(t, "chat")
    world.exchange.detach(chat)
    world.exchange.now += 10
    world.exchange.sweep()
    assert world.code(t) == "handlerTimeout"


def test_detach_from_several_types_asks_nothing_more(world: World) -> None:
    world.configure(Limits(max_in_flight=2))
    both, t = world.handler("a", "b", concurrency=1), world.session("t")
    world.send(t, "a", 1)
    world.send(t, "a", 2)
    world.send(t, "b", 3)  # waits behind the others, and is let in when the second fails
    assert len(world.asked(both)) == 1
    world.exchange.detach(both)
    assert world.asked(both) == []
    assert world.codes(t) == ["handlerUnavailable"] * 2
    world.answer(both, "1")
    assert world.at_rest(t, both)


def test_a_type_whose_last_handler_goes_while_many_wait(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat", concurrency=1), world.session("t")
    for _ in range(3000):
        world.send(t, "chat")
    world.exchange.remove_handler(chat)
    assert world.codes(t) == ["handlerUnavailable"] + ["noHandler"] * 2998 + ["handlerUnavailable"]
    assert world.at_rest(t, chat)


# -- pushes -----------------------------------------------------------------------------------------------------


def test_a_push(world: World) -> None:
    kitchen, g = world.handler("kitchen", "x"), world.session("g")
    world.push(kitchen, "h1", {"type": "sendClients", "data": ["g"]}, payload={"data": {"oven": "hot"}})
    assert world.received(g) == [("kitchen", {"oven": "hot"})]
    assert world.report(kitchen) == {"id": "h1", "results": [{"to": "g", "status": "delivered"}]}
    world.push(kitchen, "h2", {"type": "reply"}, payload={"data": 5})
    assert world.report(kitchen) == {"id": "h2", "data": 5}
    assert world.exchange.counters.pushes == 2
    assert world.at_rest(kitchen)


def test_a_push_without_an_id_or_a_status(world: World) -> None:
    kitchen = world.handler("kitchen")
    world.answer(kitchen, "x", header={"messageType": "push", "id": None, "status": "1"})
    assert world.report(kitchen) == {"id": ""}


def test_a_push_of_the_wrong_form(world: World) -> None:
    kitchen = world.handler("kitchen")
    world.push(kitchen, "h1", {"type": "unknown"})
    assert world.code(kitchen) == "badResponse"


def test_a_push_through_another_handler(world: World) -> None:
    kitchen, waiter = world.handler("kitchen"), world.handler("waiter")
    world.push(kitchen, "h1", {"type": "sendHandler", "data": "waiter"}, payload={"data": 1})
    (request,) = world.requests(waiter)
    assert (request["header"]["hops"], request["payload"]["id"]) == (1, "h1")
    world.answer(waiter, request["header"]["id"], {"type": "reply"}, payload={"data": 2})
    assert world.report(kitchen) == {"id": "h1", "data": 2}


def test_too_many_pushes(world: World, limits: Limits) -> None:
    world.configure(limits)
    kitchen = world.handler("kitchen")
    for number in range(3):
        world.push(kitchen, str(number), {"type": "sendClients", "data": ["away"]})
    assert world.code(kitchen) == "overloaded"
    deposits = world.all(Deposit)
    assert len(deposits) == 2
    world.exchange.remove_handler(kitchen)
    for deposit in deposits:
        world.exchange.deposited(deposit.delivery, "stored")
    assert world.got(kitchen) == []
    assert world.at_rest(kitchen)


# -- configuration ----------------------------------------------------------------------------------------------


def test_a_reload_switches_handlers(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    world.send(t, "c", 1)
    world.send(t, "c", 2)
    call = world.only(CallClassic)
    world.configure(d=CLASSIC)
    assert world.code(t) == "handlerUnavailable"  # the one that waited
    assert set(world.exchange.types) == {"d"}
    world.answer_classic(call)
    assert world.code(t) == ""
    world.send(t, "c")
    assert world.code(t) == "noHandler"
    assert world.at_rest(t)


def test_a_reload_keeps_a_configured_type_without_a_handler(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    for _ in range(2):
        world.send(t, "c")
    world.effects()
    world.configure(c=TypeRules())
    assert world.code(t) == "handlerUnavailable"
    world.send(t, "c")
    assert world.code(t) == "handlerUnavailable"
    assert not world.exchange.types["c"].available


def test_a_reload_lets_more_in(world: World) -> None:
    world.configure(c=TypeRules(classic_socket="/s", classic_concurrency=1))
    for name in ("t", "g"):
        world.send(world.session(name), "c")
    assert len(world.all(CallClassic)) == 1
    world.configure(c=TypeRules(classic_socket="/s", classic_concurrency=2))
    assert len(world.all(CallClassic)) == 1


def test_rules_for_types_that_are_only_attached(world: World) -> None:
    world.configure(attached={"chat": TypeRules(7, transient=True)})
    chat = world.handler("chat", "news", timeout_s=20)
    types = world.exchange.types
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7, transient=True), TypeRules(20))
    world.configure(attached={"news": TypeRules(8)})
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7), TypeRules(8))
    world.configure(chat=TypeRules(9))
    assert types["chat"].configured
    world.exchange.remove_handler(chat)
    assert set(types) == {"chat"}


# -- sessions ---------------------------------------------------------------------------------------------------


def test_presence_is_told(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    other = world.session("t")
    assert world.effects() == []
    world.exchange.remove_session(other)
    assert world.effects() == []
    world.send(t, "chat")
    world.exchange.remove_session(t)
    assert world.only(PresenceChanged) == PresenceChanged("t", False)
    world.exchange.add_session(other)
    assert world.only(PresenceChanged) == PresenceChanged("t", True)
    world.answer(chat, "1", {"type": "sendClients", "data": ["t"]})
    assert world.got(t) == []
    assert world.received(other)


def test_what_a_session_that_has_ended_sent_goes_on(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    for _ in range(4):
        world.send(t, "chat")
    world.exchange.remove_session(t)
    for number in range(1, 5):
        world.answer(chat, str(number), {"type": "sendClients", "data": ["g"]})
        assert len(world.received(g)) == 1
    assert world.got(t) == []
    assert world.at_rest(t, chat)
