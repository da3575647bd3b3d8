"""Large messages, many at once: who reads is never cut off (docs/protocol.md, sections 2.6 and 2.7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, stage, to
from tests.waiting import until

SENDERS = 24
LARGE = "x" * 900_000
SMALL_QUEUE = {"limits": {"maxSendQueue": 1024 * 1024}}


async def busy(play: Stage, handlers: list[Wire]) -> list[Wire]:
    """Lets messages of all senders wait for handlers that are busy with another one."""
    first = await play.login("first")
    for number in range(len(handlers)):
        first.ask("big", f"busy{number}")
    senders = [await play.login(f"t{number}") for number in range(SENDERS)]
    await until(lambda: sum(len(one.outstanding) for one in play.runtime.exchange.dispatcher.handlers) == len(handlers))
    for sender in senders:
        sender.ask("big", "1", LARGE)
    return senders


@pytest.mark.parametrize("count", [1, 2])
async def test_a_handler_that_was_busy_gets_many_large_messages(count: int) -> None:
    async with stage(SMALL_QUEUE) as play:
        handlers = [await play.attach("big", concurrency=64) for _ in range(count)]
        for one in play.runtime.exchange.dispatcher.handlers:
            one.concurrency = 1  # until all of them wait
        senders = await busy(play, handlers)
        (kind,) = [one for one in play.runtime.exchange.dispatcher.types.values() if one.name == "big"]
        await until(lambda: sum(len(queue.waiting) for queue in kind.queues.values()) == SENDERS)
        for one in play.runtime.exchange.dispatcher.handlers:
            one.concurrency = 64

        async def serve(handler: Wire) -> None:
            while True:
                request = await handler.get()
                handler.answer(request, {"type": "done"})

        serving = [asyncio.ensure_future(serve(handler)) for handler in handlers]
        for sender in senders:
            await sender.good("1")
        for task in serving:
            task.cancel()
        assert play.runtime.counts.slow_consumers == 0
        assert len(play.runtime.exchange.dispatcher.handlers) == count


async def test_a_session_that_reads_gets_more_at_once_than_may_wait_for_it() -> None:
    async with stage(SMALL_QUEUE) as play:
        handler, g, t = await play.attach("big"), await play.login("g"), await play.login()
        t.ask("big", "1")
        commands: list[Any] = [to("g")] * 8
        handler.answer(await handler.get(), *commands, data=LARGE)
        for _ in commands:
            assert (await g.get())["payload"]["data"] == LARGE
        await t.good("1")
        assert play.runtime.counts.slow_consumers == 0
