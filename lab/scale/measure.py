"""``python -m lab.scale.measure``: what a real server spends on messages, which the simulated ones are held to.

Besides the benchmark's own loads, a relay is measured: a client's message goes to a handler, to a second server, to its
handler, and to a client there. Clients and handlers are the benchmark's, in C.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import Figures
from bench.generators import SOURCES, build
from bench.load.dialects import ATTACH, TYPE, Bester, account, frame
from bench.machine import Cores, cpu_seconds, describe
from bench.peers import Accounts, Peers, Running
from bench.programs import Program, program
from bench.run import Run

LOADS = ((1, 64), (50, 8), (50, 1), (1, 1))
"""Clients, and how many messages each has under way."""
SECONDS = 3.0
ROUNDS = 3
READER = 199
"""The account that gets what is relayed."""


def echo(run: Run, found: dict[str, list[float]]) -> None:
    """Measures round trips, by processor time."""
    with run.peers.bester(cores=Cores.apart()) as server:
        for clients, outstanding in LOADS:
            name = f"echo {clients}x{outstanding}"
            found.setdefault(name, []).append(run.load(server, clients, outstanding)["cpuUs"])
        found.setdefault("echo 50x8 1 KiB", []).append(run.load(server, 50, 8, 1024)["cpuUs"])


def fan_out(run: Run, found: dict[str, list[float]]) -> None:
    """Measures deliveries to 1,000 clients."""
    with run.peers.bester(handler=None, cores=Cores.apart()) as server:
        found.setdefault("fan-out", []).append(run.fan(server, 1000, 64, 0, run.seconds)["cpuUs"])


def relay(run: Run, found: dict[str, list[float]], first: bool) -> None:
    """Measures the first or the second server of a relay, which has a core of its own."""
    apart, loaded = Cores.apart(), Cores.apart().load
    ours, other = (apart, Cores(loaded, loaded)) if first else (Cores(loaded, loaded), apart)
    with ExitStack() as stack:
        second = stack.enter_context(run.peers.bester(handler=None, cores=other))
        one = stack.enter_context(run.peers.bester(handler=None, cores=ours))
        to = f"127.0.0.1:{second.port}"
        _handler(stack, run, one, b'"sendServers","data":["%b"]' % to.encode())
        _handler(stack, run, second, b'"sendClients","data":["%b"]' % account(READER).encode())
        stack.enter_context(_reader(second.port))
        for clients, outstanding in LOADS:
            name = f"relay {clients}x{outstanding}, {'first' if first else 'second'}"
            with program(*_clients(run, one, clients, outstanding, to), cores=loaded) as load:
                load.until("begin".__eq__)
                pids = (one if first else second).pids
                before = cpu_seconds(pids)
                count = load.result()["count"]
                found.setdefault(name, []).append(1e6 * (cpu_seconds(pids) - before) / count)


def _handler(stack: ExitStack, run: Run, server: Running, command: bytes) -> Program:
    pieces = (b'{"header":{"id":"', b'","status":"0","command":{"type":%b}},"payload":{"data":' % command, b"", b"}}")
    script = _script(run, [frame(ATTACH % TYPE.encode()), *pieces])
    command_line = (str(build(SOURCES / "handlers.c")), script, "attached", server.handler_socket, "0")
    handler = stack.enter_context(program(*command_line, cores=Cores.apart().load))
    handler.until("ready".__eq__)
    return handler


def _clients(run: Run, server: Running, clients: int, outstanding: int, to: str) -> tuple[str, ...]:
    dialect = Bester()
    results = b'"results":[{"to":"%b","status":"sent"}]' % to.encode()
    report = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"abcd",%b}}' % results
    parts = [b"", b"", dialect.good, b"framed"]
    for number in range(clients):
        parts += [dialect.hello(number), dialect.message(number, 64), frame(report)]
    work = (server.port, clients, outstanding, 0.5, SECONDS, 1)
    return (str(build(SOURCES / "clients.c")), _script(run, parts), *map(str, work))


def _script(run: Run, parts: list[bytes]) -> str:
    path = run.peers.new_folder() / "script"
    path.write_bytes(b"".join(map(frame, parts)))
    return str(path)


@contextmanager
def _reader(port: int) -> Iterator[None]:
    """A client that reads all that it is sent."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(Bester().hello(READER))

        def read() -> None:
            while client.recv(1 << 20):
                pass

        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield
        finally:
            client.shutdown(socket.SHUT_RDWR)
            reading.join()


def main() -> None:
    """Measures, and prints the medians."""
    found: dict[str, list[float]] = {}
    folder = Path(tempfile.mkdtemp(prefix="bester-scale-"))
    try:
        peers = Peers(folder, Accounts(folder, 1000))
        run = Run(peers, SECONDS, ROUNDS, 0, 0, lambda what: None, Figures())
        for _ in range(ROUNDS):
            echo(run, found)
            fan_out(run, found)
            relay(run, found, True)
            relay(run, found, False)
            print(found, file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    medians = {name: sorted(values)[len(values) // 2] for name, values in found.items()}
    print(json.dumps({"machine": describe(), "cpuUs": medians}, indent=1))


if __name__ == "__main__":
    main()
