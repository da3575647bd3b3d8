"""Clients over TLS and over WebSockets: round trips, and the memory of idle ones."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from bench import secure as peers
from bench.machine import memory_kib
from bench.run import Run
from bench.secure import KINDS, Secure, compiled, generator, measured, told

LOADS = (("50x8", 50, 8), ("50x1", 50, 1))
SIZE = 64
FULL = 90
"""How many per cent of a core the server needs for a row that counts."""
FIRST = 100
SETTLED_S = 1.0


def secure(run: Run, stack: ExitStack) -> None:
    """Ours and nats-server, in turns, with each kind of listener."""
    path = compiled(run.peers.new_folder())
    if isinstance(path, str):
        run.figures.notes.append(f"TLS and WebSockets are not measured: {path}.")
        return
    for kind in KINDS:
        _round_trips(run, path, kind)
        _idle(run, path, kind)


def _round_trips(run: Run, path: Path, kind: str) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(start(run.peers, kind)) for start in (peers.bester, peers.nats)]
        by_name = {server.running.name: server for server in servers}
        for name, clients, width in LOADS:
            row = f"{kind} {name}"

            def measure(server: Secure, row: str = row, clients: int = clients, width: int = width) -> None:
                with generator(path, server, range(clients), SIZE) as load:
                    told(load, f"add {clients}")
                    found = measured(load, server.running, width, run.seconds, run.warm_up)
                for unit, value in found.items():
                    run.figures.add(row, server.running.name, unit, value)

            run.alternate([server.running for server in servers], lambda running: measure(by_name[running.name]))
            for peer in by_name:
                busy = run.figures.get(row, peer, "server %")
                if busy is not None and busy < FULL:
                    run.figures.notes.append(
                        f"{row} of {peer} is invalid: the server had {busy:.0f} % of a core to do."
                    )


def _idle(run: Run, path: Path, kind: str) -> None:
    count = min(2000, run.crowd)
    for start in (peers.bester, peers.nats):
        with (
            start(run.peers, kind, handler=False) as server,
            generator(path, server, range(FIRST, 2 * FIRST + count), 0) as crowd,
        ):
            run.progress(f"{kind}: {count:,} idle clients of {server.running.name}")
            told(crowd, f"add {FIRST}")
            time.sleep(SETTLED_S)
            before = memory_kib(server.running.pids)
            told(crowd, f"add {count}")
            time.sleep(SETTLED_S)
            used = (memory_kib(server.running.pids) - before) / count
            run.figures.add(f"{kind} idle", server.running.name, "KiB", used)
