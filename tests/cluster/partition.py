"""Two NATS servers between which nothing is carried for a while, each with a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from tests.cluster.nodes import node, others
from tests.nats import NatsServer
from tests.ports import free_ports
from tests.server.peers import Stage
from tests.waiting import until

_numbers = count(1)


class Routes:
    """What two NATS servers reach each other by; what is cut is only held back, and lost when it is whole again."""

    def __init__(self) -> None:
        self.ports = free_ports(4)
        """Where the two listen, then where each thinks that the other one does."""
        self._cut = [False, False]
        """By who speaks."""
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        for dialler in (0, 1):
            self._servers.append(
                await asyncio.start_server(self._accepting(dialler), "127.0.0.1", self.ports[2 + dialler])
            )

    def cut(self, first: bool = True, second: bool = True) -> None:
        """Carries no longer what the first server says, and what the second one does."""
        self._cut = [first, second]

    def heal(self) -> None:
        """Lets the servers connect anew: what was held back is lost."""
        if any(self._cut):
            self._cut = [False, False]
            self._abort()

    def _abort(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepting(self, dialler: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            other = 1 - dialler
            try:
                there, to_there = await asyncio.open_connection("127.0.0.1", self.ports[other])
            except OSError:
                writer.close()
                return
            self._writers += [writer, to_there]
            self._spawn(self._pass(dialler, reader, to_there))
            self._spawn(self._pass(other, there, writer))

        return accept

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, speaker: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self._cut[speaker]:
                    writer.write(data)
        writer.close()


class Pair:
    """Two nodes, each at a NATS server of its own."""

    def __init__(self, first: Stage, second: Stage, routes: Routes) -> None:
        self.first = first
        self.second = second
        self.routes = routes

    async def apart(self, *stages: Stage) -> None:
        """Waits until nodes have taken out the others."""
        await until(lambda: not any(map(others, stages)))

    async def together(self) -> None:
        """Waits until both know each other."""
        await until(lambda: others(self.first) and others(self.second))


class Divided:
    """Two NATS servers that are one cluster, and the routes between them."""

    def __init__(self, routes: Routes, servers: list[NatsServer]) -> None:
        self.routes = routes
        self.servers = servers

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[Pair]:
        """Runs a node at each of them, of a server whose name no other test has."""
        first, second = (server.url for server in self.servers)
        name = f"parted{next(_numbers)}.example"
        async with node(first, name, "n0") as a, node(second, name, "n1") as b:
            made = Pair(a, b, self.routes)
            await made.together()
            yield made
            self.routes.heal()  # what they do at their end needs each other's streams
            await made.together()


@asynccontextmanager
async def divided(folder: Path) -> AsyncIterator[Divided]:
    """Runs the NATS servers."""
    routes = Routes()
    await routes.open()
    ports = routes.ports
    servers = [
        NatsServer(folder / f"nats{number}", routes=[ports[number], ports[2 + number]], wait=False) for number in (0, 1)
    ]
    try:
        for server in servers:
            await asyncio.to_thread(server.wait_ready)
        yield Divided(routes, servers)
    finally:
        for server in servers:
            server.kill()
        await routes.close()
