"""Messages that are not handled again (docs/protocol.md, section 4, ``once``)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.events import Answers, Calls, Deposited, Leaves, Sends
from tests.core.playbook import Asked, Effect, Event, Placeholder, Playbook, Received, Report
from tests.core.world import DONE, REPLY, World, clients, send_handler

from bester.core import once
from bester.core.effects import Deposit, Finished, Forward, PresenceChanged, Recall, Remember
from bester.core.endpoint import Endpoint
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.once import OnceMemory, OnceRecord
from bester.errors import Internal, UnknownAccount
from bester.protocol import frames


def SendsOnce(origin: Endpoint, data: Any = 1, *, id: str = "7", type: str = "chat") -> Event:
    return Sends(origin, type, data, id=id, once=True)


def test_a_repeat_is_answered_with_the_first_report(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    again, g = world.session("t"), world.session("g")
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat, 1)
        >> Answers(chat, DONE)
        << Report(t, "good", id="7")
        >> SendsOnce(t)
        << Report(t, "good", id="7")
        # Over another connection too, but not for somebody else.
        >> SendsOnce(again)
        << Report(again, "good", id="7")
        >> SendsOnce(g)
        << Asked(chat, 1)
    )
    assert world.exchange.batch.counters.repeats == 2
    assert t.in_flight == again.in_flight == 0


def test_what_comes_over_a_new_link_goes_behind_what_the_last_one_brought(world: World) -> None:
    chat = world.handler("chat", concurrency=1)
    old, new = world.peer("k.example"), world.peer("k.example")
    play = Playbook(world) >> SendsOnce(old, 1, id="1") << Asked(chat, 1)
    for number in (2, 3):
        play = play >> SendsOnce(old, number, id=str(number))
    play = play >> Leaves(old)
    for number in (1, 2, 3, 4):
        play = play >> SendsOnce(new, number, id=str(number))
    for number in (1, 2, 3):
        play = play >> Answers(chat, DONE) << Asked(chat, number + 1) << Report(new, "good", id=str(number))
    assert play >> Answers(chat, DONE) << Report(new, "good", id="4")


def test_a_repeat_of_what_is_under_way_waits_for_its_report(world: World) -> None:
    chat, t, again = world.handler("chat"), world.session("t"), world.session("t")
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat)
        >> SendsOnce(again)
        >> SendsOnce(again)
        >> Leaves(t)
        >> Answers(chat, DONE)
        << Report(again, "good", id="7")
        << Report(again, "good", id="7")
    )
    assert again.in_flight == 0


def test_all_that_wait_for_the_report_get_the_replies_too(world: World) -> None:
    chat, away = world.handler("chat"), world.handler("away")
    t = world.session("t", features=("replyTo",))
    again, late, last = world.session("t", features=("ack", "replyTo")), world.session("t"), world.session("t")
    first, second = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat)
        >> SendsOnce(again)
        >> SendsOnce(again)
        >> Answers(chat, REPLY, send_handler("away"), payload={"data": 5})
        << Received(t, "chat", 5, reply_to="7")
        << Received(again, "chat", 5, reply_to="7", id=first)
        << Asked(away)
        >> Leaves(t)
        >> SendsOnce(late)
        << Received(late, "chat", 5)
        >> SendsOnce(late)
        >> SendsOnce(again)
        >> Answers(away, REPLY, payload={"data": 6})
        << Received(late, "away", 6)
        << Report(late, "good", id="7")
        << Report(late, "good", id="7")
        << Received(again, "away", 6, reply_to="7", id=second)
        << Report(again, "good", id="7")
        << Report(again, "good", id="7")
        << Report(again, "good", id="7")
        # When it is done, its report is all that a repeat gets.
        >> SendsOnce(last)
        << Report(last, "good", id="7")
    )
    assert first()
    assert second()


def test_replies_for_senders_that_have_all_gone_are_dropped(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat)
        >> Leaves(t)
        << Effect(PresenceChanged, online=False)
        >> Answers(chat, REPLY, payload={"data": 5})
    )
    assert world.exchange.reports.under_way == 0
    assert world.exchange.batch.counters.drops.get(Drop.REPLY_UNWANTED) == 1


def test_the_same_id_with_another_message_is_a_conflict(world: World) -> None:
    chat, t = world.handler("chat", "x"), world.session("t")
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat)
        >> SendsOnce(t, 2)
        << Report(t, "idConflict")
        >> SendsOnce(t, type="x")
        << Report(t, "idConflict")
        >> Answers(chat, DONE)
        << Report(t, "good")
        >> SendsOnce(t, 2)
        << Report(t, "idConflict")
    )


def test_a_temporary_failure_is_tried_again_and_a_lasting_one_is_not(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    play = Playbook(world)
    world.exchange.admission.draining = True
    assert play >> SendsOnce(t) << Report(t, "shuttingDown")
    world.exchange.admission.draining = False
    assert (
        play
        >> SendsOnce(t)
        << Asked(chat)
        >> Answers(chat, {"type": "nonsense"})
        << Report(t, "badResponse")
        >> SendsOnce(t)
        << Report(t, "badResponse")
    )


def test_delivery_ids_follow_from_the_message(world: World) -> None:
    ids = []
    for _ in range(2):
        again = World()
        chat, waiter, t = again.handler("chat"), again.handler("waiter"), again.session("t")
        again.send(t, "chat", 1, "7", once=True)
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
    deposit, remember = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> SendsOnce(t)
        << Asked(chat)
        >> Answers(chat, clients("away"))
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Effect(Remember, remember)
        >> SendsOnce(t)
        >> Calls(world.exchange.admission.remembered, remember)
        << Report(t, "good", "away stored", id="7")
        << Report(t, "good", "away stored", id="7")
    )
    assert world.at_rest(t)


def test_what_is_remembered_on_disk_is_not_handled_again(world: World) -> None:
    chat, t, again = world.handler("chat"), world.session("t"), world.session("t")
    admission = world.exchange.admission
    admission.may_recall = lambda key: True
    recall, other = Placeholder(), Placeholder()
    play = Playbook(world)
    assert play >> SendsOnce(t) << Effect(Recall, recall) >> SendsOnce(again)
    record = recall().record
    report = frames.good_report(b'"from the disk"')
    assert (
        play
        >> Calls(admission.recalled, record, record.digest, report)
        << Report(t, "good", id="from the disk")
        << Report(again, "good", id="from the disk")
        >> SendsOnce(t, 2)
        << Report(t, "idConflict")
        # And what is not remembered is handled like any other.
        >> SendsOnce(t, id="8")
        << Effect(Recall, other)
    )
    assert play >> Calls(admission.not_recalled, other().record) << Asked(chat, 1, tag="8")


def test_a_conflict_with_what_is_on_disk_is_one_for_its_repeats_too(world: World) -> None:
    t, again = world.session("t"), world.session("t")
    world.handler("chat")
    world.exchange.admission.may_recall = lambda key: True
    recall = Placeholder()
    play = Playbook(world)
    assert play >> SendsOnce(t) << Effect(Recall, recall) >> SendsOnce(again)
    assert (
        play
        >> Calls(world.exchange.admission.recalled, recall().record, b"another", frames.good_report(b'"7"'))
        << Report(t, "idConflict")
        << Report(again, "idConflict")
    )


def test_what_comes_behind_a_question_to_the_disk_waits_for_it(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    not_recalled = world.exchange.admission.not_recalled
    world.exchange.admission.may_recall = lambda key: True
    one, two = Placeholder(), Placeholder()
    play = (
        Playbook(world)
        >> SendsOnce(t, 1, id="1")
        << Effect(Recall, one)
        >> SendsOnce(t, 2, id="2")
        << Effect(Recall, two)
        >> Sends(t, "chat", 3)
    )
    assert play
    assert (
        play
        >> Calls(not_recalled, two().record)
        >> Calls(not_recalled, one().record)
        << Asked(chat, 1)
        << Asked(chat, 2)
        << Asked(chat, 3)
    )


def test_nothing_is_handled_when_the_disk_does_not_answer(world: World) -> None:
    chat, t, recall = world.handler("chat"), world.session("t"), Placeholder()
    admission = world.exchange.admission
    admission.may_recall = lambda key: True
    play = Playbook(world)
    assert play >> SendsOnce(t) << Effect(Recall, recall)
    assert play >> Calls(admission.not_recalled, recall().record, Internal()) << Report(t, "internal")
    assert world.at_rest(t, chat)
    admission.may_recall = lambda key: False
    assert play >> SendsOnce(t) << Asked(chat)


def test_repeats_are_bounded(world: World) -> None:
    world.configure(Limits(max_in_flight=3))
    chat, t = world.handler("chat"), world.session("t")
    for _ in range(5):
        world.send(t, "chat", 1, "7", once=True)
    assert world.codes(t) == ["overloaded", "overloaded"]
    world.answer(chat, "1", {"type": "sendClients", "data": ["x" * 60 + str(n) for n in range(1000)]})
    for effect in world.all(Deposit):
        world.exchange.replay.deposited(effect.delivery, "failed", UnknownAccount())
    assert len(world.got(t)) == 3
    for _ in range(200):
        world.send(t, "chat", 1, "7", once=True)
    codes = world.codes(t)
    assert codes[0] == "unknownAccount"
    assert codes[-1] == "overloaded"


def test_repeats_leave_room_for_the_first_one_that_waits(world: World) -> None:
    world.configure(Limits(max_in_flight=2))
    chat, t, recall = world.handler("chat"), world.session("t"), Placeholder()
    admission = world.exchange.admission
    admission.may_recall = lambda key: True
    play = Playbook(world)
    assert (
        play
        >> SendsOnce(t, 1)
        << Effect(Recall, recall)
        >> SendsOnce(t, 1)
        >> SendsOnce(t, 1)
        << Report(t, "overloaded", id="7")
    )
    assert (
        play
        >> Calls(admission.not_recalled, recall().record)
        << Asked(chat, 1)
        >> Answers(chat, DONE)
        << Report(t, "good", id="7")
        << Report(t, "good", id="7")
    )
    assert world.at_rest(t, chat)


def test_unproven_servers_ids_count_on_one_connection_alone(world: World) -> None:
    chat, one, two = world.handler("chat"), world.peer(), world.peer()
    assert Playbook(world) >> SendsOnce(one) << Asked(chat) >> SendsOnce(one) >> SendsOnce(two) << Asked(chat)


def test_a_sender_that_closes_while_the_disk_is_asked_still_gets_the_report(world: World) -> None:
    chat, t, recall = world.handler("chat"), world.session("t"), Placeholder()
    world.exchange.admission.may_recall = lambda key: True
    play = Playbook(world)
    assert play >> SendsOnce(t) << Effect(Recall, recall)
    assert t.busy
    t.closing = True
    assert (
        play
        >> Calls(world.exchange.admission.not_recalled, recall().record)
        << Asked(chat)
        >> Answers(chat, DONE)
        << Report(t, "good")
        << Effect(Finished, endpoint=t)
    )
    assert not t.busy


# -- the memory ---------------------------------------------------------------------------------------------------


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_RECORDS", 3)
    monkeypatch.setattr(once, "MAX_BYTES", 3000)
    memory = OnceMemory()
    records = [OnceRecord(bytes([number]), b"", b"") for number in range(5)]
    for record in records:
        memory.add(record)
    assert [memory.find(record.key) for record in records] == [None, None, *records[2:]]
    memory.finish(records[3], b"x" * 2000)
    assert memory.find(records[2].key) is None
    memory.finish(records[4], b"x" * 2000)
    assert memory.find(records[3].key) is None
    memory.forget(records[4])
    assert len(memory) == 0


def test_one_sender_does_not_drive_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_OF_SENDER", 2)
    memory = OnceMemory()
    other = OnceRecord(b"o", b"", b"", b"g")
    memory.add(other)
    mine = [OnceRecord(bytes([number]), b"", b"", b"t") for number in range(4)]
    for record in mine:
        memory.add(record)
    assert memory.find(b"o") is other
    assert [memory.find(record.key) is record for record in mine] == [False, False, True, True]


# -- nodes that have it under way -----------------------------------------------------------------------------------


def test_a_message_that_another_node_has_under_way_steps_aside(world: World) -> None:
    world.configure(Limits(max_in_flight=2))
    chat, t, again, recall = world.handler("chat"), world.session("t"), world.session("t"), Placeholder()
    admission = world.exchange.admission
    admission.may_recall = lambda key: True
    play = Playbook(world)
    assert play >> SendsOnce(t, 1) << Effect(Recall, recall) >> Sends(t, "chat", 2) >> Sends(t, "chat", 3)
    record = recall().record
    report = frames.good_report(b'"7"')
    assert (
        play
        >> Calls(admission.under_way_remotely, record)
        << Asked(chat, 2)
        >> Calls(admission.under_way_remotely, record)  # as it is told by each node that has it
        >> SendsOnce(again, 1)
        >> Calls(admission.recalled, record, record.digest, report)
        << Report(t, "good", id="7")
        << Asked(chat, 3)
        << Report(again, "good", id="7")
    )
    assert (t.in_flight, t.backlog, again.in_flight) == (2, 0, 0)


def test_a_message_that_the_other_node_forgot_is_handled_here(world: World) -> None:
    chat, t, recall = world.handler("chat"), world.session("t"), Placeholder()
    admission = world.exchange.admission
    admission.may_recall = lambda key: True
    play = Playbook(world)
    assert play >> SendsOnce(t, 1) << Effect(Recall, recall)
    assert (
        play
        >> Calls(admission.under_way_remotely, recall().record)
        >> Calls(admission.not_recalled, recall().record)
        << Asked(chat, 1)
        >> Answers(chat)
        << Report(t, "good")
    )
    assert world.at_rest(t, chat)


def test_other_nodes_that_wait_for_a_report_have_the_replies_and_the_end_of_it(world: World) -> None:
    chat, t, memory = world.handler("chat"), world.session("t"), world.exchange.once
    play = Playbook(world)
    assert play >> SendsOnce(t) << Asked(chat)
    (record,) = memory._records.values()
    record.nodes["b"] = 5
    assert play >> Leaves(t) << Effect(PresenceChanged) >> Answers(chat, REPLY, data=6)
    assert [(one, at, type, bytes(data)) for one, at, type, data in memory.replied] == [(record, 0, "chat", b"6")]
    assert memory.settled == [record]
    assert world.exchange.batch.counters.drops.get(Drop.REPLY_UNWANTED) == 0
    memory.forget(record)
    assert memory.settled == [record, record]


def test_what_an_unproven_server_sent_is_forgotten_with_its_connection(world: World) -> None:
    chat, one, named = world.handler("chat"), world.peer(), world.peer("k.example")
    forget = world.exchange.admission.forget_unproven
    play = Playbook(world) >> SendsOnce(one) << Asked(chat) >> SendsOnce(named) << Asked(chat)
    assert play
    assert len(world.exchange.once) == 2
    assert play >> Calls(forget, one) >> Calls(forget, named) >> Calls(forget, world.peer())
    assert len(world.exchange.once) == 1
    assert play >> Answers(chat) << Report(one, "good")


def test_what_was_forgotten_is_not_counted_when_it_ends() -> None:
    memory, record, twin = OnceMemory(), OnceRecord(b"1", b"", b""), OnceRecord(b"1", b"", b"")
    memory.add(record)
    memory.forget(record)
    memory.add(twin)
    memory.finish(record, b"report")
    memory.forget(record)
    assert memory.find(b"1") is twin
    assert (memory._bytes, len(memory)) == (once._OVERHEAD, 1)
