"""What routes, receipts and metrics cost a message whose sender asked for none of them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.callgrind import missing
from bench.figures import OURS, WITHOUT
from bench.machine import Cores
from bench.peers import BESTERD, Peers, Running
from bench.programs import Program, program
from bench.run import Run
from bester.compiled import build

ROOT = Path(__file__).parents[2]

LOADS = (("50x8", 50, 8),)
TURNS = 3
"""How many times as often as other loads these are measured: what is looked for is small."""


class Bare(Peers):
    """Starts the server without."""

    def __init__(self, peers: Peers) -> None:
        super().__init__(peers._folder, peers._accounts)

    @contextmanager
    def _besterd(self, folder: Path, cores: Cores) -> Iterator[Program]:
        first = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.bare import install; install(); "
        command = (sys.executable, "-c", first + BESTERD, str(folder / "server.conf"))
        with program(*command, cores=cores.server, log=folder / "log", cwd=folder) as server:
            yield server


def watching(run: Run, stack: ExitStack) -> None:
    """One server as it is, and one without (:mod:`bench.bare`): their time under load, and their instructions."""
    if build() != "pure":
        run.figures.notes.append("watching is not measured: pieces of a compiled server cannot be left out.")
        return
    _time(run, stack)
    _instructions(run, stack)


def _time(run: Run, stack: ExitStack) -> None:
    """Processor time, the kernel's too, in turns; up to 500 receipts are recorded in a second."""
    cores = Cores.apart()
    bare = stack.enter_context(Bare(run.peers).bester(cores=cores))
    bare.name = WITHOUT
    servers = [stack.enter_context(run.peers.bester(cores=cores)), bare]
    for name, clients, outstanding in LOADS:

        def measure(server: Running, name: str = name, clients: int = clients, outstanding: int = outstanding) -> None:
            run.add(f"watching: {name}", server.name, run.load(server, clients, outstanding))

        for _ in range(TURNS):
            run.alternate(servers, measure)


def _instructions(run: Run, stack: ExitStack) -> None:
    """The same messages, driven by hand; a second's share of receipts is used up, as it is on a busy server.

    Each is counted once, for the figures are the same every time.
    """
    from tests.bench.instructions import measure

    reason = missing()
    if reason:
        run.figures.notes.append(f"What watching costs is not measured: {reason}.")
        return
    found: dict[str, dict[str, float]] = {}
    for name, bare in ((OURS, False), (WITHOUT, True)):
        run.progress(name)
        found[name] = measure(Path(stack.enter_context(tempfile.TemporaryDirectory())), bare=bare)
    messages = {name: count for name, count in found[OURS].items() if not name.startswith("a KiB")}
    for name, count in messages.items():
        run.figures.add(f"watching: {name}", OURS, "instructions", count)
        run.figures.add(f"watching: {name}", WITHOUT, "instructions", found[WITHOUT][name])
        run.figures.add(f"watching: {name}", OURS, "with / without", count / found[WITHOUT][name])
