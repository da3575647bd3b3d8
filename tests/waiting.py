"""Waits until something is so. A test waits for what it needs to see, and never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import pytest

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long a test waits for what takes milliseconds where nothing is wrong."""
TURNS = 100
"""How many consecutive turns of the loop :func:`until` looks in, before it looks every :data:`PAUSE_S`."""
PAUSE_S = 0.002


@overload
async def until(
    look: Callable[..., Awaitable[T]], wanted: Callable[[T], object] = ..., *, within_s: float = ...
) -> T: ...
@overload
async def until(look: Callable[..., T], wanted: Callable[[T], object] = ..., *, within_s: float = ...) -> T: ...
async def until(
    look: Callable[..., Any], wanted: Callable[[Any], object] = bool, *, within_s: float = PATIENCE_S
) -> Any:
    """Looks at a value until it is the wanted one, and returns it.

    The loop runs between two looks. It sleeps when the value does not come soon: a loop that turns all the time takes
    the processor from the threads and processes that the test waits for.

    Args:
        look: returns the value; may be a coroutine function.
        wanted: says whether a value is the wanted one; any true value is where nothing is given.
        within_s: how long it may take; then the test fails, and tells the last value.
    """
    value: Any = None
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            turns = 0
            while True:
                value = look()
                if inspect.isawaitable(value):
                    value = await value
                if wanted(value):
                    return value
                await asyncio.sleep(0 if turns < TURNS else PAUSE_S)
                turns += 1
    except TimeoutError:
        if not limit.expired():
            raise
    pytest.fail(_failure(look, wanted, within_s, value))


def until_sync(
    look: Callable[[], T],
    wanted: Callable[[T], object] = bool,
    *,
    within_s: float = PATIENCE_S,
    tell: Callable[[], object] = str,
) -> T:
    """Does the same as :func:`until` where no loop runs; ``tell`` returns what else the message of a failure shows."""
    deadline = time.monotonic() + within_s
    while not wanted(value := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{_failure(look, wanted, within_s, value)}\n{tell()}".rstrip())
        time.sleep(PAUSE_S)
    return value


def _failure(look: Callable[..., object], wanted: Callable[..., object], within_s: float, value: object) -> str:
    line = f"waited {within_s:g} s for {_source(look)}"
    if wanted is not bool and "lambda" not in line:
        line += f" to be {_source(wanted)}"
    return f"{line}; at last it was {value!r:.500}"


def _source(function: Callable[..., object]) -> str:
    try:
        return " ".join(inspect.getsource(function).split())[:500]
    except (OSError, TypeError):
        return repr(function)
