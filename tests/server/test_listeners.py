"""The kinds of listener, with real sockets (docs/protocol.md, sections 1, 8.5 and 10.1)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.ports import free_port
from tests.server.peers import Stage, Wire, hello, script, stage, to
from tests.waiting import until

from bester.config import load, parse
from bester.errors import BadConfiguration
from bester.net.listeners import Tcp4Listener, Tcp6Listener, TlsListener, UnixListener
from bester.server.server import Server
from bester.testing import PASSWORD, RunningServer

KINDS = ["unix", "tcp4", "tcp6", "tls"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def network(authority: trustme.CA, tmp_path: Path) -> dict[str, object]:
    """The configuration of all kinds at once."""
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with open(tmp_path / "cert.pem", "wb") as file:
        for part in certificate.cert_chain_pems:
            file.write(part.bytes())
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    return {
        "types": KINDS,
        "tcp6": {"port": "0", "address": "::1"},
        "tls": {"port": "0", "address": "127.0.0.1", **files},
    }


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def connected(play: Stage, kind: str, trusting: ssl.SSLContext) -> Wire:
    host = "::1" if kind == "tcp6" else "127.0.0.1"
    return await play.connect(kind, host, trusting if kind == "tls" else None)


@pytest.mark.parametrize("kind", KINDS)
async def test_login_message_report(kind: str, network: dict[str, object], trusting: ssl.SSLContext) -> None:
    async with stage({"network": network}) as play:
        handler = await play.attach("chat")
        wire = await connected(play, kind, trusting)
        wire.send(hello())
        welcome = await wire.good("auth_special")
        assert welcome["server"] == "test.example"
        assert welcome["features"] == []
        assert welcome["limits"] == {"maxMessage": 1 << 20, "maxInFlight": 1024}
        big = "x" * 500_000
        wire.ask("chat", "1", big)
        handler.answer(await handler.get(), to("t"), data=big)
        message = await wire.get()
        assert message == {"header": {"messageType": "receivedMessage"}, "payload": {"type": "chat", "data": big}}
        assert (await wire.good("1"))["results"] == [{"to": "t", "status": "delivered"}]
        wire.command("close", "2")
        await wire.good("2")
        await wire.closed()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fatal_message_can_be_read(kind: str, network: dict[str, object], trusting: ssl.SSLContext) -> None:
    async with stage({"network": network}) as play:
        wire = await connected(play, kind, trusting)
        wire.send(b"{}", "x" * 100_000)
        assert await wire.fatal() == "badScope"


async def test_a_server_over_every_kind(network: dict[str, object], trusting: ssl.SSLContext) -> None:
    async with stage({"network": network}) as play:
        for kind in KINDS:
            wire = await connected(play, kind, trusting)
            wire.send({"header": {"scope": "server"}, "payload": {"type": "none", "id": kind}})
            assert await wire.bad(kind) == "noHandler"
            await wire.closed()


async def test_tls_needs_version_1_2(network: dict[str, object], trusting: ssl.SSLContext) -> None:
    async with stage({"network": network}) as play:
        tls = next(one for one in play.running.daemon.sockets.listeners if one.kind == "tls").tls
        assert tls is not None
        assert tls.minimum_version == ssl.TLSVersion.TLSv1_2
        plain = await play.connect("tls")
        plain.send(hello())
        async with asyncio.timeout(10):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await plain.reader.readexactly(1000)
        wire = await connected(play, "tls", trusting)
        wire.send(hello())
        await wire.good()


# -- the founding configuration ----------------------------------------------------------------------------------------

TYPE1 = """\
import os, socket, struct
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind("aSock")
    listening.listen()
    while True:
        connection, _ = listening.accept()
        with connection:
            (size,) = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
            data = connection.recv(size, socket.MSG_WAITALL)
            command = b'{"type": "sendClients", "data": ["t"]}'
            answer = b'{"header": {"status": "0", "command": %s}, "data": %s}' % (command, data)
            connection.sendall(struct.pack("<I", len(answer)) + answer)
