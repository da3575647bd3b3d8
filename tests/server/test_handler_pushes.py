"""What attached handlers send without being asked (docs/protocol.md, section 6.6)."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.peers import result_of, stage, to
from tests.waiting import PATIENCE_S

from bester import Client, Handler, Request, Response, SendClients
from bester.testing import PASSWORD

DONE = {"type": "done"}


def push(id: str | None, *commands: Any, **payload: Any) -> Any:
    header = {"messageType": "push", "commands": commands} | ({"id": id} if id is not None else {})
    return {"header": header, "payload": payload} if payload else {"header": header}


async def test_pushes() -> None:
    async with stage() as play:
        handler = await play.attach("kitchen", "oven")
        wire = await play.login()
        await play.server.accounts.add("away", PASSWORD)
        handler.send(push("h1", to("t", "away"), data="hot"), push("h2", to("t"), type="x"), push(None))
        assert (await wire.get())["payload"] == {"type": "kitchen", "data": "hot"}
        assert (await wire.get())["payload"] == {"type": "x", "data": None}
        reports = {report["id"]: report for report in [await handler.report() for _ in range(3)]}
        assert result_of(reports["h1"]) == [("t", "delivered", None), ("away", "stored", None)]
        assert result_of(reports["h2"]) == [("t", "delivered", None)]
        assert reports[""] == {"id": ""}


async def test_pushes_that_are_bad() -> None:
    async with stage() as play:
        handler = await play.attach("kitchen")
        for command, code in (
            ({"type": "what"}, "badResponse"),
            ({"type": "sendHandler", "data": "none"}, "noHandler"),
        ):
            handler.send(push("h", command))
            assert await handler.bad("h") == code


async def test_a_push_through_another_handler() -> None:
    async with stage() as play:
        handler, other = await play.attach("kitchen"), await play.attach("chat")
        handler.send(push("h", {"type": "sendHandler", "data": "chat"}, {"type": "reply"}, data=1))
        request = await other.get()
        assert request["header"]["from"] == {"user": None, "server": "test.example", "verified": True}
        assert (request["header"]["scope"], request["header"]["hops"]) == ("handler", 1)
        other.answer(request, {"type": "reply"}, data="last")
        assert await handler.good("h") == {"id": "h", "data": "last"}


async def test_pushes_without_their_report_are_limited() -> None:
    async with stage({"limits": {"maxInFlight": 2}}) as play:
        handler, other = await play.attach("kitchen"), await play.attach("chat")
        handler.send(*(push(id, {"type": "sendHandler", "data": "chat"}) for id in "123"))
        assert await handler.bad("3") == "overloaded"
        for id in "12":
            other.answer(await other.get(), DONE)
            await handler.good(id)


async def test_a_handler_may_ask_itself() -> None:
    async with stage() as play:
        handler = Handler(play.running.handlers_path)

        @handler.on("chat")
        async def chat(message: Request) -> Response:
            async with asyncio.timeout(PATIENCE_S):
                await handler.push(SendClients(["t"], "before"))
            return SendClients(["t"], "after")

        async with handler, Client(play.running.url("t")) as client:
            assert (await client.send("chat")).good
            assert [(await client.receive(PATIENCE_S)).data for _ in range(2)] == ["before", "after"]
