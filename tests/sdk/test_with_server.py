"""Clients, handlers and the informer with a real server, in this process."""

from __future__ import annotations

import pytest
from tests.waiting import PATIENCE_S

from bester import AuthenticationError, Client, Handler, Informer, Presence, Reply, Request, Response, SendClients
from bester.testing import server


async def test_everyone_together() -> None:
    async with server({"limits": {"maxHops": 3}}) as running:
        assert running.daemon.config.limits.max_hops == 3
        handler = Handler(running.handlers_path)

        @handler.on("chat")
        async def chat(message: Request) -> Response:
            return [SendClients(["g"]), Reply({"you": message.sender.user})]

        async with (
            handler,
            Client(running.url("t")) as t,
            Client(running.unix_url("g")) as g,
            Informer(running.informer_path) as informer,
        ):
            report = (await t.send("chat", {"text": "hello"})).raise_for_status()
            assert [(result.to, result.status) for result in report.results] == [("g", "delivered")]
            assert (await g.receive(PATIENCE_S)).data == {"text": "hello"}
            assert (await t.receive(PATIENCE_S)).data == {"you": "t"}
            assert (await t.ask("chat", 1, timeout=PATIENCE_S)).data == {"you": "t"}
            assert (await handler.push(SendClients(["t"], "hot"))).good
            assert (await t.receive(PATIENCE_S)).data == "hot"
            assert await informer.list_clients() == ["g", "t"]
            async with informer.watch_clients() as watch:
                assert [await anext(watch), await anext(watch)] == [Presence("g", True), Presence("t", True)]
                await g.close()
                assert await anext(watch) == Presence("g", False)
            assert await t.list_types() == ["chat"]
            with pytest.raises(AuthenticationError):
                await Client.connect(running.url("t", "wrong"))
            unhandled = await t.send("other")
            assert unhandled.error is not None
            assert unhandled.error.code == "noHandler"
    assert not running.folder.exists()
