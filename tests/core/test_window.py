"""What sessions were given, and do not have yet (docs/protocol.md, section 4)."""

from __future__ import annotations

from msgspec import Raw
from tests.core.world import Talk, World, acking, clients, given, stored

from bester.core.delivery import SERVER_S
from bester.core.effects import Deposit
from bester.core.window import WINDOW_MESSAGES
from bester.errors import MailboxFull
from bester.protocol.messages import Payload


def test_a_report_waits_for_the_acknowledgement(world: World, talk: Talk) -> None:
    g = acking(world)
    talk.say(1, "g")
    ((id, data),) = given(world, g)
    assert id
    assert data == 1
    assert talk.statuses() == []
    world.exchange.deliveries.acknowledged(g, ["unknown"])
    assert talk.statuses() == []
    world.exchange.deliveries.acknowledged(g, [id])
    assert talk.statuses() == [["delivered"]]
    world.exchange.deliveries.acknowledged(g, [id])
    assert world.effects() == []
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
    talk.say(1, "g")
    ((id, _),) = given(world, one)
    assert given(world, two) == [(id, 1)]
    world.exchange.deliveries.acknowledged(two, [id or ""])
    assert talk.statuses() == [["delivered"]]
    # The other one never had it: it finds it in the mailbox when it comes back.
    world.exchange.deliveries.remove_session(one)
    (delivery,) = stored(world, *world.all(Deposit))
    assert delivery.id == id
    assert world.effects() == []
    assert talk.statuses() == []


def test_a_report_waits_until_the_socket_takes_the_message(world: World, talk: Talk) -> None:
    g = world.session("g")
    talk.say(1, "g")
    world.exchange.deliveries.session_blocked(g)  # the server learns of it while it writes
    assert given(world, g) == [(None, 1)]
    assert talk.statuses() == []
    talk.say(2, "g")
    assert given(world, g) == []
    world.exchange.deliveries.session_unblocked(g)
    assert given(world, g) == [(None, 2)]
    assert talk.statuses() == [["delivered"], ["delivered"]]
    talk.say(3, "g")
    assert given(world, g) == [(None, 3)]
    assert world.at_rest(talk.t, talk.chat)


def test_a_message_to_oneself_holds_up_no_report(world: World, talk: Talk) -> None:
    t = acking(world, "t")
    world.send(t, "chat", 1)
    world.answer(talk.chat, "1", {"type": "sendClients", "data": ["t"]}, payload={"data": 1})
    message, report = world.got(t)
    assert "deliveryId" in message["payload"]
    assert report["payload"]["results"] == [{"to": "t", "status": "delivered"}]


def test_a_message_that_is_given_twice_is_counted_once(world: World) -> None:
    chat, peer, g = world.handler("chat"), world.peer("l.example"), acking(world)
    for number in ("1", "2"):
        world.exchange.admission.message(peer, Payload("chat", "7", Raw(b"1")), 100, once=True)
        world.answer(chat, number, clients("g", "carol"), payload={"data": 1})
        (carols,) = world.all(Deposit)
        world.exchange.replay.deposited(carols.delivery, "failed", MailboxFull())
        if number == "1":
            world.exchange.batch.now += SERVER_S
            world.exchange.sweep()
            stored(world, *world.all(Deposit))
            assert world.code(peer) == "mailboxFull"  # for now: so it is sent again
    (first, _), (second, _) = given(world, g)
    assert first == second
    world.exchange.deliveries.acknowledged(g, [first or ""])
    assert (g.unacked, g.unacked_bytes) == ({}, 0)
