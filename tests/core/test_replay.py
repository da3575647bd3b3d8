"""Messages go into mailboxes, and out of them to sessions that catch up (docs/protocol.md, section 4)."""

from __future__ import annotations

from msgspec import Raw
from tests.core.events import (
    Acknowledges,
    Calls,
    Comes,
    Deposited,
    Leaves,
    MailboxRead,
    Passes,
    Says,
    SocketDrains,
    SocketFills,
    Together,
)
from tests.core.playbook import Effect, Placeholder, Playbook, Received, Report
from tests.core.world import Talk, World, acking

from bester.core.effects import Deposit, PresenceChanged, ReadMailbox, RemoveLetter
from bester.core.redelivery import ACK_S
from bester.core.replay import Letter
from bester.core.session import Phase, Session
from bester.errors import MailboxFull


def session_for(world: World, takes: frozenset[str] | None) -> Session:
    return world.session("g", features=("ack",), takes=takes)


def test_new_messages_stand_behind_those_in_the_mailbox(world: World, talk: Talk) -> None:
    g, t = Session("g", "j.example", features=("ack",)), talk.t
    first, second, one, two = (Placeholder() for _ in range(4))
    play = (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Effect(Deposit, first)
        >> Comes(g)  # while the message is on its way to the mailbox
        << Effect(PresenceChanged, username="g", online=True)
        << Effect(ReadMailbox, session=g, after=0)
        >> Says(talk, 2, "g")
        << Effect(Deposit, second)
        >> MailboxRead(g)  # the read was before the write
    )
    assert play
    assert g.phase is Phase.CATCHING_UP
    assert (
        play
        >> Deposited(first)
        << Report(t, "good", "g stored")
        >> Deposited(second)
        << Report(t, "good", "g stored")
        << Effect(ReadMailbox, session=g, after=0)
        >> MailboxRead(g, first, second)
        << Received(g, "chat", 1, id=one)
        << Received(g, "chat", 2, id=two)
        << Effect(ReadMailbox, session=g, after=2)
        >> MailboxRead(g)
    )
    assert (one(), two()) == (first().delivery.id, second().delivery.id)
    assert g.phase.value == "live"


def test_what_is_not_acknowledged_when_the_session_ends_goes_to_the_mailbox(world: World, talk: Talk) -> None:
    g, t = acking(world), talk.t
    zero, one, two, first, last = (Placeholder() for _ in range(5))
    assert (
        Playbook(world)
        >> Says(talk, 0, "g")
        << Received(g, "chat", 0, id=zero)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=one)
        >> Says(talk, 2, "g")
        << Received(g, "chat", 2, id=two)
        >> Acknowledges(g, one)
        << Report(t, "good", "g delivered")
        >> Leaves(g)
        << Effect(PresenceChanged, username="g", online=False)
        << Effect(Deposit, first, id=zero)
        << Effect(Deposit, last, id=two)
        >> Deposited(first)
        << Report(t, "good", "g stored")
        >> Deposited(last, "failed", MailboxFull())
        << Report(t, "mailboxFull", "g failed mailboxFull")
    )
    assert world.at_rest(t, talk.chat)


def test_transient_messages_are_never_kept(world: World, talk: Talk) -> None:
    g, t = acking(world), talk.t
    id, deposit = Placeholder(), Placeholder()
    play = Playbook(world)
    g.phase = Phase.CATCHING_UP
    assert (
        play
        >> Says(talk, 1, "g", transient=True)
        << Received(g, "chat", 1, id=id)  # out of order, rather than not at all
        >> Acknowledges(g, id)
        << Report(t, "good", "g delivered")
        << Effect(ReadMailbox)
    )
    g.phase = Phase.STALLED
    assert (
        play
        >> Says(talk, 2, "g", transient=True)
        << Effect(Deposit, deposit, transient=True)
        >> Deposited(deposit, "skipped")
        << Report(t, "good", "g skipped")
    )


def test_a_lost_letter_that_no_report_tells_of_is_counted(world: World, talk: Talk) -> None:
    g, two = acking(world), Session("g", "j.example", features=("ack",))
    id, reply, deposit, kept = (Placeholder() for _ in range(4))
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Comes(two)
        << Received(two, "chat", 1, id=id)
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        >> Leaves(two)
        << Effect(Deposit, kept, id=id)
        >> Calls(world.exchange.deliveries.reply, g, "chat", Raw(b"5"), b'"1"')
        << Received(g, "chat", 5, id=reply)
        >> Leaves(g)
        << Effect(PresenceChanged, online=False)
        << Effect(Deposit, deposit, id=reply)
        >> Deposited(deposit, "failed", MailboxFull())
    )
    assert world.exchange.batch.counters.drops.by_what() == {"letter": {"mailboxFull": 1}}


