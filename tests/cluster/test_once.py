"""A ``once`` message is one node's, whichever nodes it is sent to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.cluster.nodes import joined, node, nodes, others, serves
from tests.nats import NatsServer
from tests.server.peers import Stage, Wire
from tests.waiting import until

from bester.cluster.items import Kind
from bester.server.cluster import membership, once_claims

DONE = {"type": "done"}


def once(wire: Wire, id: str, data: Any = None, type: str = "pay") -> None:
    wire.send({"header": {"once": True}, "payload": {"type": type, "id": id, "data": data}})


async def paying(a: Stage, b: Stage) -> tuple[Wire, Wire, Wire]:
    """Returns the handler of the first node, which serves both, and a session of one account on each."""
    handler = await a.attach("pay")
    await serves(b, "pay")
    return handler, await a.login("t"), await b.login("t")


async def waits(stage: Stage, many: int = 1) -> None:
    """Waits until so many messages at a node wait for what becomes of them at another one."""
    claims = joined(stage).once_claims._open
    await until(lambda: sum(claim.record.aside is not None for claim in claims.values()) == many)


async def at_rest(*stages: Stage) -> None:
    await until(lambda: not any(stage.runtime.exchange.reports.under_way for stage in stages))
    for stage in stages:
        found = joined(stage).once_claims
        assert not found._open
        assert not found._by_key


async def test_a_repeat_at_another_node_waits_for_what_is_under_way(nats: NatsServer) -> None:
    async with nodes(nats, 3) as stages:
        handler = await stages[0].attach("pay")
        for stage in stages:
            await serves(stage, "pay")
        wires = [await stage.login("t") for stage in stages]
        once(wires[1], "1")
        request = await handler.get()
        once(wires[0], "1")
        once(wires[2], "1")
        once(wires[2], "1")
        for stage in (stages[0], stages[2]):
            await waits(stage)
        # What its sender sent after it does not wait.
        wires[2].ask("pay", "2")
        handler.answer(await handler.get(), DONE)
        await wires[2].good("2")
        handler.answer(request, DONE)
        for wire in (*wires, wires[2]):
            await wire.good("1")
        assert [stage.runtime.exchange.batch.counters.accepted for stage in stages] == [0, 1, 1]
        await at_rest(*stages)


async def test_a_repeat_at_another_node_gets_a_report_that_touched_no_disk(nats: NatsServer) -> None:
    async with nodes(nats, 2) as (a, b):
        handler, first, second = await paying(a, b)
        once(first, "1")
        handler.answer(await handler.get(), DONE)
        await first.good("1")
        for _ in range(2):  # the second time this node knows it itself
            once(second, "1")
            await second.good("1")
        once(second, "1", "another")
        assert await second.bad("1") == "idConflict"
        assert b.runtime.exchange.batch.counters.accepted == 0


async def test_of_nodes_that_get_it_at_once_one_handles_it(nats: NatsServer) -> None:
    async with nodes(nats, 3) as stages:
        handlers = [await stage.attach("pay") for stage in stages]
        wires = [await stage.login("t") for stage in stages]
        many = 40
        asked: list[str] = []

        async def answer(handler: Wire) -> None:
            while True:
                request = await handler.get()
                asked.append(request["payload"]["id"])
                handler.answer(request, DONE)

        answering = [asyncio.create_task(answer(handler)) for handler in handlers]
        for number in range(many):
            for wire in wires:
                once(wire, str(number))
        for wire in wires:
            for _ in range(many):
                await wire.good()
        assert sorted(asked) == sorted(map(str, range(many)))
        for task in answering:
            task.cancel()
        await at_rest(*stages)


async def test_what_handlers_reply_comes_to_those_that_wait_at_other_nodes(nats: NatsServer) -> None:
    async with nodes(nats, 3) as stages:
        handler, last = await stages[0].attach("pay"), await stages[2].attach("last")
        for stage in stages:
            await serves(stage, "pay")
        await serves(stages[1], "last")
        wires = [await stage.login("t", features=["replyTo"]) for stage in stages]
        once(wires[1], "1")
        request = await handler.get()
        once(wires[2], "1")
        await waits(stages[2])
        replies = [{"type": "reply", "payload": {"data": number}} for number in range(2)]
        handler.answer(request, *replies, {"type": "sendHandler", "data": "last"})
        request = await last.get()
        once(wires[0], "1")  # it has been replied already
        await waits(stages[0])
        await wires[1].leave()  # what it asked for comes where it goes on
        last.answer(request, {"type": "reply", "payload": {"type": "last", "data": 2}})
        for wire in (wires[0], wires[2]):
            got = [(await wire.get())["payload"] for _ in range(3)]
            assert [(one["replyTo"], one["type"], one["data"]) for one in got] == [
                ("1", "pay", 0),
                ("1", "pay", 1),
                ("1", "last", 2),
            ]
            await wire.good("1")
        await at_rest(*stages)


async def test_what_the_other_node_forgot_is_handled(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        first_handler, second_handler = await a.attach("pay"), await b.attach("pay")
        first, second = await a.login("t"), await b.login("t")
        once(first, "1")
        await first_handler.get()
        once(second, "1")
        await waits(b)
        await first_handler.leave()
        assert await first.bad("1") == "handlerUnavailable"
        second_handler.answer(await second_handler.get(), DONE)
        await second.good("1")
        once(first, "1")
        await first.good("1")
        await at_rest(a, b)


async def test_another_message_of_that_id_is_a_conflict_wherever_it_comes(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler, first, second = await paying(a, b)
        once(first, "1", "this")
        request = await handler.get()
        once(second, "1", "that")
        assert await second.bad("1") == "idConflict"
        once(second, "1", "this")
        await waits(b)
        handler.answer(request, DONE)
        await first.good("1")
        await second.good("1")
        await at_rest(a, b)


async def test_what_a_node_had_that_is_gone_is_handled_again(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler, other = await a.attach("pay"), await b.attach("pay")
        first, second = await a.login("t"), await b.login("t")
        once(first, "1")
        request = await handler.get()
        once(second, "1")
        await waits(b)
        there = joined(b).membership
        joined(b).once_claims._settled_at = 0.0  # as if it had come long ago
        del joined(a)._incoming._takes[Kind.CLAIM]
        there._forget(there.others["n0"], "so that it is gone")
        repeated = await other.get()
        assert repeated["payload"] == request["payload"]
        other.answer(repeated, DONE)
        await second.good("1")


async def test_a_node_that_stops_is_asked_until_it_has(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler = await a.attach("pay")
        await b.attach("pay")
        first, second = await a.login("t"), await b.login("t")
        once(first, "1")
        request = await handler.get()
        joined(a).leave()
        await until(lambda: others(b)["n0"].stops)
        assert others(b)["n0"].hello.claims
        once(second, "1")
        await waits(b)
        handler.answer(request, DONE)
        await first.good("1")
        await second.good("1")


async def test_nothing_is_handled_while_the_others_cannot_be_asked(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler, first, second = await paying(a, b)
        once(first, "1")
        request = await handler.get()
        once(second, "1")
        await waits(b)
        joined(b).once_claims.bus_down()
        assert await second.bad("1") == "overloaded"
        handler.answer(request, DONE)
        await first.good("1")
        once(second, "1")
        await second.good("1")


async def test_a_node_that_answers_nothing_is_not_waited_for_for_ever(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once_claims, "CLAIM_S", 0.3)
    async with nodes(nats) as (a, b):
        handler = await a.attach("pay")
        first = await a.login("t")
        del joined(b)._incoming._takes[Kind.CLAIM]
        once(first, "1")
        assert await first.bad("1") == "overloaded"
        # A node of an older release does not say that it answers, and is not waited for at all.
        others(a)["n1"].hello.claims = False
        once(first, "1")
        handler.answer(await handler.get(), DONE)
        await first.good("1")


async def test_what_is_lost_on_the_way_is_asked_again(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once_claims, "AGAIN_S", 0.1)
    async with nodes(nats) as (a, b):
        handler, first, second = await paying(a, b)
        once(first, "1")
        request = await handler.get()
        once(second, "1")
        await waits(b)
        for record in a.runtime.exchange.once._records.values():
            record.nodes.clear()  # as if what it says next did not arrive
        handler.answer(request, DONE)
        await first.good("1")
        await second.good("1")


async def test_a_node_that_comes_meanwhile_is_asked_too(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler = await a.attach("pay")
        await b.attach("pay")
        first, second = await a.login("t"), await b.login("t")
        once(first, "1")
        request = await handler.get()
        here = joined(b)
        member = here.membership.others.pop("n0")
        here.once_claims._settled_at = b.runtime.clock() + 60.0  # as if it had just come
        once(second, "1")
        await until(lambda: here.once_claims._open)
        here.membership.others["n0"] = member
        here.once_claims.node_came(member)
        await waits(b)
        handler.answer(request, DONE)
        await second.good("1")


async def test_a_node_that_stops_is_not_missed_for_a_second(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "PING_S", 60.0)
    async with nodes(nats, 1) as (a,):
        async with node(nats.url, a.runtime.config.server.name, "n9"):
            await until(lambda: others(a))
        await until(lambda: not others(a))
