"""Keeps a session connected: connects again, and notices when nobody is there any more.

There is one task while there is no connection, and one timer while there is one; and neither where nobody needs them,
which is unless the client shall reconnect, or a ``once`` message waits for its report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from bester.backoff import Backoff
from bester.protocol.reports import AuthenticationError, ClientError, ConnectError

_log = logging.getLogger("bester.client")
_STABLE_S = 5.0
"""A connection that lasted less was of no use: the pauses go on to grow."""
_TICKS = 3


class Kept(Protocol):
    """What the keeper wants of the session."""

    @property
    def needed(self) -> bool:
        """Whether there is to be a connection."""

    @property
    def connected(self) -> bool:
        """Whether there is one."""

    def connect_again(self) -> Awaitable[object]:
        """Connects and authenticates; raises ConnectError or AuthenticationError."""

    def give_up(self, error: ClientError) -> None:
        """There will be no connection."""

    def heard(self) -> bool:
        """Whether anything was received since the last call, or nothing can be because we do not read."""

    def probe(self) -> None:
        """Sends what will be answered."""

    def cut(self, reason: str) -> None:
        """Ends the connection: nobody is there."""


class Keeper:
    """See the module's text; all seconds."""

    def __init__(self, kept: Kept, first_s: float, max_s: float, idle_ping_s: float) -> None:
        self._kept = kept
        self._idle_ping_s = idle_ping_s
        self._backoff = Backoff(first_s, max_s)
        self._since = 0.0
        self._silent = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- without a connection ---------------------------------------------------------------------------------

    @property
    def trying(self) -> bool:
        """Whether it connects again, or is about to."""
        return self._task is not None

    def start(self) -> None:
        """Begins to connect again, unless that is under way."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._reconnect())

    async def stop(self) -> None:
        """Ends the task and the timer."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _reconnect(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._since > _STABLE_S:
            self._backoff.reset()
        try:
            while self._kept.needed and not self._kept.connected:
                await asyncio.sleep(self._backoff.next_s())
                if self._kept.needed:
                    await self._try()
        except AuthenticationError as error:
            self._kept.give_up(error)
        except Exception as error:
            _log.exception("the client cannot reconnect")
            self._kept.give_up(ConnectError(f"the client cannot reconnect: {error}"))
        finally:
            self._task = None

    async def _try(self) -> None:
        try:
            await self._kept.connect_again()
        except ConnectError as error:
            _log.info("%s; trying again in at most %.1f s", error, self._backoff.upcoming_s)
        except AuthenticationError as error:
            if not error.temporary:
                raise
            _log.info("%s; trying again in at most %.1f s", error, self._backoff.upcoming_s)

    # -- with one ---------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection begins."""
        self._since = asyncio.get_running_loop().time()
        self._silent = 0
        self.watch()

    def watch(self) -> None:
        """Looks from now on whether anything is received."""
        if self._timer is None and self._kept.needed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_ping_s / _TICKS, self._tick)

    def _tick(self) -> None:
        # Turns of the timer are counted, not seconds: a loop that was blocked has not yet read what is there.
        self._timer = None
        kept = self._kept
        if not kept.connected:
            return
        self._silent = 0 if kept.heard() else self._silent + 1
        if self._silent == _TICKS:
            kept.probe()
        elif self._silent >= 2 * _TICKS:
            kept.cut(f"nothing was received for {2 * self._idle_ping_s:g} s")
            return
        self.watch()
