"""The informer's client against an informer that the test plays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until

from bester import ClientError, ConnectError, ConnectionClosed, Informer, Presence

if TYPE_CHECKING:
    from tests.sdk.conftest import Peer


async def test_questions(peer: Peer) -> None:
    informer = Informer(peer.path)

    async def answer() -> list[Any]:
        connection = await peer.accept()
        asked = [(await connection.receive())["command"] for _ in range(8)]
        for data in (["g"], True, False, {"clientCount": "1"}, ["chat"], ["k.example"], ["cook"], None):
            connection.send({"status": "0", "data": data})
        return asked

    async with informer:
        answering = asyncio.ensure_future(answer())
        first = asyncio.ensure_future(informer.list_clients())
        await until(lambda: informer._connection._channel is not None)
        rest = await asyncio.gather(
            informer.is_client("g"),
            informer.is_account("h"),
            informer.server_info(),
            informer.list_types(),
            informer.list_servers(),
            informer.roles_of("g"),
            informer.roles_of("h"),
        )
        assert [await first, *rest] == [
            ["g"],
            True,
            False,
            {"clientCount": "1"},
            ["chat"],
            ["k.example"],
            ["cook"],
            None,
        ]
        assert (await answering)[:3] == [
            {"type": "listClients"},
            {"type": "isClient", "data": "g"},
            {"type": "isAccount", "data": "h"},
        ]


async def test_failures(peer: Peer, folder: Path) -> None:
    async with Informer(peer.path) as informer:
        asking = asyncio.ensure_future(informer.ask("nonsense"))
        connection = await peer.accept()
        await connection.receive()
        connection.send({"status": "1", "data": None})
        with pytest.raises(ClientError, match="nonsense"):
            await asking

        asking = asyncio.ensure_future(informer.ask("listTypes"))
        cancelled = asyncio.ensure_future(informer.ask("listTypes"))
        await connection.receive()
        cancelled.cancel()
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await asking

        asking = asyncio.ensure_future(informer.ask("listTypes"))  # connects again
        connection = await peer.accept()
        await connection.receive()
        connection.send({"status": "0", "data": []}, {"status": "0", "data": "to nothing"})
        assert await asking == []
        assert await connection.at_end()
    with pytest.raises(ConnectError):
        await Informer(folder / "none").list_types()


async def test_watch(peer: Peer) -> None:
    async with Informer(peer.path) as informer:
        watch = informer.watch_clients()
        first = asyncio.ensure_future(anext(watch))
        connection = await peer.accept()
        assert (await connection.receive())["command"] == {"type": "watchClients"}
        connection.send({"status": "0", "data": ["g", "h"]}, {"event": "offline", "user": "g"})
        assert await first == Presence("g", True)
        seen = []
        async for event in watch:
            seen.append(event)
            if len(seen) == 2:
                break
        assert seen == [Presence("h", True), Presence("g", False)]
        connection.send({"event": "online", "user": "t"})
        assert await anext(watch) == Presence("t", True)
        await connection.close()
        for _ in range(2):
            with pytest.raises(ConnectionClosed):
                await anext(watch)
        async with informer.watch_clients() as other:
            asking = asyncio.ensure_future(anext(other))
            connection = await peer.accept()
            await connection.receive()
            connection.send({"status": "0", "data": ["g"]})
            assert (await asking).user == "g"
        assert await connection.at_end()


def test_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Informer()._path == "bInformer"
    monkeypatch.setenv("BESTER_INFORMER", "/run/i")
    assert Informer()._path == "/run/i"
