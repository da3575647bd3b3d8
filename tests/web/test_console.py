"""The console's back end: signing in, commands, events (docs/web.md)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.server.peers import refused, to
from tests.waiting import PATIENCE_S, until
from tests.web.browsers import ADMIN, OWN, Browsing, browsing

from bester.testing import PASSWORD

LOGIN = {"username": ADMIN, "password": PASSWORD}


def code(answer: Any) -> str:
    assert answer["ok"] is False
    return str(answer["error"]["code"])


async def test_signing_in_and_out() -> None:
    async with browsing() as play:
        assert (await play.json("/api/session"))[0] == 401
        assert (await play.post("/api/command", {"type": "status"}))[0] == 401
        assert (await play.get("/api/events"))[0] == 401
        await play.sign_in()
        (cookie,) = play.http.cookie_jar
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert len(cookie.value) >= 43
        assert await play.json("/api/session") == (200, {"ok": True, "data": {"username": ADMIN}})
        assert (await play.post("/api/logout", None))[1] == {"ok": True}
        assert (await play.json("/api/session"))[0] == 401


async def test_only_admins_get_in_and_guessing_is_slowed_down() -> None:
    async with browsing() as play:
        await play.server.accounts.add("plain", PASSWORD)
        status, answer = await play.post("/api/login", {"username": "plain", "password": PASSWORD})
        assert (status, code(answer)) == (403, "notAllowed")
        await play.server.accounts.add(ADMIN, PASSWORD, ("admin",))
        for _ in range(5):
            status, answer = await play.post("/api/login", {"username": ADMIN, "password": "wrong"})
            assert (status, code(answer)) == (401, "authenticationFailed")
        status, answer = await play.post("/api/login", LOGIN)
        assert (status, code(answer)) == (429, "throttled")
        play.later(60)
        assert (await play.post("/api/login", LOGIN))[0] == 200


async def test_signing_in_makes_no_account() -> None:
    async with browsing({"accounts": {"registration": "firstUse"}}) as play:
        status, answer = await play.post("/api/login", {"username": "nobody", "password": PASSWORD})
        assert (status, code(answer)) == (401, "authenticationFailed")
        assert await play.server.accounts.store.count() == 0


@pytest.mark.parametrize("change", ["password", "roles", "removal"])
async def test_a_session_ends_with_what_it_was_made_for(change: str) -> None:
    async with browsing() as play:
        await play.sign_in()
        if change == "password":
            await play.server.accounts.set_password(ADMIN, "another one")
        elif change == "roles":
            await play.server.accounts.set_roles(ADMIN, ())
        else:
            await play.server.accounts.remove(ADMIN)
        assert (await play.json("/api/session"))[0] == 401


async def test_a_session_ends_when_it_is_idle_and_after_its_time() -> None:
    async with browsing() as play:
        await play.sign_in()
        for _ in range(11):
            play.later(3500)
            assert (await play.json("/api/session"))[0] == 200
        play.later(3601)
        assert (await play.json("/api/session"))[0] == 401
        await play.post("/api/login", LOGIN)
        for _ in range(12):
            play.later(3500)
            assert (await play.json("/api/session"))[0] == 200
        play.later(1300)
        assert (await play.json("/api/session"))[0] == 401


@pytest.mark.parametrize("path", ["/api/login", "/api/logout", "/api/command"])
async def test_other_sites_pages_can_send_nothing(path: str) -> None:
    async with browsing() as play:
        await play.sign_in()
        for headers in (
            {},
            OWN | {"Origin": "https://evil.example"},
            OWN | {"Origin": "null"},
            OWN | {"Sec-Fetch-Site": "cross-site"},
        ):
            status, answer = await play.post(path, {"type": "drain"}, headers=headers)
            assert (status, code(answer)) == (403, "notAllowed")
        assert (await play.json("/api/session"))[0] == 200
        assert not play.runtime.stop_asked.is_set()
        assert (await play.post("/api/command", {"type": "status"}, headers=OWN | {"Origin": play.url}))[0] == 200


async def test_the_commands_of_the_one_table() -> None:
    async with browsing() as play:
        await play.sign_in()
        await play.socket_of("t")
        assert await play.run("addAccount", username="new", password="secret") == {"username": "new"}
        accounts = await play.run("listAccounts")
        assert [(one["username"], one["sessions"]) for one in accounts] == [("new", 0), (ADMIN, 0), ("t", 1)]
        assert accounts[0]["mailbox"] == {"messages": 0, "bytes": 0}
        assert [one["username"] for one in await play.run("listClients", after="a", limit=1)] == ["t"]
        assert await play.run("listClients", after="t") == []
        assert (await play.run("status"))["problems"] == []
        for type, args, expected in (
            ("logout", {}, "notAllowed"),
            ("nonsense", {}, "unknownCommand"),
            ("kick", {}, "badArguments"),
            ("kick", {"username": "nobody"}, "unknownAccount"),
        ):
            status, answer = await play.post("/api/command", {"type": type, "args": args})
            assert (status, code(answer)) == (200, expected)
        bodies: list[Any] = [None, [], {"type": 5}]
        for body in bodies:
            assert (await play.post("/api/command", body))[0] == 400
        too_large = {"type": "status", "args": {"x": "y" * 300_000}}
        assert (await play.post("/api/command", too_large))[0] == 413


async def test_mailboxes_are_listed_with_their_accounts() -> None:
    async with browsing() as play:
        await play.sign_in()
        for name in ("a", "b", "c"):
            await play.server.accounts.add(name, PASSWORD)
        handler, sender = await play.attach("chat"), await play.login()
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("b", "c"), data="12345678")
        await sender.good("1")
        page = await play.run("listAccounts", limit=2)
        assert [one["mailbox"]["messages"] for one in page] == [0, 1]
        assert [one["mailbox"]["bytes"] for one in await play.run("listAccounts", after="b", limit=1)] == [10]


class Events:
    """A stream of server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, Any]:
        name = ""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = (await self.response.content.readuntil(b"\n")).decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))


