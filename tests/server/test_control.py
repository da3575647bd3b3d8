"""The operator's socket (docs/protocol.md, section 10.2)."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from tests.server.peers import GOOD, refused, result, stage
from tests.waiting import until

from bester.net.peers import peer_user


def test_who_connects() -> None:
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert peer_user(one) == os.geteuid()


async def test_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        monkeypatch.setattr("bester.server.connections.control.peer_user", lambda connected: os.geteuid() + 1)
        wire = await play.connect("control")
        wire.command("drain")
        assert await wire.fatal() == "notAllowed"
        assert not play.runtime.stop_asked.is_set()
        monkeypatch.setattr("bester.server.connections.control.peer_user", lambda connected: None)
        wire = await play.connect("control")
        assert await wire.fatal() == "notAllowed"


async def test_every_command() -> None:
    async with stage({"accounts": {"registration": "closed"}}) as play:
        wire = await play.connect("control")
        for name in ("close", "login", "logout", "register", "changePassword"):
            assert await refused(wire, name, username="t", password="x", old="x", new="x") == "notAllowed"
        assert await result(wire, "addAccount", username="T", password="x", admin=True) == {"username": "t"}
        assert await result(wire, "setPassword", username="t", password="secret") is None
        client = await play.login()
        assert await result(wire, "setRoles", username="t", roles=["admin", "x"]) is None
        (account,) = await result(wire, "listAccounts")
        assert sorted(account["roles"]) == ["admin", "x"]
        assert [one["username"] for one in await result(wire, "listClients")] == ["t"]
        for name in ("listTypes", "listHandlers", "listServers", "listQueue"):
            assert await result(wire, name) == []
        for name in ("retryQueue", "dropQueue"):
            wire.ask("builtin", "q", {"command": {"type": name, "args": {"id": "1"}}})
            assert await wire.bad("q") == "badArguments"
        assert (await result(wire, "serverInfo"))["clientCount"] == 1
        status = await result(wire, "status")
        assert (status["server"], status["pid"], status["sessions"]) == ("test.example", os.getpid(), 1)
        assert await result(wire, "kick", username="t") == {"sessions": 1}
        assert await client.fatal() == "sessionEnded"
        assert await result(wire, "removeAccount", username="t") is None
        assert await refused(wire, "removeAccount", username="t") == "unknownAccount"
        assert (await result(wire, "reload"))["restartNeeded"] == []
        assert await refused(wire, "what") == "unknownCommand"
        assert await result(wire, "drain") == {"underWay": 0}
        assert play.runtime.stop_asked.is_set()


BODIES: dict[str, tuple[Any, str]] = {
    "not JSON": (b"x", "malformed"),
    "no payload": ({}, "malformed"),
    "a number as id": ({"payload": {"type": "builtin", "id": 5}}, "malformed"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_command_that_is_none_is_refused(case: str) -> None:
    body, code = BODIES[case]
    async with stage() as play:
        wire = await play.connect("control")
        wire.send(body)
        wire.writer.write(b"\0" * 100_000)
        assert await wire.fatal() == code


async def test_other_messages() -> None:
    async with stage() as play:
        wire = await play.connect("control")
        for type in ("chat", "dummy"):
            wire.ask(type, "1")
            assert await wire.bad("1") == "notAllowed"
        wire.command("listTypes", "2")
        assert await wire.get() == {"header": GOOD, "payload": {"id": "2", "data": []}}


@pytest.mark.parametrize("scope", ["client", "server", "handler", "x"])
async def test_nothing_that_has_a_scope_is_a_command(scope: str) -> None:
    command = {"command": {"type": "addAccount", "args": {"username": "x", "password": "p", "admin": True}}}
    async with stage() as play:
        wire = await play.connect("control")
        wire.send({"header": {"scope": scope}, "payload": {"type": "builtin", "id": "1", "data": command}})
        assert await wire.fatal() == "badScope"
        assert not await play.server.accounts.exists("x")


async def test_in_order_and_half_closed() -> None:
    async with stage() as play:
        wire = await play.connect("control")
        for name in "abc":
            wire.command("addAccount", name, username=name, password="x")
        wire.command("listAccounts", "list")
        wire.end_input()
        for name in "abc":
            await wire.good(name)
        assert [one["username"] for one in (await wire.good("list"))["data"]] == ["a", "b", "c"]
        await wire.closed()


async def test_too_many_commands_at_once() -> None:
    async with stage() as play:
        wire = await play.connect("control")
        command = {"payload": {"type": "builtin", "data": {"command": {"type": "listAccounts"}}}}
        wire.send(*[command] * 1000)
        while (message := await wire.get())["header"]["messageType"] == "statusReport":
            pass
        assert message["payload"]["error"]["code"] == "overloaded"
        await wire.closed()
        await wire.leave()
        await until(lambda: not play.server.connections.all)
