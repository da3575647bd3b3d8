"""Health checks. ``/healthz``: the process answers. ``/readyz``: the server can process messages."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from bester.errors import BesterError, StorageFull
from bester.server.web import WebServices
from bester.store.database import SqliteStore
from bester.timeouts import within
from bester.web.answers import answer

log = logging.getLogger("bester.web")

FRESH_S = 1.0
"""How long the result of a check of the store, the disk and the listeners is reused."""
STORE_S = 2.0
"""How long the store may take."""
MAX_LAG_S = 5.0


class Health:
    """Answers anyone, but only with codes; the details are in the log."""

    def __init__(self, services: WebServices) -> None:
        self._services = services
        self._admin = services.admin
        self._loop = asyncio.get_running_loop()
        self._checked = float("-inf")
        self._found: list[str] = []
        self._checking: asyncio.Task[list[str]] | None = None

    async def process(self, request: web.Request) -> web.Response:
        """Answers as long as the event loop runs."""
        return answer({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """Answers 200, or 503 with the reasons: starting, draining, listeners, loop, disk, store, accounts, bus."""
        reasons: list[str] = []
        runtime = self._services.runtime
        if runtime.stopping or runtime.exchange.admission.draining or runtime.stop_asked.is_set():
            reasons.append("draining")
        elif not runtime.started_up:
            reasons.append("starting")
        if self._admin.rates.lag_s >= MAX_LAG_S:
            reasons.append("loop")
        if not self._admin.cluster.bus_up:
            # Without the bus the node can neither store, nor check logins, nor reach other nodes.
            reasons.append("bus")
        else:
            reasons += await self._recent_check()
        return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _recent_check(self) -> list[str]:
        if self._loop.time() - self._checked >= FRESH_S:
            if self._checking is None:
                self._checking = self._loop.create_task(self._check())
            # Concurrent requests wait for the same check; a lost connection does not cancel it.
            return await asyncio.shield(self._checking)
        return self._found

    async def _check(self) -> list[str]:
        found = []
        runtime, storage = self._services.runtime, self._admin.storage
        if runtime.started_up and not runtime.stopping and (silent := self._services.silent_listeners()):
            log.error("nothing comes through %s any more: it is closed, or its file is gone", ", ".join(silent))
            found.append("listeners")
        if storage.on_disk:
            space = storage.disk_space()
            if space is None or space["free"] < runtime.config.storage.reserve:
                found.append("disk")
        store = self._admin.messages
        try:
            async with within(STORE_S):
                if isinstance(store, SqliteStore):
                    # Writes nothing, but takes the write lock.
                    await store.database.write(lambda connection: None, adds=True)
                else:
                    await store.queue_sizes()
        except StorageFull:
            if "disk" not in found:
                found.append("disk")
        except (BesterError, TimeoutError) as error:
            log.error("the store is not ready: %s", error or "it does not answer")
            found.append("store")
        accounts = self._admin.accounts.store
        if not isinstance(accounts, SqliteStore):  # logins and mailboxes need it
            try:
                async with within(STORE_S):
                    await accounts.count()
            except (BesterError, TimeoutError) as error:
                log.error("the accounts are not ready: %s", error or "they do not answer")
                found.append("accounts")
        self._found, self._checked, self._checking = found, self._loop.time(), None
        return found
