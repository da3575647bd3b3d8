"""The calibration: the loads of ``lab.scale.measure`` on simulated servers, beside what real ones took for them.

All is told in round trips of 50x8, because the processor time of one differs between machines and hours by more than
anything else here. What a round trip takes on a quiet machine is in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab.scale.costs import Costs
from lab.scale.local import Answered, ClientPort
from lab.scale.network import lan, name_of
from lab.scale.world import World

UNIT = "echo 50x8"
SECONDS = 0.03
MEASURED = {
    "echo 1x64": 10.35,
    "echo 50x8": 9.63,
    "echo 50x1": 18.78,
    "echo 50x8 1 KiB": 15.70,
    "fan-out": 6.53,
    "relay 1x64, first": 38.41,
    "relay 1x64, second": 38.34,
    "relay 50x8, first": 35.66,
    "relay 50x8, second": 33.57,
}
"""Microseconds of real servers. 50x1, 1 KiB and fan-out are those of docs/performance.md, in the unit of this run."""
FAN = 1000


def calibrated(costs: Costs) -> dict[str, float]:
    """Returns the processor time of each load, in microseconds for each message or delivery."""
    found: dict[str, float] = {}
    for clients, outstanding in ((1, 64), (50, 8), (50, 1)):
        shape = f"{clients}x{outstanding}"
        found[f"echo {shape}"] = _run(costs, clients, outstanding, 64, ("reply", None, None))[0]
        to = [name_of(1)]
        first, second = _run(costs, clients, outstanding, 64, ("sendServers", to, None))
        found |= {f"relay {shape}, first": first, f"relay {shape}, second": second}
    found["echo 50x8 1 KiB"] = _run(costs, 50, 8, 1024, ("reply", None, None))[0]
    everyone = [f"c{number}" for number in range(1, FAN + 1)]
    found["fan-out"] = _run(costs, FAN + 1, 1, 64, ("sendClients", everyone, None), 1)[0] / FAN
    return found


def compared(measured: dict[str, float], costs: Costs) -> Iterator[tuple[str, float, float]]:
    """Yields each load's name, and what it takes of real and of simulated servers, in round trips of 50x8."""
    simulated = calibrated(costs)
    for name, took in measured.items():
        yield name, took / measured[UNIT], simulated[name] / simulated[UNIT]


def _run(
    costs: Costs, clients: int, outstanding: int, size: int, answer: Answered, senders: int | None = None
) -> tuple[float, float]:
    with World(2, 1, lan, costs) as world:
        one, other = world.servers
        while len(one.clients) < clients:
            one.join(partial(_ignore, world), world.reported)
        one.serve(["load"], lambda number, hops: answer, 65536)
        other.serve(["load"], lambda number, hops: ("sendClients", ["c0"], None), 65536)
        sending: dict[int, ClientPort] = {}

        def send(client: ClientPort) -> None:
            number = world.ledger.send(0, 0, 1, world.engine.now)
            sending[number] = client
            client.send("load", number, size)

        world.on_report = lambda number: send(sending.pop(number))
        for client in one.clients[:senders]:
            for _ in range(outstanding):
                send(client)
        world.run(SECONDS / 4)
        before = [(server.processor.busy_s, world.accepted[server.number]) for server in world.servers]
        world.run(SECONDS)
        took = []
        for server, (busy, count) in zip(world.servers, before, strict=True):
            took.append(1e6 * (server.processor.busy_s - busy) / max(1, world.accepted[server.number] - count))
        return took[0], took[1]


def _ignore(world: World, number: int, now: float) -> None:
    """Takes what is not to be in the ledger."""
