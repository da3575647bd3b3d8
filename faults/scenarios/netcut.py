"""A network between two servers that carries nothing any more: no connection is ended, nothing is answered."""

from __future__ import annotations

import time

from faults.network import Network
from faults.plays import FAR, PATIENCE_S, Play
from faults.run import Run

MESSAGES = 200
NOTICED_S = 35.0


async def netcut(run: Run) -> None:
    """The whole scenario."""
    network = Network(run, 2)
    play = Play(run, far=True, hosts=(network.host(0), network.host(1)))
    assert play.far is not None
    play.near.prefix, play.far.prefix = network.inside(0), network.inside(1)
    play.people(senders=2, present=0, away=0, far=2)
    await play.begin()
    play.give(MESSAGES)
    await play.all_reported()
    await play.ledger.all_came(PATIENCE_S)
    reports = play.ledger.reports
    run.say("cut")
    network.cut(1)
    began = time.monotonic()
    for sender in play.senders:
        sender.give("far0", type="far", server=FAR)
    await play.ledger.at(reports + 1)
    noticed_s = time.monotonic() - began
    play.give(MESSAGES)
    await play.all_reported()
    run.say("carries again")
    network.heal(1)
    began = time.monotonic()
    await play.ledger.all_came(PATIENCE_S)
    back_s = time.monotonic() - began
    await play.finish()
    play.judge()
    run.at_most("until the cut is noticed", noticed_s, NOTICED_S, "s")
    run.notes.append(f"netcut: {back_s:.1f} s after the network is back all had come.")