"""


async def test_the_founding_configuration(short: Path) -> None:
    script(short / "type1.py", TYPE1)
    port = str(free_port())
    founding = {
        "network": {
            "types": ["unix", "tcp4", "tcp6"],
            "unix": {"address": "besterUNIXSock"},
            "tcp4": {"port": port, "address": "127.0.0.1"},
            "tcp6": {"port": port, "address": "::1"},
        },
        "handlers": {
            "availableTypes": ["type1"],
            "typeMap": {"type1": {"handlerBinary": "./type1.py", "unixDomainSocketPath": "aSock"}},
        },
        "admin": {"info": {}},
    }
    (short / "server.conf").write_text(json.dumps(founding), encoding="utf-8")
    server = Server(await asyncio.to_thread(load, short / "server.conf"))
    said: list[str] = []
    await server.start(said.append)
    try:
        sockets = {path.name for path in short.iterdir() if path.is_socket()}
        assert sockets - {"aSock"} == {"bInformer", "besterControl", "besterHandlers", "besterUNIXSock"}
        assert f"listening on tcp4://127.0.0.1:{port}" in said
        assert f"listening on tcp6://[::1]:{port}" in said
        assert said[-1].endswith("is ready")
        await server.accounts.add("t", PASSWORD)
        for pair in (
            asyncio.open_unix_connection(short / "besterUNIXSock"),
            asyncio.open_connection("127.0.0.1", int(port)),
            asyncio.open_connection("::1", int(port)),
        ):
            wire = Wire(*await pair)
            wire.send(hello())
            await wire.good("auth_special")
            wire.ask("type1", "1", {"a": 1})
            assert (await wire.get())["payload"] == {"type": "type1", "data": {"a": 1}}
            await wire.good("1")
            await wire.leave()
        state = server.supervisor.state("type1")
        assert state is not None
        assert isinstance(state["pid"], int)
        os.kill(state["pid"], 0)
    finally:
        await server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(state["pid"], signal.SIGCONT)
    assert not (short / "besterUNIXSock").exists()
    assert not (short / "besterControl").exists()


# -- sockets that are there already ------------------------------------------------------------------------------------


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, since those of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        yield Path(name)


class Nothing(asyncio.Protocol):
    pass


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()


async def test_a_dead_socket_is_replaced(short: Path) -> None:
    for name in ("clients", "besterHandlers", "bInformer", "besterControl"):
        dead_socket(short / name)
    server = Server(parse('{"network": {"unix": {"address": "clients"}}}', short))
    await server.start()
    try:
        for name in ("clients", "besterHandlers", "bInformer", "besterControl"):
            assert stat.S_IMODE((short / name).stat().st_mode) == 0o660
            await Wire(*await asyncio.open_unix_connection(short / name)).leave()
    finally:
        await server.stop()
    assert not any(path.is_socket() for path in short.iterdir())


async def test_a_live_socket_is_an_error(short: Path) -> None:
    first = UnixListener(short / "s")
    first.open(lambda _: Nothing())
    second = UnixListener(short / "s")
    with pytest.raises(BadConfiguration, match="another process is listening there"):
        second.open(lambda _: Nothing())
    second.close()
    assert (short / "s").is_socket()
    await Wire(*await asyncio.open_unix_connection(short / "s")).leave()
    first.close()
    assert not (short / "s").exists()


async def test_a_server_that_cannot_open_everything_leaves_nothing(short: Path) -> None:
    (short / "besterControl").unlink(missing_ok=True)
    other = UnixListener(short / "clients")
    other.open(lambda _: Nothing())
    server = Server(parse('{"network": {"unix": {"address": "clients"}}}', short))
    with pytest.raises(BadConfiguration, match="clients"):
        await server.start()
    assert [path.name for path in short.iterdir() if path.is_socket()] == ["clients"]
    other.close()


async def test_another_file_is_an_error(short: Path) -> None:
    (short / "s").write_text("precious", encoding="utf-8")
    with pytest.raises(BadConfiguration, match="no socket"):
        UnixListener(short / "s").open(lambda _: Nothing())
    assert (short / "s").read_text(encoding="utf-8") == "precious"
    with pytest.raises(BadConfiguration, match="cannot listen"):
        UnixListener(short / "absent" / "s").open(lambda _: Nothing())


async def test_a_socket_that_was_replaced_is_left_alone(short: Path) -> None:
    first = UnixListener(short / "s")
    first.open(lambda _: Nothing())
    (short / "s").unlink()
    second = UnixListener(short / "s")
    second.open(lambda _: Nothing())
    first.close()
    await Wire(*await asyncio.open_unix_connection(short / "s")).leave()
    second.close()


# -- ports -------------------------------------------------------------------------------------------------------------


async def test_both_families_on_one_port() -> None:
    port = free_port()
    four, six = Tcp4Listener("127.0.0.1", port), Tcp6Listener("::1", port)
    four.open(lambda _: Nothing())
    six.open(lambda _: Nothing())
    await Wire(*await asyncio.open_connection("127.0.0.1", port)).leave()
    await Wire(*await asyncio.open_connection("::1", port)).leave()
    four.close()
    six.close()


async def test_a_port_that_is_taken() -> None:
    first = Tcp4Listener("127.0.0.1", 0)
    first.open(lambda _: Nothing())
    with pytest.raises(BadConfiguration, match=f"cannot listen on tcp4://127.0.0.1:{first.port}: "):
        Tcp4Listener("127.0.0.1", first.port).open(lambda _: Nothing())
    first.close()


async def test_a_port_can_be_bound_again_at_once() -> None:
    """Also with a connection of before that the server itself has closed."""
    async with stage() as play:
        port = play.port
        wire = await play.login(where="tcp4")
        wire.command("close")
        await wire.good()
        await wire.closed()
        open_still = await play.login(where="tcp4")
        await until(lambda: play.runtime.exchange.presence.session_count == 1)
        del open_still
    async with stage({"network": {"tcp4": {"port": port}}}) as again:
        assert again.port == port
        await again.login(where="tcp4")


def test_urls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert Tcp6Listener("::1", 5).url == "tcp6://[::1]:5"
    assert TlsListener("::1", 5, context).url == "tls://[::1]:5"
    assert TlsListener("127.0.0.1", 5, context).url == "tls://127.0.0.1:5"
    assert TlsListener("::1", 5, context).family == socket.AF_INET6


async def test_a_url_of_the_test_server() -> None:
    async with stage() as play:
        assert isinstance(play.running, RunningServer)
        assert play.running.url("a b").startswith("bester://a%20b:")
