"""One client that sends the hardest frames there are, and what another one sees of it."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from bench import hostile
from bench.figures import OURS
from bench.load.dialects import account, frame, token, whole_frame
from bench.run import Run

PINGS = 300
"""Round trips of the client that is watched."""
PAUSE_S = 0.005
PING = frame(b'{"payload":{"type":"dummy","id":"1"}}')


def decoding(run: Run, stack: ExitStack) -> None:
    """Measures what a byte of the hardest frame takes, and how long another client waits beside a flood of them."""
    found: dict[str, float] = {}
    bodies = hostile.frames()
    for name, body in bodies.items():
        found[name] = min(_seconds(name, body) for _ in range(run.rounds)) * 1e9 / len(body)
        run.progress(f"{name}: {found[name]:.1f} ns a byte")
    run.figures.add("decoding the hardest frame", OURS, "ns/byte", max(found.values()))
    of_clients = {name: ns for name, ns in found.items() if name.startswith("client")}
    worst = max(of_clients, key=of_clients.__getitem__)
    with run.peers.bester(handler=None) as server, _session(server.port, 1) as watched:
        for beside, sent in (("alone", b""), ("beside the hardest frames", bodies[worst])):
            with _flood(server.port, sent):
                times = [_ping(watched) for _ in range(PINGS)]
            run.figures.add(f"a ping {beside}", OURS, "p50 ms", statistics.median(times) * 1e3)
            run.figures.add(f"a ping {beside}", OURS, "max ms", max(times) * 1e3)


def _seconds(name: str, body: bytes) -> float:
    began = time.process_time()
    hostile.decode(name, body)
    return time.process_time() - began


@contextmanager
def _session(port: int, number: int) -> Iterator[socket.socket]:
    header = {
        "scope": "client",
        "features": ["ack"],
        "authentication": {"username": account(number), "token": token(number)},
    }
    with socket.create_connection(("127.0.0.1", port), 30) as session:
        session.sendall(frame(json.dumps({"header": header}).encode()))
        _get(session)
        yield session


def _get(session: socket.socket) -> None:
    buffer = b""
    while not whole_frame(buffer):
        buffer += session.recv(65_536)


def _ping(session: socket.socket) -> float:
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    session.sendall(PING)
    _get(session)
    return time.perf_counter() - began


@contextmanager
def _flood(port: int, body: bytes) -> Iterator[None]:
    """Sends a body again and again meanwhile, as fast as it is read."""
    if not body:
        yield
        return
    done = threading.Event()

    def send(session: socket.socket) -> None:
        whole = frame(body)
        with suppress(OSError):  # the end
            while not done.is_set():
                session.sendall(whole)
                with suppress(BlockingIOError):
                    session.recv(65_536, socket.MSG_DONTWAIT)

    with _session(port, 2) as session:
        sender = threading.Thread(target=send, args=(session,))
        sender.start()
        try:
            yield
        finally:
            done.set()
            session.shutdown(socket.SHUT_RDWR)
            sender.join()
