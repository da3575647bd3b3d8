"""``kill -9`` of a server: at random moments under load, and at each of the points that the source names."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from faults.ledger import Ledger
from faults.library import Library
from faults.players import Handler
from faults.plays import PATIENCE_S, Play, judge
from faults.points import points
from faults.run import Run
from faults.servers import Besterd, config

MESSAGES = 10_000
KILLS = 20
READY_S = 3.0
AT_A_POINT = 300
"""Messages of a play in which the server dies at one point."""
NOT_REACHED_S = 5.0


async def kill(run: Run) -> None:
    """The whole scenario."""
    await random_moments(run, 1000 if run.quick else MESSAGES, 3 if run.quick else KILLS)
    await every_point(run)
    run.say("with the library at both ends")
    await with_the_library(run, 500 if run.quick else 2000, 2 if run.quick else 5)


async def every_point(run: Run, arrivals: Sequence[int] = (1, 2), names: Sequence[str] | None = None) -> None:
    """Lets the server die at each point; at the first arrival there has to be a death."""
    ledgers, missed, tried = [], 0, 0
    for point in points() if names is None else names:
        for arrival in arrivals:
            run.say(f"at {point}, arrival {arrival}")
            died, ledger = await at_point(run, point, arrival)
            ledgers.append(ledger)
            missed += not died and arrival == 1
            tried += died
    judge(run, "at the named points", ledgers)
    run.at_most("named points that were never come to", missed, 0)
    run.notes.append(f"{run.scenario}: died {tried} times at named points.")


async def random_moments(run: Run, messages: int, kills: int, far: bool = True) -> None:
    """Kills under load; each of ``kills + 1`` parts of the messages is begun with everything running again."""
    play = Play(run, far=far)
    play.people(senders=4, present=3, away=3, far=3)
    await play.begin()
    part = messages // (kills + 1)
    back_s = []
    for number in range(kills):
        run.say(f"kill {number + 1} of {kills}")
        given = part * number
        play.give(part)
        await play.ledger.at(given + run.random.randint(1, part))
        # Not always right behind a report.
        await asyncio.sleep(run.random.uniform(0, 0.01))
        victim = play.far if play.far is not None and number % 4 == 3 else play.near
        began = time.monotonic()
        await victim.kill()
        await victim.start()
        back_s.append(time.monotonic() - began)
    play.give(messages - part * kills)
    await play.finish()
    play.judge("random moments")
    run.at_most("from the kill to ready again, the longest", max(back_s), READY_S, "s")


async def at_point(run: Run, point: str, arrival: int, messages: int = AT_A_POINT) -> tuple[bool, Ledger]:
    """Lets the server die at one point, and go on without that; returns whether it did."""
    play = Play(run, far=True)
    play.people(senders=2, present=2, away=2, far=2, window=16, turns=(1, 20))
    await play.begin()
    assert play.far is not None
    await play.near.kill()
    through_outbox = point.startswith("outbox")
    if through_outbox:
        # What is sent to a server that is away goes to the outbox, and leaves it when that is back.
        await play.far.kill()
    await play.near.start(BESTER_DIE_AT=f"{point}:{arrival}")
    death = run.spawn(_death(play.near))
    play.give(messages)
    reported = run.spawn(play.all_reported())
    await asyncio.wait([death, reported], return_when=asyncio.FIRST_COMPLETED)
    if through_outbox:
        await play.far.start()
    # All reported, it may still be on its way there.
    await asyncio.wait([death], timeout=PATIENCE_S if arrival == 1 else NOT_REACHED_S if through_outbox else 1.0)
    died = death.done()
    if not died:
        run.notes.append(f"{run.scenario}: the server never came to {point} for the {arrival}. time.")
        await play.near.kill()
    await asyncio.wait([death])
    reported.cancel()
    await play.near.start()
    await play.finish()
    return died, play.ledger


async def _death(server: Besterd) -> None:
    code = await server.ended(PATIENCE_S)
    assert code == -signal.SIGKILL, code


async def with_the_library(run: Run, messages: int, kills: int) -> None:
    """Kills under load, with ``bester.Client`` at both ends."""
    server = run.server(run.folder(), config())
    ledger = Ledger()
    await server.start()
    run.spawn(Handler(server, ledger).play())
    names = ["here", "away"]
    library = Library(server, ledger, names)
    async with library:
        part = messages // (kills + 1)
        for number in range(kills + 1):
            library.give(part)
            await ledger.at(part * number + run.random.randint(1, part))
            if number < kills:
                await server.kill()
                await server.start()
        await ledger.at(part * (kills + 1))
        await ledger.all_came(PATIENCE_S)
    judge(run, "the library's clients", [ledger])
