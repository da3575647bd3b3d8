"""A play with our library at both ends: ``bester.Client`` sends ``once``, and receives with ``ack``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from bester import Client
from bester.protocol.received import ReceivedMessage
from faults.ledger import Ledger
from faults.players import PASSWORD
from faults.servers import Besterd

AT_ONCE = 64


class Library:
    """One sender and some receivers, which connect again by themselves; the server is ready when this is opened.

    A receiver drops repeats by itself. So what is counted as twice here is what the library gave out twice.
    """

    def __init__(self, server: Besterd, ledger: Ledger, names: Sequence[str]) -> None:
        self._server = server
        self._ledger = ledger
        self._names = names
        self._closing = AsyncExitStack()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._count = 0
        self._given = 0
        self._sending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for name in self._names:
            client = self._client(name, ("ack", "token"))
            await self._closing.enter_async_context(client)
            reading = asyncio.create_task(self._read(name, client))
            self._closing.callback(reading.cancel)
        self._sender = self._client("s", ("token",))
        await self._closing.enter_async_context(self._sender)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._closing.aclose()

    def give(self, count: int) -> None:
        """Sends so many more messages."""
        for _ in range(count):
            name = self._names[self._count % len(self._names)]
            key = f"s.{self._count}"
            self._count += 1
            self._ledger.sent.add(key)
            task = asyncio.create_task(self._send(name, key))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _client(self, name: str, features: Sequence[str]) -> Client:
        url = f"bester+unix://{name}:{PASSWORD}@{self._server.clients}"
        return Client(url, features=features, reconnect=True, retry_first_s=0.02, retry_max_s=0.2)

    async def _send(self, name: str, key: str) -> None:
        async with self._room:
            while True:
                report = await self._sender.send("chat", {"to": name, "key": key}, id=key, once=True)
                if report.good:
                    self._ledger.reported_good(key, report.results[0].status)
                    return
                assert report.error is not None
                if not report.error.temporary:
                    self._ledger.reported_bad(key, report.error.code)
                    return
                told = self._ledger.temporary
                told[report.error.code] = told.get(report.error.code, 0) + 1
                await asyncio.sleep(0.02)

    async def _read(self, name: str, client: Client) -> None:
        async for message in client:
            self._came(name, message)

    def _came(self, name: str, message: ReceivedMessage) -> None:
        # A number in place of the delivery id: given out again is twice, whatever the id.
        self._given += 1
        self._ledger.came(name, message.data["key"], str(self._given))
