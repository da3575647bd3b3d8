"""Server-sent events: one snapshot per second, shared by all watchers, and only while there are any."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bester.errors import BesterError
from bester.protocol.frames import encode_text
from bester.server.web import WebServices
from bester.web import snapshot

log = logging.getLogger("bester.web")


class Feed:
    """Creates the events; all watchers wait for them with :meth:`next`."""

    def __init__(self, services: WebServices) -> None:
        self._services = services
        self._rates = services.admin.rates
        self._watchers = 0
        self._making = False
        self._next: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._closed = False

    @property
    def watchers(self) -> int:
        return self._watchers

    def join(self) -> None:
        """Adds a watcher, until :meth:`leave`."""
        self._watchers += 1
        self._services.movements.watch()
        if self._watchers == 1:
            self._rates.ticked.append(self._tick)

    def leave(self) -> None:
        self._watchers -= 1
        self._services.movements.unwatch()
        if not self._watchers:
            self._rates.ticked.remove(self._tick)

    def close(self) -> None:
        """Ends the stream of every watcher."""
        self._closed = True
        if not self._next.done():
            self._next.set_result(b"")

    async def next(self) -> bytes:
        """Waits for the next event; returns ``b""`` at the end. A watcher that needs over a second misses events."""
        return b"" if self._closed else await asyncio.shield(self._next)

    def _tick(self) -> None:
        if not self._making and not self._closed:
            self._making = True
            self._services.runtime.spawn(self._make())

    async def _make(self) -> None:
        try:
            made = event("now", await snapshot.now(self._services))
        except BesterError as error:
            log.warning("the console's snapshot cannot be made: %s", error.inside)
            made = event("trouble", {"error": {"code": error.code, "message": error.message}})
        finally:
            self._making = False
        ready, self._next = self._next, asyncio.get_running_loop().create_future()
        if not ready.done():
            ready.set_result(made)
        if self._closed:
            self._next.set_result(b"")


def event(name: str, value: Any) -> bytes:
    """Returns one server-sent event; its JSON contains no line breaks."""
    return b"event: " + name.encode() + b"\ndata: " + bytes(encode_text(value)) + b"\n\n"
