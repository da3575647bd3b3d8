"""``asyncio.timeout``, for every Python that Bester runs on."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import TYPE_CHECKING

__all__ = ["within"]

if TYPE_CHECKING or sys.version_info >= (3, 11, 3):
    from asyncio import timeout as within
else:
    # In a task that has been cancelled, and so in all clean-up code, asyncio.timeout takes its own expiry for another
    # cancellation: the next step, a SIGKILL or the cut of a connection, never comes. Debian 12 has 3.11.2.
    # https://github.com/python/cpython/issues/102780

    class _Timeout(asyncio.Timeout):
        async def __aenter__(self) -> _Timeout:
            self._cancelled_before = asyncio.current_task().cancelling()
            return await super().__aenter__()

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None:
            await super().__aexit__(kind, error, traceback)
            cancelled = asyncio.current_task().cancelling() > self._cancelled_before
            if self.expired() and not cancelled and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def within(delay: float | None) -> _Timeout:
        return _Timeout(None if delay is None else asyncio.get_running_loop().time() + delay)
