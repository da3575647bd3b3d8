"""Sessions that take some of their account's messages, or none (docs/protocol.md, section 2.2)."""

from __future__ import annotations

from typing import Any

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
    SocketFills,
)
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Received, Report
from tests.core.world import REPLY, Talk, World, clients, given, stored

from bester.core.effects import Deposit, PresenceChanged, ReadMailbox, RemoveLetter, Share, TellNode
from bester.core.endpoint import NodePeer
from bester.core.redelivery import ACK_S
from bester.core.replay import Letter
from bester.core.session import Phase, Session
from bester.core.trail import Trail
from bester.protocol.messages import Payload


def session_taking(world: World, *types: str, username: str = "g", ack: bool = False, **more: Any) -> Session:
    return world.session(username, takes=frozenset(types), features=("ack",) if ack else (), **more)


def test_a_session_that_takes_no_mail_leaves_its_account_away(world: World, talk: Talk) -> None:
    g = session_taking(world)
    presence = world.exchange.presence
    assert (presence.usernames(), presence.all_usernames(), presence.session_count) == (["t"], ["g", "t"], 2)
    assert presence.find("g") is None
    assert (presence.sessions("g"), presence.all_sessions("g")) == ([], [g])
    assert world.effects() == []
    talk.say(1, "g")
    stored(world, *world.all(Deposit))
    assert talk.statuses() == [["stored"]]
    talk.say(2, "g", transient=True)
    world.exchange.replay.deposited(world.only(Deposit).delivery, "skipped")
    # What comes beside it is an ordinary session, and goes again.
    other = world.session("g")
    talk.say(3, "g")
    assert (given(world, other), given(world, g)) == ([(None, 3)], [])
    world.exchange.deliveries.session_blocked(g)
    world.exchange.deliveries.session_unblocked(g)
    world.exchange.deliveries.remove_session(other)
    assert presence.all_usernames() == ["g", "t"]
    second = session_taking(world)
    world.exchange.deliveries.remove_session(g)
    world.exchange.deliveries.remove_session(second)
    assert (presence.all_usernames(), presence.session_count) == (["t"], 1)


def test_a_session_that_takes_no_mail_gets_replies_to_what_it_asked(world: World) -> None:
    chat, t, deposit = world.handler("chat"), session_taking(world, username="t"), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="7")
        << Asked(chat)
        >> Answers(chat, clients("t"), REPLY, payload={"data": 5})
        << Received(t, "chat", 5)
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Report(t, "good", "t stored", id="7")
    )


@pytest.mark.parametrize("types", [(), ("news",)])
def test_a_reply_that_was_not_acknowledged_is_given_again(world: World, types: tuple[str, ...]) -> None:
    chat, t = world.handler("chat"), session_taking(world, *types, username="t", ack=True)
    id, deposit = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Sends(t, "chat", id="7")
        << Asked(chat)
        >> Answers(chat, REPLY, payload={"type": "answer", "data": 5})
        << Received(t, "answer", 5, id=id)
        << Report(t, "good", id="7")
        >> Passes(ACK_S)
        << Effect(Deposit, deposit)
        << Effect(ReadMailbox, session=t)
        >> Deposited(deposit)
        >> MailboxRead(t, deposit)
        << Received(t, "answer", 5, id=id)
        << Effect(ReadMailbox, session=t)
        >> Acknowledges(t, id)
        << Effect(RemoveLetter, username="t", id=id)
    )


@pytest.mark.parametrize("ack", [False, True])
def test_types_that_no_session_takes_stay_in_the_mailbox(world: World, talk: Talk, ack: bool) -> None:
    g, t = session_taking(world, "news", ack=ack), talk.t
    assert world.exchange.presence.usernames() == ["g", "t"]
    kept, id, everything = Placeholder(), Placeholder() if ack else None, Session("g", "j.example")
    play = (
        Playbook(world)
        >> Says(talk, 1, "g", payload={"type": "chat"})
        << Effect(Deposit, kept, data=1)
        >> Says(talk, 2, "g", payload={"type": "news"})
        << Received(g, "news", 2, id=id)
    )
    if not ack:
        play <<= Report(t, "good", "g delivered")
    play = play >> Deposited(kept) << Report(t, "good", "g stored")
    if ack:
        play = play >> Acknowledges(g, id) << Report(t, "good", "g delivered")
    assert (
        play
        # A session that takes everything finds it.
        >> Comes(everything, has_mail=True)
        << Effect(ReadMailbox, session=everything)
        >> MailboxRead(everything, kept)
        << Received(everything, "chat", 1)
        << Effect(RemoveLetter, username="g")
        << Effect(ReadMailbox, session=everything, after=1, limit=128, max_bytes=512 * 1024)
    )


