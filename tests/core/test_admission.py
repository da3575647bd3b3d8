"""Who may send what, and when it is taken (docs/protocol.md, section 2.8)."""

from __future__ import annotations

import pytest
from tests.core.events import Answers, Calls, Leaves, Pushes, Sends
from tests.core.playbook import Asked, Effect, Playbook, Received, Report
from tests.core.world import World, clients, send_handler
from tests.pure import needs_pure

from bester.core.dispatch import Dispatcher
from bester.core.effects import CallClassic, Finished, Pause, PresenceChanged, Resume
from bester.core.limits import Limits
from bester.core.routing import AttachedHandler, Request
from bester.core.rules import Allow, TypeRules
from bester.errors import BadResponse

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
def test_who_may_send_a_type(world: World, allow: Allow | None, codes: list[str]) -> None:
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


def test_a_type_that_nobody_serves_is_reported(world: World) -> None:
    world.configure(gone=TypeRules())
    t = world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "unknown", id="1")
        << Report(t, "noHandler", id="1")
        >> Sends(t, "gone", id="2")
        << Report(t, "handlerUnavailable", id="2")
    )
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


def test_a_server_that_stops_takes_no_new_messages_and_finishes_the_others(world: World) -> None:
    chat, t = world.handler("chat"), world.session("t")
    play = Playbook(world)
    assert play >> Sends(t, "chat") << Asked(chat)
    world.exchange.admission.draining = True
    assert (
        play
        >> Sends(t, "chat")
        << Report(t, "shuttingDown")
        >> Answers(chat, send_handler("chat"))
        << Asked(chat)
        >> Answers(chat)
        << Report(t, "good")
    )
    assert world.at_rest(t, chat)


# -- bounds of one sender ---------------------------------------------------------------------------------------


def test_what_is_beyond_the_limit_waits_and_keeps_its_order(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t = world.handler("chat", "news"), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "chat", 0)
        << Asked(chat, 0)
        >> Sends(t, "news", 1)
        << Asked(chat, 1, id="2")
        >> Sends(t, "chat", 2)
        >> Sends(t, "news", 3)
        >> Sends(t, "chat", 4)
    )
    assert play
    assert (t.in_flight, world.exchange.reports.under_way, t.held_bytes) == (2, 2, 3 * (100 + 256))
    assert play >> Answers(chat, id="2") << Report(t, "good") << Asked(chat, 2, id="3")
    play >>= Sends(t, "chat", 5)
    for data in (3, 4, 5):
        assert play >> Answers(chat) << Report(t, "good") << Asked(chat, data)
    assert play >> Answers(chat) << Report(t, "good") >> Answers(chat) << Report(t, "good")
    assert world.at_rest(t, chat)


@pytest.mark.parametrize("fails", [False, True])
def test_a_backlog_of_messages_that_fail_at_once_is_let_in_without_recursion(
    world: World, limits: Limits, fails: bool
) -> None:
    world.configure(limits)
    chat, t = world.handler("chat"), world.session("t")
    for _ in range(2):
        world.send(t, "chat")
    for _ in range(5000):
        world.send(t, "unknown")
    t.closing = True
    assert world.all(Pause) == [Pause(t)]
    if fails:
        world.exchange.answer_failed(chat, "1", BadResponse("wrong"))
    else:
        world.answer(chat, "1")
    assert world.codes(t) == ["badResponse" if fails else "", *["noHandler"] * 5000]
    assert world.all(Resume) == [Resume(t)]
    world.answer(chat, "2")
    assert world.all(Finished) == [Finished(t)]
    assert world.at_rest(t, chat)


def test_a_backlog_behind_a_handler_that_goes_away_is_let_in_without_recursion(world: World) -> None:
    world.configure(Limits(max_in_flight=1))
    chat, senders = world.handler("chat"), [world.session(name) for name in ("t", "g")]
    for sender in senders:
        for _ in range(3000):
            world.send(sender, "chat")
        sender.closing = True
    world.effects()
    world.exchange.dispatcher.remove(chat)  # and with it the type
    for sender in senders:
        assert world.codes(sender) == ["handlerUnavailable", *["noHandler"] * 2999]
    assert [effect for effect in world.effects() if isinstance(effect, Finished)] == [*map(Finished, senders)]
    assert world.at_rest(*senders, chat)


