"""The ``once`` messages that have no report yet: what is sent again over the next connection, in the same order."""

from __future__ import annotations

import asyncio

from bester.protocol.reports import ClientError, Report

MAX_BYTES = 16 * 1024 * 1024
"""Beyond that, who wants to send more waits."""


class Waiting:
    """Frames with their ids, oldest first. An entry leaves when its future is done, whatever the reason."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.frames: dict[str, bytes] = {}
        self._futures: dict[str, asyncio.Future[Report]] = {}
        self._max_bytes = max_bytes
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __contains__(self, id: str) -> bool:
        return id in self.frames

    def add(self, id: str, frame: bytes, future: asyncio.Future[Report]) -> None:
        """Keeps a frame until its future is done."""
        self.frames[id] = frame
        self._futures[id] = future
        self._bytes += len(frame)

    def settle(self, id: str, future: asyncio.Future[Report]) -> None:
        """Lets go of a frame, if it is still this future's."""
        if self._futures.get(id) is not future:
            return
        del self._futures[id]
        self._bytes -= len(self.frames.pop(id))
        if self._room is not None and self._bytes < self._max_bytes:
            self._room.set_result(None)
            self._room = None

    async def room(self) -> None:
        """Returns when another frame may be added."""
        while self._bytes >= self._max_bytes:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def fail(self, error: ClientError) -> None:
        """Nothing is sent again: all futures have this error."""
        for id, future in list(self._futures.items()):
            if not future.done():
                future.set_exception(error)
            self.settle(id, future)
