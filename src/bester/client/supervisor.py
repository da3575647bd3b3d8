"""Supervises a session's connection: reconnects, and notices when the server is no longer there.

There is one task while there is no connection, and one timer while there is one. There is neither unless the client is
to reconnect, or a ``once`` message waits for its report.
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
"""A connection that lasted less does not count as a success: the pauses keep growing."""
_TICKS = 3


class Supervised(Protocol):
    """The session, as the supervisor needs it."""

    @property
    def needed(self) -> bool:
        """Whether there is to be a connection."""

    @property
    def connected(self) -> bool:
        """Whether there is one."""

    def connect_again(self) -> Awaitable[object]:
        """Connects and authenticates; raises ConnectError or AuthenticationError."""

    def give_up(self, error: ClientError) -> None:
        """Fails everything that waits for a connection, because there will be none."""

    def heard(self) -> bool:
        """Returns whether anything was received since the last call, or could not be because we do not read."""

    def probe(self) -> None:
        """Sends a ping, which the server will answer."""

    def cut(self, reason: str) -> None:
        """Ends the connection, because the server is not there."""


class ConnectionSupervisor:
    """Reconnects a session and watches its connection; see the module's docstring.

    Args:
        session: the session to supervise.
        first_s: the first pause before reconnecting.
        max_s: the longest pause.
        idle_ping_s: the silence, in seconds, after which the server is pinged.
    """

    def __init__(self, session: Supervised, first_s: float, max_s: float, idle_ping_s: float) -> None:
        self._session = session
        self._idle_ping_s = idle_ping_s
        self._backoff = Backoff(first_s, max_s)
        self._since = 0.0
        self._silent = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- without a connection ---------------------------------------------------------------------------------

    @property
    def trying(self) -> bool:
        """Whether it reconnects, or is about to."""
        return self._task is not None

    def start(self) -> None:
        """Begins to reconnect, unless it is doing so already."""
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
            while self._session.needed and not self._session.connected:
                await asyncio.sleep(self._backoff.next_s())
                if self._session.needed:
                    await self._try()
        except AuthenticationError as error:
            self._session.give_up(error)
        except Exception as error:
            _log.exception("the client cannot reconnect")
            self._session.give_up(ConnectError(f"the client cannot reconnect: {error}"))
        finally:
            self._task = None

    async def _try(self) -> None:
        try:
            await self._session.connect_again()
        except ConnectError as error:
            _log.info("%s; trying again in at most %.1f s", error, self._backoff.upcoming_s)
        except AuthenticationError as error:
            if not error.temporary:
                raise
            _log.info("%s; trying again in at most %.1f s", error, self._backoff.upcoming_s)

    # -- with a connection ------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Notes that a connection begins."""
        self._since = asyncio.get_running_loop().time()
        self._silent = 0
        self.watch()

    def watch(self) -> None:
        """Begins to check whether anything is received."""
        if self._timer is None and self._session.needed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_ping_s / _TICKS, self._tick)

    def _tick(self) -> None:
        # Turns of the timer are counted, not seconds: a loop that was blocked has not yet read the bytes that arrived.
        self._timer = None
        session = self._session
        if not session.connected:
            return
        self._silent = 0 if session.heard() else self._silent + 1
        if self._silent == _TICKS:
            session.probe()
        elif self._silent >= 2 * _TICKS:
            session.cut(f"nothing was received for {2 * self._idle_ping_s:g} s")
            return
        self.watch()
