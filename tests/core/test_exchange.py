"""What handlers answer and push, and what is reported when that fails (docs/protocol.md, sections 3 and 6)."""

from __future__ import annotations

from tests.core.world import World

from bester.core.effects import Deposit
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.rules import TypeRules
from bester.errors import BadResponse

CLASSIC = TypeRules(classic_socket="/s")


# -- answers that fail ------------------------------------------------------------------------------------------


def test_a_status_other_than_success(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", {"type": "sendClients", "data": ["t"]}, header={"status": "1"})
    assert world.code(t) == "handlerError"
    world.send(t, "chat")
    world.answer(chat, "2", header={"status": 0})
    assert world.code(t) == ""
    kind = world.exchange.dispatcher.types["chat"]
    assert (kind.metrics.answered, kind.metrics.failed) == (1, 1)


def test_an_answer_of_the_wrong_form(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.answer_failed(chat, "1", BadResponse("for the operator only"))
    assert world.report(t)["error"]["message"] == BadResponse.meaning
    assert world.exchange.dispatcher.types["chat"].last_error == "badResponse: for the operator only"
    world.exchange.answer_failed(chat, "1", BadResponse("twice"))
    world.answer(chat, "1")
    world.answer(chat, "unknown")
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 3


def test_only_the_first_failure_of_a_chain_is_told(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", {"type": "sendHandler", "data": "unknown"}, {"type": "sendHandler", "data": "chat"})
    world.answer(chat, "2", header={"status": "1"})
    assert world.code(t) == "noHandler"


def test_times_are_summed(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.batch.now += 0.5
    world.answer(chat, "1")
    assert world.exchange.dispatcher.types["chat"].metrics.seconds == 0.5


# -- pushes -----------------------------------------------------------------------------------------------------


def test_a_push(world: World) -> None:
    kitchen, g = world.handler("kitchen", "x"), world.session("g")
    world.push(kitchen, "h1", {"type": "sendClients", "data": ["g"]}, payload={"data": {"oven": "hot"}})
    assert world.received(g) == [("kitchen", {"oven": "hot"})]
    assert world.report(kitchen) == {"id": "h1", "results": [{"to": "g", "status": "delivered"}]}
    world.push(kitchen, "h2", {"type": "reply"}, payload={"data": 5})
    assert world.report(kitchen) == {"id": "h2", "data": 5}
    assert world.exchange.batch.counters.pushes == 2
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
    world.exchange.dispatcher.remove(kitchen)
    for deposit in deposits:
        world.exchange.replay.deposited(deposit.delivery, "stored")
    assert world.got(kitchen) == []
    assert world.at_rest(kitchen)
