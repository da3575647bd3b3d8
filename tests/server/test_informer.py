"""The informer's socket (docs/protocol.md, section 9)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.peers import Wire, result, stage
from tests.waiting import until

from bester import Informer, Presence
from bester.protocol.framing import frame

FAILED = {"status": "1", "data": None}


async def asked(wire: Wire, type: str, *data: Any) -> Any:
    command = {"type": type} | ({"data": data[0]} if data else {})
    wire.send({"command": command})
    return await wire.get()


async def test_every_question() -> None:
    servers = {"servers": {"b.example": {"address": "127.0.0.1:1"}, "a.example": {"address": "127.0.0.1:2"}}}
    async with stage({"federation": servers, "admin": {"info": {"who": 1}}}) as play:
        await play.attach("two", "one")
        for user in ("t", "g", "g"):
            await play.login(user)
        await play.server.accounts.add("away", "x", ("cook", "guest"))
        wire = await play.connect("informer")
        questions: list[tuple[str, list[Any], Any]] = [
            ("listClients", [], ["g", "t"]),
            ("listClients", ["ignored"], ["g", "t"]),
            ("isClient", ["\uff34"], True),
            ("isClient", ["away"], False),
            ("isClient", ["\n"], False),
            ("isAccount", ["AWAY"], True),
            ("isAccount", ["nobody"], False),
            ("isAccount", [""], False),
            ("rolesOf", ["AWAY"], ["cook", "guest"]),
            ("rolesOf", ["t"], []),
            ("rolesOf", ["nobody"], None),
            ("rolesOf", ["\n"], None),
            ("listTypes", [], ["one", "two"]),
            ("listServers", [], ["a.example", "b.example"]),
        ]
        for type, data, answer in questions:
            assert (type, await asked(wire, type, *data)) == (type, {"status": "0", "data": answer})
        info = (await asked(wire, "serverInfo"))["data"]
        assert info["clientCount"] == "2"
        assert info["name"] == "test.example"
        assert info["adminInfo"] == {"who": 1}
        assert info["listeners"]["listener1"] == {"address": f"tcp4://127.0.0.1:{play.port}"}
        assert await asked(wire, "quit") == {"status": "0", "data": None}
        await wire.closed()


async def test_questions_that_fail() -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        for body in (
            b"{}",
            b"[]",
            b"x",
            b'{"command": 5}',
            b'{"command": {}}',
            b'{"command": {"type": "x"}}',
            b'{"command": {"type": "isClient"}}',
            b'{"command": {"type": "isClient", "data": 5}}',
            b'{"command": {"type": "isAccount", "data": null}}',
            b'{"command": {"type": "isAccount", "data": "\xff"}}',
            b'{"header": {"scope": "client"}}',
        ):
            wire.send(body)
            assert (body, await wire.get()) == (body, FAILED)


async def test_answers_are_in_order() -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        wire.send(
            *[
                {"command": {"type": type, "data": "t"}}
                for type in ("isAccount", "x", "isClient", "quit", "listClients")
            ]
        )
        wire.end_input()
        assert [(await wire.get())["status"] for _ in range(4)] == ["0", "1", "0", "0"]
        await wire.closed()


async def test_half_closed_before_the_answer() -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        wire.send({"command": {"type": "isAccount", "data": "t"}})
        wire.end_input()
        assert (await wire.get())["data"] is False
        await wire.closed()


@pytest.mark.parametrize(("data", "code"), [(b"\0\0\0\0", "malformed"), (b"\1\0\1\0", "tooLarge")])
async def test_bytes_that_are_no_frame_are_refused(data: bytes, code: str) -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        wire.writer.write(data + b"\0" * 100_000)
        assert await wire.fatal() == code


async def test_too_many_questions_at_once() -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        question = frame(b'{"command":{"type":"isAccount","data":"t"}}')
        wire.writer.write(question * 5000)
        while (message := await wire.get()).get("status") == "0":
            pass
        assert message["payload"]["error"]["code"] == "overloaded"
        await wire.closed()
        assert (await asked(await play.connect("informer"), "listClients"))["data"] == []


async def test_watching() -> None:
    async with stage() as play:
        wire = await play.connect("informer")
        assert (await asked(wire, "watchClients"))["data"] == []
        assert (await asked(wire, "watchClients"))["data"] == []  # it is not told twice of each
        one, two = await play.login(), await play.login()
        assert await wire.get() == {"event": "online", "user": "t"}
        await one.leave()
        await until(lambda: play.runtime.exchange.presence.session_count == 1)
        await result(two, "logout")
        assert await wire.get() == {"event": "offline", "user": "t"}
        assert (await asked(wire, "listClients"))["data"] == []
        assert len(play.runtime.presence_watchers) == 1
        wire.reset()
        await until(lambda: not play.runtime.presence_watchers)
        await play.login("g")


async def test_the_sdk() -> None:
    async with stage() as play, Informer(play.running.informer_path) as informer:
        await play.login()
        assert await informer.list_clients() == ["t"]
        assert await informer.is_client("T")
        assert not await informer.is_account("g")
        async with informer.watch_clients() as watch:
            assert await anext(watch) == Presence("t", True)
