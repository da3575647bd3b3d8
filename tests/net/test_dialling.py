"""Names with many addresses, of which some are silent (RFC 8305)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import self_signed

import bester_gadgets
from bester import dialling
from bester.client.dial import dial as dial_client
from bester.client.url import parse_url
from bester.config import parse
from bester.net.channel import Channel
from bester.net.dial_peer import connect_peer, shown_by
from bester.net.identity import Identities
from bester.protocol.addresses import TcpAddress, parse_address
from bester.protocol.reports import ConnectError
from bester.tls import server_context

SILENT, GOOD, BROKEN = "127.0.0.2", "127.0.0.1", "127.0.0.3"
SOON_S = 3.0
SOURCES = [Path(str(package.__file__)).parent for package in (dialling, bester_gadgets)]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port where one address is silent, and ``two.example`` has that one first."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind((SILENT, 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        stack.enter_context(socket.create_connection((SILENT, port)))  # its queue is full: SYNs are dropped from now on

        async def looked_up(host: str, port: int, others: bool) -> Any:
            some = {"two.example": (SILENT, GOOD), "three.example": (BROKEN, SILENT, GOOD)}.get(host, (host,))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in some]

        monkeypatch.setattr(dialling, "_lookup", looked_up)
        yield port


async def test_a_client(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, GOOD, port)
    before = time.monotonic()
    channel = await dial_client(
        parse_url(f"bester://t@two.example:{port}"), lambda: Channel(99, lambda _: None, lambda _: None)
    )
    assert time.monotonic() - before < SOON_S
    channel.close()
    server.close()


async def test_a_server_over_tls(tmp_path: Path, port: int) -> None:
    """One is silent, and one has another key: the third is right."""
    b, other = self_signed(tmp_path, "b.example"), self_signed(tmp_path, "other.example")
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(asyncio.Protocol, where, port, ssl=server_context(papers.certificate, papers.key))
        for where, papers in ((GOOD, b), (BROKEN, other))
    ]
    entry = {"address": f"three.example:{port}", "fingerprint": b.fingerprints.key}
    tree = {"network": {"tcp4": {"port": 0}}, "federation": {"servers": {"b.example": entry}}}
    config = parse(json.dumps(tree), tmp_path)
    before = time.monotonic()
    made = await connect_peer(parse_address("b.example"), config, Identities(config), asyncio.Protocol)
    assert made.name == "b.example"
    connection = made.transport.get_extra_info("socket")
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    made.transport.abort()
    found = await shown_by(parse_address(f"two.example:{port}"), "b.example", SOON_S)
    assert found.fingerprints == b.fingerprints
    assert time.monotonic() - before < SOON_S
    for server in servers:
        server.close()


async def test_one_that_does_not_shake_hands(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a part of the time, where there are others."""
    monkeypatch.setattr(dialling, "ATTEMPT_S", 0.05)
    b = self_signed(tmp_path, "b.example")
    loop = asyncio.get_running_loop()
    mute = await loop.create_server(asyncio.Protocol, BROKEN, port)
    good = await loop.create_server(asyncio.Protocol, GOOD, port, ssl=server_context(b.certificate, b.key))
    before = time.monotonic()
    found = await shown_by(parse_address(f"three.example:{port}"), "b.example", SOON_S)
    assert found.fingerprints == b.fingerprints
    assert time.monotonic() - before < SOON_S
    mute.close()
    good.close()


