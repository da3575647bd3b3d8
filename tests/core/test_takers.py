"""Sessions that take some of their account's messages, or none (docs/protocol.md, section 2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from tests.core.world import Talk, World, clients, given, letters, stored

from bester.core.effects import Deposit, ReadMailbox, RemoveLetter, Share
from bester.core.endpoint import NodePeer
from bester.core.redelivery import ACK_S
from bester.core.session import Phase, Session
from bester.core.trail import Trail
from bester.protocol.messages import Payload

NONE: frozenset[str] = frozenset()


def only(world: World, *types: str, username: str = "g", ack: bool = False, **more: Any) -> Session:
    return world.session(username, takes=frozenset(types), features=("ack",) if ack else (), **more)


def test_a_session_that_takes_no_mail_leaves_its_account_away(world: World, talk: Talk) -> None:
    g = only(world)
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
    second = only(world)
    world.exchange.deliveries.remove_session(g)
    world.exchange.deliveries.remove_session(second)
    assert (presence.all_usernames(), presence.session_count) == (["t"], 1)


def test_it_gets_replies_to_what_it_asked(world: World) -> None:
    chat, t = world.handler("chat"), only(world, username="t")
    world.send(t, "chat", id="7")
    world.answer(chat, "1", clients("t"), {"type": "reply"}, payload={"data": 5})
    (reply,) = world.got(t)
    assert reply["payload"] == {"type": "chat", "data": 5}
    stored(world, *world.all(Deposit))
    assert world.report(t) == {"id": "7", "results": [{"to": "t", "status": "stored"}]}


@pytest.mark.parametrize("types", [(), ("news",)])
def test_a_reply_that_it_did_not_acknowledge_is_given_again(world: World, types: tuple[str, ...]) -> None:
    chat, t = world.handler("chat"), only(world, *types, username="t", ack=True)
    world.send(t, "chat", id="7")
    world.answer(chat, "1", {"type": "reply"}, payload={"type": "answer", "data": 5})
    reply, _ = world.got(t)
    id = reply["payload"]["deliveryId"]
    world.exchange.batch.now += ACK_S
    world.exchange.sweep()
    deposit, _ = world.effects()
    assert isinstance(deposit, Deposit)
    world.exchange.replay.page(t, letters(*stored(world, deposit)))
    ((again, data),) = given(world, t)
    assert (again, data) == (id, 5)
    world.exchange.deliveries.acknowledged(t, [id])
    assert RemoveLetter("t", id) in world.effects()


@pytest.mark.parametrize("ack", [False, True])
def test_types_that_nobody_takes_stay_in_the_mailbox(world: World, talk: Talk, ack: bool) -> None:
    g = only(world, "news", ack=ack)
    assert world.exchange.presence.usernames() == ["g", "t"]
    talk.say(1, "g", payload={"type": "chat"})
    talk.say(2, "g", payload={"type": "news"})
    (kept,) = stored(world, *world.all(Deposit))
    ((id, data),) = given(world, g)
    assert data == 2
    if ack:
        world.exchange.deliveries.acknowledged(g, [id or ""])
    world.exchange.written()
    assert sorted(talk.statuses()) == [["delivered"], ["stored"]]
    # Whoever takes everything finds it.
    everything = world.session("g", has_mail=True)
    world.only(ReadMailbox)
    world.exchange.replay.page(everything, letters(kept))
    assert given(world, everything) == [(None, 1)]
    assert world.effects() == [RemoveLetter("g", kept.id), ReadMailbox(everything, 1, 128, 512 * 1024)]


@pytest.mark.parametrize("ack", [False, True])
def test_the_mailbox_is_read_past_what_is_not_taken(world: World, talk: Talk, ack: bool) -> None:
    talk.say(0, "g", payload={"type": "chat"})
    talk.say(1, "g", payload={"type": "news"})
    deliveries = stored(world, *world.all(Deposit))
    g = only(world, "news", ack=ack, has_mail=True)
    assert isinstance(world.effects()[-1], ReadMailbox)
    first, second = letters(*deliveries)
    world.exchange.replay.page(g, [first])  # a page in which there is nothing for it
    assert world.only(ReadMailbox).after == first.position
    world.exchange.replay.page(g, [second])
    ((_, data),) = given(world, g)
    assert data == 1
    world.exchange.deliveries.acknowledged(g, [second.id])
    taken = [effect for effect in world.effects() if isinstance(effect, RemoveLetter)]
    assert taken == [RemoveLetter("g", second.id)]
    world.exchange.replay.page(g, [])
    assert g.phase is Phase.LIVE


def test_what_is_not_acknowledged_is_offered_to_whom_it_is_for(world: World, talk: Talk) -> None:
    chat, news = only(world, "chat", ack=True), only(world, "news", ack=True)
    talk.say(1, "g", payload={"type": "chat"})
    talk.say(2, "g", payload={"type": "news"})
    assert [data for _, data in given(world, chat)] == [1]
    assert [data for _, data in given(world, news)] == [2]
    everything, again = world.session("g"), only(world, "news")
    assert [data for _, data in given(world, everything)] == [1, 2]
    assert [data for _, data in given(world, again)] == [2]
    world.exchange.deliveries.remove_session(chat)  # what goes to the mailbox then is nothing to the session for news
    stored(world, *[effect for effect in world.effects() if isinstance(effect, Deposit)])
    assert (news.phase, again.phase) == (Phase.LIVE, Phase.LIVE)


@pytest.mark.parametrize("once", [False, True])
def test_whoever_comes_gets_what_several_were_given_in_its_order(world: World, once: bool) -> None:
    chat, t = world.handler("chat"), world.session("t")
    for type in ("chat", "news"):
        only(world, type, ack=True)
    for number, type in enumerate(("news", "chat", "news"), 1):
        world.exchange.admission.message(t, Payload("chat", str(number), Raw(b"0")), 100, once=once)
        world.answer(chat, str(number), clients("g"), payload={"type": type, "data": number})
    assert [data for _, data in given(world, world.session("g"))] == [1, 2, 3]


def test_over_several_nodes(world: World, talk: Talk) -> None:
    g, node = only(world, "news"), NodePeer("b")
    exchange = world.exchange
    assert not exchange.remote.bring(node, 1, "g", "id", "chat", Payload("chat").data)
    assert exchange.remote.bring(node, 2, "g", "id", "news", Payload("news").data)
    assert given(world, g) == [(None, None)]
    world.effects()
    exchange.deliveries.share("g", True)
    talk.say(1, "g", payload={"type": "chat"})
    world.only(Deposit)  # where the others look
    talk.say(2, "g", payload={"type": "news"})
    world.only(Share)


def test_a_dry_run_tells_it(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    chat.dry_types = frozenset({"chat"})
    only(world, "news")
    for number, type in enumerate(("chat", "news"), 1):
        world.exchange.admission.message(t, Payload("chat", str(number)), 100, trail=Trail(dry=True))
        world.answer(chat, str(number), clients("g"), payload={"type": type})
        (step,) = [one for one in world.report(t)["route"] if one["name"] == "g"]
        assert step["step"] == ("clients" if type == "news" else "mailbox")
