"""The console, metrics and probes of a node among others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.cluster.nodes import joined, node, others, serves, shared
from tests.nats import NatsServer
from tests.server.peers import Stage, to
from tests.waiting import until
from tests.web.browsers import Browsing, browsing
from tests.web.test_console import events
from tests.web.test_metrics import metrics

from bester.bus.connection import Fault


@asynccontextmanager
async def two(nats: NatsServer, name: str) -> AsyncIterator[tuple[Browsing, Stage]]:
    """Runs a node with the listener ``web``, and one without."""
    own = {"server": {"name": name}, "cluster": {"nats": [nats.url], "node": "n0"}}
    async with browsing(own) as a, node(nats.url, name, "n1") as b:
        await until(lambda: others(a) and others(b))
        yield a, b


async def test_the_console_shows_all_nodes(nats: NatsServer) -> None:
    async with two(nats, "console.example") as (a, b):
        await a.sign_in()
        chat = await b.attach("chat", name="the chat")
        await serves(a, "chat")
        senders = [await a.login(), await b.login("g")]
        for stage in (a, b):
            await until(lambda stage=stage: len(stage.server.rates.history) > 0)
        stream = await events(a)
        name, history = await stream.next()
        assert (name, len(history["rows"][0])) == ("history", len(history["columns"]))
        for sender in senders:
            sender.ask("chat", "1")
            chat.answer(await chat.get(), {"type": "done"})
            await sender.good("1")
        good = answered = 0.0
        now: Any = {"totals": {"good": 0}}
        while now["totals"]["good"] < 2 or good < 0.5:  # a rate is of as long as the last interval was
            name, now = await stream.next()
            assert name == "now"
            good += now["rates"]["good"]
            answered += now["types"]["chat"]["answered"]
        assert answered < 2.5  # not by both nodes
        assert (now["counts"]["sessions"], now["counts"]["online"], now["counts"]["handlers"]) == (2, 2, 1)
        assert [(row["node"], row["sessions"], row["handlers"]) for row in now["nodes"]] == [("n0", 1, 0), ("n1", 1, 1)]
        assert [(row["name"], row["node"], row["answered"]) for row in now["handlers"]] == [("the chat", "n1", 2)]
        assert (now["server"]["node"], now["totals"]["good"]) == ("n0", 2)
        stream.response.close()


async def test_missing_nodes_are_named(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.cluster.queries.ANSWER_S", 0.1)
    async with two(nats, "missing.example") as (a, b):
        await a.sign_in()
        monkeypatch.setattr(joined(b).queries, "asked", lambda *question: None)
        _, answer = await a.post("/api/command", {"type": "listClients"})
        assert answer == {"ok": True, "data": [], "missing": ["n1"]}
        stream = await events(a)
        await stream.next()
        _, now = await stream.next()
        assert [(row["node"], row.get("missing")) for row in now["nodes"]] == [("n0", None), ("n1", True)]
        assert ("node", "n1") in [(row["what"], row["name"]) for row in now["problems"]]
        stream.response.close()


async def test_metrics_and_probes(nats: NatsServer) -> None:
    async with two(nats, "metrics.example") as (a, b):
        handler = await a.attach("chat")
        await serves(b, "chat")
        t, g = await a.login(), await b.login("g")
        await shared(a, "t", wanted=False)  # a moment after it came
        g.ask("chat", "1")
        handler.answer(await handler.get(), to("t"))
        assert (await t.get())["payload"]["type"] == "chat"
        await g.good("1")
        await a.login("g")
        for stage in (a, b):
            await shared(stage, "g")
        found = await metrics(a)
        wanted: dict[str, Any] = {
            "bester_nodes": 2,
            "bester_nodes_asked_total": 0,
            "bester_nodes_done_for_total": 1,
            "bester_bus_up": 1,
            "bester_bus_losses_total": 0,
        }
        assert {name: found[name, ""] for name in wanted} == wanted
        assert found["bester_handler_requests_total", "answered chat"] == 1
        assert (joined(b).remote_handlers.count, joined(b).remote_delivery.brought) == (1, 0)
        assert await a.json("/readyz") == (200, {"ready": True, "reasons": []})
        await joined(a).bus.fail(Fault.DOWN)
        assert await a.json("/readyz") == (503, {"ready": False, "reasons": ["bus"]})
        assert (await metrics(a))["bester_bus_losses_total", ""] == 1
        joined(a).bus.recover()
