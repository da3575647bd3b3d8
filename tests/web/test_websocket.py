"""Clients over WebSockets, with a real server and a real browser's handshake (docs/protocol.md, section 1.1)."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiohttp
import pytest
import trustme
from tests.certificates import issued
from tests.server.peers import hello, to
from tests.waiting import PATIENCE_S, until
from tests.web.browsers import Browsing, browsing
from tests.web.frames import sent

from bester.server.connections.connection import Connection
from bester.web.messages import CLOSE, CONTINUATION, PING, PONG, TEXT
from bester.web.site import Site


async def test_login_message_report() -> None:
    async with browsing() as play:
        handler = await play.attach("chat")
        socket = await play.socket(protocols=["bester", "other"])
        assert socket.ws.protocol == "bester"
        await socket.send(hello())
        welcome = await socket.good("auth_special")
        assert welcome["server"] == "test.example"
        big = "x" * 500_000
        await socket.ask("chat", "1", big)
        handler.answer(await handler.get(), to("t"), data=big)
        assert (await socket.get())["payload"] == {"type": "chat", "data": big}
        assert (await socket.good("1"))["results"] == [{"to": "t", "status": "delivered"}]
        await socket.ws.send_bytes(json.dumps({"payload": {"type": "dummy", "id": "p"}}).encode())
        assert (await socket.get())["payload"]["id"] == "p"
        await socket.ws.ping()
        await socket.ask("builtin", "2", {"command": {"type": "close"}})
        await socket.good("2")
        assert await socket.closed() == 1000
        await until(lambda: not play.runtime.exchange.presence.session_count)


async def test_parts_and_a_cancelled_message() -> None:
    async with browsing() as play:
        handler = await play.attach("count", features=("parts", "cancel"))
        socket = await play.socket_of(features=["parts"])
        await socket.send({"header": {"parts": 1}, "payload": {"type": "count", "id": "7"}})
        request = await handler.get()
        handler.answer_in_part(request, "one")
        part = await socket.get()
        assert part["header"] == {"messageType": "receivedMessage", "partOf": "7", "more": True}
        await socket.send({"header": {"messageType": "more"}, "payload": {"id": "7", "parts": 2}})
        assert (await handler.get())["header"] == {"messageType": "more", "id": request["header"]["id"], "parts": 2}
        await socket.send({"header": {"messageType": "cancel"}, "payload": {"id": "7"}})
        assert (await handler.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}
        handler.send({"header": {"id": request["header"]["id"], "status": "1"}})
        assert (await socket.get())["payload"]["error"]["code"] == "cancelled"
        await socket.send({"header": {"parts": 1}, "payload": {"type": "count", "id": "8"}})
        request = await handler.get()
        await socket.ws.close()
        assert (await handler.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}


async def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    papers = issued(tmp_path, authority, "127.0.0.1")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    web = {"certificate": papers.certificate, "key": papers.key}
    async with browsing(web=web, trusting=trusting) as play:
        assert play.url.startswith("https://")
        socket = await play.socket_of()
        await socket.ask("dummy", "1")
        assert (await socket.get())["payload"]["id"] == "1"
        [expiry] = play.server.admin.listener_expiries()
        assert expiry.what == "the certificate 127.0.0.1.pem of the web listener"
        await socket.ws.send_str("x" * 3_000_000)
        assert (await socket.get())["payload"]["error"]["code"] == "tooLarge"
        assert await socket.closed() == 1009


async def test_acknowledgements() -> None:
    async with browsing() as play:
        handler = await play.attach("chat")
        receiver = await play.socket_of("g", features=["ack"])
        sender = await play.socket_of()
        await sender.ask("chat", "1", "hello")
        handler.answer(await handler.get(), to("g"), data="hello")
        message = await receiver.get()
        ids = [message["payload"]["deliveryId"]]
        await receiver.send({"header": {"messageType": "ack"}, "payload": {"ids": ids}})
        assert (await sender.good("1"))["results"] == [{"to": "g", "status": "delivered"}]


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    """As over TCP: what the socket does not take goes to the mailbox, and comes from there when it does."""
    count, data = 80, "x" * 50_000
    async with browsing() as play:
        handler = await play.attach("chat")
        reader, writer = await raw_socket(play, "silent")
        (session,) = play.runtime.exchange.presence.sessions("silent")
        connection = cast(Connection, session.writer)
        sender = await play.login("sender")
        most = 0
        for number in range(count):
            sender.ask("chat", str(number), data)
            handler.answer(await handler.get(), to("silent"), data=[number, data])
            most = max(most, connection.transport.get_write_buffer_size())
        assert most < 512 * 1024
        for _ in range(count):
            assert (await sender.good())["results"][0]["status"] in ("delivered", "stored")
        for number in range(count):
            async with asyncio.timeout(PATIENCE_S):
                body = await server_frame(reader)
            assert json.loads(body)["payload"]["data"][0] == number
        assert play.runtime.counts.slow_consumers == 0
        writer.close()


async def opened(play: Browsing) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns a WebSocket of which only so much is read as is asked for."""
    host, _, port = play.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # of RFC 6455
    return reader, writer


