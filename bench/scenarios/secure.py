"""Clients over TLS and over WebSockets: round trips, and the memory of idle ones."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench import secure as peers
from bench.machine import Cores, memory_kib
from bench.peers import Running
from bench.run import Run
from bench.secure import KINDS, generator, measured, missing, told

LOADS = (("50x8", 50, 8), ("50x1", 50, 1))
SIZE = 64
FIRST = 100
SETTLED_S = 1.0


def secure(run: Run, stack: ExitStack) -> None:
    """Ours and nats-server, in turns, with each kind of listener."""
    reason = missing()
    if reason:
        run.figures.notes.append(f"TLS and WebSockets are not measured: {reason}.")
        return
    for kind in KINDS:
        _round_trips(run, kind)
        _idle(run, kind)


def _round_trips(run: Run, kind: str) -> None:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(start(run.peers, kind, cores=Cores.apart())) for start in (peers.bester, peers.nats)
        ]
        by_name = {server.running.name: server for server in servers}
        for name, clients, width in LOADS:

            def measure(running: Running, name: str = name, clients: int = clients, width: int = width) -> None:
                with generator(by_name[running.name], range(clients), SIZE) as load:
                    told(load, f"add {clients}")
                    found = measured(load, running, width, run.seconds, run.warm_up)
                run.add(f"{kind} {name}", running.name, found, "handler", "client")

            run.alternate([server.running for server in servers], measure)


def _idle(run: Run, kind: str) -> None:
    count = min(2000, run.crowd)
    for start in (peers.bester, peers.nats):
        with (
            start(run.peers, kind, handler=False) as server,
            generator(server, range(FIRST, 2 * FIRST + count), 0) as crowd,
        ):
            run.progress(f"{kind}: {count:,} idle clients of {server.running.name}")
            told(crowd, f"add {FIRST}")
            time.sleep(SETTLED_S)
            before = memory_kib(server.running.pids)
            told(crowd, f"add {count}")
            time.sleep(SETTLED_S)
            used = (memory_kib(server.running.pids) - before) / count
            run.figures.add(f"{kind} idle", server.running.name, "KiB", used)
