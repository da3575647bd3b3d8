"""Connections count from when they are accepted, and there are descriptors for all (docs/protocol.md, section 2.7)."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import self_signed
from tests.server.linked import QUICK, Sender
from tests.server.peers import Stage, Wire, hello, result, stage
from tests.waiting import PATIENCE_S, until

from bester.accepting import LogThrottle
from bester.net.descriptors import descriptor_limit, raise_limit
from bester.net.peers import Remote
from bester.server.connections.limits import RESERVE, TOLD


async def silent(play: Stage, kind: str = "tls") -> Wire:
    """Connects, and says nothing: on TLS, the handshake does not even begin."""
    return play.keep(Wire(*await asyncio.open_connection("127.0.0.1", play.port_of(kind))))


async def cut(wire: Wire) -> None:
    """Waits until the server has closed a connection, in whatever way."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            assert await wire.reader.read(1) == b""


async def turned_away(play: Stage, kind: str = "tls") -> None:
    """Connects, and is closed, maybe before the connection is noticed here."""
    with suppress(ConnectionError):
        await cut(await silent(play, kind))


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def descriptors(most: int) -> Iterator[None]:
    """Lets this process have no more than so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_handshakes_make_room(tmp_path: Path) -> None:
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network, "limits": {"maxUnauthenticated": 3}}) as play:
        wires = [await silent(play) for _ in range(5)]
        for wire in wires[:2]:
            await cut(wire)
        assert len(play.server.limits) == len(play.server.limits.connections) == 3
        assert play.runtime.counts.refused == {"overloaded": 2}
        member = await play.connect("tls", tls=trusting())
        member.send(hello())
        await member.good("auth_special")


async def test_handshakes_of_one_address_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda other: Remote("203.0.113.5", False))
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network, "limits": {"maxUnauthenticatedPerAddress": 2}}) as play:
        first = await silent(play)
        await until(lambda: len(play.server.limits) == 1)
        others = [await silent(play), await silent(play, "tcp4")]
        await cut(first)
        assert len(play.server.limits) == 2
        assert all(not wire.reader.at_eof() for wire in others)


async def test_a_handshake_takes_too_long(tmp_path: Path) -> None:
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network}) as play:
        never, half = await silent(play), await silent(play)
        half.writer.write(b"\x16\x03\x01\x02\x00")
        await until(lambda: len(play.server.limits) == 2)
        play.later(11)
        await cut(never)
        await cut(half)
        assert not play.server.limits.connections
        assert play.runtime.counts.refused == {"authenticationTimeout": 2}


async def test_a_handshake_that_goes_wrong_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network}) as play:
        liar, gone = await silent(play), await silent(play)
        liar.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: len(play.server.limits.connections) == 2)
        gone.reset()
        await until(lambda: not play.server.limits.connections)
        assert len(play.server.limits) == 0
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


async def test_connections_are_limited_from_their_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network, "limits": {"maxConnections": 2}}) as play:
        await silent(play)
        await silent(play)
        await until(lambda: len(play.server.limits) == 2)
        await turned_away(play)
        told = await play.connect("tcp4")
        assert await told.fatal() == "overloaded"
        monkeypatch.setattr("bester.server.connections.limits.TOLD", 0)
        await turned_away(play, "tcp4")
        assert play.runtime.counts.refused == {"overloaded": 3}


async def test_a_crowd_is_turned_away_before_it_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bester.server.connections.limits.TOLD", 0)
    monkeypatch.setattr("bester.server.connections.limits.GRACE_S", 3600.0)
    papers = self_signed(tmp_path, "localhost")
    async with stage({"network": papers.network, "limits": {"maxUnauthenticated": 1}}) as play:
        for _ in range(2):
            await silent(play)
        for _ in range(3):
            await turned_away(play)
        lines = [one for one in caplog.messages if "were refused" in one]
        assert lines == [
            "1 connections were refused since the last such line: too many connections have not authenticated"
        ]


async def test_a_server_that_is_crowded_is_not_taken_for_classic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.server.connections.limits.TOLD", 0)
    monkeypatch.setattr("bester.server.connections.limits.GRACE_S", 3600.0)
    async with stage({"limits": {"maxUnauthenticated": 1}}) as crowded, stage({"federation": QUICK}) as play:
        for _ in range(2):
            await silent(crowded, "tcp4")
        await until(lambda: len(crowded.server.limits) == 2)
        sender = await Sender.on(play)
        # In the classic form it could not be told from a message that was taken.
        assert await sender.send_and_see(1, to=f"127.0.0.1:{crowded.port}") == ["queued"]


async def test_some_descriptors_are_not_for_the_listeners(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as play:
        gate = play.server.limits
        assert gate.room == descriptor_limit() - RESERVE - play.runtime.config.limits.max_handlers
        gate.room = 2
        member = await play.login()
        await play.login("g", "tcp4")
        assert await (await play.connect()).fatal() == "overloaded"
        assert await (await play.connect("tcp4")).fatal() == "overloaded"
        operator, handler = await play.connect("control"), await play.attach("chat")
        (problem,) = await result(operator, "problems")
        assert problem["what"] == "descriptors"
        assert problem["name"] == "open files"
        member.ask("chat", "1")
        handler.answer(await handler.get())
        await member.good("1")
        play.later(61)
        assert await result(operator, "problems") == []


async def test_no_descriptor_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as play:
        gate = play.server.limits
        with socket.create_connection(("127.0.0.1", play.port)) as waiting:
            with descriptors(3):
                await until(lambda: gate.is_starved)
                first = gate._starved_until
                await until(lambda: gate._starved_until > first)  # it has tried again
            waiting.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=waiting)
            wire = Wire(reader, writer)
            wire.send(hello())
            await wire.good("auth_special")
            await wire.leave()
    warnings = [one for one in caplog.records if one.levelno > logging.INFO]
    assert [one.getMessage() for one in warnings if one.name == "bester.net"] == [
        f"tcp4://127.0.0.1:{play.port}: no connection can be accepted now, tried again: Too many open files"
    ]
    assert all(one.exc_info is None for one in warnings)


def test_half_of_few_descriptors_stays_free() -> None:
    asked: list[Any] = []

    async def look() -> None:
        async with stage() as play:
            asked.append(play.server.limits.room)

    with descriptors(600):
        asyncio.run(look())
    assert asked == [300]


def test_the_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with descriptors(soft - 1):
        raise_limit()
        assert descriptor_limit() == min(hard, 1 << 20)
        raise_limit()


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("bester.accepting.time.monotonic", lambda: now)
    throttle = LogThrottle()
    assert [throttle.due() for _ in range(3)] == [1, 0, 0]
    now = 160.0
    assert [throttle.due(), throttle.due()] == [3, 0]


async def test_many_are_accepted_at_once() -> None:
    """More than fit into one turn of the loop."""
    async with stage() as play:
        wires = [await silent(play, "tcp4") for _ in range(200)]
        await until(lambda: len(play.server.limits.connections) == 200)
        assert len(wires) < 2 * play.runtime.config.limits.max_unauthenticated + TOLD
