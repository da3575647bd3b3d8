"""Deliveries to accounts that acknowledge, lag behind, are away or come back (docs/protocol.md, section 4)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from tests.core.conftest import World

from bester.core.delivery import ACK_S, CUT_OFF_S, GIVEN_MESSAGES, QUEUE_BYTES, SERVER_S, UNREAD_S, Letter
from bester.core.endpoints import AttachedHandler, Phase, Session
from bester.core.work import CatchUp, CutOff, Delivery, Deposit, Take
from bester.errors import MailboxFull


class Post:
    """A handler that passes on what t sends, and the store that the tests are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chat: AttachedHandler = world.handler("chat", concurrency=65_536)
        self.t = world.session("t")
        self.asked = 0

    def pass_on(self, data: Any, *names: str, id: str = "", **more: Any) -> None:
        self.world.send(self.t, "chat", data, id=id)
        self.asked += 1
        self.world.answer(
            self.chat, str(self.asked), {"type": "sendClients", "data": list(names), **more}, payload={"data": data}
        )

    def statuses(self) -> list[list[str]]:
        """What t's reports say of their recipients, since the last call."""
        return [
            [result["status"] for result in frame["payload"].get("results", [])] for frame in self.world.got(self.t)
        ]


@pytest.fixture
def post(world: World) -> Post:
    return Post(world)


def given(world: World, session: Session) -> list[tuple[str | None, Any]]:
    """The delivery ids and data that a session was sent."""
    return [(frame["payload"].get("deliveryId"), frame["payload"]["data"]) for frame in world.got(session)]


def stored(world: World, *effects: Deposit) -> list[Delivery]:
    """Says of deposits that they are on disk."""
    for effect in effects:
        world.exchange.deposited(effect.delivery, "stored")
    return [effect.delivery for effect in effects]


def letters(*deliveries: Delivery) -> list[Letter]:
    return [Letter(at, one.id, one.type, bytes(one.data)) for at, one in enumerate(deliveries, 1)]


def acking(world: World, username: str = "g", **more: Any) -> Session:
    return world.session(username, features=("ack",), **more)


# -- acknowledgements -------------------------------------------------------------------------------------------


def test_a_report_waits_for_the_acknowledgement(world: World, post: Post) -> None:
    g = acking(world)
    post.pass_on(1, "g")
    ((id, data),) = given(world, g)
    assert id
    assert data == 1
    assert post.statuses() == []
    world.exchange.acknowledged(g, ["unknown"])
    assert post.statuses() == []
    world.exchange.acknowledged(g, [id])
    assert post.statuses() == [["delivered"]]
    world.exchange.acknowledged(g, [id])
    assert world.effects() == []
    assert world.exchange.counters.deliveries == 1
    assert world.at_rest(post.t, post.chat)


def test_waiting_for_an_acknowledgement_holds_up_nothing_behind_it(world: World, post: Post) -> None:
    g, h = acking(world), world.session("h")
    for number in range(3 * world.exchange.limits.max_in_flight):
        post.pass_on(number, "g")
        world.got(g)
        if number > GIVEN_MESSAGES:
            break
    assert post.t.in_flight == 0
    assert post.t.waiting > 1000
    post.pass_on("on", "h")
    assert world.received(h) == [("chat", "on")]
    assert post.statuses() == [["delivered"]]


def test_what_is_not_acknowledged_when_the_session_ends_goes_to_the_mailbox(world: World, post: Post) -> None:
    g = acking(world)
    for number in range(3):
        post.pass_on(number, "g")
    ids = [id for id, _ in given(world, g)]
    world.exchange.acknowledged(g, [ids[1] or ""])
    assert post.statuses() == [["delivered"]]
    world.exchange.remove_session(g)
    deposits = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    assert [effect.delivery.id for effect in deposits] == [ids[0], ids[2]]
    assert post.statuses() == []
    world.exchange.deposited(deposits[0].delivery, "stored")
    world.exchange.deposited(deposits[1].delivery, "failed", MailboxFull())
    assert post.statuses() == [["stored"], ["failed"]]
    assert world.at_rest(post.t, post.chat)


