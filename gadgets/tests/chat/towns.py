"""Two servers that have proven their names to each other, each with its chat; either can be stopped and started."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.certificates import Papers, self_signed
from tests.ports import free_port

from bester import Client
from bester.config import parse
from bester.server.server import Server
from bester.testing import PASSWORD
from bester_gadgets.chat.client import Change, ChatClient
from bester_gadgets.chat.gadget import Chat
from bester_gadgets.chat.settings import ChatSettings

PATIENCE_S = 20.0
NAMES = ("a.example", "b.example")


class Told:
    """What a client was told; whoever waits for something is woken by it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._waiting: list[asyncio.Event] = []

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        for event in self._waiting:
            event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something is so; looked at after each change."""
        event = asyncio.Event()
        self._waiting.append(event)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await event.wait()
                    event.clear()
        finally:
            self._waiting.remove(event)


class Person(ChatClient):
    """A client that remembers what it was told."""

    def __init__(self, url: str, **options: Any) -> None:
        self.told = Told()
        super().__init__(url, on_change=self.told, retry_first_s=0.02, retry_max_s=0.1, **options)

    async def until(self, condition: Callable[[], object]) -> None:
        await self.told.until(condition)

    def lines(self, name: str) -> list[tuple[str, str, str | None]]:
        """Returns who said what in a conversation, and what became of own messages."""
        return [(one.sender, one.text, one.state) for one in self.conversation(name).lines()]

    def texts(self, name: str) -> list[str]:
        return [one.text for one in self.conversation(name).lines()]

    async def load_all(self, name: str) -> None:
        """Loads all of a conversation."""
        while not self.conversation(name).complete:
            await self.load(name)

    async def hears(self, name: str, text: str) -> None:
        await self.until(lambda: text in self.texts(name))

    async def sees_state(self, name: str, text: str, state: str) -> None:
        await self.until(lambda: any(line[1:] == (text, state) for line in self.lines(name)))


class Town:
    """A server, its chat, and their folder."""

    def __init__(self, folder: Path, name: str, tree: dict[str, Any], **settings: Any) -> None:
        self.name = name
        self.folder = folder
        self.tree = tree
        self.settings = ChatSettings(database=folder / "chat.db", retry_s=0.1, **settings)
        self.server: Server | None = None
        self.chat: Chat | None = None

    async def start(self) -> None:
        await self.start_server()
        await self.start_chat()

    async def stop(self) -> None:
        await self.stop_chat()
        await self.stop_server()

    async def start_server(self) -> None:
        self.server = Server(await asyncio.to_thread(parse, json.dumps(self.tree), self.folder))
        await self.server.start()

    async def stop_server(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None

    async def start_chat(self) -> None:
        handlers, informer = str(self.folder / "besterHandlers"), str(self.folder / "bInformer")
        self.chat = Chat(self.settings, handlers=handlers, informer=informer)
        await self.chat.start()

    async def stop_chat(self) -> None:
        if self.chat is not None:
            await self.chat.stop()
            self.chat = None

    def url(self, user: str) -> str:
        return f"bester://{quote(user, safe='')}:{PASSWORD}@127.0.0.1:{self.tree['network']['tcp4']['port']}"

    def client(self, user: str) -> Client:
        return Client(self.url(user))


class Pair:
    """Both; and the people, who leave when the test ends."""

    def __init__(self, towns: list[Town], closing: AsyncExitStack) -> None:
        self.a, self.b = towns
        self._closing = closing

    async def person(self, address: str) -> Person:
        user, _, server = address.rpartition("@")
        town = self.a if server == self.a.name else self.b
        return await self._closing.enter_async_context(Person(town.url(user)))


def trees(folder: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """Writes the certificates of both servers, and returns their configurations, by their names."""
    papers: dict[str, Papers] = {name: self_signed(folder, name) for name in NAMES}
    ports = {name: free_port() for name in NAMES}
    found = {}
    for name, other in zip(NAMES, reversed(NAMES), strict=True):
        tls = {"port": ports[name], "address": "127.0.0.1"}
        tls |= {"certificate": papers[name].certificate, "key": papers[name].key}
        pin = {"address": f"127.0.0.1:{ports[other]}", "fingerprint": f"sha256:{papers[other].fingerprints.key}"}
        found[name] = {
            "server": {"name": name},
            "network": {"types": ["tcp4", "tls"], "tcp4": {"port": free_port(), "address": "127.0.0.1"}, "tls": tls},
            "accounts": {"registration": "firstUse"},
            "handlers": {"typeMap": {"chat": {}}},
            "federation": {"policy": "verified", "servers": {other: pin}, "retryMin": 0.05, "retryMax": 0.2},
        } | more
    return found


@asynccontextmanager
async def two_towns(federation: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Pair]:
    """Runs both servers and their chats until the block ends."""
    more = {"federation": federation} if federation is not None else {}
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        towns = []
        for server, tree in trees(Path(name), **more).items():
            folder = Path(name) / server
            folder.mkdir()
            towns.append(Town(folder, server, tree, **settings))
        try:
            await asyncio.gather(*(town.start() for town in towns))
            async with AsyncExitStack() as closing:
                yield Pair(towns, closing)
        finally:
            await asyncio.gather(*(town.stop() for town in towns))
