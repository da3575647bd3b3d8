"""What handlers answer and push, and what is reported when that fails (docs/protocol.md, sections 3 and 6)."""

from __future__ import annotations

from tests.core.events import Answers, AnswersWrongly, Deposited, Leaves, Pushes, Sends
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, REPLY, World, clients, send_handler

from bester.core.effects import Deposit
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.rules import TypeRules
from bester.errors import BadResponse

CLASSIC = TypeRules(classic_socket="/s")


# -- answers that fail ------------------------------------------------------------------------------------------


def test_an_answer_with_a_status_other_than_success_fails(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, clients("t"), status="1")
        << Report(t, "handlerError")
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, status=0)
        << Report(t, "good")
    )
    metrics = world.exchange.dispatcher.types["chat"].metrics
    assert (metrics.answered, metrics.failed) == (1, 1)


def test_an_answer_of_the_wrong_form_fails_and_later_ones_are_dropped(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat, id="1")
        >> AnswersWrongly(chat, BadResponse("for the operator only"))
        << Report(t, "badResponse", error={"code": "badResponse", "message": BadResponse.meaning, "temporary": False})
        >> AnswersWrongly(chat, BadResponse("twice"), id="1")
        >> Answers(chat, id="1")
        >> Answers(chat, id="unknown")
        >> Answers(chat, DONE, id="1")
    )
    assert world.exchange.dispatcher.types["chat"].last_error == "badResponse: for the operator only"
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 4


def test_only_the_first_failure_of_a_chain_is_told(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Answers(chat, send_handler("unknown"), send_handler("chat"))
        << Asked(chat)
        >> Answers(chat, status="1")
        << Report(t, "noHandler")
    )


def test_the_times_to_the_answers_are_summed(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.batch.now += 0.5
    world.answer(chat, "1")
    assert world.exchange.dispatcher.types["chat"].metrics.seconds == 0.5


# -- pushes -----------------------------------------------------------------------------------------------------


def test_a_push_is_carried_out_and_reported_to_its_handler(world: World) -> None:
    kitchen, g = world.handler("kitchen", "x"), world.session("g")
    assert (
        Playbook(world)
        >> Pushes(kitchen, "h1", clients("g"), payload={"data": {"oven": "hot"}})
        << Received(g, "kitchen", {"oven": "hot"})
        << Report(kitchen, "good", "g delivered", id="h1")
        >> Pushes(kitchen, "h2", REPLY, payload={"data": 5})
        << Report(kitchen, "good", id="h2", data=5)
    )
    assert world.exchange.batch.counters.pushes == 2
    assert world.at_rest(kitchen)


def test_a_push_without_an_id_or_a_status(world: World) -> None:
    kitchen = world.handler("kitchen")
    world.answer(kitchen, "x", header={"messageType": "push", "id": None, "status": "1"})
    assert world.report(kitchen) == {"id": ""}


def test_a_push_of_the_wrong_form_is_refused(world: World) -> None:
    kitchen = world.handler("kitchen")
    assert Playbook(world) >> Pushes(kitchen, "h1", {"type": "unknown"}) << Report(kitchen, "badResponse")


def test_a_push_through_another_handler(world: World) -> None:
    kitchen, waiter = world.handler("kitchen"), world.handler("waiter")
    assert (
        Playbook(world)
        >> Pushes(kitchen, "h1", send_handler("waiter"), payload={"data": 1})
        << Asked(waiter, 1, hops=1, tag="h1")
        >> Answers(waiter, REPLY, payload={"data": 2})
        << Report(kitchen, "good", id="h1", data=2)
    )


def test_too_many_pushes_without_their_report_are_refused(world: World, limits: Limits) -> None:
    world.configure(limits)
    kitchen = world.handler("kitchen")
    one, two = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Pushes(kitchen, "0", clients("away"))
        << Effect(Deposit, one)
        >> Pushes(kitchen, "1", clients("away"))
        << Effect(Deposit, two)
        >> Pushes(kitchen, "2", clients("away"))
        << Report(kitchen, "overloaded")
        >> Leaves(kitchen)
        >> Deposited(one)
        >> Deposited(two)
    )
    assert world.at_rest(kitchen)