async def raw_socket(play: Browsing, user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The same, logged in."""
    reader, writer = await opened(play)
    writer.write(sent(TEXT, json.dumps(hello(user)).encode()))
    assert json.loads(await server_frame(reader))["payload"]["id"] == "auth_special"
    return reader, writer


async def server_frame(reader: asyncio.StreamReader) -> bytes:
    first, size = await reader.readexactly(2)
    assert first == 0x81
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return await reader.readexactly(size)


async def test_half_a_message_is_waited_for_no_longer_than_half_a_frame() -> None:
    async with browsing() as play:
        _, writer = await raw_socket(play, "t")
        writer.write(b"\x01\x81\0\0\0\0{")  # the first part of a message
        await until(lambda: play.server.connections.incomplete)
        play.later(31)
        await until(lambda: play.runtime.counts.refused.get("frameTimeout"))
        writer.close()


@pytest.mark.parametrize(
    ("message", "code", "closed"),
    [
        ('{"header": {"scope": "server"}, "payload": {"type": "M1"}}', "badScope", 1008),
        ("{", "malformed", 1007),
        ("", "malformed", 1007),
        (json.dumps({"header": {"x": "y" * (1 << 20)}}), "tooLarge", 1009),
    ],
)
async def test_refusals_can_be_read(message: str, code: str, closed: int) -> None:
    async with browsing() as play:
        socket = await play.socket()
        await socket.ws.send_str(message)
        fatal = await socket.get()
        assert fatal["header"]["messageType"] == "fatal"
        assert fatal["payload"]["error"]["code"] == code
        assert await socket.closed() == closed


async def test_a_bad_report_on_the_first_message_is_closed_by_policy() -> None:
    async with browsing({"accounts": {"registration": "closed"}}) as play:
        socket = await play.socket()
        await socket.send(hello("nobody"))
        assert (await socket.get())["payload"]["error"]["code"] == "authenticationFailed"
        assert await socket.closed() == 1008


PIECE = sent(TEXT, b'{"payload": {"type": "dummy", "id": "1"}}')


@pytest.mark.parametrize(
    ("bad", "code", "closed"),
    [
        (b"\x81\x02{}", "malformed", 1002),  # without a mask
        (sent(3, b""), "malformed", 1002),
        (sent(TEXT, b'{"payload": {"type": "\xff"}}'), "malformed", 1007),
        (sent(TEXT, b"x" * (1 << 21)), "tooLarge", 1009),
        (sent(TEXT, b"x" * (1 << 20), last=False) + sent(CONTINUATION, b"x" * 100), "tooLarge", 1009),
        (sent(CLOSE, b"x"), "malformed", 1002),
    ],
    ids=["no mask", "no opcode", "no UTF-8", "large", "large in parts", "no close frame"],
)
@pytest.mark.parametrize("behind", [b"", PIECE * 3000 + b"\0" * 5_000_000])
async def test_what_came_before_is_answered_and_the_end_is_told(
    bad: bytes, code: str, closed: int, behind: bytes
) -> None:
    """Also where the client goes on sending, and looks only then."""
    async with browsing() as play:
        reader, writer = await opened(play)
        # All at once: what comes behind the first message waits until that is checked.
        writer.write(sent(TEXT, json.dumps(hello()).encode()) + PIECE + bad + behind)
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                await writer.drain()
            assert json.loads(await server_frame(reader))["payload"]["id"] == "auth_special"
            assert json.loads(await server_frame(reader))["payload"]["id"] == "1"
            fatal = json.loads(await server_frame(reader))
            assert fatal["payload"]["error"]["code"] == code
            assert await reader.readexactly(4) == b"\x88\x02" + closed.to_bytes(2, "big")
            assert play.runtime.counts.refused == {code: 1}
        writer.close()
        await until(lambda: not play.runtime.exchange.presence.session_count)


async def test_what_waits_for_its_turn_is_answered_before_the_end() -> None:
    async with browsing() as play:
        reader, writer = await raw_socket(play, "t")
        many = 2000  # more than a connection's share at once
        writer.write(PIECE * many + b"\xff\xff")
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(many):
                assert json.loads(await server_frame(reader))["payload"]["id"] == "1"
            assert json.loads(await server_frame(reader))["payload"]["error"]["code"] == "malformed"
            assert await reader.read() == b"\x88\x02\x03\xea"
        writer.close()


async def test_what_is_sent_behind_the_first_message_may_be_larger_than_that() -> None:
    async with browsing() as play:
        handler = await play.attach("chat")
        reader, writer = await opened(play)
        large = {"payload": {"type": "chat", "id": "2", "data": "x" * 500_000}}
        writer.write(sent(TEXT, json.dumps(hello()).encode()) + sent(TEXT, json.dumps(large).encode()))
        assert len((await handler.get())["payload"]["data"]) == 500_000
        await server_frame(reader)
        writer.close()


async def test_a_client_that_ends_while_its_password_is_checked_is_not_waited_for() -> None:
    async with browsing({"accounts": {"registration": "closed"}}) as play:
        reader, writer = await opened(play)
        writer.write(sent(TEXT, json.dumps(hello("nobody")).encode()) + sent(CLOSE, b""))
        async with asyncio.timeout(1.5):  # less than the time in which a client may read its last message
            await server_frame(reader)
            assert await reader.read() == b"\x88\x02\x03\xf0"
        writer.close()


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ([], None, 101),
        ([], "own", 101),
        ([], "https://evil.example", 403),
        ([], "null", 403),
        (["https://good.example"], "https://good.example", 101),
        (["https://good.example"], "http://good.example", 403),
        (["*"], "https://evil.example", 101),
    ],
)
async def test_origins(origins: list[str], origin: str | None, status: int) -> None:
    async with browsing(web={"origins": origins}) as play:
        headers = {} if origin is None else {"Origin": play.url if origin == "own" else origin}
        if status == 101:
            await play.socket(headers=headers)
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await play.socket(headers=headers)
        assert caught.value.status == status


async def test_too_many_connections_are_not_let_in() -> None:
    async with browsing({"limits": {"maxConnections": 1}}) as play:
        await play.socket_of()
        with pytest.raises(aiohttp.ClientConnectionError):
            await play.get("/healthz")


async def test_the_servers_end_is_told() -> None:
    async with browsing() as play:
        socket = await play.socket_of()
        stopping = asyncio.ensure_future(play.running.daemon.stop())
        assert (await socket.get())["payload"]["error"]["code"] == "shuttingDown"
        assert await socket.closed() == 1001
        await stopping


async def test_pings_that_are_not_read_cost_no_memory() -> None:
    async with browsing() as play:
        reader, writer = await raw_socket(play, "t")
        site = play.running.daemon.sockets.web
        assert isinstance(site, Site)
        (gateway,) = site.fronts.gateways
        many = sent(PING, b"x" * 125) * 500
        most = 0
        for _ in range(150):  # 10 MB, which is more than the system takes of the answers
            writer.write(many)
            await writer.drain()
            most = max(most, gateway.get_write_buffer_size())
        assert most < 1000
        writer.write(sent(PING, b"last"))
        async with asyncio.timeout(PATIENCE_S):
            answer = b""
            while answer != b"last":  # which is answered when what was written before is read
                first, size = await reader.readexactly(2)
                assert first == 0x80 | PONG
                answer = await reader.readexactly(size)
        writer.close()


async def test_a_client_that_answers_no_ping_is_given_up() -> None:
    async with browsing() as play:
        reader, writer = await raw_socket(play, "t")
        site = play.running.daemon.sockets.web
        assert isinstance(site, Site)
        (gateway,) = site.fronts.gateways
        gateway.look()
        assert await reader.readexactly(2) == b"\x89\x00"
        gateway.look()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
