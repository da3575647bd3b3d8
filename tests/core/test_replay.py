"""Messages go into mailboxes, and out of them to sessions that catch up (docs/protocol.md, section 4)."""

from __future__ import annotations

from msgspec import Raw
from tests.core.world import Talk, World, acking, given, letters, stored

from bester.core.effects import Deposit, ReadMailbox
from bester.core.redelivery import ACK_S
from bester.core.replay import Letter
from bester.core.session import Phase
from bester.errors import MailboxFull


def test_new_messages_stand_behind_those_in_the_mailbox(world: World, talk: Talk) -> None:
    talk.say(1, "g")
    (deposit,) = world.all(Deposit)
    g = acking(world)  # comes while the message is on its way to the mailbox
    assert g.phase is Phase.CATCHING_UP
    _, catch_up = world.effects()
    assert isinstance(catch_up, ReadMailbox)
    talk.say(2, "g")
    assert given(world, g) == []
    (behind,) = world.all(Deposit)
    world.exchange.replay.page(g, [])  # the read was before the write
    assert g.phase is Phase.CATCHING_UP
    first, second = stored(world, deposit, behind)
    again = world.only(ReadMailbox)
    assert again.after == catch_up.after == 0
    world.exchange.replay.page(g, letters(first, second))
    assert [data for _, data in given(world, g)] == [1, 2]
    world.exchange.replay.page(g, [])
    assert g.phase.value == "live"
    assert talk.statuses() == [["stored"], ["stored"]]


def test_what_is_not_acknowledged_when_the_session_ends_goes_to_the_mailbox(world: World, talk: Talk) -> None:
    g = acking(world)
    for number in range(3):
        talk.say(number, "g")
    ids = [id for id, _ in given(world, g)]
    world.exchange.deliveries.acknowledged(g, [ids[1] or ""])
    assert talk.statuses() == [["delivered"]]
    world.exchange.deliveries.remove_session(g)
    deposits = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    assert [effect.delivery.id for effect in deposits] == [ids[0], ids[2]]
    assert talk.statuses() == []
    world.exchange.replay.deposited(deposits[0].delivery, "stored")
    world.exchange.replay.deposited(deposits[1].delivery, "failed", MailboxFull())
    assert talk.statuses() == [["stored"], ["failed"]]
    assert world.at_rest(talk.t, talk.chat)


def test_transient_messages_are_never_kept(world: World, talk: Talk) -> None:
    g = acking(world)
    g.phase = Phase.CATCHING_UP
    talk.say(1, "g", transient=True)
    ((id, _),) = given(world, g)  # out of order, rather than not at all
    world.exchange.deliveries.acknowledged(g, [id or ""])
    assert talk.statuses() == [["delivered"]]
    g.phase = Phase.STALLED
    world.effects()
    talk.say(2, "g", transient=True)
    (deposit,) = world.all(Deposit)
    assert deposit.delivery.transient
    world.exchange.replay.deposited(deposit.delivery, "skipped")
    assert talk.statuses() == [["skipped"]]


def test_a_lost_letter_that_no_report_tells_of_is_counted(world: World, talk: Talk) -> None:
    g = acking(world)
    talk.say(1, "g")
    ((id, _),) = given(world, g)
    two = acking(world)
    world.exchange.deliveries.acknowledged(g, [id or ""])
    world.exchange.deliveries.remove_session(two)
    assert talk.statuses() == [["delivered"]]
    world.effects()
    world.exchange.deliveries.reply(g, "chat", Raw(b"5"), "1")
    world.exchange.deliveries.remove_session(g)
    (deposit,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    world.exchange.replay.deposited(deposit.delivery, "failed", MailboxFull())
    assert world.exchange.batch.counters.drops.by_what() == {"letter": {"mailboxFull": 1}}


def test_a_mailbox_that_cannot_be_read_is_read_again(world: World) -> None:
    g = acking(world, has_mail=True)
    (catch_up,) = [effect for effect in world.effects() if isinstance(effect, ReadMailbox)]
    world.exchange.replay.failed(g)
    world.exchange.sweep()
    assert world.only(ReadMailbox) == catch_up


def test_a_page_from_before_a_stall_is_read_again(world: World, talk: Talk) -> None:
    g = acking(world, has_mail=True)
    world.effects()
    world.exchange.replay.page(g, [Letter(5, "five", "chat", b"5")])
    assert world.only(ReadMailbox).after == 5
    world.exchange.batch.now += ACK_S
    world.exchange.sweep()
    world.exchange.deliveries.acknowledged(g, ["five"])
    world.effects()
    world.got(g)
    world.exchange.replay.page(g, [Letter(6, "six", "chat", b"6")])
    assert world.got(g) == []
    assert world.only(ReadMailbox).after == 0


def test_mail_is_bounded_by_its_bytes(world: World) -> None:
    g = acking(world, has_mail=True)
    world.effects()
    world.exchange.replay.page(g, [Letter(1, "one", "chat", b'"' + b"x" * 700_000 + b'"')])
    assert world.effects() == []
    world.exchange.deliveries.acknowledged(g, ["one"])
    assert any(isinstance(effect, ReadMailbox) for effect in world.effects())


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
    g, _ = world.session("g"), acking(world)
    talk.say(1, "g")
    world.exchange.replay.mail_came("g")
    assert [data for _, data in given(world, g)] == [1]  # its socket has it now
    (deposit,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    letter = letters(*stored(world, deposit))
    world.exchange.replay.page(g, letter)
    assert given(world, g) == []
    assert any(isinstance(effect, ReadMailbox) and effect.after == 1 for effect in world.effects())
    world.exchange.replay.page(g, [])
    assert g.phase is Phase.LIVE
