"""Messages that are not handled again (docs/protocol.md, section 4, ``once``)."""

from __future__ import annotations

from msgspec import Raw
from tests.core.world import DONE, World, clients

from bester.core.effects import Deposit, Finished, Forward, Recall, Remember
from bester.core.endpoint import Endpoint
from bester.core.limits import Limits
from bester.errors import Internal, UnknownAccount
from bester.protocol.messages import Payload


def send(world: World, origin: Endpoint, data: bytes = b"1", id: str = "7", type: str = "chat") -> None:
    world.exchange.admission.message(origin, Payload(type, id, Raw(data)), 100, once=True)


def test_a_repeat_is_answered_with_the_first_report(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    send(world, t)
    world.answer(chat, "1", {"type": "done"})
    first = world.got(t)
    send(world, t)
    assert world.got(t) == first
    # Over another connection too, but not for somebody else.
    again, g = world.session("t"), world.session("g")
    send(world, again)
    assert world.got(again) == first
    send(world, g)
    assert len(world.requests(chat)) == 2
    assert world.exchange.batch.counters.repeats == 2
    assert t.in_flight == again.in_flight == 0


def test_a_repeat_of_what_is_under_way_waits_for_its_report(world: World) -> None:
    chat, t, again = world.handler("chat"), world.session("t"), world.session("t")
    send(world, t)
    send(world, again)
    send(world, again)
    world.exchange.deliveries.remove_session(t)
    assert len(world.requests(chat)) == 1
    world.answer(chat, "1", DONE)
    assert [frame["payload"]["id"] for frame in world.got(again)] == ["7", "7"]
    assert again.in_flight == 0


def test_whoever_waits_for_the_report_gets_the_replies_too(world: World) -> None:
    chat, away = world.handler("chat"), world.handler("away")
    t = world.session("t", features=("replyTo",))
    again, late, plain = world.session("t", features=("ack", "replyTo")), world.session("t"), world.session("t")
    send(world, t)
    send(world, again)
    send(world, again)
    world.answer(chat, "1", {"type": "reply"}, {"type": "sendHandler", "data": "away"}, payload={"data": 5})
    (reply,) = world.got(t)
    assert reply["payload"] == {"type": "chat", "data": 5, "replyTo": "7"}
    (reply,) = world.got(again)
    assert reply["payload"].pop("deliveryId")
    assert reply["payload"] == {"type": "chat", "data": 5, "replyTo": "7"}
    world.exchange.deliveries.remove_session(t)
    send(world, late)
    send(world, late)
    send(world, again)
    (reply,) = world.got(late)
    assert reply["payload"] == {"type": "chat", "data": 5}
    world.answer(away, "2", {"type": "reply"}, payload={"data": 6})
    assert [frame["payload"].get("data") for frame in world.got(late)] == [6, None, None]
    assert [frame["payload"].get("data") for frame in world.got(again)] == [6, None, None, None]
    # When it is done, its report is all that a repeat gets.
    send(world, plain)
    assert world.report(plain) == {"id": "7"}


def test_replies_that_nobody_is_there_for(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    send(world, t)
    world.exchange.deliveries.remove_session(t)
    world.answer(chat, "1", {"type": "reply"}, payload={"data": 5})
    assert world.exchange.reports.under_way == 0


def test_the_same_id_with_something_else_is_a_conflict(world: World) -> None:
    chat, t = world.handler("chat", "x"), world.session("t")
    send(world, t)
    send(world, t, b"2")
    assert world.code(t) == "idConflict"
    send(world, t, type="x")
    assert world.code(t) == "idConflict"
    world.answer(chat, "1", DONE)
    assert world.code(t) == ""
    send(world, t, b"2")
    assert world.code(t) == "idConflict"


def test_a_temporary_failure_is_tried_again_and_a_lasting_one_is_not(world: World) -> None:
    t = world.session("t")
    world.exchange.admission.draining = True
    chat = world.handler("chat")
    send(world, t)
    assert world.code(t) == "shuttingDown"
    world.exchange.admission.draining = False
    send(world, t)
    world.answer(chat, "1", {"type": "nonsense"})
    assert world.code(t) == "badResponse"
    send(world, t)
    assert world.code(t) == "badResponse"


def test_delivery_ids_follow_from_the_message(world: World) -> None:
    ids = []
    for _ in range(2):
        again = World()
        chat, waiter, t = again.handler("chat"), again.handler("waiter"), again.session("t")
        send(again, t)
        again.answer(chat, "1", clients("a", "b"), clients("a"), {"type": "sendHandler", "data": "waiter"})
        again.answer(waiter, "2", clients("a"), {"type": "sendServers", "data": ["l.example", "u.example"]})
        effects = again.effects()
        ids.append(
            [effect.delivery.id for effect in effects if isinstance(effect, Deposit)]
            + [effect.message_id for effect in effects if isinstance(effect, Forward)]
        )
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 6
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.answer(chat, "1", clients("a"))
    assert world.only(Deposit).delivery.id not in ids[0]


def test_what_touched_the_disk_is_remembered_there_before_it_is_reported(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    send(world, t)
    world.answer(chat, "1", clients("away"))
    world.exchange.replay.deposited(world.only(Deposit).delivery, "stored")
    remember = world.only(Remember)
    assert world.got(t) == []
    send(world, t)
    world.exchange.admission.remembered(remember)
    reports = world.got(t)
    assert len(reports) == 2
    assert reports[0] == reports[1]
    assert world.at_rest(t)


def test_what_is_remembered_on_disk_is_not_handled_again(world: World) -> None:
    chat, t, again = world.handler("chat"), world.session("t"), world.session("t")
    world.exchange.admission.may_recall = lambda key: True
    send(world, t)
    record = world.only(Recall).record
    send(world, again)
    report = b"\x0f\x00\x00\x00" + b'{"header":{}  }'
    world.exchange.admission.recalled(record, record.digest, report)
    world.exchange.settle()
    assert t.out == again.out == [report]
    assert world.requests(chat) == []
    t.out.clear()
    send(world, t, b"2")
    assert b"idConflict" in t.out[0]
    # And what is not remembered is handled like any other.
    send(world, t, id="8")
    world.exchange.admission.not_recalled(world.only(Recall).record)
    world.exchange.settle()
    assert len(world.requests(chat)) == 1


def test_a_conflict_with_what_is_on_disk_is_one_for_its_repeats_too(world: World) -> None:
    t, again = world.session("t"), world.session("t")
    world.handler("chat")
    world.exchange.admission.may_recall = lambda key: True
    send(world, t)
    send(world, again)
    world.exchange.admission.recalled(world.only(Recall).record, b"another", b"\x02\x00\x00\x00{}")
    world.exchange.settle()
    assert world.code(t) == world.code(again) == "idConflict"


def test_what_comes_behind_a_question_to_the_disk_waits_for_it(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.exchange.admission.may_recall = lambda key: True
    send(world, t, b"1", id="1")
    send(world, t, b"2", id="2")
    world.send(t, "chat", 3)
    one, two = world.all(Recall)
    world.exchange.admission.not_recalled(two.record)
    world.exchange.settle()
    assert world.asked(chat) == []
    world.exchange.admission.not_recalled(one.record)
    world.exchange.settle()
    assert [data for _, data in world.asked(chat)] == [1, 2, 3]


def test_nothing_is_handled_when_the_disk_does_not_answer(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.exchange.admission.may_recall = lambda key: True
    send(world, t)
    world.exchange.admission.not_recalled(world.only(Recall).record, Internal())
    world.exchange.settle()
    assert world.code(t) == "internal"
    assert world.requests(chat) == []
    assert world.at_rest(t, chat)
    world.exchange.admission.may_recall = lambda key: False
    send(world, t)
    assert len(world.requests(chat)) == 1


def test_repeats_are_bounded(world: World) -> None:
    world.configure(Limits(max_in_flight=3))
    chat, t = world.handler("chat"), world.session("t")
    for _ in range(5):
        send(world, t)
    assert world.codes(t) == ["overloaded", "overloaded"]
    world.answer(chat, "1", {"type": "sendClients", "data": ["x" * 60 + str(n) for n in range(1000)]})
    for effect in world.all(Deposit):
        world.exchange.replay.deposited(effect.delivery, "failed", UnknownAccount())
    assert len(world.got(t)) == 3
    for _ in range(200):
        send(world, t)
    codes = world.codes(t)
    assert codes[0] == "unknownAccount"
    assert codes[-1] == "overloaded"


def test_unproven_servers_ids_count_on_one_connection_alone(world: World) -> None:
    chat, one, two = world.handler("chat"), world.peer(), world.peer()
    for peer in (one, one, two):
        send(world, peer)
    assert len(world.requests(chat)) == 2


def test_who_closes_while_the_disk_is_asked_still_gets_the_report(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.exchange.admission.may_recall = lambda key: True
    send(world, t)
    record = world.only(Recall).record
    assert t.busy
    t.closing = True
    world.exchange.admission.not_recalled(record)
    world.exchange.settle()
    world.answer(chat, "1", DONE)
    assert world.code(t) == ""
    assert world.only(Finished).endpoint is t
    assert not t.busy
