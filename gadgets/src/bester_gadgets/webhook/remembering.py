"""Requests that were answered are not executed again: the same key gets the same answer, from a bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a request."""

    status: int
    """Of HTTP."""
    body: dict[str, Any]
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    at: float
    work: asyncio.Task[Outcome]


class Full(Exception):
    """All that is remembered is still needed."""


class Conflict(Exception):
    """The key was used with another body."""


class Remembered:
    """The answers of one hook.

    Args:
        most: how many; beyond it the oldest is forgotten,
        keep_s: but not before it is so old: then nothing new is taken.
    """

    def __init__(self, most: int, keep_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._keep_s = keep_s
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    async def once(self, key: str, digest: bytes, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Returns the outcome of the work, which is done once for a key; a second caller waits for the first.

        What may succeed later (429, 503) is not remembered.

        Raises:
            Conflict, Full: nothing was done.
        """
        entry = self._entries.get(key)
        if entry is not None:
            if entry.digest != digest:
                raise Conflict
            return await asyncio.shield(entry.work)
        self._make_room()
        task = asyncio.ensure_future(self._done(key, work))
        self._entries[key] = _Entry(digest, self._clock(), task)
        return await asyncio.shield(task)

    async def _done(self, key: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            outcome = await work()
        except BaseException:
            self._entries.pop(key, None)
            raise
        if outcome.status in (429, 503):
            self._entries.pop(key, None)
        return outcome

    def _make_room(self) -> None:
        if len(self._entries) < self._most:
            return
        oldest = next(iter(self._entries))
        entry = self._entries[oldest]
        if not entry.work.done() or self._clock() - entry.at < self._keep_s:
            raise Full
        del self._entries[oldest]
