"""One message to many clients."""

from __future__ import annotations

import json
from contextlib import ExitStack

from bench.figures import OURS
from bench.peers import Running
from bench.programs import module, program
from bench.run import Run

CLIENTS = 1000
SLOW_SIZE = 65_536
"""Bytes of a message to the slow client, so that its messages exceed its socket and the limit of what may wait."""


SLOW_S = 4.0
"""How long it takes at least until that limit is reached."""


def fan_out(run: Run, stack: ExitStack) -> None:
    """Measures ours (a handler names every account), nats-server (all subscribe), the floor; then a slow client."""
    peers = run.peers
    servers = [stack.enter_context(start(handler=None)) for start in (peers.bester, peers.nats)]
    servers.append(stack.enter_context(peers.relay()))

    def measure(server: Running) -> None:
        found = _fan(run, server, 64, 0)
        run.figures.add("fan-out", server.name, "CPU µs", found["cpuUs"])
        run.figures.add("fan-out", server.name, "1/s", found["rate"])

    run.alternate(servers, measure)
    for _ in range(run.rounds):
        run.progress("a slow client")
        without, beside = (_fan(run, servers[0], SLOW_SIZE, slow, max(SLOW_S, run.seconds)) for slow in (0, 1))
        run.figures.add("slow client", OURS, "p50 ratio", beside["p50Ms"] / without["p50Ms"])
        run.figures.add("slow client", OURS, "max ms without", without["maxMs"])
        run.figures.add("slow client", OURS, "max ms", beside["maxMs"])
    cut_off = (servers[0].folder / "log").read_text().count("cut off ")
    run.figures.add("slow client", OURS, f"cut off, of {run.rounds}", cut_off)


def _fan(run: Run, server: Running, size: int, slow: int, seconds: float | None = None) -> dict[str, float]:
    plan = {
        "dialect": server.dialect,
        "port": server.port,
        "address": server.handler_socket,
        "clients": CLIENTS,
        "size": size,
        "seconds": seconds or run.seconds,
        "warm_up": run.warm_up,
        "server": server.pids,
        "slow": slow,
    }
    with program(*module("fan", json.dumps(plan))) as fan:
        return fan.result()
