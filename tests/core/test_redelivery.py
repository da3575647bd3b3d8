"""What sessions leave unacknowledged is given again, and holds up nothing else (docs/protocol.md, section 4.3)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from tests.core.events import Acknowledges, Calls, Comes, Deposited, Leaves, MailboxRead, Passes, Says
from tests.core.playbook import Effect, Placeholder, Playbook, Received, Report
from tests.core.world import Store, Talk, World, acking, given

from bester.core import redelivery, replay, window
from bester.core.delivery import UNREAD_S
from bester.core.effects import Deposit, PresenceChanged, ReadMailbox, RemoveLetter
from bester.core.redelivery import ACK_S, LOOK_S, PAUSE_S, TRIES, pause_s
from bester.core.session import Phase, Session
from bester.core.window import WINDOW_MESSAGES


@pytest.fixture
def store(world: World) -> Store:
    return Store(world)


def data(world: World, session: Session) -> list[Any]:
    return [one for _, one in given(world, session)]


def acknowledge(world: World, session: Session, *numbers: int) -> None:
    """Acknowledges messages by their data."""
    found = [id for id, one in session.unacked.items() if int(bytes(one.data)) in numbers]
    world.exchange.deliveries.acknowledged(session, found)


def test_one_message_that_is_not_acknowledged_is_given_again_and_holds_up_nothing(
    world: World, talk: Talk, store: Store
) -> None:
    g, t, counters = acking(world), talk.t, world.exchange.batch.counters
    left, one, two, three = (Placeholder() for _ in range(4))
    play = (
        Playbook(world, store)
        >> Says(talk, 0, "g")
        << Received(g, "chat", 0, id=left)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=one)
        >> Says(talk, 2, "g")
        << Received(g, "chat", 2, id=two)
        >> Acknowledges(g, one, two)
        << Report(t, "good", "g delivered")
        << Report(t, "good", "g delivered")
        >> Passes(ACK_S)
        << Report(t, "good", "g stored")
        << Received(g, "chat", 0, id=left)
    )
    assert play
    assert counters.given_again == 1
    assert (
        play
        >> Says(talk, 3, "g")
        << Received(g, "chat", 3, id=three)  # at once
        >> Acknowledges(g, three)
        << Report(t, "good", "g delivered")
        >> Passes(ACK_S)  # the pause grows
    )
    assert (g.phase, len(g.unacked)) == (Phase.LIVE, 0)
    assert play >> Passes(ACK_S) << Received(g, "chat", 0, id=left) >> Acknowledges(g, left)
    assert store.letters == {} == world.exchange.redelivery.unacknowledged
    assert play >> Passes(PAUSE_S)
    assert world.at_rest(t)


def test_several_are_given_again_in_their_order(world: World, talk: Talk, store: Store) -> None:
    g, t = acking(world), talk.t
    ids = [Placeholder() for _ in range(4)]
    play = Playbook(world, store)
    for number, id in enumerate(ids):
        assert play >> Says(talk, number, "g") << Received(g, "chat", number, id=id)
    play = play >> Acknowledges(g, ids[2]) << Report(t, "good", "g delivered") >> Passes(ACK_S)
    for number in (0, 1, 3):
        play = play << Received(g, "chat", number, id=ids[number]) << Report(t, "good", "g stored")
    assert play


def test_what_is_acknowledged_while_the_mailbox_is_read_is_not_given_again(world: World, talk: Talk) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 0, "g")
        << Received(g, "chat", 0, id=id)
        >> Passes(ACK_S)
        << Effect(Deposit, deposit, id=id)
        << Effect(ReadMailbox, session=g)
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        << Effect(RemoveLetter, id=id)
        >> MailboxRead(g, deposit)  # it was read before
        << Effect(ReadMailbox, session=g)
    )


def test_a_message_is_acknowledged_while_it_waits_to_be_given_again(world: World, talk: Talk, store: Store) -> None:
    g, left = acking(world), Placeholder()
    play = (
        Playbook(world, store)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=left)
        >> Passes(ACK_S)
        << Report(talk.t, "good", "g stored")
        << Received(g, "chat", 1, id=left)
        >> Passes(ACK_S)
    )
    assert play
    assert (list(g.late), list(g.unacked)) == ([left()], [])
    assert play >> Passes(0.25) >> Acknowledges(g, left)
    assert (store.taken, store.letters, g.late) == ([left()], {}, {})


def test_a_message_is_acknowledged_before_it_is_on_disk(world: World, talk: Talk) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 1, "g")
        << Received(g, "chat", 1, id=id)
        >> Passes(ACK_S)
        << Effect(Deposit, deposit)
        << Effect(ReadMailbox)
        >> Acknowledges(g, id)
        << Report(talk.t, "good", "g delivered")
        << Effect(RemoveLetter, username="g", id=id)
        >> Deposited(deposit)
        << Effect(RemoveLetter, username="g", id=id)  # behind it
    )


def test_a_reply_is_acknowledged_before_it_is_on_disk(world: World) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Calls(world.exchange.deliveries.reply, g, "chat", Raw(b"5"), b'"1"')
        << Received(g, "chat", 5, id=id)
        >> Passes(ACK_S)
        << Effect(Deposit, deposit)
        << Effect(ReadMailbox)
        >> Acknowledges(g, id)
        << Effect(RemoveLetter, username="g", id=id)
        >> Deposited(deposit)
        << Effect(RemoveLetter, username="g", id=id)  # behind it
    )


def test_a_session_that_acknowledges_nothing_gets_the_others_too(world: World, talk: Talk, store: Store) -> None:
    g = acking(world)
    for number in range(WINDOW_MESSAGES + 10):
        talk.say(number, "g")
    assert data(world, g) == list(range(WINDOW_MESSAGES))
    store.wait(UNREAD_S)  # what is beyond the window need not wait longer for its report
    assert talk.statuses() == [["stored"]] * (WINDOW_MESSAGES + 10)
    seen: list[int] = []
    for _ in range(4):
        store.wait(ACK_S)
        seen += data(world, g)
    assert set(range(WINDOW_MESSAGES, WINDOW_MESSAGES + 10)) <= set(seen)
    other = acking(world, has_mail=True)
    store.work()
    assert data(world, other)[:3] == [0, 1, 2]  # it has had none of them


def test_what_is_passed_over_becomes_a_dead_letter(world: World, talk: Talk, store: Store) -> None:
    g = acking(world)
    talk.say(0, "g")
    left = next(iter(g.unacked))
    number = 0
    while not store.buried:
        number += 1
        assert number < 1000
        talk.say(number, "g")
        world.got(g)
        acknowledge(world, g, number)
        store.work()
        store.wait(ACK_S)
    (buried,) = store.buried
    assert (buried.delivery.id, buried.delivery.username, buried.tries) == (left, "g", TRIES)
    assert world.exchange.batch.counters.drops.by_what()["letter"] == {"unacknowledged": 1}
    world.got(g)
    store.wait(PAUSE_S)
    assert data(world, g) == []
    assert world.exchange.redelivery.unacknowledged == {}


def test_what_is_given_up_while_the_mailbox_is_read_is_not_given_again(world: World, talk: Talk, store: Store) -> None:
    g = acking(world)
    talk.say(0, "g")
    for _ in range(TRIES - 1):
        store.wait(PAUSE_S)
    given(world, g)
    page = list(store.letters.values())
    world.exchange.replay.mail_came("g")
    world.effects()  # the page is read before the letter is given up
    store.wait(ACK_S)
    assert len(store.buried) == 1
    world.exchange.replay.page(g, page)
    assert given(world, g) == []


def test_what_waits_behind_a_slow_message_is_not_given_up(world: World, talk: Talk, store: Store) -> None:
    acking(world)
    for number in range(3):
        talk.say(number, "g")
    while not store.buried:
        store.wait(ACK_S)
    assert [bytes(one.delivery.data) for one in store.buried] == [b"0"]
    for _ in range(TRIES - 2):
        store.wait(PAUSE_S)
    assert len(store.letters) == 2
    while len(store.buried) < 3:
        store.wait(ACK_S)
    assert store.letters == {}


def test_a_client_that_is_slow_but_goes_on_loses_nothing(
    world: World, talk: Talk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (window, replay):
        monkeypatch.setattr(module, "WINDOW_MESSAGES", 8)
    monkeypatch.setattr(replay, "_MIN_PAGE", 2)
    g = acking(world)
    for number in range(100):
        talk.say(number, "g")
    inbox: dict[str, None] = {}
    for at in range(100):
        for _ in range(30):  # some minutes for each message
            inbox.update((id or "", None) for id, _ in given(world, g))
            store.wait(13.0)
        world.exchange.deliveries.acknowledged(g, [list(inbox)[at]])
        store.work()
    assert (store.buried, store.letters, len(inbox)) == ([], {}, 100)


def test_what_was_given_again_does_not_pass_over_what_came_after_it(world: World, talk: Talk, store: Store) -> None:
    g = acking(world)
    talk.say(0, "g")
    store.wait(ACK_S)  # it is given again
    store.wait(ACK_S / 2)
    talk.say(1, "g")
    talk.say(2, "g")
    last = list(g.unacked)[-1]
    store.wait(ACK_S)
    store.wait(ACK_S / 2)
    assert int(bytes(list(g.unacked.values())[-1].data)) == 0  # for the third time, after the others
    acknowledge(world, g, 0)
    store.wait(ACK_S / 2)
    known = world.exchange.redelivery.unacknowledged[last]
    assert (known.given, known.tries) == (2, 0)


def test_a_client_that_connects_again_does_not_begin_anew(world: World, talk: Talk, store: Store) -> None:
    g, id = acking(world), Placeholder()
    play = Playbook(world, store) >> Says(talk, 0, "g") << Received(g, "chat", 0, id=id)
    for number in range(TRIES - 1):
        play = play >> Passes(PAUSE_S) << Received(g, "chat", 0, id=id)
        if not number:
            play <<= Report(talk.t, "good", "g stored")
        play = play >> Leaves(g) << Effect(PresenceChanged, online=False)
        g = Session("g", "j.example", features=("ack",))
        play = play >> Comes(g, has_mail=True) << Effect(PresenceChanged, online=True) << Received(g, "chat", 0, id=id)
    assert play
    assert not store.buried
    assert play >> Passes(ACK_S)
    assert len(store.buried) == 1


def test_several_sessions_that_acknowledge_nothing_are_one_try_together(world: World, talk: Talk, store: Store) -> None:
    sessions = [acking(world) for _ in range(TRIES)]
    talk.say(0, "g")
    (id,) = sessions[0].unacked
    for number in range(1, 5):  # 30 s, 60 s, 120 s...
        for _ in range(int(pause_s(number) / ACK_S)):
            store.wait(ACK_S)
        known = world.exchange.redelivery.unacknowledged[id]
        assert (known.given, known.tries, store.buried) == (number, number, [])
        assert all(id in session.unacked for session in sessions)
    while not store.buried:
        store.wait(ACK_S)
    assert (len(store.buried), store.buried[0].tries) == (1, TRIES)
    assert world.exchange.batch.now > 1000.0 + 4 * PAUSE_S


def test_transient_messages_are_not_given_again(world: World, talk: Talk) -> None:
    g, id, deposit = acking(world), Placeholder(), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 0, "g", transient=True)
        << Received(g, "chat", 0, id=id)
        >> Passes(ACK_S)
        << Effect(Deposit, deposit, id=id)
        >> Deposited(deposit, "skipped")
        << Report(talk.t, "good", "g skipped")
    )
    assert (g.late, g.unacked) == ({}, {})
    assert world.exchange.redelivery.unacknowledged == {}


@pytest.mark.parametrize("event", ["two leaves", "time passes"])
def test_a_transient_message_that_one_session_acknowledged_is_not_kept_for_another(
    world: World, talk: Talk, event: str
) -> None:
    one, two, id = acking(world), acking(world), Placeholder()
    assert (
        Playbook(world)
        >> Says(talk, 0, "g", transient=True)
        << Received(one, "chat", 0, id=id)
        << Received(two, "chat", 0, id=id)
        >> Acknowledges(one, id)
        << Report(talk.t, "good", "g delivered")
        >> (Leaves(two) if event == "two leaves" else Passes(ACK_S))
    )
    assert world.exchange.redelivery.unacknowledged == {}


def test_a_message_that_is_in_the_mailbox_no_more_is_forgotten(world: World, talk: Talk, store: Store) -> None:
    g, id = acking(world), Placeholder()
    play = (
        Playbook(world, store)
        >> Says(talk, 0, "g")
        << Received(g, "chat", 0, id=id)
        >> Passes(ACK_S)
        << Report(talk.t, "good", "g stored")
        << Received(g, "chat", 0, id=id)
    )
    assert play
    store.letters.clear()  # an operator, or its age
    assert play >> Passes(ACK_S) >> Passes(ACK_S) >> Passes(LOOK_S)
    assert (g.late, g.unacked, g.phase) == ({}, {}, Phase.LIVE)
    assert play >> Passes(LOOK_S)
    assert world.exchange.redelivery.late == {}


def test_what_is_remembered_is_bounded(world: World, talk: Talk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_LATE", 3)
    g = acking(world)
    for number in range(4):
        talk.say(number, "g")
    for _ in range(2):
        store.wait(ACK_S)
    assert (len(world.exchange.redelivery.unacknowledged), len(g.late)) == (4, 3)
    monkeypatch.setattr(redelivery, "MAX_UNACKNOWLEDGED", 4)
    talk.say(4, "g")
    store.wait(ACK_S)
    assert len(world.exchange.redelivery.unacknowledged) == 4


def test_the_pauses_between_givings_grow() -> None:
    assert [pause_s(one) for one in (1, 2, 3, 100)] == [ACK_S, 2 * ACK_S, 4 * ACK_S, PAUSE_S]
