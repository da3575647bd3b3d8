"""SIGTERM under load: the server finishes messages under way, and stores those that its clients do not have."""

from __future__ import annotations

import asyncio

from faults.plays import Play
from faults.run import Run

TIMES = 20
PER_STOP = 300
STOP_S = 10.0


async def sigterm(run: Run) -> None:
    """The whole scenario."""
    await stops(run, 4 if run.quick else TIMES)


async def stops(run: Run, times: int, far: bool = True) -> None:
    """Stops and starts, with messages on their way each time."""
    play = Play(run, far=far)
    play.people(senders=4, present=3, away=3, far=2, turns=(5, 100))
    await play.begin()
    failed, longest_s = 0, 0.0
    for number in range(times):
        if number % 5 == 0:
            run.say(f"stop {number + 1} of {times}")
        play.give(PER_STOP)
        await play.ledger.at(min(PER_STOP * number + run.random.randint(1, PER_STOP), len(play.ledger.sent)))
        await asyncio.sleep(run.random.uniform(0, 0.01))
        code, took_s = await play.near.stop()
        failed += code != 0
        longest_s = max(longest_s, took_s)
        await play.near.start()
    await play.finish()
    play.judge()
    run.at_most("stops with a status that is not 0", failed, 0)
    run.at_most("the longest stop", longest_s, STOP_S, "s")
