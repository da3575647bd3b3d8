"""Whoever has not proven to be a hook keeps nobody out, by half requests, half headers or half handshakes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import trustme
from gadgets.tests.webhook.sites import PATIENCE_S, SECRET, TOKEN, signed, taking

from bester import Client
from bester.testing import server

SIGNED: dict[str, Any] = {"type": "bell", "to": ["g"], "secret": SECRET, "rate": 1000, "burst": 1000}
BELL: dict[str, Any] = {"type": "bell", "to": ["g"], "token": TOKEN, "rate": 1000, "burst": 1000}
FEW = {"maxRequests": 4, "maxPerAddress": 4, "timeout": 30}
CROWD = 40


def half_request() -> bytes:
    """Signed as far as anybody can tell before the body is there."""
    head = [f"{name}: {value}" for name, value in signed(b"{}").items()]
    return "\r\n".join(["POST /push/door HTTP/1.1", "host: x", "content-length: 1000", *head, "", "{"]).encode()


HALVES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a header": lambda: b"POST /push/door HTTP/1.1\r\nhost: x\r\nx: ",
    "a body": half_request,  # signed now: a signature does not last as long as all tests together
    "a body with a token": lambda: (
        f"POST /push/bell HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\n\r\n{{".encode()
    ),
}


@asynccontextmanager
async def crowd(url: str, half: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Many connections that have said this, and say nothing more."""
    host, port = url.split("/")[2].split(":")
    made = []
    try:
        for _ in range(CROWD):
            reader, writer = await asyncio.open_connection(host, int(port))
            made.append((reader, writer))
            writer.write(half)
        yield [reader for reader, _ in made]
    finally:
        for _, writer in made:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Returns what was said before the end."""
    said = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            said = await reader.read()
    return said


async def pushed(url: str, trusting: ssl.SSLContext | bool = True) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/door", data=b"{}", headers=signed(b"{}"), ssl=trusting) as response,
    ):
        return response.status


@pytest.mark.parametrize("half", HALVES)
async def test_half_requests_keep_nobody_out(half: str) -> None:
    async with server() as s, Client(s.url("g")), taking(s, listen=FEW, door=SIGNED, bell=BELL) as url:
        async with crowd(url, HALVES[half]()) as readers:
            assert await asyncio.wait_for(pushed(url), PATIENCE_S) == 200
            # Those that waited for longest made room.
            for reader in readers[: CROWD - 2 * FEW["maxRequests"]]:
                await ended(reader)
        assert await pushed(url) in (200, 422)


async def test_half_handshakes_keep_nobody_out() -> None:
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with server() as s, Client(s.url("g")), taking(s, served, FEW, door=SIGNED) as url:
        for half in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
            async with crowd(url, half) as readers:
                assert await asyncio.wait_for(pushed(url, trusting), PATIENCE_S) == 200
                await ended(readers[0])


@pytest.mark.parametrize("half", HALVES)
async def test_what_stays_half_is_ended(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester_gadgets.webhook.connections.GRACE_S", 0.1)
    async with server() as s, taking(s, listen=FEW | {"timeout": 0.1}, door=SIGNED, bell=BELL) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HALVES[half]())
        said = await ended(reader)
        assert not said or said.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_what_is_carried_out_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(self: Any, *more: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await carry_out(self, *more)

    from bester_gadgets.webhook.taking import Endpoint

    carry_out = Endpoint._carry_out
    monkeypatch.setattr(Endpoint, "_carry_out", slowly)
    async with server() as s, Client(s.url("g")), taking(s, listen=FEW, door=SIGNED) as url:
        pushing = asyncio.ensure_future(pushed(url))
        await begun.wait()
        async with crowd(url, half_request()) as readers:
            await ended(readers[0])
            go_on.set()
            assert await asyncio.wait_for(pushing, PATIENCE_S) == 200


async def test_who_is_not_let_in_has_one_try_for_a_connection() -> None:
    async with server() as s, taking(s, door=SIGNED) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /push/door HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}" * 2)
        assert (await ended(reader)).count(b"HTTP/1.1 401 ") == 1
        writer.close()


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost() -> None:
    """A client may send its request together with the last message of its handshake."""
    authority = trustme.CA()
    served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    request = b"POST /push/none HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    async with server() as s, taking(s, served, door=SIGNED) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        done = False
        while not done:
            try:
                tls.do_handshake()
                tls.write(request)
                done = True
            except ssl.SSLWantReadError:
                pass
            writer.write(outgoing.read())
            if not done:
                incoming.write(await asyncio.wait_for(reader.read(65536), PATIENCE_S))
        said = b""
        while not said:
            incoming.write(await asyncio.wait_for(reader.read(65536), PATIENCE_S))
            with suppress(ssl.SSLWantReadError):
                said = tls.read(65536)
        assert said.startswith(b"HTTP/1.1 401 ")
        writer.close()
