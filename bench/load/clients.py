"""Clients in lean Python: ``python -m bench.load.clients '{"dialect": ...}'``.

Each client first sends one message and compares all of its answer; then the clock runs, and replies are counted by
their bytes, because they are known to be all of the same size. What is sent is built before. The line ``begin`` says
that the first window begins; each window ends with a line of JSON.

``clients.c`` does the same, faster. What is only here: XMPP, and loads of a count of messages. Where nothing can be
compiled, this is used for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, cast
from xml.etree import ElementTree

import uvloop

from bench.load.dialects import DIALECTS, Dialect, Xmpp


class Plan(NamedTuple):
    """The work of the load."""

    dialect: str
    port: int
    clients: int
    outstanding: int
    size: int
    seconds: float
    warm_up: float
    windows: int = 1
    """How many results there are, one line each, ``seconds`` apart."""
    counts: Sequence[int] = ()
    """How many round trips are made, instead, each time that a line is read; nothing is under way between them."""


class Load:
    """The clients, and how many replies they got in all."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dialect: Dialect = DIALECTS[plan.dialect]()
        self.replies = 0
        self.awaited = 0
        self.complete: asyncio.Future[None] | None = None
        self.latencies: list[float] | None = [] if plan.clients == plan.outstanding == 1 else None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        make = XmppClient if isinstance(self.dialect, Xmpp) else Client
        clients = [make(self, number) for number in range(self.plan.clients)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", self.plan.port)  # type: ignore[misc]
        await asyncio.wait_for(asyncio.gather(*(client.checked for client in clients)), 20)
        if self.plan.counts:
            print("ready", flush=True)
            for count in self.plan.counts:
                sys.stdin.readline()
                print(json.dumps({"count": await self._counted(clients, count)}), flush=True)
            return
        for client in clients:
            client.start()
        await asyncio.sleep(self.plan.warm_up)
        print("begin", flush=True)
        for _ in range(self.plan.windows):
            found = await self._window()
            if any(client.lost for client in clients):
                raise RuntimeError("a client lost its connection")
            print(json.dumps(found), flush=True)
        signal.pause()  # so that no server is busy with the end of this while it is still measured

    async def _counted(self, clients: list[Client], count: int) -> int:
        """Makes so many round trips, as many by each client, and returns how many that were."""
        self.replies = 0
        self.awaited = count - count % len(clients)
        self.complete = asyncio.get_running_loop().create_future()
        for client in clients:
            client.start(count // len(clients))
        await asyncio.wait_for(self.complete, 300)
        return self.replies

    async def _window(self) -> dict[str, float]:
        if self.latencies is not None:
            self.latencies.clear()
        began, replies = time.perf_counter(), self.replies
        await asyncio.sleep(self.plan.seconds)
        seconds, count = time.perf_counter() - began, self.replies - replies
        if not count:
            raise RuntimeError("there was no reply")
        p50_us = 1e6 * statistics.median(self.latencies) if self.latencies else 0.0
        return {"count": count, "seconds": seconds, "p50Us": p50_us}


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load, number: int) -> None:
        dialect, size = load.dialect, load.plan.size
        self.load = load
        self.number = number
        self.checked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._ping = dialect.ping
        self._expected = dialect.replies(number, size)
        self._size = len(self._expected)
        self._message = dialect.message(number, size)
        self._batches = [self._message * count for count in range(load.plan.outstanding + 1)]
        self._buffer = b""
        self._have = 0
        self._greeted = False
        self._hot = False
        self._left: int | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self.load.dialect.hello(self.number))

    def start(self, count: int | None = None) -> None:
        """Has as many messages under way as the plan says, from now on, or until it has sent so many."""
        self._hot = True
        self._left = count
        self._sent = time.perf_counter()
        self._send(self.load.plan.outstanding)

    def _send(self, count: int) -> None:
        if self._left is not None:
            count = min(count, self._left)
            self._left -= count
        if count:
            self._transport.write(self._batches[count])

    def data_received(self, data: bytes) -> None:
        if self._ping and self._ping in data:
            data = data.replace(self._ping, b"")
            self._transport.write(b"PONG\r\n")
        if not self._hot:
            self._check(data)
            return
        count, self._have = divmod(self._have + len(data), self._size)
        if count:
            load = self.load
            load.replies += count
            if load.latencies is not None:
                now = time.perf_counter()
                load.latencies.append(now - self._sent)
                self._sent = now
            if self._left is None:
                self._transport.write(self._batches[count])
                return
            self._send(count)
            if load.complete is not None and load.replies == load.awaited:
                load.complete.set_result(None)

    def _check(self, data: bytes) -> None:
        """Takes the greeting, then the whole answer to one message."""
        self._buffer += data
        if not self._greeted:
            end = self.load.dialect.greeted(self._buffer)
            if not end:
                return
            self._greeted = True
            self._buffer = self._buffer[end:]
            self._transport.write(self._message)
        elif len(self._buffer) >= self._size and not self.checked.done():
            if self._buffer == self._expected:
                self.checked.set_result(None)
            else:
                self.checked.set_exception(RuntimeError(f"a wrong reply: {self._buffer!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.checked.done():
            self.checked.set_exception(RuntimeError(f"a connection was lost: {self._buffer!r}"))


class XmppClient(Client):
    """One connection to an XMPP server.

    A server has its own order of attributes, and may add the language of the stream: of the first reply the meaning is
    compared, and those after it are counted by its size, for they say the same.
    """

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self._steps = Xmpp().steps(number)

    def _check(self, data: bytes) -> None:
        """Takes the steps of the login, then the whole answer to one message."""
        self._buffer += data
        if self.checked.done():
            return
        if any(sign in self._buffer for sign in (b"<failure", b"<stream:error", b"type='error'")):
            self.checked.set_exception(RuntimeError(f"refused: {self._buffer!r}"))
        elif self._steps:
            awaited, answer = self._steps[0]
            if awaited.search(self._buffer):
                del self._steps[0]
                self._buffer = b""
                self._transport.write(answer if self._steps else self._message)
        elif self._buffer.endswith(b"</message>"):
            if _meaning(self._buffer) == _meaning(self._expected):
                self._size = len(self._buffer)
                self.checked.set_result(None)
            else:
                self.checked.set_exception(RuntimeError(f"a wrong reply: {self._buffer!r}"))


def _meaning(stanza: bytes) -> tuple[str, dict[str, str], list[str | None]]:
    """Returns the kind of a stanza, its attributes, and the texts in it."""
    root = ElementTree.fromstring(stanza)  # noqa: S314 - of a server that this run has started
    attributes = {name: value for name, value in root.attrib.items() if not name.endswith("}lang")}
    return root.tag.rpartition("}")[2], attributes, [child.text for child in root]


if __name__ == "__main__":
    uvloop.run(Load(Plan(**json.loads(sys.argv[1]))).run())
    os._exit(0)  # the clients are not said farewell
