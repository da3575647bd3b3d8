"""Connections to the listener web count from when they are accepted (docs/protocol.md, section 2.7)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from tests.certificates import issued
from tests.server.peers import Wire
from tests.waiting import PATIENCE_S, until
from tests.web.browsers import Browsing, browsing


async def silent(play: Browsing, said: bytes = b"") -> Wire:
    """Connects, and sends less than a request."""
    wire = play.keep(Wire(*await asyncio.open_connection("127.0.0.1", play.port_of("web"))))
    wire.writer.write(said)
    return wire


async def cut(wire: Wire) -> None:
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            assert await wire.reader.read(1) == b""


async def test_https_handshakes_make_room(tmp_path: Path) -> None:
    papers = issued(tmp_path, trustme.CA(), "127.0.0.1")
    web = {"certificate": papers.certificate, "key": papers.key}
    async with browsing({"limits": {"maxUnauthenticated": 3}}, web=web) as play:
        wires = [await silent(play) for _ in range(5)]
        for wire in wires[:2]:
            await cut(wire)
        assert len(play.server.limits) == len(play.server.limits.connections) == 3
        play.later(11)
        for wire in wires[2:]:
            await cut(wire)
        assert not play.server.limits.connections
        assert play.runtime.counts.refused == {"overloaded": 2, "authenticationTimeout": 3}


async def test_half_a_request_takes_too_long() -> None:
    async with browsing() as play:
        socket = await play.socket_of()
        half = await silent(play, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        asked = await silent(play, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await asked.reader.readuntil(b"ok")
        assert len(play.server.limits) == 1
        play.later(11)
        await cut(half)
        asked.writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await asked.reader.readuntil(b"ok")
        await socket.ask("dummy", "1")
        assert (await socket.get())["payload"]["id"] == "1"


async def test_half_of_the_next_request_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.web.site.KEEP_ALIVE_S", 0.1)
    async with browsing() as play:
        wire = await silent(play, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: ")
        await wire.reader.readuntil(b"ok")
        async with asyncio.timeout(PATIENCE_S):
            await wire.reader.read()
        await until(lambda: not play.server.limits.connections)
