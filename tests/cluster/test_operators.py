"""What operators see and do: the whole server, whichever node is asked."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.nodes import joined, node, nodes, others, serves, shared
from tests.nats import NatsServer
from tests.server.peers import Stage, Wire, classic, refused, result, script, stage, to
from tests.waiting import until
from typer.testing import CliRunner

from bester.bus.connection import Fault
from bester.cli.main import app
from bester.cluster.items import Asked, Kind
from bester.server.admin.answers import QUESTIONS
from bester.server.cluster import membership, queries


async def operator(stage: Stage) -> Wire:
    return await stage.connect("control")


async def test_sessions_are_listed_with_their_nodes(nats: NatsServer) -> None:
    async with nodes(nats, 3) as (a, b, c):
        for stage, names in ((a, "th"), (b, "gh"), (c, "k")):
            for name in names:
                await stage.login(name)
        for stage in (a, b, c):
            wire = await operator(stage)
            rows = await result(wire, "listClients")
            assert [(row["username"], [one["node"] for one in row["sessions"]]) for row in rows] == [
                ("g", ["n1"]),
                ("h", ["n0", "n1"]),
                ("k", ["n2"]),
                ("t", ["n0"]),
            ]
            page = await result(wire, "listClients", after="g", limit=2)
            assert [(row["username"], len(row["sessions"])) for row in page] == [("h", 2), ("k", 1)]
        accounts = await result(await operator(a), "listAccounts")
        assert [(row["username"], row["sessions"]) for row in accounts] == [("g", 1), ("h", 2), ("k", 1), ("t", 1)]
        await shared(a, "h")
        await shared(b, "h")
        assert (await result(await a.login("t"), "serverInfo"))["clientCount"] == 4


async def test_kick_reaches_all_nodes(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        sessions = [await stage.login("g") for stage in (a, b, b)]
        wire = await operator(a)
        assert await result(wire, "kick", username="G") == {"sessions": 3}
        for session in sessions:
            assert await session.fatal() == "sessionEnded"
        assert await refused(wire, "kick", username="g") == "unknownAccount"
        assert await refused(wire, "kick", username="") == "invalidName"


async def test_an_answer_may_be_larger_than_a_message_of_nats(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PART_BYTES", 1024)

    async def many(runtime: Any, args: dict[str, Any]) -> list[int]:
        return list(range(args["to"]))

    monkeypatch.setitem(QUESTIONS, "many", many)
    async with nodes(nats) as (a, _):
        ask = joined(a).queries.ask
        gathered = await ask("many", {"to": 20_000})
        assert gathered.answers == {"n0": list(range(20_000)), "n1": list(range(20_000))}
        monkeypatch.setattr(queries, "MAX_BYTES", 10_000)
        gathered = await ask("many", {"to": 20_000})
        assert {name: error.code for name, error in gathered.errors.items()} == {"n0": "overloaded", "n1": "overloaded"}


async def test_questions_that_a_node_cannot_answer(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(runtime: Any, args: dict[str, Any]) -> object:
        raise KeyError

    monkeypatch.setitem(QUESTIONS, "broken", broken)
    async with nodes(nats) as (a, b):
        ask = joined(a).queries.ask
        assert {error.code for error in (await ask("unheard of")).errors.values()} == {"unknownCommand"}
        assert {error.code for error in (await ask("broken")).errors.values()} == {"internal"}
        assert "a question could not be answered" in caplog.text
        monkeypatch.setattr(queries, "MAX_AT_ONCE", 0)
        wire = await operator(a)
        wire.command("listClients")
        assert (await wire.good())["missing"] == ["n1"]
        gathered = await ask("online")
        assert (gathered.answers, gathered.errors["n1"].code) == ({"n0": 0}, "overloaded")
        # What comes too late is for nobody.
        joined(b).batcher.to_node("n0", Kind.COMMAND, 99, Asked("online"), b"{}")
        b.runtime.turn()
        assert (await ask("online")).answers["n0"] == 0


async def test_a_node_that_does_not_answer_is_named(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "ANSWER_S", 0.2)
    async with nodes(nats, 3) as (a, b, c):
        for stage in (a, b):
            await stage.login()
        monkeypatch.setattr(joined(c).queries, "asked", lambda *question: None)
        wire = await operator(a)
        wire.command("listClients")
        report = await wire.good()
        assert report["missing"] == ["n2"]
        assert [one["node"] for one in report["data"][0]["sessions"]] == ["n0", "n1"]
        status = await result(wire, "status")
        assert [(row["node"], row.get("missing", False)) for row in status["nodes"]] == [
            ("n0", False),
            ("n1", False),
            ("n2", True),
        ]
        assert {"what": "node", "name": "n2", "detail": "does not answer", "node": "n2"} in status["problems"]


async def test_handlers_are_one_row_for_each_type(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        one, two = await a.attach("chat", name="one"), await b.attach("chat", "mail", name="two")
        await serves(a, "mail")
        t = await a.login("t")
        t.ask("chat", "1")
        one.answer(await one.get(), to("t"))
        assert (await t.get())["payload"]["type"] == "chat"
        await t.good("1")
        t.ask("mail", "2")
        two.answer(await two.get(), {"type": "done"})
        await t.good("2")
        t.ask("mail", "3")
        two.send({"header": {"id": (await two.get())["header"]["id"], "status": "1"}})
        await t.bad("3")
        for stage in (a, b):
            chat, mail = await result(await operator(stage), "listHandlers")
            assert [(row["name"], row["node"]) for row in chat["attached"]] == [("one", "n0"), ("two", "n1")]
            assert [(row["name"], row["node"]) for row in mail["attached"]] == [("two", "n1")]
            assert (chat["type"], chat["answered"], mail["answered"], mail["failed"]) == ("chat", 1, 1, 1)
            assert [row["node"] for row in mail["nodes"]] == ["n1"]
            assert [row["answered"] for row in chat["nodes"]] == [1, 0]
        assert await result(t, "listTypes") == ["chat", "mail"]
        wire = await operator(a)
        assert await result(wire, "drainHandler", type="mail") == {
            "attached": 1,
            "outstanding": 0,
            "process": False,
            "nodes": ["n1"],
        }
        await two.closed()
        assert await refused(wire, "stopHandler", type="chat", node="n7") == "badArguments"
        assert (await result(wire, "stopHandler", type="chat", node="n0"))["nodes"] == ["n0"]
        assert await one.fatal() == "sessionEnded"


async def test_a_process_is_stopped_and_started_from_another_node(nats: NatsServer, tmp_path: Path) -> None:
    program = script(
        tmp_path / "handler",
        "import os, socket, time\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(os.environ['BESTER_SOCKET']); s.listen()\n"
        "print('listening', flush=True)\ntime.sleep(60)\n",
    )
    name = f"process{tmp_path.name}.example"
    with_process = classic("chat", handlerBinary=str(program), unixDomainSocketPath=str(tmp_path / "chat"))
    async with node(nats.url, name, "n0") as a, node(nats.url, name, "n1", **with_process) as b:
        await serves(a, "chat")
        wire = await operator(a)
        (row,) = await result(wire, "listHandlers")
        assert (row["process"]["node"], row["process"]["starts"], row["stopped"]) == ("n1", 1, False)
        lines = await until(lambda: result(wire, "handlerLog", type="chat"))
        assert [(one["line"], one["node"]) for one in lines] == [("listening", "n1")]
        assert await refused(wire, "handlerLog", type="chat", node="n0") == "badArguments"
        stopped = await result(wire, "stopHandler", type="chat")
        assert stopped == {"attached": 0, "process": True, "nodes": ["n1"]}
        await serves(a, "chat", available=False)
        started = await result(wire, "startHandler", type="chat")
        assert (started["process"]["starts"], started["nodes"]) == (2, ["n1"])
        assert b.server.supervisor.state("chat")["pid"]  # type: ignore[index]
        assert await refused(wire, "startHandler", type="mail") == "badArguments"


async def test_the_status_adds_up(nats: NatsServer) -> None:
    servers = {"servers": {"k.example": {"address": "127.0.0.1:1"}}}
    async with nodes(nats, federation=servers) as (a, b):
        handler = await a.attach("chat")
        await serves(b, "chat")
        senders = [await stage.login("t") for stage in (a, b)]
        for stage in (a, b):
            await shared(stage, "t")
        for sender in senders:
            sender.ask("chat", "1")
            handler.answer(await handler.get(), {"type": "done"})
            await sender.good("1")
            sender.ask("nobody", "2")
            await sender.bad("2")
        status = await result(await operator(b), "status")
        assert (status["node"], status["sessions"], status["accounts"]) == ("n1", 2, 1)
        assert (status["messages"]["good"], status["messages"]["bad"]) == (2, {"noHandler": 2})
        assert status["logins"] == {"good": 2, "bad": 0}
        assert [
            (row["node"], row["sessions"], row["accounts"], row["messages"]["good"], row["problems"])
            for row in status["nodes"]
        ] == [("n0", 1, 1, 1, 0), ("n1", 1, 1, 1, 0)]
        assert all(row["version"] and row["uptime"] >= 0 and row["pid"] for row in status["nodes"])
        assert [(row["name"], row["link"], row["node"]) for row in status["servers"]] == [("k.example", "down", None)]
        assert [row["name"] for row in await result(await operator(a), "listServers")] == ["k.example"]
        b.server.rates._lags.append(3.0)
        (problem,) = (await result(await operator(a), "status"))["problems"]
        assert (problem["what"], problem["node"]) == ("loop", "n1")


async def test_receipts_are_found_from_any_node(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler = await a.attach("chat")
        await serves(b, "chat")
        for stage, name in ((a, "t"), (b, "g")):
            sender = await stage.login(name)
            sender.ask("chat", f"of {name}")
            handler.answer(await handler.get(), {"type": "done"})
            await sender.good()
            sender.ask("nobody", f"bad of {name}")
            await sender.bad()
        for stage in (a, b):
            wire = await operator(stage)
            found = (await result(wire, "trace"))["receipts"]
            assert {(row["id"], row["node"], row["outcome"]) for row in found} == {
                ("of t", "n0", "good"),
                ("of g", "n1", "good"),
                ("bad of t", "n0", "noHandler"),
                ("bad of g", "n1", "noHandler"),
            }
            assert [row["id"] for row in (await result(wire, "trace", id="of g"))["receipts"]] == ["of g"]
            why = await result(wire, "why")
            (cause,) = why["causes"]
            assert (cause["code"], cause["count"], cause["last"]["node"]) == ("noHandler", 2, "n1")
            assert why["unrecorded"] == 0
            assert "lookedSince" not in why
            assert await refused(wire, "trace", limit=0) == "badArguments"


async def test_all_nodes_read_their_configuration_again(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        for stage, text in ((a, None), (b, "{")):
            path = stage.folder / "server.conf"
            stage.running.daemon.config = stage.running.daemon.config.model_copy(update={"path": path})
            tree = {
                "server": {"name": a.runtime.config.server.name},
                "network": {"types": ["unix"], "unix": {"address": "clients"}},
                "cluster": {"nats": [nats.url], "node": "n0"},
                "admin": {"info": {"new": True}},
            }
            path.write_text(text or json.dumps(tree))
        wire = await operator(a)
        found = await result(wire, "reload", nodes=True)
        assert [row["node"] for row in found["nodes"]] == ["n0", "n1"]
        assert found["nodes"][1]["error"]["code"] == "badConfiguration"
        assert a.runtime.config.admin.info == {"new": True}
        assert b.runtime.config.admin.info == {}
        assert "nodes" not in await result(wire, "reload")


async def test_a_node_that_dies_is_not_waited_for(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(nats) as (a, b):
        monkeypatch.setattr(joined(b).queries, "asked", lambda *question: None)
        asking = asyncio.ensure_future(joined(a).queries.ask("online", timeout_s=60))
        await asyncio.sleep(0)
        joined(a).membership._forget(others(a)["n1"], "the test says so")
        began = time.monotonic()
        assert (await asking).answers == {"n0": 0}
        assert time.monotonic() - began < 30


async def test_without_nats_a_node_speaks_for_itself(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "HELLO_S", 0.1)
    async with nodes(nats) as (a, b):
        await b.login("g")
        await a.login("t")
        wire = await operator(a)
        bus = joined(a).bus
        await bus.fail(Fault.DOWN)
        status = await result(wire, "status")
        assert [row["node"] for row in status["nodes"]] == ["n0"]
        assert "bus" in [row["what"] for row in status["problems"]]
        assert [row["username"] for row in await result(wire, "listClients")] == ["t"]
        bus.recover()
        await until(lambda: others(a))
        assert [row["username"] for row in await result(wire, "listClients")] == ["g", "t"]


async def test_nodes_are_for_clusters() -> None:
    async with stage() as play:
        admin = await play.admin()
        for command in ("startHandler", "stopHandler", "drainHandler", "handlerLog"):
            assert await refused(admin, command, type="chat", node="n0") == "badArguments"
        assert not {"node", "nodes"} & set(await result(admin, "status"))
        assert "nodes" not in await result(admin, "status")


async def bester(stage: Stage, *arguments: str) -> str:
    """Runs ``bester`` with a node's configuration, and returns what it prints."""
    path = stage.folder / "server.conf"
    cluster = stage.runtime.config.cluster
    assert cluster is not None
    tree = {
        "server": {"name": stage.runtime.config.server.name},
        "network": {"types": ["unix"], "unix": {"address": "clients"}},
        "cluster": {"nats": cluster.nats, "node": cluster.node},
    }
    path.write_text(json.dumps(tree))
    run = partial(CliRunner().invoke, app, [*arguments, "--config", str(path)], env={"COLUMNS": "200"})
    return (await asyncio.to_thread(run)).output


