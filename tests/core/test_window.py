"""What sessions were given, and do not have yet (docs/protocol.md, section 4)."""

from __future__ import annotations

from tests.core.events import Acknowledges, Answers, Deposited, Leaves, Passes, Says, Sends, SocketDrains, SocketFills
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import Talk, World, acking, clients

from bester.core.delivery import SERVER_S
from bester.core.effects import Deposit
from bester.core.window import WINDOW_MESSAGES
from bester.errors import MailboxFull


def test_a_report_waits_for_the_acknowledgement(world: World, talk: Talk) -> None:
    g, id = acking(world), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Acknowledges(g, "unknown")
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        >> Acknowledges(g, id)
    )
    assert id()
    assert world.exchange.batch.counters.deliveries == 1
    assert world.at_rest(talk.t, talk.chat)


def test_waiting_for_an_acknowledgement_holds_up_nothing_behind_it(world: World, talk: Talk) -> None:
    g, h = acking(world), world.session("h")
    for number in range(3 * world.exchange.batch.limits.max_in_flight):
        talk.say(number, "g")
        world.got(g)
        if number > WINDOW_MESSAGES:
            break
    assert talk.t.in_flight == 0
    assert talk.t.waiting > 1000
    talk.say("on", "h")
    assert world.received(h) == [("chat", "on")]
    assert talk.statuses() == [["delivered"]]


def test_the_first_of_several_sessions_settles_the_result(world: World, talk: Talk) -> None:
    one, two = acking(world), acking(world)
    id, deposit = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(one, "chat", 1, id=id)
        << Received(two, "chat", 1, id=id)
        >> Acknowledges(two, id)
        << Report(talk.t, "good", "g delivered")
        # The other one never had it: it finds it in the mailbox when it comes back.
        >> Leaves(one)
        << Effect(Deposit, deposit, id=id)
        >> Deposited(deposit)
    )


def test_a_report_waits_until_the_socket_takes_the_message(world: World, talk: Talk) -> None:
    g, t = world.session("g"), talk.t
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1)
        >> Says(talk, 2, "g")
        >> SocketDrains(g)
        << Received(g, "chat", 2)
        << Report(t, "good", "g delivered")
        << Report(t, "good", "g delivered")
        >> Says(talk, 3, "g")
        << Received(g, "chat", 3)
        << Report(t, "good", "g delivered")
    )
    assert world.at_rest(t, talk.chat)


def test_a_message_to_oneself_holds_up_no_report(world: World) -> None:
    chat, t, id = world.handler("chat"), acking(world, "t"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat)
        >> Answers(chat, clients("t"), payload={"data": 1})
        << Received(t, "chat", 1, id=id)
        << Report(t, "good", "t delivered")
    )
    assert id()


def test_a_message_that_is_given_twice_is_counted_once(world: World) -> None:
    chat, peer, g = world.handler("chat"), world.peer("l.example"), acking(world)
    id, carols, again, deposit = (Placeholder() for _ in range(4))
    assert (
        Playbook(world)
        >> Sends(peer, "chat", 1, id="7", once=True)
        << Asked(chat)
        >> Answers(chat, clients("g", "carol"), payload={"data": 1})
        << Received(g, "chat", 1, id=id)
        << Effect(Deposit, carols, to="carol")
        >> Deposited(carols, "failed", MailboxFull())
        >> Passes(SERVER_S)
        << Effect(Deposit, deposit, id=id)
        >> Deposited(deposit)
        << Report(peer, "mailboxFull", "g stored", "carol failed mailboxFull")  # for now: so it is sent again
        >> Sends(peer, "chat", 1, id="7", once=True)
        << Asked(chat)
        >> Answers(chat, clients("g", "carol"), payload={"data": 1})
        << Received(g, "chat", 1, id=id)
        << Effect(Deposit, again, to="carol")
        >> Deposited(again, "failed", MailboxFull())
        >> Acknowledges(g, id)
        << Report(peer, "mailboxFull", "g delivered", "carol failed mailboxFull")
    )
    assert (g.unacked, g.unacked_bytes) == ({}, 0)


def test_a_message_that_a_full_socket_holds_counts_no_longer_against_its_sender(world: World, talk: Talk) -> None:
    g = world.session("g", takes=frozenset({"chat"}))
    play = Playbook(world)
    assert play >> SocketFills(g) >> Says(talk, 1, "g") << Received(g, "chat", 1)
    assert (talk.t.in_flight, talk.t.waiting) == (0, 1)
    assert play >> SocketDrains(g) << Report(talk.t, "good", "g delivered")
    assert (talk.t.in_flight, talk.t.waiting) == (0, 0)


def test_a_message_gives_its_place_to_another_once(world: World, talk: Talk) -> None:
    g, h, one, two = acking(world, "g"), acking(world, "h"), Placeholder(), Placeholder()
    play = Playbook(world)
    assert play >> Says(talk, 1, "g", "h") << Received(g, "chat", 1, id=one) << Received(h, "chat", 1, id=two)
    assert (talk.t.in_flight, talk.t.waiting) == (0, 1)
    assert play >> Acknowledges(g, one)
    assert (talk.t.in_flight, talk.t.waiting) == (0, 1)
    assert play >> Acknowledges(h, two) << Report(talk.t, "good", "g delivered", "h delivered")
    assert world.at_rest(talk.t)
