"""Who may send what, and when it is taken (docs/protocol.md, section 2.8)."""

from __future__ import annotations

import pytest
from tests.core.world import World

from bester.core.effects import CallClassic, Finished, Pause, Resume
from bester.core.limits import Limits
from bester.core.routing import AttachedHandler
from bester.core.rules import Allow, TypeRules

# -- who may send -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "codes"),
    [
        (None, ["", "", "", "", ""]),
        (Allow(), ["", "", "", "", ""]),
        (Allow(servers=False), ["", "", "", "notAllowed", "notAllowed"]),
        (Allow(accounts=False), ["notAllowed", "notAllowed", "notAllowed", "", ""]),
        (Allow(False, False), ["notAllowed"] * 5),
        (Allow(False, False, names=frozenset({"g"})), ["notAllowed", "", "notAllowed", "notAllowed", "notAllowed"]),
        (Allow(False, False, names=frozenset({"k"})), ["notAllowed", "notAllowed", "notAllowed", "", "notAllowed"]),
        (
            Allow(False, False, roles=frozenset({"admin", "x"})),
            ["notAllowed", "notAllowed", "", "notAllowed", "notAllowed"],
        ),
    ],
)
def test_allow(world: World, allow: Allow | None, codes: list[str]) -> None:
    world.configure(chat=TypeRules(allow=allow), open=TypeRules())
    chat, opened = world.handler("chat"), world.handler("open")
    senders = [
        world.session("t"),
        world.session("g"),
        world.session("a", roles=("admin",)),
        world.peer("k"),
        world.peer(),
    ]
    for sender, code in zip(senders, codes, strict=True):
        world.send(sender, "chat")
        for id, _ in world.asked(chat):
            world.answer(chat, id)
        assert world.code(sender) == code
        world.send(sender, "open")  # and a handler may send it on to any type
        ((id, _),) = world.asked(opened)
        world.answer(opened, id, {"type": "sendHandler", "data": "chat"})
        ((id, _),) = world.asked(chat)
        world.answer(chat, id)
        assert world.code(sender) == ""
    world.push(opened, "p", {"type": "sendHandler", "data": "chat"})
    assert len(world.asked(chat)) == 1


def test_nobody_serves_the_type(world: World) -> None:
    world.configure(gone=TypeRules())
    t = world.session("t")
    world.send(t, "unknown", id="1")
    world.send(t, "gone", id="2")
    assert [frame["payload"]["error"]["code"] for frame in world.got(t)] == ["noHandler", "handlerUnavailable"]
    assert world.exchange.batch.counters.bad == {"noHandler": 1, "handlerUnavailable": 1}
    assert world.at_rest(t)


def test_what_a_handler_is_told_of_the_sender(world: World) -> None:
    chat = world.handler("chat")
    for sender in (world.session("t"), world.peer("k"), world.peer(), chat):
        if isinstance(sender, AttachedHandler):
            world.push(chat, "p", {"type": "sendHandler", "data": "chat"})
        else:
            world.send(sender, "chat", hops=2)
    told = [(frame["header"]["scope"], *frame["header"]["from"].values()) for frame in world.requests(chat)]
    assert told == [
        ("client", "t", "j.example", True),
        ("server", None, "k", True),
        ("server", None, None, False),
        ("handler", None, "j.example", True),
    ]


def test_draining(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    world.send(t, "chat")
    world.exchange.admission.draining = True
    world.send(t, "chat")
    assert world.code(t) == "shuttingDown"
    world.answer(chat, "1", {"type": "sendHandler", "data": "chat"})
    world.answer(chat, "2")
    assert world.code(t) == ""
    assert world.at_rest(t, chat)


# -- bounds of one sender ---------------------------------------------------------------------------------------


def test_what_is_beyond_the_limit_waits_and_keeps_its_order(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat", "news"), world.session("t")
    for number in range(5):
        world.send(t, "news" if number % 2 else "chat", number)
    assert [data for _, data in world.asked(chat)] == [0, 1]
    assert (t.in_flight, world.exchange.reports.under_way, t.held_bytes) == (2, 2, 3 * (100 + 256))
    world.answer(chat, "2")
    assert world.asked(chat) == [("3", 2)]
    world.send(t, "chat", 5)
    for number in range(3, 7):
        world.answer(chat, "1" if number == 3 else str(number - 1))
    assert [data for _, data in world.asked(chat)] == [3, 4, 5]
    world.answer(chat, "6")
    assert len(world.got(t)) == 6
    assert world.at_rest(t, chat)


def test_a_backlog_of_messages_that_are_finished_at_once(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat"), world.session("t")
    for _ in range(2):
        world.send(t, "chat")
    for _ in range(5000):
        world.send(t, "unknown")
    t.closing = True
    world.effects()
    world.answer(chat, "1")
    codes = world.codes(t)
    assert codes == ["", *["noHandler"] * 5000]
    assert world.all(Resume) == [Resume(t)]
    world.answer(chat, "2")
    assert world.all(Finished) == [Finished(t)]
    assert world.at_rest(t, chat)


def test_reading_stops_and_goes_on(world: World) -> None:
    world.configure(Limits(max_held_bytes=1000))
    chat, t = world.handler("chat", concurrency=1), world.session("t")
    world.send(t, "chat")
    world.send(t, "chat", size=500)
    assert world.effects() == []
    world.send(t, "chat", size=500)
    assert world.all(Pause) == [Pause(t)]
    world.send(t, "chat", size=10)
    assert world.effects() == []
    world.answer(chat, "1")
    assert world.effects() == []
    world.answer(chat, "2")
    assert world.all(Resume) == [Resume(t)]
    assert t.held_bytes == 266
    world.answer(chat, "3")
    world.answer(chat, "4")
    assert world.effects() == []
    assert world.at_rest(t, chat)


def test_a_handler_is_never_slowed_down_for_its_pushes(world: World) -> None:
    world.configure(Limits(max_held_bytes=100))
    slow, pushing = world.handler("slow", concurrency=1), world.handler("pushing")
    for number in range(3):
        world.push(pushing, str(number), {"type": "sendHandler", "data": "slow"})
    assert pushing.held_bytes > 100
    for id in ("1", "2", "3"):
        world.answer(slow, id)
    assert world.effects() == []
    assert world.at_rest(slow, pushing)


def test_a_reload_lets_more_in(world: World) -> None:
    world.configure(c=TypeRules(classic_socket="/s", classic_concurrency=1))
    for name in ("t", "g"):
        world.send(world.session(name), "c")
    assert len(world.all(CallClassic)) == 1
    world.configure(c=TypeRules(classic_socket="/s", classic_concurrency=2))
    assert len(world.all(CallClassic)) == 1


def test_what_a_session_that_has_ended_sent_goes_on(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    for _ in range(4):
        world.send(t, "chat")
    world.exchange.deliveries.remove_session(t)
    for number in range(1, 5):
        world.answer(chat, str(number), {"type": "sendClients", "data": ["g"]})
        assert len(world.received(g)) == 1
    assert world.got(t) == []
    assert world.at_rest(t, chat)
