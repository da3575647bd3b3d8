"""Limits on connections and on time (docs/protocol.md, sections 1.1, 2.1 and 2.7)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.server.peers import hello, stage
from tests.waiting import until

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
        await until(lambda: len(play.server.limits) == 4)
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
        await until(lambda: play.server.connections.incomplete)
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
        (session,) = play.runtime.exchange.presence.sessions("t")
        await until(lambda: session.paused)
        chat = play.runtime.exchange.dispatcher.types["chat"]
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
    monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: far)
    async with stage({"limits": {"maxUnauthenticatedPerAddress": 2}, "accounts": {"registration": "open"}}) as play:
        await play.server.accounts.add("t", PASSWORD)
        first, second = await play.connect("tcp4"), await play.connect("tcp4")
        await until(lambda: len(play.server.limits) == 2)
        third = await play.connect("tcp4")
        assert await first.fatal() == "overloaded"
        for wire in (second, third):
            wire.send(hello())
            await wire.good("auth_special")
        assert len(play.server.limits) == 0


async def test_connections_are_limited() -> None:
    async with stage({"limits": {"maxConnections": 2}}) as play:
        first = await play.login()
        await play.login("g")
        third = await play.connect("tcp4")
        assert await third.fatal() == "overloaded"
        await first.leave()
        await third.leave()
        await until(lambda: len(play.server.connections.all) == 1)
        await play.login()


async def test_nagle_does_not_hold_up_small_frames() -> None:
    async with stage() as play:
        await play.login(where="tcp4")
        (connection,) = (one for one in play.server.connections.all)
        bound = connection.transport.get_extra_info("socket")
        assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


PING = frame(b'{"payload":{"type":"dummy","id":"1"}}')


async def test_a_client_that_sends_a_lot_waits_for_others() -> None:
    async with stage() as play:
        busy, other = await play.login(), await play.login("g")
        connection = next(one for one in play.server.connections.all if one.ids().get("account") == "t")
        count = 30_000
        busy.writer.write(PING * count)
        await until(lambda: connection.framer.taken > 100 * len(PING))
        other.ask("dummy", "mine")
        assert (await other.get())["payload"]["id"] == "mine"
        assert connection.framer.taken < (count // 2) * len(PING)
        for _ in range(count):
            await busy.body()
        busy.ask("dummy", "last")
        assert (await busy.get())["payload"]["id"] == "last"


async def test_large_frames_of_many_are_handled_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"limits": {"maxSessionsPerAccount": 50}}) as play:
        wires = [await play.login() for _ in range(4)]
        turns: list[int] = []
        served = 0
        for connection in play.server.connections.all:

            def take(body: bytes, receive: Callable[[bytes], None] = connection.receive) -> None:
                nonlocal served
                served += 1
                receive(body)

            connection.receive = take

        def turn_ended() -> None:
            nonlocal served
            turns.append(served)
            served = 0

        play.runtime.at_turn_end(turn_ended)
        monkeypatch.setattr("bester.server.connections.line.SERVE_S", 0.0)
        large = {"payload": {"type": "none", "id": "1", "data": "x" * 500_000}}
        for wire in wires:
            wire.send(*[large] * 5)
        for wire in wires:
            for _ in range(5):
                assert await wire.bad("1") == "noHandler"
        assert max(turns) == 1


@pytest.mark.parametrize("where", ["unix", "tcp4"])
async def test_what_came_before_the_end_is_handled(where: str) -> None:
    async with stage() as play:
        handler = await play.attach("chat", concurrency=1024)
        wire = await play.login(where=where)
        wire.send(*[{"payload": {"type": "chat", "id": str(number)}} for number in range(1000)])
        await wire.leave()
        for number in range(1000):
            assert (await handler.get())["payload"]["id"] == str(number)


async def test_a_frame_that_cannot_be_read_ends_the_connection_after_those_that_wait() -> None:
    async with stage() as play:
        wire = await play.login()
        wire.writer.write(PING * 700 + b"\0\0\0\0" + PING)
        for _ in range(700):
            assert (await wire.get())["payload"]["id"] == "1"
        assert await wire.fatal() == "malformed"


async def test_a_session_ends_in_the_middle_of_what_waits() -> None:
    async with stage() as play:
        wire = await play.login()
        logout = {"payload": {"type": "builtin", "id": "out", "data": {"command": {"type": "logout"}}}}
        again = hello(payload={"type": "dummy", "id": ""})
        wire.send(*[{"payload": {"type": "dummy", "id": "1"}}] * 400, logout, again)
        wire.send(*[{"payload": {"type": "dummy", "id": "2"}}] * 400)
        for _ in range(400):
            assert (await wire.get())["payload"]["id"] == "1"
        await wire.good("out")
        await wire.good("auth_special")
        for _ in range(400):
            assert (await wire.get())["payload"]["id"] == "2"


async def test_a_server_beyond_its_rate_is_refused_before_its_message_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage({"federation": {"policy": "open", "rate": 0.01, "burst": 1}}) as play:
        large = b'{"header":{"scope":"server"},"payload":{"type":"none","id":"7","data":"' + b"x" * 100_000 + b'"}}'
        monkeypatch.setattr(
            "bester.server.connections.connection.remote_of", lambda transport: Remote("192.0.2.9", False)
        )
        for body, code, id in ((large, "noHandler", "7"), (large, "throttled", ""), (large[:-1], "throttled", "")):
            wire = await play.connect("tcp4")
            wire.send(body)
            report = await wire.report(id)
            assert report["error"]["code"] == code


async def test_nothing_behind_a_fatal_frame_is_handled_though_the_connection_is_lost_meanwhile() -> None:
    async with stage() as play:
        await play.login()
        (connection,) = (one for one in play.server.connections.all if one.kind == "client")
        good, bad = frame(b'{"payload": {"type": "nobody"}}'), frame(b"nonsense")
        before = play.runtime.exchange.batch.counters.accepted
        connection.data_received(good * 300 + bad + good * 700)
        connection.connection_lost(None)
        assert play.runtime.exchange.batch.counters.accepted - before == 300
        connection.transport.abort()
