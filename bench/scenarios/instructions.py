"""Instructions in user space for each message, which depend neither on the machine's speed nor on its load."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.callgrind import Callgrind, missing
from bench.figures import OURS
from bench.generators import clients_command, fan_command
from bench.load import clients, fan
from bench.machine import Cores
from bench.peers import BESTERD, Peers, Running
from bench.programs import Program, program
from bench.run import Run

LOADS = (("50x8", 50, 8, 64), ("50x8 1 KiB", 50, 8, 1024))
WARM_UP, COUNTED = 2000, 8000
"""Round trips."""
FAN_CLIENTS, FAN_WARM_UP, FAN_COUNTED = 1000, 3, 10
"""Clients, and messages to all of them."""
UNIT = "instructions"


class Watched(Peers):
    """Starts our server under callgrind, once."""

    def __init__(self, peers: Peers, callgrind: Callgrind) -> None:
        super().__init__(peers._folder, peers._accounts)
        self._callgrind = callgrind

    @contextmanager
    def _besterd(self, folder: Path, cores: Cores) -> Iterator[Program]:
        command = self._callgrind.command(sys.executable, "-c", BESTERD, str(folder / "server.conf"))
        with program(*command, cores=cores.server, log=folder / "log", cwd=folder) as server:
            yield server


def instructions(run: Run, stack: ExitStack) -> None:
    """Measures our server alone, which is compared with itself."""
    reason = missing()
    if reason:
        run.figures.notes.append(f"Instructions are not measured: {reason}.")
        return
    from tests.bench.instructions import measure as by_hand

    for name, count, outstanding, size in LOADS:
        run.progress(name)
        callgrind = Callgrind(run.peers.new_folder())
        with Watched(run.peers, callgrind).bester() as server:
            counts = (WARM_UP, *[COUNTED] * run.rounds)
            work = clients.Plan(server.dialect, server.port, count, outstanding, size, 0, 0, counts=counts)
            _measure(run, callgrind, server, name, clients_command(work, run.peers.new_folder()))
    run.progress("fan-out")
    callgrind = Callgrind(run.peers.new_folder())
    with Watched(run.peers, callgrind).bester(handler=None) as server:
        counts = (FAN_WARM_UP, *[FAN_COUNTED] * run.rounds)
        one = fan.Plan(server.dialect, server.port, server.handler_socket, FAN_CLIENTS, 64, 0, 0, counts=counts)
        _measure(run, callgrind, server, "fan-out", fan_command(one, run.peers.new_folder()))
    run.progress("driven by hand")
    for name, total in by_hand(run.peers.new_folder()).items():
        if name.startswith(("a round trip", "a delivery")):
            run.figures.add(name, OURS, UNIT, total)


def _measure(run: Run, callgrind: Callgrind, server: Running, name: str, load: tuple[str, ...]) -> None:
    """Lets a load do its counts, one after the other, the first of which is for warming up."""
    pid = server.server.pid
    with program(*load) as source:
        assert source.line() == "ready"
        callgrind.start(pid)
        source.tell("on")
        source.result()
        for _ in range(run.rounds):
            callgrind.zero(pid)
            source.tell("on")
            count = source.result()["count"]
            run.figures.add(name, OURS, UNIT, callgrind.total(pid) / count)
    if run.keep:
        run.keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(callgrind.latest, run.keep / f"callgrind.{name.replace(' ', '-')}")
