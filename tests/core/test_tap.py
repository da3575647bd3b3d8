"""The tap of a type copies what its handlers are asked and answer, and changes nothing for anyone else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.events import Answers, Sends
from tests.core.playbook import Asked, Playbook, Received, Report
from tests.core.world import World

from bester.core import tap as taps
from bester.core.effects import AskRemote, CallClassic, Forward
from bester.core.endpoint import Endpoint, NodePeer
from bester.core.rules import TypeRules
from bester.core.tap import Tap
from bester.core.trail import Trail
from bester.errors import BadResponse

HEAD = b'{"header":{},"payload":{"data":'


class Tapped:
    """A tap of a world, and what it has recorded."""

    def __init__(
        self, world: World, type: str = "order", *, twice: bool = False, choose: Callable[[], bool] = lambda: True
    ) -> None:
        self.world = world
        self.endpoint = Endpoint(b"")
        self.tap: Tap = world.exchange.taps.open(
            type, self.endpoint, HEAD, choose, twice=twice, ahead_s=1_700_000_000.0
        )

    def records(self) -> list[Any]:
        return [message["payload"]["data"] for message in self.world.got(self.endpoint)]

    def close(self) -> None:
        self.world.exchange.taps.close(self.tap)


def test_a_request_is_recorded_with_its_outcome(world: World) -> None:
    tapped = Tapped(world)  # before the type has a handler
    order, t, g = world.handler("order"), world.session("t"), world.session("g")
    world.send(t, "order", {"dish": "pizza"}, id="7")
    world.wait(0.25)
    command = {"type": "sendClients", "data": ["g"]}
    world.answer(order, "1", command, payload={"data": {"price": 3}})
    assert [one["payload"]["data"] for one in world.got(g)] == [{"price": 3}]
    (report,) = world.got(t)
    assert report["header"]["status"] == "good"
    assert tapped.records() == [
        {
            "at": 1_700_001_000.0,
            "request": {
                "scope": "client",
                "from": {"user": "t", "server": "j.example", "verified": True},
                "hops": 0,
                "id": "7",
                "data": {"dish": "pizza"},
            },
            "outcome": {"commands": [command | {"payload": {"type": "order", "data": {"price": 3}}}]},
            "ms": 250.0,
        }
    ]
    assert tapped.tap.lost == 0


def outcome(world: World, answer: Callable[[Any], None]) -> Any:
    tapped = Tapped(world)
    order, t = world.handler("order"), world.session(f"t{len(world.exchange.dispatcher.handlers)}")
    world.send(t, "order", 1)
    answer(order)
    (record,) = tapped.records()
    tapped.close()
    world.exchange.dispatcher.remove(order)
    return record["outcome"]


def test_commands_have_what_they_send(world: World) -> None:
    commands: list[dict[str, Any]] = [
        {"type": "reply", "payload": {"type": "receipt"}},
        {"type": "sendServers", "data": ["l.example"], "transient": True, "payload": {"data": 2}},
        {"type": "sendHandler", "data": "stock"},
        {"type": "done"},
    ]
    assert outcome(world, lambda order: world.answer(order, "1", *commands, payload={"type": "x", "data": 1})) == {
        "commands": [
            {"type": "reply", "payload": {"type": "receipt", "data": 1}},
            {
                "type": "sendServers",
                "data": ["l.example"],
                "payload": {"type": "x", "data": 2},
                "transient": True,
            },
            {"type": "sendHandler", "data": "stock", "payload": {"data": 1}},
            {"type": "done"},
        ]
    }


def test_an_answer_without_a_payload(world: World) -> None:
    told = outcome(world, lambda order: world.answer(order, "1", {"type": "reply"}))
    assert told == {"commands": [{"type": "reply", "payload": {"type": "order", "data": None}}]}


def test_refusals_and_failures(world: World) -> None:
    refusal = {"code": "shop.soldOut", "message": "sold out", "temporary": True}
    header = {"status": "1", "error": refusal}
    assert outcome(world, lambda order: world.answer(order, "1", {"type": "done"}, header=header)) == {
        "refused": refusal
    }
    header = {"status": "1"}
    assert outcome(world, lambda order: world.answer(order, "2", {"type": "done"}, header=header)) == {"refused": {}}
    told = outcome(world, lambda order: world.exchange.answer_failed(order, "3", BadResponse("no JSON")))
    assert told == {"failed": {"code": "badResponse", "message": "no JSON"}}


def test_a_handler_that_does_not_answer(world: World) -> None:
    tapped = Tapped(world)
    order, t = world.handler("order", timeout_s=5.0), world.session("t")
    assert Playbook(world) >> Sends(t, "order", 1) << Asked(order, 1)
    world.wait(5.0)
    world.exchange.sweep()
    assert [record["outcome"]["failed"]["code"] for record in tapped.records()] == ["handlerTimeout"]
    world.got(t)


def test_messages_of_servers_and_handlers_are_recorded_too(world: World) -> None:
    tapped = Tapped(world)
    order, first, peer, t = world.handler("order"), world.handler("first"), world.peer("l.example"), world.session("t")
    on = {"type": "sendHandler", "data": "order"}
    world.send(peer, "order", 1, hops=1)
    world.answer(order, "1", {"type": "done"})
    world.send(t, "first", 2)
    world.answer(first, "2", on, payload={"data": 2})
    world.answer(order, "3", {"type": "done"})
    assert [one["header"]["status"] for one in (*world.got(peer), *world.got(t))] == ["good", "good"]
    told = [(one["request"]["from"]["server"], one["request"]["hops"]) for one in tapped.records()]
    assert told == [("l.example", 1), ("j.example", 1)]


def test_a_classic_handler(world: World) -> None:
    tapped = Tapped(world, twice=True)
    world.configure(order=TypeRules(classic_socket="/socket"))
    t = world.session("t")
    world.send(t, "order", 1)
    (call,) = world.exchange.batch.effects
    assert isinstance(call, CallClassic)
    world.exchange.batch.effects.clear()
    world.answer_classic(call, {"type": "done"})
    assert [one["outcome"] for one in tapped.records()] == [{"commands": [{"type": "done"}]}]
    world.got(t)


def test_what_is_not_chosen_is_not_recorded(world: World) -> None:
    chosen = iter((False, True))
    tapped = Tapped(world, choose=lambda: next(chosen))
    order, t = world.handler("order"), world.session("t")
    for number in (1, 2):
        world.send(t, "order", number)
        world.answer(order, str(number), {"type": "done"})
    assert [one["request"]["data"] for one in tapped.records()] == [2]


def test_a_type_is_tapped_while_it_is_served(world: World) -> None:
    order, t = world.handler("order"), world.session("t")
    world.send(t, "order", 1)
    tapped = Tapped(world)
    world.send(t, "order", 2)
    for id in ("1", "2"):
        world.answer(order, id, {"type": "done"})
    assert [one["request"]["data"] for one in tapped.records()] == [2]
    world.got(t)


def test_dry_runs_are_not_recorded(world: World) -> None:
    tapped = Tapped(world)
    order, t = world.handler("order"), world.session("t")
    order.dry_types = frozenset({"order"})
    world.send(t, "order", 1, trail=Trail(dry=True))
    world.answer(order, "1", {"type": "done"})
    assert tapped.records() == []
    world.got(t)


def test_what_has_no_outcome_when_the_recording_ends_is_not_recorded(world: World) -> None:
    tapped = Tapped(world)
    order, t = world.handler("order"), world.session("t")
    assert Playbook(world) >> Sends(t, "order", 1) << Asked(order, 1)
    tapped.close()
    assert Playbook(world) >> Answers(order, {"type": "reply"}, data=1) << Received(t, "order", 1) << Report(t, "good")
    assert tapped.records() == []
    assert world.exchange.dispatcher.types["order"].gate is None
    assert Playbook(world) >> Sends(t, "order", 1) << Asked(order, 1)


def test_a_type_that_is_served_again_has_its_tap_again(world: World) -> None:
    tapped = Tapped(world)
    world.exchange.dispatcher.remove(world.handler("order"))
    assert "order" not in world.exchange.dispatcher.types
    order, t = world.handler("order"), world.session("t")
    world.send(t, "order", 1)
    world.answer(order, "1", {"type": "done"})
    assert len(tapped.records()) == 1
    world.exchange.dispatcher.remove(order)
    tapped.close()
    world.got(t)


@pytest.mark.parametrize("bound", ["MAX_AWAITED", "MAX_AWAITED_BYTES"])
def test_what_is_awaited_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(taps, bound, 1)
    tapped = Tapped(world)
    order, t = world.handler("order"), world.session("t")
    for number in (1, 2):
        world.send(t, "order", number)
    for id in ("1", "2"):
        world.answer(order, id, {"type": "done"})
    assert [one["request"]["data"] for one in tapped.records()] == [1]
    assert tapped.tap.lost == 1
    world.send(t, "order", 3)
    world.answer(order, "3", {"type": "done"})
    assert [one["request"]["data"] for one in tapped.records()] == [3]
    world.got(t)


# -- asked twice --------------------------------------------------------------------------------------------------


def able(world: World, **more: Any) -> Any:
    order = world.handler("order", **more)
    order.dry_types = frozenset({"order"})
    return order


def test_a_handler_is_asked_again_in_a_dry_run_that_nobody_else_sees(world: World) -> None:
    tapped = Tapped(world, twice=True)
    order, t = able(world), world.session("t")
    world.send(t, "order", 1, id="7")
    world.answer(order, "1", {"type": "reply"}, data=1)
    first, second = world.got(order)
    assert second["header"].pop("dryRun")
    for asked in (first, second):
        asked["header"].pop("id")
        asked["header"].pop("traceparent")
    assert first == second
    assert tapped.records() == []
    world.answer(order, "2", {"type": "sendServers", "data": ["l.example"]}, data=2)
    assert not world.exchange.batch.effects
    assert len(world.got(t)) == 2
    (record,) = tapped.records()
    assert record["outcome"]["commands"][0]["payload"]["data"] == 1
    assert record["again"]["commands"][0]["payload"]["data"] == 2
    metrics = world.exchange.dispatcher.types["order"].metrics
    assert (metrics.answered, metrics.good, world.exchange.reports.under_way) == (1, 1, 0)


def test_the_second_time_may_fail(world: World) -> None:
    tapped = Tapped(world, twice=True)
    order, t = able(world), world.session("t")
    world.send(t, "order", 1)
    world.answer(order, "1", {"type": "done"})
    world.exchange.answer_failed(order, "2", BadResponse("no JSON"))
    assert [one["again"]["failed"]["code"] for one in tapped.records()] == ["badResponse"]
    assert world.exchange.dispatcher.types["order"].metrics.failed == 0


def test_a_busy_handler_is_asked_once(world: World) -> None:
    tapped = Tapped(world, twice=True)
    order, t = able(world, concurrency=1), world.session("t")
    for number in (1, 2):
        world.send(t, "order", number)
    world.answer(order, "1", {"type": "done"})
    assert ["again" in one for one in tapped.records()] == [False]
    assert len(world.got(order)) == 2
    world.got(t)


def test_few_are_asked_again_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps, "MAX_AGAIN", 1)
    tapped = Tapped(world, twice=True)
    order, t = able(world), world.session("t")
    for number in (1, 2):
        world.send(t, "order", number)
    for id in ("1", "2"):
        world.answer(order, id, {"type": "done"})
    assert [one["request"]["data"] for one in tapped.records()] == [2]
    assert len(order.outstanding) == 1
    world.got(t)


def test_what_waits_behind_it_goes_on_when_the_recording_ends(world: World) -> None:
    tapped = Tapped(world, twice=True)
    order, t = able(world, concurrency=1), world.session("t")
    world.send(t, "order", 1)
    world.answer(order, "1", {"type": "done"})
    world.send(t, "order", 2)
    assert [one["payload"]["data"] for one in world.got(order)] == [1, 1]
    tapped.close()
    assert [one["payload"]["data"] for one in world.got(order)] == [2]
    world.got(t)


def test_the_end_of_a_recording_forgets_what_is_asked_again(world: World) -> None:
    tapped = Tapped(world, twice=True)
    order, t = able(world), world.session("t")
    world.send(t, "order", 1)
    world.answer(order, "1", {"type": "done"})
    assert len(order.outstanding) == 1
    tapped.close()
    assert not order.outstanding
    world.answer(order, "2", {"type": "sendServers", "data": ["l.example"]})
    assert not world.exchange.batch.effects
    assert tapped.records() == []
    world.got(t)


# -- a cluster ----------------------------------------------------------------------------------------------------


def test_another_node_records_what_its_handlers_are_asked(world: World) -> None:
    tapped = Tapped(world)
    t = world.session("t")
    world.remote_handler("n2", "order")
    world.send(t, "order", 1)
    (asked,) = world.exchange.batch.effects
    assert isinstance(asked, AskRemote)
    world.exchange.batch.effects.clear()
    tapped.tap.forget(next(iter(world.exchange.dispatcher.handlers[0].outstanding.values())))  # a second time
    assert tapped.records() == []
    assert not tapped.tap._asked

    other = World()
    there = Tapped(other, twice=True)
    order = able(other)
    other.exchange.remote.ask(NodePeer("n1"), 5, "order", asked.head, asked.data)
    other.answer(order, "1", {"type": "reply"}, data=1)
    (record,) = there.records()
    assert record["request"]["from"] == {"user": "t", "server": "j.example", "verified": True}
    assert "again" not in record


def test_a_recorded_message_goes_on_as_others_do(world: World) -> None:
    Tapped(world)
    order, t = world.handler("order"), world.session("t")
    world.send(t, "order", 1)
    world.answer(order, "1", {"type": "sendServers", "data": ["l.example"]}, data=1)
    (forward,) = world.exchange.batch.effects
    assert isinstance(forward, Forward)
    world.exchange.reports.settled(forward.envelope, forward.slot, "l.example", "sent")
    (report,) = world.got(t)
    assert report["payload"]["results"] == [{"to": "l.example", "status": "sent"}]


# -- parts --------------------------------------------------------------------------------------------------------


def in_parts(world: World) -> tuple[Any, Any]:
    count, t = world.handler("order", features="parts cancel"), world.session("t", features=("parts",))
    world.send(t, "order", 5, id="7", parts=8)
    for data in (1, 2):
        world.answer(count, "1", {"type": "reply"}, header={"more": True}, data=data)
    return count, t


def test_parts_are_one_outcome(world: World) -> None:
    tapped = Tapped(world)
    count, t = in_parts(world)
    world.answer(count, "1", {"type": "done"})
    (record,) = tapped.records()
    commands = record["outcome"]["commands"]
    assert [command.get("payload", {}).get("data") for command in commands] == [1, 2, None]
    assert len(world.got(t)) == 3
    assert not tapped.tap._held_bytes


def test_parts_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps, "MAX_AWAITED_BYTES", 300)
    tapped = Tapped(world)
    count, t = in_parts(world)
    world.answer(count, "1", {"type": "done"})
    assert tapped.records() == []
    assert (tapped.tap.lost, tapped.tap._held_bytes) == (1, 0)
    world.got(t)


def test_what_is_cancelled_is_not_recorded(world: World) -> None:
    tapped = Tapped(world)
    count, t = in_parts(world)
    world.exchange.parts.cancel(t, b'"7"')
    world.settle()
    world.answer(count, "1", {"type": "done"}, header={"status": "1"})
    assert tapped.records() == []
    assert not tapped.tap._asked
    world.got(t)
