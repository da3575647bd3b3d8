"""A child process that is restarted whenever it ends, after pauses that grow."""

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
"""A process that ran for this long is restarted after the shortest pause again."""


class SupervisedProcess:
    """A child process that is kept running.

    Args:
        name: its name in the log.
        begin: starts it.
        ended: called with the exit status each time that the process ends unasked; returns whether to restart it.
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
        """Starts the process, and keeps it running from now on.

        Raises:
            OSError, BadConfiguration: the process cannot be started.
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
            log.error("%s ended %s; restarting it in %.1f s", self.name, _told(status), self._pause_s)
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
        """Sends a signal to the process, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, timeout_s: float) -> None:
        """Asks the process to end, waits for that, and kills it after the time limit."""
        self._stopping = True
        process = self.process
        if self._task is not None and (process is None or process.returncode is not None):
            self._task.cancel()  # it may be about to restart the process
        if process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with within(timeout_s):
                await process.wait()
        except TimeoutError:
            log.error("%s did not end within %.0f s; killing it", self.name, timeout_s)
            self.signal(signal.SIGKILL)
            await process.wait()


def _told(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"with status {status}"
