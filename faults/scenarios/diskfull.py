"""A disk that fills up, and is emptied, again and again, without a restart."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from faults.ledger import Ledger
from faults.players import Handler, Receiver, Sender
from faults.plays import PATIENCE_S, problems
from faults.run import Run, Skipped
from faults.servers import Besterd, config

TIMES = 20
DISK_MIB = 4
RESERVE = 1024 * 1024
SIZE = 4 * 1024
REFUSED_MS = 100.0
LOGIN_S = 2.0
ROOM_S = 2.0


class Once(Sender):
    """Sends each message once, and notes the refused ones, which are not sent again, and how quickly they were."""

    def __init__(self, server: Besterd, ledger: Ledger, name: str, window: int) -> None:
        super().__init__(server, ledger, name, window)
        self.since: dict[str, float] = {}
        self.refused_ms: list[float] = []
        self.codes: set[str] = set()

    def _take(self, batch: list[Any]) -> None:
        for message in batch:
            payload = message["payload"]
            error = payload.get("error")
            if error is not None and payload["id"] in self.open:
                self.refused_ms.append((time.monotonic() - self.since[payload["id"]]) * 1000)
                self.codes.add(error["code"])
                del self.open[payload["id"]]
                self.ledger.reported_bad(payload["id"], error["code"])
        super()._take(batch)


class Taker(Receiver):
    """A receiver that asks for no token, which would have to be stored."""

    features: tuple[str, ...] = ("ack",)


async def diskfull(run: Run) -> None:
    """The whole scenario."""
    await fills(run, 4 if run.quick else TIMES)


async def fills(run: Run, times: int, tokens: bool = True) -> None:
    """Fills the disk with messages for accounts that are away, and lets them come."""
    folder = small_disk(run)
    server = run.server(run.folder(), config(storage={"path": str(folder / "bester.db"), "reserve": RESERVE}))
    await server.start()
    ledger = Ledger()
    sender = Once(server, ledger, "s", 8)
    names = ["r0", "r1"]
    run.spawn(Handler(server, ledger).play())
    run.spawn(sender.play())
    await sender.was_in.wait()
    await _visit(run, [Taker(server, ledger, name) for name in names], ledger)  # makes their accounts
    kept: list[int] = []
    room_s: list[float] = []
    shut_out = False
    drained_s: list[float] = []
    stuck = 0
    for number in range(times):
        if number % 5 == 0:
            run.say(f"fill {number + 1} of {times}")
        before = len(ledger.good)
        began = time.monotonic()
        while len(ledger.good) == before and time.monotonic() - began < ROOM_S:
            sender.since[sender.give(names[0], SIZE)] = time.monotonic()
            await sender.idle.wait()
            await asyncio.sleep(0.005)  # what was taken is removed by and by
        room_s.append(time.monotonic() - began)
        refused = len(sender.refused_ms)
        for _ in range(4 * DISK_MIB * 1024 * 1024 // SIZE):
            sender.since[sender.give(names[_ % 2], SIZE)] = time.monotonic()
            await sender.idle.wait()
            if len(sender.refused_ms) >= refused + 10:
                break
        kept.append(len(ledger.good) - before)
        stuck += kept[-1] == 0
        if tokens and number == 0:
            asked = Receiver(server, ledger, "r0")
            asking = run.spawn(asked.play())
            shut_out = not await _within(asked.was_in, LOGIN_S)
            asking.cancel()
            await asyncio.wait([asking])
        began = time.monotonic()
        await _visit(run, [Taker(server, ledger, name) for name in names], ledger)
        drained_s.append(time.monotonic() - began)
    starts = sum(line.endswith("is ready") for line in server.lines)
    await server.stop()
    run.at_most("reported good and lost", len(ledger.lost()), 0)
    run.at_most("reported bad, and delivered", len(ledger.wrongly_refused()), 0)
    run.at_most("seen twice", len(ledger.twice()), 0)
    run.at_most("refused with another code than storageFull", len(sender.codes - {"storageFull"}), 0)
    run.at_most("the slowest refusal", max(sender.refused_ms, default=0.0), REFUSED_MS, "ms")
    run.at_most("fills that found no room again, though all was taken", stuck, 0)
    run.at_most("until there was room again, the longest", max(room_s), ROOM_S, "s")
    if tokens:
        run.at_most("clients that a full disk keeps out, because they ask for a token", int(shut_out), 0)
    run.at_most("starts of the server", starts, 1)
    run.at_most("databases that are corrupt", len(problems(folder / "bester.db")), 0)
    run.notes.append(
        f"diskfull: each time between {min(kept)} and {max(kept)} messages of {SIZE // 1024} KiB were kept, "
        f"and taken within {max(drained_s):.2f} s; refusals took {statistics.median(sender.refused_ms or [0]):.1f} ms "
        f"(median)."
    )


async def _visit(run: Run, receivers: list[Receiver], ledger: Ledger) -> None:
    """Lets accounts come, take all that is there for them, and leave."""
    playing = [run.spawn(receiver.play()) for receiver in receivers]
    for receiver in receivers:
        await receiver.was_in.wait()
    await ledger.all_came(PATIENCE_S)
    for task in playing:
        task.cancel()
    await asyncio.wait(playing)


async def _within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False


def small_disk(run: Run) -> Path:
    """Mounts a file system that is small; it goes with the run.

    Raises:
        Skipped: that cannot be done here.
    """
    if shutil.which("mount") is None:
        raise Skipped("there is no mount")
    folder = run.folder()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Skipped(f"a small disk cannot be mounted: {result.stderr.strip()}")
    run.ending.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
    return folder