async def events(play: Browsing) -> Events:
    response = await play.http.get(f"{play.url}/api/events", read_bufsize=1 << 20)
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    return Events(response)


async def test_events() -> None:
    async with browsing() as play:
        await play.sign_in()
        handler, sender = await play.attach("chat", name="the chat"), await play.login()
        await until(lambda: len(play.server.rates.history) > 0)
        stream = await events(play)
        name, history = await stream.next()
        assert name == "history"
        assert len(history["rows"][0]) == len(history["columns"])
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("t"), data=1)
        sender.ask("chat", "2")
        handler.send({"header": {"id": (await handler.get())["header"]["id"], "status": "1"}})
        assert (await sender.get())["payload"] == {"type": "chat", "data": 1}
        await sender.good("1")
        await sender.bad("2")
        name, now = await stream.next()
        assert name == "now"
        assert (now["rates"]["good"] > 0, now["rates"]["bad"] > 0, now["errorRate"]) == (True, True, 0.5)
        assert now["types"]["chat"]["answered"] > 0
        assert now["latency"]["p95Ms"] is not None
        assert now["counts"]["sessions"] == 1
        assert now["handlers"][0]["name"] == "the chat"
        assert now["handlers"][0]["failed"] == 1
        assert [(one["from"], one["type"], one["to"], one["outcome"]) for one in now["movements"]] == [
            ("t", "chat", ["t"], "good"),
            ("t", "chat", [], "handlerError"),
        ]
        stream.response.close()
        await until(lambda: not play.server.receipts.flushed)


