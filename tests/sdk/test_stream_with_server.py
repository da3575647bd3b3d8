"""Answers in parts over a real server, from a handler that is written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.waiting import PATIENCE_S

from bester import Client, Refused, Reply, Request
from bester.net.channel import Channel
from bester.protocol.handler import HandlerConversation
from bester.protocol.requests import Cancel, MoreParts
from bester.testing import RunningServer, server


class Counter:
    """Counts to the number in a request, a part at a time, as far as it is allowed to; or for ever, if that is null."""

    def __init__(self) -> None:
        self.conversation = HandlerConversation()
        self.channel: Channel | None = None
        self.requests: dict[str, Request] = {}
        self.left: dict[str, int] = {}
        self.sent: dict[str, int] = {}
        self.cancelled = asyncio.Event()

    async def attach(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        self.attached = asyncio.Event()
        _, self.channel = await loop.create_unix_connection(
            lambda: Channel(1 << 20, self._received, lambda error: None), path
        )
        self.channel.write(self.conversation.attach(["count"], features=("parts", "cancel")))
        await self.attached.wait()

    def _received(self, bodies: list[bytes]) -> None:
        for body in bodies:
            match self.conversation.receive(body):
                case Request() as request:
                    id = request.request_id
                    self.requests[id], self.left[id], self.sent[id] = request, request.parts or 0, 0
                    self._go_on(id)
                case MoreParts(id, parts):
                    self.left[id] += parts
                    self._go_on(id)
                case Cancel(id):
                    self.cancelled.set()
                    self._write(self.conversation.fail(self.requests[id]))
                case _:
                    self.attached.set()

    def _go_on(self, id: str) -> None:
        request = self.requests[id]
        last = request.data
        while self.left[id] and self.sent[id] != last:
            self.left[id] -= 1
            self._write(self.conversation.answer(request, Reply(self.sent[id]), more=True))
            self.sent[id] += 1
        if self.sent[id] == last:
            self._write(self.conversation.answer(request, Reply("done") if request.parts else None))

    def _write(self, frame: bytes) -> None:
        assert self.channel is not None
        self.channel.write(frame)


@pytest.fixture
async def running() -> AsyncIterator[RunningServer]:
    async with server() as running:
        yield running


@pytest.fixture
async def counter(running: RunningServer) -> AsyncIterator[Counter]:
    counter = Counter()
    await counter.attach(str(running.handlers_path))
    yield counter
    assert counter.channel is not None
    counter.channel.close()
    await counter.channel.wait_closed()


@pytest.mark.parametrize("window", [1, 2, 7, 64])
async def test_all_parts_come_in_order(running: RunningServer, counter: Counter, window: int) -> None:
    async with Client(running.url("t"), features=["ack"], mail=False) as client, asyncio.timeout(PATIENCE_S):
        stream = client.stream("count", 200, window=window)
        assert [part.data async for part in stream] == [*range(200), "done"]
        assert stream.report is not None
        assert stream.report.good


async def test_the_handler_waits_for_those_that_are_slow(running: RunningServer, counter: Counter) -> None:
    async with Client(running.url("t")) as client, asyncio.timeout(PATIENCE_S):
        async with client.stream("count", None, window=8) as slow:
            for number in range(20):
                assert (await anext(slow)).data == number
                await client.ping()
                assert max(counter.sent.values()) <= number + 1 + 8
            quick = [part.data async for part in client.stream("count", 100)]
            assert quick == [*range(100), "done"]
        await counter.cancelled.wait()


async def test_leaving_the_loop_tells_the_handler(running: RunningServer, counter: Counter) -> None:
    async with Client(running.url("t")) as client, asyncio.timeout(PATIENCE_S):
        async for part in client.stream("count", None):
            if part.data == 100:
                break
        await counter.cancelled.wait()
        assert (await client.builtin("listTypes")) == ["count"]
        with pytest.raises(TimeoutError):
            await client.receive(0.01)


async def test_closing_the_client_tells_the_handler(running: RunningServer, counter: Counter) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with Client(running.url("t")) as client:
            stream = client.stream("count", None)
            await anext(stream)
        await counter.cancelled.wait()


@pytest.mark.parametrize("call", ["ask", "send"])
async def test_a_message_that_nobody_waits_for_is_cancelled(
    running: RunningServer, counter: Counter, call: str
) -> None:
    async with Client(running.url("t")) as client, asyncio.timeout(PATIENCE_S):
        with pytest.raises(TimeoutError):
            await getattr(client, call)("count", 7, timeout=0.05)
        await counter.cancelled.wait()


async def test_the_report_on_a_cancelled_message_says_so(running: RunningServer, counter: Counter) -> None:
    async with Client(running.url("t")) as client, asyncio.timeout(PATIENCE_S):
        report = await client.post("count", 7, id="mine")
        assert client.cancel("mine")
        with pytest.raises(Refused, match="cancelled"):
            (await report).raise_for_status()
