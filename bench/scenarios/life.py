"""A server's start, and its long life."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.figures import NATS, OURS
from bench.machine import Cores, memory_kib
from bench.run import Run

WINDOWS = 20


def start(run: Run, stack: ExitStack) -> None:
    """From the call that starts the process to its line that it is ready; for nats-server, to its port."""
    for _ in range(max(5, run.rounds)):
        for name, peer in ((OURS, run.peers.bester), (NATS, run.peers.nats)):
            run.progress(name)
            began = time.perf_counter()
            with peer(handler=None):
                run.figures.add("start", name, "s", time.perf_counter() - began)


def steady(run: Run, stack: ExitStack) -> None:
    """One load for as long as the run says; memory and cost of each twentieth of the time."""
    server = stack.enter_context(run.peers.bester(cores=Cores.apart()))
    seconds = 60 * run.minutes / WINDOWS
    costs, memory = [], []
    for _ in range(WINDOWS):
        run.progress(f"{run.minutes:g} minutes")
        found = run.load(server, 50, 8, seconds=seconds)
        costs.append(found["cpuUs"])
        memory.append(memory_kib(server.pids))
        run.add("steady", OURS, found)
        run.figures.add("steady", OURS, "MiB", memory[-1] / 1024)
    # The first tenth is for warming up; the end is the median of as many windows as there are in the beginning.
    run.figures.add("steady", OURS, "growth", sorted(costs[-5:])[2] / sorted(costs[2:7])[2])
    run.figures.add("steady", OURS, "memory growth", memory[-1] / memory[2])