def test_a_reply_that_its_session_does_not_have_goes_to_another_session(world: World) -> None:
    asking, other = world.session("g", features=("ack",)), world.session("g", features=("ack",))
    reply, deposit = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Calls(world.exchange.deliveries.reply, asking, "chat", Raw(b"5"), b'"1"')
        << Received(asking, "chat", 5, id=reply)
        >> Leaves(asking)
        << Effect(Deposit, deposit, id=reply)
        << Effect(ReadMailbox, session=other)
        >> Deposited(deposit)
        >> MailboxRead(other, Letter(1, "0-1", "chat", b"5"))
        << Received(other, "chat", 5, id=reply)
        << Effect(ReadMailbox, session=other)
    )


def test_a_mailbox_that_cannot_be_read_is_read_again(world: World) -> None:
    g = Session("g", "j.example")
    assert (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox, session=g, after=0, limit=256)
        >> Calls(world.exchange.replay.failed, g)
        >> Passes(0)
        << Effect(ReadMailbox, session=g, after=0, limit=256)
    )


def test_a_page_from_before_a_stall_is_read_again(world: World) -> None:
    g = Session("g", "j.example", features=("ack",))
    assert (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox, after=0)
        >> MailboxRead(g, Letter(5, "five", "chat", b"5"))
        << Received(g, "chat", 5, id="five")
        << Effect(ReadMailbox, after=5)
        >> Passes(ACK_S)
        >> Acknowledges(g, "five")
        << Effect(RemoveLetter, id="five")
        >> MailboxRead(g, Letter(6, "six", "chat", b"6"))
        << Effect(ReadMailbox, after=0)
    )


def test_mail_is_bounded_by_its_bytes(world: World) -> None:
    g, big = Session("g", "j.example", features=("ack",)), "x" * 700_000
    assert (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox)
        >> MailboxRead(g, Letter(1, "one", "chat", b'"%b"' % big.encode()))
        << Received(g, "chat", big, id="one")
        >> Acknowledges(g, "one")
        << Effect(RemoveLetter, id="one")
        << Effect(ReadMailbox, after=1)
    )


def test_a_deposit_lets_a_session_read_on_only_if_it_has_room(world: World, talk: Talk) -> None:
    g, big, deposit = Session("g", "j.example", features=("ack",)), "x" * 700_000, Placeholder()
    assert (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged)
        << Effect(ReadMailbox)
        >> MailboxRead(g, Letter(1, "one", "chat", b'"%b"' % big.encode()))
        << Received(g, "chat", big, id="one")
        >> Says(talk, 2, "g")
        << Effect(Deposit, deposit)
        >> Deposited(deposit)
        << Report(talk.t, "good", "g stored")
        >> Acknowledges(g, "one")
        << Effect(RemoveLetter, id="one")
        << Effect(ReadMailbox, after=1)
    )


def test_sessions_of_one_account_share_what_one_would_hold(world: World) -> None:
    """However many read a full mailbox and acknowledge nothing, an account costs little more than one session."""
    for _ in range(64):
        acking(world, has_mail=True)
    pages = [effect for effect in world.effects() if isinstance(effect, ReadMailbox)]
    assert [(pages[at].limit, pages[at].max_bytes) for at in (0, 1, 15, 63)] == [
        (256, 1024 * 1024),
        (128, 512 * 1024),
        (16, 64 * 1024),
        (16, 64 * 1024),
    ]
    session = pages[-1].session
    for page in range(3):
        start = 16 * page
        world.exchange.replay.page(session, [Letter(at, str(at), "chat", b"1") for at in range(start + 1, start + 17)])
        assert len(session.unacked) == start + 16
    assert len(world.all(ReadMailbox)) == 2  # 48 are enough until it acknowledges some


