"""Which handler is asked and when, and who waits for it (docs/protocol.md, sections 2.7, 3.1, 3.5)."""

from __future__ import annotations

from tests.core.events import (
    Answers,
    AnswersWrongly,
    Attaches,
    Calls,
    ClassicAnswers,
    ClassicFails,
    Leaves,
    Passes,
    Sends,
    SocketDrains,
    SocketFills,
)
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import REPLY, World, send_handler

from bester.core.effects import AskRemote, CallClassic
from bester.core.metrics import Drop
from bester.core.routing import HANDED_BYTES, AttachedHandler
from bester.core.rules import TypeRules
from bester.errors import BadResponse, HandlerUnavailable

CLASSIC = TypeRules(classic_socket="/s", classic_concurrency=2, timeout_s=10)


# -- attached ---------------------------------------------------------------------------------------------------


def test_many_requests_are_outstanding_and_answered_in_any_order(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    first, second, third = Placeholder(), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", 0, id="a")
        << Asked(chat, 0, id=first)
        >> Sends(t, "chat", 1, id="b")
        << Asked(chat, 1, id=second)
        >> Sends(t, "chat", 2, id="c")
        << Asked(chat, 2, id=third)
        >> Answers(chat, id=second)
        << Report(t, "good", id="b")
        >> Answers(chat, id=third)
        << Report(t, "good", id="c")
        >> Answers(chat, id=first)
        << Report(t, "good", id="a")
    )
    assert (first(), second(), third()) == ("1", "2", "3")
    assert world.at_rest(t, chat)


def test_a_handler_has_as_many_requests_as_it_takes_and_senders_take_turns(world: World) -> None:
    chat, busy, other = world.handler("chat", concurrency=1), world.session("busy"), world.session("other")
    play = (
        Playbook(world)
        >> Sends(busy, "chat", "busy 0")
        << Asked(chat, "busy 0")
        >> Sends(busy, "chat", "busy 1")
        >> Sends(busy, "chat", "busy 2")
        >> Sends(other, "chat", "other 0")
        >> Sends(other, "chat", "other 1")
    )
    before = busy
    for sender, data in ((busy, "busy 1"), (other, "other 0"), (busy, "busy 2"), (other, "other 1")):
        assert play >> Answers(chat) << Report(before, "good") << Asked(chat, data)
        assert len(chat.outstanding) == 1
        before = sender
    assert play >> Answers(chat) << Report(other, "good")
    assert world.at_rest(busy, other, chat)


def test_the_least_busy_process_is_asked(world: World) -> None:
    one, two, t = world.handler("chat", concurrency=3), world.handler("chat", concurrency=2), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "chat")
        << Asked(one)
        >> Sends(t, "chat")
        << Asked(two)
        >> Sends(t, "chat")
        << Asked(one)
        >> Sends(t, "chat")
        << Asked(two)
        >> Sends(t, "chat")
        << Asked(one)
        >> Sends(t, "chat", "waits")
        >> Answers(two)
        << Report(t, "good")
        << Asked(two, "waits", id="6")
    )
    assert (len(one.outstanding), len(two.outstanding)) == (3, 2)


def test_a_handler_that_does_not_read_is_not_asked(world: World) -> None:
    one, two, t = world.handler("chat", "news"), world.handler("chat"), world.session("t")
    one.blocked = True
    assert (
        Playbook(world)
        >> SocketFills(two)
        >> Sends(t, "chat")
        << Asked(two)
        >> Sends(t, "news", "waits")
        >> Sends(t, "chat", "waits too")
        >> Answers(two)  # its answers are still read
        << Report(t, "good")
        >> SocketDrains(one)
        << Asked(one, "waits too")
        << Asked(one, "waits")
    )


def test_an_answer_makes_room_for_every_type_of_its_handler(world: World) -> None:
    both, t = world.handler("a", "b", concurrency=1), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "a", 1)
        << Asked(both, 1)
        >> Sends(t, "b", 2)
        >> Sends(t, "a", 3)
        >> Answers(both)
        << Report(t, "good")
        << Asked(both, 3)
        >> AnswersWrongly(both, BadResponse("wrong"))
        << Report(t, "badResponse")
        << Asked(both, 2)
        >> Answers(both)
        << Report(t, "good")
    )
    assert world.at_rest(t, both)


# -- classic ----------------------------------------------------------------------------------------------------


