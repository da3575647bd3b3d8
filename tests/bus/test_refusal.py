"""A NATS server that refuses a node, or that is left for another reason, and takes it again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.nats import NatsServer, nats_cluster
from tests.waiting import PATIENCE_S, until

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.options import BusOptions, BusTimes

IN = 'authorization: {users: [{user: "bester", password: "sesame"}]}'
OFTEN = BusTimes(refused_s=0.3)
OUT = 'authorization: {users: [{user: "other", password: "sesame"}]}'


class Watched:
    """A bus, and what it said of itself."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.changes: list[bool] = []
        self._changed = asyncio.Event()
        bus.changed.append(self._note)

    def _note(self, up: bool) -> None:
        self.changes.append(up)
        self._changed.set()

    async def until(self, *changes: bool) -> None:
        """Waits until it has changed like this since the beginning."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.changes) < len(changes):
                self._changed.clear()
                await self._changed.wait()
        assert tuple(self.changes) == changes

    async def receives(self, subject: str) -> None:
        """Checks that a subscription from before receives messages."""
        assert (await self.bus.request(subject, b"?")).data == subject.encode()

    async def refused(self) -> None:
        """Waits until it is known why it is down."""
        await until(lambda: self.bus.last_error.lower(), lambda why: "authorization violation" in why)

    def answer(self, subject: str) -> None:
        self.bus.subscribe(subject, lambda _, reply, headers, data: self.bus.publish(reply, subject.encode()))


@asynccontextmanager
async def watched(*urls: str, **options: Any) -> AsyncIterator[Watched]:
    bus = Bus(BusOptions(urls, **options), "test")
    await bus.open()
    try:
        yield Watched(bus)
    finally:
        await bus.close()


async def test_a_refused_node_tries_again_until_it_is_let_in(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", IN)
    try:
        async with watched(server.url, user="bester", password="sesame", times=OFTEN) as one:
            one.answer("before")
            await one.receives("before")
            silent = one.bus.subscribe("silent", lambda *_: None)
            waiting = one.bus.request("silent", b"", timeout_s=60.0)
            server.configure(OUT)
            await one.until(False)
            with pytest.raises(BusLost):
                await waiting
            with pytest.raises(BusDown):
                one.bus.publish("before", b"")
            await one.refused()
            one.answer("meanwhile")
            one.bus.unsubscribe(silent)
            server.configure(IN)
            await one.until(False, True)
            assert one.bus.last_error == ""
            await one.receives("before")
            await one.receives("meanwhile")
            with pytest.raises(NoResponders):
                await one.bus.request("silent", b"")
            assert one.bus.losses == 1
            server.configure(OUT)  # what came after it is watched as the first was
            await one.until(False, True, False)
            server.configure(IN)
            await one.until(False, True, False, True)
            await one.receives("before")
    finally:
        server.kill()


async def test_a_node_refused_after_a_restart_tries_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", IN)
    try:
        async with watched(server.url, user="bester", password="sesame", times=OFTEN) as one:
            one.answer("before")
            server.kill()
            await one.until(False)
            server.configure(OUT)
            server.start()
            await one.refused()
            server.configure(IN)
            await one.until(False, True)
            await one.receives("before")
    finally:
        server.kill()


async def test_it_closes_while_it_is_refused(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", IN)
    try:
        async with watched(server.url, user="bester", password="sesame") as one:
            server.configure(OUT)
            await one.until(False)
        assert one.changes == [False]
    finally:
        server.kill()


async def test_a_server_in_lame_duck_mode_is_left_for_another_one(tmp_path: Path) -> None:
    servers = nats_cluster(tmp_path, 2, "lame_duck_grace_period: 100ms\nlame_duck_duration: 30s")
    try:
        async with watched(servers[0].url) as one:
            one.answer("before")
            await one.receives("before")
            servers[0].process.send_signal(signal.SIGUSR2)
            await one.until(False, True)
            await one.receives("before")
    finally:
        for server in servers:
            server.kill()


class Proxy:
    """Passes bytes on proxy a client and a server, or those of one direction no longer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.carries = True
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, back = reader, writer
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks += [
            asyncio.ensure_future(_pass(to, there_writer, lambda: self.carries)),
            asyncio.ensure_future(_pass(there_reader, back, lambda: True)),
        ]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carries: Callable[[], bool]) -> None:
    try:
        while data := await reader.read(65536):
            if carries():
                writer.write(data)
    finally:
        writer.close()


async def test_a_connection_that_the_server_finds_stale_is_made_anew(tmp_path: Path) -> None:
    """What the client says does not arrive any more, and what the server says does."""
    server = NatsServer(tmp_path / "nats", "ping_interval: 100ms\nping_max: 1")
    proxy = Proxy(server.port)
    try:
        async with watched(await proxy.open()) as one:
            one.answer("before")
            await one.receives("before")
            proxy.carries = False
            await one.until(False)
            proxy.carries = True
            await one.until(False, True)
            await one.receives("before")
    finally:
        await proxy.close()
        server.kill()