def test_what_is_let_in_may_let_in_what_another_sender_has_waiting(world: World) -> None:
    world.configure(Limits(max_in_flight=1))
    chat, t, again = world.handler("chat"), world.session("t"), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat, 1)
        >> Sends(t, "unknown", id="7", once=True)
        >> Sends(again, "unknown", id="7", once=True)  # it waits for the report of the one that waits
        >> Sends(again, "unknown", id="8")
    )
    assert play
    t.closing = again.closing = True
    assert (
        play
        >> Answers(chat)
        << Report(t, "good")
        << Report(t, "noHandler", id="7")
        << Report(again, "noHandler", id="7")
        << Report(again, "noHandler", id="8")
        << Effect(Finished, endpoint=t)
        << Effect(Finished, endpoint=again)
    )
    assert world.at_rest(t, again, chat)


@needs_pure("no method of a class can be replaced")
def test_a_fault_with_one_senders_message_holds_up_no_other_sender(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(Limits(max_in_flight=1))
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    for sender in (t, g):
        world.send(sender, "chat", 1)
        world.send(sender, "chat", 2)
    world.got(chat)
    hand_on = Dispatcher.hand_on

    def fails(dispatcher: Dispatcher, request: Request) -> None:
        if request.envelope.origin is t:
            raise RuntimeError
        hand_on(dispatcher, request)

    monkeypatch.setattr(Dispatcher, "hand_on", fails)
    for id in ("1", "2"):
        world.exchange.answer_failed(chat, id, BadResponse("wrong"))
    with pytest.raises(RuntimeError):
        world.exchange.settle()
    (asked,) = world.got(chat)
    assert asked["header"]["from"]["user"] == "g"


def test_a_sender_of_whom_too_much_waits_is_not_read(world: World) -> None:
    world.configure(Limits(max_held_bytes=1000))
    chat, t = world.handler("chat", concurrency=1), world.session("t")
    play = (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat, 1)
        >> Sends(t, "chat", 2, size=500)
        >> Sends(t, "chat", 3, size=500)
        << Effect(Pause, endpoint=t)
        >> Sends(t, "chat", 4, size=10)
        >> Answers(chat)
        << Report(t, "good")
        << Asked(chat, 2)
        >> Answers(chat)
        << Report(t, "good")
        << Asked(chat, 3)
        << Effect(Resume, endpoint=t)
    )
    assert play
    assert t.held_bytes == 266
    assert play >> Answers(chat) << Report(t, "good") << Asked(chat, 4) >> Answers(chat) << Report(t, "good")
    assert world.at_rest(t, chat)


def test_a_handler_is_never_slowed_down_for_its_pushes(world: World) -> None:
    world.configure(Limits(max_held_bytes=100))
    slow, pushing = world.handler("slow", concurrency=1), world.handler("pushing")
    play = (
        Playbook(world)
        >> Pushes(pushing, "0", send_handler("slow"))
        << Asked(slow, tag="0")
        >> Pushes(pushing, "1", send_handler("slow"))
        >> Pushes(pushing, "2", send_handler("slow"))
    )
    assert play
    assert pushing.held_bytes > 100
    assert (
        play
        >> Answers(slow)
        << Report(pushing, "good", id="0")
        << Asked(slow, tag="1")
        >> Answers(slow)
        << Report(pushing, "good", id="1")
        << Asked(slow, tag="2")
        >> Answers(slow)
        << Report(pushing, "good", id="2")
    )
    assert world.at_rest(slow, pushing)


def test_a_reload_lets_more_in(world: World) -> None:
    one, two = (TypeRules(classic_socket="/s", classic_concurrency=number) for number in (1, 2))
    world.configure(c=one)
    assert (
        Playbook(world)
        >> Sends(world.session("t"), "c", 1)
        << Effect(CallClassic, data=1)
        >> Sends(world.session("g"), "c", 2)
        >> Calls(world.configure, c=two)
        << Effect(CallClassic, data=2)
    )


def test_what_a_session_that_has_ended_sent_goes_on(world: World, limits: Limits) -> None:
    world.configure(limits)
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")
    play = (
        Playbook(world)
        >> Sends(t, "chat", 1)
        << Asked(chat, 1)
        >> Sends(t, "chat", 2)
        << Asked(chat, 2)
        >> Sends(t, "chat", 3)
        >> Sends(t, "chat", 4)
        >> Leaves(t)
        << Effect(PresenceChanged, username="t", online=False)
    )
    for let_in in (3, 4):
        assert play >> Answers(chat, clients("g")) << Received(g, "chat") << Asked(chat, let_in)
    for _ in range(2):
        assert play >> Answers(chat, clients("g")) << Received(g, "chat")
    assert world.at_rest(t, chat)
