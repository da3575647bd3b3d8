"""Another server that is away, and one that comes and goes."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time

from faults.players import Handler
from faults.plays import FAR, PATIENCE_S, Play, waiting
from faults.run import Run

MESSAGES = 5000
DRAINED_S = 30.0
FLAP_S = 2.0
FLAPS = 5
DIALS_S = 6.0
EMPTY_S = 10.0
RETRY_MIN_S, RETRY_MAX_S = 0.2, 1.0
"""What :class:`~faults.plays.Play` configures."""


async def peeraway(run: Run) -> None:
    """The whole scenario."""
    await away(run, 500 if run.quick else MESSAGES)
    await flapping(run, 500 if run.quick else MESSAGES, 2 if run.quick else FLAPS)
    await dials(run)


async def away(run: Run, messages: int) -> None:
    """Messages for a server that is not there; then it is."""
    run.say("away")
    play = await _play(run)
    assert play.far is not None
    await play.far.kill()
    play.give(messages)
    await play.all_reported()
    queued = sum(status == "queued" for status in play.ledger.good.values())
    began = time.monotonic()
    await _start_far(play)
    await play.ledger.all_came(PATIENCE_S)
    drained_s = time.monotonic() - began
    await _judge(run, play, "away", messages)
    run.at_least("away: reported queued", queued, messages)
    run.at_most("away: from the start of the other server until all is there", drained_s, DRAINED_S, "s")


async def flapping(run: Run, messages: int, flaps: int, pause_s: float = FLAP_S) -> None:
    """Messages for a server that is killed and started in turns, with a pause after each."""
    run.say("flapping")
    play = await _play(run)
    assert play.far is not None
    for _ in range(flaps):
        play.give(messages // flaps)
        await asyncio.sleep(pause_s)  # the other server's rhythm
        await play.far.kill()
        await asyncio.sleep(pause_s)
        await _start_far(play)
    began = time.monotonic()
    await play.all_reported()
    await play.ledger.all_came(PATIENCE_S)
    drained_s = time.monotonic() - began
    await _judge(run, play, "flapping", messages // flaps * flaps)
    run.at_most("flapping: from its last start until all is there", drained_s, DRAINED_S, "s")


async def dials(run: Run, seconds: float = DIALS_S) -> None:
    """Counts the tries to reach a server that accepts connections and closes them at once."""
    run.say("dials")
    play = await _play(run)
    assert play.far is not None
    await play.far.kill()
    port = json.loads((play.far.folder / "server.conf").read_text())["network"]["tls"]["port"]
    dialled: list[float] = []

    def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(time.monotonic())
        writer.close()

    # The other one has to prove its name over TLS: who closes at once is nobody, and not a classic server.
    listening = await asyncio.start_server(closes, "127.0.0.1", port)
    began = time.monotonic()
    for _ in range(200):
        play.senders[0].give("far0", type="far", server=FAR)
    await asyncio.sleep(seconds)
    listening.close()
    seconds = time.monotonic() - began
    # The pauses are 0.2, 0.4, 0.8, 1, 1... seconds, each up to a quarter shorter; the first dial is before them all.
    pauses, at = 0, 0.0
    while at < seconds:
        at += 0.75 * min(RETRY_MAX_S, RETRY_MIN_S * 2**pauses)
        pauses += 1
    run.at_most(f"dials in {DIALS_S:g} s of a server that closes at once", len(dialled), pauses + 1)
    closest = min((b - a for a, b in itertools.pairwise(dialled)), default=seconds)
    run.notes.append(
        f"peeraway: {len(dialled)} dials in {seconds:.1f} s, and {pauses + 1} are allowed; the closest two were "
        f"{closest * 1000:.0f} ms apart."
    )


async def _play(run: Run) -> Play:
    play = Play(run, far=True)
    play.people(senders=2, present=0, away=0, far=1, window=256)
    await play.begin()
    return play


async def _start_far(play: Play) -> None:
    """Starts the other server, while the one that sends stands still until the handler there is back.

    What comes to a server that has no handler yet is refused for now, and may come behind newer messages
    (docs/protocol.md, section 4.5); all others are in order.
    """
    assert play.far is not None
    [handler] = [one for one in play.players if isinstance(one, Handler) and one.server is play.far]
    handler.was_in.clear()
    play.near.send_signal(signal.SIGSTOP)
    try:
        await play.far.start()
        async with asyncio.timeout(PATIENCE_S):
            await handler.was_in.wait()
    finally:
        play.near.send_signal(signal.SIGCONT)


async def _judge(run: Run, play: Play, what: str, messages: int) -> None:
    # The other server's reports come a little after what they report.
    began = time.monotonic()
    while waiting(play.near.database) and time.monotonic() - began < EMPTY_S:
        await asyncio.sleep(0.05)
    await play.finish()
    play.judge(what)
    run.at_least(f"{what}: messages that came", len(play.ledger.received), messages)
    run.at_most(f"{what}: out of order", play.ledger.out_of_order(one.name for one in play.senders), 0)
    run.at_most(f"{what}: left in the outbox", waiting(play.near.database), 0)
