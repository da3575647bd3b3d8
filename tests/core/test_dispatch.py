"""Handlers come and go; who waits, for how long, in what order (docs/protocol.md, sections 2.7, 3.1, 3.5)."""

from __future__ import annotations

import pytest
from tests.core.world import World

from bester.core.effects import CallClassic
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.routing import HANDED_BYTES
from bester.core.rules import TypeRules
from bester.errors import BadResponse, HandlerUnavailable, NotAllowed

CLASSIC = TypeRules(classic_socket="/s", classic_concurrency=2, timeout_s=10)


# -- attached ---------------------------------------------------------------------------------------------------


def test_many_are_outstanding_and_answered_in_any_order(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    for number in range(3):
        world.send(t, "chat", number, id=str(number))
    assert world.asked(chat) == [("1", 0), ("2", 1), ("3", 2)]
    for id in ("2", "3", "1"):
        world.answer(chat, id)
    assert [frame["payload"]["id"] for frame in world.got(t)] == ["1", "2", "0"]
    assert world.at_rest(t, chat)


def test_concurrency_and_turns(world: World) -> None:
    chat, busy, other = world.handler("chat", concurrency=1), world.session("busy"), world.session("other")
    for number in range(3):
        world.send(busy, "chat", f"busy {number}")
    for number in range(2):
        world.send(other, "chat", f"other {number}")
    order = []
    for _ in range(5):
        ((id, data),) = world.asked(chat)
        order.append(data)
        assert len(chat.outstanding) == 1
        world.answer(chat, id)
    assert order == ["busy 0", "busy 1", "other 0", "busy 2", "other 1"]
    assert world.at_rest(busy, other, chat)


def test_the_least_busy_process_is_asked(world: World) -> None:
    one, two, t = world.handler("chat", concurrency=3), world.handler("chat", concurrency=2), world.session("t")
    for _ in range(5):
        world.send(t, "chat")
    assert (len(one.outstanding), len(two.outstanding)) == (3, 2)
    world.send(t, "chat", "waits")
    assert len(world.asked(one) + world.asked(two)) == 5
    world.answer(two, "2")
    assert world.asked(two) == [("6", "waits")]


def test_one_that_does_not_read_is_not_asked(world: World) -> None:
    one, two, t = world.handler("chat", "news"), world.handler("chat"), world.session("t")
    one.blocked = True
    world.send(t, "chat")
    world.send(t, "news", "waits")
    assert world.asked(one) == []
    assert len(world.asked(two)) == 1
    two.blocked = True
    world.send(t, "chat", "waits too")
    world.answer(two, "1")  # its answers are still read
    assert world.code(t) == ""
    assert world.asked(two) == []
    world.exchange.dispatcher.unblocked(one)
    assert sorted(data for _, data in world.asked(one)) == ["waits", "waits too"]


def test_an_answer_lets_wait_no_other_type_of_the_handler(world: World) -> None:
    both, t = world.handler("a", "b", concurrency=1), world.session("t")
    world.send(t, "a", 1)
    world.send(t, "b", 2)
    world.send(t, "a", 3)
    order = []
    for _ in range(3):
        ((id, data),) = world.asked(both)
        order.append(data)
        if data == 3:
            world.exchange.answer_failed(both, id, BadResponse("wrong"))
        else:
            world.answer(both, id)
    assert sorted(order) == [1, 2, 3]
    assert world.at_rest(t, both)


# -- classic ----------------------------------------------------------------------------------------------------


def test_one_at_a_time_per_session_and_type(world: World) -> None:
    world.configure(c=CLASSIC, d=CLASSIC)
    t, g = world.session("t"), world.session("g")
    world.send(t, "c", "t1")
    world.send(t, "c", "t2")
    world.send(t, "d", "other type")
    world.send(g, "c", "g1")
    world.send(g, "c", "g2")
    calls = world.all(CallClassic)
    assert [bytes(call.request.data) for call in calls] == [b'"t1"', b'"other type"', b'"g1"']
    assert world.exchange.dispatcher.types["c"].active == 2
    world.answer_classic(calls[0], {"type": "reply"}, data="to t")
    assert world.got(t)[0]["payload"] == {"type": "c", "data": "to t"}
    second = world.only(CallClassic)
    assert bytes(second.request.data) == b'"t2"'
    world.exchange.classic_failed(calls[2].request, HandlerUnavailable())
    assert world.code(g) == "handlerUnavailable"
    third = world.only(CallClassic)
    for call in (calls[1], second, third):
        world.answer_classic(call)
    assert world.at_rest(t, g)


def test_a_chain_of_classic_handlers(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    world.send(t, "c", 1)
    world.send(t, "c", 2)
    world.answer_classic(world.only(CallClassic), {"type": "sendHandler", "data": "c"}, data=3)
    second = world.only(CallClassic)
    assert bytes(second.request.data) == b"2"
    world.answer_classic(second)
    third = world.only(CallClassic)
    assert (bytes(third.request.data), third.request.hops) == (b"3", 1)
    world.answer_classic(third)
    assert world.at_rest(t)


def test_an_attached_handler_wins_while_it_is_there(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    for number in range(3):
        world.send(t, "c", number)
    call = world.only(CallClassic)
    attached = world.handler("c", concurrency=1)
    assert world.asked(attached) == [("1", 1)]
    world.answer_classic(call)
    world.answer(attached, "1")
    assert world.asked(attached) == [("2", 2)]
    world.send(t, "c", 3)
    world.exchange.dispatcher.remove(attached)
    assert bytes(world.only(CallClassic).request.data) == b"3"


def test_still_one_at_a_time_after_an_attached_handler_went_away(world: World) -> None:
    world.configure(c=CLASSIC)
    t, g = world.session("t"), world.session("g")
    for number in range(3):
        world.send(t, "c", number)
    first = world.only(CallClassic)
    attached = world.handler("c", blocked=True)
    world.send(g, "c", "g")
    world.exchange.dispatcher.remove(attached)
    assert bytes(world.only(CallClassic).request.data) == b'"g"'  # and nothing of t, whose first is under way
    world.answer_classic(first)
    second = world.only(CallClassic)
    assert bytes(second.request.data) == b"1"
    world.answer_classic(second)
    assert bytes(world.only(CallClassic).request.data) == b"2"


# -- time -------------------------------------------------------------------------------------------------------


def test_no_answer_in_time(world: World) -> None:
    chat, t = world.handler("chat", concurrency=1, timeout_s=10), world.session("t")
    world.send(t, "chat")
    world.exchange.batch.now += 4
    world.send(t, "chat", "second")
    world.exchange.batch.now += 5.9
    world.exchange.sweep()
    assert world.got(t) == []
    world.exchange.batch.now += 0.1
    world.exchange.sweep()
    assert world.code(t) == "handlerTimeout"
    assert [data for _, data in world.asked(chat)] == [None, "second"]  # its time begins now
    world.answer(chat, "1")
    assert world.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 1
    world.exchange.batch.now += 9
    world.exchange.sweep()
    assert world.got(t) == []
    world.answer(chat, "2")
    assert world.code(t) == ""
    assert world.at_rest(t, chat)


def test_who_waits_does_not_time_out_as_long_as_others_are_answered(world: World) -> None:
    chat, t, g = world.handler("chat", concurrency=1, timeout_s=10), world.session("t"), world.session("g")
    chat.blocked = True
    world.send(t, "chat", 1)
    world.send(t, "chat", 2)
    world.send(g, "chat", 3)
    chat.blocked = False
    world.exchange.dispatcher.unblocked(chat)
    for id in ("1", "2"):
        world.exchange.batch.now += 9
        world.answer(chat, id)
        world.exchange.sweep()
    assert world.code(g) == ""
    assert world.code(t) == ""
    chat.blocked = True
    world.answer(chat, "3")
    world.exchange.batch.now += 10
    world.exchange.sweep()
    assert world.at_rest(t, g, chat)


def test_who_waits_for_longer_than_the_limit_while_nothing_is_answered(world: World) -> None:
    world.configure(c=CLASSIC)
    t, g = world.session("t"), world.session("g")
    world.send(t, "c", 1)
    world.send(t, "c", 2)
    world.send(g, "c", 3)
    world.exchange.batch.now += 5
    for number in (4, 5):
        world.send(g, "c", number)
    world.send(world.session("late"), "c", 6)
    world.exchange.batch.now += 5.5
    world.exchange.sweep()
    assert world.code(t) == "handlerTimeout"
    assert world.got(g) == []
    world.exchange.batch.now += 5
    world.exchange.sweep()
    assert world.codes(g) == ["handlerTimeout"] * 2
    one, other = (effect for effect in world.effects() if isinstance(effect, CallClassic))
    assert world.exchange.dispatcher.types["c"].queues.keys() == {t, g}  # each has one under way
    world.answer_classic(one)
    world.exchange.classic_failed(other.request, HandlerUnavailable())
    assert world.at_rest(t, g)


# -- attach, detach, gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["dummy", "builtin"])
def test_the_servers_own_types_are_not_for_handlers(world: World, type: str) -> None:
    with pytest.raises(NotAllowed):
        world.handler("chat", type)
    assert (world.exchange.dispatcher.types, world.exchange.dispatcher.handlers) == ({}, [])


def test_a_type_named_twice_counts_once(world: World) -> None:
    chat = world.handler("chat", "chat")
    assert world.exchange.dispatcher.types["chat"].attached == [chat]
    world.exchange.dispatcher.remove(chat)
    assert world.exchange.dispatcher.types == {}


def test_a_handler_that_goes_away(world: World) -> None:
    chat, t, g = world.handler("chat", concurrency=1), world.session("t"), world.session("g")
    for sender in (t, g, g):
        world.send(sender, "chat")
    world.exchange.dispatcher.remove(chat)
    assert world.codes(t) == ["handlerUnavailable"]
    assert world.codes(g) == ["handlerUnavailable"] * 2
    world.send(t, "chat")
    assert world.code(t) == "noHandler"
    assert world.exchange.dispatcher.handlers == []
    assert world.at_rest(t, g, chat)


def test_a_handler_that_goes_away_is_told_nothing_of_its_pushes(world: World) -> None:
    chat = world.handler("chat", concurrency=1)
    for id in ("h1", "h2"):
        world.push(chat, id, {"type": "sendHandler", "data": "chat"})
    assert len(world.asked(chat)) == 1
    world.exchange.dispatcher.remove(chat)
    assert world.got(chat) == []
    assert world.at_rest(chat)


def test_the_other_process_goes_on(world: World) -> None:
    one, two, t = world.handler("chat", concurrency=1), world.handler("chat", concurrency=1), world.session("t")
    for number in range(3):
        world.send(t, "chat", number)
    world.exchange.dispatcher.remove(one)
    assert world.code(t) == "handlerUnavailable"
    world.answer(two, "2")
    assert [data for _, data in world.asked(two)] == [1, 2]


def test_detach_loses_nothing(world: World) -> None:
    one, two, t = world.handler("chat"), world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.dispatcher.detach(one)
    world.exchange.dispatcher.detach(one)
    world.send(t, "chat")
    assert (len(world.asked(one)), len(world.asked(two))) == (1, 1)
    world.answer(one, "1")
    assert world.code(t) == ""
    world.exchange.dispatcher.remove(one)
    world.answer(two, "2")
    assert world.code(t) == ""


def test_one_that_detached_still_times_out(world: World) -> None:
    chat, t = world.handler("chat", timeout_s=10), world.session("t")
    world.send(t, "chat")
    world.exchange.dispatcher.detach(chat)
    world.exchange.batch.now += 10
    world.exchange.sweep()
    assert world.code(t) == "handlerTimeout"


def test_detach_from_several_types_asks_nothing_more(world: World) -> None:
    world.configure(Limits(max_in_flight=2))
    both, t = world.handler("a", "b", concurrency=1), world.session("t")
    world.send(t, "a", 1)
    world.send(t, "a", 2)
    world.send(t, "b", 3)  # waits behind the others, and is let in when they have failed
    assert len(world.asked(both)) == 1
    world.exchange.dispatcher.detach(both)
    assert world.asked(both) == []
    assert world.codes(t) == ["handlerUnavailable", "noHandler"]
    world.answer(both, "1")
    assert world.at_rest(t, both)


def test_a_type_whose_last_handler_goes_while_many_wait(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat", concurrency=1), world.session("t")
    for _ in range(3000):
        world.send(t, "chat")
    world.exchange.dispatcher.remove(chat)
    assert world.codes(t) == ["handlerUnavailable"] * 2 + ["noHandler"] * 2998
    assert world.at_rest(t, chat)


# -- configuration ----------------------------------------------------------------------------------------------


def test_a_reload_switches_handlers(world: World) -> None:
    world.configure(c=CLASSIC)
    t = world.session("t")
    world.send(t, "c", 1)
    world.send(t, "c", 2)
    call = world.only(CallClassic)
    world.configure(d=CLASSIC)
    assert world.code(t) == "handlerUnavailable"  # the one that waited
    assert set(world.exchange.dispatcher.types) == {"d"}
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
    assert not world.exchange.dispatcher.types["c"].available


def test_rules_for_types_that_are_only_attached(world: World) -> None:
    world.configure(attached={"chat": TypeRules(7, transient=True)})
    chat = world.handler("chat", "news", timeout_s=20)
    types = world.exchange.dispatcher.types
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7, transient=True), TypeRules(20))
    world.configure(attached={"news": TypeRules(8)})
    assert (types["chat"].rules, types["news"].rules) == (TypeRules(7), TypeRules(8))
    world.configure(chat=TypeRules(9))
    assert types["chat"].configured
    world.exchange.dispatcher.remove(chat)
    assert set(types) == {"chat"}


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
    assert sum(sender.paused for sender in senders) == 8  # who sends more is slowed down
    handed = 0
    while x.out or world.exchange.dispatcher.full:  # its socket takes all of it, each time
        handed += len(world.asked(x))
    assert handed == 24
    assert not x.blocked
    assert sum(sender.paused for sender in senders) == 0


def test_a_handler_whose_socket_did_not_take_it_is_handed_no_more(world: World) -> None:
    x, t = world.handler("x"), world.session()
    big = "x" * HANDED_BYTES
    world.send(t, "x", big)
    assert x.full
    world.exchange.dispatcher.blocked(x)  # the socket says so when it is written to
    world.send(t, "x", 2)
    assert len(world.asked(x)) == 1
    assert x.blocked
    world.exchange.dispatcher.unblocked(x)
    assert [data for _, data in world.asked(x)] == [2]


def test_a_handler_that_left_when_it_was_full_is_handed_nothing(world: World) -> None:
    x, t = world.handler("x"), world.session()
    world.send(t, "x", "x" * HANDED_BYTES)
    world.exchange.dispatcher.remove(x)
    assert world.code(t) == "handlerUnavailable"
    assert world.exchange.dispatcher.full == []
