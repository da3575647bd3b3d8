"""Messages from account to account, by a handler that passes them on: ``python -m bench.load.pairs '{"port": ...}'``.

Each sender has a recipient of its own, which may be connected to another node, or be away. The clock counts reports;
a recipient's messages are counted by their bytes, and all have to come. The result is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import NamedTuple, cast

import uvloop

from bench.load.dialects import TYPE, Bester, account, frame, whole_frame
from bench.machine import cpu_seconds


class Plan(NamedTuple):
    """The work of the load."""

    port: int
    """The port of the senders' node."""
    to: int
    """The port of the recipients' node; 0 if they are away."""
    clients: int
    outstanding: int
    size: int
    seconds: float
    warm_up: float
    first: int
    """The number of the first recipient's account; those of senders begin with 0."""
    processes: dict[str, list[int]]
    """The processes whose processor time is told, by a name for them."""


class Sender(asyncio.Protocol):
    """A sender, which has some messages under way."""

    def __init__(self, pairs: Pairs, number: int) -> None:
        plan = self._plan = pairs.plan
        self._pairs = pairs
        self._number = number
        recipient = account(plan.first + number).encode()
        data = b'"%b%b"' % (recipient, b"x" * (plan.size - 2 - len(recipient)))
        self._message = frame(b'{"header":{},"payload":{"type":"%b","id":"abcd","data":%b}}' % (TYPE.encode(), data))
        self._batches = [self._message * count for count in range(plan.outstanding + 1)]
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._greeted = False
        self._have = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(Bester().hello(self._number))

    def start(self) -> None:
        """Sends what may be under way."""
        self.transport.write(self._batches[-1])

    def data_received(self, data: bytes) -> None:
        if not self._size:
            self._check(data)
            return
        count, rest = divmod(len(self._have) + len(data), self._size)
        self._have = data[len(data) - rest :] if rest <= len(data) else self._have + data
        self._pairs.reports += count
        self.transport.write(self._batches[count])

    def _check(self, data: bytes) -> None:
        """Takes the greeting, and the whole report on one message, which those after it are counted by."""
        self._have += data
        if not (end := whole_frame(self._have)):
            return
        found, self._have = self._have[:end], self._have[end:]
        wanted = b'"good"' if not self._greeted else b'"delivered"' if self._plan.to else b'"stored"'
        if wanted not in found:
            self.ready.set_exception(RuntimeError(f"not {wanted.decode()}: {found!r}"))
        elif self._greeted:
            self._size = end
            self.ready.set_result(None)
        else:
            self._greeted = True
            self.transport.write(self._message)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(RuntimeError(f"a connection was lost: {self._have!r}"))


class Recipient(asyncio.Protocol):
    """A recipient, which only reads."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._have = b""
        self.bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(Bester().hello(self._number))

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self.bytes += len(data)
            return
        self._have += data
        if Bester().greeted(self._have):
            self.ready.set_result(None)


class Pairs:
    """All senders and recipients."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reports = 0

    async def run(self) -> None:
        plan, loop = self.plan, asyncio.get_running_loop()
        recipients = [Recipient(plan.first + number) for number in range(plan.clients if plan.to else 0)]
        for recipient in recipients:
            await loop.create_connection(lambda one=recipient: one, "127.0.0.1", plan.to)  # type: ignore[misc]
        await asyncio.wait_for(asyncio.gather(*(one.ready for one in recipients)), 20)
        senders = [Sender(self, number) for number in range(plan.clients)]
        for sender in senders:
            await loop.create_connection(lambda one=sender: one, "127.0.0.1", plan.port)  # type: ignore[misc]
        await asyncio.wait_for(asyncio.gather(*(one.ready for one in senders)), 20)
        for sender in senders:
            sender.start()
        await asyncio.sleep(plan.warm_up)
        processes = plan.processes | {"load": [os.getpid()]}
        began, before = time.perf_counter(), self.reports
        came = sum(one.bytes for one in recipients)
        used = {name: cpu_seconds(pids) for name, pids in processes.items()}
        await asyncio.sleep(plan.seconds)
        seconds, count = time.perf_counter() - began, self.reports - before
        if not count or (recipients and sum(one.bytes for one in recipients) - came < count * plan.size // 2):
            raise RuntimeError(f"{count} messages were reported, and not as many came")
        found = {name: 1e6 * (cpu_seconds(pids) - used[name]) / count for name, pids in processes.items()}
        print(json.dumps({"rate": count / seconds, "cpuUs": found}), flush=True)


if __name__ == "__main__":
    uvloop.run(Pairs(Plan(**json.loads(sys.argv[1]))).run())
    os._exit(0)  # the clients are not said farewell
