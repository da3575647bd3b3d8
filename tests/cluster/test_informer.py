"""The informer of any node speaks for all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.cluster.nodes import joined, node, nodes, others, serves, shared
from tests.nats import NatsServer
from tests.server.peers import Stage, Wire
from tests.waiting import until

from bester.bus.connection import Fault
from bester.server.cluster import presence


async def asked(wire: Wire, type: str, *data: Any) -> Any:
    command = {"type": type} | ({"data": data[0]} if data else {})
    wire.send({"command": command})
    answer = await wire.get()
    return answer["data"] if answer["status"] == "0" else None


async def watch(stage: Stage) -> tuple[Wire, list[str]]:
    wire = await stage.connect("informer")
    return wire, await asked(wire, "watchClients")


def event(user: str, online: bool) -> dict[str, str]:
    return {"event": "online" if online else "offline", "user": user}


async def test_questions(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        await b.attach("chat")
        await serves(a, "chat")
        for stage, names in ((a, "th"), (b, "gh")):
            for name in names:
                await stage.login(name)
        for stage in (a, b):
            await shared(stage, "h")
        for stage in (a, b):
            wire = await stage.connect("informer")
            assert await asked(wire, "listClients") == ["g", "h", "t"]
            assert [await asked(wire, "isClient", name) for name in ("G", "t", "nobody", "")] == [
                True,
                True,
                False,
                False,
            ]
            assert (await asked(wire, "serverInfo"))["clientCount"] == "3"
            assert await asked(wire, "listTypes") == ["chat"]


async def test_an_account_that_is_not_here_is_unknown_while_nats_is_away(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        await a.login("t")
        await b.login("g")
        wire = await a.connect("informer")
        await joined(a).bus.fail(Fault.DOWN)
        assert await asked(wire, "isClient", "t") is True
        assert await asked(wire, "isClient", "g") is None


async def test_the_first_session_anywhere_and_the_last(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        await a.login("t")
        watchers = []
        for stage in (a, b):
            wire, clients = await watch(stage)
            assert clients == ["t"]
            watchers.append(wire)
        one, two, three = await b.login("g"), await c.login("g"), await a.login("g")
        for wire in watchers:
            assert await wire.get() == event("g", True)
        for leaving in (one, three, two):
            await leaving.leave()
        for wire in watchers:
            assert await wire.get() == event("g", False)
        last = await c.login("k")
        for wire in watchers:
            assert await wire.get() == event("k", True)
        assert await asked(watchers[0], "watchClients") == ["k", "t"]
        assert joined(c).presence._listening is None
        watchers[0].reset()
        await until(lambda: joined(a).presence._listening is None)
        await last.leave()
        assert await watchers[1].get() == event("k", False)


async def test_accounts_of_a_node_that_is_gone_go_offline(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SOON_S", 0.05)
    name = "informer-gone.example"
    async with node(nats.url, name, "n0") as a:
        await a.login("t")
        async with node(nats.url, name, "n1") as b:
            await until(lambda: others(a))
            g, _ = await b.login("g"), await b.login("t")
            wire, clients = await watch(a)
            assert clients == ["g", "t"]
            # As a crash does: nothing is said, and NATS sees the connection's end.
            await joined(b).bus.fail(Fault.CRASHED)
            assert await wire.get() == event("g", False)
            await g.leave()


async def test_what_happened_while_nats_was_away(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SETTLE_S", 0.3)
    async with nodes(nats) as (a, b):
        g = await b.login("g")
        wire, clients = await watch(a)
        assert clients == ["g"]
        await joined(a).bus.fail(Fault.DOWN)
        await g.leave()
        await until(lambda: not b.runtime.exchange.presence.sessions("g"))
        joined(a).bus.recover()
        assert await wire.get() == event("g", False)


async def test_a_node_that_comes_with_accounts(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SOON_S", 0.05)
    async with nodes(nats) as (a, b):
        wire, _ = await watch(a)
        # A hint that is lost is found out when the nodes meet again.
        monkeypatch.setattr(joined(b).batcher, "to_watchers", lambda note: None)
        await b.login("g")
        joined(a).membership._forget(others(a)["n1"], "the test says so")
        assert await wire.get() == event("g", True)


async def test_an_account_that_comes_and_goes_quickly_ends_as_it_is(nats: NatsServer) -> None:
    async with nodes(nats, 3) as stages:
        watchers = [(await watch(stage))[0] for stage in stages[:2]]

        async def wander(user: str, steps: int) -> None:
            for step in range(steps):
                wire = await stages[(step + len(user)) % 3].login(user)
                if step % 2:
                    await wire.leave()
                else:
                    closing.append(wire)

        closing: list[Wire] = []
        await asyncio.gather(*(wander("u" * length, 2 + length % 4) for length in range(1, 9)))
        await asyncio.gather(*(wire.leave() for wire in closing))
        last = await stages[2].login("last")
        for wire in watchers:
            online: set[str] = set()
            while online != {"last"}:
                told = await wire.get()
                assert (told["user"] in online) is (told["event"] == "offline")
                online ^= {told["user"]}
        await last.leave()
