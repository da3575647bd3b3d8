"""The cost of storing messages, and a check that messages between connected sessions cost no sync at all."""

from __future__ import annotations

import time

from bench.machine import cpu_seconds
from bench.scenarios.keeping import bare

from faults.disk import Disk
from faults.plays import Play
from faults.run import Run

MESSAGES = 20_000
SIZE = 512
ACCOUNTS = 20
BATCH = 256
BARE_S = 2.0


async def keeping(run: Run) -> None:
    """The whole scenario."""
    await speed(run, 4000 if run.quick else MESSAGES)
    await no_sync(run, 1000 if run.quick else 10_000)


async def speed(run: Run, messages: int) -> None:
    """Messages for accounts that are away, through a whole server, and a bare loop over SQLite."""
    play = Play(run)
    device = Disk(run, play.near.folder)
    play.near.environment = device.environment()
    play.people(senders=4, present=0, away=ACCOUNTS, window=256)
    # All of them leave at once, and are back only at the end.
    for one in play.receivers:
        one.leave_for_good()
    await play.begin()
    run.say("absent accounts")
    play.give(messages, SIZE)
    syncs, cpu, began = device.counts().syncs, cpu_seconds([play.near.pid]), time.monotonic()
    await play.all_reported()
    took_s = time.monotonic() - began
    cpu_us = (cpu_seconds([play.near.pid]) - cpu) / messages * 1e6
    syncs = device.counts().syncs - syncs
    stored = sum(status == "stored" for status in play.ledger.good.values())
    await play.finish()
    play.judge("absent accounts")
    run.say("a bare loop")
    bare_rate = bare(run.folder(), BATCH, BARE_S)
    run.at_least("absent accounts: messages stored and reported", messages / took_s, 1000, "1/s")
    run.at_least("absent accounts: messages for each sync", stored / max(1, syncs), 8)
    run.at_least("absent accounts: reported stored", stored, messages)
    run.notes.append(
        f"keeping: {messages / took_s:,.0f} messages/s of {SIZE} bytes from once senders, {cpu_us:.0f} µs of the "
        f"server's processor time each, {syncs} syncs; the senders and the handler share the machine. A loop that only "
        f"inserts {BATCH} at a time: {bare_rate:,.0f}/s."
    )


async def no_sync(run: Run, messages: int) -> None:
    """Messages between sessions that are there."""
    run.say("connected sessions")
    play = Play(run)
    device = Disk(run, play.near.folder)
    play.near.environment = device.environment()
    play.people(senders=2, present=4, away=0)
    for sender in play.senders:
        sender.once(False)
    await play.begin()
    before = device.counts()
    play.give(messages)
    await play.all_reported()
    after = device.counts()
    await play.finish()
    play.judge("connected sessions")
    run.at_most("connected sessions: syncs", after.syncs - before.syncs, 0)
    run.at_most("connected sessions: writes to the database", after.writes - before.writes, 0)
