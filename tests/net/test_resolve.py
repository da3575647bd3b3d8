"""From a server's name to its addresses, with a real DNS conversation on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest

from bester.errors import ServerUnreachable
from bester.net.resolve import resolve
from bester.protocol.addresses import ServerName, TcpAddress, UnixAddress


class NameServer(asyncio.DatagramProtocol):
    """Answers every question with the same service records; with none, there is no such name."""

    def __init__(self, records: list[str]) -> None:
        self.records = records
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name
        self.asked.append(str(name))
        response = dns.message.make_response(query)
        if self.records:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *self.records))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def name_server(monkeypatch: pytest.MonkeyPatch, *records: str) -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(list(records)), local_addr=("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    try:
        yield server
    finally:
        transport.close()


async def test_service_records_by_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server(monkeypatch, "20 0 2300 far.example.", "10 5 2299 near.example.") as server:
        found = await resolve(ServerName("j.example"), {})
    assert found == [TcpAddress("near.example", 2299), TcpAddress("far.example", 2300)]
    assert server.asked == ["_bester._tcp.j.example."]


async def test_a_name_without_records_is_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server(monkeypatch):
        assert await resolve(ServerName("j.example"), {}) == [TcpAddress("j.example", 2223)]


async def test_a_name_without_a_domain_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server(monkeypatch, "0 0 1 nowhere.example.") as server:
        assert await resolve(ServerName("localhost"), {}) == [TcpAddress("localhost", 2223)]
    assert server.asked == []


async def test_what_is_configured_comes_first() -> None:
    configured = {"j.example": "k.example", "k.example": "unix:/run/k", "own.example": "[::1]:2224"}
    assert await resolve(ServerName("j.example"), configured) == [UnixAddress("/run/k")]
    assert await resolve(ServerName("own.example"), configured) == [TcpAddress("::1", 2224)]
    assert await resolve(TcpAddress("j.example", 1), configured) == [TcpAddress("j.example", 1)]


async def test_a_name_that_leads_to_itself_is_a_host() -> None:
    assert await resolve(ServerName("j"), {"j": "j"}) == [TcpAddress("j", 2223)]
    assert await resolve(ServerName("j"), {"j": "k", "k": "j"}) == [TcpAddress("j", 2223)]


async def test_a_configured_address_that_is_none() -> None:
    with pytest.raises(ServerUnreachable, match="not valid"):
        await resolve(ServerName("j"), {"j": "no port:x"})
