"""Links to other servers: one node at a time sends to each of them, and another one takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.nats import NatsServer
from tests.nodes.nodes import joined, nodes, others, turn
from tests.server.linked import QUICK, Sender, good, grant, hello, send_on
from tests.server.peers import PATIENCE_S, Listening, Stage, Wire, attaching, result, stage, to

from bester.errors import Overloaded
from bester.server import forwarding
from bester.server.destinations import Destination
from bester.server.nodes import holding

SLOW = {"retryMin": 3600, "retryMax": 3600}


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases end so soon that tests can wait for it."""
    monkeypatch.setattr(holding, "LEASE_S", 1)
    monkeypatch.setattr(holding, "LOOK_S", 0.1)
    monkeypatch.setattr(forwarding, "TAKE_OVER_S", 0.05)


async def listening(stage: Stage) -> tuple[Listening, str]:
    """Returns another server, played by hand, that all nodes reach, and its address."""
    return await stage.listen("other"), away(stage)


def away(stage: Stage) -> str:
    """The address of that server, as long as it is not there."""
    return f"unix:{stage.folder / 'other'}"


async def took(there: Wire, count: int) -> list[Any]:
    """Reads messages from a link, and reports each good; returns their data."""
    found = []
    for _ in range(count):
        message = await there.get()
        found.append(message["payload"]["data"])
        good(there, message)
    return found


async def emptied(stage: Stage) -> None:
    """Waits until nothing is in the outbox."""
    async with asyncio.timeout(PATIENCE_S):
        while await stage.hall.messages.queue_sizes():
            await turn(stage)


async def holds(stage: Stage, to: str) -> None:
    """Waits until a node has the lease of another server."""
    async with asyncio.timeout(PATIENCE_S):
        while not joined(stage).holding.has(to):
            await turn(stage)


async def seen(stage: Stage, to: str, node: str) -> None:
    """Waits until a node has seen who has the lease."""
    async with asyncio.timeout(PATIENCE_S):
        while joined(stage).holding.seen.get(to) != node:
            await turn(stage)


def open_destination(stage: Stage, to: str) -> Destination:
    return stage.hall.forwarding.destinations[to]


# -- one link for all nodes --------------------------------------------------------------------------------------------


async def test_messages_from_all_nodes_go_over_one_link_in_order(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK, limits={"maxInFlight": 4096}) as (a, b):
        other, to = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send("first", to=to)
        there = await grant(other)
        assert await took(there, 1) == ["first"]
        await one.outcomes(1)
        for number in range(300):
            await one.send(f"a{number}", to=to)
            await two.send(f"b{number}", to=to)
        seen = await took(there, 600)
        assert [id for id in seen if id[0] == "a"] == [f"a{number}" for number in range(300)]
        assert [id for id in seen if id[0] == "b"] == [f"b{number}" for number in range(300)]
        assert await one.outcomes(300) == [(f"a{number}", "sent") for number in range(300)]
        assert await two.outcomes(300) == [(f"b{number}", "sent") for number in range(300)]
        assert len(other.wires) == 1
        assert (a.hall.forwarding.sent, b.hall.forwarding.sent) == (301, 300)
        for stage in (a, b):
            rows = await result(await stage.connect("control"), "listServers")
            assert [(row["name"], row["holder"]) for row in rows] == [(to, "n0")]


async def test_a_route_and_a_plan_come_back_from_the_node_with_the_link(nats: NatsServer) -> None:
    async with stage({"server": {"name": "c.example"}}) as c, nodes(nats) as (a, b):
        name = a.hall.config.server.name
        address = f"127.0.0.1:{c.port}"
        receiver = await c.connect("handlers")
        receiver.send(attaching("chat") | {"header": {"scope": "handler", "features": ["dryRun"]}})
        await receiver.good("a")
        await c.login("g")
        await (await Sender.on(a)).send("first", to=address)
        receiver.answer(await receiver.get(), to("g"))
        await holds(a, address)
        handler = await b.connect("handlers")
        handler.send(attaching("chat") | {"header": {"scope": "handler", "features": ["dryRun"]}})
        await handler.good("a")
        t = await b.login("t", features=["route"])
        for header, delivered, sent in (({}, "delivered", "sent"), ({"dryRun": True}, "planned", "planned")):
            t.send({"header": header, "payload": {"type": "chat", "id": "r", "data": 1}})
            handler.answer(await handler.get(), send_on(address), data=1)
            receiver.answer(await receiver.get(), to("g"), data=1)
            route = (await t.report("r"))["route"]
            assert [(one["server"], one["step"], one["status"]) for one in route] == [
                (name, "handler", "good"),
                (name, "server", sent),
            ]
            assert [(one["server"], one["step"], one["status"]) for one in route[1]["route"]] == [
                ("c.example", "handler", "good"),
                ("c.example", "clients", delivered),
            ]
        assert joined(a).holding.has(address)


