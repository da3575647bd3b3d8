"""A server that is started again whenever it has ended, as a service manager would."""

from __future__ import annotations

import asyncio
import weakref

from bester.errors import BadConfiguration
from bester.lab.process import ProcessDied, current
from bester.lab.server import LabServer
from bester.server.server import Server
from bester.timeouts import within
from lab.stage import Stage

AGAIN_S = 0.05
"""How long it takes until an ended server is started again."""
STOP_S = 60.0
"""How long it may take to stop."""
FAILED_S = 1.0
"""How long it takes where it could not be started."""


class Keeper:
    """Keeps one server running.

    Args:
        stage: the play.
        index: the server's place in the plan.
        lab: the server.
    """

    def __init__(self, stage: Stage, index: int, lab: LabServer) -> None:
        self._stage = stage
        self.index = index
        self.lab = lab
        self.ready = asyncio.Event()
        """Whether it runs."""
        self.failed = 0
        """How often it could not be started."""
        self.why = ""
        """Why it could not be started."""
        self.stopped: list[weakref.ref[Server]] = []
        """Those that were stopped at the end with nothing under way, of which nothing may be left. Others have
        messages, which the garbage collector does not see (bester.core.model)."""
        self._down_until = 0.0
        self._over = False

    async def run(self) -> None:
        """Runs it until :meth:`finish`."""
        stage, lab = self._stage, self.lab
        while not self._over:
            wait_s = max(self._down_until - stage.now, AGAIN_S if lab.starts else 0.0)
            await asyncio.sleep(wait_s)
            if not lab.machine.on or self._down_until > stage.now:
                continue
            try:
                await lab.start()
            except ProcessDied:
                continue
            except BadConfiguration as error:
                self._could_not_start(f"{error}: {error.inside}")
                await asyncio.sleep(FAILED_S)
                continue
            except Exception as error:
                self._could_not_start(repr(error))
                await asyncio.sleep(FAILED_S)
                continue
            server, process = lab.server, lab.process
            assert server is not None
            assert process is not None
            self.ready.set()
            try:
                await process.call(server.wait())
                self.ready.clear()
                if not self._over:
                    await lab.stop()
            except ProcessDied:
                self.ready.clear()
                lab.server = None
            del server

    def _could_not_start(self, why: str) -> None:
        self.failed += 1
        self.why = why
        self._stage.note(f"{self.lab.process} cannot start: {why}")
        if self.lab.process is not None:
            self.lab.process.kill()

    # -- faults --------------------------------------------------------------------------------------------------

    def kill(self, for_s: float) -> None:
        """Ends it as ``kill -9`` does, for so long."""
        self._down_until = self._stage.now + for_s
        self.ready.clear()
        self.lab.kill()

    def cut_power(self, for_s: float) -> None:
        """Cuts its machine's power for so long."""
        self._down_until = self._stage.now + for_s
        self.ready.clear()
        if self.lab.machine.on:
            self._stage.note(f"{self.lab.machine.name} loses power")
            self.lab.machine.cut_power()
            self.lab.server = None

    def ask_to_stop(self, for_s: float) -> None:
        """Stops it in an orderly way, for so long."""
        if self.lab.server is not None and self.lab.running and self.lab.process is not None:
            self._down_until = self._stage.now + for_s
            self.lab.process.enter().run(self.lab.server.runtime.stop_asked.set)

    def up(self) -> None:
        """Lets it come back now."""
        self._down_until = 0.0
        if not self.lab.machine.on:
            self.lab.machine.switch_on()

    async def stop(self) -> None:
        """Stops it and lets it down.

        Raises:
            TimeoutError: it did not stop in time.
        """
        self._over = True
        process, server = self.lab.process, self.lab.server
        if process is None or server is None or not process.alive:
            return
        self._stage.note(f"{process} stops at the end")
        async with within(STOP_S):
            await process.call(server.stop())
        if not server.runtime.exchange.reports.under_way:
            self.stopped.append(weakref.ref(server))
        self.lab.server = None

    def left(self) -> list[str]:
        """Returns what it left behind some time after it was stopped, and ends its process."""
        process = self.lab.process
        if process is None or not process.alive:
            return []
        left = [f"task {task.get_coro()!r}" for task in process.tasks if not task.done()]
        left = [one for one in left if "Server.wait" not in one]
        left += [f"socket {one!r}" for one in process.sockets]
        left += [
            f"timer {timer!r}"
            for timer in self._stage.world.loop._scheduled
            if not timer._cancelled and timer._context.get(current) is process
        ]
        process.kill()
        return left
