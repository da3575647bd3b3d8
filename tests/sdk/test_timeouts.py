"""A time limit is one in a task that is being cancelled as well; Python 3.11.2 has it otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bester.timeouts import within


async def interrupted(cleanup: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Returns a task that has been cancelled, and is cleaning up."""

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await cleanup()

    began = asyncio.Event()
    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    return task


async def test_ends_what_takes_longer() -> None:
    with pytest.raises(TimeoutError):
        async with within(0.001):
            await asyncio.Event().wait()


async def test_ends_what_takes_longer_in_a_cleanup() -> None:
    ended: list[str] = []

    async def cleanup() -> None:
        try:
            async with within(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("in time")
        await asyncio.sleep(0)
        ended.append("whole")

    with pytest.raises(asyncio.CancelledError):
        await (await interrupted(cleanup))
    assert ended == ["in time", "whole"]


@pytest.mark.parametrize("limit_s", [None, 60.0])
async def test_a_cleanup_is_cancelled_as_ever(limit_s: float | None) -> None:
    waiting = asyncio.Event()

    async def cleanup() -> None:
        async with within(limit_s):
            waiting.set()
            await asyncio.Event().wait()

    task = await interrupted(cleanup)
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_is_cancelled_when_its_time_is_over_is_cancelled() -> None:
    async def work() -> None:
        async with within(0):
            task.cancel()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_the_inner_of_two() -> None:
    with pytest.raises(TimeoutError):
        async with within(60), within(0):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_passes_on_what_fails() -> None:
    with pytest.raises(ValueError, match="as it is"):
        async with within(60):
            raise ValueError("as it is")
