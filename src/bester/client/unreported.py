"""The ``once`` messages that have no report yet, which the next connection sends again in the same order."""

from __future__ import annotations

import asyncio

from bester.protocol.reports import ClientError, Report

MAX_BYTES = 16 * 1024 * 1024
"""The most bytes of frames that are kept; callers that want to send more wait."""


class UnreportedMessages:
    """Frames by their ids, oldest first. An entry is removed when its future is done, for whatever reason."""

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
        """Removes a frame, if it is still this future's."""
        if self._futures.get(id) is not future:
            return
        del self._futures[id]
        self._bytes -= len(self.frames.pop(id))
        if self._room is not None and self._bytes < self._max_bytes:
            self._room.set_result(None)
            self._room = None

    async def wait_for_space(self) -> None:
        """Returns when another frame may be added."""
        while self._bytes >= self._max_bytes:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def fail(self, error: ClientError) -> None:
        """Fails all futures with this error; no message is sent again."""
        for id, future in list(self._futures.items()):
            if not future.done():
                future.set_exception(error)
            self.settle(id, future)
