"""The server's end of TLS, back to back with a client's and without a network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import self_signed

from bester.tls import server_context
from bester.tlstransport import MAX_ANSWERS, TlsTransport


class Socket(asyncio.Transport):
    """The transport of a socket that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.calls: list[str] = []

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.calls))

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def get_write_buffer_size(self) -> int:
        return len(self.written)


class App(asyncio.Protocol):
    """What uses the connection."""

    def __init__(self, keep_open: bool = False) -> None:
        self.keep_open = keep_open
        self.reads: list[bytes] = []
        self.events: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.reads.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)


class Pair:
    """Both ends."""

    def __init__(self, folder: Path, app: App, version: ssl.TLSVersion, timeout_s: float = 10.0) -> None:
        papers = self_signed(folder, "j.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.incoming, self.outgoing)
        self.socket = Socket()
        self.server = TlsTransport(
            app,
            server_context(papers.certificate, papers.key),
            handshake_timeout_s=timeout_s,
            shutdown_timeout_s=timeout_s,
        )
        self.server.connection_made(self.socket)

    def to_server(self, step: int | None = None) -> None:
        """Brings what the client has written, at most so many bytes at a time."""
        data = self.outgoing.read()
        for at in range(0, len(data), step or max(len(data), 1)):
            self.server.data_received(data[at : at + step] if step else data)

    def to_client(self, act: Callable[[], Any]) -> Any:
        """Brings what the server has written, and lets the client act."""
        self.incoming.write(self.socket.written)
        self.socket.written = b""
        try:
            return act()
        except ssl.SSLWantReadError:
            return None

    def shake_hands(self, step: int | None = None) -> None:
        for _ in range(3):
            self.to_client(self.client.do_handshake)
            self.to_server(step)

    def read(self) -> bytes:
        """Returns all that the client has got."""
        found = b""
        while part := self.to_client(lambda: self.client.read(1 << 20)):
            found += part
        return found


both = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@both
@pytest.mark.parametrize("step", [None, 1, 7])
async def test_any_split_gives_the_same_bytes(tmp_path: Path, version: ssl.TLSVersion, step: int | None) -> None:
    app = App()
    pair = Pair(tmp_path, app, version)
    pair.shake_hands(step)
    await pair.server.ready()
    for number in range(20):
        pair.client.write(b"%d," % number)
    pair.to_server(step)
    assert b"".join(app.reads) == b"".join(b"%d," % number for number in range(20))
    assert step is not None or len(app.reads) == 1, "one read of the socket is one read of the user"
    assert pair.server.get_extra_info("ssl_object").version() == version.name.replace("_", ".")


@both
async def test_more_than_a_record_in_both_directions(tmp_path: Path, version: ssl.TLSVersion) -> None:
    app = App()
    pair = Pair(tmp_path, app, version)
    pair.shake_hands()
    data = bytes(range(256)) * 1000
    at = 0
    while at < len(data):
        at += pair.client.write(data[at:])
    pair.to_server()
    assert b"".join(app.reads) == data
    pair.server.write(data)
    assert pair.read() == data


@both
async def test_the_peer_ends_its_half_and_still_reads(tmp_path: Path, version: ssl.TLSVersion) -> None:
    app = App(keep_open=True)
    pair = Pair(tmp_path, app, version)
    pair.shake_hands()
    pair.client.write(b"the last")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.to_server()
    assert app.reads == [b"the last"]
    assert app.events == ["made", "eof"]
    pair.server.data_received(b"more, which nobody may send")
    assert app.events == ["made", "eof"]
    assert not pair.server.is_closing()
    pair.server.close()
    assert pair.socket.calls == ["close"]
    pair.to_client(pair.client.unwrap)
    pair.server.connection_lost(None)
    assert app.events == ["made", "eof", None]


async def test_the_peer_ends_and_nothing_is_left_to_say(tmp_path: Path) -> None:
    app = App()
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.shake_hands()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.to_server()
    assert pair.socket.calls == ["close"]
    pair.server.connection_lost(None)


async def test_we_end_and_wait_for_the_peer(tmp_path: Path) -> None:
    app = App()
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.shake_hands()
    pair.server.write(b"farewell")
    pair.server.close()
    pair.server.write(b"too late")
    assert pair.socket.calls == ["resume"]
    pair.client.write(b"nobody wants it")
    pair.to_server()
    assert app.reads == []
    assert pair.read() == b"farewell"
    pair.client.unwrap()
    pair.to_server()
    assert pair.socket.calls == ["resume", "close"]
    pair.server.connection_lost(None)
    assert app.events == ["made", None], "the end is not told twice"


async def test_a_peer_that_does_not_say_it_is_aborted(tmp_path: Path) -> None:
    pair = Pair(tmp_path, App(), ssl.TLSVersion.TLSv1_3, timeout_s=0.02)
    pair.shake_hands()
    pair.server.close()
    await asyncio.sleep(0.1)
    assert pair.socket.calls == ["resume", "abort"]


async def test_the_end_of_tcp_is_that_of_the_connection(tmp_path: Path) -> None:
    app = App(keep_open=True)
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.shake_hands()
    assert not pair.server.eof_received(), "which closes the socket"
    pair.server.connection_lost(None)
    assert app.events == ["made", None]


async def test_renewed_keys_are_answered_so_often_to_a_peer_that_does_not_read(tmp_path: Path) -> None:
    app = App()
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.shake_hands()
    pair.server.write(b"unread")
    answer, answers = pair.server._answer, MAX_ANSWERS
    for _ in range(answers):
        answer()
    assert pair.socket.calls == []
    answer()
    assert pair.socket.calls == ["abort"]
    pair.server.connection_lost(None)
    assert isinstance(app.events[-1], ConnectionAbortedError)


async def test_bytes_that_are_no_record(tmp_path: Path) -> None:
    app = App()
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.shake_hands()
    pair.client.write(b"good")
    broken = bytearray(pair.outgoing.read())
    pair.client.write(b"bad")
    broken += pair.outgoing.read()
    broken[-1] ^= 1
    pair.server.data_received(bytes(broken))
    assert pair.socket.calls == ["close"]
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):  # the alert says so
        pair.read()
    pair.server.data_received(b"more")
    pair.server.connection_lost(None)
    assert isinstance(app.events[-1], ssl.SSLError)


async def test_no_handshake(tmp_path: Path) -> None:
    app = App()
    pair = Pair(tmp_path, app, ssl.TLSVersion.TLSv1_3)
    pair.server.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert pair.socket.calls == ["close"]
    pair.server.connection_lost(None)
    with pytest.raises(ssl.SSLError):
        await pair.server.ready()
    assert app.events == []


async def test_a_handshake_that_takes_too_long(tmp_path: Path) -> None:
    pair = Pair(tmp_path, App(), ssl.TLSVersion.TLSv1_3, timeout_s=0.02)
    waiting = asyncio.create_task(pair.server.ready())
    await asyncio.sleep(0.1)
    assert pair.socket.calls == ["abort"]
    pair.server.connection_lost(None)
    with pytest.raises(ConnectionAbortedError, match="too long"):
        await waiting


async def test_who_waits_for_it_is_cancelled(tmp_path: Path) -> None:
    pair = Pair(tmp_path, App(), ssl.TLSVersion.TLSv1_3)
    waiting = asyncio.create_task(pair.server.ready())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pair.socket.calls == ["abort"]
    pair.server.connection_lost(None)
