"""A real server under load, whose system calls are counted by ``calls.c``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import calcsize, unpack
from typing import NamedTuple

import pytest
from bench.generators import build, clients_command, missing
from bench.load.clients import Plan
from bench.machine import Cores
from bench.peers import BESTERD, Accounts, Peers, Running
from bench.programs import Program, program

ROUND_TRIPS = 5000
COUNTS = "=QQQ"


class Calls(NamedTuple):
    """How many there were for each round trip, over some time."""

    round_trips: int
    reads: float
    writes: float
    waits: float


class Counted(Peers):
    """Starts our server with calls that are counted."""

    @contextmanager
    def _besterd(self, folder: Path, cores: Cores) -> Iterator[Program]:
        (folder / "calls").write_bytes(bytes(calcsize(COUNTS)))
        shim = build(Path(__file__).with_name("calls.c"), "-shared", "-fPIC", "-ldl")
        command = ("env", f"LD_PRELOAD={shim}", f"BESTER_CALLS={folder / 'calls'}", sys.executable, "-c", BESTERD)
        with program(
            *command, str(folder / "server.conf"), cores=cores.server, log=folder / "log", cwd=folder
        ) as server:
            yield server


def counted(folder: Path, handler: str, dialect: str, clients: int, outstanding: int) -> Calls:
    """Puts a server of its own under load, and returns its calls for each round trip.

    A count of round trips is made, and nothing is under way before and after it: however busy the machine is, all of
    their calls are counted and no others. All have one core, so that the server finds many sockets ready each time.
    """
    reason = missing()
    if reason:
        pytest.skip(f"system calls are not counted: {reason}")
    peers = Counted(folder, Accounts(folder, clients))
    with peers.bester(handler=handler, cores=Cores.one()) as server:
        plan = Plan(dialect, server.port, clients, outstanding, 64, 0, 0, counts=(clients, ROUND_TRIPS))
        with program(*clients_command(plan, folder), cores=server.cores.load) as load:
            load.until("ready".__eq__)
            for _ in plan.counts:
                before = _now(server)
                load.tell("go on")
                round_trips = int(load.result()["count"])
        reads, writes, waits = ((now - then) / round_trips for now, then in zip(_now(server), before, strict=True))
    return Calls(round_trips, reads, writes, waits)


def _now(server: Running) -> tuple[int, ...]:
    return unpack(COUNTS, (server.folder / "calls").read_bytes())
