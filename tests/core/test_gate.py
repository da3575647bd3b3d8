"""What a message of a client or another server must pass before its handler is asked."""

from __future__ import annotations

from msgspec import Raw
from tests.core.events import Answers, Calls, Sends
from tests.core.playbook import Asked, Effect, Placeholder, Playbook, Report
from tests.core.world import World

from bester.core.effects import TellNode
from bester.core.endpoint import NodePeer
from bester.errors import BadArguments, BesterError
from bester.protocol import frames
from bester.protocol.messages import Data


def numbers(data: Data) -> BesterError | None:
    return None if bytes(data).isdigit() else BadArguments("a number is wanted")


def test_only_what_its_type_takes_reaches_a_handler(world: World) -> None:
    world.exchange.gates.validate("count", numbers)  # before the type has a handler, and so kept for it
    count, t = world.handler("count"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "count", "one")
        << Report(t, "badArguments")
        >> Sends(t, "count", 1)
        << Asked(count, 1)
        >> Answers(count)
        << Report(t, "good")
    )
    world.exchange.gates.validate("count", None)
    assert Playbook(world) >> Sends(t, "count", "one") << Asked(count, "one")


def test_what_a_handler_sends_on_passes_no_gate(world: World) -> None:
    world.exchange.gates.validate("count", numbers)
    count, first, t = world.handler("count"), world.handler("first"), world.session("t")
    assert (
        Playbook(world)
        >> Sends(t, "first", "one")
        << Asked(first, "one")
        >> Answers(first, {"type": "sendHandler", "data": "count"}, data="one")
        << Asked(count, "one")
    )


def test_a_type_that_is_served_again_has_its_gate_again(world: World) -> None:
    count, t = world.handler("count"), world.session("t")
    world.exchange.gates.validate("count", numbers)
    world.exchange.dispatcher.remove(count)
    world.handler("count")
    assert Playbook(world) >> Sends(t, "count", "one") << Report(t, "badArguments")


def test_what_another_node_asks_a_handler_here_is_looked_at_here(world: World) -> None:
    world.exchange.gates.validate("count", numbers)
    count, node, tell = world.handler("count"), NodePeer("n1"), Placeholder()
    origin = frames.origin_part("client", "t", "j.example", True)
    head = frames.request_head(origin, 0, frames.type_part("count"), b'"1"', b"")
    ask = world.exchange.remote.ask
    assert Playbook(world) >> Calls(ask, node, 1, "count", head, Raw(b'"one"')) << Effect(TellNode, tell)
    assert tell().envelope.error.code == "badArguments"
    assert Playbook(world) >> Calls(ask, node, 2, "count", head, Raw(b"1")) << Asked(count, 1)