async def test_no_more_movements_are_looked_at_than_are_shown() -> None:
    async with browsing() as play:
        await play.sign_in()
        handler, sender = await play.attach("chat"), await play.login()
        stream = await events(play)
        await stream.next()
        for _ in range(60):
            sender.ask("chat")
        for _ in range(60):
            handler.answer(await handler.get(), {"type": "done"})
        for _ in range(60):
            await sender.good()
        movements = 0
        good = 0.0
        while good < 55:
            _, now = await stream.next()
            assert len(now["movements"]) <= 50
            movements += len(now["movements"])
            good += now["rates"]["good"]
        assert 50 <= movements <= 60
        stream.response.close()


async def test_a_stream_ends_with_its_session_and_with_the_server() -> None:
    async with browsing() as play:
        await play.sign_in()
        first, second = await events(play), await events(play)
        await play.server.accounts.set_password(ADMIN, "another one")
        play.later(11)
        for stream in (first, second):
            while (await stream.next())[0] != "signedOut":
                pass
        await play.post("/api/login", LOGIN | {"password": "another one"})
        third = await events(play)
        stopping = asyncio.ensure_future(play.running.daemon.stop())
        async with asyncio.timeout(PATIENCE_S):
            await third.response.read()
        await stopping


HANDLER = """#!/usr/bin/env python3
import os, socket, struct
path = os.environ["BESTER_SOCKET"]
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen()
print("listening", flush=True)
while True:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        print("asked", flush=True)
        body = b'{"header": {"status": "0", "command": {"type": "done"}}}'
        connection.sendall(struct.pack("<I", len(body)) + body)
"""


async def test_handlers_are_started_stopped_and_drained(tmp_path: Path) -> None:
    binary = tmp_path / "handler.py"
    binary.write_text(HANDLER)
    os.chmod(binary, 0o755)
    entry = {"handlerBinary": str(binary), "unixDomainSocketPath": "h"}
    async with browsing({"handlers": {"typeMap": {"chat": entry}}}) as play:
        await play.sign_in()
        client = await play.login()
        client.ask("chat", "1")
        await client.good("1")
        kept = play.server.supervisor
        await until(lambda: len(kept.output("chat", 10)) == 2)
        log = await play.run("handlerLog", type="chat")
        assert [one["line"] for one in log] == ["listening", "asked"]
        assert [one["line"] for one in await play.run("handlerLog", type="chat", lines=1)] == ["asked"]
        for stop, result in (
            ("stopHandler", {"attached": 0, "process": True}),
            ("drainHandler", {"attached": 0, "process": True, "outstanding": 0}),
        ):
            assert await play.run(stop, type="chat") == result
            await until(lambda: (kept.state("chat") or {})["pid"] is None)
            client.ask("chat", "2")
            assert await client.bad("2") == "handlerUnavailable"
            (row,) = await play.run("listHandlers")
            assert row["stopped"] is True
            assert row["classic"].endswith("/h")
            assert (await play.run("startHandler", type="chat"))["process"]["pid"]
            client.ask("chat", "3")
            await client.good("3")
        control = await play.connect("control")
        assert await refused(control, "startHandler", type="other") == "badArguments"
        assert await refused(control, "stopHandler", type="other") == "badArguments"
        assert await refused(control, "handlerLog", type="other") == "badArguments"
        assert await refused(control, "handlerLog", type="chat", lines=501) == "badArguments"


async def test_attached_handlers_are_stopped_and_drained() -> None:
    async with browsing() as play:
        await play.sign_in()
        client, handler = await play.login(), await play.attach("chat")
        client.ask("chat", "1")
        request = await handler.get()
        assert (await play.run("drainHandler", type="chat"))["outstanding"] == 1
        client.ask("chat", "2")
        assert await client.bad("2") in ("noHandler", "handlerUnavailable")
        handler.answer(request, {"type": "done"})
        await client.good("1")
        await handler.closed()
        other = await play.attach("chat")
        assert await play.run("stopHandler", type="chat") == {"attached": 1, "process": False}
        assert await other.fatal() == "sessionEnded"