def test_who_does_not_acknowledge_for_long_is_given_no_more(world: World, post: Post) -> None:
    g = acking(world)
    post.pass_on(1, "g")
    ((id, _),) = given(world, g)
    world.exchange.now += ACK_S
    world.exchange.sweep()
    assert g.phase is Phase.STALLED
    (first,) = stored(world, *world.all(Deposit))
    assert post.statuses() == [["stored"]]
    post.pass_on(2, "g")
    (second,) = stored(world, *world.all(Deposit))
    assert given(world, g) == []
    # It was only slow: the first one leaves the mailbox, then it catches up.
    world.exchange.acknowledged(g, [id or ""])
    take, catch_up = world.effects()
    assert take == Take("g", first.id)
    assert isinstance(catch_up, CatchUp)
    assert catch_up.after == 0
    world.exchange.mail(g, letters(second))
    assert given(world, g) == [(second.id, 2)]
    assert isinstance(world.only(CatchUp), CatchUp)
    world.exchange.mail(g, [])
    assert g.phase.value == "live"
    world.exchange.acknowledged(g, [second.id])
    assert world.only(Take) == Take("g", second.id)


def test_the_first_of_several_sessions_settles_the_result(world: World, post: Post) -> None:
    one, two = acking(world), acking(world)
    post.pass_on(1, "g")
    ((id, _),) = given(world, one)
    assert given(world, two) == [(id, 1)]
    world.exchange.acknowledged(two, [id or ""])
    assert post.statuses() == [["delivered"]]
    # The other one never had it: it finds it in the mailbox when it comes back.
    world.exchange.remove_session(one)
    (delivery,) = stored(world, *world.all(Deposit))
    assert delivery.id == id
    assert world.effects() == []
    assert post.statuses() == []


def test_another_servers_report_does_not_wait_long(world: World, post: Post) -> None:
    g, peer = acking(world), world.peer("l.example")
    world.send(peer, "chat", 1, id="7")
    post.asked += 1
    world.answer(post.chat, "1", {"type": "sendClients", "data": ["g"]}, payload={"data": 1})
    post.pass_on(2, "g")
    (first, _), (second, _) = given(world, g)
    world.exchange.now += SERVER_S
    world.exchange.sweep()
    (delivery,) = stored(world, *world.all(Deposit))
    assert delivery.id in (first, second)
    assert world.report(peer) == {"id": "7", "results": [{"to": "g", "status": "stored"}]}
    assert post.statuses() == []
    world.exchange.acknowledged(g, [delivery.id])
    assert world.only(Take) == Take("g", delivery.id)


