"""Limits on connections and on time (docs/protocol.md, sections 1.1, 2.1 and 2.7)."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from tests.server.peers import hello, stage, until

from bester.net.peers import Remote
from bester.protocol.framing import frame
from bester.testing import PASSWORD


async def test_authentication_takes_too_long() -> None:
    async with stage() as play:
        silent, half = await play.connect(), await play.connect("tcp4")
        half.writer.write(b"\5\0")
        member = await play.login()
        out = await play.login("g")
        out.command("logout")
        await out.good()
        play.later(9)
        young = await play.connect()
        await until(lambda: len(play.hall.gate) == 4)
        play.later(2)
        for wire in (silent, half, out):
            assert await wire.fatal() == "authenticationTimeout"
        for wire in (young, member):
            wire.send(hello(payload={"type": "none", "id": "2"}))
        await young.good("auth_special")
        assert await young.bad("2") == await member.bad("2") == "noHandler"


async def test_a_frame_takes_too_long() -> None:
    async with stage({"limits": {"frameTimeout": 40}}) as play:
        wire, other = await play.login(), await play.login("g")
        wire.writer.write(frame(b'{"payload": {"type": "dummy"}}') + b"\5\0")
        await wire.get()
        await until(lambda: play.hall.incomplete)
        play.later(39)
        wire.writer.write(b"\0")
        other.ask("dummy")
        await other.get()
        play.later(2)
        assert await wire.fatal() == "frameTimeout"
        other.ask("dummy")
        await other.get()


async def test_time_in_which_the_server_does_not_read_is_no_delay() -> None:
    async with stage({"limits": {"maxInFlight": 1}}) as play:
        handler = await play.attach("chat")
        wire = await play.login()
        one = {"payload": {"type": "chat", "data": "x" * 200_000}}
        wire.send(one, one, one, one)
        (session,) = play.hall.exchange.presence.sessions("t")
        await until(lambda: session.paused)
        chat = play.hall.exchange.types["chat"]
        chat.rules = replace(chat.rules, timeout_s=1000)
        play.later(100)  # longer than frameTimeout
        for _ in range(4):
            handler.answer(await handler.get(), {"type": "done"})
            await wire.good()


async def test_unauthenticated_connections_make_room() -> None:
    async with stage({"limits": {"maxUnauthenticated": 3}}) as play:
        wires = [await play.connect() for _ in range(5)]
        member = await play.login()
        for wire in wires[:2]:
            assert await wire.fatal() == "overloaded"
        wires[2].send(hello())
        await wires[2].good()
        member.ask("dummy")
        await member.get()


async def test_unauthenticated_connections_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Remote("203.0.113.5", False)
    monkeypatch.setattr("bester.server.connection.remote_of", lambda transport: far)
    async with stage({"limits": {"maxUnauthenticatedPerAddress": 2}, "accounts": {"registration": "open"}}) as play:
        await play.hall.accounts.add("t", PASSWORD)
        first, second = await play.connect("tcp4"), await play.connect("tcp4")
        await until(lambda: len(play.hall.gate) == 2)
        third = await play.connect("tcp4")
        assert await first.fatal() == "overloaded"
        for wire in (second, third):
            wire.send(hello())
            await wire.good("auth_special")
        assert len(play.hall.gate) == 0


async def test_connections_are_limited() -> None:
    async with stage({"limits": {"maxConnections": 2}}) as play:
        first = await play.login()
        await play.login("g")
        third = await play.connect("tcp4")
        assert await third.fatal() == "overloaded"
        await first.leave()
        await third.leave()
        await until(lambda: len(play.hall.connections) == 1)
        await play.login()


async def test_nagle_does_not_hold_up_small_frames() -> None:
    async with stage() as play:
        await play.login(where="tcp4")
        (connection,) = (one for one in play.hall.connections)
        bound = connection.transport.get_extra_info("socket")
        assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