async def test_the_command_line_says_the_node(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(nats) as (a, b):
        await b.attach("chat", name="the chat")
        await serves(a, "chat")
        t = await b.login("t")
        t.ask("nobody", "1")
        await t.bad("1")
        status = await bester(a, "status")
        assert ", node n0" in status
        assert "the chat at n1 (0/64)" in status
        assert [line.split()[0] for line in status.splitlines() if "pid" in line] == ["running", "n0", "n1"]
        assert " from t at node n1, bester trace " in await bester(a, "why")
        assert [line.split()[-1] for line in (await bester(a, "trace")).splitlines() if "noHandler" in line] == ["n1"]
        assert "the chat at n1 (0/64)" in await bester(a, "handler", "list")
        assert await bester(a, "status", "--check") == ""
        b.server.rates._lags.append(3.0)
        assert (await bester(a, "status", "--check")).startswith("loop: event loop at n1: was late by 3.0 s")
        monkeypatch.setattr(queries, "ANSWER_S", 0.1)
        monkeypatch.setattr(joined(b).queries, "asked", lambda *question: None)
        assert "without n1, which did not answer in time" in await bester(a, "handler", "list")
        assert "does not answer" in await bester(a, "status")
        monkeypatch.undo()
        assert "1 attached, at n1" in await bester(a, "handler", "stop", "chat", "--node", "n1")
