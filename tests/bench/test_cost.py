"""What a message costs the server, in figures that do not depend on time.

A whole server is driven by hand: its connections are given bytes, and their transports are replaced by one that only
counts. So everything from a read to the write after it is there, and nothing of the kernel. What is counted is the
same in every run: the interpreter's instructions, calls (of Python and of C), writes, and bytes that are allocated at
the peak. The figures are recorded in ``cost.json``, by Python's version; ``BESTER_RECORD_COST=1`` records them anew.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from tests.bench.desk import RECEIVED, Desk, opened

RECORDED = Path(__file__).with_name("cost.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TOLERANCE = 1.1
BATCH = 64
MANY = 1000


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as desk:
        yield desk


# -- counting ----------------------------------------------------------------------------------------------------


def instructions(work: Callable[[], None]) -> int:
    """Returns how many of the interpreter's instructions a call takes."""
    counted = 0
    if sys.version_info >= (3, 12):
        monitoring = sys.monitoring

        def instruction(code: CodeType, offset: int) -> None:
            nonlocal counted
            counted += 1

        tool = monitoring.PROFILER_ID
        monitoring.use_tool_id(tool, "cost")
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, instruction)
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        try:
            work()
        finally:
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)
    else:

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal counted
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            counted += event == "opcode"
            return trace

        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)
    return counted


def calls(work: Callable[[], None]) -> int:
    """Returns how many functions, of Python and of C, a call calls."""
    counted = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def peak_bytes(work: Callable[[], None]) -> int:
    """Returns how much more is allocated at the peak than before; with the frames of the calls, which tracing makes."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        gc.enable()


COUNTS = {"instructions": instructions, "calls": calls, "peakBytes": peak_bytes}


def cost(ask: Callable[[], None], between: Callable[[], Callable[[], None] | None], each: int) -> dict[str, float]:
    """Returns what two steps cost together, for each of so many messages; what lies between is not counted."""
    found = {}
    for name, count in COUNTS.items():
        total = count(ask)
        follow = between()
        total += count(follow) if follow is not None else 0
        found[name] = round(total / each, 2)
    return found


def least(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Returns the least of several measurements, for each of which a block of the loop's queue may be allocated."""
    measure()  # what is done once is done
    found = [measure() for _ in range(3)]
    return {name: min(one[name] for one in found) for name in COUNTS}


def check(name: str, found: dict[str, float]) -> None:
    """Compares with what is recorded, or records it."""
    recorded: dict[str, dict[str, dict[str, float]]] = json.loads(RECORDED.read_text())
    if os.environ.get("BESTER_RECORD_COST"):
        recorded.setdefault(PYTHON, {})[name] = found
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return
    known = recorded.get(PYTHON, {}).get(name)
    if known is None:
        pytest.skip(f"no cost is recorded for Python {PYTHON}")
    risen = {key: (value, known[key]) for key, value in found.items() if value > TOLERANCE * known[key]}
    assert not risen, f"{name} costs more than it did; BESTER_RECORD_COST=1 records it, if it is worth it"


@pytest.fixture(autouse=True)
def _untraced() -> None:
    if sys.gettrace() is not None or sys.getprofile() is not None:
        pytest.skip("something else traces the interpreter")


# -- what is bounded ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, BATCH])
async def test_a_round_trip(desk: Desk, count: int) -> None:
    def answered() -> Callable[[], None]:
        assert len(desk.handler.written) == 1, "one write for all requests of one read"
        answers = b"".join(desk.answers())
        return lambda: desk.answer(answers)

    def round_trip() -> dict[str, float]:
        found = cost(lambda: desk.ask(count), answered, count)
        assert len(desk.client.written) == len(COUNTS), "one write for all that one read led to"
        assert desk.client.frames() == desk.replies(count) * len(COUNTS)
        return found

    check(f"a round trip, {count} in a read", least(round_trip))


async def test_a_delivery_of_a_fan_out(desk: Desk) -> None:
    transports = desk.join(MANY)
    push = desk.push(MANY)

    def delivered() -> Callable[[], None] | None:
        for transport in transports:
            assert len(transport.written) == 1
            assert transport.frames() == [RECEIVED % desk.data]
        desk.handler.frames()
        return None

    def fan_out() -> dict[str, float]:
        return cost(lambda: desk.answer(push), delivered, MANY)

    check("a delivery of a fan-out", least(fan_out))
