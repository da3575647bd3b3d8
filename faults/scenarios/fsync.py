"""Syncs that fail: the outcome of a write is unknown, and nothing is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faults.disk import Disk
from faults.ledger import Ledger
from faults.plays import PATIENCE_S, Play, judge, problems
from faults.run import Run
from faults.servers import Besterd, DidNotStart

LAST = 50
MESSAGES = 400
STOPS_S = 10.0
LAST_S = 0.5
WHY = "the database failed, and the outcome of its last writes is unknown; stopping"


async def fsync(run: Run) -> None:
    """The whole scenario."""
    await failures(run, range(1, (10 if run.quick else LAST) + 1))


async def failures(run: Run, numbers: Sequence[int]) -> None:
    """The sync of each number fails, once; after that the server is started with a good disk.

    At odd numbers the power is lost as well: what was not synced is gone. At even ones it is all there, as it is
    after a restart of the process alone.
    """
    ledgers: list[Ledger] = []
    stopped = refused = carried = corrupt = silent = never = 0
    for number in numbers:
        if number % 10 == 1:
            run.say(f"sync {number} of {numbers[-1]}")
        play = Play(run)
        server = play.near
        device = Disk(run, server.folder, forgets=True)
        server.environment = device.environment(number)
        play.people(senders=2, present=1, away=2, window=16, turns=(5, 50))
        load: asyncio.Task[None] | None = None
        try:
            await server.start()
        except DidNotStart:
            refused += 1
            silent += not any("bester.db" in line for line in server.lines)
        else:
            load = run.spawn(_load(play))
            end = run.spawn(_end(server))
            await asyncio.wait([load, end], return_when=asyncio.FIRST_COMPLETED)
            # The last thing that is written, after all reports, may be what fails.
            await asyncio.wait([end], timeout=STOPS_S if _told(server) else LAST_S)
            if not end.done() and not _told(server) and device.counts().failed:
                carried += 1
            stopped += end.done()
            silent += end.done() and not _told(server)
            await server.kill()
            await asyncio.wait([end])
            never += not device.counts().failed
        if number % 2:
            device.cut()
        corrupt += bool(problems(device.copy(run.folder())))
        server.environment = device.environment()
        await server.start()
        await asyncio.wait([load if load is not None else run.spawn(_load(play))])
        await play.finish()
        ledgers.append(play.ledger)
    judge(run, "", ledgers)
    run.at_most("databases that are corrupt", corrupt, 0)
    run.at_most("stops without a line in the log that says why", silent, 0)
    told = stopped + refused + carried
    run.at_most("failed syncs of which nothing is known", len(numbers) - never - told, 0)
    run.at_least("syncs that failed", len(numbers) - never, 0.8 * len(numbers))
    run.notes.append(
        f"fsync: of {len(numbers)} syncs, {stopped} stopped a running server, {refused} one that was starting; after "
        f"{carried} it went on (those of a checkpoint, whose failure leaves everything in the log); {never} never came."
    )


async def _load(play: Play) -> None:
    await play.let_in()
    play.give(MESSAGES)
    await play.all_reported()


async def _end(server: Besterd) -> None:
    await server.ended(PATIENCE_S)


def _told(server: Besterd) -> bool:
    return any(WHY in line for line in server.lines)
