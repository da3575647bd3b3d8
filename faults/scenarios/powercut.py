"""Losses of power: the process ends, and data that was not synced is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from faults import disk
from faults.disk import Disk
from faults.plays import PATIENCE_S, Play, problems
from faults.run import Run

CUTS = 100
CARELESS_CUTS = 20
PER_CUT = 120
"""Messages between two cuts."""
CARELESS = Path(disk.__file__).parent / "shim" / "careless"
CARELESS_PATIENCE_S = 1.5


async def powercut(run: Run) -> None:
    """The whole scenario, and its control, which has to lose something."""
    await cuts(run, 10 if run.quick else CUTS)
    await careless(run, 5 if run.quick else CARELESS_CUTS)


async def cuts(run: Run, count: int) -> None:
    """Cuts the power; after every second cut, some of the data that was not synced remains."""
    play, corrupt, forgotten = await _cuts(run, count, {}, PATIENCE_S)
    play.judge()
    run.at_most("databases that are corrupt", corrupt, 0)
    run.at_least("cuts that took away something that was written", forgotten, count // 4)


async def careless(run: Run, count: int) -> None:
    """Cuts the power of a server whose log is not synced at each commit."""
    play, corrupt, _ = await _cuts(run, count, {"PYTHONPATH": str(CARELESS)}, CARELESS_PATIENCE_S)
    run.at_least("control, synchronous = NORMAL: reported good and lost", len(play.ledger.lost()), 1)
    run.notes.append(f"powercut: of the control's {len(play.ledger.good):,} messages that were reported good, "
                     f"{len(play.ledger.lost())} are lost; {corrupt} of its databases are corrupt.")  # fmt: skip


async def _cuts(run: Run, count: int, environment: dict[str, str], patience_s: float) -> tuple[Play, int, int]:
    play = Play(run)
    device = Disk(run, play.near.folder, forgets=True)
    play.near.environment = device.environment()
    play.people(senders=3, present=1, away=4, turns=(5, 100))
    await play.begin()
    # The accounts are there in any case.
    await play.near.stop()
    play.near.environment = environment | device.environment()
    await play.near.start()
    corrupt = forgotten = 0
    for number in range(count):
        if number % 10 == 0:
            run.say(f"cut {number + 1} of {count}")
        # Not all of the last part has its reports when the cut comes: there is always something under way.
        play.give(PER_CUT)
        await play.ledger.at(min(PER_CUT * number + run.random.randint(1, PER_CUT), len(play.ledger.sent)))
        await asyncio.sleep(run.random.uniform(0, 0.01))
        await play.near.kill()
        before = {name: (device.folder / name).read_bytes() for name in disk.FILES if (device.folder / name).exists()}
        device.cut(0.5 if number % 2 else 0.0)
        forgotten += any(content != _read(device.folder / name) for name, content in before.items())
        corrupt += bool(problems(device.copy(run.folder())))
        await play.near.start()
    await play.finish(patience_s)
    return play, corrupt, forgotten


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""
