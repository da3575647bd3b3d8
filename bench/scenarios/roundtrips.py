"""Round trips: a message to an external handler and back."""

from __future__ import annotations

import json
from contextlib import ExitStack

from bench.figures import NATS_PY, OURS
from bench.machine import ANY, Cores
from bench.peers import Running
from bench.programs import module, program
from bench.run import Run
from bench.xmpp import SERVERS, installed

LOADS = (("1x64", 1, 64, 64), ("50x8", 50, 8, 64), ("50x1", 50, 1, 64), ("50x8 1 KiB", 50, 8, 1024))


def lean(run: Run, stack: ExitStack) -> None:
    """Ours, nats-server, the floors, and with 64 bytes the XMPP servers that are installed, in turns."""
    cores = Cores.apart()
    servers = [stack.enter_context(start(cores=cores)) for start in (run.peers.bester, run.peers.nats)]
    servers += run.peers.floors(stack, cores)
    xmpp = [stack.enter_context(start(run.peers.new_folder(), cores)) for start in installed().values()]
    run.figures.notes += [f"{server.name} {server.version}." for server in xmpp]
    missing = [name for name in SERVERS if name not in installed()]
    run.figures.notes += [f"{name} is not measured: it is not installed." for name in missing]
    for name, clients, outstanding, size in LOADS:

        def measure(
            server: Running, name: str = name, clients: int = clients, outstanding: int = outstanding, size: int = size
        ) -> None:
            run.add(name, server.name, run.load(server, clients, outstanding, size), "handler", "client")

        run.alternate(servers + xmpp if size == 64 else servers, measure)


def classic(run: Run, stack: ExitStack) -> None:
    """Ours, with a handler that takes a connection for each message."""
    server = stack.enter_context(run.peers.bester(handler="classic", cores=Cores.apart()))
    run.alternate([server], lambda server: run.add("classic 50x8", OURS, run.load(server, 50, 8), "handler", "client"))


def sdk(run: Run, stack: ExitStack) -> None:
    """Our library at both ends, and nats-py; throughput on all cores, latency on one."""
    for name, clients, outstanding, cores in (("SDK 50x8", 50, 8, ANY), ("SDK 1x1", 1, 1, Cores.one())):
        peers = (run.peers.bester, run.peers.nats)
        servers = [stack.enter_context(start(handler="sdk", cores=cores)) for start in peers]

        def measure(server: Running, name: str = name, clients: int = clients, outstanding: int = outstanding) -> None:
            plan = {
                "clients": clients,
                "outstanding": outstanding,
                "seconds": run.seconds,
                "warm_up": run.warm_up,
                "server": server.pids,
                "handler": server.handler,
            }
            command = module("sdk", server.dialect, str(server.port), json.dumps(plan))
            with program(*command, cores=server.cores.load) as load:
                found = load.result()
            peer = OURS if server.dialect == "bester" else NATS_PY
            run.figures.add(name, peer, "1/s", found["rate"])
            run.figures.add(name, peer, "p50 µs", found["p50Us"])
            for unit, key in (("CPU µs", "cpuUs"), ("handler CPU µs", "handlerUs"), ("client CPU µs", "clientUs")):
                run.figures.add(name, peer, unit, found[key])

        run.alternate(servers, measure)
    servers = [stack.enter_context(start(cores=Cores.one())) for start in (run.peers.bester, run.peers.nats)]
    servers += run.peers.floors(stack, Cores.one())
    run.alternate(
        servers, lambda server: run.figures.add("1x1, lean", server.name, "p50 µs", run.load(server, 1, 1)["p50Us"])
    )
