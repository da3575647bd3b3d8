"""One message to many clients."""

from __future__ import annotations

from contextlib import ExitStack

from bench.figures import OURS
from bench.machine import Cores
from bench.run import Run

CLIENTS = 1000
SLOW_SIZE = 65_536
"""Bytes of a message to the slow client, so that its messages exceed its socket and the limit of what may wait."""


SLOW_S = 4.0
"""How long it takes at least until that limit is reached."""


def fan_out(run: Run, stack: ExitStack) -> None:
    """Measures ours (a handler names every account), nats-server (all subscribe), the floors; then a slow client."""
    cores = Cores.apart()
    peers = (run.peers.bester, run.peers.nats)
    servers = [stack.enter_context(start(handler=None, cores=cores)) for start in peers]
    servers += run.peers.floors(stack, cores)
    run.alternate(
        servers,
        lambda server: run.add("fan-out", server.name, run.fan(server, CLIENTS, 64, 0, run.seconds), "client"),
    )
    for _ in range(run.rounds):
        run.progress("a slow client")
        seconds = max(SLOW_S, run.seconds)
        without, beside = (run.fan(servers[0], CLIENTS, SLOW_SIZE, slow, seconds) for slow in (0, 1))
        run.figures.add("slow client", OURS, "p50 ratio", beside["p50Ms"] / without["p50Ms"])
        run.figures.add("slow client", OURS, "max ms without", without["maxMs"])
        run.figures.add("slow client", OURS, "max ms", beside["maxMs"])
    cut_off = (servers[0].folder / "log").read_text().count("cut off ")
    run.figures.add("slow client", OURS, f"cut off, of {run.rounds}", cut_off)