async def test_what_the_other_server_refuses_is_told_where_the_sender_is(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        there = await grant(other)
        await took(there, 1)
        await two.send(2, to=address)
        bad(there, await there.get(), "noHandler", temporary=False)
        [entry] = (await two.wire.report("2"))["results"]
        assert (entry["status"], entry["error"]["code"]) == ("failed", "serverRefused")
        await two.send(3, to=address)
        bad(there, await there.get(), "noHandler", temporary=True)
        assert await two.outcomes(1) == [("3", "queued")]
        assert await took(there, 1) == [3]
        await emptied(b)


async def test_a_link_with_nothing_to_carry_lets_others_have_the_lease(nats: NatsServer) -> None:
    async with nodes(nats, federation={**QUICK, "idleTimeout": 0.05}) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        for sender, play in ((one, a), (two, b), (one, a)):
            await sender.send(1, to=address)
            there = await grant(other)
            assert joined(play).holding.has(address)
            await took(there, 1)
            assert await sender.outcomes(1) == [("1", "sent")]
            await there.closed()
            async with asyncio.timeout(PATIENCE_S):
                while await joined(b).holding.store.list():
                    await turn(b)


async def test_a_stale_way_leads_on_to_the_node_with_the_lease(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        other, address = await listening(a)
        one, two, three = [await Sender.on(play) for play in (a, b, c)]
        await one.send(1, to=address)
        await took(await grant(other), 1)
        await two.send(2, to=address)
        await took(other.wires[0], 1)
        assert await two.outcomes(1) == [("2", "sent")]
        joined(a).holding.give_back(address)
        open_destination(a, address).lease_ended()
        await three.send(3, to=address)
        there = await grant(other)
        await took(there, 1)
        await two.send(4, to=address)  # by way of a, which has the lease no longer
        await took(there, 1)
        assert await two.outcomes(1) == [("4", "sent")]
        await two.send(5, to=address)
        await took(there, 1)
        assert await two.outcomes(1) == [("5", "sent")]
        relay = open_destination(b, address).carrier
        assert isinstance(relay, Relay)
        assert relay.node == "n2"
        assert len(other.wires) == 2


async def test_a_message_that_goes_in_circles_ends(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "MAX_PASSED", 0)
    async with nodes(nats) as (a, b):
        other, address = await listening(a)
        one, two = await Sender.on(a), await Sender.on(b)
        await one.send(1, to=address)
        await took(await grant(other), 1)
        await two.send(2, to=address)
        [entry] = (await two.wire.report("2"))["results"]
        assert (entry["status"], entry["error"]["code"]) == ("failed", "overloaded")


# -- another node takes over -------------------------------------------------------------------------------------------


async def test_a_node_that_stops_leaves_what_it_has_to_another_one(nats: NatsServer) -> None:
    async with nodes(nats, federation=QUICK) as (b, c):
        name = b.hall.config.server.name
        other, address = await listening(b)
        two = await Sender.on(b)
        async with node(nats.url, name, "leaver", federation=QUICK) as a:
            one = await Sender.on(a)
            await one.send(*range(5), to=address)
            there = await grant(other)
            assert [(await there.get())["payload"]["data"] for _ in range(5)] == list(range(5))
            await two.send(*range(5, 10), to=address)
            assert [(await there.get())["payload"]["data"] for _ in range(5)] == list(range(5, 10))
        assert await one.outcomes(5) == [(str(id), "queued") for id in range(5)]
        assert await two.outcomes(5) == [(str(id), "queued") for id in range(5, 10)]
        there = await grant(other)
        assert sorted(await took(there, 10)) == list(range(10))
        await emptied(c)
        await two.send("next", to=address)
        assert await took(there, 1) == ["next"]
        assert await two.outcomes(1) == [("next", "sent")]
        assert len(other.wires) == 2


KILLED = """
from bester.cli.besterd import main
from bester.server.nodes import holding

holding.LEASE_S = 1
main()
"""


@contextmanager
def process(nats: NatsServer, folder: Path, server: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a node in a process of its own, to be killed."""
    config = {
        "server": {"name": server},
        "network": {"types": ["unix"], "unix": {"address": "clients"}},
        "accounts": {"registration": "firstUse"},
        "cluster": {"nats": [nats.url], "node": "killed"},
        **more,
    }
    (folder / "server.conf").write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-c", KILLED, str(folder / "server.conf")]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=os.environ | {"BESTER_LOG": ""}) as running:
        try:
            assert running.stdout is not None
            while b"is ready" not in (line := running.stdout.readline()):
                assert line, "it ended before it was ready"
            yield running
        finally:
            running.kill()