def test_a_classic_handler_has_one_message_of_each_session_and_type(world: World) -> None:
    world.configure(c=CLASSIC, d=CLASSIC)
    t, g = world.session("t"), world.session("g")
    first, other, third, second, last = (Placeholder() for _ in range(5))
    play = (
        Playbook(world)
        >> Sends(t, "c", "t1")
        << Effect(CallClassic, first, data="t1")
        >> Sends(t, "c", "t2")
        >> Sends(t, "d", "other type")
        << Effect(CallClassic, other, data="other type")
        >> Sends(g, "c", "g1")
        << Effect(CallClassic, third, data="g1")
        >> Sends(g, "c", "g2")
    )
    assert play
    assert world.exchange.dispatcher.types["c"].active == 2
    assert (
        play
        >> ClassicAnswers(first, REPLY, data="to t")
        << Received(t, "c", "to t")
        << Report(t, "good")
        << Effect(CallClassic, second, data="t2")
        >> ClassicFails(third, HandlerUnavailable())
        << Report(g, "handlerUnavailable")
        << Effect(CallClassic, last, data="g2")
        >> ClassicAnswers(other)
        << Report(t, "good")
        >> ClassicAnswers(second)
        << Report(t, "good")
        >> ClassicAnswers(last)
        << Report(g, "good")
    )
    assert world.at_rest(t, g)


def test_a_chain_of_classic_handlers(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    first, second, chained = Placeholder(), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "c", 1)
        << Effect(CallClassic, first, data=1)
        >> Sends(t, "c", 2)
        >> ClassicAnswers(first, send_handler("c"), data=3)
        << Effect(CallClassic, second, data=2, hops=0)
        >> ClassicAnswers(second)
        << Report(t, "good")
        << Effect(CallClassic, chained, data=3, hops=1)
        >> ClassicAnswers(chained)
        << Report(t, "good")
    )
    assert world.at_rest(t)


def test_an_attached_handler_is_preferred_to_a_classic_one(world: World) -> None:
    world.configure(c=CLASSIC)
    t, call = world.session("t"), Placeholder()
    play = (
        Playbook(world) >> Sends(t, "c", 0) << Effect(CallClassic, call, data=0) >> Sends(t, "c", 1) >> Sends(t, "c", 2)
    )
    assert play
    attached = AttachedHandler("c", "j.example", 1)
    assert (
        play
        >> Attaches(attached, "c")
        << Asked(attached, 1)
        >> ClassicAnswers(call)
        << Report(t, "good")
        >> Answers(attached)
        << Report(t, "good")
        << Asked(attached, 2)
        >> Sends(t, "c", 3)
        >> Leaves(attached)
        << Report(t, "handlerUnavailable")
        << Effect(CallClassic, data=3)
    )


def test_a_classic_handler_still_has_one_message_of_a_session_after_an_attached_one_went_away(world: World) -> None:
    world.configure(c=CLASSIC)
    t, g, attached = world.session("t"), world.session("g"), AttachedHandler("c", "j.example", 64)
    attached.blocked = True
    first, second = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "c", 0)
        << Effect(CallClassic, first, data=0)
        >> Sends(t, "c", 1)
        >> Sends(t, "c", 2)
        >> Attaches(attached, "c")
        >> Sends(g, "c", "g")
        >> Leaves(attached)
        << Effect(CallClassic, data="g")  # and nothing of t, whose first is under way
        >> ClassicAnswers(first)
        << Report(t, "good")
        << Effect(CallClassic, second, data=1)
        >> ClassicAnswers(second)
        << Report(t, "good")
        << Effect(CallClassic, data=2)
    )


# -- time -------------------------------------------------------------------------------------------------------


def test_a_request_without_an_answer_in_time_fails(world: World) -> None:
    chat, t = world.handler("chat", concurrency=1, timeout_s=10), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "chat", "first")
        << Asked(chat, "first", id="1")
        >> Passes(4)
        >> Sends(t, "chat", "second")
        >> Passes(5.9)
        >> Passes(0.1)
        << Report(t, "handlerTimeout")
        << Asked(chat, "second", id="2")  # its time begins now
        >> Answers(chat, id="1")
    )
    assert play
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 1
    assert play >> Passes(9) >> Answers(chat, id="2") << Report(t, "good")
    assert world.at_rest(t, chat)


