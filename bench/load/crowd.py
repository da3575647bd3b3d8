"""Many clients of one server, in one process: ``python -m bench.load.crowd DIALECT PORT FIRST``.

Commands come by lines on standard input, and each is answered by one line of JSON: ``add N`` connects and
authenticates N more, at most 200 at a time; ``ping`` asks each of ours whether it is still served.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from bench.load.dialects import DIALECTS, Dialect, frame

AT_ONCE = 200
"""How many clients connect at a time; fewer than ``limits.maxUnauthenticated``."""
PING = frame(b'{"payload":{"type":"dummy","id":"p"}}')
PONG = frame(b'{"header":{"status":"0"},"payload":{"type":"dummy","data":null,"id":"p"}}')


class Idle(asyncio.Protocol):
    """One client."""

    def __init__(self, dialect: Dialect, number: int) -> None:
        self._dialect = dialect
        self._number = number
        self._buffer = b""
        self.lost = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._dialect.hello(self._number))

    def ping(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._transport.write(PING)

    def data_received(self, data: bytes) -> None:
        if self._dialect.ping and self._dialect.ping in data:
            self._transport.write(b"PONG\r\n")
        if self.done.done():
            return
        self._buffer += data
        try:
            if self._dialect.greeted(self._buffer) or self._buffer == PONG:
                self._buffer = b""
                self.done.set_result(None)
        except RuntimeError as error:
            self.done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"lost: {exc}"))


class Crowd:
    """All clients."""

    def __init__(self, dialect: str, port: int, first: int) -> None:
        self._dialect: Dialect = DIALECTS[dialect]()
        self._port = port
        self._first = first
        self._clients: list[Idle] = []
        self._free = asyncio.Semaphore(AT_ONCE)
        self._failures: list[str] = []

    async def add(self, count: int) -> dict[str, object]:
        began = time.perf_counter()
        first = self._first + len(self._clients)
        await asyncio.gather(*(self._add_one(first + number) for number in range(count)))
        return self._state(began)

    async def _add_one(self, number: int) -> None:
        async with self._free:
            client = Idle(self._dialect, number)
            self._clients.append(client)
            try:
                await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", self._port)
                await asyncio.wait_for(client.done, 30)
            except (OSError, RuntimeError, TimeoutError) as error:
                self._failures.append(f"{type(error).__name__}: {error}")

    async def ping(self) -> dict[str, object]:
        began = time.perf_counter()
        for client in self._clients:
            if not client.lost:
                client.ping()
        await asyncio.wait([client.done for client in self._clients], timeout=30)
        self._failures += ["no answer to a ping" for client in self._clients if not client.done.done()]
        return self._state(began)

    def _state(self, began: float) -> dict[str, object]:
        return {
            "clients": len(self._clients),
            "lost": sum(client.lost for client in self._clients),
            "failures": len(self._failures),
            "first": self._failures[:1],
            "seconds": time.perf_counter() - began,
        }


async def main(dialect: str, port: str, first: str) -> None:
    crowd = Crowd(dialect, int(port), int(first))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, _, count = line.strip().partition(" ")
        print(json.dumps(await (crowd.add(int(count)) if command == "add" else crowd.ping())), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
