"""An answer with one command comes to the same whether it is plain or not (docs/protocol.md, sections 3, 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw
from tests.core.world import DONE, REPLY, World, answered, clients, send_handler, servers

from bester.core.effects import Deposit, Forward
from bester.core.metrics import Drop
from bester.core.rules import TypeRules
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import BadResponse
from bester.protocol.answers import COMMANDS
from bester.protocol.plain import PlainAnswer

ANSWERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (clients("g"), {"payload": {"data": [1]}}),
    (clients("g", "g", "away", "no such name", "t"), {"payload": {"type": "other", "data": {}}}),
    (clients(), {}),
    (clients("g"), {"payload": {"type": "dummy"}}),
    ({"type": "sendClients", "data": "g"}, {}),
    ({"type": "sendClients"}, {}),
    (REPLY, {"data": 2}),
    (REPLY, {"payload": {"type": "other"}, "data": 2}),
    (REPLY, {"payload": {"type": "builtin", "data": 2}}),
    (REPLY | {"data": ["ignored"]}, {}),
    (DONE, {}),
    (DONE | {"data": "ignored"}, {"data": None}),
    (servers("b.example", "[::1]:5", "no address:"), {"payload": {"type": "other", "data": 3}}),
    ({"type": "sendServers", "data": "b.example"}, {}),
    (send_handler("second"), {"data": 4}),
    (send_handler("unknown"), {"data": 4}),
    (send_handler("builtin"), {}),
    ({"type": "sendHandler", "data": ["second"]}, {}),
    ({"type": "sendHandler"}, {}),
    ({"type": "unknown"}, {}),
    ({"type": ""}, {}),
]
SENT: dict[str, dict[str, Any]] = {"untracked": {}, "once": {"once": True}, "with a route": {"trail": True}, "late": {}}
RULES = {
    "all": TypeRules(),
    "transient": TypeRules(transient=True),
    "replies alone": TypeRules(may={"reply": COMMANDS["reply"]}),
}


def told(effect: object) -> tuple[Any, ...]:
    if isinstance(effect, Forward):
        return "forward", effect.to, effect.type, bytes(effect.data), effect.hops, effect.transient
    assert isinstance(effect, Deposit)
    delivery = effect.delivery
    return "deposit", delivery.to, delivery.type, bytes(delivery.data), delivery.transient


def outcome(sent: str, rules: str, header: dict[str, Any], message: dict[str, Any]) -> list[Any]:
    """What a message and its answer lead to."""
    world = World()
    world.configure(attached={"chat": RULES[rules]})
    chat, second = world.handler("chat"), world.handler("second")
    t, g = world.session("t", features=("route",)), world.session("g")
    more = SENT[sent] | ({"trail": Trail()} if "trail" in SENT[sent] else {})
    world.send(t, "chat", 1, "7", **more)
    world.got(chat)
    if sent == "late":
        world.exchange.answer_failed(chat, "1", BadResponse())
    world.wait(0.25)
    answered(world.exchange, chat, {"header": {"id": "1", "status": "0", **header}, **message})
    effects = [told(effect) for effect in world.effects()]
    counters = world.exchange.batch.counters
    counted = counters.accepted, counters.good, counters.deliveries, counters.drops.get(Drop.ANSWER_LATE)
    metrics = world.exchange.dispatcher.types["chat"].metrics
    requests = [len(handler.outstanding) for handler in (chat, second)]
    return [
        effects,
        *(world.got(one) for one in (t, g, chat, second)),
        counted,
        metrics.seconds,
        metrics.good,
        world.exchange.dispatcher.types["chat"].progress,
        requests,
    ]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize(("command", "message"), ANSWERS)
def test_one_command_alone_or_in_a_list(
    sent: str, rules: str, command: dict[str, Any], message: dict[str, Any]
) -> None:
    plain = outcome(sent, rules, {"command": command}, message)
    assert plain == outcome(sent, rules, {"commands": [command]}, message)


@pytest.mark.parametrize("kind", [bytes, Raw])
def test_data_is_bytes_or_raw_as_it_was_read(world: World, kind: Callable[[bytes], Any]) -> None:
    """With the scanner it is bytes, else Raw: both go everywhere."""
    chat, t, g = world.handler("chat"), world.session("t"), world.session("g")

    def answer(session: Session, command: str, to: list[str] | None) -> list[Any]:
        world.send(session, "chat")
        world.got(chat)
        said: PlainAnswer = (next(iter(chat.outstanding)), command, to, None, kind(b'{"a": 1.0}'))
        world.exchange.plain_answer(chat, said)
        return [told(effect) for effect in world.effects()]

    assert answer(t, "sendClients", ["g", "away"]) == [("deposit", "away", "chat", b'{"a": 1.0}', False)]
    assert world.received(g) == [("chat", {"a": 1.0})]
    assert answer(t, "sendServers", ["b.example"]) == [("forward", "b.example", "chat", b'{"a": 1.0}', 1, False)]
    assert answer(g, "reply", None) == []
    message, report = world.got(g)
    assert message["payload"]["data"] == {"a": 1.0}
    assert report["header"]["status"] == "good"
