"""The task of one destination, which does what must wait for something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bester.timeouts import within


class Worker:
    """Runs a task as long as there is work for it.

    Args:
        spawn: runs a coroutine beside the loop's callbacks.
        work: what the task does; it returns when there is nothing more to do.
    """

    def __init__(
        self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], work: Callable[[], Awaitable[None]]
    ) -> None:
        self.stopped = False
        """Whether nothing more is sent."""
        self._spawn = spawn
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether there is a task now."""
        return self._task is not None

    def start(self) -> None:
        """Starts the task, unless it runs."""
        if self._task is None and not self.stopped:
            self._task = self._spawn(self._run())

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._task = None

    def notify(self) -> None:
        """Wakes the task, if it waits."""
        self._news.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Returns at the next :meth:`notify`, or after the time; called by the task."""
        self._news.clear()
        try:
            async with within(timeout_s):
                await self._news.wait()
        except TimeoutError:
            pass

    def stop(self) -> None:
        """Ends the task, and starts no other one."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()