async def test_service_records_in_their_order(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent first target does not use the time up; one that cannot be looked up is passed over."""

    async def records(address: Any, configured: Any) -> list[TcpAddress]:
        return [TcpAddress("gone.invalid", port), TcpAddress(SILENT, port), TcpAddress(GOOD, port)]

    monkeypatch.undo()
    monkeypatch.setattr("bester.net.dial_peer.resolve", records)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, GOOD, port)
    config = parse('{"network": {"tcp4": {"port": 0}}, "federation": {"policy": "local"}}', tmp_path)
    before = time.monotonic()
    made = await connect_peer(parse_address("b.example"), config, Identities(config), asyncio.Protocol)
    assert made.transport.get_extra_info("peername")[0] == GOOD
    assert time.monotonic() - before < SOON_S
    made.transport.abort()
    server.close()


async def test_the_order_of_addresses() -> None:
    found = await dialling.addresses([("127.0.0.9", 1), ("127.0.0.8", 2), ("127.0.0.9", 1), ("::1", 3)])
    assert [info[4][:2] for info in found] == [("127.0.0.9", 1), ("127.0.0.8", 2), ("::1", 3)]
    with pytest.raises(socket.gaierror):
        await dialling.addresses([("no such host", 1)])


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example", "ü" * 64], ids=["empty", "long", "foreign"])
async def test_a_host_that_no_name_can_be(host: str) -> None:
    with pytest.raises(socket.gaierror, match="no such host"):
        await dialling.addresses([(host, 1)])
    with pytest.raises(ConnectError, match="no such host"):
        await dial_client(parse_url(f"bester://t@{host}:1"), lambda: Channel(99, lambda _: None, lambda _: None))


async def test_nobody_answers() -> None:
    with socket.socket() as bound:
        bound.bind((GOOD, 0))

        async def never(connected: socket.socket) -> None:
            raise AssertionError

        with pytest.raises(ConnectionRefusedError):
            await dialling.dial(await dialling.addresses([(GOOD, bound.getsockname()[1])]), never)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_an_address_that_leads_to_another_one_is_tried_once(host: str) -> None:
    tried = []

    async def fail(connected: socket.socket) -> None:
        tried.append(connected)
        raise ConnectionResetError

    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as there:
        async with asyncio.timeout(SOON_S):
            with pytest.raises(ConnectionResetError):
                await dialling.dial(await dialling.addresses([(host, there.getsockname()[1])]), fail)
    assert len(tried) == 1


async def test_a_connection_that_is_reset_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next address is tried."""
    with socket.create_server((GOOD, 0)) as there:
        infos = await dialling.addresses([("127.0.0.9", 1), there.getsockname()])
        reset, connected = socket.socket(), dialling.connected
        answers = [reset]

        async def reset_first(left: Any) -> socket.socket:
            return answers.pop() if answers else await connected(left)

        async def peer(found: socket.socket) -> Any:
            with found:
                return found.getpeername()

        monkeypatch.setattr(dialling, "connected", reset_first)
        assert await dialling.dial(infos, peer) == there.getsockname()
        assert reset.fileno() == -1


async def test_a_connection_that_takes_no_option_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as without:  # which has no TCP_NODELAY

        async def start(*_: Any, **__: Any) -> socket.socket:
            return without

        monkeypatch.setattr("aiohappyeyeballs.start_connection", start)
        assert await dialling.connected([]) is without


def test_nothing_dials_another_way() -> None:
    """A name goes to no library that would try its addresses one after the other."""
    wrong = re.compile(r"open_connection\((?!sock=)|create_connection\((?!.*sock=)|getaddrinfo\(")
    found = []
    for source in SOURCES:
        for path in source.rglob("*.py"):
            text = re.sub(r"create_connection\(\s*([^()]|\([^()]*\))*sock=", "", path.read_text(encoding="utf-8"))
            if path.name != "dialling.py" and wrong.search(text):
                found.append(str(path.relative_to(source)))
    assert sorted(found) == [
        "accepting.py",  # binds
        "cli/nats.py",  # has a number of this machine
        "lab/loop.py",  # is the simulated network's own getaddrinfo
    ]


def test_a_context_is_the_same_on_every_python() -> None:
    from bester.tls import verifying_context

    flags = verifying_context().verify_flags
    assert not flags & ssl.VerifyFlags.VERIFY_X509_STRICT
    assert flags & ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
