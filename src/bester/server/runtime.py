"""What all services of a running server share: configuration, exchange, time, tasks.

Every event from outside begins with :meth:`Runtime.turn`. A batch ends with the event loop's turn: every
connection that was read in it has given its frames to the exchange, and then the callbacks of
:meth:`Runtime.at_turn_end` carry out its decisions, and write.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from bester.clock import SteadyClock, elapsed, wall_time
from bester.config import Config
from bester.core.exchange import Exchange
from bester.core.traces import SHARED_DIGITS
from bester.server.counts import Counts
from bester.server.ports import PresenceWatcher
from bester.timeouts import within

log = logging.getLogger("bester.server")

SWEEP_S = 0.25
"""How often deadlines are looked at."""


class Runtime:
    """The parts of a running server that all services share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        digits = secrets.token_hex(SHARED_DIGITS)[:SHARED_DIGITS]
        self.exchange = Exchange(config.server.name, boot=secrets.token_hex(8), trace_digits=digits)
        self.clock: Callable[[], float] = time.monotonic
        self.steady = SteadyClock()
        """The clock for everything that outlives a restart."""
        self.started_at = wall_time()
        """The time of the start, to be shown."""
        self._began = elapsed()
        self.counts = Counts()
        """About connections; those about messages are in ``Batch.counters``."""
        self.listener_urls: list[str] = []
        self.handler_urls: list[str] = []
        """The listeners for handlers on other machines."""
        self.presence_watchers: list[PresenceWatcher] = []
        """Called when an account's first session comes, and when its last one goes."""
        self.started_up = False
        """Whether all its listeners were opened."""
        self.stopping = False
        """Whether no new connections and messages are taken."""
        self.stop_asked = asyncio.Event()
        self.failed = False
        """Whether it stops because it cannot go on."""
        self._loop = asyncio.get_running_loop()
        # Made once: to bind and copy them anew for each turn takes 5 % of a round trip.
        self._end_turn = self.end_turn
        self._context = copy_context()
        self._turn_ends = False
        """Whether the end of this turn is in the loop's queue."""
        self._at_turn_end: list[Callable[[], None]] = []
        self._sweeps: list[Callable[[float], None]] = []
        self._on_reload: list[Callable[[], None]] = []
        self._on_problems: list[Callable[[], None]] = []
        self._awaited: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        """Conditions that something waits for, checked at the end of each turn; few, and rarely any."""
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def uptime_s(self) -> float:
        """How long this process has been running."""
        return elapsed() - self._began

    def stop_soon(self) -> None:
        """Asks for the server's end; what is under way is finished first."""
        self.stop_asked.set()

    def store_lost(self, error: BaseException) -> None:
        """Stops the server, because nobody knows whether the last writes are on disk; they are not reported."""
        log.critical("the database failed, and the outcome of its last writes is unknown; stopping: %s", error)
        self.failed = True
        self.stop_soon()

    # -- the batch -----------------------------------------------------------------------------------------------

    def turn(self) -> Exchange:
        """Begins to handle an event from outside: sets the exchange's time, and returns the exchange.

        Its decisions are carried out at the end of this turn of the loop.
        """
        exchange = self.exchange
        exchange.batch.now = self.clock()
        if not self._turn_ends:
            self._turn_ends = True
            self._loop.call_soon(self._end_turn, context=self._context)
        return exchange

    def at_turn_end(self, callback: Callable[[], None]) -> None:
        """Registers a callback for the end of each turn; they are called in the order of registration."""
        self._at_turn_end.append(callback)

    def on_sweep(self, callback: Callable[[float], None]) -> None:
        """Registers a callback that takes the time every :data:`SWEEP_S`, to look for deadlines."""
        self._sweeps.append(callback)

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Registers a callback for when :attr:`config` was replaced."""
        self._on_reload.append(callback)

    def on_problems(self, callback: Callable[[], None]) -> None:
        """Registers a callback for when a problem may have begun or ended."""
        self._on_problems.append(callback)

    def problems_changed(self) -> None:
        """Says that a problem may have begun or ended."""
        for callback in self._on_problems:
            callback()

    def reconfigure(self, config: Config) -> None:
        """Replaces the configuration, and tells all services that registered for that."""
        self.config = config
        self.turn()
        for callback in self._on_reload:
            callback()

    def end_turn(self) -> None:
        """Carries out the exchange's decisions now."""
        self._turn_ends = False
        for callback in self._at_turn_end:
            callback()
        for condition, met in self._awaited:
            if condition() and not met.done():
                met.set_result(None)

    # -- time ----------------------------------------------------------------------------------------------------

    def start_sweeping(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        exchange = self.turn()
        exchange.sweep()
        for sweep in self._sweeps:
            sweep(exchange.batch.now)

    # -- tasks ---------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine in a task that ends with the server."""
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", exc_info=error)

    async def quiet(self, timeout_s: float) -> None:
        """Returns when no message is under way, or after the time."""
        await self.until(lambda: not self.exchange.reports.under_way, timeout_s)

    async def until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Returns when a condition holds at the end of a turn, or after the time."""
        if condition():
            return
        met: asyncio.Future[None] = self._loop.create_future()
        self._awaited.append((condition, met))
        try:
            async with within(timeout_s):
                await met
        except TimeoutError:
            pass
        finally:
            self._awaited.remove((condition, met))

    async def end_tasks(self) -> None:
        """Cancels the tasks that still run, and waits for their ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