@pytest.mark.parametrize("ack", [False, True])
def test_the_mailbox_is_read_past_what_is_not_taken(world: World, ack: bool) -> None:
    g = Session("g", "j.example", takes=frozenset({"news"}), features=("ack",) if ack else ())
    play = (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged, username="g")
        << Effect(ReadMailbox, after=0)
        >> MailboxRead(g, Letter(1, "one", "chat", b"0"))  # a page in which there is nothing for it
        << Effect(ReadMailbox, after=1)
        >> MailboxRead(g, Letter(2, "two", "news", b"1"))
        << Received(g, "news", 1, id="two" if ack else None)
    )
    letter_is_removed, mailbox_is_read = Effect(RemoveLetter, username="g", id="two"), Effect(ReadMailbox, after=2)
    if ack:
        play = play << mailbox_is_read >> Acknowledges(g, "two") << letter_is_removed
    else:
        play = play << letter_is_removed << mailbox_is_read
    assert play >> MailboxRead(g)
    assert g.phase is Phase.LIVE


def test_what_is_not_acknowledged_is_given_to_a_session_that_takes_it(world: World, talk: Talk) -> None:
    chat, news = session_taking(world, "chat", ack=True), session_taking(world, "news", ack=True)
    everything, again = Session("g", "j.example"), Session("g", "j.example", takes=frozenset({"news"}))
    one, two, deposit = Placeholder(), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g", payload={"type": "chat"})
        << Received(chat, "chat", 1, id=one)
        >> Says(talk, 2, "g", payload={"type": "news"})
        << Received(news, "news", 2, id=two)
        >> SocketFills(everything)
        >> Comes(everything)
        << Received(everything, "chat", 1)
        << Received(everything, "news", 2)
        >> Comes(again)
        << Received(again, "news", 2)
        << Report(talk.t, "good", "g delivered")
        >> Leaves(chat)
        << Effect(Deposit, deposit, id=one)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
    )
    # What goes to the mailbox then is nothing to the sessions for news.
    assert (news.phase, again.phase) == (Phase.LIVE, Phase.LIVE)


@pytest.mark.parametrize("once", [False, True])
def test_a_session_that_comes_gets_what_several_were_given_in_its_order(world: World, once: bool) -> None:
    chat, t, everything = world.handler("chat"), world.session("t"), Session("g", "j.example")
    takers = {type: session_taking(world, type, ack=True) for type in ("chat", "news")}
    play = Playbook(world)
    for number, type in enumerate(("news", "chat", "news"), 1):
        assert (
            play
            >> Sends(t, "chat", id=str(number), once=once)
            << Asked(chat)
            >> Answers(chat, clients("g"), payload={"type": type, "data": number})
            << Received(takers[type], type, number, id=Placeholder())
        )
    assert (
        play
        >> SocketFills(everything)
        >> Comes(everything)
        << Received(everything, "news", 1)
        << Received(everything, "chat", 2)
        << Received(everything, "news", 3)
    )


def test_the_sessions_of_several_nodes_take_different_types(world: World, talk: Talk) -> None:
    g, node = session_taking(world, "news"), NodePeer("b")
    exchange = world.exchange
    assert not exchange.remote.bring(node, 1, "g", "id", "chat", Payload("chat").data)
    assert (
        Playbook(world)
        >> Calls(exchange.remote.bring, node, 2, "g", "id", "news", Payload("news").data)
        << Received(g, "news")
        << Effect(TellNode, node="b")
        >> Calls(exchange.deliveries.share, "g", True)
        >> Says(talk, 1, "g", payload={"type": "chat"})
        << Effect(Deposit, data=1)  # where the others look
        >> Says(talk, 2, "g", payload={"type": "news"})
        << Received(g, "news", 2)
        << Effect(Share, data=2)
        << Report(talk.t, "good", "g delivered")
    )


def test_a_dry_run_tells_which_types_would_go_to_the_mailbox(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    chat.dry_types = frozenset({"chat"})
    session_taking(world, "news")
    for type, step in (("chat", "mailbox"), ("news", "clients")):
        route = Placeholder()
        assert (
            Playbook(world)
            >> Sends(t, "chat", trail=Trail(dry=True))
            << Asked(chat)
            >> Answers(chat, clients("g"), payload={"type": type})
            << Report(t, "good", route=route)
        )
        assert [one["step"] for one in route() if one["name"] == "g"] == [step]
