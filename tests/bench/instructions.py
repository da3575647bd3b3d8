"""Counts what messages cost in instructions: ``python -m tests.bench.instructions`` prints it as JSON.

It runs itself under callgrind, where a server is driven by hand (see ``desk.py``) step by step. Only some of the steps
are counted: those in which the server works, and not those that prepare or check.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.callgrind import Callgrind
from bench.programs import program
from tests.bench.desk import RECEIVED, Desk, opened, text

from bench import hostile

MANY = 500
WARM_UP = 2
"""What is done once is done, and the interpreter has specialised what it runs often."""
READS, BATCH = 256, 64
HARD_SIZE = 64 * 1024
COUNTED, FREE = "counted", "free"

Steps = Iterator[str]
"""Yields before each step whether it is counted."""


def round_trips(desk: Desk, reads: int, count: int, size: int) -> Steps:
    """So many reads with so many messages each, and as many of answers."""
    desk.data = text(size)
    yield COUNTED
    for _ in range(reads):
        desk.ask(count)
    yield FREE
    answers = desk.answers()
    assert len(answers) == reads * count
    batches = [b"".join(answers[at : at + count]) for at in range(0, len(answers), count)]
    yield COUNTED
    for answer in batches:
        desk.answer(answer)
    desk.fold()
    yield FREE
    assert desk.client.frames() == desk.replies(reads * count)


def fan_out(desk: Desk, pushes: int) -> Steps:
    """So many pushes to many."""
    desk.data = text(64)
    push = desk.push(MANY)
    yield COUNTED
    for _ in range(pushes):
        desk.answer(push)
    yield FREE
    for transport in desk.joined:
        assert transport.frames() == [RECEIVED % desk.data] * pushes
    desk.handler.frames()


def hard_frame(name: str, body: bytes) -> Steps:
    """A frame that aims at the decoder."""
    yield COUNTED
    hostile.decode(name, body)
    yield FREE


def work(desk: Desk) -> dict[str, tuple[Steps, int]]:
    """What is measured, by name: new steps, and how many messages they are."""
    return {
        "a round trip, 1 in a read": (round_trips(desk, READS, 1, 64), READS),
        "a round trip, 64 in a read": (round_trips(desk, READS // BATCH, BATCH, 64), READS),
        "a round trip of 1 KiB, 64 in a read": (round_trips(desk, READS // BATCH, BATCH, 1024), READS),
        "a delivery of a fan-out": (fan_out(desk, 1), MANY),
        **{
            f"a KiB of {name}": (hard_frame(name, body), HARD_SIZE // 1024)
            for name, body in hostile.frames(HARD_SIZE).items()
            if name.startswith("client") and "," not in name
        },
    }


# -- inside ------------------------------------------------------------------------------------------------------


async def drive() -> None:
    """Does the next step of what is named for each line that is read, and tells what the one after it is."""
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as desk:
            desk.join(MANY)
            for steps, _ in [each for _ in range(WARM_UP) for each in work(desk).values()]:
                for _ in steps:
                    continue
            for name, (steps, count) in work(desk).items():
                gc.collect()
                for kind in steps:
                    print(json.dumps({"name": name, "kind": kind, "count": count}), flush=True)
                    sys.stdin.readline()
            print("{}", flush=True)
            sys.stdin.readline()


# -- outside -----------------------------------------------------------------------------------------------------


def measure(folder: Path, *, bare: bool = False) -> dict[str, float]:
    """Returns how many instructions a message takes, by name; ``bare``: of a server as :mod:`bench.bare` makes it."""
    run = ("bench.bare", "tests.bench.instructions") if bare else ("tests.bench.instructions",)
    callgrind = Callgrind(folder)
    found: dict[str, float] = {}
    with program(*callgrind.command(sys.executable, "-m", *run, "drive")) as driver:
        step = driver.result()
        callgrind.start(driver.pid)
        while step:
            counted = step["kind"] == COUNTED
            if counted:
                callgrind.zero(driver.pid)
            driver.tell("go on")
            following = driver.result()
            if counted:
                found[step["name"]] = found.get(step["name"], 0) + callgrind.total(driver.pid) / step["count"]
            step = following
    return {name: round(total) for name, total in found.items()}


if __name__ == "__main__":
    if sys.argv[1:] == ["drive"]:
        asyncio.run(drive())
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder))))
