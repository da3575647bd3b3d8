"""One message to many, in lean Python: ``python -m bench.load.fan '{"dialect": ...}'``.

The sender has one message under way: a push of a handler that names every account, a publication on a subject that
all have subscribed to, or a frame of the relay for all. The next goes out when all the readers have the one before,
except those that do not read. The line ``begin`` says that the clock begins; the result is one line of JSON.

``fan.c`` does the same, faster. Loads of a count of messages are only here. Where nothing can be compiled, this is
used for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, cast

import uvloop

from bench.load.dialects import LEAN, Lean, whole_frame


class Plan(NamedTuple):
    """The work of the load."""

    dialect: str
    port: int
    address: str
    """The handler socket, of our server and of the relay."""
    clients: int
    size: int
    seconds: float
    warm_up: float
    slow: int = 0
    """How many of the clients do not read."""
    counts: Sequence[int] = ()
    """How many messages are sent, instead, each time that a line is read; nothing is under way between them."""


class Reader(asyncio.Protocol):
    """One of the recipients."""

    def __init__(self, fan: Fan, number: int) -> None:
        self._fan = fan
        self._number = number
        self._have = b""
        self._greeted = False
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._fan.dialect.reader_hello(self._number))

    def data_received(self, data: bytes) -> None:
        if self._greeted and not self._have and len(data) == self._fan.size and self._fan.checked:
            self._fan.arrived()
            return
        self._have += data
        ping = self._fan.dialect.ping
        if self._greeted and ping and ping in self._have:
            self._have = self._have.replace(ping, b"")
            self.transport.write(b"PONG\r\n")
        if not self._greeted:
            end = self._fan.dialect.greeted(self._have)
            if end:
                self._greeted = True
                self._have = self._have[end:].replace(ping, b"") if ping else self._have[end:]
                self._fan.greeted()
        elif len(self._have) >= self._fan.size:
            if self._have[: self._fan.size] != self._fan.one:
                raise RuntimeError(f"wrong: {self._have!r}")
            self._have = self._have[self._fan.size :]
            self._fan.arrived()


class Sender(asyncio.Protocol):
    """The client that sends to all."""

    def __init__(self, fan: Fan) -> None:
        self._fan = fan

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._buffer = b""
        self._ready = False
        hello = self._fan.dialect.sender_hello()
        if hello:
            self.transport.write(hello)
        else:
            self._fan.greeted()

    def data_received(self, data: bytes) -> None:
        if self._fan.plan.dialect == "nats":
            if b"PING\r\n" in data:
                self.transport.write(b"PONG\r\n")
            if not self._ready and b"PONG" in data:
                self._ready = True
                self._fan.greeted()
            return
        self._buffer += data
        while end := whole_frame(self._buffer):
            if b'"good"' not in self._buffer[:200] and not self._fan.plan.slow:
                raise RuntimeError(f"reported bad: {self._buffer[:end]!r}")
            self._buffer = self._buffer[end:]
            if self._ready:
                self._fan.reported()
            else:
                self._ready = True
                self._fan.greeted()


class Fan:
    """The sender and all recipients."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dialect: Lean = LEAN[plan.dialect]()
        self.one = self.dialect.each_gets(plan.size)
        self.size = len(self.one)
        self.checked = False
        self._message = self.dialect.to_all(plan.clients, plan.size)
        self._latencies: list[float] = []
        self._waiting = 0
        self._wanted = 0
        self._awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def greeted(self) -> None:
        if not self._awaited.done():
            self._awaited.set_result(None)

    def arrived(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._complete()

    def reported(self) -> None:
        self.arrived()

    def _complete(self) -> None:
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        if len(self._latencies) != self._wanted:
            self._send()
        elif not self._awaited.done():
            self._awaited.set_result(None)

    def _send(self) -> None:
        plan = self.plan
        self._waiting = plan.clients - plan.slow + self.dialect.reported
        self._sent = time.perf_counter()
        self._sender.transport.write(self._message)

    async def _counted(self, count: int) -> int:
        """Sends so many messages, one after the other, and returns how many deliveries that were."""
        self._latencies.clear()
        self._wanted = count
        self._awaited = asyncio.get_running_loop().create_future()
        self._send()
        await asyncio.wait_for(self._awaited, 300)
        self.checked = True
        return count * self.plan.clients

    async def run(self) -> None:
        plan, loop = self.plan, asyncio.get_running_loop()
        readers: list[Reader] = []
        for number in range(plan.clients):
            self._awaited = loop.create_future()
            _, reader = await loop.create_connection(lambda number=number: Reader(self, number), "127.0.0.1", plan.port)  # type: ignore[misc]
            readers.append(reader)
            await self._awaited
        for reader in readers[: plan.slow]:
            # With little room in its kernel, so that what it does not read piles up at the server.
            reader.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.transport.pause_reading()
        self._awaited = loop.create_future()
        if plan.dialect == "nats":
            _, self._sender = await loop.create_connection(lambda: Sender(self), "127.0.0.1", plan.port)
        else:
            _, self._sender = await loop.create_unix_connection(lambda: Sender(self), plan.address)
        await self._awaited
        if plan.counts:
            print("ready", flush=True)
            for count in plan.counts:
                sys.stdin.readline()
                print(json.dumps({"count": await self._counted(count)}), flush=True)
            return
        self._send()
        await asyncio.sleep(plan.warm_up)
        if not self._latencies:
            raise RuntimeError("nothing arrived at all")
        self.checked = True
        self._latencies.clear()
        print("begin", flush=True)
        began = time.perf_counter()
        await asyncio.sleep(plan.seconds)
        seconds, count = time.perf_counter() - began, len(self._latencies)
        ordered = sorted(self._latencies) or [seconds]
        figures = {
            "count": max(1, count) * (plan.clients - plan.slow),
            "seconds": seconds,
            "p50Ms": 1e3 * statistics.median(ordered),
            "maxMs": 1e3 * ordered[-1],
        }
        print(json.dumps(figures), flush=True)
        signal.pause()  # so that no server is busy with the end of this while it is still measured


async def main(plan: str) -> None:
    await Fan(Plan(**json.loads(plan))).run()
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
