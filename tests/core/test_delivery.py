"""Deliveries to accounts that acknowledge, lag behind, are away or come back (docs/protocol.md, section 4)."""

from __future__ import annotations

from tests.core.world import Talk, World, acking, given, letters, stored

from bester.core.delivery import CUT_OFF_S, QUEUE_BYTES, SERVER_S, UNREAD_S
from bester.core.effects import CutOff, Deposit, PresenceChanged, ReadMailbox, RemoveLetter
from bester.core.session import Phase

# -- sessions ---------------------------------------------------------------------------------------------------


def test_presence_is_told(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    other = world.session("t")
    assert world.effects() == []
    world.exchange.deliveries.remove_session(other)
    assert world.effects() == []
    world.send(t, "chat")
    world.exchange.deliveries.remove_session(t)
    assert world.only(PresenceChanged) == PresenceChanged("t", False)
    world.exchange.deliveries.add_session(other)
    assert world.only(PresenceChanged) == PresenceChanged("t", True)
    world.answer(chat, "1", {"type": "sendClients", "data": ["t"]})
    assert world.got(t) == []
    assert world.received(other)


def test_when_the_server_stops_nothing_is_waited_for(world: World, talk: Talk) -> None:
    g = acking(world)
    talk.say(1, "g")
    assert world.exchange.reports.under_way == 1
    world.exchange.deliveries.give_up_waiting()
    stored(world, *world.all(Deposit))
    assert world.exchange.reports.under_way == 0
    assert g.late


# -- acknowledgements -------------------------------------------------------------------------------------------


def test_another_servers_report_does_not_wait_long(world: World, talk: Talk) -> None:
    g, peer = acking(world), world.peer("l.example")
    world.send(peer, "chat", 1, id="7")
    talk.asked += 1
    world.answer(talk.chat, "1", {"type": "sendClients", "data": ["g"]}, payload={"data": 1})
    talk.say(2, "g")
    (first, _), (second, _) = given(world, g)
    world.exchange.batch.now += SERVER_S
    world.exchange.sweep()
    (delivery,) = stored(world, *world.all(Deposit))
    assert delivery.id in (first, second)
    assert world.report(peer) == {"id": "7", "results": [{"to": "g", "status": "stored"}]}
    assert talk.statuses() == []
    world.exchange.deliveries.acknowledged(g, [delivery.id])
    assert world.only(RemoveLetter) == RemoveLetter("g", delivery.id)


def test_a_reply_holds_up_no_report(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    world.send(g, "echo", 1, id="7")
    world.answer(echo, "1", {"type": "reply"}, payload={"data": 2})
    message, report = world.got(g)
    assert message["payload"]["data"] == 2
    assert report["payload"] == {"id": "7"}
    world.exchange.deliveries.remove_session(g)
    (late,) = g.late.values()
    assert world.effects()[-1] == Deposit(late.delivery)  # type: ignore[arg-type]


def test_a_reply_comes_before_the_report_whatever_the_session_does(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    for phase in Phase:
        g.phase = phase
        world.send(g, "echo", 1, id="7")
        world.answer(echo, next(iter(echo.outstanding)), {"type": "reply"}, payload={"data": 2})
        message, report = world.got(g)
        assert message["payload"]["data"] == 2
        assert report["payload"] == {"id": "7"}


# -- full sockets -----------------------------------------------------------------------------------------------


def test_whose_socket_stays_full_finds_the_rest_in_the_mailbox(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "g")
    world.exchange.deliveries.session_blocked(g)
    assert given(world, g) == [(None, 1)]
    talk.say(2, "g")
    world.exchange.batch.now += UNREAD_S
    world.exchange.sweep()
    first, second = stored(world, *world.all(Deposit))
    assert talk.statuses() == [["stored"], ["stored"]]
    world.exchange.deliveries.session_unblocked(g)
    take, catch_up = world.effects()
    assert take == RemoveLetter("g", first.id)  # the socket had it
    assert isinstance(catch_up, ReadMailbox)
    world.exchange.replay.page(g, letters(second))
    assert given(world, g) == [(None, 2)]
    world.exchange.written()
    take, catch_up = world.effects()
    assert take == RemoveLetter("g", second.id)
    world.exchange.replay.page(g, [])
    assert world.exchange.presence.find("g").direct  # type: ignore[union-attr]


def test_who_never_reads_is_cut_off_at_last(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "g")
    world.exchange.deliveries.session_blocked(g)
    world.got(g)
    world.exchange.batch.now += UNREAD_S
    world.exchange.sweep()
    stored(world, *world.all(Deposit))
    world.exchange.batch.now += CUT_OFF_S
    world.exchange.sweep()
    assert world.only(CutOff).session is g


def test_the_queue_of_a_full_socket_is_bounded(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(0, "g")
    world.exchange.deliveries.session_blocked(g)
    world.got(g)
    big = "x" * (QUEUE_BYTES // 3)
    for _ in range(2):
        talk.say(big, "g")
    assert world.effects() == []
    talk.say(big, "g")
    assert [bytes(one.data)[:1] for one in stored(world, *world.all(Deposit))] == [b"0", b'"', b'"', b'"']
    assert (len(g.queue), g.queue_bytes) == (0, 0)
    assert talk.statuses() == [["stored"]] * 4


def test_a_session_that_ends_with_unwritten_frames_loses_nothing(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "G", "t")
    world.exchange.deliveries.remove_session(g)
    (effect,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    assert (effect.delivery.to, bytes(effect.delivery.data)) == ("G", b"1")
    stored(world, effect)
    (message, report) = world.got(talk.t)
    assert message["payload"]["data"] == 1
    assert report["payload"]["results"] == [{"to": "G", "status": "stored"}, {"to": "t", "status": "delivered"}]


# -- several sessions -------------------------------------------------------------------------------------------


def test_a_session_that_comes_is_given_what_no_other_has(world: World, talk: Talk) -> None:
    g = acking(world)
    talk.say(1, "g")
    late = world.session("g")
    talk.say(2, "g")
    world.exchange.deliveries.remove_session(g)
    stored(world, *world.all(Deposit))
    assert [data for _, data in given(world, late)] == [1, 2]
    assert late.phase is Phase.LIVE
    assert talk.statuses() == [["stored"], ["stored"]]


def test_what_an_account_has_is_not_given_to_a_session_that_comes(world: World, talk: Talk) -> None:
    g = acking(world)
    talk.say(1, "g")
    ((id, _),) = given(world, g)
    world.exchange.deliveries.acknowledged(g, [id or ""])
    assert given(world, world.session("g")) == []


def test_a_session_that_comes_in_the_same_batch_is_not_behind(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "g")
    late = world.session("g")
    talk.say(2, "g")
    world.exchange.deliveries.remove_session(g)
    stored(world, *world.all(Deposit))
    assert given(world, late) == [(None, 1), (None, 2)]
    assert talk.statuses() == [["stored"], ["delivered"]]


def test_a_session_that_comes_to_a_mailbox_finds_it_there(world: World, talk: Talk) -> None:
    acking(world)
    talk.say(1, "g")
    late = world.session("g", has_mail=True)
    catch_up, deposit = world.effects()
    assert isinstance(catch_up, ReadMailbox)
    assert isinstance(deposit, Deposit)
    assert given(world, late) == []
    world.exchange.replay.page(late, letters(*stored(world, deposit)))
    assert given(world, late) == [(None, 1)]


def test_two_sessions_that_end_unwritten_keep_a_message_once(world: World, talk: Talk) -> None:
    sessions = [world.session("g"), world.session("g")]
    talk.say(1, "g")
    for session in sessions:
        world.exchange.deliveries.remove_session(session)
    (effect,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    stored(world, effect)
    assert talk.statuses() == [["stored"]]
    assert world.exchange.batch.counters.deliveries == 0
