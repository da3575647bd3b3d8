"""Many clients that do nothing, many that come at once, and what they cost the others."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from bench.figures import OURS, SERVER_BUSY
from bench.machine import Cores, memory_kib
from bench.peers import Running
from bench.programs import Program, module, program
from bench.run import Run

FIRST = 100
"""The number of a crowd's first account; those before it are the load's."""
SETTLED_S = 1.0
WINDOW_S = 0.1
"""How long the others' messages are counted at a time."""


def _crowd(stack: ExitStack, server: Running) -> Program:
    return stack.enter_context(program(*module("crowd", server.dialect, str(server.port), str(FIRST))))


def _add(crowd: Program, count: int) -> dict[str, Any]:
    crowd.tell(f"add {count}")
    return crowd.result()


def idle(run: Run, stack: ExitStack) -> None:
    """Measures how much memory each of 5,000 more clients takes, beside the first hundred."""
    count = min(5000, run.crowd)
    for _ in range(run.rounds):
        for start in (run.peers.bester, run.peers.nats):
            with ExitStack() as inner:
                server = inner.enter_context(start(handler=None))
                run.progress(server.name)
                crowd = _crowd(inner, server)
                _add(crowd, 100)
                time.sleep(SETTLED_S)
                before = memory_kib(server.pids)
                _add(crowd, count)
                time.sleep(SETTLED_S)
                run.figures.add("idle", server.name, "KiB", (memory_kib(server.pids) - before) / count)


def logins(run: Run, stack: ExitStack) -> None:
    """Lets clients log in with tokens while others send and receive; then asks each whether it is still served."""
    for _ in range(run.rounds):
        with run.peers.bester() as server, ExitStack() as inner:
            run.progress(f"{run.crowd:,} log in")
            crowd = _crowd(inner, server)
            load = inner.enter_context(run.loading(server, 10, 1, 64, WINDOW_S, windows=100_000))
            before = [load.result()["rate"] for _ in range(4)]
            came = _add(crowd, run.crowd)
            during = load.rates()
            time.sleep(SETTLED_S)
            crowd.tell("ping")
            stayed = crowd.result()
            add = run.figures.add
            add("logins", OURS, "s", came["seconds"])
            add("logins", OURS, "clients", stayed["clients"] - stayed["lost"])
            add("logins", OURS, "failures", stayed["failures"] + stayed["lost"])
            add("logins", OURS, "others' 1/s before", statistics.median(before))
            add("logins", OURS, "others' 1/s, median", statistics.median(during))
            add("logins", OURS, "others' 1/s, least", min(during))


def beside_idle(run: Run, stack: ExitStack) -> None:
    """Measures one load on three servers, in turns, beside few, more and many idle clients."""
    counts = (10, max(10, run.crowd // 10), run.crowd)
    servers: dict[int, int] = {}
    running = []
    for count in counts:
        server = stack.enter_context(run.peers.bester(cores=Cores.apart()))
        run.progress(f"{count} idle clients")
        _add(_crowd(stack, server), count)
        servers[server.server.pid] = count
        running.append(server)
    figures = run.figures

    def measure(server: Running) -> None:
        found = run.load(server, 50, 8)
        figures.add("beside idle", OURS, f"CPU µs, {servers[server.server.pid]:,}", found["cpuUs"])
        figures.add("beside idle", OURS, SERVER_BUSY, 100 * found["busy"])

    run.alternate(running, measure)
    few, many = (figures.get("beside idle", OURS, f"CPU µs, {count:,}") for count in (counts[0], counts[-1]))
    if few and many:
        figures.add("beside idle", OURS, "growth", many / few)
