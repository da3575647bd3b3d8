"""A process that is kept running: it is started again whenever it ends, after pauses that grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable

from bester.timeouts import within

log = logging.getLogger("bester.nodes")

PAUSE_S = 0.2
MAX_PAUSE_S = 10.0
GOOD_S = 30.0
"""Who ran for so long starts again without a longer pause."""


class Kept:
    """A child process.

    Args:
        name: what the log calls it.
        begin: starts it.
        ended: called with its exit status each time that it has ended unasked; returns whether it is to be started
            again.
    """

    def __init__(
        self, name: str, begin: Callable[[], Awaitable[Process]], ended: Callable[[int], bool] = lambda status: True
    ) -> None:
        self.name = name
        self.process: Process | None = None
        self._begin = begin
        self._ended = ended
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._pause_s = PAUSE_S

    async def start(self) -> None:
        """Starts it, and keeps it running from now on.

        Raises:
            OSError, BadConfiguration: it cannot be started.
        """
        self.process = await self._begin()
        self._task = asyncio.create_task(self._keep(self.process))

    async def _keep(self, process: Process) -> None:
        while True:
            began = asyncio.get_running_loop().time()
            status = await process.wait()
            if self._stopping or not self._ended(status):
                return
            if asyncio.get_running_loop().time() - began > GOOD_S:
                self._pause_s = PAUSE_S
            log.error("%s ended %s; it is started again in %.1f s", self.name, _told(status), self._pause_s)
            process = await self._again()

    async def _again(self) -> Process:
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            try:
                self.process = await self._begin()
            except Exception as error:
                log.error("%s cannot be started: %s", self.name, error)
            else:
                return self.process

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, where it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, timeout_s: float) -> None:
        """Asks it to end, and waits for that; after the time it is killed."""
        self._stopping = True
        process = self.process
        if self._task is not None and (process is None or process.returncode is not None):
            self._task.cancel()  # it may be about to start again
        if process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with within(timeout_s):
                await process.wait()
        except TimeoutError:
            log.error("%s did not end within %.0f s; it is killed", self.name, timeout_s)
            self.signal(signal.SIGKILL)
            await process.wait()


def _told(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"with status {status}"
