"""Deliveries to accounts that acknowledge, lag behind, are away or come back (docs/protocol.md, section 4)."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from tests.core.events import (
    Acknowledges,
    Answers,
    Calls,
    Comes,
    Deposited,
    Leaves,
    MailboxRead,
    Passes,
    Says,
    Sends,
    SocketDrains,
    SocketFills,
    Together,
)
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import REPLY, Talk, World, acking, clients

from bester.core.delivery import CUT_OFF_S, QUEUE_BYTES, SERVER_S, UNREAD_S
from bester.core.effects import CutOff, Deposit, PresenceChanged, ReadMailbox, RemoveLetter
from bester.core.redelivery import ACK_S
from bester.core.session import Phase, Session

# -- one's own account ------------------------------------------------------------------------------------------


def test_a_message_to_ones_own_account_and_its_report_are_one_write(world: World, talk: Talk) -> None:
    talk.say(1, "T", "t")
    message, report = world.take(talk.t)  # before anything is said to be written
    assert message == {"header": {"messageType": "receivedMessage"}, "payload": {"type": "chat", "data": 1}}
    assert report["header"] == {"messageType": "statusReport", "status": "good"}
    assert report["payload"]["results"] == [{"to": "T", "status": "delivered"}]
    world.settle()
    assert world.exchange.batch.counters.deliveries == 1
    assert world.at_rest(talk.t)


def test_the_report_waits_for_the_other_sessions_of_ones_own_account(world: World, talk: Talk) -> None:
    t, also = talk.t, [world.session("t") for _ in range(2)]
    talk.say(1, "T", "t")
    taken = [world.take(session) for session in (t, *also)]
    assert [[frame["payload"]["data"] for frame in frames] for frames in taken] == [[1]] * 3
    assert world.report(t)["results"] == [{"to": "T", "status": "delivered"}]
    assert world.exchange.batch.counters.deliveries == 1
    assert world.at_rest(t, *also)


def test_beside_others_ones_own_account_has_the_message_before_the_report(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "t", "g")
    assert [frame["header"]["messageType"] for frame in world.take(talk.t)] == ["receivedMessage"]
    assert len(world.take(g)) == 1
    assert world.report(talk.t)["results"] == [
        {"to": "t", "status": "delivered"},
        {"to": "g", "status": "delivered"},
    ]


@pytest.mark.parametrize("reads", ["soon", "late"])
def test_another_session_of_ones_own_account_has_the_message_when_it_reads(
    world: World, talk: Talk, reads: str
) -> None:
    t, other, deposit = talk.t, world.session("t"), Placeholder()
    play = (
        Playbook(world)
        >> SocketFills(other)
        >> Says(talk, 1, "t")
        << Received(t, "chat", 1)
        << Report(t, "good", "t delivered")
        << Received(other, "chat", 1)
        >> Says(talk, 2, "t")
        << Received(t, "chat", 2)
        << Report(t, "good", "t delivered")
    )
    assert play
    if reads == "soon":
        assert play >> SocketDrains(other) << Received(other, "chat", 2)
    else:
        assert play >> Passes(UNREAD_S) << Effect(Deposit, deposit, username="t", data=2)
        assert (
            play
            >> Deposited(deposit)
            >> SocketDrains(other)
            << Effect(ReadMailbox, session=other)
            >> MailboxRead(other, deposit)
            << Received(other, "chat", 2)
            << Effect(RemoveLetter)
            << Effect(ReadMailbox, session=other)
        )


# -- sessions ---------------------------------------------------------------------------------------------------


def test_presence_is_told_of_the_first_session_and_the_last(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    first, other = Session("t", "j.example"), Session("t", "j.example")
    assert (
        Playbook(world)
        >> Comes(other)
        >> Leaves(other)
        >> Sends(t, "chat")
        << Asked(chat)
        >> Leaves(t)
        << Effect(PresenceChanged, username="t", online=False)
        >> Comes(first)
        << Effect(PresenceChanged, username="t", online=True)
        >> Answers(chat, clients("t"))
        << Received(first, "chat")
    )


def test_when_the_server_stops_nothing_is_waited_for(world: World, talk: Talk) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    play = Playbook(world)
    assert play >> Says(talk, 1, "g") << Received(g, "chat", 1, id=id)
    assert world.exchange.reports.under_way == 1
    assert (
        play
        >> Calls(world.exchange.deliveries.give_up_waiting)
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
    )
    assert world.exchange.reports.under_way == 0
    assert g.late


# -- acknowledgements -------------------------------------------------------------------------------------------


def test_another_servers_report_does_not_wait_long(world: World, talk: Talk) -> None:
    g, peer, chat = acking(world), world.peer("l.example"), talk.chat
    first, second, deposit = Placeholder(), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(peer, "chat", 1, id="7")
        << Asked(chat, 1)
        >> Answers(chat, clients("g"), payload={"data": 1})
        << Received(g, "chat", 1, id=first)
        >> Sends(talk.t, "chat", 2)
        << Asked(chat, 2)
        >> Answers(chat, clients("g"), payload={"data": 2})
        << Received(g, "chat", 2, id=second)
        >> Passes(SERVER_S)
        << Effect(Deposit, deposit, id=first)
        >> Deposited(deposit)
        << Report(peer, "good", "g stored", id="7")
        >> Acknowledges(g, first)
        << Effect(RemoveLetter, username="g", id=first)
    )


def test_a_reply_holds_up_no_report(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    id = Placeholder()
    assert (
        Playbook(world)
        >> Sends(g, "echo", 1, id="7")
        << Asked(echo)
        >> Answers(echo, REPLY, payload={"data": 2})
        << Received(g, "echo", 2, id=id)
        << Report(g, "good", id="7")
        >> Leaves(g)
        << Effect(PresenceChanged, online=False)
        << Effect(Deposit, id=id)
    )
    assert not g.late


@pytest.mark.parametrize("phase", Phase)
def test_a_reply_comes_before_the_report_in_whatever_phase_the_session_is(world: World, phase: Phase) -> None:
    echo, g, id = world.handler("echo"), acking(world), Placeholder()
    g.phase = phase
    assert (
        Playbook(world)
        >> Sends(g, "echo", 1, id="7")
        << Asked(echo)
        >> Answers(echo, REPLY, payload={"data": 2})
        << Received(g, "echo", 2, id=id)
        << Report(g, "good", id="7")
    )


# -- full sockets -----------------------------------------------------------------------------------------------


def test_a_session_whose_socket_stays_full_finds_the_rest_in_the_mailbox(world: World, talk: Talk) -> None:
    g, t = world.session("g"), talk.t
    first, second = Placeholder(), Placeholder()
    play = (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1)
        >> Says(talk, 2, "g")
        >> Passes(UNREAD_S)
        << Effect(Deposit, first, data=1)
        << Effect(Deposit, second, data=2)
        >> Deposited(first)
        << Report(t, "good", "g stored")
        >> Deposited(second)
        << Report(t, "good", "g stored")
    )
    assert play
    one, two = (deposit().delivery.id for deposit in (first, second))
    assert (
        play
        >> SocketDrains(g)
        << Effect(RemoveLetter, username="g", id=one)  # the socket had it
        << Effect(ReadMailbox, session=g)
        >> MailboxRead(g, second)
        << Received(g, "chat", 2)
        << Effect(RemoveLetter, username="g", id=two)
        << Effect(ReadMailbox, session=g)
        >> MailboxRead(g)
    )
    assert world.exchange.presence.find("g").direct  # type: ignore[union-attr]


def test_a_session_that_never_reads_is_cut_off_at_last(world: World, talk: Talk) -> None:
    g, deposit = world.session("g"), Placeholder()
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1)
        >> Passes(UNREAD_S)
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
        >> Passes(CUT_OFF_S)
        << Effect(CutOff, session=g)
    )


def test_a_session_that_never_reads_is_cut_off_even_while_it_asks(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    asks = Sends(g, "echo"), Answers(echo, REPLY)
    gets = Asked(echo), Received(g, "echo", id=ANY), Report(g, "good")
    play = Playbook(world) >> SocketFills(g) >> asks[0] << gets[0] >> asks[1] << gets[1] << gets[2]
    assert play >> Passes(ACK_S) << Effect(Deposit)  # it does not read: from now on it has a while
    assert play >> asks[0] << gets[0] >> asks[1] << gets[1] << gets[2]
    assert play >> Passes(CUT_OFF_S) << Effect(Deposit) << Effect(CutOff, session=g)


def test_the_queue_of_a_full_socket_is_bounded(world: World, talk: Talk) -> None:
    g = world.session("g")
    deposits = [Placeholder() for _ in range(4)]
    big = "x" * (QUEUE_BYTES // 3)
    play = (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 0, "g")
        << Received(g, "chat", 0)
        >> Says(talk, big, "g")
        >> Says(talk, big, "g")
        >> Says(talk, big, "g")
        << Effect(Deposit, deposits[0], data=0)
        << Effect(Deposit, deposits[1], data=big)
        << Effect(Deposit, deposits[2], data=big)
        << Effect(Deposit, deposits[3], data=big)
    )
    assert play
    assert (len(g.queue), g.queue_bytes) == (0, 0)
    for deposit in deposits:
        assert play >> Deposited(deposit) << Report(talk.t, "good", "g stored")


def test_a_session_that_ends_with_unwritten_frames_loses_nothing(world: World, talk: Talk) -> None:
    g, t, deposit = world.session("g"), talk.t, Placeholder()
    assert (
        Playbook(world)
        >> Together(Says(talk, 1, "G", "t"), Leaves(g))
        << Effect(PresenceChanged, username="g", online=False)
        << Effect(Deposit, deposit, to="G", data=1)
        << Received(t, "chat", 1)
        >> Deposited(deposit)
        << Report(t, "good", "G stored", "t delivered")
    )


# -- several sessions -------------------------------------------------------------------------------------------


def test_a_session_that_comes_is_given_what_no_other_has(world: World, talk: Talk) -> None:
    g, late, t = acking(world), Session("g", "j.example"), talk.t
    one, two, first, second = (Placeholder() for _ in range(4))
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=one)
        >> SocketFills(late)
        >> Comes(late)
        << Received(late, "chat", 1)
        >> Says(talk, 2, "g")
        << Received(g, "chat", 2, id=two)
        >> Leaves(g)
        << Effect(Deposit, first, id=one)
        << Effect(Deposit, second, id=two)
        >> Deposited(first)
        << Report(t, "good", "g stored")
        >> Deposited(second)
        << Report(t, "good", "g stored")
        >> SocketDrains(late)
        << Effect(RemoveLetter, id=one)
        << Received(late, "chat", 2)
        << Effect(RemoveLetter, id=two)
    )
    assert late.phase is Phase.LIVE


def test_what_an_account_has_is_not_given_to_a_session_that_comes(world: World, talk: Talk) -> None:
    g, id = acking(world), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        >> Comes(Session("g", "j.example"))
    )


def test_a_session_that_comes_in_the_same_batch_is_not_behind(world: World, talk: Talk) -> None:
    g, late, t = world.session("g"), Session("g", "j.example"), talk.t
    deposit = Placeholder()
    assert (
        Playbook(world)
        >> Together(Says(talk, 1, "g"), Comes(late), Says(talk, 2, "g"), Leaves(g))
        << Effect(Deposit, deposit, data=1)
        << Received(late, "chat", 1)
        << Received(late, "chat", 2)
        << Effect(RemoveLetter, username="g")
        << Report(t, "good", "g delivered")
        << Report(t, "good", "g delivered")
        >> Deposited(deposit)
        << Effect(RemoveLetter, username="g")
    )


def test_a_session_that_comes_to_a_mailbox_finds_what_others_left_there(world: World, talk: Talk) -> None:
    g, late = acking(world), Session("g", "j.example")
    id, deposit = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Comes(late, has_mail=True)
        << Effect(ReadMailbox, session=late)
        << Effect(Deposit, deposit, id=id)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
        >> MailboxRead(late, deposit)
        << Received(late, "chat", 1)
        << Effect(RemoveLetter, id=id)
        << Effect(ReadMailbox, session=late, after=1)
    )


def test_two_sessions_that_end_unwritten_keep_a_message_once(world: World, talk: Talk) -> None:
    one, two, deposit = world.session("g"), world.session("g"), Placeholder()
    assert (
        Playbook(world)
        >> Together(Says(talk, 1, "g"), Leaves(one), Leaves(two))
        << Effect(PresenceChanged, username="g", online=False)
        << Effect(Deposit, deposit, data=1)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
    )
    assert world.exchange.batch.counters.deliveries == 0


# -- what comes late --------------------------------------------------------------------------------------------


def test_of_several_recipients_only_the_account_whose_session_ends_is_kept_for(world: World, talk: Talk) -> None:
    g, h, t, deposit = world.session("g"), world.session("h"), talk.t, Placeholder()
    assert (
        Playbook(world)
        >> Together(Says(talk, 1, "h"), Says(talk, 2, "h", "a b", "H", "G"), Leaves(g))
        << Effect(PresenceChanged, username="g")
        << Effect(Deposit, deposit, to="G", data=2)
        << Received(h, "chat", 1)
        << Received(h, "chat", 2)
        << Report(t, "good", "h delivered")
        >> Deposited(deposit)
        << Report(t, "unknownAccount", "h delivered", "a b failed unknownAccount", "G stored")
    )


def test_what_a_session_that_has_ended_says_changes_nothing(world: World, talk: Talk) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Leaves(g)
        << Effect(PresenceChanged)
        << Effect(Deposit, deposit)
        >> SocketDrains(g)
        >> Acknowledges(g, "unknown")
    )


def test_a_session_that_acknowledges_all_while_its_socket_is_full_owes_nothing(world: World, talk: Talk) -> None:
    g, id = acking(world), Placeholder()
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        >> Passes(ACK_S)
        >> SocketDrains(g)
    )
    assert g not in world.exchange.window.owing
    assert g.phase is Phase.LIVE


def test_another_servers_report_waits_for_a_second(world: World, talk: Talk) -> None:
    g, peer, id = acking(world), world.peer("l.example"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(peer, "chat", 1)
        << Asked(talk.chat)
        >> Answers(talk.chat, clients("g"), data=1)
        << Received(g, "chat", 1, id=id)
        >> Passes(SERVER_S / 2)
        >> Acknowledges(g, id)
        << Report(peer, "good", "g delivered")
    )