def test_what_waits_does_not_time_out_as_long_as_others_are_answered(world: World) -> None:
    chat, t, g = world.handler("chat", concurrency=1, timeout_s=10), world.session("t"), world.session("g")
    chat.blocked = True
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1)
        >> Sends(t, "chat", 2)
        >> Sends(g, "chat", 3)
        >> SocketDrains(chat)
        << Asked(chat, 1)
        >> Calls(world.wait, 9)
        >> Answers(chat)
        << Report(t, "good")
        << Asked(chat, 3)
        >> Passes(0)
        >> Calls(world.wait, 9)
        >> Answers(chat)
        << Report(g, "good")
        << Asked(chat, 2)
        >> Passes(0)
        >> Answers(chat)
        << Report(t, "good")
        >> Passes(10)
    )
    assert world.at_rest(t, g, chat)


def test_what_waits_for_longer_than_the_limit_while_nothing_is_answered_fails(world: World) -> None:
    world.configure(c=CLASSIC)
    t, g, late = world.session("t"), world.session("g"), world.session("late")
    one, other = Placeholder(), Placeholder()
    play = (
        Playbook(world)
        >> Sends(t, "c", 1)
        << Effect(CallClassic, one, data=1)
        >> Sends(t, "c", 2)
        >> Sends(g, "c", 3)
        << Effect(CallClassic, other, data=3)
        >> Passes(5)
        >> Sends(g, "c", 4)
        >> Sends(g, "c", 5)
        >> Sends(late, "c", 6)
        >> Passes(5.5)
        << Report(t, "handlerTimeout")
        >> Passes(5)
        << Report(g, "handlerTimeout")
        << Report(g, "handlerTimeout")
        << Report(late, "handlerTimeout")
    )
    assert play
    assert world.exchange.dispatcher.types["c"].queues.keys() == {t, g}  # each has one under way
    assert (
        play
        >> ClassicAnswers(one)
        << Report(t, "good")
        >> ClassicFails(other, HandlerUnavailable())
        << Report(g, "handlerUnavailable")
    )
    assert world.at_rest(t, g, late)


# -- full sockets -----------------------------------------------------------------------------------------------


def test_a_handler_is_handed_no_more_than_its_socket_has_to_take(world: World) -> None:
    x = world.handler("x", concurrency=64)
    senders = [world.session(f"t{number}") for number in range(8)]
    big = "x" * (HANDED_BYTES // 2)
    for sender in senders:
        world.send(sender, "x", big, size=len(big))
    assert sum(len(frame) for frame in x.out) < 2 * HANDED_BYTES
    assert len(x.out) == len(x.outstanding) == 2
    assert sum(sender.paused for sender in senders) == 0
    for sender in senders:
        world.send(sender, "x", big, size=len(big))
        world.send(sender, "x", big, size=len(big))
    assert sum(sender.paused for sender in senders) == 8  # a sender that sends more is slowed down
    handed = 0
    while x.out or world.exchange.dispatcher.full:  # its socket takes all of it, each time
        handed += len(world.asked(x))
    assert handed == 24
    assert not x.blocked
    assert sum(sender.paused for sender in senders) == 0


def test_a_handler_whose_socket_did_not_take_it_is_handed_no_more(world: World) -> None:
    x, t = world.handler("x"), world.session()
    play = Playbook(world)
    assert play >> SocketFills(x) >> Sends(t, "x", "x" * HANDED_BYTES) << Asked(x) >> Sends(t, "x", 2)
    assert x.blocked
    assert play >> SocketDrains(x) << Asked(x, 2)


def test_a_request_waits_for_a_full_handler_rather_than_overtake_elsewhere(world: World) -> None:
    x, t = world.handler("x"), world.session()
    world.remote_handler("b", "x")
    world.send(t, "x", "x" * HANDED_BYTES)
    assert x.full
    world.send(t, "x", 2)
    assert world.effects() == []
    assert [data for _, data in world.asked(x)][1:] == [2]


def test_another_node_is_asked_if_the_socket_of_a_full_handler_did_not_take_it(world: World) -> None:
    x, t = world.handler("x"), world.session()
    world.remote_handler("b", "x")
    world.send(t, "x", "x" * HANDED_BYTES)
    world.send(t, "x", 2)
    assert world.effects() == []
    world.exchange.dispatcher.blocked(x)
    world.exchange.written()
    assert bytes(world.only(AskRemote).data) == b"2"


def test_a_handler_that_left_when_it_was_full_is_handed_nothing(world: World) -> None:
    x, t = world.handler("x"), world.session()
    world.send(t, "x", "x" * HANDED_BYTES)
    assert x.full
    world.exchange.dispatcher.remove(x)
    assert world.code(t) == "handlerUnavailable"
    assert world.exchange.dispatcher.full == []
