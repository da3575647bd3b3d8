"""A kitchen whose devices the test plays by hand, on a server in the test's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bester import Client, Handler, Informer, ReceivedMessage, Refused, Report
from bester.testing import RunningServer
from bester_gadgets.kitchen.service import Kitchen
from bester_gadgets.kitchen.settings import KitchenSettings
from bester_gadgets.kitchen.source import Received, SourceAway
from bester_gadgets.kitchen.store import Store

PATIENCE_S = 20.0
OVEN: dict[str, Any] = {
    "topic": "home/oven",
    "units": {"temperature": "°C"},
    "command": ["accounts"],
    "commandTopic": "home/oven/set",
    "set": {"target": {"min": 50, "max": 250}, "mode": {"values": ["grill", "fan", 3], "topic": "home/oven/mode"}},
}


class Hands:
    """The devices' end."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[tuple[str, bytes]] = []
        self.filters: list[str] = []
        self._received: Received | None = None
        self._ready = asyncio.Event()

    async def run(self, filters: list[str], received: Received) -> None:
        self.filters, self._received = filters, received
        self._ready.set()
        await asyncio.Event().wait()

    async def ready(self) -> None:
        await self._ready.wait()

    async def publish(self, topic: str, payload: bytes) -> None:
        if not self.connected:
            raise SourceAway("the broker cannot be reached")
        self.sent.append((topic, payload))

    def say(self, topic: str, value: Any, retained: bool = False) -> None:
        """A device says something."""
        assert self._received is not None
        self._received(topic, json.dumps(value).encode(), retained)


class Guest(Client):
    """A client that asks kitchens."""

    async def about(self, op: str, **more: Any) -> Any:
        """Returns the kitchen's answer."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self.ask("kitchen", {"op": op} | more)).data

    async def code(self, op: str, **more: Any) -> tuple[str, bool]:
        """Returns why an ask is refused, without the prefix, and whether that is temporary."""
        return await self.refused({"op": op} | more)

    async def refused(self, data: Any) -> tuple[str, bool]:
        """The same of any data."""
        with pytest.raises(Refused) as refused:
            await self.ask("kitchen", data, timeout=PATIENCE_S)
        prefix, _, code = refused.value.reason.partition(".")
        assert (refused.value.code, prefix) == ("handlerError", "kitchen")
        return code, refused.value.temporary

    async def told(self, type: str) -> Any:
        """Returns the next message, which must be of this type."""
        message = await self.next()
        assert message.type == type, message
        return message.data

    async def next(self) -> ReceivedMessage:
        async with asyncio.timeout(PATIENCE_S):
            return await self.receive()

    async def tell(self, data: Any) -> Report:
        async with asyncio.timeout(PATIENCE_S):
            return await self.send("kitchen", data)


def settings(**more: Any) -> KitchenSettings:
    return KitchenSettings.model_validate({"interval": 0.01, "devices": {"oven": OVEN}} | more)


@asynccontextmanager
async def kitchen(
    running: RunningServer, database: Path | str = ":memory:", hands: Hands | None = None, **more: Any
) -> AsyncIterator[tuple[Kitchen, Hands]]:
    """Runs a kitchen until the block ends."""
    hands = hands if hands is not None else Hands()
    store = Store(database)
    try:
        async with Informer(running.informer_path) as informer:
            handler = Handler(running.handlers_path, name="kitchen", dry_run=False, retry_first_s=0.01)
            made = Kitchen(settings(**more), hands, store, handler, informer)
            working = asyncio.ensure_future(made.run())
            try:
                await hands.ready()
                await handler.wait_attached(PATIENCE_S)
                yield made, hands
            finally:
                working.cancel()
                await asyncio.wait([working])
    finally:
        store.close()
