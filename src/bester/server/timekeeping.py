"""Keeps the server's steady clock (``bester.clock``) in its store, and notices when the system clock is set."""

from __future__ import annotations

import logging

from bester.clock import JUMP_S, MAX_STOP_S
from bester.errors import BesterError
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore

log = logging.getLogger("bester.clock")


class Timekeeping:
    """The clock for everything that outlives a restart.

    Args:
        runtime: has the clock.
        store: keeps its time over restarts; opened before this, and closed after it.
    """

    def __init__(self, runtime: Runtime, store: MessageStore) -> None:
        self.runtime = runtime
        self._store = store
        self._keeping = False
        self._resumed = False

    async def open(self) -> None:
        """Continues from the time in the store; from then on the clock can be used.

        Raises:
            Internal: the store cannot be reached.
        """
        clock = self.runtime.steady
        await self._store.restore_clock(clock)
        if clock.uncounted_s > JUMP_S:
            stopped_days, counted_days = (clock.uncounted_s + MAX_STOP_S) / 86_400, MAX_STOP_S / 86_400
            stopped = f"this server was stopped for {stopped_days:.1f} days, as far as this machine can tell"
            log.warning("%s; what it keeps has aged by %.0f day", stopped, counted_days)
        self._resumed = True
        await self._keep()

    def sweep(self, now: float) -> None:
        """Looks at the system clock, and keeps the time now and then; called a few times a second."""
        clock = self.runtime.steady
        if jumped := clock.look():
            self.runtime.problems_changed()
        if (jumped or clock.is_due) and not self._keeping:
            self._keeping = True
            self.runtime.spawn(self._keep())

    async def close(self) -> None:
        """Keeps the time for the next start; the store is still open."""
        if self._resumed and not self.runtime.failed:
            await self._keep()

    async def _keep(self) -> None:
        try:
            await self._store.save_clock(self.runtime.steady)
        except BesterError as error:
            log.warning("the time cannot be kept for the next start: %s", error.inside)
        finally:
            self._keeping = False