def test_what_a_socket_took_while_the_mailbox_was_read_is_not_given_again(world: World, talk: Talk) -> None:
    g, other = world.session("g"), acking(world)
    id, deposit = Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Together(Says(talk, 1, "g"), Calls(world.exchange.replay.mail_came, "g"))
        << Effect(Deposit, deposit)
        << Effect(ReadMailbox, session=g, after=0)
        << Effect(ReadMailbox, session=other, after=0)
        << Received(g, "chat", 1)
        << Received(other, "chat", 1, id=id)
        << Effect(RemoveLetter)  # its socket has it now
        << Report(talk.t, "good", "g delivered")
        >> Deposited(deposit)
        << Effect(RemoveLetter)
        >> MailboxRead(g, deposit)
        << Effect(ReadMailbox, session=g, after=1)
        >> MailboxRead(g)
    )
    assert g.phase is Phase.LIVE


def test_what_a_session_was_given_before_goes_into_the_mailbox_before(world: World, talk: Talk) -> None:
    g, news, t = session_for(world, None), session_for(world, frozenset({"news"})), talk.t
    one, two, first, second = (Placeholder() for _ in range(4))
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=one)
        >> Says(talk, 2, "g", payload={"type": "news"})
        << Received(g, "news", 2, id=two)
        << Received(news, "news", 2, id=two)
        >> Leaves(news)
        << Effect(Deposit, first, id=one)
        << Effect(Deposit, second, id=two)
        >> Deposited(first)
        << Report(t, "good", "g stored")
        >> Deposited(second)
        << Report(t, "good", "g stored")
    )


def test_mail_of_types_that_a_session_does_not_take_is_not_looked_for(world: World) -> None:
    news, everything = session_for(world, frozenset({"news"})), session_for(world, None)
    mail_came = world.exchange.replay.mail_came
    assert (
        Playbook(world)
        >> Calls(mail_came, "g", ["chat"])
        << Effect(ReadMailbox, session=everything)
        >> Calls(mail_came, "g", ["chat", "news"])
        << Effect(ReadMailbox, session=news)
        >> MailboxRead(everything)
        << Effect(ReadMailbox, session=everything)  # for what came the second time
        >> MailboxRead(news)
    )
    assert news.phase is Phase.LIVE


def test_mail_that_comes_when_a_full_session_does_not_read_is_found_later(world: World) -> None:
    g = world.session("g", features=("ack",))
    g.phase, g.blocked = Phase.STALLED, True
    assert Playbook(world) >> Calls(world.exchange.replay.mail_came, "g") >> SocketDrains(g) << Effect(ReadMailbox)


def test_a_page_for_a_session_that_has_ended_is_dropped(world: World) -> None:
    g = Session("g", "j.example")
    assert (
        Playbook(world)
        >> Comes(g, has_mail=True)
        << Effect(PresenceChanged, online=True)
        << Effect(ReadMailbox)
        >> Leaves(g)
        << Effect(PresenceChanged, online=False)
        >> MailboxRead(g, Letter(1, "one", "chat", b"1"))
    )
    assert not g.unacked


def test_a_session_that_catches_up_leaves_behind_only_what_nobody_has(world: World, talk: Talk) -> None:
    one, two, t = world.session("g", features=("ack",)), world.session("g", features=("ack",)), talk.t
    had, transient, missing, deposit = (Placeholder() for _ in range(4))
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(one, "chat", 1, id=had)
        << Received(two, "chat", 1, id=had)
        >> Says(talk, 2, "g", transient=True)
        << Received(one, "chat", 2, id=transient)
        << Received(two, "chat", 2, id=transient)
        >> Says(talk, 3, "g")
        << Received(one, "chat", 3, id=missing)
        << Received(two, "chat", 3, id=missing)
        >> Acknowledges(two, had)
        << Report(t, "good", "g delivered")
        >> Calls(world.exchange.replay.mail_came, "g")
        << Effect(Deposit, deposit, id=missing)
        << Effect(ReadMailbox, session=one)
        << Effect(ReadMailbox, session=two)
    )


def test_what_a_socket_took_and_another_session_has_is_not_kept_again(world: World, talk: Talk) -> None:
    g, other = world.session("g"), world.session("g", features=("ack",))
    id = Placeholder()
    assert (
        Playbook(world)
        >> SocketFills(g)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1)
        << Received(other, "chat", 1, id=id)
        >> Acknowledges(other, id)
        << Report(talk.t, "good", "g delivered")
        >> Leaves(g)  # it acknowledges nothing, so that it is not known what it has
    )
