"""Built-in commands for operators (docs/protocol.md, section 5.3)."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.server.peers import hello, refused, result, stage, to
from tests.waiting import until

from bester import Client, Refused
from bester.compiled import build
from bester.server.admin.commands import COMMANDS


async def test_operators_commands_are_for_the_role_admin() -> None:
    async with stage() as play:
        admin, wire = await play.admin(), await play.login()
        for name, command in COMMANDS.items():
            if command.admin:
                assert await refused(wire, name) == "notAllowed"
        await result(admin, "setRoles", username="T", roles=["other", "admin"])
        assert await result(wire, "listQueue") == []
        await result(admin, "setRoles", username="t", roles=[])
        assert await refused(wire, "listQueue") == "notAllowed"


async def test_kick() -> None:
    async with stage() as play:
        admin = await play.admin()
        handler = await play.attach("chat")
        one, two, g = await play.login(), await play.login(), await play.login("g")
        one.ask("chat", "1")
        request = await handler.get()
        assert await result(admin, "kick", username="\uff34") == {"sessions": 2}
        for wire in (one, two):
            assert await wire.fatal() == "sessionEnded"
        handler.answer(request, to("g"))
        assert (await g.get())["payload"]["type"] == "chat"
        assert await refused(admin, "kick", username="t") == "unknownAccount"
        assert await refused(admin, "kick", username="nobody") == "unknownAccount"


async def test_kicking_oneself() -> None:
    async with stage() as play:
        admin = await play.admin()
        admin.command("kick", username="root")
        assert await admin.fatal() == "sessionEnded"
        await admin.leave()
        await until(lambda: not play.server.connections.all)


async def test_accounts() -> None:
    async with stage() as play, Client(play.running.unix_url("root")) as client:
        await play.server.accounts.set_roles("root", ("admin",))
        run = client.builtin
        assert await run("addAccount", username="N", password="x") == {"username": "n"}
        assert await run("addAccount", username="boss", password="x", admin=True) == {"username": "boss"}
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("accountExists", {"username": "n", "password": "x"}),
            ("invalidName", {"username": "", "password": "x"}),
            ("badArguments", {"username": "m", "password": ""}),
            ("badArguments", {"username": "m"}),
            ("badArguments", {"username": "m", "password": "x", "admin": "yes"}),
        ]
        for code, args in wrong:
            with pytest.raises(Refused, match=code):
                await run("addAccount", **args)
        wire = await play.connect()
        wire.send(hello("n", "x"))
        await wire.good()
        assert await run("setPassword", username="n", password="y") is None
        assert await wire.fatal() == "sessionEnded"
        wire = await play.connect()
        wire.send(hello("n", "y"))
        await wire.good()
        assert await run("setRoles", username="n", roles=["b", "a"]) is None
        for roles in (["x"] * 33, [""], ["x" * 65], ["\n"], "x"):
            with pytest.raises(Refused, match="badArguments"):
                await run("setRoles", username="n", roles=roles)
        page = await run("listAccounts")
        assert [(one["username"], sorted(one["roles"])) for one in page] == [
            ("boss", ["admin"]),
            ("n", ["a", "b"]),
            ("root", ["admin"]),
        ]
        assert [one["username"] for one in await run("listAccounts", after="boss", limit=1)] == ["n"]
        for limit in (0, 10_001, "1"):
            with pytest.raises(Refused, match="badArguments"):
                await run("listAccounts", limit=limit)
        assert await run("removeAccount", username="n") is None
        assert await wire.fatal() == "sessionEnded"
        unknown: list[tuple[str, dict[str, Any]]] = [
            ("removeAccount", {}),
            ("setPassword", {"password": "x"}),
            ("setRoles", {"roles": []}),
        ]
        for command, more in unknown:
            with pytest.raises(Refused, match="unknownAccount"):
                await run(command, username="n", **more)


async def test_views() -> None:
    servers = {"servers": {"k.example": {"address": "127.0.0.1:1"}}}
    async with stage({"federation": servers}) as play:
        admin, wire = await play.admin(), await play.login(features=["token"])
        handler = await play.attach("chat", name="the chat", concurrency=3)
        wire.ask("chat", "1")
        request = await handler.get()
        root, t = await result(admin, "listClients")
        assert (root["username"], t["username"]) == ("root", "t")
        (session,) = t["sessions"]
        assert session["address"] == f"unix:uid {os.getuid()}"
        assert session["inFlight"] == 1
        assert session["features"] == ["token"]
        (row,) = await result(admin, "listHandlers")
        assert set(row) >= {"type", "attached", "classic", "process", "active", "waiting", "answered", "failed"}
        assert set(row) >= {"meanMs", "lastError"}
        (attached,) = row["attached"]
        assert (attached["name"], attached["outstanding"], attached["concurrency"]) == ("the chat", 1, 3)
        handler.answer(request, {"type": "what"})
        assert await wire.bad("1") == "badResponse"
        known = await result(admin, "listServers")
        assert [(one["name"], one["address"], one["link"]) for one in known] == [("k.example", "127.0.0.1:1", "down")]
        status = await result(admin, "status")
        assert status["build"] == build()
        assert status["sessions"] == 2
        assert status["messages"]["accepted"] == 1
        assert status["messages"]["bad"] == {"badResponse": 1}
        assert status["servers"] == known
        assert status["handlers"][0]["lastError"].startswith("badResponse: ")
        assert await result(admin, "listQueue") == []
        for name in ("retryQueue", "dropQueue"):
            assert await refused(admin, name, id="1") == "badArguments"
        assert (await result(admin, "reload"))["restartNeeded"] == []
        assert await result(admin, "drain") == {"underWay": 0}
        assert play.runtime.stop_asked.is_set()