def test_a_reply_holds_up_no_report(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    world.send(g, "echo", 1, id="7")
    world.answer(echo, "1", {"type": "reply"}, payload={"data": 2})
    message, report = world.got(g)
    assert message["payload"]["data"] == 2
    assert report["payload"] == {"id": "7"}
    world.exchange.remove_session(g)
    assert world.effects()[-1] == Deposit(next(iter(g.late.values())))


def test_a_message_to_oneself_holds_up_no_report(world: World, post: Post) -> None:
    t = acking(world, "t")
    world.send(t, "chat", 1)
    world.answer(post.chat, "1", {"type": "sendClients", "data": ["t"]}, payload={"data": 1})
    message, report = world.got(t)
    assert "deliveryId" in message["payload"]
    assert report["payload"]["results"] == [{"to": "t", "status": "delivered"}]


# -- full sockets -----------------------------------------------------------------------------------------------


def test_a_report_waits_until_the_socket_takes_the_message(world: World, post: Post) -> None:
    g = world.session("g")
    post.pass_on(1, "g")
    world.exchange.session_blocked(g)  # the server learns of it while it writes
    assert given(world, g) == [(None, 1)]
    assert post.statuses() == []
    post.pass_on(2, "g")
    assert given(world, g) == []
    world.exchange.session_unblocked(g)
    assert given(world, g) == [(None, 2)]
    assert post.statuses() == [["delivered"], ["delivered"]]
    post.pass_on(3, "g")
    assert given(world, g) == [(None, 3)]
    assert world.at_rest(post.t, post.chat)


def test_whose_socket_stays_full_finds_the_rest_in_the_mailbox(world: World, post: Post) -> None:
    g = world.session("g")
    post.pass_on(1, "g")
    world.exchange.session_blocked(g)
    assert given(world, g) == [(None, 1)]
    post.pass_on(2, "g")
    world.exchange.now += UNREAD_S
    world.exchange.sweep()
    first, second = stored(world, *world.all(Deposit))
    assert post.statuses() == [["stored"], ["stored"]]
    world.exchange.session_unblocked(g)
    take, catch_up = world.effects()
    assert take == Take("g", first.id)  # the socket had it
    assert isinstance(catch_up, CatchUp)
    world.exchange.mail(g, letters(second))
    assert given(world, g) == [(None, 2)]
    world.exchange.written()
    take, catch_up = world.effects()
    assert take == Take("g", second.id)
    world.exchange.mail(g, [])
    assert world.exchange.presence.find("g").plain  # type: ignore[union-attr]


def test_who_never_reads_is_cut_off_at_last(world: World, post: Post) -> None:
    g = world.session("g")
    post.pass_on(1, "g")
    world.exchange.session_blocked(g)
    world.got(g)
    world.exchange.now += UNREAD_S
    world.exchange.sweep()
    stored(world, *world.all(Deposit))
    world.exchange.now += CUT_OFF_S
    world.exchange.sweep()
    assert world.only(CutOff).session is g


def test_the_queue_of_a_full_socket_is_bounded(world: World, post: Post) -> None:
    g = world.session("g")
    post.pass_on(0, "g")
    world.exchange.session_blocked(g)
    world.got(g)
    big = "x" * (QUEUE_BYTES // 3)
    for _ in range(2):
        post.pass_on(big, "g")
    assert world.effects() == []
    post.pass_on(big, "g")
    assert len(stored(world, *world.all(Deposit))) == 3
    assert (len(g.queue), g.queue_bytes) == (0, 0)
    assert post.statuses() == [["stored"]] * 3


def test_a_session_that_ends_with_unwritten_frames_loses_nothing(world: World, post: Post) -> None:
    g = world.session("g")
    post.pass_on(1, "G", "t")
    world.exchange.remove_session(g)
    (effect,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    assert (effect.delivery.to, bytes(effect.delivery.data)) == ("G", b"1")
    stored(world, effect)
    (message, report) = world.got(post.t)
    assert message["payload"]["data"] == 1
    assert report["payload"]["results"] == [{"to": "G", "status": "stored"}, {"to": "t", "status": "delivered"}]


def test_a_session_that_came_in_the_same_batch_is_not_trusted(world: World, post: Post) -> None:
    g = world.session("g")
    world.exchange.written()
    post.pass_on(1, "g")
    world.session("g")
    world.exchange.remove_session(g)
    assert [type(effect) for effect in world.effects()] == [Deposit, CatchUp]


# -- the mailbox ------------------------------------------------------------------------------------------------


def test_new_messages_stand_behind_those_in_the_mailbox(world: World, post: Post) -> None:
    post.pass_on(1, "g")
    (deposit,) = world.all(Deposit)
    g = acking(world)  # comes while the message is on its way to the mailbox
    assert g.phase is Phase.CATCHING_UP
    _, catch_up = world.effects()
    assert isinstance(catch_up, CatchUp)
    post.pass_on(2, "g")
    assert given(world, g) == []
    (behind,) = world.all(Deposit)
    world.exchange.mail(g, [])  # the read was before the write
    assert g.phase is Phase.CATCHING_UP
    first, second = stored(world, deposit, behind)
    again = world.only(CatchUp)
    assert again.after == catch_up.after == 0
    world.exchange.mail(g, letters(first, second))
    assert [data for _, data in given(world, g)] == [1, 2]
    world.exchange.mail(g, [])
    assert g.phase.value == "live"
    assert post.statuses() == [["stored"], ["stored"]]


def test_transient_messages_are_never_kept(world: World, post: Post) -> None:
    g = acking(world)
    g.phase = Phase.CATCHING_UP
    post.pass_on(1, "g", transient=True)
    ((id, _),) = given(world, g)  # out of order, rather than not at all
    world.exchange.acknowledged(g, [id or ""])
    assert post.statuses() == [["delivered"]]
    g.phase = Phase.STALLED
    world.effects()
    post.pass_on(2, "g", transient=True)
    (deposit,) = world.all(Deposit)
    assert deposit.delivery.transient
    world.exchange.deposited(deposit.delivery, "skipped")
    assert post.statuses() == [["skipped"]]


def test_a_lost_letter_that_no_report_tells_of_is_counted(world: World, post: Post) -> None:
    g = acking(world)
    post.pass_on(1, "g")
    ((id, _),) = given(world, g)
    two = acking(world)
    world.exchange.acknowledged(g, [id or ""])
    world.exchange.remove_session(two)
    assert post.statuses() == [["delivered"]]
    world.effects()
    world.exchange.reply(g, "chat", Raw(b"5"))
    world.exchange.remove_session(g)
    (deposit,) = [effect for effect in world.effects() if isinstance(effect, Deposit)]
    world.exchange.deposited(deposit.delivery, "failed", MailboxFull())
    assert world.exchange.counters.dropped == {"mailboxFull": 1}


def test_when_the_server_stops_nothing_is_waited_for(world: World, post: Post) -> None:
    g = acking(world)
    post.pass_on(1, "g")
    assert world.exchange.under_way == 1
    world.exchange.give_up_waiting()
    stored(world, *world.all(Deposit))
    assert world.exchange.under_way == 0
    assert g.late


def test_a_reply_comes_before_the_report_whatever_the_session_does(world: World) -> None:
    echo, g = world.handler("echo"), acking(world)
    for phase in Phase:
        g.phase = phase
        world.send(g, "echo", 1, id="7")
        world.answer(echo, next(iter(echo.outstanding)), {"type": "reply"}, payload={"data": 2})
        message, report = world.got(g)
        assert message["payload"]["data"] == 2
        assert report["payload"] == {"id": "7"}


def test_a_mailbox_that_cannot_be_read_is_read_again(world: World) -> None:
    g = acking(world, has_mail=True)
    (catch_up,) = [effect for effect in world.effects() if isinstance(effect, CatchUp)]
    world.exchange.mail_failed(g)
    world.exchange.sweep()
    assert world.only(CatchUp) == catch_up


def test_a_page_from_before_a_stall_is_read_again(world: World, post: Post) -> None:
    g = acking(world, has_mail=True)
    world.effects()
    world.exchange.mail(g, [Letter(5, "five", "chat", b"5")])
    assert world.only(CatchUp).after == 5
    world.exchange.now += ACK_S
    world.exchange.sweep()
    world.exchange.acknowledged(g, ["five"])
    world.effects()
    world.got(g)
    world.exchange.mail(g, [Letter(6, "six", "chat", b"6")])
    assert world.got(g) == []
    assert world.only(CatchUp).after == 0


def test_mail_is_bounded_by_its_bytes(world: World) -> None:
    g = acking(world, has_mail=True)
    world.effects()
    world.exchange.mail(g, [Letter(1, "one", "chat", b'"' + b"x" * 700_000 + b'"')])
    assert world.effects() == []
    world.exchange.acknowledged(g, ["one"])
    assert any(isinstance(effect, CatchUp) for effect in world.effects())
